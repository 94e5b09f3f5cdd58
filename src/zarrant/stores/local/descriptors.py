"""File descriptors of this process, of which the system gives only so many (1,024 is usual, 64 happens).

In: how many are wanted. Out: how many there are to spare, or an error before any is taken. They are counted when many are
wanted, not for a single write: that costs 20 µs and more. A single write that finds none waits until others are
closed (`stores.local.syscalls`).
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import TypeVar

from zarrant.errors import StoreError
from zarrant.locking.local import ForkSafeLock

if sys.platform != "win32":
    import resource

MIN_COUNTED = 64
"""Fewer are not counted before they are taken: where the limit is as low as that, single writes fail too."""
KEPT_FREE = 16
"""Descriptors that are left to others: to reading under the locks, to other threads."""

MAX_TRIES, TURN_TIMEOUT_S = 2, 5.0
"""How often it is tried with few descriptors, and seconds to wait for other threads that do the same."""

T = TypeVar("T")
_one_at_a_time = ForkSafeLock()
_NONE_LEFT = {errno.EMFILE, errno.ENFILE}


def is_out_of_descriptors(error: BaseException) -> bool:
    """Whether something failed because there was no descriptor."""
    return getattr(error, "errno", None) in _NONE_LEFT


def could_not_open(error: OSError) -> bool:
    """Whether a file could not be opened because there was no descriptor: the error names the file."""
    return is_out_of_descriptors(error) and error.filename is not None


def free_descriptors() -> int:
    """How many files this process may still open."""
    if sys.platform == "win32":
        return sys.maxsize
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    try:
        used = len(os.listdir("/dev/fd"))
    except OSError as error:
        used = limit if is_out_of_descriptors(error) else 3
    return max(0, limit - used)


def with_few_descriptors(act: Callable[[], T], done: Callable[[], bool] = lambda: False) -> T:
    """Do what opens several files; where there were not enough, with nothing open, again, one thread at a time.

    Threads that each have some and wait for more would wait for each other. Only what failed to *open* something (its error
    names a file) is done again, and never what is `done`: what was published must not be published twice.
    """

    def final(error: OSError) -> bool:
        return not could_not_open(error) or done()

    for _ in range(MAX_TRIES):
        try:
            return act()
        except OSError as error:
            if final(error):
                raise
        # In any case after a while: who is before us may wait for a lock that this thread has taken.
        mine = _one_at_a_time.lock.acquire(timeout=TURN_TIMEOUT_S)
        try:
            return act()
        except OSError as error:
            if final(error):
                raise
        finally:
            if mine:
                _one_at_a_time.lock.release()
    return act()


def require_descriptors(count: int, store: str) -> None:
    """StoreError, with nothing taken, where so many files cannot be open at once."""
    if count < MIN_COUNTED:
        return
    free = free_descriptors()
    if count + KEPT_FREE > free:
        error = StoreError(
            "too many objects to lock at once: each needs an open file",
            store=store,
            expected=f"{count + KEPT_FREE} open files",
            got=f"{free} left to this process",
            hint="Raise the limit of open files (ulimit -n), or lock fewer objects at once",
        )
        error.errno = errno.EMFILE
        raise error
