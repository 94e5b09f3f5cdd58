"""What is acknowledged can be opened again: writing applies the limits of reading, at every entry that stores metadata."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import LimitError, MetadataError, NodeNotFoundError, OptionError, ZarrantError


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES: dict[str, tuple[Any, type[ZarrantError] | None, str]] = {
    "17 MiB of text": ("x" * (17 << 20), LimitError, "document"),
    "9 MiB of text of two bytes each": ("é" * (9 << 20), LimitError, "document"),
    "a list whose indented text is too long": ([1] * 3_000_000, LimitError, "document"),
    "a key of 16 MiB": ({"k" * (16 << 20): 1}, LimitError, "document"),
    "an integer of 4300 digits": (10**4299, None, ""),
    "a negative integer of 4300 digits": (-(10**4299), None, ""),
    "an integer of 4301 digits": (10**4300, LimitError, "digits"),
    "a negative integer of 4301 digits": (-(10**4300), LimitError, "digits"),
    "depth of 64": (deep(62), None, ""),
    "depth of 65": (deep(63), LimitError, "depth"),
    "a million empty lists": ([[]] * (1 << 20), LimitError, "containers"),
    "brackets in text": ("[{" * (1 << 20), None, ""),
    "NaN": (float("nan"), MetadataError, ""),
    "infinity": ([float("inf")], MetadataError, ""),
    "a lone surrogate": ("\ud800", MetadataError, ""),
    "a lone surrogate in a key": ({"\udfff": 1}, MetadataError, ""),
    "a tuple": ((1, 2), None, ""),
    "a NumPy scalar": (np.int64(3), MetadataError, ""),
    "a NumPy float": (np.float64(3), None, ""),
    "a NumPy array": (np.arange(3), MetadataError, ""),
    "a NumPy string": (np.str_("x"), None, ""),
    "bytes": (b"x", MetadataError, ""),
    "a set": ({1}, MetadataError, ""),
    "a key that is a number": ({1: 2}, MetadataError, ""),
    "a complex number": (1j, MetadataError, ""),
    "an object": (object(), MetadataError, ""),
}


def of_array(place: Any) -> Any:
    return zarrant.create_array(place, shape=(8,), chunks=(4,), dtype="int32", attributes={"kept": 1}, fill_value=7)


def of_group(place: Any) -> Any:
    return zarrant.create_group(place, attributes={"kept": 1})


def by_update(node: Any, value: Any) -> None:
    node.update_attributes({"v": value})


def by_function(node: Any, value: Any) -> None:
    node.update_attributes(lambda stored: {**stored, "v": value})


def by_item(node: Any, value: Any) -> None:
    node.attrs["v"] = value


def by_put(node: Any, value: Any) -> None:
    node.attrs.put({"kept": 1, "v": value})


def by_coroutine(node: Any, value: Any) -> None:
    async def change() -> None:
        await (await zarrant.open_async(node.store)).update_attributes({"v": value})

    asyncio.run(change())


LARGE = ("17 MiB", "9 MiB", "a list whose", "a key of 16 MiB", "a million", "brackets")  # seconds each
SMALL = [name for name in VALUES if not name.startswith(LARGE)]
CHANGES = [
    *((make, change, name) for make in (of_array, of_group) for change in (by_item, by_put, by_coroutine) for name in SMALL),
    *((of_array, by_update, name) for name in VALUES),
    *((of_group, by_function, name) for name in SMALL),
]


@pytest.mark.parametrize(("make", "change", "name"), CHANGES)
def test_attributes(name: str, make: Callable[[Any], Any], change: Callable[[Any, Any], None], refused: Any) -> None:
    value, kind, field = VALUES[name]
    place: dict[str, bytes] = {}
    node = make(place)
    if kind is None:
        change(node, value)
        assert "v" in zarrant.open(place, mode="r").attrs
    else:
        with refused(place, kind) as caught:
            change(node, value)
        assert not field or caught[0].field == field
        assert not field or caught[0].limit is not None
    again = zarrant.open(place, mode="r")
    assert again.attrs["kept"] == 1
    assert not isinstance(again, zarrant.Array) or (again[...] == 7).all()


@pytest.mark.parametrize("value", ["abc", [1], 3, [("a", 1)], {"a"}])
def test_attributes_that_are_no_mapping(value: Any, place: Any, refused: Any) -> None:
    node = of_group(place)
    calls: list[Callable[[], object]] = [
        lambda: zarrant.create_array(place, name="a", attributes=value, **PLAIN),
        lambda: zarrant.create_group(place, name="a", attributes=value),
        lambda: node.update_attributes(lambda stored: value),
        lambda: node.attrs.put(value),
    ]
    for call in calls:
        with refused(place, zarrant.errors.DataTypeError, "attributes", "mapping"):
            call()


def test_a_change_that_returns_nothing_erases_nothing(place: Any, refused: Any) -> None:
    node = of_array(place)
    with refused(place, zarrant.errors.DataTypeError, "attributes", "NoneType"):
        node.update_attributes(lambda stored: stored.update(x=1))
    assert dict(zarrant.open(place).attrs) == {"kept": 1}


CREATED: dict[str, tuple[dict[str, Any], str]] = {
    "17 codecs": ({"compressors": [zarrant.codecs.Zstd()] * 16}, "codecs"),
    "17 filters": ({"filters": [{"name": "transpose", "configuration": {"order": [0]}}] * 16}, "codecs"),
    "17 codecs in shards": ({"compressors": [zarrant.codecs.Crc32c()] * 16, "shards": (8,)}, "codecs"),
    "63 dimensions": ({"shape": (1,) * 63, "chunks": (1,) * 63}, "rank"),
    "65 dimensions": ({"shape": (1,) * 65, "chunks": (1,) * 65}, "rank"),
    "a long dimension name": ({"dimension_names": ["d" * (17 << 20)]}, "document"),
    "long attributes": ({"attributes": {"a": "x" * (17 << 20)}}, "document"),
    "deep attributes": ({"attributes": {"a": deep(63)}}, "depth"),
    "long integers": ({"attributes": {"a": 10**5000}}, "digits"),
    "a large chunk": ({"shape": (3 << 30,), "chunks": (3 << 30,), "dtype": "uint8"}, "decoded bytes of a chunk"),
    "a chunk that Blosc cannot take": (
        {"shape": (1 << 31,), "chunks": (1 << 31,), "dtype": "uint8", "compressors": zarrant.codecs.Blosc()},
        "decoded bytes of a chunk",
    ),
    "a large element": ({"dtype": "r17179869184", "fill_value": None}, ""),
    "many subchunks": ({"shape": (1 << 25,), "chunks": (1,), "shards": (1 << 25,), "dtype": "uint8"}, "subchunks"),
}
PLAIN: dict[str, Any] = {"shape": (8,), "chunks": (4,), "dtype": "int32", "fill_value": 0}


@pytest.mark.parametrize("name", CREATED)
@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"if_exists": "match"}])
def test_creating_beyond_a_limit_stores_and_erases_nothing(name: str, how: dict[str, Any], place: Any, refused: Any) -> None:
    options, field = CREATED[name]
    old = zarrant.create_array(place, name="old", **PLAIN)
    old[...] = 5
    for path in ("old", "new", "new/below"):
        with refused(place, LimitError if field else zarrant.errors.DataTypeError) as caught:
            zarrant.create_array(place, name=path, **{**PLAIN, **options, **how})
        assert not field or caught[0].field == field
        assert field != "decoded bytes of a chunk" or "smaller chunks" in caught[0].hint
    assert (zarrant.open_array(place, name="old")[...] == 5).all()


@pytest.mark.parametrize("name", [name for name in SMALL if VALUES[name][1] is not None])
def test_creating_with_attributes_that_cannot_be_read(name: str, place: Any, refused: Any) -> None:
    value, kind, _ = VALUES[name]
    zarrant.create_array(place, name="old", **PLAIN)[...] = 5
    for create, options in ((zarrant.create_array, PLAIN), (zarrant.create_group, {})):
        for path in ("old", "new"):
            with refused(place, kind):
                create(place, name=path, attributes={"v": value}, overwrite=True, **options)  # type: ignore[operator]


@pytest.mark.parametrize("name", ["16 codecs", "16 codecs in shards", "62 dimensions", "62 dimensions in shards"])
def test_what_is_at_a_limit_can_be_used(name: str, place: Any) -> None:
    options = {
        "16 codecs": {"compressors": [zarrant.codecs.Crc32c()] * 15},
        "16 codecs in shards": {"compressors": [zarrant.codecs.Crc32c()] * 15, "shards": (8,)},
        "62 dimensions": {"shape": (2,) + (1,) * 61, "chunks": (1,) * 62},
        "62 dimensions in shards": {"shape": (4,) + (1,) * 61, "chunks": (1,) * 62, "shards": (2,) + (1,) * 61},
    }[name]
    zarrant.create_array(place, **{**PLAIN, **options})
    a = zarrant.open_array(place)
    a[...] = 3
    a[0] = 4
    a.store_chunk((0,) * a.ndim, 5)
    a.store_array_subset((slice(0, 1),) * a.ndim, 6)
    a.append(np.full((1, *a.shape[1:]), 8, "int32"))
    a.resize((a.shape[0] + 1, *a.shape[1:]))
    expected = [6, *[5] * (options.get("shards", a.chunks)[0] - 1)]  # type: ignore[index]
    found = zarrant.open_array(place)[...].reshape(-1)
    assert found[: len(expected)].tolist() == expected
    assert found[-2:].tolist() == [8, 0]
    assert a.retrieve_chunk((0,) * a.ndim).reshape(-1)[0] == 6


# ── node names


NAMES = ["zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata", "__x", ".", "..", "a\0b", "\ud800"]
UNTHINKABLE = [".", "..", "a\0b", "\ud800"]
"""No store can have them."""


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{}", "a/{}", "{}/a", "a/{}/b"])
def test_names_that_no_node_may_have(name: str, form: str, place: Any, refused: Any) -> None:
    group = zarrant.create_group(place)
    path = form.format(name)
    calls: list[Callable[[], object]] = [
        lambda: zarrant.create_array(place, name=path, **PLAIN),
        lambda: zarrant.create_group(place, name=path),
        lambda: zarrant.open_array(place, name=path, mode="w", **PLAIN),
        lambda: zarrant.open_group(place, name=path, mode="a"),
        lambda: group.create_array(path, **PLAIN),
        lambda: group.create_group(path),
        lambda: group.require_array(path, **PLAIN),
        lambda: group.require_group(path),
    ]
    for call in calls:
        with refused(place, OptionError, "not a n"):
            call()
    assert list(zarrant.open_group(place)) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{}", "a/{}", "{}/a", "a/{}/b"])
def test_names_that_no_node_may_have_are_looked_for(name: str, form: str, place: Any, refused: Any) -> None:
    group = zarrant.create_group(place)
    path = form.format(name)
    calls: list[Callable[[], object]] = [
        lambda: group[path],
        lambda: group.__delitem__(path),
        lambda: zarrant.open_array(place, name=path),
        lambda: zarrant.open_group(place, name=path, mode="r"),
    ]
    for call in calls:  # a name of others' making, or one that nothing can have
        with refused(place, OptionError if name in UNTHINKABLE else NodeNotFoundError):
            call()
    if name not in UNTHINKABLE:
        assert path not in group
        assert group.get(path) is None


@pytest.mark.parametrize("name", [name for name in NAMES if name not in UNTHINKABLE])
def test_nodes_of_such_names_that_others_made(name: str, place: Any) -> None:
    group = zarrant.create_group(place)
    if name == "zarr.json" and isinstance(place, os.PathLike):
        return  # a file of that name is there
    zarrant.create_array(place, name="made", **PLAIN)[...] = 2
    if isinstance(place, os.PathLike):
        os.rename(Path(place) / "made", Path(place) / name)
    else:
        for key in [key for key in place if key.startswith("made/")]:
            place[key.replace("made/", f"{name}/")] = place.pop(key)
    assert name in group
    assert (group[name][...] == 2).all()
    del group[name]
    assert name not in group


def test_names_that_only_look_like_metadata(place: Any) -> None:
    group = zarrant.create_group(place)
    for name in ("zarr.jso", "Zarr.json", "zarr.json5", ".zarr", "c", "c0", "..."[:1] + "x", "_x"):
        group.create_array(name, **PLAIN)[...] = 2
        assert (zarrant.open_array(place, name=name)[...] == 2).all()
