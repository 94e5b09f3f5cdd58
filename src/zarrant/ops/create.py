"""The operation that makes an array: its metadata, and the data that it begins with, before any reader can see it.

Of several creators at the same time one succeeds, and only that one stores data. Where an equal array will do (`match`), the
error for another one says what differs.

Where there are no locks, data are stored in a turn (`ops/turns.py`): the array is made without rows, with a turn that says so, and
gets its shape when all is stored. Other creators wait for that. From a creator who was killed they take the turn over, and store
their own data; what he has sent and comes later is refused, as that of any lost turn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard, cast

from zarrant.errors import ConflictError, NodeExistsError, NodeNotFoundError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.region import box_region
from zarrant.metadata.turn import MAX_SECONDS, Turn
from zarrant.metadata.v3 import ArrayMetadata, Named, NodeMetadata
from zarrant.ops import ingest, turns, update
from zarrant.ops import node as node_ops
from zarrant.ops.batching import check_encodable
from zarrant.ops.bound_array import BoundArray, OwnTurn
from zarrant.ops.casting import as_source, broadcast
from zarrant.ops.current import is_same_array
from zarrant.ops.guard import MAX_TRIES
from zarrant.requests import Op, clock, list_dir, put_one


def create_array(
    array: BoundArray,
    data: Any = None,
    *,
    overwrite: bool = False,
    match: bool = False,
    exclusive: bool = True,
    listing: bool = False,
    within: str | None = None,
    top: str = "",
) -> Op[NodeMetadata]:
    """Make an array and store `data` in it; returns the metadata that are there now.

    `listing`: the store can list, so that chunks which a lost array left are found. The others: see `ops.node.create_node`.
    """
    # Wrong data are refused before there is an array.
    replaces = overwrite and not (listing and ingest.is_lazy(data) and (yield from _is_free(array)))
    fill = None if data is None else (yield from _filling(array, data, replaces))
    if array.options.turns and not overwrite and array.shape:  # safety: created in a turn
        op = _create_in_turn(array, fill, match, listing, within, top)
        return (yield from _compared(op, array) if match else op)

    found = partial(_is_chunk, array) if listing else None
    op = node_ops.create_node(
        array.prefix,
        array.metadata,
        overwrite=overwrite,
        match=match,
        exclusive=exclusive,
        is_chunk=found,
        fill=None if fill is None else partial(fill, array),
        within=within,
        top=top,
    )
    return (yield from _compared(op, array) if match else op)


def _compared(op: Op[NodeMetadata], array: BoundArray) -> Op[NodeMetadata]:
    """Creating an array that may be there already; the error of one that is another says what differs."""
    try:
        return (yield from op)
    except NodeExistsError as error:
        there = yield from node_ops.find_metadata(array.prefix)
        if isinstance(there, ArrayMetadata):
            stored, asked = there.to_json(), array.metadata.to_json()
            names = [name for name in (*asked, *(stored.keys() - asked.keys())) if stored.get(name) != asked.get(name)]
            error.message = f"an array that differs in {', '.join(names)} is here already"
            error.annotate(expected={name: asked.get(name) for name in names}, got={name: stored.get(name) for name in names})
        raise


def _is_free(array: BoundArray) -> Op[bool]:
    """Whether nothing at all is where an array is to be."""
    keys, prefixes = yield from list_dir(array.key_of(""))
    return not keys and not prefixes


def _is_chunk(array: BoundArray, key: str) -> bool:
    return array.key_encoding.parse(key, len(array.shape)) is not None


def _filling(array: BoundArray, data: Any, replaces: bool) -> Op[Callable[[BoundArray], Op[None]]]:
    """The operation that stores data in a new array, given that."""
    # Safety: what is overwritten may be what the data are read from, so those are in memory before anything is erased.
    if ingest.is_lazy(data) and not replaces:
        ingest.check_lazy(array, data)
        return lambda new: ingest.store_lazy(new, data)
    values = broadcast(as_source(array, data), array.shape)
    if replaces and values.size and _may_refuse(array.metadata.codecs):
        whole = box_region(ArraySubset.full(array.shape)).split(array.grid, array.shape)
        yield from check_encodable(array, whole, values)
    return lambda new: update.store_new_array(new, values)


SURE = frozenset(
    ["bytes", "transpose", "reshape", "bitround", "vlen-utf8", "vlen-bytes", "zstd", "gzip", "blosc", "crc32c", "sharding_indexed"]
)
"""Codecs that encode every value of their data type."""


def _may_refuse(codecs: Iterable[Any]) -> bool:
    """Whether one of some codecs, also within shards, may find a value that it cannot encode."""
    named = [Named.parse(codec, "$.codecs") if not isinstance(codec, Named) else codec for codec in codecs]
    inner = [cast("Iterable[Any]", codec.configuration.get("codecs", ())) for codec in named if codec.name == "sharding_indexed"]
    return any(codec.name not in SURE for codec in named) or any(map(_may_refuse, inner))


# Without locks ----------------------------------------------------------------------------------------------------------


def _create_in_turn(
    array: BoundArray, fill: Callable[[BoundArray], Op[None]] | None, match: bool, listing: bool, within: str | None, top: str
) -> Op[NodeMetadata]:
    seconds = turns.TAKE_OVER_S
    for _ in range(MAX_TRIES):
        there = yield from node_ops.find_metadata(array.prefix)
        if there is None and fill is None:
            found = partial(_is_chunk, array) if listing else None
            return (
                yield from node_ops.create_node(array.prefix, array.metadata, match=match, is_chunk=found, within=within, top=top)
            )
        try:
            own = yield from (_begin(array, seconds, within, top) if there is None else _wait(array, there, seconds))
        except NodeNotFoundError:
            continue  # its creator has failed
        if own is None:
            if there is not None:
                return node_ops.existing(array.prefix, array.metadata, there, match)
            continue  # another one was faster
        try:
            return (yield from _finish(own, array, fill))
        except Exception:
            if not turns.turn_of(own).lost:
                raise
            seconds = min(2 * seconds, MAX_SECONDS)
    raise ConflictError("other writers took over every turn", path=array.prefix or "/", limit=f"{MAX_TRIES} tries")


def _begin(array: BoundArray, seconds: float, within: str | None, top: str) -> Op[BoundArray | None]:
    """Make an array without rows, and take its turn; None where another creator was faster."""
    empty = array.with_shape((0, *array.shape[1:]))
    turn, since = Turn(turns.new_token(), 0, seconds, creates=True), (yield from clock())
    try:
        made = yield from node_ops.create_node(array.prefix, replace(empty.metadata, turn=turn), within=within, top=top)
    except NodeExistsError:
        if (yield from node_ops.find_metadata(array.prefix)) is None:
            raise  # it is about a node above
        return None
    except BaseException:
        turns.abandon(turn.token)
        raise
    assert isinstance(made, ArrayMetadata), "what was asked for"
    return replace(empty, metadata=made, turn=OwnTurn(made, since, since))


def _wait(array: BoundArray, there: NodeMetadata, seconds: float) -> Op[BoundArray | None]:
    """Take over from a creator who was killed; NodeNotFoundError where he ends meanwhile. None: this is not to be created here."""
    if not _is_begun(there) or not is_same_array(array, there) or there.attributes != array.metadata.attributes:
        return None
    begun = BoundArray.from_metadata(array.prefix, there, array.options)
    return (yield from turns.take(begun, seconds, _require_begun))


def _is_begun(there: NodeMetadata) -> TypeGuard[ArrayMetadata]:
    return isinstance(there, ArrayMetadata) and there.turn is not None and there.turn.creates


def _require_begun(now: BoundArray) -> None:
    if not _is_begun(now.metadata):
        raise NodeNotFoundError("its creator has ended", path=now.prefix)


def _finish(own: BoundArray, array: BoundArray, fill: Callable[[BoundArray], Op[None]] | None) -> Op[NodeMetadata]:
    """Store the data, and give the array its shape. Where that fails there is no array."""
    new = replace(array, turn=own.turn)
    try:
        if fill is not None:
            yield from fill(new)
        return (yield from turns.commit(own, array.metadata))
    except Exception:
        held = turns.turn_of(own)
        if not held.lost and not held.ended:
            yield from put_one(node_ops.metadata_key(array.prefix, array.metadata), None)
        raise
    except BaseException:
        turns.abandon(turns.turn_of(own).turn.token)
        raise
