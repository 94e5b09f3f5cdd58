"""Which elements of a box were written: a few boxes that do not overlap, or a mask where they would be many.

In come boxes, in any order. Out go whether they cover a shape, and the boxes. Boxes that touch or overlap along one dimension,
and are equal along the others, become one: frames of a movie or tiles of a picture are one box when they are complete.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from zarrant.geometry.box import ArraySubset, Shape

MAX_BOXES = 32
"""Each box is compared with all others when one is added (0.3 µs each): up to here that costs less than marking a mask."""

Box = tuple[Shape, Shape]


class Written:
    """The elements of a box of `shape` that were written.

    >>> written = Written((4, 6))
    >>> for row in (0, 3, 1, 2):
    ...     written.add((row, 0), (row + 1, 6))
    >>> written.boxes, written.covers((4, 6))
    ([((0, 0), (4, 6))], True)
    """

    __slots__ = ("boxes", "mask", "shape")

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.boxes: list[Box] = []
        self.mask: npt.NDArray[np.bool_] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the mask."""
        return 0 if self.mask is None else self.mask.nbytes

    def add(self, start: Shape, stop: Shape, step: Shape | None = None) -> None:
        """The elements from `start` to `stop` were written, every one of them or each `step`-th."""
        if self.mask is None and (step is None or all(n == 1 for n in step)):
            new: Box | None = start, stop
            while new is not None:
                new = self._merge(new)
            if len(self.boxes) <= MAX_BOXES and not self._overlap():
                return
        if self.mask is None:
            self.mask = np.zeros(self.shape, np.bool_)
            for low, high in self.boxes:
                self.mask[tuple(map(slice, low, high))] = True
            self.boxes = []
        self.mask[tuple(map(slice, start, stop, step or (1,) * len(start)))] = True

    def _merge(self, new: Box) -> Box | None:
        """Add a box; where it becomes one with another, that one is taken out and both are returned as one, to be added again."""
        for i, old in enumerate(self.boxes):
            union = _union(old, new)
            if union is not None:
                if union == old:
                    return None
                del self.boxes[i]
                return union
        self.boxes.append(new)
        return None

    def _overlap(self) -> bool:
        """Whether the box that was added last overlaps another one."""
        if not self.boxes:
            return False
        start, stop = self.boxes[-1]
        return any(all(a < d and c < b for a, b, c, d in zip(start, stop, low, high, strict=True)) for low, high in self.boxes[:-1])

    def covers(self, shape: Shape) -> bool:
        """Whether every element of the box (0, shape) was written."""
        if self.mask is not None:
            return bool(self.mask[tuple(map(slice, shape))].all())
        return any(not any(low) and all(a >= b for a, b in zip(high, shape, strict=True)) for low, high in self.boxes)

    def bounds(self) -> ArraySubset:
        """The smallest box in which all lie."""
        if self.mask is None:
            low = tuple(min(axis) for axis in zip(*(start for start, _ in self.boxes), strict=True))
            high = tuple(max(axis) for axis in zip(*(stop for _, stop in self.boxes), strict=True))
            return ArraySubset(low, _difference(high, low))
        spans = []
        for axis in range(self.mask.ndim):
            places = np.flatnonzero(self.mask.any(axis=tuple(j for j in range(self.mask.ndim) if j != axis)))
            spans.append((int(places[0]), int(places[-1]) + 1))
        return ArraySubset(tuple(a for a, _ in spans), tuple(b - a for a, b in spans))

    @property
    def size(self) -> int:
        """How many elements were written."""
        if self.mask is not None:
            return int(np.count_nonzero(self.mask))
        return sum(math.prod(_difference(stop, start)) for start, stop in self.boxes)


def _union(a: Box, b: Box) -> Box | None:
    """Two boxes as one, where all that the one contains is in one of the two: None where it is not."""
    (a0, a1), (b0, b1) = a, b
    apart = -1
    for axis in range(len(a0)):
        if a0[axis] != b0[axis] or a1[axis] != b1[axis]:
            if apart >= 0:
                return _outer(a, b)
            apart = axis
    if apart < 0:
        return a
    if a0[apart] > b1[apart] or b0[apart] > a1[apart]:
        return None
    low, high = min(a0[apart], b0[apart]), max(a1[apart], b1[apart])
    return (*a0[:apart], low, *a0[apart + 1 :]), (*a1[:apart], high, *a1[apart + 1 :])


def _outer(a: Box, b: Box) -> Box | None:
    """The one of two boxes that contains the other."""
    for (low, high), (start, stop) in ((a, b), (b, a)):
        if all(map(int.__le__, low, start)) and all(map(int.__ge__, high, stop)):
            return low, high
    return None


def _difference(a: Sequence[int], b: Sequence[int]) -> Shape:
    return tuple(x - y for x, y in zip(a, b, strict=True))
