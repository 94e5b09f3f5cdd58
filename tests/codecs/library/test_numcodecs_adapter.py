"""Codecs of numcodecs: the name chooses the code, the configuration never does; what is refused says why."""

from __future__ import annotations

import json
import lzma
import os
import pickle
import time
import zlib
from typing import Any

import numcodecs
import pytest

import zarrant
from zarrant import extensions
from zarrant.codecs import Numcodecs
from zarrant.codecs.library.numcodecs_adapter import CODECS, MAX_LZMA_BYTES, REFUSED
from zarrant.errors import ChunkError, LimitError, MetadataError, UnknownExtensionError
from zarrant.metadata.v3 import Named


class Boom:
    """Runs code where it is unpickled."""

    def __init__(self, path: Any) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def document(codecs: list[Any]) -> bytes:
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "uint8", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
        "chunk_key_encoding": {"name": "default"}, "codecs": codecs,
    }).encode()  # fmt: skip


def sharded(inner: list[Any], index: list[Any] | None = None) -> dict[str, Any]:
    configuration: dict[str, Any] = {"chunk_shape": [2], "codecs": inner}
    return {"name": "sharding_indexed", "configuration": configuration | ({} if index is None else {"index_codecs": index})}


HOSTILE = {"name": "numcodecs.crc32", "configuration": {"id": "pickle"}}
PLACES = {
    "of the array": ([{"name": "bytes"}, HOSTILE], "$.codecs[1]"),
    "after a shard": ([sharded([{"name": "bytes"}]), HOSTILE], "$.codecs[1]"),
    "in a shard": ([sharded([{"name": "bytes"}, HOSTILE])], "$.codecs[0].configuration.codecs[1]"),
    "of an index": ([sharded([{"name": "bytes"}], [{"name": "bytes"}, HOSTILE])], "$.codecs[0].configuration.index_codecs[1]"),
}


@pytest.mark.parametrize("where", PLACES)
def test_a_configuration_chooses_no_other_codec(where: str, tmp_path: Any) -> None:
    codecs, path = PLACES[where]
    store = {"zarr.json": document(codecs), "c/0": pickle.dumps(Boom(tmp_path / "ran"))}
    for _ in range(2):
        with pytest.raises(MetadataError, match="unknown member") as caught:
            zarrant.open_array(store, mode="r")
        assert caught.value.path == f"{path}.configuration.id"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("identifier", ["pickle", "json2", "zlib", None, {"id": "pickle"}])
def test_no_codec_has_an_identifier_in_its_configuration(name: str, identifier: Any) -> None:
    for member in ("id", "codec_id", "codec", "__class__"):
        with pytest.raises(MetadataError, match="unknown member"):
            Numcodecs(f"numcodecs.{name}", {member: identifier})


def test_what_callers_give_chooses_no_other_codec_either() -> None:
    for options in ({"compressors": HOSTILE}, {"filters": [HOSTILE]}, {"serializer": HOSTILE}, {"compressors": numcodecs.Pickle()}):
        place: dict[str, bytes] = {}
        with pytest.raises(MetadataError):
            zarrant.create_array(place, shape=(4,), dtype="uint8", chunks=(2,), **options)
        assert place == {}


