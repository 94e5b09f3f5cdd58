"""A small write as one compiled call: the same file calls as the general way, and the same outcome, also where one fails."""

from __future__ import annotations

import contextlib
import math
import os
import random
import resource
import shutil
import stat
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from children import ended
from open_files import open_below
from zarrant import kernels
from zarrant.errors import ReentrantLockError, ZarrantError
from zarrant.locking import file_locks
from zarrant.storage import ANY, ByteRange, Hole, OnlyWhile, Part
from zarrant.stores.local import put_at_once as module
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls, are_plain
from zarrant.stores.local.temp_files import LastingVersion
from zarrant.testkit.faulty_files import FaultySyscalls

pytestmark = pytest.mark.skipif(kernels.put_file is None, reason="without the compiled call there is one way only")

IN_MEMORY = Path("/dev/shm")


@pytest.fixture(params=["disk", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A directory on this machine's disk, and one in its memory; a lock was probed there."""
    if request.param == "disk":
        path, remove = tmp_path / "store", False
    else:
        if not IN_MEMORY.is_dir():
            pytest.skip("no file system in memory")
        path, remove = IN_MEMORY / f"zarrant-at-once-{os.getpid()}-{random.randrange(10**9)}", True
    FilesystemStore(path).put("probed", [b""])
    if not Syscalls().order(path.stat().st_dev):
        pytest.skip("another file system than those on which this is done")
    yield path
    if remove:
        zarrant.stores.FilesystemStore(path).erase_prefix("")
        path.rmdir()


def try_put(
    store: FilesystemStore, key: str, parts: Sequence[Part], if_version: Any = None, fail: int = -1, kill: int = -1, **other: Any
) -> tuple[Any, list[str]]:
    """What the compiled call gives, and the calls that it makes."""
    trial: list[Any] = [fail, kill]
    path = f"{store.root}/{key}"
    device = os.stat(store.root).st_dev
    assert kernels.put_file is not None
    args = {"condition": None, "device": device, "share": 0, "held": 0, "must_replace": False, "release": False, **other}
    done = kernels.put_file(path, parts, args.pop("condition"), if_version, *args.values(), trial)
    return done, trial[2:]


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


CASES: dict[str, Callable[[FilesystemStore], tuple[Sequence[Part], Any, OnlyWhile | None]]] = {
    "new": lambda store: ([b"12", b"345"], ANY, None),
    "nothing in it": lambda store: ([], ANY, None),
    "only if absent": lambda store: ([b"1"], None, None),
    "ranges and holes": lambda store: (
        store.put("k", [b"0123456789"]) and [b"a", b"b", ByteRange(2, 3), Hole(4), ByteRange(0, 0), ByteRange(7, 3), Hole(2)],
        ANY,
        None,
    ),
    "replaced": lambda store: (store.put("k", [b"old"]) and [b"1"], ANY, None),
    "of a version": lambda store: ([b"1"], store.put("k", [b"old"]), None),
    "condition": lambda store: ([b"1"], ANY, OnlyWhile("m", store.put("m", [b"meta"]))),
    "nobody changes it": lambda store: ([b"1"], ANY, OnlyWhile("m", store.put("m", [b"meta"]), True)),
}


def other_mode(store: FilesystemStore) -> tuple[Sequence[Part], Any, OnlyWhile | None]:
    store.put("k", [b"old"])
    os.chmod(f"{store.root}/k", 0o600)
    return [b"1"], ANY, None


CASES["other permissions"] = other_mode


@pytest.mark.parametrize("case", CASES)
def test_the_calls_are_those_of_the_general_way(root: Path, case: str) -> None:
    store = FilesystemStore(root)
    parts, if_version, condition = CASES[case](store)
    wanted = None if if_version is ANY else False if if_version is None else if_version
    key = None if condition is None else f"{root}/{condition.key}"
    asked = None if condition is None else (key, f"{key}.__lock" if condition.unlocked else None, condition.version)
    share = 0o022 if case == "other permissions" else 0
    old_mask = os.umask(0o022 if share else 0)
    if share:
        root.chmod(0o777)
        file_locks._directories.clear()
    try:
        done, calls = try_put(store, "k", parts, wanted, condition=asked, share=0o066 if share else 0)
        assert done is not None
        version, state = done[0], os.stat(root / "k")
        assert version == (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size) == store.version("k")
        again = {"new", "nothing in it", "only if absent", "condition", "nobody changes it"}
        os.unlink(root / "k") if case in again else None
        if case == "other permissions":
            os.chmod(root / "k", 0o600)
            assert state.st_mode & 0o777 == 0o600
        syscalls = FaultySyscalls()
        slow = FilesystemStore(root, syscalls=syscalls, locking="os")
        slow = slow if condition is None else slow.only_while(condition)
        syscalls.calls.clear()
        slow.splice("k", parts, version if case == "of a version" else if_version)
        made = [call for call in syscalls.calls if call != "stat_target"]  # of the directory: once a second, by the caller
        assert calls == made
    finally:
        os.umask(old_mask)
    assert not [name for name in names(root) if "__" in name]


def test_the_calls_under_a_lock_are_those_of_the_general_way(root: Path) -> None:
    old = [b"0123456789"]
    for parts in ([b"1"], [b"1", ByteRange(3, 2)]):
        store = FilesystemStore(root)
        version = store.put("k", old)
        with store.lock(["k"]):
            inode = os.stat(root / "k.__lock").st_ino
            assert try_put(store, "k", parts, version, held=inode + 1)[0] is None
            done, calls = try_put(store, "k", parts, version, held=inode)
        assert done is not None
        syscalls = FaultySyscalls()
        slow = FilesystemStore(root, syscalls=syscalls, locking="os")
        version = slow.put("k", old)
        with slow.lock(["k"]) as locked:
            syscalls.calls.clear()
            locked.splice("k", parts, version)
            assert calls == syscalls.calls


LARGE = np.arange(3 * 300 * 401, dtype=np.uint16).reshape(3, 300, 401)


@pytest.mark.parametrize(
    "parts", [[b"new"], [b"n", ByteRange(0, 2), Hole(3)], [LARGE[:, ::2].data]], ids=["bytes", "ranges", "view"]
)
def test_a_call_that_fails_leaves_everything_as_it_was(root: Path, parts: list[Part]) -> None:
    store = FilesystemStore(root)
    before = store.put("k", [b"old"])
    store.put("other", [b"old"])
    made = try_put(store, "other", parts)[1]
    for number in range(len(made)):
        done, calls = try_put(store, "k", parts, fail=number)
        if number > made.index("rename"):
            assert done is not None, calls  # the outcome is known by then, and does not change
        else:
            assert done is None, calls
            assert store.version("k") == before
        assert not [name for name in names(root) if "__new" in name]
        before = store.put("k", [b"old"])
        assert names(root) == ["k", "other", "probed"]


@pytest.mark.parametrize(
    "view",
    [LARGE[:, :, 1:], LARGE.T, LARGE[::-1, :, ::3], LARGE.transpose(1, 0, 2), LARGE.reshape(-1)[::2], LARGE[:, :0, :3]],
    ids=["inner", "transposed", "backwards", "axes", "every second", "nothing"],
)
def test_a_view_is_gathered_piece_by_piece(root: Path, view: Any) -> None:
    store = FilesystemStore(root)
    done, calls = try_put(store, "k", [b"before", view.data, b"after"])
    assert done is not None and (root / "k").read_bytes() == b"before" + view.tobytes() + b"after"
    assert calls.count("write") >= view.nbytes >> 18
    for kind in (view.dtype, f"V{view.itemsize}"):
        FilesystemStore(root, locking="lockfile").put("general", [b"before", view.view(kind).data, b"after"])
        assert (root / "general").read_bytes() == (root / "k").read_bytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_who_is_killed_before_any_call_harms_nobody(root: Path) -> None:
    store = FilesystemStore(root)
    store.put("k", [b"old"])
    calls = try_put(store, "other", [b"new"])[1]
    for number in range(len(calls)):
        child = os.fork()
        if not child:
            try_put(store, "k", [b"new"], kill=number)
            os._exit(1)
        assert os.waitstatus_to_exitcode(ended(child)) == 9
        blob = store.get("k")
        assert blob is not None
        assert bytes(blob.data[0]) == (b"new" if number > calls.index("rename") else b"old")
        store.put("k", [b"old"])
        assert names(root) == ["k", "other", "probed"]


@st.composite
def views(draw: st.DrawFn) -> memoryview:
    """A view of an array in any order, of every second element, or backwards."""
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    array = np.arange(math.prod(shape) * 12, dtype="u1").view(draw(st.sampled_from(["u1", "<u2", "<u4", "V3"])))
    axes = draw(st.permutations(range(len(shape))))
    steps = [slice(None, None, draw(st.sampled_from([1, 1, 2, -1]))) for _ in shape]
    return array[: math.prod(shape)].reshape(shape).transpose(axes)[tuple(steps)].data


PARTS = st.one_of(
    st.binary(max_size=40),
    views(),
    st.builds(ByteRange, st.integers(-3, 9), st.none() | st.integers(0, 9)),
    st.builds(Hole, st.integers(0, 9)),
)
VERSIONS = st.sampled_from(["any", "absent", "right", "wrong"])
CONDITIONS = st.sampled_from([None, "holds", "holds, unlocked", "changed", "gone"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(["k", "d/k", "d/e/k"]),
            st.lists(PARTS, max_size=3),
            VERSIONS,
            CONDITIONS,
            st.sampled_from(["free", "left", "locked"]),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_it_is_equal_to_the_general_way(root: Path, steps: list[Any]) -> None:
    stores = [FilesystemStore(root / name) for name in ("at-once", "general")]
    stores[1].__dict__["_at_once"] = False
    for store in stores:
        store.put("m", [b"meta"])
    assert stores[0].__dict__["_at_once"]
    for key, parts, version, condition, state in steps:
        outcomes = []
        for store in stores:
            lock = Path(f"{store.root}/{key}.__lock")
            if state == "left" and lock.parent.is_dir():  # by a writer that was killed
                lock.write_bytes(b"")
            with store.lock([key]) if state == "locked" else nullcontext(store) as writer:
                outcomes.append(outcome(store, writer, key, parts, version, condition))
        assert outcomes[0] == outcomes[1]
        listed = [sorted(str(path.relative_to(store.root)) for path in Path(store.root).rglob("*")) for store in stores]
        assert listed[0] == listed[1]
    for store in stores:
        store.erase_prefix("")


def outcome(store: FilesystemStore, writer: Any, key: str, parts: list[Part], version: str, condition: str | None) -> Any:
    old = store.version(key)
    asked = {"any": ANY, "absent": None, "right": old, "wrong": (1, 2, 3, 4)}[version]
    known = store.version("m")
    conditions = {
        None: None,
        "holds": OnlyWhile("m", known),
        "holds, unlocked": OnlyWhile("m", known, True),
        "changed": OnlyWhile("m", (1, 2, 3, 4)),
        "gone": OnlyWhile("nothing", known),
    }
    on = conditions[condition]
    try:
        made: Any = (writer if on is None else writer.only_while(on)).splice(key, parts, asked)
    except ZarrantError as error:
        return type(error), error.key, None if (blob := store.get(key)) is None else bytes(blob.data[0])
    assert made == store.version(key) != old
    blob = store.get(key)
    assert blob is not None
    names = store.unsynced_paths.state.written.get(os.path.dirname(os.path.realpath(f"{store.root}/{key}")), {})
    return bytes(blob.data[0]), made[3], names.get(os.path.basename(key), 0) > 0


def test_what_is_not_the_usual_case_is_left_to_the_general_way(root: Path) -> None:
    store = FilesystemStore(root)
    store.put("k", [b"old"])
    os.symlink("k", root / "link")
    (root / "directory").mkdir()
    (root / "left.__new.__lock").write_bytes(b"left")
    (root / "busy.__lock").write_bytes(b"")
    for key in ("link", "directory", "left", "busy"):
        assert try_put(store, key, [b"1"])[0] is None
    assert try_put(store, "k", [b"1"], (1, 2, 3, 4))[0] is None
    assert try_put(store, "k", [b"1"], False)[0] is None
    assert try_put(store, "k", [b"1"], device=1)[0] is None
    assert try_put(store, "new", [b"1"], must_replace=True)[0] is None
    assert (root / "k").read_bytes() == b"old"
    assert os.readlink(root / "link") == "k"
    for key in ("link", "left", "busy", "k"):
        store.put(key, [b"1"])
    assert not [name for name in names(root) if "__" in name]


def test_it_is_used_where_it_may_be(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = []
    real = kernels.put_file
    assert real is not None
    monkeypatch.setattr(kernels, "put_file", lambda *args: used.append(args[0]) or real(*args))
    store = FilesystemStore(root)
    store.put("a/b", [b"1"])
    store.put("a/b", [b"2"])
    store.splice("a/b", [ByteRange(0, 1), b"3"], ANY)
    with store.lock(["a/b", "c"]) as locked:
        locked.put("a/b", [b"4"])
        locked.put("d", [b"5"])
    assert used == [f"{root}/a/b"] * 4 + [f"{root}/d"]
    used.clear()
    for options in (
        {"durability": "fsync"},
        {"locking": "lockfile"},
        {"locking": "none"},
        {"direct_io": True},
        {"file_reuse": True},
    ):
        FilesystemStore(root, **options).put("k", [b"1"])
    FilesystemStore(root, syscalls=FaultySyscalls()).put("k", [b"1"])
    monkeypatch.setattr(module, "_probed", set())
    FilesystemStore(root).put("k", [b"1"])
    assert used == []
    assert module._probed


def test_a_directory_that_was_removed_is_made_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(root)
    store.put("a/b/c", [b"1"])
    shutil.rmtree(root / "a")
    monkeypatch.setattr(FilesystemStore, "_swap_locked", None)  # the general way
    store.put("a/b/c", [b"2"])
    assert (root / "a/b/c").read_bytes() == b"2"


def test_a_condition_on_what_is_locked_does_not_hold(root: Path) -> None:
    store = FilesystemStore(root)
    asked = f"{root}/m", f"{root}/m.__lock", store.put("m", [b"meta"])
    with store.lock(["m"]):
        assert try_put(store, "k", [b"1"], condition=asked)[0] is None
        assert try_put(store, "k", [b"1"], condition=(asked[0], None, asked[2]))[0] is not None
    assert try_put(store, "k", [b"1"], condition=asked)[0] is not None


def test_it_is_newer_than_what_it_replaces(root: Path) -> None:
    store = FilesystemStore(root)
    store.put("k", [b"old"])
    later = time.time_ns() + 10**12
    os.utime(root / "k", ns=(later, later))
    done, _ = try_put(store, "k", [b"new"])
    assert done is not None
    assert os.stat(root / "k").st_mtime_ns == done[0][2] > later


@pytest.mark.parametrize("made", [tuple, LastingVersion])
def test_versions_of_any_age_are_taken(root: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[Any], Any]) -> None:
    """An array that was opened a while after it was made is written in the same way."""
    store, done = FilesystemStore(root), []
    real = kernels.put_file
    assert real is not None
    condition = OnlyWhile("m", made(store.put("m", [b"meta"])))
    version = made(store.put("k", [b"1"]))
    monkeypatch.setattr(kernels, "put_file", lambda *args: done.append((result := real(*args)) is not None) or result)
    store.only_while(condition).put_if("k", [b"2"], version)
    assert done == [True]


def test_what_may_be_on_disk_is_replaced_as_the_general_way_does(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[bool] = []
    real = kernels.put_file
    assert real is not None
    store = FilesystemStore(root)
    if store.files.order(os.stat(root).st_dev) == "memory":
        return
    store.put("k", [b"1"])
    store.sync()
    store.erase("k")  # which may not be on disk: the data of what comes next must be there before its name
    monkeypatch.setattr(kernels, "put_file", lambda *args: done.append((result := real(*args)) is not None) or result)
    store.put("k", [b"2"])
    store.put("k", [b"3"])
    assert done == [False, True]


def test_who_has_the_lock_is_told(root: Path) -> None:
    store = FilesystemStore(root)
    with store.lock(["k"]), pytest.raises(ReentrantLockError):
        store.put("k", [b"1"])


def test_replaced_file_calls_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert are_plain(Syscalls())
    assert not are_plain(FaultySyscalls())
    monkeypatch.setattr(Syscalls, "__annotations__", {}, raising=False)
    assert are_plain(Syscalls())
    other = Syscalls()
    monkeypatch.setattr(other, "rename", print)
    assert not are_plain(other)
    monkeypatch.setattr(Syscalls, "rename", print)
    assert not are_plain(Syscalls())


def test_parts_of_any_kind(root: Path) -> None:
    store = FilesystemStore(root)
    many = [bytes([n % 256]) for n in range(3000)]
    store.put("k", many)
    assert (root / "k").read_bytes() == b"".join(many)
    large = os.urandom(module.MAX_HELD_BYTES + 1)
    store.put("k", [large[:5], memoryview(large)[5:]])
    assert (root / "k").read_bytes() == large


def open_links() -> list[str]:
    """Where the open descriptors lead."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing is gone by now
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return found


def test_no_outcome_leaves_a_descriptor(root: Path) -> None:
    """Whichever call fails, at whatever lies in the way, and where the process may open no more files."""
    store = FilesystemStore(root)
    store.put("k", [b"old"])
    (root / "directory").mkdir()
    os.symlink("nowhere", root / "link")
    (root / "left.__lock").write_bytes(b"left")
    calls = len(try_put(store, "k", [b"n", ByteRange(0, 2)])[1])
    before = open_below(root)
    for number in range(calls):
        try_put(store, "k", [b"n", ByteRange(0, 2)], fail=number)
        store.put("k", [b"old"])
    for key in ("directory", "link", "left", "missing/k"):
        try_put(store, key, [b"1"])
    assert open_below(root) == before
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for spare in range(3):
        names = os.listdir("/proc/self/fd")
        highest = max(map(int, names))
        held = [os.open(root / "k", os.O_RDONLY) for _ in range(highest + 1 - len(names))]  # all numbers below are in use
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(held, default=highest) + 1 + spare, hard))
            done, _ = try_put(store, "k", [b"n", ByteRange(0, 2)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in held:
                os.close(fd)
        assert (root / "k").read_bytes() == (b"old" if done is None else b"nol")
        store.put("k", [b"old"])
    assert open_below(root) == before


def test_a_directory_that_goes_away_and_comes_back_meanwhile(root: Path) -> None:
    """What is written is whole, and what fails is told."""
    store = FilesystemStore(root / "store")
    d, elsewhere = root / "store" / "d", root / "store" / "elsewhere"
    stop, written, refused = threading.Event(), 0, 0

    def move() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                os.rename(d, elsewhere)
            time.sleep(0.0005)
            with contextlib.suppress(OSError):
                os.rename(elsewhere, d)
            time.sleep(0.0005)

    mover = threading.Thread(target=move)
    mover.start()
    try:
        end = time.monotonic() + 1
        while time.monotonic() < end:
            try:
                store.put("d/k", [b"12", b"345"])
                written += 1
            except ZarrantError:
                refused += 1
    finally:
        stop.set()
        mover.join()
    assert written
    for path in (root / "store").rglob("k"):
        assert path.read_bytes() == b"12345"
    print(f"{written} written, {refused} refused")


def test_new_objects_have_the_permissions_of_the_umask_and_old_ones_keep_theirs(root: Path) -> None:
    store = FilesystemStore(root)
    for mask in (0o022, 0o002, 0o077, 0o027):
        before = os.umask(mask)
        try:
            assert try_put(store, f"k{mask}", [b"1"])[0] is not None
            os.chmod(root / f"k{mask}", 0o640)
            assert try_put(store, f"k{mask}", [b"2"])[0] is not None
            assert try_put(store, f"n{mask}", [b"2"])[0] is not None
        finally:
            os.umask(before)
        assert [stat.S_IMODE((root / f"{name}{mask}").stat().st_mode) for name in "kn"] == [0o640, 0o666 & ~mask]


def test_other_names_of_a_file_keep_the_old_object(root: Path) -> None:
    store = FilesystemStore(root)
    store.put("k", [b"old"])
    os.link(root / "k", root / "other")
    assert try_put(store, "k", [b"new"])[0] is not None
    assert ((root / "k").read_bytes(), (root / "other").read_bytes()) == (b"new", b"old")


def test_versions_differ_though_the_clock_has_jumped_back(root: Path) -> None:
    """And though the object has the same size: as after a change of time, or of the machine that writes."""
    store = FilesystemStore(root)
    version = store.put("k", [b"123"])
    ahead = time.time_ns() + 3600 * 10**9
    os.utime(root / "k", ns=(ahead, ahead))
    seen = {version}
    for value in range(50):
        done, _ = try_put(store, "k", [b"%03d" % value])
        assert done is not None and done[0][2] > ahead
        seen.add(done[0])
    assert len(seen) == 51


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd") or not hasattr(os, "fork"), reason="forks, and lists descriptors")
def test_a_child_that_is_forked_meanwhile_has_no_file_of_a_write(root: Path) -> None:
    """Whenever it is made: between the calls that open and close files too."""
    store = FilesystemStore(root)
    stop = threading.Event()

    def write(key: str, size: int) -> None:
        while not stop.is_set():
            store.put(key, [bytes(size)])

    threads = [threading.Thread(target=write, args=(f"k{n}", size)) for n, size in enumerate((1 << 18, 4 << 20))]
    for thread in threads:
        thread.start()
    found = []
    try:
        for _ in range(60):
            child = os.fork()
            if not child:
                os._exit(any(str(root) in link for link in open_links()))
            found.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert found == [0] * 60


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_child_that_is_forked_meanwhile_keeps_no_lock(root: Path) -> None:
    """Of many writes of large objects, while children are made that live on: each lock is free as soon as its write has ended."""
    store = FilesystemStore(root, lock_timeout=2)
    large = bytes(4 << 20)
    stop, errors = threading.Event(), list[Exception]()

    def write(key: str) -> None:
        while not stop.is_set():
            try:
                store.put(key, [large])
            except ZarrantError as error:
                errors.append(error)

    threads = [threading.Thread(target=write, args=(f"k{n}",)) for n in range(3)]
    for thread in threads:
        thread.start()
    children = []
    try:
        for _ in range(12):
            child = os.fork()
            if not child:
                time.sleep(1)
                os._exit(0)
            children.append(child)
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        codes = [os.waitstatus_to_exitcode(ended(child)) for child in children]
    assert codes == [0] * 12 and not errors
    assert not [name for name in names(root) if "__" in name]
