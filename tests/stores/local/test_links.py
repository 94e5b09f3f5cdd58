"""Symbolic links: the rule of `zarrant.stores.local.links`, for every operation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import OptionError, PartialFailure, StoreError, ZarrantWarning
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls, content

FOLLOW = pytest.mark.parametrize("follow", ["files", True, False])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "store/d").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "store/d/k").write_bytes(b"inside")
    (tmp_path / "outside/k").write_bytes(b"outside")
    return tmp_path / "store"


def outside(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root.parent / "outside").iterdir()}


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


OPERATIONS: dict[str, Callable[[FilesystemStore], Any]] = {
    "get": lambda store: store.get("l/k"),
    "get_ranges": lambda store: store.get_ranges("l/k", ()),
    "put": lambda store: store.put("l/k", [b"new"]),
    "put a new one": lambda store: store.put("l/new", [b"new"]),
    "put_if": lambda store: store.put_if("l/new", [b"new"], None),
    "erase": lambda store: store.erase("l/k"),
    "erase_if": lambda store: store.erase_if("l/k", None),
    "lock": lambda store: store.lock(["l/k"]).__enter__(),
    "list_dir": lambda store: store.list_dir("l/"),
    "list_prefix": lambda store: list(store.list_prefix("l/")),
    "list all": lambda store: list(store.list_prefix("")),
    "erase_prefix below": lambda store: store.erase_prefix("l/x/"),
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("follow", ["files", False])
def test_no_operation_enters_a_directory_outside(root: Path, operation: str, follow: Any) -> None:
    store = FilesystemStore(root, follow_symlinks=follow)
    (root / "l").symlink_to("../outside")
    with pytest.raises(StoreError, match="leads out of the store") as caught:
        OPERATIONS[operation](store)
    assert "follow_symlinks" in str(caught.value)
    assert caught.value.key is not None
    assert outside(root) == {"k": b"outside"}
    assert content(store.get("d/k")) == b"inside"


@FOLLOW
def test_a_directory_inside_is_entered_by_all_alike(root: Path, follow: Any) -> None:
    (root / "l").symlink_to("d")
    entered_by_all(FilesystemStore(root, follow_symlinks=follow), root / "d", b"inside")


def test_a_directory_outside_is_entered_by_all_alike_where_that_is_allowed(root: Path) -> None:
    (root / "l").symlink_to("../outside")
    entered_by_all(FilesystemStore(root, follow_symlinks=True), root.parent / "outside", b"outside")


def entered_by_all(store: FilesystemStore, target: Path, old: bytes) -> None:
    assert content(store.get("l/k")) == old
    assert store.list_dir("") == ([], ["d/", "l/"])
    assert store.list_dir("l/") == (["l/k"], [])
    assert sorted(store.list_prefix("l/")) == ["l/k"]
    version = store.put("l/k", [b"1"])
    store.put_if("l/k", [b"2"], version)
    store.put("l/m/n", [b"3"])
    with store.lock(["l/k"]) as locked:
        locked.put("l/k", [b"4"])
    assert ((target / "k").read_bytes(), (target / "m/n").read_bytes()) == (b"4", b"3")
    store.erase_prefix("l/m/")
    store.erase("l/k")
    assert names(target) == []
    store.put("l/k", [b"5"])
    store.erase_prefix("l/")
    assert ((target / "k").read_bytes(), (Path(store.root) / "l").is_symlink()) == (b"5", False)
    assert "l" not in names(Path(store.root))


@pytest.mark.parametrize("follow", ["files", True])
def test_files_are_read_wherever_their_links_lead(root: Path, follow: Any) -> None:
    (root / "d/l").symlink_to("../../outside/k")
    store = FilesystemStore(root, follow_symlinks=follow)
    blob = store.get("d/l")
    assert content(blob) == b"outside"
    assert content(store.get_ranges("d/l", [zarrant.storage.ByteRange(3, 4)], blob.version)) == b"side"
    assert store.is_unchanged("d/l", blob.version)
    assert store.list_dir("d/") == (["d/k", "d/l"], [])


def test_files_outside_are_refused_where_nothing_may_lead_out(root: Path) -> None:
    (root / "d/l").symlink_to("../../outside/k")
    (root / "d/m").symlink_to("k")
    store = FilesystemStore(root, follow_symlinks=False)
    assert content(store.get("d/m")) == b"inside"
    for call in (lambda: store.get("d/l"), lambda: store.get_ranges("d/l", ())):
        with pytest.raises(StoreError, match="leads out of the store"):
            call()
    store.put("d/l", [b"mine"])
    assert (content(store.get("d/l")), outside(root)) == (b"mine", {"k": b"outside"})


WRITES: dict[str, Callable[[FilesystemStore, Any], Any]] = {
    "put": lambda store, version: store.put("d/l", [b"new"]),
    "put_if": lambda store, version: store.put_if("d/l", [b"new"], version),
    "splice": lambda store, version: store.splice("d/l", [b"ne", b"w"], version),
    "put_all": lambda store, version: store.put_all([("d/l", [b"new"]), ("d/x", [b"new"])]),
    "lock": lambda store, version: held_put(store),
}


def held_put(store: FilesystemStore) -> None:
    with store.lock(["d/l"]) as locked:
        locked.put("d/l", [b"new"])


@FOLLOW
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("durability", ["rename", "fsync"])
def test_writing_replaces_the_link(root: Path, write: str, follow: Any, durability: str) -> None:
    (root / "d/l").symlink_to("k")
    store = FilesystemStore(root, follow_symlinks=follow, durability=durability)
    blob = store.get("d/l")
    WRITES[write](store, blob.version)
    assert content(store.get("d/l")) == b"new"
    assert (content(store.get("d/k")), (root / "d/l").is_symlink()) == (b"inside", False)


def test_a_splice_copies_from_what_the_link_leads_to(root: Path) -> None:
    (root / "d/l").symlink_to("../../outside/k")
    store = FilesystemStore(root)
    blob = store.get("d/l")
    store.splice("d/l", [zarrant.storage.ByteRange(0, 3), b"!"], blob.version)
    assert (content(store.get("d/l")), outside(root)) == (b"out!", {"k": b"outside"})


@pytest.mark.parametrize("target", ["../../outside/k", "../../outside", "nowhere", "l"])
def test_erasing_removes_the_link(root: Path, target: str) -> None:
    store = FilesystemStore(root)
    for erase in (store.erase, lambda key: store.erase_prefix("d/")):
        (root / "d").mkdir(exist_ok=True)
        (root / "d/l").symlink_to(target)
        erase("d/l")
        assert not os.path.lexists(root / "d/l")
    assert outside(root) == {"k": b"outside"}
    assert names(root) == []


def test_a_link_to_nothing_is_not_taken_for_an_absent_object(root: Path) -> None:
    (root / "d/l").symlink_to("../.git/annex/objects/x")
    store = FilesystemStore(root)
    with pytest.raises(StoreError, match="leads nowhere") as caught:
        store.get("d/l")
    assert "git-annex" in str(caught.value)
    assert caught.value.key == "d/l"
    assert "d/l" in store.list_dir("d/")[0]
    store.put("d/l", [b"1"])
    assert content(store.get("d/l")) == b"1"


@pytest.mark.parametrize("links", [{"d/l": "."}, {"d/l": ".."}, {"d/l": "../e", "e/m": "../d"}])
def test_circles_end(root: Path, links: dict[str, str]) -> None:
    (root / "e").mkdir()
    for name, target in links.items():
        (root / name).symlink_to(target)
    with pytest.raises(StoreError, match="leads back"):
        list(FilesystemStore(root, follow_symlinks=True).list_prefix(""))


def test_the_root_may_be_a_link_and_lie_below_one(root: Path) -> None:
    (root.parent / "there").symlink_to("store")
    (root.parent / "up").symlink_to(".")
    for path in (root.parent / "there", root.parent / "up/there"):
        store = FilesystemStore(path)
        assert content(store.get("d/k")) == b"inside"
        store.put("d/new", [b"1"])
        assert sorted(store.list_prefix("")) == ["d/k", "d/new"]
        store.erase("d/new")


def test_a_directory_replaced_by_a_link_is_noticed_within_a_second(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(root)
    assert content(store.get("d/k")) == b"inside"
    (root / "d").rename(root / "e")
    (root / "d").symlink_to("../outside")
    with pytest.raises(StoreError, match="leads out"):
        store.list_dir("d/")  # listing and erasing look each time
    monkeypatch.setattr("zarrant.stores.local.links.TRUSTED_S", 0.0)
    store.links._trusted.clear()
    with pytest.raises(StoreError, match="leads out"):
        store.get("d/k")


def test_a_directory_costs_one_look() -> None:
    """The first read of a directory; no call is added to the next ones."""
    syscalls = FaultySyscalls()
    store = FilesystemStore("there", syscalls=syscalls)
    store.root = store.links.root = os.path.abspath("there")
    syscalls.calls.clear()
    store.get("a")
    assert syscalls.calls == ["open"]


def test_each_directory_is_looked_at_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.stores.local.links.TRUSTED_S", 600)
    syscalls = FaultySyscalls()
    store = FilesystemStore(root, syscalls=syscalls)
    store.get("d/k")
    syscalls.calls.clear()
    store.get("d/k")
    assert syscalls.calls == ["open", "fstat", "read", "close"]


def test_options_are_checked_and_kept(root: Path) -> None:
    for bad in ("all", None, 1, "True"):
        with pytest.raises(OptionError, match="follow_symlinks"):
            FilesystemStore(root, follow_symlinks=bad)  # type: ignore[arg-type]
    assert FilesystemStore(root, follow_symlinks=True).with_options(durability="fsync").follow_symlinks is True
    assert FilesystemStore(root, follow_symlinks=True) != FilesystemStore(root)
    assert isinstance(FilesystemStore(root).files, Syscalls)


# ── arrays and groups ────────────────────────────────────────────────────────────────────────────────────────────────


def elsewhere(tmp_path: Path, n: int, chunk: int) -> Any:
    """An array whose directory of chunks lies on another disk."""
    (tmp_path / "disk/c").mkdir(parents=True)
    options: dict[str, Any] = {"shape": (n,), "dtype": "i4", "chunks": (chunk,), "storage_options": {"follow_symlinks": True}}
    a = zarrant.create_array(tmp_path / "a", **options)
    (tmp_path / "a/c").symlink_to(tmp_path / "disk/c")
    a[...] = 7
    return a, options


def test_chunks_on_another_disk(tmp_path: Path) -> None:
    a, options = elsewhere(tmp_path, 60, 1)
    assert len(list((tmp_path / "disk/c").iterdir())) == 60
    a.resize((10,))
    a.resize((60,))
    assert a[...].tolist() == [7] * 10 + [0] * 50
    b = zarrant.create_array(tmp_path / "a", **options, overwrite=True)
    assert set(b[...].tolist()) == {0}


def test_chunks_on_another_disk_are_refused_whole_where_links_are_not_trusted(tmp_path: Path) -> None:
    elsewhere(tmp_path, 60, 1)
    a = zarrant.open_array(tmp_path / "a", mode="r+")
    calls: list[Callable[[], Any]] = [
        lambda: a[...],
        lambda: a.__setitem__(0, 1),
        lambda: a.update(np.s_[0:2], lambda x: x),
        lambda: a.erase_chunk((0,)),
    ]
    for call in calls:
        with pytest.raises((StoreError, PartialFailure), match="leads out"):
            call()
    assert {path.stat().st_size for path in (tmp_path / "disk/c").iterdir()} == {
        next((tmp_path / "disk/c").iterdir()).stat().st_size
    }
    trusted = zarrant.open_array(tmp_path / "a", mode="r", storage_options={"follow_symlinks": True})
    assert (trusted.shape, set(trusted[...].tolist())) == ((60,), {7})


@pytest.mark.parametrize("target", ["../precious", "inner"])
def test_deleting_a_member_that_is_a_link_leaves_what_it_leads_to(tmp_path: Path, target: str) -> None:
    zarrant.create_array(tmp_path / "precious", data=np.arange(6), chunks=(3,))
    group = zarrant.open_group(tmp_path / "g", mode="w", storage_options={"follow_symlinks": True})
    group.create_array("inner", data=np.arange(6), chunks=(3,))
    (tmp_path / "g/link").symlink_to(target)
    assert sorted(group.members()) == ["inner", "link"]
    del group["link"]
    assert not os.path.lexists(tmp_path / "g/link")
    (tmp_path / "g/link").symlink_to(target)
    new = group.create_array("link", shape=(2,), dtype="i4", overwrite=True)
    assert new[...].tolist() == [0, 0]
    assert not (tmp_path / "g/link").is_symlink()
    for path in ("precious", "g/inner"):
        assert zarrant.open_array(tmp_path / path, mode="r")[...].tolist() == list(range(6))


def test_an_annexed_array_is_read_and_changed(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path / "a", data=np.arange(8, dtype="i4"), chunks=(2,), shards=(4,))
    (tmp_path / "annex").mkdir()
    kept = {}
    for number, name in enumerate(("c/0", "c/1", "zarr.json")):
        path, target = tmp_path / "a" / name, tmp_path / f"annex/{number}"
        path.rename(target)
        target.chmod(0o444)
        kept[target] = target.read_bytes()
        path.symlink_to(target)
    b = zarrant.open_array(tmp_path / "a", mode="r+")
    assert b[...].tolist() == list(range(8))
    b[0] = 10
    b.update(np.s_[4:6], lambda x: x + 10)
    b.attrs["x"] = 1
    b.append(np.array([9], "i4"))
    assert zarrant.open_array(tmp_path / "a", mode="r")[...].tolist() == [10, 1, 2, 3, 14, 15, 6, 7, 9]
    assert a[0:8].tolist() == [10, 1, 2, 3, 14, 15, 6, 7]
    assert {target: target.read_bytes() for target in kept} == kept
    b.erase_chunk((0,))
    assert {target: target.read_bytes() for target in kept} == kept


@pytest.mark.parametrize("wanted", [(2, 4), (2, 2), (1, 4)])
def test_shrinking_past_a_directory_that_leads_out_says_what_stays(tmp_path: Path, wanted: tuple[int, ...]) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(8, 4), chunks=(2, 2), dtype="i2", compressors=None)
    a[...] = np.arange(1, 33).reshape(8, 4)
    (tmp_path / "elsewhere").mkdir()
    os.rename(tmp_path / "a/c/2", tmp_path / "elsewhere/2")
    (tmp_path / "a/c/2").symlink_to(tmp_path / "elsewhere/2")
    before = {file.name: file.read_bytes() for file in (tmp_path / "elsewhere/2").iterdir()}
    a = zarrant.open_array(tmp_path / "a")
    with pytest.warns(ZarrantWarning, match="leads out of the store") as caught:
        a.resize(wanted)
    assert "c/2" in str(caught[0].message)
    # The array has its new shape, and all of its elements. Of what was cut off only what is behind the link is left.
    kept = np.arange(1, 33).reshape(8, 4)[: wanted[0], : wanted[1]]
    assert zarrant.open_array(tmp_path / "a", mode="r")[...].tolist() == kept.tolist()
    assert {file.name: file.read_bytes() for file in (tmp_path / "elsewhere/2").iterdir()} == before
    files = [os.path.join(top, name) for top, _, names in os.walk(tmp_path / "a/c") for name in names]
    assert sorted(files) == [str(tmp_path / f"a/c/0/{i}") for i in range(-(-wanted[1] // 2))]
    # It is not shown again: growing erases it first, or is refused.
    with pytest.raises(StoreError, match="leads out of the store"):
        a.resize((8, 4))
    assert zarrant.open_array(tmp_path / "a", mode="r")[...].tolist() == kept.tolist()
    trusting = zarrant.open_array(tmp_path / "a", storage_options={"follow_symlinks": True})
    trusting.resize((8, 4))
    assert not trusting[wanted[0] :].any()
    assert not trusting[:, wanted[1] :].any()
