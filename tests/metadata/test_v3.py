"""Version 3 documents: every violation has its path, everything that may be ignored is kept, and dumping is stable."""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.metadata.documents import ARRAY, GROUP, changed, encode, refused

from zarrant.errors import LimitError, MetadataError, ShapeError, UnknownExtensionError
from zarrant.limits import LIMITS, Limits
from zarrant.metadata import v3
from zarrant.metadata.turn import NAME as TURN
from zarrant.metadata.turn import Turn
from zarrant.metadata.v3 import ArrayMetadata, GroupMetadata, Named, dump, parse, parse_array, parse_group


def without(name: str) -> bytes:
    return encode({key: value for key, value in ARRAY.items() if key != name})


# ── what is understood


def test_array() -> None:
    document = parse_array(encode(ARRAY))
    assert document == ArrayMetadata(
        shape=(10, 20),
        data_type=Named("float32", bare=True),
        chunk_grid=Named("regular", {"chunk_shape": [5, 5]}, explicit=True),
        chunk_key_encoding=Named("default", {"separator": "/"}, explicit=True),
        fill_value="NaN",
        codecs=(Named("bytes", {"endian": "little"}, explicit=True), Named("crc32c", bare=True)),
        attributes={"ünits": "µm"},
        dimension_names=("y", None),
    )
    assert json.loads(dump(document)) == ARRAY
    assert pickle.loads(pickle.dumps(document)) == document


def test_group() -> None:
    document = parse_group(encode(GROUP))
    assert document == GroupMetadata({"a": [1, 2.5, None]})
    assert json.loads(dump(document)) == GROUP
    assert parse_group(encode({"zarr_format": 3, "node_type": "group"})).attributes == {}


def test_optional_members_have_defaults() -> None:
    least = {key: ARRAY[key] for key in list(ARRAY)[:8]}
    document = parse_array(encode(least))
    assert (document.attributes, document.storage_transformers, document.dimension_names) == ({}, (), None)
    assert parse_array(changed(dimension_names=None)).dimension_names is None
    assert parse_array(changed(storage_transformers=[])) == parse_array(encode(ARRAY))
    assert json.loads(dump(document)) == {**least, "attributes": {}}


def test_dump_is_pretty_and_ordered() -> None:
    shuffled = dict(reversed(ARRAY.items())) | {"z_later": {"must_understand": False}, "a_first": {"must_understand": False}}
    text = dump(parse(encode(shuffled))).decode()
    assert text.startswith('{\n  "zarr_format": 3,\n  "node_type": "array",\n  "shape": [\n    10,\n    20\n  ],')
    assert text.endswith("}\n")
    assert "µm" in text
    order = list(json.loads(text))
    assert order[:2] == ["zarr_format", "node_type"]
    assert order[-2:] == ["z_later", "a_first"]


@pytest.mark.parametrize(
    "value",
    [
        "crc32c",
        {"name": "crc32c"},
        {"name": "crc32c", "configuration": {}},
        {"name": "crc32c", "must_understand": False},
        {"name": "crc32c", "configuration": {}, "must_understand": False},
        {"name": "x", "configuration": {"a": {"b": [1]}}, "must_understand": True},
        {"name": "https://example.org/codec", "configuration": {"must_understand": False}},
    ],
)
def test_named_keeps_its_form(value: Any) -> None:
    named = Named.parse(value, "$.x")
    assert named.to_json() == value
    assert named.may_ignore == (isinstance(value, dict) and value.get("must_understand") is False)
    assert Named.parse(named.to_json(), "$.x") == named
    assert parse_array(dump(parse(changed(codecs=[value])))).codecs == (named,)


def test_named_made_by_hand() -> None:
    assert Named("a").to_json() == {"name": "a"}
    assert Named("a", bare=True).to_json() == "a"
    assert Named("a", {"b": 1}, bare=True).to_json() == {"name": "a", "configuration": {"b": 1}}


# ── what breaks the specification

