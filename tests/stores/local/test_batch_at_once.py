"""Many small objects in memory, each by a compiled call: the same outcomes as one by one, file call by file call."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from children import ended
from zarrant import kernels
from zarrant.errors import ZarrantError
from zarrant.storage import OnlyWhile
from zarrant.stores.local import batch_put, put_at_once
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import content

IN_MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.skipif(
    kernels.put_files is None or not IN_MEMORY.is_dir(), reason="needs the compiled call and a file system in memory"
)


class Plain(Syscalls):
    """The file calls of the system, but not the class itself: each is made by itself."""


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


def outcome(found: Any) -> Any:
    """What must be equal: the size of a new object, or the error and what it names."""
    if isinstance(found, ZarrantError):
        return type(found), found.key
    return type(found) if isinstance(found, Exception) else found[3]


def state(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


keys = st.sampled_from(["a", "b", "c/0", "c/1", "c/2/3", "d/link", "taken", "", "../x", "a.__lock", "file/below"])
parts = st.lists(st.binary(max_size=20) | st.just(np.zeros(3, "i4")), max_size=3)
conditions = st.sampled_from([None, "right", "wrong", "gone"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(st.tuples(keys, parts), max_size=8),
    condition=st.sampled_from([None, "right", "wrong", "gone"]),
    tiny=st.booleans(),
)
def test_it_is_equal_to_one_by_one(items: Any, condition: str | None, tiny: bool, root: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(put_at_once, "MAX_HELD_BYTES", 10 if tiny else 1 << 17)
    found = []
    for files in (Syscalls(), Plain()):
        with tempfile.TemporaryDirectory(dir=root) as folder:
            store = FilesystemStore(folder, syscalls=files, lock_timeout=0)
            for key in ("a", "file", "c/1", "taken"):
                store.put(key, [b"old value"])
            version = store.put("zarr.json", [b"{}"])
            (Path(folder) / "d").mkdir()
            (Path(folder) / "d/link").symlink_to(Path(folder) / "a")
            with ExitStack() as stack:
                stack.enter_context(FilesystemStore(folder).lock(["taken"]))
                view: Any = store
                if condition is not None:
                    wanted = (*version[:2], version[2] + (condition == "wrong"), version[3])  # type: ignore[index]
                    view = store.only_while(OnlyWhile("nothing" if condition == "gone" else "zarr.json", wanted))
                outcomes = view.put_all(items)
            found.append(([outcome(each) for each in outcomes], state(Path(folder))))
    assert found[0] == found[1]


def test_it_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(root)
    store.put("c/probed", [b""])
    singly: list[int] = []
    monkeypatch.setattr(batch_put._Batch, "take_write_lease", lambda self, number: singly.append(number))
    outcomes = store.put_all([(f"c/{i}", [bytes([i]) * 5]) for i in range(100)])
    assert singly == []
    assert [store.version(f"c/{i}") for i in range(100)] == outcomes
    assert [content(store.get(f"c/{i}")) for i in range(100)] == [bytes([i]) * 5 for i in range(100)]


def test_one_that_is_no_bytes_harms_no_other(root: Path) -> None:
    store = FilesystemStore(root)
    store.put("c/probed", [b""])
    outcomes = store.put_all([("c/0", [b"a"]), ("c/1", ["text"]), ("c/2", [b"c"])])  # type: ignore[list-item]
    assert [isinstance(each, Exception) for each in outcomes] == [False, True, False]
    assert state(root) == {"c/probed": b"", "c/0": b"a", "c/2": b"c"}


def test_what_was_stored_before_an_interrupt_is_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(root)
    for i in range(3):
        store.put(f"c/{i}/probed", [b""])
    store.sync()
    calls, real = [0], put_at_once._asked

    def interrupted(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(put_at_once, "_asked", interrupted)
    added: list[str] = []
    monkeypatch.setattr(type(store.unsynced_paths), "add", lambda self, files, paths, *mark: added.extend(paths))
    with pytest.raises(KeyboardInterrupt):
        store.put_all([(f"c/{i}/{j}", [b"new"]) for i in range(3) for j in range(2)])
    assert added == [f"{root}/c/{i}/{j}" for i in range(2) for j in range(2)]
    assert set(state(root)) == {*(f"c/{i}/probed" for i in range(3)), *(f"c/{i}/{j}" for i in range(2) for j in range(2))}


def put_files(folder: Path, files: Sequence[tuple[str, bytes]], fail: int = -1, kill: int = -1) -> tuple[list[Any], list[str]]:
    """What the compiled call gives for each, and the file calls that it makes."""
    trial: list[Any] = [fail, kill]
    done: list[Any] = []
    assert kernels.put_files is not None
    kernels.put_files(str(folder), [(name, [data]) for name, data in files], None, folder.stat().st_dev, 0, 1 << 17, done, trial)
    return done, trial[2:]


FILES = [("a", b"1"), ("b", b"22"), ("c", b"333")]
LOCK, GIVE_BACK = ["open", "fstat", "lock", "stat"], ["stat", "unlink", "unlock", "close"]
STORE, MOVE = ["stat", "open", "write", "set_mtime", "fstat", "close", "stat", "rename"], ["stat", "rename", "stat"]
NEW = ["open", "write", "set_mtime", "fstat", "stat", "link", "close"]


def test_one_lock_file_serves_all(root: Path) -> None:
    done, calls = put_files(root, FILES)  # after the first object, which is new, the others are taken for new as well
    assert calls == [*LOCK, *STORE, *MOVE, *NEW, *MOVE, *NEW, *GIVE_BACK]
    assert [version[3] for version in done] == [1, 2, 3]
    assert state(root) == dict(FILES)
    done, calls = put_files(root, FILES)
    assert calls == [*LOCK, *STORE, *MOVE, *STORE, *MOVE, *STORE, *GIVE_BACK]


def test_what_is_there_where_nothing_was_expected_is_replaced_as_any(root: Path) -> None:
    (root / "b").write_bytes(b"old")
    (root / "b").chmod(0o640)
    later = time.time_ns() + 10**10
    os.utime(root / "b", ns=(later, later))
    done, calls = put_files(root, [*FILES, ("d", b"4444")])
    again = [*NEW, *STORE[:5], "chmod", *STORE[5:]]
    assert calls == [*LOCK, *STORE, *MOVE, *again, *MOVE, *STORE, *MOVE, *STORE, *GIVE_BACK]
    assert [version[3] for version in done] == [1, 2, 3, 4]
    assert done[1][2] == later + 1
    assert (root / "b").stat().st_mode & 0o777 == 0o640
    assert state(root) == {**dict(FILES), "d": b"4444"}


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), unique_by=lambda each: each[0]))
def test_any_mixture_of_new_and_old_objects(files: list[tuple[str, bool]]) -> None:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        before = {name: time.time_ns() + 10**9 for name, is_old in files if is_old}
        for name, mtime in before.items():
            (Path(folder) / name).write_bytes(b"old value")
            os.utime(Path(folder) / name, ns=(mtime, mtime))
        done, _ = put_files(Path(folder), [(name, name.encode()) for name, _ in files])
        assert state(Path(folder)) == {name: name.encode() for name, _ in files}
        for (name, _), version in zip(files, done, strict=True):
            assert version[2] > before.get(name, 0)


def test_a_call_that_fails_harms_one_of_them(root: Path) -> None:
    names = {name for name, _ in FILES}
    count = len(put_files(root, FILES)[1])
    for number in range(count):
        for name in names:
            (root / name).write_bytes(b"old")
        done, calls = put_files(root, FILES, fail=number)
        found = state(root)
        for (name, data), version in zip(FILES, done, strict=True):
            assert found[name] == (b"old" if version is None else data), calls
        assert done.count(None) <= 1
        # Only a lock file can be left, of which the next writer sees that nobody has it.
        left = set(found) - names
        assert left <= {f"{name}.__lock" for name in names}
        for name in left:
            (root / name).unlink()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_who_is_killed_before_any_call_harms_nobody(root: Path) -> None:
    store = FilesystemStore(root)
    for name, _ in FILES:
        store.put(name, [b"old"])
    calls = put_files(root, FILES)[1]
    renames = [i for i, call in enumerate(calls) if call == "rename"]
    for number in range(len(calls)):
        for name, _ in FILES:
            store.put(name, [b"old"])
        child = os.fork()
        if not child:
            put_files(root, FILES, kill=number)
            os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 9
        for place, (name, data) in enumerate(FILES):
            assert content(store.get(name)) == (data if number > renames[2 * place] else b"old")
        for name, _ in FILES:
            store.put(name, [b"next"])
        assert set(state(root)) == {name for name, _ in FILES}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_who_is_killed_before_any_call_leaves_no_part_of_a_new_object(root: Path) -> None:
    store = FilesystemStore(root)
    store.put("probed", [b""])
    for number in range(len(put_files(root, FILES)[1])):
        for name, _ in FILES:
            store.erase(name)
        child = os.fork()
        if not child:
            put_files(root, FILES, kill=number)
            os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 9
        found = {name: data for name, data in state(root).items() if name in dict(FILES)}
        assert found.items() <= dict(FILES).items()
        for name, _ in FILES:
            store.put(name, [b"next"])
        assert set(state(root)) == {"probed", *dict(FILES)}


def test_any_call_for_new_objects_that_fails_harms_one_of_them(root: Path) -> None:
    for number in range(len(put_files(root, FILES)[1])):
        for path in root.iterdir():
            path.unlink()
        done, calls = put_files(root, FILES, fail=number)
        stored = {name: data for (name, data), version in zip(FILES, done, strict=True) if version is not None}
        assert {name: data for name, data in state(root).items() if not name.endswith(".__lock")} == stored, calls
        assert done.count(None) <= 1


def test_the_lock_of_another_writer_is_not_replaced(root: Path) -> None:
    store = FilesystemStore(root)
    with store.lock(["b"]):
        before = os.stat(root / "b.__lock").st_ino
        done, _ = put_files(root, FILES)
        assert [version is None for version in done] == [False, True, False]
        assert os.stat(root / "b.__lock").st_ino == before
    assert state(root) == {"a": b"1", "c": b"333"}


def test_who_waits_for_the_lock_of_one_gets_it(root: Path) -> None:
    """Writers of the same objects, as threads and as another process: each object is of one of them, and nothing is left."""
    store = FilesystemStore(root, lock_timeout=20)
    items = [(f"c/{i}", [b"first"]) for i in range(300)]
    store.put("c/probed", [b""])
    child = os.fork() if hasattr(os, "fork") else -1
    if not child:
        try:
            found = [store.put_all(items) for _ in range(5)]
            os._exit(any(isinstance(each, Exception) for outcomes in found for each in outcomes))
        finally:
            os._exit(2)
    failed: list[Any] = []

    def work() -> None:
        for _ in range(5):
            failed.extend(each for each in store.put_all(items) if isinstance(each, Exception))
            failed.extend(each for each in [store.put(key, [b"second"]) for key, _ in items[::7]] if isinstance(each, Exception))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert child < 0 or os.waitstatus_to_exitcode(ended(child)) == 0
    assert failed == []
    found = state(root)
    assert set(found) == {"c/probed", *(key for key, _ in items)}
    assert set(found.values()) <= {b"", b"first", b"second"}


def test_whole_arrays_of_small_chunks(root: Path) -> None:
    data = np.arange(3000, dtype="u2")
    array = zarrant.create_array(root / "a", shape=data.shape, chunks=(3,), dtype="u2", compressors=None)
    for turn in range(2):
        array[...] = data + turn
        assert np.array_equal(zarrant.open_array(root / "a")[...], data + turn)
    assert not [name for name in state(root) if "__" in name]
