from __future__ import annotations

import errno
import gc
import os
from pathlib import Path

import pytest

import zarrant
from open_files import open_below
from zarrant.errors import StoreError, StoreFullError, StorePermissionError
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import TempFile, stamp, typed, version_of


class Clock(Syscalls):
    """A file system whose clock stands still and whose times are coarse."""

    def __init__(self, now: int, grain: int) -> None:
        self.time, self.grain = now, grain

    def now(self) -> int:
        return self.time

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        super().set_mtime(fd, nanoseconds // self.grain * self.grain)


@pytest.mark.parametrize("grain", [1, 100, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000])
@pytest.mark.parametrize("late", [-(10**12), -1, 0, 1, 10**12])
def test_a_temp_file_is_newer_than_what_it_replaces(tmp_path: Path, grain: int, late: int) -> None:
    """Also where the clock stands still, or went back, or the old object is from the future."""
    now = 1_700_000_000_123_456_789
    syscalls = Clock(now, grain)
    old: os.stat_result | None = None
    last = now + late if late else None
    for number in range(4):
        path = tmp_path / f"{number}"
        path.write_bytes(b"same")
        if old is None and last is not None:
            os.utime(path, ns=(last, last))
        else:
            fd = os.open(path, os.O_RDWR)
            version = stamp(syscalls, fd, old)
            os.close(fd)
            assert version == version_of(os.stat(path))
            assert old is None or version[2] > old.st_mtime_ns
        old = os.stat(path)


def test_no_later_time(tmp_path: Path) -> None:
    class Stuck(Syscalls):
        def set_mtime(self, fd: int, nanoseconds: int) -> None:
            super().set_mtime(fd, 10**9)

    path = tmp_path / "a"
    path.write_bytes(b"")
    os.utime(path, ns=(10**9, 10**9))
    with path.open("r+b") as file, pytest.raises(OSError, match="no other time"):
        stamp(Stuck(), file.fileno(), os.stat(path))


def test_the_clock_dates_what_replaces_nothing(tmp_path: Path) -> None:
    """An object erased and written again must not get a version it had: the kernel's mtime is too coarse for that."""
    fd = os.open(tmp_path / "a", os.O_RDWR | os.O_CREAT)
    assert stamp(Clock(123_456_789_012_345_678, 1), fd, None)[2] == 123_456_789_012_345_678
    os.close(fd)


def test_temp_file_takes_over_a_leftover(tmp_path: Path) -> None:
    target, precious = tmp_path / "target", tmp_path / "precious"
    precious.write_bytes(b"precious")
    (tmp_path / "temp").symlink_to("precious")
    temp_file = TempFile(Syscalls(), str(tmp_path / "temp"), None)
    os.write(temp_file.fd, b"1")
    temp_file.publish(str(target), version_of(os.fstat(temp_file.fd)))
    temp_file.release()
    assert (target.read_bytes(), target.is_symlink(), precious.read_bytes()) == (b"1", False, b"precious")
    temp_file = TempFile(Syscalls(), str(tmp_path / "temp"), None)
    temp_file.release()
    assert sorted(os.listdir(tmp_path)) == ["precious", "target"]


def test_a_temp_file_that_was_lost_sight_of_is_removed(tmp_path: Path) -> None:
    """An interrupt may come between the file and its owner."""
    TempFile(Syscalls(), str(tmp_path / "temp"), None)
    gc.collect()
    assert (os.listdir(tmp_path), open_below(tmp_path)) == ([], set())


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.EACCES, StorePermissionError),
        (errno.EPERM, StorePermissionError),
        (errno.EROFS, StorePermissionError),
        (errno.ENOSPC, StoreFullError),
        (errno.EDQUOT, StoreFullError),
        (errno.EIO, StoreError),
        (errno.EMFILE, StoreError),
    ],
)
def test_errors_are_typed(number: int, kind: type[StoreError]) -> None:
    error = typed(OSError(number, os.strerror(number)), "write", "file:///there", "c/0")
    assert type(error) is kind
    assert (error.store, error.key, error.errno) == ("file:///there", "c/0", number)
    assert os.strerror(number) in str(error)
    assert (error.hint is not None) == (number == errno.EMFILE)


@pytest.mark.parametrize("name", ["c/0", "zarr.json"])
@pytest.mark.parametrize("when", [2**63 - 1, 15032385535 * 10**9, 16299676800 * 10**9, -(2**31) * 10**9])
def test_an_object_with_the_last_time_of_the_file_system_can_be_replaced(tmp_path: Path, name: str, when: int) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(8,), chunks=(4,), shards=(8,), dtype="i4")
    a[...] = 1
    store = a.store
    for act in (lambda: a.__setitem__(0, 5), lambda: a.__setitem__(..., 6), lambda: a.attrs.update(x=1)):
        os.utime(tmp_path / "a" / name, ns=(when, when))
        before = store.get(name)
        act()
        if (tmp_path / "a" / name).stat().st_mtime_ns != before.version[2]:
            assert store.get(name).version != before.version
    assert a[...].tolist() == [6] * 8
