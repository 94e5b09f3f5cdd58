from __future__ import annotations

import numpy as np
import pytest

import zarrant
from zarrant.errors import BoundsError, DataTypeError, OptionError, SelectionError, ShapeError
from zarrant.ops.indexing import selected


@pytest.fixture
def model():
    return np.arange(90, dtype="int32").reshape(10, 9)


@pytest.fixture
def a(model):
    return zarrant.create_array({}, data=model, chunks=(4, 3))


MASK = np.arange(90).reshape(10, 9) % 4 == 1


@pytest.mark.parametrize(
    "item",
    [..., (), 3, -1, np.int64(2), (3, 4), np.s_[2:5], np.s_[::-1], np.s_[8:1:-3, ::2], np.s_[..., 2], np.s_[3, ...], np.s_[5:2],
     MASK, [1, 5]],
    ids=str,
)  # fmt: skip
def test_square_brackets(a, model, item) -> None:
    assert np.array_equal(a[item], model[item])
    a[item] = -5
    model[item] = -5
    assert np.array_equal(a[...], model)


def test_other_kinds(a, model) -> None:
    assert np.array_equal(a.oindex[[7, 0, 7], MASK[0]], model[np.ix_([7, 0, 7], np.flatnonzero(MASK[0]))])
    assert np.array_equal(a.vindex[[[7], [0]], [[1, 2]]], model[[[7], [0]], [[1, 2]]])
    assert np.array_equal(a.vindex[MASK], model[MASK])
    assert np.array_equal(a.blocks[2, 0:2], model[8:, 0:6])
    a.oindex[[7, 0], 3] = [1, 2]
    model[[7, 0], 3] = [1, 2]
    a.vindex[[1, 1], [2, 2]] = [5, 6]
    model[1, 2] = 6
    a.blocks[0] = np.ones((4, 9), "int32")
    model[:4] = 1
    assert np.array_equal(a[...], model)


def test_values_are_broadcast(a, model) -> None:
    for item, values in [
        (np.s_[2:5], np.arange(9)),
        (np.s_[:, 3], 7),
        (np.s_[2, 3:5], np.array([[1, 2]])),
        (np.s_[::2, ::3], np.ones((5, 1), "int8")),
    ]:
        a[item] = values
        model[item] = values
    assert np.array_equal(a[...], model)


@pytest.mark.parametrize(
    ("item", "error"),
    [
        (10, BoundsError), (-11, BoundsError), ((0, 9), BoundsError), ((0, 0, 0), SelectionError), (None, SelectionError),
        (1.5, SelectionError), ("a", SelectionError), ((..., ...), SelectionError), (np.ones((9, 10), bool), SelectionError),
        ([1.5], SelectionError), ([0, 10], BoundsError), (np.s_[::0], SelectionError), (np.s_[1.5:], SelectionError),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_indices_change_nothing(a, model, item, error) -> None:
    with pytest.raises(error):
        a[item]
    with pytest.raises(error):
        a[item] = 1
    assert np.array_equal(a[...], model)


@pytest.mark.parametrize(
    ("values", "error"),
    [(np.ones((3, 8), "int32"), ShapeError), (np.ones(4, "int32"), ShapeError), (1.5, DataTypeError), (np.ones(9), DataTypeError),
     ("x", DataTypeError)],
)  # fmt: skip
def test_wrong_values_change_nothing(a, model, values, error) -> None:
    with pytest.raises(error):
        a[2:5] = values
    assert np.array_equal(a[...], model)


def test_kinds_by_name(a) -> None:
    for index, item, shape in [
        ("numpy", np.s_[2:3], (1, 9)),
        ("orthogonal", ([1], [1]), (1, 1)),
        ("points", ([1], [1]), (1,)),
        ("blocks", 0, (4, 9)),
    ]:
        assert selected(a._array, item, index).out_shape == shape
    with pytest.raises(OptionError):
        selected(a._array, 0, "fancy")
