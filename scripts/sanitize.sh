#!/usr/bin/env bash
# Runs the compiled kernels under sanitizers: address and undefined behaviour over malformed input, threads over the
# concurrent tests. `sanitize.sh [--self-check] [address] [thread]`; both sanitizers where none is named.
#
# Each sanitizer has its own build and its own copy of the package in build/sanitize-NAME, which PYTHONPATH puts before the
# installed one; nothing else is touched. First planted faults (scripts/faults.cpp) have to be reported: a sanitizer that sees
# nothing must not pass for a clean run; with --self-check that is all. The status is 1 if a test fails, or if any process,
# also one whose status a test ignores, left a report. BIN names another environment than .venv/bin, JOBS the test workers.
set -euo pipefail
cd "$(dirname "$0")/.."
BIN=$(cd "${BIN:-.venv/bin}" && pwd)
JOBS=${JOBS:-2}
PATH="$BIN:$PATH" # where pip brought cmake and ninja
CASES=3000        # broken arrays for the fuzzer: half a minute

say() { printf 'sanitize: %s\n' "$*"; }

# ── the tests ────────────────────────────────────────────────────────────────────────────────────────────────────────

# Left out, as this sanitizer reserves terabytes of addresses for its shadow:
#   test_bombs_fail_within_memory limits the address space; the same bombs run in tests/bad_input, which measures memory.
#   tests/safety/test_fuzz.py as well; `fuzz` below runs its cases, where the allocator refuses what the limit would.
address_tests() {
  local failed=0
  suite address tests/kernels tests/codecs tests/bad_input tests/stores/local/test_{put_at_once,read_at_once,update_at_once,at_once_in_threads,batch_put,batch_at_once}.py tests/ops/test_kept_boxes.py -k 'not test_bombs_fail_within_memory' || failed=1
  fuzz || failed=1
  return $failed
}

# The cases of tests/safety/fuzz.py, of which only the arrays reach a kernel.
fuzz() {
  say "address: $CASES broken arrays"
  PYTHONPATH_MORE=tests/safety under address - "$CASES" <<'PYTHON'
import resource
import sys

import fuzz

fuzz.MEMORY = resource.RLIM_INFINITY
case = fuzz.Case("sanitize")
for _ in range(int(sys.argv[1])):
    case.array()
print(f"{sys.argv[1]} broken arrays, {case.refused} refusals")
sys.exit(case.wrong[:3] or None)
PYTHON
}

# Left out: what forks while threads run (test_forks.py, and `fork` and `processes` here), as this sanitizer does not support
# children of a process with threads; and tests whose writers are processes, in which no two threads call a kernel.
thread_tests() {
  suite thread tests/stores/local/test_{at_once_in_threads,read_at_once}.py tests/kernels/test_concurrent.py tests/kernels/test_programs.py::test_threads_do_not_disturb_each_other \
    tests/kernels/test_kept_copier.py::test_large_boxes_by_several_threads tests/ops/test_kept_boxes.py \
    tests/safety/test_no_lost_updates.py tests/run/test_pool.py tests/nodes/test_partial_encoder.py \
    -k 'not processes and not fork and not mixed_with_tensorstore'
}

# ── build ────────────────────────────────────────────────────────────────────────────────────────────────────────────

build() { # build NAME: the kernels and the planted faults, and a copy of the package around them
  local at=build/sanitize-$1
  if ! { cmake -S . -B "$at" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_CXX_COMPILER=g++ -DZARRANT_SANITIZE="$1" \
    -DPython_EXECUTABLE="$BIN/python" && cmake --build "$at" --parallel "$JOBS"; } >"$at.log" 2>&1; then
    tail -n 30 "$at.log" >&2
    say "$1: cannot build; g++ with its sanitizer libraries is needed (Debian: g++; Fedora: libasan libubsan-static libtsan)"
    return 1
  fi
  rm -rf "$at/package" "$at/reports" &&
    mkdir -p "$at/package" "$at/reports" &&
    tar -C src --exclude='*.so' --exclude=native --exclude=__pycache__ -cf - zarrant | tar -C "$at/package" -xf - &&
    cmake --install "$at" --prefix "$at/package" >>"$at.log" &&
    suppressions >"$at/suppressions"
}

# What is no fault, for the sanitizer of threads; never a function of ours.
suppressions() {
  # glibc keeps the stacks of threads that ended and frees their thread-local storage when another thread starts or ends;
  # its own lock, which the sanitizer cannot see, comes between the destructors of that storage and this.
  echo "race:_dl_deallocate_tls"
  # libdeflate: each thread that comes first stores the same pointer to the function for this processor, in a volatile.
  printf 'race:dispatch_%s\n' crc32 adler32 decomp
}

# ── run ──────────────────────────────────────────────────────────────────────────────────────────────────────────────

