from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrant.errors import BoundsError, ShapeError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.points import Points, points_region
from zarrant.geometry.region import Box, Product, Region, _in_one_chunk, _ProductSelections, box_region
from zarrant.geometry.segments import Axis, cut


@st.composite
def shapes(draw: st.DrawFn, least: int = 0) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """An array shape, and chunk shapes of up to three levels."""
    shape = tuple(draw(st.lists(st.integers(least, 9), max_size=3)))
    levels = draw(st.integers(1, 3))
    return shape, [tuple(draw(st.integers(1, 11 >> level)) for _ in shape) for level in range(levels)]


@st.composite
def products(draw: st.DrawFn, shape: tuple[int, ...]) -> Product:
    axes = []
    for length in shape:
        step = draw(st.integers(1, 4))
        starts = draw(st.lists(st.integers(0, length - 1), max_size=4)) if length else []
        counts = [draw(st.integers(0, (length - 1 - start) // step + 1)) for start in starts]
        columns = (np.array(column, np.int64) for column in (starts, np.cumsum([0, *counts])[:-1], counts))
        axes.append(Axis(*columns, step))
    return Product(tuple(axes))


@st.composite
def point_lists(draw: st.DrawFn, shape: tuple[int, ...]) -> Points:
    length = draw(st.integers(0, 12)) if math.prod(shape) else 0
    coords = [[draw(st.integers(0, length - 1)) for length in shape] for _ in range(length)]
    return points_region(np.array(coords, np.int64).reshape(length, len(shape)))


def work_shape(region: Region) -> tuple[int, ...]:
    if isinstance(region, Box):
        return region.shape
    if isinstance(region, Product):
        return tuple(int(axis.count.sum()) for axis in region.axes)
    assert isinstance(region, Points)
    return tuple(len(region.coords) if j == region.axis else 1 for j in range(region.ndim))


def index_of(region: Region) -> tuple:
    """An index that gives `array[index]` of the work shape."""
    if isinstance(region, Points):
        along = tuple(-1 if j == region.axis else 1 for j in range(region.ndim))
        return tuple(region.coords[:, j].reshape(along) for j in range(region.ndim))
    parts = []
    for axis in (region.product if isinstance(region, Box) else region).axes:
        rows = zip(axis.start.tolist(), axis.count.tolist(), strict=True)
        parts.append(np.array([start + i * axis.step for start, count in rows for i in range(count)], np.int64))
    return np.ix_(*parts)


def check(region: Region, shape: tuple[int, ...], chunks: list[tuple[int, ...]], copy_by) -> None:
    array = np.arange(math.prod(shape)).reshape(shape)
    index = index_of(region)
    values = np.full(work_shape(region), -1)
    copy_by(region, array, values, chunks, write=False)
    assert np.array_equal(values, array[index] if index else array)
    written, expected = array.copy(), array.copy()
    values = -1 - np.arange(values.size).reshape(values.shape)
    copy_by(region, written, values, chunks, write=True)
    expected[index] = values
    assert np.array_equal(written, expected)


@given(shapes(), st.data())
def test_a_product_reads_and_writes_as_ix_does(copy_by, given_shapes, data: st.DataObject) -> None:
    shape, chunks = given_shapes
    check(data.draw(products(shape)), shape, chunks, copy_by)


@given(shapes(least=1).filter(lambda s: s[0] != ()), st.data())
def test_points_read_and_write_as_numpy_does(copy_by, given_shapes, data: st.DataObject) -> None:
    shape, chunks = given_shapes
    check(data.draw(point_lists(shape)), shape, chunks, copy_by)


@given(shapes(least=1).filter(lambda s: s[0] != ()), st.data())
def test_a_transposed_region_is_that_of_the_transposed_arrays(copy_by, given_shapes, data: st.DataObject) -> None:
    shape, chunks = given_shapes
    region = data.draw(st.one_of(products(shape), point_lists(shape)))
    order = data.draw(st.permutations(range(len(shape))))
    array = np.arange(math.prod(shape)).reshape(shape)
    values = np.full(work_shape(region), -1)
    turned = region.transpose(order)
    chunk = tuple(chunks[0][j] for j in order)
    copy_by(turned, array.transpose(order), values.transpose(order), [chunk], write=False)
    assert np.array_equal(values, array[index_of(region)])
    assert work_shape(turned) == values.transpose(order).shape


def test_boxes_of_values_start_where_asked() -> None:
    chunks = box_region(ArraySubset((3, 0), (4, 2)), (10, 20)).split(ChunkGrid.regular((8, 2), (4, 2)), (8, 2))
    boxes = chunks.boxes(0, 2)
    assert chunks.index.tolist() == [[0, 0], [1, 0]]
    assert boxes.row.tolist() == [0, 1]
    assert boxes.value_start.tolist() == [[10, 20], [11, 20]]
    assert boxes.chunk_start.tolist() == [[3, 0], [0, 0]]
    assert boxes.shape.tolist() == [[1, 2], [3, 2]]


def test_rows_count_from_the_first_chunk_asked_for() -> None:
    points = points_region(np.array([[9], [0], [5], [9]]))
    chunks = points.split(ChunkGrid.regular((10,), (5,)), (10,))
    assert chunks.n == 2
    boxes = chunks.boxes(1, 2)
    assert boxes.row.tolist() == [0, 0, 0]
    assert boxes.value_start.tolist() == [[0], [2], [3]]
    assert boxes.chunk_start.tolist() == [[4], [0], [4]]
    assert chunks.boxes(1, 1).row.tolist() == []


def test_no_dimensions_is_one_chunk_and_one_box() -> None:
    grid = ChunkGrid.regular((), ())
    for region in (Product(()), points_region(np.empty((1, 0), np.int64))):
        chunks = region.split(grid, ())
        assert (chunks.n, chunks.index.shape, chunks.full.tolist(), chunks.shape(0)) == (1, (1, 0), [True], ())
        boxes = chunks.boxes(0, 1)
        assert (boxes.row.tolist(), boxes.shape.shape, boxes.step.shape) == ([0], (1, 0), (0,))
        assert chunks.region(0).ndim == region.transpose(()).ndim == 0
    none = points_region(np.empty((0, 0), np.int64))
    assert none.split(grid, ()).n == 0


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0)])
def test_nothing_is_touched_in_an_array_without_elements(shape: tuple[int, ...]) -> None:
    grid = ChunkGrid.regular(shape, (3,) * len(shape))
    for region in (box_region(ArraySubset.full(shape)), points_region(np.empty((0, len(shape)), np.int64))):
        chunks = region.split(grid, shape)
        assert chunks.n == 0
        assert chunks.index.shape == (0, len(shape))
        assert chunks.boxes(0, 0).shape.shape == (0, len(shape))


