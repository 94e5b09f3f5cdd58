from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.errors import BoundsError, SelectionError, ShapeError
from zarrant.geometry.box import ArraySubset, as_int, as_subset, check_chunk_indices

subsets = st.integers(0, 3).flatmap(
    lambda ndim: st.builds(
        ArraySubset,
        st.tuples(*[st.integers(0, 6)] * ndim),
        st.tuples(*[st.integers(0, 5)] * ndim),
    )
)


def marked(subset: ArraySubset) -> np.ndarray:
    area = np.zeros((16,) * subset.ndim, bool)
    area[(*subset.slices, ...)] = True
    return area


@given(st.lists(st.tuples(st.integers(-2, 7), st.integers(-2, 7), st.integers(0, 6)), min_size=1, max_size=3))
def test_slices_of_plain_integers_are_read_as_any_others(sides: list[tuple[int, int, int]]) -> None:
    shape, found = [length for _, _, length in sides], list[object]()
    for kind in (int, np.int64):
        try:
            found.append(as_subset(tuple(slice(kind(low), kind(high)) for low, high, _ in sides), shape))
        except BoundsError as error:
            found.append(str(error))
    assert found[0] == found[1]


@given(subsets, st.data())
def test_set_operations_agree_with_marked_arrays(a: ArraySubset, data: st.DataObject) -> None:
    b = data.draw(subsets.filter(lambda s: s.ndim == a.ndim))
    both = marked(a) & marked(b)
    assert np.array_equal(marked(a.intersect(b)), both)
    assert a.contains(b) == np.array_equal(both, marked(b))
    assert a.size == marked(a).sum()
    assert a.is_empty == (a.size == 0)
    shape = tuple(data.draw(st.integers(0, 9)) for _ in range(a.ndim))
    clipped = a.clip(shape)
    assert np.array_equal(marked(clipped), marked(a) & marked(ArraySubset.full(shape)))
    assert all(stop <= length for stop, length in zip(clipped.stop, shape, strict=True))
    assert a.shift((2,) * a.ndim).shift((-2,) * a.ndim) == a


def test_subset_properties() -> None:
    subset = ArraySubset((np.int64(1), 0), (np.uint8(2), 5))
    assert subset == ArraySubset((1, 0), (2, 5))
    assert all(type(value) is int for value in subset.start + subset.shape)
    assert (subset.stop, subset.ndim, subset.size) == ((3, 5), 2, 10)
    assert subset.slices == np.s_[1:3, 0:5]
    assert ArraySubset.full(()).size == 1
    assert not ArraySubset.full(()).is_empty
    assert hash(subset) == hash(ArraySubset((1, 0), (2, 5)))


@pytest.mark.parametrize(
    ("start", "shape", "error"),
    [
        ((0,), (1, 2), ShapeError),
        ((-1,), (1,), BoundsError),
        ((0,), (-1,), ShapeError),
        ((0.0,), (1,), SelectionError),
        ((True,), (1,), SelectionError),
    ],
)
def test_bad_subsets_are_refused(start: tuple, shape: tuple, error: type[Exception]) -> None:
    with pytest.raises(error):
        ArraySubset(start, shape)


def test_subsets_of_other_dimensions_are_refused() -> None:
    flat = ArraySubset.full((2,))
    for call in (flat.contains, flat.intersect):
        with pytest.raises(ShapeError):
            call(ArraySubset.full((2, 2)))
    with pytest.raises(ShapeError):
        flat.clip((2, 2))
    with pytest.raises(ShapeError):
        flat.shift((2, 2))
    with pytest.raises(BoundsError):
        flat.shift((-1,))


@pytest.mark.parametrize(
    ("value", "shape", "start", "lengths"),
    [
        (np.s_[2:4, :], (4, 6), (2, 0), (2, 6)),
        (np.s_[:4:1, 3:], (4, 6), (0, 3), (4, 3)),
        (slice(1, 3), (4,), (1,), (2,)),
        (range(1, 3), (4,), (1,), (2,)),
        ((range(1, 3), slice(0, 0)), (4, 0), (1, 0), (2, 0)),
        (slice(4, 4), (4,), (4,), (0,)),
        ((), (), (), ()),
        (ArraySubset((1,), (3,)), (4,), (1,), (3,)),
        (slice(np.int32(1), np.int64(2)), (4,), (1,), (1,)),
        (..., (4, 6), (0, 0), (4, 6)),
        ((), (4, 6), (0, 0), (4, 6)),
        (3, (4, 6), (3, 0), (1, 6)),
        ((3,), (4,), (3,), (1,)),
        (np.s_[1:3], (4, 6), (1, 0), (2, 6)),
        (np.s_[..., 2:4], (4, 6), (0, 2), (4, 2)),
        (np.s_[1, ..., 5], (4, 5, 6), (1, 0, 5), (1, 5, 1)),
        (np.s_[1, ..., 5], (4, 6), (1, 5), (1, 1)),
        (np.s_[np.array(1), np.uint8(2)], (4, 6), (1, 2), (1, 1)),
        (np.s_[np.array(1) : np.array(3)], (4,), (1,), (2,)),
        (..., (), (), ()),
    ],
)
def test_as_subset_takes_slices_ranges_and_subsets(value: object, shape: tuple, start: tuple, lengths: tuple) -> None:
    assert as_subset(value, shape) == ArraySubset(start, lengths)


