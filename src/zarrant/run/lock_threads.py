"""Threads for an event loop's task that has a lock, so that those who wait for the lock never starve it.

In: the task that enters a `LockThreads`, and every task that it starts inside of the block (they inherit the context). Out: the
executor in which their blocking work runs. All other tasks share one set of threads, and these may all be waiting for that lock.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

from zarrant.run.threads import Threads

THREADS_PER_LOCK = 4
"""Threads for one lock in an event loop. Operations that run side by side also have the pool."""


class LockThreads:
    """Threads for the task that has a lock, and others for the tasks that it starts inside of the block.

    The threads of `_executor` may all be busy waiting for that lock. Tasks started inside have threads apart from those of the
    task itself, because they too may wait for it.
    """

    def __init__(self) -> None:
        self.task, self.ended = asyncio.current_task(), False
        self.executor: ThreadPoolExecutor = Threads(THREADS_PER_LOCK, "zarrant-lock")
        self.children: ThreadPoolExecutor | None = None
        self.outer = current_threads.get()

    def __enter__(self) -> LockThreads:
        current_threads.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        current_threads.set(self.outer)
        self.executor.shutdown(wait=False)
        if self.children is not None:
            self.children.shutdown(wait=False)

    def choose(self) -> ThreadPoolExecutor:
        """The threads for the task that runs now."""
        if asyncio.current_task() is self.task:
            return self.executor
        if self.children is None:
            self.children = Threads(THREADS_PER_LOCK, "zarrant-inside")
        return self.children


current_threads: ContextVar[LockThreads | None] = ContextVar("current_threads", default=None)
"""Tasks inherit it from the task that started them."""


def lock_executor() -> ThreadPoolExecutor | None:
    """The threads of the innermost lock inside of which this task runs; None where there is none."""
    lane = current_threads.get()
    while lane is not None and lane.ended:
        lane = lane.outer
    return None if lane is None else lane.choose()
