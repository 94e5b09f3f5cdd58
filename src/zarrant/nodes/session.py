"""Several operations that are one for every other writer: `lock`, `update`, and encoders that hold one chunk open.

While something is held, other writers of the held objects wait, or end with LockTimeout; readers go on and see the objects
as they were last published. A hold on several objects takes them in one order that is the same for all; nothing more can be
taken inside of it (OptionError), because that could wait for one who waits for us.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from zarrant.errors import CapabilityError, MetadataChangedError, NodeNotFoundError, OptionError
from zarrant.geometry.box import ArraySubset, as_subset, check_chunk_indices
from zarrant.locking.local import Asker, asking, given_up
from zarrant.metadata.v3 import Document
from zarrant.nodes.base import READ, UPDATE, Frozen, Place, S
from zarrant.nodes.facts import ArrayFacts
from zarrant.nodes.fresh import checked, known
from zarrant.ops.current import HINT
from zarrant.ops.hierarchy import document_key
from zarrant.ops.session import Encoder, Function, touched_keys, update_subset
from zarrant.ops.state import ArrayState
from zarrant.requests import ANY, OnlyWhile, Op
from zarrant.run.drivers import in_thread
from zarrant.run.holding import hold, on_condition
from zarrant.run.lanes import Lane
from zarrant.run.pool import available_memory
from zarrant.storage import ReadableWritable, capabilities

A = TypeVar("A", bound=ArrayFacts[ReadableWritable])
H = TypeVar("H", bound=ArrayFacts[Any])


class Sessions(ArrayFacts[S]):
    """What `Array` can do under a hold."""

    def update(self: ArrayFacts[ReadableWritable], subset: Any, fn: Function) -> None:
        """See `ops.session.update_subset`."""
        self._place.run(_update(self, subset, fn), UPDATE)

    def lock(self: A, subset: Any) -> AbstractContextManager[A]:
        """Hold every stored object that a region touches; the value is the array to use inside.

        LockTimeout with none of them held. On file systems each object is an open lock file for as long as the block lasts.

        >>> import numpy as np, zarrant
        >>> a = zarrant.create_array({}, shape=(8,), dtype="int32", chunks=(4,))
        >>> with a.lock(np.s_[0:8]) as held:
        ...     held[0:4], held[4:8] = 1 - held[4:8], 2
        """
        return _held(self, self._place.run(checked(self, touched_keys, subset), READ))

    def partial_encoder(self: ArrayFacts[ReadableWritable], chunk: Sequence[int]) -> PartialEncoder:
        """Hold one chunk open for many changes that are published together; see `PartialEncoder`."""
        self._place.run(checked(self, _chunk, chunk), READ)
        return PartialEncoder(self._place, _encoder(self, chunk))


class AsyncSessions(ArrayFacts[S]):
    """`Sessions` with coroutines."""

    async def update(self: ArrayFacts[ReadableWritable], subset: Any, fn: Function) -> None:
        """See `ops.session.update_subset`; `fn` is a plain function, called in worker threads."""
        await self._place.run_async(_update(self, subset, fn), UPDATE)

    def lock(self: A, subset: Any) -> AbstractAsyncContextManager[A]:
        """Hold every stored object that a region touches; the value is the array to use inside."""
        return _held_async(self, subset)

    def partial_encoder(self: ArrayFacts[ReadableWritable], chunk: Sequence[int]) -> AsyncPartialEncoder:
        """Hold one chunk open for many changes that are published together; see `AsyncPartialEncoder`."""
        known(self, _chunk, chunk)
        return AsyncPartialEncoder(self._place, _encoder(self, chunk))


class EncoderFacts(Frozen):
    """What both encoders share."""

    def __init__(self, place: Place, encoder: Encoder) -> None:
        self._place, self._encoder = place, encoder
        self._held: Place | None = None

    @property
    def chunk(self) -> tuple[int, ...]:
        """The indices of the chunk."""
        return self._encoder.chunk

    @property
    def nbytes_pending(self) -> int:
        """Bytes in memory that are not published yet."""
        return self._encoder.nbytes

    @property
    def _encoded(self) -> tuple[Place, Document, list[str]]:
        """What is locked."""
        return self._place, self._encoder.state.document, [self._encoder.key]

    @property
    def _open(self) -> Place:
        if self._held is None:
            raise OptionError("the encoder is not open", chunk=self.chunk, hint="Use it as a context manager: with ... as encoder")
        return self._held

    def __repr__(self) -> str:
        return f"<{type(self).__name__} chunk={self.chunk} of {self._place.url}>"


class PartialEncoder(EncoderFacts):
    """One chunk, held open for many changes. They are published together, at `flush()` and when the block ends.

    Inside the block other writers of the chunk wait, and readers see the old object. A block that ends with an exception
    publishes nothing (but what was flushed); nor does a process that is killed. More changes than the option `memory_limit`
    has room for are flushed early, without letting go of the chunk. Threads may share it.

    >>> import numpy as np, zarrant
    >>> a = zarrant.create_array({}, shape=(64, 64), dtype="uint8", chunks=(8, 8), shards=(64, 64))
    >>> with a.partial_encoder((0, 0)) as encoder:
    ...     for i in range(64):
    ...         encoder.store(np.s_[i : i + 1, 0:i], i)
    ...     int(a[2, 1])
    0
    >>> int(a[2, 1])
    2
    """

    def __init__(self, place: Place, encoder: Encoder) -> None:
        super().__init__(place, encoder)
        self._turn = threading.RLock()
        self._stack = ExitStack()

    def store(self, subset: Any, data: Any) -> None:
        """See `ops.session.Encoder.store`."""
        with self._turn:
            self._open.run(self._encoder.store(subset, data), UPDATE)

    def erase(self) -> None:
        """See `ops.session.Encoder.erase`."""
        with self._turn:
            self._open.run(self._encoder.erase(), UPDATE)

    def flush(self) -> None:
        """Publish what was stored since the last time; the chunk stays held."""
        with self._turn:
            self._open.run(self._encoder.flush(), UPDATE)

    def __enter__(self) -> PartialEncoder:
        _not_twice(self)
        with ExitStack() as stack:
            self._held = stack.enter_context(_hold(*self._encoded, needed=False))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack, self._turn:
            try:
                if kind is None:
                    self.flush()
            finally:
                self._held = None
                self._encoder.discard()


class AsyncPartialEncoder(EncoderFacts):
    """`PartialEncoder` with coroutines: `async with a.partial_encoder(chunk) as encoder`.

    On a store that can only compare and swap, other writers do not wait: what they wrote meanwhile is merged at `flush()`.
    """

    def __init__(self, place: Place, encoder: Encoder) -> None:
        super().__init__(place, encoder)
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def store(self, subset: Any, data: Any) -> None:
        """See `ops.session.Encoder.store`."""
        async with self._turn:
            await self._open.run_async(self._encoder.store(subset, data), UPDATE)

    async def erase(self) -> None:
        """See `ops.session.Encoder.erase`."""
        async with self._turn:
            await self._open.run_async(self._encoder.erase(), UPDATE)

    async def flush(self) -> None:
        """Publish what was stored since the last time; the chunk stays held."""
        async with self._turn:
            await self._open.run_async(self._encoder.flush(), UPDATE)

    async def __aenter__(self) -> AsyncPartialEncoder:
        _not_twice(self)
        async with AsyncExitStack() as stack:
            self._held = await stack.enter_async_context(_hold_async(*self._encoded, needed=False))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        async with self._stack:
            try:
                if kind is None:
                    await self.flush()
            finally:
                self._held = None
                self._encoder.discard()


def _update(array: ArrayFacts[Any], subset: Any, fn: Function) -> Op[None]:
    """The region first: what `fn` raises starts nothing again."""
    region = yield from checked(array, _region, subset)
    yield from update_subset(array._state, region, fn)


def _chunk(state: ArrayState, chunk: Sequence[int]) -> tuple[int, ...]:
    return check_chunk_indices(chunk, state.grid.grid_shape)


def _region(state: ArrayState, subset: Any) -> ArraySubset:
    return as_subset(subset, state.shape)


def _encoder(array: ArrayFacts[Any], chunk: Sequence[int]) -> Encoder:
    return Encoder(array._state, chunk, array._place.config.memory_limit or available_memory() // 4)


def _not_twice(encoder: EncoderFacts) -> None:
    if encoder._held is not None:
        raise OptionError("the encoder is open already", chunk=encoder.chunk)


@contextmanager
def _held(array: A, keys: Sequence[str]) -> Iterator[A]:
    with _hold(array._place, array.metadata, keys) as place:
        yield type(array)(place, array.metadata)


@asynccontextmanager
async def _held_async(array: A, subset: Any) -> AsyncIterator[A]:
    keys = await array._place.run_async(checked(array, touched_keys, subset), READ)
    async with _hold_async(array._place, array.metadata, keys) as place:
        yield type(array)(place, array.metadata)


@contextmanager
def lock_together(place: Place, group: Document, arrays: Mapping[str, H], subsets: Mapping[str, Any]) -> Iterator[dict[str, H]]:
    """Lock every stored object that regions of several arrays of one store touch; the value are the arrays to use inside."""
    keys = {key for name, array in arrays.items() for key in touched_keys(array._state, subsets[name])}
    with _hold(place, group, sorted(keys)) as held:
        yield {name: type(array)(replace(array._place, store=held.store), array.metadata) for name, array in arrays.items()}


@asynccontextmanager
async def lock_together_async(
    place: Place, group: Document, opened: Awaitable[Mapping[str, H]], subsets: Mapping[str, Any]
) -> AsyncIterator[dict[str, H]]:
    """`lock_together` of arrays that are still to be opened."""
    arrays = await opened
    keys = {key for name, array in arrays.items() for key in touched_keys(array._state, subsets[name])}
    async with _hold_async(place, group, sorted(keys)) as held:
        yield {
            name: type(array)(replace(array._place, store=held.store, executor=held.executor), array.metadata)
            for name, array in arrays.items()
        }


def _check(place: Place, needed: bool) -> None:
    place.require(UPDATE)
    if needed and not place.guarded:
        raise CapabilityError("nothing to lock with: the array was opened with synchronizer=None", store=place.url)


@contextmanager
def _locked(place: Place, document: Document, keys: Sequence[str]) -> Iterator[Any]:
    """The store while the keys are locked; NodeNotFoundError where the array is gone, and nothing is made for the locks."""
    key = document_key(place.path, document)
    with ExitStack() as stack:
        try:
            store = on_condition(OnlyWhile(key, ANY), place.store)
            held = stack.enter_context(hold(keys, store, place.config.lock_timeout))
        except MetadataChangedError as error:
            raise NodeNotFoundError("the array was removed or moved", key=key, path=place.path or "/", hint=HINT) from error
        yield held


@contextmanager
def _hold(place: Place, document: Document, keys: Sequence[str], needed: bool = True) -> Iterator[Place]:
    """The same place under a hold; as it is where no hold is needed and updates are unguarded."""
    _check(place, needed)
    if capabilities(place.store).native_async:
        raise CapabilityError("this store is async only", store=repr(place.store), hint="Use AsyncArray")
    if not place.guarded:
        yield place
        return
    with _locked(place, document, keys) as store:
        yield replace(place, store=store)


@asynccontextmanager
async def _hold_async(place: Place, document: Document, keys: Sequence[str], needed: bool = True) -> AsyncIterator[Place]:
    """`_hold`, waiting in a thread of its own. A store that can only compare and swap is not held where that will do."""
    _check(place, needed)
    if place.guarded and hasattr(place.store, "hold_async"):
        async with place.store.hold_async(keys) as store:
            yield replace(place, store=store)
    elif place.guarded and not capabilities(place.store).native_async:
        async with _threaded(place, document, keys) as held:
            yield held
    elif needed:
        raise CapabilityError("the store cannot keep other writers out", store=repr(place.store), expected="hold_async")
    else:
        yield place


@asynccontextmanager
async def _threaded(place: Place, document: Document, keys: Sequence[str]) -> AsyncIterator[Place]:
    cancelled, stack, asker = threading.Event(), ExitStack(), Asker(asyncio.current_task())

    def enter() -> Any:
        token, before = given_up.set(cancelled.is_set), asking.set(asker)
        try:
            return stack.enter_context(_locked(place, document, keys))
        finally:
            given_up.reset(token)
            asking.reset(before)

    with Lane() as lane:
        try:
            store = await in_thread(enter, cancelled, lane.executor)
            yield replace(place, store=store, executor=lane.executor)
        finally:
            # Also where the wait was cancelled in the moment in which it ended.
            await in_thread(stack.close, None, lane.executor)
