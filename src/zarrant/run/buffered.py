"""Buffered writing from threads: callers copy into memory, threads in the background store what is sealed.

In: what is kept in memory (`ops.buffered.Buffers`), and a function that performs an operation. A caller waits where there is no
room, where another caller writes into the same chunk, and in `flush` until everything before is stored. One lock guards all that
is in memory; values are copied, encoded and stored without it. After the first error nothing more is stored: every later call
raises it. A forked child has neither the threads nor what is in memory: there every call is an error.

An interrupt (Ctrl-C) may come anywhere in a caller, as in `run.pool`: the lock is a plain one, and who waits looks by itself now
and then, since an interrupt can come before others are woken, or before a thread is asked to work.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from copy import copy
from typing import Any, Protocol, TypeVar

from zarrant.errors import OptionError
from zarrant.locking.local import Caller, caller_of_parts, current_caller
from zarrant.requests import Op, Outcome
from zarrant.run.pool import WAKE_S

J = TypeVar("J")
T = TypeVar("T")


class Work(Protocol[J]):
    """What is in memory: see `ops.buffered.ChunkBuffers`, `ops.appending.AppendBuffers`."""

    @property
    def ready(self) -> int:
        """How many threads would find something to do."""
        ...

    @property
    def nbytes_pending(self) -> int:
        """Bytes that are not stored."""
        ...

    def seal_all(self) -> int:
        """Let everything be stored; returns the mark that `waits_for` takes."""
        ...

    def waits_for(self, mark: int) -> bool:
        """Whether something of before the mark is not stored."""
        ...

    def take(self) -> list[J]:
        """What is to be stored now, by one thread."""
        ...

    def store(self, jobs: list[J]) -> Op[list[Outcome[Any]]]:
        """Store it; one outcome each."""
        ...

    def done(self, jobs: list[J], outcomes: list[Outcome[Any]]) -> None:
        """It is stored, or has failed."""
        ...


class Failure:
    """The first error of a writer, whether it is closed, and which process it belongs to."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.closed = False
        self.process = os.getpid()

    @property
    def elsewhere(self) -> bool:
        """Whether this is another process than the one that made the writer."""
        return os.getpid() != self.process

    def check(self) -> None:
        """Raise what keeps the writer from going on."""
        if self.elsewhere:  # safety: buffer of the parent
            hint = "The parent stores what was written before the fork. Open a buffer in each process"
            raise OptionError(
                "this buffer belongs to the process that opened it", expected=self.process, got=os.getpid(), hint=hint
            )
        if self.error is not None:  # safety: first error
            raise again(self.error) from self.error
        if self.closed:
            raise OptionError("the buffer is closed", hint="Open another one: with a.buffered() as w")

    def note(self, outcomes: list[Outcome[Any]]) -> None:
        """Keep the first error."""
        if self.error is None:
            self.error = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)


def again(error: BaseException) -> BaseException:
    """A copy of an error, for another caller; the error itself where it cannot be copied."""
    try:
        return copy(error)
    except Exception:
        return error


class BackgroundWriter:
    """Callers and threads around what is in memory. `unstored` is called with it where nobody has closed the writer at the end."""

    def __init__(
        self,
        work: Work[Any],
        perform: Callable[[Op[list[Outcome[Any]]]], list[Outcome[Any]]],
        threads: int,
        unstored: Callable[[Work[Any], int], None],
    ) -> None:
        self.work, self.state = work, Failure()
        self._perform, self._most = perform, threads
        self._lock = threading.Lock()
        self._waiting: list[threading.Lock] = []
        from zarrant.run.threads import Threads  # what it imports takes 10 ms

        self._threads = Threads(threads, "zarrant buffered")
        self._running = self._asked = 0
        self._finalizer = weakref.finalize(self, unstored, work, self.state.process)

    def wait_for(self, step: Callable[[], T | None]) -> T:
        """What `step` gives, called while nobody else has the lock, again until it gives something."""
        while True:
            gate = threading.Lock()
            gate.acquire()
            with self._lock:
                self.state.check()
                found = step()
                if found is not None:
                    return found
                self._waiting.append(gate)
                more = self._more()
            self._start(more)
            if not gate.acquire(timeout=WAKE_S):
                self._asked = 0  # who was asked may never have been told

    def change(self, act: Callable[[], T]) -> T:
        """Change what is in memory, while nobody else has the lock; what was sealed is stored in the background."""
        with self._lock:
            found = act()
            more = self._more()
            self._wake()
        self._start(more)
        return found

    def flush(self) -> None:
        """Wait until everything that was written before is stored; raises the first error."""
        self.state.check()
        mark = self.change(self.work.seal_all)
        self.wait_for(lambda: None if self.work.waits_for(mark) else True)

    def close(self) -> None:
        """`flush`, and end; nothing where it is closed, and in a forked child. Raises the first error."""
        if self.state.closed or self.state.elsewhere:
            self.abandon()
            return
        try:
            self.flush()
        finally:
            self.abandon()

    def abandon(self) -> None:
        """End, without storing more than what is in flight."""
        self.state.closed = True
        self._finalizer.detach()
        if not self.state.elsewhere:
            with self._lock:
                self._wake()
            self._threads.shutdown(wait=True)

    def _wake(self) -> None:
        """Have those look again who wait."""
        while self._waiting:
            self._waiting.pop().release()

    def _more(self) -> int:
        """How many threads more are to work."""
        if self.state.error is not None:
            return 0
        more = max(0, min(self.work.ready, self._most - self._running - self._asked))
        self._asked += more
        return more

    def _start(self, threads: int) -> None:
        for _ in range(threads):
            self._threads.submit(self._work, caller_of_parts())

    def _work(self, caller: Caller) -> None:
        token = current_caller.set(caller)
        with self._lock:
            self._asked, self._running = max(0, self._asked - 1), self._running + 1
        try:
            while jobs := self._take():
                outcomes: list[Outcome[Any]] = []
                try:
                    outcomes = self._perform(self.work.store(jobs))
                except BaseException as error:
                    outcomes = [error] * len(jobs)
                finally:
                    with self._lock:
                        self.work.done(jobs, outcomes)
                        self.state.note(outcomes)
                        self._wake()
        finally:
            current_caller.reset(token)

    def _take(self) -> list[Any]:
        with self._lock:
            jobs = [] if self.state.error is not None else self.work.take()
            if not jobs:
                self._running -= 1
                self._wake()
            return jobs
