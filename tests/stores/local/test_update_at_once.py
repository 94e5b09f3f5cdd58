"""A small update as one compiled call: wherever it fails or is killed, the object is whole, and nothing is left behind."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import ended
from stores.local.test_put_at_once import names
from stores.local.test_put_at_once import root as root  # noqa: PLC0414 - a fixture
from zarrant import kernels
from zarrant.codecs.box_update import box_update
from zarrant.errors import LockTimeout, NodeNotFoundError, StoreError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.region import box_region
from zarrant.stores.local import put_at_once as module
from zarrant.stores.local.store import FilesystemStore

pytestmark = pytest.mark.skipif(kernels.update_file is None, reason="without the compiled call there is one way only")

OLD = np.arange(1, 17, dtype="int16")
NEW = np.array([*range(1, 6), -1, -1, *range(8, 17)], "int16")
LAYOUTS = [{"chunks": (16,), "compressors": None}, {"chunks": (4,), "shards": (16,)}, {"chunks": (2,), "shards": (16,)}]


FEW = np.array([0] * 5 + [-1] * 2 + [0] * 9, "int16")
CASES = {"stored": (OLD, NEW, "rename"), "not stored": (0 * OLD, FEW, "rename"), "erased": (FEW, 0 * OLD, "unlink")}
"""What is there before, and after; and the call that makes it so."""


def made(root: Path, layout: Any, data: Any = OLD) -> zarrant.Array[Any]:
    array = zarrant.create_array(root / "a", data=data, overwrite=True, **layout)
    (root / "a/c").mkdir(exist_ok=True)
    return array


def bytes_of(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def try_update(array: Any, fail: int = -1, kill: int = -1, value: int = -1, **other: Any) -> tuple[Any, list[str]]:
    """What the compiled call gives, and the calls that it makes."""
    bound, trial = array._handle.array, [fail, kill]
    selections = box_region(ArraySubset((5,), (2,))).split(bound.grid, array.shape)
    update = box_update(bound.prepared_for((16,)), selections, 0, np.full(2, value, "int16"))
    assert update is not None and kernels.update_file is not None
    path = Path(array.store.root) / "c/0"
    asked = {"condition": None, "device": os.stat(array.store.root).st_dev, "share": 0, "held": 0}
    args = {**asked, "must_replace": False, "most": -1, "release": False, **other}
    return kernels.update_file(str(path), *update[:4], *args.values(), trial), trial[2:]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_call_that_fails_leaves_everything_as_it_was(root: Path, layout: Any, case: str) -> None:
    old, new, published = CASES[case]
    array, value = made(root, layout, old), int(new[5])
    calls = try_update(array, value=value)[1]
    assert array[...].tolist() == new.tolist()
    assert calls.index("lock") < calls.index("open", 1) < calls.index(published) < len(calls) - 1 - calls[::-1].index("unlink")
    assert ("read" in calls) == (case != "not stored")
    for number in range(len(calls)):
        array = made(root, layout, old)
        before = bytes_of(root / "a/c/0")
        done, _ = try_update(array, fail=number, value=value)
        assert (done is not None) == (number > calls.index(published))
        assert (bytes_of(root / "a/c/0") == before) == (done is None)
        assert not [name for name in names(root / "a/c") if "__new" in name]
        array[5:7] = value
        assert array[...].tolist() == new.tolist()
        assert names(root / "a/c") == ["0"] * bool(new.any())


def test_a_call_that_fails_leaves_a_shard_with_a_record_as_it_was(root: Path, keep_dead_bytes: Callable[[int], None]) -> None:
    keep_dead_bytes(16)
    array, path = made(root, LAYOUTS[1]), root / "a/c/0"
    for value in range(8):
        array[5:7] = value
    before = path.read_bytes()
    assert b"zdead" in before
    calls = try_update(array)[1]
    after = path.read_bytes()
    for number in range(len(calls)):
        path.write_bytes(before)
        done, _ = try_update(array, fail=number)
        assert path.read_bytes() == (before if done is None else after)
        assert (done is not None) == (number > calls.index("rename"))
        (root / "a/c/0.__lock").unlink(missing_ok=True)
    assert array[...].tolist() == NEW.tolist()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize(("case", "layout"), [*[("stored", each) for each in LAYOUTS], *[(each, LAYOUTS[1]) for each in CASES]])
def test_who_is_killed_before_any_call_harms_nobody(root: Path, layout: Any, case: str) -> None:
    old, new, published = CASES[case]
    value = int(new[5])
    calls = try_update(made(root, layout, old), value=value)[1]
    for number in range(len(calls)):
        array = made(root, layout, old)
        child = os.fork()
        if not child:
            try_update(array, kill=number, value=value)
            os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 9
        assert array[...].tolist() == (new if number > calls.index(published) else old).tolist()
        array[5:7] = value
        assert array[...].tolist() == new.tolist()
        assert names(root / "a/c") == ["0"] * bool(new.any())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_several_processes_begin_at_once_is_all_there(root: Path, layout: Any) -> None:
    array = zarrant.create_array(root / "a", shape=(16 * 40,), dtype="int16", **layout)
    array[0] = 1  # locks are probed

    def fill(first: int) -> None:
        try:
            for start in range(0, len(array), 16):
                for at in range(start + first, start + 16, 4):
                    array[at] = at + 1
            os._exit(0)
        finally:
            os._exit(1)

    children = [os.fork() or fill(first) for first in range(4)]
    assert [os.waitstatus_to_exitcode(ended(child)) for child in children if child] == [0] * 4
    assert array[...].tolist() == list(range(1, len(array) + 1))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_has_locked_the_chunk_does_it_under_that_lock(root: Path, layout: Any, case: str, done: list[Any]) -> None:
    old, new, _ = CASES[case]
    array = made(root, layout, old)
    with array.lock(np.s_[0:4]) as held:
        kept = os.stat(root / "a/c/0.__lock").st_ino
        held[5:7] = new[5:7]
        assert os.stat(root / "a/c/0.__lock").st_ino == kept
        assert held[...].tolist() == new.tolist()
        held[5:7] = 1
        held[5:7] = new[5:7]
    assert all(isinstance(each, tuple) for each in done) or case == "erased"  # what may be on disk is begun anew otherwise
    assert isinstance(done[0], tuple)
    assert names(root / "a/c") == ["0"] * bool(new.any())


def test_who_has_lost_his_lock_stores_nothing(root: Path, done: list[Any]) -> None:
    array = made(root, LAYOUTS[1])
    with array.lock(np.s_[0:4]) as held:
        os.unlink(root / "a/c/0.__lock")
        with pytest.raises(StoreError, match="lock"):
            held[5:7] = -1
    assert done == [None]
    assert array[...].tolist() == OLD.tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_threads_that_share_a_lock_lose_nothing(root: Path, layout: Any) -> None:
    array = made(root, layout, 0 * OLD)
    with array.lock(np.s_[0:4]) as held, ThreadPoolExecutor(4) as pool:

        def fill(first: int) -> None:
            for value in range(1, 20):
                for at in range(first, 16, 4):
                    held[at] = value + at

        list(pool.map(fill, range(4)))
        assert held[...].tolist() == list(range(19, 35))


def test_what_is_likely_to_be_large_is_looked_at_before_it_is_locked(root: Path) -> None:
    array = made(root, LAYOUTS[1])
    assert try_update(array, most=31) == (module.LARGE, ["stat"])
    done, calls = try_update(array, most=32)  # as many bytes as its elements have
    assert done == module.LARGE
    assert calls[:3] == ["open", "fstat", "lock"]
    assert names(root / "a/c") == ["0"]
    assert array[...].tolist() == OLD.tolist()


def test_nothing_is_begun_where_an_object_must_be_there(root: Path) -> None:
    array = made(root, LAYOUTS[1], 0 * OLD)
    assert try_update(array, must_replace=True)[0] is None
    assert names(root / "a/c") == []
    array[0] = 3
    assert try_update(array, must_replace=True)[0] is not None


def test_what_may_be_on_disk_is_begun_anew_as_the_general_way_does(root: Path, done: list[Any]) -> None:
    array = made(root, LAYOUTS[1])
    if array.store.files.order(os.stat(root).st_dev) == "memory":
        return
    array.sync()
    array.erase_chunk((0,))  # which may not be on disk: the data of what comes next must be there before its name
    array[5:7] = -1
    array[5:7] = -2
    assert [type(each) for each in done] == [type(None), tuple]


def test_what_is_not_usual_is_left_to_the_general_way(root: Path) -> None:
    array = made(root, LAYOUTS[0])
    folder, version = root / "a/c", FilesystemStore(root).version("a/zarr.json")
    wrong = (str(root / "a/zarr.json"), None, (1, 2, 3, 4))
    right = (str(root / "a/zarr.json"), str(root / "a/zarr.json.__lock"), version)
    assert try_update(array, condition=wrong)[0] is None
    assert try_update(array, device=1)[0] is None
    (folder / "0.__lock").unlink()  # without its lock it is not removed
    assert try_update(array, most=31)[0] == module.LARGE
    (folder / "0.__lock").write_bytes(b"")
    assert try_update(array)[0] == module.BUSY
    (folder / "0.__lock").unlink()
    (folder / "0.__new.__lock").write_bytes(b"left")
    assert try_update(array)[0] is None
    (folder / "0.__new.__lock").unlink()
    os.rename(folder / "0", folder / "other")
    os.symlink("other", folder / "0")
    assert try_update(array)[0] is None
    os.unlink(folder / "0")
    os.rename(folder / "other", folder / "0")
    assert array[...].tolist() == OLD.tolist()
    (root / "a/zarr.json.__lock").write_bytes(b"")
    assert try_update(array, condition=right)[0] is None
    (root / "a/zarr.json.__lock").unlink()
    assert try_update(array, condition=right, most=32)[0] is not None
    assert array[...].tolist() == NEW.tolist()


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the calls gave: a version, or why not."""
    real, found = kernels.update_file, list[Any]()
    assert real is not None
    monkeypatch.setattr(kernels, "update_file", lambda *args: found.append(result := real(*args)) or result)
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_is_done_under_the_lock_that_another_had(root: Path, layout: Any, done: list[Any]) -> None:
    array = made(root, layout)
    (root / "a/c/0.__lock").write_bytes(b"")  # of a writer that was killed
    (root / "a/c/0.__new.__lock").write_bytes(b"left")
    array[5:7] = -1
    assert [type(each) for each in done] == [int, tuple]
    assert array[...].tolist() == NEW.tolist()
    assert names(root / "a/c") == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_who_waits_for_the_lock_of_another_process(root: Path, done: list[Any]) -> None:
    array = made(root, LAYOUTS[1]).with_config(lock_timeout=0.05)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with FilesystemStore(root).lock(["a/c/0"]):
            os.write(write, b"1")
            time.sleep(0.5)
        os._exit(0)
    os.read(read, 1)
    with pytest.raises(LockTimeout) as error:
        array[5:7] = -1
    assert error.value.key == "c/0"
    assert error.value.chunk == (0,)
    array.with_config(lock_timeout=30)[5:7] = -1
    assert [type(each) for each in done] == [int, int, tuple]
    assert os.waitstatus_to_exitcode(ended(child)) == 0
    assert array[...].tolist() == NEW.tolist()


