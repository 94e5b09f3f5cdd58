"""JSON text, read strictly and within limits.

In come bytes from a store, out goes a JSON value of Python objects, or a `MetadataError` with the JSON path, or a
`LimitError`. What Python's reader forgives is refused: repeated members, numbers beyond float64, lone surrogates, and the
words NaN and Infinity. These words are accepted inside of attributes alone, because zarr-python writes them there; they are
read as `Literal`, and only such floats are written back as words, so that new documents are always valid JSON.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from zarrant.errors import LimitError, MetadataError, shown
from zarrant.limits import LIMITS, Limits, require

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


class Literal(float):
    """A float that was read from the word NaN, Infinity or -Infinity, which standard JSON does not have."""


class _Repeated(dict[str, Any]):
    """An object in which a member occurs twice."""

    name: str


def member(path: str, key: object) -> str:
    """The JSON path of a member; `key` may be anything where a caller made the object."""
    if not isinstance(key, str):
        return f"{path}[{shown(key)}]"
    return f"{path}.{key}" if re.fullmatch(r"[A-Za-z_][\w-]*", key) else f"{path}[{json.dumps(key)}]"


def parse_json(data: bytes, limits: Limits = LIMITS, words: bool = False) -> Any:
    """Read one JSON document; `words`: all of it are attributes, in which the words NaN and Infinity may be."""
    require(len(data), limits.document, "a document that is too large", "document", "$")
    data, reader = bytes(data), _Reader(limits)
    containers = _check_containers(data, limits)
    try:
        value = _read(data, reader, limits, containers)
    except UnicodeDecodeError as cause:
        raise MetadataError(f"not UTF-8 at byte {cause.start}", path="$", expected="UTF-8", got=cause.reason) from cause
    except json.JSONDecodeError as cause:
        where = f"line {cause.lineno} column {cause.colno}"
        raise MetadataError(f"not JSON at {where}", path="$", expected="JSON", got=cause.msg) from cause
    except RecursionError as cause:
        raise _too_deep("$", limits) from cause
    # A look at each value costs more than reading it, so it is left out where nothing can be wrong.
    if reader.odd or (b"\\" in data and b"\\u" in data):
        _check(value, limits, words)
    return value


def _read(data: bytes, reader: _Reader, limits: Limits, containers: int) -> Any:
    """The value of a document, as `_loads` gives it; the reader is `odd` where it is nested too deep, too.

    Of a document with many objects a call of Python for each costs as much as reading them. So their members are counted, in the
    text and in what was read: where there are as many, none occurs twice.
    """
    text = data.decode("utf-8")
    if containers <= limits.depth:
        return _loads(text, reader)
    value = _loads(text, reader, checks_members=False)
    depth, members = _counted(value, containers, limits.depth)
    if depth <= limits.depth and (members == data.count(b":") or members == _most_members(data)):  # safety: members counted
        return value
    reader.odd = reader.odd or depth > limits.depth
    return _loads(text, reader)


def _most_members(data: bytes) -> int:
    """How many members a document has at most: each has a colon after a quote or a space; strings may have some too."""
    return sum(map(data.count, (b'":', b" :", b"\t:", b"\n:", b"\r:")))


def _counted(value: Any, containers: int, most: int) -> tuple[int, int]:
    """How deep lists and objects are nested, up to `most` and one more, and the members of all objects down to there.

    `containers`: how many lists and objects there are at most. Once all were found nothing is looked for in them.
    """
    level = [value] if isinstance(value, dict | list) else []
    depth, members, found = 0, 0, len(level)
    while level and depth <= most:
        depth += 1
        members += sum([len(each) for each in level if type(each) is dict])
        below: list[Any] = []
        for start in range(0, len(level), _LOOKED_AT):
            if found + len(below) >= containers:
                break
            some = level[start : start + _LOOKED_AT]
            items = [item for each in some for item in (each.values() if type(each) is dict else each)]
            below += [item for item in items if type(item) is dict or type(item) is list]
        level = below
        found += len(below)
    return depth, members


_LOOKED_AT = 256


def _loads(text: str, reader: _Reader, checks_members: bool = True) -> Any:
    """`json.loads` with what the reader makes of the parts.

    CPython's own limit of digits serves where it is the same: a call of Python for each integer takes as long as all the rest.
    """
    hooks: dict[str, Any] = {"parse_constant": reader.word, "parse_float": reader.number}
    if checks_members:
        hooks["object_pairs_hook"] = reader.members
    if sys.get_int_max_str_digits() == reader.digits:
        try:
            return json.loads(text, **hooks)
        except json.JSONDecodeError:
            raise
        except ValueError:
            pass  # an integer that is too long: the reader's error says so
    return json.loads(text, parse_int=reader.integer, **hooks)


def dump_json(value: Any, words: bool = False) -> bytes:
    """Write one JSON document that `parse_json` reads: UTF-8, two spaces of indent, a newline at the end."""
    _check(value, LIMITS, words)
    try:
        text = _indented(value)
    except ValueError as cause:  # CPython was set to print fewer digits (sys.set_int_max_str_digits)
        raise LimitError("a number that is too long", path="$", field="digits", got=str(cause), limit=LIMITS.digits) from cause
    data = f"{text}\n".encode()
    require(len(data), LIMITS.document, "a document that is too large", "document", "$")  # safety: written size
    _check_containers(data, LIMITS)
    return data


_quoted = json.encoder.encode_basestring
_WORDS = {None: "null", True: "true", False: "false"}


def _indented(value: Any, line: str = "\n") -> str:
    """What `json.dumps(value, ensure_ascii=False, indent=2)` gives, in a fourth of the time: with indents CPython has no C for it.

    For what `_check` has let pass: members have names, and nothing is deeper than the limit. `line` begins a line.
    """
    kind = type(value)
    if kind is str:
        return _quoted(value)
    if kind is int:
        return int.__repr__(value)
    if value is None or kind is bool:
        return _WORDS[value]
    inner = f"{line}  "
    if isinstance(value, dict):
        items = [f"{_quoted(key)}: {_indented(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{line}}}" if items else "{}"
    if isinstance(value, list | tuple):
        items = [_indented(item, inner) for item in value]
        return f"[{inner}{f',{inner}'.join(items)}{line}]" if items else "[]"
    return json.dumps(value, ensure_ascii=False)


def _check_containers(data: bytes, limits: Limits) -> int:
    """The number of lists and objects, or more where strings contain brackets; LimitError for too many."""
    count = data.count(b"{") + data.count(b"[")
    if count > limits.containers:
        outside = _STRING.sub(b"", data)
        count = outside.count(b"{") + outside.count(b"[")
        require(count, limits.containers, "too many lists and objects", "containers", "$")
    return count


_SCALARS = {str, int, float, bool, type(None)}


def plain(value: Any, depth: int = 0) -> Any:
    """A copy of a JSON value that shares nothing with it, as storing and reading it would give: tuples are lists.

    What JSON cannot say, and what is nested too deep, is passed on as it is: `dump_json` refuses it, and says where it is.

    >>> plain({"a": (1, [2])})
    {'a': [1, [2]]}
    """
    if type(value) in _SCALARS or depth > LIMITS.depth:
        return value
    if type(value) is dict or isinstance(value, Mapping):
        return {key: plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return value


class _Reader:
    """What is made of the parts of a document. `odd` once something was seen that is not right everywhere."""

    def __init__(self, limits: Limits) -> None:
        self.digits, self.odd = limits.digits, False

    def integer(self, text: str) -> int:
        digits = len(text) - text.startswith("-")
        require(digits, self.digits, "a number that is too long", "digits", "$")
        try:
            return int(text)
        except ValueError as cause:  # CPython was set to read fewer digits (sys.set_int_max_str_digits)
            raise LimitError("a number that is too long", path="$", field="digits", got=digits, limit=str(cause)) from cause

    def number(self, text: str) -> float:
        value = float(text)
        self.odd = self.odd or not math.isfinite(value)
        return value

    def word(self, text: str) -> Literal:
        self.odd = True
        return Literal(text)

    def members(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) == len(pairs):
            return value
        self.odd = True
        repeated, seen = _Repeated(value), set[str]()
        for key, _ in pairs:
            if key in seen:
                repeated.name = key
                break
            seen.add(key)
        return repeated


class _Path(NamedTuple):
    """Where a value is: its key in a parent. Paths are rendered for errors alone: keys may be megabytes long."""

    parent: _Path | None = None
    key: str | int = "$"

    def keys(self) -> list[str | int]:
        """The keys from the root down, without the root."""
        return [] if self.parent is None else [*self.parent.keys(), self.key]

    def __str__(self) -> str:
        path = "$"
        for key in self.keys():
            path = f"{path}[{key}]" if isinstance(key, int) else member(path, key)
        return path

    def is_attributes(self) -> bool:
        """The attributes of this document, or of one in consolidated metadata."""
        if self.key != "attributes":
            return False
        keys = self.keys()
        return len(keys) == 1 or (keys[:2] == ["consolidated_metadata", "metadata"] and len(keys) == 4)


def _check(root: Any, limits: Limits, all_words: bool = False) -> None:
    """Refuse what JSON cannot say, wherever it is. Its own stack, of lists and objects only, keeps depth off the interpreter's."""
    if not isinstance(root, dict | list | tuple):
        _check_scalar(root, _Path(), False, limits)
        return
    stack: list[tuple[Any, _Path, int, bool]] = [(root, _Path(), 1, all_words)]
    while stack:
        value, place, depth, words = stack.pop()
        if depth > limits.depth:
            raise _too_deep(str(place), limits)
        words = words or place.is_attributes()
        for key, item in _children(value, place):
            kind = type(item)
            if item is None or kind is bool or (kind is int and -_SHORT < item < _SHORT) or (kind is str and item.isascii()):
                continue  # most values
            if isinstance(item, dict | list | tuple):
                stack.append((item, _Path(place, key), depth + 1, words))
            else:
                _check_scalar(item, _Path(place, key), words, limits)