BAD: list[tuple[str, bytes]] = [
    ("$", b"[]"),
    ("$", b'"x"'),
    ("$", b"{}"),
    ("$", b""),
    ("$", b"{"),
    ("$", b"\xef\xbb\xbf{}"),
    ("$", b'{"a": "\xff"}'),
    ("$", encode(ARRAY) + b"x"),
    *(("$", without(name)) for name in list(ARRAY)[:8]),
    *(("$.zarr_format", changed(zarr_format=value)) for value in (2, 3.0, True, "3", None)),
    *(("$.node_type", changed(node_type=value)) for value in ("Array", "", None, 1, ["array"], {})),
    *(("$.shape", changed(shape=value)) for value in (10, "10", None, {"0": 1})),
    *(("$.shape[1]", changed(shape=[10, value])) for value in (-1, 1.0, True, "1", None, 2**63)),
    *(
        (f"$.{name}", changed(**{name: value}))
        for name in ("data_type", "chunk_grid", "chunk_key_encoding")
        for value in (1, None, [], "", True)
    ),
    *(
        (f"$.{name}{below}", changed(**{name: value}))
        for name in ("data_type", "chunk_grid", "chunk_key_encoding")
        for below, value in (
            ("", {}),
            ("", {"configuration": {}}),
            (".name", {"name": ""}),
            (".name", {"name": 1}),
            (".name", {"name": None}),
            (".configuration", {"name": "a", "configuration": None}),
            (".configuration", {"name": "a", "configuration": []}),
            (".must_understand", {"name": "a", "must_understand": 0}),
            (".must_understand", {"name": "a", "must_understand": None}),
            (".extra", {"name": "a", "extra": 1}),
            ('["not plain"]', {"name": "a", "not plain": 1}),
        )
    ),
    *(("$.codecs", changed(codecs=value)) for value in ({}, None, "bytes")),
    ("$.codecs[1]", changed(codecs=["bytes", 5])),
    ("$.codecs[1].configuration", changed(codecs=["bytes", {"name": "gzip", "configuration": 5}])),
    ("$.codecs[1].level", changed(codecs=["bytes", {"name": "gzip", "level": 5}])),
    *(("$.attributes", changed(attributes=value)) for value in (None, [], 1, "x")),
    *(("$.dimension_names", changed(dimension_names=value)) for value in ([], ["x"], ["x", "y", "z"], "xy", {})),
    ("$.dimension_names[1]", changed(dimension_names=["x", 1])),
    *(("$.storage_transformers", changed(storage_transformers=value)) for value in (None, {}, "x")),
    *(("$.storage_transformers[0]", changed(storage_transformers=[value])) for value in ("x", {"name": "x"}, 1)),
    ("$.storage_transformers[0]", changed(storage_transformers=[{"name": "x", "must_understand": True}])),
    *(("$.foo", changed(foo=value)) for value in (1, None, "x", {}, {"must_understand": True}, {"must_understand": 0})),
    ("$.consolidated_metadata", changed(consolidated_metadata=None)),
    ("$.consolidated_metadata", encode(GROUP | {"consolidated_metadata": {"metadata": {}}})),
    ("$.shape", encode(GROUP | {"shape": [1]})),
    ("$.attributes", encode(GROUP | {"attributes": None})),
    ('$["a b"]', encode(GROUP | {"a b": 1})),
]


@pytest.mark.parametrize(("path", "data"), BAD)
def test_refused_with_its_path(path: str, data: bytes) -> None:
    error = refused(data, path)
    assert error.expected is not None
    assert error.got is not None


def test_a_missing_member_is_named() -> None:
    for name in list(ARRAY)[:8]:
        assert refused(without(name), "$").expected == name


def test_wrong_node_type() -> None:
    with pytest.raises(MetadataError, match="is a group") as caught:
        parse_array(encode(GROUP))
    assert (caught.value.path, caught.value.expected, caught.value.got) == ("$.node_type", "array", "group")
    with pytest.raises(MetadataError, match="is an array"):
        parse_group(encode(ARRAY))


# ── what may be ignored is kept


def test_unknown_members_are_kept_in_order() -> None:
    extra = {"b": {"must_understand": False, "x": [1]}, "a": {"must_understand": False}}
    for base in (ARRAY, GROUP):
        document = parse(encode(base | extra))
        assert list(document.extra.items()) == list(extra.items())
        assert json.loads(dump(document)) == base | extra
        assert parse(dump(document)) == document


def test_ignorable_storage_transformers_are_kept() -> None:
    transformer = {"name": "x", "configuration": {"y": 1}, "must_understand": False}
    document = parse_array(changed(storage_transformers=[transformer]))
    assert document.storage_transformers[0].may_ignore
    assert json.loads(dump(document))["storage_transformers"] == [transformer]


