"""Index expressions: what a caller writes in brackets, turned into a region and the shapes of its values.

In come an index expression and the shape of an array; out goes a `Selection`. It understands NumPy's basic indexing, the
orthogonal, point and mask forms, and blocks of the chunk grid. SelectionError for what is not understood, BoundsError for
an index outside of the array. Slices clamp as in NumPy; boxes that must not are the business of `box.as_subset`.

The values array of the region has as many dimensions as the array, and its steps are positive. `to_work` makes it as a *view*
of an array with NumPy's result shape (an integer index becomes a new axis, a negative step a flip), so that decoding into
the view fills the caller's array.
"""

from __future__ import annotations

import math
import types
from collections.abc import Sequence
from operator import index
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.errors import BoundsError, SelectionError, ShapeError, SliceStepError
from zarrant.geometry.box import Shape, as_int
from zarrant.geometry.grid import MAX_COORDINATE, ChunkGrid, IntArray
from zarrant.geometry.points import Points, points_region
from zarrant.geometry.region import Box, Product, Region
from zarrant.geometry.segments import Axis

Values: TypeAlias = npt.NDArray[Any]
Item: TypeAlias = Any
"""One part of an index expression, as the caller wrote it."""

NEWAXIS_HINT = "Zarr arrays have no new axes: index first, then add axes to the NumPy array that results."
FANCY_HINT = "Use oindex for the product of the indices of each dimension, vindex for points."


class Selection(NamedTuple):
    """A region and the shapes of its values.

    `work_shape` is the shape of the region's values array (one dimension for each of the array), `out_shape` that of NumPy's
    result.
    """

    region: Region
    work_shape: Shape
    out_shape: Shape
    view: tuple[slice | None, ...] | None
    """The index that turns an array of `out_shape` into one of `work_shape`; None: a reshape does."""
    clipped: bool = False
    """Whether a slice reaches beyond the shape: another writer may have made the array longer since."""

    def to_work(self, values: Values) -> Values:
        """A view of `values` (of `out_shape`) as the values array of the region.

        It can be written to, and writes reach `values`. For points whose layout in memory allows no such view, read-only
        values are copied and writable ones are a ShapeError; `source` takes both.
        """
        if values.shape != self.out_shape:
            raise ShapeError("values do not have the shape of the selection", expected=self.out_shape, got=values.shape)
        if self.view is not None:
            return values[(*self.view, ...)]
        if values.size != math.prod(self.work_shape):
            return np.empty(self.work_shape, values.dtype)
        work = values.reshape(self.work_shape)
        if values.size and values.flags.writeable and not np.may_share_memory(work, values):
            hint = "Use a C-contiguous array."
            raise ShapeError("values cannot be seen as a line of points without a copy", got=values.strides, hint=hint)
        return work

    def source(self, values: Values) -> Values:
        """Values to be written, broadcast by NumPy's rules, as the values array of the region; read-only, maybe a copy."""
        if self.view is not None and values.shape == self.out_shape:
            work = values[(*self.view, ...)]  # nothing to broadcast; `np.broadcast_to` takes 4 µs to find that out
            work.flags.writeable = False
            return work
        extra = values.ndim - len(self.out_shape)
        if extra > 0 and values.shape[:extra] == (1,) * extra:
            values = values.reshape(values.shape[extra:])
        try:
            return self.to_work(np.broadcast_to(values, self.out_shape))
        except ValueError as cause:
            message = "values cannot be broadcast to the shape of the selection"
            raise ShapeError(message, expected=self.out_shape, got=values.shape) from cause


def basic(selection: Item, shape: Sequence[int]) -> Selection:
    """Integers, slices with any step, and an ellipsis, as in NumPy.

    >>> selection = basic(np.s_[2, ::-3], (4, 10))
    >>> selection.work_shape, selection.out_shape
    ((1, 4), (4,))
    """
    box = _box(selection, shape)
    if box is not None:
        return box
    paired = _paired(selection, shape)
    return _product([_basic_item(item, length, j) for item, length, j in paired], _clipped(paired))


