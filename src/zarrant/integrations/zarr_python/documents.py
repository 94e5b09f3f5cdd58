"""Three versions of a metadata document become one: what two writers changed in different places is kept of both.

In: the JSON text that a writer has read (`base`), what it wants to store (`mine`), and what is stored by now (`theirs`). Out: the
text to be stored. Attributes are merged name by name, and copies in consolidated metadata path by path; of two values for one
attribute the later writer's stays. Two changes of anything else, such as the shape, are a LostUpdateError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from zarrant.errors import LostUpdateError
from zarrant.metadata.node import NAMES

_ABSENT = object()
_HINT = "Open the array again and do it on what is stored now; zarr_python.append waits for its turn instead"


def is_metadata(key: str) -> bool:
    """Whether a key is that of a metadata document."""
    return key.rpartition("/")[2] in NAMES


def merge(key: str, base: bytes, mine: bytes, theirs: bytes) -> bytes:
    """The document to be stored.

    >>> merge("zarr.json", b'{"attributes": {}}', b'{"attributes": {"a": 1}}', b'{"attributes": {"b": 2}}')
    b'{"attributes": {"b": 2, "a": 1}}'
    """
    if mine == theirs or base == theirs:
        return mine
    if mine == base:
        return theirs
    old, wanted, stored = (json.loads(text) for text in (base, mine, theirs))
    is_open = key.rpartition("/")[2] == ".zattrs"
    return json.dumps(_merged(key, old, wanted, stored, () if not is_open else ("attributes",))).encode()


def _merged(key: str, base: Any, mine: Any, theirs: Any, place: tuple[str, ...]) -> Any:
    """One value of a document; `place`: the names that lead to it."""
    if mine in (base, theirs):
        return theirs
    if theirs == base:
        return mine
    if _may_differ(place):
        return mine
    if not isinstance(mine, Mapping) or not isinstance(theirs, Mapping) or base is _ABSENT:
        message = "another writer changed the same part of the metadata"
        raise LostUpdateError(message, key=key, field=".".join(place), expected=mine, got=theirs, hint=_HINT)
    known = base if isinstance(base, Mapping) else {}
    merged = {}
    for name in (*theirs, *(name for name in mine if name not in theirs)):
        old, new, other = (side.get(name, _ABSENT) for side in (known, mine, theirs))
        found = _merged(key, old, new, other, (*place, name))
        if found is not _ABSENT:
            merged[name] = found
    return merged


def _may_differ(place: tuple[str, ...]) -> bool:
    """Whether the later of two values may stay: of one attribute, of an array or in a copy of its metadata."""
    return len(place) > 1 and (place[-2] == "attributes" or place[-2].endswith(".zattrs"))


def distance(a: bytes, b: bytes) -> int:
    """In how many values two documents differ."""
    if a == b:
        return 0
    return _differences(json.loads(a), json.loads(b))


def _differences(a: Any, b: Any) -> int:
    if not isinstance(a, Mapping) or not isinstance(b, Mapping):
        return int(a != b)
    return sum(_differences(a.get(name, _ABSENT), b.get(name, _ABSENT)) for name in {*a, *b})


class Seen:
    """The documents of one key that handles know: what was read, and what they wanted to store; the newest last.

    zarr-python does not say which document a handle has changed. With one handle for each store it is the newest. Several
    that share a store are told apart by what they store: it is the newest again if that differs in one value at most, as it
    does when an attribute is set; else the one that differs least.
    """

    MAX = 32
    """Documents that are kept: handles of one key that are used in turns."""

    def __init__(self) -> None:
        self.known: list[bytes] = []
        self.stored: bytes | None = None
        """The newest document that is known to have been stored, None where there was none."""
        self.version: Any = None
        self.read = False
        """Whether it is known what is stored."""

    def store(self, document: bytes | None, version: Any) -> None:
        """What is stored by now."""
        self.stored, self.version, self.read = document, version, True

    def add(self, document: bytes) -> None:
        """What a handle knows from now on."""
        self.known = [*(each for each in self.known if each != document), document][-self.MAX :]

    def base(self, mine: bytes) -> bytes | None:
        """The document from which `mine` was made; None where there was none."""
        if not self.known:
            return None
        if distance(self.known[-1], mine) <= 1:
            return self.known[-1]
        return min(reversed(self.known), key=lambda each: distance(each, mine))
