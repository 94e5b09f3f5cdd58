from __future__ import annotations

import os
import sys
import threading
import time

import pytest

from children import ended
from zarrant.errors import LockTimeout
from zarrant.locking.local import Acquired, KeyQueues, give_back, wait_cancelled
from zarrant.testkit import together

LATER = float("inf")


def test_nothing_is_kept() -> None:
    queues = KeyQueues()
    with queues.lock(("b", "a", "b"), LATER):
        assert sorted(queues.locked()) == ["a", "b"]
    assert queues.locked() == []


def test_exclusion() -> None:
    queues = KeyQueues()
    inside: list[int] = []
    most = []

    def work() -> None:
        for _ in range(200):
            with queues.lock(("k",), LATER):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    together(*[work] * 4)
    assert (max(most), len(most)) == (1, 800)


def test_crossed_names_do_not_lock_up() -> None:
    queues = KeyQueues()

    def work(names: tuple[str, ...]) -> None:
        for _ in range(200):
            with queues.lock(names, time.monotonic() + 30):
                pass

    together(lambda: work(("a", "b", "c")), lambda: work(("c", "b")), lambda: work(("b", "a")), lambda: work(("c", "a")))
    assert queues.locked() == []


def test_first_come_first_served() -> None:
    queues = KeyQueues()
    order: list[int] = []

    def work(number: int) -> None:
        with queues.lock(("k",), LATER):
            order.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    with queues.lock(("k",), LATER):
        for count, thread in enumerate(threads, 2):
            thread.start()
            while len(queues._queues["k"]) < count:
                time.sleep(0.0001)
    for thread in threads:
        thread.join(30)
    assert order == [*range(6)]


def test_timeout_gives_everything_back() -> None:
    queues = KeyQueues()
    errors: list[LockTimeout] = []

    def late() -> None:
        try:
            with queues.lock(("a", "b", "c"), time.monotonic() + 0.05):
                raise AssertionError
        except LockTimeout as error:
            errors.append(error)

    with queues.lock(("b",), LATER):
        together(late)
        assert queues.locked() == ["b"]
        assert len(queues._queues["b"]) == 1
    assert (errors[0].path, errors[0].retryable) == ("b", True)
    assert "waited" in str(errors[0])
    with queues.lock(("a", "b", "c"), 0.0):  # free names need no wait
        pass


def test_one_who_gives_up_lets_the_next_in() -> None:
    queues = KeyQueues()
    got: list[str] = []

    def wait(name: str, seconds: float) -> None:
        try:
            with queues.lock(("k",), time.monotonic() + seconds):
                got.append(name)
        except LockTimeout:
            got.append(f"{name} gave up")

    with queues.lock(("k",), LATER):
        first = threading.Thread(target=wait, args=("first", 0.02))
        first.start()
        while len(queues._queues["k"]) < 2:
            time.sleep(0.0001)
        second = threading.Thread(target=wait, args=("second", 30))
        second.start()
        first.join(30)
    second.join(30)
    assert got == ["first gave up", "second"]
    assert queues.locked() == []


def test_a_wait_that_is_given_up_ends() -> None:
    """Long before its deadline; what it had is given back, and the owner and those behind it are none the wiser."""
    queues = KeyQueues()
    cancelled = threading.Event()
    ended: list[float] = []
    got: list[str] = []

    def wait() -> None:
        wait_cancelled.set(cancelled.is_set)  # of this thread's own context
        with pytest.raises(LockTimeout), queues.lock(("a", "k"), LATER):
            pass
        ended.append(time.monotonic())

    def next_in_line() -> None:
        with queues.lock(("k",), time.monotonic() + 30):
            got.append("k")

    with queues.lock(("k",), LATER):
        waits = [threading.Thread(target=wait), threading.Thread(target=next_in_line)]
        for length, thread in enumerate(waits, 2):
            thread.start()
            while len(queues._queues["k"]) < length:
                time.sleep(0.0001)
        time.sleep(0.1)
        assert ended == []
        cancelled.set()
        start = time.monotonic()
        waits[0].join(30)
        assert ended[0] - start < 5
        assert queues.locked() == ["k"]
        assert got == []
    waits[1].join(30)
    assert (got, queues.locked()) == (["k"], [])


def test_an_interrupt_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queues = KeyQueues()

    class Interrupted(KeyboardInterrupt):
        pass

    def interrupted(*args: object) -> None:
        queues_take(*args)  # type: ignore[arg-type]
        raise Interrupted

    queues_take = queues._take
    monkeypatch.setattr(queues, "_take", interrupted)
    with pytest.raises(Interrupted), queues.lock(("a",), LATER):
        pass
    assert queues.locked() == []


def test_a_child_starts_with_empty_queues() -> None:
    queues = KeyQueues()
    with queues.lock(("k",), LATER):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                with queues.lock(("k",), time.monotonic() + 5):
                    status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(ended(child)) == 0
        assert queues.locked() == ["k"]


def test_locks_are_given_back_while_other_threads_make_theirs() -> None:
    stop, usual = threading.Event(), sys.getswitchinterval()
    others = [KeyQueues() for _ in range(300)]

    def make() -> None:
        while not stop.is_set():
            for _ in range(50):
                KeyQueues()

    threads = [threading.Thread(target=make) for _ in range(3)]
    for thread in threads:
        thread.start()
    sys.setswitchinterval(1e-5)
    try:
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            give_back(Acquired())
    finally:
        sys.setswitchinterval(usual)
        stop.set()
        for thread in threads:
            thread.join()
    assert len(others) == 300
