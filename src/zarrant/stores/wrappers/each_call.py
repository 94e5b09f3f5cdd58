"""The base of adapters that do something around each call, whatever the method.

In: any store. Out: the same store, every call of which goes through two hooks: `_perform` (blocking calls) and `_perform_async`
(coroutines), each given the `Call` and a function that makes it. An adapter overrides these two, and may give keys other
names by `_key` and `_below`. `Observed` needs one hook only: it gets the outcome of each call.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from time import perf_counter
from typing import Any, NamedTuple, Self, TypeVar

from zarrant.storage import Blob, Buffer, ByteRange, Hole, OnlyWhile, Part, Version
from zarrant.storage.wrapper import Forwarding

T = TypeVar("T")


class Call(NamedTuple):
    """One call of a store: `ranges` that were read or kept (None: no ranges were given), `nbytes` that were handed over.

    >>> call_of("put", "c/0/0", [b"abc"])
    Call(method='put', key='c/0/0', ranges=None, nbytes=3)
    """

    method: str
    key: str
    ranges: tuple[ByteRange, ...] | None = None
    nbytes: int = 0


def call_of(method: str, key: str, items: Sequence[Part] | None) -> Call:
    """The record of a call; what else it was given (a version, a limit) is not kept."""
    if items is None:
        return Call(method, key)
    ranges = tuple(item for item in items if isinstance(item, ByteRange))
    nbytes = sum(memoryview(item).nbytes for item in items if not isinstance(item, ByteRange | Hole))
    return Call(method, key, ranges or None, nbytes)


def received(reply: object) -> int:
    """The bytes of a reply to a call that reads."""
    return sum(data.nbytes for data in reply.data) if isinstance(reply, Blob) else 0


class EachCall(Forwarding):
    """Does nothing around each call; what follows from it overrides the hooks."""

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        """Make a blocking call."""
        return act()

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        """Await a coroutine of the store inside."""
        return await act()

    def _key(self, key: str) -> str:
        """The key of an object in the store inside."""
        return key

    def _below(self, prefix: str) -> str:
        """A prefix of keys in the store inside."""
        return prefix

    @property
    def _settings(self) -> tuple[Any, ...]:
        """The arguments of the class after the store: what makes it equal to another, and what is pickled."""
        return ()

    def _over(self, store: object) -> Self:
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)  # counts, caches and random numbers are shared by all forms
        view.__dict__.pop("capabilities", None)
        view.store = store
        return view

    # ── calls that read ──────────────────────────────────────────────────────────────────────────────────────────────

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self._perform(Call("get", key), lambda: self._inside.get(self._key(key)))

    def get_within(self, key: str, limit: int) -> Blob | None:
        """See `storage.GetWithin`."""
        return self._perform(Call("get", key), lambda: self._inside.get_within(self._key(key), limit))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        call = Call("get_ranges", key, tuple(ranges))
        return self._perform(call, lambda: self._inside.get_ranges(self._key(key), ranges, if_version))

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        return iter(self._perform(Call("list_prefix", prefix), lambda: list(self._inside.list_prefix(self._below(prefix)))))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        return self._perform(Call("list_dir", prefix), lambda: self._inside.list_dir(self._below(prefix)))

    def version(self, key: str) -> Version:
        """See `storage.Versions`."""
        return self._perform(Call("version", key), lambda: self._inside.version(self._key(key)))

    def is_unchanged(self, key: str, version: Version) -> bool:
        """See `storage.CheckUnlocked`."""
        return self._perform(Call("is_unchanged", key), lambda: self._inside.is_unchanged(self._key(key), version))

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.AsyncGet`."""
        return await self._perform_async(Call("get", key), lambda: self._inside.get_async(self._key(key)))

    async def get_within_async(self, key: str, limit: int) -> Blob | None:
        """See `storage.AsyncGetWithin`."""
        return await self._perform_async(Call("get", key), lambda: self._inside.get_within_async(self._key(key), limit))

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.AsyncGet`."""
        call = Call("get_ranges", key, tuple(ranges))
        return await self._perform_async(call, lambda: self._inside.get_ranges_async(self._key(key), ranges, if_version))

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.AsyncList`."""
        return await self._perform_async(Call("list_prefix", prefix), lambda: self._inside.list_prefix_async(self._below(prefix)))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.AsyncList`."""
        return await self._perform_async(Call("list_dir", prefix), lambda: self._inside.list_dir_async(self._below(prefix)))

    # ── calls that write ─────────────────────────────────────────────────────────────────────────────────────────────

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return self._perform(call_of("put", key, parts), lambda: self._inside.put(self._key(key), parts))

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        call = call_of("put_if", key, parts)
        return self._perform(call, lambda: self._inside.put_if(self._key(key), parts, if_version))

    def put_all(self, items: Sequence[tuple[str, Sequence[Buffer]]]) -> list[Version | Exception]:
        """See `storage.PutAll`."""
        nbytes = sum(call_of("put", key, parts).nbytes for key, parts in items)
        call = Call("put_all", ", ".join(key for key, _ in items), None, nbytes)
        return self._perform(call, lambda: self._inside.put_all([(self._key(key), parts) for key, parts in items]))

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """See `storage.Splice`."""
        call = call_of("splice", key, parts)
        return self._perform(call, lambda: self._inside.splice(self._key(key), parts, if_version))

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        self._perform(Call("erase", key), lambda: self._inside.erase(self._key(key)))

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.EraseIf`."""
        self._perform(Call("erase_if", key), lambda: self._inside.erase_if(self._key(key), if_version))

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        self._perform(Call("erase_prefix", prefix), lambda: self._inside.erase_prefix(self._below(prefix)))

    def erase_link(self, prefix: str) -> bool:
        """See `storage.EraseLink`."""
        return self._perform(Call("erase_link", prefix), lambda: self._inside.erase_link(self._below(prefix)))

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.AsyncPut`."""
        return await self._perform_async(call_of("put", key, parts), lambda: self._inside.put_async(self._key(key), parts))

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.AsyncPutIf`."""
        call = call_of("put_if", key, parts)
        return await self._perform_async(call, lambda: self._inside.put_if_async(self._key(key), parts, if_version))

    async def erase_async(self, key: str) -> None:
        """See `storage.AsyncErase`."""
        await self._perform_async(Call("erase", key), lambda: self._inside.erase_async(self._key(key)))

    async def erase_if_async(self, key: str, if_version: Version) -> None:
        """See `storage.AsyncEraseIf`."""
        await self._perform_async(Call("erase_if", key), lambda: self._inside.erase_if_async(self._key(key), if_version))

    async def erase_prefix_async(self, prefix: str) -> None:
        """See `storage.AsyncErase`."""
        await self._perform_async(Call("erase_prefix", prefix), lambda: self._inside.erase_prefix_async(self._below(prefix)))

    # ── locks, conditions, durability ────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[Self]:
        """See `storage.Lock`."""
        with ExitStack() as stack:
            names = [self._key(key) for key in keys]
            call = Call("lock", ", ".join(keys))
            locked = self._perform(call, lambda: stack.enter_context(self._inside.lock(names)))
            yield self._over(locked)

    @asynccontextmanager
    async def lock_async(self, keys: Sequence[str]) -> AsyncIterator[Self]:
        """See `storage.AsyncLock`."""
        async with AsyncExitStack() as stack:
            names = [self._key(key) for key in keys]
            call = Call("lock", ", ".join(keys))
            locked = await self._perform_async(call, lambda: stack.enter_async_context(self._inside.lock_async(names)))
            yield self._over(locked)

    def is_locked_by_caller(self, key: str) -> bool:
        """See `storage.LockOwner`."""
        return self._inside.is_locked_by_caller(self._key(key))

    def only_while(self, condition: OnlyWhile) -> Self:
        """See `storage.Conditional`."""
        return self._over(self._inside.only_while(condition._replace(key=self._key(condition.key))))

    def commit(self) -> None:
        """See `storage.WriteBatch`."""
        self._perform(Call("commit", ""), super().commit)

    def sync(self) -> None:
        """See `storage.Sync`."""
        self._perform(Call("sync", ""), super().sync)

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and isinstance(other, EachCall) and self._settings == other._settings

    def __hash__(self) -> int:
        return super().__hash__()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, (self.store, *self._settings)))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, *self._settings)


class Observed(EachCall):
    """Called after each call: how long it took, and its reply or its error."""

    @abstractmethod
    def _ended(self, call: Call, seconds: float, reply: object, error: BaseException | None) -> None:
        """Take note of a call."""

    def _perform(self, call: Call, act: Callable[[], T]) -> T:
        start = perf_counter()
        try:
            reply = act()
        except BaseException as error:
            self._ended(call, perf_counter() - start, None, error)
            raise
        self._ended(call, perf_counter() - start, reply, None)
        return reply

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[T]]) -> T:
        start = perf_counter()
        try:
            reply = await act()
        except BaseException as error:
            self._ended(call, perf_counter() - start, None, error)
            raise
        self._ended(call, perf_counter() - start, reply, None)
        return reply
