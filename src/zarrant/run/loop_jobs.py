"""Jobs that an event loop gives to threads: many of them with one switch between the loop and a thread.

In: functions that block. Out: each one's result or error, for the task that waits for it. A switch to a thread and back costs
about 50 µs, and two threads that both run Python take the interpreter from each other at each system call, so that operations
that take 100 µs take 200 each. So jobs wait in a queue of their event loop. They are given to a thread when all tasks that are
ready have had their turn, and one thread does what is there, one job after the other. It reports its results to the loop when
there is no more, or after `REPORT_S`.

Jobs of one kind (reads of one array) are done together where several wait: what they need of a chunk is then decoded once. All of
them have begun before that, so each of them sees every write that had ended when it began.

More threads help where jobs take long: one for each CPU where they decode or encode (that runs beside other threads), and up to
the limit of the executor where they wait (for a lock, a disk, a network). How long jobs take is learnt from those that have
ended (`FEW_FROM_S`, `ALL_FROM_S`). A job that takes longer than the others did never keeps them waiting for long: while jobs
wait, the loop looks every `LOOK_S` whether there is progress, and has twice as many threads at work where there is none.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Executor
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from zarrant.run.pool import available_cpus

REPORT_S = 0.001
"""Seconds for which a thread keeps results while there are more jobs: a tenth of what one notices in a heartbeat of the loop."""
LOOK_S = 0.002
"""Seconds between two looks at whether there is progress."""
FEW_FROM_S, ALL_FROM_S, IDLE = 0.0004, 0.001, 0.75
"""CPU time of a job from which there is a thread for each CPU; duration from which there are as many as there may be, where a
job spends so much of it waiting. On a busy machine every job takes long."""
WEIGHT = 0.125
"""Of the last job in the means."""


MAX_TOGETHER, MAX_TOGETHER_BYTES = 256, 64 << 20
"""Jobs that are done as one, and the bytes of their results. 400 tasks that read crops took 528 µs of CPU for each crop, and
take 258 with 128, 227 with 256; with more the loop would be busy for more than 10 ms when all of them go on."""


HANDED_OUT = 32
"""Tasks that go on in one turn of the loop: others have their turn between them."""


class Merged(NamedTuple):
    """A job that can be done together with others of the same `kind`."""

    kind: Hashable
    item: Any
    nbytes: int
    """Of its result."""
    work: Callable[[list[Any]], list[Any]]
    """Does it for several items; one result each, or an error, and then each job is done by itself."""


class Job:
    """One function to call in a thread, and the future on which its task waits."""

    __slots__ = ("ended", "error", "future", "merged", "result", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[None], merged: Merged | None = None) -> None:
        self.work, self.future, self.ended, self.merged = work, future, False, merged
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call it, and keep what comes of it."""
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error


def run_together(jobs: list[Job]) -> None:
    """Do jobs of one kind."""
    first = jobs[0].merged
    if first is not None and len(jobs) > 1:
        try:
            results = first.work([job.merged.item for job in jobs if job.merged is not None])
        except BaseException:
            pass  # each says by itself what is wrong with it
        else:
            for job, result in zip(jobs, results, strict=True):
                job.result = result
            return
    for job in jobs:
        job.run()


