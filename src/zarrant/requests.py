"""The requests an operation may yield: the whole vocabulary on one screen.

An operation is a generator. It yields requests, is sent the replies, and returns its result. It never waits, locks, sleeps
or reads a clock. Two drivers perform the requests (`run.blocking`, `run.asynchronous`). Each request has a typed helper, used
as `blobs = yield from fetch(...)`, so that the type checker knows the reply (a bare `yield` gives Any).

A request that is `brief` promises that what the operation does after the reply, up to the next request or its end, takes
microseconds: the async driver does that on the event loop, all else in a thread (a hop between the two costs 30 µs).

Rules: never `yield` in a `finally` (a closing generator may not), hence `Locked` wraps an operation and there is no unlock
request; a batched request is answered with one outcome an item, so that one bad key does not fail its siblings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar, cast

from zarrant.storage import ANY as ANY  # noqa: PLC0414 - a word of the vocabulary of requests
from zarrant.storage import Blob, ByteRange, FileDecoder, Part, Version
from zarrant.storage import OnlyWhile as OnlyWhile  # noqa: PLC0414

T = TypeVar("T")
Op: TypeAlias = Generator["Request", Any, T]
Outcome: TypeAlias = T | Exception


class ReadRequest(NamedTuple):
    """One object (`ranges` None) or some ranges of it, optionally of one known version only.

    `limit`: the bytes that a whole object may have; a larger one is a LimitError, which reads nothing if the store knows the size.
    `into`: an array for a whole object of just as many bytes. A driver may put them there, and then the blob has no data.
    """

    key: str
    ranges: tuple[ByteRange, ...] | None = None
    if_version: Version = None
    limit: int | None = None
    into: memoryview | None = None


class Fetch(NamedTuple):
    """Read; replied with a list of Blob, None (absent) or Exception, one for each `ReadRequest`.

    `decoder`: objects may be decoded by it as they are read, and then their blobs have no data. Of one that was not, the reply is
    that to its `ReadRequest`, or (where the decoder is not for whole objects) None.
    """

    items: Sequence[ReadRequest]
    brief: bool = False
    decoder: FileDecoder | None = None


class WriteRequest(NamedTuple):
    """One object to store. ByteRange parts copy from the object being replaced. `parts` None erases."""

    key: str
    parts: Sequence[Part] | None
    if_version: Version = ANY


class Put(NamedTuple):
    """Store or erase objects; replied with a list, for each the version it has now (None where erased) or an Exception.

    Where the condition does not hold for an object, at the moment in which it would be stored, its Exception is a
    MetadataChangedError.
    """

    items: Sequence[WriteRequest]
    condition: OnlyWhile | None = None
    brief: bool = False
    in_copies: bool = True
    """Whether it changes what consolidated metadata keep copies of."""


class PutFirst(NamedTuple):
    """Store an object where there is nothing beside it, under its lock, with one call of the store; replied with its version.

    None: it was not stored, as there is something, or the store does not do that here. `absent`: see `storage.PutsFirst`. It is
    stored only while there is an object `below`.
    """

    key: str
    parts: Sequence[Part]
    absent: tuple[str, ...]
    below: str | None = None


class UpdateBox(NamedTuple):
    """Replace a box of a chunk under its lock, with one call of the store; replied with whether it was done.

    Where the store does not do that here, nothing was done: then the chunk is to be read, changed and stored. `update` is made by
    the codecs of the chunk (`codecs.box_update`).
    """

    key: str
    update: Any
    condition: OnlyWhile | None = None


class LookAhead(NamedTuple):
    """Begin to look whether a condition holds, under which objects will be stored soon; replied with None, at once.

    It saves the time of that request where the store cannot check the condition itself, while what is stored is being encoded.
    """

    condition: OnlyWhile


class ErasePrefix(NamedTuple):
    """Remove everything below a prefix; replied with whether it was a symbolic link, which is removed and nothing behind it.

    With `link_only` nothing else is removed.
    """

    prefix: str
    link_only: bool = False


class ListDir(NamedTuple):
    """Replied with (keys, prefixes) directly below a prefix."""

    prefix: str


class ListPrefix(NamedTuple):
    """Replied with the list of every key below a prefix."""

    prefix: str


class ListStored(NamedTuple):
    """Replied with the list of every key below a prefix that is stored all the time, also where it is replaced meanwhile.

    None where the store cannot be sure of that, or where there are more than `limit`.
    """

    prefix: str
    limit: int


class Locked(NamedTuple):
    """Run `op` while `keys` are locked; replied with its result.

    A caller can lock keys again that it has locked already. It can lock other keys only with `nested`: that is for a caller that
    has locked the metadata of an array, and locks chunks of it, one at a time. This cannot deadlock, because no caller that has
    locked a chunk waits for the metadata. MetadataChangedError if the object of `below` is gone.
    """

    keys: Sequence[str]
    op: Op[Any]
    nested: bool = False
    below: str | None = None
    brief: bool = False


class CommitGroup(Protocol):
    """The callers for which the leader of a group commit does the work. Nothing here waits."""

    @property
    def items(self) -> Sequence[Any]:
        """What was taken last; before that, the leader's item alone."""
        ...

    def take(self) -> Sequence[Any]:
        """The items of all who have come, the leader's first, in order of arrival."""
        ...

    def resolve(self, number: int, error: Exception | None) -> None:
        """End the wait of an item's caller, with the error or None."""
        ...


