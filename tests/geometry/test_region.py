from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrant.errors import BoundsError, ShapeError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.points import Points, points_region
from zarrant.geometry.region import (
    MAX_ALONG,
    MAX_FEW,
    Box,
    BoxInChunk,
    Product,
    ProductSelections,
    Region,
    _in_few_chunks,
    box_region,
)
from zarrant.geometry.segments import Axis


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


@given(shapes().filter(lambda s: s[0] != ()), st.data())
def test_combinations_of_segments_are_the_boxes(given_shapes, data: st.DataObject) -> None:
    shape, chunks = given_shapes
    found = data.draw(products(shape)).split(ChunkGrid.regular(shape, chunks[0]), shape)
    assert isinstance(found, ProductSelections)
    lo = data.draw(st.integers(0, found.n))
    hi = data.draw(st.integers(lo, found.n))
    boxes, outer = found.boxes(lo, hi), found.outer(lo, hi)
    chosen = [(row, *each) for row, spans in enumerate(outer.spans.tolist()) for each in product(*[range(*span) for span in spans])]
    segments = np.array([each[1:] for each in chosen], np.int64).reshape(len(chosen), len(shape))
    assert boxes.row.tolist() == [each[0] for each in chosen]
    assert np.array_equal(boxes.chunk_start, outer.chunk_start[segments])
    assert np.array_equal(boxes.value_start, outer.value_start[segments])
    assert np.array_equal(boxes.shape, outer.length[segments])
    assert np.array_equal(boxes.step, outer.step)


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
def test_a_box_in_few_chunks_is_cut_as_any_other(draw: st.DataObject) -> None:
    """The short cut for few chunks gives what the general cut gives."""
    side = st.tuples(st.integers(1, 9), st.integers(0, 30), st.integers(1, 30), st.integers(0, 5), st.integers(0, 9))
    sides = draw.draw(st.lists(side, min_size=1, max_size=3))
    grid = ChunkGrid.regular([start + count + over for _, start, count, over, _ in sides], [size for size, *_ in sides])
    bounds = [start + count + over for _, start, count, over, _ in sides]
    box = Box(*(tuple(column) for column in zip(*[(start, count, value) for _, start, count, _, value in sides], strict=True)))
    few = _in_few_chunks(box, grid, bounds)
    along = [(start + count - 1) // size - start // size + 1 for size, start, count, _, _ in sides]
    assert (few is None) == (max(along) > MAX_ALONG or math.prod(along) > MAX_FEW)
    if few is None:
        return
    assert isinstance(few, BoxInChunk) == (math.prod(along) == 1)
    general = box.product.split(grid, bounds)
    assert few.n == general.n
    assert (few.index.tolist(), few.index.dtype) == (general.index.tolist(), general.index.dtype)
    assert (few.full.tolist(), few.full.dtype) == (general.full.tolist(), general.full.dtype)
    lo = draw.draw(st.integers(0, few.n))
    hi = draw.draw(st.integers(lo, few.n))
    assert few.shapes(lo, hi).tolist() == general.shapes(lo, hi).tolist()
    for mine, theirs in zip(few.boxes(lo, hi), general.boxes(lo, hi), strict=True):
        assert (mine.tolist(), mine.dtype, mine.shape) == (theirs.tolist(), theirs.dtype, theirs.shape)
    for i in range(lo, hi):
        assert few.shape(i) == general.shape(i)
        assert few.region(i) == general.region(i)
        part = few if isinstance(few, BoxInChunk) else few.part(i)
        assert (part.index.tolist(), part.full.tolist()) == ([few.index[i].tolist()], [few.full[i]])
        for mine, theirs in zip(part.boxes(0, 1), general.boxes(i, i + 1), strict=True):
            assert mine.tolist() == theirs.tolist()


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8), st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=3))
def test_a_box_in_one_chunk_is_a_view_of_it(sides: list[tuple[int, int, int, int]]) -> None:
    shape, start, count = [tuple(column) for column in zip(*[(a + b + c, b, c) for a, b, c, _ in sides], strict=True)]
    value = tuple(each[3] for each in sides)
    alone = BoxInChunk((0,) * len(sides), start, value, count, shape)
    chunk, values = np.arange(math.prod(shape)).reshape(shape), np.zeros([a + b for a, b in zip(value, count, strict=True)], int)
    alone.of_values(values)[...] = alone.of_chunk(chunk)
    (_, at, into, length, _), put = alone.boxes(0, 1), np.zeros_like(values)
    put[tuple(map(slice, into[0], into[0] + length[0]))] = chunk[tuple(map(slice, at[0], at[0] + length[0]))]
    assert np.array_equal(values, put)
