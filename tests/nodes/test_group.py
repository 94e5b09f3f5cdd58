from __future__ import annotations

import asyncio
import copy
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import zarrant
from zarrant.errors import (
    CapabilityError,
    FrozenAttributeError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    ShapeError,
    StoreError,
    UnknownExtensionError,
)
from zarrant.metadata.v3 import dump
from zarrant.nodes.unreadable import UnreadableNode
from zarrant.stores.wrappers import ReadOnly


@pytest.fixture(params=["memory", "files"])
def group(request: pytest.FixtureRequest, tmp_path: Any) -> Any:
    g = zarrant.create_group({} if request.param == "memory" else tmp_path, attributes={"a": 1})
    g.create_array("images/raw", shape=(8, 8), dtype="uint8")
    g.create_array("mask", shape=(4,), dtype="bool")
    g.create_group("images/deep/er", attributes={"b": 2})
    return g


def test_members(group: Any) -> None:
    assert list(group) == list(group.members()) == ["images", "mask"]
    assert (list(group.arrays()), list(group.groups()), len(group)) == (["mask"], ["images"], 2)
    assert isinstance(group["images/raw"], zarrant.Array)
    assert group["images"]["deep"]["er"].attrs["b"] == 2
    assert group["/images/deep/er/"].path == "images/deep/er"
    assert group["images"] == group.members()["images"]
    assert "mask" in group
    assert "nothing" not in group
    assert 3 not in group
    with pytest.raises(NodeNotFoundError):
        group["nothing"]
    for bad in ("..", "a/./b"):
        with pytest.raises(OptionError):
            group[bad]
    with pytest.raises(OptionError):
        group.create_group("__x")


def test_tree(group: Any) -> None:
    assert group.tree().splitlines() == [
        "/",
        "├── images",
        "│   ├── deep",
        "│   │   └── er",
        "│   └── raw (8, 8) uint8",
        "└── mask (4,) bool",
    ]
    assert group["images"].tree().splitlines()[0] == "images"
    assert zarrant.create_group({}).tree() == "/"


def test_deleting(group: Any) -> None:
    del group["images"]
    assert list(group) == ["mask"]
    with pytest.raises(NodeNotFoundError):
        del group["images"]
    group.create_array("images", shape=(2,), dtype="int8")[...] = 3
    with pytest.raises(NodeExistsError):
        group.create_group("images/x")
    with pytest.raises(NodeExistsError):
        group.create_group("images")
    assert len(group.create_group("images", overwrite=True)) == 0
    group.delete()
    with pytest.raises(NodeNotFoundError):
        group.refresh()
    with pytest.raises(NodeNotFoundError):
        zarrant.open_group(group.store, mode="r")


def test_attributes(group: Any) -> None:
    other = zarrant.open_group(group.store)
    group.attrs["x"] = 1
    other.attrs["y"] = 2
    group.refresh()
    assert dict(group.attrs) == {"a": 1, "x": 1, "y": 2}
    assert group.update_attributes(lambda stored: {"n": len(stored)}) is None
    assert dict(group.attrs) == {"n": 3}


def test_a_group_is_a_mapping_of_names_to_nodes(group: Any) -> None:
    assert list(group.keys()) == ["images", "mask"]
    assert dict(group) == dict(group.items()) == group.members()
    assert [node.path for node in group.values()] == ["images", "mask"]
    assert (group.get("mask"), group.get("nothing"), group.get("nothing", 5)) == (group["mask"], None, 5)
    assert [group.nmembers(depth) for depth in (0, 1, None)] == [2, 4, 5]
    with pytest.raises(KeyError):
        group["nothing"]


def test_what_is_required_is_made_or_opened(group: Any) -> None:
    array = group.require_array("new/a", shape=(3,), dtype="int8", data=[1, 2, 3])
    assert group.require_array("new/a", shape=3, dtype="int8", data=[7, 7, 7]) == array
    assert array[...].tolist() == [1, 2, 3], "data are stored by who creates"
    for wrong in ({"shape": (4,), "dtype": "int8"}, {"shape": (3,), "dtype": "int16"}):
        with pytest.raises(NodeExistsError, match="another"):
            group.require_array("new/a", **wrong)
    assert group.require_group("new", attributes={"x": 1}).attrs == {}
    assert group.require_group("other", attributes={"x": 1}).attrs == {"x": 1}
    with pytest.raises(NodeNotFoundError):
        group.require_array("new", shape=(3,), dtype="int8")
    with pytest.raises(NodeNotFoundError):
        group.require_group("mask")


def put(group: Any, key: str, data: bytes) -> None:
    group.store.put(key, [data])


OPTIONAL = (
    b'{"zarr_format": 3, "node_type": "array", "shape": [2], "data_type": "optional", "fill_value": "", '
    b'"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}}, "chunk_key_encoding": {"name": "default"}, '
    b'"codecs": [{"name": "vlen-utf8"}]}'
)
BAD_MEMBERS: dict[str, tuple[str, bytes, type[Exception], str]] = {
    "a type that is not supported": ("bad/zarr.json", OPTIONAL, UnknownExtensionError, "array"),
    "broken metadata": ("bad/zarr.json", b"{", MetadataError, "node"),
    "a broken array of zarr V2": ("bad/.zarray", b"{}", MetadataError, "node"),
    "a broken group of zarr V2": ("bad/.zgroup", b"{}", MetadataError, "node"),
    "a format of the future": ("bad/zarr.json", b'{"zarr_format": 4, "node_type": "group"}', MetadataError, "node"),
}