class BeforeChange(NamedTuple):
    """Run `op`, which stores what the metadata of `key` are to show; replied with its result.

    The caller has a turn of these metadata (`ops/turns.py`), and will change them. What must be looked at before that is looked at
    while `op` runs.
    """

    key: str
    op: Op[Any]


class GroupCommit(NamedTuple):
    """Hand in `item` for `key`; replied with None, or `item`'s error, once it is done.

    One of the callers with the same key and `kind` performs its `lead` for all of them, while the others wait. With `brief`
    the lead begins with what is brief, too.
    """

    key: str
    kind: Hashable
    item: Any
    lead: Callable[[CommitGroup], Op[None]]
    brief: bool = False


class Acknowledge(NamedTuple):
    """Make what was written so far as durable as at the end of the operation, before the callers that wait for it go on."""


class All(NamedTuple):
    """Run operations side by side; replied with a list of results or Exceptions, in order.

    `ops` is pulled lazily; `cost` is the number of bytes that one of them needs at its peak, which bounds how many run at once.
    With `brief` each of them begins with what is brief, too. `small`: so little is done that threads take longer than they save,
    unless the store is waited for.
    """

    ops: Iterable[Op[Any]]
    cost: int
    brief: bool = False
    small: bool = False


class Admitted(NamedTuple):
    """Run an operation when so many bytes of the process's budget are left; replied with its result.

    One alone is always let through, and so is what runs inside of another one or of a lock. The first operation of an `All`
    directly inside is paid for by these bytes.
    """

    op: Op[Any]
    cost: int
    brief: bool = False


class Share(NamedTuple):
    """Run `op()`, unless another caller runs that of the same `place` now: then wait for it.

    Replied with (its result, whether it was this caller's own). What others found may be out of date: it was asked for before this
    caller began. Where theirs fails, or where the store is not waited for anyway, this caller's own is run.
    """

    place: Hashable
    op: Callable[[], Op[Any]]
    brief: bool = False


class CheckUnchanged(NamedTuple):
    """Replied with True if an object has this version and no other writer has locked it; False if not, or if unknown."""

    key: str
    version: Version


class Pause(NamedTuple):
    """Wait; the length is policy (here), the clock is the driver's."""

    seconds: float


class Clock(NamedTuple):
    """Replied with seconds of a clock of the driver that never goes back: differences between two replies count."""

    brief: bool = True


Request: TypeAlias = (
    Fetch
    | Put
    | PutFirst
    | UpdateBox
    | LookAhead
    | ErasePrefix
    | ListDir
    | ListPrefix
    | ListStored
    | Locked
    | BeforeChange
    | GroupCommit
    | Acknowledge
    | CheckUnchanged
    | All
    | Admitted
    | Share
    | Pause
    | Clock
)


def fetch(
    items: Sequence[ReadRequest], *, brief: bool = False, decoder: FileDecoder | None = None
) -> Op[list[Outcome[Blob | None]]]:
    """Read many; one outcome each."""
    reply: list[Outcome[Blob | None]] = yield Fetch(items, brief, decoder)
    return reply


def fetch_one(
    key: str,
    ranges: tuple[ByteRange, ...] | None = None,
    if_version: Version = None,
    limit: int | None = None,
    into: memoryview | None = None,
    *,
    brief: bool = False,
) -> Op[Blob | None]:
    """Read one object or its ranges; its error is raised."""
    reply: list[Outcome[Blob | None]] = yield Fetch((ReadRequest(key, ranges, if_version, limit, into),), brief)
    (outcome,) = reply
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def put(items: Sequence[WriteRequest], condition: OnlyWhile | None = None, *, brief: bool = False) -> Op[list[Outcome[Version]]]:
    """Store or erase many; one outcome each."""
    reply: list[Outcome[Version]] = yield Put(items, condition, brief)
    return reply


