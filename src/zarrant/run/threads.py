"""Threads for what blocks, for an event loop.

In: a function and its arguments. Out: a future. A module of its own, because what it imports takes 10 ms that programs without
an event loop do not need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Threads(ThreadPoolExecutor):
    """Threads for what blocks, for an event loop. Where the system gives none, `submit` does the work before it returns."""

    def __init__(self, limit: int, name: str) -> None:
        self._begun: list[int] = []
        super().__init__(limit, name, initializer=lambda: self._begun.append(threading.get_ident()))

    def submit(self, work: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `concurrent.futures.Executor.submit`."""
        job = _Job(partial(work, *args, **kwargs))
        try:
            super().submit(job)
        except RuntimeError as error:
            if "schedule" in str(error):  # after `shutdown`
                raise
            # The job is in the queue by now: threads that are there come to it, if there are any.
            if not self._begun:
                job()
        return job.future


class _Job(Generic[T]):
    """Work that is done once, however often it is called."""

    def __init__(self, work: Callable[[], T]) -> None:
        self.work, self.future, self.taken = work, Future[T](), threading.Lock()

    def __call__(self) -> None:
        if not self.taken.acquire(blocking=False) or not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.work()
        except BaseException as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)