@pytest.mark.parametrize("value", [None, {"kind": "inline", "must_understand": False, "metadata": {"x": ARRAY}}])
def test_consolidated_metadata_is_kept(value: Any) -> None:
    document = parse_group(encode(GROUP | {"consolidated_metadata": value}))
    assert document.extra["consolidated_metadata"] == value
    assert json.loads(dump(document.with_attributes({}))) == GROUP | {"attributes": {}, "consolidated_metadata": value}


def test_unknown_storage_transformers_are_refused_by_name() -> None:
    error = refused(changed(storage_transformers=[{"name": "mystery"}]), "$.storage_transformers[0]")
    assert isinstance(error, UnknownExtensionError)
    assert (error.field, error.got) == ("storage_transformers", "mystery")


def test_extra_never_replaces_a_member() -> None:
    document = GroupMetadata({}, {"node_type": "array", "x": {"must_understand": False}})
    assert json.loads(dump(document))["node_type"] == "group"


# ── limits


LIMITED: list[tuple[str, str, int, int, Callable[[int], bytes]]] = [
    ("rank", "$.shape", 62, 63, lambda n: changed(shape=[1] * n, dimension_names=None)),
    ("codecs", "$.codecs", 16, 17, lambda n: changed(codecs=["bytes"] * n)),
]


@pytest.mark.parametrize(("field", "path", "most", "got", "make"), LIMITED)
def test_limits(field: str, path: str, most: int, got: int, make: Callable[[int], bytes]) -> None:
    parse(make(most))
    with pytest.raises(LimitError) as caught:
        parse(make(got))
    error = caught.value
    assert (error.field, error.path, error.got, error.limit) == (field, path, got, most)


LIMITED_DOCUMENTS: list[tuple[str, Any, Any]] = [
    ("rank", {"shape": (1,) * 63, "dimension_names": None}, {"shape": (1,) * 62, "dimension_names": None}),
    ("codecs", {"codecs": (Named("a"),) * 17}, {"codecs": (Named("a"),) * 16}),
    ("document", {"dimension_names": ("d" * (16 << 20), None)}, {"dimension_names": ("d" * (15 << 20), None)}),
    ("document", {"attributes": {"é" * (8 << 20): 1}}, {"attributes": {"é" * (7 << 20): 1}}),
    ("document", {"attributes": {"a": [1] * 2_000_000}}, {"attributes": {"a": [1] * 20_000}}),
    ("digits", {"attributes": {"a": [-(10**4300)]}}, {"attributes": {"a": [10**4300 - 1, -(10**4300) + 1]}}),
    ("containers", {"attributes": {"a": [[]] * (1 << 20)}}, {"attributes": {"a": [[]] * (1 << 17)}}),
]


@pytest.mark.parametrize(("field", "beyond", "within"), LIMITED_DOCUMENTS, ids=[case[0] for case in LIMITED_DOCUMENTS])
def test_the_limits_of_reading_are_those_of_writing(field: str, beyond: Any, within: Any) -> None:
    document = parse_array(encode(ARRAY))
    data = dump(replace(document, **within))
    assert dump(parse(data)) == data
    with pytest.raises(LimitError) as caught:
        dump(replace(document, **beyond))
    assert caught.value.field == field
    assert caught.value.limit == getattr(LIMITS, {"codecs": "chain"}.get(field, field))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"dimension_names": ("x",)}, "$.dimension_names"),
        ({"dimension_names": ("x", 3)}, "$.dimension_names[1]"),
        ({"shape": (-1, 2)}, "$.shape[0]"),
        ({"shape": (True, 2)}, "$.shape[0]"),
        ({"codecs": ()}, "$.codecs"),
        ({"data_type": Named("")}, "$.data_type.name"),
        ({"chunk_grid": Named("regular", {"a": 1}, must_understand=False)}, "$.chunk_grid.must_understand"),
        ({"storage_transformers": (Named("x"),)}, "$.storage_transformers[0]"),
        ({"extra": {"x": 1}}, "$.x"),
        ({"fill_value": math.nan}, "$.fill_value"),
    ],
)
def test_what_would_not_be_read_is_not_written(change: Any, path: str) -> None:
    with pytest.raises(MetadataError) as caught:
        dump(replace(parse_array(encode(ARRAY)), **change))
    assert caught.value.path == path


