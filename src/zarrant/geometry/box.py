"""Boxes of an array: a start and a shape for each dimension.

In come the forms a caller may use for a subset (`ArraySubset`, step-1 slices, ranges, integers, an ellipsis) and for a chunk
(integers); out go validated `ArraySubset`s and tuples of Python ints. Nothing is wrapped and nothing is clamped: a subset
that reaches outside of the shape is a `BoundsError`, so that a mistake of the caller never becomes a smaller write.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import add, index
from typing import TypeAlias

import numpy as np

from zarrant.errors import BoundsError, SelectionError, ShapeError

Shape: TypeAlias = tuple[int, ...]


def as_int(value: object, what: str) -> int:
    """A Python int from any integer (`__index__`); SelectionError for bools, floats and everything else.

    >>> as_int(3, "index")
    3
    """
    if type(value) is int:  # nearly always true; the other checks take four times as long
        return value
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    if hasattr(value, "__index__") and not isinstance(value, bool | np.bool_):
        try:
            return index(value)
        except TypeError:  # arrays have the method too, whatever their shape and type
            pass
    raise SelectionError(f"{what} must be an integer", got=f"{value!r} ({type(value).__name__})")


@dataclass(frozen=True, slots=True)
class ArraySubset:
    """The elements `start[j] <= i < start[j] + shape[j]` of every dimension j.

    >>> ArraySubset((2, 0), (3, 4)).slices
    (slice(2, 5, None), slice(0, 4, None))
    """

    start: Shape
    shape: Shape

    def __post_init__(self) -> None:
        if len(self.start) != len(self.shape):
            raise ShapeError("start and shape of a subset differ in length", expected=len(self.start), got=len(self.shape))
        # Nearly all are plain ints, and checking the type costs a tenth of calling `as_int`.
        start = tuple([n if type(n) is int else as_int(n, "the start of a subset") for n in self.start])
        shape = tuple([n if type(n) is int else as_int(n, "the shape of a subset") for n in self.shape])
        if min(start, default=0) < 0:
            raise BoundsError("a subset starts below zero", expected="start >= 0", got=start)
        if min(shape, default=0) < 0:
            raise ShapeError("a subset has a negative length", expected="shape >= 0", got=shape)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "shape", shape)

    @classmethod
    def full(cls, shape: Sequence[int]) -> ArraySubset:
        """All of an array of this shape."""
        return cls((0,) * len(shape), tuple(shape))

    @property
    def stop(self) -> Shape:
        """One past the last index of every dimension."""
        return tuple(map(add, self.start, self.shape))

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.start)

    @property
    def size(self) -> int:
        """The number of elements; 1 for no dimensions."""
        return math.prod(self.shape)

    @property
    def is_empty(self) -> bool:
        """Whether there are no elements."""
        return 0 in self.shape

    @property
    def slices(self) -> tuple[slice, ...]:
        """The subset as an index of a NumPy array."""
        return tuple(slice(start, stop) for start, stop in zip(self.start, self.stop, strict=True))

    def contains(self, other: ArraySubset) -> bool:
        """Whether every element of `other` is in this subset (an empty one always is)."""
        self._same_ndim(other.ndim)
        inside = all(a <= b for a, b in zip(self.start, other.start, strict=True))
        return other.is_empty or (inside and all(a >= b for a, b in zip(self.stop, other.stop, strict=True)))

    def intersect(self, other: ArraySubset) -> ArraySubset:
        """The elements in both; empty dimensions where they do not meet."""
        self._same_ndim(other.ndim)
        start = tuple(map(max, self.start, other.start))
        stop = map(min, self.stop, other.stop)
        return ArraySubset(start, tuple([max(0, b - a) for a, b in zip(start, stop, strict=True)]))

    def clip(self, shape: Sequence[int]) -> ArraySubset:
        """The part inside of an array of this shape; a subset that lies beyond becomes empty, at the end of the array."""
        self._same_ndim(len(shape))
        start = tuple(min(a, b) for a, b in zip(self.start, shape, strict=True))
        stop = tuple(min(a, b) for a, b in zip(self.stop, shape, strict=True))
        return ArraySubset(start, tuple(b - a for a, b in zip(start, stop, strict=True)))

    def shift(self, offset: Sequence[int]) -> ArraySubset:
        """The same box, `offset` further along (BoundsError below zero)."""
        self._same_ndim(len(offset))
        return ArraySubset(tuple(a + b for a, b in zip(self.start, offset, strict=True)), self.shape)

    def _same_ndim(self, ndim: int) -> None:
        if ndim != self.ndim:
            raise ShapeError("subsets differ in their number of dimensions", expected=self.ndim, got=ndim)


def as_subset(value: object, shape: Sequence[int], what: str = "array") -> ArraySubset:
    """The subset of an array of `shape` that a caller means, checked to lie inside of it.

    `value` is an ArraySubset, or what `a[...]` takes for a box: slices without steps (None ends allowed), ranges and integers,
    an ellipsis, and fewer items than dimensions. An integer stands for a slice of length one: the dimension stays.
    ShapeError for too many dimensions, BoundsError for what reaches outside (negative ends too; nothing is clamped),
    SelectionError for what is not a subset. `what` names the thing of that shape in messages.

    >>> as_subset((slice(2, 4), slice(None)), (4, 6))
    ArraySubset(start=(2, 0), shape=(2, 6))
    >>> as_subset((..., 5), (4, 6))
    ArraySubset(start=(0, 5), shape=(4, 1))
    """
    if isinstance(value, ArraySubset):
        _check_ndim(value.ndim, shape, what)
        spans: Iterable[tuple[int, int]] = zip(value.start, value.stop, strict=True)
    else:
        items = value if isinstance(value, tuple) else (value,)
        if len(items) != len(shape) or any([item is Ellipsis for item in items]):  # noqa: C419 - half the time of a generator
            items = _expanded(items, shape, what)
        spans = [
            (item.start, item.stop)
            if type(item) is slice and item.step is None and type(item.start) is int and type(item.stop) is int
            else _span(item, length, j)
            for j, (item, length) in enumerate(zip(items, shape, strict=True))
        ]
    start = []
    lengths = []
    for j, ((low, high), length) in enumerate(zip(spans, shape, strict=True)):
        if not 0 <= low <= high <= length:
            raise _outside(low, high, length, j, what)
        start.append(low)
        lengths.append(high - low)
    return _within(tuple(start), tuple(lengths))


def _within(start: Shape, shape: Shape) -> ArraySubset:
    """The subset of numbers that were checked already, in a third of the time."""
    subset = object.__new__(ArraySubset)
    object.__setattr__(subset, "start", start)
    object.__setattr__(subset, "shape", shape)
    return subset


def _outside(low: int, high: int, length: int, dimension: int, what: str) -> BoundsError:
    hint = "Subsets count from 0; only a[...] counts negative indices from the end." if min(low, high) < 0 else None
    expected, got = f"within 0:{length}", f"{low}:{high}"
    return BoundsError(f"subset outside of the {what}", field=f"dimension {dimension}", expected=expected, got=got, hint=hint)


def _check_ndim(ndim: int, shape: Sequence[int], what: str) -> None:
    if ndim != len(shape):
        raise ShapeError(f"subset and {what} differ in their number of dimensions", expected=len(shape), got=ndim)


def _expanded(items: tuple[object, ...], shape: Sequence[int], what: str) -> tuple[object, ...]:
    """One item for each dimension: an ellipsis, or the end, stands for whole dimensions."""
    gaps = [j for j, item in enumerate(items) if item is Ellipsis]
    if len(gaps) > 1:
        raise SelectionError("more than one ellipsis", got=items)
    at = gaps[0] if gaps else len(items)
    given = len(items) - len(gaps)
    if given > len(shape):
        _check_ndim(given, shape, what)
    return items[:at] + (slice(None),) * (len(shape) - given) + items[at + len(gaps) :]


def _span(item: object, length: int, dimension: int) -> tuple[int, int]:
    if not isinstance(item, slice | range):
        try:
            low = as_int(item, "an index")
        except SelectionError as error:
            expected = "an ArraySubset, or slices, ranges, integers and ..."
            where = f"dimension {dimension}"
            raise SelectionError("not a part of a subset", field=where, expected=expected, got=repr(item)) from error
        return low, low + 1
    if item.step not in (None, 1):
        raise SelectionError("a subset has no steps", field=f"dimension {dimension}", expected="step 1", got=repr(item))
    low = 0 if item.start is None else as_int(item.start, "the start of a slice")
    high = length if item.stop is None else as_int(item.stop, "the stop of a slice")
    return low, high


def check_chunk_indices(chunk: object, grid_shape: Sequence[int]) -> Shape:
    """The indices of a chunk as Python ints.

    ShapeError for the wrong number of them, BoundsError outside of the grid (negative ones too), SelectionError for what
    is not an integer. A single integer stands for one dimension.

    >>> check_chunk_indices((1, 0), (2, 2))
    (1, 0)
    """
    items = chunk if isinstance(chunk, tuple | list | np.ndarray) else (chunk,)
    indices = tuple([n if type(n) is int else as_int(n, "a chunk index") for n in items])
    if len(indices) != len(grid_shape):
        raise ShapeError("wrong number of chunk indices", expected=len(grid_shape), got=len(indices))
    for j, (number, chunks) in enumerate(zip(indices, grid_shape, strict=True)):
        if not 0 <= number < chunks:
            raise BoundsError(
                "chunk outside of the grid",
                chunk=indices,
                field=f"dimension {j}",
                expected=f"0 <= index < {chunks}",
                got=number,
            )
    return indices
