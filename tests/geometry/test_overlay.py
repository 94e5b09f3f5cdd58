"""Layers: like one assignment after the other, whatever the grid."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.overlay import Overlay
from zarrant.geometry.region import Stack, box_region

SHAPE = (11, 9)


@st.composite
def boxes(draw: st.DrawFn) -> ArraySubset:
    start = [draw(st.integers(0, n - 1)) for n in SHAPE]
    return ArraySubset(tuple(start), tuple(draw(st.integers(1, n - low)) for n, low in zip(SHAPE, start, strict=True)))


@given(
    subsets=st.lists(boxes(), min_size=1, max_size=6),
    chunk=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    factor=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    turned=st.booleans(),
    step=st.integers(1, 5),
)
def test_later_layers_stay(
    subsets: list[ArraySubset], chunk: tuple[int, int], factor: tuple[int, int], turned: bool, step: int
) -> None:
    expected = np.zeros(SHAPE, "int64")
    arrays = []
    for number, subset in enumerate(subsets):
        arrays.append(np.arange(subset.size).reshape(subset.shape) + 1000 * (number + 1))
        expected[subset.slices] = arrays[-1]
    layers, values, shape, got = (
        Overlay(tuple(box_region(subset) for subset in subsets), tuple(range(len(subsets)))),
        Stack(tuple(arrays)),
        SHAPE,
        np.zeros(SHAPE, "int64"),
    )
    if turned:
        layers, values, shape, expected, got = layers.transpose((1, 0)), values.transpose((1, 0)), SHAPE[::-1], expected.T, got.T
    outer = ChunkGrid.regular(shape, tuple(c * f for c, f in zip(chunk, factor, strict=True)))
    chunks = layers.split(outer, shape)
    touched = np.zeros(outer.grid_shape, bool)
    for i in range(chunks.n):
        place = tuple(chunks.index[i])
        assert not touched[place]
        touched[place] = True
        origin = outer.origin(place)
        assert chunks.shape(i) == outer.in_bounds(place).shape
        inner = chunks.region(i).split(ChunkGrid.regular(outer.chunk_shape(place), chunk), chunks.shape(i))
        covered = (expected != 0)[outer.in_bounds(place).slices].all()
        assert covered or not chunks.full[i]
        for lo in range(0, inner.n, step):
            hi = min(lo + step, inner.n)
            assert [tuple(row) for row in inner.shapes(lo, hi)] == [inner.shape(row) for row in range(lo, hi)]
            for found, array in inner.boxes_by_source(lo, hi, values):
                for row, chunk_start, value_start, length in zip(*found[:4], strict=True):
                    at = [o + i * c + s for o, i, c, s in zip(origin, inner.index[lo + row], chunk, chunk_start, strict=True)]
                    target = tuple(slice(a, a + n) for a, n in zip(at, length, strict=True))
                    got[target] = array[tuple(slice(v, v + n) for v, n in zip(value_start, length, strict=True))]
    assert np.array_equal(got, expected)
