"""Whether this process was forked from one in which obstore was at work: its threads are gone here, and a call may wait for ever.

In: nothing; from the import of this module on every fork is watched. Out: `is_cut_off`. Who uses obstore without us is seen as
well: by the names of its threads where the system tells them (Linux), else by its import. (A thread has its name some microseconds
after it was made: a fork right after the very first call may be missed.)
"""

from __future__ import annotations

import os
import sys

WORKERS = "tokio-"
"""What the names of obstore's threads begin with: `tokio-rt-worker`."""

_at_work = _cut_off = False


def is_cut_off() -> bool:
    """Whether obstore's threads were left behind in the process from which this one was forked."""
    return _cut_off


def _before_fork() -> None:
    global _at_work
    _at_work = "obstore" in sys.modules and _has_workers()


def _in_child() -> None:
    global _cut_off
    _cut_off = _cut_off or _at_work


def _has_workers() -> bool:
    try:
        tasks = os.listdir("/proc/self/task")
    except OSError:
        return True
    return any(_name(task).startswith(WORKERS) for task in tasks)


def _name(task: str) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm", encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""  # it ended meanwhile


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_in_child)
