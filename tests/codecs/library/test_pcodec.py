"""pcodec: round trips, and streams that are not those of the chunk."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import zarrant
from zarrant.codecs.library.pcodec import PCodec
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import MetadataError, UnknownExtensionError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToBytesSuite

installed = importlib.util.find_spec("pcodec") is not None


@pytest.mark.skipif(not installed, reason="needs pcodec")
class TestPCodec(ArrayToBytesSuite):
    @pytest.fixture(
        params=[PCodec(), PCodec(0, "classic", "no_op"), PCodec(delta_spec="try_consecutive", delta_encoding_order=2)], ids=str
    )
    def codec(self, request):
        return request.param

    def test_a_stream_of_another_length(self, codec) -> None:
        data_type = from_numpy("int32")
        spec, longer = (ArraySpec((n,), data_type, data_type.default_fill()) for n in (5, 600))
        data = codec.encode(np.arange(600, dtype="int32"), longer)
        with pytest.raises(ValueError, match="expected 5"):
            codec.decode(data, spec)


@pytest.mark.skipif(installed, reason="pcodec is there")
def test_without_the_package_the_error_says_how_to_get_it() -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        zarrant.create_array({}, shape=4, chunks=4, dtype="int32", serializer=PCodec())
    assert "zarrant[pcodec]" in str(caught.value.hint)
    assert caught.value.path == "$.codecs[0]"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("level", 13),
        ("level", True),
        ("mode_spec", "try_int_mult"),
        ("delta_spec", None),
        ("paging_spec", "all"),
        ("equal_pages_up_to", 0),
    ],
)
def test_wrong_configurations(member, value) -> None:
    with pytest.raises(MetadataError) as caught:
        PCodec.from_json(Named("numcodecs.pcodec", {member: value}), "$.codecs[0]")
    assert caught.value.path == f"$.codecs[0].configuration.{member}"


def test_types_that_it_does_not_take() -> None:
    with pytest.raises(MetadataError) as caught:
        zarrant.create_array({}, shape=4, chunks=4, dtype="bool", serializer=PCodec())
    assert caught.value.path == "$.codecs[0]"
