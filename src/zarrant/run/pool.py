"""The pool: work in flight, bounded in tasks and in bytes.

In: operations, and the bytes that one of them needs. Out: their outcomes, in order. Operations that run side by side form a
group. The thread that starts a group works on it too, and idle threads of the pool help; while its last operations run in other
threads, it helps with the groups that these have opened. No thread ever waits for another one to become free. So groups inside
of groups, as deep as shards nest, cannot deadlock: in the worst case the starting thread runs every operation itself. A helper
joins only if the cost of one more operation fits the byte budget. The starting thread needs no permission, because a budget
that is too small for one operation would otherwise stop all work.

What is asked for by users, whole operations, waits for the budget before it begins (`Budget.admit`): nobody who waits there has
any bytes, and nobody who has locked something waits there. So whoever has bytes can go on, and gives them back.

In a forked child a pool has no threads and no work.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Any

from zarrant.locking.local import ForkSafeLock, remake_after_fork

Run = Callable[[Any], Any]


class Budget:
    """Bytes that may be in flight; whoever must wait for some is woken when others are given back, first come, first served."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Nothing is in flight, and nobody waits."""
        self.used, self.given = 0, 0
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, Callable[[], object]]] = []

    def try_take(self, cost: int, share: list[int] | None = None) -> bool:
        """Take `cost` bytes if they are left; `share` notes it, so that an interrupt cannot lose it."""
        with self._lock:
            if self.used + cost > self.limit:
                return False
            self._note(cost, share)
            return True

    def take(self, cost: int, share: list[int] | None = None) -> None:
        """Take `cost` bytes, left or not, for those who must go on; `share` notes it, so that an interrupt cannot lose it."""
        with self._lock:
            self._note(cost, share)

    def _note(self, cost: int, share: list[int] | None) -> None:
        self.used += cost
        if share is not None:
            share.append(cost)

    def try_admit(self, cost: int, share: list[int], wake: Callable[[], object]) -> bool:
        """Take `cost` bytes if they are left, or if nobody has any; else `wake` is called when it may be tried again."""
        with self._lock:
            if self.used and self.used + cost > self.limit:
                self._waiting.append((cost, wake))
                return False
            self._note(cost, share)
            return True

    def forget(self, wake: Callable[[], object]) -> None:
        """Somebody waits no longer."""
        with self._lock:
            self._waiting = [each for each in self._waiting if each[1] is not wake]

    def admit(self, cost: int, share: list[int], cancelled: Callable[[], bool] | None = None) -> None:
        """Wait until `cost` bytes are left, or nobody has any, and take them."""
        stall = Stall(self)
        while True:
            gate = threading.Lock()
            gate.acquire()
            wake = gate.release
            if self.try_admit(cost, share, wake):
                return
            try:
                gate.acquire(timeout=WAKE_S)
            finally:
                self.forget(wake)
            if stall.is_over() or (cancelled is not None and cancelled()):
                self.take(cost, share)
                return

    def give_share(self, share: list[int]) -> None:
        """Give back what a share notes, once."""
        with self._lock:
            if not share:
                return
            self.used -= share[0]
            share.clear()
            waiting = self._woken()
        if waiting:
            self._wake(waiting)

    def give(self, cost: int) -> None:
        """Give bytes back."""
        with self._lock:
            self.used -= cost
            waiting = self._woken()
        if waiting:
            self._wake(waiting)

    def _woken(self) -> list[Callable[[], object]]:
        """Those who may try again: as many as now fit, first come, first served."""
        self.given += 1
        left, woken = self.limit - self.used, 0
        for cost, _ in self._waiting:
            left -= cost
            if left < 0 and (self.used or woken):
                break
            woken += 1
        waiting, self._waiting = self._waiting[:woken], self._waiting[woken:]
        return [wake for _, wake in waiting]

    @staticmethod
    def _wake(waiting: list[Callable[[], object]]) -> None:
        for wake in waiting:
            try:
                wake()
            except RuntimeError:  # the event loop that waited is closed, or the waiter has gone on by itself
                pass


WAKE_S = 0.25
"""Seconds after which a waiter looks by itself: an interrupt can come between giving bytes back and waking those who wait."""
STALL_S = 10.0
"""Seconds in which nobody has given bytes back, after which a waiter goes on without: those who have them may wait for a lock
that the waiter's own program has taken. Slower stores than that (10 s a request) let one more through each time."""


