"""Small updates that read an object before they lock it, and replace it if it is still the one that they read.

Whatever others do between the read and the lock, nothing is lost; and what is stored is what the way with a lock stores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.ops import update
from zarrant.ops.guard import SwapFirst
from zarrant.storage import Blob
from zarrant.stores.local import temp_files
from zarrant.stores.local.store import FilesystemStore
from zarrant.testkit.faulty_files import FaultySyscalls

LAYOUTS: list[dict[str, Any]] = [{"chunks": (8,)}, {"chunks": (2,), "shards": (8,)}]


class Meddling(FilesystemStore):
    """Something happens once, right after the next read of a chunk."""

    updates_boxes = False
    """What it does is not seen by a call that reads and writes."""
    meddle: Callable[[], object] | None = None

    def _once(self, key: str, blob: Blob | None) -> Blob | None:
        act = self.meddle
        if act is not None and key.startswith("c/"):
            self.__dict__["meddle"] = None
            act()
        return blob

    def get_within(self, key: str, limit: int) -> Blob | None:
        return self._once(key, super().get_within(key, limit))

    def get_ranges(self, key: str, *args: Any) -> Blob | None:
        return self._once(key, super().get_ranges(key, *args))


def make(root: Path, **layout: Any) -> tuple[Any, Meddling]:
    zarrant.create_array(root, data=np.arange(16, dtype="uint8") + 1, compressors=None, **layout)
    store = Meddling(root)
    if not store.files.kind(root.stat().st_dev):
        pytest.skip("not a file system of this machine alone")
    return zarrant.open_array(store), store


def settled(path: Path) -> None:
    """As if it had been written a while ago."""
    os.utime(path, ns=(1, os.stat(path).st_mtime_ns - 10**10))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_object_is_read_before_the_lock_where_its_version_is_for_good(tmp_path: Path, layout: Any) -> None:
    array, _ = make(tmp_path, **layout)
    files = FaultySyscalls()
    array = zarrant.open_array(FilesystemStore(tmp_path, syscalls=files))
    array[3] = 1
    settled(tmp_path / "c/0")
    for value in (7, 8):  # the second time it is one that this process has made
        files.calls.clear()
        array[3] = value
        calls = list(files.calls)
        assert calls.index("read") < calls.index("lock")
        assert calls.count("lock") == calls.count("rename") == 1
    assert array[:8].tolist() == [1, 2, 3, 8, 5, 6, 7, 8]
    (tmp_path / "c/0").write_bytes((tmp_path / "c/0").read_bytes())  # by another program, just now
    files.calls.clear()
    array[3] = 9
    assert files.calls.count("lock") == files.calls.count("rename") == 1
    assert "read" in files.calls[files.calls.index("lock") :]
    assert array[:8].tolist() == [1, 2, 3, 9, 5, 6, 7, 8]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", ["another element", "erased", "appended", "attributes"])
def test_what_others_do_between_the_read_and_the_lock_stays(tmp_path: Path, layout: Any, what: str) -> None:
    array, store = make(tmp_path, **layout)
    settled(tmp_path / "c/0")
    other = zarrant.open_array(tmp_path)

    def act() -> None:
        if what == "another element":
            other.store_chunk((0,), np.array([1, 2, 3, 4, 5, 100, 7, 8], "uint8"))
        elif what == "erased":
            other.erase_chunk((0,))
        elif what == "appended":
            other.append(np.array([200], "uint8"))
        else:
            other.attrs["a"] = 1

    store.meddle = act
    array[3] = 50
    assert store.meddle is None
    expected = np.arange(16, dtype="uint8") + 1
    if what == "another element":
        expected[5] = 100
    elif what == "erased":
        expected[:8] = 0
    expected[3] = 50
    found = zarrant.open_array(tmp_path)
    assert found[:16].tolist() == expected.tolist()
    assert found.shape == ((17,) if what == "appended" else (16,))


def test_a_version_that_another_object_may_have_is_not_believed(tmp_path: Path) -> None:
    """Another program writes in place, twice within one step of the clock."""
    array, store = make(tmp_path, chunks=(8,))
    path = tmp_path / "c/0"

    def in_place() -> None:
        time = os.stat(path).st_mtime_ns
        with path.open("r+b") as file:
            file.seek(5)
            file.write(b"\x64")
        os.utime(path, ns=(time, time))

    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, os.stat(path).st_mtime_ns // 10**7 * 10**7))  # a step of the clock
    store.meddle = in_place
    array[3] = 50
    assert store.meddle is None
    assert array[:8].tolist() == [1, 2, 3, 50, 5, 100, 7, 8]


def test_where_others_write_too_the_next_updates_lock_at_once(tmp_path: Path) -> None:
    array, _ = make(tmp_path, chunks=(8,))
    files = FaultySyscalls()
    array = zarrant.open_array(FilesystemStore(tmp_path, syscalls=files))
    read_first = []
    for number in range(3 + SwapFirst.PAUSE):
        if number == 1:
            (tmp_path / "c/0").write_bytes((tmp_path / "c/0").read_bytes())  # by another program, just now
        files.calls.clear()
        array[3] = number
        read_first.append(files.calls.index("read") < files.calls.index("lock"))
    assert read_first == [True, True, *[False] * SwapFirst.PAUSE, True]


def test_only_a_time_in_nanoseconds_tells_our_files_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temp_files, "FINE_NS", 100)
    monkeypatch.setattr(temp_files, "MAX_MADE", 4096)
    fine, coarse = (1, 2, 10**18 + 7, 4), (1, 2, 10**18 + 4_000_000, 4)
    for version in (fine, coarse):
        temp_files.remember_made(version)
    assert fine in temp_files._made
    assert coarse not in temp_files._made
    for number in range(temp_files.MAX_MADE):
        temp_files.remember_made((1, number, 10**18 + 7, 4))
    assert len(temp_files._made) <= temp_files.MAX_MADE


STEPS = st.lists(st.tuples(st.integers(0, 15), st.integers(1, 9), st.integers(0, 255), st.booleans()), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, layout=st.sampled_from([*LAYOUTS, {"chunks": (5,)}]))
def test_it_is_equal_to_the_way_with_a_lock(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, steps: list[Any], layout: Any
) -> None:
    """Byte for byte, whatever the age of what is there."""
    found = []
    for limit in (update.SWAP_FIRST_BYTES, -1):
        root = tmp_path_factory.mktemp("array") / "a"
        monkeypatch.setattr(update, "SWAP_FIRST_BYTES", limit)
        array = zarrant.create_array(root, shape=(16,), dtype="uint8", compressors=None, **layout)
        for start, length, value, old in steps:
            for path in root.glob("c/*") if old else ():
                settled(path)
            array[start : min(16, start + length)] = value
        found.append({path.name: path.read_bytes() for path in sorted(root.glob("c/*"))})
    assert found[0] == found[1]
