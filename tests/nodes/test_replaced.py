"""A handle of an array that was replaced, moved or removed hears so at its next write, and nothing is stored."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import NodeExistsError, NodeNotFoundError, NodeReplacedError

BASE: dict[str, Any] = {"shape": (16,), "chunks": (4,), "dtype": "i4", "fill_value": 0, "compressors": None}
OTHERS: dict[str, dict[str, Any]] = {
    "type": {"dtype": "f8"},
    "codecs": {"compressors": zarrant.codecs.Zstd()},
    "chunks": {"chunks": (2,)},
    "shards": {"chunks": (2,), "shards": (4,)},
    "fill value": {"fill_value": 3},
    "keys": {"chunk_key_encoding": "v2"},
    "dimensions": {"shape": (4, 4), "chunks": (4, 4)},
}


def encoded(a: Any) -> None:
    with a.partial_encoder((1,)) as encoder:
        encoder.store(np.s_[0:1], 7)


def locked(a: Any) -> None:
    with a.lock(np.s_[0:4]) as inside:
        inside[0:4] = 7


WRITES: dict[str, Callable[[Any], Any]] = {
    "whole": lambda a: a.__setitem__(..., 7),
    "part": lambda a: a.__setitem__(slice(5, 6), 7),
    "many parts": lambda a: a.__setitem__(slice(1, 15), 7),
    "subsets": lambda a: a.store_array_subsets([(np.s_[0:2], 7), (np.s_[6:9], 7)]),
    "chunk": lambda a: a.store_chunk((2,), 7),
    "chunks": lambda a: a.store_chunks(np.s_[0:4], 7),
    "chunk subset": lambda a: a.store_chunk_subset((2,), np.s_[0:1], 7),
    "encoded": lambda a: a.store_encoded_chunk((0,), np.full(4, 7, "i4")),
    "encoded chunks": lambda a: a.store_encoded_chunks([(0,), (1,)], [np.full(4, 7, "i4")] * 2),
    "erase": lambda a: a.erase_chunk((0,)),
    "erase chunks": lambda a: a.erase_chunks(np.s_[0:4]),
    "update": lambda a: a.update(np.s_[13:14], lambda part: part + 7),
    "encoder": encoded,
    "lock": locked,
    "attributes": lambda a: a.attrs.update(k=1),
    "append": lambda a: a.append(np.ones(1, "i4")),
    "resize": lambda a: a.resize((20,)),
}


def make(store: Any, **options: Any) -> Any:
    a = zarrant.create_array(store, **{**BASE, **options})
    a[...] = 3
    return a


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("other", OTHERS)
def test_a_replaced_array_takes_nothing_from_handles_of_the_old_one(tmp_path: Path, other: str, write: str) -> None:
    path = tmp_path / "a"
    old = make(path)
    make(path, **OTHERS[other], overwrite=True)
    before = content(path)
    with pytest.raises(NodeReplacedError, match="Open it again") as caught:
        WRITES[write](old)
    assert isinstance(caught.value, FileNotFoundError)
    assert content(path) == before


@pytest.mark.parametrize("write", WRITES)
def test_with_durability_too(tmp_path: Path, write: str) -> None:
    path = tmp_path / "a"
    old = make(path, config={"durability": "fsync"})
    make(path, dtype="f8", overwrite=True)
    before = content(path)
    with pytest.raises(NodeReplacedError):
        WRITES[write](old)
    assert content(path) == before


@pytest.mark.filterwarnings("ignore:synchronizer=None")
@pytest.mark.parametrize("write", sorted(set(WRITES) - {"lock"}))
def test_without_a_synchronizer_too(tmp_path: Path, write: str) -> None:
    path = tmp_path / "a"
    old = make(path, synchronizer=None)
    make(path, dtype="f8", overwrite=True)
    before = content(path)
    with pytest.raises(NodeReplacedError):
        WRITES[write](old)
    assert content(path) == before


@pytest.mark.parametrize("write", WRITES)
def test_in_memory_too(write: str) -> None:
    store: dict[str, bytes] = {}
    old = make(store)
    make(store, dtype="f8", overwrite=True)
    before = dict(store)
    with pytest.raises(NodeReplacedError):
        WRITES[write](old)
    assert store == before


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("end", ["moved", "removed", "deleted", "only the metadata", "parent removed"])
def test_a_removed_array_is_not_remade(tmp_path: Path, end: str, write: str) -> None:
    group = zarrant.create_group(tmp_path / "g")
    path = tmp_path / "g" / "a"
    old = make(path)
    if end == "moved":
        os.rename(path, tmp_path / "b")
    elif end == "removed":
        shutil.rmtree(path)
    elif end == "parent removed":
        shutil.rmtree(tmp_path / "g")
    elif end == "deleted":
        del group["a"]
    else:
        (path / "zarr.json").unlink()
    with pytest.raises(NodeNotFoundError):
        WRITES[write](old)
    if end == "only the metadata":
        assert sorted(content(path)) == [f"c/{i}" for i in range(4)]
    else:
        assert not path.exists()
        assert (tmp_path / "g").exists() == (end != "parent removed")
    if end == "moved":
        assert (zarrant.open_array(tmp_path / "b", mode="r")[...] == 3).all()


def test_a_group_in_place_of_an_array(tmp_path: Path) -> None:
    old = make(tmp_path / "a")
    zarrant.create_group(tmp_path / "a", overwrite=True)
    for write in WRITES.values():
        with pytest.raises(NodeReplacedError):
            write(old)
    with pytest.raises(NodeNotFoundError):
        old.refresh()
    assert sorted(content(tmp_path / "a")) == ["zarr.json"]


@pytest.mark.parametrize("other", ["type", "codecs"])
def test_coroutines_hear_it_too(tmp_path: Path, other: str) -> None:
    async def work(store: Any) -> None:
        old = await zarrant.open_array_async(store, mode="r+")
        await zarrant.create_array_async(store, **{**BASE, **OTHERS[other]}, overwrite=True)
        for write in (old.setitem(..., 7), old.store_chunk((0,), 7), old.append([1]), old.update_attributes({"k": 1})):
            with pytest.raises(NodeReplacedError):
                await write

    make(tmp_path / "a")
    asyncio.run(work(tmp_path / "a"))


def test_what_another_program_says_in_other_words_is_the_same_array(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    file = tmp_path / "a" / "zarr.json"
    text = file.read_text()
    assert '"fill_value": 0' in text
    file.write_text(
        text.replace('"fill_value": 0', '"fill_value":   0').replace('"attributes": {}', '"attributes": {"by": "hand"}')
    )
    a[...] = 8
    a.attrs["k"] = 1
    assert dict(zarrant.open_array(tmp_path / "a", mode="r").attrs) == {"by": "hand", "k": 1}
    assert (a[...] == 8).all()


def test_metadata_that_come_back_are_the_same_array(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    a.erase_metadata()
    with pytest.raises(NodeNotFoundError):
        a[0] = 1
    a.store_metadata()
    a[0] = 1
    assert zarrant.open_array(tmp_path / "a", mode="r")[:2].tolist() == [1, 3]


GROUP_CHANGES: dict[str, Callable[[Any], Any]] = {
    "array": lambda g: g.create_array("new", **BASE),
    "array below": lambda g: g.create_array("x/y/new", **BASE),
    "array with data": lambda g: g.create_array("new", data=np.arange(4)),
    "array, matching": lambda g: g.create_array("new", if_exists="match", **BASE),
    "array, overwriting": lambda g: g.create_array("new", overwrite=True, **BASE),
    "group": lambda g: g.create_group("new"),
    "group below": lambda g: g.create_group("x/new"),
    "group, overwriting": lambda g: g.create_group("new", overwrite=True),
    "require array": lambda g: g.require_array("new", **BASE),
    "require group": lambda g: g.require_group("new"),
    "attributes": lambda g: g.attrs.update(k=1),
    "append": lambda g: g.append({"a": np.ones(1, "i4")}),
    "consolidate": lambda g: g.consolidate_metadata(),
}


class TestGroups:
    """A handle of a group that was removed or replaced hears so, and nothing is made in its place."""

    @pytest.mark.parametrize("change", GROUP_CHANGES)
    @pytest.mark.parametrize("path", ["", "above"])
    def test_a_removed_group_is_not_remade(self, tmp_path: Path, path: str, change: str) -> None:
        old = zarrant.create_group(tmp_path / "g", name=path, attributes={"title": "mine"})
        make(tmp_path / "g", name=f"{path}/a".lstrip("/"))
        shutil.rmtree(tmp_path / "g" / path)
        with pytest.raises(NodeNotFoundError) as caught:
            GROUP_CHANGES[change](old)
        assert not isinstance(caught.value, NodeReplacedError)
        assert not (tmp_path / "g" / path).exists()

    @pytest.mark.parametrize("change", GROUP_CHANGES)
    def test_in_memory_neither(self, change: str) -> None:
        store: dict[str, bytes] = {}
        old = zarrant.create_group(store, name="g", attributes={"title": "mine"})
        make(store, name="g/a")
        del zarrant.open_group(store)["g"]
        before = dict(store)
        with pytest.raises(NodeNotFoundError):
            GROUP_CHANGES[change](old)
        assert store == before

    @pytest.mark.parametrize("change", [*GROUP_CHANGES, "delete"])
    @pytest.mark.parametrize("place", ["memory", "directory"])
    def test_an_array_in_place_of_a_group(self, tmp_path: Path, place: str, change: str) -> None:
        store: Any = {} if place == "memory" else tmp_path / "g"
        old = zarrant.create_group(store)
        make(store, overwrite=True)
        before = dict(store) if place == "memory" else content(store)
        with pytest.raises(NodeNotFoundError) as caught:
            old.delete() if change == "delete" else GROUP_CHANGES[change](old)
        assert change == "append" or isinstance(caught.value, NodeReplacedError)
        assert (dict(store) if place == "memory" else content(store)) == before

    def test_coroutines_hear_it_too(self, tmp_path: Path) -> None:
        async def work() -> None:
            old = await zarrant.create_group_async(tmp_path / "g")
            shutil.rmtree(tmp_path / "g")
            for change in (
                old.create_array("new", **BASE),
                old.create_group("new"),
                old.require_array("new", **BASE),
                old.require_group("new"),
                old.update_attributes({"k": 1}),
            ):
                with pytest.raises(NodeNotFoundError):
                    await change
            make(tmp_path / "g")
            with pytest.raises(NodeReplacedError):
                await old.create_group("new")
            with pytest.raises(NodeReplacedError):
                await old.delete()

        asyncio.run(work())
        assert (zarrant.open_array(tmp_path / "g")[...] == 3).all()

    def test_a_group_removed_while_a_node_is_made_is_not_remade(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from zarrant.ops import node as node_ops

        def removing(*args: Any) -> Any:
            missing = yield from looked(*args)
            shutil.rmtree(tmp_path / "g")
            return missing

        looked = node_ops._missing_above
        old = zarrant.create_group(tmp_path / "g")
        monkeypatch.setattr(node_ops, "_missing_above", removing)
        with pytest.raises(NodeNotFoundError, match="removed or moved"):
            old.create_array("new", **BASE)
        assert not (tmp_path / "g").exists()

    def test_creating_through_a_handle_reads_no_more_than_by_path(self) -> None:
        class Watching(zarrant.MemoryStore):
            def get(self, key: str) -> Any:
                seen.append(key)
                return super().get(key)

        counts, seen = [], []
        for by_path in (True, False):
            store = Watching()
            group = zarrant.create_group(store, name="g")
            seen.clear()
            if by_path:
                zarrant.create_array(store, name="g/new", **BASE)
            else:
                group.create_array("new", **BASE)
            counts.append(len(seen))
        assert counts[1] <= counts[0]

    def test_groups_above_a_handle_are_left_alone(self, tmp_path: Path) -> None:
        group = zarrant.open_group(tmp_path / "g", mode="w", name="a/b")
        (tmp_path / "g" / "a" / "zarr.json").unlink()
        group.create_array("x/new", **BASE)[...] = 1
        assert not (tmp_path / "g" / "a" / "zarr.json").exists()
        assert list(group["x"]) == ["new"]

    def test_metadata_that_cannot_be_read_are_deleted(self, tmp_path: Path) -> None:
        group = zarrant.create_group(tmp_path / "g")
        (tmp_path / "g" / "zarr.json").write_text("{")
        group.delete()
        assert not (tmp_path / "g" / "zarr.json").exists()


class TestCreation:
    """A node that is created finds no data of another one, and stores data only if it is the creator."""

    def test_only_the_creator_stores_data(self, tmp_path: Path) -> None:
        for store in ({}, tmp_path / "a"):
            for create in (
                lambda store=store: zarrant.create_array(store, data=np.zeros(4, "i4"), chunks=2, if_exists="match"),
                lambda store=store: zarrant.open_array(store, mode="a", data=np.zeros(4, "i4"), chunks=2),
            ):
                create()[0] = 5
                assert create()[...].tolist() == [5, 0, 0, 0]

    def test_data_are_there_before_the_array_is(self) -> None:
        class Watching(zarrant.MemoryStore):
            def put_if(self, key: str, parts: Any, if_version: Any) -> Any:
                if key == "zarr.json":
                    seen.append(len(list(self.list_prefix("c/"))))
                return super().put_if(key, parts, if_version)

        seen: list[int] = []
        zarrant.create_array(Watching(), data=np.arange(1, 9), chunks=2)
        assert seen == [4]

    def test_chunks_without_metadata_are_refused(self, tmp_path: Path) -> None:
        for store in ({}, tmp_path / "a"):
            make(store).erase_metadata()
            for create in (
                lambda store=store: zarrant.create_array(store, **BASE),
                lambda store=store: zarrant.open_array(store, mode="a", **BASE),
                lambda store=store: zarrant.create_array(store, **BASE, if_exists="match"),
            ):
                with pytest.raises(NodeExistsError, match="no metadata") as caught:
                    create()
                assert "overwrite=True" in (caught.value.hint or "")
            assert zarrant.open_array(store, mode="w", **BASE)[...].tolist() == [0] * 16

    def test_data_take_the_place_of_what_a_killed_creator_left(self, tmp_path: Path) -> None:
        for store in ({}, tmp_path / "a"):
            make(store).erase_metadata()
            a = zarrant.create_array(store, data=np.arange(8, dtype="i4"), chunks=4)
            assert a[...].tolist() == list(range(8))
            a.resize((16,))
            assert a[8:].tolist() == [0] * 8

    def test_foreign_files_are_no_chunks(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "README").write_text("hello")
        zarrant.create_array(tmp_path / "a", **BASE)
        assert (tmp_path / "a" / "README").read_text() == "hello"
