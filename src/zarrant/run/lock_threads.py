"""Threads for an event loop's task that has a lock, so that those who wait for the lock never starve it.

In: the task that enters a `Lane`, and every task it starts inside of the block (they inherit the context). Out: the executor in
which their blocking work runs. The threads that all other tasks share may all be busy waiting for that very lock.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

from zarrant.run.pool import Threads

HOLDERS = 4
"""Threads of one hold in an event loop: operations side by side have the pool besides."""


class Lane:
    """Threads for the task that has a lock, and others for the tasks that it starts inside of the block.

    The threads of `_executor` may all be busy waiting for that lock. Tasks started inside have threads apart from those of the
    task itself, because they too may wait for it.
    """

    def __init__(self) -> None:
        self.task, self.ended = asyncio.current_task(), False
        self.executor: ThreadPoolExecutor = Threads(HOLDERS, "zarrant-hold")
        self.children: ThreadPoolExecutor | None = None
        self.outer = lanes.get()

    def __enter__(self) -> Lane:
        lanes.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        lanes.set(self.outer)
        self.executor.shutdown(wait=False)
        if self.children is not None:
            self.children.shutdown(wait=False)

    def choose(self) -> ThreadPoolExecutor:
        """The threads for the task that runs now."""
        if asyncio.current_task() is self.task:
            return self.executor
        if self.children is None:
            self.children = Threads(HOLDERS, "zarrant-inside")
        return self.children


lanes: ContextVar[Lane | None] = ContextVar("lanes", default=None)
"""Tasks inherit it from the task that started them."""


def lane_executor() -> ThreadPoolExecutor | None:
    """The threads of the innermost hold in which this task runs; None where it runs in none."""
    lane = lanes.get()
    while lane is not None and lane.ended:
        lane = lane.outer
    return None if lane is None else lane.choose()
