"""Where the processor's time of a piece of work goes: by layer of the library, for all threads, by looking at them very often.

In comes work; out goes a `Profile`. A timer interrupts the main thread; each time, what every thread has used of a processor since
then is charged to the innermost function of Zarrant that it is in, and that to a layer. What a thread used that is idle now is
charged to where it is next seen at work. A call of a compiled function is charged to what it does (codec and copy, or files), by
the line that makes it. What a thread did not use, though it was not idle, is waiting: for the interpreter's lock, for a lock of a
file, or for a processor (which the system tells, and is taken off).
"""

from __future__ import annotations

import linecache
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import zarrant

PERIOD = 0.0005
"""Seconds between two looks, each of which takes some microseconds."""
ROOT = str(Path(zarrant.__file__).parent) + "/"
CODEC, FILES, CALLER, LOOP, OTHERS = "codec and copy", "file calls", "caller", "event loop", "worker threads"
COMPILED = {
    **dict.fromkeys(("encode", "decode", "encode_boxes", "decode_boxes", "copy_boxes", "equals_fill", "pack", "crc32c"), CODEC),
    "plan_box": "geometry",
    **dict.fromkeys(("put_file", "put_files", "read_files", "read_into", "read_ranges"), FILES),
}
LAYERS = {
    "geometry": "geometry",
    "ops": "operations",
    "requests": "operations",
    "codecs": "codecs",
    "dtypes": "codecs",
    "metadata": "metadata",
    "config": "metadata",
    "stores": "stores",
    "storage": "stores",
    "locking": "locks",
    "run": "threads",
    "nodes": "arrays",
}
"""By the package of a function."""
CALLS = re.compile(
    r"\b(?:kernels|_?native|_compiled)\.(\w+)\(|\bos\.(open|close|pread|preadv|pwrite|write|read|stat|fstat|rename|replace|link|unlink|fsync)\("
)
LAYER_NAMES = (CODEC, FILES, *dict.fromkeys(LAYERS.values()), LOOP, OTHERS, CALLER)
"""Of all, in the order in which they are shown."""
IDLE = ("threading.py", "queue.py", "selectors.py", "thread.py")


@dataclass
class Profile:
    """Seconds of everything that was sampled."""

    wall: float = 0.0
    cpu: float = 0.0
    kernel: float = 0.0
    """Of that, in the operating system."""
    waited: float = 0.0
    """Of all threads: neither at work nor idle, while a processor was free for them."""
    layers: dict[str, float] = field(default_factory=dict)

    def over(self, count: int) -> Profile:
        """Of one operation, if there were so many; layers add up to all CPU time."""
        seen = sum(self.layers.values()) or 1.0
        layers = {name: self.cpu * spent / seen / count for name, spent in self.layers.items()}
        return Profile(self.wall / count, self.cpu / count, self.kernel / count, max(0.0, self.waited) / count, layers)


def layer_of(frame: FrameType | None) -> str:
    """The layer in which a thread is."""
    where = frame
    while where is not None and not where.f_code.co_filename.startswith(ROOT):
        where = where.f_back
    if where is None:
        return LOOP if _within(frame, "asyncio") else CALLER
    package, _, _ = where.f_code.co_filename[len(ROOT) :].partition("/")
    if where.f_code.co_filename.endswith("/local/syscalls.py"):
        return FILES
    if called := CALLS.search(linecache.getline(where.f_code.co_filename, where.f_lineno)):
        return COMPILED.get(called[1], FILES if called[2] else "codecs")
    if package == "kernels":
        return COMPILED.get(where.f_code.co_name, "codecs")
    return LAYERS.get(package.removesuffix(".py"), "arrays")


def _within(frame: FrameType | None, part: str) -> bool:
    while frame is not None:
        if f"/{part}/" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False


def idle(frame: FrameType) -> bool:
    """Whether a thread waits for others to give it work, or to finish theirs."""
    return frame.f_code.co_filename.endswith(IDLE) or "acquire(" in linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def waited_for_processors() -> float:
    """Seconds for which threads of this process were ready to run and had no processor; 0 where the system does not tell."""
    total = 0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(task.read_text(encoding="ascii").split()[1])
        except (OSError, IndexError):
            continue
    return total / 1e9


class Sampler:
    """Looks at all threads; only the main thread may use it.

    Where other threads have a few microseconds of work at a time they are always seen where they let go of the interpreter's lock.
    Then `apart`: what they use is shown as that of worker threads, in no layer.
    """

    def __init__(self, apart: bool = False) -> None:
        self.profile, self.apart = Profile(), apart
        self._used: dict[int, float] = {}
        self._last = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Sample what is done in the block."""
        old = signal.signal(signal.SIGALRM, self._tick)
        before = resource.getrusage(resource.RUSAGE_SELF), waited_for_processors()
        self._used = {ident: _used_by(ident) for ident in sys._current_frames()}
        self._last = begun = time.perf_counter()
        cpu = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, PERIOD, PERIOD)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - begun
            signal.signal(signal.SIGALRM, old)
            after = resource.getrusage(resource.RUSAGE_SELF)
            self.profile.wall += wall
            self.profile.cpu += cpu
            self.profile.kernel += after.ru_stime - before[0].ru_stime
            self.profile.waited -= max(0.0, waited_for_processors() - before[1])

    def _tick(self, number: int, frame: FrameType | None) -> None:
        now = time.perf_counter()
        passed, self._last = now - self._last, now
        frames: dict[int, Any] = sys._current_frames()
        frames[threading.main_thread().ident or 0] = frame
        for ident, each in frames.items():
            if each is None or idle(each):
                continue
            used = _used_by(ident)
            spent, self._used[ident] = used - self._used.get(ident, 0.0), used
            layer = OTHERS if self.apart and each is not frame else layer_of(each)
            self.profile.layers[layer] = self.profile.layers.get(layer, 0.0) + spent
            self.profile.waited += max(0.0, passed - spent)


def _used_by(ident: int) -> float:
    return time.clock_gettime(time.pthread_getcpuclockid(ident))
