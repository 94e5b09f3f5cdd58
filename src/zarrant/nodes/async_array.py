"""`AsyncArray`: a Zarr array, from an event loop. Every method is the coroutine of that of `Array`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

import numpy.typing as npt

from zarrant.metadata.v3 import ArrayDocument
from zarrant.nodes.array_properties import ArrayProperties, check_chunk, check_subset, warn_not_erased
from zarrant.nodes.attributes import values_of
from zarrant.nodes.base import LIST, READ, UPDATE, WRITE, S
from zarrant.nodes.locks import locked_array_async
from zarrant.nodes.partial_decoder import AsyncPartialDecoder
from zarrant.nodes.partial_encoder import AsyncPartialEncoder, encoder_of
from zarrant.ops import growth, hierarchy, maintain, read, update, write
from zarrant.ops.decoder import Decoder
from zarrant.ops.indexing import Index, retrieve, store
from zarrant.ops.maintain import ChunkStats
from zarrant.ops.session import Function, update_subset
from zarrant.ops.stale_bounds import checked_once, fresh, known
from zarrant.storage import Buffer, Readable, ReadableWritable

Chunk = Sequence[int]
Values = npt.NDArray[Any]
A = TypeVar("A", bound="AsyncArray[ReadableWritable]")


class AsyncArray(ArrayProperties[S]):
    """A Zarr array, from an event loop: the same names as coroutines.

    Elements are read by `await a.getitem(selection)` and stored by `await a.setitem(selection, values)`.
    """

    # writing: these never read
    async def store_metadata(self: AsyncArray[Any]) -> None:
        """See `ops.hierarchy.store_document`."""
        await self._place.run_async(self._place.in_step(hierarchy.store_document(self.path, self.metadata)), WRITE)

    async def erase_metadata(self: AsyncArray[Any]) -> None:
        """See `ops.hierarchy.erase_document`."""
        await self._place.run_async(self._place.in_step(hierarchy.erase_document(self.path)), WRITE)

    async def store_chunk(self, chunk: Chunk, data: Any) -> None:
        """See `ops.write.store_chunk`."""
        await self._place.run_async(fresh(self, write.store_chunk, chunk, data), WRITE)

    async def store_chunks(self, chunks: Any, data: Any) -> None:
        """See `ops.write.store_chunks`."""
        await self._place.run_async(fresh(self, write.store_chunks, chunks, data), WRITE)

    async def store_encoded_chunk(self, chunk: Chunk, buffer: Buffer, *, check: bool = False) -> None:
        """See `ops.write.store_encoded_chunk`."""
        await self._place.run_async(fresh(self, write.store_encoded_chunk, chunk, buffer, check), WRITE)

    async def store_encoded_chunks(self, chunks: Sequence[Chunk], buffers: Sequence[Buffer], *, check: bool = False) -> None:
        """See `ops.write.store_encoded_chunks`."""
        await self._place.run_async(fresh(self, write.store_encoded_chunks, chunks, buffers, check), WRITE)

    async def erase_chunk(self, chunk: Chunk) -> None:
        """See `ops.write.erase_chunk`."""
        await self._place.run_async(fresh(self, write.erase_chunk, chunk), WRITE)

    async def erase_chunks(self, chunks: Any) -> None:
        """See `ops.write.erase_chunks`."""
        await self._place.run_async(fresh(self, write.erase_chunks, chunks), WRITE)

    # reading and writing
    async def store_chunk_subset(self, chunk: Chunk, subset: Any, data: Any) -> None:
        """See `ops.update.store_chunk_subset`."""
        await self._place.run_async(fresh(self, update.store_chunk_subset, chunk, subset, data), UPDATE)

    async def store_array_subset(self, subset: Any, data: Any) -> None:
        """See `ops.update.store_array_subset`."""
        await self._place.run_async(fresh(self, update.store_array_subset, subset, data), UPDATE)

    async def store_array_subsets(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """See `ops.update.store_array_subsets`."""
        await self._place.run_async(fresh(self, update.store_array_subsets, list(pairs)), UPDATE)

    async def update_attributes(self, change: Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]) -> None:
        """See `ops.hierarchy.update_attributes`; a mapping is merged into the stored attributes."""
        op = hierarchy.update_attributes(self.path, change, self._place.guarded, self._same)
        self._moved(await self._place.run_async(self._place.in_step(op), UPDATE))

    # reading
    async def retrieve_chunk(self, chunk: Chunk, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_chunk`."""
        return await self._place.run_async(fresh(self, read.retrieve_chunk, chunk, out), READ)

    async def retrieve_chunk_if_exists(self, chunk: Chunk) -> Values | None:
        """See `ops.read.retrieve_chunk_if_exists`."""
        return await self._place.run_async(fresh(self, read.retrieve_chunk_if_exists, chunk), READ)

    async def retrieve_chunks(self, chunks: Any, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_chunks`."""
        return await self._place.run_async(fresh(self, read.retrieve_chunks, chunks, out), READ)

    async def retrieve_chunk_subset(self, chunk: Chunk, subset: Any, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_chunk_subset`."""
        return await self._place.run_async(fresh(self, read.retrieve_chunk_subset, chunk, subset, out), READ)

    async def retrieve_array_subset(self, subset: Any, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_array_subset`."""
        return await self._place.run_async(fresh(self, read.retrieve_array_subset, subset, out), READ)

    async def retrieve_encoded_chunk(self, chunk: Chunk) -> memoryview | None:
        """See `ops.read.retrieve_encoded_chunk`."""
        return await self._place.run_async(fresh(self, read.retrieve_encoded_chunk, chunk), READ)

    async def retrieve_encoded_chunks(self, chunks: Any) -> list[memoryview | None]:
        """See `ops.read.retrieve_encoded_chunks`."""
        return await self._place.run_async(fresh(self, read.retrieve_encoded_chunks, chunks), READ)

    async def retrieve_subchunk(self, subchunk: Chunk) -> Values:
        """See `ops.read.retrieve_subchunk`."""
        return await self._place.run_async(fresh(self, read.retrieve_subchunk, subchunk), READ)

    async def retrieve_subchunks(self, subchunks: Any) -> Values:
        """See `ops.read.retrieve_subchunks`."""
        return await self._place.run_async(fresh(self, read.retrieve_subchunks, subchunks), READ)

    def partial_decoder(self, chunk: Chunk) -> AsyncPartialDecoder:
        """One chunk to be read many times; see `ops.decoder`."""
        return AsyncPartialDecoder(self._place, known(self, Decoder, chunk))

    async def refresh(self) -> None:
        """Read the document again."""
        self._moved(await self._place.run_async(hierarchy.open_node(self.path, ArrayDocument), READ))

    # the NumPy face
    @property
    def attrs(self) -> Mapping[str, Any]:
        """The attributes as this handle last saw them; change them with `update_attributes`."""
        return values_of(self._attributes())

    async def getitem(self, selection: Any, *, index: Index = "numpy") -> Any:
        """Elements by NumPy indexing; `index` "orthogonal", "points" or "blocks" for the other kinds."""
        return await self._place.run_async(retrieve(self, selection, index), READ)

    async def setitem(self, selection: Any, values: Any, *, index: Index = "numpy") -> None:
        """Store by NumPy indexing; see `ops.update.store_selection`."""
        await self._place.run_async(store(self, selection, values, index), UPDATE)

    # locks

    async def update(self: AsyncArray[ReadableWritable], subset: Any, fn: Function) -> None:
        """See `ops.session.update_subset`; `fn` is a plain function, called in worker threads."""
        await self._place.run_async(checked_once(self, check_subset, subset, update_subset, fn), UPDATE)

    def lock(self: A, subset: Any) -> AbstractAsyncContextManager[A]:
        """Hold every stored object that a region touches; the value is the array to use inside."""
        return locked_array_async(self, subset)

    def partial_encoder(self: AsyncArray[ReadableWritable], chunk: Sequence[int]) -> AsyncPartialEncoder:
        """Hold one chunk open for many changes that are published together; see `AsyncPartialEncoder`."""
        known(self, check_chunk, chunk)
        return AsyncPartialEncoder(self._place, encoder_of(self, chunk))

    # shape, upkeep

    async def resize(self, shape: Any, *, shrink: bool | None = None) -> None:
        """See `ops.growth.resize`."""
        op = growth.resize(self._state, shape, self._place.able.list, self._moved, shrink)
        warn_not_erased(await self._place.run_async(self._place.in_step(op), self._place.require_shape_change()))

    async def append(self, data: Any, axis: int = 0) -> slice:
        """See `ops.growth.append`."""
        op = growth.append(self._state, data, axis, self._moved)
        return await self._place.run_async(self._place.in_step(op), self._place.require_shape_change())

    async def nchunks_initialized(self: AsyncArray[Readable]) -> int:
        """How many of the `nchunks` are stored; see `ops.maintain.count_stored`."""
        return await self._place.run_async(maintain.count_stored(self._state), LIST)

    async def chunk_stats(self: AsyncArray[Readable], chunk: Sequence[int]) -> ChunkStats:
        """See `ops.maintain.chunk_stats`."""
        return await self._place.run_async(fresh(self, maintain.chunk_stats, chunk), READ)

    async def compact_chunk(self: AsyncArray[ReadableWritable], chunk: Sequence[int]) -> int:
        """See `ops.maintain.compact_chunk`."""
        return await self._place.run_async(fresh(self, maintain.compact_chunk, chunk), UPDATE)

    async def compact(self: AsyncArray[ReadableWritable], chunks: Any = None) -> int:
        """See `ops.maintain.compact`."""
        return await self._place.run_async(fresh(self, maintain.compact, chunks), UPDATE)

    async def sync(self) -> None:
        """See `nodes.base.Place.sync`."""
        await self._place.sync_async()
