"""Whether an event loop answers: what was under way, and where, when it did not.

In: a block of `async with Watchdog() as dog`, and in `dog.doing` what is under way. Out: `dog.stalls`. A beat on the loop counts
its turns. A thread looks every 5 ms: where the count stands still and the loop's thread is inside of a callback for 50 ms, it
notes the stack. Time in which the loop's thread waited for a CPU does not count (the kernel tells it), so a busy machine is no
stall.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import pytest

STALL_S = 0.05
LOOK_S = 0.005
LOOKS = 6
"""Looks in a row that must find the loop in the same callback."""

KNOWS_WAITS = Path("/proc/self/schedstat").exists()
_IDLE = {"selectors.py", "runners.py", "base_events.py"}
"""Where the innermost Python frame of a loop is that waits for events; uvloop waits below `runners.py`."""


class Stall(NamedTuple):
    """The loop did not answer for so long, while something was under way."""

    doing: str
    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"{self.seconds * 1e3:.0f} ms during {self.doing}:\n{self.stack}"


class Watchdog:
    """Watches the running loop inside of an `async with` block."""

    def __init__(self) -> None:
        self.doing = "the start"
        self.stalls: list[Stall] = []
        self.looks = 0
        self._turns = 0
        self._ended = threading.Event()

    async def __aenter__(self) -> Watchdog:
        if not KNOWS_WAITS:
            pytest.skip("the kernel does not tell how long a thread waited for a CPU (/proc/self/schedstat)")
        gc.collect()
        gc.disable()  # a collection of all that a test run has imported is a stall of nobody's making
        self._loop = asyncio.get_running_loop()
        self._ident, self._native = threading.get_ident(), threading.get_native_id()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._beat()
        self._thread.start()
        await asyncio.sleep(2 * LOOK_S)
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        self._timer.cancel()
        self._thread.join()
        gc.enable()
        assert self.looks > 0 or kind is not None

    def _beat(self) -> None:
        self._turns += 1
        self._timer = self._loop.call_later(0.001, self._beat)

    def _watch(self) -> None:
        turns, stuck, waited, began, stack = -1, 0, 0.0, 0.0, ""
        while not self._ended.wait(LOOK_S):
            self.looks += 1
            now = time.perf_counter()
            frame = sys._current_frames().get(self._ident)
            if self._turns != turns or frame is None or _is_idle(frame):
                turns, stuck = self._turns, 0
                continue
            if stuck == 0:
                began, waited = now, waited_for_cpu(self._native)
            stuck += 1
            stack = _text(frame) if stuck == LOOKS else stack
            seconds = now - began - (waited_for_cpu(self._native) - waited)
            if stuck >= LOOKS and seconds >= STALL_S:
                if self.stalls and self.stalls[-1].stack == stack:
                    self.stalls.pop()
                self.stalls.append(Stall(self.doing, seconds, stack))


def waited_for_cpu(native: int) -> float:
    """Seconds that a thread could have run and had no CPU."""
    try:
        return int(Path(f"/proc/self/task/{native}/schedstat").read_text().split()[1]) / 1e9
    except FileNotFoundError:  # it has ended
        return 0.0


def _is_idle(frame: FrameType) -> bool:
    return Path(frame.f_code.co_filename).name in _IDLE


def _text(frame: FrameType) -> str:
    return "".join(traceback.format_stack(frame)[-5:])
