"""Processes that never outlive their test: of a script that begins when it is told to, forked ones, and how long they race."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LIMIT_S = 1800.0 if os.environ.get("ZARRANT_SOAK") else 100.0
"""A process that takes longer hangs: less than a test may take, so that the test says which one, and where."""


@contextmanager
def waiting(script: Path, *arguments: Any) -> Iterator[Any]:
    """A process of a script, killed in the end; it waits for a line before it does anything."""
    child = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def go(child: Any) -> None:
    """Let it begin."""
    child.stdin.write("\n")
    child.stdin.flush()


def ended(child: int, options: int = 0, within: float = LIMIT_S) -> int:
    """The status of a forked process, as `os.waitpid(child, options)[1]`; one that hangs is killed, and what it did is told."""
    deadline, pause = time.monotonic() + within, 1e-4
    while True:
        found, status = os.waitpid(child, options | os.WNOHANG)
        if found:
            return status
        if time.monotonic() > deadline:
            told = doing(child)
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise AssertionError(f"process {child} did not end within {within:g} s: {told}")
        time.sleep(pause)
        pause = min(2 * pause, 0.01)


def said(child: int, reading: int, within: float = LIMIT_S) -> bytes:
    """All that a forked process writes to a pipe until it closes it; closed here too. One that hangs is killed and told."""
    deadline, parts = time.monotonic() + within, []
    with open(reading, "rb", buffering=0) as pipe:
        while select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            part = pipe.read(1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
    ended(child, within=0)
    raise AssertionError(f"process {child} said nothing within {within:g} s")


def doing(child: int) -> str:
    """What a process does, as far as the system tells."""
    told = []
    for name in ("status", "wchan"):
        try:
            told.append(Path(f"/proc/{child}/{name}").read_text().partition("Tgid:")[0].replace("\n", " "))
        except OSError:
            pass
    return " ".join(told) or "unknown"


def kill_forks() -> None:
    """Kill the processes that this one has forked: they have its command line still (servers and scripts have others)."""
    for task in Path("/proc/self/task").glob("*/children"):
        try:
            for child in task.read_text().split():
                if Path(f"/proc/{child}/cmdline").read_bytes() == Path("/proc/self/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
        except OSError:
            pass  # it has ended, or the thread has


def lasting(seconds: float, enough: Callable[[], bool], most: float = 60) -> Callable[[], bool]:
    """Whether a race goes on: for `seconds`, and on a busy machine until `enough` has happened, but no longer than `most` more."""
    until = time.monotonic() + seconds

    def goes_on() -> bool:
        late = time.monotonic() - until
        return late < 0 or (late < most and not enough())

    return goes_on
