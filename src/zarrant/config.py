"""Run-time options: their defaults, their environment variables, and where each value came from.

In: keyword values and `ZARRANT_<NAME>` variables. Out: a frozen `Config`. An unknown name (of a variable too) or an
impossible value is an OptionError, because an option that is silently ignored can cost data. Read in `nodes`, `run` and `cli`
only.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, TypedDict, Unpack

from zarrant.errors import FrozenAttributeError, OptionError, did_you_mean

Auto: TypeAlias = Literal["auto"]
AUTO: Auto = "auto"
"""What an option is that Zarrant chooses a number for, as the machine and the store are."""

UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


class ConfigOptions(TypedDict, total=False):
    """The options by name, with the values that they take: numbers and sizes may be words, as "auto" and "2 GiB"."""

    concurrency: int | str
    memory_limit: int | str
    write_empty_chunks: bool | str
    shard_updates: Literal["append", "repack"]
    dead_limit: float | str
    locking: Literal["auto", "os", "lockfile", "none"]
    lock_timeout: float | str
    durability: Literal["rename", "fsync"]
    direct_io: bool | str
    file_reuse: bool | str
    subchunk_order: Literal["C", "unordered", "morton"]
    validate_checksums: bool | str
    missing_chunks: Literal["fill", "error"]
    cache: int | str
    coalesce_gap: int | str


@dataclass(frozen=True, slots=True)
class Config:
    """Options of a handle; see `docs/options.md`."""

    concurrency: int | Auto = AUTO
    memory_limit: int | Auto = AUTO
    write_empty_chunks: bool = False
    shard_updates: str = "append"
    dead_limit: float = 0.5
    locking: str = "auto"
    lock_timeout: float = 60.0
    durability: str = "rename"
    direct_io: bool = False
    file_reuse: bool = False
    subchunk_order: str = "C"
    validate_checksums: bool = True
    missing_chunks: str = "fill"
    cache: int = 0
    coalesce_gap: int | Auto = AUTO

    def with_options(self, **options: Unpack[ConfigOptions]) -> Config:
        """A copy with some options changed; OptionError for a name or a value that is not understood."""
        if not options:
            return self
        # To hash a config takes as long as all the rest.
        place = None if self is _UNCHANGED else self, *[(name, type(value), value) for name, value in options.items()]
        try:
            found = _made.get(place)
        except TypeError:  # a value that cannot be a key is none of ours
            found = None
        if found is None:
            found = replace(self, **{name: _checked(name, value) for name, value in options.items()})
            if len(_made) >= MAX_MADE:
                _made.clear()
            _made[place] = found
        return found


_made: dict[tuple[Any, ...], Config] = {}
MAX_MADE = 256
"""Configs that are remembered by what they were made of: to check two options takes 6 µs."""


def given(value: int | Auto) -> int | None:
    """The number that an option says; None for "auto".

    >>> given(4), given("auto")
    (4, None)
    """
    return None if isinstance(value, str) else value


def _count(name: str, value: Any) -> int | Auto:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        value = int(value)
    if isinstance(value, str) and value == AUTO:
        return AUTO
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _wrong(name, 'a number of at least 1, or "auto"', value)
    return value


def _size(least: int) -> Callable[[str, Any], int | Auto]:
    def check(name: str, value: Any) -> int | Auto:
        return AUTO if isinstance(value, str) and value == AUTO else _bytes(name, value, least, ' or "auto"')

    return check


def _bytes(name: str, value: Any, least: int = 0, more: str = "") -> int:
    size = size_in_words(value) if isinstance(value, str) else value
    if isinstance(size, bool) or not isinstance(size, int) or size < least:
        raise _wrong(name, f'bytes or "2 GiB"{more}' + (f", and at least {least}" if least else ""), value)
    return size


def size_in_words(value: str) -> int | None:
    """The bytes of a number and a unit, exactly; None for what is not a size.

    >>> size_in_words("1.5 KiB"), size_in_words("2 apples")
    (1536, None)
    """
    match = re.fullmatch(r"\s*([0-9]{1,18})(?:\.([0-9]{1,18}))?\s*([a-zA-Z]*)\s*", value)
    if match is None or match[3].lower() not in UNITS:
        return None
    part = match[2] or ""
    return int(int(match[1] + part) * UNITS[match[3].lower()] // 10 ** len(part))


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
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
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
    "memory_limit": _size(least=1),
    "write_empty_chunks": _boolean,
    "shard_updates": _choice("append", "repack"),
    "dead_limit": _number(0, 1),
    "locking": _choice("auto", "os", "lockfile", "none"),
    "lock_timeout": _number(0, 1e9),
    "durability": _choice("rename", "fsync"),
    "direct_io": _boolean,
    "file_reuse": _boolean,
    "subchunk_order": _choice("C", "unordered", "morton"),
    "validate_checksums": _boolean,
    "missing_chunks": _choice("fill", "error"),
    "cache": _bytes,
    "coalesce_gap": _size(least=0),
}


PREFIX = "ZARRANT_"
_ELSEWHERE = ("KERNELS", "SOAK", "SEED", "SANITIZE", "SERVERS", "BLOSC", "LIBDEFLATE", "ZSTD")
"""Variables that others read: `zarrant.kernels`, the tests, and the build."""
_VARIABLES = {f"{PREFIX}{name.upper()}" for name in (*_CHECKS, *_ELSEWHERE)}


def _wrong(name: str, expected: str, got: Any) -> OptionError:
    return OptionError("impossible value of an option", field=name, expected=expected, got=repr(got))


def _checked(name: str, value: Any) -> Any:
    if name not in _CHECKS:
        raise OptionError("unknown option", field=name, expected=sorted(_CHECKS), got=name, hint=did_you_mean(name, _CHECKS))
    return _CHECKS[name](name, value)


def _ours(environment: Mapping[str, str]) -> list[str]:
    """The variables that are for us; OptionError for a misspelt one, which would do nothing."""
    found = [variable for variable in environment if variable.startswith(PREFIX)]
    for variable in found:
        if variable not in _VARIABLES:
            hint = did_you_mean(variable, _VARIABLES)
            raise OptionError("unknown environment variable", field=variable, expected=sorted(_VARIABLES), hint=hint)
    return found


def _may_be_ours(environment: Mapping[str, str]) -> bool:
    """False where no variable can be for us: names are not decoded, which takes 8 µs for 40 of them."""
    names = vars(environment).get("_data") if environment is os.environ and os.name == "posix" else None
    if names is None:
        return True
    if (now := tuple(names)) == _names_without_ours[0]:  # the same objects, most often: a fourth of the time of a search
        return False
    if _PREFIX_BYTES in b"\n".join(now):
        return True
    _names_without_ours[0] = now
    return False


_names_without_ours: list[tuple[bytes, ...]] = [()]
_PREFIX_BYTES = os.fsencode(PREFIX)


class Defaults:
    """The defaults in force, and where each came from.

    >>> Defaults({"ZARRANT_CONCURRENCY": "4"}).config.concurrency
    4
    """

    _environment: Mapping[str, str] | None

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        object.__setattr__(self, "_environment", environment)

    def __setattr__(self, name: str, value: object) -> None:
        """FrozenAttributeError: it would change nothing."""
        hint = did_you_mean(name, _CHECKS)
        if name in _CHECKS:
            ways = f"zarrant.create_array(..., config={{{name!r}: {value!r}}}) or a.with_config({name}={value!r})"
            hint = f"Set the environment variable {PREFIX}{name.upper()}, or say it for one array: {ways}"
        raise FrozenAttributeError("defaults are not set by attributes", field=name, expected=sorted(_CHECKS), hint=hint)

    @property
    def sources(self) -> dict[str, tuple[Any, str]]:
        """Each option's value and its source: "default" or the name of an environment variable."""
        environment = os.environ if self._environment is None else self._environment
        ours = _ours(environment)
        found: dict[str, tuple[Any, str]] = {}
        for field in fields(Config):
            variable = f"{PREFIX}{field.name.upper()}"
            if variable in ours:
                found[field.name] = (_checked(field.name, environment[variable]), variable)
            else:
                found[field.name] = (field.default, "default")
        return found

    @property
    def config(self) -> Config:
        """The defaults as a Config, read from the environment now."""
        environment = os.environ if self._environment is None else self._environment
        if not _may_be_ours(environment) or not _ours(environment):
            return _UNCHANGED
        return Config(**{name: value for name, (value, _) in self.sources.items()})

    def __repr__(self) -> str:
        width = max(len(name) for name in _CHECKS)
        return "\n".join(f"{name:{width}}  {value!r:12}  {source}" for name, (value, source) in self.sources.items())


_UNCHANGED = Config()
"""The defaults where the environment says nothing."""
config = Defaults()
