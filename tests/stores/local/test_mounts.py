"""File systems whose locks do not reach everybody, and whose renames show gaps."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError
from zarrant.locking.created_locks import CreatedLock
from zarrant.locking.file_locks import FileLock
from zarrant.stores.local import mounts
from zarrant.stores.local.mounts import Mount, Trait, find_mount, mount_of, other_paths, trait_of
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls, content
from zarrant.tools import doctor

LOCAL, REMOTE, SHARING = Trait(False, True), Trait(True, False), Trait(True, True)

TABLE = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/one rw - fuse.bindfs /srv/data rw,allow_other
31 22 0:41 / /mnt/two rw - fuse.bindfs /srv/data rw,allow_other
32 22 0:42 /part /mnt/part rw - fuse.bindfs /srv/data rw
33 22 0:43 / /mnt/with\040blank rw - nfs4 server:/x rw,vers=4.2,local_lock=none
34 30 8:2 / /mnt/one/inner rw - xfs /dev/sdb1 rw
35 22 8:3 / /mnt/over rw - ext4 /dev/sdc1 rw
36 35 0:44 / /mnt/over rw - 9p hub rw
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Mount]:
    (tmp_path / "table").write_text(TABLE.lstrip())
    monkeypatch.setattr(mounts, "TABLE", str(tmp_path / "table"))
    return mounts.read_table()


@pytest.mark.parametrize(
    ("path", "kind"),
    {
        "/": "ext4",
        "/mnt": "ext4",
        "/mnt/one": "fuse.bindfs",
        "/mnt/one/a/b": "fuse.bindfs",
        "/mnt/ones": "ext4",
        "/mnt/one/inner/x": "xfs",
        "/mnt/with blank/x": "nfs4",
        "/mnt/over/x": "9p",
    }.items(),
)
def test_the_mount_of_a_path(table: list[Mount], path: str, kind: str) -> None:
    assert mount_of(path, table).type == kind


def test_other_names_of_a_file(table: list[Mount]) -> None:
    one = mount_of("/mnt/one/a", table)
    assert list(other_paths("/mnt/one/a/k", one, table)) == ["/mnt/two/a/k"]
    assert list(other_paths("/mnt/with blank/k", mount_of("/mnt/with blank/k", table), table)) == []


def test_no_table_is_no_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "TABLE", "/nowhere")
    assert mounts.read_table() == []
    assert mount_of("/", []) == Mount()
    assert trait_of(Mount()) == LOCAL


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        *[(kind, "rw", LOCAL) for kind in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "vfat", "fusectl")],
        *[(kind, "rw", REMOTE) for kind in ("fuse", "fuseblk", "fuse.sshfs", "fuse.bindfs", "fuse.s3fs", "virtiofs", "9p")],
        *[(kind, "rw", REMOTE) for kind in ("cifs", "smb3", "beegfs", "glusterfs", "ocfs2")],
        ("nfs", "rw,vers=3,local_lock=none", REMOTE),
        ("nfs", "rw,vers=4.1,local_lock=none", SHARING),
        ("nfs4", "rw,vers=4.2,local_lock=none", SHARING),
        ("nfs4", "rw", SHARING),
        ("nfs4", "rw,vers=4.2,local_lock=all", REMOTE),
        ("nfs4", "rw,vers=4.2,local_lock=posix", REMOTE),
        ("nfs4", "rw,nolock", REMOTE),
        ("lustre", "rw,flock", SHARING),
        ("lustre", "rw,localflock", REMOTE),
        ("lustre", "rw", REMOTE),
        ("gpfs", "rw", SHARING),
        ("ceph", "rw", SHARING),
    ],
)
def test_what_types_promise(kind: str, options: str, expected: Trait) -> None:
    assert trait_of(Mount(kind, options=options)) == expected


# ── file calls that say it lies on such a file system ──────────────────────────────────────────────────────────────────


class Mounted(FaultySyscalls):
    """File calls whose every path is on a mount of this type."""

    def __init__(self, kind: str, fault: Callable[[int, str], None] = lambda index, name: None, options: str = "rw") -> None:
        super().__init__(fault)
        self.kind_of_mount, self.options = kind, options

    def mounts(self) -> list[Mount]:
        return [Mount(self.kind_of_mount, "source", "/", self.options, "1", "/")]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    mounts._found.clear()
    yield
    mounts._found.clear()


@pytest.mark.parametrize(
    ("kind", "lock"), [("ext4", FileLock), ("nfs4", FileLock), ("fuse.sshfs", CreatedLock), ("cifs", CreatedLock), ("", FileLock)]
)
def test_auto_chooses_by_type(tmp_path: Path, kind: str, lock: type[FileLock]) -> None:
    store = FilesystemStore(tmp_path, syscalls=Mounted(kind))
    assert "to be probed by the first write" in store.guard
    assert (kind or "unknown file system") in store.guard
    deadline = time.monotonic() + 5
    taken = store._lock_path(f"{tmp_path}/k", deadline)
    assert type(taken) is lock
    taken.release()
    store.put("k", [b"1"])
    assert content(store.get("k")) == b"1"
    assert "is refused" in store.guard
    assert store.file_system["locking"] == ("lockfile" if lock is CreatedLock else "os")
    assert store.file_system["renames_may_show_gaps"] == (kind not in ("ext4", ""))
    assert [path.name for path in tmp_path.iterdir()] == ["k"]


@pytest.mark.parametrize("locking", ["os", "lockfile", "none"])
def test_what_is_asked_for_is_used_whatever_the_type(tmp_path: Path, locking: str) -> None:
    store = FilesystemStore(tmp_path, locking=locking, syscalls=Mounted("fuse.sshfs"))
    store.put("k", [b"1"])
    assert store.file_system["locking"] == locking
    assert store.file_system["probed"] == []


def test_a_mount_that_creates_one_file_twice_is_refused(tmp_path: Path) -> None:
    class Twice(Mounted):
        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            return super().open(path, flags & ~os.O_EXCL, mode)

    store = FilesystemStore(tmp_path, syscalls=Twice("fuse"))
    with pytest.raises(CapabilityError, match="one lock file for two writers") as caught:
        store.put("k", [b"1"])
    assert 'locking="none"' in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_mount_of_the_same_source_is_asked(tmp_path: Path) -> None:
    """Its name for the lock file leads elsewhere: to a file that can be locked, or made, a second time."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()

    class Two(Mounted):
        def mounts(self) -> list[Mount]:
            return [Mount(self.kind_of_mount, "source", str(tmp_path / name), self.options, name, "/") for name in ("one", "two")]

        def stat(self, path: str) -> os.stat_result:
            return super().stat(path.replace("/two/", "/one/"))

    syscalls = Two("fuse.x")
    store = FilesystemStore(tmp_path / "one", syscalls=syscalls)
    with pytest.raises(CapabilityError):
        store.put("k", [b"1"])
    mounts._found.clear()
    with pytest.raises(CapabilityError):
        FilesystemStore(tmp_path / "one", syscalls=Two("nfs4")).put("k", [b"1"])
    assert list((tmp_path / "one").iterdir()) == []


