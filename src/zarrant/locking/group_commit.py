"""The callers that wait for a group commit, and the one that leads it (what the leader does: `ops/group_commit.py`).

In: a name (the object to change), an item (the change), and a function that wakes the caller. The first caller that joins a name
leads. It does the work with all items that have arrived by then (`take`), and tells each caller how it ended (`resolve`). Then it
hands the lead to the first caller that came too late (`leave`), so that no caller works for others without end. Threads and
coroutines wait in their own ways: nothing here waits. In a forked child nobody waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from zarrant.locking.local import Acquired, Ownership, reentrant, remake_after_fork

MAX_ITEMS = 256
"""Items in one batch. It bounds how long other processes wait for the lock."""


class Entry(Ownership):
    """The item of one caller. `resolved`: it was done, and `error` is its error. `leads`: the caller must do the work itself."""

    __slots__ = ("error", "item", "leads", "name", "resolved", "taken", "wake")

    def __init__(self, name: Hashable, item: Any, wake: Callable[[], object], owner: object = None) -> None:
        super().__init__(owner)
        self.name, self.item, self.wake = name, item, wake
        self.leads = self.taken = self.resolved = False
        self.error: Exception | None = None


_NO_ENTRIES: deque[Any] = deque()


class CommitQueues:
    """All entries that are not resolved yet, by name, in order of arrival. The first of each name leads, and stays until it leaves.

    >>> groups = CommitQueues()
    >>> first, second = (Entry("k", item, lambda: None, owner=item) for item in "ab")
    >>> groups.join(first), groups.join(second), [entry.item for entry in groups.take(first)]
    (True, False, ['a', 'b'])
    """

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Start with nobody waiting."""
        self._gate = threading.Lock()
        self._waiting: dict[Hashable, deque[Entry]] = {}

    def join(self, entry: Entry) -> bool:
        """Join the queue. True if the entry leads. Else it is woken once: when it leads, or when it is resolved.

        ReentrantLockError where the leader itself joins, from inside of the work that it does for all.
        """
        with self._gate:
            queue = self._waiting.setdefault(entry.name, deque())
            # An interrupt can have left an empty queue.
            if queue and (queue[0].owner == entry.owner or queue[0].is_locked_by_caller()):
                raise reentrant()
            entry.leads = not queue
            queue.append(entry)
        return entry.leads

    def take(self, leader: Entry) -> list[Entry]:
        """The entries to act for, the leader's own first: those of the last call and any that came since."""
        with self._gate:
            batch = list(self._waiting[leader.name])[:MAX_ITEMS]
            for entry in batch:
                entry.taken = True
        return batch

    def resolve(self, entry: Entry, error: Exception | None) -> None:
        """Tell a caller how its item ended."""
        with self._gate:
            entry.error, entry.resolved = error, True
            if not entry.leads:
                self._remove(entry, self._waiting[entry.name])
        if not entry.leads:
            entry.wake()

    def leave(self, entry: Entry) -> bool:
        """Leave the queue. False while the leader works on the entry: then the caller must wait until it is woken.

        A leader hands the lead to the next one. Items that it took and did not resolve, because of an interrupt, wait again.
        """
        with self._gate:
            queue = self._waiting.get(entry.name, _NO_ENTRIES)
            if entry in queue:  # else settled, never joined, or forked since
                if entry.taken and not entry.leads:
                    return False
                self._remove(entry, queue)
            if queue and not queue[0].leads:
                for each in queue:
                    each.taken = False
                # An interrupt cannot come between these two statements: an entry that leads was woken.
                queue[0].leads = True
                queue[0].wake()
        return True

    def give_back(self, start: Acquired) -> None:
        """See `locking.local.give_back`. The leader resolves the entries on which it works."""
        for queue in list(self._waiting.values()):
            for entry in list(queue):
                if entry.since(start) or not queue[0].leads:
                    self.leave(entry if entry.since(start) else Entry(entry.name, None, lambda: None))

    def _remove(self, entry: Entry, queue: deque[Entry]) -> None:
        queue.remove(entry)
        if not queue:
            del self._waiting[entry.name]


class LedGroup:
    """The callers for whom one of them acts; see `requests.CommitGroup`."""

    def __init__(self, groups: CommitQueues, leader: Entry) -> None:
        self._groups, self._leader, self._entries = groups, leader, [leader]
        self.items = [leader.item]

    def take(self) -> list[Any]:
        """See `requests.CommitGroup`."""
        self._entries = self._groups.take(self._leader)
        self.items = [entry.item for entry in self._entries]
        return self.items

    def resolve(self, number: int, error: Exception | None) -> None:
        """See `requests.CommitGroup`."""
        self._groups.resolve(self._entries[number], error)
