"""The version of an object of an object store, and the ids of the writes that led to it.

A conditional put whose reply is lost can be distinguished from one that was refused only by what is stored. So every conditional
put stores an id of its own in the metadata of the object, after those of the puts before it. A writer that finds its id there
knows that its put was made, also when others have built upon it since.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

WRITES = "zarrant_writes"
"""The name of the ids in an object's metadata: lower case for S3, and a name in C# for Azure."""
KEPT = 32
"""Ids that are kept: a put is found again unless more than 31 others were built upon it before it was looked for, which is an error
then. 32 ids are 415 bytes of a header; S3 allows 2 KB for all metadata of an object."""

_REPLACED = "replaced since write "


class ObjectVersion:
    """What tells whether an object was replaced: its `e_tag`, and its `version` where it has no tag, or where that is `numbered`.

    A put on condition sends both, because services differ in which they take. One is compared: the tag, since some clones
    of S3 give a `version` with a read and none with a write, but the number of Google's (`numbered`), whose tags are made of the
    bytes. Where only such a tag is known, an object that has the same bytes again is of the version that it was. `writes` are the
    ids of the writes that led to it, as far as they were seen.
    """

    __slots__ = ("_compared", "e_tag", "version", "writes")

    def __init__(self, e_tag: str | None, version: str | None = None, writes: tuple[str, ...] = (), numbered: bool = False) -> None:
        self.e_tag, self.version, self.writes = e_tag, version, writes
        self._compared = version if e_tag is None or (numbered and version is not None) else e_tag

    @classmethod
    def of(cls, found: Mapping[str, Any], writes: tuple[str, ...] = (), numbered: bool = False) -> ObjectVersion:
        """The version that the reply of a put, or the metadata of an object, speaks of.

        A server that gives neither (a plain HTTP server) is taken by its time of change and the size.
        """
        e_tag, version = found.get("e_tag"), found.get("version")
        if e_tag is None and version is None:
            return cls(None, f"{found.get('last_modified')} {found.get('size')}", writes)
        return cls(e_tag, version, writes, numbered)

    @classmethod
    def of_replaced(cls, write: str) -> ObjectVersion:
        """The version that a write made and that others have replaced since: no object has it any more."""
        return cls(None, f"{_REPLACED}{write}", (write,))

    @property
    def replaced(self) -> bool:
        """Whether it is known that no object has this version."""
        return self.e_tag is None and (self.version or "").startswith(_REPLACED)

    @property
    def mode(self) -> dict[str, str]:
        """The condition of a put: without what is not known, which obstore refuses."""
        known = {"e_tag": self.e_tag, "version": self.version}
        return {name: value for name, value in known.items() if value is not None}

    @property
    def lasting(self) -> bool:
        """Whether equal versions mean equal bytes whenever they were seen; not those made of a time of change, nor weak tags."""
        return self.if_match is not None

    @property
    def if_match(self) -> str | None:
        """The condition of a get. A weak tag never matches: https://www.rfc-editor.org/rfc/rfc9110#name-if-match."""
        return None if self.e_tag is None or self.e_tag.startswith("W/") else self.e_tag

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ObjectVersion) and self._compared == other._compared

    def __hash__(self) -> int:
        return hash(self._compared)

    def __repr__(self) -> str:
        return str(self._compared)


def new_write() -> str:
    """An id of a write: 48 random bits, of the system, so that a forked child makes others."""
    return secrets.token_hex(6)


def writes_of(attributes: Mapping[Any, Any] | None) -> tuple[str, ...]:
    """The ids in the metadata of an object."""
    text = str((attributes or {}).get(WRITES, ""))
    return tuple(filter(None, text.split(",")))[-KEPT:]


def followed_by(writes: tuple[str, ...], write: str) -> tuple[str, ...]:
    """The ids with one more."""
    return (*writes, write)[-KEPT:]


def name_all_since(base: ObjectVersion | None, found: ObjectVersion | None) -> bool:
    """Whether the ids of what is `found` name every write since `base`: then one that is not among them was not made."""
    if found is None:
        return False
    if base is None or not base.writes:
        return 0 < len(found.writes) < KEPT
    return base.writes[-1] in found.writes