def test_probes_are_made_once_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = Syscalls.lock
    with FilesystemStore(tmp_path).lock(["k"]) as locked:  # the first of this process, perhaps
        locked.put("k", [b"1"])
    monkeypatch.setattr(Syscalls, "lock", lambda self, fd: calls.append(fd) or real(self, fd))
    for _ in range(3):
        store = FilesystemStore(tmp_path)
        store.put("k", [b"1"])
        assert "a second lock is refused" in store.guard
    assert len(calls) == 3


def test_gaps_of_renames_are_told(tmp_path: Path) -> None:
    class Gaps(Mounted):
        def rename(self, source: str, target: str) -> None:
            if os.path.exists(target):
                os.unlink(target)
                time.sleep(0.001)
            super().rename(source, target)

    store = FilesystemStore(tmp_path, syscalls=Gaps("fuse"))
    store.put("k", [b"1"])
    assert "readers see gaps in renames" in store.guard
    assert [path.name for path in tmp_path.iterdir()] == ["k"]
    other = FilesystemStore(tmp_path, syscalls=Mounted("fuse"))
    other.put("k", [b"1"])
    assert "gaps" not in other.guard


class Vanishing(Mounted):
    """Objects are there, but the first looks at them after `hide` do not find them."""

    hidden = 0

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        if self.hidden and path.endswith("/k"):
            self.hidden -= 1
            raise FileNotFoundError(2, "hidden", path)
        return super().open(path, flags, mode)


@pytest.mark.parametrize("read", ["get", "get_ranges"])
@pytest.mark.parametrize("looks", [1, 2, 3, 8])
def test_what_is_not_found_is_looked_for_again(tmp_path: Path, read: str, looks: int) -> None:
    FilesystemStore(tmp_path).put("k", [b"1"])
    syscalls = Vanishing("fuse.sshfs")
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    syscalls.hidden = looks
    found = store.get("k") if read == "get" else store.get_ranges("k", [zarrant.storage.ByteRange(0, 1)])
    assert content(found) == b"1"
    assert store.get("absent") is None


def test_an_old_list_is_not_believed_for_ever(tmp_path: Path) -> None:
    """As on network mounts: the list of a directory has an object that was erased."""
    FilesystemStore(tmp_path).put("k", [b"1"])
    syscalls = Vanishing("nfs4")
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    syscalls.hidden = 1 << 30
    start = time.monotonic()
    assert store.get("k") is None
    assert time.monotonic() - start < 10


def test_local_file_systems_are_believed_at_once(tmp_path: Path) -> None:
    syscalls = Vanishing("ext4")
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    store.get("k")
    syscalls.calls.clear()
    assert store.get("k") is None
    assert syscalls.calls == ["open"]


def test_a_writer_in_the_middle_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.stores.local.objects.BUSY_S", 30.0)  # on a busy machine the timer below comes late
    syscalls = Mounted("fuse")
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    (tmp_path / "k.__lock").touch()
    (tmp_path / "new").write_bytes(b"1")
    timer = threading.Timer(0.02, os.replace, (tmp_path / "new", tmp_path / "k"))
    timer.start()
    assert content(store.get("k")) == b"1"
    timer.join()
    start = time.monotonic()
    assert store.get("l") is None  # nobody writes it
    assert time.monotonic() - start < 10


