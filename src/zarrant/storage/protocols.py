"""What a store can do: one protocol a method.

A caller asks for the smallest set it uses (`Get`, not "a store"); a store satisfies a protocol by having its methods. What a
store turns out to have at run time is said by `capabilities`. Keys are relative, `/`-separated, without empty, `.` or `..`
parts. Every method of one key is atomic for its readers: they see the old object or the new one. A version is an opaque value:
equal versions mean equal bytes; None stands for "no object".
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeAlias

from zarrant.errors import MetadataChangedError, VersionChangedError

Buffer: TypeAlias = bytes | bytearray | memoryview
Version: TypeAlias = Hashable


class AnyVersion(Enum):
    """Its only member, `ANY`, as `if_version` of a write: replace whatever is there."""

    ANY = "any version"


ANY = AnyVersion.ANY


class ByteRange(NamedTuple):
    """`length` bytes from `start` (None: to the end); a negative `start` counts from the end of the object."""

    start: int
    length: int | None = None

    @classmethod
    def suffix(cls, length: int) -> ByteRange:
        """The last `length` bytes."""
        return cls(-length, None)

    def resolve(self, size: int) -> tuple[int, int]:
        """(start, stop) within an object of `size` bytes; ValueError where it does not fit."""
        start = self.start + size if self.start < 0 else self.start
        stop = size if self.length is None else start + self.length
        if not 0 <= start <= stop <= size:
            raise ValueError(f"byte range {self} does not fit an object of {size} bytes")
        return start, stop


class Blob(NamedTuple):
    """One reply of a read: a buffer per range (or one of the whole object), the object's version and its full size."""

    data: tuple[memoryview, ...]
    version: Version
    size: int


class Hole(NamedTuple):
    """`length` bytes of a new object that are never read. The store may put anything there; best is what takes no space."""

    length: int


Part: TypeAlias = Buffer | ByteRange | Hole
"""A piece of a new object: bytes, a range of the object it replaces, or bytes that do not matter.

To a store that says `strided_parts`, bytes may be a view of an array that is not contiguous: its elements in C order.
"""


def filled(part: Buffer | Hole) -> Buffer:
    """The bytes of a part that is no range, for stores that have no holes."""
    return bytes(part.length) if isinstance(part, Hole) else part


def expect_version(found: Version, if_version: Version, store: str | None = None, key: str | None = None) -> None:
    """VersionChangedError unless the version found is the one that the caller asked for (None: no object)."""
    if if_version is not ANY and found != if_version:
        got = "no object" if found is None else found
        raise VersionChangedError("the object was replaced", store=store, key=key, expected=if_version, got=got)


def is_lasting(version: Version) -> bool:
    """Whether an object of this version has the same bytes for good, so that a reader may keep some of them.

    A version that says so has an attribute `lasting`. Others are of use only until an object could have been replaced twice
    within the resolution of a clock.
    """
    return bool(getattr(version, "lasting", False))


def is_unique(version: Version) -> bool:
    """Whether no other object ever has this version, so that who read the object may replace it by compare-and-swap alone.

    One for good is that, and one that says so by an attribute `unique`: an object that this process has stored.
    """
    return is_lasting(version) or bool(getattr(version, "unique", False))


class OnlyWhile(NamedTuple):
    """A condition: the object of `key` (a node's metadata) is of this version; with ANY, there is one.

    `unlocked`: and no writer has locked it, so that none is about to change it. Where that is not known, the condition fails.
    """

    key: str
    version: Version
    unlocked: bool = False

    def check(self, found: Version, locked: bool = True) -> None:
        """MetadataChangedError unless the version found (None: no object) is the one wanted; `locked` is asked for before it."""
        if found is None or (self.version is not ANY and found != self.version):
            got = "no object" if found is None else found
            raise MetadataChangedError("the node was changed or removed", key=self.key, expected=self.version, got=got)
        if self.unlocked and locked:  # safety: unlocked
            raise MetadataChangedError("the node may be about to be changed", key=self.key)


