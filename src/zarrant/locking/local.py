"""Exclusion inside one process: a first-come, first-served queue per name.

In: names (strings, locked in sorted order) and a deadline of `time.monotonic`. Out: the caller owns every name; or LockTimeout,
and the caller owns none. Each waiting thread sleeps on a lock of its own, and one at a time is woken. So threads of one process
never poll, and never compete with each other for a lock file. A name that nobody owns or waits for costs no memory.

A child process owns nothing after a fork: its queues start empty (`remake_after_fork`).

An interrupt (Ctrl-C) can come between any two calls: also after a lock was taken and before the `try` block that releases it, or
inside of its `finally`. No order of Python statements prevents that. So every lock records its thread and a serial number
(`Acquired`). When an interrupt ends an operation, the driver releases everything that its thread has taken since the start.

A caller that waits for its own lock would wait for ever. So every lock records its owner too (`Ownership`): the task of the event
loop for which the thread works, or else the thread. An owner that waits for its own lock gets ReentrantLockError at once. So does
an operation for which the owner waits (`Caller.above`).
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol
from weakref import ref

from zarrant.errors import LockTimeout, OptionError, ReentrantLockError, ZarrantError

wait_cancelled: ContextVar[Callable[[], bool] | None] = ContextVar("wait_cancelled", default=None)
"""Whether the operation of this thread was cancelled: a wait for a lock then ends as if its deadline had come."""

CANCEL_POLL_S = 0.02
"""Seconds between two calls of `wait_cancelled`, where it is set. Shorter than a person notices; costs 50 wake-ups a second."""


class ForkAware(Protocol):
    """Something that must forget, in a forked child, what threads of the parent had locked."""

    def remake(self) -> None:
        """Replace every lock by a fresh one."""
        ...


_remade: set[ref[ForkAware]] = set()
"""Not a `WeakSet`: other threads add to it during a loop over it. A plain set is copied in one step."""


def remake_after_fork(item: ForkAware) -> None:
    """Call `item.remake()` in each child forked from now on, for as long as the item lives."""
    _remade.add(ref(item, _remade.discard))


def _all_remade() -> list[ForkAware]:
    return [item for reference in _remade.copy() if (item := reference()) is not None]


_numbers = itertools.count(1)


class Acquired:
    """Something that a thread has locked. The same thread releases it, at the latest when its operation ends."""

    __slots__ = ("number", "thread")

    def __init__(self) -> None:
        self.thread, self.number = threading.get_ident(), next(_numbers)

    def since(self, start: Acquired) -> bool:
        """Whether the thread of `start` locked it, and after `start` was made."""
        return self.thread == start.thread and self.number > start.number


class Caller(NamedTuple):
    """For whom a thread takes locks: a task (None: the thread itself).

    `above` are the owners that wait for the caller, each with the serial number (of `Acquired`) at which it began to wait.
    """

    task: object = None
    above: tuple[tuple[object, int], ...] = ()


current_caller: ContextVar[Caller | None] = ContextVar("current_caller", default=None)


def _owner() -> object:
    caller = current_caller.get()
    return threading.get_ident() if caller is None or caller.task is None else caller.task


def caller_of_parts() -> Caller:
    """The asker of operations that other threads perform for this one, while it waits for them."""
    caller = current_caller.get()
    return Caller(None, (*(() if caller is None else caller.above), (_owner(), next(_numbers))))


class Ownership(Acquired):
    """Something locked that others may wait for, and its owner."""

    __slots__ = ("owner",)

    def __init__(self, owner: object = None) -> None:
        # The same as `Acquired()` and `_owner()`, written out because each write makes three of these.
        self.thread, self.number = threading.get_ident(), next(_numbers)
        if owner is None:
            caller = current_caller.get()
            owner = self.thread if caller is None or caller.task is None else caller.task
        self.owner = owner

    def is_locked_by_caller(self) -> bool:
        """Whether it belongs to the current caller, or to an owner that waits for the current caller."""
        if self.owner == _owner():
            return True
        caller = current_caller.get()
        return caller is not None and any(self.owner == who and self.number < number for who, number in caller.above)


def reentrant(path: str | None = None) -> ReentrantLockError:
    """The error for a caller that would wait for its own lock."""
    return ReentrantLockError(
        "this caller has the lock of the object itself, through another handle",
        path=path,
        expected="a write through the handle that has the lock, or after it was given back",
        hint="Inside `with a.lock(...) as locked` write through `locked`; inside `partial_encoder` through the encoder; "
        "a function given to `update` returns the new values",
    )


def not_locked(store: str, key: str) -> OptionError:
    """The error for a caller that has locked some keys, and wants to lock another one through the same value."""
    return OptionError(
        "a lock inside a lock takes only its keys",
        store=store,
        key=key,
        expected="a locked key",
        hint="Inside `with a.lock(...) as locked` lock and write what was locked there. Attributes and the shape are changed "
        "before the lock or after it",
    )


def give_back(start: Acquired) -> None:
    """Release everything that this thread has locked since `start`, and that is not released yet."""
    for item in _all_remade():
        giving: Callable[[Acquired], None] | None = getattr(item, "give_back", None)
        if giving is not None:
            giving(start)


class ForkSafeLock:
    """A mutex, `lock`, that a forked child finds unlocked."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Replace the lock by a fresh one."""
        self.lock = threading.Lock()


