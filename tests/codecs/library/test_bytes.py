from __future__ import annotations

import numpy as np
import pytest

from zarrant.codecs import Bytes
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToBytesSuite


class TestBytes(ArrayToBytesSuite):
    @pytest.fixture(params=["little", "big"])
    def codec(self, request):
        return Bytes(request.param)


class TestBytesOfComplexNumbers(TestBytes):
    dtype = "complex64"


TYPES = ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(("endian", "sign"), [("little", "<"), ("big", ">")])
def test_byte_orders(dtype, endian, sign, codec) -> None:
    data = np.array([[1, 0, 3], [4, 5, 250]]).astype(dtype)
    c = codec([Bytes(endian)], (2, 3), dtype)
    encoded = c.encode(data)
    assert encoded == data.astype(np.dtype(dtype).newbyteorder(sign)).tobytes()
    assert np.array_equal(c.decode(encoded), data)


def test_one_byte_needs_no_order(codec) -> None:
    assert codec([Bytes(None)], (2,), "uint8").encode(np.array([1, 2], "uint8")) == b"\1\2"
    with pytest.raises(MetadataError, match="byte order"):
        codec([Bytes(None)], (2,), "uint16")


def test_documents() -> None:
    for endian, configuration in [("big", {"endian": "big"}), (None, {})]:
        assert Bytes.from_json(Named("bytes", configuration), "$") == Bytes(endian)
        assert Bytes(endian).to_json().get("configuration", {}) == configuration


@pytest.mark.parametrize("configuration", [{"endian": "middle"}, {"endian": None}, {"endian": 1}, {"order": "C"}])
def test_wrong_documents(configuration) -> None:
    with pytest.raises(MetadataError) as caught:
        Bytes.from_json(Named("bytes", configuration), "$.codecs[0]")
    assert caught.value.path.startswith("$.codecs[0].configuration")
