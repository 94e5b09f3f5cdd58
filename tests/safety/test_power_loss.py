"""Power is lost while processes write to a real file system: what was acknowledged is there when the disk is mounted again.

The disk is an image behind a loop device. The image holds what the device was given; what is dirty in the page cache of its
file system is not in it, and is lost with the power. It lies on an XFS of its own, which clones it in one instant (FICLONE),
in the midst of syncs too. Where the device flushed nothing between two clones, each sector in which they differ may be old or
new: no disk promises more. Where there is no XFS, the writers are stopped and the image copied until two copies are the same.

Each state is mounted (which replays the journal), and read by this library and by zarr-python. What a writer tells goes through
memory shared with the test, outside of the disk: the number of its operation that began, and of the last that was done.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c
from zarrant.errors import NodeNotFoundError, ZarrantError
from zarrant.stores.local import direct_io, file_reuse, syscalls
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.tools.check import check

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
CUTS = 5 * SOAK
"""Losses of power in each session of a soak run."""

WRITERS, UNIT, SLOTS = 3, 64, 1 << 14
SIZES = {"ext4": 64 << 20, "xfs": 300 << 20}
HOST_SIZE = 4 << 30
OPTIONS: dict[str, Any] = {"dtype": "uint32", "fill_value": 0, "chunks": (UNIT,), "compressors": [Crc32c()]}
FICLONE = 0x40049409

Told = Callable[[str], bool]


# ── disks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def tool(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(errno.EIO, f"{' '.join(map(str, command))}: {done.stderr.strip()}")


def made(kind: str, image: Path, size: int) -> Path:
    """A sparse image with a new file system; skips the test where there is no tool for it."""
    make = tool(f"mkfs.{kind}")
    if make is None:
        pytest.skip(f"mkfs.{kind} is not installed")
    with image.open("wb") as file:
        file.truncate(size)
    run(make, *(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"] if kind == "ext4" else ["-q", "-f"]), image)
    return image


@contextmanager
def mounted(image: Path, place: Path, *options: str) -> Iterator[Path]:
    place.mkdir(exist_ok=True)
    run("mount", "-o", ",".join(("loop", *options)), image, place)
    try:
        yield place
    finally:
        unmount(place)
        place.rmdir()


def unmount(place: Path) -> None:
    for _ in range(100):
        try:
            run("umount", place)
        except OSError:
            time.sleep(0.1)
        else:
            return
    run("umount", "-l", place)
    raise AssertionError(f"{place} is busy")


@contextmanager
def mountable(image: Path, place: Path, *options: str) -> Iterator[Path]:
    """The first mount of a new image; skips the test where that is not possible at all."""
    with ExitStack() as stack:
        try:
            found = stack.enter_context(mounted(image, place, *options))
        except OSError as error:
            pytest.skip(f"no loop mounts: {error}")
        yield found


class Disk(NamedTuple):
    """A mounted disk that can be cloned."""

    kind: str
    home: Path
    image: Path
    place: Path
    clones: bool

    def flushes(self) -> int:
        """How often the device has flushed."""
        for line in Path("/proc/mounts").read_text().splitlines():
            device, place, *_ = line.split()
            if place == str(self.place):
                return int(Path(f"/sys/block/{Path(device).name}/stat").read_text().split()[15])
        raise AssertionError("not mounted")

    def clone(self, name: str) -> Path:
        """The image as it is at this instant."""
        target = self.home / name
        with self.image.open("rb") as source, target.open("wb") as file:
            fcntl.ioctl(file.fileno(), FICLONE, source.fileno())
        return target

    def copy(self, name: str) -> Path:
        """The image, of which nothing changed while it was copied; its writers are stopped."""
        target, again = self.home / name, self.home / f"{name} again"
        run("cp", "--sparse=always", self.image, target)
        for _ in range(100):
            run("cp", "--sparse=always", self.image, again)
            if subprocess.run(["cmp", "-s", str(target), str(again)], check=False).returncode == 0:
                again.unlink()
                return target
            again.replace(target)
        raise AssertionError("the disk never rests")

    @contextmanager
    def after(self, image: Path) -> Iterator[Path]:
        """The disk as it is when it is mounted again."""
        try:
            with mounted(image, self.home / "after", *(["nouuid"] if self.kind == "xfs" else [])) as place:
                yield place
        finally:
            image.unlink()


@contextmanager
def disk(kind: str, tmp_path: Path, clones: bool = True) -> Iterator[Disk]:
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("loop mounts need root")
    home = tmp_path / "home"
    home.mkdir()
    clones = clones and tool("mkfs.xfs") is not None
    try:
        with ExitStack() as stack:
            if clones:
                stack.enter_context(mountable(made("xfs", tmp_path / "host.img", HOST_SIZE), home))
            image = made(kind, home / "disk.img", SIZES[kind])
            # By itself, the journal is to be written as seldom as possible.
            options = ["commit=300"] if kind == "ext4" else []
            place = stack.enter_context(mountable(image, tmp_path / "disk", *options))
            syscalls._mounts.clear()  # a moment ago another file system may have had the number of the device
            yield Disk(kind, home, image, place, clones)
    finally:
        for image in tmp_path.rglob("*.img"):
            image.unlink()


def mixed(old: Path, new: Path, dice: random.Random) -> int:
    """Make any of the sectors in which the new image differs old again; how many differ."""
    differ = 0
    with old.open("rb") as before, new.open("r+b") as after:
        offset, end = 0, os.fstat(after.fileno()).st_size
        while True:
            try:
                start = os.lseek(after.fileno(), offset, os.SEEK_DATA) // 512 * 512
            except OSError:
                return differ
            offset = min(os.lseek(after.fileno(), start, os.SEEK_HOLE), start + (16 << 20), end)
            size = (offset - start) // 512 * 512
            pair = [np.frombuffer(os.pread(file.fileno(), size, start), np.uint8).reshape(-1, 512) for file in (before, after)]
            for row in np.flatnonzero((pair[0] != pair[1]).any(1)).tolist():
                differ += 1
                if dice.random() < 0.5:
                    os.pwrite(after.fileno(), pair[0][row].tobytes(), start + 512 * row)
            if offset >= end:
                return differ


# ── writers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Slips:
    """What writers tell: (began, done) for each, in memory that a loss of power does not reach."""

    def __init__(self) -> None:
        self.told = np.frombuffer(mmap.mmap(-1, 16 * WRITERS), np.int64).reshape(2, WRITERS)

    def began(self) -> list[int]:
        return [int(value) for value in self.told[0]]

    def done(self) -> list[int]:
        return [int(value) for value in self.told[1]]


Work = Callable[[Any, int, int], None]


STORE_OPTIONS: dict[str, Any] = {}
"""Options of every store of a test."""


def opened(root: Path, durability: str, files: Syscalls | None = None, direct: bool = False) -> Any:
    store = FilesystemStore(root, durability=durability, syscalls=files, direct_io=direct, **STORE_OPTIONS)
    return zarrant.open_group(store, mode="r+", config={"durability": durability})


def write_on_and_on(group: Any, work: Work, slips: Slips, number: int, last: int) -> None:
    parent = os.getppid()
    for value in range(1, last + 1):
        if os.getppid() != parent:
            return
        slips.told[0, number] = value
        work(group, number, value)
        slips.told[1, number] = value


@contextmanager
def writers(count: int, work: Callable[[int], None]) -> Iterator[list[int]]:
    """Processes that work until they are killed, or rest when they are done; one that fails fails the test."""
    children: list[int] = []
    parent = os.getpid()
    try:
        for number in range(count):
            child = os.fork()
            if child == 0:
                try:
                    work(number)
                    while os.getppid() == parent:
                        time.sleep(1)
                except BaseException as error:
                    os.write(2, f"writer {number}: {error!r}\n".encode())
                os._exit(1)
            children.append(child)
        yield children
        assert [os.waitpid(child, os.WNOHANG) for child in children] == [(0, 0)] * count
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            try:
                os.waitpid(child, 0)
            except ChildProcessError:
                pass


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the writers do nothing"
        time.sleep(0.005)


# ── what they write, durably each ────────────────────────────────────────────────────────────────────────────────────


def part(number: int, units: int = 1) -> slice:
    return slice(number * units * UNIT, (number + 1) * units * UNIT)


def whole_chunk(group: Any, number: int, value: int) -> None:
    group["chunks"].store_chunk((number,), np.full(UNIT, value, "uint32"))


def part_of_a_shard(group: Any, number: int, value: int) -> None:
    group["shard"][part(number)] = value


def many_chunks(group: Any, number: int, value: int) -> None:
    group["many"][part(number, 4)] = value


def attribute(group: Any, number: int, value: int) -> None:
    group["chunks"].attrs.update({str(number): value})


def row(group: Any, number: int, value: int) -> None:
    group["rows"].append(np.array([[number, value]], "uint32"))


def new_array(group: Any, number: int, value: int) -> None:
    group.create_array(f"new/{number}/{value}", shape=(2 * UNIT,), **OPTIONS)[...] = value


WORK: tuple[Work, ...] = (whole_chunk, part_of_a_shard, many_chunks, attribute, row, new_array)


def durable(group: Any, number: int, value: int) -> None:
    WORK[value % len(WORK)](group, number, value)


def make_durable(root: Path) -> None:
    group = zarrant.create_group(root)
    size = WRITERS * UNIT
    group.create_array("chunks", shape=(size,), **OPTIONS)
    group.create_array("shard", shape=(size,), shards=(size,), **OPTIONS)
    group.create_array("many", shape=(4 * size,), **OPTIONS)
    group.create_array("rows", shape=(0, 2), **{**OPTIONS, "chunks": (4, 2)})


def judge_durable(root: Path, done: Sequence[int], began: Sequence[int]) -> list[str]:
    """What was acknowledged and is missing; anything that was never written is an error here and now."""
    group, missing = zarrant.open_group(root, mode="r"), []
    size = len(WORK)
    rows, attributes = group["rows"][...], group["chunks"].attrs

    def judge(work: Work, number: int, found: Any) -> None:
        which = WORK.index(work)
        values = {int(value) for value in np.unique(found)}
        assert all(value == 0 or (value % size == which and value <= began[number]) for value in values), (work, values)
        least = max((value for value in range(1, done[number] + 1) if value % size == which), default=0)
        if min(values, default=0) < least:
            missing.append(f"{work.__name__} {number}: {least}, found {values}")

    for number in range(WRITERS):
        for work, name, units in ((whole_chunk, "chunks", 1), (part_of_a_shard, "shard", 1), (many_chunks, "many", 4)):
            values = group[name][part(number, units)].reshape(units, UNIT)
            assert (values == values[:, :1]).all(), (work, values)
            judge(work, number, values)
        judge(attribute, number, attributes.get(str(number), 0))
        mine = rows[rows[:, 0] == number][:, 1] if len(rows) else np.empty(0, "uint32")
        mine = mine[mine > 0]
        expected = [value for value in range(1, began[number] + 1) if value % size == WORK.index(row)]
        assert mine.tolist() == expected[: len(mine)]
        judge(row, number, mine[-1:])
        for value in range(WORK.index(new_array), began[number] + 1, size):
            try:
                found = zarrant.open_array(root, name=f"new/{number}/{value}", mode="r")[...]
            except NodeNotFoundError:
                found = np.zeros(1)
            assert set(np.unique(found).tolist()) <= {0, value}
            if value <= done[number] and found.min() == 0:
                missing.append(f"new_array {number}: {value}")
    return missing


# ── what they write, and sync afterwards ─────────────────────────────────────────────────────────────────────────────


def synced(group: Any, number: int, value: int) -> None:
    """Objects that were not there: what is written again after a sync, and not synced, may be torn."""
    unsynced(group, number, value)
    group["slots"].sync()


def unsynced(group: Any, number: int, value: int) -> None:
    slot = value * WRITERS + number
    group["slots"][part(slot, 2)] = value
    group["shards"][part(slot, 2)] = value
    if value % 3 == 0:
        new_array(group, number, value)


def make_slots(root: Path) -> None:
    group = zarrant.create_group(root)
    group.create_array("slots", shape=(2 * SLOTS * UNIT,), **OPTIONS)
    group.create_array("shards", shape=(2 * SLOTS * UNIT,), shards=(2 * UNIT,), **OPTIONS)


def judge_slots(root: Path, done: Sequence[int], began: Sequence[int]) -> list[str]:
    """What was acknowledged and is missing; what was not may be torn, which is told."""
    group, missing = zarrant.open_group(root, mode="r"), []
    for number in range(WRITERS):
        for value in range(1, began[number] + 1):
            slot = part(value * WRITERS + number, 2)
            reads: list[Callable[[], Any]] = [lambda slot=slot: group["slots"][slot], lambda slot=slot: group["shards"][slot]]
            if value % 3 == 0:
                name = f"new/{number}/{value}"
                reads.append(lambda name=name: zarrant.open_array(root, name=name, mode="r")[...])
            for read in reads:
                try:
                    found = set(np.unique(read()).tolist())
                except ZarrantError as error:
                    found = {repr(error)}
                else:
                    assert found <= {0, value}
                if value <= done[number] and found != {value}:
                    missing.append(f"{number}: {value}, found {found}")
    return missing


class Mode(NamedTuple):
    durability: str
    make: Callable[[Path], None]
    work: Work
    judge: Callable[[Path, Sequence[int], Sequence[int]], list[str]]
    direct: bool = False


MODES = {
    "fsync": Mode("fsync", make_durable, durable, judge_durable),
    "direct": Mode("fsync", make_durable, durable, judge_durable, direct=True),
    "sync": Mode("rename", make_slots, synced, judge_slots),
    "neither": Mode("rename", make_slots, unsynced, judge_slots),
}


# ── trials ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Cut(NamedTuple):
    """A disk without power: its image, what was done at least by then and begun at most, and the sectors that were unsure."""

    image: Path
    done: list[int]
    began: list[int]
    unsure: int


def cut(disk: Disk, slips: Slips, children: Sequence[int], dice: random.Random) -> Cut:
    """Cut the power; the writers are stopped from then on."""
    if not disk.clones:
        stop(children)
        done = slips.done()
        return Cut(disk.copy("lost.img"), done, slips.began(), 0)
    unsure = 0
    for _ in range(dice.choice((1, 30))):
        flushes, earlier = disk.flushes(), slips.done()
        old = disk.clone("old.img")
        time.sleep(dice.uniform(0, 0.002))
        done = slips.done()
        new = disk.clone("lost.img")
        flushed, began = disk.flushes() != flushes, slips.began()
        unsure = 0 if flushed else mixed(old, new, dice)
        if unsure:
            break
    stop(children)
    old.unlink()
    return Cut(new, earlier if unsure else done, began, unsure)


def stop(children: Sequence[int]) -> None:
    for child in children:
        os.kill(child, signal.SIGSTOP)
    for child in children:
        wait_until(lambda child=child: Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T")


def judge(mode: Mode, root: Path, lost: Cut) -> list[str]:
    """What is missing; everything else must be in order, also for zarr-python, and writing must go on."""
    missing = mode.judge(root, lost.done, lost.began)
    strange = pytest.importorskip("zarr").open_group(root, mode="r")
    if mode.work is durable:
        report = check(root, deep=True)
        left = [finding for finding in report.findings if finding.kind in ("lock", "temp file", "orphan")]
        assert [finding for finding in report.findings if finding.severity != "note" and finding not in left] == []
        # At most a lock and a temp file for each of the chunks that a call stores together, and the lock of a document.
        assert len(left) <= (2 * 4 + 1) * WRITERS
        for name in ("chunks", "shard", "many", "rows"):
            assert np.array_equal(strange[name][...], zarrant.open_array(root, name=name, mode="r")[...])
    elif not missing:
        for number, done in enumerate(lost.done):
            for value in range(1, done + 1):
                assert (strange["slots"][part(value * WRITERS + number, 2)] == value).all()
    write_on(root, mode, lost)
    return missing


def write_on(root: Path, mode: Mode, lost: Cut) -> None:
    group = zarrant.open_group(root, mode="r+")
    if mode.work is durable:
        for name in ("chunks", "shard", "many"):
            group[name][1:-1] = 7
            assert (group[name][1:-1] == 7).all()
        at = group["rows"].append(np.full((3, 2), 9, "uint32"))
        assert (group["rows"][at] == 9).all()
        group["chunks"].attrs.update({"next": True})
        assert group["chunks"].attrs["next"]
    else:
        last = part(max(lost.began) * WRITERS + WRITERS, 2)
        for name in ("slots", "shards"):
            group[name][: last.stop] = 7
            assert (group[name][: last.stop] == 7).all()
    # A group that was not synced may have a torn document, which is told, and in the way of what is made below it.
    name = f"new/0/{max(lost.began)}" if mode.work is durable else "next"
    made = group.create_array(name, shape=(UNIT,), overwrite=True, **OPTIONS)
    made[...] = 5
    assert (made[...] == 5).all()


class Trials(NamedTuple):
    """How many there were, the writes that were acknowledged, what is missing of them, and how many disks had unsure sectors."""

    count: int
    acknowledged: int
    missing: list[str]
    unsure: int


def trials(disk: Disk, mode: Mode, count: int) -> Trials:
    root, slips, dice = disk.place / "data", Slips(), random.Random()
    mode.make(root)
    os.sync()
    missing: list[str] = []
    unsure = 0
    last = SLOTS // WRITERS - 2

    def work(number: int) -> None:
        write_on_and_on(opened(root, mode.durability, direct=mode.direct), mode.work, slips, number, last)

    flushes = disk.flushes()
    assert flushes, "the device does not tell of its flushes"
    with writers(WRITERS, work) as children:
        for _ in range(count):
            seen = slips.done()
            wait_until(lambda seen=seen: all(now > before for now, before in zip(slips.done(), seen, strict=True)))
            time.sleep(dice.uniform(0, 0.2))
            lost = cut(disk, slips, children, dice)
            unsure += lost.unsure > 0
            with disk.after(lost.image) as place:
                missing += judge(mode, place / "data", lost)
            for child in children:
                os.kill(child, signal.SIGCONT)
    assert mode.work is unsynced or disk.flushes() > flushes, "nothing was ever synced"
    return Trials(count, sum(slips.done()), missing, unsure)


QUICK = {("ext4", "fsync"), ("xfs", "sync"), ("ext4", "direct")}
ALL = [(kind, mode) for kind in SIZES for mode in ("fsync", "sync", "direct")]


@pytest.fixture(params=[False, True] if SOAK else [True], ids=lambda keeps: "reuse" if keeps else "")
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether what an update replaced is kept for the next one, also where the copy was fast."""
    if request.param:
        monkeypatch.setitem(STORE_OPTIONS, "file_reuse", True)
        monkeypatch.setattr(file_reuse, "MIN_COPY_S", dict.fromkeys(file_reuse.MIN_COPY_S, -1.0))
        monkeypatch.setattr(file_reuse, "MIN_BYTES", 0)
    return bool(request.param)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("kind", "mode"), ALL if SOAK else sorted(QUICK))
