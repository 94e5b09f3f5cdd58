"""V2 metadata: what each member becomes, what is written back, and what is wrong with exact class and place."""

from __future__ import annotations

import json
from typing import Any

import pytest

import zarrant
from zarrant.errors import LimitError, MetadataError, UnknownExtensionError, ZarrantError
from zarrant.metadata import node, v2, v3
from zarrant.metadata.v3 import Named

ARRAY: dict[str, Any] = {
    "zarr_format": 2,
    "shape": [4, 6],
    "chunks": [2, 3],
    "dtype": "<f4",
    "compressor": None,
    "fill_value": 0.0,
    "order": "C",
    "filters": None,
}


def parsed(**changes: Any) -> v3.ArrayMetadata:
    return v2.parse_array(json.dumps({**ARRAY, **changes}).encode(), {})


TYPES: list[tuple[Any, str, dict[str, Any], str | None]] = [
    ("|b1", "bool", {}, None),
    (">b1", "bool", {}, None),
    ("<i1", "int8", {}, None),
    ("|u1", "uint8", {}, None),
    ("<i2", "int16", {}, "little"),
    (">u8", "uint64", {}, "big"),
    (">f2", "float16", {}, "big"),
    ("<c16", "complex128", {}, "little"),
    ("|S5", "null_terminated_bytes", {"length_bytes": 5}, None),
    ("<U3", "fixed_length_utf32", {"length_bytes": 12}, "little"),
    ("<V4", "raw_bytes", {"length_bytes": 4}, None),
    ("<M8[ns]", "numpy.datetime64", {"unit": "ns", "scale_factor": 1}, "little"),
    (">m8[10us]", "numpy.timedelta64", {"unit": "us", "scale_factor": 10}, "big"),
    ("<M8[μs]", "numpy.datetime64", {"unit": "us", "scale_factor": 1}, "little"),
    ("<m8[2generic]", "numpy.timedelta64", {"unit": "generic", "scale_factor": 2}, "little"),
    ("bfloat16", "bfloat16", {}, "little"),
    ([["a", "<i4"], ["b", [["c", "|u1"]]]], "struct", {}, "little"),
]


@pytest.mark.parametrize(("dtype", "name", "configuration", "endian"), TYPES, ids=repr)
def test_data_types(dtype: Any, name: str, configuration: dict[str, Any], endian: str | None) -> None:
    found = parsed(dtype=dtype, fill_value=None)
    assert found.data_type.name == name
    if name != "struct":
        assert found.data_type.configuration == configuration
    assert found.codecs == (Named("bytes", {} if endian is None else {"endian": endian}),)
    assert json.loads(v2.dump_array(found))["dtype"] == dtype


