"""Counts of what passes: requests, bytes, waits for locks, conflicts, retries, errors.

In: any store. Out: `Metrics`, which does the same and counts; `snapshot()` gives a `MetricsSnapshot`, which can be added to
those of other processes. Every form of the store (under a lock, in a batch, on a condition) counts in the same place. A call
costs about 4 µs more. A store that is pickled starts again from zero: counts are those of one process.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zarrant.errors import VersionChangedError
from zarrant.locking.local import ForkSafeLock
from zarrant.stores.wrappers.each_call import Call, Observed, received

OnCall = Callable[[str, float, Mapping[str, Any]], object]
"""Is called after each call with its method, its seconds, and key, bytes sent and received, and the name of its error."""

CONDITIONAL = ("put_if", "splice", "erase_if")
MAX_FAILED_KEYS = 10_000
"""Keys whose last conditional write failed and was not tried again are forgotten beyond that: 1 MB."""


@dataclass(frozen=True)
class MetricsSnapshot:
    """Counts up to one moment. They can be added up: `sum(snapshots, MetricsSnapshot())`.

    `requests` and `seconds` are by method, `errors` by class. `bytes_read` came from the store, `bytes_written` were handed to
    it, `bytes_copied` it took over from the old object by itself. `lock_seconds` were waited for `requests["lock"]` locks.
    `conflicts`: conditional writes that found another version. `retries`: conditional writes of a key whose last one had failed.
    `bytes_from_caller`: the sum of the bytes given to `Metrics.handed_in`.

    >>> both = MetricsSnapshot({"put": 1}, bytes_written=5) + MetricsSnapshot({"put": 2, "get": 1}, bytes_written=7)
    >>> both.requests, both.bytes_written
    ({'get': 1, 'put': 3}, 12)
    """

    requests: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    bytes_written: int = 0
    bytes_copied: int = 0
    bytes_from_caller: int = 0
    conflicts: int = 0
    retries: int = 0

    @property
    def lock_seconds(self) -> float:
        """Seconds waited for locks."""
        return self.seconds.get("lock", 0.0)

    @property
    def write_amplification(self) -> float | None:
        """Bytes stored for each byte that the caller handed in; None where that is not known."""
        return (self.bytes_written + self.bytes_copied) / self.bytes_from_caller if self.bytes_from_caller else None

    def __add__(self, other: MetricsSnapshot) -> MetricsSnapshot:
        added: dict[str, Any] = {}
        for name, mine in vars(self).items():
            theirs = getattr(other, name)
            if isinstance(mine, Mapping):
                added[name] = {key: mine.get(key, 0) + theirs.get(key, 0) for key in sorted({*mine, *theirs})}
            else:
                added[name] = mine + theirs
        return MetricsSnapshot(**added)


class _Counts:
    """What all forms of one store count in."""

    def __init__(self) -> None:
        self.gate = ForkSafeLock()
        self.reset()

    def reset(self) -> None:
        """Start from zero; called under the lock, or before anybody else has this."""
        self.requests: Counter[str] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.errors: Counter[str] = Counter()
        self.numbers: Counter[str] = Counter()
        self.failed: dict[str, None] = {}

    def note(self, call: Call, seconds: float, nread: int, error: str | None, conflict: bool) -> None:
        """Count a call."""
        method, numbers = call.method, self.numbers
        with self.gate.lock:
            self.requests[method] += 1
            self.seconds[method] += seconds
            numbers["bytes_read"] += nread
            if error is not None:
                self.errors[error] += 1
            elif call.nbytes or call.ranges:
                numbers["bytes_written"] += call.nbytes
                if method == "splice":
                    numbers["bytes_copied"] += sum(part.length or 0 for part in call.ranges or ())
            if method in CONDITIONAL:
                self._note_conditional(call.key, error is not None, conflict)

    def _note_conditional(self, key: str, failed: bool, conflict: bool) -> None:
        self.numbers["conflicts"] += conflict
        if key in self.failed:
            self.numbers["retries"] += 1
            del self.failed[key]
        if failed:
            self.failed[key] = None
            if len(self.failed) > MAX_FAILED_KEYS:
                del self.failed[next(iter(self.failed))]


class Metrics(Observed):
    """Counts each call; `snapshot()` tells.

    Args:
        store: Any store.
        on_call: Called after each call, for a system that collects measurements: `on_call(method, seconds, attributes)`. An error
            of it is logged and goes no further: the call has been made.

    >>> from zarrant.stores.memory import MemoryStore
    >>> store = Metrics(MemoryStore())
    >>> version = store.put("a", [b"12345"])
    >>> store.handed_in(10)  # five elements of two bytes, before compression
    >>> counts = store.snapshot()
    >>> counts.requests, counts.bytes_written, counts.write_amplification
    ({'put': 1}, 5, 0.5)
    """

    def __init__(self, store: object, on_call: OnCall | None = None) -> None:
        super().__init__(store)
        self.on_call = on_call
        self._counts = _Counts()

    @property
    def _settings(self) -> tuple[Any, ...]:
        return () if self.on_call is None else (self.on_call,)

    def snapshot(self) -> MetricsSnapshot:
        """What was counted so far."""
        counts = self._counts
        with counts.gate.lock:
            return _snapshot(counts)

    def reset(self) -> MetricsSnapshot:
        """Start again from zero; returns what was counted so far, so that no call is missing from both."""
        counts = self._counts
        with counts.gate.lock:
            found = _snapshot(counts)
            counts.reset()
        return found

    def handed_in(self, nbytes: int) -> None:
        """Say that the program wrote `nbytes` bytes of elements, which a store cannot know: for `write_amplification`."""
        with self._counts.gate.lock:
            self._counts.numbers["bytes_from_caller"] += nbytes

    def _ended(self, call: Call, seconds: float, reply: object, error: BaseException | None) -> None:
        name = None if error is None else type(error).__name__
        nread = received(reply)
        self._counts.note(call, seconds, nread, name, isinstance(error, VersionChangedError))
        if call.method == "put_all" and isinstance(reply, list):
            self._note_each(reply)
        if self.on_call is not None:
            attributes = {"key": call.key, "bytes_sent": call.nbytes, "bytes_received": nread, "error": name}
            try:
                self.on_call(call.method, seconds, attributes)
            except Exception:  # else a write that was made would look as if it had failed
                logging.getLogger("zarrant.metrics").exception("on_call of Metrics failed")

    def _note_each(self, outcomes: list[object]) -> None:
        """Count the errors of a call that stores many objects."""
        with self._counts.gate.lock:
            self._counts.errors.update(type(outcome).__name__ for outcome in outcomes if isinstance(outcome, Exception))


def _snapshot(counts: _Counts) -> MetricsSnapshot:
    return MetricsSnapshot(dict(counts.requests), dict(counts.seconds), dict(counts.errors), **counts.numbers)