def test_a_codec_registered_in_numcodecs_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by a new name nor in place of a known one."""
    monkeypatch.setitem(numcodecs.registry.codec_registry, "mine", numcodecs.Pickle)
    monkeypatch.setitem(numcodecs.registry.codec_registry, "zlib", numcodecs.Pickle)
    with pytest.raises(UnknownExtensionError):
        Numcodecs("numcodecs.mine")
    assert bytes(Numcodecs("numcodecs.zlib").encode(b"abc")) == zlib.compress(b"abc", 1)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_says_why(name: str) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        zarrant.open_array({"zarr.json": document([{"name": "bytes"}, f"numcodecs.{name}"])}, mode="r")
    assert caught.value.hint == REFUSED[name]
    assert f"numcodecs.{name}" in str(caught.value)
    assert caught.value.path == "$.codecs[1]"


def test_every_codec_of_numcodecs_is_known_or_refused() -> None:
    own = {name for name in numcodecs.registry.codec_registry if extensions.codecs.resolve(f"numcodecs.{name}") is not Numcodecs}
    assert not own & (set(CODECS) | set(REFUSED))
    assert set(numcodecs.registry.codec_registry) <= own | set(CODECS) | set(REFUSED)


def test_every_codec_is_the_one_that_numcodecs_has_under_that_name() -> None:
    for name in CODECS:
        assert type(Numcodecs(f"numcodecs.{name}").codec) is numcodecs.registry.codec_registry[name]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "configuration", "member"),
    [
        ("adler32", {"location": "middle"}, "location"),
        ("bz2", {"level": 0}, "level"),
        ("bz2", {"level": True}, "level"),
        ("gzip", {"level": "5"}, "level"),
        ("shuffle", {"elementsize": 0}, "elementsize"),
        ("shuffle", {"elementsize": 2**40}, "elementsize"),
        ("jenkins_lookup3", {"prefix": [1, 2]}, "prefix"),
        ("lz4", {"acceleration": 1.5}, "acceleration"),
        ("lzma", {"format": 9}, "format"),
        ("lzma", {"filters": {"id": 33}}, "filters"),
        ("lzma", {"format": 3, "filters": [{"id": 33, "dict_size": -1}]}, "filters[0].dict_size"),
        ("zstd", {"checksum": 1}, "checksum"),
        ("blosc", {"cname": "lzo"}, "cname"),
        ("blosc", {"typesize": 0}, "typesize"),
    ],
)
def test_every_member_is_checked(name: str, configuration: dict[str, Any], member: str) -> None:
    with pytest.raises(MetadataError) as caught:
        Numcodecs.from_json(Named(f"numcodecs.{name}", configuration), "$.codecs[1]")
    assert caught.value.path == f"$.codecs[1].configuration.{member}"


def test_members_that_do_not_fit_each_other_are_found_at_open() -> None:
    with pytest.raises(MetadataError, match="refuses"):
        Numcodecs("numcodecs.lzma", {"format": 3})  # raw streams need their filters


def test_a_chunk_that_cannot_be_encoded_names_the_codec() -> None:
    with pytest.raises(ChunkError, match="cannot encode") as caught:
        Numcodecs("numcodecs.shuffle", {"elementsize": 3}).encode(b"abcd")
    assert caught.value.codec == "numcodecs.shuffle"


# ── bounded memory and work


def test_a_dictionary_of_lzma_is_bounded_in_metadata_and_in_streams() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": MAX_LZMA_BYTES}]
    with pytest.raises(LimitError) as caught:
        Numcodecs("numcodecs.lzma", {"format": lzma.FORMAT_RAW, "filters": filters})
    assert (caught.value.field, caught.value.got, caught.value.limit) == ("dict_size", MAX_LZMA_BYTES, MAX_LZMA_BYTES // 2)
    # The header of this format says how much memory to take: 13 bytes, of which 1..4 are the size of the dictionary.
    stream = bytearray(lzma.compress(b"abc", format=lzma.FORMAT_ALONE))
    stream[1:5] = (1 << 30).to_bytes(4, "little")
    codec = Numcodecs("numcodecs.lzma", {"format": lzma.FORMAT_ALONE})
    with pytest.raises(ValueError, match=r"[Mm]emory"):
        codec.decode(bytes(stream), 100)


STREAMS = {"gzip": 2 << 17, "zlib": 2 << 17, "bz2": 2 << 15, "lzma": 2 << 14}


@pytest.mark.parametrize("name", STREAMS)
def test_many_empty_streams_take_linear_time(name: str) -> None:
    """Twice as many take about twice as long; they took four times as long, and 80,000 took minutes."""
    codec = Numcodecs(f"numcodecs.{name}")
    empty = bytes(codec.encode(b""))
    last = bytes(codec.encode(b"abc"))
    taken = []
    for count in (STREAMS[name] // 16, STREAMS[name]):
        start = time.process_time()
        assert bytes(codec.decode(empty * count + last, 3)) == b"abc"
        taken.append(time.process_time() - start)
    assert taken[1] < 64 * max(taken[0], 0.005)


@pytest.mark.parametrize("name", STREAMS)
def test_streams_that_are_cut_off_or_hold_too_much(name: str) -> None:
    codec = Numcodecs(f"numcodecs.{name}")
    data = bytes(range(256)) * 64
    encoded = bytes(codec.encode(data))
    assert bytes(codec.decode(encoded * 3, 3 * len(data))) == data * 3
    for stop in (1, len(encoded) // 2, len(encoded) - 1):
        with pytest.raises(ValueError):
            codec.decode(encoded + encoded[:stop], 3 * len(data))
    for limit in (0, 1, len(data) - 1):
        with pytest.raises(ValueError, match="too large"):
            codec.decode(encoded, limit)
        with pytest.raises(ValueError, match="too large"):
            codec.decode(encoded * 2, len(data) + limit)
