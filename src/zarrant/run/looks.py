"""One look at a condition for several writes of an operation.

A store that cannot check the condition of a write itself (an object store) is asked right before the write whether the metadata
are still the same. Nothing can keep them the same until the write arrives, which takes as long as a request. So the answer may as
well serve all writes that begin within that time: of the chunks of one operation that are replaced without a condition. A look is
never older than the operation: if the array was replaced before it began, it fails before anything is stored. Writes that depend
on what is stored, and writes in a turn, are not served: there the look must come after the read.

A look may begin before what is written has been encoded (`LookAhead`), beside that: it serves if it is not too old by then.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from zarrant.storage import OnlyWhile

LOOK_S = 0.1
"""Seconds for which a look serves: a request to S3 that stores a chunk takes 30 to 200 ms."""


class _Ahead:
    """A look in a thread of its own."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look, self.begun, self.ended = look, time.monotonic(), threading.Event()
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin; where the system gives no thread, it was never made."""
        try:
            threading.Thread(target=self._run, name="zarrant-look", daemon=True).start()
        except RuntimeError:
            self.begun = -math.inf
            self.ended.set()

    def _run(self) -> None:
        try:
            self.look()
        except Exception as error:
            self.error = error
        finally:
            self.ended.set()

    def wait(self) -> float:
        """When the look began, once it has ended; its error is raised."""
        self.ended.wait()
        if self.error is not None:
            raise self.error
        return self.begun


class Looks:
    """The looks of one operation; its threads wait for the one who looks."""

    def __init__(self) -> None:
        self.begun: dict[OnlyWhile, float] = {}
        self._lock, self._beginning = threading.Lock(), threading.Lock()
        self._ahead: dict[OnlyWhile, _Ahead] = {}

    def begin(self, condition: OnlyWhile, look: Callable[[], None]) -> None:
        """Look while the caller goes on, for a `take` that comes soon."""
        with self._beginning:
            if condition in self._ahead or self.serves(condition, time.monotonic()):
                return
            ahead = self._ahead[condition] = _Ahead(look)
        ahead.start()

    def take(self, condition: OnlyWhile, look: Callable[[], None]) -> None:
        """Look, unless that was done just now; the error of `look` where the condition does not hold."""
        with self._lock:
            ahead = self._ahead.get(condition)
            if ahead is not None:
                try:
                    self.begun[condition] = ahead.wait()
                finally:
                    self._ahead.pop(condition, None)
            now = time.monotonic()
            if not self.serves(condition, now):
                look()
                self.begun[condition] = now

    def serves(self, condition: OnlyWhile, now: float) -> bool:
        """Whether the condition was seen to hold just now."""
        begun = self.begun.get(condition)
        return not condition.unlocked and begun is not None and now - begun < LOOK_S