def test_the_directory_of_a_removed_array_is_not_made_again(root: Path) -> None:
    array = made(root, LAYOUTS[1])
    array[5] = 1
    shutil.rmtree(root / "a")
    with pytest.raises(NodeNotFoundError):
        array[5:7] = -1
    assert not (root / "a").exists()


def test_a_removed_array_is_not_made_again(root: Path) -> None:
    array = made(root, LAYOUTS[1])
    (root / "a/c/0.__lock").write_bytes(b"")
    (root / "a/zarr.json").unlink()
    with pytest.raises(NodeNotFoundError):
        array[5:7] = -1


@pytest.mark.parametrize("most", [module.MAX_HELD_BYTES, 0])
def test_what_is_written_is_noted_for_the_next_sync(root: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(module, "MAX_HELD_BYTES", most)
    array = made(root, LAYOUTS[1])
    array.sync() if (on_disk := FilesystemStore(root).files.order(root.stat().st_dev) != "memory") else None
    array[5:7] = -1
    written = array.store.unsynced_paths.state.written.get(os.path.realpath(root / "a/c"), {})
    assert list(written) == ["0"]
    assert not on_disk or array.sync() is None
    assert array[...].tolist() == NEW.tolist()


@pytest.mark.parametrize("options", [{"durability": "fsync"}, {"locking": "lockfile"}, {"direct_io": True}, {"file_reuse": True}])
def test_stores_that_write_otherwise_do_not(root: Path, monkeypatch: pytest.MonkeyPatch, options: Any) -> None:
    made(root, LAYOUTS[1])
    monkeypatch.setattr(kernels, "update_file", None)
    store = FilesystemStore(root / "a", **options)
    array = zarrant.open_array(store)
    array[5:7] = -1
    assert not store.updates_boxes
    assert store.update_box("c/0", None, None) is False  # type: ignore[arg-type]
    assert array[...].tolist() == NEW.tolist()
