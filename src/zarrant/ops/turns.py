"""Turns: how the shape of an array is changed on a store that several processes share, and that can only compare and swap.

In: an array, and an operation that changes its shape. Out: the result of the operation, which ran while nobody else changed the
shape. Such stores (object stores) have no locks: a lock that outlives a killed writer would block the others, and one that ends
with its owner needs a connection to the owner. A turn is taken in the metadata themselves, and can be taken over:

1. **Take.** The main object M of the array is replaced, on condition of its version, by M with a member that names the turn
   (`metadata/turn.py`). Readers pass over it: the array keeps its old shape. The first try is made from what the handle knows of M,
   which saves a read where no other process appends. Where another writer has the turn, the operation waits. It takes the turn over
   where neither its owner nor the number of its last beat have changed for `seconds` (which the turn says itself): its owner was
   killed, or is as good as dead. That time is counted by the pauses of the writer that waits, so no two clocks are compared.
2. **Store.** Every chunk is stored under the turn like this: (a) its version, or that it is absent, is known, (b) M is seen to have
   our turn still, (c) it is stored on condition of that version. One look at M serves all chunks of a batch. A new chunk is taken
   to be absent, so that the swap which took the turn is a look for it, for a moment (`LOOK_S`); where a killed writer has left
   one, its version is asked for, and (b) and (c) follow. A chunk of fill values is
   stored, too: what is there makes the late create of another writer fail. Nothing is erased or replaced but by version.
3. **Commit.** M with the turn is replaced by M with the new shape and without the turn, on condition of its version: one swap, of
   which the commit and a take-over exclude each other. Attributes that others changed meanwhile are taken along. Shrinking commits
   first and keeps the turn, cleans up as in 2, and gives the turn back.

A writer that loses its turn has shown nothing to any reader. It still has its data, and starts over from the new metadata. So no
append fails for that reason. What it stored beyond the shape has no meaning (`ops/resize.py`).

**Why it is enough.** Say A has the turn, and B takes it over. A chunk that A stores after that (because A was slow) is stored on
condition of a version that A knew before it looked at M, and so before B had the turn. If B stores that chunk as well, B's version
is another one and A's write fails. Or A's write comes first: then B finds another version than the one it knows, and asks again.
Either way B has stored the chunk after it took the turn, and before it shows the chunk.

**What is left.** The argument needs that versions differ where B has stored. Services whose versions are a hash of the content give
equal bytes equal versions: A's write would replace a chunk of B in which all that B added was there already (fill values behind the
end of an edge chunk); and where `resize` shows chunks that are absent, B stores none. It takes a write of A that is on its way from
before the take-over until after it. A renews its turn before it sends anything once a quarter of `seconds` is over, so that is a
request in flight for more than three quarters of `seconds` (22 s). B could make its bytes different by elements behind the end;
but then other programs would see those when they grow the array.

**Writers of data** take no turn. They replace interior chunks without a condition, after a look at M. A chunk at the end of the
array they always read, change and replace on condition of its version, because an appender may have stored it.

A turn of one that appends to several arrays ends with a record of its own, never by itself (`ops/append_record.py`).

Threads of one process queue for the metadata before they take a turn, so a process has one at most.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from zarrant.codecs.byte_sources import Stored
from zarrant.errors import ConflictError, LockTimeout, MetadataChangedError, VersionChangedError, ZarrantError
from zarrant.geometry.box import Shape
from zarrant.metadata.node import dump
from zarrant.metadata.turn import MAX_SECONDS, Turn
from zarrant.metadata.v3 import ArrayMetadata, of_version
from zarrant.ops.append_record import end_for_others
from zarrant.ops.bound_array import BoundArray, OwnTurn
from zarrant.ops.current import Current, current_array, require_turn
from zarrant.ops.guard import MAX_TRIES
from zarrant.ops.node import find_metadata, metadata_key
from zarrant.requests import Op, Outcome, ReadRequest, WriteRequest, clock, fetch, pause, put, put_one
from zarrant.storage import Part, Version

T = TypeVar("T")

TAKE_OVER_S = 30.0
"""Seconds without a beat after which a turn may be taken over: beyond every time-out of a request that goes well, and what a user
waits for after a kill."""

FIRST_PAUSE_S, LAST_PAUSE_S = 0.004, 0.4
"""Between two looks at another one's turn: from an append to a local service, up to two looks a second at a long one."""

