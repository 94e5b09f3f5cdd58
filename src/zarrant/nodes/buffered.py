"""Buffered writers and appenders: the face of `ops.buffered` and `ops.appending`, from threads or an event loop."""

from __future__ import annotations

import os
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from zarrant.config import given
from zarrant.errors import CapabilityError, ZarrantWarning
from zarrant.nodes.array_properties import ArrayProperties, handle_of
from zarrant.nodes.base import GROW, UPDATE, Frozen, context_of
from zarrant.ops.appending import AppendBuffers, Appended, Block
from zarrant.ops.buffered import ChunkBuffers, PendingChunk, Piece, Plan, plan
from zarrant.ops.resize import check_axis
from zarrant.requests import Op
from zarrant.run.buffered import BackgroundWriter, Work
from zarrant.run.pool import available_memory

if TYPE_CHECKING:
    from zarrant.run.buffered_async import BackgroundTasks


class BufferProperties(Frozen):
    """What all buffers share."""

    _writer: BackgroundWriter | BackgroundTasks

    def __init__(self, array: ArrayProperties[Any], memory_limit: int | str | None) -> None:
        context = context_of(array)
        if memory_limit is not None:
            context = context.with_config(memory_limit=memory_limit)
        self._context, self._handle = context, handle_of(array)

    @property
    def nbytes_pending(self) -> int:
        """Bytes in memory that are not stored yet."""
        return self._writer.work.nbytes_pending

    @property
    def memory_limit(self) -> int:
        """Bytes that are used at most: for values in memory, and for the copies of them that storing needs."""
        return given(self._context.config.memory_limit) or available_memory() // 4

    @property
    def closed(self) -> bool:
        """Whether the buffer was closed."""
        return self._writer.state.closed

    def __reduce__(self) -> Any:
        hint = "Pickle the array, and open a buffer in each process"
        raise CapabilityError("a buffer belongs to its process: it cannot be pickled or copied", got=type(self).__name__, hint=hint)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._context.url}, {self.nbytes_pending} bytes pending>"


class _Buffer(BufferProperties):
    """What buffers of threads share."""

    _writer: BackgroundWriter

    def _open(self, work: Work[Any], needs: tuple[str, ...], threads: int) -> None:
        self._context.require_blocking()
        self._context.require(needs, self._context.able.sync_calls)
        in_step = self._context.in_step if needs is GROW else _as_it_is
        context = self._context
        self._writer = BackgroundWriter(work, lambda op: context.run(in_step(op), needs), threads, _Unstored(context.url))

    def flush(self) -> None:
        """Return when everything that was written before is stored, as durable as each write of the array.

        Raises:
            OptionError: the buffer is closed, or of another process.
            ZarrantError: the first error of what was stored in the background. It names its chunk.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> with a.buffered() as w:
        ...     w[0, 0] = 7
        ...     w.flush()
        ...     int(a[0, 0])
        7
        """
        self._writer.flush()

    def close(self) -> None:
        """`flush()`, and take no more writes. A second call does nothing.

        Raises:
            ZarrantError: the first error of what was stored in the background.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> w = a.buffered()
        >>> w[0, 0] = 7
        >>> w.close()
        >>> int(a[0, 0])
        7
        """
        self._writer.close()

    def __enter__(self) -> Self:
        self._writer.state.check()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and error.__cause__ is self._writer.state.error is not None:
            self._writer.abandon()  # the body has learnt what happened
        else:
            self.close()