def test_what_was_acknowledged_outlives_a_loss_of_power(
    kind: str, mode: str, kept: bool, tmp_path: Path, tally: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_io, "MIN_BYTES", 1)
    with disk(kind, tmp_path) as made:
        found = trials(made, MODES[mode], CUTS or 1)
    print(f"{kind}, {mode}: {found.count} losses of power, {found.unsure} of them with unsure sectors,", end=" ")
    print(f"{found.acknowledged} writes acknowledged, {len(found.missing)} missing")
    assert found.missing == []
    tally("power cuts", found.count)


@pytest.mark.skipif(not SOAK, reason="ZARRANT_SOAK: the other way to cut")
def test_where_images_cannot_be_cloned(tmp_path: Path, tally: Any) -> None:
    with disk("ext4", tmp_path, clones=False) as made:
        found = trials(made, MODES["fsync"], 3 * SOAK)
    assert (found.missing, found.unsure) == ([], 0)
    tally("power cuts", found.count)


# ── the test can fail ────────────────────────────────────────────────────────────────────────────────────────────────

kinds = pytest.mark.parametrize("kind", SIZES if SOAK else ["ext4"])


@kinds
def test_what_was_not_synced_is_lost(kind: str, tmp_path: Path) -> None:
    """The default, without a `sync`: writes that were done are missing, or torn and told."""
    with disk(kind, tmp_path) as made:
        found = trials(made, MODES["neither"], 3 if SOAK else 1)
    print(f"{kind}, no syncs: {found.count} losses of power, {found.acknowledged} writes done, {len(found.missing)} missing")
    assert found.missing


