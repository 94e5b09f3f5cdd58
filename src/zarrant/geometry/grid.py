"""Chunk grids: how an array is cut into chunks, one `Dimension` for each axis.

In come the shape of an array and the `chunk_grid` of its metadata. Out go numbers of chunks, the chunk of a coordinate, and the
coordinates of a chunk, each for one index or for a column of them. All grids share the class `ChunkGrid`; kinds of grids
differ in their `Dimension`. A grid also describes the subchunks of a shard: `ChunkGrid.regular(shard_shape, subchunk_shape)`.
Coordinates are int64 everywhere, so this module refuses a grid whose last chunk would end beyond that range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar, NoReturn, Protocol, Self, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from zarrant import extensions
from zarrant.errors import BoundsError, MetadataError, ShapeError
from zarrant.geometry.box import ArraySubset, Shape, check_chunk_indices

IntArray: TypeAlias = npt.NDArray[np.int64]
Indices = TypeVar("Indices", int, IntArray)

MAX_COORDINATE = int(np.iinfo(np.int64).max)


class Dimension(Protocol):
    """One dimension of a grid: chunks 0..n-1 side by side from coordinate 0; the last may reach past the end of the array."""

    @property
    def array_length(self) -> int:
        """The length of the array."""
        ...

    @property
    def n_chunks(self) -> int:
        """The number of chunks."""
        ...

    @property
    def uniform(self) -> int | None:
        """The length of every chunk if all are equal, else None."""
        ...

    def locate(self, coords: Indices) -> Indices:
        """The chunk of each coordinate (0 <= coordinate < length)."""
        ...

    def start(self, chunks: Indices) -> Indices:
        """The first coordinate of each chunk."""
        ...

    def length(self, chunks: Indices) -> Indices:
        """The length of each chunk, also where the array ends inside of it."""
        ...

    def find(self, coordinate: int) -> tuple[int, int, int]:
        """The chunk of a coordinate, its first coordinate and its length."""
        ...

    def resized(self, array_length: int) -> Self:
        """The same chunks over an array of another length."""
        ...

    def agrees(self, other: Any) -> bool:
        """Whether another dimension has the same chunks, up to where the shorter one ends."""
        ...


@dataclass(frozen=True, slots=True)
class RegularDimension:
    """Chunks of one length."""

    array_length: int
    size: int

    @property
    def n_chunks(self) -> int:
        """The number of chunks; none over an array of length 0."""
        return -(-self.array_length // self.size)

    @property
    def uniform(self) -> int | None:
        """The size."""
        return self.size

    def locate(self, coords: Indices) -> Indices:
        """The chunk of each coordinate."""
        return coords // self.size

    def start(self, chunks: Indices) -> Indices:
        """The first coordinate of each chunk."""
        return chunks * self.size

    def length(self, chunks: Indices) -> Indices:
        """The size, for each chunk."""
        return chunks * 0 + self.size

    def find(self, coordinate: int) -> tuple[int, int, int]:
        """The chunk of a coordinate, its first coordinate and its length."""
        chunk = coordinate // self.size
        return chunk, chunk * self.size, self.size

    def resized(self, array_length: int) -> RegularDimension:
        """The same size over an array of another length."""
        return replace(self, array_length=array_length)

    def agrees(self, other: Any) -> bool:
        """Whether another dimension has chunks of this size."""
        return isinstance(other, RegularDimension) and self.size == other.size


@lru_cache(maxsize=256)
def chunk_alone(chunk_shape: Shape) -> ChunkGrid:
    """A grid with one chunk of this shape: it splits regions that are in coordinates of that chunk."""
    return ChunkGrid(tuple([RegularDimension(size, size) for size in chunk_shape]))


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """The chunks of an array.

    >>> grid = ChunkGrid.regular((10, 4), (4, 4))
    >>> grid.grid_shape, grid.in_bounds((2, 0)).shape
    ((3, 1), (2, 4))
    """

    grows: ClassVar[bool] = False
    """Whether the metadata of the grid change when the array grows beyond its last chunk."""

    dimensions: tuple[Dimension, ...]
    array_shape: Shape = field(init=False, compare=False, repr=False)
    """The shape of the array."""
    grid_shape: Shape = field(init=False, compare=False, repr=False)
    """The number of chunks along each dimension."""
    uniform_shape: Shape | None = field(init=False, compare=False, repr=False)
    """The shape of every chunk where the grid is regular, else None."""

    def __post_init__(self) -> None:
        sizes = tuple([dimension.uniform for dimension in self.dimensions])
        object.__setattr__(self, "array_shape", tuple([dimension.array_length for dimension in self.dimensions]))
        object.__setattr__(self, "grid_shape", tuple([dimension.n_chunks for dimension in self.dimensions]))
        object.__setattr__(self, "uniform_shape", None if None in sizes else sizes)

    @classmethod
    def regular(cls, array_shape: Sequence[int], chunk_shape: Sequence[int]) -> ChunkGrid:
        """A regular grid; ShapeError where the shapes do not fit each other or a chunk is empty."""
        return cls(_regular(tuple(array_shape), tuple(chunk_shape), _refuse_shape))

    @classmethod
    def from_document(cls, name: str, configuration: object, array_shape: Sequence[int]) -> ChunkGrid:
        """The grid of a `chunk_grid` document; MetadataError with its JSON path, UnknownExtensionError for unknown names."""
        grid: ChunkGrid = extensions.chunk_grids.resolve(name, "$.chunk_grid.name").from_json(configuration, array_shape)
        return grid

    @classmethod
    def from_json(cls, configuration: object, array_shape: Sequence[int]) -> ChunkGrid:
        """The regular grid of a configuration; MetadataError with its JSON path where it is wrong."""
        path = "$.chunk_grid.configuration"
        if not isinstance(configuration, Mapping):
            raise MetadataError("not an object", path=path, expected='{"chunk_shape": [...]}', got=configuration)
        if unknown := sorted(map(str, configuration.keys() - {"chunk_shape"})):
            raise MetadataError("unknown member", path=f"{path}.{unknown[0]}", expected=["chunk_shape"], got=unknown)
        sizes = configuration.get("chunk_shape")
        if not isinstance(sizes, list | tuple):
            raise MetadataError("not an array of integers", path=f"{path}.chunk_shape", got=sizes)
        return cls(_regular(tuple(array_shape), tuple(sizes), _refuse_document))

    def to_document(self) -> tuple[str, dict[str, Any]]:
        """Name and configuration of the `chunk_grid` document."""
        sizes = self.uniform_shape
        if sizes is None:
            raise ShapeError("only a grid of equal chunks has a document", got=self.dimensions)
        return "regular", {"chunk_shape": list(sizes)}

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.dimensions)

    @property
    def n_chunks(self) -> int:
        """The number of chunks; 1 for no dimensions."""
        return math.prod(self.grid_shape)

    @property
    def chunk_lengths(self) -> tuple[Any, ...]:
        """The lengths of chunks along each dimension, as `create_array` takes them: one, where they are equal."""
        return self.sizes if self.uniform_shape is None else self.uniform_shape

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """The lengths of all chunks along each dimension, within the array."""
        result = []
        for dimension in self.dimensions:
            chunks = np.arange(dimension.n_chunks)
            ends = np.minimum(dimension.start(chunks) + dimension.length(chunks), dimension.array_length)
            result.append(tuple((ends - dimension.start(chunks)).tolist()))
        return tuple(result)

    def agrees(self, other: ChunkGrid) -> bool:
        """Whether another grid has the same chunks, up to where the shorter one ends."""
        pairs = zip(self.dimensions, other.dimensions, strict=False)
        return self.ndim == other.ndim and all(mine.agrees(theirs) for mine, theirs in pairs)

    @property
    def padded_shape(self) -> Shape:
        """The shape of the array including the padding of the last chunks."""
        return self.block(ArraySubset.full(self.grid_shape)).shape

    def chunk_shape(self, index: Sequence[int]) -> Shape:
        """The shape of a chunk, also where the array ends inside of it."""
        return tuple([dimension.length(i) for dimension, i in self._paired(index)])

    def origin(self, index: Sequence[int]) -> Shape:
        """The coordinates of a chunk's first element."""
        return tuple([dimension.start(i) for dimension, i in self._paired(index)])

    def subset(self, index: Sequence[int]) -> ArraySubset:
        """All of a chunk, also the part past the end of the array."""
        paired = list(self._paired(index))
        return ArraySubset(
            tuple([dimension.start(i) for dimension, i in paired]), tuple([dimension.length(i) for dimension, i in paired])
        )

    def in_bounds(self, index: Sequence[int]) -> ArraySubset:
        """The part of a chunk inside of the array."""
        return self.subset(index).clip(self.array_shape)

    def chunks_in(self, subset: ArraySubset) -> ArraySubset:
        """The chunks a subset of the array touches; none for an empty one."""
        if subset.ndim != self.ndim:
            raise ShapeError("subset and array differ in their number of dimensions", expected=self.ndim, got=subset.ndim)
        if any(stop > array_length for stop, array_length in zip(subset.stop, self.array_shape, strict=True)):
            raise BoundsError("subset outside of the array", expected=f"within {self.array_shape}", got=subset)
        if subset.is_empty:
            return ArraySubset.full((0,) * self.ndim)
        return self.block_of(subset)

    def block(self, chunks: ArraySubset) -> ArraySubset:
        """The elements of a block of chunks, padding of the last ones included."""
        start, shape = [], []
        for dimension, low, count in zip(self.dimensions, chunks.start, chunks.shape, strict=True):
            first, last = (low, low + count - 1) if count else (0, 0)
            start.append(dimension.start(first) if count else 0)
            shape.append(dimension.start(last) + dimension.length(last) - start[-1] if count else 0)
        return ArraySubset((0,) * self.ndim if chunks.is_empty else tuple(start), tuple(shape))

    def block_of(self, subset: ArraySubset) -> ArraySubset:
        """The chunks that a subset touches, which is not empty and may reach into the padding of the last ones."""
        first = [dimension.locate(low) for dimension, low in zip(self.dimensions, subset.start, strict=True)]
        last = [dimension.locate(high - 1) for dimension, high in zip(self.dimensions, subset.stop, strict=True)]
        return ArraySubset(tuple(first), tuple([b - a + 1 for a, b in zip(first, last, strict=True)]))

    def within(self, index: IntArray) -> npt.NDArray[np.bool_]:
        """(n,) which of the chunks (n, d) have no element beyond the end of the array."""
        result = np.ones(len(index), np.bool_)
        for j, dimension in enumerate(self.dimensions):
            result &= dimension.start(index[:, j]) + dimension.length(index[:, j]) <= dimension.array_length
        return result

    def is_within(self, index: Sequence[int]) -> bool:
        """`within` for one chunk; without NumPy it takes a tenth of the time."""
        pairs = zip(self.dimensions, index, strict=True)
        return all(dimension.start(at) + dimension.length(at) <= dimension.array_length for dimension, at in pairs)

    def chunk_shapes(self, index: IntArray) -> IntArray:
        """(n, d) the shapes of chunks (n, d), also where the array ends inside of them."""
        shapes = np.empty_like(index)
        for j, dimension in enumerate(self.dimensions):
            shapes[:, j] = dimension.length(index[:, j])
        return shapes

    def typical_shapes(self) -> tuple[Shape, ...]:
        """A few chunk shapes, the largest first, such that each length that occurs along a dimension occurs in one of them."""
        shape = self.uniform_shape
        if shape is not None:
            return (shape,)
        lengths = [_lengths(dimension) for dimension in self.dimensions]
        count = max(map(len, lengths))
        return tuple([tuple([each[min(k, len(each) - 1)] for each in lengths]) for k in range(count)])

    def with_shape(self, array_shape: Sequence[int]) -> ChunkGrid:
        """The same chunks over an array of another shape."""
        if len(array_shape) != self.ndim:
            raise ShapeError("a grid keeps its number of dimensions", expected=self.ndim, got=len(array_shape))
        sizes = self.uniform_shape
        if sizes is not None and set(map(type, self.dimensions)) == {RegularDimension}:
            return ChunkGrid.regular(array_shape, sizes)
        resized = zip(self.dimensions, array_shape, strict=True)
        grid = ChunkGrid(tuple([dimension.resized(array_length) for dimension, array_length in resized]))
        sizes = grid.uniform_shape
        return grid if sizes is None else ChunkGrid.regular(array_shape, sizes)

    def _paired(self, index: Sequence[int]) -> zip[tuple[Dimension, int]]:
        return zip(self.dimensions, check_chunk_indices(index, self.grid_shape), strict=True)


