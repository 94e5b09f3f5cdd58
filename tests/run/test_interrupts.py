"""An interrupt (Ctrl-C) at every place where one can come: nothing stays held, and the next write goes at once.

How: Python looks for signals after calls, at the begin of functions and at jumps backwards. An operation is traced; at the n-th of
such places the tracer lets a C function set the signal, so that the interpreter itself raises KeyboardInterrupt at the next one.
`ZARRANT_SOAK=1` tries every place, the quick run some of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import dis
import gc
import os
import random
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.locking import file_locks as locks
from zarrant.requests import Op, Share
from zarrant.run import group_commit, pool, sharing, store_locks
from zarrant.run.pool import Pool
from zarrant.stores.local import store as store_module

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
SAMPLE = 60
LOCK_TIMEOUT_S = 1.0
"""Seconds after which a write that waits for what was not given back fails."""

TRACED = (str(Path(zarrant.__file__).parent), contextlib.__file__)
CALLS = {dis.opmap[name] for name in ("CALL", "CALL_FUNCTION_EX", "JUMP_BACKWARD") if name in dis.opmap}

pytestmark = [
    pytest.mark.skipif(sys.implementation.name != "cpython", reason="sets signals by the C API of CPython"),
    pytest.mark.skipif(sys.gettrace() is not None, reason="another tracer is at work"),
    # A function that is run by the collector of weak references can only report what it was interrupted by.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.timeout(1800 if SOAK else 120),
]


class Interrupter:
    """Runs actions, and interrupts each at one place."""

    def __init__(self) -> None:
        self.signal: Any = ctypes.pythonapi.PyErr_SetInterrupt
        self.signal.argtypes, self.signal.restype = [ctypes.py_object] * 3, None
        self.count = 0
        self.armed = self.due = False

    def handle(self, number: int, frame: Any) -> None:
        sys.settrace(None)
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt

    def run(self, place: int, action: Callable[[], object]) -> bool:
        """Whether the action was interrupted; `count` tells how many places there were (up to the interrupt)."""
        self.count, self.armed, self.due = 0, True, False

        def trace(frame: Any, event: str, _: object) -> Any:
            if event == "call":
                if not self.armed or not frame.f_code.co_filename.startswith(TRACED):
                    return None
                frame.f_trace_opcodes, frame.f_trace_lines = True, False
                if self.due:
                    return self.signal
            elif event != "opcode" or frame.f_code.co_code[frame.f_lasti] not in CALLS:
                return trace
            self.count += 1
            if self.count != place:
                return trace
            self.due = True
            above = frame.f_back
            while above is not None:
                if above.f_trace is not None:
                    above.f_trace = self.signal
                above = above.f_back
            frame.f_trace = self.signal
            return self.signal

        try:
            try:
                sys.settrace(trace)
                action()
            finally:
                sys.settrace(None)
                self.armed = False
        except KeyboardInterrupt:
            return True
        return False


@pytest.fixture
def interrupter() -> Iterator[Interrupter]:
    made = Interrupter()
    before = signal.signal(signal.SIGINT, made.handle)
    collecting = gc.isenabled()
    gc.disable()  # what is given back only when garbage is collected is kept for too long
    try:
        yield made
    finally:
        if collecting:
            gc.enable()
        signal.signal(signal.SIGINT, before)


def places(interrupter: Interrupter, action: Callable[[], object]) -> Iterable[int]:
    """The places at which to interrupt an action: all, or a sample."""
    for _ in range(2):  # in the first run not every function is traced from its begin on
        interrupter.run(0, action)
    every = range(1, interrupter.count + 1)
    return every if SOAK or len(every) <= SAMPLE else sorted(random.Random(len(every)).sample(every, SAMPLE))


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupted_group_keeps_nothing(interrupter: Interrupter, threads: int) -> None:
    """Neither bytes of the budget, nor a place in the list of groups, nor its starter: who would wait for ever."""
    fresh = Pool(threads, 1 << 20)

    def run(op: int) -> list[Any]:
        return fresh.run_all(range(3), lambda inner: op + inner, 10, threads) if op < 3 else []

    def act() -> list[Any]:
        return fresh.run_all(range(5), run, 100, threads)

    expected = [[0, 1, 2], [1, 2, 3], [2, 3, 4], [], []]
    assert act() == expected
    came = 0
    for number in places(interrupter, act):
        came += interrupter.run(number, act)
        resolved(lambda: fresh.budget.used == 0, f"bytes after an interrupt at place {number}")
        assert all(group.exhausted and not group.running for group in fresh._groups), number
        assert act() == expected
        resolved(lambda: fresh.budget.used == 0, "bytes after all")
        assert len(fresh._groups) <= 2 * came
    assert came
    print(f"{threads} threads: interrupted at {came} places, nothing kept")


def resolved(condition: Callable[[], bool], what: str) -> None:
    """Helpers give back what they took a moment after the group has ended."""
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.001)


def test_what_interrupts_is_forgotten_with_its_exception(interrupter: Interrupter) -> None:
    """No cycle of references: what the interrupted functions had would stay until garbage is collected."""
    fresh = Pool(1, 1 << 20)

    class Mine:
        pass

    def act() -> list[Any]:
        mine = Mine()
        seen.append(weakref.ref(mine))
        return fresh.run_all(range(3), lambda op: (op, mine), 10, 2)

    seen: list[weakref.ref[Mine]] = []
    for number in places(interrupter, act):
        interrupter.run(number, act)
        assert seen[-1]() is None, number


def kept() -> list[str]:
    """What is still held by anyone in this process."""
    queues = {"the store's queue": store_module._queues, "the process's queue": store_locks._queues}
    found = [name for name, queue in queues.items() if any(queue._queues.values())]
    found += [f"the gate of {name}" for name, queue in queues.items() if queue._gate.locked()]
    found += ["a group commit"] if any(group_commit.commit_queues._waiting.values()) else []
    found += [f"{each.budget.used} bytes of a pool" for each in pool._pools.values() if each.budget.used]
    live = [reference() for reference in locks._open_locks.locks.values()]
    return found + [f"the lock of {lock.path}" for lock in live if lock is not None]


ACTIONS: dict[str, Callable[[Any, int], object]] = {
    "a part of a chunk": lambda a, value: a.__setitem__(np.s_[1:3], value),
    "whole chunks": lambda a, value: a.__setitem__(np.s_[0:16], value),
    "parts of chunks": lambda a, value: a.__setitem__(np.s_[1:15], value),
    "append": lambda a, value: a.append(np.full(3, value, "int16")) if a.shape[0] < 30 else a.resize(16),
    "erase": lambda a, value: a.erase_chunks(np.s_[0:2]) if value % 2 else a.__setitem__(np.s_[0:8], value),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("place", ["files", "memory"])
@pytest.mark.parametrize("name", ACTIONS)
def test_an_interrupted_operation_keeps_nothing(
    interrupter: Interrupter, tmp_path: Path, place: str, name: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even while the interrupt is referred to, as an interactive interpreter does until the next error."""
    monkeypatch.setattr(group_commit, "QUEUE_TIMEOUT_S", LOCK_TIMEOUT_S)
    store: Any = zarrant.FilesystemStore(tmp_path, lock_timeout=LOCK_TIMEOUT_S) if place == "files" else zarrant.MemoryStore()
    a = zarrant.create_array(store, shape=16, chunks=4, dtype="int16", fill_value=0, config={"concurrency": threads})
    action = ACTIONS[name]
    for value in (1, 2):
        action(a, value)
    came = 0
    for value, number in enumerate(places(interrupter, lambda: action(a, 3)), 4):
        came += interrupter.run(number, lambda value=value: action(a, value % 1000))
        resolved(lambda: not kept(), f"kept after an interrupt at place {number}")
        action(a, (value + 1) % 1000)
        a[5:7] = value
        assert a[4:8].tolist()[1:3] == [value] * 2
    assert came
    print(f"{name} in {place} by {threads} threads: interrupted at {came} places, nothing kept")