_SHORT = 10**300


def _too_deep(path: str, limits: Limits) -> LimitError:
    return LimitError("lists and objects nested too deep", path=path, field="depth", got=f"> {limits.depth}", limit=limits.depth)


def _children(value: Any, place: _Path) -> Iterable[tuple[Any, Any]]:
    if isinstance(value, _Repeated):
        raise MetadataError("a member occurs twice", path=str(_Path(place, value.name)), got=value.name)
    if not isinstance(value, dict):
        return enumerate(value)
    for key in value:
        if not isinstance(key, str):
            raise MetadataError("wrong member name", path=str(place), expected="a string", got=shown(key))
        if not key.isascii():
            _check_text(key, place)
    return value.items()


def _check_text(value: str, place: _Path) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as cause:
        raise MetadataError("not Unicode text", path=str(place), expected="no lone surrogates", got=ascii(value)) from cause


def _check_scalar(value: Any, place: _Path, words: bool, limits: Limits) -> None:
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, float):
        if not math.isfinite(value) and not (words and isinstance(value, Literal)):
            raise MetadataError(
                "a number that JSON does not have",
                path=str(place),
                expected="a finite number",
                got=float(value),
                hint='Write "NaN", "Infinity" or "-Infinity" as strings',
            )
    elif type(value) is int:
        if abs(value) >= 10**limits.digits:
            got = f"> {limits.digits}"
            raise LimitError("a number that is too long", path=str(place), field="digits", got=got, limit=limits.digits)
    elif value is not None and type(value) is not bool:
        hint = "Convert it with .item() or .tolist()" if hasattr(value, "tolist") else None
        got = type(value).__name__
        raise MetadataError("a value that JSON does not have", path=str(place), expected="a JSON value", got=got, hint=hint)
