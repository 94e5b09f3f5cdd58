from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.codecs.sharding.format import AT_FAULT, Index, locate, morton_order
from zarrant.errors import ChunkError

MISSING = 2**64 - 1


def table(*rows: tuple[int, int]):
    return np.array(rows, np.uint64)


def test_tables_and_back() -> None:
    stored = table((0, 4), (MISSING, MISSING), (4, 0), (4, 6))
    index = Index.from_table(stored, (0, 10))
    assert index.present.tolist() == [True, False, True, True]
    assert index.live_bytes == 10
    assert np.array_equal(index.to_table(), stored)
    assert not Index.empty(3).present.any()
    assert (Index.empty(3).to_table() == np.uint64(MISSING)).all()


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([(0, 4), (MISSING, 4)], [1]),
        ([(0, 4), (4, MISSING)], [1]),
        ([(0, 11)], [0]),
        ([(11, 0)], [0]),
        ([(10, 1)], [0]),
        ([(1, MISSING - 1)], [0]),
        ([(MISSING - 1, 2)], [0]),
        ([(MISSING - 3, 8)], [0]),
        ([(2**63, 1)], [0]),
        ([(0, 4), (3, 4)], [0, 1]),
        ([(5, 5), (0, 6)], [0, 1]),
        ([(2, 3), (2, 3)], [0, 1]),
        ([(0, 2), (1, 7), (2, 2), (4, 2)], [1]),
        ([(0, 2), (4, 2), (0, 10), (6, 2)], [2]),
        ([(0, 2), (5, 2), (6, 2), (MISSING, MISSING), (20, 1)], [1, 2, 4]),
    ],
)
def test_an_entry_that_cannot_be_costs_no_other(rows, wrong) -> None:
    index = Index.from_table(table(*rows), (0, 10))
    for row in range(len(rows)):
        if row in wrong:
            with pytest.raises(ChunkError) as caught:
                index.require(np.array([row]))
            assert caught.value.field == f"index[{row}]"
            assert caught.value.codec == "sharding_indexed"
            assert not index.present[row]
        else:
            index.require(np.array([row]))
            assert bool(index.present[row]) == (rows[row][0] != MISSING)
    again = Index.from_table(index.to_table(), (0, 10**6))
    assert np.flatnonzero(again.size == AT_FAULT).tolist() == wrong
    assert np.array_equal(again.to_table()[:, 0], table(*rows)[:, 0])
    assert not index.all_missing
    mended = index.moved(np.array(wrong), np.full(len(wrong), 8), np.full(len(wrong), 1))
    mended.require(np.arange(len(rows)))


def test_data_begin_after_an_index_at_the_start() -> None:
    assert Index.from_table(table((20, 4)), (20, 24)).present.all()
    with pytest.raises(ChunkError, match="outside"):
        Index.from_table(table((19, 4)), (20, 24)).require(np.array([0]))


def test_entries_move() -> None:
    index = Index.from_table(table((0, 4), (4, 4), (MISSING, MISSING)), (0, 8))
    moved = index.moved(np.array([1, 2]), np.array([9, 3]), np.array([-1, 5]))
    assert moved.to_table().tolist() == [[0, 4], [MISSING, MISSING], [3, 5]]
    assert index.present.tolist() == [True, True, False]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=12), st.randoms(use_true_random=False), st.data()
)
def test_runs_cover_what_is_asked_and_nothing_else(pieces, dice, data) -> None:
    at, offset, size = 0, [], []
    for gap, length in pieces:
        offset.append(at + gap)
        size.append(length)
        at += gap + length
    order = list(range(len(offset)))
    dice.shuffle(order)
    index = Index(np.array(offset)[order], np.array(size)[order])
    rows = np.array(sorted(data.draw(st.sets(st.sampled_from(range(len(order))), min_size=1))))
    begin, end, run = index.runs(rows)
    assert (begin[1:] > end[:-1]).all()
    covered = {byte for a, b in zip(begin, end, strict=True) for byte in range(a, b)}
    assert covered == {byte for row in rows for byte in range(index.offset[row], index.offset[row] + index.size[row])}
    assert ((begin[run] <= index.offset[rows]) & (index.offset[rows] + index.size[rows] <= end[run])).all()


def test_where_the_data_are() -> None:
    assert (locate(100, 20, False), locate(100, 20, True), locate(20, 20, False)) == ((0, 80), (20, 100), (0, 0))
    with pytest.raises(ChunkError, match="smaller"):
        locate(19, 20, True)


@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 2), (3, 5), (4, 1, 3), (1, 1)])
def test_morton_order_visits_each_cell_once(shape) -> None:
    order = morton_order(shape)
    assert sorted(order.tolist()) == list(range(int(np.prod(shape))))


def test_morton_order() -> None:
    assert morton_order((2, 2)).tolist() == [0, 1, 2, 3]
    assert morton_order((4, 4)).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]


def test_one_long_entry_may_overlap_many() -> None:
    index = Index(np.array([10, 0, 60, 50, 100]), np.array([10, 100, 5, 5, 5]))
    assert sorted(index.overlapping().tolist()) == [0, 2, 3]


ENTRIES = st.tuples(
    st.sampled_from([0, 3, 4, 5, 10, 11, 2**63, MISSING - 1, MISSING]), st.sampled_from([0, 1, 4, 6, 11, MISSING - 3, MISSING])
)


@given(st.lists(ENTRIES, max_size=4), st.sampled_from([(0, 10), (4, 10), (0, 0)]))
def test_few_steps_tell_what_many_do(rows: list[tuple[int, int]], data: tuple[int, int]) -> None:
    stored = np.array(rows, np.uint64).reshape(-1, 2)
    index, half, outside = Index.separate_faulty(stored, data)
    right = not (half.size or outside.size or index.overlapping().size)
    assert kernels.valid_index(stored.view(np.int64), *data) == right
    found = Index.from_table(stored, data)
    assert (found.faulty is None) == right
    if right:
        assert np.array_equal(found.offset, index.offset)
        assert np.array_equal(found.size, index.size)
        assert np.array_equal(found.to_table(), stored)


def test_removed_entries() -> None:
    index = Index.from_table(table((0, 4), (4, 4), (MISSING, MISSING)), (0, 8)).without(np.array([0]))
    assert (index.offset.tolist(), index.size.tolist()) == ([-1, 4, -1], [-1, 4, -1])