@pytest.mark.parametrize("what", BAD_MEMBERS)
def test_a_member_that_cannot_be_opened_is_listed_with_its_reason(group: Any, what: str) -> None:
    key, data, kind_of_error, kind = BAD_MEMBERS[what]
    put(group, key, data)
    assert list(group) == list(group.members()) == ["bad", "images", "mask"]
    assert (len(group), list(group.arrays()), list(group.groups())) == (3, ["mask"], ["images"])
    assert "bad" in group
    bad = group.members()["bad"]
    assert isinstance(bad, UnreadableNode)
    assert (bad.name, bad.path, bad.kind, type(bad.error)) == ("bad", "bad", kind, kind_of_error)
    for open_it in (lambda: group["bad"], lambda: group.get("bad"), lambda: zarrant.open(group.store, name="bad")):
        with pytest.raises(kind_of_error) as caught:
            open_it()
        assert caught.value.message == bad.error.message
    assert bad.error.message in bad.reason
    assert bad.reason in repr(bad)
    assert f"bad{' (2,) optional' if kind == 'array' else ''} (cannot be opened: {bad.error.message})" in group.tree()
    assert "bad" in group.info_complete()["Cannot be opened"]
    assert "cannot be opened" in group._repr_html_()
    del group["bad"]
    assert list(group) == ["images", "mask"]
    with pytest.raises(NodeNotFoundError):
        del group["bad"]


def test_what_is_no_file_in_the_place_of_metadata_hides_no_member(tmp_path: Any) -> None:
    group = zarrant.create_group(tmp_path / "g")
    group.create_array("a", shape=(2,), dtype="int8")
    (tmp_path / "g" / "bad").mkdir()
    os.mkfifo(tmp_path / "g" / "bad" / "zarr.json")
    assert list(group) == ["a", "bad"]
    assert "bad" in group
    assert isinstance(group.members()["bad"].error, StoreError)
    assert list(group.arrays()) == ["a"]


def test_what_others_name_against_the_rules_is_opened_and_deleted(group: Any) -> None:
    name = "__xarray_dataarray_variable__"
    put(group, f"{name}/zarr.json", dump(group["mask"].metadata))
    assert list(group) == [name, "images", "mask"]
    assert group[name] == group.members()[name] == zarrant.open_array(group.store, name=name)
    del group[name]
    assert name not in group


NEW = {"shape": 3, "dtype": "int8"}
WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "a group below a group": lambda g, store: g.require_group("x"),
    "an array below a group": lambda g, store: g.require_array("x", **NEW),
    "a group": lambda g, store: zarrant.require_group(store, name="x"),
    "an array": lambda g, store: zarrant.require_array(store, name="x", **NEW),
    "a group opened or made": lambda g, store: zarrant.open_group(store, name="x"),
    "an array opened or made": lambda g, store: zarrant.open_array(store, name="x", **NEW),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_is_required_where_nothing_may_be_written_says_so_as_creating_it_does(group: Any, way: str) -> None:
    store = ReadOnly(group.store)
    reader = zarrant.open_group(store, mode="r+")
    with pytest.raises(CapabilityError) as expected:
        reader.create_group("x")
    with pytest.raises(CapabilityError, match="opened for reading only") as caught:
        WAYS[way](reader, store)
    for name in ("message", "store", "expected", "got", "hint"):
        assert getattr(caught.value, name) == getattr(expected.value, name)


def test_what_is_required_from_an_event_loop_where_nothing_may_be_written(group: Any) -> None:
    store = ReadOnly(group.store)

    async def main() -> None:
        reader = await zarrant.open_group_async(store, mode="r")
        for call in (
            lambda: reader.require_group("x"),
            lambda: reader.require_array("x", **NEW),
            lambda: zarrant.open_group_async(store, name="x"),
            lambda: zarrant.open_array_async(store, name="x", **NEW),
        ):
            with pytest.raises(CapabilityError, match="opened for reading only"):
                await call()
        assert (await reader.require_group("images")).path == "images"

    asyncio.run(main())


def test_the_summary_says_what_is_there(group: Any) -> None:
    assert group.info["Attributes"] == 1
    assert group.info["Consolidated metadata"] == "no"
    complete = group.info_complete()
    assert (complete["Members"], complete["Arrays"], complete["Groups"]) == (2, 1, 1)
    assert "Cannot be opened" not in complete


def test_options_are_handed_down() -> None:
    g = zarrant.create_group({}, config={"write_empty_chunks": True}, synchronizer=None)
    a = g.create_array("a", shape=(2,), dtype="int8")
    assert a.config.write_empty_chunks
    assert "none" in a.guard == g["a"].guard