class Forgetful(Syscalls):
    """Says it has synced, and has not, what is a directory or what is none."""

    def __init__(self, directories: bool) -> None:
        self.directories = directories

    def sync(self, fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}") != self.directories:
            super().sync(fd)


@kinds
@pytest.mark.parametrize("forgotten", ["nothing", "data", "directories"])
def test_every_sync_is_needed(kind: str, forgotten: str, tmp_path: Path) -> None:
    """One new object, durably; then power is lost at once."""
    files = Syscalls() if forgotten == "nothing" else Forgetful(forgotten == "directories")
    with disk(kind, tmp_path) as made:
        root, slips = made.place / "data", Slips()
        make_durable(root)
        os.sync()

        def work(number: int) -> None:
            write_on_and_on(opened(root, "fsync", files), whole_chunk, slips, number, 1)

        with writers(1, work) as children:
            wait_until(lambda: slips.done()[0] == 1)
            image = made.clone("lost.img") if made.clones else (stop(children), made.copy("lost.img"))[1]
        with made.after(image) as place:
            try:
                found = zarrant.open_array(place / "data", name="chunks", mode="r")[part(0)]
            except ZarrantError:
                found = np.zeros(1)
    assert (found == 1).all() == (forgotten == "nothing")


# ── one sync for all that this process wrote, and its children ───────────────────────────────────────────────────────


