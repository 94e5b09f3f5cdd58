"""Layouts that are proposed can be made, are neither tiny nor huge, and serve the access that they are for."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.geometry.layouts import (
    AUTO_SHARD_BYTES,
    AUTO_SUBCHUNKS,
    MIN_SUBCHUNK_DIVISOR,
    SUBCHUNK_BYTES,
    Layout,
    cube,
    grown,
    halved,
    layout_for_reads,
    layout_for_writes,
)

SIDES = st.one_of(st.integers(1, 40), st.sampled_from([64, 97, 1000, 1024, 4096, 9973, 99_991, 1_000_003]))
SHAPES = st.lists(SIDES, min_size=1, max_size=4).map(tuple)
ITEMS = st.sampled_from([1, 2, 4, 8])
SMALL = SUBCHUNK_BYTES // MIN_SUBCHUNK_DIVISOR


def made(shape: tuple[int, ...], layout: Layout, itemsize: int) -> zarrant.Array[object]:
    return zarrant.create_array({}, shape=shape, dtype=f"u{itemsize}", **layout._asdict())


@given(SHAPES, ITEMS)
def test_what_create_array_chooses_is_neither_tiny_nor_huge(shape: tuple[int, ...], itemsize: int) -> None:
    a = zarrant.create_array({}, shape=shape, dtype=f"u{itemsize}", shards="auto")
    chunk, whole = math.prod(a.chunks) * itemsize, math.prod(shape) * itemsize
    assert min(SMALL, whole) <= chunk <= SUBCHUNK_BYTES
    if a.shards is not None:
        assert math.prod(a.shards) * itemsize <= AUTO_SHARD_BYTES
        assert math.prod(a.shards) // math.prod(a.chunks) <= AUTO_SUBCHUNKS


@given(SHAPES, ITEMS, st.data())
@settings(max_examples=60)
def test_a_layout_for_writes_is_written_without_reads(shape: tuple[int, ...], itemsize: int, data: st.DataObject) -> None:
    box = tuple(data.draw(st.integers(1, side)) for side in shape)
    layout = layout_for_writes(shape, itemsize, box)
    stored = layout.shards or layout.chunks
    assert all(side % n == 0 or side == length for side, n, length in zip(box, stored, shape, strict=True))
    a = made(shape, layout, itemsize)
    if a.nchunks <= 10_000 and all(box):
        at = tuple(slice(0, side) for side in box)
        assert a.explain(at, write=True).merged == 0
    assert math.prod(layout.chunks) * itemsize >= min(SMALL, math.prod(stored) * itemsize)


@given(SHAPES, ITEMS, st.data())
@settings(max_examples=60)
def test_a_layout_for_reads_has_chunks_no_larger_than_a_box(shape: tuple[int, ...], itemsize: int, data: st.DataObject) -> None:
    box = tuple(data.draw(st.integers(1, side)) for side in shape)
    layout = layout_for_reads(shape, itemsize, box)
    made(shape, layout, itemsize)
    nbytes = math.prod(layout.chunks) * itemsize
    assert nbytes <= max(SUBCHUNK_BYTES, itemsize)
    if math.prod(box) * itemsize >= SUBCHUNK_BYTES:
        assert all(n <= side for n, side, length in zip(layout.chunks, box, shape, strict=True) if side > 1)
        assert nbytes >= SUBCHUNK_BYTES // 4 or any(n == 1 for n in box)


@given(SHAPES, ITEMS, st.integers(1, 2**22))
def test_halving_and_growing_keep_their_bounds(shape: tuple[int, ...], itemsize: int, most: int) -> None:
    small = halved(shape, itemsize, most)
    assert math.prod(small) * itemsize <= most or max(small) == 1
    assert all(1 <= n <= side for n, side in zip(small, shape, strict=True))
    large = grown(small, shape, most, range(len(shape)))
    assert all(n <= m <= side for n, m, side in zip(small, large, shape, strict=True))
    assert math.prod(large) <= max(most, math.prod(small))
    flat = cube(shape, most, free=range(1, len(shape)))
    assert flat[0] == 1
    assert np.prod(flat, dtype=object) <= most
