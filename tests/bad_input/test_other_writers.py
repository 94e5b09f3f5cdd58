"""What documents of other writers say: extensions that are not known here, and what may be ignored of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import LimitError, MetadataError, UnknownExtensionError
from zarrant.metadata.json_text import parse_json

BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
MYSTERY = {"name": "example.mystery", "configuration": {"a": 1}, "must_understand": False}


def document(**members: Any) -> bytes:
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": [8], "data_type": "int32", "fill_value": 0, "attributes": {"kept": 1},
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4]}},
        "chunk_key_encoding": {"name": "default"}, "codecs": [BYTES], **members,
    }).encode()  # fmt: skip


def shards(inner: list[Any], index: list[Any] | None = None, size: int = 2) -> dict[str, Any]:
    configuration = {"chunk_shape": [size], "codecs": inner, "index_codecs": index or [BYTES, "crc32c"]}
    return {"name": "sharding_indexed", "configuration": configuration}


# ── codecs that a reader may go on without

SKIPPED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "of chunks": ({"codecs": [BYTES, MYSTERY]}, {"codecs": [BYTES]}),
    "before bytes": ({"codecs": [MYSTERY, BYTES]}, {"codecs": [BYTES]}),
    "next to known ones": ({"codecs": [BYTES, "crc32c", MYSTERY]}, {"codecs": [BYTES, "crc32c"]}),
    "in shards": ({"codecs": [shards([BYTES, MYSTERY])]}, {"codecs": [shards([BYTES])]}),
    "after shards": ({"codecs": [shards([BYTES]), MYSTERY]}, {"codecs": [shards([BYTES])]}),
    "around outer codecs": ({"codecs": [shards([BYTES]), "crc32c", MYSTERY]}, {"codecs": [shards([BYTES]), "crc32c"]}),
    "of an index": ({"codecs": [shards([BYTES], [BYTES, MYSTERY])]}, {"codecs": [shards([BYTES], [BYTES])]}),
    "in shards of shards": (
        {"codecs": [shards([shards([BYTES, MYSTERY], size=1)])]},
        {"codecs": [shards([shards([BYTES], size=1)])]},
    ),
    "a storage transformer": ({"storage_transformers": [MYSTERY]}, {}),
}
WRITES: dict[str, Callable[[Any], object]] = {
    "a whole chunk": lambda a: a.__setitem__(slice(0, 4), 9),
    "a part": lambda a: a.__setitem__(1, 9),
    "fill": lambda a: a.__setitem__(slice(0, 4), 0),
    "a chunk": lambda a: a.store_chunk((0,), 9),
    "chunks": lambda a: a.store_chunks((slice(1, 2),), np.full(4, 9, "int32")),
    "a part of a chunk": lambda a: a.store_chunk_subset((0,), (slice(0, 1),), 9),
    "an update": lambda a: a.update((slice(0, 3),), lambda old: old + 1),
    "an append": lambda a: a.append(np.full(3, 9, "int32")),
}


@pytest.mark.parametrize("where", SKIPPED)
@pytest.mark.parametrize("write", WRITES)
def test_a_codec_that_may_be_ignored_is_skipped_in_reading_and_refused_in_writing(where: str, write: str, refused: Any) -> None:
    strange, known = SKIPPED[where]
    place = {"zarr.json": document(**known)}
    zarrant.open_array(place)[...] = np.arange(1, 9, dtype="int32")
    place["zarr.json"] = document(**strange)
    a = zarrant.open_array(place)
    assert a[...].tolist() == list(range(1, 9))
    assert a[2:5].tolist() == [3, 4, 5]
    with refused(place, UnknownExtensionError, "example.mystery", "must_understand", got="example.mystery"):
        WRITES[write](a)


@pytest.mark.parametrize("where", SKIPPED)
def test_what_is_skipped_stays_in_the_metadata(where: str) -> None:
    place = {"zarr.json": document(**SKIPPED[where][0])}
    a = zarrant.open_array(place)
    a.attrs["new"] = 2
    a.erase_chunk((0,))
    before, after = json.loads(document(**SKIPPED[where][0])), json.loads(place["zarr.json"])
    assert after == before | {"attributes": {"kept": 1, "new": 2}}


def test_large_chunks_without_codecs_are_not_written_in_part_either(refused: Any) -> None:
    """They have a way of their own: only the bytes that a box touches are replaced."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [1 << 18]}}
    place = {"zarr.json": document(shape=[1 << 18], chunk_grid=grid)}
    zarrant.open_array(place)[...] = 3
    place["zarr.json"] = document(shape=[1 << 18], chunk_grid=grid, codecs=[BYTES, MYSTERY])
    a = zarrant.open_array(place)
    with refused(place, UnknownExtensionError, "example.mystery"):
        a[5:7] = 4
    assert a[4:8].tolist() == [3, 3, 3, 3]


def test_a_plug_in_writes_what_others_skip() -> None:
    place = {"zarr.json": document(codecs=[BYTES, MYSTERY | {"configuration": {"level": 1}}])}
    zarrant.extensions.codecs.register("example.mystery", zarrant.codecs.Gzip)
    try:
        zarrant.open_array(place)[...] = 5
        assert zarrant.open_array(place)[...].tolist() == [5] * 8
    finally:
        zarrant.extensions.codecs.unregister("example.mystery")
    with pytest.raises(UnknownExtensionError):
        zarrant.open_array(place).store_chunk((0,), 6)
    zarrant.extensions.codecs.register("example.mystery", zarrant.codecs.Gzip)
    try:
        assert zarrant.open_array(place)[...].tolist() == [5] * 8
    finally:
        zarrant.extensions.codecs.unregister("example.mystery")


# ── names that are not known

