"""Chunk grids: how an array is cut into cells, one part for each dimension.

In come the array's shape and a grid document (`regular`); out go cell counts, and the cell of a coordinate or the
coordinates of a cell, for one index or for columns of them. One `ChunkGrid` serves every kind of grid: what differs is its
`Dimension` parts. A grid also stands for the subchunks of a shard: `ChunkGrid.regular(shard_shape, subchunk_shape)`.
Coordinates are int64 everywhere, so a grid whose last cell would end beyond that range is refused here, once.
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
    """One dimension of a grid: cells 0..n-1 side by side from coordinate 0; the last may reach past the extent."""

    @property
    def extent(self) -> int:
        """The length of the array."""
        ...

    @property
    def cells(self) -> int:
        """The number of cells."""
        ...

    @property
    def uniform(self) -> int | None:
        """The length of every cell, where they are equal by nature."""
        ...

    def locate(self, coords: Indices) -> Indices:
        """The cell of each coordinate (0 <= coordinate < extent)."""
        ...

    def start(self, cells: Indices) -> Indices:
        """The first coordinate of each cell."""
        ...

    def length(self, cells: Indices) -> Indices:
        """The length of each cell, also where the array ends inside of it."""
        ...

    def find(self, coordinate: int) -> tuple[int, int, int]:
        """The cell of a coordinate, its first coordinate and its length."""
        ...

    def resized(self, extent: int) -> Self:
        """The same cells over another extent."""
        ...

    def agrees(self, other: Any) -> bool:
        """Whether another dimension has the same chunks, as far as both go."""
        ...


@dataclass(frozen=True, slots=True)
class RegularDimension:
    """Cells of one size."""

    extent: int
    size: int

    @property
    def cells(self) -> int:
        """The number of cells; none over no extent."""
        return -(-self.extent // self.size)

    @property
    def uniform(self) -> int | None:
        """The size."""
        return self.size

    def locate(self, coords: Indices) -> Indices:
        """The cell of each coordinate."""
        return coords // self.size

    def start(self, cells: Indices) -> Indices:
        """The first coordinate of each cell."""
        return cells * self.size

    def length(self, cells: Indices) -> Indices:
        """The size, for each cell."""
        return cells * 0 + self.size

    def find(self, coordinate: int) -> tuple[int, int, int]:
        """The cell of a coordinate, its first coordinate and its length."""
        cell = coordinate // self.size
        return cell, cell * self.size, self.size

    def resized(self, extent: int) -> RegularDimension:
        """The same size over another extent."""
        return replace(self, extent=extent)

    def agrees(self, other: Any) -> bool:
        """Whether another dimension has chunks of this size."""
        return isinstance(other, RegularDimension) and self.size == other.size


@lru_cache(maxsize=256)
def chunk_alone(chunk_shape: Shape) -> ChunkGrid:
    """The grid of which one chunk is the only one: it cuts what is in coordinates of that chunk."""
    return ChunkGrid(tuple([RegularDimension(size, size) for size in chunk_shape]))


@dataclass(frozen=True, slots=True)
class ChunkGrid:
    """A grid of cells over an array.

    >>> grid = ChunkGrid.regular((10, 4), (4, 4))
    >>> grid.grid_shape, grid.in_bounds((2, 0)).shape
    ((3, 1), (2, 4))
    """

    grows: ClassVar[bool] = False
    """Whether the metadata of the grid changes where the array grows beyond its last chunk."""

    dimensions: tuple[Dimension, ...]
    array_shape: Shape = field(init=False, compare=False, repr=False)
    """The shape of the array."""
    grid_shape: Shape = field(init=False, compare=False, repr=False)
    """The number of chunks along each dimension."""
    uniform_shape: Shape | None = field(init=False, compare=False, repr=False)
    """The shape of every chunk where the grid is regular, else None."""

    def __post_init__(self) -> None:
        sizes = tuple([dimension.uniform for dimension in self.dimensions])
        object.__setattr__(self, "array_shape", tuple([dimension.extent for dimension in self.dimensions]))
        object.__setattr__(self, "grid_shape", tuple([dimension.cells for dimension in self.dimensions]))
        object.__setattr__(self, "uniform_shape", None if None in sizes else sizes)

    @classmethod
    def regular(cls, array_shape: Sequence[int], chunk_shape: Sequence[int]) -> ChunkGrid:
        """Cells of one shape; ShapeError where the shapes do not fit each other or a chunk is empty."""
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
        """The number of cells; 1 for no dimensions."""
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
            cells = np.arange(dimension.cells)
            ends = np.minimum(dimension.start(cells) + dimension.length(cells), dimension.extent)
            result.append(tuple((ends - dimension.start(cells)).tolist()))
        return tuple(result)

    def agrees(self, other: ChunkGrid) -> bool:
        """Whether another grid has the same chunks, as far as both go: a chunk of one is a chunk of the other."""
        pairs = zip(self.dimensions, other.dimensions, strict=False)
        return self.ndim == other.ndim and all(mine.agrees(theirs) for mine, theirs in pairs)

    @property
    def padded_shape(self) -> Shape:
        """The extents with the padding of the last chunks."""
        return self.block(ArraySubset.full(self.grid_shape)).shape

    def chunk_shape(self, index: Sequence[int]) -> Shape:
        """The shape of a cell, also where the array ends inside of it."""
        return tuple([dimension.length(i) for dimension, i in self._paired(index)])

    def origin(self, index: Sequence[int]) -> Shape:
        """The coordinates of a cell's first element."""
        return tuple([dimension.start(i) for dimension, i in self._paired(index)])

    def subset(self, index: Sequence[int]) -> ArraySubset:
        """All of a cell, also the part past the end of the array."""
        paired = list(self._paired(index))
        return ArraySubset(
            tuple([dimension.start(i) for dimension, i in paired]), tuple([dimension.length(i) for dimension, i in paired])
        )

    def in_bounds(self, index: Sequence[int]) -> ArraySubset:
        """The part of a cell inside of the array."""
        return self.subset(index).clip(self.array_shape)

    def chunks_in(self, subset: ArraySubset) -> ArraySubset:
        """The cells a subset of the array touches; none for an empty one."""
        if subset.ndim != self.ndim:
            raise ShapeError("subset and array differ in their number of dimensions", expected=self.ndim, got=subset.ndim)
        if any(stop > extent for stop, extent in zip(subset.stop, self.array_shape, strict=True)):
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
            result &= dimension.start(index[:, j]) + dimension.length(index[:, j]) <= dimension.extent
        return result

    def is_within(self, index: Sequence[int]) -> bool:
        """`within` for one chunk: without arrays, in a tenth of the time."""
        pairs = zip(self.dimensions, index, strict=True)
        return all(dimension.start(at) + dimension.length(at) <= dimension.extent for dimension, at in pairs)

    def chunk_shapes(self, index: IntArray) -> IntArray:
        """(n, d) the shapes of chunks (n, d), also where the array ends inside of them."""
        shapes = np.empty_like(index)
        for j, dimension in enumerate(self.dimensions):
            shapes[:, j] = dimension.length(index[:, j])
        return shapes

    def typical_shapes(self) -> tuple[Shape, ...]:
        """Chunk shapes of which one at least has each length that a dimension has; the shape of the largest chunk first."""
        shape = self.uniform_shape
        if shape is not None:
            return (shape,)
        lengths = [_lengths(dimension) for dimension in self.dimensions]
        count = max(map(len, lengths))
        return tuple([tuple([each[min(k, len(each) - 1)] for each in lengths]) for k in range(count)])

    def with_shape(self, array_shape: Sequence[int]) -> ChunkGrid:
        """The same cells over an array of another shape."""
        if len(array_shape) != self.ndim:
            raise ShapeError("a grid keeps its number of dimensions", expected=self.ndim, got=len(array_shape))
        resized = zip(self.dimensions, array_shape, strict=True)
        grid = ChunkGrid(tuple(dimension.resized(extent) for dimension, extent in resized))
        sizes = grid.uniform_shape
        return grid if sizes is None else ChunkGrid.regular(array_shape, sizes)

    def _paired(self, index: Sequence[int]) -> zip[tuple[Dimension, int]]:
        return zip(self.dimensions, check_chunk_indices(index, self.grid_shape), strict=True)


def _lengths(dimension: Dimension) -> list[int]:
    """Each length that chunks of a dimension have, the largest first."""
    if dimension.uniform is not None:
        return [dimension.uniform]
    chunks = np.arange(max(1, dimension.cells))
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
    for extent, size in zip(array_shape, chunk_shape, strict=True):
        if not isinstance(extent, int | np.integer) or isinstance(extent, bool) or extent < 0:
            refuse("an array's extents are integers", ">= 0", array_shape)
        if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
            refuse("chunk sizes are integers", ">= 1", chunk_shape)
        dimension = RegularDimension(int(extent), int(size))
        if max(1, dimension.cells) * dimension.size > MAX_COORDINATE:
            refuse("the last chunk ends beyond 64 bits", f"<= {MAX_COORDINATE}", (dimension.extent, dimension.size))
        dimensions.append(dimension)
    return tuple(dimensions)