def test_a_writer_that_was_killed_is_not_waited_for_long(tmp_path: Path) -> None:
    (tmp_path / "k.__lock").touch()
    start = time.monotonic()
    assert FilesystemStore(tmp_path, syscalls=Mounted("fuse")).get("k") is None
    assert time.monotonic() - start < 10


def test_erasing_what_seems_absent_takes_the_lock(tmp_path: Path) -> None:
    class Hidden(Mounted):
        hidden = True

        def stat(self, path: str) -> os.stat_result:
            if self.hidden and path.endswith("/k"):
                self.hidden = False
                raise FileNotFoundError(2, "hidden", path)
            return super().stat(path)

    (tmp_path / "k").write_bytes(b"1")
    FilesystemStore(tmp_path, syscalls=Hidden("fuse")).erase("k")
    assert not (tmp_path / "k").exists()


def test_arrays_and_the_doctor_tell(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(4,), dtype="i4")
    a[...] = 1
    assert "a second lock is refused" in a.guard
    found = doctor.examine(str(tmp_path / "a"))["path"]
    assert {"type", "source", "locking", "locks_reach_other_mounts", "renames_may_show_gaps", "probed"} <= set(found)
    assert found["locking"] == "os"


# ── real ones ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def two_mounts(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    if shutil.which("bindfs") is None or not os.access("/dev/fuse", os.W_OK) or os.getuid() != 0:
        pytest.skip("needs bindfs, /dev/fuse and root")
    made = []
    (tmp_path / "data").mkdir()
    try:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            done = subprocess.run(["bindfs", tmp_path / "data", tmp_path / name], capture_output=True, check=False)
            if done.returncode:
                pytest.skip(f"bindfs: {done.stderr.decode()}")
            made.append(tmp_path / name)
        yield tmp_path / "one", tmp_path / "two"
    finally:
        for path in made:
            subprocess.run(["umount", "-l", path], check=False)


def add(path: Path, times: int) -> None:
    a = zarrant.open_array(path, mode="r+", config={"lock_timeout": 60})
    for _ in range(times):
        a.update(np.s_[0:64], lambda x: (time.sleep(0.002), x + 1)[1])


def test_two_mounts_of_one_directory_lose_nothing(two_mounts: tuple[Path, Path]) -> None:
    one, two = two_mounts
    a = zarrant.create_array(one / "a", shape=(64,), chunks=(16,), shards=(64,), dtype="i8", fill_value=0)
    a[...] = 1
    assert "lock files" in a.guard
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=add, args=(mount / "a", 40)) for mount in (one, two) * 2]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
    assert [child.exitcode for child in children] == [0] * 4
    assert set(zarrant.open_array(two / "a", mode="r")[...].tolist()) == {161}


def test_a_reader_never_sees_the_gap_of_a_rename(two_mounts: tuple[Path, Path]) -> None:
    path = two_mounts[0] / "a"
    zarrant.create_array(path, shape=(64,), chunks=(64,), dtype="i4", fill_value=0)[...] = 1
    seen: list[Any] = []
    ended = threading.Event()

    def read() -> None:
        a = zarrant.open_array(path, mode="r")
        while not ended.is_set():
            seen.append(int(a[...].min()))

    def write() -> None:
        a = zarrant.open_array(path, mode="r+")
        for k in range(2, 200):
            a[...] = k

    reader = threading.Thread(target=read)
    reader.start()
    write()
    ended.set()
    reader.join()
    assert len(seen) > 20
    assert 0 not in seen


def test_the_table_is_read_once_for_many_roots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    table = [Mount("ext4", point="/", device="8:1"), Mount("fuse.sshfs", point=str(tmp_path / "far"), device="0:77")]

    class Counted(Syscalls):
        def mounts(self) -> list[Mount]:
            read.append(1)
            return list(table)

    real, devices = os.stat, {str(tmp_path / "far"): os.makedev(0, 77), str(tmp_path): os.makedev(8, 1)}

    def stat(path: Any, **options: Any) -> Any:
        state = real(path, **options)
        return SimpleNamespace(st_dev=devices[str(path)]) if str(path) in devices else state

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(mounts, "TABLE_S", 60.0)
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    found = [find_mount(Counted(), str(tmp_path / name)).type for name in ("a", "b", "c")]
    assert (found, len(read)) == (["ext4"] * 3, 1)
    # What lies on another mount is told by its device; where a link that leads nowhere would lead takes the whole way.
    assert find_mount(Counted(), str(tmp_path / "far")).type == "fuse.sshfs"
    assert (find_mount(Counted(), str(tmp_path / "link")).type, len(read)) == ("fuse.sshfs", 2)
    # A mount that was made since has a device that the table does not have.
    devices[str(tmp_path / "new")] = os.makedev(0, 99)
    (tmp_path / "new").mkdir()
    table.append(Mount("fuse", point=str(tmp_path / "new"), device="0:99"))
    assert find_mount(Counted(), str(tmp_path / "new")).type == "fuse"
