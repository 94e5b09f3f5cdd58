from __future__ import annotations

import errno
import os
import pickle
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from zarrant.stores.local import syscalls
from zarrant.stores.local.syscalls import IOV_MAX, Syscalls

VALUE = random.Random(0).randbytes(100_000)


class ShortSyscalls(Syscalls):
    """Reads, writes and copies fewer bytes than asked for, as the system may."""

    def read(self, fd: int, view: memoryview, offset: int) -> int:
        return super().read(fd, view[: max(1, len(view) // 3)], offset)

    def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        assert len(views) <= IOV_MAX
        half = views[: max(1, len(views) // 2)]
        return super().write(fd, [*half[:-1], half[-1][: max(1, len(half[-1]) - 3)]], offset)

    def copy(self, source: int, target: int, length: int, source_offset: int, target_offset: int) -> int:
        return super().copy(source, target, max(1, length // 3), source_offset, target_offset)


class NoCopySyscalls(Syscalls):
    """Its file system cannot copy ranges: says so, or (as procfs does) copies nothing; the first time or halfway."""

    def __init__(self, number: int, after: int) -> None:
        self.number, self.after, self.count = number, after, 0

    def copy(self, source: int, target: int, length: int, source_offset: int, target_offset: int) -> int:
        self.count += 1
        if self.count <= self.after:
            return super().copy(source, target, min(length, 100), source_offset, target_offset)
        if self.number == 0:
            return 0
        raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "other").write_bytes(VALUE)
    descriptor = os.open(tmp_path / "other", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


@pytest.mark.parametrize("calls", [Syscalls(), ShortSyscalls()])
def test_write_and_read(calls: Syscalls, fd: int) -> None:
    dice = random.Random(1)
    parts: list[bytes | memoryview] = [dice.randbytes(dice.choice([0, 1, 2, 7, 40])) for _ in range(3 * IOV_MAX + 5)]
    expected = b"".join(parts)
    assert calls.write_full(fd, parts, 0) == len(expected)
    assert calls.write_full(fd, [], 10) == 0
    assert calls.write_full(fd, [memoryview(b"12345678").cast("I"), b"", b"9"], len(expected)) == 9
    buffer = memoryview(bytearray(len(expected) + 20))
    assert calls.read_full(fd, buffer, 0) == len(expected) + 9
    assert buffer[: len(expected) + 9] == expected + b"123456789"
    assert calls.read_full(fd, buffer[:5], len(expected) - 5) == 5
    assert buffer[:5] == expected[-5:]


def test_a_file_that_takes_nothing(fd: int) -> None:
    class Full(Syscalls):
        def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
            return 0

    with pytest.raises(OSError, match="no bytes"):
        Full().write_full(fd, [b"1"], 0)


@pytest.mark.parametrize(
    "calls",
    [
        Syscalls(),
        ShortSyscalls(),
        *(
            NoCopySyscalls(number, after)
            for number in (0, errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
            for after in (0, 2)
        ),
    ],
)
@pytest.mark.parametrize(("length", "start"), [(0, 5), (1, 0), (70_000, 1234), (len(VALUE), 0), (500, len(VALUE) - 100)])
def test_copy(calls: Syscalls, fd: int, other: int, length: int, start: int) -> None:
    if isinstance(calls, NoCopySyscalls):
        calls.count = 0
    os.pwrite(fd, b"head", 0)
    expected = VALUE[start : start + length]
    assert calls.copy_full(other, fd, length, start, 4) == len(expected)
    assert os.pread(fd, len(VALUE) + 10, 0) == b"head" + expected


def test_copy_that_fails(fd: int, other: int) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        NoCopySyscalls(errno.EIO, 1).copy_full(other, fd, 1000, 0, 0)


def test_locks_are_of_the_description(tmp_path: Path) -> None:
    calls = Syscalls()
    first, second, third = (calls.open(str(tmp_path / "lock"), os.O_RDWR | os.O_CREAT) for _ in range(3))
    assert calls.lock(first)
    assert calls.lock(first)
    assert not calls.lock(second)
    calls.close(third)  # would drop a POSIX lock
    assert not calls.lock(second)
    calls.unlock(first)
    assert calls.lock(second)
    calls.close(second)
    assert calls.lock(first)
    calls.close(first)


def test_a_lock_of_a_bad_descriptor_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        Syscalls().lock(10**6)


def test_descriptors_are_not_inherited(tmp_path: Path) -> None:
    calls = Syscalls()
    descriptor = calls.open(str(tmp_path / "a"), os.O_RDWR | os.O_CREAT)
    assert not os.get_inheritable(descriptor)
    calls.close(descriptor)


def test_scan_tells_kinds(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    os.mkfifo(tmp_path / "fifo")
    assert sorted(Syscalls().scan(str(tmp_path))) == [
        ("dir", "dir"),
        ("fifo", "other"),
        ("file", "file"),
        ("link", "link"),
    ]


def test_layers_are_values() -> None:
    assert pickle.loads(pickle.dumps(Syscalls())) == Syscalls()
    assert Syscalls() != ShortSyscalls()
    assert len({Syscalls(), Syscalls()}) == 1


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no tmpfs")
def test_what_file_systems_say_of_syncs(fd: int) -> None:
    calls = Syscalls()
    os.write(fd, VALUE)
    calls.write_out(fd)
    memory, told = os.open("/dev/shm", os.O_RDONLY), os.open("/proc/self", os.O_RDONLY)
    try:
        assert calls.order(os.fstat(memory).st_dev) == "memory"
        assert calls.order(os.fstat(told).st_dev) == ""
        assert calls.order(0) == ""
        calls.sync_all(memory)
        with pytest.raises(OSError, match="not implemented") as caught:
            calls.sync_all(told)
        assert caught.value.errno == errno.ENOSYS
        with pytest.raises(OSError, match="seek") as caught:
            calls.write_out(os.pipe()[0])
        assert caught.value.errno == errno.ESPIPE
    finally:
        os.close(memory)
        os.close(told)


def test_options_that_undo_the_order_of_ext4(monkeypatch: pytest.MonkeyPatch) -> None:
    for options, order in (("rw", "replaced"), ("rw,noauto_da_alloc", ""), ("rw,data=writeback", "")):
        monkeypatch.setattr(syscalls, "_type_of", lambda device, options=options: ("ext4", options))
        syscalls._mounts.clear()
        assert Syscalls().order(12345) == order
    syscalls._mounts.clear()


def test_without_the_calls_of_linux_files_are_synced_one_by_one(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscalls, "_libc", lambda: None)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    Syscalls().write_out(fd)
    assert synced == [fd]
    with pytest.raises(OSError, match="not implemented"):
        Syscalls().sync_all(fd)


def test_the_directories_above(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    calls = Syscalls()
    found = calls.above(str(tmp_path / "link"))
    assert [path for path, _ in found] == [str(tmp_path / "d"), *map(str, (tmp_path / "d").parents)]
    assert found[0][1] == ((tmp_path / "d").stat().st_dev, (tmp_path / "d").stat().st_ino)
    assert calls.above(str(tmp_path / "none")) == []
    assert calls.real(str(tmp_path / "link")) == str(tmp_path / "d")
    assert (calls.is_link(str(tmp_path / "link")), calls.is_link(str(tmp_path / "d"))) == (True, False)
