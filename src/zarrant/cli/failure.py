"""An error as JSON, for programs that read what a command with `--json` prints.

In: an exception. Out: a dict with the same names for every error, None where one does not apply.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from zarrant.errors import FIELDS, PartialFailure, ZarrantError, shown

SHOWN_FAILURES = 100
"""Chunks of which a partial failure tells the error: more would be megabytes that nobody reads."""


def facts_of(error: BaseException) -> dict[str, Any]:
    """What is known of an error.

    >>> from zarrant.errors import OptionError
    >>> found = facts_of(OptionError("not a size", field="size", got=(1, float("nan"))))
    >>> found["class"], found["blame"], found["message"], found["field"], found["got"], found["hint"]
    ('OptionError', 'caller', 'not a size', 'size', [1, 'nan'], None)
    """
    facts: dict[str, Any] = {
        "class": type(error).__name__,
        "blame": getattr(error, "blame", None),
        "message": _message(error),
        "retryable": bool(getattr(error, "retryable", False)),
    }
    if isinstance(error, ZarrantError):
        facts |= {name: _plain(getattr(error, name)) for name in FIELDS}
    else:
        facts |= dict.fromkeys(FIELDS)
        if isinstance(error, OSError):
            facts["path"] = _plain(error.filename)
    failed = error.failed if isinstance(error, PartialFailure) else {}
    facts["failed"] = [{**facts_of(cause), "chunk": list(chunk)} for chunk, cause in list(failed.items())[:SHOWN_FAILURES]]
    return facts


def _message(error: BaseException) -> str:
    if isinstance(error, ZarrantError) and not isinstance(error, PartialFailure):
        return error.message or type(error).__name__
    words = getattr(error, "format_message", None)  # of the words of a command line
    return (words() if words else str(error)) or type(error).__name__


def _plain(value: Any) -> Any:
    """A fact as JSON: numbers, words and lists as they are, all else as it would be shown."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < 2**63 else shown(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each) for each in value]
    return shown(value) if isinstance(value, bytes) else str(value)