LOOK_S = 0.1
"""For how long a look at the metadata serves new chunks, counted from before it, as in `run/looks.py`."""

ABANDONED_S = 1.0
"""The same for a turn that this process has broken off itself: what it has sent has arrived by then."""

END_TIMEOUT_S = 60.0
"""How long who consolidates waits for the turn of a writer that is alive, as for a lock."""

_abandoned: set[str] = set()
"""Turns of this process whose operation was broken off (cancelled), so that it could not give them back."""


def in_turn(array: BoundArray, op: Callable[[BoundArray], Op[T]], check: Callable[[BoundArray], object]) -> Op[T]:
    """Take a turn, do `op` with the array as it is then, and give the turn back if `op` has not; start over where it was lost.

    `check` raises for what cannot be done to the array, before the turn is taken.
    """
    seconds = TAKE_OVER_S
    for _ in range(MAX_TRIES):
        now = yield from take(array, seconds, check)
        own = turn_of(now)
        try:
            result = yield from op(now)
            yield from give_back(now)
        except Exception:
            if not own.lost:
                yield from give_back(now)
                raise
            # What is slower than its turn lasts (one chunk that takes minutes to encode) asks for more time.
            seconds = min(2 * seconds, MAX_SECONDS)
        except BaseException:
            abandon(own.turn.token)  # nothing can be asked for any more
            raise
        else:
            return result
    raise ConflictError("other writers took over every turn", key=_key(array), limit=f"{MAX_TRIES} tries")


def turn_of(array: BoundArray) -> OwnTurn:
    """The turn under which an operation works."""
    assert array.turn is not None, "asked for in a turn only"
    return array.turn


def take(
    array: BoundArray,
    seconds: float,
    check: Callable[[BoundArray], object] = lambda array: None,
    name: tuple[str, str | None] | None = None,
    others: Sequence[BoundArray] = (),
) -> Op[BoundArray]:
    """Wait for the turn; the array as it is then, with the turn.

    `name`: the token of the turn, and the path of its record. `others`: arrays whose turns the caller has, and keeps meanwhile.
    """
    token, record = name or (new_token(), None)
    seen, waited, since_token, looks = None, 0.0, 0.0, 0
    as_known = _as_known(array, check)
    while True:
        now, version = as_known or (yield from current_array(array))
        as_known = None
        check(now)
        turn = now.metadata.turn
        if turn is None or seen is None or turn.token != seen.token:
            since_token, looks = 0.0, looks // 2
        if turn != seen:
            seen, waited = turn, 0.0
        expired = turn is not None and waited > (ABANDONED_S if turn.token in _abandoned else turn.seconds)
        if turn is not None and turn.record is not None:  # it ends with its record, never by a take-over
            if (yield from end_for_others(now, turn, expired)):
                continue
            expired = False
        if turn is None or expired:
            try:
                creates = turn is not None and turn.creates  # it has no rows yet, in any writer's turn
                taken = yield from _swap_in(now, Turn(token, 0, seconds, record, creates), version)
            except BaseException:
                abandon(token)  # it may have been stored
                raise
            if taken is not None:
                return taken
        elif since_token > array.options.turn_timeout + turn.seconds:
            raise LockTimeout("another writer is changing the shape of the array", key=_key(array), hint=_why_waited(turn))
        step = random.uniform(0.5, 1) * min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**looks)
        yield from pause(step)
        for each in others:
            yield from _renew(each)
        waited, since_token, looks = waited + step, since_token + step, min(looks + 1, 16)


def _as_known(array: BoundArray, check: Callable[[BoundArray], object]) -> tuple[BoundArray, Version] | None:
    """The array as its handle knows it, if that does for the first try: a writer that appends alone need not read its own data."""
    if array.metadata.version is None or array.metadata.turn is not None:
        return None
    try:
        check(array)
    except ZarrantError:
        return None
    return array, array.metadata.version