class Stall:
    """Whether nothing was given back for too long."""

    def __init__(self, budget: Budget) -> None:
        self.budget, self.given, self.since = budget, budget.given, time.monotonic()

    def is_over(self) -> bool:
        """Whether to wait no longer."""
        if self.given != self.budget.given:
            self.given, self.since = self.budget.given, time.monotonic()
        return time.monotonic() - self.since > STALL_S


_here = threading.local()
"""The group of which this thread runs an operation."""


def open_gate(gate: threading.Lock) -> None:
    """Let the thread go on that waits for a taken lock, if nobody else has done so."""
    try:
        gate.release()
    except RuntimeError:
        pass


class TaskGroup:
    """Operations that run side by side; results in the order of the operations.

    Everything here is safe against an interrupt at any moment: what runs is a set of marks, taken back whether or not they
    were put there, and locks are plain ones, which an interrupt cannot come between taking and releasing (it can with the
    Python code of `threading.Condition`).
    """

    def __init__(self, ops: Iterable[Any], run: Run, cost: int, limit: int, budget: Budget) -> None:
        self.ops: Iterator[Any] = iter(ops)
        self.outer: TaskGroup | None = getattr(_here, "group", None)
        self.run, self.cost, self.limit, self.budget = run, cost, limit, budget
        self.results: list[Any] = []
        self.running: set[object] = set()
        self.exhausted = False
        self.fatal: BaseException | None = None
        self.lock = threading.Lock()
        self.gate: threading.Lock | None = None

    def work(self, one: bool = False) -> None:
        """Run operations until there are no more (or one of them)."""
        while True:
            mark = object()
            try:
                item = self._take(mark)
                if item is None:
                    return
                place, op = item
                try:
                    self.results[place] = self._run_inside(op)
                except Exception as error:
                    self.results[place] = error
            except BaseException as error:
                self.stop(error)
                raise
            finally:
                # An interrupt can come before the first line of a function: then the second call does it.
                try:
                    self._end(mark)
                finally:
                    self._end(mark)
            if one:
                return

    def _run_inside(self, op: Any) -> Any:
        """Run an operation; the groups that it opens are inside of this one."""
        before = getattr(_here, "group", None)
        _here.group = self
        try:
            return self.run(op)
        finally:
            _here.group = before

    def path(self) -> list[TaskGroup]:
        """The groups inside of which this one was opened, the outermost first, and itself."""
        path = [self]
        while path[-1].outer is not None:
            path.append(path[-1].outer)
        return path[::-1]

    def _take(self, mark: object) -> tuple[int, Any] | None:
        """The next operation and its place, or None where there is no more."""
        with self.lock:
            if self.exhausted:
                return None
            self.running.add(mark)
            for op in self.ops:
                self.results.append(None)
                return len(self.results) - 1, op
            self.exhausted = True
            return None

    def _end(self, mark: object) -> None:
        with self.lock:
            self.running.discard(mark)
            if self.gate is not None and not self.running:
                gate, self.gate = self.gate, None
                open_gate(gate)

    def stop(self, error: BaseException) -> None:
        """Start no more operations; those that run come to their end."""
        with self.lock:
            self.exhausted = True
            self.fatal = self.fatal or error

    def wait(self) -> list[Any]:
        """The results, when all have ended; or what stopped the group."""
        self.idle()
        error, self.fatal = self.fatal, None
        if error is None:
            return self.results
        try:
            raise error
        finally:
            del error  # nor kept by this frame, which is in its traceback

    def idle(self) -> None:
        """Wait for the operations that others run, also when interrupted: they still use what the caller gave them."""
        while True:
            try:
                gate = self.wait_at()
                if gate is None:
                    break
                gate.acquire()
            except BaseException as error:
                self.stop(error)

    def wait_at(self) -> threading.Lock | None:
        """A taken lock that the last running operation will release; None where nothing runs."""
        gate = threading.Lock()
        gate.acquire()
        with self.lock:
            if not self.running:
                return None
            self.gate = gate
        return gate


