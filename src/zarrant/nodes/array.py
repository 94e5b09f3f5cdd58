"""`Array`: a Zarr array, from threads.

Every method is one line: the operation it stands for (`zarrant/ops`), and what that needs of the store. The type of `self`
says which stores an operation can run on, so that the type checker refuses, say, a partial write on a store that cannot be
read. `AsyncArray` has the same methods as coroutines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from zarrant.errors import OptionError, ZarrantError
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.nodes.array_properties import ArrayProperties, check_chunk, check_subset, warn_not_erased
from zarrant.nodes.attributes import Attributes
from zarrant.nodes.base import GROW, LIST, READ, UPDATE, WRITE, S
from zarrant.nodes.buffered import Appender, BufferedWriter
from zarrant.nodes.indexing import Indexer
from zarrant.nodes.locks import locked_array
from zarrant.nodes.partial_decoder import PartialDecoder
from zarrant.nodes.partial_encoder import PartialEncoder, encoder_of
from zarrant.nodes.show import Info, array_html, with_sizes
from zarrant.ops import compact as compact_ops
from zarrant.ops import indexing, read, update, write
from zarrant.ops import node as node_ops
from zarrant.ops import resize as resize_ops
from zarrant.ops.atomic_update import Function, touched_keys, update_subset
from zarrant.ops.compact import ChunkStats
from zarrant.ops.current import checked, checked_once, fresh
from zarrant.ops.partial_decoder import Decoder
from zarrant.storage import Buffer, Readable, ReadableWritable, Writable

if TYPE_CHECKING:
    from zarrant.ops.explain import Plan
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore

Chunk = Sequence[int]
Values = npt.NDArray[Any]
A = TypeVar("A", bound="Array[ReadableWritable]")
ITERATION_BYTES = 16 << 20
"""Rows that are read at once by iterating: 16 chunks of the default size, which is little of what a process has."""
MAX_SIZED = 64
"""Stored objects that a notebook asks for their sizes, where that is a look at a file: some 10 µs each."""


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
        """Write the metadata that this handle knows, whatever is stored: shape, codecs and attributes go back to them.

        One atomic replacement; reads nothing. To change attributes use `update_attributes`, to change the shape `resize`,
        which keep the changes of others.

        Raises:
            StoreError: the store could not write it.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.store_metadata()
        """
        self._context.run(self._context.in_step(node_ops.store_metadata(self.path, self.metadata)), WRITE)

    def erase_metadata(self: Array[Writable]) -> None:
        """Erase the metadata of the array: it is no array any more. Its chunks stay. Succeeds where there are none.

        To delete an array with its chunks use `del group[name]`.

        Raises:
            StoreError: the store could not erase it.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.erase_metadata()
        >>> zarrant.open_array(a.store, mode="r")
        Traceback (most recent call last):
            ...
        zarrant.errors.NodeNotFoundError: ...
        """
        self._context.run(self._context.in_step(node_ops.erase_metadata(self.path)), WRITE)

    def store_chunk(self: Array[Writable], chunk: Chunk, data: Any) -> None:
        """Store one whole chunk. Never reads, and takes no lock: the quickest way to write, for writers that do not share a
        chunk.

        A chunk of which every element is the fill value is erased instead (option `write_empty_chunks`).

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.
            data: what NumPy can view as an array. A value that the data type cannot hold is an error, never wrapped or cut.
                It has the chunk's full shape `write_unit`, or at the array's edge the shape of the in-bounds part (then what
                lies
                beyond the edge becomes fill), or broadcasts to it.

        Raises:
            BoundsError: there is no such chunk.
            ShapeError: the data have another shape.
            DataTypeError: the data type cannot hold the values.
            StoreError: the store could not write it. The chunk is as it was.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.store_chunk((1, 0), np.ones((2, 3), "int32"))
        >>> a[3].tolist()
        [1, 1, 1, 0, 0, 0]
        """
        self._context.run(fresh(self._handle, write.store_chunk, chunk, data), WRITE)

    def store_chunks(self: Array[Writable], chunks: Any, data: Any) -> None:
        """Store a block of whole chunks, in parallel. Never reads, as `store_chunk`.

        Args:
            chunks: a block of the chunk grid: `np.s_[0:2, 1]`, a tuple of slices or an `ArraySubset`.
            data: what NumPy can view as an array. A value that the data type cannot hold is an error, never wrapped or cut.
                One block in the full shape of all these chunks, or at the array's edge of their in-bounds part, or what
                broadcasts to it.

        Raises:
            BoundsError: the block reaches beyond the chunk grid.
            ShapeError: the data have another shape.
            DataTypeError: the data type cannot hold the values.
            PartialFailure: some chunks could not be stored. It names them, with causes, and those that were stored.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.store_chunks(np.s_[0:1, 0:2], np.arange(12).reshape(2, 6))
        >>> a[1].tolist()
        [6, 7, 8, 9, 10, 11]
        """
        self._context.run(fresh(self._handle, write.store_chunks, chunks, data), WRITE)

    def store_encoded_chunk(self: Array[Writable], chunk: Chunk, buffer: Buffer, *, check: bool = False) -> None:
        """Store the bytes of a chunk as they are: encoded elsewhere, or copied from an array with the same codecs. Never reads.

        The buffer is not copied. With the option `direct_io` a buffer of `zarrant.aligned_empty` goes to the disk untouched.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.
            buffer: a C-contiguous object with the buffer protocol.
            check: decode the bytes first, and store nothing where that fails.

        Raises:
            BoundsError: there is no such chunk.
            ShapeError: not a contiguous buffer.
            ChunkError: with `check`, the bytes cannot be decoded.
            StoreError: the store could not write it.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> encoded = a.retrieve_encoded_chunk((0, 0))
        >>> a.store_encoded_chunk((1, 1), encoded, check=True)
        >>> a[2, 3:].tolist()
        [0, 1, 2]
        """
        self._context.run(fresh(self._handle, write.store_encoded_chunk, chunk, buffer, check), WRITE)

    def store_encoded_chunks(
        self: Array[Writable], chunks: Sequence[Chunk], buffers: Sequence[Buffer], *, check: bool = False
    ) -> None:
        """Store the bytes of many chunks as they are, in parallel; see `store_encoded_chunk`.

        Args:
            chunks: indices of chunks, as many as buffers.
            buffers: their bytes.
            check: decode the bytes of each first, and do not store what cannot be decoded.

        Raises:
            BoundsError: there is no such chunk.
            ShapeError: not as many buffers as chunks, or one that is not contiguous.
            ChunkError: with `check`, the bytes of one chunk cannot be decoded.
            PartialFailure: some chunks could not be stored. It names them, with causes, and those that were stored.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> b = zarrant.create_array({}, shape=(4, 6), dtype=a.dtype, chunks=(2, 3))
        >>> b.store_encoded_chunks([(0, 0), (0, 1)], a.retrieve_encoded_chunks(np.s_[0:1, :]))
        >>> b[0].tolist()
        [0, 1, 2, 3, 4, 5]
        """
        self._context.run(fresh(self._handle, write.store_encoded_chunks, chunks, buffers, check), WRITE)

    def erase_chunk(self: Array[Writable], chunk: Chunk) -> None:
        """Erase one chunk: its elements read as the fill value. Succeeds where it is not stored.

        Elements that others have appended to a chunk at the end of the array, behind the shape that this handle knows, stay.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Raises:
            BoundsError: there is no such chunk.
            StoreError: the store could not erase it.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.erase_chunk((0, 0))
        >>> a[0].tolist()
        [0, 0, 0, 3, 4, 5]
        """
        self._context.run(fresh(self._handle, write.erase_chunk, chunk), WRITE)

    def erase_chunks(self: Array[Writable], chunks: Any) -> None:
        """Erase a block of chunks, in parallel; see `erase_chunk`.

        Args:
            chunks: a block of the chunk grid: `np.s_[0:2, 1]`, a tuple of slices or an `ArraySubset`.

        Raises:
            BoundsError: the block reaches beyond the chunk grid.
            PartialFailure: some chunks could not be erased. It names them, with causes.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.erase_chunks(np.s_[:, 0])
        >>> a[0].tolist()
        [0, 0, 0, 3, 4, 5]
        """
        self._context.run(fresh(self._handle, write.erase_chunks, chunks), WRITE)

    # reading and writing
    def store_chunk_subset(self: Array[ReadableWritable], chunk: Chunk, subset: Any, data: Any) -> None:
        """Store a part of one chunk, and keep the rest: reads what is needed, under the chunk's lock or by compare-and-swap.

        In a shard only the subchunks are read and written that the region touches, where codecs and store allow it.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.
            subset: a region in coordinates of the chunk, as `np.s_[0:2, 3:]`. It may reach into what lies beyond the array's
                edge.
            data: what NumPy can view as an array. A value that the data type cannot hold is an error, never wrapped or cut.
                It has the shape of the region or broadcasts to it.

        Raises:
            BoundsError: there is no such chunk, or the region reaches beyond it.
            ShapeError: the data have another shape.
            DataTypeError: the data type cannot hold the values.
            ChunkError: what is stored cannot be decoded. It stays as it was.
            LockTimeout: another writer had the chunk locked for longer than the option `lock_timeout`.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.store_chunk_subset((1, 1), np.s_[0:1, :], 5)
        >>> a[2].tolist()
        [0, 0, 0, 5, 5, 5]
        """
        self._context.run(fresh(self._handle, update.store_chunk_subset, chunk, subset, data), UPDATE)

    def store_array_subset(self: Array[ReadableWritable], subset: Any, data: Any) -> None:
        """Store a region, in parallel: chunks that it covers are written without a read, the others updated.

        Each stored object is replaced atomically. `a[...] = values` does the same for every kind of index.

        Args:
            subset: a region of the array: `np.s_[0:2, 3:]`, integers, `...`, fewer items than dimensions, or an
                `ArraySubset`.
            data: what NumPy can view as an array. A value that the data type cannot hold is an error, never wrapped or cut.
                It has the shape of the region or broadcasts to it. Nothing is stored for an empty region.

        Raises:
            BoundsError: the region reaches beyond the array.
            ShapeError: the data have another shape.
            DataTypeError: the data type cannot hold the values.
            PartialFailure: some chunks could not be stored. It names them, with causes, and those that were stored.
            LockTimeout: another writer had a chunk locked for longer than the option `lock_timeout`.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.store_array_subset(np.s_[1:3, 0:4], np.ones((2, 4), a.dtype))
        >>> int(a[...].sum())
        8
        """
        self._context.run(fresh(self._handle, update.store_array_subset, subset, data), UPDATE)

    def store_array_subsets(self: Array[ReadableWritable], pairs: Iterable[tuple[Any, Any]]) -> None:
        """Store many regions with one call: each stored object is read at most once and written once.

        Every pair is checked before anything is written. Where regions overlap the later one stays.

        Args:
            pairs: (subset, data), each as for `store_array_subset`.

        Raises:
            BoundsError: a region reaches beyond the array.
            ShapeError: data have another shape than their region.
            DataTypeError: the data type cannot hold the values.
            PartialFailure: some chunks could not be stored. It names them, with causes, and those that were stored.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.store_array_subsets([(np.s_[0], 1), (np.s_[:, 0], 2)])
        >>> a[:2].tolist()
        [[2, 1, 1, 1, 1, 1], [2, 0, 0, 0, 0, 0]]
        """
        self._context.run(fresh(self._handle, update.store_array_subsets, list(pairs)), UPDATE)

    def update_attributes(
        self: Array[ReadableWritable], change: Callable[[dict[str, Any]], Mapping[str, Any]] | Mapping[str, Any]
    ) -> None:
        """Change the attributes: read, change and replace the stored ones, so that no change of another writer is lost.

        Args:
            change: a mapping, which is merged into the stored attributes, or a function that gets them as a dict and returns
                the new ones. It may be called again where another writer was faster, so it should have no side effects.

        Raises:
            DataTypeError: an attribute that JSON does not know.
            NodeNotFoundError: the array is gone.
            NodeReplacedError: another array is stored there by now.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.update_attributes({"unit": "mm"})
        >>> a.update_attributes(lambda stored: {**stored, "views": stored.get("views", 0) + 1})
        >>> dict(a.attrs)
        {'unit': 'mm', 'views': 1}
        """
        op = node_ops.update_attributes(self.path, change, self._context.guarded, self._same)
        self._handle.take_over(self._context.run(self._context.in_step(op), UPDATE))

    # reading
    def retrieve_chunk(self: Array[Readable], chunk: Chunk, *, out: Values | None = None) -> Values:
        """Read one chunk in its full shape `write_unit`; at the array's edge what lies beyond is included.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.
            out: an array of this shape and the array's data type, into which is decoded; it is returned.

        Returns:
            An array of the caller's own. What is not stored is the fill value.

        Raises:
            BoundsError: there is no such chunk.
            ShapeError: `out` has another shape.
            DataTypeError: `out` has another data type.
            ChunkError: what is stored cannot be decoded.
            ChunkMissingError: a chunk is not stored, with the option `missing_chunks="error"`.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.retrieve_chunk((1, 1)).tolist()
        [[15, 16, 17], [21, 22, 23]]
        """
        return self._context.run(fresh(self._handle, read.retrieve_chunk, chunk, out), READ)

    def retrieve_chunk_if_exists(self: Array[Readable], chunk: Chunk) -> Values | None:
        """Read one chunk in its full shape; None where it is not stored.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            An array of the caller's own, or None.

        Raises:
            BoundsError: there is no such chunk.
            ChunkError: what is stored cannot be decoded.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.retrieve_chunk_if_exists((0, 0)) is None
        True
        """
        return self._context.run(fresh(self._handle, read.retrieve_chunk_if_exists, chunk), READ)

    def retrieve_chunks(self: Array[Readable], chunks: Any, *, out: Values | None = None) -> Values:
        """Read a block of chunks as one array, in their full shapes, in parallel.

        Args:
            chunks: a block of the chunk grid: `np.s_[0:2, 1]`, a tuple of slices or an `ArraySubset`.
            out: an array of this shape and the array's data type, into which is decoded; it is returned.

        Returns:
            An array of the caller's own; at the array's edge it includes what lies beyond.

        Raises:
            BoundsError: the block reaches beyond the chunk grid.
            ShapeError: `out` has another shape.
            DataTypeError: `out` has another data type.
            ChunkError: what is stored cannot be decoded.
            ChunkMissingError: a chunk is not stored, with the option `missing_chunks="error"`.
            PartialFailure: several chunks could not be read. It names them, with causes.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.retrieve_chunks(np.s_[0, :]).shape
        (2, 6)
        """
        return self._context.run(fresh(self._handle, read.retrieve_chunks, chunks, out), READ)

    def retrieve_chunk_subset(self: Array[Readable], chunk: Chunk, subset: Any, *, out: Values | None = None) -> Values:
        """Read a part of one chunk; of a shard only the subchunks that it touches.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.
            subset: a region in coordinates of the chunk, as `np.s_[0:2, 3:]`. It may reach into what lies beyond the array's
                edge.
            out: an array of this shape and the array's data type, into which is decoded; it is returned.

        Returns:
            An array of the caller's own, in the shape of the region.

        Raises:
            BoundsError: there is no such chunk, or the region reaches beyond it.
            ShapeError: `out` has another shape.
            DataTypeError: `out` has another data type.
            ChunkError: what is stored cannot be decoded.
            ChunkMissingError: a chunk is not stored, with the option `missing_chunks="error"`.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.retrieve_chunk_subset((1, 1), np.s_[0:1, 1:3]).tolist()
        [[16, 17]]
        """
        return self._context.run(fresh(self._handle, read.retrieve_chunk_subset, chunk, subset, out), READ)

    def retrieve_array_subset(self: Array[Readable], subset: Any, *, out: Values | None = None) -> Values:
        """Read a region, in parallel. `a[...]` does the same for every kind of index.

        Args:
            subset: a region of the array: `np.s_[0:2, 3:]`, integers, `...`, fewer items than dimensions, or an
                `ArraySubset`.
            out: an array of this shape and the array's data type, into which is decoded; it is returned.
                Text is also read into an array of objects, as `str`.

        Returns:
            An array of the caller's own, in the shape of the region.

        Raises:
            BoundsError: the region reaches beyond the array.
            ShapeError: `out` has another shape.
            DataTypeError: `out` has another data type.
            ChunkError: what is stored cannot be decoded.
            ChunkMissingError: a chunk is not stored, with the option `missing_chunks="error"`.
            PartialFailure: several chunks could not be read. It names them, with causes.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> out = np.empty((2, 2), a.dtype)
        >>> a.retrieve_array_subset(np.s_[1:3, 2:4], out=out).tolist()
        [[8, 9], [14, 15]]
        """
        return self._context.run(fresh(self._handle, read.retrieve_array_subset, subset, out), READ)

    def retrieve_array_subsets(self: Array[Readable], subsets: Iterable[Any], *, out: Any = None) -> list[Values]:
        """Read many regions with one call: what they need of a stored object is asked for together, and decoded together.

        Over an object store this is much faster than many calls, and fewer requests.

        Args:
            subsets: regions, each as for `retrieve_array_subset`. They may overlap.
            out: arrays to decode into, one for each region, as for `retrieve_array_subset`; or, for `n` regions of one shape,
                one array of shape `(n, *shape)`, which is filled without a copy if it is C-contiguous.

        Returns:
            An array of the caller's own for each region, or its part of `out`. Those of equal shape are views of one larger array.

        Raises:
            BoundsError: a region reaches beyond the array.
            ShapeError: `out` has other shapes, or is for another number of regions.
            DataTypeError: `out` has another data type.
            ChunkError: what is stored cannot be decoded.
            ChunkMissingError: a chunk is not stored, with the option `missing_chunks="error"`.
            PartialFailure: several chunks could not be read. It names them, with causes.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> [part.tolist() for part in a.retrieve_array_subsets([np.s_[0, :2], np.s_[1:3, 2:4]])]
        [[[0, 1]], [[8, 9], [14, 15]]]
        >>> batch = np.empty((2, 2, 2), a.dtype)
        >>> _ = a.retrieve_array_subsets([np.s_[:2, :2], np.s_[1:3, 2:4]], out=batch)
        >>> batch[1].tolist()
        [[8, 9], [14, 15]]
        """
        return self._context.run(fresh(self._handle, read.retrieve_array_subsets, list(subsets), out), READ)

    def retrieve_encoded_chunk(self: Array[Readable], chunk: Chunk) -> memoryview | None:
        """Read the stored bytes of one chunk, as they are; None where it is not stored.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            Bytes that are not to be changed, or None.

        Raises:
            BoundsError: there is no such chunk.
            ChunkError: the stored object is larger than any encoding of this chunk can be.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.retrieve_encoded_chunk((0, 0)).nbytes == a.chunk_stats((0, 0)).stored
        True
        """
        return self._context.run(fresh(self._handle, read.retrieve_encoded_chunk, chunk), READ)

    def retrieve_encoded_chunks(self: Array[Readable], chunks: Any) -> list[memoryview | None]:
        """Read the stored bytes of a block of chunks, in parallel.

        Args:
            chunks: a block of the chunk grid: `np.s_[0:2, 1]`, a tuple of slices or an `ArraySubset`.

        Returns:
            Bytes, or None for a chunk that is not stored; in C order of the block.

        Raises:
            BoundsError: the block reaches beyond the chunk grid.
            ChunkError: a stored object is larger than any encoding of this chunk can be.
            PartialFailure: several chunks could not be read. It names them, with causes.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> len(a.retrieve_encoded_chunks(np.s_[:, :]))
        4
        """
        return self._context.run(fresh(self._handle, read.retrieve_encoded_chunks, chunks), READ)

    def retrieve_subchunk(self: Array[Readable], subchunk: Chunk) -> Values:
        """Read one subchunk of a sharded array; at the array's edge its in-bounds part.

        Args:
            subchunk: indices in the grid of all subchunks of the array (`subchunk_grid_shape`).

        Returns:
            An array of the caller's own.

        Raises:
            BoundsError: there is no such subchunk.
            CapabilityError: the array is not sharded.
            ChunkError: what is stored cannot be decoded.
            ChunkMissingError: a chunk is not stored, with the option `missing_chunks="error"`.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> a.retrieve_subchunk((3, 3)).shape
        (2, 2)
        """
        return self._context.run(fresh(self._handle, read.retrieve_subchunk, subchunk), READ)

    def retrieve_subchunks(self: Array[Readable], subchunks: Any) -> Values:
        """Read a block of subchunks of a sharded array as one array, cut at the array's edge.

        Args:
            subchunks: a block in the grid of all subchunks of the array (`subchunk_grid_shape`): `np.s_[0:2, 1]`, or an
                `ArraySubset`.

        Returns:
            An array of the caller's own.

        Raises:
            BoundsError: the block reaches beyond the grid.
            CapabilityError: the array is not sharded.
            ChunkError: what is stored cannot be decoded.
            ChunkMissingError: a chunk is not stored, with the option `missing_chunks="error"`.
            PartialFailure: several chunks could not be read. It names them, with causes.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> a.retrieve_subchunks(np.s_[0:2, 3]).shape
        (4, 2)
        """
        return self._context.run(fresh(self._handle, read.retrieve_subchunks, subchunks), READ)

    def partial_decoder(self: Array[Readable], chunk: Chunk) -> PartialDecoder:
        """Open one chunk to read parts of it many times: the index of a shard, or the decoded elements of another chunk, are
        kept.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            A `PartialDecoder`. It notices when the chunk is replaced, and reads the new one.

        Raises:
            BoundsError: there is no such chunk.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.partial_decoder((1, 1)).retrieve(np.s_[0, 1:]).tolist()
        [[16, 17]]
        """
        return PartialDecoder(self._context, self._context.run(checked(self._handle, Decoder, chunk), READ))

    def explain(self: Array[Readable], selection: Any = ..., *, write: bool = False, workers: int = 1) -> Plan:
        """What `a[selection]`, or with `write` an assignment to it, will read, write and lock. Nothing is stored, no chunk is read.

        The sizes of stored objects and the indexes of shards are looked at, so it speaks of the array as it is now. It assumes that
        nothing is kept from earlier reads, and that nothing written is fill.

        Args:
            selection: what `a[...]` takes, or an `ArraySubset`.
            write: plan a write of it.
            workers: also divide it into so many `batches`, which workers can read or write without waiting for each other.

        Returns:
            A `Plan`: stored objects and how each is treated, bytes, requests, locks, memory, and what is poor about the layout for
            this access, with a better one. It prints well.

        Raises:
            BoundsError: an index beyond the array.
            SelectionError: an expression that means nothing, or more than one thing.
            OptionError: no number of workers.
            ChunkError: a shard whose index cannot be read.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3), compressors=None)
        >>> plan = a.explain(np.s_[0:3, :], write=True)
        >>> plan.objects, plan.whole, plan.merged, plan.bytes_read, plan.bytes_written
        (4, 2, 2, 96, 192)
        """
        return self._context.run(self._explained(selection, write, workers), READ)

    def refresh(self: Array[Readable]) -> None:
        """Read the metadata again: the shape and the attributes that others have stored.

        Raises:
            NodeNotFoundError: the array is gone, or a group is there.
            MetadataError: what is stored are no metadata of an array.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.refresh()
        """
        self._handle.take_over(self._context.run(node_ops.open_node(self.path, ArrayMetadata), READ))

    # the NumPy face
    @property
    def attrs(self: Array[Any]) -> Attributes:
        """The attributes, as a mapping that reads this handle's copy and writes through, losing nothing that others change.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.attrs["unit"] = "mm"
        >>> dict(a.attrs)
        {'unit': 'mm'}
        """
        return Attributes(self._attributes, self.update_attributes)

    @property
    def oindex(self) -> Indexer:
        """Orthogonal indexing: `a.oindex[[3, 0], mask]` is the product of the indices of each dimension; reads and stores.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.oindex[[3, 0], [1, 2]].tolist()
        [[19, 20], [1, 2]]
        """
        return Indexer(self._context, self._handle, "orthogonal")

    @property
    def vindex(self) -> Indexer:
        """Point indexing: `a.vindex[rows, columns]` is one element for each pair, or those of a mask; reads and stores.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.vindex[[3, 0], [1, 2]].tolist()
        [19, 2]
        """
        return Indexer(self._context, self._handle, "points")

    @property
    def blocks(self) -> Indexer:
        """Block indexing: `a.blocks[0, 1:3]` in coordinates of the chunk grid; reads and stores.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.blocks[1, 1].tolist()
        [[15, 16, 17], [21, 22, 23]]
        """
        return Indexer(self._context, self._handle, "blocks")

    def __getitem__(self: Array[Readable], selection: Any) -> Any:
        """The elements of a NumPy index: integers, slices with any step, `...`, a mask of the array's shape, integer arrays for
        all dimensions, or one list or mask together with slices; a scalar where only integers are given.

        Raises:
            BoundsError: an index beyond the array. Slices are cut, as in NumPy.
            SelectionError: an expression that means nothing, or more than one thing: then `oindex` or `vindex` says which.
            ChunkError: what is stored cannot be decoded.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a[1:3, ::-2].tolist()
        [[11, 9, 7], [17, 15, 13]]
        """
        return self._context.run(indexing.retrieve(self._handle, selection), READ)

    def __setitem__(self: Array[ReadableWritable], selection: Any, values: Any) -> None:
        """Store values, broadcast by NumPy's rules, at any index that reading takes; see `store_array_subset` for what becomes
        of chunks.

        Where an index names an element twice, the later value stays.

        Raises:
            BoundsError: an index beyond the array.
            SelectionError: an expression that means nothing, or more than one thing.
            ShapeError: the values have another shape.
            DataTypeError: the data type cannot hold the values.
            PartialFailure: some chunks could not be stored. It names them, with causes, and those that were stored.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a[a[...] > 20] = 0
        >>> a[3].tolist()
        [18, 19, 20, 0, 0, 0]
        """
        self._context.run(indexing.store(self._handle, selection, values), UPDATE)

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
        chunk = (self._array.subchunk_shapes or (self.write_unit,))[-1][0]
        rows = rows // chunk * chunk if rows >= chunk else rows
        return (self[low : min(low + rows, stop)] for stop in self.shape[:1] for low in range(0, stop, rows))

    def __len__(self) -> int:
        """The length of the first dimension; TypeError for an array without dimensions."""
        if not self.shape:
            raise TypeError("an array without dimensions has no length")
        return self.shape[0]

    # locks

    def update(self: Array[ReadableWritable], subset: Any, fn: Function) -> None:
        """Replace a region by `fn(current)`; no other write comes in between. Atomic for each stored object.

        Args:
            subset: a region of the array: `np.s_[0:2, 3:]`, integers, `...`, fewer items than dimensions, or an
                `ArraySubset`.
            fn: a function that gets the part of the region in one stored object (all of the region where it lies in one), as
                an array of its own that it may change, with fill values where nothing is stored. It returns values of this
                shape, or that broadcast to it. It is called for each stored object, for several at once in threads, and again
                for one that another writer replaced meanwhile, so it should have no side effects. Where it raises, that
                object stays as it is.

        Raises:
            BoundsError: the region reaches beyond the array.
            ShapeError: `fn` returned another shape.
            DataTypeError: `fn` returned None, or values that the data type cannot hold.
            PartialFailure: some chunks could not be updated, also where `fn` raised for them. It names them, with causes.
            LockTimeout: another writer had a chunk locked for longer than the option `lock_timeout`.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.update(np.s_[0:2, :], lambda current: current + 100)
        >>> a[1:3, 0].tolist()
        [106, 12]
        """
        self._context.run(checked_once(self._handle, check_subset, subset, update_subset, fn), UPDATE)

    def lock(self: A, subset: Any) -> AbstractContextManager[A]:
        """Lock every stored object that a region touches, so that several operations are one for every other writer.

        Other writers of these objects wait meanwhile; readers go on, and see each object as it was last stored. Nothing else
        can be locked inside of the block (OptionError). On file systems each object is an open lock file for as long as the
        block lasts.

        Args:
            subset: a region of the array: `np.s_[0:2, 3:]`, integers, `...`, fewer items than dimensions, or an
                `ArraySubset`.

        Returns:
            A context manager; its value is the array to use inside.

        Raises:
            BoundsError: the region reaches beyond the array.
            LockTimeout: another writer had one of them locked for longer than the option `lock_timeout`; none is locked then.
            CapabilityError: the store has no locks, or the array was opened with `synchronizer=None`.
            NodeNotFoundError: the array is gone.

        >>> a = zarrant.create_array({}, shape=(8,), dtype="int32", chunks=(4,))
        >>> with a.lock(np.s_[0:8]) as locked:
        ...     locked[0:4], locked[4:8] = 1 - locked[4:8], 2
        >>> a[...].tolist()
        [1, 1, 1, 1, 2, 2, 2, 2]
        """
        return locked_array(self, self._context.run(checked(self._handle, touched_keys, subset), READ))

    def partial_encoder(self: Array[ReadableWritable], chunk: Sequence[int]) -> PartialEncoder:
        """Open one chunk for many changes that are written together: it is locked, changed in memory, and stored once.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            A `PartialEncoder`, which is a context manager.

        Raises:
            BoundsError: there is no such chunk.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> with a.partial_encoder((0, 1)) as encoder:
        ...     for i in range(4):
        ...         encoder.store(np.s_[i, 0:i], i)
        >>> a[3].tolist()
        [0, 0, 0, 0, 3, 3, 3, 0]
        """
        self._context.run(checked(self._handle, check_chunk, chunk), READ)
        return PartialEncoder(self._context, encoder_of(self, chunk))

    # shape, upkeep

    def resize(self: Array[ReadableWritable], shape: int | Sequence[int], *, shrink: bool | None = None) -> None:
        """Give the array another shape: elements that stay keep their place and value, new ones are the fill value.

        What is cut off is erased, and does not come back when the array grows again. Takes the lock of the array's metadata.
        A crash leaves an array of the old shape or of the new, readable.

        Args:
            shape: the new lengths, one integer for each dimension (an integer, for one).
            shrink: True cuts off elements that others have appended since this handle last looked, too. None refuses to.
                False refuses to cut off anything.

        Raises:
            ShapeError: not a shape of as many dimensions, or elements would be cut off that may not be.
            CapabilityError: the store cannot keep other processes out.
            LockTimeout: another writer had the metadata locked for longer than the option `lock_timeout`.
            NodeNotFoundError: the array is gone.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.resize((2, 8))
        >>> a[1].tolist()
        [6, 7, 8, 9, 10, 11, 0, 0]
        """
        op = resize_ops.resize(self._array, shape, self._context.able.list, self._handle.take_over, shrink)
        warn_not_erased(self._context.run(self._context.in_step(op), GROW))

    def append(self: Array[ReadableWritable], data: Any, axis: int = 0) -> slice:
        """Store data behind the end of a dimension, and grow the array by it. From many processes at once none is lost.

        The data are stored before the metadata show the new shape: readers see all of them or none. When something fails the
        array is as it was. Appenders go one after the other, by the lock of the array's metadata.

        Args:
            data: what NumPy can view as an array. A value that the data type cannot hold is an error, never wrapped or cut.
                They have the array's lengths in every other dimension.
            axis: the dimension that grows.

        Returns:
            The slice of `axis` that the data got.

        Raises:
            ShapeError: the data have another length in another dimension.
            BoundsError: there is no such dimension.
            DataTypeError: the data type cannot hold the values.
            CapabilityError: the store cannot keep other processes out.
            LockTimeout: another writer had the metadata locked for longer than the option `lock_timeout`.
            ConflictError: a writer that takes no lock changed the shape meanwhile.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.append(np.ones((3, 6), "int32"))
        slice(4, 7, None)
        >>> a.shape
        (7, 6)
        """
        op = resize_ops.append(self._array, data, axis, self._handle.take_over)
        return self._context.run(self._context.in_step(op), GROW)

    def buffered(self: Array[ReadableWritable], *, memory_limit: int | str | None = None) -> BufferedWriter:
        """Write through memory: each chunk (stored object) is encoded and stored once, however small the writes are.

        `w[selection] = data` copies the data and returns; the caller may change them at once. Any thread may write. A chunk is
        stored in the background as soon as every element of it was written. The others are stored by `w.flush()`, at the end of
        the block, or when memory is needed: as partial writes, so that what others have written to them stays. Where writes
        overlap the later one stays. Readers see what is stored only.

        The block stores what was written before it ended, also where it ends with an exception, as a file does. After an error
        nothing more is stored: the error names its chunk, and is raised by the next call and at the end. Killed in between, a
        process loses at most what it wrote since `w.flush()` last returned; every chunk is whole, old or new.

        Args:
            memory_limit: bytes, or "1 GiB": what is in memory, and what is needed to store it. Writes wait where it is reached.
                The option `memory_limit` by default.

        Returns:
            A `BufferedWriter`, to be used as a context manager or closed by `close()`.

        Raises:
            OptionError: a limit that means nothing.
            CapabilityError: the store cannot be read and written.

        >>> a = zarrant.create_array({}, shape=(8, 4, 4), dtype="uint16", chunks=(8, 4, 4))
        >>> with a.buffered() as w:
        ...     for i in range(8):
        ...         w[i] = np.full((4, 4), i)
        >>> a[:, 0, 0].tolist()
        [0, 1, 2, 3, 4, 5, 6, 7]
        """
        return BufferedWriter(self, memory_limit)

    def appender(self: Array[ReadableWritable], axis: int = 0, *, memory_limit: int | str | None = None) -> Appender:
        """Append slabs of any length through memory, of which nobody need know how many there will be.

        `w.append(slab)` copies the slab and returns. Whole chunks (stored objects) are stored in the background, and then the array
        grows by them: readers never see a length whose data are not there. What is left is stored by `w.flush()` and at the end
        of the block. Several processes may append at once, as with `append`: each slab has one place. What is said of errors, of
        exceptions and of kills in `buffered` holds here too. Slabs whose length divides that of a chunk are stored once.

        Args:
            axis: the dimension that grows.
            memory_limit: as of `buffered`.

        Returns:
            An `Appender`, to be used as a context manager or closed by `close()`.

        Raises:
            BoundsError: there is no such dimension.
            OptionError: a limit that means nothing.
            CapabilityError: the store cannot keep other processes out.

        >>> a = zarrant.create_array({}, shape=(0, 4, 4), dtype="uint16", chunks=(8, 4, 4))
        >>> with a.appender() as frames:
        ...     for i in range(20):
        ...         place = frames.append(np.full((1, 4, 4), i))
        >>> a.shape, place.slice
        ((20, 4, 4), slice(19, 20, None))
        """
        return Appender(self, axis, memory_limit)

    @property
    def nchunks_initialized(self: Array[Readable]) -> int:
        """How many of the `nchunks` chunks are stored, by listing the store.

        Raises:
            CapabilityError: the store cannot list.

        >>> a = zarrant.create_array({}, data=np.arange(24).reshape(4, 6), chunks=(2, 3))
        >>> a.erase_chunk((0, 0))
        >>> a.nchunks_initialized, a.nchunks
        (3, 4)
        """
        return self._context.run(compact_ops.count_stored(self._array), LIST)

    def info_complete(self: Array[Readable]) -> Info:
        """`info` with the bytes that are stored, by listing the store and asking for the size of each object.

        Raises:
            CapabilityError: the store cannot list.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3), compressors=None)
        >>> a[:2] = 1
        >>> a.info_complete()["Stored"]
        '48 B in 2 of 4 objects'
        """
        return with_sizes(self, self._context.run(compact_ops.stored_sizes(self._array, listed=True), LIST))

    def _repr_html_(self) -> str:
        few = self.nchunks <= MAX_SIZED and self._context.able.get and isinstance(self.store, FilesystemStore | MemoryStore)
        sizes = None
        with suppress(ZarrantError):  # the rest is known without the store
            sizes = self._context.run(compact_ops.stored_sizes(self._array, listed=False), READ) if few else None
        return array_html(self, self._array.grid, sizes)

    def chunk_stats(self: Array[Readable], chunk: Sequence[int]) -> ChunkStats:
        """What is in one stored object: its size in bytes, and of a shard the live and dead bytes and the subchunks present.

        Only indexes are read.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            A `ChunkStats`.

        Raises:
            BoundsError: there is no such chunk.
            ChunkError: the shard is broken.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> a[0:2] = 1
        >>> stats = a.chunk_stats((0, 0))
        >>> stats.present, stats.subchunks, stats.dead
        (2, 4, 0)
        """
        return self._context.run(fresh(self._handle, compact_ops.chunk_stats, chunk), READ)

    def compact_chunk(self: Array[ReadableWritable], chunk: Sequence[int]) -> int:
        """Drop the dead bytes of one shard: what updates left behind, at all levels of nesting. Its elements stay.

        A shard without live subchunks is erased. A chunk that is no shard has nothing to drop.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            The bytes freed.

        Raises:
            BoundsError: there is no such chunk.
            ChunkError: the shard is broken. Nothing is written.
            LockTimeout: another writer had the chunk locked for longer than the option `lock_timeout`.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> a[0:4, 0:4] = np.arange(16).reshape(4, 4)
        >>> a[0, 0] = 7
        >>> a.compact_chunk((0, 0)) > 0, a.chunk_stats((0, 0)).dead
        (True, 0)
        """
        return self._context.run(fresh(self._handle, compact_ops.compact_chunk, chunk), UPDATE)

    def compact(self: Array[ReadableWritable], chunks: Any = None) -> int:
        """`compact_chunk` for a block of chunks, in parallel.

        Args:
            chunks: a block of the chunk grid: `np.s_[0:2, 1]`, a tuple of slices or an `ArraySubset`.
                None: all of them.

        Returns:
            The bytes freed in total.

        Raises:
            BoundsError: the block reaches beyond the chunk grid.
            PartialFailure: some shards could not be compacted. It names them, with causes.

        >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        >>> a.compact()
        0
        """
        return self._context.run(fresh(self._handle, compact_ops.compact, chunks), UPDATE)

    def sync(self) -> None:
        """Return when all that was written before is on disk.

        That is what every handle on this store wrote, in this process and in those that it forked.

        With `durability="fsync"` each write is on disk before it returns. This is the way for `durability="rename"`, the
        default: write much, then sync once. Not included is what was written by processes that this one did not start
        (workers of a cluster call `sync` themselves).

        Raises:
            StoreError: it is not certain. What was written since the last `sync` that returned must be written again.
            CapabilityError: the store has no say in it, as memory.

        >>> a = zarrant.create_array("data.zarr", shape=(4,), dtype="int32", overwrite=True)
        >>> a[...] = 1
        >>> a.sync()
        """
        self._context.sync()
