"""One look at a condition for several writes of an operation.

A store that cannot check the condition of a write itself (an object store) is asked right before the write whether the metadata
are still the same. Nothing can keep them the same until the write arrives, which takes as long as a request. So the answer may
as well serve all writes that begin within that time: of the chunks of one operation that replace whatever is there. A look is
never older than the operation: whose array was replaced before it began, hears it before anything is stored. Writes that
depend on what is stored, and writes in a turn, are not served: there the look must come after the read.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from zarrant.storage import OnlyWhile

LOOK_S = 0.1
"""Seconds for which a look serves: a request to S3 that stores a chunk takes 30 to 200 ms."""


class Looks:
    """The looks of one operation; its threads wait for the one who looks."""

    def __init__(self) -> None:
        self.begun: dict[OnlyWhile, float] = {}
        self._lock = threading.Lock()

    def take(self, condition: OnlyWhile, look: Callable[[], None]) -> None:
        """Look, unless that was done just now; the error of `look` where the condition does not hold."""
        with self._lock:
            now = time.monotonic()
            if not self.serves(condition, now):
                look()
                self.begun[condition] = now

    def serves(self, condition: OnlyWhile, now: float) -> bool:
        """Whether the condition was seen to hold just now."""
        begun = self.begun.get(condition)
        return not condition.unlocked and begun is not None and now - begun < LOOK_S
