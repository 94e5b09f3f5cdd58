"""What workers do: each function runs in a process of its own, opens the array through one library, and answers over a pipe.

Writers note in a mapped file what they begin and what is acknowledged, so that it is known even of one that crashed. A library
that raises is counted, and goes on with its next operation.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crew import one_line
from benchmarks.peers import make_peer
from benchmarks.peers.base import Region, Settings
from benchmarks.scenes import Scene, Wrong, shown, span

BEGUN, DONE, FAILED = 1, 2, 3
"""Of an update, in the ledger of a race; 0: not begun."""
PAUSE = 0.001
"""Between two reads: where there are few processors, the writer must get one in between."""


class NotOffered(Exception):
    """The library has no such operation."""


@dataclass(frozen=True)
class Plan:
    """A race: who writes what, for how long."""

    operation: str
    """A key of OPERATIONS."""
    writers: int
    each: int
    """The most updates of one writer; it ends earlier when `seconds` are over."""
    seconds: float
    cells: int = 0
    """Of one writer, where it updates cells again and again."""
    cell: int = 0
    """Elements of a cell."""


@dataclass(frozen=True)
class Lap:
    """What one writer did: when it began and ended by the clock that all share, how long each update took, what it raised."""

    rank: int
    begin: float
    end: float
    waits: list[float]
    raised: Counter[str]


def referee(pipe: Connection, peer: str, settings: Settings) -> None:
    """Read whole arrays on request."""
    library = make_peer(peer, settings)
    while True:
        path = Path(pipe.recv())
        try:
            shape = json.loads((path / "zarr.json").read_text("utf-8"))["shape"]
            found = np.full(shape, 2**64 - 1, np.uint64)
            library.open(path).read(tuple(span(0, extent) for extent in shape), found)
        except Exception as error:
            pipe.send(("unreadable", f"{one_line(error)}, as read by {peer}"))
        else:
            pipe.send(("values", found))


# ── races ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _element(handle: Any, plan: Plan) -> Callable[[int], None]:
    """Update i sets element i to i + 1; those of one writer are as far apart as there are writers."""
    return lambda i: handle.write((span(i, i + 1),), np.array([i + 1], np.uint64))


def _cell(handle: Any, plan: Plan) -> Callable[[int], None]:
    """Writers fill cells of their own by turns: update n of each sets one to n + 1."""

    def update(i: int) -> None:
        n, rank = divmod(i, plan.writers)
        start = (rank * plan.cells + n % plan.cells) * plan.cell
        handle.write((span(start, start + plan.cell),), np.full(plan.cell, n + 1, np.uint64))

    return update


def _attribute(handle: Any, plan: Plan) -> Callable[[int], None]:
    return lambda i: _offered(handle, "set_attribute")(str(i), i + 1)


def _extend(handle: Any, plan: Plan) -> Callable[[int], None]:
    return lambda i: _offered(handle, "extend")(np.array([i + 1], np.uint64))


def _offered(handle: Any, name: str) -> Callable[..., None]:
    try:
        return getattr(handle, name)  # type: ignore[no-any-return]
    except AttributeError:
        raise NotOffered(name) from None


OPERATIONS = {"element": _element, "cell": _cell, "set_attribute": _attribute, "extend": _extend}
OPTIONAL = ("set_attribute", "extend")


def race(pipe: Connection, peer: str, settings: Settings, path: str, ledger: str, plan: Plan, ranks: Sequence[int]) -> list[Lap]:
    """The part of this process in a race; several ranks are as many threads with one handle."""
    handle = make_peer(peer, settings).open(Path(path))
    if plan.operation in OPTIONAL:
        _offered(handle, plan.operation)
    update = OPERATIONS[plan.operation](handle, plan)
    told = np.memmap(ledger, np.uint8, "r+")
    pipe.send(("ready", None))
    pipe.recv()
    laps: list[Lap] = []
    runners = [threading.Thread(target=lambda rank=rank: laps.append(run(update, told, plan, rank))) for rank in ranks]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()
    return laps


def run(update: Callable[[int], None], told: Any, plan: Plan, rank: int) -> Lap:
    """Every `writers`-th update from `rank`, at least one, until all are made or the time is over."""
    begin = now = time.monotonic()
    waits: list[float] = []
    raised: Counter[str] = Counter()
    for i in range(rank, plan.each * plan.writers, plan.writers):
        told[i] = BEGUN
        try:
            update(i)
            told[i] = DONE
        except Exception as error:
            told[i] = FAILED
            raised[one_line(error)] += 1
        before, now = now, time.monotonic()
        waits.append(now - before)
        if now - begin > plan.seconds:
            break
    return Lap(rank, begin, now, waits, raised)


# ── kills and readers ────────────────────────────────────────────────────────────────────────────────────────────────


def write_once(pipe: Connection, peer: str, settings: Settings, path: str, region: Region, values: Any) -> None:
    make_peer(peer, settings).open(Path(path)).write(region, values)


def write_for_ever(pipe: Connection, peer: str, settings: Settings, path: str, scene: Scene, told_path: str, k: int) -> None:
    """Make update k, say so, wait; then one update after the other, until there is a word or no more life."""
    handle = make_peer(peer, settings).open(Path(path))
    told = np.memmap(told_path, np.int64, "r+")
    step(handle, scene, told, k)
    pipe.send(("wrote", None))
    pipe.recv()
    while not pipe.poll():
        k += 1
        step(handle, scene, told, k)


def step(handle: Any, scene: Scene, told: Any, k: int) -> None:
    """Update k; `told` has the last begun and the last done."""
    values = scene.version(k, scene.region)
    told[0] = k
    handle.write(scene.region, values)
    told[1] = k


def read(
    pipe: Connection, peer: str, settings: Settings, path: str, scene: Scene, told_path: str, seconds: float
) -> dict[str, Any]:
    """Read parts in a loop, the same in the same order for every library, and judge each at once."""
    handle = make_peer(peer, settings).open(Path(path))
    told = np.memmap(told_path, np.int64, "r")
    pipe.send(("ready", None))
    pipe.recv()
    dice, end = np.random.default_rng(0), time.monotonic() + seconds
    counts = {"reads": 0, "wrong": 0, "mixed": 0, "raised": 0}
    troubles: Counter[str] = Counter()
    updates: set[int] = set()
    while time.monotonic() < end or not counts["reads"]:
        part = scene.parts[int(dice.integers(len(scene.parts)))]
        out: Any = np.full([side.stop - side.start for side in part], 2**64 - 1, np.uint64)
        counts["reads"] += 1
        time.sleep(PAUSE)
        oldest = int(told[1])
        try:
            handle.read(part, out)
            seen = shown(scene, out, part, oldest, int(told[0]))
        except Exception as error:
            counts["wrong" if isinstance(error, Wrong) else "raised"] += 1
            troubles[one_line(error)] += 1
        else:
            counts["mixed"] += len(set(seen)) > 1
            updates.update(seen)
    return {**counts, "updates seen": len(updates), "troubles": dict(troubles.most_common(3))}