def test_the_async_twin(group: Any) -> None:
    async def main() -> None:
        g = await zarrant.open_group_async(group.store)
        assert list(await g.members()) == list(group)
        assert list(await g.arrays()) == ["mask"]
        assert list(await g.groups()) == ["images"]
        assert await g.tree() == group.tree()
        assert isinstance(await g.getitem("images/raw"), zarrant.AsyncArray)
        assert isinstance(await g.getitem("images"), zarrant.AsyncGroup)
        assert await g.contains("mask")
        assert list(await g.keys()) == [name for name, _ in await g.items()] == list(group)
        assert len(await g.values()) == await g.nmembers() == 2
        assert (await g.get("mask"), await g.get("nothing", 5)) == (await g.getitem("mask"), 5)
        assert (await g.info_complete())["Members"] == 2
        assert (await g.require_array("mask", shape=(4,), dtype="bool")).path == "mask"
        assert (await g.require_group("images")).path == "images"
        group.store.put("bad/zarr.json", [b"{"])
        assert isinstance((await g.members())["bad"], UnreadableNode)
        await g.delitem("bad")
        assert not await g.contains("nothing")
        await g.update_attributes({"z": 1})
        assert g.attrs == {"a": 1, "z": 1}
        await g.create_group("new")
        assert await (await g.create_array("new/a", shape=(3,), dtype="int8", data=[1, 2, 3])).getitem(1) == 2
        await g.delitem("new")
        with pytest.raises(NodeNotFoundError):
            await g.delitem("new")
        await g.delete()
        with pytest.raises(NodeNotFoundError):
            await g.refresh()

    asyncio.run(main())


def test_members_are_read_side_by_side_whatever_the_number_of_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    from zarrant.nodes import base

    monkeypatch.setattr(base, "available_cpus", lambda: 1)
    together = threading.Barrier(10)

    class Slow(zarrant.MemoryStore):
        def get(self, key: str) -> Any:
            if self.waits and key.startswith("g"):
                together.wait(10)
            return super().get(key)

        waits = False

    store = Slow({})
    g = zarrant.create_group(store)
    for i in range(10):
        g.create_group(f"g{i}")
    store.waits = True
    assert len(g.members()) == 10


@pytest.mark.parametrize("place", ["", "sub"])
@pytest.mark.parametrize("name", ["", "/", "//"])
def test_the_group_itself_is_not_below_it(name: str, place: str) -> None:
    """`del group[name]` with a name that was never set deleted all that the group held."""
    top = zarrant.create_group({})
    group = top.create_group(place) if place else top
    group.create_array("x", data=[1, 2])
    calls: list[Any] = [
        lambda: group.__delitem__(name),
        lambda: group.create_array(name, data=[3], overwrite=True),
        lambda: group.create_group(name, overwrite=True),
        lambda: group.require_array(name, shape=(2,), dtype="i8"),
        lambda: group[name],
        lambda: group.get(name),
    ]
    for call in calls:
        with pytest.raises(OptionError, match="below the group"):
            call()
    assert name not in group
    assert list(group) == ["x"] and group["x"][...].tolist() == [1, 2]

    async def awaited() -> None:
        there = await zarrant.open_group_async(top.store, name=place or None)
        for delete in (there.delitem(name), there.create_group(name, overwrite=True)):
            with pytest.raises(OptionError, match="below the group"):
                await delete
        assert not await there.contains(name)

    asyncio.run(awaited())
    assert list(group) == ["x"]


def test_names_that_are_no_text_are_refused() -> None:
    group = zarrant.create_group({})
    group.create_array("x", data=[1, 2])
    calls: list[Any] = [
        lambda: group[5],
        lambda: group.get(5),
        lambda: group.create_array(None, data=[1]),
        lambda: group.create_group(b"x"),
        lambda: group.append({5: [1]}),
        lambda: group.append([("x", [1])]),
        lambda: group.lock(["x"]).__enter__(),
    ]
    for call in calls:
        with pytest.raises(OptionError):
            call()
    with pytest.raises(ShapeError, match="ragged"):
        zarrant.create_array({}, data=[[1], [1, 2]])


def test_attributes_whose_changes_are_awaited_are_not_set_in_place() -> None:
    async def main() -> None:
        group = await zarrant.create_group_async({}, attributes={"l": [1]})
        array = await group.create_array("a", shape=3, dtype="i4", attributes={"l": [1]})
        for node in (group, array):
            attributes: Any = node.attrs
            changes: dict[str, tuple[Any, ...]] = {
                "__setitem__": ("unit", "mm"),
                "__delitem__": ("l",),
                "update": ({"unit": "mm"},),
                "pop": ("l",),
                "setdefault": ("m", []),
                "clear": (),
            }
            for change, arguments in changes.items():
                with pytest.raises(FrozenAttributeError, match="awaited") as caught:
                    getattr(attributes, change)(*arguments)
                assert "update_attributes" in str(caught.value.hint)
            assert attributes == {"l": [1]} == json.loads(json.dumps(attributes))
            assert type(copy.deepcopy(attributes)) is dict
            await node.update_attributes({"unit": "mm"})
            assert node.attrs == {"l": [1], "unit": "mm"}

    asyncio.run(main())
