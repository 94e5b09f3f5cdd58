"""What is on disk when a call returns, on a simulated disk that keeps nothing but what was synced."""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zarrant.errors import CapabilityError, LockTimeout, OptionError, StoreError, VersionChangedError
from zarrant.storage import ByteRange
from zarrant.stores.local import durability as module
from zarrant.stores.local import unsynced
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import NO_CHILDREN, Syscalls
from zarrant.testkit import FaultySyscalls, content, together
from zarrant.testkit.simulated_disk import TOP, Disk, SimulatedDisk, SimulatedSyscalls

roots = itertools.count()
OLD, NEW = b"the old value", b"a new value of another length"


pytestmark = pytest.mark.usefixtures("nothing_written")


class Dropping(SimulatedSyscalls):
    """A disk that says it has synced, and has not, at call number `drop`."""

    def __init__(self, disk: SimulatedDisk, root: str, drop: int | None = None) -> None:
        super().__init__(disk, root)
        self.drop, self.count = drop, 0

    def sync(self, fd: int) -> None:
        self.count += 1
        if self.count - 1 != self.drop:
            super().sync(fd)


def attach(system: SimulatedDisk, drop: int | None = None, **options: Any) -> FilesystemStore:
    root = f"/durable/{next(roots)}"
    store = FilesystemStore(root, syscalls=Dropping(system, root, drop), **options)
    store.unsynced_paths.probed = True  # not counted
    return store


def after_power_loss(system: SimulatedDisk, steps: int, all_names: bool) -> Disk:
    """What is left when power goes after so many steps: data that were synced; names that were, or all of them."""
    running, left = Disk(), Disk()
    for step in system.journal[:steps]:
        running.apply([step])
        if step.kind == "sync" and step.node in running.dirs:
            left.dirs[step.node] = dict(running.dirs[step.node])
        elif step.kind == "sync":
            left.files[step.node] = running.files[step.node]
    kept = running.dirs if all_names else left.dirs
    return Disk(
        {node: dict(kept.get(node, {})) for node in (*running.dirs, TOP)},
        {node: left.files.get(node, b"") for node in running.files},
    )


def objects(disk: Disk) -> dict[str, bytes]:
    return {name: data for name, data in disk.tree().items() if data is not None and ".__" not in name}


def put(store: FilesystemStore) -> None:
    store.put("a/b/k", [NEW])


def put_if(store: FilesystemStore) -> None:
    store.put_if("a/b/k", [NEW], store.get("a/b/k").version)


def splice(store: FilesystemStore) -> None:
    store.splice("a/b/k", [ByteRange(0, 3), b"-", ByteRange(3)], store.get("a/b/k").version)


def lock(store: FilesystemStore) -> None:
    with store.lock(["a/b/k", "a/c"]) as locked:
        locked.put("a/c", [NEW])
        locked.put("a/b/k", [NEW])


def write_batch(store: FilesystemStore) -> None:
    with store.write_batch() as inside:
        inside.put("a/b/k", [NEW])
        inside.put("x/y/z", [NEW])
        inside.put("a/b/l", [NEW])
        inside.erase("a/b/l")


def grouped_in_a_hold(store: FilesystemStore) -> None:
    with store.lock(["a/b/k"]) as locked, locked.write_batch() as inside:
        inside.put("a/c", [NEW])
        with inside.lock(["a/b/k"]) as again:
            again.put("a/b/k", [NEW])


def put_all(store: FilesystemStore) -> None:
    outcomes = store.put_all([(key, [NEW]) for key in ("a/c", "x/y/z", "a/b/k")])
    assert not any(isinstance(outcome, Exception) for outcome in outcomes), outcomes


def erase(store: FilesystemStore) -> None:
    store.erase("a/b/k")


def erase_if(store: FilesystemStore) -> None:
    store.erase_if("a/b/k", store.get("a/b/k").version)


def erase_prefix(store: FilesystemStore) -> None:
    store.erase_prefix("a/")


def put_in_new_directories(store: FilesystemStore) -> None:
    store.put("x/y/z", [NEW])


def put_where_directories_were(store: FilesystemStore) -> None:
    store.erase_prefix("a/")
    store.put("a/b/k", [NEW])


def put_by_many(store: FilesystemStore) -> None:
    together(*(lambda i=i: store.put(f"n/{i}", [NEW]) for i in range(4)))


