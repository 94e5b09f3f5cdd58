"""Jobs that an event loop gives to threads: many of them with one switch between the loop and a thread.

In: functions that block. Out: each one's result or error, for the task that waits for it. A switch to a thread and back costs
about 50 µs, and two threads that both run Python take the interpreter from each other at each system call, so that operations
that take 100 µs take 200 each. So jobs wait in a queue of their event loop. They are given to a thread when all tasks that are
ready have had their turn, and one thread does what is there, one job after the other. It reports its results to the loop when
there is no more, or after `REPORT_S`.

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
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any
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


class Job:
    """One function to call in a thread, and the future on which its task waits."""

    __slots__ = ("ended", "error", "future", "result", "work")

    def __init__(self, work: Callable[[], Any], future: asyncio.Future[None]) -> None:
        self.work, self.future, self.ended = work, future, False
        self.result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        """Call it, and keep what comes of it."""
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = error


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

    def add(self, work: Callable[[], Any]) -> Job:
        """Have a function called in a thread; the future of the job is done when it has ended."""
        loop = asyncio.get_running_loop()
        job = Job(work, loop.create_future())
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
            job.run()
            self.ended.append(job)
            now, cpu = time.perf_counter(), time.thread_time()
            self._learn(now - begun, cpu - used)
            begun, used = now, cpu
            if now - reported > REPORT_S:
                self._report(loop)
                reported = now
        if loop is not None:
            self._report(loop)

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
        while self.ended:
            job = self.ended.popleft()
            job.ended = True
            if not job.future.done():
                job.future.set_result(None)

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
