"""The record of an append to several arrays in turns: what is decided of it, and how others complete or drop it.

In: a turn that names a record. Out: whether the append it belongs to has ended. The record is an object in the group, one for each
append, and says one of three things. It changes by compare-and-swap only, so that whoever wants to know has one answer:

- *pending*: stored before the first turn is taken. The data are being stored under the turns.
- *decided*: the shapes that the arrays are to have. Only the owner stores this, in the place of pending: then he had all of the
  turns, because nobody takes one of them over before the record is dropped. From now on whoever meets one of the turns
  completes it: the array gets its shape, and the turn ends.
- *dropped*: stored in the place of pending by somebody for whom a turn has not been renewed for too long. The turns end without a
  change. The owner, if he was only slow, cannot decide any more, and starts over.

Where there is no record, it was dropped. A decided one is erased by its owner alone, who would else not know how it ended.

A turn has the path of its record from its array (`../__append.….json`), so that it does not matter at which group a store begins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from zarrant.errors import ConflictError, VersionChangedError, ZarrantError
from zarrant.metadata.json_text import dump_json, parse_json
from zarrant.metadata.node import dump
from zarrant.metadata.turn import Turn
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.current import TurnLost
from zarrant.ops.guard import MAX_TRIES
from zarrant.ops.node import check_path, find_metadata, metadata_key
from zarrant.requests import Op, fetch_one, put_one
from zarrant.storage import Version

Shapes = Mapping[str, Sequence[int]]
PENDING, DECIDED, DROPPED = "pending", "decided", "dropped"


class Record(NamedTuple):
    """What is stored. `arrays`: paths below the group, with their shapes to come (of a pending one: empty)."""

    state: str
    arrays: Shapes

    def dump(self, token: str) -> bytes:
        """Its bytes, which no other append has."""
        return dump_json({"append": token, "state": self.state, "arrays": {name: list(n) for name, n in self.arrays.items()}})

    @staticmethod
    def parse(data: bytes, token: str) -> Record | None:
        """The record of this turn; None for anything else."""
        try:
            value = parse_json(data)
            if value["append"] != token or value["state"] not in (PENDING, DECIDED, DROPPED):
                return None
            return Record(value["state"], {check_path(name): tuple(shape) for name, shape in value["arrays"].items()})
        except (ZarrantError, KeyError, TypeError, AttributeError):
            return None


def name_of(group: str, path: str, token: str) -> str:
    """The path of a record from one of its arrays.

    >>> name_of("g", "g/a/b", "5f")
    '../../__append.5f.json'
    """
    depth = path[len(group) :].strip("/").count("/") + 1
    return "../" * depth + f"__append.{token}.json"


def group_of(path: str, name: str) -> str | None:
    """The path of the group that has the record of this name; None where the store begins below it.

    >>> group_of("g/a/b", "../../__append.5f.json"), group_of("b", "../../__append.5f.json")
    ('g', None)
    """
    parts, depth = (path.split("/") if path else []), name.count("../")
    return None if depth > len(parts) else "/".join(parts[: len(parts) - depth])


def key_of_record(group: str, token: str) -> str:
    """The key of a record."""
    return f"{group}/__append.{token}.json".lstrip("/")


def read_record(key: str, token: str) -> Op[tuple[Record, Version]]:
    """The record of an append, and its version; what cannot be read is dropped, as one that is not there."""
    blob = yield from fetch_one(key)
    if blob is None:
        return Record(DROPPED, {}), None
    return Record.parse(bytes(blob.data[0]), token) or Record(DROPPED, {}), blob.version


def end_for_others(array: BoundArray, turn: Turn, expired: bool) -> Op[bool]:
    """Complete the append of another writer if it is decided, or drop it if its turn has expired; whether its turns have ended."""
    assert turn.record is not None, "asked for turns with a record"
    group = group_of(array.prefix, turn.record)
    if group is None:
        return False
    key = key_of_record(group, turn.token)
    record, version = yield from read_record(key, turn.token)
    if record.state != DECIDED and not expired:
        return False
    if record.state == PENDING:
        try:
            yield from put_one(key, [Record(DROPPED, record.arrays).dump(turn.token)], version)  # safety: dropped by version
        except VersionChangedError:
            return False
    own = array.prefix[len(group) :].strip("/")
    decided = record.arrays if record.state == DECIDED else {}
    for name in {own: None, **record.arrays}:
        yield from end_turn(f"{group}/{name}".strip("/"), turn.token, decided.get(name), array.options)
    if record.state != DECIDED and version is not None:
        yield from put_one(key, None)
    return True


def end_turn(path: str, token: str, shape: Sequence[int] | None, options: OpOptions, sure: bool = False) -> Op[None]:
    """End a turn of an array, with a new shape or (None) without a change. Nothing to do where it has ended.

    `sure`: that it has ended is not only read, for a replica may lag behind: the metadata are stored as they are, by version.
    """
    for _ in range(MAX_TRIES):
        found = yield from find_metadata(path)
        if not isinstance(found, ArrayMetadata):
            return
        if found.turn is not None and found.turn.token == token:
            new = found if shape is None else BoundArray.from_metadata(path, found, options).with_shape(shape).metadata
            new = replace(new, turn=None)
        elif sure:
            new = found
        else:
            return
        try:
            yield from put_one(metadata_key(path, found), [dump(new)], found.version)
        except VersionChangedError:
            continue
        return
    raise ConflictError("other writers won every race", key=metadata_key(path), limit=f"{MAX_TRIES} tries")


class InDoubtError(ConflictError):
    """It is not known whether an append is decided."""


def decide(key: str, token: str, shapes: Shapes, version: Version) -> Op[None]:
    """Decide an append, whose turns the caller has. TurnLost where others have dropped it.

    Any error but InDoubtError means that it is not decided, and will not be.
    """
    try:
        yield from put_one(key, [Record(DECIDED, shapes).dump(token)], version)  # safety: decided by version
    except ZarrantError as error:
        if (yield from _is_decided(key, token, error)):
            return
        if isinstance(error, VersionChangedError):
            raise TurnLost("others have dropped an append to several arrays", key=key) from error
        raise


def _is_decided(key: str, token: str, error: ZarrantError) -> Op[bool]:
    """Whether an append is decided, though storing that has failed; if it is not, it will not be."""
    try:
        record, version = yield from read_record(key, token)
        if record.state == PENDING:  # what was sent may still come: it must fail
            yield from put_one(key, [Record(DROPPED, {}).dump(token)], version)
    except ZarrantError as again:
        hint = "Do not repeat it before you have looked at the arrays"
        raise InDoubtError(f"it is not known whether an append was stored ({error})", key=key, hint=hint) from again
    return record.state == DECIDED


def dump_pending(token: str, names: Sequence[str]) -> bytes:
    """The bytes of the record of an append that begins."""
    return Record(PENDING, dict.fromkeys(names, ())).dump(token)