BLOSC = {"id": "blosc", "cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}
DELTA = {"id": "delta", "dtype": "<f4", "astype": ">i2"}
CHAINS: list[tuple[dict[str, Any], list[str]]] = [
    ({"order": "F"}, ["transpose", "bytes"]),
    ({"compressor": BLOSC}, ["bytes", "blosc"]),
    ({"compressor": {"id": "zstd", "level": 1}}, ["bytes", "zstd"]),
    ({"compressor": {"id": "gzip", "level": 1}}, ["bytes", "gzip"]),
    ({"compressor": {"id": "zlib", "level": 1}}, ["bytes", "numcodecs.zlib"]),
    ({"compressor": {"id": "crc32c"}}, ["bytes", "crc32c"]),
    ({"filters": [{"id": "shuffle", "elementsize": 4}], "compressor": BLOSC}, ["bytes", "numcodecs.shuffle", "blosc"]),
    ({"filters": [DELTA], "order": "F", "compressor": BLOSC}, ["transpose", "numcodecs.delta", "bytes", "blosc"]),
    ({"filters": []}, ["bytes"]),
    ({"compressor": {"id": "pcodec", "level": 8}}, ["numcodecs.pcodec"]),
    ({"dtype": "|O", "fill_value": "", "filters": [{"id": "vlen-utf8"}], "compressor": BLOSC}, ["vlen-utf8", "blosc"]),
    ({"dtype": "|O", "fill_value": None, "filters": [{"id": "vlen-bytes"}]}, ["vlen-bytes"]),
]


@pytest.mark.parametrize(("members", "names"), CHAINS, ids=repr)
def test_codecs(members: dict[str, Any], names: list[str]) -> None:
    found = parsed(**members)
    assert [codec.name for codec in found.codecs] == names
    assert json.loads(v2.dump_array(found)) == {**ARRAY, **members}
    assert [v2.place(found.v2 or {}, f"$.codecs[{i}].configuration.x") for i in range(len(names))][-1].endswith(".x")


@pytest.mark.parametrize(("dtype", "size"), [("<f4", 4), ("|u1", 1), (">i8", 8)])
def test_a_shuffle_without_size_is_of_elements(dtype: str, size: int) -> None:
    found = parsed(dtype=dtype, fill_value=0, filters=[{"id": "shuffle", "elementsize": 0}], compressor=None)
    assert found.codecs[1].configuration["elementsize"] == size
    assert json.loads(v2.dump_array(found))["filters"] == [{"id": "shuffle", "elementsize": 0}]


@pytest.mark.parametrize(("shuffle", "dtype", "name"), [(-1, "<f4", "shuffle"), (-1, "|u1", "bitshuffle"), (0, "<f4", "noshuffle")])
def test_shuffles(shuffle: int, dtype: str, name: str) -> None:
    (_, blosc) = parsed(dtype=dtype, fill_value=0, compressor={**BLOSC, "shuffle": shuffle}).codecs
    assert blosc.configuration["shuffle"] == name


def test_a_filter_that_changes_the_type_says_its_byte_order() -> None:
    assert parsed(filters=[DELTA]).codecs[1] == Named("bytes", {"endian": "big"})
    assert parsed(filters=[{"id": "packbits"}], dtype="|b1", fill_value=False).codecs[1] == Named("bytes", {})


FILLS: list[tuple[Any, Any, Any]] = [
    ("<f4", None, 0.0),
    ("<f4", "NaN", "NaN"),
    ("<f4", "-Infinity", "-Infinity"),
    ("<f4", 3, 3),
    ("<i4", None, 0),
    ("<i4", 5.0, 5),
    ("|b1", 1, True),
    ("|b1", None, False),
    ("<c8", 0, [0, 0.0]),
    ("<c8", ["NaN", 1.0], ["NaN", 1.0]),
    ("<M8[s]", "NaT", "NaT"),
    ("<M8[s]", -5, -5),
    ("<M8[s]", None, 0),
    ("|S4", "YWI=", "YWI="),
    ("|S4", "YWIAAA==", "YWI="),
    ("|S4", 0, ""),
    ("|V3", "YWI=", "YWIA"),
    ("|V3", None, "AAAA"),
    ("<U4", "é", "é"),
    ("<U4", 0, ""),
    ([["a", "<i2"]], None, "AAA="),
    ([["a", "<i2"]], "AQA=", "AQA="),
    ([["a", ">i2"]], "AAE=", "AQA="),
]


@pytest.mark.parametrize(("dtype", "stored", "fill"), FILLS, ids=repr)
def test_fill_values(dtype: Any, stored: Any, fill: Any) -> None:
    found = parsed(dtype=dtype, fill_value=stored)
    assert found.fill_value == fill
    assert json.loads(v2.dump_array(found))["fill_value"] == stored


def test_sizes_of_chunks_that_were_left_open() -> None:
    found = parsed(shape=[0, 6], chunks=[0, 3])
    assert found.chunk_grid.configuration["chunk_shape"] == [1, 3]
    assert json.loads(v2.dump_array(found))["chunks"] == [0, 3]
    assert json.loads(v2.dump_array(found.with_shape((2, 6))))["chunks"] == [1, 3]
    assert parsed(shape=[0], chunks=[False]).chunk_grid.configuration["chunk_shape"] == [1]


def test_what_no_version_of_the_format_knows_stays() -> None:
    found = parsed(_nczarr_array={"dimrefs": ["/x"]}, dimension_separator="/")
    assert found.chunk_key_encoding == Named("v2", {"separator": "/"})
    assert json.loads(v2.dump_array(found))["_nczarr_array"] == {"dimrefs": ["/x"]}


def test_names_of_dimensions() -> None:
    data = json.dumps(ARRAY).encode()
    assert v2.parse_array(data, {"_ARRAY_DIMENSIONS": ["y", "x"]}).dimension_names == ("y", "x")
    for names in (["y"], "yx", [1, 2], None):
        assert v2.parse_array(data, {"_ARRAY_DIMENSIONS": names}).dimension_names is None


OBJECTS = {"dtype": "|O", "fill_value": None}
VLEN, ZLIB = {"id": "vlen-utf8"}, {"id": "zlib", "level": 1}
BAD: dict[str, tuple[dict[str, Any], type[ZarrantError], str]] = {
    "a version": ({"zarr_format": 3}, MetadataError, "$.zarr_format"),
    "a true version": ({"zarr_format": True}, MetadataError, "$.zarr_format"),
    "a shape": ({"shape": 4}, MetadataError, "$.shape"),
    "an extent": ({"shape": [4, -1]}, MetadataError, "$.shape[1]"),
    "dimensions": ({"shape": [1] * 99, "chunks": [1] * 99}, LimitError, "$.shape"),
    "chunks of another rank": ({"chunks": [2]}, MetadataError, "$.chunks"),
    "a chunk of zero": ({"chunks": [2, 0]}, MetadataError, "$.chunks[1]"),
    "a chunk of false": ({"chunks": [False, 3]}, MetadataError, "$.chunks[0]"),
    "no byte order": ({"dtype": "f4"}, MetadataError, "$.dtype"),
    "no byte order of words": ({"dtype": "|f4"}, MetadataError, "$.dtype"),
    "a native byte order": ({"dtype": "=f4"}, MetadataError, "$.dtype"),
    "a letter": ({"dtype": "<z4"}, MetadataError, "$.dtype"),
    "a size": ({"dtype": "<f3"}, MetadataError, "$.dtype"),
    "a large size": ({"dtype": "<i99999999999999999"}, MetadataError, "$.dtype"),
    "no size": ({"dtype": "<f"}, MetadataError, "$.dtype"),
    "a unit of numbers": ({"dtype": "<i8[ns]"}, MetadataError, "$.dtype"),
    "an unknown unit": ({"dtype": "<M8[fortnight]"}, MetadataError, "$.dtype"),
    "times of four bytes": ({"dtype": "<M4[s]"}, MetadataError, "$.dtype"),
    "a factor of zero": ({"dtype": "<M8[0s]"}, MetadataError, "$.dtype"),
    "text of no length": ({"dtype": "|S0"}, MetadataError, "$.dtype"),
    "text that is too long": ({"dtype": "|S9999999999"}, LimitError, "$.dtype"),
    "Unicode without byte order": ({"dtype": "|U3"}, MetadataError, "$.dtype"),
    "no text": ({"dtype": 4}, MetadataError, "$.dtype"),
    "no fields": ({"dtype": []}, MetadataError, "$.dtype"),
    "a field without type": ({"dtype": [["a"]]}, MetadataError, "$.dtype[0]"),
    "fields of one name": ({"dtype": [["a", "<i4"], ["a", "<i4"]]}, MetadataError, "$.dtype[1][0]"),
    "the type of a field": ({"dtype": [["a", "<i4"], ["b", [["c", "<z1"]]]]}, MetadataError, "$.dtype[1][1][0][1]"),
    "an object field": ({"dtype": [["a", "|O"]]}, MetadataError, "$.dtype[0][1]"),
    "fields that are arrays": ({"dtype": [["a", "<i4", [2]]]}, UnknownExtensionError, "$.dtype[0][2]"),
    "two byte orders": ({"dtype": [["a", "<i4"], ["b", ">i4"]]}, UnknownExtensionError, "$.dtype"),
    "objects without codec": ({**OBJECTS}, MetadataError, "$.filters"),
    "objects with a later codec": ({**OBJECTS, "filters": [ZLIB, VLEN]}, MetadataError, "$.filters[0].id"),
    "pickle": ({**OBJECTS, "filters": [{"id": "pickle"}]}, UnknownExtensionError, "$.filters[0]"),
    "pickle as compressor": ({"compressor": {"id": "pickle"}}, UnknownExtensionError, "$.compressor"),
    "objects that are arrays": ({**OBJECTS, "filters": [{"id": "vlen-array"}]}, UnknownExtensionError, "$.filters[0]"),
    "a filter of another byte order": ({"filters": [{"id": "delta", "dtype": ">f4"}]}, MetadataError, "$.filters[0].dtype"),
    "an astype of another byte order": (
        {"filters": [{"id": "astype", "encode_dtype": "<i2", "decode_dtype": ">f4"}]},
        MetadataError,
        "$.filters[0].decode_dtype",
    ),
    "an order": ({"order": "K"}, MetadataError, "$.order"),
    "filters": ({"filters": {"id": "delta"}}, MetadataError, "$.filters"),
    "a filter": ({"filters": ["delta"]}, MetadataError, "$.filters[0]"),
    "a filter without id": ({"filters": [{"dtype": "<f4"}]}, MetadataError, "$.filters[0]"),
    "filters in the wrong order": ({"filters": [ZLIB, DELTA]}, MetadataError, "$.filters[1]"),
    "two serializers": ({**OBJECTS, "filters": [VLEN, VLEN]}, MetadataError, "$.filters[1]"),
    "many filters": ({"filters": [DELTA] * 99}, LimitError, "$.filters"),
    "a compressor": ({"compressor": "zlib"}, MetadataError, "$.compressor"),
    "a shuffle": ({"compressor": {**BLOSC, "shuffle": 7}}, MetadataError, "$.compressor.shuffle"),
    "a separator": ({"dimension_separator": "-"}, MetadataError, "$.dimension_separator"),
    "a fill of text": ({"dtype": "|S4", "fill_value": "no base64"}, MetadataError, "$.fill_value"),
    "a long fill of text": ({"dtype": "|S1", "fill_value": "YWJj"}, MetadataError, "$.fill_value"),
    "a fill of Unicode": ({"dtype": "<U4", "fill_value": 7}, MetadataError, "$.fill_value"),
    "a fill of bool": ({"dtype": "|b1", "fill_value": 2}, MetadataError, "$.fill_value"),
}
BOUND: dict[str, tuple[dict[str, Any], type[ZarrantError], str]] = {
    "a fill of floats": ({"fill_value": "red"}, MetadataError, "$.fill_value"),
    "a fill of integers": ({"dtype": "|u1", "fill_value": 300}, MetadataError, "$.fill_value"),
    "a fill of times": ({"dtype": "<M8[s]", "fill_value": "later"}, MetadataError, "$.fill_value"),
    "a level": ({"compressor": {"id": "zstd", "level": 99}}, MetadataError, "$.compressor.level"),
    "a member": ({"compressor": {**ZLIB, "x": 1}}, MetadataError, "$.compressor.x"),
    "an unknown codec": ({"filters": [{"id": "nope"}], "compressor": ZLIB}, UnknownExtensionError, "$.filters[0]"),
    "the chunk is too large": ({"shape": [2**40, 8], "chunks": [2**40, 8]}, LimitError, "$.dtype"),
}


@pytest.mark.parametrize("what", [*BAD, *BOUND])
def test_what_is_wrong_is_told_with_its_place(what: str) -> None:
    changes, kind, path = {**BAD, **BOUND}[what]
    data = json.dumps({**ARRAY, **changes}).encode()
    if what in BAD:
        with pytest.raises(ZarrantError) as caught:
            v2.parse_array(data, {})
        assert (type(caught.value), caught.value.path) == (kind, path)
    objects = {".zarray": data}
    with pytest.raises(ZarrantError) as opened:
        zarrant.open_array(objects, mode="r")
    assert (type(opened.value), opened.value.path, opened.value.key) == (kind, path, ".zarray")
    assert objects == {".zarray": data}


@pytest.mark.parametrize("name", v2.ARRAY_MEMBERS)
def test_every_member_is_needed(name: str) -> None:
    with pytest.raises(MetadataError, match="missing member") as caught:
        v2.parse_array(json.dumps({key: value for key, value in ARRAY.items() if key != name}).encode(), {})
    assert caught.value.expected == name


@pytest.mark.parametrize("data", [b"[]", b"{", b'{"a": 1, "a": 2}', b"\xff"])
@pytest.mark.parametrize("name", [".zarray", ".zattrs"])
def test_objects_that_are_no_objects(name: str, data: bytes) -> None:
    objects = {".zarray": json.dumps(ARRAY).encode(), name: data}
    with pytest.raises(MetadataError) as caught:
        zarrant.open_array(objects, mode="r")
    assert caught.value.key == name


def test_words_are_for_attributes_only() -> None:
    with pytest.raises(MetadataError, match="does not have"):
        v2.parse_array(json.dumps({**ARRAY, "fill_value": float("nan")}).encode(), {})
    assert str(v2.parse_attributes(b'{"a": {"b": NaN}}')) == "{'a': {'b': nan}}"


def test_the_objects_of_a_node_come_back() -> None:
    array = v2.parse_array(json.dumps(ARRAY).encode(), {"a": 1})
    for document in (array, v3.GroupMetadata({"b": [1]}, v2={"x": 1}), v3.GroupMetadata({"b": [1]})):
        objects = {name: data for name, data in node.dump_all(document).items() if data is not None}
        assert node.parse("g", objects) == document
        assert list(objects)[-1] == node.main_name(document)


# The way back -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "names"), CHAINS, ids=repr)
def test_what_comes_from_v2_goes_back(members: dict[str, Any], names: list[str]) -> None:
    found = parsed(**members)
    back = v2.as_v2(v3.ArrayMetadata(**{**found.__dict__, "v2": None}))
    assert back.codecs == found.codecs
    assert (back.data_type, back.fill_value, back.chunk_grid) == (found.data_type, found.fill_value, found.chunk_grid)


@pytest.mark.parametrize(("dtype", "name", "configuration", "endian"), TYPES, ids=repr)
def test_types_go_back(dtype: Any, name: str, configuration: dict[str, Any], endian: str | None) -> None:
    found = parsed(dtype=dtype, fill_value=None)
    back = v2.as_v2(v3.ArrayMetadata(**{**found.__dict__, "v2": None}))
    assert (back.data_type, back.codecs) == (found.data_type, found.codecs)