@pytest.mark.parametrize(
    ("value", "shape", "error", "words"),
    [
        (np.s_[0:99], (10,), BoundsError, "0:99"),
        (np.s_[-2:5], (10,), BoundsError, "dimension 0"),
        (np.s_[0:2, 0:-1], (10, 10), BoundsError, "dimension 1"),
        (np.s_[5:3], (10,), BoundsError, "5:3"),
        (np.s_[11:11], (10,), BoundsError, "0:10"),
        (range(3, 12), (10,), BoundsError, "3:12"),
        (ArraySubset((8,), (3,)), (10,), BoundsError, "8:11"),
        (ArraySubset((8,), (3,)), (10, 10), ShapeError, "dimensions"),
        (np.s_[0:2, 0:2, 0:2], (10, 10), ShapeError, "dimensions"),
        (np.s_[0:2:2], (10,), SelectionError, "step"),
        (np.s_[::-1], (10,), SelectionError, "step"),
        (range(0, 4, 2), (10,), SelectionError, "step"),
        (np.s_[..., 0:2, 0:2, 0:2], (10, 10), ShapeError, "dimensions"),
        (np.s_[..., 0, ...], (10, 10), SelectionError, "ellipsis"),
        (10, (10,), BoundsError, "10:11"),
        (-1, (10,), BoundsError, "count from 0"),
        (True, (10,), SelectionError, "integers"),
        ([0, 1], (10,), SelectionError, "integers"),
        (np.array([0]), (10,), SelectionError, "integers"),
        ([slice(0, 2)], (10,), SelectionError, "slices"),
        (None, (10,), SelectionError, "slices"),
        (np.s_[0.0:2], (10,), SelectionError, "integer"),
        (("a",), (10,), SelectionError, "slice"),
    ],
)
def test_as_subset_refuses(value: object, shape: tuple, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        as_subset(value, shape)


def test_as_subset_names_the_thing_and_the_facts() -> None:
    with pytest.raises(BoundsError, match="outside of the chunk") as caught:
        as_subset(np.s_[0:9], (4,), "chunk")
    assert (caught.value.field, caught.value.expected, caught.value.got) == ("dimension 0", "within 0:4", "0:9")


@pytest.mark.parametrize(
    "chunk", [(1, 2), [1, 2], (np.int64(1), np.uint8(2)), np.array([1, 2])], ids=["tuple", "list", "numpy", "array"]
)
def test_check_chunk_indices(chunk: object) -> None:
    indices = check_chunk_indices(chunk, (2, 3))
    assert indices == (1, 2)
    assert all(type(index) is int for index in indices)


def test_check_chunk_indices_of_few_dimensions() -> None:
    assert check_chunk_indices((), ()) == ()
    assert check_chunk_indices(1, (2,)) == (1,)


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ((2, 0), BoundsError),
        ((-1, 0), BoundsError),
        ((0, 3), BoundsError),
        ((0,), ShapeError),
        (0, ShapeError),
        ((0, 0, 0), ShapeError),
        ((True, 0), SelectionError),
        ((1.0, 0), SelectionError),
        ("00", SelectionError),
        ((slice(0, 1), 0), SelectionError),
        (None, SelectionError),
    ],
)
def test_check_chunk_indices_refuses(chunk: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_chunk_indices(chunk, (2, 3))


def test_no_chunk_is_inside_of_an_empty_grid() -> None:
    with pytest.raises(BoundsError) as caught:
        check_chunk_indices((0, 0), (2, 0))
    assert caught.value.chunk == (0, 0)
    assert caught.value.field == "dimension 1"


@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None, np.array([1]), np.array(1.0), np.array(True), [1]])
def test_as_int_refuses_what_is_no_integer(value: object) -> None:
    with pytest.raises(SelectionError, match="an index must be an integer"):
        as_int(value, "an index")


def test_whatever_is_an_integer_is_one() -> None:
    class One:
        def __index__(self) -> int:
            return 1

    for value in (1, np.uint8(1), np.array(1), One()):
        assert (as_int(value, "an index"), type(as_int(value, "an index"))) == (1, int)
        assert check_chunk_indices((value, 0), (2, 3)) == (1, 0)
