"""File reuse: every update is exact, whatever happens to the previous file; who has a file open sees no change; none stays."""

from __future__ import annotations

import errno
import mmap
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrant
from children import ended
from open_files import open_below
from zarrant.errors import ByteRangeError, CapabilityError, OptionError, StoreError
from zarrant.storage import ByteRange, Part
from zarrant.stores.local import file_reuse
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls, content
from zarrant.tools.check import check
from zarrant.tools.doctor import examine
from zarrant.tools.repair import repair

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
KEY = "d/k"
OLD = random.Random(1).randbytes(40_000)
FORCED = {"memory": -1.0, "disk": -1.0}
LAZY = 0.2
"""Seconds previous files are kept unused here, where they are to go by themselves."""


def reusing(root: Path, **options: Any) -> FilesystemStore:
    return FilesystemStore(root, file_reuse=True, **options)


def works(root: Path) -> bool:
    """Whether previous files can be had below a directory."""
    path = root / "probe"
    path.write_bytes(b"x")
    files = Syscalls()
    fd = os.open(path, os.O_RDWR)
    try:
        files.set_xattr(fd, b"note")
        return files.take_write_lease(fd) and files.kind(os.fstat(fd).st_dev) != ""
    except OSError:
        return False
    finally:
        os.close(fd)
        path.unlink()


