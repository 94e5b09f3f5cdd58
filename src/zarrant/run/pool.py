"""The pool: work in flight, bounded in tasks and in bytes.

Operations that run side by side form a group. Whoever starts a group works on it himself, and threads of the pool that are
idle help. Nothing ever waits for a thread to become free, so that groups within groups, as deep as shards nest, cannot
deadlock: in the worst case the starter runs every child inline. Helpers join only while the group's cost fits the byte
budget; the starter needs no permission, or a budget too small for one task would stop everything.

After a fork the child starts with a pool of its own.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any

Run = Callable[[Any], Any]


class Budget:
    """Bytes that may be in flight."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._lock = threading.Lock()

    def try_take(self, cost: int) -> bool:
        """Take `cost` bytes if they are left."""
        with self._lock:
            if self.used + cost > self.limit:
                return False
            self.used += cost
            return True

    def take(self, cost: int) -> None:
        """Take `cost` bytes, left or not: for those who must go on."""
        with self._lock:
            self.used += cost

    def give(self, cost: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.used -= cost


class Group:
    """Operations that run side by side; results in the order of the operations."""

    def __init__(self, ops: Iterable[Any], run: Run, cost: int, limit: int, budget: Budget) -> None:
        self.ops: Iterator[Any] = iter(ops)
        self.run, self.cost, self.limit, self.budget = run, cost, limit, budget
        self.results: list[Any] = []
        self.running = 0
        self.exhausted = False
        self.fatal: BaseException | None = None
        self.changed = threading.Condition()

    def take(self) -> tuple[int, Any] | None:
        """The next operation and its place, or None where there is no more."""
        with self.changed:
            if self.exhausted:
                return None
            try:
                op = next(self.ops)
            except StopIteration:
                self.exhausted = True
                return None
            except BaseException as error:
                self.exhausted = True
                self.fatal = self.fatal or error  # a helper who met it has nobody to tell
                raise
            self.results.append(None)
            self.running += 1
            return len(self.results) - 1, op

    def work(self, one: bool = False) -> None:
        """Run operations until there are no more (or one of them)."""
        while (item := self.take()) is not None:
            place, op = item
            outcome: Any = None
            try:
                outcome = self.run(op)
            except Exception as error:
                outcome = error
            except BaseException as error:
                self.stop(error)
                raise
            finally:
                with self.changed:
                    self.results[place] = outcome
                    self.running -= 1
                    self.changed.notify_all()
            if one:
                return

    def stop(self, error: BaseException) -> None:
        """Start no more operations; those that run come to their end."""
        with self.changed:
            self.exhausted = True
            self.fatal = self.fatal or error

    def wait(self) -> list[Any]:
        """Wait for the operations that others run."""
        with self.changed:
            while self.running:
                self.changed.wait()
        if self.fatal is not None:
            raise self.fatal
        return self.results


class Pool:
    """Threads that help with open groups, newest first (depth first keeps memory low)."""

    def __init__(self, threads: int, memory_limit: int) -> None:
        self.threads = threads
        self.budget = Budget(memory_limit)
        self._groups: deque[Group] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._started = 0

    def run_all(self, ops: Iterable[Any], run: Run, cost: int, limit: int) -> list[Any]:
        """Run operations side by side, at most `limit` at once; a list of results or Exceptions."""
        ops = iter(ops)
        head = list(islice(ops, 2))
        group = Group(chain(head, ops), run, cost, limit, self.budget)
        if limit > 1 and len(head) > 1:  # a helper woken for nothing costs a switch of threads, up to 5 ms
            self._open(group)
        self.budget.take(cost)
        try:
            group.work()
        except BaseException as error:
            group.stop(error)
            raise
        finally:
            self.budget.give(cost)
            self._close(group)
            results = group.wait()
        return results

    def _open(self, group: Group) -> None:
        with self._changed:
            self._groups.append(group)
            wanted = min(group.limit, self.threads) - 1
            for _ in range(min(wanted - self._idle, self.threads - 1 - self._started)):
                self._started += 1
                threading.Thread(target=self._help, name="zarrant", daemon=True).start()
            self._changed.notify(wanted)

    def _close(self, group: Group) -> None:
        with self._changed:
            if group in self._groups:
                self._groups.remove(group)

    def _help(self) -> None:
        while True:
            group = self._join()
            try:
                group.work(one=True)
            except BaseException:
                pass
            finally:
                self.budget.give(group.cost)
                with self._changed:
                    group.limit += 1

    def _join(self) -> Group:
        with self._changed:
            while True:
                for group in reversed(self._groups):
                    if not group.exhausted and group.limit > 1 and self.budget.try_take(group.cost):
                        group.limit -= 1
                        return group
                self._idle += 1
                self._changed.wait(timeout=None if not self._groups else 0.01)
                self._idle -= 1


@lru_cache(maxsize=1)
def available_cpus() -> int:
    """CPUs this process may use: the affinity mask, capped by the cgroup's quota."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        return max(1, min(cpus, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        return cpus


@lru_cache(maxsize=1)
def available_memory() -> int:
    """Bytes this process may use: the machine's memory, capped by the cgroup's limit."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        memory = 4 << 30
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            return min(memory, int(file.read()))
    except (OSError, ValueError):
        return memory


_pools: dict[tuple[int, int], Pool] = {}
_pools_lock = threading.Lock()


def shared_pool(threads: int, memory_limit: int) -> Pool:
    """The process's pool of this size; its threads start when they are first needed."""
    with _pools_lock:
        key = (threads, memory_limit)
        if key not in _pools:
            _pools[key] = Pool(threads, memory_limit)
        return _pools[key]


def _after_fork() -> None:
    global _pools_lock
    _pools_lock = threading.Lock()
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
