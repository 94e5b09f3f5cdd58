"""Processes started in every way, before and after use: each works with what it was given, nothing is lost, nothing hangs.

A case is a start method, what the parent was doing when it started the child, how the child gets the array, and who writes.
Parent and child update elements of one stored object, in turn or at once.
"""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import pickle
import random
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import zarrant

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
SIZE, PROCESSES = 64, 2
TIMEOUT = 60

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


class Case(NamedTuple):
    """One way in which processes come to share an array."""

    method: str
    busy: str
    given: str
    way: str
    locking: str

    def __str__(self) -> str:
        return "-".join(self)


METHODS = ("fork", "spawn", "forkserver")
BUSY = ("before use", "after use", "pool at work", "lock held by a thread", "event loop", "grandchild")
GIVEN = ("handle", "path", "tuned handle")
WAYS = ("threads", "blocking", "async")
LOCKINGS = ("auto", "lockfile")


def cases() -> list[Case]:
    """Of those that start an interpreter, which is slow, fewer than of the forked ones; the larger soak runs have all."""
    every = [Case(*case) for case in itertools.product(METHODS, BUSY, GIVEN, WAYS, LOCKINGS)]
    if SOAK > 1:
        return every
    dice = random.Random(0)
    chosen = dice.sample([case for case in every if case.method == "fork"], 108 if SOAK else 7)
    for method in METHODS[1:]:
        chosen += dice.sample([case for case in every if case.method == method], 48 if SOAK else 1)
    return chosen


def update(given: Any, way: str, worker: int) -> None:
    """What each process does: its own elements of the one stored object, with a handle of its own or the parent's."""
    a = zarrant.open_array(given) if isinstance(given, Path | str) else given
    mine = range(worker, SIZE, PROCESSES + 1)
    if way == "async":

        async def run() -> None:
            b = await zarrant.open_array_async(a.store)
            await asyncio.gather(*(b.setitem(slice(i, i + 1), i + 1) for i in mine))

        asyncio.run(run())
    elif way == "threads":
        threads = [threading.Thread(target=a.__setitem__, args=(slice(i, i + 1), i + 1)) for i in mine]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    else:
        for i in mine:
            a[i : i + 1] = i + 1
    a.sync()
    assert a[worker] == worker + 1


def child(given: Any, way: str, worker: int, deeper: bool) -> None:
    if deeper:
        grandchild = multiprocessing.get_context("fork").Process(target=child, args=(given, way, worker, False))
        finish([started(grandchild)])
    else:
        update(given, way, worker)


def started(process: BaseProcess) -> BaseProcess:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # a fork with threads is what is tested
        process.start()
    return process


def finish(processes: list[BaseProcess]) -> None:
    try:
        for process in processes:
            process.join(TIMEOUT)
            assert process.exitcode == 0, f"a child ended with {process.exitcode}"
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()


@contextmanager
def doing(busy: str, a: Any, other: Any) -> Iterator[None]:
    """What the parent does while the children are started and at work."""
    stop, ready = threading.Event(), threading.Event()
    if busy == "before use":
        yield
        return
    other[...] = 1
    other[...]
    if busy in ("after use", "grandchild"):
        yield
        return
    works: dict[str, Callable[[], None]] = {
        "pool at work": lambda: _work(other, stop, ready),
        "lock held by a thread": lambda: _hold(a, ready),
        "event loop": lambda: asyncio.run(_loop(other, stop, ready)),
    }
    thread = threading.Thread(target=works[busy])
    thread.start()
    ready.wait(TIMEOUT)
    try:
        yield
    finally:
        stop.set()
        thread.join(TIMEOUT)
    assert not thread.is_alive()


def _work(other: Any, stop: threading.Event, ready: threading.Event) -> None:
    count = 0
    while not stop.is_set():
        other[...] = count = count + 1
        assert (other[...] == count).all()
        ready.set()


def _hold(a: Any, ready: threading.Event) -> None:
    """Long enough that the children are started, and wait."""
    with a.lock(np.s_[:]) as locked:
        ready.set()
        threading.Event().wait(0.1)
        locked[SIZE:] = 7


async def _loop(other: Any, stop: threading.Event, ready: threading.Event) -> None:
    b = await zarrant.open_array_async(other.store, name=other.path)
    count = 0
    while not stop.is_set():
        count += 1
        await b.setitem(..., count)
        ready.set()


@pytest.mark.parametrize("case", cases(), ids=str)
def test_forks(tmp_path: Path, case: Case, tally: Callable[[str, int], None]) -> None:
    config = {"locking": case.locking, "concurrency": 2}
    a = zarrant.create_array(
        tmp_path / "a", shape=(SIZE + 8,), dtype="uint32", chunks=(8,), shards=(SIZE + 8,), fill_value=0, config=config
    )
    other = zarrant.create_array(tmp_path / "b", shape=(64,), dtype="uint32", chunks=(8,), config=config)
    given: Any = {"handle": a, "tuned handle": a.with_config(lock_timeout=50)}.get(case.given)
    if given is None:  # by path; which says nothing of the locking
        given = a if case.locking == "lockfile" else tmp_path / "a"
    context: Any = multiprocessing.get_context(case.method)
    # A grandchild is forked, so its parent must know how to.
    deeper = case.busy == "grandchild"
    with doing(case.busy, a, other):
        children = [started(context.Process(target=child, args=(given, case.way, worker, deeper))) for worker in range(PROCESSES)]
        try:
            update(given, case.way, PROCESSES)
        finally:
            finish(children)
    assert a[:SIZE].tolist() == list(range(1, SIZE + 1))
    assert a[SIZE:].tolist() == [7 * (case.busy == "lock held by a thread")] * 8
    assert [path.name for path in tmp_path.rglob("*") if path.name.endswith("__lock")] == []
    assert pickle.loads(pickle.dumps(a)) == a
    tally("forks", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_forked_child_keeps_no_lock_of_its_parent(tmp_path: Path) -> None:
    """The parent's lock ends with the parent's hold, though a child that was forked meanwhile lives on."""
    a = zarrant.create_array(tmp_path, shape=(8,), dtype="uint32", chunks=(8,))
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()

    def stay() -> None:
        ready.set()
        leave.wait(TIMEOUT)

    with a.lock(np.s_[:]) as locked:
        locked[0:1] = 1
        process = started(context.Process(target=stay))
    try:
        b = a.with_config(lock_timeout=5)
        b[1:2] = 2
        assert ready.wait(TIMEOUT)  # else the child may not have come to drop its copies
        targets = [_target(process.pid, fd) for fd in os.listdir(f"/proc/{process.pid}/fd")]
        assert not [target for target in targets if target.startswith(str(tmp_path)) and "__lock" in target]
    finally:
        leave.set()
        finish([process])
    assert a[:3].tolist() == [1, 2, 0]


def _target(pid: int | None, fd: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{fd}")
    except OSError:
        return ""