class Get(Protocol):
    """Read whole objects, and ranges of one version of an object."""

    def get(self, key: str) -> Blob | None:
        """The whole object, or None where there is none."""
        ...

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """Several ranges of one version of the object, in the order asked; None where there is no object.

        ByteRangeError if a range reaches past the end; VersionChangedError if `if_version` is given and is no longer
        the object's version (an absent object counts as changed).
        """
        ...


class GetWithin(Protocol):
    """Read a whole object only if it is not too large; for stores that know the size of an object before they read it."""

    def get_within(self, key: str, limit: int) -> Blob | None:
        """Like `get`; LimitError, with nothing read, for an object of more than `limit` bytes."""
        ...


class Put(Protocol):
    """Replace whole objects, atomically."""

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """Store the concatenation of `parts`, whatever was there."""
        ...


class PutIf(Protocol):
    """Compare and swap."""

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """Store only if the current version is `if_version` (None: only if absent); else VersionChangedError."""
        ...


class EraseIf(Protocol):
    """Erase what nobody changed; many object stores have `PutIf` alone."""

    def erase_if(self, key: str, if_version: Version) -> None:
        """Erase only if the current version is `if_version`; else VersionChangedError."""
        ...


class Splice(Protocol):
    """Assemble a new object from new bytes and ranges of the object it replaces, without moving those through the caller."""

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """Like `put_if`, where a ByteRange part stands for those bytes of the current object (start, length given).

        A Hole part stands for bytes that do not matter: zeros, or what the store has at hand.
        """
        ...


class Erase(Protocol):
    """Remove objects."""

    def erase(self, key: str) -> None:
        """Remove one object; succeed if it is absent."""
        ...

    def erase_prefix(self, prefix: str) -> None:
        """Remove every object below `prefix` ("" or ending with "/")."""
        ...


class List(Protocol):
    """See which objects there are."""

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """Every key below `prefix`, sorted."""
        ...

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """(keys, prefixes) directly below `prefix`, each sorted; prefixes end with "/"."""
        ...


class Lock(Protocol):
    """Locks on keys, against every other writer of the store."""

    def lock(self, keys: Sequence[str]) -> AbstractContextManager[ReadableWritable]:
        """A context manager whose value is a store on which these keys are read and written under the lock.

        Keys are locked in sorted order. LockTimeout after the store's deadline, with none of them locked.
        """
        ...


class Sync(Protocol):
    """Make what was written last through a loss of power."""

    @property
    def durability(self) -> str:
        """ "fsync": what was written is on disk when the call returns; "rename": at the next `sync`."""
        ...

    def sync(self) -> None:
        """Everything this process wrote to the store so far is on disk when this returns; StoreError where it may not be.

        By whatever handle of the process, and under whatever name of the place. What could not be synced stays in doubt for
        every later call, until it is written again.
        """
        ...


class CheckUnlocked(Protocol):
    """Say whether an object is about to change, without reading it; for stores with `Lock`."""

    def is_unchanged(self, key: str, version: Version) -> bool:
        """Whether no writer has locked the key and the object has this version; the lock is looked at first."""
        ...


class LockOwner(Protocol):
    """Say whether the caller has a lock already, so that it must not wait for it; for stores with `Lock`."""

    def is_locked_by_caller(self, key: str) -> bool:
        """Whether the thread or task that asks has the lock of a key, through another handle."""
        ...


class WriteBatch(Protocol):
    """Acknowledge many writes at once, which costs less than each by itself."""

    def write_batch(self) -> AbstractContextManager[Writable]:
        """A context manager whose value is the store; what is written through it counts as acknowledged when the block ends.

        Each object is whole and visible at once, as ever; with `durability="fsync"` all of them are on disk when the block
        ends without an error. After a loss of power within the block any of them may be old or new, whatever their order.
        StoreError at the end where some may not be on disk. Any number of threads may write inside; a block inside a block
        belongs to the outer one.
        """
        ...

    def commit(self) -> None:
        """What was written in the block so far is on disk when this returns: before another caller's write is acknowledged."""
        ...