def _after_fork() -> None:
    for item in _all_remade():
        item.remake()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class QueueTicket(Ownership):
    """A place in a queue. Its lock is locked until the place is the first one."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.lock.acquire()


def wait_for_turn(turn: threading.Lock, deadline: float) -> bool:
    """Wait until `turn` is released: True. False at the deadline, or when the operation was cancelled."""
    over = wait_cancelled.get()
    while True:
        left = min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        if turn.acquire(timeout=left if over is None else min(left, CANCEL_POLL_S)):
            return True
        if left == 0 or over is None or over():
            return False


class KeyQueues:
    """One first-in, first-out queue for each name. The first in the queue owns the name.

    >>> queues = KeyQueues()
    >>> with queues.lock(("b", "a"), time.monotonic() + 1):
    ...     sorted(queues.locked())
    ['a', 'b']
    """

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Start with empty queues."""
        self._gate = threading.Lock()
        self._queues: dict[str, deque[QueueTicket]] = {}

    def locked(self) -> list[str]:
        """The names that are owned now."""
        with self._gate:
            return list(self._queues)

    def is_wanted(self, name: str) -> bool:
        """Whether anybody owns a name now."""
        return name in self._queues

    def is_locked_by_caller(self, name: str) -> bool:
        """Whether the current caller owns a name, or an owner that waits for the current caller."""
        with self._gate:
            queue = self._queues.get(name)
            # The queue may be empty: an interrupt can come between its last two statements in `_leave`.
            return queue is not None and len(queue) > 0 and queue[0].is_locked_by_caller()

    @contextmanager
    def lock(
        self, names: Sequence[str], deadline: float, annotate: Callable[[ZarrantError], object] | None = None
    ) -> Iterator[None]:
        """Own `names` inside the block. LockTimeout at the deadline, with none of them owned; `annotate` adds to that error."""
        taken: list[tuple[str, QueueTicket]] = []
        try:
            for name in names if len(names) == 1 else sorted(set(names)):
                turn = QueueTicket()
                # Recorded before it joins the queue: an interrupt in between would leave an owner in the queue for ever.
                taken.append((name, turn))
                try:
                    self._take(name, turn, deadline)
                except (LockTimeout, ReentrantLockError) as error:
                    if annotate is not None:
                        annotate(error)
                    raise
            yield
        finally:
            try:
                self._leave_all(taken)
            finally:
                self._leave_all(taken)  # again: an interrupt may have ended the first call; names that were left are skipped

    def _leave_all(self, taken: list[tuple[str, QueueTicket]]) -> None:
        """Leave the queues, the last one first. A queue that was left is taken off the list, so a second call does the rest."""
        while taken:
            self._leave(*taken[-1])
            taken.pop()

    def give_back(self, start: Acquired) -> None:
        """See `give_back`."""
        for name, queue in list(self._queues.items()):
            for turn in list(queue):
                if turn.since(start):
                    self._leave(name, turn)

    def _take(self, name: str, turn: QueueTicket, deadline: float) -> None:
        start = time.monotonic()
        with self._gate:
            queue = self._queues.setdefault(name, deque())
            queue.append(turn)
            if queue[0] is turn:
                return
            again = queue[0].is_locked_by_caller()
        if again:
            raise reentrant(name)
        if not wait_for_turn(turn.lock, deadline):
            raise LockTimeout(
                "another thread of this process kept the lock", path=name, got=f"{time.monotonic() - start:.3f} s waited"
            )

    def _leave(self, name: str, turn: QueueTicket) -> None:
        with self._gate:
            queue = self._queues.get(name)
            if queue is None or turn not in queue:  # interrupted before joining, or forked since
                return
            # Wake the next one before leaving: if an interrupt comes in between, the second call wakes it again, harmlessly.
            if queue[0] is turn and len(queue) > 1 and queue[1].lock.locked():
                queue[1].lock.release()
            queue.remove(turn)
            if not queue:
                del self._queues[name]


def lock_names(queues: KeyQueues, names: Mapping[str, str], deadline: float, store: str) -> AbstractContextManager[None]:
    """Own the names (name: key) in the block. A LockTimeout says the store and the key."""
    return queues.lock(list(names), deadline, lambda error: error.annotate(store=store, key=names.get(str(error.path))))


@contextmanager
def lock_again(queues: KeyQueues, names: Mapping[str, str], locked: Container[str], deadline: float, store: str) -> Iterator[None]:
    """Lock names again that are locked already: this keeps threads apart which share the first lock.

    OptionError for a name that is not locked. To wait for one more lock could be a deadlock: its owner may wait for ours.
    """
    for name, key in names.items():
        if name not in locked:
            raise not_locked(store, key)
    with lock_names(queues, names, deadline, store):
        yield