def set_ones(root: Path) -> None:
    zarrant.open_array(root, mode="r+")[...] = 1


def by_a_handle_that_is_gone(root: Path) -> None:
    set_ones(root / "many")


def through_the_group(root: Path) -> None:
    zarrant.open_group(root, mode="r+")["many"][...] = 1


def through_a_link(root: Path) -> None:
    (root.parent / "link").symlink_to(root)
    set_ones(root.parent / "link" / "many")


def in_a_pool(root: Path) -> None:
    array = zarrant.open_array(root / "many", mode="r+")
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        list(pool.map(array.store_array_subset, [part(i, 4) for i in range(WRITERS)], [1] * WRITERS))


def in_a_child_that_was_killed(root: Path) -> None:
    child = os.fork()
    if child == 0:
        set_ones(root / "many")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def in_a_new_interpreter(root: Path) -> None:
    run(sys.executable, "-c", "import sys, zarrant; zarrant.open_array(sys.argv[1], mode='r+')[...] = 1", root / "many")


WROTE = (by_a_handle_that_is_gone, through_the_group, through_a_link, in_a_pool, in_a_child_that_was_killed, in_a_new_interpreter)


@pytest.mark.timeout(600)
@kinds
def test_a_sync_is_for_all_that_this_process_and_its_children_wrote(kind: str, tmp_path: Path, tally: Any) -> None:
    with disk(kind, tmp_path) as made:
        for number, write in enumerate(WROTE):
            home = made.place / str(number)
            home.mkdir()
            make_durable(home / "data")
            os.sync()
            write(home / "data")
            zarrant.open_array(home / "data" / "many", mode="r+").sync()
            with made.after(made.clone("lost.img") if made.clones else made.copy("lost.img")) as place:
                found = zarrant.open_array(place / str(number) / "data" / "many", mode="r")[...]
                assert (found == 1).all(), write.__name__
    tally("power cuts", len(WROTE))


