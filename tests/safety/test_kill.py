"""Writers killed at random and at every file call: each object is whole, old or new, for every library; the next write is exact.

After each kill Zarrant and one of the other libraries, by turns, read the array; then one of them writes a value that is
shorter than what the killed writer may have left behind.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import mmap
import os
import random
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import ended
from zarrant.codecs import Crc32c, Zstd
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import FaultySyscalls

SCRIPT = Path(__file__).with_name("readers.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
RANDOM = 800 * SOAK or 8
AT_STEPS = 850 * SOAK
"""Kills of each case; 0: some steps of every operation."""
SHAPE, SHARD, CHUNK = (64, 128), (64, 64), (16, 16)
LAYOUTS: dict[str, Any] = {"chunk": {"chunks": SHARD}, "shard": {"chunks": CHUNK, "shards": SHARD}}
REGION = np.s_[8:50, 8:50]
"""A part of the first shard: whole subchunks in the middle, partly covered ones around them."""

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.timeout(3600 * SOAK or 180),
]
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def values(k: int) -> np.ndarray:
    """What the array holds after write k: every element tells k; odd ones compress to little, even ones do not."""
    noise = np.random.default_rng(k).integers(0, 2**20, SHAPE) if k % 2 == 0 else np.zeros(SHAPE, "int64")
    return (k * 2**20 + noise).astype("uint64")


def array(place: Any, layout: str) -> Any:
    return zarrant.create_array(place, shape=SHAPE, dtype="uint64", compressors=[Zstd(), Crc32c()], **LAYOUTS[layout])


def forked(work: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child makes its own threads
        child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
            os._exit(1)
        os._exit(0)
    return child


# ── the other libraries ──────────────────────────────────────────────────────────────────────────────────────────────


class Strangers:
    """The other libraries, in a process that is not forked: their threads would not bear it."""

    def __init__(self, place: Path) -> None:
        names = {"zarr": ["zarr"], "zarrs": ["zarr", "zarrs"], "tensorstore": ["tensorstore"]}
        self.names = [name for name, needs in names.items() if all(map(importlib.util.find_spec, needs))]
        self.turn = itertools.cycle(self.names)
        self.writer = itertools.cycle(["ours", *self.names])
        self.file = place / "values.npy"
        self.counts: Counter[str] = Counter()
        self.process = subprocess.Popen([sys.executable, SCRIPT, "serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.answer() == "ready"

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def do(self, what: str, library: str, path: Path) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([what, library, str(path), str(self.file)]) + "\n")
        self.process.stdin.flush()
        answer = self.answer()
        assert answer == "done", f"{library} cannot {what}: {answer}"
        self.counts[f"{what} by {library}"] += 1

    def read(self, library: str, path: Path) -> np.ndarray:
        self.do("read", library, path)
        found: np.ndarray = np.load(self.file)
        return found

    def write(self, library: str, path: Path, new: np.ndarray) -> None:
        np.save(self.file, new)
        self.do("write", library, path)


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Strangers]:
    started = Strangers(tmp_path_factory.mktemp("strangers"))
    if not started.names:
        pytest.skip("no other library is installed")
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def locks(path: Path) -> list[str]:
    return [file.name for file in path.rglob("*") if file.name.endswith("__lock")]


def check(path: Path, strangers: Strangers, allowed: Sequence[tuple[np.ndarray, ...]]) -> np.ndarray:
    """Each of the two objects is one of those allowed, and every library sees the same; what is there."""
    found = zarrant.open_array(path, mode="r")[...]
    for half, whole in zip((found[:, :64], found[:, 64:]), allowed, strict=True):
        assert any(np.array_equal(half, one) for one in whole)
    # The three in turn: each of them costs about as much as the kill. In the quick run, which has few, all of them.
    for library in strangers.names if not SOAK else [next(strangers.turn)]:
        assert np.array_equal(strangers.read(library, path), found), library
    return found


def write_shorter(path: Path, strangers: Strangers, layout: str, k: int) -> np.ndarray:
    """A value that compresses to little must be written exactly, whatever was left behind."""
    k += k % 2 == 0
    new = values(k)
    a = zarrant.open_array(path, mode="r+")
    writer = next(strangers.writer)
    if writer == "ours":
        a[...] = new
        alone = array({}, layout)
        alone[...] = new
        for chunk in ((0, 0), (0, 1)):
            assert bytes(a.retrieve_encoded_chunk(chunk)) == bytes(alone.retrieve_encoded_chunk(chunk))
    else:
        strangers.write(writer, path, new)
        assert np.array_equal(a[...], new)
        a[...] = new  # others leave what they found, we do not
    assert np.array_equal(a[...], new)
    assert locks(path) == []
    return new


# ── at random ────────────────────────────────────────────────────────────────────────────────────────────────────────


def step(a: Any, k: int) -> None:
    """Write number k: an update of the first object and the whole second one, long or short by turns."""
    a[REGION] = values(k)[REGION]
    a[:, 64:] = values(k)[:, 64:]


def write_for_ever(path: Path, k: int, done: mmap.mmap) -> None:
    a = zarrant.open_array(path, mode="r+")
    while True:
        k += 1
        step(a, k)
        done[:8] = struct.pack("<q", k)


def kill_a_writer(path: Path, k: int, done: mmap.mmap, writes: int, seconds: float) -> None:
    """Kill a writer so many seconds after it has done so many writes: on a busy machine time alone would kill all in the first."""
    child = forked(lambda: write_for_ever(path, k, done))
    try:
        until = time.monotonic() + 60
        while struct.unpack("<q", done[:8])[0] < k + writes and time.monotonic() < until:
            time.sleep(0.001)
        time.sleep(seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        status = ended(child)
    assert os.WIFSIGNALED(status), "the writer ended by itself"


@layouts
def test_killed_at_random(tmp_path: Path, strangers: Strangers, layout: str, tally: Callable[[str, int], None]) -> None:
    path, done = tmp_path / "a", mmap.mmap(-1, 8)
    array(path, layout)
    dice, left, seen, k = random.Random(0), 0, set(), 0
    whole = write_shorter(path, strangers, layout, k)
    strangers.counts.clear()
    for _ in range(RANDOM):
        done[:8] = struct.pack("<q", k := k + 2)
        base = whole
        step(zarrant.open_array(path, mode="r+"), k)
        kill_a_writer(path, k, done, dice.randrange(4), dice.uniform(0.003, 0.03))
        (acknowledged,) = struct.unpack("<q", done[:8])
        seen.add(acknowledged - k)
        left += bool(locks(path))
        assert len(locks(path)) <= 4
        allowed: list[list[np.ndarray]] = [[], []]
        for number in (acknowledged, acknowledged + 1):  # the last that was acknowledged, or the one after it
            expected = base.copy()
            step(expected, number)
            allowed[0].append(expected[:, :64])
            allowed[1].append(expected[:, 64:])
        check(path, strangers, [tuple(one) for one in allowed])
        k = acknowledged + 2
        whole = write_shorter(path, strangers, layout, k)
    print(f"{RANDOM} writers of {layout}s killed, {left} in the middle of a write, after {sorted(seen)} writes; ", end="")
    print(dict(strangers.counts))
    assert left
    assert len(seen) > 1
    tally("kills", RANDOM)


# ── at every step ────────────────────────────────────────────────────────────────────────────────────────────────────


def update(target: Any, k: int) -> None:
    target[REGION] = values(k)[REGION]


def little(target: Any, k: int) -> None:
    """So little that the rest of a shard is copied, not written again."""
    target[2:5, 2:5] = k


def whole(target: Any, k: int) -> None:
    target[:, 64:] = values(k)[:, 64:]


def erase(target: Any, k: int) -> None:
    target[:, :64] = 0


def both(target: Any, k: int) -> None:
    target[3:60, 5:120] = values(k)[3:60, 5:120]


OPERATIONS = (update, little, whole, erase, both)


class Killer(FaultySyscalls):
    """Kills its process before a file call, or in the middle of one that writes; and notes which call it was."""

    def __init__(self, at: int, torn: bool, noted: mmap.mmap) -> None:
        super().__init__(self.kill)
        self.at, self.torn, self.noted, self.armed = at, torn, noted, -1

    def kill(self, index: int, name: str) -> None:
        if self.armed >= 0 and index >= self.armed + self.at:
            self.noted[:16] = name.encode().ljust(16)
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        if self.torn and self.armed >= 0 and len(self.calls) >= self.armed + self.at:
            half = len(views[0]) // 2
            Syscalls.write(self, fd, [views[0][: half - half % 4096 or half]], offset)  # blocks, as direct I/O has it
        written: int = super().write(fd, views, offset)
        return written


MODES: dict[str, dict[str, Any]] = {"rename": {}, "fsync": {"durability": "fsync"}, "direct": {"direct_io": True}}


def killed_at(path: Path, options: dict[str, Any], change: Callable[[], None], syscalls: Killer) -> str | None:
    """Let a process make a change until it is killed: the name of the call; None where it was not, because it had done."""

    def work() -> None:
        a = zarrant.open_array(FilesystemStore(path, syscalls=syscalls, **options), mode="r+")
        syscalls.armed = len(syscalls.calls)
        change(a)

    status = ended(forked(work))
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return syscalls.noted[:16].decode().strip() if os.WIFSIGNALED(status) else None


def steps(dice: random.Random) -> Iterator[int]:
    """Every step, or some of them."""
    return itertools.count() if SOAK else itertools.count(dice.randrange(12), 12)


@layouts
@pytest.mark.parametrize("mode", MODES)
def test_killed_at_every_step(
    tmp_path: Path, strangers: Strangers, layout: str, mode: str, tally: Callable[[str, int], None]
) -> None:
    path, noted = tmp_path / "a", mmap.mmap(-1, 16)
    array(path, layout)
    dice, k, killed = random.Random(0), 2, Counter[str]()
    strangers.counts.clear()
    torn = False
    while not killed or killed.total() < AT_STEPS:
        torn = not torn
        for operation in OPERATIONS:
            before = write_shorter(path, strangers, layout, k)
            for at in steps(dice):
                k += 2
                after = before.copy()
                operation(after, k)
                name = killed_at(path, MODES[mode], lambda a, run=operation, k=k: run(a, k), Killer(at, torn, noted))
                if name is None:
                    assert np.array_equal(zarrant.open_array(path)[...], after)
                    break
                killed[name] += 1
                allowed = [(before[:, :64], after[:, :64]), (before[:, 64:], after[:, 64:])]
                check(path, strangers, allowed)
                before = write_shorter(path, strangers, layout, k)
    print(f"{killed.total()} writers of {layout}s ({mode}) killed: {dict(killed)}; {dict(strangers.counts)}")
    if SOAK:
        needed = {"open", "lock", "stat", "write", "set_mtime", "fstat", "close", "rename", "unlink", "unlock", "read"}
        assert killed.keys() >= needed | ({"sync"} if mode == "fsync" else set())
        assert mode != "direct" or killed.keys() >= {"set_direct", "truncate"}
        assert layout == "chunk" or killed["copy"]
    tally("kills", killed.total())