def test_who_is_interrupted_while_it_reads_for_others_leaves_nothing(interrupter: Interrupter) -> None:
    """Else everybody who reads the same afterwards would wait for ever."""

    def nothing() -> Op[int]:
        return 0
        yield

    def act() -> object:
        return sharing.share(Share("place", nothing), lambda op: op.close())

    came = 0
    for number in places(interrupter, act):
        waiting: list[Any] = []

        def wait(found: list[Any] = waiting) -> None:
            found.append(sharing.share(Share("place", nothing), lambda op: op.close()))

        came += interrupter.run(number, act)
        assert not sharing._threads, number
        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        thread.join(10)
        assert waiting, number
    assert came


def test_who_waits_for_an_interrupted_reader_goes_on(interrupter: Interrupter) -> None:
    def nothing() -> Op[int]:
        return 0
        yield

    others: list[threading.Thread] = []
    found: list[Any] = []

    def wait() -> None:
        found.append(sharing.share(Share("place", nothing), lambda op: op.close()))

    def perform(op: Op[int]) -> None:
        op.close()
        others.append(threading.Thread(target=wait, daemon=True))
        others[-1].start()
        time.sleep(0.002)

    def act() -> object:
        return sharing.share(Share("place", nothing), perform)

    came = 0
    for number in places(interrupter, act):
        came += interrupter.run(number, act)
        for other in others:
            other.join(10)
            assert not other.is_alive(), number
        assert not sharing._threads, number
    assert came


