from __future__ import annotations

import itertools

import numpy as np
import pytest

from zarrant.codecs import Bytes, Transpose
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToArraySuite


class TestTranspose(ArrayToArraySuite):
    @pytest.fixture(params=[(0, 1), (1, 0)], ids=str)
    def codec(self, request):
        return Transpose(request.param)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_bytes_are_those_of_the_transposed_array(order, codec) -> None:
    data = np.arange(24, dtype="int32").reshape(2, 3, 4)
    c = codec([Transpose(order), Bytes()], (2, 3, 4))
    assert c.encode(data) == data.transpose(order).tobytes()
    assert np.array_equal(c.decode(data.transpose(order).tobytes()), data)


def test_several_are_folded_into_one(codec) -> None:
    data = np.arange(24, dtype="int32").reshape(2, 3, 4)
    c = codec([Transpose((1, 2, 0)), Transpose((2, 0, 1)), Transpose((1, 0, 2)), Bytes()], (2, 3, 4))
    assert c.encode(data) == data.transpose((1, 2, 0)).transpose((2, 0, 1)).transpose((1, 0, 2)).tobytes()


def test_document() -> None:
    document = Named("transpose", {"order": [1, 0]})
    assert Transpose.from_json(document, "$.codecs[0]") == Transpose((1, 0))
    assert Transpose((np.int64(1), 0)).to_json() == document.to_json()


@pytest.mark.parametrize("order", [[0, 0], [1], [0, 2], [-1, 0], [0.0, 1], "C", None, [True, False]])
def test_wrong_orders(order) -> None:
    with pytest.raises(MetadataError) as caught:
        Transpose.from_json(Named("transpose", {"order": order}), "$.codecs[0]")
    assert caught.value.path.startswith("$.codecs[0].configuration.order")


def test_orders_of_other_chunks(codec) -> None:
    with pytest.raises(MetadataError) as caught:
        codec([Transpose((1, 0)), Bytes()], (2, 3, 4))
    assert caught.value.path == "$.codecs[0].configuration.order"
