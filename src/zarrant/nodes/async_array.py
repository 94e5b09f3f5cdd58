"""`AsyncArray`: a Zarr array, from an event loop. Every method is the coroutine of that of `Array`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy.typing as npt

from zarrant.geometry.box import ArraySubset
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.nodes.array_properties import ArrayProperties, check_chunk, check_subset, nbytes_read_alone, warn_not_erased
from zarrant.nodes.attributes import frozen
from zarrant.nodes.base import GROW, LIST, READ, UPDATE, WRITE, NodeContext, S
from zarrant.nodes.buffered import AsyncAppender, AsyncBufferedWriter
from zarrant.nodes.locks import locked_array_async
from zarrant.nodes.partial_decoder import AsyncPartialDecoder
from zarrant.nodes.partial_encoder import AsyncPartialEncoder, encoder_of
from zarrant.nodes.show import Info, with_sizes
from zarrant.ops import compact as compact_ops
from zarrant.ops import node as node_ops
from zarrant.ops import read, update, write
from zarrant.ops import resize as resize_ops
from zarrant.ops.atomic_update import Function, update_subset
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.compact import ChunkStats
from zarrant.ops.current import checked_once, fresh, known
from zarrant.ops.indexing import Index, retrieve, store
from zarrant.ops.partial_decoder import Decoder
from zarrant.requests import Op
from zarrant.storage import Buffer, Readable, ReadableWritable

if TYPE_CHECKING:
    from zarrant.ops.explain import Plan
    from zarrant.run.asynchronous import Together

Chunk = Sequence[int]
Values = npt.NDArray[Any]
MIN_BYTES_TOGETHER = 64 << 10
"""Decoded bytes from which a chunk is decoded once for all reads that wait: planning takes 50 µs for each of them, and 64
KiB of zstd take as long."""
A = TypeVar("A", bound="AsyncArray[ReadableWritable]")


class AsyncArray(ArrayProperties[S]):
    """A Zarr array, from an event loop: the same names as coroutines.

    Elements are read by `await a.getitem(selection)` and stored by `await a.setitem(selection, values)`.
    """

    def __init__(self, context: NodeContext, metadata: ArrayMetadata, bound: BoundArray | None = None) -> None:
        """See `ArrayProperties`."""
        super().__init__(context, metadata, bound)
        nbytes = nbytes_read_alone(self._array)
        if nbytes != context.read_bytes:
            self._context = replace(context, read_bytes=nbytes)

    # writing: these never read
    async def store_metadata(self: AsyncArray[Any]) -> None:
        """See `Array.store_metadata`."""
        await self._context.run_async(self._context.in_step(node_ops.store_metadata(self.path, self.metadata)), WRITE)

    async def erase_metadata(self: AsyncArray[Any]) -> None:
        """See `Array.erase_metadata`."""
        await self._context.run_async(self._context.in_step(node_ops.erase_metadata(self.path)), WRITE)

    async def store_chunk(self, chunk: Chunk, data: Any) -> None:
        """See `Array.store_chunk`."""
        await self._context.run_async(fresh(self._handle, write.store_chunk, chunk, data), WRITE)

    async def store_chunks(self, chunks: Any, data: Any) -> None:
        """See `Array.store_chunks`."""
        await self._context.run_async(fresh(self._handle, write.store_chunks, chunks, data), WRITE)

    async def store_encoded_chunk(self, chunk: Chunk, buffer: Buffer, *, check: bool = False) -> None:
        """See `Array.store_encoded_chunk`."""
        await self._context.run_async(fresh(self._handle, write.store_encoded_chunk, chunk, buffer, check), WRITE)

    async def store_encoded_chunks(self, chunks: Sequence[Chunk], buffers: Sequence[Buffer], *, check: bool = False) -> None:
        """See `Array.store_encoded_chunks`."""
        await self._context.run_async(fresh(self._handle, write.store_encoded_chunks, chunks, buffers, check), WRITE)

    async def erase_chunk(self, chunk: Chunk) -> None:
        """See `Array.erase_chunk`."""
        await self._context.run_async(fresh(self._handle, write.erase_chunk, chunk), WRITE)

    async def erase_chunks(self, chunks: Any) -> None:
        """See `Array.erase_chunks`."""
        await self._context.run_async(fresh(self._handle, write.erase_chunks, chunks), WRITE)

    # reading and writing
    async def store_chunk_subset(self, chunk: Chunk, subset: Any, data: Any) -> None:
        """See `Array.store_chunk_subset`."""
        await self._context.run_async(fresh(self._handle, update.store_chunk_subset, chunk, subset, data), UPDATE)

    async def store_array_subset(self, subset: Any, data: Any) -> None:
        """See `Array.store_array_subset`."""
        await self._context.run_async(fresh(self._handle, update.store_array_subset, subset, data), UPDATE)

    async def store_array_subsets(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """See `Array.store_array_subsets`."""
        await self._context.run_async(fresh(self._handle, update.store_array_subsets, list(pairs)), UPDATE)

    async def update_attributes(self, change: Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]) -> None:
        """See `Array.update_attributes`."""
        op = node_ops.update_attributes(self.path, change, self._context.guarded, self._same)
        self._handle.take_over(await self._context.run_async(self._context.in_step(op), UPDATE))

    # reading
    async def retrieve_chunk(self, chunk: Chunk, *, out: Values | None = None) -> Values:
        """See `Array.retrieve_chunk`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_chunk, chunk, out), READ)

    async def retrieve_chunk_if_exists(self, chunk: Chunk) -> Values | None:
        """See `Array.retrieve_chunk_if_exists`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_chunk_if_exists, chunk), READ)

    async def retrieve_chunks(self, chunks: Any, *, out: Values | None = None) -> Values:
        """See `Array.retrieve_chunks`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_chunks, chunks, out), READ)

    async def retrieve_chunk_subset(self, chunk: Chunk, subset: Any, *, out: Values | None = None) -> Values:
        """See `Array.retrieve_chunk_subset`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_chunk_subset, chunk, subset, out), READ)

    async def retrieve_array_subset(self, subset: Any, *, out: Values | None = None) -> Values:
        """See `Array.retrieve_array_subset`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_array_subset, subset, out), READ)

    async def retrieve_array_subsets(self, subsets: Iterable[Any], *, out: Any = None) -> list[Values]:
        """See `Array.retrieve_array_subsets`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_array_subsets, list(subsets), out), READ)

    async def retrieve_encoded_chunk(self, chunk: Chunk) -> memoryview | None:
        """See `Array.retrieve_encoded_chunk`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_encoded_chunk, chunk), READ)

    async def retrieve_encoded_chunks(self, chunks: Any) -> list[memoryview | None]:
        """See `Array.retrieve_encoded_chunks`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_encoded_chunks, chunks), READ)

    async def retrieve_subchunk(self, subchunk: Chunk) -> Values:
        """See `Array.retrieve_subchunk`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_subchunk, subchunk), READ)

    async def retrieve_subchunks(self, subchunks: Any) -> Values:
        """See `Array.retrieve_subchunks`."""
        return await self._context.run_async(fresh(self._handle, read.retrieve_subchunks, subchunks), READ)

    def partial_decoder(self, chunk: Chunk) -> AsyncPartialDecoder:
        """See `Array.partial_decoder`; the value is an `AsyncPartialDecoder`."""
        return AsyncPartialDecoder(self._context, known(self._handle, Decoder, chunk))

    async def explain(self: AsyncArray[Readable], selection: Any = ..., *, write: bool = False, workers: int = 1) -> Plan:
        """See `Array.explain`."""
        return await self._context.run_async(self._explained(selection, write, workers), READ)

    async def refresh(self) -> None:
        """See `Array.refresh`."""
        self._handle.take_over(await self._context.run_async(node_ops.open_node(self.path, ArrayMetadata), READ))

    # the NumPy face
    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes as this handle last saw them; change them with `update_attributes`."""
        return frozen(self._attributes())

    async def getitem(self, selection: Any, *, index: Index = "numpy") -> Any:
        """The elements of an index expression: what `a[selection]` is for `Array`; a scalar where only integers are given.

        Args:
            selection: integers, slices, `...`, lists or masks, as `np.s_[0:3, ::2]`.
            index: "numpy" means `a[...]`, "orthogonal" `a.oindex[...]`, "points" `a.vindex[...]`, "blocks" `a.blocks[...]`.

        Returns:
            An array of the caller's own, or a scalar.

        Raises:
            BoundsError: an index beyond the array.
            SelectionError: an expression that means nothing, or more than one thing.
            OptionError: an unknown `index`.
            ChunkError: what is stored cannot be decoded.

        >>> import asyncio
        >>> async def main():
        ...     a = await zarrant.create_array_async({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        ...     print(await a.getitem(np.s_[1, ::2]), "and", await a.getitem(([3, 0], [1, 2]), index="points"))
        >>> asyncio.run(main())
        [ 6  8 10] and [19  2]
        """
        brief = index == "numpy" and read.is_planned_at_once(self._array, selection)
        together = None if index != "numpy" else self._together(selection)
        return await self._context.run_async(retrieve(self._handle, selection, index), READ, brief=brief, together=together)

    def _together(self, selection: Any) -> Together | None:
        """How reads of boxes that wait at the same time are done as one, where a chunk takes longer to decode than to plan."""
        if self._context.read_bytes < MIN_BYTES_TOGETHER or self._context.able.awaits or type(selection) is not tuple:
            return None
        array = self._array
        box = read.plain_box(array, selection)
        if box is None:
            return None
        from zarrant.run.asynchronous import Together  # is imported by now

        def op(boxes: list[ArraySubset]) -> Op[list[Values]]:
            return read.retrieve_copies(array, boxes)

        return Together((id(array), id(self._context)), box, box.size * self.dtype.itemsize, op)

    async def setitem(self, selection: Any, values: Any, *, index: Index = "numpy") -> None:
        """Store values at an index expression: what `a[selection] = values` does for `Array`.

        Args:
            selection: as for `getitem`.
            values: values of the selection's shape, or that broadcast to it.
            index: as for `getitem`.

        Raises:
            BoundsError: an index beyond the array.
            SelectionError: an expression that means nothing, or more than one thing.
            OptionError: an unknown `index`.
            ShapeError: the values have another shape.
            DataTypeError: the data type cannot hold the values.
            PartialFailure: some chunks could not be stored. It names them, with causes, and those that were stored.

        >>> import asyncio
        >>> async def main():
        ...     a = await zarrant.create_array_async({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        ...     await a.setitem(np.s_[1:3, ::2], 7)
        ...     print((await a.getitem(...)).sum())
        >>> asyncio.run(main())
        42
        """
        await self._context.run_async(store(self._handle, selection, values, index), UPDATE)

    # locks

    async def update(self: AsyncArray[ReadableWritable], subset: Any, fn: Function) -> None:
        """See `Array.update`; `fn` is a plain function, called in worker threads."""
        await self._context.run_async(checked_once(self._handle, check_subset, subset, update_subset, fn), UPDATE)

    def lock(self: A, subset: Any) -> AbstractAsyncContextManager[A]:
        """See `Array.lock`: `async with a.lock(subset) as locked`."""
        return locked_array_async(self, subset)

    def partial_encoder(self: AsyncArray[ReadableWritable], chunk: Sequence[int]) -> AsyncPartialEncoder:
        """See `Array.partial_encoder`; the value is an `AsyncPartialEncoder`."""
        known(self._handle, check_chunk, chunk)
        return AsyncPartialEncoder(self._context, encoder_of(self, chunk))

    # shape, upkeep

    async def resize(self, shape: int | Sequence[int], *, shrink: bool | None = None) -> None:
        """See `Array.resize`."""
        op = resize_ops.resize(self._array, shape, self._context.able.list, self._handle.take_over, shrink)
        warn_not_erased(await self._context.run_async(self._context.in_step(op), GROW))

    async def append(self, data: Any, axis: int = 0) -> slice:
        """See `Array.append`."""
        op = resize_ops.append(self._array, data, axis, self._handle.take_over)
        return await self._context.run_async(self._context.in_step(op), GROW)

    def buffered(self: AsyncArray[ReadableWritable], *, memory_limit: int | str | None = None) -> AsyncBufferedWriter:
        """See `Array.buffered`: `async with a.buffered() as w: await w.write(selection, data)`."""
        return AsyncBufferedWriter(self, memory_limit)

    def appender(self: AsyncArray[ReadableWritable], axis: int = 0, *, memory_limit: int | str | None = None) -> AsyncAppender:
        """See `Array.appender`: `async with a.appender() as frames: await frames.append(slab)`."""
        return AsyncAppender(self, axis, memory_limit)

    async def nchunks_initialized(self: AsyncArray[Readable]) -> int:
        """See `Array.nchunks_initialized`; a coroutine here."""
        return await self._context.run_async(compact_ops.count_stored(self._array), LIST)

    async def info_complete(self: AsyncArray[Readable]) -> Info:
        """See `Array.info_complete`."""
        return with_sizes(self, await self._context.run_async(compact_ops.stored_sizes(self._array, listed=True), LIST))

    async def chunk_stats(self: AsyncArray[Readable], chunk: Sequence[int]) -> ChunkStats:
        """See `Array.chunk_stats`."""
        return await self._context.run_async(fresh(self._handle, compact_ops.chunk_stats, chunk), READ)

    async def compact_chunk(self: AsyncArray[ReadableWritable], chunk: Sequence[int]) -> int:
        """See `Array.compact_chunk`."""
        return await self._context.run_async(fresh(self._handle, compact_ops.compact_chunk, chunk), UPDATE)

    async def compact(self: AsyncArray[ReadableWritable], chunks: Any = None) -> int:
        """See `Array.compact`."""
        return await self._context.run_async(fresh(self._handle, compact_ops.compact, chunks), UPDATE)

    async def sync(self) -> None:
        """See `Array.sync`."""
        await self._context.sync_async()
