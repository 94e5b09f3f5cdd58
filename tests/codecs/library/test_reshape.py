"""reshape: the order of elements stays, and a configuration that would break that is refused."""

from __future__ import annotations

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Bytes
from zarrant.codecs.library.reshape import Reshape
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import LimitError, MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToArraySuite


class TestReshape(ArrayToArraySuite):
    @pytest.fixture(params=[(-1,), ([0, 1],), ([0], [1]), (1, [0], -1), ([], [0], [1])], ids=str)
    def codec(self, request):
        return Reshape(request.param)


@pytest.mark.parametrize(
    ("sizes", "shape", "expected"),
    [
        ([[0, 1], [2], 3], (10, 5, 6, 3), (50, 6, 3)),
        ([[0, 1], -1], (2, 3, 4), (6, 4)),
        ([24], (2, 3, 4), (24,)),
        ([4, 6], (2, 3, 4), (4, 6)),
        ([], (1, 1), ()),
        ([-1], (), (1,)),
        ([[0], -1, [3]], (2, 3, 4, 5), (2, 12, 5)),
    ],
)
def test_shapes(sizes, shape, expected) -> None:
    data_type = from_numpy("int16")
    spec = ArraySpec(shape, data_type, data_type.default_fill())
    assert Reshape(sizes).resolve(spec).shape == expected
    values = np.arange(np.prod(shape, dtype=int), dtype="int16").reshape(shape)
    assert np.array_equal(Reshape(sizes).encode(values, spec), values.reshape(expected))


def test_a_document_is_written_as_it_was() -> None:
    document = Named("reshape", {"shape": [[0, 1], [], -1]})
    assert Reshape.from_json(document, "$.codecs[0]").to_json() == document.to_json()


@pytest.mark.parametrize(
    ("sizes", "where"),
    [
        ([0], "[0]"),
        ([-2], "[0]"),
        ([1.0], "[0]"),
        ([True], "[0]"),
        ([2, None], "[1]"),
        ([[0, -1]], "[0][1]"),
        ([[0, "1"]], "[0][1]"),
        ([-1, -1], ""),
        ([[1], [0]], ""),
        ([[1, 0], 10, [3, 4]], ""),
        ([[3, 4], 10, [0, 1]], ""),
        ([[0, 0]], ""),
        ("C", ""),
        (None, ""),
        (24, ""),
    ],
)
def test_wrong_sizes(sizes, where) -> None:
    with pytest.raises(MetadataError) as caught:
        Reshape.from_json(Named("reshape", {"shape": sizes}), "$.codecs[0]")
    assert caught.value.path == "$.codecs[0].configuration.shape" + where


def test_too_many_dimensions() -> None:
    with pytest.raises(LimitError) as caught:
        Reshape.from_json(Named("reshape", {"shape": [1] * 63}), "$.codecs[0]")
    assert caught.value.path == "$.codecs[0].configuration.shape"


@pytest.mark.parametrize("sizes", [[5], [-1, 5], [[2], -1], [3, [1]], [[0], 2], [[0, 1], 2], [-1, [0]]])
def test_sizes_that_do_not_fit_the_chunk(sizes) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=(4, 6), chunks=(4, 6), dtype="int16", filters=[Reshape(sizes)])
    assert caught.value.path == "$.codecs[0].configuration.shape"


@pytest.mark.parametrize("options", [{"chunks": (4, 6)}, {"chunks": (2, 3), "shards": (4, 6)}], ids=["chunks", "shards"])
@pytest.mark.parametrize("compressors", [None, "auto"])
def test_bytes_and_partial_updates(options, compressors) -> None:
    objects: dict = {}
    options = {**options, "filters": [Reshape([-1])], "serializer": Bytes(), "compressors": compressors}
    array = zarrant.create_array(objects, shape=(8, 6), dtype="int16", fill_value=7, **options)
    expected = np.full((8, 6), 7, "int16")
    array[1:3, 2:5] = expected[1:3, 2:5] = np.arange(9).reshape(3, 3)[:2]
    array[5, ::2] = expected[5, ::2] = 3
    assert np.array_equal(zarrant.open_array(objects)[...], expected)
    if compressors is None and "shards" not in options:
        assert bytes(objects["c/0/0"]) == expected[:4].tobytes()