@pytest.mark.parametrize("kind", ["buffered", "appender"])
def test_an_interrupted_buffer_can_be_closed(interrupter: Interrupter, kind: str) -> None:
    """It ends, what was written before the interrupt is stored, and what was appended lies where it is said to be."""

    def opened() -> tuple[Any, Any]:
        a = zarrant.create_array(zarrant.MemoryStore(), shape=16, chunks=4, dtype="int16", fill_value=0)
        return a, a.buffered() if kind == "buffered" else a.appender()

    def write(w: Any) -> None:
        w[2:6] = 1
        w[6:12] = 2
        w.flush()
        w[0:2] = 3
        w.close()

    def append(w: Any) -> None:
        placed.extend(w.append(np.full(n, value, "int16")) for n, value in ((3, 1), (2, 2), (4, 3)))
        w.close()

    def act() -> None:
        (write if kind == "buffered" else append)(made[-1])

    def again() -> None:
        made.append(opened()[1])
        act()

    made: list[Any] = []
    placed: list[Any] = []
    came = 0
    for number in places(interrupter, again):
        a, w = opened()
        placed.clear()
        made[:] = [w]
        if kind == "buffered":
            w[15] = 7
        else:
            placed.append(w.append(np.full(1, 7, "int16")))
        came += interrupter.run(number, act)
        closed = w.closed
        with ThreadPoolExecutor(1) as thread:
            thread.submit(w.close).result(20)
        if not closed:
            assert a[15 if kind == "buffered" else 16] == 7, number
            expected = [[7], [1] * 3, [2] * 2, [3] * 4] if kind == "appender" else []
            assert all(a[place.slice].tolist() == each for place, each in zip(placed, expected, strict=False)), number
    assert came


def test_interrupts_leave_no_descriptor(tmp_path: Path) -> None:
    """An interrupt comes most often while the system opens a file: it is told after that, before the number is stored."""

    class Stop(BaseException):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stop

    a = zarrant.create_array(tmp_path / "a", shape=(64,), chunks=(4,), shards=(32,), dtype="i8", config={"lock_timeout": 20})
    a[...] = 1
    dice = random.Random(5)
    before, stopped = len(os.listdir("/proc/self/fd")), 0
    handler = signal.signal(signal.SIGALRM, stop)
    end = time.monotonic() + 4
    try:
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, dice.random() * 0.005 + 1e-4, 0.1)
                while True:
                    a.update(slice(0, 64), lambda x: x + 1)
                    a[0:64]
            except Stop:
                stopped += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    a.update(slice(0, 64), lambda x: x)
    gc.collect()
    assert stopped > 50
    assert len(os.listdir("/proc/self/fd")) - before <= stopped // 100
    assert [path for path in (tmp_path / "a").rglob("*.__lock") if "__new" not in path.name] == []