def test_bounds_are_those_given_not_those_of_the_grid() -> None:
    """A subchunk at the array's edge is full when the part that exists is covered."""
    grid = ChunkGrid.regular((8,), (4,))
    chunks = box_region(ArraySubset((0,), (6,))).split(grid, (6,))
    assert chunks.full.tolist() == [True, True]
    assert chunks.shape(1) == (2,)
    assert box_region(ArraySubset((0,), (6,))).split(grid, (8,)).full.tolist() == [True, False]


def test_outside_of_the_bounds() -> None:
    grid = ChunkGrid.regular((8, 8), (4, 4))
    with pytest.raises(BoundsError):
        box_region(ArraySubset((0, 0), (8, 7))).split(grid, (8, 6))
    for point in ([0, 6], [-1, 0]):
        with pytest.raises(BoundsError):
            points_region(np.array([[0, 0], point])).split(grid, (8, 6))


def test_dimensions_must_agree() -> None:
    grid = ChunkGrid.regular((8, 8), (4, 4))
    for region in (box_region(ArraySubset.full((8,))), points_region(np.array([[0]]))):
        with pytest.raises(ShapeError):
            region.split(grid, (8, 8))
    with pytest.raises(ShapeError):
        box_region(ArraySubset.full((8, 8))).split(grid, (8,))


