from __future__ import annotations

import errno
import inspect
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zarrant.errors import (
    ByteRangeError,
    CapabilityError,
    LockTimeout,
    NodeNotFoundError,
    OptionError,
    StoreError,
    StoreFullError,
    StorePermissionError,
)
from zarrant.storage import ByteRange, Calls, capabilities
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls, StoreSuite, content, together


def litter(root: Path) -> list[str]:
    """Files that are no objects."""
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if ".__" in path.name)


def descriptors() -> set[str]:
    """What this process has open below temporary directories."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{name} {os.readlink(f'/proc/self/fd/{name}')}")
        except OSError:
            continue
    return found


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert {name for name in descriptors() - before if "pytest" in name} == set()


class TestFilesystem(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FilesystemStore]:
        yield FilesystemStore(tmp_path / "a" / "b")
        assert litter(tmp_path) == []


class TestWithoutLocks(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[FilesystemStore]:
        yield FilesystemStore(tmp_path, locking="none")
        assert litter(tmp_path) == []


@pytest.fixture
def store(tmp_path: Path) -> FilesystemStore:
    return FilesystemStore(tmp_path)


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_can_do(store: FilesystemStore) -> None:
    assert capabilities(store).sync_calls == Calls(*[True] * len(Calls._fields))
    assert not capabilities(store).one_process


def test_it_is_a_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = FilesystemStore("x y", locking="os", lock_timeout=1)
    assert store == FilesystemStore(tmp_path / "x y", locking="os", lock_timeout=1.0)
    assert hash(store) == hash(FilesystemStore(tmp_path / "x y"))
    assert store != FilesystemStore("x y")
    assert store != FilesystemStore("x y", locking="os", lock_timeout=1, create=False) if Path("x y").exists() else True
    assert pickle.loads(pickle.dumps(store)) == store
    assert repr(store) == f"FilesystemStore({str(tmp_path / 'x y')!r}, locking='os')"
    assert store.url == f"file://{tmp_path}/x%20y"
    assert "os locks (<key>.__lock)" in store.guard
    assert "only threads of this process" in FilesystemStore("x", locking="none").guard


def test_opening_and_reading_make_nothing(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "a" / "b")
    assert (store.get("x/y"), list(store.list_prefix("")), store.list_dir("c/")) == (None, [], ([], []))
    store.erase("x/y")
    store.erase_prefix("x/")
    store.erase_prefix("")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"locking": "file"}, "locking"),
        ({"durability": "maybe"}, "durability"),
        ({"durability": True}, "durability"),
        ({"locking": None}, "locking"),
        ({"lock_timeout": -1}, "lock_timeout"),
        ({"lock_timeout": float("nan")}, "lock_timeout"),
        ({"lock_timeout": True}, "lock_timeout"),
        ({"lock_timeout": "1"}, "lock_timeout"),
    ],
)
def test_bad_options(tmp_path: Path, options: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        FilesystemStore(tmp_path, **options)
    assert caught.value.field == field


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"precious")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreError) as caught:
            FilesystemStore(path)
        assert type(caught.value) is StoreError
        assert path.as_uri() in str(caught.value)
        assert "directory" in str(caught.value)
    assert (tmp_path / "file").read_bytes() == b"precious"


def test_a_root_that_becomes_a_file(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path / "root")
    (tmp_path / "root").write_bytes(b"precious")
    assert store.get("a") is None
    for call in (lambda: store.put("a", [b"1"]), lambda: store.put_if("a/b", [b"1"], None)):
        with pytest.raises(StoreError, match="Not a directory") as caught:
            call()
        assert type(caught.value) is StoreError
        assert caught.value.key in ("a", "a/b")
    assert (tmp_path / "root").read_bytes() == b"precious"


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NodeNotFoundError, match="no such directory"):
        FilesystemStore(tmp_path / "none", create=False)
    (tmp_path / "some").mkdir()
    store = FilesystemStore(tmp_path / "some", create=False)
    store.put("a/b", [b"1"])
    store.erase_prefix("")
    (tmp_path / "some").rmdir()
    with pytest.raises(StoreError, match="gone"):
        store.put("a/b", [b"1"])


def test_a_root_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    store = FilesystemStore(tmp_path / "link")
    store.put("a/b", [b"1"])
    assert (tmp_path / "real" / "a" / "b").read_bytes() == b"1"
    assert list(store.list_prefix("")) == ["a/b"]
    store.erase_prefix("")
    assert os.listdir(tmp_path / "real") == []


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("key", ["a.__lock", "a.__new.__lock", "a.__new", "a.__new0f", "a.__lock/b", ".__lock", "c/.__new/b"])
def test_reserved_names(store: FilesystemStore, key: str) -> None:
    for call in (
        lambda: store.get(key),
        lambda: store.put(key, [b""]),
        lambda: store.erase(key),
        lambda: store.list_dir(key + "/"),
    ):
        with pytest.raises(OptionError, match="reserved"):
            call()
    with pytest.raises(OptionError, match="reserved"), store.lock(["a", key]):
        pass


def test_names_that_only_look_reserved(store: FilesystemStore) -> None:
    keys = ["a.__lock.x", "a.__newer", "a__lock", "a.__lock\n"]
    for key in keys:
        store.put(key, [b"1"])
    assert list(store.list_prefix("")) == sorted(keys)


def test_listing_hides_what_is_no_object(tmp_path: Path, store: FilesystemStore) -> None:
    store.put("d/a", [b"1"])
    for name in ("a.__lock", "b.__new.__lock", "c.__new0123456789abcdef.__lock"):
        (tmp_path / "d" / name).write_bytes(b"left")
    os.mkfifo(tmp_path / "d" / "fifo")
    (tmp_path / "d" / "link").symlink_to("a")
    (tmp_path / "linked").symlink_to("d")
    (tmp_path / "x.__lock").mkdir()
    (tmp_path / os.fsdecode(b"\xff")).write_bytes(b"")
    assert list(store.list_prefix("")) == ["d/a", "d/link", "linked/a", "linked/link"]
    assert store.list_dir("") == ([], ["d/", "linked/"])
    assert store.list_dir("d/") == (["d/a", "d/link"], [])


def test_deep_trees(store: FilesystemStore) -> None:
    """Deeper than Python calls functions, whose limit is lowered here: the system takes long to find what lies 1,000 deep."""
    key, usual = "/".join("d" * 400), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 200)
    try:
        store.put(key, [b"1"])
        assert list(store.list_prefix("")) == [key]
        store.erase_prefix("d/")
        assert list(store.list_prefix("")) == []
    finally:
        sys.setrecursionlimit(usual)


def test_a_name_that_is_too_long(store: FilesystemStore) -> None:
    for call in (lambda: store.get("x" * 300), lambda: store.put("x" * 300, [b""])):
        with pytest.raises(StoreError, match="name too long"):
            call()


def test_erase_prefix_takes_leftovers_and_directories(tmp_path: Path, store: FilesystemStore) -> None:
    store.put("g/a", [b"1"])
    store.put("g/d/e", [b"1"])
    store.put("h", [b"1"])
    for name in ("a.__lock", "b.__lock", "b.__new.__lock", "c.__new.__lock", "d/e.__new0123456789abcdef.__lock"):
        (tmp_path / "g" / name).write_bytes(b"left")
    (tmp_path / "g" / "empty").mkdir()
    store.erase_prefix("g/")
    assert os.listdir(tmp_path) == ["h"]


def test_erase_prefix_takes_what_is_made_while_it_scans(tmp_path: Path) -> None:
    """By a writer who had its lock before: the scan came too early for the object, and too late for the lock."""

    class Meanwhile(Syscalls):
        scanned = False

        def scan(self, path: str) -> list[tuple[str, str]]:
            found = super().scan(path)
            if not self.scanned:
                self.scanned = True
                writer.put("d/b", [b"1"])
            return found

    writer = FilesystemStore(tmp_path)
    (tmp_path / "d").mkdir()
    FilesystemStore(tmp_path, syscalls=Meanwhile()).erase_prefix("d/")
    assert os.listdir(tmp_path) == []


def test_erase_prefix_keeps_to_the_store(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_bytes(b"1")
    store = FilesystemStore(tmp_path / "root")
    store.put("g/a", [b"1"])
    (tmp_path / "root" / "g" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(StoreError, match="symbolic link") as caught:
        store.erase_prefix("g/link/d/")
    assert caught.value.key == "g/link"
    store.erase_prefix("g/")
    assert os.listdir(tmp_path / "root") == []
    assert os.listdir(tmp_path / "outside") == ["precious"]


def test_a_directory_removed_meanwhile_is_made_again(tmp_path: Path) -> None:
    def fault(index: int, name: str) -> None:
        if name == "open" and syscalls.calls.count("open") == 2 and (tmp_path / "r" / "a").exists():
            (tmp_path / "r" / "a").rmdir()

    syscalls = FaultySyscalls(fault)
    FilesystemStore(tmp_path / "r", syscalls=syscalls).put("a/b", [b"1"])
    assert (tmp_path / "r" / "a" / "b").read_bytes() == b"1"
    assert syscalls.calls.count("mkdir") >= 4


def test_putting_while_directories_are_erased(store: FilesystemStore) -> None:
    def put() -> None:
        for i in range(100):
            store.put(f"g/{i % 3}/a", [b"1"])

    def erase() -> None:
        for _ in range(100):
            store.erase_prefix("g/")

    together(put, put, erase)
    store.erase_prefix("g/")
    assert list(store.list_prefix("")) == []


# ── what is no regular file ──────────────────────────────────────────────────────────────────────────────────────────


def make_directory(path: Path) -> None:
    path.mkdir()


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    (path.parent / "target").write_bytes(b"precious")
    path.symlink_to("target")


def make_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS = {
    "a directory": make_directory,
    "a FIFO": make_fifo,
    "a symbolic link": make_link,
    "symbolic": make_dangling_link,
    "a socket": make_socket,
}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "a symbolic link"])
def test_reading_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    KINDS[kind](Path("k"))
    store = FilesystemStore(tmp_path)
    calls: list[Callable[[], object]] = [
        lambda: store.get("k"),
        lambda: store.get_ranges("k", [ByteRange(0, 1)]),
        lambda: store.get_ranges("k", [], ("a", "version")),
        lambda: store.put_if("k", [b"1"], None),
        lambda: store.put_if("k", [b"1"], (1, 2, 3, 4)),
        lambda: store.erase_if("k", None),
        lambda: store.splice("k", [ByteRange(0, 1)], (1, 2, 3, 4)),
    ]
    for call in calls:
        with pytest.raises(StoreError, match=kind) as caught:
            call()
        assert (type(caught.value), caught.value.key, caught.value.store) == (StoreError, "k", store.url)
    assert litter(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_writing_over_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The name is taken over, nothing is written through it; a directory is refused."""
    monkeypatch.chdir(tmp_path)
    KINDS[kind](Path("k"))
    store = FilesystemStore(tmp_path)
    if kind == "a directory":
        for call in (lambda: store.put("k", [b"1"]), lambda: store.erase("k")):
            with pytest.raises(StoreError, match="Is a directory"):
                call()
    else:
        store.put("k", [b"1"])
        assert content(store.get("k")) == b"1"
        store.erase("k")
        KINDS[kind](Path("k"))
        store.erase("k")
        assert not os.path.lexists("k")
    if kind == "a symbolic link":
        assert Path("target").read_bytes() == b"precious"
    assert litter(tmp_path) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_file_that_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    store = FilesystemStore(tmp_path, lock_timeout=5)
    store.put("k", [b"old"])
    KINDS[kind](Path("k.__lock"))

    def lock() -> None:
        with store.lock(["k"]):
            pass

    for call in (lambda: store.put("k", [b"1"]), lambda: store.erase("k"), lock):
        with pytest.raises(StoreError) as caught:
            call()
        assert (type(caught.value), caught.value.key) == (StoreError, "k")
    assert content(store.get("k")) == b"old"
    if kind == "a symbolic link":
        assert Path("target").read_bytes() == b"precious"


