"""`Array`: a Zarr array, from threads.

Every method is one line: the operation it stands for (`zarrant/ops`), and what that needs of the store. The type of `self`
says which stores an operation can run on, so that the type checker refuses, say, a partial write on a store that cannot be
read. `AsyncArray` has the same methods as coroutines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zarrant.errors import OptionError
from zarrant.metadata.v3 import ArrayDocument
from zarrant.nodes.array_properties import ArrayProperties, check_chunk, check_subset, warn_not_erased
from zarrant.nodes.attributes import Attributes
from zarrant.nodes.base import LIST, READ, UPDATE, WRITE, S
from zarrant.nodes.indexing import Indexer
from zarrant.nodes.locks import locked_array
from zarrant.nodes.partial_decoder import PartialDecoder
from zarrant.nodes.partial_encoder import PartialEncoder, encoder_of
from zarrant.ops import growth, hierarchy, maintain, read, update, write
from zarrant.ops.decoder import Decoder
from zarrant.ops.maintain import ChunkStats
from zarrant.ops.session import Function, touched_keys, update_subset
from zarrant.ops.stale_bounds import checked, checked_once, fresh
from zarrant.storage import Buffer, Readable, ReadableWritable, Writable

Chunk = Sequence[int]
Values = npt.NDArray[Any]
A = TypeVar("A", bound="Array[ReadableWritable]")
ITERATION_BYTES = 16 << 20
"""Rows that are read at once by iterating: 16 chunks of the default size, and small beside what a process has."""


class Array(ArrayProperties[S]):
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

    # locks

    def update(self: Array[ReadableWritable], subset: Any, fn: Function) -> None:
        """See `ops.session.update_subset`."""
        self._place.run(checked_once(self, check_subset, subset, update_subset, fn), UPDATE)

    def lock(self: A, subset: Any) -> AbstractContextManager[A]:
        """Hold every stored object that a region touches; the value is the array to use inside.

        LockTimeout with none of them held. On file systems each object is an open lock file for as long as the block lasts.

        >>> import numpy as np, zarrant
        >>> a = zarrant.create_array({}, shape=(8,), dtype="int32", chunks=(4,))
        >>> with a.lock(np.s_[0:8]) as held:
        ...     held[0:4], held[4:8] = 1 - held[4:8], 2
        """
        return locked_array(self, self._place.run(checked(self, touched_keys, subset), READ))

    def partial_encoder(self: Array[ReadableWritable], chunk: Sequence[int]) -> PartialEncoder:
        """Hold one chunk open for many changes that are published together; see `PartialEncoder`."""
        self._place.run(checked(self, check_chunk, chunk), READ)
        return PartialEncoder(self._place, encoder_of(self, chunk))

    # shape, upkeep

    def resize(self: Array[ReadableWritable], shape: Any, *, shrink: bool | None = None) -> None:
        """See `ops.growth.resize`."""
        op = growth.resize(self._state, shape, self._place.able.list, self._moved, shrink)
        warn_not_erased(self._place.run(self._place.in_step(op), self._place.require_shape_change()))

    def append(self: Array[ReadableWritable], data: Any, axis: int = 0) -> slice:
        """See `ops.growth.append`."""
        op = growth.append(self._state, data, axis, self._moved)
        return self._place.run(self._place.in_step(op), self._place.require_shape_change())

    @property
    def nchunks_initialized(self: Array[Readable]) -> int:
        """How many of the `nchunks` are stored; see `ops.maintain.count_stored`."""
        return self._place.run(maintain.count_stored(self._state), LIST)

    def chunk_stats(self: Array[Readable], chunk: Sequence[int]) -> ChunkStats:
        """See `ops.maintain.chunk_stats`."""
        return self._place.run(fresh(self, maintain.chunk_stats, chunk), READ)

    def compact_chunk(self: Array[ReadableWritable], chunk: Sequence[int]) -> int:
        """See `ops.maintain.compact_chunk`."""
        return self._place.run(fresh(self, maintain.compact_chunk, chunk), UPDATE)

    def compact(self: Array[ReadableWritable], chunks: Any = None) -> int:
        """See `ops.maintain.compact`."""
        return self._place.run(fresh(self, maintain.compact, chunks), UPDATE)

    def sync(self) -> None:
        """See `nodes.base.Place.sync`."""
        self._place.sync()
