"""Progress of long work: bytes and chunks done, of how many.

In: what was finished, piece by piece and from any thread. Out: calls of the caller's `report` with a `Progress`. Nothing is printed
here, and only the sums are kept. A `report` that raises ends the work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """What is done, of what there is to do, and the seconds it took so far. Bytes are bytes of values, not encoded.

    >>> half = Progress(bytes_done=50_000_000, bytes_total=100_000_000, chunks_done=1, chunks_total=2, seconds=2.0)
    >>> half.megabytes_per_second, half.fraction
    (25.0, 0.5)
    """

    bytes_done: int
    bytes_total: int
    chunks_done: int
    chunks_total: int
    seconds: float
    bytes_before: int = 0
    """Of `bytes_done` those that were done before the clock started: by an earlier run that was broken off."""

    @property
    def megabytes_per_second(self) -> float:
        """10^6 bytes a second since the start; 0 before any time has passed."""
        return (self.bytes_done - self.bytes_before) / self.seconds / 1e6 if self.seconds > 0 else 0.0

    @property
    def fraction(self) -> float:
        """The part that is done, 0 to 1; 1 where there is nothing to do."""
        return self.bytes_done / self.bytes_total if self.bytes_total else 1.0


Report: TypeAlias = Callable[[Progress], None]
"""What is called with each `Progress`, one call at a time, in the thread that finished a piece."""


class Meter:
    """Adds up finished pieces and reports each sum; the clock starts when it is made.

    >>> seen = []
    >>> meter = Meter(bytes_total=10, chunks_total=2, report=seen.append, clock=lambda: 0.0)
    >>> meter.add(nbytes=4, chunks=1)
    >>> seen[-1].bytes_done, seen[-1].fraction
    (4, 0.4)
    """

    def __init__(
        self,
        bytes_total: int,
        chunks_total: int,
        report: Report | None = None,
        clock: Callable[[], float] = time.monotonic,
        done: tuple[int, int] = (0, 0),
    ) -> None:
        """`done`: bytes and chunks that an earlier run has finished."""
        self._report, self._clock, self._start = report, clock, clock()
        self._bytes_total, self._chunks_total = bytes_total, chunks_total
        self._bytes, self._chunks = done
        self._before = done[0]
        self._one_at_a_time = threading.Lock()

    @property
    def progress(self) -> Progress:
        """The sums now."""
        return Progress(self._bytes, self._bytes_total, self._chunks, self._chunks_total, self._clock() - self._start, self._before)

    def add(self, nbytes: int, chunks: int) -> None:
        """Count a finished piece, and report."""
        with self._one_at_a_time:
            self._bytes += nbytes
            self._chunks += chunks
            if self._report is not None:
                self._report(self.progress)
