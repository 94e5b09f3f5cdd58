"""Which elements were written: held against a mask of booleans."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zarrant.geometry.written import MAX_BOXES, Written

SHAPE = (5, 4, 3)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]:
    start = tuple(draw(st.integers(0, n - 1)) for n in SHAPE)
    stop = tuple(draw(st.integers(a + 1, n)) for a, n in zip(start, SHAPE, strict=True))
    step = tuple(draw(st.integers(1, 2)) for _ in SHAPE) if draw(st.integers(0, 9)) == 0 else None
    return start, stop, step


@given(st.lists(boxes(), max_size=40))
def test_boxes_say_the_same_as_a_mask(added: list[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...] | None]]) -> None:
    written, mask = Written(SHAPE), np.zeros(SHAPE, bool)
    for start, stop, step in added:
        written.add(start, stop, step)
        mask[tuple(map(slice, start, stop, step or (1,) * 3))] = True
        found = np.zeros(SHAPE, int)
        if written.mask is not None:
            found += written.mask
        for low, high in written.boxes:
            found[tuple(map(slice, low, high))] += 1
        assert found.max() == 1, "no box overlaps another"
        assert (found.astype(bool) == mask).all()
        assert written.size == mask.sum()
        assert (mask[written.bounds().slices].sum(), written.bounds().size) == (mask.sum(), _around(mask))
    # Several boxes that cover a shape together may not be seen to: they are once they have become one box.
    assert not written.covers(SHAPE) or mask.all()
    assert written.covers(SHAPE) or written.mask is None or not mask.all()


def _around(mask: np.ndarray) -> int:
    return math.prod(int(np.ptp(axis)) + 1 for axis in np.nonzero(mask))


def test_frames_and_tiles_in_any_order_become_one_box() -> None:
    for order in ([3, 0, 4, 1, 2], [0, 1, 2, 3, 4], [4, 3, 2, 1, 0]):
        written = Written(SHAPE)
        for row in order:
            assert not written.covers(SHAPE)
            for column in range(4):
                written.add((row, column, 0), (row + 1, column + 1, 3))
        assert written.covers(SHAPE)
        assert written.boxes == [((0, 0, 0), SHAPE)]


def test_a_part_at_the_end_covers_its_bounds() -> None:
    written = Written(SHAPE)
    written.add((0, 0, 0), (2, 4, 3))
    assert written.covers((2, 4, 3))
    assert not written.covers((3, 4, 3))


def test_many_boxes_become_a_mask() -> None:
    written = Written((4 * MAX_BOXES,))
    for i in range(0, 4 * MAX_BOXES, 2):
        written.add((i,), (i + 1,))
    assert written.mask is not None
    assert written.nbytes == 4 * MAX_BOXES
    assert not written.covers((4 * MAX_BOXES,))
    written.add((1,), (4 * MAX_BOXES,), (2,))
    assert written.covers((4 * MAX_BOXES,))


def test_no_dimensions() -> None:
    written = Written(())
    assert not written.covers(())
    written.add((), ())
    assert written.covers(())
