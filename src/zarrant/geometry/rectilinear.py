"""The rectilinear chunk grid: each dimension has a list of chunk lengths.

Specification: https://github.com/zarr-developers/zarr-extensions/tree/main/chunk-grids/rectilinear
In comes a configuration with one entry for each dimension: a list of lengths, in which `[length, count]` stands for a run of
equal ones, or one integer, which repeats as in a regular grid. Lengths are kept as runs, so that a million equal chunks cost as
much as one.

The lengths may reach beyond the end of the array, as zarr-python leaves them when it shrinks an array; chunks that begin there
are not part of the grid. Their sum is never less than the length of the array. No length ever changes: where a dimension grows
beyond the last chunk one more is added, so that stored chunks keep their place.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import numpy as np

from zarrant.errors import MetadataError, ShapeError, shown
from zarrant.geometry.box import Shape
from zarrant.geometry.grid import MAX_COORDINATE, ChunkGrid, Dimension, Indices, IntArray, RegularDimension

Runs = tuple[tuple[int, int], ...]
"""(length, count) of chunks side by side."""

PATH = "$.chunk_grid.configuration"


class _Borders(NamedTuple):
    """The first chunk and the first coordinate of each run, as lists for one index and as columns for many."""

    first: list[int]
    start: list[int]
    first_column: IntArray
    start_column: IntArray
    length_column: IntArray


@dataclass(frozen=True)
class VaryingDimension:
    """Chunks of given lengths.

    >>> dimension = VaryingDimension(7, ((2, 2), (5, 1)))
    >>> dimension.n_chunks, dimension.locate(6), dimension.start(2), dimension.length(2)
    (3, 2, 4, 5)
    """

    array_length: int
    runs: Runs

    @property
    def total(self) -> int:
        """The sum of all lengths."""
        return sum(length * count for length, count in self.runs)

    @property
    def n_chunks(self) -> int:
        """The number of chunks that begin within the length."""
        return self.locate(self.array_length - 1) + 1 if self.array_length else 0

    @property
    def uniform(self) -> int | None:
        """The length of every chunk, where there is only one."""
        return self.runs[0][0] if len(self.runs) == 1 else None

    @cached_property
    def _borders(self) -> _Borders:
        first, start = [0], [0]
        for length, count in self.runs[:-1]:
            first.append(first[-1] + count)
            start.append(start[-1] + length * count)
        lengths = np.array([length for length, _ in self.runs], np.int64)
        return _Borders(first, start, np.array(first, np.int64), np.array(start, np.int64), lengths)

    def locate(self, coords: Indices) -> Indices:
        """The chunk of each coordinate."""
        borders = self._borders
        if isinstance(coords, np.ndarray):
            run = np.searchsorted(borders.start_column, coords, "right") - 1
            within = (coords - borders.start_column[run]) // borders.length_column[run]
            return borders.first_column[run] + within
        run = bisect_right(borders.start, coords) - 1
        return borders.first[run] + (coords - borders.start[run]) // self.runs[run][0]

    def start(self, chunks: Indices) -> Indices:
        """The first coordinate of each chunk."""
        borders = self._borders
        if isinstance(chunks, np.ndarray):
            run = np.searchsorted(borders.first_column, chunks, "right") - 1
            return borders.start_column[run] + (chunks - borders.first_column[run]) * borders.length_column[run]
        run = bisect_right(borders.first, chunks) - 1
        return borders.start[run] + (chunks - borders.first[run]) * self.runs[run][0]

    def length(self, chunks: Indices) -> Indices:
        """The length of each chunk."""
        borders = self._borders
        if isinstance(chunks, np.ndarray):
            return borders.length_column[np.searchsorted(borders.first_column, chunks, "right") - 1]
        return self.runs[bisect_right(borders.first, chunks) - 1][0]

    def find(self, coordinate: int) -> tuple[int, int, int]:
        """The chunk of a coordinate, its first coordinate and its length."""
        chunk = self.locate(coordinate)
        return chunk, self.start(chunk), self.length(chunk)

    def resized(self, array_length: int) -> VaryingDimension:
        """The same chunks over an array of another length, and one more where they do not reach it."""
        beyond = array_length - self.total
        return (
            replace(self, array_length=array_length)
            if beyond <= 0
            else VaryingDimension(array_length, merged((*self.runs, (beyond, 1))))
        )

    def agrees(self, other: Any) -> bool:
        """Whether both have the same chunks, up to where the shorter one ends."""
        if not isinstance(other, VaryingDimension):
            return False
        end = min(self.total, other.total)
        return self._up_to(end) == other._up_to(end)

    def _up_to(self, end: int) -> Runs:
        """The runs before a coordinate; a chunk that lies across it is cut there."""
        kept, start = [], 0
        for length, count in self.runs:
            whole, rest = divmod(min(max(0, end - start), length * count), length)
            kept += [(length, whole)] * (whole > 0) + [(rest, 1)] * (rest > 0)
            start += length * count
        return merged(kept)


class RectilinearGrid(ChunkGrid):
    """Chunks of given lengths along each dimension.

    >>> grid = RectilinearGrid.from_json({"kind": "inline", "chunk_shapes": [[[2, 2], 3], 4]}, (7, 8))
    >>> grid.grid_shape, grid.subset((2, 1)).start, grid.chunk_shape((2, 1))
    ((3, 2), (4, 4), (3, 4))
    >>> grid.to_document()[1]["chunk_shapes"]
    [[[2, 2], 3], 4]
    """

    __slots__ = ()

    grows: ClassVar[bool] = True

    @classmethod
    def from_json(cls, configuration: object, array_shape: Sequence[int]) -> RectilinearGrid:
        """The grid of a configuration; MetadataError with its JSON path where it is wrong."""
        if not isinstance(configuration, Mapping):
            raise MetadataError("not an object", path=PATH, expected='{"kind", "chunk_shapes"}', got=configuration)
        if unknown := sorted(map(str, configuration.keys() - {"kind", "chunk_shapes"})):
            raise MetadataError("unknown member", path=f"{PATH}.{unknown[0]}", expected=["kind", "chunk_shapes"], got=unknown)
        # "kind": Literal "inline", required
        if configuration.get("kind") != "inline":
            raise MetadataError("wrong value", path=f"{PATH}.kind", expected='"inline"', got=shown(configuration.get("kind")))
        entries, path = configuration.get("chunk_shapes"), f"{PATH}.chunk_shapes"
        if not isinstance(entries, list | tuple):
            raise MetadataError("not an array of chunk lengths", path=path, got=shown(entries))
        if len(entries) != len(array_shape):  # "The length of chunk_shapes MUST match the number of dimensions of the array."
            raise MetadataError("one entry a dimension", path=path, expected=len(array_shape), got=len(entries))
        pairs = zip(entries, array_shape, strict=True)
        return cls(tuple([_dimension(entry, array_length, f"{path}[{j}]") for j, (entry, array_length) in enumerate(pairs)]))

    def to_document(self) -> tuple[str, dict[str, Any]]:
        """Name and configuration of the `chunk_grid` document."""
        return "rectilinear", {"kind": "inline", "chunk_shapes": [_entry(dimension) for dimension in self.dimensions]}

    @property
    def chunk_lengths(self) -> tuple[Any, ...]:
        """By dimension: one length, or lengths and runs of them, `(length, count)`."""
        return tuple([_spelled(dimension) for dimension in self.dimensions])

    @property
    def total_shape(self) -> Shape:
        """Where the lengths that are given end; the length of a dimension in which one length repeats."""
        return tuple([d.total if isinstance(d, VaryingDimension) else d.array_length for d in self.dimensions])

    def typical_shapes(self) -> tuple[Shape, ...]:
        """The largest chunk, the smallest, and the common divisor of all lengths: a codec that fits these fits every chunk."""
        lengths = [_lengths(dimension) for dimension in self.dimensions]
        return tuple(dict.fromkeys(tuple(map(choose, lengths)) for choose in (max, min, lambda each: math.gcd(*each))))

    def with_shape(self, array_shape: Sequence[int]) -> RectilinearGrid:
        """The same chunks over an array of another shape, and one more where a dimension grows beyond them."""
        if len(array_shape) != self.ndim:
            raise ShapeError("a grid keeps its number of dimensions", expected=self.ndim, got=len(array_shape))
        grid = RectilinearGrid(tuple([d.resized(n) for d, n in zip(self.dimensions, array_shape, strict=True)]))
        for dimension in grid.dimensions:
            if _end(dimension) > MAX_COORDINATE:
                raise ShapeError("the last chunk ends beyond 64 bits", expected=f"<= {MAX_COORDINATE}", got=tuple(array_shape))
        return grid


def merged(runs: Sequence[tuple[int, int]]) -> Runs:
    """Runs in which neighbours have different lengths.

    >>> merged([(2, 1), (2, 3), (5, 1)])
    ((2, 4), (5, 1))
    """
    result: list[tuple[int, int]] = []
    for length, count in runs:
        if result and result[-1][0] == length:
            count += result.pop()[1]
        result.append((length, count))
    return tuple(result)


def _dimension(entry: object, array_length: int, path: str) -> Dimension:
    dimension: RegularDimension | VaryingDimension
    if isinstance(entry, list | tuple):
        runs = merged([_run(item, f"{path}[{i}]") for i, item in enumerate(entry)])
        if not runs:
            raise MetadataError("no chunk lengths", path=path, expected="at least one")
        dimension = VaryingDimension(array_length, runs)
        if dimension.total < array_length:  # "The sum of the edge lengths MUST match the length of the array along the axis A."
            raise MetadataError(
                "the chunks end before the array", path=path, expected=f"a sum of {array_length}", got=dimension.total
            )
    else:
        dimension = RegularDimension(array_length, _length(entry, path))
    if _end(dimension) > MAX_COORDINATE:
        raise MetadataError("the last chunk ends beyond 64 bits", path=path, expected=f"<= {MAX_COORDINATE}", got=_end(dimension))
    return dimension


def _run(item: object, path: str) -> tuple[int, int]:
    if not isinstance(item, list | tuple):
        return _length(item, path), 1
    if len(item) != 2:
        raise MetadataError("not a run of chunks", path=path, expected="[length, count]", got=shown(item))
    return _length(item[0], f"{path}[0]"), _length(item[1], f"{path}[1]")


def _length(value: object, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_COORDINATE:
        raise MetadataError("not a length", path=path, expected="an integer >= 1", got=shown(value))
    return value


def _entry(dimension: Dimension) -> int | list[int | list[int]]:
    if isinstance(dimension, VaryingDimension):
        return [length if count == 1 else [length, count] for length, count in dimension.runs]
    return _lengths(dimension)[0]


def _spelled(dimension: Dimension) -> Any:
    entry = _entry(dimension)
    return entry if isinstance(entry, int) else tuple([tuple(run) if isinstance(run, list) else run for run in entry])


def _lengths(dimension: Dimension) -> list[int]:
    """The different lengths of chunks."""
    return [length for length, _ in dimension.runs] if isinstance(dimension, VaryingDimension) else [dimension.length(0)]


def _end(dimension: Dimension) -> int:
    return dimension.total if isinstance(dimension, VaryingDimension) else max(1, dimension.n_chunks) * dimension.length(0)