under() { # under NAME ARGUMENTS...: Python with the sanitized kernels
  local at=$PWD/build/sanitize-$1 runtime=() common
  # A library that is loaded late cannot stand in for malloc: first of all comes the very one the kernels were linked to.
  # libstdc++ comes with it, or exceptions are thrown past the sanitizer, which looks for it only at the start.
  mapfile -t runtime < <(ldd "$at"/package/zarrant/kernels/_native*.so | awk '/lib(asan|tsan)\./ { print $3 }')
  runtime+=("$(g++ -print-file-name=libstdc++.so.6)")
  common="halt_on_error=1:exitcode=86:log_path=$at/reports/report"
  local variables=(
    "LD_PRELOAD=${runtime[*]}"
    "PYTHONPATH=$at/package${PYTHONPATH_MORE:+:$PWD/$PYTHONPATH_MORE}"
    PYTHONDONTWRITEBYTECODE=1
    ZARRANT_KERNELS=native # an extension that cannot be loaded is an error, and no reason to test the reference
    # Leaks: the interpreter frees little at its end. Null: as from malloc, hostile sizes must become MemoryError, and what
    # is larger than this counts as such.
    "ASAN_OPTIONS=$common:detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=3072"
    "UBSAN_OPTIONS=$common:print_stacktrace=1"
    "TSAN_OPTIONS=$common:history_size=5:second_deadlock_stack=1:suppressions=$at/suppressions"
  )
  # Small objects would come from pools of the interpreter, in which nobody sees where one ends.
  [ "$1" = address ] && variables+=(PYTHONMALLOC=malloc)
  # The sanitizer of threads refuses the address layouts that newer Linux kernels draw at random.
  local fixed=()
  setarch -R true 2>/dev/null && fixed=(setarch -R)
  env "${variables[@]}" ${fixed[@]+"${fixed[@]}"} "$BIN/python" "${@:2}"
}

# Without the fault handler of pytest, which would take signals away from the sanitizer. A worker that a finding ends is
# replaced, and the test in which it ended has failed.
suite() { # suite NAME TESTS...
  say "$1: tests"
  under "$1" -m pytest -q -n "$JOBS" -p no:cacheprovider -p no:faulthandler --timeout=600 "${@:2}"
}

serving() { # which kernels are sanitized, and that it is these that serve
  under "$1" - "$PWD/build/sanitize-$1/package/" <<'PYTHON'
import sys

from zarrant import kernels
from zarrant.kernels import _native

assert _native.__file__.startswith(sys.argv[1]), _native.__file__
missing = [name for name, built in _native.features().items() if not built]
print("sanitize: kernels:", "all steps" + (" BUT " + ", ".join(missing) if missing else ""))
PYTHON
}

# ── the self-check ───────────────────────────────────────────────────────────────────────────────────────────────────

planted() { # planted NAME FAULT EXPECTED: the fault has to end the process and to be reported as EXPECTED
  local at=build/sanitize-$1 status=0
  under "$1" - "$at/libfaults.so" "$2" <<'PYTHON' >/dev/null 2>&1 || status=$?
import ctypes
import sys
import threading

import numpy as np

faults = ctypes.CDLL(sys.argv[1])
memory = np.zeros(4096, np.uint8)
place = ctypes.c_void_p(memory.ctypes.data)
calls = {
    "overrun": lambda: faults.overrun(place, ctypes.c_long(memory.size)),
    "twice": lambda: faults.twice(2**31 - 1),
    "count": lambda: faults.count(place, ctypes.c_long(10_000_000)),
}
threads = [threading.Thread(target=calls[sys.argv[2]]) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
PYTHON
  if [ $status = 86 ] && grep -qs "$3" "$at"/reports/*; then
    rm -f "$at"/reports/*
    say "$1: planted $3: reported"
  else
    say "$1: planted $3: NOT REPORTED (status $status)"
    return 1
  fi
}

self_check() {
  case $1 in
    address) planted address overrun heap-buffer-overflow && planted address twice 'signed integer overflow' ;;
    thread) planted thread count 'data race' ;;
  esac
}

# ── all of it ────────────────────────────────────────────────────────────────────────────────────────────────────────

sanitize() { # sanitize NAME: status 1 after a finding or a failure
  local began=$SECONDS failed=0 report
  say "$1: building"
  build "$1" && serving "$1" && self_check "$1" || return 1
  say "$1: built and checked in $((SECONDS - began)) s"
  [ "$only_check" ] && return
  began=$SECONDS
  "$1_tests" || failed=1
  for report in build/sanitize-"$1"/reports/*; do
    [ -e "$report" ] || continue
    failed=1
    say "$1: FOUND, $report:"
    head -n 40 "$report"
  done
  say "$1: $([ $failed = 0 ] && echo nothing found || echo FAILED) in $((SECONDS - began)) s"
  return $failed
}

only_check=
names=()
for argument in "$@"; do
  case $argument in
    --self-check) only_check=yes ;;
    address | thread) names+=("$argument") ;;
    *) say "expected --self-check, address or thread, got $argument" && exit 2 ;;
  esac
done
[ ${#names[@]} -gt 0 ] || names=(address thread)
mkdir -p build
status=0
for name in "${names[@]}"; do sanitize "$name" || status=1; done
exit $status
