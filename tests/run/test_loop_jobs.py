"""Jobs of an event loop: done once, told together, and never kept waiting by one that takes long."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from zarrant.run import loop_jobs as module
from zarrant.run.asynchronous import in_thread
from zarrant.run.loop_jobs import Job, LoopJobs, Merged, loop_jobs


async def ended(job: Job) -> Any:
    await job.future
    if job.error is not None:
        raise job.error
    return job.result


def run(count: int, work: Callable[[int], Any], limit: int = 8) -> tuple[list[Any], LoopJobs, list[int]]:
    """What so many jobs return, and the threads at work when each of them began."""
    threads: list[int] = []

    async def main() -> tuple[list[Any], LoopJobs]:
        with ThreadPoolExecutor(limit) as executor:
            jobs = LoopJobs(executor, limit)

            def one(number: int) -> Any:
                threads.append(jobs.threads)
                return work(number)

            added = [jobs.add(lambda number=number: one(number)) for number in range(count)]  # type: ignore[misc]
            return await asyncio.gather(*map(ended, added), return_exceptions=True), jobs

    found, jobs = asyncio.run(main())
    return found, jobs, threads


@pytest.mark.parametrize("count", [1, 2, 500])
def test_short_jobs_are_done_by_one_thread(count: int) -> None:
    seen: set[int] = set()
    found, jobs, _ = run(count, lambda number: seen.add(threading.get_ident()) or number)
    assert found == list(range(count))
    assert len(seen) <= 2  # another one, where the machine stood still for the time of two looks
    assert threading.get_ident() not in seen
    assert (jobs.threads, jobs.count, len(jobs.waiting), len(jobs.ended)) == (0, count, 0, 0)


def test_jobs_that_wait_get_all_threads() -> None:
    begin = time.monotonic()
    _, jobs, threads = run(64, lambda number: time.sleep(0.02))
    assert time.monotonic() - begin < 64 * 0.02 / 2
    assert max(threads) == 8
    assert jobs.wall > 0.01 > jobs.cpu


def test_a_job_that_takes_long_keeps_nobody_waiting() -> None:
    """The first one ends when the last has begun: with one thread it never would."""
    gate = threading.Event()
    found, _, threads = run(40, lambda number: gate.wait(20) if number == 0 else number < 39 or gate.set())
    assert found[0] is True
    assert max(threads) <= 8


def test_results_are_handed_out_while_a_later_job_takes_long() -> None:
    async def main() -> None:
        gate = threading.Event()
        with ThreadPoolExecutor(1) as executor:
            jobs = LoopJobs(executor, 1)
            first, second = jobs.add(lambda: 1), jobs.add(lambda: gate.wait(20))
            assert await asyncio.wait_for(ended(first), 10) == 1
            gate.set()
            assert await ended(second)

    asyncio.run(main())


def test_each_error_is_that_of_its_job() -> None:
    def work(number: int) -> int:
        if number % 3 == 0:
            raise (KeyError, KeyboardInterrupt)[number % 2](number)
        return number

    found, _, _ = run(9, lambda number: work(number) if number % 2 == 0 else number)
    assert [str(each) if isinstance(each, KeyError) else each for each in found] == ["0", 1, 2, 3, 4, 5, "6", 7, 8]


def test_jobs_added_while_others_run_are_all_done() -> None:
    """Thousands of times a thread finds no more just when there is one more."""

    async def main() -> int:
        with ThreadPoolExecutor(4) as executor:
            jobs = LoopJobs(executor, 4)

            async def task() -> int:
                return sum([await ended(jobs.add(lambda: 1)) for _ in range(100)])

            done = await asyncio.wait_for(asyncio.gather(*(task() for _ in range(20))), 60)
            assert (jobs.threads, len(jobs.waiting)) == (0, 0)
        return sum(done)

    assert asyncio.run(main()) == 2000


def test_where_no_thread_can_be_had_every_job_says_so() -> None:
    async def main() -> list[Any]:
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        jobs = LoopJobs(executor, 1)
        added = [jobs.add(int) for _ in range(3)]
        return await asyncio.gather(*map(ended, added), return_exceptions=True)

    assert all("schedule" in str(error) for error in asyncio.run(main()))


@pytest.mark.parametrize("times", [1, 3])
def test_a_cancelled_task_waits_for_its_job(times: int) -> None:
    async def main() -> None:
        gate, flag, done = threading.Event(), threading.Event(), []
        task = asyncio.create_task(in_thread(lambda: done.append(gate.wait(20)), flag))
        for _ in range(times):
            await asyncio.sleep(0.01)
            task.cancel()
        await asyncio.sleep(0.01)
        assert flag.is_set() and not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert done == [True]

    asyncio.run(main())


def test_a_loop_that_ended_is_forgotten() -> None:
    async def main() -> tuple[weakref.ref[Any], weakref.ref[Any]]:
        await in_thread(int)
        executor = ThreadPoolExecutor(1)
        jobs = loop_jobs(executor, 1)
        assert jobs is loop_jobs(executor, 1)
        await ended(jobs.add(int))
        return weakref.ref(asyncio.get_running_loop()), weakref.ref(executor)

    references = asyncio.run(main())
    for _ in range(200):  # the thread of the executor may still be at the end of its last job
        gc.collect()
        if not any(reference() for reference in references):
            break
        time.sleep(0.01)
    assert [reference() for reference in references] == [None, None]


# ── jobs that are done as one ────────────────────────────────────────────────────────────────────────────────────────────


def merged(kinds: str, fails: set[int] = frozenset(), nbytes: int = 1) -> tuple[list[Any], list[list[int]]]:  # type: ignore[assignment]
    """The results of jobs of these kinds (" ": by itself), and the numbers of those that were done as one."""
    groups: list[list[int]] = []

    def together(numbers: list[int]) -> list[int]:
        groups.append(numbers)
        if fails.intersection(numbers):
            raise KeyError("one of them")
        return [10 * number for number in numbers]

    def alone(number: int) -> int:
        if number in fails:
            raise KeyError(number)
        return 10 * number

    async def main() -> list[Any]:
        with ThreadPoolExecutor(1) as executor:
            jobs = LoopJobs(executor, 1)
            added = [
                jobs.add(lambda number=number: alone(number), None if kind == " " else Merged(kind, number, nbytes, together))  # type: ignore[misc]
                for number, kind in enumerate(kinds)
            ]
            return await asyncio.gather(*map(ended, added), return_exceptions=True)

    return asyncio.run(main()), groups


@pytest.mark.parametrize(
    ("kinds", "groups"),
    [
        ("a", []),
        ("aaa", [[0, 1, 2]]),
        ("aab", [[0, 1]]),
        ("aabb", [[0, 1], [2, 3]]),
        ("a a", []),
        ("aa aa", [[0, 1], [3, 4]]),
    ],
)
def test_neighbours_of_one_kind_are_done_as_one(kinds: str, groups: list[list[int]]) -> None:
    assert merged(kinds) == ([10 * number for number in range(len(kinds))], groups)


def test_an_error_is_only_that_of_the_job_which_has_it() -> None:
    found, groups = merged("aaaa", {2})
    assert groups == [[0, 1, 2, 3]]
    assert [str(each) for each in found] == ["0", "10", "2", "30"]


def test_jobs_done_as_one_are_bounded_in_number_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOGETHER", 3)
    assert merged("aaaaaaa")[1] == [[0, 1, 2], [3, 4, 5]]
    monkeypatch.setattr(module, "MAX_TOGETHER_BYTES", 20)
    assert merged("aaaaaaa", nbytes=10)[1] == [[0, 1], [2, 3], [4, 5]]
    assert merged("aaaaaaa", nbytes=30)[1] == []