def test_grids_beyond_64_bits() -> None:
    """More chunks, and more elements a chunk, than an int64 can count."""
    coords = np.array([[2**40, 0, 3], [0, 2**40, 3], [2**40, 0, 3]])
    many = points_region(coords).split(ChunkGrid.regular((2**41,) * 3, (1,) * 3), (2**41,) * 3)
    assert many.index.tolist() == [[0, 2**40, 3], [2**40, 0, 3]]
    assert many.full.all()
    vast = points_region(coords).split(ChunkGrid.regular((2**41,) * 3, (2**41,) * 3), (2**41,) * 3)
    assert (vast.n, vast.full.tolist()) == (1, [False])
    box = box_region(ArraySubset((2**40 - 1,) * 3, (2,) * 3)).split(ChunkGrid.regular((2**41,) * 3, (2,) * 3), (2**41,) * 3)
    assert box.n == 8
    assert not box.full.any()


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_many_chunks_at_once_agree_with_arithmetic(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape, chunk = rng.integers(20, 60, 3), rng.integers(2, 7, 3)
    start = rng.integers(0, shape)
    length = rng.integers(1, shape - start + 1)
    subset = ArraySubset(tuple(start.tolist()), tuple(length.tolist()))
    grid = ChunkGrid.regular(shape.tolist(), chunk.tolist())
    chunks = box_region(subset).split(grid, grid.array_shape)
    touched = grid.chunks_in(subset)
    assert chunks.n == touched.size
    expected = np.stack(np.unravel_index(np.arange(chunks.n), touched.shape), axis=1) + np.array(touched.start)
    assert np.array_equal(chunks.index, expected)
    boxes = chunks.boxes(0, chunks.n)
    origin = expected * chunk
    low, high = np.maximum(origin, start), np.minimum(origin + chunk, start + length)
    assert np.array_equal(boxes.chunk_start, low - origin)
    assert np.array_equal(boxes.value_start, low - start)
    assert np.array_equal(boxes.shape, high - low)
    assert np.array_equal(chunks.full, ((low == origin) & (high == np.minimum(origin + chunk, shape))).all(axis=1))


@given(st.data())
def test_a_box_in_one_chunk_is_cut_as_any_other(draw: st.DataObject) -> None:
    """The short cut for one chunk gives what the general cut gives."""
    side = st.tuples(st.integers(1, 9), st.integers(0, 30), st.integers(1, 9), st.integers(0, 5))
    sides = draw.draw(st.lists(side, min_size=1, max_size=3))
    grid = ChunkGrid.regular([start + count + over for _, start, count, over in sides], [size for size, *_ in sides])
    bounds = [start + count + over for _, start, count, over in sides]
    axes = tuple(Axis.segment(start, count, value=7) for _, start, count, _ in sides)
    alone = _in_one_chunk(
        Box(*(tuple(side) for side in zip(*[each[1:3] for each in sides], strict=True)), (7,) * len(sides)), grid, bounds
    )
    crossed = any(start // size != (start + count - 1) // size for size, start, count, _ in sides)
    assert (alone is None) == crossed
    if alone is None:
        return
    pieces = tuple(cut(*each) for each in zip(axes, grid.dimensions, bounds, strict=True))
    general = _ProductSelections(
        1, np.array([[int(p.chunks[0]) for p in pieces]]), np.array([all(p.full[0] for p in pieces)]), pieces
    )
    assert alone.n == 1
    assert alone.index.tolist() == general.index.tolist()
    assert alone.full.tolist() == general.full.tolist()
    assert alone.shape(0) == general.shape(0)
    assert alone.shapes(0, 1).tolist() == general.shapes(0, 1).tolist()
    for mine, theirs in zip(alone.boxes(0, 1), general.boxes(0, 1), strict=True):
        assert (mine.tolist(), mine.dtype) == (theirs.tolist(), theirs.dtype)
    inner = ChunkGrid.regular(alone.shape(0), [1] * len(sides))
    again = [chunks.region(0).split(inner, alone.shape(0)) for chunks in (alone, general)]
    assert again[0].index.tolist() == again[1].index.tolist()
    assert alone.boxes(0, 0).row.size == 0
    chunk, values = np.arange(math.prod(alone.bounds)).reshape(alone.bounds), np.zeros([7 + n for n in alone.count], int)
    alone.of_values(values)[...] = alone.of_chunk(chunk)
    (_, at, into, count, _), put = alone.boxes(0, 1), np.zeros_like(values)
    put[tuple(map(slice, into[0], into[0] + count[0]))] = chunk[tuple(map(slice, at[0], at[0] + count[0]))]
    assert np.array_equal(values, put)
