from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.errors import BoundsError, SelectionError, ShapeError
from zarrant.geometry import selection as selections
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import Box
from zarrant.geometry.selection import Selection, basic, block, mask, numpy_like, orthogonal, points

shapes = st.lists(st.integers(0, 8), max_size=3).map(tuple)


@st.composite
def slices(draw: st.DrawFn, length: int) -> slice:
    ends = st.none() | st.integers(-length - 2, length + 2)
    return slice(draw(ends), draw(ends), draw(st.none() | st.integers(1, 4) | st.integers(-4, -1)))


@st.composite
def basic_items(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    kinds = [slices(length) | st.integers(-length, length - 1) if length else slices(length) for length in shape]
    items = [draw(kind) for kind in kinds]
    if draw(st.booleans()):
        low = draw(st.integers(0, len(items)))
        items[low : draw(st.integers(low, len(items)))] = [Ellipsis]
    else:
        items = items[: draw(st.integers(0, len(items)))]
    return items[0] if len(items) == 1 and draw(st.booleans()) else tuple(items)


@st.composite
def orthogonal_items(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple:
    items: list[Any] = []
    for length in shape:
        kind = draw(st.sampled_from(["slice", "int", "list", "array", "mask"]))
        if kind == "mask":
            items.append(np.array(draw(st.lists(st.booleans(), min_size=length, max_size=length)), bool))
        elif kind == "slice" or not length:
            items.append(draw(slices(length)))
        elif kind == "int":
            items.append(draw(st.integers(-length, length - 1)))
        else:
            coords = draw(st.lists(st.integers(-length, length - 1), max_size=9))
            items.append(coords if kind == "list" else np.array(coords, np.int32))
    return tuple(items)


def ix(items: tuple, shape: tuple[int, ...]) -> tuple[tuple, tuple[int, ...]]:
    """The index of `np.ix_` for an orthogonal selection, and the dimensions that integers drop."""
    lines = [np.arange(length)[item] for item, length in zip(items, shape, strict=True)]
    dropped = tuple(j for j, line in enumerate(lines) if np.ndim(line) == 0)
    return np.ix_(*[np.atleast_1d(line) for line in lines]), dropped


def read(copy_by, selection: Selection, array: np.ndarray, chunks: list) -> np.ndarray:
    out = np.full(selection.out_shape, -1)
    work = selection.to_work(out)
    assert work.shape == selection.work_shape
    assert work.size == 0 or out.size == 0 or np.shares_memory(work, out)
    copy_by(selection.region, array, work, chunks, write=False)
    return out


def written(copy_by, selection: Selection, array: np.ndarray, values: np.ndarray, chunks: list) -> np.ndarray:
    target = array.copy()
    copy_by(selection.region, target, selection.source(values), chunks, write=True)
    return target


def numbered(shape: tuple[int, ...]) -> np.ndarray:
    return np.arange(math.prod(shape)).reshape(shape)


def draw_chunks(data: st.DataObject, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [tuple(data.draw(st.integers(1, 9 >> level)) for _ in shape) for level in range(data.draw(st.integers(1, 2)))]


def check(copy_by, selection: Selection, array: np.ndarray, index: Any, chunks: list) -> None:
    """Reads are `array[index]`; writes are `array[index] = values`, whole and broadcast."""
    expected = np.asarray(array[index])
    got = read(copy_by, selection, array, chunks)
    assert got.shape == expected.shape
    assert np.array_equal(got, expected)
    distinct = -1 - numbered(expected.shape)
    narrow = distinct[..., :1] if expected.ndim else distinct
    for values in (distinct, np.array(-1), narrow):
        target = array.copy()
        target[index] = np.broadcast_to(values, expected.shape)  # masks and 0-d arrays do not broadcast by themselves
        for more in (values, values[None]):
            assert np.array_equal(written(copy_by, selection, array, more, chunks), target)


@given(shapes, st.data())
def test_basic_is_numpys(copy_by, shape: tuple[int, ...], data: st.DataObject) -> None:
    items = data.draw(basic_items(shape))
    chunks = draw_chunks(data, shape)
    for how in (basic, orthogonal, numpy_like):
        check(copy_by, how(items, shape), numbered(shape), items, chunks)


@given(shapes, st.data())
def test_a_plain_box_is_what_every_expression_gives(shape: tuple[int, ...], data: st.DataObject) -> None:
    """The short cut for boxes gives the selection of the general way, or leaves it to that."""
    items = data.draw(basic_items(shape))
    box = selections._box(items, shape)
    paired = selections._paired(items, shape)
    general = selections._product([selections._basic_item(*each) for each in paired], selections._clipped(paired))
    plain = all(slice_.step is None for slice_, _, _ in paired if isinstance(slice_, slice))
    early = any(slice_.start is not None and slice_.start < -length for slice_, length, _ in paired if isinstance(slice_, slice))
    inner = isinstance(items, tuple) and len(items) == len(shape) and Ellipsis in items[1:-1]  # it stands for one dimension
    assert box is not None or not plain or early or inner or general.clipped or 0 in general.work_shape or not items
    if box is None:
        return
    assert isinstance(box.region, Box)
    assert box[1:] == general[1:]
    mine, theirs = box.region.product, general.region
    for axis, other in zip(mine.axes, theirs.axes, strict=True):
        assert [a.tolist() for a in (axis.start, axis.value, axis.count)] == [
            a.tolist() for a in (other.start, other.value, other.count)
        ]
        assert axis.step == other.step


@given(shapes, st.data())
def test_orthogonal_is_ix(copy_by, shape: tuple[int, ...], data: st.DataObject) -> None:
    items = data.draw(orthogonal_items(shape))
    chunks = draw_chunks(data, shape)
    selection = orthogonal(items, shape)
    array = numbered(shape)
    index, dropped = ix(items, shape)
    expected = array[index].squeeze(dropped) if shape else array
    assert np.array_equal(read(copy_by, selection, array, chunks), expected)
    values = -1 - numbered(expected.shape)
    target = array.copy()
    target[index] = np.expand_dims(values, dropped)
    assert np.array_equal(written(copy_by, selection, array, values, chunks), target)


@st.composite
def point_arrays(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple:
    out = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    items = []
    for length in shape:
        own = tuple(draw(st.sampled_from([n, 1])) for n in out)[draw(st.integers(0, len(out))) :]
        coords = draw(st.lists(st.integers(-length, length - 1), min_size=math.prod(own), max_size=math.prod(own)))
        items.append(np.array(coords, np.int64).reshape(own))
    return tuple(items)


@given(st.lists(st.integers(1, 8), min_size=1, max_size=3).map(tuple), st.data())
def test_points_are_numpys_integer_arrays(copy_by, shape: tuple[int, ...], data: st.DataObject) -> None:
    items = data.draw(point_arrays(shape))
    chunks = draw_chunks(data, shape)
    check(copy_by, points(items, shape), numbered(shape), items, chunks)
    if max(item.ndim for item in items) == 1 and len(shape) > 1 and sum(item.ndim == 0 for item in items) == 0:
        check(copy_by, numpy_like(items, shape), numbered(shape), items, chunks)


@given(shapes, st.data())
def test_a_mask_is_numpys(copy_by, shape: tuple[int, ...], data: st.DataObject) -> None:
    size = math.prod(shape)
    chosen = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), bool).reshape(shape)
    chunks = draw_chunks(data, shape)
    for how in (mask, points, numpy_like):
        check(copy_by, how(chosen, shape), numbered(shape), chosen, chunks)


@given(shapes, st.data())
def test_blocks_are_the_elements_of_their_chunks(copy_by, shape: tuple[int, ...], data: st.DataObject) -> None:
    chunks = draw_chunks(data, shape)
    grid = ChunkGrid.regular(shape, chunks[0])
    items, index = [], []
    for count, length, size in zip(grid.grid_shape, shape, chunks[0], strict=True):
        item = data.draw(slices(count).map(lambda s: slice(s.start, s.stop)) | st.integers(-count, max(count - 1, -count)))
        if not count and isinstance(item, int):
            item = slice(None)
        chosen = np.atleast_1d(np.arange(count)[item])
        items.append(item)
        index.append(np.flatnonzero(np.isin(np.arange(length) // size, chosen)))
    selection = block(tuple(items), grid)
    check(copy_by, selection, numbered(shape), np.ix_(*index) if index else (), chunks)
    assert selection.region.split(grid, shape).full.all()


A = np.array
FANCY = [
    ((5, 6), [3, 0, 3], "one list"),
    ((5, 6), A([3, -1]), "one array"),
    ((5, 6), (slice(None), [3, 0]), "slice, list"),
    ((5, 6), ([3, 0], slice(1, 4)), "list, slice"),
    ((5, 6), (..., [3, 0]), "ellipsis, list"),
    ((5, 6), (2, [3, 0]), "integer and a list"),
    ((4, 5, 6), (slice(None), 1, [3, 0]), "integer and a list, after a slice"),
    ((4, 5, 6), ([1, 3], 1), "list and an integer"),
    ((5, 6), A([True, False, True, True, False]), "mask of the first dimension"),
    ((5, 6), (slice(None), A([True] * 3 + [False] * 3)), "mask of the last dimension"),
    ((5,), A([True, False, True, True, False]), "mask of the only dimension"),
    ((5, 6), ([1, 2], [3, 4]), "points"),
    ((5, 6), ([[1], [2]], [3, 4]), "points broadcast"),
    ((5, 6), ([[1, 2]], 3), "points with an integer"),
    ((5,), A([[1, 2], [3, 4]]), "array of two dimensions over one"),
    ((5, 6), [], "nothing"),
    ((5, 6), (range(1, 3), slice(None)), "range"),
    ((5, 6), ((1, 2), slice(None)), "tuple within"),
    ((5, 6), (A(2), slice(None)), "array of no dimension"),
    ((5, 6), (A([1, 2], np.uint64), slice(None)), "unsigned"),
    ((), A(True), "mask of no dimensions"),
    ((), A(False), "empty mask of no dimensions"),
]


@pytest.mark.parametrize(("shape", "items"), [case[:2] for case in FANCY], ids=[case[2] for case in FANCY])
def test_numpy_like_is_numpy(copy_by, shape: tuple[int, ...], items: Any) -> None:
    check(copy_by, numpy_like(items, shape), numbered(shape), items, [(3,) * len(shape), (2,) * len(shape)])


@pytest.mark.parametrize(
    "items",
    [
        ([0, 1], slice(None), [0, 1]),
        (0, slice(None), [0, 1]),
        ([0, 1], [0, 1]),
        ([[0, 1]],),
        ([[0, 1]], slice(None)),
        (np.ones(4, bool), [1, 2], 0),
        (np.ones(4, bool), np.ones(5, bool)),
        (np.True_, 0),
    ],
)
def test_numpy_like_refuses_what_is_ambiguous(items: Any) -> None:
    with pytest.raises(SelectionError, match="oindex"):
        numpy_like(items, (4, 5, 6))


@pytest.mark.parametrize("chosen", [np.ones((4, 5), bool), np.ones((4, 5, 7), bool), np.True_])
def test_numpy_like_says_which_shape_a_mask_must_have(chosen: Any) -> None:
    with pytest.raises(SelectionError, match="shape of the array") as caught:
        numpy_like(chosen, (4, 5, 6))
    assert (caught.value.expected, caught.value.got) == ((4, 5, 6), chosen.shape)


BAD = [
    (None, SelectionError, "new axes"),
    ((0, None), SelectionError, "new axes"),
    ((0, 0, 0), SelectionError, "too many indices"),
    ((0, 0, 0, ...), SelectionError, "too many indices"),
    ((..., ...), SelectionError, "ellipsis"),
    (1.0, SelectionError, "integer"),
    (slice(0.0, 1), SelectionError, "integer"),
    (slice(None, None, 0), SelectionError, "step"),
    ("a", SelectionError, "integer"),
    (True, SelectionError, "integer"),
    (slice(True), SelectionError, "integer"),
    (10, BoundsError, "dimension 0"),
    (-11, BoundsError, "-11"),
    ((0, 4), BoundsError, "dimension 1"),
    (2**70, BoundsError, "index"),
]


@pytest.mark.parametrize(("items", "error", "words"), BAD)
@pytest.mark.parametrize("how", [basic, orthogonal, numpy_like])
def test_basic_refuses(how: Any, items: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        how(items, (10, 4))


@pytest.mark.parametrize("items", [[0, 1], (slice(None), A([0])), A([True] * 10)])
def test_basic_has_no_arrays(items: Any) -> None:
    with pytest.raises(SelectionError):
        basic(items, (10, 4))


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        (([0, 10], 0), BoundsError, "dimension 0"),
        ((0, [0, -5]), BoundsError, "dimension 1"),
        ((0, A([2**63 + 2], np.uint64)), BoundsError, "dimension 1"),
        (([0.5], 0), SelectionError, "float"),
        ((["a"], 0), SelectionError, "integers"),
        (([[0], [1, 2]], 0), SelectionError, "array of indices"),
        (([[0, 1]], 0), SelectionError, "one dimension"),
        ((A([True] * 9), 0), SelectionError, "length of its dimension"),
        ((A([], np.float64), 0), SelectionError, "integers"),
    ],
)
def test_orthogonal_refuses(items: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        orthogonal(items, (10, 4))


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        (([0], [0], [0]), SelectionError, "number of indices"),
        ([0], SelectionError, "number of indices"),
        (([0, 1], [0, 1, 2]), SelectionError, "broadcast"),
        (([0, 10], [0, 1]), BoundsError, "dimension 0"),
        (([0, 1], [0, -5]), BoundsError, "dimension 1"),
        (([0.0], [0]), SelectionError, "integers"),
        ((slice(None), [0]), SelectionError, "integers"),
        (([0], None), SelectionError, "integers"),
        (([True, False], [0, 1]), SelectionError, "integers"),
        (np.ones((10, 3), bool), SelectionError, "shape of the array"),
        (np.ones(10, bool), SelectionError, "shape of the array"),
    ],
)
def test_points_refuse(items: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        points(items, (10, 4))


def test_mask_refuses_what_is_no_mask() -> None:
    with pytest.raises(SelectionError, match="bool"):
        mask(np.ones((10, 4), np.int8), (10, 4))


@pytest.mark.parametrize(
    ("items", "error", "words"),
    [
        ((3, 0), BoundsError, "dimension 0"),
        ((0, -3), BoundsError, "dimension 1"),
        (slice(0, 2, 2), SelectionError, "steps"),
        (slice(None, None, -1), SelectionError, "steps"),
        ((0, 0, 0), SelectionError, "too many"),
        (None, SelectionError, "new axes"),
        ([0, 1], SelectionError, "integer"),
    ],
)
def test_block_refuses(items: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        block(items, ChunkGrid.regular((10, 7), (4, 4)))


def test_points_of_no_dimensions(copy_by) -> None:
    check(copy_by, points((), ()), A(7), (), [()])


def test_work_is_a_view_whatever_the_layout() -> None:
    """Reads decode into it: a silent copy would lose them."""
    out = np.zeros((6, 8))[::2, ::-2].T
    for selection in (basic(np.s_[3::-1, 2:5], (9, 9)), orthogonal(([1, 5, 2, 2], slice(0, 3)), (9, 9))):
        work = selection.to_work(out)
        work[...] = 1 + np.arange(12).reshape(work.shape)
        assert np.count_nonzero(out) == 12
        out[...] = 0


def test_points_into_an_array_that_is_no_line() -> None:
    selection = points((np.arange(12).reshape(4, 3), 0), (12, 1))
    out = np.zeros((3, 4)).T
    with pytest.raises(ShapeError, match="C-contiguous"):
        selection.to_work(out)
    out[...] = np.arange(12).reshape(4, 3)
    assert selection.source(out).ravel().tolist() == list(range(12))
    selection.to_work(np.ones((4, 3)))[...] = 0


def test_values_of_another_shape() -> None:
    selection = basic(np.s_[0, :3], (4, 4))
    with pytest.raises(ShapeError):
        selection.to_work(np.zeros((1, 3)))
    for shape in ((2,), (4,), (2, 3), (3, 1)):
        with pytest.raises(ShapeError) as caught:
            selection.source(np.zeros(shape))
        assert (caught.value.expected, caught.value.got) == ((3,), shape)


def test_source_does_not_copy_what_it_need_not() -> None:
    values = np.arange(12).reshape(3, 4)
    source = basic(np.s_[:3, ::-2], (5, 8)).source(values)
    assert np.shares_memory(source, values)
    assert not source.flags.writeable
    assert source.tolist() == values[:, ::-1].tolist()


def test_runs_of_indices_are_one_segment() -> None:
    region = orthogonal(([4, 5, 6, 2, 3, 3],), (9,)).region
    assert [column.tolist() for column in (region.axes[0].start, region.axes[0].count)] == [[4, 2, 3], [3, 2, 1]]


def test_huge_arrays_cost_what_is_selected() -> None:
    shape = (2**62, 2**62)
    selection = basic(np.s_[:: 2**61, -1], shape)
    chunks = selection.region.split(ChunkGrid.regular(shape, (1, 2**62)), shape)
    assert selection.out_shape == (2,)
    assert chunks.index.tolist() == [[0, 0], [2**61, 0]]
