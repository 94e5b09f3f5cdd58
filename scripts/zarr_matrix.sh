#!/usr/bin/env bash
# Zarrant's pipeline under several versions of zarr-python: our own tests of it, and zarr-python's tests with the variable alone.
#
#   scripts/zarr_matrix.sh                      every version below
#   scripts/zarr_matrix.sh 3.1.0 3.4.2          these
#   OWN=0 scripts/zarr_matrix.sh                without zarr-python's own tests, which take minutes for each version
#
# A test of zarr-python that fails is run again without the pipeline: what fails then too is not ours. Needs a network, python3 (or
# PYTHON) of the version for which the kernels in src/ are built, and 150 MB for each version below WORK.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
ROOT=$PWD PYTHON=${PYTHON:-.venv/bin/python} WORK=${WORK:-build/zarr-matrix}
VERSIONS=(3.1.0 3.1.1 3.1.2 3.1.3 3.1.4 3.1.5 3.1.6 3.2.0 3.2.1 3.3.0 3.4.0 3.4.1 3.4.2)
[ $# -eq 0 ] || VERSIONS=("$@")
OURS="tests/integrations/test_zarr_python.py tests/integrations/test_zarr_python_store.py tests/integrations/test_zarr_python_race.py"
THEIRS="tests/test_array.py tests/test_indexing.py tests/test_v2.py tests/test_group.py tests/test_codecs tests/test_regression tests/test_unified_chunk_grid.py tests/test_resize.py"
NEEDED=(pytest pytest-asyncio pytest-timeout pytest-xdist pytest-benchmark hypothesis obstore fsspec ml_dtypes "numcodecs>=0.16.1" numpydoc aiohttp "moto[server,s3]" hatchling hatch-vcs)
PIPELINE=zarrant.integrations.zarr_python.CodecPipeline

mkdir -p "$WORK"
WORK=$(cd "$WORK" && pwd)
installed=$WORK/installed/zarrant_of_tests-0.dist-info # what an installation says of the pipeline
mkdir -p "$installed"
printf 'Metadata-Version: 2.1\nName: zarrant_of_tests\nVersion: 0\n' > "$installed/METADATA"
printf '[zarr.codec_pipeline]\nzarrant = %s\n' "${PIPELINE%.*}:CodecPipeline" > "$installed/entry_points.txt"

environment() { # environment VERSION: a virtual environment with that zarr-python
  local venv=$WORK/$1
  [ -e "$venv/ready" ] && return 0
  rm -rf "$venv"
  "$PYTHON" -m venv "$venv" && "$venv/bin/python" -m pip install -q --disable-pip-version-check "zarr==$1" "${NEEDED[@]}" && touch "$venv/ready"
}

sources() { # sources VERSION: its source distribution, which has the tests
  [ -d "$WORK/zarr-$1" ] && return 0
  "$WORK/$1/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-build-isolation --no-binary zarr "zarr==$1" -d "$WORK" && tar -C "$WORK" -xzf "$WORK/zarr-$1.tar.gz"
}

last() { tail -n 1 "$1" | sed -E 's/^=+ //; s/ in [0-9.]+s.*//'; }

ours() { # ours VERSION: Zarrant's tests of the pipeline
  local out=$WORK/$1.ours.txt
  PYTHONPATH=$ROOT/src:$ROOT "$WORK/$1/bin/python" -m pytest -q -n "${JOBS:-2}" --basetemp="$WORK/tmp-$1" -p no:cacheprovider $OURS > "$out" 2>&1
  printf '%-8s ours:   %s\n' "$1" "$(last "$out")"
  grep -E '^(FAILED|ERROR)' "$out"
}

theirs() { # theirs VERSION: zarr-python's tests; those that fail with the pipeline and pass without are listed
  local out=$WORK/$1.theirs.txt again=$WORK/$1.again.txt python=$WORK/$1/bin/python failed=() options=(-q --basetemp="$WORK/tmp-$1" -p no:cacheprovider --timeout 120 -o filterwarnings= -o asyncio_default_fixture_loop_scope=function)
  cd "$WORK/zarr-$1" || return
  local files=()
  for file in $THEIRS; do [ ! -e "$file" ] || files+=("$file"); done
  PYTHONPATH=$WORK/installed:$ROOT/src ZARR_CODEC_PIPELINE__PATH=$PIPELINE "$python" -m pytest -n "${JOBS:-2}" "${options[@]}" "${files[@]}" > "$out" 2>&1
  mapfile -t failed < <(sed -nE 's/^(FAILED|ERROR) (.*)/\2/p' "$out" | sed -E 's/ - .*//')
  printf '%-8s theirs: %s\n' "$1" "$(last "$out")"
  if [ ${#failed[@]} -gt 0 ]; then
    "$python" -m pytest -rA "${options[@]}" "${failed[@]}" > "$again" 2>&1
    sed -nE 's/^PASSED (.*)/         only with the pipeline: \1/p' "$again"
  fi
  cd "$ROOT" || return
}

for version in "${VERSIONS[@]}"; do
  environment "$version" || { printf '%-8s cannot be installed here\n' "$version"; continue; }
  ours "$version"
  if [ "${OWN:-1}" != 0 ]; then
    sources "$version" && theirs "$version"
  fi
done
