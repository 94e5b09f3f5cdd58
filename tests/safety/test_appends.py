"""Metadata as data: many processes append, create, replace and annotate at once, and are killed while they do."""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import random
import signal
import struct
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import ended, said
from zarrant.errors import NodeNotFoundError, ZarrantError
from zarrant.stores.local.store import FilesystemStore
from zarrant.testkit import FaultySyscalls

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
PROCESSES, APPENDS = 8, 200 if SOAK else 25
KILLS = 150 * SOAK or 25
LAYOUTS: dict[str, dict[str, Any]] = {"chunks": {"chunks": (7, 4)}, "shards": {"chunks": (3, 4), "shards": (12, 8)}}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def start(work: Callable[[], Any]) -> tuple[int, int]:
    """Run work in a forked process; its id, and a descriptor from which the pickled result is read."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child makes its own threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "wb") as file:
                pickle.dump(work(), file)
            status = 0
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            os._exit(status)
    os.close(writing)
    return child, reading


def finish(child: int, reading: int) -> Any:
    data = said(child, reading)
    status = ended(child)
    assert status == 0, f"a process ended with {status}"
    return pickle.loads(data)


def side_by_side(*works: Callable[[], Any]) -> list[Any]:
    """Run each in a process of its own, started at one moment; their results."""
    moment = time.monotonic() + 0.1

    def timed(work: Callable[[], Any]) -> Callable[[], Any]:
        def run() -> Any:
            time.sleep(max(0.0, moment - time.monotonic()))
            return work()

        return run

    return [finish(*started) for started in [start(timed(work)) for work in works]]


@contextmanager
def watched(work: Callable[[Callable[[], bool]], Any]) -> Iterator[list[Any]]:
    """Run `work(over)` in a process beside the block; its result is in the list after the block."""
    flag, result = mmap.mmap(-1, 1), []
    started = start(lambda: work(lambda: flag[0] == 1))
    try:
        yield result
    finally:
        flag[0] = 1
        result.append(finish(*started))


def array(place: Any, layout: str, rows: int = 0) -> Any:
    return zarrant.create_array(place, shape=(rows, 9), dtype="int32", fill_value=0, **LAYOUTS[layout])


def locks(path: Path) -> list[str]:
    return [file.name for file in path.rglob("*") if file.name.endswith("__lock")]


# ── many processes ───────────────────────────────────────────────────────────────────────────────────────────────────


@layouts
@pytest.mark.timeout(600)
def test_8_processes_append(tmp_path: Path, layout: str) -> None:
    """Every row has its place, and a reader never sees a row before it is there."""
    array(tmp_path, layout)

    def appender(worker: int) -> list[tuple[int, int, int]]:
        a = zarrant.open_array(tmp_path, mode="r+")
        got = []
        for k in range(worker * APPENDS + 1, (worker + 1) * APPENDS + 1):
            place = a.append(np.full((1 + k % 3, 9), k, "int32"))
            got.append((k, place.start, place.stop))
        return got

    def reader(over: Callable[[], bool]) -> tuple[int, int]:
        last, reads, grown = 0, 0, 0
        while not over():
            a = zarrant.open_array(tmp_path, mode="r")
            assert a.shape[0] >= last, "the array became shorter"
            assert a[max(0, last - 5) :].all(), "rows that nobody has stored"
            reads, grown, last = reads + 1, grown + (a.shape[0] > last), a.shape[0]
        return reads, grown

    with watched(reader) as seen:
        begin = time.monotonic()
        results = side_by_side(*(lambda worker=worker: appender(worker) for worker in range(PROCESSES)))
        took = time.monotonic() - begin
    places = sorted((first, last, k) for result in results for k, first, last in result)
    assert len(places) == PROCESSES * APPENDS
    assert [first for first, _, _ in places] == [0, *(last for _, last, _ in places[:-1])]
    a = zarrant.open_array(tmp_path, mode="r")
    assert a.shape[0] == places[-1][1] == sum(1 + k % 3 for _, _, k in places)
    assert np.array_equal(a[...], np.repeat([k for _, _, k in places], [b - f for f, b, _ in places])[:, None].repeat(9, 1))
    assert locks(tmp_path) == []
    assert seen[0][1] > 5
    print(f"{len(places)} appends to {layout} by {PROCESSES} processes in {took:.1f} s, none lost; {seen[0][0]} reads beside them")


def test_8_processes_annotate(tmp_path: Path) -> None:
    """Attributes, of which some count: an update that read an old value would show."""
    array(tmp_path, "chunks")

    def annotate(worker: int) -> None:
        a = zarrant.open_array(tmp_path, mode="r+")
        for k in range(APPENDS):
            a.attrs[f"{worker}.{k}"] = k
            a.update_attributes(lambda stored: {**stored, "count": stored.get("count", 0) + 1})

    side_by_side(*(lambda worker=worker: annotate(worker) for worker in range(PROCESSES)))
    attributes = dict(zarrant.open_array(tmp_path).attrs)
    assert attributes.pop("count") == PROCESSES * APPENDS
    assert attributes == {f"{worker}.{k}": k for worker in range(PROCESSES) for k in range(APPENDS)}
    print(f"{2 * PROCESSES * APPENDS} changes of attributes by {PROCESSES} processes, none lost")


def test_attributes_and_appends_at_once(tmp_path: Path) -> None:
    array(tmp_path, "chunks")

    def append() -> None:
        a = zarrant.open_array(tmp_path, mode="r+")
        for _ in range(APPENDS):
            a.append(np.ones((1, 9), "int32"))

    def annotate() -> None:
        a = zarrant.open_array(tmp_path, mode="r+")
        for _ in range(APPENDS):
            a.update_attributes(lambda stored: {"count": stored.get("count", 0) + 1})

    side_by_side(append, annotate, append, annotate)
    a = zarrant.open_array(tmp_path)
    assert (a.shape[0], a.attrs["count"]) == (2 * APPENDS, 2 * APPENDS)
    assert a[...].all()


def test_8_processes_create_one_array(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shape": (PROCESSES,), "dtype": "int32", "chunks": 3, "if_exists": "match"}

    def create(worker: int) -> None:
        for k in range(10):
            zarrant.create_array(tmp_path, name=f"g/{k}", **options)[worker] = worker + 1

    side_by_side(*(lambda worker=worker: create(worker) for worker in range(PROCESSES)))
    group = zarrant.open_group(tmp_path, mode="r")
    assert [group[f"g/{k}"][...].tolist() for k in range(10)] == [list(range(1, PROCESSES + 1))] * 10


def test_of_8_overwriters_one_stands(tmp_path: Path) -> None:
    """Each has a layout of its own: a chunk of another would not decode, or lie where this one has none."""

    def overwrite(worker: int) -> None:
        for _ in range(3):
            values = np.full((20 + worker, 12), worker, "int32")
            zarrant.create_array(tmp_path, data=values, chunks=(2 + worker, 5), overwrite=True, fill_value=99)

    for _ in range(2):
        side_by_side(*(lambda worker=worker: overwrite(worker) for worker in range(PROCESSES)))
        a = zarrant.open_array(tmp_path, mode="r")
        worker = a.chunks[0] - 2
        assert np.array_equal(a[...], np.full((20 + worker, 12), worker))
        keys = {key for key in a.store.store.list_prefix("") if key != "zarr.json"}
        assert keys == {a.chunk_key(chunk) for chunk in a.iter_chunks()}
        assert locks(tmp_path) == []


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@layouts
@pytest.mark.timeout(3600 if SOAK else 180)
def test_appenders_killed_at_random(tmp_path: Path, layout: str) -> None:
    a = array(tmp_path, layout)
    done = mmap.mmap(-1, 8)

    def append_for_ever() -> None:
        mine = zarrant.open_array(tmp_path, mode="r+")
        while True:
            k = mine.shape[0] + 1
            mine.append(np.full((k % 4 + 1, 9), k, "int32"))
            done[:8] = struct.pack("<q", mine.shape[0])

    def check() -> None:
        a.refresh()
        rows = a[...]
        assert (rows == rows[:, :1]).all()
        at = 0
        while at < len(rows):
            k = at + 1
            assert (rows[at : at + k % 4 + 1] == k).all()
            at += k % 4 + 1
        assert at == len(rows)

    dice, left = random.Random(0), 0
    for _ in range(KILLS):
        child, reading = start(append_for_ever)
        time.sleep(dice.uniform(0.003, 0.03))
        os.kill(child, signal.SIGKILL)
        status = ended(child)
        os.close(reading)
        assert os.WIFSIGNALED(status), "the appender ended by itself"
        (acknowledged,) = struct.unpack("<q", done[:8])
        left += bool(locks(tmp_path))
        check()
        assert acknowledged <= a.shape[0] <= acknowledged + 4
        k = a.shape[0] + 1
        assert a.append(np.full((k % 4 + 1, 9), k, "int32")) == slice(k - 1, k + k % 4)
        check()
        done[:8] = struct.pack("<q", a.shape[0])
    assert left
    assert locks(tmp_path) == []
    print(f"{KILLS} appenders to {layout} killed, {left} of them in the middle; {a.shape[0]} rows, none lost")


ROWS = np.arange(90, dtype="int32").reshape(10, 9) + 1


def change(name: str, store: Any) -> None:
    if name == "overwrite":
        zarrant.create_array(store, data=ROWS + 500, chunks=(5, 2), overwrite=True, config={"concurrency": 1}, fill_value=0)
        return
    a = zarrant.open_array(store, mode="r+", config={"concurrency": 1})
    if name == "append":
        a.append(ROWS[:5] + 100)
    elif name == "appender":
        with a.appender() as rows:
            for row in ROWS[:7] + 100:
                rows.append(row[np.newaxis])
    else:
        a.resize({"grow": (15, 13), "shrink": (5, 3), "both": (15, 3)}[name])


def after(name: str) -> np.ndarray:
    if name == "overwrite":
        return ROWS + 500
    if name == "append":
        return np.vstack([ROWS, ROWS[:5] + 100])
    if name == "appender":
        return np.vstack([ROWS, ROWS[:7] + 100])
    new = np.zeros({"grow": (15, 13), "shrink": (5, 3), "both": (15, 3)}[name], "int32")
    new[:10, :9] = ROWS[: new.shape[0], : new.shape[1]]
    return new


def check_whole(path: Path, name: str) -> None:
    """Old or new (or the first rows, of an appender); the next steps are exact, and what a broken-off change left does not show."""
    if name == "overwrite":
        check_overwritten(path)
        return
    a = zarrant.open_array(path, mode="r+")
    found = a[...]
    new = after(name)[: max(10, len(found))] if name == "appender" else after(name)
    assert np.array_equal(found, ROWS) or np.array_equal(found, new)
    place = a.append(np.full((2, a.shape[1]), 7, "int32"))
    assert place == slice(len(found), len(found) + 2)
    expected = np.zeros((24, 22), "int32")
    expected[: len(found), : found.shape[1]] = found
    expected[place, : found.shape[1]] = 7
    a.resize((24, 22))
    assert np.array_equal(a[...], expected)
    assert len(locks(path)) <= 2  # of an object that nobody has written since


def check_overwritten(path: Path) -> None:
    """The old array, none, or the new one as far as it was stored; then it can be done again."""
    try:
        found = zarrant.open_array(path, mode="r")[...]
    except NodeNotFoundError:
        found = ROWS * 0 + 500
    if not np.array_equal(found, ROWS):
        assert np.isin(found, [0, 500]).all() or ((found == 0) | (found == ROWS + 500)).all()
    zarrant.create_array(path, data=ROWS + 900, chunks=(3, 3), overwrite=True)
    assert np.array_equal(zarrant.open_array(path)[...], ROWS + 900)


def calls_of(name: str, path: Path, layout: str) -> int:
    syscalls = FaultySyscalls()
    prepare(path, layout)
    change(name, FilesystemStore(path, syscalls=syscalls))
    return len(syscalls.calls)


def prepare(path: Path, layout: str) -> None:
    zarrant.create_array(path, data=ROWS, fill_value=0, overwrite=True, **LAYOUTS[layout])


CHANGES = pytest.mark.parametrize("name", ["append", "appender", "grow", "shrink", "both", "overwrite"])


@CHANGES
@layouts
def test_killed_at_every_file_call(tmp_path: Path, layout: str, name: str) -> None:
    """Some of them in the quick run."""
    calls = calls_of(name, tmp_path / "count", layout)
    dice = random.Random(layout + name)
    at = range(calls) if SOAK else sorted(dice.sample(range(calls), min(calls, 12)))
    for k in at:
        path = tmp_path / str(k)
        prepare(path, layout)

        def fault(index: int, step: str, k: int = k) -> None:
            if index == k:
                os.kill(os.getpid(), signal.SIGKILL)

        child, reading = start(lambda path=path, fault=fault: change(name, FilesystemStore(path, syscalls=FaultySyscalls(fault))))
        os.close(reading)
        status = ended(child)
        assert os.WIFSIGNALED(status)
        check_whole(path, name)
    print(f"{name} of {layout} killed at {len(at)} of {calls} file calls")


@CHANGES
@layouts
def test_an_error_of_every_file_call(tmp_path: Path, layout: str, name: str) -> None:
    """The call raises or succeeds; either way the array is whole, and the next call succeeds. Some of them in the quick run."""
    calls = calls_of(name, tmp_path / "count", layout)
    dice, raised = random.Random(name + layout), 0
    at = range(calls) if SOAK else sorted(dice.sample(range(calls), min(calls, 12)))
    for k in at:
        path = tmp_path / str(k)
        prepare(path, layout)

        def fault(index: int, step: str, k: int = k) -> None:
            if index == k:
                raise OSError(errno.EIO, "on purpose")

        try:
            change(name, FilesystemStore(path, syscalls=FaultySyscalls(fault)))
        except (ZarrantError, OSError):
            raised += 1
        else:
            assert np.array_equal(zarrant.open_array(path, mode="r")[...], after(name))
        check_whole(path, name)
    assert raised
    print(f"{name} of {layout}: {len(at)} of {calls} file calls failed, {raised} of them were told")