@pytest.mark.parametrize("member", ["data_type", "chunk_grid", "chunk_key_encoding"])
def test_what_every_reader_must_understand(member: str) -> None:
    """ "`must_understand=False` is not supported for ... data type, chunk grid, and chunk key encoding."""
    given = ARRAY[member] if isinstance(ARRAY[member], dict) else {"name": ARRAY[member]}
    assert parse(changed(**{member: given | {"must_understand": True}}))
    with pytest.raises(MetadataError) as caught:
        parse(changed(**{member: given | {"must_understand": False}}))
    assert caught.value.path == f"$.{member}.must_understand"


def test_limits_can_be_changed() -> None:
    for limits in (Limits(rank=1), Limits(chain=1)):
        with pytest.raises(LimitError):
            parse_array(encode(ARRAY), limits)


# ── changes


def test_with_shape() -> None:
    document = parse_array(encode(ARRAY))
    shape = document.with_shape((np.int64(3), 0)).shape
    assert shape == (3, 0)
    assert all(type(extent) is int for extent in shape)
    assert document.shape == (10, 20)
    bad: list[Any] = [(1,), (1, 2, 3), (1, -1), (1, 2**63), (1, True), (1, 1.5)]
    for value in bad:
        with pytest.raises(ShapeError):
            document.with_shape(value)


def test_with_attributes_copies() -> None:
    attributes = {"a": 1}
    document = parse_array(encode(ARRAY)).with_attributes(attributes)
    attributes["a"] = 2
    assert document.attributes == {"a": 1}


# ── properties

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4) | st.dictionaries(st.text(), v, max_size=4), max_leaves=12)
objects = st.dictionaries(st.text(), values, max_size=4)
names = st.text(min_size=1)
nameds = st.builds(Named, names, objects, must_understand=st.none() | st.booleans(), explicit=st.just(True)) | st.builds(
    Named, names, bare=st.just(True)
)
understood = nameds.filter(lambda named: not named.may_ignore)
extras = st.dictionaries(st.text().map("x-{}".format), objects.map(lambda value: {**value, "must_understand": False}), max_size=3)


@st.composite
def arrays(draw: st.DrawFn) -> ArrayMetadata:
    rank = draw(st.integers(0, 4))
    each = st.lists(st.none() | st.text(), min_size=rank, max_size=rank).map(tuple)
    return ArrayMetadata(
        shape=tuple(draw(st.lists(st.integers(0, 2**63 - 1), min_size=rank, max_size=rank))),
        data_type=draw(understood),
        chunk_grid=draw(understood),
        chunk_key_encoding=draw(understood),
        fill_value=draw(values),
        codecs=tuple(draw(st.lists(nameds, min_size=1, max_size=4))),
        attributes=draw(objects),
        storage_transformers=tuple(draw(st.lists(st.builds(Named, names, must_understand=st.just(False)), max_size=2))),
        dimension_names=draw(st.none() | each),
        extra=draw(extras),
    )


@given(arrays() | st.builds(GroupMetadata, objects, extras))
def test_round_trip(document: ArrayMetadata | GroupMetadata) -> None:
    data = dump(document)
    again = parse(data)
    if isinstance(again, ArrayMetadata) and again.notes:  # null, of a type that is named like a number: read as zero, and noted
        assert parse(dump(again)) == replace(again, notes=())
    else:
        assert again == document
        assert dump(again) == data


@given(st.binary(max_size=60) | values.map(encode))
def test_anything_else_is_a_typed_error(data: bytes) -> None:
    with pytest.raises((MetadataError, LimitError)):
        parse(data)


@given(st.sampled_from(sorted(ARRAY)), values)
def test_any_member_may_be_anything(name: str, value: Any) -> None:
    try:
        document = parse(changed(**{name: value}))
    except (MetadataError, LimitError) as error:
        assert error.path is not None and error.path.startswith("$")
    else:
        assert parse(dump(document)) == document


# What current programs write and the specification does not allow


def shard_of(name: str) -> dict[str, Any]:
    inner = {"chunk_shape": [1], "codecs": [{"name": name}], "index_codecs": [{"name": "bytes"}, "crc32c"]}
    return {"name": "sharding_indexed", "configuration": inner}