def new_token() -> str:
    """What names a turn, or an append to several arrays."""
    import secrets  # takes 5 ms, for stores that cannot lock

    return secrets.token_hex(8)


def abandon(token: str) -> None:
    """Others of this process need not wait for the end of a turn: its operation was broken off."""
    _abandoned.add(token)


def _why_waited(turn: Turn) -> str:
    if turn.record is not None:
        return "It appends to several arrays of a group. If that is not in this store, open it there, and append"
    return "It is alive: it renews its turn. Wait longer with the option lock_timeout"


def wait_for_end(path: str, turn: Turn) -> Op[bool]:
    """Wait until a turn has ended, or end it where it is not renewed; whether that was waited for.

    A turn that ends with a record, or with the creation of its array, is not: who has one looks at the groups afterwards.
    """
    if turn.record is not None or turn.creates:
        return False
    waited, total, looks = 0.0, 0.0, 0
    while total <= END_TIMEOUT_S + turn.seconds:
        step = random.uniform(0.5, 1) * min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**looks)
        yield from pause(step)
        waited, total, looks = waited + step, total + step, min(looks + 1, 16)
        found = yield from find_metadata(path)
        if not isinstance(found, ArrayMetadata) or found.turn is None or found.turn.token != turn.token:
            return True
        if found.turn != turn:
            turn, waited = found.turn, 0.0
        elif waited > (ABANDONED_S if turn.token in _abandoned else turn.seconds):
            try:
                yield from put_one(metadata_key(path, found), [dump(replace(found, turn=None))], found.version, in_copies=False)
            except VersionChangedError:
                continue
            return True
    raise LockTimeout("another writer is changing the shape of the array", key=metadata_key(path), hint=_why_waited(turn))


def _swap_in(now: BoundArray, turn: Turn, version: Version) -> Op[BoundArray | None]:
    """The array with a turn; None where another writer was faster."""
    since = yield from clock()
    metadata = replace(now.metadata, turn=turn)
    try:
        stored = yield from put_one(_key(now), [dump(metadata)], version, in_copies=False)  # safety: turn taken by version
    except VersionChangedError:
        return None
    metadata = of_version(metadata, stored)
    return replace(now.with_metadata(metadata), turn=OwnTurn(metadata, since, since))


def keep(array: BoundArray) -> Op[None]:
    """Renew the turns of an operation where a quarter of their time is over."""
    for each in (array, *turn_of(array).others):
        yield from _renew(each)


def _renew(array: BoundArray) -> Op[None]:
    own = turn_of(array)
    since = yield from clock()
    if since - own.since < own.turn.seconds / 4:
        return
    for _ in range(MAX_TRIES):
        metadata, since = (yield from require_turn(array)), (yield from clock())
        renewed = replace(metadata, turn=replace(own.turn, beat=own.turn.beat + 1))
        try:
            stored = yield from put_one(_key(array), [dump(renewed)], metadata.version, in_copies=False)
        except VersionChangedError:  # attributes were changed, or another thread of this operation was faster
            continue
        own.metadata, own.since, own.seen = of_version(renewed, stored), since, since
        return
    raise ConflictError("other writers won every race", key=_key(array), limit=f"{MAX_TRIES} tries")


def commit(now: BoundArray, metadata: ArrayMetadata, keep_turn: bool = False) -> Op[ArrayMetadata]:
    """Replace the metadata by new ones, and end the turn. What others changed in the attributes meanwhile stays."""
    own = turn_of(now)
    for _ in range(MAX_TRIES):
        seen = own.metadata  # its attributes belong to its version
        if seen.with_attributes({}) != now.metadata.with_attributes({}):
            break
        wanted = replace(metadata.with_attributes(seen.attributes), turn=own.turn if keep_turn else None)
        try:
            stored = yield from put_one(_key(now), [dump(wanted)], seen.version)  # safety: commit by version
        except VersionChangedError:
            yield from require_turn(now)
            continue
        wanted = of_version(wanted, stored)
        if keep_turn:
            own.metadata = wanted
        own.ended = not keep_turn
        return wanted
    raise ConflictError("the array was resized or replaced meanwhile, by a writer that took no turn", key=_key(now))


