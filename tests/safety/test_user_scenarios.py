"""What users of Zarr writers reported as lost, run again: one test a scenario, named after where it was told.

This file is a worker process too, as `python test_user_scenarios.py`: each line of its input names a function of WORKS and the
arguments of it as JSON, and it answers each with a line of JSON. `ZARRANT_SOAK=1` runs the scenarios in their full size.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from children import ended
from zarrant.errors import NodeExistsError, ZarrantError
from zarrant.stores.local.store import FilesystemStore
from zarrant.testkit import FaultySyscalls, together

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
PROCESSES = 32 if SOAK else 10
TIMEOUT = 3600 if SOAK else 120

pytestmark = pytest.mark.timeout(TIMEOUT)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


# ── the processes ────────────────────────────────────────────────────────────────────────────────────────────────────


class Worker:
    """A started interpreter that does what it is told."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, work: str, *arguments: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([work, *arguments]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"a worker ended with {self.process.wait(10)}"
        found = json.loads(line)
        assert "error" not in found, found["error"]
        return found["result"]

    def kill(self) -> str:
        """End it wherever it is; what it had still said."""
        self.process.send_signal(signal.SIGKILL)
        with self.process:
            # Not `communicate`: it does not know of the lines that came with one that was read.
            return "" if self.process.stdout is None else self.process.stdout.read()


@pytest.fixture(scope="module")
def workers() -> Iterator[list[Worker]]:
    started = [Worker() for _ in range(PROCESSES)]
    try:
        for worker in started:
            worker.tell("greet")
        assert len({worker.answer() for worker in started}) == PROCESSES
        yield started
    finally:
        for worker in started:
            worker.kill()


def at_once(workers: list[Worker], work: str, arguments: Callable[[int], tuple[Any, ...]]) -> list[Any]:
    """Let each worker do its part, begun at one moment; their answers."""
    moment = time.time() + 0.02
    for number, worker in enumerate(workers):
        worker.tell("at", moment, work, *arguments(number))
    return [worker.answer() for worker in workers]


def at(moment: float, work: str, *arguments: Any) -> Any:
    time.sleep(max(0.0, moment - time.time()))
    return WORKS[work](*arguments)


def locks(path: Path) -> list[str]:
    return [file.name for file in path.rglob("*") if file.name.endswith("__lock")]


# ── 1: a pool of processes appends ───────────────────────────────────────────────────────────────────────────────────

BLOCK = 5


def append(path: str, first: int, last: int, step: int) -> list[int]:
    a = zarrant.open_array(path, mode="r+")
    return [a.append(np.full(BLOCK, k, "int32")).start for k in range(first, last, step)]


@pytest.mark.parametrize("layout", [{"chunks": 7}, {"chunks": 3, "shards": 12}], ids=["chunks", "shards"])
def test_01_processes_append_blocks_zarr_701(tmp_path: Path, workers: list[Worker], layout: dict[str, int]) -> None:
    """Every block is there once and whole, whoever appended it, where `append` said it is."""
    blocks = 1000 if SOAK else 200
    zarrant.create_array(tmp_path, shape=0, dtype="int32", fill_value=-1, **layout)
    got = at_once(workers, "append", lambda n: (str(tmp_path), n, blocks, PROCESSES))
    found = zarrant.open_array(tmp_path, mode="r")[...]
    assert sorted(found.tolist()) == sorted(list(range(blocks)) * BLOCK)
    starts = {k: start for n, mine in enumerate(got) for k, start in zip(range(n, blocks, PROCESSES), mine, strict=True)}
    assert all((found[start : start + BLOCK] == k).all() for k, start in starts.items())
    order = [k % PROCESSES for k in found[::BLOCK].tolist()]
    assert locks(tmp_path) == []
    print(f"{blocks} blocks appended to {layout} by {PROCESSES} processes, none lost")
    if sum(a != b for a, b in itertools.pairwise(order)) <= PROCESSES:
        pytest.skip("all is right, but the machine ran the processes one after another")


# ── 2: writes that span chunks ───────────────────────────────────────────────────────────────────────────────────────


def diagonal(path: str, number: int, rounds: int) -> None:
    a = zarrant.open_array(path, mode="r+")
    mine = slice(3 * number, 3 * number + 3)
    for k in range(1, rounds + 1):
        a[mine, mine] = k * 100 + number
        assert (a[mine, mine] == k * 100 + number).all(), "what was just written is gone"


