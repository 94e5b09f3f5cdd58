"""Exclusion inside one process: a first-come, first-served queue per name.

In: names (strings, taken in sorted order) and a deadline of `time.monotonic`. Out: the caller owns every name, or
LockTimeout and owns none. Waiters sleep on a lock of their own and are woken one at a time, so threads of one process never
poll, and never fight each other for a lock file. A name nobody owns or waits for costs no memory.

What is forked is never owned: the queues of a child process start empty (`remake_after_fork`).

An interrupt (Ctrl-C) can come between any two calls: also when something was taken and the block that gives it back is not
entered yet, or is just being left. No order of Python statements is proof against that. So whatever is taken notes its thread
and a number that rises, and whoever performs an operation gives back, when an interrupt ends it, all that its thread took since.

Who waits for a lock that he has himself would wait for ever. So whatever is taken notes its owner too: the task of the event
loop for which the thread works, or else the thread. An owner that waits for what it owns gets ReentrantLockError at once, and
so does an operation on which the owner waits (`Caller.above`).
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
from weakref import WeakSet

from zarrant.errors import LockTimeout, OptionError, ReentrantLockError, ZarrantError

wait_cancelled: ContextVar[Callable[[], bool] | None] = ContextVar("given_up", default=None)
"""Tells a wait of this thread for a lock that nobody wants it any more; it then ends as if its deadline had come."""

CANCEL_POLL_S = 0.02
"""Seconds between two looks at `wait_cancelled`, where it is set: a cancelled caller does not notice, and it costs 50 wakes/s."""


class ForkAware(Protocol):
    """Something that must forget, in a forked child, what threads of the parent held."""

    def remake(self) -> None:
        """Replace every lock by a fresh one."""
        ...


_remade: WeakSet[ForkAware] = WeakSet()


def remake_after_fork(item: ForkAware) -> None:
    """Call `item.remake()` in each child forked from now on, for as long as the item lives."""
    _remade.add(item)


_numbers = itertools.count(1)


class Acquired:
    """Something that a thread took, to be given back by the same thread at the latest when its operation ends."""

    __slots__ = ("number", "thread")

    def __init__(self) -> None:
        self.thread, self.number = threading.get_ident(), next(_numbers)

    def since(self, start: Acquired) -> bool:
        """Whether it was taken by the thread of `start`, and later."""
        return self.thread == start.thread and self.number > start.number


class Caller(NamedTuple):
    """For whom a thread takes locks: a task (None: the thread itself), and who waits for it, each since a number of `Acquired`."""

    task: object = None
    above: tuple[tuple[object, int], ...] = ()


current_caller: ContextVar[Caller | None] = ContextVar("asking", default=None)


def _owner() -> object:
    caller = current_caller.get()
    return threading.get_ident() if caller is None or caller.task is None else caller.task


def caller_of_parts() -> Caller:
    """The asker of operations that other threads perform for this one, while it waits for them."""
    caller = current_caller.get()
    return Caller(None, (*(() if caller is None else caller.above), (_owner(), next(_numbers))))


class Ownership(Acquired):
    """Something taken that others may wait for."""

    __slots__ = ("owner",)

    def __init__(self, owner: object = None) -> None:
        # What `Acquired` and `_owner` do, without calling them: this is made three times for a write.
        self.thread, self.number = threading.get_ident(), next(_numbers)
        if owner is None:
            caller = current_caller.get()
            owner = self.thread if caller is None or caller.task is None else caller.task
        self.owner = owner

    def is_held_by_caller(self) -> bool:
        """Whether it belongs to who asks now, or to somebody who waits for who asks now."""
        if self.owner == _owner():
            return True
        caller = current_caller.get()
        return caller is not None and any(self.owner == who and self.number < number for who, number in caller.above)


def reentrant(path: str | None = None) -> ReentrantLockError:
    """The error of who waits for what he has."""
    return ReentrantLockError(
        "this caller has the lock of the object itself, through another handle",
        path=path,
        expected="a write through the handle that has the lock, or after it was given back",
        hint="Inside `with a.lock(...) as held` write through `held`; inside `partial_encoder` through the encoder; "
        "a function given to `update` returns the new values",
    )


def not_locked(store: str, key: str) -> OptionError:
    """The error of who asks for another lock through what has locked some objects."""
    return OptionError(
        "a hold inside a hold takes only its keys",
        store=store,
        key=key,
        expected="a held key",
        hint="Inside `with a.lock(...) as held` lock and write what was locked there. Attributes and the shape are changed "
        "before the lock or after it",
    )


def give_back(start: Acquired) -> None:
    """Give back all that this thread took since `start`; what was given back already is left alone."""
    for item in list(_remade):
        giving: Callable[[Acquired], None] | None = getattr(item, "give_back", None)
        if giving is not None:
            giving(start)


class ForkSafeLock:
    """A mutex, `lock`, that is free again in a forked child."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Replace the lock by a fresh one."""
        self.lock = threading.Lock()


