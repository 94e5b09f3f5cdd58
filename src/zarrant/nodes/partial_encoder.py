"""Partial encoders: one chunk that is locked, changed many times and written once, from threads or an event loop."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any

from zarrant.config import given
from zarrant.errors import OptionError
from zarrant.nodes.array_properties import ArrayProperties, handle_of
from zarrant.nodes.base import UPDATE, Frozen, NodeContext, context_of
from zarrant.nodes.locks import locked, locked_async
from zarrant.ops.partial_encoder import Encoder
from zarrant.run.pool import available_memory


class EncoderProperties(Frozen):
    """What both encoders share."""

    def __init__(self, context: NodeContext, encoder: Encoder) -> None:
        self._context, self._encoder = context, encoder
        self._locked: NodeContext | None = None

    @property
    def chunk(self) -> tuple[int, ...]:
        """The indices of the chunk."""
        return self._encoder.chunk

    @property
    def nbytes_pending(self) -> int:
        """Bytes in memory that are not published yet."""
        return self._encoder.nbytes

    @property
    def _open(self) -> NodeContext:
        if self._locked is None:
            raise OptionError("the encoder is not open", chunk=self.chunk, hint="Use it as a context manager: with ... as encoder")
        return self._locked

    def __repr__(self) -> str:
        return f"<{type(self).__name__} chunk={self.chunk} of {self._context.url}>"


class PartialEncoder(EncoderProperties):
    """One chunk, locked for many changes. They are stored together, at `flush()` and when the block ends.

    Inside the block other writers of the chunk wait, and readers see the old object. A block that ends with an exception
    stores nothing (but what was flushed); nor does a process that is killed. More changes than the option `memory_limit`
    has room for are flushed early, without giving back the lock. Threads may share it.

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

    def __init__(self, context: NodeContext, encoder: Encoder) -> None:
        super().__init__(context, encoder)
        self._turn = threading.RLock()
        self._stack = ExitStack()

    def store(self, subset: Any, data: Any) -> None:
        """Store a part of the chunk. Nothing is written until `flush()` or the end of the block; the data are copied.

        Args:
            subset: a region in coordinates of the chunk, as `np.s_[0:2, 3:]`. It may reach into what lies beyond the array's
                edge.
            data: what NumPy can view as an array, of the region's shape or what broadcasts to it.

        Raises:
            OptionError: the encoder is not open.
            BoundsError: the region reaches beyond the chunk.
            ShapeError: the data have another shape.
            DataTypeError: the data type cannot hold the values.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> with a.partial_encoder((0, 0)) as encoder:
        ...     encoder.store(np.s_[0, :], 1)
        ...     encoder.store(np.s_[:, 0], 2)
        >>> a[0, :4].tolist()
        [2, 1, 1, 1]
        """
        with self._turn:
            self._open.run(self._encoder.store(subset, data), UPDATE)

    def erase(self) -> None:
        """Make every element of the chunk the fill value: it is erased, unless something is stored after this.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> a[...] = 1
        >>> with a.partial_encoder((0, 0)) as encoder:
        ...     encoder.erase()
        >>> int(a[...].sum())
        48
        """
        with self._turn:
            self._open.run(self._encoder.erase(), UPDATE)

    def flush(self) -> None:
        """Write what was stored and erased since the last time, as one new object; the chunk stays locked.

        Raises:
            OptionError: the encoder is not open.
            ChunkError: what is stored cannot be decoded. It stays as it was.
            StoreError: the store could not write it.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> with a.partial_encoder((0, 0)) as encoder:
        ...     encoder.store(np.s_[0, 0], 1)
        ...     encoder.flush()
        ...     int(a[0, 0])
        1
        """
        with self._turn:
            self._open.run(self._encoder.flush(), UPDATE)

    def __enter__(self) -> PartialEncoder:
        _not_twice(self)
        with ExitStack() as stack:
            self._locked = stack.enter_context(
                locked(self._context, self._encoder.array.metadata, [self._encoder.key], needed=False)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._stack, self._turn:
            try:
                if kind is None:
                    self.flush()
            finally:
                self._locked = None
                self._encoder.discard()


class AsyncPartialEncoder(EncoderProperties):
    """`PartialEncoder` with coroutines: `async with a.partial_encoder(chunk) as encoder`.

    On a store that can only compare and swap, other writers do not wait: what they wrote meanwhile is merged at `flush()`.
    """

    def __init__(self, context: NodeContext, encoder: Encoder) -> None:
        import asyncio  # takes 20 ms, which is there by now

        super().__init__(context, encoder)
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def store(self, subset: Any, data: Any) -> None:
        """See `PartialEncoder.store`."""
        async with self._turn:
            await self._open.run_async(self._encoder.store(subset, data), UPDATE)

    async def erase(self) -> None:
        """See `PartialEncoder.erase`."""
        async with self._turn:
            await self._open.run_async(self._encoder.erase(), UPDATE)

    async def flush(self) -> None:
        """See `PartialEncoder.flush`."""
        async with self._turn:
            await self._open.run_async(self._encoder.flush(), UPDATE)

    async def __aenter__(self) -> AsyncPartialEncoder:
        _not_twice(self)
        async with AsyncExitStack() as stack:
            context = locked_async(self._context, self._encoder.array.metadata, [self._encoder.key], needed=False)
            self._locked = await stack.enter_async_context(context)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        async with self._stack:
            try:
                if kind is None:
                    await self.flush()
            finally:
                self._locked = None
                self._encoder.discard()


def encoder_of(array: ArrayProperties[Any], chunk: Sequence[int]) -> Encoder:
    """The operations of an encoder for one chunk of an array, in the memory that its options allow."""
    return Encoder(handle_of(array).array, chunk, given(context_of(array).config.memory_limit) or available_memory() // 4)


def _not_twice(encoder: EncoderProperties) -> None:
    if encoder._locked is not None:
        raise OptionError("the encoder is open already", chunk=encoder.chunk)
