from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.errors import MetadataError, UnknownExtensionError
from zarrant.geometry.keys import KeyEncoding

ENCODINGS = [KeyEncoding(name, separator) for name in ("default", "v2") for separator in ("/", ".")]


@pytest.mark.parametrize(
    ("encoding", "index", "key"),
    [
        (KeyEncoding(), (1, 23, 45), "c/1/23/45"),
        (KeyEncoding(), (), "c"),
        (KeyEncoding("default", "."), (1, 23, 45), "c.1.23.45"),
        (KeyEncoding("default", "."), (), "c"),
        (KeyEncoding("v2"), (1, 23, 45), "1.23.45"),
        (KeyEncoding("v2"), (), "0"),
        (KeyEncoding("v2", "/"), (1, 23, 45), "1/23/45"),
        (KeyEncoding("v2", "/"), (7,), "7"),
    ],
)
def test_keys_are_those_of_the_specification(encoding: KeyEncoding, index: tuple, key: str) -> None:
    assert encoding.key(index) == key
    assert encoding.keys(np.array([index, index], np.int64).reshape(2, len(index))) == [key, key]
    assert encoding.parse(key, ndim=len(index)) == index


@given(st.sampled_from(ENCODINGS), st.integers(0, 4), st.data())
def test_many_keys_are_each_key_and_parse_back(encoding: KeyEncoding, ndim: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(*[st.integers(0, 2**63 - 1)] * ndim), max_size=5))
    keys = encoding.keys(np.array(rows, np.int64).reshape(len(rows), ndim))
    assert keys == [encoding.key(row) for row in rows]
    assert [encoding.parse(key, ndim) for key in keys] == rows
    if ndim:
        assert [encoding.parse(key) for key in keys] == rows
        assert all(encoding.parse(key, ndim + 1) is None for key in keys)


def test_the_scalar_key_of_v2_is_also_a_chunk_of_one_dimension() -> None:
    encoding = KeyEncoding("v2")
    assert (encoding.parse("0"), encoding.parse("0", 1), encoding.parse("0", 0)) == ((0,), (0,), ())
    assert encoding.parse("1", 0) is None


NOT_KEYS = [
    "",
    "zarr.json",
    ".zarray",
    "c/",
    "c//1",
    "c/01",
    "c/-1",
    "c/1/",
    "/c/1",
    "c/1.2",
    "c/1 ",
    "c/1\n",
    "c/x",
    "c/+1",
]


@pytest.mark.parametrize("key", [*NOT_KEYS, "1/2", "d/1", "c/٣", f"c/{2**63}", "c/" + "9" * 5000])
def test_what_is_no_key_parses_to_none(key: str) -> None:
    assert KeyEncoding().parse(key) is None


@pytest.mark.parametrize("key", [*NOT_KEYS, "c/1", "c", "1.", ".1", "1..2", "01", "1/2", "1.2.x", "1.2.__lock"])
def test_what_is_no_v2_key_parses_to_none(key: str) -> None:
    assert KeyEncoding("v2").parse(key) is None


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_documents_round_trip(encoding: KeyEncoding) -> None:
    assert KeyEncoding.from_document(*encoding.to_document()) == encoding
    assert pickle.loads(pickle.dumps(encoding)) == encoding
    assert encoding.to_document() == (encoding.name, {"separator": encoding.separator})


@pytest.mark.parametrize(("name", "separator"), [("default", "/"), ("v2", ".")])
def test_the_separator_may_be_left_out(name: str, separator: str) -> None:
    for configuration in (None, {}):
        assert KeyEncoding.from_document(name, configuration) == KeyEncoding(name, separator)


@pytest.mark.parametrize(
    ("configuration", "path"),
    [
        ([], "$.chunk_key_encoding.configuration"),
        ("/", "$.chunk_key_encoding.configuration"),
        ({"separator": "-"}, "$.chunk_key_encoding.configuration.separator"),
        ({"separator": ""}, "$.chunk_key_encoding.configuration.separator"),
        ({"separator": None}, "$.chunk_key_encoding.configuration.separator"),
        ({"separator": ["/"]}, "$.chunk_key_encoding.configuration.separator"),
        ({"separator": "/", "prefix": "d"}, "$.chunk_key_encoding.configuration.prefix"),
    ],
)
def test_bad_documents_name_their_path(configuration: object, path: str) -> None:
    with pytest.raises(MetadataError) as caught:
        KeyEncoding.from_document("default", configuration)
    assert caught.value.path == path


def test_an_unknown_encoding_is_an_unknown_extension() -> None:
    for make in (KeyEncoding, KeyEncoding.from_document):
        with pytest.raises(UnknownExtensionError) as caught:
            make("morton")
        assert (caught.value.path, caught.value.got) == ("$.chunk_key_encoding.name", "morton")
