#!/usr/bin/env bash
# Makes .venv ready: system libraries (where possible), a virtual environment, the dependencies, and Zarrant itself.
# Comes in: extras to add (`bench`, `docs`). Ends with the package installed as users get it and one line that
# says which kernels serve, or with a message and status 1.
# Nothing is done twice: what was done is recorded in .venv/.done-*, as a checksum of what it was done from.
set -euo pipefail
cd "$(dirname "$0")/.."

EXTRAS="dev,cli,demo,images"
PEERS="peers" # wheels of other Zarr libraries do not exist for every platform; without them their tests are skipped
LIBRARIES=(libzstd-dev libblosc-dev libdeflate-dev pkg-config g++)

say() { printf 'setup: %s\n' "$*" >&2; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

can_be_root() {
  [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

apt_install() { # the packages that are missing among the arguments; status 1 if some stay missing
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  can_be_root || { say "not root, and sudo asks for a password: cannot install ${missing[*]}"; return 1; }
  say "installing ${missing[*]}"
  apt_get install "${missing[@]}" || { apt_get update && apt_get install "${missing[@]}"; } && return 0
  local failed=0 # one that is unknown here must not keep the others away
  for package in "${missing[@]}"; do apt_get install "$package" || failed=1; done
  return $failed
}

apt_get() { # apt_get COMMAND PACKAGE...
  as_root env DEBIAN_FRONTEND=noninteractive apt-get "$1" -y -qq --no-install-recommends "${@:2}" >&2
}

find_python() {
  local candidate
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo "$candidate"; return; }
  done
  say "Python 3.11 or newer is needed; set PYTHON to one"
  return 1
}

system_libraries() {
  local python_dev=()
  "$1" -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    python_dev=("$("$1" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
  if command -v apt-get >/dev/null; then
    apt_install "${LIBRARIES[@]}" "${python_dev[@]}" || say "without them the NumPy kernels serve: correct, but slower"
  else
    say "for the compiled kernels install the equivalents of: ${LIBRARIES[*]} ${python_dev[*]-}"
  fi
}

make_venv() {
  [ "$(.venv/bin/python --version 2>&1)" = "$("$1" --version)" ] && .venv/bin/python -m pip --version >/dev/null 2>&1 && return
  rm -rf .venv
  "$1" -m venv .venv >/dev/null 2>&1 && return
  rm -rf .venv
  if command -v apt-get >/dev/null && apt_install "$("$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"; then
    "$1" -m venv .venv && return
  fi
  "$1" -m virtualenv .venv && return
  say "cannot make a virtual environment: install the venv module of $1 (on Debian: python3-venv)"
  return 1
}

pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

changed() { # changed NAME SUM: was NAME last done from something else?
  [ "$(cat ".venv/.done-$1" 2>/dev/null)" != "$2" ]
}

cmake_serves() { # is there a cmake that CMakeLists.txt takes?
  local found
  found=$(cmake --version 2>/dev/null | sed -n 's/^cmake version //p')
  [ -n "$found" ] && [ "$(printf '3.18\n%s\n' "$found" | sort -V | head -n 1)" = 3.18 ]
}

install_dependencies() {
  say "installing dependencies (once; a few minutes)"
  local tools=("scikit-build-core>=0.10" "nanobind>=2.2")
  cmake_serves || tools+=(cmake)
  command -v ninja >/dev/null || tools+=(ninja)
  pip install -q "${tools[@]}"
  install_zarrant "$EXTRAS"
  pip install -q --no-build-isolation "${BUILD[@]}" ".[$PEERS]" || say "no peers here: comparisons with other Zarr libraries are skipped"
}

# Without isolation, and with a build directory that stays, only what changed is compiled again.
BUILD=(--config-settings='build-dir=build/{wheel_tag}')

install_zarrant() { # install_zarrant EXTRAS: the package with its extras; "" installs the package alone
  if [ -n "$1" ]; then
    pip install -q --no-build-isolation "${BUILD[@]}" ".[$1]"
  else
    pip install -q --no-build-isolation "${BUILD[@]}" --no-deps --force-reinstall .
  fi
}

report_kernels() { # one line: which kernels serve, and why where they are not the compiled ones
  .venv/bin/python - >&2 <<'PYTHON' || say "KERNELS: zarrant cannot be imported"
from zarrant import kernels

parts = [name for name in kernels.missing() if name.count(":") < 2 or "step:blosc" not in kernels.missing()]
reasons = "; ".join(sorted(set(kernels.missing().values())))
if not parts:
    print("setup: kernels: native, all of them")
elif "native" in kernels.active().values():
    print(f"setup: kernels: native, BUT REFERENCE (slow) for {', '.join(parts)}: {reasons}")
else:
    again = ".venv/bin/python -m pip install -v --no-build-isolation --no-deps --force-reinstall ."
    print(f"setup: kernels: REFERENCE (correct, but slow): {reasons}; to see why: {again}")
PYTHON
}

main() {
  local python dependencies sources
  python=$(find_python)
  dependencies="$(cksum pyproject.toml scripts/setup.sh | cksum) $("$python" --version)"
  sources=$(find src CMakeLists.txt pyproject.toml -type f ! -name '*.pyc' ! -name '*.so' -print0 | LC_ALL=C sort -z | xargs -0 cksum | cksum)

  if [ ! -x .venv/bin/python ] || changed dependencies "$dependencies"; then
    system_libraries "$python"
    make_venv "$python"
    install_dependencies
    echo "$dependencies" >.venv/.done-dependencies
    echo "$sources" >.venv/.done-sources
  elif changed sources "$sources"; then
    say "sources changed: installing"
    install_zarrant ""
    echo "$sources" >.venv/.done-sources
  fi
  local extra
  for extra in "$@"; do
    changed "extra-$extra" "$dependencies" || continue
    install_zarrant "$extra"
    echo "$dependencies" >".venv/.done-extra-$extra"
  done
  report_kernels
}

main "$@"
