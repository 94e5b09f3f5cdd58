#!/usr/bin/env bash
# Style, types, the import rules, the documentation, then the tests, whose summary is the closing line. All are run; the status is 1 if any failed.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=.venv/bin
failed=()

check() { # check NAME COMMAND...
  local name=$1
  shift
  echo "── $name"
  "$@" || failed+=("$name")
}

[ "${1:-}" = --no-tests ] || scripts/servers.sh & # beside what needs no server
servers=$!

types=$(mktemp) # mypy takes longer than all other checks, and uses one CPU
trap 'rm -f "$types"' EXIT
"$bin/mypy" >"$types" 2>&1 &
mypy=$!

types_of_all() {
  wait "$mypy"
  local status=$?
  cat "$types"
  return $status
}

paths=(src tests examples)
[ -d benchmarks ] && paths+=(benchmarks)
check style "$bin/ruff" check "${paths[@]}"
check format "$bin/ruff" format --check --quiet "${paths[@]}"
check imports "$bin/lint-imports"
check docs "$bin/python" -m mkdocs build --strict # not --quiet: it counts no warning then
check types types_of_all
[ ${#failed[@]} -gt 0 ] && echo "FAILED before the tests: ${failed[*]}"

if [ "${1:-}" != --no-tests ]; then
  wait "$servers"
  # On two CPUs three workers: each waits for a third of its time, for processes, locks and disks. Not many more on more CPUs: tests
  # of the safety promises start many processes of their own.
  check tests "$bin/python" -m pytest -q -n "${JOBS:-3}" --dist=worksteal
fi
[ ${#failed[@]} -eq 0 ]
