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
so does an operation on which the owner waits (`Asker.above`).
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

given_up: ContextVar[Callable[[], bool] | None] = ContextVar("given_up", default=None)
"""Tells a wait of this thread for a lock that nobody wants it any more; it then ends as if its deadline had come."""

LOOK = 0.02
"""Seconds between two looks at `given_up`, where it is set: a cancelled caller does not notice, and it costs 50 wakes/s."""


class Remade(Protocol):
    """Something that must forget, in a forked child, what threads of the parent held."""

    def remake(self) -> None:
        """Replace every lock by a fresh one."""
        ...


_remade: set[ref[Remade]] = set()
"""Not a `WeakSet`: other threads add to it while it is gone through, and a copy of a plain set is one step."""


def remake_after_fork(item: Remade) -> None:
    """Call `item.remake()` in each child forked from now on, for as long as the item lives."""
    _remade.add(ref(item, _remade.discard))


_numbers = itertools.count(1)


class Taken:
    """Something that a thread took, to be given back by the same thread at the latest when its operation ends."""

    __slots__ = ("number", "thread")

    def __init__(self) -> None:
        self.thread, self.number = threading.get_ident(), next(_numbers)

    def since(self, start: Taken) -> bool:
        """Whether it was taken by the thread of `start`, and later."""
        return self.thread == start.thread and self.number > start.number


class Asker(NamedTuple):
    """For whom a thread takes locks: a task (None: the thread itself), and who waits for it, each since a number of `Taken`."""

    task: object = None
    above: tuple[tuple[object, int], ...] = ()


asking: ContextVar[Asker | None] = ContextVar("asking", default=None)


def _owner() -> object:
    asker = asking.get()
    return threading.get_ident() if asker is None or asker.task is None else asker.task


def asker_of_parts() -> Asker:
    """The asker of operations that other threads perform for this one, while it waits for them."""
    asker = asking.get()
    return Asker(None, (*(() if asker is None else asker.above), (_owner(), next(_numbers))))


class Owned(Taken):
    """Something taken that others may wait for."""

    __slots__ = ("owner",)

    def __init__(self, owner: object = None) -> None:
        # What `Taken` and `_owner` do, without calling them: this is made three times for a write.
        self.thread, self.number = threading.get_ident(), next(_numbers)
        if owner is None:
            asker = asking.get()
            owner = self.thread if asker is None or asker.task is None else asker.task
        self.owner = owner

    def is_callers(self) -> bool:
        """Whether it belongs to who asks now, or to somebody who waits for who asks now."""
        if self.owner == _owner():
            return True
        asker = asking.get()
        return asker is not None and any(self.owner == who and self.number < number for who, number in asker.above)


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


def _everything() -> list[Remade]:
    return [item for reference in _remade.copy() if (item := reference()) is not None]


def give_back(start: Taken) -> None:
    """Give back all that this thread took since `start`; what was given back already is left alone."""
    for item in _everything():
        giving: Callable[[Taken], None] | None = getattr(item, "give_back", None)
        if giving is not None:
            giving(start)


class Gate:
    """A mutex, `lock`, that is free again in a forked child."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Replace the lock by a fresh one."""
        self.lock = threading.Lock()


def _after_fork() -> None:
    for item in _everything():
        item.remake()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Turn(Owned):
    """A place in a queue; its lock is taken until the place is the first."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.lock.acquire()


def turn_comes(turn: threading.Lock, deadline: float) -> bool:
    """Wait for a turn until the deadline, or until it is given up."""
    over = given_up.get()
    while True:
        left = min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        if turn.acquire(timeout=left if over is None else min(left, LOOK)):
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
        self._queues: dict[str, deque[Turn]] = {}

    def held(self) -> list[str]:
        """The names that are owned now."""
        with self._gate:
            return list(self._queues)

    def is_callers(self, name: str) -> bool:
        """Whether a name is owned by who asks, or by somebody who waits for who asks."""
        with self._gate:
            queue = self._queues.get(name)
            # An interrupt can have left an empty queue.
            return queue is not None and len(queue) > 0 and queue[0].is_callers()

    @contextmanager
    def hold(
        self, names: Sequence[str], deadline: float, annotate: Callable[[ZarrantError], object] | None = None
    ) -> Iterator[None]:
        """Own `names` inside the block. LockTimeout at the deadline, with none of them owned; `annotate` says more of it."""
        taken: list[tuple[str, Turn]] = []
        try:
            for name in names if len(names) == 1 else sorted(set(names)):
                turn = Turn()
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

    def _leave_all(self, taken: list[tuple[str, Turn]]) -> None:
        """Leave them, the last one first; what was left is taken off the list, so that a second call does the rest."""
        while taken:
            self._leave(*taken[-1])
            taken.pop()

    def give_back(self, start: Taken) -> None:
        """See `give_back`."""
        for name, queue in list(self._queues.items()):
            for turn in list(queue):
                if turn.since(start):
                    self._leave(name, turn)

    def _take(self, name: str, turn: Turn, deadline: float) -> None:
        start = time.monotonic()
        with self._gate:
            queue = self._queues.setdefault(name, deque())
            queue.append(turn)
            if queue[0] is turn:
                return
            again = queue[0].is_callers()
        if again:
            raise reentrant(name)
        if not turn_comes(turn.lock, deadline):
            raise LockTimeout(
                "another thread of this process kept the lock", path=name, got=f"{time.monotonic() - start:.3f} s waited"
            )

    def _leave(self, name: str, turn: Turn) -> None:
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


def in_turn(queues: KeyQueues, names: Mapping[str, str], deadline: float, store: str) -> AbstractContextManager[None]:
    """Own names of queues; a timeout names the store, and the key that stands behind its name."""
    return queues.hold(list(names), deadline, lambda error: error.annotate(store=store, key=names.get(str(error.path))))


@contextmanager
def locked_again(queues: KeyQueues, names: Mapping[str, str], held: Container[str], deadline: float, store: str) -> Iterator[None]:
    """Own names that are locked already, inside of their lock; it keeps threads apart that share the lock.

    OptionError for a name that is not locked: waiting for one more could be waiting for somebody who waits for us.
    """
    for name, key in names.items():
        if name not in held:
            raise not_locked(store, key)
    with in_turn(queues, names, deadline, store):
        yield