def orthogonal(selection: Item, shape: Sequence[int]) -> Selection:
    """For each dimension an integer, a slice, a 1-D integer array or a 1-D mask; the result is their product (`np.ix_`).

    >>> orthogonal(([3, 0], slice(None)), (4, 10)).out_shape
    (2, 10)
    """
    paired = _paired(selection, shape)
    return _product([_orthogonal_item(*each) for each in paired], _clipped(paired))


def points(selection: Item, shape: Sequence[int]) -> Selection:
    """An integer array for each dimension, broadcast together: one point for each element; or a mask of the array's shape.

    >>> points(([0, 1, 2], [0, 1, 2]), (4, 10)).out_shape
    (3,)
    """
    items = selection if isinstance(selection, tuple) else (selection,)
    if len(items) == 1 and _is_mask(items[0]):
        return mask(items[0], shape)
    if len(items) != len(shape):
        hint = "Points need an integer array for each dimension."
        raise SelectionError("wrong number of indices", expected=len(shape), got=len(items), hint=hint)
    if not items:
        return basic((), ())
    columns = [_wrap(_integers(item, j), length, j) for j, (item, length) in enumerate(zip(items, shape, strict=True))]
    try:
        columns = list(np.broadcast_arrays(*columns))
    except ValueError as cause:
        raise SelectionError("point indices cannot be broadcast", got=[column.shape for column in columns]) from cause
    coords = np.stack([column.ravel() for column in columns], axis=1)
    return _points(points_region(coords), columns[0].shape)


def mask(mask: Item, shape: Sequence[int]) -> Selection:
    """The elements where a boolean array of the array's shape is true, in C order."""
    chosen = _array(mask)
    if chosen.dtype != np.bool_:
        raise SelectionError("not a boolean mask", expected="bool", got=chosen.dtype)
    if chosen.shape != tuple(shape):
        raise SelectionError("a mask has the shape of the array", expected=tuple(shape), got=chosen.shape)
    # A mask of no dimensions chooses its one element or none; np.argwhere cannot say so.
    coords = np.argwhere(chosen) if chosen.ndim else np.empty((int(chosen), 0), np.int64)
    return _points(points_region(coords), (len(coords),))


def block(selection: Item, grid: ChunkGrid) -> Selection:
    """Integers and slices without steps in coordinates of the chunk grid; no dimension is dropped.

    >>> block((1, slice(0, 2)), ChunkGrid.regular((10, 10), (4, 4))).out_shape
    (4, 8)
    """
    axes = []
    paired = _paired(selection, grid.grid_shape)
    for item, chunks, j in paired:
        if isinstance(item, slice):
            low, high, step = _indices(item, chunks, j)
            if step != 1:
                raise SelectionError("blocks have no steps", field=f"dimension {j}", expected="step 1", got=item)
        else:
            low = _wrap_one(item, chunks, j)
            high = low + 1
        part = grid.dimensions[j]
        start = part.start(low) if low < high else 0
        stop = min(part.start(high - 1) + part.length(high - 1), part.array_length) if low < high else 0
        axes.append((Axis.segment(start, stop - start), stop - start, slice(None)))
    return _product(axes, _clipped(paired))


def numpy_like(selection: Item, shape: Sequence[int]) -> Selection:
    """What NumPy understands by `a[selection]`, as far as it is also one of the forms above; else a SelectionError.

    That is basic indexing, a mask of the array's shape, integer arrays for all dimensions (points), and one 1-D array or
    mask with slices and integers, unless NumPy would move its dimension to the front.
    """
    box = _box(selection, shape)
    if box is not None:
        return box
    items = selection if isinstance(selection, tuple) else (selection,)
    arrays = [item for item in items if type(item) is not slice and _is_array(item)]
    if not arrays:
        return basic(selection, shape)
    if len(items) == 1 and len(shape) != 1 and _is_mask(items[0]) and _array(items[0]).ndim != 1:
        return mask(items[0], shape)
    fancy = [j for j, item in enumerate(items) if _is_array(item)]
    if len(fancy) == 1 and _array(items[fancy[0]]).ndim == 1:
        placed = [j for j, item in enumerate(items) if not isinstance(item, slice | types.EllipsisType)]
        if placed[-1] - placed[0] == len(placed) - 1:
            return orthogonal(selection, shape)
    elif len(items) == len(shape) and not any(_is_mask(item) or not _is_integral(item) for item in items):
        return points(items, shape)
    raise SelectionError("ambiguous selection with arrays of indices", got=selection, hint=FANCY_HINT)


