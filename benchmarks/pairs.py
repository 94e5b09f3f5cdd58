"""Two libraries do the same work in turn, and each result is checked.

In come pairs: a name, what Zarrant does and what the other library does, each with a check of what came out. Out goes a table of
the least wall time and the least CPU time of each (CPU time is nearly free of the load of a shared machine), and the other
library's over Zarrant's: above 1 Zarrant is faster. A wrong result ends the run with an error.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

Work = Callable[[], Any]
Check = Callable[[Any], bool]


class Pair(NamedTuple):
    """The same work by two libraries. A check gets what the work returned; `before` makes ready, untimed, and gets its number."""

    name: str
    ours: Work
    theirs: Work
    check: Check
    their_check: Check
    before: Callable[[], object] = lambda: None


class Found(NamedTuple):
    """Seconds of one pair, the least of all rounds."""

    name: str
    wall: tuple[float, float]
    cpu: tuple[float, float]

    @property
    def ratio(self) -> float:
        """The other library's wall time over Zarrant's."""
        return self.wall[1] / max(self.wall[0], 1e-9)

    @property
    def cpu_ratio(self) -> float:
        """The same of CPU time."""
        return self.cpu[1] / max(self.cpu[0], 1e-9)


class WrongResult(Exception):
    """What a library wrote or read is not what it should be."""


def compare(pairs: Sequence[Pair], rounds: int, peer: str) -> list[Found]:
    """Do each pair so often, in turn."""
    seconds: dict[str, list[tuple[float, float, float, float]]] = {pair.name: [] for pair in pairs}
    for turn in range(rounds):
        for pair in pairs:
            sides = [("Zarrant", pair.ours, pair.check), (peer, pair.theirs, pair.their_check)]
            pair.before()
            times: dict[str, tuple[float, float]] = {}
            for name, work, check in sides[::-1] if turn % 2 else sides:
                times[name] = _timed(f"{pair.name}: {name}", work, check)
            seconds[pair.name].append((*times["Zarrant"], *times[peer]))
    found = []
    for name, each in seconds.items():
        wall, cpu, their_wall, their_cpu = map(min, zip(*each, strict=True))
        found.append(Found(name, (wall, their_wall), (cpu, their_cpu)))
    return found


def _timed(what: str, work: Work, check: Check) -> tuple[float, float]:
    gc.disable()  # a collection costs whom it meets; before each run it would take a second in a large process
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    finally:
        gc.enable()
    if not check(result):
        raise WrongResult(f"{what} did something else than it should")
    return wall, cpu


def table(found: Sequence[Found], peer: str) -> str:
    """The table as text."""
    lines = [f"{'milliseconds':32} {'Zarrant':>9} {peer:>12} {'ratio':>6}   {'CPU':>9} {peer:>12} {'ratio':>6}"]
    for each in found:
        wall, cpu = ([1e3 * value for value in pair] for pair in (each.wall, each.cpu))
        lines.append(
            f"{each.name:32} {wall[0]:9.1f} {wall[1]:12.1f} {each.ratio:6.2f}   {cpu[0]:9.1f} {cpu[1]:12.1f} {each.cpu_ratio:6.2f}"
        )
    return "\n".join(lines)