class LoopJobs:
    """The jobs that one event loop has for the threads of one executor."""

    def __init__(self, executor: Executor, limit: int) -> None:
        self.executor, self.limit = executor, limit
        self.waiting: deque[Job] = deque()
        self.ended: deque[Job] = deque()
        self.threads = self.count = self.seen = 0
        self.wall = self.cpu = 0.0
        self.starting = self.looking = self.reporting = False
        self._gate = threading.Lock()

    def add(self, work: Callable[[], Any], merged: Merged | None = None) -> Job:
        """Have a function called in a thread; the future of the job is done when it has ended."""
        loop = asyncio.get_running_loop()
        job = Job(work, loop.create_future(), merged)
        self.waiting.append(job)
        if not self.starting:
            self.starting = True
            loop.call_soon(self._start)
        return job

    def _start(self) -> None:
        self.starting = False
        self._work_in(self._useful())

    def _useful(self) -> int:
        """As many threads as the length of jobs suggests."""
        if self.wall >= ALL_FROM_S and self.cpu <= (1 - IDLE) * self.wall:
            return self.limit
        return available_cpus() if self.cpu >= FEW_FROM_S else 1

    def _work_in(self, threads: int) -> None:
        with self._gate:
            more = max(0, min(min(threads, self.limit) - self.threads, len(self.waiting)))
            self.threads += more
        for number in range(more):
            try:
                self.executor.submit(self._work)
            except BaseException as error:  # the program ends: there are no threads any more
                with self._gate:
                    self.threads -= more - number
                self._refuse(error)
                break
        if self.threads and not self.looking:
            self.looking = True
            asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """Hand out what has ended, and have more threads at work where nothing has ended since the last look."""
        self.looking = False
        stuck, self.seen = self.seen == self.count, self.count
        self._hand_out()
        self._work_in(max(self._useful(), 2 * self.threads if stuck else 1))

    def _work(self) -> None:
        """Do jobs in this thread until none waits."""
        reported = begun = time.perf_counter()
        used = time.thread_time()
        loop: asyncio.AbstractEventLoop | None = None
        while (job := self._next()) is not None:
            loop = job.future.get_loop()
            jobs = [job] if job.merged is None else self._with_others(job, job.merged)
            run_together(jobs)
            self.ended.extend(jobs)
            now, cpu = time.perf_counter(), time.thread_time()
            self._learn((now - begun) / len(jobs), (cpu - used) / len(jobs))
            begun, used = now, cpu
            if now - reported > REPORT_S:
                self._report(loop)
                reported = now
        if loop is not None:
            self._report(loop)

    def _with_others(self, job: Job, first: Merged) -> list[Job]:
        """A job, and those that wait behind it and can be done together with it."""
        jobs, nbytes = [job], first.nbytes
        while len(jobs) < MAX_TOGETHER:
            try:
                other = self.waiting.popleft()
            except IndexError:
                break
            if other.merged is None or other.merged.kind != first.kind or nbytes + other.merged.nbytes > MAX_TOGETHER_BYTES:
                self.waiting.appendleft(other)
                break
            nbytes += other.merged.nbytes
            jobs.append(other)
        return jobs

    def _learn(self, wall: float, cpu: float) -> None:
        """A job has ended that took so long; threads may overwrite what others have just learnt."""
        self.count += 1
        weight = WEIGHT if self.count > 1 else 1
        self.wall += weight * (wall - self.wall)
        self.cpu += weight * (cpu - self.cpu)

    def _next(self) -> Job | None:
        """The next job; None where there is none, and then this thread counts no more."""
        try:
            return self.waiting.popleft()
        except IndexError:
            pass
        with self._gate:  # whoever adds a job after this finds one thread less, and has another one begin
            try:
                return self.waiting.popleft()
            except IndexError:
                self.threads -= 1
                return None

    def _report(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have the loop hand out what has ended."""
        if self.ended and not self.reporting:
            self.reporting = True
            try:
                loop.call_soon_threadsafe(self._hand_out)
            except RuntimeError:
                pass  # the loop was closed: no task waits there any more

    def _hand_out(self) -> None:
        self.reporting = False  # first: what ends from here on is reported again
        for _ in range(min(HANDED_OUT, len(self.ended))):
            job = self.ended.popleft()
            job.ended = True
            if not job.future.done():
                job.future.set_result(None)
        if self.ended and not self.reporting:
            self.reporting = True
            asyncio.get_running_loop().call_soon(self._hand_out)

    def _refuse(self, error: BaseException) -> None:
        while self.waiting:
            job = self.waiting.popleft()
            job.error = error
            self.ended.append(job)
        self._hand_out()


_jobs: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Executor, LoopJobs]] = WeakKeyDictionary()


def loop_jobs(executor: Executor, limit: int) -> LoopJobs:
    """The jobs of the running event loop for an executor that has so many threads."""
    found = _jobs.setdefault(asyncio.get_running_loop(), {})
    jobs = found.get(executor)
    if jobs is None:
        jobs = found[executor] = LoopJobs(executor, limit)
    return jobs