def cross(path: str, number: int, rounds: int) -> int:
    """Set one of two regions, each across a border of chunks, to a value of its own; as one operation."""
    a = zarrant.open_array(path, mode="r+")
    mine = (slice(2, 6), slice(6, 10))[number % 2]
    others = 0
    for k in range(rounds):
        with a.lock(mine) as locked:
            shown = set(locked[mine].tolist())
            assert len(shown) == 1, f"half of a write: {shown}"
            others += shown != {0} and shown != {(k - 1) * 100 + number + 1}
            locked[mine] = k * 100 + number + 1
    return others


def test_02_diagonal_across_chunks_zarr_857(tmp_path: Path, workers: list[Worker]) -> None:
    """Writes of 3 × 3 into chunks of 2 × 2 that neighbours share; and values across a border that stay one under `lock`."""
    rounds, ten = 100 if SOAK else 10, workers[:10]
    a = zarrant.create_array(tmp_path / "a", shape=(30, 30), dtype="int32", chunks=(2, 2), fill_value=0)
    at_once(ten, "diagonal", lambda n: (str(tmp_path / "a"), n, rounds))
    expected = np.kron(np.diag(rounds * 100 + np.arange(10)), np.ones((3, 3), int))
    np.testing.assert_array_equal(a[...], expected)
    b = zarrant.create_array(tmp_path / "b", shape=12, dtype="int32", chunks=4, fill_value=0)
    others = at_once(ten, "cross", lambda n: (str(tmp_path / "b"), n, rounds))
    assert [len(set(b[part].tolist())) for part in (np.s_[2:6], np.s_[6:10])] == [1, 1]
    assert sum(others) > 0, "no process ever saw another's value"
    assert locks(tmp_path) == []
    print(f"{rounds} rounds of 10 processes along the diagonal, and across a border: none lost, none torn")


# ── 3, 4: threads, and threads of several processes ──────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_03_four_threads_one_index_each_xarray_5883(tmp_path: Path, place: str) -> None:
    """Regions that do not overlap in chunks that span all of them."""
    rounds = 500 if SOAK else 15
    for k in range(rounds):
        store = zarrant.MemoryStore() if place == "memory" else zarrant.FilesystemStore(tmp_path / str(k))
        a = zarrant.create_array(store, shape=(4, 10, 6), dtype="float64", chunks=(4, 5, 3), fill_value=np.nan)
        handles = [a if k % 2 else zarrant.open_array(store) for _ in range(4)]
        together(*(lambda i=i, b=b: b.__setitem__((i,), float(i)) for i, b in enumerate(handles)))
        np.testing.assert_array_equal(a[...], np.broadcast_to(np.arange(4.0)[:, None, None], (4, 10, 6)))
    print(f"{rounds} times 4 threads in {place}, one index each, none lost")


def put_tasks(path: str, number: int, processes: int) -> None:
    """The share of one process of a graph that puts blocks of 3 × 3: every so-many-th, in a pool of two threads."""
    a = zarrant.open_array(path, mode="r+")
    corners = [(i, j) for i in range(0, a.shape[0], 3) for j in range(0, a.shape[1], 3)][number::processes]

    def put(corner: tuple[int, int]) -> None:
        i, j = corner
        a[i : i + 3, j : j + 3] = np.full((3, 3), i * 100 + j)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(put, corners))


def test_04_loop_under_two_threads_a_worker_xarray_8876(tmp_path: Path, workers: list[Worker]) -> None:
    """Blocks that are not those of the array, as a graph of tasks writes them, time after time."""
    repeats = 100 if SOAK else 12
    side = np.arange(12) // 3 * 3
    expected = side[:, None] * 100 + side
    for k in range(repeats):
        layout: dict[str, Any] = {"chunks": (4, 5)} if k % 2 else {"chunks": (2, 2), "shards": (4, 8)}
        a = zarrant.create_array(tmp_path / str(k), shape=(12, 12), dtype="int64", fill_value=-1, **layout)
        at_once(workers[:2], "put_tasks", lambda n, k=k: (str(tmp_path / str(k)), n, 2))
        np.testing.assert_array_equal(a[...], expected)
    assert locks(tmp_path) == []
    print(f"{repeats} times 16 blocks by 2 processes of 2 threads, none lost")


# ── 6: data and shards at creation ───────────────────────────────────────────────────────────────────────────────────


