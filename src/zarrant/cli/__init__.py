"""The command line: `zarrant`, and `python -m zarrant`.

In: arguments. Out: an exit status: 0 for success, 1 for an error of the library (printed as one message), 2 for arguments that
are not understood or a package that is not installed, 130 for an interrupt. Where `--json` is among the arguments, an error is
also one JSON document on standard output (`failure`). The commands are in `app`, their output is in `show`, and their work in
`zarrant.tools`, which Python programs may call.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import takewhile

from zarrant.cli.failure import facts_of
from zarrant.errors import ZarrantError
from zarrant.tools.extras import MissingExtraError, require

__all__ = ["main"]

INTERRUPTED = 130
"""128 and the number of SIGINT, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit with its status."""
    sys.exit(_status(sys.argv[1:] if arguments is None else list(arguments)))


def _status(words: list[str]) -> int:
    as_json = "--json" in takewhile("--".__ne__, words)
    try:
        status = _run(words)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except MissingExtraError as error:
        return _complain(error, 2, as_json)
    except (ZarrantError, OSError, MemoryError) as error:
        return _complain(error, 1, as_json)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        return _complain(error, error.exit_code, as_json)
    return _complain(KeyboardInterrupt("interrupted"), status, as_json) if status == INTERRUPTED else status


def _run(words: list[str]) -> int:
    require("typer", "cli", "The command line")
    require("rich", "cli", "The command line")
    from zarrant.cli.app import app

    status = app(args=words, prog_name="zarrant", standalone_mode=False)
    return status if isinstance(status, int) else 0


def _complain(error: BaseException, status: int, as_json: bool) -> int:
    """Say what is wrong, and return the exit status."""
    if as_json:
        sys.stdout.write(json.dumps({"error": facts_of(error)}, indent=2, ensure_ascii=False) + "\n")
    if hasattr(error, "show"):  # words that are not understood: with how they are used
        error.show()
    else:
        sys.stderr.write(f"zarrant: {str(error) or type(error).__name__}\n")
    return status
