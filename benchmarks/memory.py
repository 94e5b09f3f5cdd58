"""How far the resident memory of this process rises while something is done; None where the system does not tell."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(name: str) -> int | None:
    """Bytes of a line of the process's status."""
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def peak_of(act: Callable[[], T]) -> tuple[T, int | None]:
    """What comes of it, and by how many bytes the memory was higher than before, at most."""
    try:
        CLEAR.write_text("5", encoding="ascii")  # the peak is what is there now
    except OSError:
        return act(), None
    before = resident("VmRSS")
    result = act()
    highest = resident("VmHWM")
    return result, None if before is None or highest is None else max(0, highest - before)
