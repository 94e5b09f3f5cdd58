"""A small update as one compiled call: wherever it fails or is killed, the object is whole, and nothing is left behind."""

from __future__ import annotations

import os
import time
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
from zarrant.errors import LockTimeout, NodeNotFoundError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.region import box_region
from zarrant.stores.local import put_at_once as module
from zarrant.stores.local.store import FilesystemStore

pytestmark = pytest.mark.skipif(kernels.update_file is None, reason="without the compiled call there is one way only")

OLD = np.arange(1, 17, dtype="int16")
NEW = np.array([*range(1, 6), -1, -1, *range(8, 17)], "int16")
LAYOUTS = [{"chunks": (16,), "compressors": None}, {"chunks": (4,), "shards": (16,)}, {"chunks": (2,), "shards": (16,)}]


def made(root: Path, layout: Any) -> zarrant.Array[Any]:
    return zarrant.create_array(root / "a", data=OLD, overwrite=True, **layout)


def try_update(array: Any, fail: int = -1, kill: int = -1, **other: Any) -> tuple[Any, list[str]]:
    """What the compiled call gives, and the calls that it makes."""
    bound, trial = array._handle.array, [fail, kill]
    selections = box_region(ArraySubset((5,), (2,))).split(bound.grid, array.shape)
    update = box_update(bound.prepared_for((16,)), selections, 0, np.full(2, -1, "int16"))
    assert update is not None and kernels.update_file is not None
    path = Path(array.store.root) / "c/0"
    args = {"condition": None, "device": os.stat(path).st_dev, "share": 0, "held": 0, "most": -1, "release": False, **other}
    return kernels.update_file(str(path), *update[:3], *args.values(), trial), trial[2:]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_call_that_fails_leaves_everything_as_it_was(root: Path, layout: Any) -> None:
    array = made(root, layout)
    calls = try_update(array)[1]
    assert array[...].tolist() == NEW.tolist()
    assert calls.index("lock") < calls.index("read") < calls.index("rename") < calls.index("unlink")
    for number in range(len(calls)):
        array = made(root, layout)
        before = (root / "a/c/0").read_bytes()
        done, _ = try_update(array, fail=number)
        assert (done is not None) == (number > calls.index("rename"))
        assert ((root / "a/c/0").read_bytes() == before) == (done is None)
        assert not [name for name in names(root / "a/c") if "__new" in name]
        array[5:7] = -1
        assert array[...].tolist() == NEW.tolist()
        assert names(root / "a/c") == ["0"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_is_killed_before_any_call_harms_nobody(root: Path, layout: Any) -> None:
    calls = try_update(made(root, layout))[1]
    for number in range(len(calls)):
        array = made(root, layout)
        child = os.fork()
        if not child:
            try_update(array, kill=number)
            os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 9
        assert array[...].tolist() == (NEW if number > calls.index("rename") else OLD).tolist()
        array[5:7] = -1
        assert array[...].tolist() == NEW.tolist()
        assert names(root / "a/c") == ["0"]


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
    assert store.update_box("c/0", None, None) is None  # type: ignore[arg-type]
    assert array[...].tolist() == NEW.tolist()
