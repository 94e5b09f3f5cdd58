"""The nodes below a group: by a listing, and without one."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, MetadataError, NodeNotFoundError
from zarrant.metadata.v3 import GroupMetadata
from zarrant.ops import members
from zarrant.ops import node as node_ops


@pytest.fixture
def document(state):
    return state().metadata


def test_children_and_everything_below(objects, document) -> None:
    for path in ("b", "a/b", "a/c", "a/c/d"):
        objects.perform(node_ops.create_node(path, GroupMetadata() if path in ("a/c",) else document))
    objects.update({"no node/x": b"1", "b/c/0/0": b"1"})
    children = objects.perform(members.list_children(""))
    assert [(child.name, child.path, type(child.metadata).__name__) for child in children] == [
        ("a", "a", "GroupMetadata"),
        ("b", "b", "ArrayMetadata"),
    ]
    assert [child.path for child in objects.perform(members.walk(""))] == ["a", "a/b", "a/c", "a/c/d", "b"]
    assert [child.name for child in objects.perform(members.list_children("a"))] == ["b", "c"]


def test_one_member_that_cannot_be_read_hides_no_other(objects, document) -> None:
    for path in ("a", "c/d"):
        objects.perform(node_ops.create_node(path, document))
    objects["b/zarr.json"] = b"{"
    children = objects.perform(members.list_children(""))
    assert [(child.name, type(child.error)) for child in children] == [("a", type(None)), ("b", MetadataError), ("c", type(None))]
    assert [child.path for child in objects.perform(members.walk(""))] == ["a", "b", "c", "c/d"]
    assert objects.perform(node_ops.node_exists("b"))
    objects.perform(node_ops.delete_below("b"))
    assert not any(key.startswith("b/") for key in objects)
    with pytest.raises(NodeNotFoundError):
        objects.perform(node_ops.delete_below("b"))


def test_members_are_counted_by_level(objects, document) -> None:
    objects.perform(node_ops.create_node("g/a/b/c", document))
    counts = [objects.perform(members.count_nodes("g", depth)) for depth in (0, 1, 2, None)]
    assert counts == [1, 2, 3, 3]
    assert objects.perform(members.count_nodes("", 0)) == 1


def test_a_very_deep_hierarchy_is_walked(objects) -> None:
    path = ""
    for _ in range(1200):
        path = f"{path}/a" if path else "a"
        objects[f"{path}/zarr.json"] = b'{"zarr_format": 3, "node_type": "group"}'
    assert len(objects.perform(members.walk(""))) == 1200


def test_walk_goes_deeper_than_python_recurses(objects) -> None:
    depth = sys.getrecursionlimit() + 100
    for level in range(depth):
        path = "/".join("a" * level)
        objects[f"{path}/zarr.json" if path else "zarr.json"] = b'{"zarr_format":3,"node_type":"group"}'
    found = objects.perform(members.walk(""))
    assert [child.path.count("/") for child in found] == list(range(depth - 1))


def test_walk_is_depth_first_and_sorted(objects) -> None:
    for path in ("", "b", "a", "a/d", "a/c", "a/c/e"):
        objects[f"{path}/zarr.json" if path else "zarr.json"] = b'{"zarr_format":3,"node_type":"group"}'
    assert [child.path for child in objects.perform(members.walk(""))] == ["a", "a/c", "a/c/e", "a/d", "b"]


class GetOnly:
    """A store of which only single objects can be read, as many behind HTTP."""

    def __init__(self, objects: Any) -> None:
        self._inner = zarrant.MemoryStore(objects)
        self.get, self.get_ranges = self._inner.get, self._inner.get_ranges


@pytest.fixture(params=[2, 3])
def stored(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """A group `g` in a root, with `g/a` and `g/h/b`, and `other` beside it."""
    objects: dict[str, bytes] = {}
    root = zarrant.create_group(objects, zarr_format=request.param)
    for name in ("g/a", "g/h/b", "other"):
        root.create_array(name, data=np.arange(3), chunks=(2,))
    return objects


@pytest.mark.parametrize("group", ["", "g"])
def test_where_a_store_cannot_list_consolidated_metadata_name_the_nodes(stored: dict[str, bytes], group: str) -> None:
    zarrant.open_group(stored, name=group or None).consolidate_metadata()
    found = zarrant.open_group(GetOnly(stored), name="g", mode="r")
    assert list(found) == ["a", "h"]
    assert (found.nmembers(), found.nmembers(max_depth=None)) == (2, 3)
    assert [array.name for array in found.arrays().values()] == ["a"]
    assert list(found["h"]) == ["b"]
    assert found["h"].members()["b"][:].tolist() == [0, 1, 2]
    assert found.tree() == zarrant.open_group(stored, name="g", mode="r").tree()


def test_metadata_are_those_of_the_nodes_and_not_the_copies(stored: dict[str, bytes]) -> None:
    zarrant.open_group(stored).consolidate_metadata()
    kept = {key: data for key, data in stored.items() if key in ("zarr.json", ".zmetadata")}
    root = zarrant.open_group(stored)
    root["other"].append([3])
    del root["g"]
    stored |= kept  # by a program that keeps no copies in step
    found = zarrant.open_group(GetOnly(stored), mode="r")
    assert {name: node.shape for name, node in found.members().items()} == {"other": (4,)}


def test_where_there_are_none_the_store_must_list(stored: dict[str, bytes]) -> None:
    found = zarrant.open_group(GetOnly(stored), name="g", mode="r")
    assert found["a"].shape == (3,)
    with pytest.raises(CapabilityError, match="consolidated") as caught:
        list(found)
    assert caught.value.expected == "list"


async def members_async(store: Any) -> dict[str, Any]:
    return await (await zarrant.open_group_async(store, name="g", mode="r")).members()


def test_coroutines_do_the_same(stored: dict[str, bytes]) -> None:
    with pytest.raises(CapabilityError, match="consolidated"):
        asyncio.run(members_async(GetOnly(stored)))
    zarrant.open_group(stored).consolidate_metadata()
    assert list(asyncio.run(members_async(GetOnly(stored)))) == ["a", "h"]


def test_names_are_those_of_the_children(objects, document) -> None:
    """Of both versions of the format, of nodes that cannot be read too, and of nothing else."""
    for path in ("b", "a/b", "a/c"):
        objects.perform(node_ops.create_node(path, document))
    objects.update({"no node/x": b"1", "broken/zarr.json": b"{", "two/.zarray": b"{", "older/.zgroup": b'{"zarr_format": 2}'})
    objects.update({"both/.zgroup": b'{"zarr_format": 2}', "both/zarr.json": b"", "x.zarr/.zattrs": b"{}"})
    names = objects.perform(members.list_names(""))
    assert names == [child.name for child in objects.perform(members.list_children(""))]
    assert names == ["a", "b", "both", "broken", "older", "two"]
    assert objects.perform(members.list_names("a")) == ["b", "c"]
    assert objects.perform(members.list_names("a/b")) == []
