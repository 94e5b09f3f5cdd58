"""zfp: round trips in every mode that the package has, and bytes that it cannot have made."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import zarrant
from zarrant.codecs.library.zfp import Zfp
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import MetadataError, UnknownExtensionError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToBytesSuite

installed = importlib.util.find_spec("zfpy") is not None


@pytest.mark.skipif(not installed, reason="needs zfpy")
class TestZfp(ArrayToBytesSuite):
    dtype = "float64"

    @pytest.fixture
    def codec(self):
        return Zfp()

    @pytest.mark.parametrize(
        "lossy", [Zfp("fixed_accuracy", 0.01), Zfp("fixed_rate", 32), Zfp("fixed_rate", 64), Zfp("fixed_precision", 40)], ids=str
    )
    @pytest.mark.parametrize("shape", [(), (7,), (5, 6), (3, 5, 6), (2, 3, 4, 5)])
    def test_modes(self, lossy, shape) -> None:
        data_type = from_numpy("float32")
        spec = ArraySpec(shape, data_type, data_type.default_fill())
        values = np.asarray(np.linspace(0, 10, int(np.prod(shape))), "float32").reshape(shape)
        assert np.allclose(lossy.decode(lossy.encode(values, spec), spec), values, atol=0.02)


@pytest.mark.skipif(installed, reason="zfpy is there")
def test_without_the_package_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        zarrant.create_array({}, shape=4, chunks=4, dtype="float32", serializer=Zfp())
    assert "zarrant[zfp]" in str(caught.value.hint)
    assert caught.value.path == "$.codecs[0]"


@pytest.mark.parametrize(
    ("configuration", "where"),
    [
        ({}, ""),
        ({"mode": "expert", "minbits": 1, "maxbits": 2, "maxprec": 3, "minexp": 0}, ".mode"),
        ({"mode": 4}, ".mode"),
        ({"mode": "fixed_rate"}, ""),
        ({"mode": "fixed_rate", "rate": 0}, ".rate"),
        ({"mode": "fixed_rate", "rate": 65}, ".rate"),
        ({"mode": "fixed_accuracy", "tolerance": "1"}, ".tolerance"),
        ({"mode": "fixed_precision", "precision": 1.5}, ".precision"),
        ({"mode": "reversible", "rate": 8}, ".rate"),
    ],
)
def test_wrong_configurations(configuration, where) -> None:
    with pytest.raises(MetadataError) as caught:
        Zfp.from_json(Named("zfp", configuration), "$.codecs[0]")
    assert caught.value.path == "$.codecs[0].configuration" + where


@pytest.mark.parametrize(("dtype", "shape"), [("int16", (4,)), ("float32", (1, 2, 1, 2, 1))])
def test_chunks_that_it_does_not_take(dtype, shape) -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=shape, chunks=shape, dtype=dtype, serializer=Zfp())
    assert caught.value.path == "$.codecs[0]"
