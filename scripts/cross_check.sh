#!/usr/bin/env bash
# Compiles the kernels with Clang (of zig) for the systems whose wheels cannot be built on this one, and fails where one does not
# compile. `cross_check.sh run`: tests those for Linux on ARM as well, with Debian's Python for it under qemu (needs qemu-user-static,
# and apt with the architecture arm64: dpkg --add-architecture arm64; apt-get update).
# What it cannot tell: macOS and Windows are compiled, not linked, and Windows without the headers of its Python (module.cpp, elements.cpp).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/setup.sh # its say
WORK=$PWD/build/cross NATIVE=$PWD/src/zarrant/kernels/native
SOURCES=${ZARRANT_SOURCES:-$PWD/build/sources}
LINUX=(aarch64-linux-gnu.2.28 x86_64-linux-musl aarch64-linux-musl)
OTHERS=(aarch64-macos x86_64-macos x86_64-windows-gnu)
PYTHON=${PYTHON:-.venv/bin/python}
mkdir -p "$WORK"
[ -x "$WORK/venv/bin/python" ] || "$PYTHON" -m venv "$WORK/venv"
bin=$WORK/venv/bin
"$bin/python" -m pip install --disable-pip-version-check -q ziglang "nanobind>=2.2" "numpy>=2"
"$bin/python" scripts/sources.py "$SOURCES"
headers=$("$bin/python" -c 'import sysconfig; print(sysconfig.get_path("include"))')

compilers() { # compilers TARGET: cc and c++ for it, in a directory of its own
  mkdir -p "$WORK/$1"
  local kind
  for kind in cc c++; do
    printf '#!/bin/sh\nexec "%s" -m ziglang %s -target %s "$@"\n' "$bin/python" "$kind" "$1" >"$WORK/$1/$kind"
    chmod +x "$WORK/$1/$kind"
  done
}

failed=0
for target in "${LINUX[@]}"; do
  compilers "$target"
  if cmake -S . -B "$WORK/$target/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=Linux \
    -DCMAKE_SYSTEM_PROCESSOR="${target%%-*}" -DCMAKE_C_COMPILER="$WORK/$target/cc" -DCMAKE_CXX_COMPILER="$WORK/$target/c++" \
    -DPython_EXECUTABLE="$bin/python" -DPython_INCLUDE_DIR="$headers" -DZARRANT_SOURCES="$SOURCES" -DZARRANT_SYSTEM_CODECS=OFF \
    >"$WORK/$target/log" 2>&1 && cmake --build "$WORK/$target/build" >>"$WORK/$target/log" 2>&1; then
    say "$target: built"
  else
    tail -30 "$WORK/$target/log" >&2
    failed=1
  fi
done
for target in "${OTHERS[@]}"; do
  compilers "$target"
  for source in "$NATIVE"/*.cpp; do
    case $(basename "$source") in module.cpp | elements.cpp) continue ;; esac
    "$WORK/$target/c++" -std=c++20 -O1 -Wall -Wextra -c "$source" -o "$WORK/$target/$(basename "$source").o" -DZARRANT_VENDORED=1 \
      -DZARRANT_ZSTD=1 -DZARRANT_BLOSC=1 -DZARRANT_LIBDEFLATE=1 -I"$SOURCES/zstd" -I"$SOURCES/blosc/blosc" -I"$SOURCES/libdeflate" ||
      failed=1
  done
  [ $failed -ne 0 ] || say "$target: compiled"
done
[ "${1:-}" = run ] && [ $failed -eq 0 ] || exit $failed

# Debian's Python for ARM, and its packages as wheels. The emulator looks for libraries below the root.
root=$WORK/root version=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
packages=(libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libssl3 libuuid1 libbz2-1.0 liblzma5 libsqlite3-0)
packages+=("python$version-minimal" "libpython$version-minimal" "libpython$version-stdlib")
rm -rf "$root" "$WORK/debs" "$WORK/wheels" "$WORK/site" "$WORK/tree"
mkdir -p "$root" "$WORK/debs" "$WORK/site" "$WORK/tree"
(cd "$WORK/debs" && apt-get download -q "${packages[@]/%/:arm64}")
for package in "$WORK"/debs/*.deb; do dpkg -x "$package" "$root"; done
platforms=(--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64)
"$bin/python" -m pip download --disable-pip-version-check -q --only-binary :all: "${platforms[@]}" --platform any -d "$WORK/wheels" \
  "numpy>=2" "numcodecs>=0.16.6,!=0.17.0" "ml_dtypes>=0.5" "pytest>=8" hypothesis pytest-timeout
for wheel in "$WORK"/wheels/*.whl; do "$bin/python" -m zipfile -e "$wheel" "$WORK/site"; done
cp -r src tests pyproject.toml "$WORK/tree/"
rm -f "$WORK"/tree/src/zarrant/kernels/_native*
cp "$WORK"/aarch64-linux-gnu.2.28/build/_native*.so "$WORK/tree/src/zarrant/kernels/_native.cpython-${version/./}-aarch64-linux-gnu.so"
cd "$WORK/tree"
say "the kernels' tests on ARM, under qemu"
# Left out: what starts Python or a compiler, which are no programs of that machine, and symbols
# that the linker of zig does not hide.
without='first_calls_of_a_process or can_be_forced or absence_of_the_compiled or unknown_choice or serves_by_default or seen_by_nobody'
PYTHONPATH=$PWD/src:$WORK/site qemu-aarch64-static -L "$root" "$root/usr/bin/python$version" -m pytest -q -p no:cacheprovider \
  tests/kernels tests/golden --ignore tests/kernels/test_external.py -k "not ($without)"