class Heedless(Syscalls):
    """Lets the system decide when data go to the device."""

    def write_out(self, fd: int) -> None:
        pass

    def order(self, device: int) -> str:
        return "memory"


def synced_then_updated(made: Disk, name: str, files: Syscalls | None = None) -> str:
    """What is left of a shard and a chunk that were synced, and then updated and erased and written again without."""
    root = made.place / name
    store = FilesystemStore(root, syscalls=files)
    group = zarrant.create_group(store)
    size = 64 * UNIT
    shard = group.create_array("shard", shape=(size,), shards=(size,), **OPTIONS)
    chunks = group.create_array("chunks", shape=(4 * UNIT,), **OPTIONS)
    shard[...] = np.arange(1, size + 1, dtype="uint32")
    chunks[...] = 1
    group.store.sync()
    for value in range(2, 5):
        shard[part(value)] = 0xFFFFFFFF
        chunks[part(0)] = value
        chunks.erase_chunk((1,))
        chunks[part(1)] = value
        group.attrs["n"] = value
    with (made.place / "other").open("wb") as file:  # another program has the journal written
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())
    with made.after(made.clone("lost.img") if made.clones else made.copy("lost.img")) as place:
        try:
            after = zarrant.open_group(place / name, mode="r")
            found = after["shard"][part(5).start :]
            assert np.array_equal(found, np.arange(part(5).start + 1, size + 1))
            assert all(set(after["chunks"][part(at)].tolist()) <= set(range(5)) for at in range(4))
        except ZarrantError as error:
            return f"lost: {error}"
    return "old or new"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", SIZES)
def test_what_was_synced_stays_through_an_update_without(kind: str, tmp_path: Path, tally: Any) -> None:
    with disk(kind, tmp_path) as made:
        for trial in range(5 * SOAK or 1):
            assert synced_then_updated(made, str(trial)) == "old or new"
            assert kind != "xfs" or synced_then_updated(made, f"heedless {trial}", Heedless()) != "old or new"
    tally("power cuts", 5 * SOAK or 1)
