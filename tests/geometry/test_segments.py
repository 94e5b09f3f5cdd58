from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.errors import BoundsError
from zarrant.geometry import segments
from zarrant.geometry.grid import Dimension, RegularDimension
from zarrant.geometry.segments import Axis, covered, cut, ranges, unravel


@dataclass(frozen=True)
class Uneven:
    """Chunks of given lengths: nothing may rely on equal ones."""

    lengths: tuple[int, ...]
    array_length: int
    uniform: None = None

    @property
    def n_chunks(self) -> int:
        return len(self.lengths)

    def locate(self, coords):
        return np.searchsorted(np.cumsum(self.lengths), coords, side="right")

    def start(self, chunks):
        return (np.cumsum(self.lengths) - np.array(self.lengths))[chunks]

    def length(self, chunks):
        return np.array(self.lengths)[chunks]


@st.composite
def dimensions(draw: st.DrawFn) -> Dimension:
    if draw(st.booleans()):
        return RegularDimension(draw(st.integers(1, 40)), draw(st.integers(1, 45)))
    lengths = tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=6)))
    return Uneven(lengths, sum(lengths) - draw(st.integers(0, lengths[-1] - 1)))


@st.composite
def axes(draw: st.DrawFn, length: int) -> Axis:
    step = draw(st.integers(1, 12))
    starts = draw(st.lists(st.integers(0, length - 1), max_size=5))
    counts = [draw(st.integers(0, (length - 1 - start) // step + 1)) for start in starts]
    values = np.cumsum([0, *counts])[:-1]
    return Axis(np.array(starts, np.int64), values, np.array(counts, np.int64), step)


def pairs(axis: Axis, offset: int = 0) -> list[tuple[int, int]]:
    """(element, value), in order."""
    found = []
    for start, value, count in zip(axis.start.tolist(), axis.value.tolist(), axis.count.tolist(), strict=True):
        found += [(offset + start + i * axis.step, value + i) for i in range(count)]
    return found


@given(st.data())
def test_cutting_keeps_every_pair_and_their_order(data: st.DataObject) -> None:
    dimension = data.draw(dimensions())
    axis = data.draw(axes(dimension.array_length))
    expected = defaultdict(list)
    for element, value in pairs(axis):
        expected[int(dimension.locate(np.array([element]))[0])].append((element, value))
    pieces = cut(axis, dimension, dimension.array_length)
    assert pieces.chunks.tolist() == sorted(expected)
    assert (pieces.axis.count > 0).all()
    for c, chunk in enumerate(pieces.chunks.tolist()):
        origin = int(dimension.start(np.array([chunk]))[0])
        length = min(int(dimension.length(np.array([chunk]))[0]), dimension.array_length - origin)
        assert pairs(pieces.of(c), origin) == expected[chunk]
        assert pieces.in_bounds[c] == length
        assert pieces.full[c] == (len({element for element, _ in expected[chunk]}) == length)


@given(st.data())
def test_a_run_is_cut_as_any_axis_is(data: st.DataObject) -> None:
    """`_cut_run` skips work; what it says must be what the general way says."""
    dimension = data.draw(dimensions())
    start = data.draw(st.integers(0, dimension.array_length - 1))
    run = Axis.segment(start, data.draw(st.integers(1, dimension.array_length - start)), value=data.draw(st.integers(0, 5)))
    # A second segment of no elements keeps the axis off the short way.
    general = Axis(*(np.append(column, 0) for column in (run.start, run.value, run.count)))
    fast, slow = cut(run, dimension, dimension.array_length), cut(general, dimension, dimension.array_length)
    for name in ("chunks", "in_bounds", "full", "first"):
        assert getattr(fast, name).tolist() == getattr(slow, name).tolist()
    for name in ("start", "value", "count", "step"):
        assert np.array_equal(getattr(fast.axis, name), getattr(slow.axis, name))


def test_a_long_step_costs_its_elements_not_the_chunks_between() -> None:
    dimension = RegularDimension(10**15, 1)
    pieces = cut(Axis.segment(5, 3, 10**14), dimension, dimension.array_length)
    assert pieces.chunks.tolist() == [5, 5 + 10**14, 5 + 2 * 10**14]


def test_a_long_run_costs_its_chunks_not_its_elements() -> None:
    dimension = RegularDimension(10**18, 10**17)
    assert cut(Axis.segment(0, 10**18), dimension, dimension.array_length).full.all()
    pieces = cut(Axis.segment(0, 10**17, 10), dimension, dimension.array_length)
    assert pieces.axis.count.tolist() == [10**16] * 10
    assert not pieces.full.any()


@pytest.mark.parametrize(("start", "count", "step"), [(-1, 2, 1), (0, 11, 1), (8, 2, 2), (-1, 2, 3), (10, 1, 1)])
def test_outside_of_the_bound(start: int, count: int, step: int) -> None:
    with pytest.raises(BoundsError, match="0:10"):
        cut(Axis.segment(start, count, step), RegularDimension(12, 4), 10)


def test_segment_of_one_element_has_no_step() -> None:
    assert Axis.segment(3, 1, 10**30).step == 1
    assert Axis.segment(3, 2, 4).step == 4


@given(st.lists(st.integers(0, 5)))
def test_ranges(counts: list[int]) -> None:
    assert ranges(np.array(counts, np.int64)).tolist() == [i for count in counts for i in range(count)]


def test_unravel_takes_radices_for_each_number() -> None:
    high, low = unravel(np.array([3, 3]), [np.array([4, 4]), np.array([1, 2])])
    assert (high.tolist(), low.tolist()) == ([3, 1], [0, 1])
    assert unravel(np.arange(3), []) == []


def test_covered_counts_duplicates_once() -> None:
    row, offset = np.array([0, 0, 1, 1]), np.array([1, 0, 0, 0])
    assert covered(row, offset, np.array([2, 2])).tolist() == [True, False]
    empty = np.empty(0, np.int64)
    assert covered(empty, empty, empty).tolist() == []


def test_coverage_is_looked_at_only_where_the_counts_suffice(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def spy(row, offset, length):
        sizes.append(int(length.sum()))
        return covered(row, offset, length)

    monkeypatch.setattr(segments, "covered", spy)
    starts = np.array([0, 10**9, 10**9 + 2, 10**9 + 1])
    axis = Axis(starts, np.arange(4), np.ones(4, np.int64))
    assert cut(axis, RegularDimension(10**9 + 3, 10**9), 10**9 + 3).full.tolist() == [False, True]
    assert sizes == [3]
