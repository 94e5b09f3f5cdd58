from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


@pytest.fixture(scope="module", params=[None, (12, 16, 8)], ids=["chunks", "shards"])
def in_store(request, tmp_path_factory):
    """An array of random elements, of which some chunks are not stored, in memory and in files; and its elements."""
    model = np.random.default_rng(1).integers(1, 900, (25, 17, 20)).astype("u2")
    model[:6, :8, :4] = 0
    turned = {"name": "transpose", "configuration": {"order": [2, 0, 1]}}
    layout = {"shape": model.shape, "dtype": "u2", "chunks": (6, 8, 4), "shards": request.param}
    arrays = [
        zarrant.create_array(place, **layout, **codecs)
        for codecs in ({"compressors": ["zstd"]}, {"filters": [turned], "compressors": ["zstd", "crc32c"]}, {"compressors": []})
        for place in ({}, tmp_path_factory.mktemp("lists"))
    ]
    for each in arrays:
        each[...] = model
    return arrays, model


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_lists_of_indices_in_any_order(in_store, data) -> None:
    """Many single elements, read without a box for each; runs of neighbours, repeats, a step and a mask among them."""
    arrays, model = in_store
    lists = [
        data.draw(
            st.one_of(st.lists(st.integers(-n, n - 1), min_size=1, max_size=20), st.lists(st.booleans(), min_size=n, max_size=n))
        )
        for n in model.shape
    ]
    if data.draw(st.booleans()):
        lists[data.draw(st.integers(0, 2))] = slice(data.draw(st.integers(0, 5)), None, data.draw(st.integers(1, 3)))
    index = [np.arange(n)[each] for n, each in zip(model.shape, lists, strict=True)]
    for each in arrays:
        assert np.array_equal(each.oindex[tuple(lists)], model[np.ix_(*index)])


def test_an_index_beyond_the_end_among_many(in_store) -> None:
    arrays, model = in_store
    for each in arrays:
        with pytest.raises(BoundsError):
            each.oindex[list(range(model.shape[0])), [0, 5, model.shape[1]], [3, 1, 2]]
