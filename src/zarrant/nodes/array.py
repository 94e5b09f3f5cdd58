"""Arrays: `Array` for threads, `AsyncArray` for event loops, side by side.

Every method is one line: the operation it stands for, and what that needs of the store. What an operation does, and how it
can fail, is said where it is written (`zarrant/ops`). The type of `self` says which stores an operation can run on, so that
the type checker refuses, say, a partial write on a store that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.errors import OptionError
from zarrant.metadata.v3 import ArrayDocument
from zarrant.nodes.attributes import Attributes, values_of
from zarrant.nodes.base import READ, UPDATE, WRITE, S
from zarrant.nodes.decoder import AsyncPartialDecoder, PartialDecoder
from zarrant.nodes.facts import ArrayFacts
from zarrant.nodes.fresh import checked, fresh, known
from zarrant.nodes.growth import AsyncGrowing, Growing
from zarrant.nodes.indexing import Index, Indexer, retrieve, store
from zarrant.nodes.session import AsyncSessions, Sessions
from zarrant.nodes.sync import AsyncSyncing, Syncing
from zarrant.nodes.upkeep import AsyncUpkeep, Upkeep
from zarrant.ops import hierarchy, read, update, write
from zarrant.ops.decoder import Decoder
from zarrant.storage import Buffer, Readable, ReadableWritable, Writable

Values = npt.NDArray[Any]
ITERATION_BYTES = 16 << 20
"""Rows that are read at once by iterating: 16 chunks of the default size, and small beside what a process has."""
Chunk = Sequence[int]


class Array(Sessions[S], Upkeep[S], Growing[S], Syncing[S], ArrayFacts[S]):
    """A Zarr array, from threads.

    A handle knows the shape that it last saw. An index, a slice with an end, a chunk or values beyond it look at the stored
    shape once, before they are refused or clipped, and the handle takes over what others made of it; `refresh()` does so at any
    time. Open ends (`a[:]`, `a[5:]`) and negative indices mean the end that the handle knows.

    >>> import zarrant
    >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
    >>> a[1:3, ::2] = 7
    >>> int(a[...].sum())
    42
    """

    # writing: these never read
    def store_metadata(self: Array[Writable]) -> None:
        """See `ops.hierarchy.store_document`."""
        self._place.run(self._place.in_step(hierarchy.store_document(self.path, self.metadata)), WRITE)

    def erase_metadata(self: Array[Writable]) -> None:
        """See `ops.hierarchy.erase_document`."""
        self._place.run(self._place.in_step(hierarchy.erase_document(self.path)), WRITE)

    def store_chunk(self: Array[Writable], chunk: Chunk, data: Any) -> None:
        """See `ops.write.store_chunk`."""
        self._place.run(fresh(self, write.store_chunk, chunk, data), WRITE)

    def store_chunks(self: Array[Writable], chunks: Any, data: Any) -> None:
        """See `ops.write.store_chunks`."""
        self._place.run(fresh(self, write.store_chunks, chunks, data), WRITE)

    def store_encoded_chunk(self: Array[Writable], chunk: Chunk, buffer: Buffer, *, check: bool = False) -> None:
        """See `ops.write.store_encoded_chunk`."""
        self._place.run(fresh(self, write.store_encoded_chunk, chunk, buffer, check), WRITE)

    def store_encoded_chunks(
        self: Array[Writable], chunks: Sequence[Chunk], buffers: Sequence[Buffer], *, check: bool = False
    ) -> None:
        """See `ops.write.store_encoded_chunks`."""
        self._place.run(fresh(self, write.store_encoded_chunks, chunks, buffers, check), WRITE)

    def erase_chunk(self: Array[Writable], chunk: Chunk) -> None:
        """See `ops.write.erase_chunk`."""
        self._place.run(fresh(self, write.erase_chunk, chunk), WRITE)

    def erase_chunks(self: Array[Writable], chunks: Any) -> None:
        """See `ops.write.erase_chunks`."""
        self._place.run(fresh(self, write.erase_chunks, chunks), WRITE)

    # reading and writing
    def store_chunk_subset(self: Array[ReadableWritable], chunk: Chunk, subset: Any, data: Any) -> None:
        """See `ops.update.store_chunk_subset`."""
        self._place.run(fresh(self, update.store_chunk_subset, chunk, subset, data), UPDATE)

    def store_array_subset(self: Array[ReadableWritable], subset: Any, data: Any) -> None:
        """See `ops.update.store_array_subset`."""
        self._place.run(fresh(self, update.store_array_subset, subset, data), UPDATE)

    def store_array_subsets(self: Array[ReadableWritable], pairs: Iterable[tuple[Any, Any]]) -> None:
        """See `ops.update.store_array_subsets`."""
        self._place.run(fresh(self, update.store_array_subsets, list(pairs)), UPDATE)

    def update_attributes(
        self: Array[ReadableWritable], change: Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]
    ) -> None:
        """See `ops.hierarchy.update_attributes`; a mapping is merged into the stored attributes."""
        op = hierarchy.update_attributes(self.path, change, self._place.guarded, self._same)
        self._moved(self._place.run(self._place.in_step(op), UPDATE))

    # reading
    def retrieve_chunk(self: Array[Readable], chunk: Chunk, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_chunk`."""
        return self._place.run(fresh(self, read.retrieve_chunk, chunk, out), READ)

    def retrieve_chunk_if_exists(self: Array[Readable], chunk: Chunk) -> Values | None:
        """See `ops.read.retrieve_chunk_if_exists`."""
        return self._place.run(fresh(self, read.retrieve_chunk_if_exists, chunk), READ)

    def retrieve_chunks(self: Array[Readable], chunks: Any, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_chunks`."""
        return self._place.run(fresh(self, read.retrieve_chunks, chunks, out), READ)

    def retrieve_chunk_subset(self: Array[Readable], chunk: Chunk, subset: Any, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_chunk_subset`."""
        return self._place.run(fresh(self, read.retrieve_chunk_subset, chunk, subset, out), READ)

    def retrieve_array_subset(self: Array[Readable], subset: Any, *, out: Values | None = None) -> Values:
        """See `ops.read.retrieve_array_subset`."""
        return self._place.run(fresh(self, read.retrieve_array_subset, subset, out), READ)

    def retrieve_encoded_chunk(self: Array[Readable], chunk: Chunk) -> memoryview | None:
        """See `ops.read.retrieve_encoded_chunk`."""
        return self._place.run(fresh(self, read.retrieve_encoded_chunk, chunk), READ)

    def retrieve_encoded_chunks(self: Array[Readable], chunks: Any) -> list[memoryview | None]:
        """See `ops.read.retrieve_encoded_chunks`."""
        return self._place.run(fresh(self, read.retrieve_encoded_chunks, chunks), READ)

    def retrieve_subchunk(self: Array[Readable], subchunk: Chunk) -> Values:
        """See `ops.read.retrieve_subchunk`."""
        return self._place.run(fresh(self, read.retrieve_subchunk, subchunk), READ)

    def retrieve_subchunks(self: Array[Readable], subchunks: Any) -> Values:
        """See `ops.read.retrieve_subchunks`."""
        return self._place.run(fresh(self, read.retrieve_subchunks, subchunks), READ)

    def partial_decoder(self: Array[Readable], chunk: Chunk) -> PartialDecoder:
        """One chunk to be read many times; see `ops.decoder`."""
        return PartialDecoder(self._place, self._place.run(checked(self, Decoder, chunk), READ))

    def refresh(self: Array[Readable]) -> None:
        """Read the document again."""
        self._moved(self._place.run(hierarchy.open_node(self.path, ArrayDocument), READ))

    # the NumPy face
    @property
    def attrs(self) -> Attributes:
        """The attributes, as a mapping that reads this handle's copy and writes through, losing nothing."""
        return Attributes(self)

    @property
    def oindex(self) -> Indexer:
        """Orthogonal indexing: `a.oindex[[3, 0], mask]` is the product of the indices of each dimension."""
        return Indexer(self, "orthogonal")

    @property
    def vindex(self) -> Indexer:
        """Point indexing: `a.vindex[rows, columns]` takes one element for each pair; or a mask."""
        return Indexer(self, "points")

    @property
    def blocks(self) -> Indexer:
        """Block indexing: `a.blocks[0, 1:3]` in coordinates of the chunk grid."""
        return Indexer(self, "blocks")

    def __getitem__(self: Array[Readable], selection: Any) -> Any:
        """Elements by NumPy indexing; a scalar where only integers are given."""
        return Indexer(self, "numpy")[selection]

    def __setitem__(self: Array[ReadableWritable], selection: Any, values: Any) -> None:
        """Store by NumPy indexing; see `ops.update.store_selection`."""
        Indexer(self, "numpy")[selection] = values

    def __array__(self: Array[Readable], dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Values:
        """The whole array, read into memory; ValueError for `copy=False`, which cannot be."""
        if copy is False:
            raise OptionError("reading an array makes a copy", field="copy", expected="None | True", got=copy)
        return np.asarray(self[...], dtype)

    def __iter__(self: Array[Readable]) -> Iterator[Any]:
        """The rows of the first dimension, as in NumPy; chunks are read once each, many rows with one read."""
        if not self.shape:
            raise TypeError("iteration over an array without dimensions")
        return (row for slab in self._slabs() for row in slab)

    def __contains__(self: Array[Readable], value: object) -> bool:
        """Whether any element is equal to a value, as in NumPy."""
        slabs = self._slabs() if self.shape else iter([np.asarray(self[...])])
        return any(bool(np.any(slab == value)) for slab in slabs)

    def _slabs(self: Array[Readable]) -> Iterator[Values]:
        """Rows of whole chunks, as many as fit `ITERATION_BYTES`; fewer, where a row of chunks does not."""
        rows = max(1, ITERATION_BYTES // max(1, self.nbytes // max(1, self.shape[0])))
        chunk = self.chunks[0]
        rows = rows // chunk * chunk if rows >= chunk else rows
        return (self[low : min(low + rows, stop)] for stop in self.shape[:1] for low in range(0, stop, rows))

    def __len__(self) -> int:
        """The extent of the first dimension; TypeError for an array without dimensions."""
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]


class AsyncArray(AsyncSessions[S], AsyncUpkeep[S], AsyncGrowing[S], AsyncSyncing[S], ArrayFacts[S]):
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