class Pool:
    """Threads that help with open groups, those of the newest call first."""

    def __init__(self, threads: int, memory_limit: int, budget: Budget | None = None) -> None:
        self.threads, self.memory_limit = threads, memory_limit
        self.budget = Budget(memory_limit) if budget is None else budget
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Start without threads and work."""
        self._lock = threading.Lock()
        self._groups: list[TaskGroup] = []
        self._idle: list[threading.Lock] = []
        self._waiting: list[tuple[TaskGroup, threading.Lock]] = []
        self._started = 0

    def run_all(self, ops: Iterable[Any], run: Run, cost: int, limit: int, admitted: bool = False) -> list[Any]:
        """Run operations side by side, at most `limit` at once; a list of results or Exceptions. `admitted`: one is paid for."""
        ops = iter(ops)
        head = list(islice(ops, max(2, limit)))
        group = TaskGroup(chain(head, ops), run, cost, limit, self.budget)
        share: list[int] = []
        try:
            self.budget.take(0 if admitted else cost, share)
            if limit > 1 and len(head) > 1:  # a helper woken for nothing costs a switch of threads, up to 5 ms
                self._open(group, min(limit, len(head)))
            group.work()
            if group.running:
                self._help_inside(group)
        except BaseException:
            # What is raised here must not be kept there: it would refer to itself, and live until garbage is collected.
            group.exhausted, group.fatal = True, None
            raise
        finally:
            try:
                self._finish(group, share)
            finally:
                self._finish(group, share)
        return group.wait()

    def _finish(self, group: TaskGroup, share: list[int]) -> None:
        """Nobody works on the group any more, and it keeps nothing; done twice, in case that an interrupt came before it."""
        try:
            group.idle()
        finally:
            self.budget.give_share(share)
            self._close(group)

    def _open(self, group: TaskGroup, most: int) -> None:
        with self._lock:
            self._groups.append(group)
            wanted = min(most, self.threads) - 1
            for outer, gate in self._waiting:
                if wanted and outer in group.path()[:-1]:
                    open_gate(gate)
                    wanted -= 1
            while wanted and self._idle:
                self._idle.pop().release()
                wanted -= 1
            fresh = min(wanted, self.threads - 1 - self._started)
            self._started += fresh
        for number in range(fresh):
            try:
                threading.Thread(target=self._help, name="zarrant", daemon=True).start()
            except RuntimeError:  # the system gives no more: the caller does what they would have done, the next group asks again
                with self._lock:
                    self._started -= fresh - number
                return

    def _close(self, group: TaskGroup) -> None:
        with self._lock:
            if group in self._groups:
                self._groups.remove(group)

    def _help(self) -> None:
        while True:
            group = self._join()
            try:
                self._help_with(group)
            except BaseException:
                pass  # noted in the group, raised by its starter

    def _help_with(self, group: TaskGroup) -> None:
        """Run one operation of a group that was joined."""
        try:
            group.work(one=True)
        finally:
            self.budget.give(group.cost)
            with self._lock:
                group.limit += 1

    def _help_inside(self, group: TaskGroup) -> None:
        """Help with what the running operations of a group have opened, until none of them runs."""
        while True:
            with self._lock:
                inner = self._joinable(group)
                gate = group.wait_at() if inner is None else None
                if gate is not None:
                    self._waiting.append((group, gate))
            if inner is not None:
                self._help_with(inner)
                continue
            if gate is None:
                return
            try:
                gate.acquire()
            finally:
                with self._lock:
                    self._waiting.remove((group, gate))

    def _joinable(self, outer: TaskGroup | None = None) -> TaskGroup | None:
        """A group (inside of `outer`) that has more to do, joined, if the bytes for it are left. The lock is taken.

        That of the newest call, and the outermost of it: each thread encodes and stores shards of its own while there are some,
        so that they end together, rather than parts of one whose storing only one of them can do.
        """
        # Those that have no more to give: the thread that should have closed them may have been interrupted.
        self._groups[:] = [group for group in self._groups if not group.exhausted]
        for newest in reversed(self._groups):
            path = newest.path()
            inside = path if outer is None else path[path.index(outer) + 1 :] if outer in path else []
            for group in inside:
                if group in self._groups and group.limit > 1 and not group.exhausted and self.budget.try_take(group.cost):
                    group.limit -= 1
                    return group
        return None

    def _join(self) -> TaskGroup:
        while True:
            gate = threading.Lock()
            gate.acquire()
            with self._lock:
                group = self._joinable()
                if group is not None:
                    return group
                waiting = bool(self._groups)
                self._idle.append(gate)
            # Open groups that cannot be joined now may be joinable soon: bytes are given back without a call.
            if not gate.acquire(timeout=0.01 if waiting else -1):
                with self._lock:
                    if gate in self._idle:
                        self._idle.remove(gate)


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
_budgets: dict[int, Budget] = {}
_pools_lock = ForkSafeLock()


def shared_pool(threads: int, memory_limit: int) -> Pool:
    """The process's pool of this size; its threads start when they are first needed. Those of one limit share the bytes."""
    with _pools_lock.lock:
        key = (threads, memory_limit)
        if key not in _pools:
            budget = _budgets.setdefault(memory_limit, Budget(memory_limit))
            _pools[key] = Pool(threads, memory_limit, budget)
        return _pools[key]