CALLS: dict[Callable[[FilesystemStore], None], dict[str, bytes]] = {
    put: {"a/b/k": NEW},
    put_if: {"a/b/k": NEW},
    splice: {"a/b/k": OLD[:3] + b"-" + OLD[3:]},
    lock: {"a/b/k": NEW, "a/c": NEW},
    write_batch: {"a/b/k": NEW, "x/y/z": NEW},
    grouped_in_a_hold: {"a/b/k": NEW, "a/c": NEW},
    put_all: {"a/b/k": NEW, "a/c": NEW, "x/y/z": NEW},
    erase: {},
    erase_if: {},
    erase_prefix: {},
    put_in_new_directories: {"a/b/k": OLD, "x/y/z": NEW},
    put_where_directories_were: {"a/b/k": NEW},
    put_by_many: {"a/b/k": OLD, **{f"n/{i}": NEW for i in range(4)}},
}
every_call = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)


def run(call: Callable[[FilesystemStore], None], drop: int | None = None) -> int:
    """Make the call on a durable store and check what a loss of power leaves, before its end and after; the syncs it made."""
    system = SimulatedDisk()
    store = attach(system, durability="fsync")
    store.put("a/b/k", [OLD])
    assert objects(after_power_loss(system, len(system.journal), False)) == {"a/b/k": OLD}
    before = len(system.journal)
    store.files.count, store.files.drop = 0, drop
    call(store)
    for all_names in (True, False):
        assert objects(after_power_loss(system, len(system.journal), all_names)) == CALLS[call]
        for steps in range(before, len(system.journal)):
            left = objects(after_power_loss(system, steps, all_names))
            assert set(left.values()) <= {OLD, *CALLS[call].values()}
            assert call in (erase, erase_if, erase_prefix, put_where_directories_were) or "a/b/k" in left
    return store.files.count


@every_call
def test_what_returned_outlives_a_loss_of_power(call: Callable[[FilesystemStore], None]) -> None:
    assert run(call) >= 1


@pytest.mark.parametrize("call", [call for call in CALLS if call is not put_by_many], ids=lambda call: call.__name__)
def test_each_sync_is_needed(call: Callable[[FilesystemStore], None]) -> None:
    """Of threads that sync one directory at once, one would do."""
    for drop in range(run(call)):
        if (call is put_where_directories_were and drop < 2) or (call is write_batch and drop == 2):
            continue  # what the first erasing synced, the put syncs again; what was erased again needs no data
        with pytest.raises(AssertionError):
            run(call, drop)
    with pytest.raises(AssertionError):
        system = SimulatedDisk()
        store = attach(system)  # none at all
        store.put("a/b/k", [OLD])
        assert objects(after_power_loss(system, len(system.journal), False)) == {"a/b/k": OLD}


