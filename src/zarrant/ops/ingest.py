"""A new array from data that need not be in memory: a dataset of a file, an array of Dask, another Zarr array.

In: an object with a shape, a type and `[...]`. Out: the stored array. The object is read block by block, each block of whole
chunks and of bounded size, and stored before the next is read. What can be refused by shape and type is refused before there is
an array; a value that does not fit is found when its block is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from zarrant.codecs.protocols import VARIABLE_ELEMENT_BYTES
from zarrant.errors import ShapeError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.region import box_region
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.casting import as_values, broadcast
from zarrant.ops.update import store_region
from zarrant.requests import Op

BLOCK_BYTES = 16 << 20
"""As `nodes.array.ITERATION_BYTES`: 16 chunks of the default size are stored side by side."""


def is_lazy(data: Any) -> bool:
    """Whether data are read through `[...]`, rather than there already as an array or a buffer."""
    if isinstance(data, np.ndarray | np.generic) or hasattr(data, "__array_interface__") or hasattr(data, "__dlpack__"):
        return False
    # The brackets of pandas take labels.
    return isinstance(getattr(data, "dtype", None), np.dtype) and hasattr(data, "__getitem__") and not hasattr(data, "iloc")


def check_lazy(array: BoundArray, data: Any) -> None:
    """ShapeError or DataTypeError where data can never be this array's."""
    if tuple(data.shape) != array.shape:
        raise ShapeError("data does not have the shape of the array", expected=array.shape, got=tuple(data.shape))
    as_values(array, np.empty(0, data.dtype))


def store_lazy(array: BoundArray, data: Any) -> Op[None]:
    """Store all of an array whose metadata this operation holds, block by block."""
    for box in blocks(array.shape, array.grid.typical_shapes()[0], array.data_type.itemsize or VARIABLE_ELEMENT_BYTES):
        values = broadcast(as_values(array, data[box.slices]), box.shape)
        yield from store_region(array, box_region(box), values, array.shape, metadata_locked=True)


def blocks(shape: Sequence[int], chunks: Sequence[int], itemsize: int) -> Iterator[ArraySubset]:
    """Boxes of whole chunks, of about `BLOCK_BYTES` or one chunk, that together are an array; the last dimension goes first.

    >>> [box.shape for box in blocks((3, 8), (2, 2), 2 << 20)]
    [(2, 4), (2, 4), (1, 4), (1, 4)]
    """
    if 0 in shape:
        return
    sides = [min(size, length) for size, length in zip(chunks, shape, strict=True)]
    for axis in reversed(range(len(sides))):
        fit = max(1, BLOCK_BYTES // (prod(sides) * itemsize))
        sides[axis] = min(fit * chunks[axis], shape[axis])
    for index in np.ndindex(*(-(-length // side) for length, side in zip(shape, sides, strict=True))):
        start = tuple(i * side for i, side in zip(index, sides, strict=True))
        lengths = tuple(min(side, length - low) for low, side, length in zip(start, sides, shape, strict=True))
        yield ArraySubset(start, lengths)
