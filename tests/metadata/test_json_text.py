"""JSON text: what Python's reader forgives is refused, with its path; limits hold; words in attributes survive."""

from __future__ import annotations

import json
import math
import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.metadata.documents import ARRAY, GROUP, changed, encode, refused

from zarrant.errors import LimitError, MetadataError, ZarrantError
from zarrant.limits import LIMITS, Limits
from zarrant.metadata.json_text import Literal, _check, dump_json, parse_json
from zarrant.metadata.v3 import GroupMetadata, dump, parse, parse_array, parse_group


def test_positions_of_broken_text() -> None:
    assert "line 2 column 1" in str(refused(b'{"a": 1,\n2}', "$"))
    assert "byte 7" in str(refused(b'{"a": "\xff"}', "$"))


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("$.shape", '"shape": [10, 20]', '"shape": [10, 20], "shape": [10, 20]'),
        ("$.codecs[0].configuration.endian", '"endian": "little"', '"endian": "little", "endian": "little"'),
        ('$.attributes["\\u00fcnits"]', '"attributes": {', '"attributes": {"ünits": 1, '),
    ],
)
def test_repeated_members(path: str, old: str, new: str) -> None:
    text = json.dumps(ARRAY, ensure_ascii=False)
    assert old in text
    assert "twice" in str(refused(text.replace(old, new).encode(), path))


def test_lone_surrogates() -> None:
    refused(changed(attributes={"a": ["\ud800"]}), "$.attributes.a[0]")
    refused(changed(attributes={"\udfff": 1}), "$.attributes")
    assert parse_array(changed(attributes={"a": "😀"})).attributes == {"a": "😀"}


# ── numbers that JSON does not have


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_words_in_attributes(word: str) -> None:
    text = json.dumps(ARRAY).replace('"attributes": {', f'"attributes": {{"deep": [{{"x": {word}}}], ')
    document = parse_array(text.encode())
    value = document.attributes["deep"][0]["x"]
    assert isinstance(value, Literal)
    assert isinstance(pickle.loads(pickle.dumps(value)), Literal)
    assert str(value) == str(float(word))
    # what was read is written back, also with new attributes: changing one attribute must not fail for another
    again = dump(document.with_attributes({**document.attributes, "new": 1}))
    assert f'"x": {word}' in again.decode()
    assert dump(parse(again)) == again
    group = json.dumps({"zarr_format": 3, "node_type": "group"})[:-1]
    consolidated = f', "consolidated_metadata": {{"must_understand": false, "metadata": {{"x/y": {text}}}}}}}'
    nested = parse_group((group + consolidated).encode())
    assert dump(parse(dump(nested))) == dump(nested)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("$.fill_value", '"fill_value": "NaN"', '"fill_value": {}'),
        ("$.codecs[0].configuration.endian", '"endian": "little"', '"endian": {}'),
        ("$.x.attributes.a", '"codecs"', '"x": {{"must_understand": false, "attributes": {{"a": {}}}}}, "codecs"'),
    ],
)
def test_words_elsewhere(word: str, path: str, old: str, new: str) -> None:
    refused(json.dumps(ARRAY).replace(old, new.format(word)).encode(), path)


def test_numbers_beyond_float64_are_refused_in_attributes() -> None:
    refused(b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": 1e999}}', "$.attributes.a")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": math.nan}, "$.attributes.a"),
        ({"a": [1, math.inf]}, "$.attributes.a[1]"),
        ({"a": np.float64("nan")}, "$.attributes.a"),
        ({"a": np.int64(1)}, "$.attributes.a"),
        ({"a": {1, 2}}, "$.attributes.a"),
        ({"a": b"x"}, "$.attributes.a"),
        ({1: "x"}, "$.attributes"),
        ({"a": "\ud800"}, "$.attributes.a"),
    ],
)
def test_dump_refuses_what_is_not_json(value: Any, path: str) -> None:
    for document in (parse(encode(ARRAY)), parse(encode(GROUP))):
        with pytest.raises(MetadataError) as caught:
            dump(document.with_attributes(value))
        assert caught.value.path == path


def test_dump_takes_tuples_and_refuses_cycles() -> None:
    assert json.loads(dump(GroupMetadata({"a": (1, 2)})))["attributes"] == {"a": [1, 2]}
    cycle: dict[str, Any] = {}
    cycle["again"] = cycle
    with pytest.raises(LimitError):
        dump(GroupMetadata(cycle))
    with pytest.raises(LimitError):
        dump(GroupMetadata({"a": 10**5000}))


# ── limits


def nested(depth: int) -> bytes:
    """A group whose lists and objects nest `depth` deep."""
    inner = "[" * (depth - 2) + "]" * (depth - 2)
    return f'{{"zarr_format": 3, "node_type": "group", "attributes": {{"a": {inner}}}}}'.encode()


LIMITED: list[tuple[str, str, int, int, Callable[[int], bytes]]] = [
    (
        "digits",
        "$",
        4300,
        4301,
        lambda n: b'{"zarr_format": 3, "node_type": "group", "attributes": {"a": ' + b"1" * n + b"}}",
    ),
    ("document", "$", 16 << 20, (16 << 20) + 1, lambda n: encode(GROUP) + b" " * (n - len(encode(GROUP)))),
]


@pytest.mark.parametrize(("field", "path", "most", "got", "make"), LIMITED)
def test_limits(field: str, path: str, most: int, got: int, make: Callable[[int], bytes]) -> None:
    parse(make(most))
    with pytest.raises(LimitError) as caught:
        parse(make(got))
    error = caught.value
    assert (error.field, error.path, error.got, error.limit) == (field, path, got, most)