TYPES = {
    "optional": ({"name": "int8", "configuration": {}}, "zarrant.data_types"),
    "my.type": ({"a": 1}, "zarrant.data_types"),
    "int16.7": ({"a": 1}, "int16"),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_data_type_is_named_whatever_its_configuration(name: str) -> None:
    configuration, hint = TYPES[name]
    forms = [{"name": name, "configuration": configuration or {}}, *([name] if not configuration else [])]
    for form in forms:
        with pytest.raises(UnknownExtensionError, match=name) as caught:
            zarrant.open_array({"zarr.json": document(data_type=form)}, mode="r")
        assert (caught.value.got, caught.value.path) == (name, "$.data_type")
        assert hint in str(caught.value.hint)


def test_a_known_type_has_no_configuration() -> None:
    for name in ("int32", "bool", "r24"):
        with pytest.raises(MetadataError, match=f"{name} has no configuration") as caught:
            zarrant.open_array({"zarr.json": document(data_type={"name": name, "configuration": {"a": 1}})}, mode="r")
        assert type(caught.value) is MetadataError
        assert caught.value.path == "$.data_type.configuration"


@pytest.mark.parametrize(
    ("member", "value", "name", "hint"),
    [
        ("chunk_grid", {"name": "rectangular", "configuration": {"chunk_shapes": [[1]]}}, "rectangular", "rectilinear"),
        ("chunk_grid", "regulr", "regulr", "'regular'"),
        ("chunk_key_encoding", {"name": "suffix", "configuration": {"suffix": ".x"}}, "suffix", "zarrant.chunk_key_encodings"),
        ("chunk_key_encoding", "V2", "V2", "'v2'"),
        ("codecs", [BYTES, {"name": "lz4", "configuration": {}}], "lz4", "'numcodecs.lz4'"),
        ("codecs", [{"name": "delta"}, BYTES], "delta", "'numcodecs.delta'"),
        ("codecs", [{"name": "zfpy", "configuration": {"mode": "reversible"}}], "zfpy", "'numcodecs.zfpy'"),
        ("codecs", [BYTES, {"name": "imagecodecs_jpeg2k"}], "imagecodecs_jpeg2k", "'imagecodecs'"),
        ("codecs", [{"name": "numcodecs.vlen-array"}], "numcodecs.vlen-array", "arrays of any length"),
        ("codecs", [{"name": "numcodecs.pickle", "configuration": {}}], "numcodecs.pickle", "runs code"),
    ],
)
def test_a_hint_leads_somewhere(member: str, value: Any, name: str, hint: str) -> None:
    with pytest.raises(UnknownExtensionError) as caught:
        zarrant.open_array({"zarr.json": document(**{member: value})}, mode="r")
    assert caught.value.got == name
    assert hint in str(caught.value.hint)


def test_every_codec_that_a_hint_names_can_be_used() -> None:
    for name in ("adler32", "bz2", "crc32", "fletcher32", "jenkins_lookup3", "lz4", "lzma", "shuffle", "zlib"):
        with pytest.raises(UnknownExtensionError) as caught:
            zarrant.create_array({}, shape=(8,), dtype="int32", compressors={"name": name, "configuration": {}})
        better = str(caught.value.hint).split("'")[1]
        a = zarrant.create_array({}, shape=(8,), dtype="int32", compressors={"name": better, "configuration": {}})
        a[...] = 3
        assert a[...].tolist() == [3] * 8


# ── chains inside of chains


def nested_shards(levels: int) -> list[Any]:
    codecs: list[Any] = [BYTES]
    for _ in range(levels):
        codecs = [shards(codecs, size=4)]
    return codecs


def test_shards_nest_four_deep() -> None:
    place = {"zarr.json": document(codecs=nested_shards(4))}
    zarrant.open_array(place)[...] = 3
    assert zarrant.open_array(place)[...].tolist() == [3] * 8
    for levels in (5, 12):
        with pytest.raises(LimitError) as caught:
            zarrant.open_array({"zarr.json": document(codecs=nested_shards(levels))}, mode="r")
        assert (caught.value.field, caught.value.limit) == ("nesting", 4)


@pytest.mark.parametrize("count", [17, 200_000])
def test_long_chains_inside_of_shards(count: int) -> None:
    for codecs in ([shards([BYTES, *["crc32c"] * (count - 1)])], [shards([BYTES], [BYTES, *["crc32c"] * (count - 1)])]):
        with pytest.raises(LimitError) as caught:
            zarrant.open_array({"zarr.json": document(codecs=codecs)}, mode="r")
        assert (caught.value.field, caught.value.got, caught.value.limit) == ("codecs", count, 16)


def test_many_shards_side_by_side_are_refused_before_all_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixteen shards of sixteen shards of ... are 65,536 chains in a document of a few megabytes."""
    codecs: list[Any] = [BYTES]
    for _ in range(3):
        codecs = [shards(codecs)] * 16
    asked = []
    resolve = type(zarrant.extensions.codecs).resolve
    monkeypatch.setattr(type(zarrant.extensions.codecs), "resolve", lambda *args: asked.append(args) or resolve(*args))
    with pytest.raises(MetadataError, match="order"):
        zarrant.open_array({"zarr.json": document(codecs=codecs)}, mode="r")
    assert len(asked) < 100


def test_documents_of_many_small_values_are_bounded() -> None:
    with pytest.raises(LimitError) as caught:
        parse_json(b'{"a":[' + b",".join([b"{}"] * 5_000_000) + b"]}")
    assert (caught.value.field, caught.value.got) == ("containers", 5_000_002)
    text = "[{" * (1 << 20)
    assert parse_json(json.dumps({"a": text, 'b"': text + '"\\'}).encode())["a"] == text