def give_back(now: BoundArray) -> Op[ArrayMetadata | None]:
    """End a turn without a change; the metadata then. None where it has ended, or could not be: others take it over in time."""
    own = turn_of(now)
    if own.ended or own.lost:
        return None
    try:
        for _ in range(MAX_TRIES):
            metadata = replace((yield from require_turn(now)), turn=None)
            try:
                stored = yield from put_one(_key(now), [dump(metadata)], metadata.version, in_copies=False)
            except VersionChangedError:
                continue
            own.ended = True
            return of_version(metadata, stored)
    except ZarrantError:
        pass
    abandon(own.turn.token)
    return None


# Objects ----------------------------------------------------------------------------------------------------------------


def store_new(array: BoundArray, items: Sequence[WriteRequest], shape: Shape) -> Op[list[Outcome[Version]]]:
    """Store whole chunks of one shape under a turn, each in the place of what is there; an outcome for each."""
    wanted = []
    for item in items:
        parts = item.parts if item.parts is not None else (yield from fill_chunk(array, shape))
        wanted.append(item._replace(parts=parts, if_version=None))  # safety: new chunk by version
    return (yield from _store_all(array, wanted))


def erase_all(array: BoundArray, items: Sequence[tuple[str, Shape]]) -> Op[None]:
    """Erase chunks under a turn, given by key and shape: by version, or else a chunk of fill values takes their place."""
    found = yield from fetch([ReadRequest(key, ()) for key, _ in items])
    wanted = []
    for (key, shape), blob in zip(items, found, strict=True):
        if isinstance(blob, Exception):
            raise blob
        if blob is not None:
            parts = None if array.options.erases_if else (yield from fill_chunk(array, shape))
            wanted.append(WriteRequest(key, parts, blob.version))  # safety: erased by version
    for outcome in (yield from _store_all(array, wanted)):
        if isinstance(outcome, Exception):
            raise outcome


def _store_all(array: BoundArray, items: Sequence[WriteRequest]) -> Op[list[Outcome[Version]]]:
    """Store objects while the turn is ours, again where one has another version than was thought."""
    outcomes: list[Outcome[Version]] = [None] * len(items)
    wanted, pending, node = list(items), list(range(len(items))), Current(array)
    for _ in range(MAX_TRIES):
        if not pending:
            return outcomes
        yield from keep(array)
        batch = [wanted[i] for i in pending]
        replies = yield from put(batch, None if (yield from _seen(array, batch)) else node.condition)  # safety: turn seen
        for i, reply in zip(pending, replies, strict=True):
            outcomes[i] = reply
        moved = [i for i in pending if isinstance(outcomes[i], VersionChangedError)]
        refused = [i for i in pending if isinstance(outcomes[i], MetadataChangedError)]
        if refused:
            yield from node.look_again()
        if moved:
            versions = yield from fetch([ReadRequest(wanted[i].key, ()) for i in moved])
            for i, blob in zip(moved, versions, strict=True):
                if isinstance(blob, Exception):
                    raise blob
                wanted[i] = wanted[i]._replace(if_version=None if blob is None else blob.version)
        pending = [i for i in (*moved, *refused) if wanted[i].parts is not None or wanted[i].if_version is not None]
    return outcomes


def _seen(array: BoundArray, items: Sequence[WriteRequest]) -> Op[bool]:
    """Whether the turn was seen just now, after all was known on which these writes depend: of new chunks nothing was read."""
    if any(item.if_version is not None for item in items):  # safety: turn seen after a read
        return False
    return (yield from clock()) - turn_of(array).seen < LOOK_S  # safety: turn seen just now


def erased(array: BoundArray, shape: Shape, source: Stored) -> Op[list[Part] | None]:
    """The parts of a changed chunk in which all is fill now: None (erase it) only where that does no harm."""
    if array.turn is None and (array.options.erases_if or source.version is None):
        return None
    return (yield from fill_chunk(array, shape))


def fill_chunk(array: BoundArray, shape: Shape) -> Op[list[Part]]:
    """The parts of a stored chunk whose every element is the fill value."""
    return (yield from array.prepared_for(shape).filled())


def _key(array: BoundArray) -> str:
    return metadata_key(array.prefix, array.metadata)