_ALL = slice(None)


def _box(selection: Item, shape: Sequence[int]) -> Selection | None:
    """A box of plain slices and integers, which most selections are; None for all others, for empty ones and for errors.

    What the functions for all expressions give too, in a tenth of their time.
    """
    start, counts, kept = [], [], []
    view: list[slice | None] = []
    items = selection if type(selection) is tuple else (selection,)
    if len(items) != len(shape) or (items and (items[0] is Ellipsis or items[-1] is Ellipsis)):
        items = _one_for_each(items, len(shape))
    for item, length in zip(items, shape, strict=False):
        if type(item) is slice and item.step is None:
            low = 0 if item.start is None else item.start
            high = length if item.stop is None else item.stop
            if type(low) is not int or type(high) is not int:
                return None
            low, high = low + length if low < 0 else low, high + length if high < 0 else high
            kept.append(high - low)
            view.append(_ALL)
        elif type(item) is int:
            low = item + length if item < 0 else item
            high = low + 1
            view.append(None)
        else:
            return None
        if not 0 <= low < high <= length:
            return None
        start.append(low)
        counts.append(high - low)
    if len(items) != len(shape):
        return None
    work_shape = tuple(counts)
    return Selection(Box(tuple(start), work_shape, (0,) * len(counts)), work_shape, tuple(kept), tuple(view))


def _one_for_each(items: tuple[Item, ...], ndim: int) -> tuple[Item, ...]:
    """The items, with whole dimensions for the first ellipsis and for what is missing at the end."""
    for j, item in enumerate(items):
        if item is Ellipsis:
            return items[:j] + (_ALL,) * (ndim - len(items) + 1) + items[j + 1 :]
    return items + (_ALL,) * (ndim - len(items))


_Part: TypeAlias = tuple[Axis, int, slice | None]
"""Of one dimension: the segments, the length along the work array, and its part of `Selection.view`."""


def _product(parts: Sequence[_Part], clipped: bool) -> Selection:
    work_shape = tuple([length for _, length, _ in parts])
    out_shape = tuple([length for _, length, view in parts if view is not None])
    view = tuple([view for _, _, view in parts])
    return Selection(Product(tuple([axis for axis, _, _ in parts])), work_shape, out_shape, view, clipped)


def _clipped(paired: Sequence[tuple[Item, int, int]]) -> bool:
    """Whether a slice would take more elements, or other ones, if its dimension were longer; slices with open ends would not.

    A slice that starts at the very end (`a[n:]`) is taken to ask for elements that others have appended.
    """
    for item, length, _ in paired:
        if type(item) is not slice or (item.start is None and item.stop is None):
            continue
        if item.stop is not None and (item.step is None or index(item.step) > 0):
            if index(item.stop) > length:
                return True
        elif item.start is not None and index(item.start) >= length:
            return True
    return False


def _points(region: Points, out_shape: Shape) -> Selection:
    work_shape = (len(region.coords),) + (1,) * (region.ndim - 1) if region.ndim else ()
    return Selection(region, work_shape, out_shape, None)


def _paired(selection: Item, shape: Sequence[int]) -> list[tuple[Item, int, int]]:
    """One part of the expression for each dimension, with the length and the number of the dimension."""
    items = list(selection) if isinstance(selection, tuple) else [selection]
    new_axes = [item for item in items if item is None]
    if new_axes:
        raise SelectionError("np.newaxis in a selection", got=selection, hint=NEWAXIS_HINT)
    gaps = [j for j, item in enumerate(items) if item is Ellipsis]
    if len(gaps) > 1:
        raise SelectionError("more than one ellipsis", got=selection)
    missing = len(shape) - (len(items) - len(gaps))
    if missing < 0:
        raise SelectionError("too many indices", expected=f"at most {len(shape)}", got=len(items) - len(gaps))
    at = gaps[0] if gaps else len(items)
    items[at : at + len(gaps)] = [slice(None)] * missing
    return [(item, length, j) for j, (item, length) in enumerate(zip(items, shape, strict=True))]