@pytest.mark.parametrize("kind", ["a FIFO", "a symbolic link", "symbolic", "a socket"])
def test_a_leftover_temp_file_that_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    store = FilesystemStore(tmp_path)
    KINDS[kind](Path("k.__new.__lock"))
    with store.lock(["k"]) as locked:
        locked.put("k", [b"1"])
    assert content(store.get("k")) == b"1"
    assert litter(tmp_path) == []
    if kind == "a symbolic link":
        assert Path("target").read_bytes() == b"precious"


# ── leftovers of killed writers ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("left", [b"", b"x", b"a longer value than the new one"])
@pytest.mark.parametrize("temp_file", [None, b"temp file of a killed writer"])
def test_stale_files(tmp_path: Path, store: FilesystemStore, left: bytes, temp_file: bytes | None) -> None:
    def leave() -> None:
        (tmp_path / "k.__lock").write_bytes(left)
        if temp_file is not None:
            (tmp_path / "k.__new.__lock").write_bytes(temp_file)

    def locked(key: str, parts: list[bytes]) -> None:
        with store.lock([key]) as inside:
            inside.put(key, parts)

    for put in (store.put, lambda key, parts: store.put_if(key, parts, store.get(key).version), locked):
        leave()
        put("k", [b"new"])
        assert (tmp_path / "k").read_bytes() == b"new"
        assert litter(tmp_path) == []
    leave()
    store.splice("k", [ByteRange(1, 2)], store.get("k").version)
    assert (tmp_path / "k").read_bytes() == b"ew"
    leave()
    store.erase("k")
    assert os.listdir(tmp_path) == []