def test_depth() -> None:
    parse(nested(64))
    for depth in (65, 100, 100_000):
        with pytest.raises(LimitError) as caught:
            parse(nested(depth))
        assert (caught.value.field, caught.value.limit) == ("depth", 64)
        assert caught.value.path is not None


def test_limits_can_be_changed() -> None:
    assert parse(nested(80), Limits(depth=80))
    with pytest.raises(LimitError):
        parse_group(encode(GROUP), Limits(document=10))


def test_long_keys_and_many_children_stay_cheap() -> None:
    """Paths are rendered for errors alone: here they would take 100 GB."""
    attributes = {"k" * 1_000_000: [0] * 100_000}
    assert parse_group(encode(GROUP | {"attributes": attributes})).attributes == attributes
    many = ", ".join(f'"{i}": 0' for i in range(50_000))
    repeated = f'{{"zarr_format": 3, "node_type": "group", "attributes": {{{many}, "49999": 0}}}}'
    refused(repeated.encode(), '$.attributes["49999"]')


SCALARS = ["1", "-0.0", "1e999", "NaN", "-Infinity", "null", '"x"', r'"\ud800"', r'"\ud83d\ude00"', r'"\\u"', '"é"']


@given(
    st.recursive(
        st.sampled_from(SCALARS),
        lambda inside: (
            st.lists(inside, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
            | st.lists(st.tuples(st.sampled_from(["a", "b", "attributes", r"\udc00"]), inside), max_size=3).map(
                lambda pairs: "{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}"
            )
        ),
        max_leaves=20,
    ),
    st.sampled_from([0, 40, 63, 64, 80]),
)
def test_what_is_read_without_a_look_at_each_value_would_pass_it(text: str, depth: int) -> None:
    try:
        found = parse_json(("[" * depth + text + "]" * depth).encode())
    except ZarrantError:
        return
    _check(found, LIMITS)


def outcome(text: str) -> Any:
    """The last item of a list, or the class of the error."""
    try:
        found = parse_json(text.encode())[-1]
    except ZarrantError as error:
        return type(error), error.field, error.message
    return repr(found)


@given(
    st.recursive(
        st.sampled_from([*SCALARS, '":"', '" : "', '"{"', '"a\\":"']),
        lambda inside: (
            st.lists(inside, max_size=3).map(lambda items: "[" + ",".join(items) + "]")
            | st.lists(
                st.tuples(st.sampled_from(["a", "b", ":", r"a\""]), st.sampled_from(["", " ", "\t\n"]), inside), max_size=3
            ).map(lambda pairs: "{" + ",".join(f'"{key}"{space}:{value}' for key, space, value in pairs) + "}")
        ),
        max_leaves=20,
    ),
    st.sampled_from([0, 60, 64, 65]),
)
def test_with_many_objects_the_same_is_read(text: str, depth: int) -> None:
    """Then members are counted, and no object is looked at by itself."""
    text = "[" * depth + text + "]" * depth
    assert outcome(f"[{text}]") == outcome(f"[{'{},' * 300}{text}]")


@pytest.mark.parametrize("space", ["", " "])
@pytest.mark.parametrize("value", ["0", '"a:b"', '" :"', '"{"'])
def test_a_repeated_member_among_many_objects(value: str, space: str) -> None:
    text = f'[{"{}," * 300}{{"a"{space}:{value},"b":{value},"a"{space}:{value}}}]'
    with pytest.raises(MetadataError, match="occurs twice"):
        parse_json(text.encode())


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.recursive(
        st.none() | st.booleans() | NUMBERS | TEXT,
        lambda inside: st.lists(inside, max_size=3) | st.tuples(inside) | st.dictionaries(TEXT, inside, max_size=3),
        max_leaves=20,
    )
)
def test_what_is_written_is_what_the_standard_library_writes(value: Any) -> None:
    data = dump_json({"a": value})
    assert data == (json.dumps({"a": value}, ensure_ascii=False, indent=2) + "\n").encode()


def layered(depth: int, width: int) -> Any:
    """A value of so many lists and objects inside of each other, and beside it others that are not deep."""
    value: Any = 7
    for level in range(depth - 1):
        value = {"a": value, "b": "c"} if level % 2 else [0.5, value]
    return [*[[1], {}] * width, value]


@pytest.mark.parametrize("width", [0, 1, 30])
@pytest.mark.parametrize("beyond", [0, 1, 2])
def test_the_last_depth_that_is_allowed(width: int, beyond: int) -> None:
    """Whatever else there is: many lists and objects alone are not deep."""
    data = json.dumps(layered(LIMITS.depth + beyond, width)).encode()
    if beyond:
        with pytest.raises(LimitError) as error:
            parse_json(data)
        assert error.value.field == "depth"
    else:
        assert parse_json(data) == layered(LIMITS.depth, width)


@pytest.mark.parametrize("most", [4300, 0, 5000, 640])
def test_digits_of_an_integer_whatever_python_allows(most: int) -> None:
    """CPython's own limit serves where it is the same as ours; the error is the same wherever it comes from."""
    before = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(most)
        for digits in (1, 640, 641, 4300, 4301, 6000):
            data = b'{"a": -' + b"9" * digits + b"}"
            if digits <= min(LIMITS.digits, most or LIMITS.digits):
                assert parse_json(data)["a"] == 1 - 10**digits
            else:
                with pytest.raises(LimitError) as error:
                    parse_json(data)
                assert (error.value.field, error.value.got) == ("digits", digits)
    finally:
        sys.set_int_max_str_digits(before)
