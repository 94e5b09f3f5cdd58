"""The command line: `zarrant`, and `python -m zarrant`.

In: arguments. Out: an exit status: 0 for success, 1 for an error of the library (printed as one message), 2 for arguments that
are not understood or a package that is not installed, 130 for an interrupt. The commands are in `app`, their output is in `show`,
and their work in `zarrant.tools`, which Python programs may call.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zarrant.errors import ZarrantError
from zarrant.tools.extras import MissingExtraError, require

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line and exit with its status."""
    sys.exit(_status(arguments))


def _status(arguments: Sequence[str] | None) -> int:
    try:
        require("typer", "cli", "The command line")
        require("rich", "cli", "The command line")
        from zarrant.cli.app import app

        status = app(args=None if arguments is None else list(arguments), prog_name="zarrant", standalone_mode=True)
        return status if isinstance(status, int) else 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except MissingExtraError as error:
        return _complain(error, 2)
    except (ZarrantError, OSError, MemoryError) as error:
        return _complain(error, 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)


def _complain(error: object, status: int) -> int:
    sys.stderr.write(f"zarrant: {str(error) or type(error).__name__}\n")
    return status