def test_a_lock_file_with_other_names_is_not_emptied(tmp_path: Path, store: FilesystemStore) -> None:
    """A backup of hard links made while a writer was busy must keep its bytes."""
    (tmp_path / "k.__lock").write_bytes(b"in the backup")
    os.link(tmp_path / "k.__lock", tmp_path / "backup")
    store.put("k", [b"1"])
    assert (tmp_path / "backup").read_bytes() == b"in the backup"
    assert (content(store.get("k")), litter(tmp_path)) == (b"1", [])


# ── failures of the system ───────────────────────────────────────────────────────────────────────────────────────────


class Failing(Syscalls):
    """Fails writes, opens for writing, renames or copies, with an error number."""

    def __init__(self, what: str, number: int) -> None:
        self.what, self.number = what, number

    def _fail(self, what: str) -> None:
        if what == self.what:
            raise OSError(self.number, os.strerror(self.number))

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        if flags & os.O_CREAT:
            self._fail("open")
        return super().open(path, flags, mode)

    def write(self, *args: Any) -> int:
        self._fail("write")
        return super().write(*args)

    def rename(self, source: str, target: str) -> None:
        self._fail("rename")
        super().rename(source, target)


@pytest.mark.parametrize(
    ("what", "number", "kind"),
    [
        ("write", errno.ENOSPC, StoreFullError),
        ("write", errno.EDQUOT, StoreFullError),
        ("write", errno.EIO, StoreError),
        ("open", errno.EACCES, StorePermissionError),
        ("open", errno.EROFS, StorePermissionError),
        ("open", errno.ENOSPC, StoreFullError),
        ("open", errno.EMFILE, StoreError),
        ("rename", errno.EPERM, StorePermissionError),
        ("rename", errno.EIO, StoreError),
    ],
)
def test_a_failed_write_changes_nothing(tmp_path: Path, what: str, number: int, kind: type[StoreError]) -> None:
    version = FilesystemStore(tmp_path).put("c/0", [b"old"])
    store = FilesystemStore(tmp_path, syscalls=Failing(what, number))

    def locked() -> None:
        with store.lock(["c/0"]) as inside:
            inside.put("c/0", [b"new"])

    calls: list[Callable[[], object]] = [
        lambda: store.put("c/0", [b"new"]),
        lambda: store.put_if("c/0", [b"new"], version),
        lambda: store.splice("c/0", [b"new", ByteRange(0, 1)], version),
        locked,
    ]
    for call in calls:
        with pytest.raises(StoreError) as caught:
            call()
        assert type(caught.value) is kind
        assert (caught.value.key, caught.value.store, caught.value.errno) == ("c/0", store.url, number)
        assert isinstance(caught.value.__cause__, OSError)
        assert litter(tmp_path) == []
    assert FilesystemStore(tmp_path).get("c/0").version == version


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory(tmp_path: Path, store: FilesystemStore) -> None:
    store.put("a", [b"1"])
    tmp_path.chmod(0o500)
    try:
        for call in (lambda: store.put("a", [b"2"]), lambda: store.erase("a"), lambda: store.put("b/c", [b"2"])):
            with pytest.raises(StorePermissionError):
                call()
        assert content(store.get("a")) == b"1"
    finally:
        tmp_path.chmod(0o700)


