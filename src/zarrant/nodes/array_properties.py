"""What an array says of itself without asking its store: shape, type, layout, keys.

`ArrayProperties` is the part that `Array` and `AsyncArray` share. Its `BoundArray` is frozen; a handle takes another one when it
refreshes or changes attributes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, Unpack

import numpy as np

from zarrant.codecs.chain import Chain
from zarrant.config import Config, ConfigOptions
from zarrant.errors import ZarrantError
from zarrant.geometry.box import ArraySubset, as_subset, check_chunk_indices
from zarrant.geometry.grid import ChunkGrid
from zarrant.metadata.v3 import ArrayMetadata, NodeMetadata
from zarrant.nodes.base import Frozen, Located, NodeContext, S, dask_token, warn_caller
from zarrant.nodes.show import Info, array_html, array_info
from zarrant.nodes.signatures import spelled_out
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import ArrayHandle, same_array
from zarrant.ops.node import metadata_key
from zarrant.ops.read import subchunk_grid
from zarrant.requests import Op

if TYPE_CHECKING:
    from zarrant.ops.explain import Plan

A = TypeVar("A", bound="ArrayProperties[Any]")


class ArrayProperties(Frozen, Located[S]):
    """An open array: where it is, what its metadata say, and the options in force."""

    _handle: ArrayHandle

    def __init__(self, context: NodeContext, metadata: ArrayMetadata, bound: BoundArray | None = None) -> None:
        """`bound`: the same array, whose metadata are bound already."""
        super().__init__(context)
        array = self._bound(metadata) if bound is None else bound.with_metadata(metadata)
        self.__dict__["_handle"] = ArrayHandle(array, context.url)  # as in `Located`

    @property
    def _array(self) -> BoundArray:
        return self._handle.array

    @property
    def guard(self) -> str:
        """What guards writes to the array, in words."""
        return self._context.guard

    @property
    def metadata(self) -> ArrayMetadata:
        """The metadata, as they were last read or written by this handle."""
        return self._array.metadata

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self._array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type of elements, in native byte order."""
        return self._array.data_type.numpy

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements in memory."""
        return self.size * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[Any, ...]:
        """The shape of what can be read alone: of subchunks where the array is sharded, of chunks where not.

        In a rectilinear grid, for each dimension the lengths of chunks as `create_array` takes them.
        """
        shapes = self._array.subchunk_shapes
        return shapes[-1] if shapes else self._array.grid.chunk_lengths

    @property
    def shards(self) -> tuple[Any, ...] | None:
        """The shape of stored objects where the array is sharded, else None; in a rectilinear grid lengths, as for `chunks`."""
        return self._array.grid.chunk_lengths if self._array.sharded else None

    @property
    def filters(self) -> tuple[Any, ...]:
        """The array-to-array codecs of what can be read alone (see `chunks`), in order."""
        return self._inner.array_to_array

    @property
    def serializer(self) -> Any:
        """The array-to-bytes codec of what can be read alone (see `chunks`)."""
        return self._inner.array_to_bytes

    @property
    def compressors(self) -> tuple[Any, ...]:
        """The bytes-to-bytes codecs of what can be read alone (see `chunks`), in order."""
        return self._inner.bytes_to_bytes

    @property
    def order(self) -> Literal["C", "F"]:
        """How elements are stored within a piece: "F" where its dimensions are reversed, first one fastest; else "C"."""
        reverse = tuple(reversed(range(self.ndim)))
        return "F" if self.ndim > 1 and self._inner.order == reverse else "C"

    @property
    def read_chunk_sizes(self) -> tuple[tuple[int, ...], ...]:
        """The lengths, along each dimension, of what can be read alone, within the array: of `chunks`, the last ones cut."""
        shapes = self._array.subchunk_shapes
        return ChunkGrid.regular(self.shape, shapes[-1]).sizes if shapes else self.write_chunk_sizes

    @property
    def write_chunk_sizes(self) -> tuple[tuple[int, ...], ...]:
        """The lengths, along each dimension, of stored objects within the array."""
        return self._array.grid.sizes

    @property
    def write_unit(self) -> tuple[int, ...]:
        """The shape of one stored object: writes aligned to it never read. Of a rectilinear grid, that of the largest."""
        return self._array.grid.typical_shapes()[0]

    @property
    def fill_value(self) -> Any:
        """What elements are that were never written, as a NumPy scalar."""
        return self._array.fill.scalar

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """The names of the dimensions."""
        return self._array.metadata.dimension_names

    @property
    def config(self) -> Config:
        """The run-time options of this handle."""
        return self._context.config

    @property
    def chunk_grid_shape(self) -> tuple[int, ...]:
        """The number of chunks (stored objects) along each dimension."""
        return self._array.grid.grid_shape

    @property
    def subchunk_grid_shape(self) -> tuple[int, ...]:
        """The number of subchunks along each dimension; CapabilityError where the array is not sharded."""
        return subchunk_grid(self._array).grid_shape

    @property
    def nchunks(self) -> int:
        """The number of chunks (stored objects)."""
        return self._array.grid.n_chunks

    def chunk_key(self, chunk: Sequence[int]) -> str:
        """The key under which a chunk is stored.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            The key, from the root of the store.

        Raises:
            BoundsError: there is no such chunk.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.chunk_key((1, 0))
        'c/1/0'
        """
        return self._array.chunk_key(check_chunk_indices(chunk, self._array.grid.grid_shape))

    def chunk_subset(self, chunk: Sequence[int]) -> ArraySubset:
        """The elements of a chunk that lie within the array.

        Args:
            chunk: indices in the chunk grid, one for each dimension. A chunk is one stored object: of a sharded array the
                shard.

        Returns:
            Their region, in coordinates of the array; `.slices` indexes with it.

        Raises:
            BoundsError: there is no such chunk.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.chunk_subset((1, 0)).slices
        (slice(2, 4, None), slice(0, 3, None))
        """
        return self._array.grid.in_bounds(check_chunk_indices(chunk, self._array.grid.grid_shape))

    def chunks_in_subset(self, subset: Any) -> ArraySubset:
        """The block of chunks that a region touches.

        Args:
            subset: a region of the array: `np.s_[0:2, 3:]`, integers, `...`, fewer items than dimensions, or an
                `ArraySubset`.

        Returns:
            The block, in coordinates of the chunk grid, as the operations on `chunks` take it.

        Raises:
            BoundsError: the region reaches beyond the array.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.chunks_in_subset(np.s_[0:3, 4]).slices
        (slice(0, 2, None), slice(1, 2, None))
        """
        return self._array.grid.chunks_in(as_subset(subset, self.shape))

    def conflict_free(self, subsets: Sequence[Any]) -> list[list[int]]:
        """Sort regions that are to be written into rounds: within one, no two touch the same stored object.

        Writers of one round never wait for each other, nor read what another one writes. Nothing is lost without rounds; they are
        for schedulers that want every worker busy.

        Args:
            subsets: regions of the array, each as `np.s_[0:2, 3:]`, integers, `...`, or an `ArraySubset`.

        Returns:
            For each round the numbers of its regions; each comes as early as the ones before it let it.

        Raises:
            BoundsError: a region reaches beyond the array.

        >>> a = zarrant.create_array({}, shape=(8,), dtype="int32", chunks=(4,))
        >>> a.conflict_free([np.s_[0:3], np.s_[3:6], np.s_[6:8]])
        [[0, 2], [1]]
        """
        from zarrant.ops.explain import conflict_free

        return conflict_free(self._array, subsets)

    def _explained(self, selection: Any, write: bool, workers: int) -> Op[Plan]:
        from zarrant.ops.explain import explain

        return explain(self._handle, selection, write, workers, self._context.environment_of_plans())

    def iter_chunks(self) -> Iterator[tuple[int, ...]]:
        """The indices of every chunk, in C order.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 6))
        >>> list(a.iter_chunks())
        [(0, 0), (1, 0)]
        """
        return np.ndindex(*self.chunk_grid_shape)

    @property
    def info(self) -> Info:
        """A summary that prints well, without asking the store; `info_complete` has the stored bytes, too.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> a.info["Chunks"]
        (2, 3)
        """
        return array_info(self, self._context.able)

    @spelled_out(ConfigOptions)
    def with_config(self, **options: Unpack[ConfigOptions]) -> Self:
        """A handle on the same array under other options. Nothing is read, and this handle stays as it is.

        Args:
            options: any of the runtime options by name: see `zarrant.config` and `docs/options.md`.

        Returns:
            The other handle.

        Raises:
            OptionError: an unknown option, or a value that it cannot have.

        >>> a = zarrant.create_array({}, shape=(4, 6), dtype="int32", chunks=(2, 3))
        >>> quick = a.with_config(concurrency=2, missing_chunks="error")
        >>> quick.config.concurrency
        2
        """
        return with_context(self, self._context.with_config(**options))

    def _same(self, metadata: NodeMetadata) -> NodeMetadata:
        """See `ops.current.same_array`."""
        return same_array(self._array, metadata)

    def _bound(self, metadata: ArrayMetadata) -> BoundArray:
        try:
            return BoundArray.from_metadata(self.path, metadata, self._context.options)
        except ZarrantError as error:
            raise error.annotate(store=self.url, key=metadata_key(self.path, metadata)) from error.__cause__

    @property
    def _inner(self) -> Chain:
        return self._array.chain.innermost

    def _attributes(self) -> Mapping[str, Any]:
        return self._array.metadata.attributes

    def _repr_html_(self) -> str:
        return array_html(self, self._array.grid)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ArrayProperties) or type(other) is not type(self):
            return NotImplemented
        return bool(self.store == other.store) and self.path == other.path and self.metadata == other.metadata

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._context, self._array.metadata)

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return dask_token(self, self.metadata)

    def __repr__(self) -> str:
        shards = f" shards={self.shards}" if self.shards else ""
        kind = type(self).__name__
        return f"<{kind} {self.url} shape={self.shape} dtype={self.dtype} chunks={self.chunks}{shards} guard={self.guard!r}>"


# For modules of this package; users of the library see the public attributes only ------------------------------------------


def handle_of(array: ArrayProperties[Any]) -> ArrayHandle:
    """What an open array knows of the stored one."""
    return array._handle


def with_context(array: A, context: NodeContext) -> A:
    """The same array by way of another store or under other options; its metadata stay bound."""
    bound, options = array._handle.array, context.options
    return type(array)(context, bound.metadata, bound if options == bound.options else bound.with_options(options))


def nbytes_read_alone(array: BoundArray) -> int:
    """Bytes in memory of what can be read alone: a subchunk, or a chunk; 0 where chunks are of several shapes."""
    shape = array.subchunk_shapes[-1] if array.sharded else array.grid.uniform_shape
    return 0 if shape is None else math.prod(shape) * array.data_type.numpy.itemsize


def check_chunk(array: BoundArray, chunk: Sequence[int]) -> tuple[int, ...]:
    """The indices of a chunk; BoundsError where there is none."""
    return check_chunk_indices(chunk, array.grid.grid_shape)


def check_subset(array: BoundArray, subset: Any) -> ArraySubset:
    """A region of an array; BoundsError where it reaches beyond."""
    return as_subset(subset, array.shape)


def warn_not_erased(left: list[str]) -> None:
    """The array has its new shape; what was cut off could not be erased."""
    for problem in left:
        warn_caller(f"resized, but what was cut off was not erased: {problem}. Growing the array again erases it first")