class BufferedWriter(_Buffer):
    """Writes into memory; each chunk (stored object) is stored in the background when it is complete, else at the end.

    Any thread may write. See `Array.buffered`.

    >>> import numpy as np, zarrant
    >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(4, 3))
    >>> with a.buffered(memory_limit="64 MiB") as w:
    ...     for i in range(4):
    ...         w[i] = i
    >>> a[:, 0].tolist()
    [0, 1, 2, 3]
    """

    def __init__(self, array: ArrayProperties[Any], memory_limit: int | str | None = None) -> None:
        super().__init__(array, memory_limit)
        self._chunks = ChunkBuffers(self.memory_limit)
        self._open(self._chunks, UPDATE, self._context.threads)

    def store_array_subset(self, subset: Any, data: Any) -> None:
        """`w[subset] = data`, with the name of `Array.store_array_subset`.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> with a.buffered() as w:
        ...     w.store_array_subset(np.s_[1:3, 0:4], 1)
        >>> int(a[...].sum())
        8
        """
        self[subset] = data

    def __setitem__(self, selection: Any, data: Any) -> None:
        """Write `data` at `selection`, as `a[selection] = data` does; the caller may change the data afterwards.

        Waits where the memory limit is reached, until something is stored.

        Raises:
            OptionError: the buffer is closed, or of another process.
            BoundsError, SelectionError, ShapeError, DataTypeError: as of the array. Nothing of this write is kept.
            ZarrantError: the first error of what was stored in the background. It names its chunk.
        """
        self._writer.state.check()
        planned = self._context.run(plan(self._handle, selection, data), UPDATE)
        for piece in planned.pieces:
            self._write(planned, piece)

    def _write(self, planned: Plan, piece: Piece) -> None:
        mine: list[PendingChunk] = []

        def begin() -> PendingChunk | None:
            job = self._chunks.begin(planned.array, piece.chunk)
            if job is not None:
                mine.append(job)
            return job

        more = 0
        try:
            more = self._writer.wait_for(begin).copy(piece.boxes, planned.values)
        finally:
            # An interrupt can come before the first line of a function: then the second call does it.
            try:
                self._finish(mine, more)
            finally:
                self._finish(mine, more)

    def _finish(self, mine: list[PendingChunk], more: int) -> None:
        """The caller writes no more into its chunk, if it has one."""

        def finish() -> None:
            self._chunks.finish(mine[0], more)
            mine.clear()

        if mine:
            self._writer.change(finish)


class Appender(_Buffer):
    """Appends slabs through memory: whole chunks are stored in the background, and shown as soon as they are complete.

    Any thread may append. See `Array.appender`.

    >>> import numpy as np, zarrant
    >>> a = zarrant.create_array({}, shape=(0, 4, 4), dtype="uint16", chunks=(8, 4, 4))
    >>> with a.appender() as frames:
    ...     places = [frames.append(np.full((1, 4, 4), i)) for i in range(20)]
    >>> a.shape, places[9].slice
    ((20, 4, 4), slice(9, 10, None))
    """

    def __init__(self, array: ArrayProperties[Any], axis: int = 0, memory_limit: int | str | None = None) -> None:
        super().__init__(array, memory_limit)
        self._blocks = AppendBuffers(self._handle, check_axis(axis, array.ndim), self.memory_limit)
        self._open(self._blocks, GROW, 1)

    def append(self, data: Any) -> Appended:
        """Append a slab; the caller may change the data afterwards. Waits where the memory limit is reached.

        Args:
            data: as of `Array.append`: the array's lengths in every other dimension, any length along the axis.

        Returns:
            An `Appended`, whose `slice` is None until the slab is stored. Slabs get their places in the order of the calls; with
            one appender they lie one behind the other.

        Raises:
            OptionError: the buffer is closed, or of another process.
            ShapeError, DataTypeError: as of `Array.append`.
            ZarrantError: the first error of what was stored in the background.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> with a.appender() as rows:
        ...     place = rows.append(np.ones((3, 6), "int32"))
        ...     rows.flush()
        ...     place.slice
        slice(4, 7, None)
        """
        self._writer.state.check()
        slab = self._blocks.slab(data)
        mine: list[Block] = []

        def begin() -> Block | None:
            block = self._blocks.begin(slab)
            if block is not None:
                mine.append(block)
            return block

        def finish() -> Appended:
            place = self._blocks.finish(mine[0], slab, more)
            mine.clear()
            return place

        try:
            more = self._writer.wait_for(begin).copy(slab)
            return self._writer.change(finish)
        finally:
            # As in `BufferedWriter`.
            try:
                self._give_up(mine)
            finally:
                self._give_up(mine)

    def _give_up(self, mine: list[Block]) -> None:
        """The caller writes no more into its block, if it has one still."""

        def give_up() -> None:
            self._blocks.give_up(mine[0])
            mine.clear()

        if mine:
            self._writer.change(give_up)