def test_the_calls_of_one_durable_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data before the rename, the directory after it, and each new one in the one above, from the bottom up."""
    syscalls = FaultySyscalls()
    store = FilesystemStore(tmp_path, syscalls=syscalls, locking="os", durability="fsync")
    store.put("a/b/k", [OLD])
    calls = syscalls.calls
    assert [name for name in calls if name in ("mkdir", "sync", "rename")][-6:] == [
        "mkdir", "sync", "rename", "sync", "sync", "sync"
    ]  # fmt: skip
    # Directories are looked at once a second: whether they are links, and who may write there.
    monkeypatch.setattr("zarrant.stores.local.links.TRUSTED_S", 600)
    monkeypatch.setattr("zarrant.locking.file_locks._DIRECTORY_MODE_S", 600)
    time.sleep(1.1)
    store.put("a/b/k", [NEW])
    syscalls.calls.clear()
    store.put("a/b/k", [NEW])
    take, look, publish = ["open", "fstat", "lock", "stat"], ["stat"], ["open", "write", "set_mtime", "fstat"]
    assert calls == [
        *take, *look, *publish, "sync", "close", "stat", "rename",
        "stat", "unlink", "unlock", "close", "open", "sync", "fstat", "close"
    ]  # fmt: skip


@pytest.mark.parametrize("durability", ["rename", "fsync"])
def test_sync(durability: str) -> None:
    system = SimulatedDisk()
    store = attach(system, durability=durability)
    store.put("a/b/k", [OLD])
    store.put("a/b/l", [OLD])
    store.put("m", [OLD])
    store.erase("a/b/l")
    if durability == "rename":
        assert objects(after_power_loss(system, len(system.journal), False)) == {}
    store.put("a/b/k", [NEW])
    before = store.files.count
    store.sync()
    # two files that are there, then a/b, a and the root, each once
    assert store.files.count - before == (5 if durability == "rename" else 0)
    assert objects(after_power_loss(system, len(system.journal), False)) == {"a/b/k": NEW, "m": OLD}
    store.sync()
    assert store.files.count - before == (5 if durability == "rename" else 0)
    store.erase_prefix("a/")
    store.sync()
    assert objects(after_power_loss(system, len(system.journal), False)) == {"m": OLD}


def test_each_sync_of_many_is_needed() -> None:
    for drop in range(-1, 6):
        system = SimulatedDisk()
        store = attach(system, drop if drop >= 0 else None)
        for key in ("a/b/k", "a/b/l", "m"):
            store.put(key, [NEW])
        store.sync()
        assert store.files.count == 6
        left = objects(after_power_loss(system, len(system.journal), False))
        assert (left == {"a/b/k": NEW, "a/b/l": NEW, "m": NEW}) == (drop == -1)
    kinds = [(step.kind, step.node in system.disk.files) for step in system.journal if step.kind in ("rename", "sync")]
    assert kinds == [("rename", False)] * 3 + [("sync", True)] * 3 + [("sync", False)] * 2  # the last of them dropped


def test_sync_is_for_every_store_of_the_root_and_of_every_thread() -> None:
    system = SimulatedDisk()
    store = attach(system)
    other = store.with_options(lock_timeout=1)
    together(*(lambda i=i: (store if i % 2 else other).put(f"d/{i}", [NEW]) for i in range(8)))
    with store.lock(["e"]) as locked:
        locked.put("e", [NEW])
        locked.sync()
        assert "e" in objects(after_power_loss(system, len(system.journal), False))
    store.sync()
    assert len(objects(after_power_loss(system, len(system.journal), False))) == 9


def test_a_second_sync_waits_for_the_first() -> None:
    """What it is asked for may be what the first is busy with."""
    system = SimulatedDisk()
    store = attach(system)
    store.put("k", [NEW])

    def sync() -> None:
        store.sync()
        assert objects(after_power_loss(system, len(system.journal), False)) == {"k": NEW}

    together(*[sync] * 4)


@pytest.mark.parametrize("at", range(6))
def test_a_sync_that_was_broken_off_is_done_again(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    system = SimulatedDisk()
    store = attach(system)
    for key in ("a/k", "a/l", "m"):
        store.put(key, [NEW])
    real, count = SimulatedSyscalls.sync, itertools.count()

    def sync(self: SimulatedSyscalls, fd: int) -> None:
        if next(count) == at:
            raise KeyboardInterrupt
        real(self, fd)

    with monkeypatch.context() as patch:
        patch.setattr(Dropping, "sync", sync)
        try:
            store.sync()
        except KeyboardInterrupt:
            assert store.unsynced_paths.state.count == 3
        else:
            assert at >= 5
    assert store.unsynced_paths.state.busy == []
    store.sync()
    assert objects(after_power_loss(system, len(system.journal), False)) == {"a/k": NEW, "a/l": NEW, "m": NEW}


def test_what_is_kept_for_sync_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the bound nothing is synced by a write, and the next sync is for all of the file system."""
    monkeypatch.setattr(unsynced, "MAX_KEPT", 10)
    system = SimulatedDisk()
    store = attach(system)
    state = store.unsynced_paths.state
    for i in range(35):
        store.put(f"d{i}/k", [NEW])
        assert sum(map(len, state.written.values())) == state.count < 10
        assert len(state.known_durable) <= 21
    assert store.files.count == 0
    assert objects(after_power_loss(system, len(system.journal), False)) == {}
    store.sync()
    assert len(objects(after_power_loss(system, len(system.journal), False))) == 35
    before = len(system.journal)
    store.put("d0/k", [OLD])
    store.sync()
    assert len([step for step in system.journal[before:] if step.kind == "sync"]) < 6  # by name again
    assert objects(after_power_loss(system, len(system.journal), False))["d0/k"] == OLD


class NoWhole(Dropping):
    """A disk whose file system cannot tell when all of it is on disk."""

    def sync_all(self, fd: int) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