def test_a_file_cut_short_while_it_is_read(tmp_path: Path) -> None:
    def fault(index: int, name: str) -> None:
        if name == "read":
            os.truncate(tmp_path / "a", 3)

    FilesystemStore(tmp_path).put("a", [b"0123456789"])
    with pytest.raises(ByteRangeError, match="shorter") as caught:
        FilesystemStore(tmp_path, syscalls=FaultySyscalls(fault)).get("a")
    assert caught.value.key == "a"


def test_a_file_cut_short_while_it_is_copied(tmp_path: Path) -> None:
    def fault(index: int, name: str) -> None:
        if name == "copy":
            os.truncate(tmp_path / "a", 3)

    version = FilesystemStore(tmp_path).put("a", [b"0123456789"])
    with pytest.raises(ByteRangeError, match="shorter") as caught:
        FilesystemStore(tmp_path, syscalls=FaultySyscalls(fault)).splice("a", [ByteRange(0, 5), b"new"], version)
    assert caught.value.key == "a"
    assert os.listdir(tmp_path) == ["a"]


# ── locks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path: Path, number: int) -> None:
    class NoLocks(Syscalls):
        def lock(self, fd: int) -> bool:
            raise OSError(number, os.strerror(number))

    for locking in ("auto", "os"):
        with pytest.raises(CapabilityError, match="has no locks") as caught:
            FilesystemStore(tmp_path, syscalls=NoLocks(), locking=locking).put("a", [b"1"])
        assert (caught.value.key, caught.value.expected) == ("a", "working file locks")
        assert 'locking="none"' in str(caught.value)
    assert FilesystemStore(tmp_path).get("a") is None
    FilesystemStore(tmp_path, syscalls=NoLocks(), locking="none").put("a", [b"1"])


