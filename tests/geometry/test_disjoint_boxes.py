"""Tiles: what a split of each box alone says, in columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.errors import ShapeError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.disjoint_boxes import DisjointBoxes
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.rectilinear import RectilinearGrid
from zarrant.geometry.region import box_region

SHAPE, OUTER, INNER = (30, 20), (12, 8), (4, 2)


def tiles(rng: Any, n: int, bounds: tuple[int, ...]) -> DisjointBoxes:
    """Boxes in different chunks of the inner grid, in any order."""
    chunks = np.array(list(np.ndindex(*(-(-b // c) for b, c in zip(bounds, INNER, strict=True)))))
    chosen = rng.permutation(len(chunks))[:n]
    origin = chunks[chosen] * INNER
    shape = np.minimum(origin + INNER, bounds) - origin
    low = rng.integers(0, shape)
    high = rng.integers(low, shape) + 1
    whole = rng.random(n) < 0.5
    low[whole], high[whole] = 0, shape[whole]
    value = np.stack([np.arange(n) * INNER[0], np.zeros(n, int)], axis=1)
    return DisjointBoxes(origin + low, high - low, value)


def each(region: Any, grid: ChunkGrid, bounds: tuple[int, ...]) -> dict[tuple[int, ...], tuple[bool, tuple[int, ...], list[Any]]]:
    chunks = region.split(grid, bounds)
    assert chunks.index.tolist() == sorted(chunks.index.tolist())
    boxes = chunks.boxes(0, chunks.n)
    found = {}
    for i, index in enumerate(map(tuple, chunks.index.tolist())):
        mine = boxes.row == i
        columns = zip(boxes.chunk_start[mine].tolist(), boxes.value_start[mine].tolist(), boxes.shape[mine].tolist(), strict=True)
        found[index] = (bool(chunks.full[i]), chunks.shape(i), sorted(columns))
        assert chunks.shapes(i, i + 1).tolist() == [list(chunks.shape(i))]
    return found


@pytest.mark.parametrize("seed", range(20))
def test_like_the_boxes_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    region = tiles(rng, int(rng.integers(1, 60)), SHAPE)
    if seed % 2:
        region, shape, outer, inner = region.transpose((1, 0)), SHAPE[::-1], OUTER[::-1], INNER[::-1]
    else:
        shape, outer, inner = SHAPE, OUTER, INNER
    expected: dict[tuple[int, ...], list[Any]] = {}
    volume: dict[tuple[int, ...], int] = {}
    grid = ChunkGrid.regular(shape, outer)
    for start, count, value in zip(region.start, region.shape, region.value, strict=True):
        ((index, (_, _, boxes)),) = each(box_region(ArraySubset(tuple(start), tuple(count)), tuple(value)), grid, shape).items()
        expected.setdefault(index, []).extend(boxes)
        volume[index] = volume.get(index, 0) + int(np.prod(count))
    found = each(region, grid, shape)
    assert {index: boxes for index, (_, _, boxes) in found.items()} == {i: sorted(boxes) for i, boxes in expected.items()}
    assert {index: full for index, (full, length, _) in found.items()} == {
        index: volume[index] == np.prod(length) for index, (_, length, _) in found.items()
    }
    chunks = region.split(grid, shape)
    for i in range(chunks.n):
        inside = each(chunks.region(i), ChunkGrid.regular(outer, inner), chunks.shape(i))
        assert sum(len(boxes) for _, _, boxes in inside.values()) == len(chunks.region(i).start)


def test_refusals() -> None:
    one = DisjointBoxes(np.array([[0, 0]]), np.array([[4, 2]]), np.array([[0, 0]]))
    with pytest.raises(ShapeError):
        one.split(ChunkGrid.regular((8, 8), (3, 2)), (8, 8))
    with pytest.raises(ShapeError):
        one.split(ChunkGrid.regular((8, 8), (4, 2)), (3, 8))


@given(st.data())
def test_boxes_are_cut_as_each_alone(data: st.DataObject) -> None:
    """Of one shape, anywhere, over regular and other grids: as if each were split by itself."""
    shape = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple))
    size = tuple(data.draw(st.integers(1, length)) for length in shape)
    if data.draw(st.booleans()):
        pieces = ChunkGrid.regular(shape, tuple(data.draw(st.integers(1, length)) for length in shape))
    else:
        lengths = [data.draw(st.lists(st.integers(1, 5), min_size=length, max_size=length)) for length in shape]
        pieces = RectilinearGrid.from_json({"kind": "inline", "chunk_shapes": lengths}, shape)
    starts = data.draw(
        st.lists(st.tuples(*(st.integers(0, a - b) for a, b in zip(shape, size, strict=True))), min_size=1, max_size=5)
    )
    expected: list[Any] = []
    for number, start in enumerate(starts):
        value = (number * size[0], *(0,) * (len(size) - 1))
        selections = box_region(ArraySubset(start, size), value).split(pieces, shape)
        boxes = selections.boxes(0, selections.n)
        origins = np.array([pieces.origin(index) for index in selections.index[boxes.row].tolist()]).reshape(-1, len(shape))
        expected += np.concatenate([boxes.chunk_start + origins, boxes.shape, boxes.value_start], axis=1).tolist()
    cut = DisjointBoxes.cut(np.array(starts, np.int64), size, pieces)
    assert np.concatenate([cut.start, cut.shape, cut.value], axis=1).tolist() == expected
