"""Directories made and looked at by compiled calls: the same outcome as by the general way."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.errors import MetadataChangedError, ZarrantError
from zarrant.storage import ANY, OnlyWhile
from zarrant.stores.local import links
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit.faulty_files import FaultySyscalls

pytestmark = pytest.mark.skipif(kernels.enter_directory is None, reason="without the compiled calls there is one way only")

PARTS = ("c", "0", "1", "ü")


def outcome(store: FilesystemStore, path: str) -> tuple[Any, ...]:
    """What becomes of making a directory: the error, the directories there, and which of them must be synced or may be entered."""
    state = store.unsynced_paths.state
    state.made.clear()
    error: Any = None
    try:
        store.make_directory(path)
    except OSError as raised:
        error = type(raised), str(raised.filename).removeprefix(store.root)
    real, below = os.path.realpath(os.path.dirname(store.root)), Path(store.root)
    there = sorted(str(each.relative_to(below)) for each in below.rglob("*")) if below.is_dir() else []
    return error, there, sorted(each.removeprefix(real) for each in state.made), sorted(store.links._trusted)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.booleans(),
    st.lists(st.sampled_from(PARTS), max_size=3),
    st.booleans(),
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=4),
)
def test_directories_are_made_as_by_the_general_way(
    tmp_path: Path, has_root: bool, there: list[str], file: bool, wanted: list[str]
) -> None:
    found = []
    for name, syscalls in (("at once", Syscalls()), ("general", FaultySyscalls())):
        top = tmp_path / name
        shutil.rmtree(top, ignore_errors=True)
        store = FilesystemStore(top / "root", syscalls=syscalls)
        if has_root:
            Path(store.root, *there).mkdir(parents=True)
        if has_root and file and not Path(store.root, *there, "c").exists():
            Path(store.root, *there, "c").write_bytes(b"")
        assert store._at_once == (name == "at once")
        found.append(outcome(store, "/".join([store.root, *wanted])))
    assert found[0] == found[1]


NODE = OnlyWhile("zarr.json", ANY)


def put(store: FilesystemStore, key: str, condition: OnlyWhile | None) -> tuple[Any, ...]:
    """What becomes of a write: its error, what is there, which directories must be synced, and which may be entered."""
    state = store.unsynced_paths.state
    state.made.clear()
    error: Any = None
    try:
        (store if condition is None else store.only_while(condition)).put(key, [b"new"])
    except (ZarrantError, OSError) as raised:
        error = type(raised), getattr(raised, "key", None), getattr(raised, "errno", None)
    below = Path(store.root)
    there = sorted(str(each.relative_to(below)) for each in below.rglob("*")) if below.is_dir() else []
    real = os.path.realpath(os.path.dirname(store.root))
    return error, there, sorted(each.removeprefix(real) for each in state.made), sorted(store.links._trusted)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    there=st.lists(st.sampled_from(PARTS), max_size=3),
    end=st.sampled_from(["nothing", "a file", "a link in", "a link out", "a link to nothing", "no root"]),
    metadata=st.sampled_from(["none", "file", "link", "directory"]),
    wanted=st.lists(st.sampled_from(PARTS), min_size=1, max_size=4),
    before=st.lists(st.sampled_from(PARTS), max_size=2),
    condition=st.sampled_from([None, NODE]),
)
def test_a_write_enters_and_makes_directories_as_by_the_general_way(
    tmp_path: Path, there: list[str], end: str, metadata: str, wanted: list[str], before: list[str], condition: OnlyWhile | None
) -> None:
    found = []
    for name, syscalls in (("at once", Syscalls()), ("general", FaultySyscalls())):
        shutil.rmtree(top := tmp_path / name, ignore_errors=True)
        store = FilesystemStore(top / "root", syscalls=syscalls)
        root, below = Path(store.root), Path(store.root, *there)
        if end != "no root":
            (top / "out/0").mkdir(parents=True)
            below.mkdir(parents=True)
            put_there(root / "zarr.json", metadata)
            if before:
                put(store, "/".join([*before, "k"]), None)
            if end != "nothing" and not (last := below / "c").exists():
                put_there(last, end)
        found.append(put(store, "/".join([*wanted, "k"]), condition))
    assert found[0] == found[1]


def put_there(path: Path, what: str) -> None:
    targets = {"a link in": "0", "a link out": str(path.anchor), "a link to nothing": "nowhere", "link": "other"}
    if what in ("file", "a file"):
        path.write_bytes(b"{}")
    elif what == "directory":
        path.mkdir()
    elif what == "link":
        path.with_name("other").write_bytes(b"{}")
    if what in targets:
        path.symlink_to(targets[what])


@pytest.mark.parametrize("fail", range(6))
def test_a_call_that_fails_ends_it(tmp_path: Path, fail: int) -> None:
    trial: list[Any] = [fail, -1]
    root = str(tmp_path)
    assert kernels.enter_directory is not None
    made, entered = kernels.enter_directory(f"{root}/c/0/1", root, None, trial)
    calls = ["stat", "mkdir", "mkdir", "mkdir", "stat"]
    assert (entered is None) == (fail < len(calls))
    assert trial[2:] == calls[: fail + 1]
    assert made == [os.path.join(root, *PARTS[:count]) for count in range(1, min(fail, 4))]
    assert all(map(os.path.isdir, made))


def test_no_directory_is_made_of_a_node_that_is_gone(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path).only_while(NODE)
    with pytest.raises(MetadataChangedError):
        store.put("c/0/k", [b"1"])
    assert os.listdir(tmp_path) == []
    root = str(tmp_path)
    assert kernels.enter_directory is not None
    assert kernels.enter_directory(f"{root}/c", root, f"{root}/zarr.json", None) == ([], None)
    assert os.listdir(tmp_path) == []


def test_only_what_was_looked_at_is_entered(tmp_path: Path) -> None:
    found = links.Links(Syscalls(), str(tmp_path), "file:///", "files")
    found.entered("c/0", "")
    assert (found.trusted_part("c/0/1"), found.trusted_part("d/0")) == ("c/0", "")
    found.entered("c/0/1/2", "c/0")
    assert sorted(found._trusted) == ["c", "c/0", "c/0/1", "c/0/1/2"]


def test_nothing_is_made_above_the_root(tmp_path: Path) -> None:
    root = str(tmp_path / "a/root")
    assert kernels.enter_directory is not None
    assert kernels.enter_directory(f"{root}/c", root, None, None) == ([], None)
    assert not os.path.exists(tmp_path / "a")


def test_what_was_made_is_entered_without_another_look(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("c/0/k", [b"1"])
    assert sorted(store.links._trusted) == ["c", "c/0"]


def test_what_was_made_is_looked_at_where_the_one_above_may_be_a_link_by_now(tmp_path: Path) -> None:
    found = links.Links(Syscalls(), str(tmp_path), "file:///", "files")
    found.directories_made([f"{tmp_path}/c/0", f"{tmp_path}/c/0/1"])
    assert not found.trusts("c/0/1")
    found.directories_made([f"{tmp_path}/c", f"{tmp_path}/c/0"])
    assert found.trusts("c")
    assert found.trusts("c/0")


def test_the_directories_above_are_those_that_python_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ü/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("ü")
    (tmp_path / "file").write_bytes(b"")
    paths = [f"{tmp_path}/{name}" for name in ("ü/b", "link/b", "link", "file", "none/b", "ü/../ü", ".")]
    calls = Syscalls()
    found = [calls.above(path) for path in paths]
    monkeypatch.setattr(kernels, "directories_above", None)
    assert found == [calls.above(path) for path in paths]
    assert found[0][0][0] == f"{tmp_path}/ü/b"