def test_locks_that_exclude_nobody_are_found(tmp_path: Path) -> None:
    class Granting(Syscalls):
        def lock(self, fd: int) -> bool:
            return True

    store = FilesystemStore(tmp_path, syscalls=Granting())
    with pytest.raises(CapabilityError, match="two writers"):
        store.put("a", [b"1"])
    assert os.listdir(tmp_path) == []


def test_timeouts_name_key_path_and_wait(tmp_path: Path) -> None:
    first, second = FilesystemStore(tmp_path), FilesystemStore(tmp_path, lock_timeout=0.05)
    other = os.open(tmp_path / "c.__lock", os.O_RDWR | os.O_CREAT)
    assert Syscalls().lock(other)
    with first.lock(["a", "b"]):
        for call in (
            lambda: second.put("b", [b"1"]),
            lambda: second.put_if("b", [b"1"], None),
            lambda: second.put("c", [b"1"]),
        ):
            start = time.monotonic()
            with pytest.raises(LockTimeout) as caught:
                together(call)
            assert 0.04 < time.monotonic() - start < 5
            key = caught.value.key
            assert key in ("b", "c")
            assert str(caught.value.path).startswith(f"{tmp_path}/{key}")
            assert "waited" in str(caught.value)
            assert caught.value.retryable
        with pytest.raises(LockTimeout) as caught:
            together(lambda: second.lock(["aa", "b", "z"]).__enter__())
        assert caught.value.key == "b"
    with pytest.raises(LockTimeout) as caught, second.lock(["a", "c", "z"]):
        pass
    assert caught.value.key == "c"
    os.close(other)
    assert litter(tmp_path) == ["c.__lock"]
    with second.lock(["a", "b", "c", "z"]):
        assert litter(tmp_path) == [f"{key}.__lock" for key in ("a", "b", "c", "z")]
    assert litter(tmp_path) == []


