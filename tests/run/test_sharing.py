"""Callers that want the same at the same time: one runs the operation, in threads and in tasks."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from children import ended
from zarrant.requests import Op, Share
from zarrant.run import sharing
from zarrant.run.sharing import share, share_async
from zarrant.testkit import together


def nothing() -> Op[int]:
    return 0
    yield


def waits(runs: list[int], error: type[BaseException] | None = None, until: threading.Event | None = None) -> Callable[[Any], int]:
    """Performs an operation: notes the run, takes a while, and gives its number or fails."""

    def perform(op: Any) -> int:
        op.close()
        runs.append(number := len(runs))
        if until is None:
            time.sleep(0.05)
        else:
            until.wait(20)
        if error is not None and number == 0:
            raise error
        return number

    return perform


def test_threads_share_one_run() -> None:
    runs: list[int] = []
    found: list[tuple[int, bool]] = []
    together(*[lambda: found.append(share(Share("a", nothing), waits(runs)))] * 8)
    assert len(runs) < 8 and sum(own for _, own in found) == len(runs)
    assert not sharing._threads
    assert share(Share("a", nothing), waits(runs)) == (len(runs) - 1, True)


def test_what_fails_is_run_by_each() -> None:
    runs: list[int] = []
    outcomes: list[Any] = []

    def one() -> None:
        try:
            outcomes.append(share(Share("b", nothing), waits(runs, ValueError)))
        except ValueError as error:
            outcomes.append(error)

    together(*[one] * 6)
    assert [type(each) for each in outcomes].count(ValueError) == 1
    assert all(own for each in outcomes if isinstance(each, tuple) for own in each[1:])
    assert not sharing._threads


def test_who_is_interrupted_hands_over() -> None:
    runs: list[int] = []
    outcomes: list[Any] = []

    def one() -> None:
        try:
            outcomes.append(share(Share("c", nothing), waits(runs, KeyboardInterrupt)))
        except KeyboardInterrupt as error:
            outcomes.append(error)

    together(*[one] * 6)
    assert [type(each) for each in outcomes].count(KeyboardInterrupt) == 1
    assert len(runs) < 6 and not sharing._threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_waits_for_nobody() -> None:
    runs: list[int] = []
    until = threading.Event()
    thread = threading.Thread(target=share, args=(Share("d", nothing), waits(runs, until=until)))
    thread.start()
    while not runs:
        time.sleep(0.001)
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(0 if share(Share("d", nothing), lambda op: 7) == (7, True) else 1)
    try:
        assert ended(pid) == 0
    finally:
        until.set()
        thread.join()


def test_tasks_share_one_run() -> None:
    runs: list[int] = []

    async def perform(op: Any) -> int:
        op.close()
        runs.append(len(runs))
        await asyncio.sleep(0.01)
        return len(runs)

    async def many() -> list[Any]:
        return await asyncio.gather(*(share_async(Share("e", nothing), perform) for _ in range(8)))

    assert asyncio.run(many()) == [(1, True), *[(1, False)] * 7]
    assert runs == [0] and not sharing._tasks


@pytest.mark.parametrize("error", [None, ValueError])
def test_a_task_that_is_cancelled_or_fails(error: type[Exception] | None) -> None:
    """Where it is cancelled one of the others takes over; its error is its own."""
    runs: list[int] = []

    async def perform(op: Any) -> int:
        op.close()
        runs.append(number := len(runs))
        await asyncio.sleep(0.02)
        if error is not None and number == 0:
            raise error
        return number

    async def many() -> list[Any]:
        tasks = [asyncio.create_task(share_async(Share("f", nothing), perform)) for _ in range(6)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if error is None:
            tasks[0].cancel()
            tasks[5].cancel()  # one that waits: the others go on
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = asyncio.run(many())
    if error is None:
        assert isinstance(found[0], asyncio.CancelledError) and isinstance(found[5], asyncio.CancelledError)
        assert found[1:5] == [(1, True), *[(1, False)] * 3]
    else:
        assert isinstance(found[0], ValueError) and {own for _, own in found[1:]} == {True}
    assert not sharing._tasks