class _AsyncBuffer(BufferProperties):
    """What buffers of an event loop share."""

    _writer: BackgroundTasks

    def _open(self, work: Work[Any], needs: tuple[str, ...], tasks: int) -> None:
        from zarrant.run.buffered_async import BackgroundTasks  # imports asyncio, which takes 20 ms

        self._context.require(needs, self._context.able.loop_calls)
        in_step = self._context.in_step if needs is GROW else _as_it_is
        context = self._context
        self._writer = BackgroundTasks(work, lambda op: context.run_async(in_step(op), needs), tasks, _Unstored(context.url))

    async def flush(self) -> None:
        """See `BufferedWriter.flush`."""
        await self._writer.flush()

    async def close(self) -> None:
        """See `BufferedWriter.close`."""
        await self._writer.close()

    async def __aenter__(self) -> Self:
        self._writer.state.check()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()


class AsyncBufferedWriter(_AsyncBuffer):
    """`BufferedWriter` with coroutines: `async with a.buffered() as w: await w.write(selection, data)`."""

    def __init__(self, array: ArrayProperties[Any], memory_limit: int | str | None = None) -> None:
        super().__init__(array, memory_limit)
        self._chunks = ChunkBuffers(self.memory_limit)
        self._open(self._chunks, UPDATE, self._context.threads)

    async def write(self, selection: Any, data: Any) -> None:
        """Write `data` at `selection`, as `a.setitem(selection, data)` does; see `BufferedWriter`."""
        self._writer.state.check()
        planned = await self._context.run_async(plan(self._handle, selection, data), UPDATE, brief=True)
        for piece in planned.pieces:
            await self._write(planned, piece)

    async def store_array_subset(self, subset: Any, data: Any) -> None:
        """`write`, with the name of `AsyncArray.store_array_subset`."""
        await self.write(subset, data)

    async def _write(self, planned: Plan, piece: Piece) -> None:
        job = await self._writer.wait_for(lambda: self._chunks.begin(planned.array, piece.chunk))
        more = 0
        try:
            more = job.copy(piece.boxes, planned.values)
        finally:
            self._chunks.finish(job, more)
            self._writer.changed()


class AsyncAppender(_AsyncBuffer):
    """`Appender` with coroutines: `async with a.appender() as frames: await frames.append(data)`."""

    def __init__(self, array: ArrayProperties[Any], axis: int = 0, memory_limit: int | str | None = None) -> None:
        super().__init__(array, memory_limit)
        self._blocks = AppendBuffers(self._handle, check_axis(axis, array.ndim), self.memory_limit)
        self._open(self._blocks, GROW, 1)

    async def append(self, data: Any) -> Appended:
        """See `Appender.append`."""
        self._writer.state.check()
        slab = self._blocks.slab(data)
        async with self._writer.turn:
            block: Block = await self._writer.wait_for(lambda: self._blocks.begin(slab))
            try:
                more = block.copy(slab)
            except BaseException:
                self._blocks.give_up(block)
                raise
            place = self._blocks.finish(block, slab, more)
            self._writer.changed()
        return place


class _Unstored:
    """Called where a buffer is left open at the end: says what is lost. It must not refer to the buffer."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, work: Work[Any], process: int) -> None:
        if os.getpid() == process and work.nbytes_pending:
            warnings.warn(
                f"a buffer of {self.url} was never closed: {work.nbytes_pending} bytes written to it were not stored. "
                "Use it as a context manager, or call close()",
                ZarrantWarning,
                stacklevel=2,
            )


def _as_it_is(op: Op[Any]) -> Op[Any]:
    return op