def _basic_item(item: Item, length: int, dimension: int) -> _Part:
    if not isinstance(item, slice):
        return Axis.segment(_wrap_one(item, length, dimension), 1), 1, None
    start, stop, step = _indices(item, length, dimension)
    count = len(range(start, stop, step))
    if step < 0:
        return Axis.segment(start + (count - 1) * step, count, -step), count, slice(None, None, -1)
    return Axis.segment(start, count, step), count, slice(None)


def _orthogonal_item(item: Item, length: int, dimension: int) -> _Part:
    if not _is_array(item):
        return _basic_item(item, length, dimension)
    where = f"dimension {dimension}"
    array = _array(item)
    if array.ndim != 1:
        raise SelectionError("an orthogonal index has one dimension", field=where, got=array.shape, hint=FANCY_HINT)
    if array.dtype == np.bool_:
        if len(array) != length:
            raise SelectionError("a mask has the length of its dimension", field=where, expected=length, got=len(array))
        coords = np.flatnonzero(array)
    else:
        coords = _wrap(_integers(item, dimension), length, dimension)
    first = np.flatnonzero(np.diff(coords, prepend=-2) != 1)
    return Axis(coords[first], first, np.diff(first, append=len(coords))), len(coords), slice(None)


def _is_array(item: Item) -> bool:
    """Whether a part is an array of indices; an integer array of no dimension is an integer."""
    if isinstance(item, list | tuple | range | np.bool_):
        return True
    if isinstance(item, np.generic) or not hasattr(item, "__array__"):
        return False
    array = _array(item)
    return array.ndim > 0 or array.dtype == np.bool_


def _is_mask(item: Item) -> bool:
    return _is_array(item) and _array(item).dtype == np.bool_


def _is_integral(item: Item) -> bool:
    return _is_array(item) or (hasattr(item, "__index__") and not isinstance(item, bool | np.bool_))


def _array(item: Item) -> Values:
    if np.ma.is_masked(item):
        raise SelectionError("an index with masked elements", got=item, hint="Say what they stand for: .filled(...)")
    try:
        return np.asarray(item)
    except ValueError as cause:
        raise SelectionError("not an array of indices", got=item) from cause


def _integers(item: Item, dimension: int) -> IntArray:
    array = _array(item)
    if array.size == 0 and isinstance(item, list | tuple):
        array = array.astype(np.int64)  # NumPy reads [] as floats, and indexes with it all the same
    if not np.issubdtype(array.dtype, np.integer):
        where = f"dimension {dimension}"
        raise SelectionError("indices must be integers", field=where, expected="integers", got=array.dtype)
    if array.dtype == np.uint64:
        array = np.minimum(array, np.uint64(MAX_COORDINATE))  # a plain cast would make it negative; this is outside of every array
    return array.astype(np.int64, copy=False)


def _wrap(coords: IntArray, length: int, dimension: int) -> IntArray:
    """Negative indices count from the end."""
    wrapped = np.where(coords < 0, coords + length, coords)
    outside = (wrapped < 0) | (wrapped >= length)
    if outside.any():
        raise _outside(int(coords[outside].flat[0]), length, dimension)
    return wrapped


def _wrap_one(item: Item, length: int, dimension: int) -> int:
    number = as_int(item, "an index")
    wrapped = number + length if number < 0 else number
    if not 0 <= wrapped < length:
        raise _outside(number, length, dimension)
    return wrapped


def _outside(number: int, length: int, dimension: int) -> BoundsError:
    expected = f"{-length} <= index < {length}"
    return BoundsError("index outside of its dimension", field=f"dimension {dimension}", expected=expected, got=number)


def _indices(item: slice, length: int, dimension: int) -> tuple[int, int, int]:
    """The ends and the step of a slice, clamped as NumPy does."""
    for part in (item.start, item.stop, item.step):
        if part is not None and type(part) is not int:
            as_int(part, "a part of a slice")
    if item.step == 0:
        raise SliceStepError("a slice steps by zero", field=f"dimension {dimension}", got=item)
    return item.indices(length)