def _lengths(dimension: Dimension) -> list[int]:
    """Each length that chunks of a dimension have, the largest first."""
    if dimension.uniform is not None:
        return [dimension.uniform]
    chunks = np.arange(max(1, dimension.n_chunks))
    return sorted(set(dimension.length(chunks).tolist()), reverse=True)


def block_indices(chunks: ArraySubset) -> IntArray:
    """(n, d) indices of a block of chunks, in C order."""
    if not chunks.ndim:
        return np.empty((1, 0), np.int64)
    indices = np.indices(chunks.shape).reshape(chunks.ndim, -1).T + np.array(chunks.start, np.int64)
    return np.ascontiguousarray(indices, np.int64)


Refuse: TypeAlias = Callable[[str, object, object], NoReturn]


def _refuse_shape(message: str, expected: object, got: object) -> NoReturn:
    raise ShapeError(message, expected=expected, got=got)


def _refuse_document(message: str, expected: object, got: object) -> NoReturn:
    raise MetadataError(message, path="$.chunk_grid.configuration.chunk_shape", expected=expected, got=got)


def _regular(array_shape: Sequence[object], chunk_shape: Sequence[object], refuse: Refuse) -> tuple[RegularDimension, ...]:
    if len(array_shape) != len(chunk_shape):
        refuse("chunks and array differ in their number of dimensions", len(array_shape), len(chunk_shape))
    dimensions = []
    for array_length, size in zip(array_shape, chunk_shape, strict=True):
        if not isinstance(array_length, int | np.integer) or isinstance(array_length, bool) or array_length < 0:
            refuse("the lengths of an array are integers", ">= 0", array_shape)
        if (
            not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1
        ):  # "must be greater than zero" (regular grid)
            refuse("chunk sizes are integers", ">= 1", chunk_shape)
        dimension = RegularDimension(int(array_length), int(size))
        if max(1, dimension.n_chunks) * dimension.size > MAX_COORDINATE:
            refuse("the last chunk ends beyond 64 bits", f"<= {MAX_COORDINATE}", (dimension.array_length, dimension.size))
        dimensions.append(dimension)
    return tuple(dimensions)