class Versions(Protocol):
    """The version of an object, without reading it."""

    def version(self, key: str) -> Version:
        """The version of an object, None where there is none."""
        ...


class Conditional(Protocol):
    """Store objects on condition that another object, the metadata of their node, did not change."""

    def only_while(self, condition: OnlyWhile) -> Writable:
        """The store, on which an object is stored or erased only while a condition holds.

        MetadataChangedError where it does not, looked at when the writes of the stored object are locked; nothing was stored then.
        Places (directories) for objects and locks are made only while the object of the condition is there.
        """
        ...


class GetAll(Protocol):
    """Read many whole objects with one call, which costs less than one for each."""

    def get_all(self, keys: Sequence[str], limit: int | None) -> list[Blob | Exception | None]:
        """For each what `get_within` gives (`get` where there is no limit), or its error."""
        ...


class GetInto(Protocol):
    """Read a whole object to where its bytes are needed."""

    def get_into(self, key: str, into: memoryview, limit: int | None) -> Blob | None:
        """Like `get_within`. Where the object has as many bytes as the array `into`, they may be put there: then the blob is empty.

        The array need not be contiguous; it gets the bytes in C order. After any other outcome its content means nothing.
        """
        ...


ShareWork: TypeAlias = Callable[[Callable[[], None], int], None]
"""Calls a function in up to so many threads at once."""


class FileDecoder(Protocol):
    """Decodes whole files while they are read: see `kernels.compiled.BoxDecoder`."""

    def reader(self, paths: list[str], limit: int, kind: Callable[[int], str]) -> Any:
        """What reads these files. `kind`: what `Syscalls.kind` says of a device."""
        ...

    def threads(self, rows: int) -> int:
        """How many threads are of use for so many files."""
        ...

    @property
    def whole(self) -> bool:
        """Whether whole files are decoded, so that one that was not is read whole."""
        ...


class GetDecoded(Protocol):
    """Read many whole objects, and decode them as they are read."""

    def get_decoded(
        self, keys: Sequence[str], limit: int | None, decoder: FileDecoder, share: ShareWork
    ) -> list[Blob | Exception | None]:
        """Like `get_all`. The blob of what was decoded is empty; those of other objects have all bytes, and are left to the caller.

        A decoder of parts of objects finds by itself which version these have: None for an object that it did not decode.

        `share(work, n)` calls a function in up to n threads at once.
        """
        ...


class PutAll(Protocol):
    """Store many whole objects with one call, which costs less where each must last."""

    def put_all(self, items: Sequence[tuple[str, Sequence[Buffer]]]) -> list[Version | Exception]:
        """Store each object, whatever is there; for each its version or its error."""
        ...


class PutsFirst(Protocol):
    """Store the first object of a directory with one call, which costs less than a lock, looks, a listing and a write."""

    def put_first(self, key: str, parts: Sequence[Part], absent: tuple[str, ...]) -> Version:
        """Store an object where there is nothing at all beside it, under its lock; its version, or None where that was not done.

        `absent`: names of objects that are looked for one by one, as a listing may miss what is replaced meanwhile. None: nothing
        was stored. What is not usual is left to who can say what is wrong.
        """
        ...


class UpdatesBoxes(Protocol):
    """Replace a box of a chunk with one call, which costs less than a read, a lock and a write."""

    @property
    def updates_boxes(self) -> bool:
        """Whether it can be done at all."""
        ...

    def update_box(self, key: str, update: Any, condition: OnlyWhile | None) -> bool:
        """Do so under the lock of the object, if the condition holds; whether it was done. `update`: `codecs.box_update`.

        False: nothing was done. What is not usual is left to who can say what is wrong.
        """
        ...


class ListStored(Protocol):
    """A listing from which may be concluded what is not stored."""

    def list_stored(self, prefix: str, limit: int) -> list[str] | None:
        """Every key below a prefix that is stored all the time, also where it is replaced meanwhile.

        None where that is not certain, or where there are more than `limit`.
        """
        ...


class EraseLink(Protocol):
    """Symbolic links; for stores on directories."""

    def erase_link(self, prefix: str) -> bool:
        """Remove a directory that is a link, and nothing behind it; False where it is none."""
        ...