def put_one(
    key: str,
    parts: Sequence[Part] | None,
    if_version: Version = ANY,
    condition: OnlyWhile | None = None,
    *,
    brief: bool = False,
    in_copies: bool = True,
) -> Op[Version]:
    """Store (or, with `parts` None, erase) one object, and return the version it has now; its error is raised."""
    reply: list[Outcome[Version]] = yield Put((WriteRequest(key, parts, if_version),), condition, brief, in_copies)
    (outcome,) = reply
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def put_first(key: str, parts: Sequence[Part], absent: tuple[str, ...], below: str | None) -> Op[Version]:
    """See `PutFirst`."""
    reply: Version = yield PutFirst(key, parts, absent, below)
    return reply


def update_box(key: str, update: Any, condition: OnlyWhile | None) -> Op[bool]:
    """Replace a box of a chunk with one call of the store; whether that was done."""
    reply: bool = yield UpdateBox(key, update, condition)
    return reply


def erase_prefix(prefix: str) -> Op[None]:
    """Remove everything below a prefix."""
    yield ErasePrefix(prefix)


def erase_link(prefix: str) -> Op[bool]:
    """Remove a directory that is a symbolic link, and nothing behind it; False where it is none."""
    reply: bool = yield ErasePrefix(prefix, link_only=True)
    return reply


def list_dir(prefix: str) -> Op[tuple[list[str], list[str]]]:
    """(keys, prefixes) directly below a prefix."""
    reply: tuple[list[str], list[str]] = yield ListDir(prefix)
    return reply


def list_prefix(prefix: str) -> Op[list[str]]:
    """Every key below a prefix."""
    reply: list[str] = yield ListPrefix(prefix)
    return reply


def list_stored(prefix: str, limit: int) -> Op[list[str] | None]:
    """Every key below a prefix that is stored all the time; None where that is not certain, or too many."""
    reply: list[str] | None = yield ListStored(prefix, limit)
    return reply


def locked(keys: Sequence[str], op: Op[T], nested: bool = False, below: str | None = None, *, brief: bool = False) -> Op[T]:
    """Run an operation while keys are locked."""
    reply: T = yield Locked(keys, op, nested, below, brief)
    return reply


def before_change(key: str, op: Op[T]) -> Op[T]:
    """Run an operation that stores what the changed metadata will show."""
    reply: T = yield BeforeChange(key, op)
    return reply


def group_commit(key: str, kind: Hashable, item: Any, lead: Callable[[CommitGroup], Op[None]]) -> Op[None]:
    """Change a key, in one write with the other callers that change it now; the error of this item is raised."""
    yield GroupCommit(key, kind, item, lead, brief=True)


def acknowledge() -> Op[None]:
    """Make durable what was written so far."""
    yield Acknowledge()


def gather_outcomes(ops: Iterable[Op[T]], cost: int, *, brief: bool = False, small: bool = False) -> Op[list[Outcome[T]]]:
    """Run operations side by side; one outcome each. One alone is run where it is asked for."""
    ops = iter(ops)
    head = list(islice(ops, 2))
    if len(head) == 2:
        reply: list[Outcome[T]] = yield All(chain(head, ops), cost, brief, small)
        return reply
    outcomes: list[Outcome[T]] = []
    for op in head:
        try:
            outcomes.append((yield from op))
        except Exception as error:
            outcomes.append(error)
    return outcomes


def gather(ops: Iterable[Op[T]], cost: int) -> Op[list[T]]:
    """Run operations side by side; the first error is raised after all have ended."""
    outcomes = yield from gather_outcomes(ops, cost)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return cast("list[T]", outcomes)


MIN_ADMITTED_BYTES = 1 << 18
"""Operations on chunks of fewer bytes do not ask for memory: asking costs 2 µs."""


def admitted(op: Op[T], cost: int, *, brief: bool = False) -> Op[T]:
    """Run an operation that needs `cost` bytes when they are left."""
    reply: T = yield Admitted(op, cost, brief)
    return reply


def share(place: Hashable, op: Callable[[], Op[T]], *, brief: bool = False) -> Op[tuple[T, bool]]:
    """The result of an operation that several callers want at the same time, and whether it was this caller's own."""
    reply: tuple[T, bool] = yield Share(place, op, brief)
    return reply


def unchanged(key: str, version: Version) -> Op[bool]:
    """Whether an object has this version and no other writer is about to change it."""
    reply: bool = yield CheckUnchanged(key, version)
    return reply


def pause(seconds: float) -> Op[None]:
    """Wait."""
    yield Pause(seconds)


def clock() -> Op[float]:
    """Seconds of the driver's clock."""
    reply: float = yield Clock()
    return reply