LENIENT: dict[str, tuple[dict[str, Any], str, Any]] = {
    "null for floats": ({"data_type": "float32", "fill_value": None}, "fill_value", 0.0),
    "null for integers": ({"data_type": "uint8", "fill_value": None}, "fill_value", 0),
    "null for bool": ({"data_type": "bool", "fill_value": None}, "fill_value", False),
    "null for complex": ({"data_type": "complex64", "fill_value": None}, "fill_value", [0.0, 0.0]),
    "null for raw bits": ({"data_type": "r16", "fill_value": None}, "fill_value", [0, 0]),
    "a float for integers": ({"data_type": "int16", "fill_value": 3.0}, "fill_value", 3),
    "no codecs": ({"codecs": []}, "codecs", [{"name": "bytes", "configuration": {"endian": "little"}}]),
    "bytes under its older name": (
        {"codecs": [{"name": "endian", "configuration": {"endian": "big"}}, "crc32c"]},
        "codecs",
        [{"name": "bytes", "configuration": {"endian": "big"}}, "crc32c"],
    ),
    "bytes under that name, bare": ({"codecs": ["endian"]}, "codecs", ["bytes"]),
    "bytes under that name, in a shard": ({"codecs": [shard_of("endian")]}, "codecs", [shard_of("bytes")]),
}


@pytest.mark.parametrize("what", LENIENT)
def test_what_others_write_is_read_with_a_note_and_never_written(what: str) -> None:
    changes, name, value = LENIENT[what]
    stored = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [2],
        "data_type": "int8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": [{"name": "bytes"}],
        **changes,
    }
    found = parse_array(json.dumps(stored).encode())
    (note,) = found.notes
    assert name in note
    assert found.to_json()[name] == value
    again = parse_array(dump(found))
    assert (again, again.notes) == (found, ())
    wrong = replace(found, **{name: () if name == "codecs" else None}) if changes.get(name) in (None, []) else None
    if name == "codecs" and wrong is not None:
        with pytest.raises(MetadataError):
            dump(wrong)


@pytest.mark.parametrize("fill", [0.5, "0", True])
def test_other_fills_of_integers_are_left_as_they_are(fill: Any) -> None:
    stored = {"shape": [2], "data_type": "int8", "fill_value": fill, "codecs": [{"name": "bytes"}]}
    stored |= {"chunk_grid": {"name": "regular"}, "chunk_key_encoding": {"name": "default"}}
    found = parse_array(json.dumps({"zarr_format": 3, "node_type": "array", **stored}).encode())
    assert (found.fill_value, found.notes) == (fill, ())


def test_metadata_that_were_read_before_share_nothing_that_can_be_changed() -> None:
    text = dump(
        ArrayMetadata(
            (4,),
            Named("int8"),
            Named("regular", {"chunk_shape": [2]}),
            Named("default", {"separator": "/"}),
            [1, 2],
            (Named("bytes", {"a": {"b": [1]}}),),
            {"of": {"a": "caller"}},
            extra={"more": {"must_understand": False, "x": [1]}},
        )
    )
    first, whole = parse(text), v3._document(v3.parse_json(text), LIMITS)
    assert isinstance(first, ArrayMetadata)
    assert first == whole
    first.attributes["of"]["a"] = 2
    first.fill_value.append(3)
    first.extra["more"]["x"].append(2)
    first.chunk_grid.configuration["chunk_shape"].append(3)  # type: ignore[attr-defined]
    first.codecs[0].configuration["a"]["b"].append(2)
    again = parse(text)
    assert again == whole
    assert again.with_version("v").version == "v"
    assert again.version is None


def test_what_was_written_is_known_by_all_of_it() -> None:
    first = parse_array(encode(ARRAY))
    for other in (replace(first, fill_value=1.0), replace(first, fill_value=1), first.with_attributes({"a": 1}), first):
        assert json.loads(dump(other)) == json.loads(dump(other)) == other.to_json()
    with pytest.raises(MetadataError):
        dump(replace(first, fill_value=np.float32(1.0)))


def test_a_turn_does_not_make_metadata_of_another_form_known() -> None:
    first = replace(parse_array(encode(ARRAY)), turn=Turn("t", 0, 1.0))
    assert TURN in json.loads(dump(first))
    assert TURN not in json.loads(dump(replace(first, turn=None)))
    bad = replace(first, shape=(1,))
    for each in (bad, replace(bad, turn=None)):
        with pytest.raises(MetadataError):
            dump(each)
