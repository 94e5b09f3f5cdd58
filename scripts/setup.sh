#!/usr/bin/env bash
# Makes .venv ready: system libraries (where possible), a virtual environment, the dependencies, and Zarrant itself.
# Comes in: extras to add (`bench`). Ends with the package installed as users get it and one line that
# says which kernels serve, or with a message and status 1.
# Nothing is done twice: what was done is recorded in .venv/.done-*, as a checksum of what it was done from.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

EXTRAS="dev,docs,cli,demo,images,object,fsspec,redis,dask,xarray,servers"
PEERS="peers,pcodec,zfp" # wheels of these do not exist for every platform; without them their tests are skipped
LIBRARIES=(libzstd-dev libblosc-dev libdeflate-dev libsnappy-dev pkg-config g++)

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

PROBE='
import os, sys, sysconfig
v = sys.version_info
if v < (3, 11):
    sys.exit(1)
final = 1 if v.releaselevel == "final" and not sysconfig.get_config_var("Py_GIL_DISABLED") else 0
base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
print("%d%03d%03d%03d %d.%d.%d%s %s" % (final, *v[:3], *v[:3], "" if final else "-not-final", base))
'

pythons() { # the Pythons that would do, best first: "rank version path", one a line
  local at=() place candidate found
  if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" -I -c "$PROBE" 2>/dev/null && return
    say "PYTHON=$PYTHON is no Python 3.11 or newer"
    return 1
  fi
  found=${PYENV_ROOT:-$HOME/.pyenv}
  [ -d "$found/versions" ] || found=$(pyenv root 2>/dev/null) || found=
  [ -n "$found" ] && at+=("$found"/versions/*/bin)
  # The shims of pyenv are passed over: they start slowly what was just named, or refuse.
  while IFS= read -r -d : place; do
    case $place in "" | */shims | "$PWD"/*) ;; *) at+=("$place") ;; esac
  done <<<"$PATH:"
  for place in ${at[@]+"${at[@]}"}; do
    for candidate in "$place"/python3 "$place"/python3.1[1-9] "$place"/python3.[2-9][0-9]; do
      if [ -x "$candidate" ]; then printf '%s\n' "$candidate"; fi
    done
  done | awk '!seen[$0]++' | while IFS= read -r candidate; do
    "$candidate" -I -c "$PROBE" 2>/dev/null || true
  done | awk '!seen[$0]++' | LC_ALL=C sort -s -k 1,1r
}

# Makes .venv from the first of the candidates that has headers for the kernels, and wheels of what we need; from the first one
# without headers where none has them.
choose_python() {
  local rank version path bare=
  while read -r -u 3 rank version path; do # not from 0, which installers read
    [ -n "$path" ] || continue
    system_libraries "$path"
    if has_headers "$path"; then
      serves "$version" "$path" && return
    else
      say "Python $version ($path) has no headers, which the kernels need: looking for another"
      bare+="$rank $version $path"$'\n'
    fi
  done 3<<<"$1"
  while read -r -u 3 rank version path; do
    [ -n "$path" ] && serves "$version" "$path" && return
  done 3<<<"$bare"
  say "no Python 3.11 or newer serves here; set PYTHON to one that does"
  return 1
}

serves() { # serves VERSION PATH: leaves .venv made from it
  make_venv "$2" && has_wheels && return
  say "Python $1 ($2) does not serve: looking for another"
  return 1
}

# What we need is compiled: without a wheel it would take an hour, or fail.
has_wheels() {
  .venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' |
    pip install -q --only-binary=:all: -r /dev/stdin >&2
}

has_headers() { "$1" -c 'import os, sysconfig; raise SystemExit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; }

system_libraries() {
  local python_dev=()
  has_headers "$1" || python_dev=("$("$1" -c 'import sys; print("python%d.%d-dev" % sys.version_info[:2])')")
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
  local tools=("scikit-build-core>=0.10" "nanobind>=2.2" "numpy>=2")
  cmake_serves || tools+=(cmake)
  command -v ninja >/dev/null || tools+=(ninja)
  pip install -q "${tools[@]}"
  fetch_sources
  install_zarrant "$EXTRAS"
  pip install -q --no-build-isolation "${BUILD[@]}" --only-binary=tensorstore,zarrs,zarrista,zfpy,pcodec ".[$PEERS]" || say "no peers here: comparisons with other Zarr libraries are skipped"
}

# Without isolation, and with a build directory that stays, only what changed is compiled again.
BUILD=(--config-settings='build-dir=build/{wheel_tag}')

# The compression libraries as sources: newer and faster than those of most systems, which serve where these cannot be had.
fetch_sources() {
  local problem
  problem=$(.venv/bin/python scripts/sources.py "$SOURCES" 2>&1) || say "$problem: the system's serve"
}
SOURCES=build/sources

install_zarrant() { # install_zarrant EXTRAS: the package with its extras; "" installs the package alone
  build_zarrant "$1"
  [ ! -d "$SOURCES" ] || has_kernels && return
  say "with zstd, c-blosc and libdeflate from $SOURCES the kernels do not compile here: the system's serve"
  rm -rf "$SOURCES"
  build_zarrant ""
}

has_kernels() { .venv/bin/python -c 'import zarrant.kernels._native' 2>/dev/null; }

build_zarrant() {
  if [ -n "$1" ]; then
    pip install -q --no-build-isolation "${BUILD[@]}" ".[$1]"
  else
    pip install -q --no-build-isolation "${BUILD[@]}" --no-deps --force-reinstall .
  fi
}

report() { # which Python serves, beside which other libraries; which kernels, and why where they are not the compiled ones
  .venv/bin/python - >&2 <<'PYTHON' || say "KERNELS: zarrant cannot be imported"
import sys
from importlib import metadata

from zarrant import kernels

installed = {name.lower(): version for name, version in ((d.name, d.version) for d in metadata.distributions())}
peers = [f"{name} {installed[name]}" for name in ("zarr", "tensorstore", "zarrs", "zarrista") if name in installed]
if peers and sys.version_info < (3, 12):
    peers[0] += " (from 3.2 on it needs Python 3.12)"
print("setup: Python %d.%d.%d" % sys.version_info[:3], f"({sys._base_executable}), beside", ", ".join(peers) or "no peers")

parts = [name for name in kernels.missing() if name.count(":") < 2 or "step:blosc" not in kernels.missing()]
parts = [name for name in parts if name != "step:blosc:snappy"]  # the reference has it neither
reasons = "; ".join(sorted(set(kernels.missing().values())))
if not parts:
    print("setup: kernels: native, all of them, with", ", ".join(f"{name} {version}" for name, version in kernels.libraries().items()))
elif "native" in kernels.active().values():
    print(f"setup: kernels: native, BUT REFERENCE (slow) for {', '.join(parts)}: {reasons}")
else:
    again = ".venv/bin/python -m pip install -v --no-build-isolation --no-deps --force-reinstall ."
    print(f"setup: kernels: REFERENCE (correct, but slow): {reasons}; to see why: {again}")
PYTHON
}

main() {
  local candidates dependencies sources
  candidates=$(pythons)
  if [ ! -x .venv/bin/python ] || changed python "$candidates"; then
    choose_python "$candidates"
    echo "$candidates" >.venv/.done-python
  fi
  dependencies="$(cksum pyproject.toml scripts/setup.sh scripts/sources.py | cksum) $(.venv/bin/python --version)"
  sources=$(find src cmake CMakeLists.txt pyproject.toml -type f ! -name '*.pyc' ! -name '*.so' -print0 | LC_ALL=C sort -z | xargs -0 cksum | cksum)

  if changed dependencies "$dependencies"; then
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
  report
}

[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@" # read by another script, it gives its functions
