"""Directories made and looked at by compiled calls: the same file calls as the general way, and the same outcome."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.stores.local import links
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit.faulty_files import FaultySyscalls

pytestmark = pytest.mark.skipif(kernels.make_directories is None, reason="without the compiled calls there is one way only")

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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize("depth", range(4))
def test_the_calls_are_those_of_the_general_way(tmp_path: Path, depth: int) -> None:
    syscalls = FaultySyscalls()
    for name in ("at once", "general"):
        Path(tmp_path, name, *PARTS[:depth]).mkdir(parents=True)
    general = FilesystemStore(tmp_path / "general", syscalls=syscalls)
    syscalls.calls.clear()
    general.make_directory("/".join([general.root, *PARTS[:3]]))
    trial: list[Any] = [-1, -1]
    assert kernels.make_directories is not None
    root = str(tmp_path / "at once")
    made, done = kernels.make_directories("/".join([root, *PARTS[:3]]), root, trial)
    assert (done, trial[2:]) == (True, [call for call in syscalls.calls if call == "mkdir"])
    assert made == [os.path.join(root, *PARTS[:count]) for count in range(depth + 1, 4)]


@pytest.mark.parametrize("fail", range(5))
def test_a_call_that_fails_ends_it(tmp_path: Path, fail: int) -> None:
    trial: list[Any] = [fail, -1]
    root = str(tmp_path)
    assert kernels.make_directories is not None
    made, done = kernels.make_directories(f"{root}/c/0/1", root, trial)
    assert not done
    assert trial[2:] == ["mkdir"] * (fail + 1)
    assert made == [os.path.join(root, *PARTS[:count]) for count in range(1, fail - 1)]
    assert all(map(os.path.isdir, made))


def test_nothing_is_made_above_the_root(tmp_path: Path) -> None:
    root = str(tmp_path / "a/root")
    assert kernels.make_directories is not None
    assert kernels.make_directories(f"{root}/c", root, None) == ([], False)
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