def test_06_create_with_data_and_shards_zarr_3169(tmp_path: Path) -> None:
    """The library against itself: all subchunks of all shards are there, each time, new or in place of an older array."""
    scale, repeats = (1, 100) if SOAK else (10, 12)
    shape, chunks, shards = ((x // scale, y // scale) for x, y in ((10_000, 2_000), (1_000, 100), (5_000, 500)))
    data = np.random.default_rng(6).integers(1, 2**31, shape, "int32")
    for k in range(repeats):
        path = tmp_path / ("again" if k % 2 else str(k))
        a = zarrant.create_array(path, data=data + k, chunks=chunks, shards=shards, overwrite=bool(k % 2))
        assert np.array_equal(zarrant.open_array(path, mode="r")[...], data + k)
        assert len(list(path.glob("c/*/*"))) == 8
        assert (a.chunks, a.shards) == (chunks, shards)
    print(f"{repeats} times {shape} in chunks {chunks} and shards {shards} at creation, none with a hole")


# ── 8: writers that are killed ───────────────────────────────────────────────────────────────────────────────────────

# 67 × 3 × 1068 × 256 × 1664 in shards of 1 × 1 × 1072 × 256 × 1792, with the same raggedness: 67 rows of 7 subchunks, of which the
# last row has 3 of 4 planes, and the last column is half inside.
SHAPE, SHARD, SUBCHUNK = (4, 3, 268 - 1, 8, 52), (1, 1, 268, 8, 56), (1, 1, 4, 8, 8)
PAIRS = 4
INNER = np.s_[2:265, 1:7, 5:50]
"""A part of a shard, which is updated: some subchunks wholly, some partly."""


def volume(k: int) -> np.ndarray:
    """What write k stores: every element tells k; odd ones compress to little, even ones do not."""
    noise = np.random.default_rng(k).integers(0, 256, SHAPE[2:]) if k % 2 == 0 else 0
    return np.broadcast_to(k * 256 + noise, SHAPE[2:]).astype("uint32")


def after(k: int) -> np.ndarray:
    """What a shard holds after write k: odd ones are whole shards, even ones are parts."""
    if k % 2:
        return volume(k)
    found = volume(k - 1)
    found[INNER] = volume(k)[INNER]
    return found


def write_for_ever(path: str, t: int, c: int, k: int) -> None:
    a = zarrant.open_array(path, mode="r+")
    while True:
        k += 1
        part = () if k % 2 else INNER
        a[(t, c, *part)] = volume(k)[part or ...]
        print(json.dumps({"result": k}), flush=True)


def killed_at_work(pair: list[Worker], path: Path, t: int, k: int, seconds: float) -> list[int]:
    """Let two writers begin, kill them; the last write that each had done."""
    for c, worker in enumerate(pair):
        worker.tell("write_for_ever", str(path), t, c, k)
    first = [worker.answer() for worker in pair]  # both are at work
    assert first == [k + 1] * 2
    time.sleep(seconds)
    said = [worker.kill() for worker in pair]
    assert [worker.process.returncode for worker in pair] == [-signal.SIGKILL] * 2
    whole = [[line for line in output.splitlines(keepends=True) if line.endswith("\n")] for output in said]
    return [json.loads(lines[-1])["result"] if lines else k + 1 for lines in whole]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL")
def test_08_killed_reopened_rewritten_iohub_415(tmp_path: Path) -> None:
    """After each kill every shard is whole, the last write that was done or the next; and rewriting needs no repair."""
    trials = 200 if SOAK else PAIRS
    dice, left, next_up = np.random.default_rng(8), 0, 0
    zarrant.create_array(tmp_path, shape=SHAPE, dtype="uint32", chunks=SUBCHUNK, shards=SHARD, fill_value=7)[:, 2] = after(1)
    for trial in range(0, trials, PAIRS):
        # Started together: interpreters are slow to start.
        pairs = [[Worker(), Worker()] for _ in range(PAIRS)]
        try:
            for t, pair in enumerate(pairs):
                k, row = 10_000 * (trial + t), t % SHAPE[0]
                acknowledged = killed_at_work(pair, tmp_path, row, k, dice.uniform(0, 0.08))
                left += bool(locks(tmp_path))
                a = zarrant.open_array(tmp_path, mode="r+")
                for c, done in enumerate(acknowledged):
                    shown = int(a[row, c, 10, 4, 20]) >> 8
                    assert done <= shown <= done + 1
                    next_up += shown != done
                    assert np.array_equal(a[row, c], after(shown))
                again = volume(k + 9_000)  # far beyond what the killed writers came to
                a[row, :2] = again
                assert np.array_equal(zarrant.open_array(tmp_path, mode="r")[row], [again, again, after(1)])
                assert locks(tmp_path) == []
        finally:
            for worker in (worker for pair in pairs for worker in pair):
                if worker.process.returncode is None:
                    worker.kill()
    print(
        f"{2 * trials} writers killed, {left} of {trials} pairs in the middle of a write ({next_up} just after), none torn a shard"
    )
    if not left:
        pytest.skip("all is right, but no kill came in the middle of a write")


# ── 9, 10: metadata ──────────────────────────────────────────────────────────────────────────────────────────────────


def set_attribute(path: str, number: int, rounds: int) -> None:
    """Through a handle of which the attributes become old."""
    node = zarrant.open(path, mode="r+")
    for k in range(rounds):
        node.attrs[f"{number}.{k}"] = number


def test_09_each_worker_sets_one_attribute_zarr_2729(tmp_path: Path, workers: list[Worker]) -> None:
    rounds = 50 if SOAK else 5
    nodes = [zarrant.create_group(tmp_path / "g"), zarrant.create_array(tmp_path / "a", shape=8, dtype="int32", chunks=4)]
    for node, name in zip(nodes, "ga", strict=True):
        at_once(workers, "set_attribute", lambda n, name=name: (str(tmp_path / name), n, rounds))
        node.refresh()
        assert dict(node.attrs) == {f"{n}.{k}": n for n in range(PROCESSES) for k in range(rounds)}
    print(f"{2 * PROCESSES * rounds} attributes set by {PROCESSES} processes, none lost")


def create(path: str, number: int, rounds: int, size: int) -> list[str]:
    """One array after another, in each way; which of those that only one can create are ours."""
    won = []
    for k in range(rounds):
        options: dict[str, Any] = {"shape": (size,), "dtype": "int32", "chunks": 3, "fill_value": 0}
        zarrant.create_array(path, name=f"match/{k}", if_exists="match", **options)[number] = number + 1
        zarrant.open_array(path, name=f"open/{k}", mode="a", **options)[number] = number + 1
        try:
            a = zarrant.create_array(path, name=f"only/{k}", attributes={"of": number}, **options)
        except NodeExistsError:
            a = zarrant.open_array(path, name=f"only/{k}", mode="r+")
        else:
            won.append(f"{k}")
        a[number] = number + 1
    return won


def test_10_workers_create_the_same_array(tmp_path: Path, workers: list[Worker]) -> None:
    """All may create what is equal, one may create what is not; and no element that any of them writes is lost."""
    rounds = 20 if SOAK else 4
    won = at_once(workers, "create", lambda n: (str(tmp_path), n, rounds, PROCESSES))
    group = zarrant.open_group(tmp_path, mode="r")
    for k in range(rounds):
        for way in ("match", "open", "only"):
            assert group[f"{way}/{k}"][...].tolist() == list(range(1, PROCESSES + 1)), f"{way}/{k}"
        assert [n for n, mine in enumerate(won) if str(k) in mine] == [group[f"only/{k}"].attrs["of"]]
    print(f"{3 * rounds} arrays created by {PROCESSES} processes at once, each by one, all their elements there")


# ── 11: a reader beside appends ──────────────────────────────────────────────────────────────────────────────────────


def read_while_it_grows(path: str, final: int, way: str) -> tuple[int, int]:
    """How many reads there were, and how many lengths they saw; any error ends it."""
    a, last, reads, lengths = zarrant.open_array(path, mode="r"), 0, 0, set()
    end = time.monotonic() + TIMEOUT
    while last < final:
        assert time.monotonic() < end, f"{last} of {final} after {TIMEOUT} s"
        if way == "refresh":
            a.refresh()
        else:
            a = zarrant.open_array(path, mode="r")
        length = a.shape[0]
        assert length >= last, f"shorter: {length} after {last}"
        found = a[max(0, last - 10) :]
        assert (found >= 0).all(), f"elements up to {length} that nobody has stored"
        reads, last = reads + 1, length
        lengths.add(length)
    return reads, len(lengths)


def test_11_readers_during_appends(tmp_path: Path, workers: list[Worker]) -> None:
    """By a handle that is refreshed and by opening again: no error, no shrinking, no hole."""
    blocks = 300 if SOAK else 40
    zarrant.create_array(tmp_path, shape=0, dtype="int32", chunks=3, shards=12, fill_value=-1)
    readers, appenders = workers[:2], workers[2:4]
    for reader, way in zip(readers, ("refresh", "open"), strict=True):
        reader.tell("read_while_it_grows", str(tmp_path), blocks * BLOCK, way)
    at_once(appenders, "append", lambda n: (str(tmp_path), n, blocks, 2))
    seen = [reader.answer() for reader in readers]
    assert all(lengths > 5 for _, lengths in seen)
    print(f"{blocks} appends; readers made {seen[0][0]} and {seen[1][0]} reads and saw {seen[0][1]} and {seen[1][1]} lengths")


# ── 12: a fork in the middle of a write ──────────────────────────────────────────────────────────────────────────────


class Forking:
    """A fault that is none: at one call of the file system the process forks, and the child works there."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work
        self.at: int | None = None
        self.child = 0
        self.name = ""

    def __call__(self, index: int, name: str) -> None:
        if self.at is None or index < self.at:
            return
        self.at, self.name = None, name
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what is tested
            self.child = os.fork()
        if self.child == 0:
            status = 1
            try:
                signal.alarm(20)  # a child that waits for ever ends
                self.work()
                status = 0
            finally:
                os._exit(status)


def shard_to_update(path: Path, syscalls: FaultySyscalls) -> Any:
    """An array of one shard, some of whose subchunks the write below leaves alone: they are copied."""
    store = FilesystemStore(path, syscalls=syscalls)
    a = zarrant.create_array(store, shape=200, dtype="int32", chunks=10, shards=200, fill_value=0)
    a[:] = np.arange(200) + 1000
    return a


@needs_fork
@pytest.mark.parametrize("handle", ["the parent's", "its own"])
def test_12_fork_in_the_middle_of_a_write(tmp_path: Path, handle: str) -> None:
    """At every call that a write makes: the child works on the same object, both writes stand, no lock is left.

    Each time in an array of its own. What an update copies depends on where the subchunks lie by then, and so on who came first
    in earlier updates: in one array, the number of a call would mean another step from one write to the next.
    """
    path = tmp_path / "calls"

    def child() -> None:
        b = a if handle == "the parent's" else zarrant.open_array(path, mode="r+")
        b[150] = 2

    fault = Forking(child)
    syscalls = FaultySyscalls(fault)
    a = shard_to_update(path, syscalls)
    before = len(syscalls.calls)
    a[5:15] = 1
    names = syscalls.calls[before:]
    assert {"open", "lock", "read", "copy", "write", "rename", "unlink", "unlock", "close"} <= set(names)
    for number, name in enumerate(names):
        path = tmp_path / str(number)
        a = shard_to_update(path, syscalls)
        fault.at = len(syscalls.calls) + number
        a[5:15] = 1
        status = ended(fault.child)
        assert status == 0, f"the child forked before {name} ended with {status}"
        assert fault.name == name, f"call {number} of the same write was another"
        expected = [*range(1000, 1005), *[1] * 10, *range(1015, 1150), 2, *range(1151, 1200)]
        assert a[...].tolist() == expected, f"forked before {name}"
        assert locks(path) == []
    print(f"forked before each of {len(names)} calls of a write ({', '.join(dict.fromkeys(names))}), nothing lost")


# ── 15: an array copied onto itself ──────────────────────────────────────────────────────────────────────────────────

VALUES = np.arange(1, 12 * 18 + 1, dtype="int32").reshape(12, 18)
LAYOUTS: list[dict[str, Any]] = [{"chunks": (5, 4)}, {"chunks": (2, 3), "shards": (6, 9)}, {"chunks": (12, 18)}]


@pytest.mark.parametrize("place", ["memory", "directory"])
def test_15_copy_onto_itself_with_new_chunks_wsidata_54(tmp_path: Path, place: str) -> None:
    """Refused with the reason and untouched, or right: the store is never cleared before its values are read."""
    right = refused = 0
    for old in LAYOUTS:
        for new in LAYOUTS:
            for mode in ("r", "r+"):
                store = zarrant.MemoryStore() if place == "memory" else zarrant.FilesystemStore(tmp_path)
                zarrant.create_array(store, data=VALUES, overwrite=True, **old)
                source = zarrant.open_array(store, mode=mode)
                try:
                    copy = zarrant.create_array(store, data=source, overwrite=True, **new)
                except ZarrantError as error:
                    assert str(error), "no reason"
                    refused += 1
                else:
                    right += 1
                    assert (copy.chunks, copy.shards) == (new["chunks"], new.get("shards"))
                assert np.array_equal(zarrant.open_array(store, mode="r")[...], VALUES), f"{old} to {new}"
                a = zarrant.open_array(store, mode="r+")
                a[:, ::-1] = a
                assert np.array_equal(a[...], VALUES[:, ::-1])
    print(f"{right + refused} arrays in {place} copied onto themselves: {right} right, {refused} refused, none emptied")


WORKS: dict[str, Callable[..., Any]] = {
    work.__name__: work
    for work in (append, at, create, cross, diagonal, put_tasks, read_while_it_grows, set_attribute, write_for_ever)
}
WORKS["greet"] = os.getpid


def main() -> None:
    for line in sys.stdin:
        work, *arguments = json.loads(line)
        try:
            found = {"result": WORKS[work](*arguments)}
        except Exception as error:
            found = {"error": f"{work}: {type(error).__name__}: {error}"}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