@pytest.fixture(autouse=True)
def forced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every update leaves its previous file."""
    kept = file_reuse._Kept()  # a thread that sleeps for an earlier test knows nothing of it
    monkeypatch.setattr(file_reuse, "_kept", kept)
    monkeypatch.setattr(file_reuse, "left_behind", kept.add)
    monkeypatch.setattr(file_reuse, "remove_all", kept.remove)
    monkeypatch.setattr(file_reuse, "MIN_COPY_S", FORCED)
    monkeypatch.setattr(file_reuse, "MIN_BYTES", 0)
    monkeypatch.setattr(file_reuse, "UNUSED_S", 60.0)  # where the clock matters, the test sets it
    yield
    file_reuse.remove_all()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else tmp_path))
    if not works(place):
        shutil.rmtree(place)
        pytest.skip("the file system has no leases or no extended attributes")
    yield place
    shutil.rmtree(place)


class Adoptions(Syscalls):
    """Counts the previous files that became temp files."""

    def __init__(self) -> None:
        self.count = 0

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self.count += source.endswith(file_reuse.PREVIOUS)


def value(seed: int, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


def span(start: int, stop: int) -> ByteRange:
    return ByteRange(start, stop - start)


def splice(store: Any, parts: list[Part], key: str = KEY) -> None:
    store.splice(key, parts, store.get(key).version)


def update(store: Any, at: int, data: bytes, key: str = KEY) -> None:
    """Replace some bytes of an object, keep the rest."""
    blob = store.get(key)
    store.splice(key, [span(0, at), data, span(at + len(data), blob.size)], blob.version)


def prepared(root: Path, syscalls: Syscalls | None = None, **options: Any) -> FilesystemStore:
    """A store with an object that has a previous file."""
    store = reusing(root, syscalls=syscalls, **options)
    store.put(KEY, [OLD])
    update(store, 100, b"first")
    return store


def changed(old: bytes, at: int, data: bytes) -> bytes:
    return old[:at] + data + old[at + len(data) :]


ONCE = changed(OLD, 100, b"first")


def previous(root: Path, key: str = KEY) -> Path:
    return root / (key + file_reuse.PREVIOUS)


def leftovers(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*.__lock"))


def eventually(true: Callable[[], bool], seconds: float = 8.0) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


# Any sequence of writes and interference.

MOST_BYTES = 3000
part_specs = st.one_of(
    st.tuples(st.just("bytes"), st.integers(0, 400), st.integers(0, 99)),
    st.tuples(st.just("keep"), st.integers(0, MOST_BYTES), st.just(0)),
    st.tuples(st.just("move"), st.integers(0, MOST_BYTES), st.integers(0, 800)),
)
writes = st.one_of(
    st.tuples(st.just("edit"), st.integers(0, 99), st.integers(0, 2000)),
    st.tuples(st.just("edit"), st.integers(0, 99), st.integers(0, 2000)),
    st.tuples(st.just("splice"), st.integers(0, 1), st.lists(part_specs, max_size=6)),
    st.tuples(st.just("splice"), st.integers(0, 1), st.lists(part_specs, max_size=6)),
)
WRECKERS = (
    *(
        "put",
        "erase",
        "replace",
        "scribble",
        "scribble on the previous file",
        "shorten the previous file",
        "copy",
        "copy the previous file",
    ),
    *(
        "copy the previous file over the object",
        "link",
        "link the previous file",
        "write to the links",
        "remove the previous file",
        "drop the links",
        "swap",
    ),
)
wreckers = st.tuples(st.sampled_from(WRECKERS), st.integers(0, 99), st.integers(1, 900))


class Model:
    """An object, what it should be, and everybody who has to do with it."""

    def __init__(self, root: Path) -> None:
        self.root, self.path, self.previous = root, root / KEY, previous(root)
        self.syscalls = Adoptions()
        self.stores = [reusing(root, syscalls=self.syscalls), reusing(root, syscalls=self.syscalls)]
        self.expected = value(0, 1500)
        self.stores[0].put(KEY, [self.expected])
        self.links = 0

    def apply(self, kind: str, number: int, more: Any) -> None:
        if kind == "splice":
            self.splice(self.stores[number], more)
        elif kind == "edit":
            at = min(more, max(len(self.expected) - 20, 0))
            data = value(number, min(20, len(self.expected) - at))
            update(self.stores[number % 2], at, data)
            self.expected = changed(self.expected, at, data)
        else:
            self.wreck(kind, number, more)

    def splice(self, store: FilesystemStore, specs: list[tuple[str, int, int]]) -> None:
        parts: list[Part] = []
        new, old = b"", self.expected
        for kind, number, more in specs:
            if kind == "bytes":
                parts.append(value(more, number))
                new += value(more, number)
                continue
            start = min(len(new), len(old)) if kind == "keep" else min(number, len(old))
            stop = max(start, min(number if kind == "keep" else number + more, len(old)))
            parts.append(span(start, stop))
            new += old[start:stop]
        splice(store, parts)
        self.expected = new

    def wreck(self, kind: str, number: int, length: int) -> None:
        """What others do, who hold the lock of the object, or do not care about it."""
        data, other = value(number, length), self.root / "other"
        if kind in ("put", "erase"):
            if kind == "erase":
                self.stores[number % 2].erase(KEY)
                assert not self.previous.exists()
            self.stores[number % 2].put(KEY, [data])
            self.expected = data
        elif kind == "replace":
            other.write_bytes(data)
            os.rename(other, self.path)
            self.expected = data
        elif kind == "scribble":
            self.expected = scribble(self.path, data)
        elif kind == "copy":
            shutil.copy2(self.path, other)  # with its note and its mtime
            os.rename(other, self.path)
        elif kind in ("link", "write to the links", "drop the links"):
            self.with_links(kind, data)
        elif self.previous.exists():
            self.wreck_previous(kind, data, other)

    def wreck_previous(self, kind: str, data: bytes, other: Path) -> None:
        if kind == "scribble on the previous file":
            scribble(self.previous, data)
        elif kind == "shorten the previous file":
            os.truncate(self.previous, self.previous.stat().st_size // 2)
        elif kind == "copy the previous file":
            shutil.copy2(self.previous, other)
            os.rename(other, self.previous)
        elif kind == "copy the previous file over the object":
            self.expected = self.previous.read_bytes()
            shutil.copy2(self.previous, other)
            os.rename(other, self.path)
        elif kind == "link the previous file":
            os.link(self.previous, self.root / f"link{self.links}")
            self.links += 1
        elif kind == "swap":
            self.expected = self.previous.read_bytes()
            os.rename(self.path, other)
            os.rename(self.previous, self.path)
            os.rename(other, self.previous)
        else:
            self.previous.unlink()

    def with_links(self, kind: str, data: bytes) -> None:
        if kind == "link":
            os.link(self.path, self.root / f"link{self.links}")
            self.links += 1
            return
        for link in self.root.glob("link*"):
            if kind == "drop the links":
                link.unlink()
            elif link.samefile(self.path):
                self.expected = scribble(link, data)
            else:
                scribble(link, data)


def scribble(path: Path, data: bytes) -> bytes:
    """Write into a file, in place; its bytes."""
    with open(path, "r+b") as file:
        file.seek(min(7, path.stat().st_size))
        file.write(data)
    return path.read_bytes()


def test_any_sequence_gives_the_expected_bytes(root: Path) -> None:
    adopted, edits = [0], [0]

    @settings(max_examples=150 * max(1, SOAK), deadline=None, database=None)
    @given(st.lists(st.one_of(writes, writes, writes, wreckers), min_size=2, max_size=25))
    def run(steps: list[tuple[str, int, Any]]) -> None:
        file_reuse.remove_all()
        place = Path(tempfile.mkdtemp(dir=root))
        model = Model(place)
        for step in steps:
            model.apply(*step)
            assert model.path.read_bytes() == model.expected, step
            assert content(model.stores[0].get(KEY)) == model.expected
            edits[0] += step[0] in ("splice", "edit")
        adopted[0] += model.syscalls.count
        model.stores[0].erase(KEY)
        assert leftovers(place) == []
        shutil.rmtree(place)

    run()
    assert adopted[0] > edits[0] / 4, (adopted, edits)


def test_updates_of_one_object_take_turns_with_two_files(root: Path) -> None:
    syscalls = Adoptions()
    store = prepared(root, syscalls)
    inodes, expected = [(root / KEY).stat().st_ino], ONCE
    for turn in range(20):
        update(store, turn * 37, b"%05d" % turn)
        expected = changed(expected, turn * 37, b"%05d" % turn)
        assert (root / KEY).read_bytes() == expected
        inodes.append((root / KEY).stat().st_ino)
    assert syscalls.count == 20
    assert len(set(inodes)) == 2
    assert inodes[::2] == [inodes[0]] * 11


def test_a_range_outside_of_the_object_is_refused_as_ever(root: Path) -> None:
    store = prepared(root)
    for turn in range(2):  # with a previous file, and without
        with pytest.raises(ByteRangeError):
            splice(store, [b"new", ByteRange(0, len(OLD) + 1)])
        assert (root / KEY).read_bytes() == ONCE
        if not turn:
            assert leftovers(root) in ([], [previous(root).name])


def test_a_hold_reuses_files(root: Path) -> None:
    syscalls = Adoptions()
    store = prepared(root, syscalls)
    with store.lock([KEY]) as locked:
        for turn in range(3):
            update(locked, turn, b"held")
    assert syscalls.count == 3
    assert (root / KEY).read_bytes() == changed(changed(changed(ONCE, 0, b"held"), 1, b"held"), 2, b"held")


# Readers of the old version.


class Reader:
    """Somebody who has the old version."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDONLY)

    def read(self) -> bytes:
        return os.pread(self.fd, 1 << 20, 0)

    def close(self) -> None:
        os.close(self.fd)