def _after_fork() -> None:
    for item in list(_remade):
        item.remake()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class QueueTicket(Ownership):
    """A place in a queue; its lock is taken until the place is the first."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.lock.acquire()


def wait_for_turn(turn: threading.Lock, deadline: float) -> bool:
    """Wait for a turn until the deadline, or until it is given up."""
    over = wait_cancelled.get()
    while True:
        left = min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        if turn.acquire(timeout=left if over is None else min(left, CANCEL_POLL_S)):
            return True
        if left == 0 or over is None or over():
            return False


class KeyQueues:
    """One FIFO queue per name; the head of a queue owns the name.

    >>> queues = KeyQueues()
    >>> with queues.hold(("b", "a"), time.monotonic() + 1):
    ...     sorted(queues.held())
    ['a', 'b']
    """

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Start with empty queues."""
        self._gate = threading.Lock()
        self._queues: dict[str, deque[QueueTicket]] = {}

    def held(self) -> list[str]:
        """The names that are owned now."""
        with self._gate:
            return list(self._queues)

    def is_held_by_caller(self, name: str) -> bool:
        """Whether a name is owned by who asks, or by somebody who waits for who asks."""
        with self._gate:
            queue = self._queues.get(name)
            # An interrupt can have left an empty queue.
            return queue is not None and len(queue) > 0 and queue[0].is_held_by_caller()

    @contextmanager
    def lock(
        self, names: Sequence[str], deadline: float, annotate: Callable[[ZarrantError], object] | None = None
    ) -> Iterator[None]:
        """Own `names` inside the block. LockTimeout at the deadline, with none of them owned; `annotate` says more of it."""
        taken: list[tuple[str, QueueTicket]] = []
        try:
            for name in names if len(names) == 1 else sorted(set(names)):
                turn = QueueTicket()
                # Noted first: an interrupt between joining the queue and noting it would leave an owner for ever.
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
                self._leave_all(taken)  # what an interrupt kept from being left; the rest is known to be left

    def _leave_all(self, taken: list[tuple[str, QueueTicket]]) -> None:
        """Leave them, the last one first; what was left is taken off the list, so that a second call does the rest."""
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
            again = queue[0].is_held_by_caller()
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
            # The next is woken first: done twice, where an interrupt came after the first time, this does no harm.
            if queue[0] is turn and len(queue) > 1 and queue[1].lock.locked():
                queue[1].lock.release()
            queue.remove(turn)
            if not queue:
                del self._queues[name]


def lock_names(queues: KeyQueues, names: Mapping[str, str], deadline: float, store: str) -> AbstractContextManager[None]:
    """Own names of queues; a timeout names the store, and the key that stands behind its name."""
    return queues.lock(list(names), deadline, lambda error: error.annotate(store=store, key=names.get(str(error.path))))


@contextmanager
def lock_again(queues: KeyQueues, names: Mapping[str, str], held: Container[str], deadline: float, store: str) -> Iterator[None]:
    """Own names that are locked already, inside of their lock; it keeps threads apart that share the lock.

    OptionError for a name that is not locked: waiting for one more could be waiting for somebody who waits for us.
    """
    for name, key in names.items():
        if name not in held:
            raise not_locked(store, key)
    with lock_names(queues, names, deadline, store):
        yield
