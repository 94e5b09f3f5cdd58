"""The first object of a directory by one compiled call: the same outcome as by a lock, looks, a listing and a write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant import kernels
from zarrant.errors import NodeExistsError, NodeNotFoundError, ZarrantError
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit.faulty_files import FaultySyscalls

pytestmark = pytest.mark.skipif(kernels.put_file is None, reason="without the compiled calls there is one way only")

ARRAY: dict[str, Any] = {"shape": (4,), "chunks": (2,), "dtype": "int8"}
ABSENT = (".zarray", ".zgroup")


def an_array(place: Any, **options: Any) -> None:
    zarrant.create_array(place, **ARRAY, **options)


def another_array(place: Any) -> None:
    zarrant.create_array(place, **{**ARRAY, "shape": (9,)})


def lost_array(place: Any) -> None:
    zarrant.create_array(place, data=[1, 2, 3], chunks=2)
    os.unlink(f"{place.root}/zarr.json")


THERE: dict[str, Callable[[Any], object]] = {
    "nothing": lambda store: None,
    "an empty directory": lambda store: os.makedirs(store.root),
    "another file": lambda store: store.put("notes.txt", [b"1"]),
    "a directory": lambda store: os.makedirs(f"{store.root}/c"),
    "an array": an_array,
    "another array": another_array,
    "a group": zarrant.create_group,
    "an array of V2": lambda store: an_array(store, zarr_format=2),
    "a group of V2": lambda store: zarrant.create_group(store, zarr_format=2),
    "chunks without metadata": lost_array,
    "a lock file": lambda store: (os.makedirs(store.root), Path(store.root, "zarr.json.__lock").touch()),
    "a temp file": lambda store: (os.makedirs(store.root), Path(store.root, "zarr.json.__new.__lock").write_bytes(b"x")),
    "a link": lambda store: (os.makedirs(store.root), Path(store.root, "zarr.json").symlink_to("nowhere")),
}
MAKE: dict[str, Callable[[Any], object]] = {
    "array": an_array,
    "matching array": lambda store: an_array(store, if_exists="match"),
    "array with attributes": lambda store: an_array(store, attributes={"a": [1, {"b": None}]}),
    "array of V2": lambda store: an_array(store, zarr_format=2),
    "array with data": lambda store: zarrant.create_array(store, data=[1, 2, 3], chunks=2),
    "overwritten array": lambda store: an_array(store, overwrite=True),
    "group": zarrant.create_group,
    "matching group": lambda store: zarrant.create_group(store, if_exists="match"),
}


def outcome(there: str, make: str, top: Path, syscalls: Syscalls) -> Any:
    """What becomes of making a node: its error, and all files with their contents."""
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir()
    store = zarrant.FilesystemStore(top / "root", syscalls=syscalls)
    THERE[there](store)
    error: Any = None
    try:
        MAKE[make](store)
    except ZarrantError as raised:
        error = type(raised), raised.message, getattr(raised, "key", None), getattr(raised, "path", None)
    files = {str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file()}
    names = sorted(str(each.relative_to(top)) for each in top.rglob("*"))
    noted = {
        directory.removeprefix(os.path.realpath(top)): sorted(names)
        for directory, names in store.unsynced_paths.state.written.items()
        if directory.startswith(os.path.realpath(top))
    }
    return error, names, files, noted


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(THERE)), st.sampled_from(list(MAKE)))
def test_a_node_is_made_as_by_the_general_way(tmp_path: Path, there: str, make: str) -> None:
    general = outcome(there, make, tmp_path / "general", FaultySyscalls())
    assert outcome(there, make, tmp_path / "at once", Syscalls()) == general


@pytest.mark.parametrize("beside", ["notes.txt", ".zarray", ".zgroup", "zarr.json", "c"])
def test_nothing_is_stored_where_there_is_something(tmp_path: Path, beside: str) -> None:
    store = zarrant.FilesystemStore(tmp_path)
    store.put("first/key", [b""])  # the locks of the file system are tried out
    assert store.put_first("empty/zarr.json", [b"1"], ABSENT) is not None
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / beside).mkdir()
    assert store.put_first("here/zarr.json", [b"1"], ABSENT) is None
    assert os.listdir(tmp_path / "here") == [beside]


def test_many_files_beside_are_seen(tmp_path: Path) -> None:
    store = zarrant.FilesystemStore(tmp_path)
    store.put("first/key", [b""])
    (tmp_path / "here").mkdir()
    for number in range(300):
        (tmp_path / "here" / f"{number}".ljust(100, "x")).touch()
    assert store.put_first("here/zarr.json", [b"1"], ABSENT) is None


CALLS = 20


@pytest.mark.parametrize("fail", range(CALLS))
def test_a_call_that_fails_leaves_nothing(tmp_path: Path, fail: int) -> None:
    assert kernels.put_file is not None
    path, trial = f"{tmp_path}/zarr.json", [fail, -1]
    asked = None, False, os.stat(tmp_path).st_dev, 0, 0, False, False
    done = kernels.put_file(path, [b"1"], *asked, trial, absent=ABSENT)
    assert trial.count("scan") == (1 if fail >= 6 else 0)
    if done is None:
        assert [name for name in os.listdir(tmp_path) if not name.endswith("__lock")] == []
    else:
        assert fail >= len(trial) - 6  # what comes after the new name: the lock is given back
        assert Path(path).read_bytes() == b"1"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(THERE)), st.sampled_from(list(MAKE)), st.sampled_from(["", "consolidated", "lost", "V2", "array"]))
def test_a_member_is_made_as_by_the_general_way(tmp_path: Path, there: str, make: str, group: str) -> None:
    general = member_outcome(there, make, group, tmp_path / "general", FaultySyscalls())
    assert member_outcome(there, make, group, tmp_path / "at once", Syscalls()) == general


def member_outcome(there: str, make: str, group: str, top: Path, syscalls: Syscalls) -> Any:
    """What becomes of making a node in a group, by the handle of that group."""
    shutil.rmtree(top, ignore_errors=True)
    store = zarrant.FilesystemStore(top, syscalls=syscalls)
    above = zarrant.create_group(store, zarr_format=2 if group == "V2" else 3)
    if group == "consolidated":
        above.consolidate_metadata()
    THERE[there](zarrant.FilesystemStore(top / "a", syscalls=syscalls))
    if group in ("lost", "array"):
        (top / "zarr.json").unlink()
    if group == "array":
        an_array(store)
    error: Any = None
    try:
        if "group" in make:
            above.create_group("a", **({"if_exists": "match"} if "matching" in make else {}))
        else:
            options = {"if_exists": "match"} if "matching" in make else {"overwrite": True} if "overwritten" in make else {}
            above.create_array("a", **ARRAY, **options)
    except ZarrantError as raised:
        error = type(raised), raised.message, getattr(raised, "key", None), getattr(raised, "path", None)
    return error, {str(each.relative_to(top)): each.read_bytes() for each in top.rglob("*") if each.is_file()}


@pytest.mark.parametrize("when", ["before", "after"])
def test_copies_that_others_make_meanwhile_have_the_new_array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    group = zarrant.create_group(tmp_path / "g")
    group.create_array("first", **ARRAY)
    real, done = zarrant.FilesystemStore.put_first, list[object]()

    def put_first(self: Any, key: str, *rest: Any) -> Any:
        if when == "before":
            zarrant.open_group(tmp_path / "g").consolidate_metadata()
        done.append(real(self, key, *rest))
        if when == "after":
            zarrant.open_group(tmp_path / "g").consolidate_metadata()
        return done[-1]

    monkeypatch.setattr(zarrant.FilesystemStore, "put_first", put_first)
    group.create_array("second", **ARRAY)
    assert done != [None]
    entries = json.loads((tmp_path / "g/zarr.json").read_text(encoding="utf-8"))["consolidated_metadata"]["metadata"]
    assert sorted(entries) == ["first", "second"]
    zarrant.open_array(tmp_path / "g/second", mode="r+")[...] = 1  # the metadata that its handle knows are those that are stored


def test_nothing_is_made_in_a_group_that_is_gone(tmp_path: Path) -> None:
    group = zarrant.create_group(tmp_path / "g")
    shutil.rmtree(tmp_path / "g")
    with pytest.raises(NodeNotFoundError):
        group.create_array("a", **ARRAY)
    assert os.listdir(tmp_path) == []


def _create(root: str, gate: Any, made: Any) -> None:
    gate.wait()
    try:
        zarrant.create_array(f"{root}", **ARRAY, attributes={"by": os.getpid()})
    except NodeExistsError:
        return
    made.put(os.getpid())


def test_of_several_processes_one_makes_the_array(tmp_path: Path) -> None:
    context = get_context("fork")
    for turn in range(3):
        root, gate, made = str(tmp_path / f"a{turn}"), context.Barrier(4), context.SimpleQueue()
        others = [context.Process(target=_create, args=(root, gate, made)) for _ in range(4)]
        for other in others:
            other.start()
        for other in others:
            other.join()
        assert zarrant.open_array(root, mode="r").attrs["by"] == made.get()
        assert made.empty()