@pytest.mark.parametrize("whole", [False, True], ids=["each file", "the file system"])
@pytest.mark.parametrize("how", ["too many", "a child ended", "a child works"])
def test_what_is_not_known_by_name_is_synced_too(how: str, whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    system, root = SimulatedDisk(), f"/durable/{next(roots)}"
    syscalls = (Dropping if whole else NoWhole)(system, root)
    store = FilesystemStore(root, syscalls=syscalls)
    if how == "too many":
        monkeypatch.setattr(unsynced, "MAX_KEPT", 3)
        writer = store
    else:
        writer = attach(system)  # another process
        children = {"a child ended": ((1, 0.1), False), "a child works": ((0, 0.0), True)}[how]
        monkeypatch.setattr(Dropping, "children", lambda self: children)
    for key in ("a/b/k", "a/l", "m", "a/b/c/d/e"):
        writer.put(key, [NEW])
    store.sync()
    written = {"a/b/k": NEW, "a/l": NEW, "m": NEW, "a/b/c/d/e": NEW}
    assert objects(after_power_loss(system, len(system.journal), False)) == written
    before = len(system.journal)
    store.sync()
    assert (len(system.journal) > before) == (how == "a child works")
    writer.erase("m")
    store.sync()
    if how != "a child ended":  # since the last sync none did
        assert "m" not in objects(after_power_loss(system, len(system.journal), False))


def test_many_objects_are_synced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SYNCED_ONE_BY_ONE", 4)
    system = SimulatedDisk()
    store = attach(system)
    for i in range(6):
        store.put(f"d/{i}", [NEW])
    store.sync()
    assert store.files.count == 0
    assert len(objects(after_power_loss(system, len(system.journal), False))) == 6
    store.put("d/0", [OLD])
    store.sync()
    assert store.files.count > 0


def test_a_file_system_that_failed_is_synced_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written is told by name, and stays in doubt."""
    syscalls = Failing("file")
    monkeypatch.setattr(syscalls, "sync_all", lambda fd: syscalls.sync(os.open(tmp_path / "d" / "k", os.O_RDONLY)), raising=False)
    monkeypatch.setattr(syscalls, "children", lambda: ((0, 0.0), True), raising=False)
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    store.put("d/k", [OLD])
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            store.sync()
        assert (caught.value.errno, caught.value.key) == (errno.EIO, "d/k")
        syscalls.what = "nothing"
    store.put("d/k", [NEW])
    store.sync()


# ── by whatever name ─────────────────────────────────────────────────────────────────────────────────────────────────


class Watching(Syscalls):
    """Remembers what was synced, by its path."""

    def __init__(self) -> None:
        self.synced: list[str] = []

    def sync(self, fd: int) -> None:
        self.synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        super().sync(fd)

    def children(self) -> tuple[tuple[float, ...], bool]:
        return NO_CHILDREN


def at_root(place: Path) -> tuple[Path, str]:
    return place / "g/raw", "c/0"


def in_group(place: Path) -> tuple[Path, str]:
    return place / "g", "raw/c/0"


def above_group(place: Path) -> tuple[Path, str]:
    return place, "g/raw/c/0"


def by_link(place: Path) -> tuple[Path, str]:
    (place / "link").symlink_to(place / "g")
    return place / "link/raw", "c/0"


def by_link_inside(place: Path) -> tuple[Path, str]:
    (place / "other").mkdir()
    (place / "other" / "name").symlink_to(place / "g/raw")
    return place / "other", "name/c/0"


def relative(place: Path) -> tuple[Path, str]:
    return Path(os.path.relpath(place / "g/raw")), "c/0"


def with_dots(place: Path) -> tuple[Path, str]:
    return place / "g/../g/raw/.", "c/0"


SPELLINGS = (at_root, in_group, above_group, by_link, relative, with_dots)


@pytest.mark.parametrize("synced", SPELLINGS, ids=lambda spelling: spelling.__name__)
@pytest.mark.parametrize("written", [*SPELLINGS, by_link_inside], ids=lambda spelling: spelling.__name__)
def test_sync_is_for_the_object_by_whatever_name_it_was_written(
    written: Callable[[Path], tuple[Path, str]], synced: Callable[[Path], tuple[Path, str]], tmp_path: Path
) -> None:
    (tmp_path / "g/raw").mkdir(parents=True)
    syscalls = Watching()

    def write() -> None:
        root, key = written(tmp_path)
        FilesystemStore(root, syscalls=syscalls, follow_symlinks=True).put(key, [NEW])

    write()  # and nobody has that store any more
    (tmp_path / "link").unlink(missing_ok=True)
    root, _ = synced(tmp_path)
    FilesystemStore(root, syscalls=syscalls).sync()
    found = [os.path.relpath(path, tmp_path) for path in syscalls.synced]
    assert found[:2] == ["g/raw/c/0", "g/raw/c"]
    syscalls.synced.clear()
    FilesystemStore(tmp_path / "g/raw", syscalls=syscalls).sync()
    FilesystemStore(tmp_path, syscalls=syscalls).sync()
    assert syscalls.synced == []


def test_sync_is_for_what_was_written_through_a_link_inside_of_the_store(tmp_path: Path) -> None:
    (tmp_path / "g/raw").mkdir(parents=True)
    syscalls = Watching()
    root, key = by_link_inside(tmp_path)
    store = FilesystemStore(root, syscalls=syscalls, follow_symlinks=True)
    store.put(key, [NEW])
    store.sync()
    assert str(tmp_path / "g/raw/c/0") in syscalls.synced


def test_sync_is_not_for_what_lies_elsewhere(tmp_path: Path) -> None:
    syscalls = Watching()
    FilesystemStore(tmp_path / "a", syscalls=syscalls).put("k", [NEW])
    FilesystemStore(tmp_path / "ab", syscalls=syscalls).put("k", [NEW])
    FilesystemStore(tmp_path / "b", syscalls=syscalls).put("k", [NEW])
    FilesystemStore(tmp_path / "a", syscalls=syscalls).sync()
    assert [os.path.relpath(path, tmp_path) for path in syscalls.synced] == ["a/k", "a", "."]


@pytest.mark.parametrize("level", ["root", "above", "below"])
def test_sync_is_for_a_directory_that_was_moved(level: str, tmp_path: Path) -> None:
    syscalls = Watching()
    store = FilesystemStore(tmp_path / "g/raw", syscalls=syscalls)
    store.put("c/0", [NEW])
    if level == "above":
        (tmp_path / "g").rename(tmp_path / "h")
        root = tmp_path / "h/raw"
    else:
        (tmp_path / "g/raw").rename(tmp_path / "moved")
        root = tmp_path / "moved"
    del store
    FilesystemStore(root / "c" if level == "below" else root, syscalls=syscalls).sync()
    assert str(root / "c/0") in syscalls.synced


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
@pytest.mark.parametrize("synced", ["", "raw"])
@pytest.mark.parametrize("written", ["", "raw"])
def test_sync_is_for_a_directory_that_is_mounted_twice(written: str, synced: str, tmp_path: Path) -> None:
    syscalls = Watching()
    (tmp_path / "g/raw").mkdir(parents=True)
    (tmp_path / "again").mkdir()
    if subprocess.run(["mount", "--bind", tmp_path / "g", tmp_path / "again"], capture_output=True, check=False).returncode:
        pytest.skip("no bind mounts")
    try:
        FilesystemStore(tmp_path / "again" / written, syscalls=syscalls).put("c/0" if written else "raw/c/0", [NEW])
        FilesystemStore(tmp_path / "g" / synced, syscalls=syscalls).sync()
        assert any(path.endswith("/raw/c/0") for path in syscalls.synced)
    finally:
        subprocess.run(["umount", tmp_path / "again"], check=True)


def test_a_directory_made_through_another_store_is_synced_in_the_one_above() -> None:
    """With `durability="fsync"` too: what another handle of this process made without must not be missing below it."""
    for durability in ("fsync", "rename"):
        system = SimulatedDisk()
        store = attach(system)
        store.put("zarr.json", [OLD])
        store.put("raw/zarr.json", [OLD])
        below = SubclassedSyscalls(system, store.root)
        raw = FilesystemStore(f"{store.root}/raw", syscalls=below, durability=durability)
        raw.put("c/0", [NEW])
        raw.sync()
        left = objects(after_power_loss(system, len(system.journal), False))
        assert left == {"zarr.json": OLD, "raw/zarr.json": OLD, "raw/c/0": NEW}


class SubclassedSyscalls(SimulatedSyscalls):
    """For a store whose root is a directory of the simulated disk."""


def test_a_sync_that_failed_is_told_under_every_name(tmp_path: Path) -> None:
    syscalls = Failing("file")
    store = FilesystemStore(tmp_path / "g", syscalls=syscalls)
    store.put("raw/k", [OLD])
    with pytest.raises(StoreError):
        store.sync()
    syscalls.what = "nothing"
    (tmp_path / "link").symlink_to(tmp_path / "g/raw")
    linked = FilesystemStore(tmp_path / "link", syscalls=syscalls)
    with pytest.raises(StoreError) as caught:
        linked.sync()
    assert caught.value.errno == errno.EIO
    linked.put("k", [NEW])  # written again
    linked.sync()
    store.sync()


# ── what was synced stays ────────────────────────────────────────────────────────────────────────────────────────────


class Ordering(Syscalls):
    """Counts what goes to the device before a rename, on a file system that says what it does."""

    def __init__(self, order: str) -> None:
        self.said, self.calls = order, list[str]()

    def order(self, device: int) -> str:
        return self.said

    def write_out(self, fd: int) -> None:
        self.calls.append("write_out")
        super().write_out(fd)

    def sync(self, fd: int) -> None:
        if not os.path.isdir(f"/proc/self/fd/{fd}"):
            self.calls.append("sync")
        super().sync(fd)

    def children(self) -> tuple[tuple[float, ...], bool]:
        return NO_CHILDREN

    def counted(self) -> list[str]:
        calls, self.calls = self.calls, []
        return calls


@pytest.mark.parametrize(
    ("order", "replacing", "after_erasing"),
    [("memory", [], []), ("replaced", [], ["write_out"]), ("written", ["write_out"], ["write_out"]), ("", ["sync"], ["sync"])],
)
def test_data_go_to_the_device_before_they_replace_what_may_be_on_disk(
    order: str, replacing: list[str], after_erasing: list[str], tmp_path: Path
) -> None:
    syscalls = Ordering(order)
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    for _ in range(3):
        store.put("d/k", [OLD])  # nothing of it is on disk
        assert syscalls.counted() == []
    store.put("d/other", [OLD])
    store.erase("d/other")
    store.put("d/other", [OLD])
    assert syscalls.counted() == []
    store.sync()
    assert syscalls.counted() == ["sync"] * 2
    for _ in range(2):
        store.put("d/k", [NEW])
        assert syscalls.counted() == replacing
        store.splice("d/k", [ByteRange(0, 3), b"-"], store.get("d/k").version)
        assert syscalls.counted() == replacing
        store.put_if("d/k", [NEW], store.get("d/k").version)
        assert syscalls.counted() == replacing
    store.erase("d/k")
    store.put("d/k", [OLD])
    assert syscalls.counted() == after_erasing
    with store.lock(["d/k"]) as locked:
        locked.put("d/k", [NEW])
    assert syscalls.counted() == replacing
    store.erase_prefix("d/")
    store.put("d/k", [NEW])
    assert syscalls.counted() == after_erasing
    assert [type(found) for found in store.put_all([("d/k", [OLD]), ("d/new", [NEW])])] == [tuple, tuple]
    assert syscalls.counted() == replacing


def test_what_another_process_wrote_may_be_on_disk(tmp_path: Path) -> None:
    syscalls = Ordering("written")
    (tmp_path / "k").write_bytes(OLD)
    FilesystemStore(tmp_path, syscalls=syscalls).put("k", [NEW])
    assert syscalls.counted() == ["write_out"]
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    store.put("l", [OLD])
    os.replace(tmp_path / "k", tmp_path / "l")  # it is not the one that was written here
    store.put("l", [NEW])
    assert syscalls.counted() == ["write_out"]


def test_what_was_erased_is_remembered_beyond_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unsynced, "MAX_KEPT", 4)
    syscalls = Ordering("written")
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    for i in range(6):
        store.put(f"d/{i}", [OLD])
    assert syscalls.counted() == []
    store.sync()
    syscalls.counted()
    store.erase_prefix("d/")
    for i in range(6):
        store.put(f"d/{i}", [NEW])
    assert syscalls.counted() == ["write_out"] * 6


def test_a_failure_to_write_out_leaves_the_old_object(tmp_path: Path) -> None:
    syscalls = Ordering("written")
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    store.put("k", [OLD])
    store.sync()

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    syscalls.write_out = fail  # type: ignore[method-assign]
    with pytest.raises(StoreError) as caught:
        store.put("k", [NEW])
    assert (caught.value.errno, caught.value.key) == (errno.EIO, "k")
    assert content(store.get("k")) == OLD
    assert os.listdir(tmp_path) == ["k"]


class Failing(Syscalls):
    """Fails its syncs of files or of directories, and remembers on which descriptors they were tried."""

    def __init__(self, what: str, number: int = errno.EIO) -> None:
        self.what, self.number, self.tried = what, number, list[str]()

    def children(self) -> tuple[tuple[float, ...], bool]:
        return NO_CHILDREN

    def sync(self, fd: int) -> None:
        kind = "directory" if os.path.isdir(f"/proc/self/fd/{fd}") else "file"
        self.tried.append(f"{kind} {fd}")
        if kind == self.what:
            raise OSError(self.number, os.strerror(self.number))
        super().sync(fd)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_of_data_leaves_the_old_object(tmp_path: Path, number: int) -> None:
    FilesystemStore(tmp_path).put("d/k", [OLD])
    syscalls = Failing("file", number)
    store = FilesystemStore(tmp_path, syscalls=syscalls, durability="fsync")

    def locked() -> None:
        with store.lock(["d/k"]) as inside:
            inside.put("d/k", [NEW])

    calls: list[Callable[[], object]] = [
        lambda: store.put("d/k", [NEW]),
        lambda: store.splice("d/k", [ByteRange(0, 1), NEW], store.get("d/k").version),
        locked,
    ]
    for call in calls:
        syscalls.tried.clear()
        with pytest.raises(StoreError) as caught:
            call()
        assert (caught.value.key, caught.value.errno) == ("d/k", number)
        assert len([name for name in syscalls.tried if name.startswith("file")]) == 1
        assert content(FilesystemStore(tmp_path).get("d/k")) == OLD
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["d", "k"]


def test_a_failed_sync_of_a_directory_is_told(tmp_path: Path) -> None:
    syscalls = Failing("nothing")
    store = FilesystemStore(tmp_path, syscalls=syscalls, durability="fsync")
    store.put("d/k", [OLD])
    syscalls.what = "directory"
    for call in (lambda: store.put("d/k", [NEW]), lambda: store.erase("d/k"), lambda: store.erase("d/none")):
        with pytest.raises(StoreError, match="Input/output") as caught:
            call()
        assert caught.value.key in ("d/k", "d/none")
    syscalls.what = "nothing"
    with pytest.raises(StoreError, match="cannot sync"):
        store.sync()  # it was not made good by anything
    store.put("d/k", [NEW])
    store.erase("d/none")
    store.sync()


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_could_not_be_synced_stays_in_doubt(tmp_path: Path, what: str) -> None:
    """The system says once that it lost what it could not write: a second sync of the file may succeed, and means nothing."""
    syscalls = Failing(what)
    store = FilesystemStore(tmp_path, syscalls=syscalls)
    store.put("d/k", [OLD])
    with pytest.raises(StoreError) as caught:
        store.sync()
    assert (caught.value.errno, caught.value.store, caught.value.key) == (errno.EIO, store.url, "d/k")
    syscalls.what = "nothing"
    with pytest.raises(StoreError):
        store.sync()
    store.put("d/other", [NEW])
    with pytest.raises(StoreError):
        store.sync()
    store.put("d/k", [NEW])
    store.sync()


def test_a_group_syncs_each_directory_once(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    store = FilesystemStore(tmp_path, syscalls=syscalls, locking="os", durability="fsync")
    store.put("zarr.json", [OLD])
    syscalls.calls.clear()
    with store.write_batch() as inside:
        for i in range(8):
            inside.put(f"c/{i % 2}/{i}", [NEW])
            assert content(store.get(f"c/{i % 2}/{i}")) == NEW  # visible at once
        assert [name for name in syscalls.calls if name in ("sync", "rename")] == ["sync", "rename"] * 8
    assert [name for name in syscalls.calls if name in ("sync", "rename")][16:] == ["sync"] * 4  # c/0, c/1, c, the root
    syscalls.calls.clear()
    with store.write_batch() as inside, inside.write_batch() as same:
        together(*(lambda i=i: same.put(f"c/0/{i}", [OLD]) for i in range(8)))
    assert syscalls.calls.count("sync") == 9
    for durability in ("fsync", "rename"):
        syscalls.calls.clear()
        with store.with_options(durability=durability).write_batch() as inside:
            assert content(inside.get("c/0/1")) == OLD
            if durability == "rename":
                inside.put("c/0/1", [NEW])
        assert "sync" not in syscalls.calls


@pytest.mark.parametrize("commit", ["commit", "sync"])
def test_what_a_group_wrote_is_not_on_disk_before_it_is_committed(commit: str) -> None:
    system = SimulatedDisk()
    store = attach(system, durability="fsync")

    def left() -> dict[str, bytes]:
        return objects(after_power_loss(system, len(system.journal), False))

    with store.write_batch() as inside:
        inside.put("d/k", [NEW])
        assert left() == {}
        getattr(inside, commit)()
        assert left() == {"d/k": NEW}
        inside.put("d/l", [NEW])
        assert left() == {"d/k": NEW}
    assert left() == {"d/k": NEW, "d/l": NEW}
    store.commit()


def test_a_group_that_was_broken_off_lasts_from_the_next_sync_on() -> None:
    system = SimulatedDisk()
    store = attach(system, durability="fsync")
    with pytest.raises(KeyboardInterrupt), store.write_batch() as inside:
        inside.put("d/k", [NEW])
        raise KeyboardInterrupt
    assert objects(after_power_loss(system, len(system.journal), False)) == {}
    store.sync()
    assert objects(after_power_loss(system, len(system.journal), False)) == {"d/k": NEW}


def test_a_group_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BATCH_PATHS", 10)
    system = SimulatedDisk()
    store = attach(system, durability="fsync")
    with store.write_batch() as inside:
        for i in range(35):
            inside.put(f"d/{i}", [NEW])
            assert inside.group is not None
            assert len(inside.group.paths) < 10
        assert len(objects(after_power_loss(system, len(system.journal), False))) == 30
    assert len(objects(after_power_loss(system, len(system.journal), False))) == 35


def test_a_failed_sync_of_a_group_is_told_at_its_end(tmp_path: Path) -> None:
    """Also where it was asked for in the middle, for somebody else: the others must learn of it too."""
    syscalls = Failing("nothing")
    store = FilesystemStore(tmp_path, syscalls=syscalls, durability="fsync")
    store.put("d/k", [OLD])
    for middle in (False, True):
        with pytest.raises(StoreError, match="cannot sync: Input/output") as caught, store.write_batch() as inside:
            inside.put("d/k", [NEW])
            syscalls.what = "directory"
            if middle:
                with pytest.raises(StoreError):
                    inside.commit()
            syscalls.what = "nothing" if middle else "directory"
        assert (caught.value.errno, caught.value.store, caught.value.key) == (errno.EIO, store.url, "d/k")
        syscalls.what = "nothing"
        with pytest.raises(StoreError):
            store.sync()
        store.put("d/k", [NEW])
        store.sync()


def test_a_failed_write_of_a_group_leaves_the_others(tmp_path: Path) -> None:
    FilesystemStore(tmp_path).put("d/k", [OLD])
    syscalls = Failing("file")
    store = FilesystemStore(tmp_path, syscalls=syscalls, durability="fsync")
    with store.write_batch() as inside:
        with pytest.raises(StoreError) as caught:
            inside.put("d/k", [NEW])
        assert (caught.value.key, caught.value.errno) == ("d/k", errno.EIO)
        syscalls.what = "nothing"
        inside.put("d/l", [NEW])
    assert (content(store.get("d/k")), content(store.get("d/l"))) == (OLD, NEW)


def test_a_group_keeps_other_writers_out(tmp_path: Path) -> None:
    """Locks are those of single writes: one at a time, given back before the block ends, waited for until the deadline."""
    store = FilesystemStore(tmp_path, durability="fsync", lock_timeout=0.05)
    other = FilesystemStore(tmp_path, syscalls=Syscalls(), lock_timeout=0.05)
    with store.write_batch() as inside:
        inside.put("d/k", [OLD])
        with other.lock(["d/k", "d/l"]) as locked:
            locked.put("d/k", [NEW])
            with pytest.raises(LockTimeout) as caught:
                together(lambda: inside.put("d/l", [NEW]))
            assert caught.value.key == "d/l"
        with pytest.raises(VersionChangedError):
            inside.put_if("d/k", [OLD], None)
    with store.lock(["d/k"]) as locked, locked.write_batch() as inside:
        inside.put("d/k", [OLD])
        with pytest.raises(LockTimeout):
            together(lambda: other.put("d/k", [NEW]))
    assert content(store.get("d/k")) == OLD


def test_an_error_at_close_leaves_the_old_object(tmp_path: Path) -> None:
    """Network file systems tell there that they could not write."""
    closing: list[int] = []

    def fault(index: int, name: str) -> None:
        if name == "close" and "write" in syscalls.calls:
            closing.append(index)
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    FilesystemStore(tmp_path).put("k", [OLD])
    syscalls = FaultySyscalls(fault)
    with pytest.raises(StoreError) as caught:
        FilesystemStore(tmp_path, syscalls=syscalls).put("k", [NEW])
    assert (caught.value.key, caught.value.errno) == ("k", errno.EDQUOT)
    assert closing
    assert "rename" not in syscalls.calls
    assert os.listdir(tmp_path) == ["k"]
    assert (tmp_path / "k").read_bytes() == OLD


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_directories_that_cannot_be_synced_are_found_before_anything_is_written(tmp_path: Path, number: int) -> None:
    store = FilesystemStore(tmp_path / "r", syscalls=Failing("directory", number), durability="fsync")
    for call in (lambda: store.put("k", [NEW]), lambda: store.erase("k"), lambda: store.erase_prefix("")):
        with pytest.raises(CapabilityError, match="sync directories") as caught:
            call()
        assert (caught.value.field, caught.value.store) == ("durability", store.url)
    assert os.listdir(tmp_path) == []
    FilesystemStore(tmp_path / "r", durability="rename").put("k", [NEW])


def test_a_root_that_was_made_is_synced_where_it_lies(tmp_path: Path) -> None:
    synced: list[str] = []

    class Relative(Syscalls):
        def sync(self, fd: int) -> None:
            synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), tmp_path))
            super().sync(fd)

    store = FilesystemStore(tmp_path / "a" / "top", syscalls=Relative(), durability="fsync")
    store.put("d/k", [NEW])
    assert synced == [".", "a/top/d/k.__new.__lock", "a/top/d", "a/top", "a", "."]
    synced.clear()
    store.put("d/k", [NEW])
    store.put("d/l", [NEW])
    assert synced == ["a/top/d/k.__new.__lock", "a/top/d", "a/top/d/l.__new.__lock", "a/top/d"]


def test_options(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path, durability="fsync")
    assert "durability='fsync'" in repr(store)
    assert store != FilesystemStore(tmp_path)
    assert store.with_options(locking="os").durability == "fsync"
    assert store.with_options(durability="rename") == FilesystemStore(tmp_path)
    with pytest.raises(OptionError) as caught:
        store.with_options(durability="never")
    assert (caught.value.field, caught.value.expected) == ("durability", "rename, fsync")
