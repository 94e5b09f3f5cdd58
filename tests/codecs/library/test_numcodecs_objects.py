"""Object codecs of V2 for text: the bytes of numcodecs, in use, and what is wrong in configurations and in bytes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numcodecs
import numpy as np
import pytest

import zarrant
from zarrant.codecs import Bytes
from zarrant.codecs.chain import chain_of, read_codec
from zarrant.codecs.library.numcodecs_objects import Categorize, Json2, MsgPack2
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import ChunkError, DataTypeError, MetadataError, UnknownExtensionError
from zarrant.metadata.v3 import Named
from zarrant.testkit import ArrayToArraySuite, ArrayToBytesSuite

TEXT = np.dtypes.StringDType()
LABELS = tuple(str(number) for number in range(100))


def spec_of(*shape: int, dtype: Any = "string") -> ArraySpec:
    data_type = from_numpy(dtype)
    return ArraySpec(shape, data_type, data_type.default_fill())


class TestCategorize(ArrayToArraySuite):
    dtype = "string"

    @pytest.fixture(params=["|u1", ">i4"])
    def codec(self, request: Any) -> Any:
        return Categorize(LABELS, astype=request.param)


class TestCategorizeOfFixedLength(TestCategorize):
    dtype = "<U5"


class TestJson2(ArrayToBytesSuite):
    dtype = "string"

    @pytest.fixture(params=[Json2(), Json2(ensure_ascii=False, indent=2), Json2(separators=(", ", ": "))], ids=str)
    def codec(self, request: Any) -> Any:
        return request.param


class TestMsgPack2(ArrayToBytesSuite):
    dtype = "string"

    @pytest.fixture(params=[MsgPack2(), MsgPack2(use_bin_type=False, use_single_float=True)], ids=str)
    def codec(self, request: Any) -> Any:
        return request.param


# ── the bytes are those of numcodecs

CHUNKS: list[Any] = [
    ["a"],
    ["", 'q"\\', "\n", "é", "\N{SNOWMAN}" * 70],
    [["x", "yy"], ["", "z\x7f"], ["w", "é"]],
    [[["a"]], [["b"]]],
]


@pytest.mark.parametrize("options", [{}, {"indent": 1}, {"ensure_ascii": False}, {"separators": (", ", ":")}], ids=str)
@pytest.mark.parametrize("chunk", CHUNKS, ids=range(len(CHUNKS)))
def test_json2_bytes(chunk: Any, options: dict[str, Any]) -> None:
    array, theirs = np.array(chunk, TEXT), numcodecs.JSON(**options)
    encoded = Json2(**options).encode(array, spec_of(*array.shape))
    assert encoded == theirs.encode(array.astype(object))
    assert theirs.decode(encoded).tolist() == Json2().decode(encoded, spec_of(*array.shape)).tolist() == chunk


def test_json2_without_dimensions() -> None:
    encoded = Json2().encode(np.array("a", TEXT), spec_of())
    assert encoded == numcodecs.JSON().encode(np.array("a", object))
    assert Json2().decode(encoded, spec_of()).tolist() == "a"


@pytest.mark.parametrize(
    ("chunk", "bin_type", "digest"),  # of what numcodecs 0.16 makes with msgpack 1.1
    [
        ([["x" * 40, "é"], ["y" * 300, ""]], True, "73cec39d38254ac5d97ba6d5be1bb5d807383c7b"),
        ([["x" * 40, "é"], ["y" * 300, ""]], False, "3ebe087bd7f07b3b8f28663054d9006ef6b26d48"),
        (["z" * 70000] * 20, True, "22653bd21264444b6ffc388b6797c493e6e9ef07"),
    ],
)
def test_msgpack2_bytes(chunk: Any, bin_type: bool, digest: str) -> None:
    array, codec = np.array(chunk, TEXT), MsgPack2(use_bin_type=bin_type)
    encoded = codec.encode(array, spec_of(*array.shape))
    assert hashlib.sha1(encoded).hexdigest() == digest
    assert codec.decode(encoded, spec_of(*array.shape)).tolist() == chunk


def test_categorize_bytes() -> None:
    texts = np.array([["male", "female"], ["", "male"]], TEXT)
    ours, theirs = Categorize(("female", "male")), numcodecs.Categorize(["female", "male"], dtype=object)
    encoded = ours.encode(texts, spec_of(2, 2))
    assert encoded.tobytes() == theirs.encode(texts.astype(object)).tobytes()
    assert ours.to_json()["configuration"] == {key: value for key, value in theirs.get_config().items() if key != "id"}
    assert ours.decode(np.array([[3, 1], [0, 200]], "u1"), spec_of(2, 2)).tolist() == [["", "female"], ["", ""]]


# ── in arrays


OBJECTS = [numcodecs.JSON(), {"name": "numcodecs.msgpack2"}, numcodecs.VLenUTF8(), numcodecs.Categorize(["a", "é", "ccc"], object)]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("codec", OBJECTS, ids=str)
@pytest.mark.parametrize("compressors", [None, numcodecs.Zlib(1)], ids=["plain", "zlib"])
def test_arrays(codec: Any, zarr_format: int, compressors: Any) -> None:
    store: dict[str, bytes] = {}
    options: dict[str, Any] = {"filters": [codec], "compressors": compressors, "zarr_format": zarr_format}
    a = zarrant.create_array(store, shape=(5, 6), chunks=(2, 4), dtype=str, fill_value="é", **options)
    a[...] = "a"
    a[1:4, 1:5] = np.array(["ccc", "", "é", "a"], TEXT)
    a.append(np.full((2, 6), "ccc", TEXT))
    again = zarrant.open_array(store)
    assert again[3].tolist() == ["a", "ccc", "", "é", "a", "a"]
    assert again[5].tolist() == ["ccc"] * 6
    a[0:2, 0:4] = "é"
    assert a.retrieve_encoded_chunk((0, 0)) is None
    assert zarrant.open_array(store)[0:2, 3:5].tolist() == [["é", "a"], ["é", "a"]]


def test_a_document_of_v2() -> None:
    document = {
        "zarr_format": 2, "shape": [3], "chunks": [2], "dtype": "|O", "compressor": None, "fill_value": None, "order": "C",
        "filters": [{"id": "json2", "encoding": "utf-8", "allow_nan": True, "check_circular": True, "ensure_ascii": True,
                     "indent": None, "separators": [",", ":"], "skipkeys": False, "sort_keys": True, "strict": True}],
    }  # fmt: skip
    store = {".zarray": json.dumps(document).encode(), "0": b'["a","b","|O",[2]]', "1": b'["a",5,"|O",[2]]'}
    a = zarrant.open_array(store)
    assert a[:2].tolist() == ["a", "b"]
    with pytest.raises(ChunkError, match="element 1 is no text, but 5") as caught:
        a[2]
    assert (caught.value.codec, caught.value.chunk) == ("numcodecs.json2", (1,))


@pytest.mark.parametrize(("identifier", "word"), [("pickle", "runs code"), ("vlen-array", "")])
def test_what_is_refused_in_v2(identifier: str, word: str) -> None:
    document = {
        "zarr_format": 2, "shape": [3], "chunks": [2], "dtype": "|O", "compressor": None, "fill_value": None, "order": "C",
        "filters": [{"id": identifier}],
    }  # fmt: skip
    with pytest.raises(UnknownExtensionError) as caught:
        zarrant.open_array({".zarray": json.dumps(document).encode()})
    assert caught.value.path == "$.filters[0]"
    assert word in str(caught.value)


def test_a_text_that_is_no_label() -> None:
    a = zarrant.create_array({}, shape=(2,), chunks=(2,), dtype=str, filters=[Categorize(("a",))], fill_value="b")
    a[0] = "a"  # next to fill, which is no label
    with pytest.raises((DataTypeError, zarrant.errors.PartialFailure), match="not a label") as caught:
        a[1] = "c"
    assert "'c'" in str(caught.value) or "c" in str(caught.value)
    assert a[0] == "a"


# ── what is wrong

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("categorize", {}, ""),
    ("categorize", {"labels": "ab"}, ".labels"),
    ("categorize", {"labels": ["a", 1]}, ".labels"),
    ("categorize", {"labels": ["a"] * 300}, ".labels"),
    ("categorize", {"labels": ["a"], "dtype": "<i4"}, ".dtype"),
    ("categorize", {"labels": ["a"], "astype": "|O"}, ".astype"),
    ("categorize", {"labels": ["a"], "more": 1}, ".more"),
    ("json2", {"encoding": "utf-7"}, ".encoding"),
    ("json2", {"strict": 1}, ".strict"),
    ("json2", {"indent": -1}, ".indent"),
    ("json2", {"separators": ["x", "y"]}, ".separators"),
    ("json2", {"separators": 5}, ".separators"),
    ("json2", {"cls": "x"}, ".cls"),
    ("msgpack2", {"raw": True}, ".raw"),
    ("msgpack2", {"use_bin_type": None}, ".use_bin_type"),
    ("msgpack2", {"object_hook": "x"}, ".object_hook"),
]


@pytest.mark.parametrize(("name", "configuration", "member"), BAD)
def test_every_member_is_checked(name: str, configuration: dict[str, Any], member: str) -> None:
    with pytest.raises(MetadataError) as caught:
        read_codec(Named(f"numcodecs.{name}", configuration), "$.codecs[1]")
    assert caught.value.path == f"$.codecs[1].configuration{member}"


@pytest.mark.parametrize("codecs", [[Categorize(("a",)), Bytes()], [Json2()], [MsgPack2()]], ids=str)
def test_text_only(codecs: list[Any]) -> None:
    for dtype in ("int32", "bytes"):
        with pytest.raises(MetadataError, match="cannot store this data type"):
            chain_of(codecs).bind(spec_of(2, dtype=dtype))


JSON_BYTES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"[", "JSON"),
    "no list": (b'{"a": 1}', "shape"),
    "no shape": (b'["a","b"]', "shape"),
    "another shape": (b'["a","b","|O",[1,2]]', "shape"),
    "a huge shape": (b'["a","b","|O",[100000000000]]', "shape"),
    "too few": (b'["a","|O",[2]]', "1 elements"),
    "a list in it": (b'["a",["b"],"|O",[2]]', "element 1 is no text"),
    "nothing": (b'["a",null,"|O",[2]]', "element 1 is no text"),
    "half a character": (b'["a","\\ud800","|O",[2]]', "UnicodeEncodeError|surrogate"),
    "no UTF-8": (b'["\xff","a","|O",[2]]', "decode"),
    "deep": (b"[" * 1_000_000, "RecursionError"),
}
MSGPACK_BYTES: dict[str, tuple[bytes, str]] = {
    "nothing at all": (b"", "over the end"),
    "no list": (b"\xa1a", "shape"),
    "cut off": (b"\x94\xa1a\xa1", "over the end"),
    "more after it": (b"\x94\xa1a\xa1b\xa2|O\x91\x02\x00", "follow"),
    "another shape": (b"\x94\xa1a\xa1b\xa2|O\x91\x03", "shape"),
    "a long list": (b"\xdd\xff\xff\xff\xff\xa1a", "over the end"),
    "a long text": (b"\x94\xdb\xff\xff\xff\xffa", "over the end"),
    "deep": (b"\x91" * 1_000_000, "too deep"),
    "a map": (b"\x94\x80\xa1b\xa2|O\x91\x02", "0x80"),
    "an extension": (b"\x94\xd4\x01a\xa1b\xa2|O\x91\x02", "0xd4"),
    "a number": (b"\x94\x05\xa1b\xa2|O\x91\x02", "element 0 is no text"),
    "no UTF-8": (b"\x94\xa1\xff\xa1b\xa2|O\x91\x02", "decode"),
}
CASES = [(Json2(), *case) for case in JSON_BYTES.values()] + [(MsgPack2(), *case) for case in MSGPACK_BYTES.values()]


@pytest.mark.parametrize(("codec", "data", "words"), CASES, ids=[*(f"JSON, {name}" for name in JSON_BYTES), *MSGPACK_BYTES])
def test_wrong_bytes(codec: Any, data: bytes, words: str) -> None:
    a = zarrant.create_array({}, shape=(2,), chunks=(2,), dtype=str, serializer=codec, compressors=None)
    a.store_encoded_chunk((0,), data)
    with pytest.raises(ChunkError, match=words) as caught:
        a[...]
    assert caught.value.codec == codec.name