class WithOptions(Protocol):
    """Options that a handle can change."""

    def with_options(self, **options: Any) -> object:
        """The same store under other options."""
        ...


class Coalesce(Protocol):
    """Reading ranges together that are near each other, by a gap that a handle can change."""

    def with_coalesce_gap(self, gap: int) -> object:
        """The same store, which reads ranges with at most `gap` bytes between them by one request."""
        ...


class LockCheck(Protocol):
    """Locks that can end by themselves, as the leases of a service do."""

    def check(self) -> None:
        """LockLostError unless the keys are still locked. Asked right before each write, so that a paused owner stores nothing."""
        ...


class Synchronizer(Protocol):
    """A guard of writes from outside the store (a lock service): what `synchronizer=` takes.

    Every writer of the store must use one of the same effect. Keys are those of the store, so make one for each store. Where a
    lock can end by itself, the value of the context manager is a `LockCheck`.
    """

    def lock(self, keys: Sequence[str], timeout: float) -> AbstractContextManager[Any]:
        """Keep every other writer of `keys` out while the block runs, those of other threads too.

        Take the keys in the order given (it is sorted) or all at once. After `timeout` seconds raise an error (LockTimeout
        is best) with none of them locked.
        """
        ...


class Readable(Get, Protocol):
    """A store an operation that reads needs."""


class Writable(Put, Erase, Protocol):
    """A store a write-only operation needs."""


class ReadableWritable(Get, Put, Erase, Protocol):
    """A store an operation that reads and writes needs."""


class AsyncGet(Protocol):
    """`Get`, as coroutines."""

    async def get_async(self, key: str) -> Blob | None: ...

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None: ...


class AsyncGetWithin(Protocol):
    """`GetWithin`, as a coroutine."""

    async def get_within_async(self, key: str, limit: int) -> Blob | None: ...


class AsyncPut(Protocol):
    """`Put`, as coroutines."""

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version: ...


class AsyncPutIf(Protocol):
    """`PutIf`, as a coroutine."""

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version: ...


class AsyncEraseIf(Protocol):
    """`EraseIf`, as a coroutine."""

    async def erase_if_async(self, key: str, if_version: Version) -> None: ...


class AsyncErase(Protocol):
    """`Erase`, as coroutines."""

    async def erase_async(self, key: str) -> None: ...

    async def erase_prefix_async(self, prefix: str) -> None: ...


class AsyncList(Protocol):
    """`List`, as coroutines."""

    async def list_prefix_async(self, prefix: str) -> list[str]: ...

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]: ...


class AsyncLock(Protocol):
    """`Lock`, as a coroutine context manager."""

    def lock_async(self, keys: Sequence[str]) -> AbstractAsyncContextManager[AsyncReadableWritable]: ...


class AsyncReadableWritable(AsyncGet, AsyncPut, AsyncErase, Protocol):
    """`ReadableWritable`, as coroutines."""


class BlockingStore(
    ReadableWritable, GetWithin, PutIf, EraseIf, Splice, List, Lock, Sync, CheckUnlocked, LockOwner, WriteBatch, Versions,
    Conditional, GetAll, GetInto, GetDecoded, PutAll, ListStored, EraseLink, WithOptions, Coalesce, Protocol,
):  # fmt: skip
    """All that a store may have as blocking calls."""


class Store(BlockingStore, AsyncReadableWritable, AsyncGetWithin, AsyncPutIf, AsyncEraseIf, AsyncList, AsyncLock, Protocol):
    """All that a store may have: how drivers and wrappers see any store. Which of it a store has is said by `capabilities`."""

    def only_while(self, condition: OnlyWhile) -> Store:
        """See `Conditional`."""
        ...

    def update_box(self, key: str, update: Any, condition: OnlyWhile | None) -> bool:
        """See `UpdatesBoxes`."""
        ...

    def put_first(self, key: str, parts: Sequence[Part], absent: tuple[str, ...]) -> Version:
        """See `PutsFirst`."""
        ...
