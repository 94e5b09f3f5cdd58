from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import zarrant
from zarrant.errors import NodeExistsError, NodeNotFoundError, OptionError


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
    for bad in ("..", "__x", "a/./b"):
        with pytest.raises(OptionError):
            group[bad]


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
