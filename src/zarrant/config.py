"""Run-time options: their defaults, their environment variables, and where each value came from.

In come keyword values and `ZARRANT_<NAME>` variables; out goes a frozen `Config`. An unknown name or an impossible value is an
OptionError, because an option that is silently ignored can cost data. Read in `nodes`, `run` and `cli` only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from zarrant.errors import OptionError

UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


@dataclass(frozen=True, slots=True)
class Config:
    """Options of a handle; API.md §3 says what each does. `concurrency` 0 and `memory_limit` 0 stand for "auto"."""

    concurrency: int = 0
    memory_limit: int = 0
    write_empty_chunks: bool = False
    shard_updates: str = "append"
    dead_limit: float = 0.5
    locking: str = "auto"
    lock_timeout: float = 60.0
    durability: str = "rename"
    direct_io: bool = False
    subchunk_order: str = "C"
    validate_checksums: bool = True
    missing_chunks: str = "fill"

    def with_options(self, **options: Any) -> Config:
        """A copy with some options changed; OptionError for a name or a value that is not understood."""
        return replace(self, **{name: _checked(name, value) for name, value in options.items()})


def _count(name: str, value: Any) -> int:
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if value == "auto":
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(name, 'a number, or "auto"', value)
    return value


def _size(name: str, value: Any) -> int:
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-zA-Z]*)\s*", value) if isinstance(value, str) else None
    if match is not None and match[2].lower() in UNITS:
        value = int(float(match[1]) * UNITS[match[2].lower()])
    if value == "auto":
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _wrong(name, 'bytes, "2 GiB" or "auto"', value)
    return value


def _boolean(name: str, value: Any) -> bool:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise _wrong(name, "true or false", value)
    return value


def _number(low: float, high: float) -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise _wrong(name, f"a number in {low}..{high}", value) from None
        if not low <= number <= high:
            raise _wrong(name, f"a number in {low}..{high}", value)
        return number

    return check


def _choice(*choices: str) -> Callable[[str, Any], str]:
    def check(name: str, value: Any) -> str:
        if value not in choices:
            raise _wrong(name, " | ".join(choices), value)
        return str(value)

    return check


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "concurrency": _count,
    "memory_limit": _size,
    "write_empty_chunks": _boolean,
    "shard_updates": _choice("append", "repack"),
    "dead_limit": _number(0, 1),
    "locking": _choice("auto", "os", "lockfile", "none"),
    "lock_timeout": _number(0, 1e9),
    "durability": _choice("rename", "fsync"),
    "direct_io": _boolean,
    "subchunk_order": _choice("C", "unordered", "morton"),
    "validate_checksums": _boolean,
    "missing_chunks": _choice("fill", "error"),
}


def _wrong(name: str, expected: str, got: Any) -> OptionError:
    return OptionError("impossible value of an option", field=name, expected=expected, got=repr(got))


def _checked(name: str, value: Any) -> Any:
    if name not in _CHECKS:
        raise OptionError("unknown option", field=name, expected=sorted(_CHECKS), got=name)
    return _CHECKS[name](name, value)


class Defaults:
    """The defaults in force, and where each came from.

    >>> Defaults({"ZARRANT_CONCURRENCY": "4"}).config.concurrency
    4
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment

    @property
    def sources(self) -> dict[str, tuple[Any, str]]:
        """Each option's value and its source: "default" or the name of an environment variable."""
        environment = os.environ if self._environment is None else self._environment
        found: dict[str, tuple[Any, str]] = {}
        for field in fields(Config):
            variable = f"ZARRANT_{field.name.upper()}"
            if variable in environment:
                found[field.name] = (_checked(field.name, environment[variable]), variable)
            else:
                found[field.name] = (field.default, "default")
        return found

    @property
    def config(self) -> Config:
        """The defaults as a Config, read from the environment now."""
        return Config(**{name: value for name, (value, _) in self.sources.items()})

    def __repr__(self) -> str:
        width = max(len(name) for name in _CHECKS)
        return "\n".join(f"{name:{width}}  {value!r:12}  {source}" for name, (value, source) in self.sources.items())


config = Defaults()