class Mapped(Reader):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.map = mmap.mmap(self.fd, 0, prot=mmap.PROT_READ)
        os.close(self.fd)

    def read(self) -> bytes:
        return self.map[:]

    def close(self) -> None:
        self.map.close()


class Duplicate(Reader):
    def __init__(self, path: Path) -> None:
        super().__init__(path)
        first, self.fd = self.fd, os.dup(self.fd)
        os.close(first)


class Writer(Reader):
    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR)


READ = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
print("open", flush=True)
for line in sys.stdin:
    print(os.pread(fd, 1 << 20, 0).hex(), flush=True)
"""


class Another(Reader):
    """In another process."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-S", "-c", READ, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "open\n"

    def read(self) -> bytes:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("read\n")
        self.process.stdin.flush()
        return bytes.fromhex(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


@pytest.mark.parametrize("kind", [Reader, Mapped, Duplicate, Writer, Another])
@pytest.mark.parametrize("reused", [False, True], ids=["published", "previous"])
def test_readers_of_the_old_version_keep_it(root: Path, kind: type[Reader], reused: bool) -> None:
    """Opened while it was published, or later, as the previous file that it became."""
    syscalls = Adoptions()
    store = prepared(root, syscalls)
    old = OLD if reused else ONCE
    reader = kind(previous(root) if reused else root / KEY)
    assert reader.read() == old
    expected = ONCE
    for turn in range(3):
        update(store, 50 * turn, b"another")
        expected = changed(expected, 50 * turn, b"another")
        assert reader.read() == old
        assert (root / KEY).read_bytes() == expected
    before = syscalls.count
    reader.close()
    update(store, 0, b"last")
    update(store, 0, b"last")
    assert syscalls.count >= before + 1
    assert (root / KEY).read_bytes() == changed(expected, 0, b"last")


# The system refuses.


class Refusing(Adoptions):
    """One of the calls that only previous files need fails, always."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__()
        self.refused = 0

        def refuse(*args: Any) -> Any:
            if name == "rename" and not args[0].endswith(file_reuse.PREVIOUS):
                return Syscalls.rename(self, *args)
            self.refused += 1
            raise OSError(number, os.strerror(number))

        setattr(self, name, refuse)


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("name", ["link", "get_xattr", "set_xattr", "take_write_lease", "rename"])
def test_what_only_reuse_need_costs_only_speed(root: Path, name: str, number: int) -> None:
    prepared(root)
    syscalls, before = Refusing(name, number), open_below(root)
    store, expected = reusing(root, syscalls=syscalls), ONCE
    for turn in range(4):
        update(store, turn, b"refused")
        expected = changed(expected, turn, b"refused")
        assert (root / KEY).read_bytes() == expected
        assert (root / KEY).stat().st_nlink == 1
    assert syscalls.refused >= 1
    assert open_below(root) == before
    file_reuse.remove_all()
    assert leftovers(root) == []


def first(store: Any) -> None:
    file_reuse.remove_all()
    update(store, 300, b"new")


def second(store: Any) -> None:
    update(store, 300, b"new")


def grow(store: Any) -> None:
    splice(store, [span(0, 300), b"new", span(303, len(OLD)), b"more", span(0, 10)])


NEW = changed(ONCE, 300, b"new")
OPERATIONS = {first: NEW, second: NEW, grow: NEW + b"more" + NEW[:10], lambda store: store.erase(KEY): None}


class Tmp(FaultySyscalls):
    """On a disk, for all that the library knows."""

    def kind(self, device: int) -> str:
        return "disk"

    def sync(self, fd: int) -> None:
        self.calls.append("sync")
        self.fault(len(self.calls) - 1, "sync")


def calls_of(root: Path, operation: Callable[[Any], None], **options: Any) -> list[str]:
    prepared(root / "counted")
    syscalls = Tmp()
    store = reusing(root / "counted", syscalls=syscalls, **options)
    operation(store)
    return list(syscalls.calls)


def chosen(count: int) -> list[int]:
    """All calls; half of them in the quick run."""
    return list(range(count)) if SOAK else sorted(random.Random(count).sample(range(count), count // 2))


def check_whole_then_exact(root: Path, allowed: set[bytes | None]) -> None:
    """The object is one of those allowed; the next update is exact, and what was left goes with it, or with its previous file."""
    store = reusing(root, lock_timeout=5)
    found = content(store.get(KEY))
    assert found in allowed
    if found is None:
        store.put(KEY, [ONCE])
        found = ONCE
    for turn in range(2):
        update(store, turn, b"again")
        found = changed(found, turn, b"again")
        assert (root / KEY).read_bytes() == found
        assert (root / KEY).stat().st_nlink == 1
    file_reuse.remove_all()
    assert leftovers(root) == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=["makes one", "uses one", "grows one", "erases"])
@pytest.mark.parametrize("durability", ["rename", "fsync"])
def test_a_file_call_fails(root: Path, operation: Callable[[Any], None], durability: str) -> None:
    calls = calls_of(root, operation, durability=durability)
    before = open_below(root)
    for step in chosen(len(calls)):
        for for_ever in (False, True):
            number = (errno.EPERM, errno.EOPNOTSUPP, errno.EIO, errno.ENOSPC)[(step + for_ever) % 4]
            place = root / f"{step}{for_ever}"
            prepared(place)

            def fault(index: int, name: str, step: int = step, for_ever: bool = for_ever, number: int = number) -> None:
                if index == step or (for_ever and index > step):
                    raise OSError(number, os.strerror(number))

            allowed = {ONCE, OPERATIONS[operation]}
            try:
                operation(reusing(place, syscalls=Tmp(fault), lock_timeout=5, durability=durability))
            except StoreError as error:
                assert os.strerror(number) in str(error)
            except CapabilityError:  # no locks, or no sync of directories
                assert number == errno.EOPNOTSUPP
            else:
                allowed = {OPERATIONS[operation]}
            check_whole_then_exact(place, allowed)
    assert open_below(root) == before


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("operation", OPERATIONS, ids=["makes one", "uses one", "grows one", "erases"])
def test_the_process_is_killed(root: Path, operation: Callable[[Any], None], killed_at: Callable[..., bool]) -> None:
    for step in chosen(len(calls_of(root, operation))):
        place = root / str(step)
        prepared(place)
        assert killed_at(place, step, operation, Tmp, file_reuse=True)
        check_whole_then_exact(place, {ONCE, OPERATIONS[operation]})


def test_a_rename_that_fails_leaves_no_second_name_for_good(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Syscalls):
        def rename(self, source: str, target: str) -> None:
            if target.endswith(KEY):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            super().rename(source, target)

    store = reusing(root)
    store.put(KEY, [OLD])
    with pytest.raises(StoreError):
        update(reusing(root, syscalls=Failing()), 0, b"never")
    monkeypatch.setattr(file_reuse, "MIN_COPY_S", {"memory": 60.0, "disk": 60.0})  # the next leaves none
    update(store, 0, b"quick")
    assert leftovers(root) == []
    assert (root / KEY).stat().st_nlink == 1


# On a disk: in which order.


class Order(Adoptions):
    """Lists what has to do with a loss of power."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def kind(self, device: int) -> str:
        return "disk"

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        self.events.append("adopt" if source.endswith(file_reuse.PREVIOUS) else "publish")

    def copy(self, *args: int) -> int:
        self.events.append("change")
        return super().copy(*args)

    def write(self, *args: Any) -> int:
        self.events.append("change")
        return super().write(*args)

    def truncate(self, fd: int, size: int) -> None:
        self.events.append("change")
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        self.events.append("sync directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "sync file")


@pytest.mark.parametrize("left_by", ["rename", "fsync"])
@pytest.mark.parametrize("used_by", ["rename", "fsync"])
def test_a_previous_file_is_changed_only_when_no_directory_on_disk_leads_to_it(root: Path, left_by: str, used_by: str) -> None:
    """Neither as the object, nor as the previous file: its bytes may be on disk before its mtime is, and the record would hold."""
    syscalls = Order()
    prepared(root, syscalls, durability=left_by)
    syscalls.events.clear()
    update(reusing(root, syscalls=syscalls, durability=used_by), 7, b"second")
    events = [event for index, event in enumerate(syscalls.events) if index == 0 or event != syscalls.events[index - 1]]
    events = events[events[0] == "sync directory" :]  # a store tries at first whether it can
    assert events[:5] == ["adopt", "sync directory", "change", "sync file", "publish"]
    assert syscalls.count == 1


def test_the_old_directory_cannot_be_synced(root: Path) -> None:
    class Unsynced(Order):
        def sync(self, fd: int) -> None:
            super().sync(fd)
            if self.events[-1] == "sync directory":
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    syscalls = Unsynced()
    store = prepared(root, syscalls)
    update(store, 7, b"second")
    assert (root / KEY).read_bytes() == changed(ONCE, 7, b"second")
    assert "sync directory" in syscalls.events


# Tidying.


def test_a_previous_file_goes_by_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_reuse, "UNUSED_S", LAZY)
    store = prepared(root)
    assert previous(root).read_bytes() == OLD
    assert eventually(lambda: not previous(root).exists())
    assert eventually(lambda: file_reuse._kept.thread is None)
    update(store, 5, b"later")
    assert previous(root).read_bytes() == ONCE
    assert eventually(lambda: not previous(root).exists())
    assert leftovers(root) == []


def test_a_previous_file_in_use_stays(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = prepared(root)
    monkeypatch.setattr(file_reuse, "LOCK_TIMEOUT_S", 0.01)
    with reusing(root).lock([KEY]):
        file_reuse.remove_all()
        assert previous(root).exists()
    file_reuse.remove_all()
    assert leftovers(root) == []
    # One that another process left since is not ours to remove.
    update(store, 5, b"ours")
    entry = dict(file_reuse._kept.left)
    file_reuse._kept.left.clear()
    update(store, 6, b"theirs")
    file_reuse._kept.left.clear()
    file_reuse._kept.left.update(entry)
    file_reuse.remove_all()
    assert previous(root).exists()
    assert file_reuse._kept.left == {}
    store.erase(KEY)


SCRIPT = f"""
import atexit, multiprocessing, os, signal, sys
from zarrant.storage import ByteRange
from zarrant.stores.local import file_reuse
from zarrant.stores.local.store import FilesystemStore

file_reuse.MIN_COPY_S, file_reuse.MIN_BYTES = {FORCED!r}, 0
file_reuse.UNUSED_S = 60.0
store = FilesystemStore(sys.argv[1], file_reuse=True)

def update(key="{KEY}"):
    blob = store.get(key)
    store.splice(key, [b"from there", ByteRange(10)], blob.version)
    assert os.path.exists(sys.argv[1] + "/" + key + file_reuse.PREVIOUS)

def work(queue):
    update()
    queue.put(sorted(file_reuse._kept.left))

if __name__ == "__main__":
    how = sys.argv[2]
    if how == "worker":
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        worker = context.Process(target=work, args=(queue,))
        worker.start()
        assert len(queue.get()) == 1
        worker.join()
        assert worker.exitcode == 0
        assert not os.path.exists(sys.argv[1] + "/{KEY}" + file_reuse.PREVIOUS)
    elif how == "late":
        atexit.register(update)
    else:
        update()
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
"""


def run_script(root: Path, tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    return subprocess.run([sys.executable, script, root, how], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("how", ["plain", "late", "worker"])
def test_none_stays_when_a_process_ends(root: Path, tmp_path: Path, how: str) -> None:
    reusing(root).put(KEY, [OLD])
    done = run_script(root, tmp_path, how)
    assert (done.returncode, done.stderr) == (0, "")
    assert (root / KEY).read_bytes() == changed(OLD, 0, b"from there")
    assert leftovers(root) == []


def test_the_next_update_uses_what_a_killed_process_left(root: Path, tmp_path: Path) -> None:
    store = reusing(root, syscalls=Adoptions())
    store.put(KEY, [OLD])
    assert run_script(root, tmp_path, "killed").returncode == -signal.SIGKILL
    assert leftovers(root) == [previous(root).name]
    update(store, 100, b"here")
    assert (root / KEY).read_bytes() == changed(changed(OLD, 0, b"from there"), 100, b"here")
    assert isinstance(store.files, Adoptions)
    assert store.files.count == 1


def test_a_leftover_of_no_use_goes_with_the_next_update(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where that was so fast that it leaves none."""
    store = prepared(root)
    file_reuse._kept.left.clear()  # as where we were killed
    (root / "other").write_bytes(OLD)
    os.rename(root / "other", root / KEY)
    assert previous(root).exists()
    monkeypatch.setattr(file_reuse, "MIN_COPY_S", {"memory": 60.0, "disk": 60.0})
    update(store, 0, b"fast")
    assert leftovers(root) == []


@pytest.mark.parametrize("erase", [lambda store: store.erase(KEY), lambda store: store.erase_prefix("d/")], ids=["one", "prefix"])
def test_erasing_takes_the_previous_file(root: Path, erase: Callable[[Any], None]) -> None:
    store = prepared(root)
    assert previous(root).exists()
    erase(store)
    assert [path for path in root.rglob("*") if path.is_file()] == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_leaves_the_previous_files_of_its_parent_alone(root: Path) -> None:
    syscalls = Adoptions()
    store = prepared(root, syscalls)
    child = os.fork()
    if child == 0:
        try:
            assert file_reuse._kept.left == {}
            assert file_reuse._kept.thread is None
            file_reuse.remove_all()
            assert previous(root).exists()
            update(store, 7, b"child")
            assert list(file_reuse._kept.left) == [str(root / KEY)]
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(ended(child)) == 0
    update(store, 200, b"parent")
    assert (root / KEY).read_bytes() == changed(changed(ONCE, 7, b"child"), 200, b"parent")
    assert syscalls.count == 1  # the child's previous file; what the child counted is in its own memory


def test_one_process_keeps_so_many_at_most(root: Path) -> None:
    store = reusing(root)
    for number in range(file_reuse.MAX_FILES + 5):
        store.put(f"d/{number}", [OLD])
        update(store, 0, b"one of many", f"d/{number}")
    assert len(leftovers(root)) == file_reuse.MAX_FILES
    assert len(file_reuse._kept.left) == file_reuse.MAX_FILES
    file_reuse.remove_all()
    assert leftovers(root) == []


def test_many_bursts_register_no_more_than_one(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be done at the end of a worker is noted once, not after each pause."""
    from multiprocessing import util

    monkeypatch.setattr(file_reuse, "UNUSED_S", 0.02)
    store = prepared(root)
    before = len(util._finalizer_registry)  # type: ignore[attr-defined]
    for _ in range(4):
        update(store, 0, b"burst")
        assert eventually(lambda: file_reuse._kept.thread is None)
    assert len(util._finalizer_registry) <= before + 1  # type: ignore[attr-defined]


def test_a_thread_that_cannot_start_fails_no_write(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    file_reuse._kept.remake()
    with monkeypatch.context() as patched:
        patched.setattr(threading, "Thread", Refused)
        store = prepared(root)
    assert (root / KEY).read_bytes() == ONCE
    update(store, 0, b"then it can")
    assert file_reuse._kept.thread is not None
    file_reuse.remove_all()
    assert leftovers(root) == []


def test_tools_take_a_previous_file_for_a_leftover(root: Path) -> None:
    config = {"file_reuse": True}
    a = zarrant.create_array(root / "a", shape=(64, 64), dtype="u4", chunks=(8, 8), shards=(64, 64), config=config)
    a[...] = expected = np.arange(4096, dtype="u4").reshape(64, 64)
    a[3, 3] = expected[3, 3] = 5
    file_reuse._kept.left.clear()  # as where we were killed
    (left,) = [path for path in root.rglob("*") if path.name.endswith(file_reuse.PREVIOUS)]
    report = check(root / "a", deep=True)
    assert [finding.kind for finding in report.findings] == ["temp file"]
    assert sorted(a.store.list_prefix("")) == ["c/0/0", "zarr.json"]
    after = repair(root / "a", apply=True).after
    assert after is not None
    assert after.findings == ()
    assert not left.exists()
    a[4, 4] = expected[4, 4] = 6
    assert np.array_equal(a[...], expected)


# Off, as it is by default.


@pytest.mark.parametrize("change", ["update", "put", "erase"])
def test_a_process_without_it_leaves_nothing_that_misleads(root: Path, change: str) -> None:
    """What a killed process left is neither used nor looked at; the next writer with file reuse is exact, and removes it."""
    prepared(root)
    file_reuse._kept.left.clear()  # as where we were killed
    syscalls = FaultySyscalls()
    store, expected = FilesystemStore(root, syscalls=syscalls), changed(ONCE, 7, b"without")
    if change == "update":
        update(store, 7, b"without")
    else:
        if change == "erase":
            store.erase(KEY)
        store.put(KEY, [expected])
    assert not {"get_xattr", "set_xattr", "take_write_lease", "link"} & set(syscalls.calls)
    assert (root / KEY).read_bytes() == expected
    adoptions = Adoptions()
    update(reusing(root, syscalls=adoptions), 900, b"with")
    assert (root / KEY).read_bytes() == changed(expected, 900, b"with")
    assert adoptions.count == 0
    file_reuse.remove_all()
    assert leftovers(root) == []


def test_a_file_published_without_it_ends_the_chain(root: Path) -> None:
    """Also where the process that left the previous file goes on: its record says nothing of what replaced the object."""
    syscalls = Adoptions()
    store, expected = prepared(root, syscalls), ONCE
    for turn in range(6):
        data = b"%05d" % turn
        update(store if turn % 2 else FilesystemStore(root), turn * 11, data)
        expected = changed(expected, turn * 11, data)
        assert (root / KEY).read_bytes() == expected
    assert syscalls.count == 0


def test_it_is_off_unless_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "a"
    array = zarrant.create_array(path, shape=64, dtype="u4", chunks=8, shards=64)
    assert array.store.reuse is None
    assert "file_reuse" not in repr(array.store)
    assert "File reuse" not in array.info
    asked = array.with_config(file_reuse=True)
    given = zarrant.open_array(FilesystemStore(path), config={"file_reuse": True})
    monkeypatch.setenv("ZARRANT_FILE_REUSE", "true")
    for each in (asked, given, zarrant.open_array(path), zarrant.open_array(path, storage_options={"file_reuse": True})):
        assert each.store.reuse is not None
        assert repr(each.store).endswith(", file_reuse=True)")
        assert "NFS" in each.info["File reuse"]
    assert examine()["config"]["file_reuse"] == {"value": True, "source": "ZARRANT_FILE_REUSE"}
    with pytest.raises(OptionError, match="file_reuse"):
        FilesystemStore(path, file_reuse=1)  # type: ignore[arg-type]


def test_nothing_of_it_is_imported_where_it_is_off(tmp_path: Path) -> None:
    code = f"""
import sys, zarrant
a = zarrant.create_array({str(tmp_path / "a")!r}, shape=64, dtype="u4", chunks=8, shards=64)
a[3] = 5; a[3] = 6; a[:] = 7; a.erase_chunk(0)
assert "zarrant.stores.local.file_reuse" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# Where there are none.


@pytest.mark.parametrize("locking", ["none", "lockfile"])
def test_without_os_locks_there_are_none(root: Path, locking: str) -> None:
    syscalls = Adoptions()
    store = prepared(root, syscalls, locking=locking)
    update(store, 7, b"second")
    assert syscalls.count == 0
    assert leftovers(root) == []
    prepared(root)
    update(store, 8, b"third")  # nor is one used that another left
    assert syscalls.count == 0
    assert (root / KEY).read_bytes() == changed(ONCE, 8, b"third")


def test_where_others_may_have_the_file_open_there_are_none(root: Path) -> None:
    class Network(Adoptions):
        def kind(self, device: int) -> str:
            return ""

    syscalls = Network()
    store = prepared(root, syscalls)
    update(store, 7, b"second")
    assert syscalls.count == 0
    assert leftovers(root) == []
    prepared(root)
    update(store, 8, b"third")  # nor is one used that another machine left
    assert syscalls.count == 0
    assert (root / KEY).read_bytes() == changed(ONCE, 8, b"third")


# Threads and processes.


def test_threads_update_one_shard(root: Path) -> None:
    syscalls = Adoptions()
    store = reusing(root, syscalls=syscalls)
    a = zarrant.create_array(store, shape=(4, 256), dtype="u4", chunks=(1, 16), shards=(4, 256))
    a[...] = 1
    failures: list[BaseException] = []

    def work(row: int) -> None:
        try:
            for turn in range(30):
                a.update(np.s_[row : row + 1, turn * 8 : turn * 8 + 9], lambda values: values + 1)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    expected = np.ones((4, 256), "u4")
    for turn in range(30):
        expected[:, turn * 8 : turn * 8 + 9] += 1
    assert np.array_equal(a[...], expected)
    assert syscalls.count > 10
    file_reuse.remove_all()
    assert leftovers(root) == []