def test_two_spellings_of_a_root_exclude_each_other(tmp_path: Path) -> None:
    """Threads of one process do not rely on their queue: lock files of one process exclude each other too."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with FilesystemStore(tmp_path / "real").lock(["a"]), pytest.raises(LockTimeout):
        FilesystemStore(tmp_path / "link", lock_timeout=0).put("a", [b"1"])


def test_a_lock_outlives_its_writes(tmp_path: Path) -> None:
    """Nobody gets in between two writes under one lock."""
    (tmp_path / "link").symlink_to(".")
    other = FilesystemStore(tmp_path / "link", lock_timeout=0)
    with FilesystemStore(tmp_path).lock(["a"]) as locked:
        for step in (
            lambda: locked.put("a", [b"1"]),
            lambda: locked.put("a", [b"2"]),
            lambda: locked.erase("a"),
            lambda: locked.put_if("a", [b"3"], None),
        ):
            step()
            with pytest.raises(LockTimeout):
                other.put("a", [b"stranger"])
    other.put("a", [b"4"])
    assert (content(other.get("a")), litter(tmp_path)) == (b"4", [])


def test_a_hold_that_ended_writes_no_more(store: FilesystemStore) -> None:
    with store.lock(["a"]) as locked:
        locked.put("a", [b"1"])
    for call in (lambda: locked.put("a", [b"2"]), lambda: locked.erase("a")):
        with pytest.raises(StoreError, match=r"not have the lock|not locked"):
            call()
    assert content(store.get("a")) == b"1"


def test_a_lock_file_taken_away_is_noticed(tmp_path: Path, store: FilesystemStore) -> None:
    store.put("a", [b"0"])
    with store.lock(["a"]) as locked:
        (tmp_path / "a.__lock").rename(tmp_path / "elsewhere")
        (tmp_path / "a.__lock").write_bytes(b"of somebody else")
        with pytest.raises(StoreError, match="must not be removed") as caught:
            locked.put("a", [b"1"])
        assert caught.value.key == "a"
    assert content(store.get("a")) == b"0"
    assert (tmp_path / "a.__lock").read_bytes() == b"of somebody else"


@pytest.mark.parametrize("locked", [False, True])
def test_a_lock_file_taken_away_during_a_write(tmp_path: Path, locked: bool) -> None:
    def fault(index: int, name: str) -> None:
        if name == "set_mtime":
            (tmp_path / "a.__lock").unlink()
            (tmp_path / "a.__lock").write_bytes(b"half of what somebody else wr")

    store = FilesystemStore(tmp_path, syscalls=FaultySyscalls(fault))
    with pytest.raises(StoreError, match="must not be removed"):
        if locked:
            with store.lock(["a"]) as inside:
                inside.put("a", [b"1"])
        else:
            store.put("a", [b"1"])
    assert os.listdir(tmp_path) == ["a.__lock"]
    assert (tmp_path / "a.__lock").read_bytes() == b"half of what somebody else wr"


@pytest.mark.parametrize("locked", [False, True])
def test_the_temp_file_of_the_next_owner_is_left_alone(tmp_path: Path, locked: bool) -> None:
    """Where somebody removed our lock file, another writer may be busy under the same names by now."""

    def fault(index: int, name: str) -> None:
        if name == "set_mtime":
            (tmp_path / "a.__lock").unlink()
            (tmp_path / "a.__lock").touch()
            (tmp_path / "a.__new.__lock").unlink()
            (tmp_path / "a.__new.__lock").write_bytes(b"half of what somebody else wr")

    store = FilesystemStore(tmp_path, syscalls=FaultySyscalls(fault))
    with pytest.raises(StoreError, match="must not be removed"):
        if locked:
            with store.lock(["a"]) as inside:
                inside.put("a", [b"1"])
        else:
            store.put("a", [b"1"])
    assert sorted(os.listdir(tmp_path)) == ["a.__lock", "a.__new.__lock"]
    assert (tmp_path / "a.__new.__lock").read_bytes() == b"half of what somebody else wr"


def test_threads_sharing_a_hold(store: FilesystemStore) -> None:
    with store.lock(["a", "b"]) as locked:

        def increment() -> None:
            for _ in range(50):
                with locked.lock(["a"]) as mine:
                    mine.put("a", [b"%d" % (int(content(mine.get("a")) or b"0") + 1)])
                locked.put("b", [b"any"])

        together(*[increment] * 4)
        assert content(locked.get("a")) == b"200"


def test_many_objects_held_at_once(tmp_path: Path, store: FilesystemStore) -> None:
    keys = [f"c/{i}" for i in range(100)]
    with store.lock(keys) as locked:
        for key in keys:
            locked.put(key, [key.encode()])
    assert sorted(os.listdir(tmp_path / "c")) == sorted(key[2:] for key in keys)


def test_writes_read_nothing(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    for _ in range(2):
        store.put("a", [b"1"])
        store.erase("a")
    assert not {"read", "copy", "scan"} & set(syscalls.calls)


def test_the_calls_of_one_put(tmp_path: Path) -> None:
    """Take the lock; look at what is replaced; write, date and publish the temp file; give back. Each costs 1-3 µs."""
    syscalls = FaultySyscalls()
    store = FilesystemStore(tmp_path, syscalls=syscalls, locking="os")
    store.put("a", [b"1"])
    take, look = ["open", "fstat", "lock", "stat"], ["stat"]
    publish = ["open", "write", "set_mtime", "fstat", "close", "stat", "rename"]
    give_back = ["stat", "unlink", "unlock", "close"]
    syscalls.calls.clear()
    store.put("a", [b"2"])
    assert syscalls.calls == take + look + publish + give_back
    syscalls.calls.clear()
    with store.lock(["a"]) as locked:
        locked.put("a", [b"3"])
    assert syscalls.calls == [*take, "stat", *look, *publish, *give_back]


def test_neighbouring_ranges_are_one_read(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    store.put("a", [bytes(range(100))])
    blob = store.get_ranges("a", [ByteRange(i, 10) for i in (0, 10, 20, 50, 60, 5)])
    assert [bytes(view) for view in blob.data] == [bytes(range(i, i + 10)) for i in (0, 10, 20, 50, 60, 5)]
    assert syscalls.calls.count("read") == 3
