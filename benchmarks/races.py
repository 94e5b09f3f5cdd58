"""Races: writers that make disjoint updates of one stored object, or of one document, at the same time.

No element is written by two, so each acknowledged update must be there in the end, whoever writes how: what is not was lost.
In comes the ground and the name of a library; out goes a `Finding`.
"""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.crew import Word, dismiss, together
from benchmarks.ground import Finding, Ground, Test, Unreadable
from benchmarks.hands import DONE, FAILED, Lap, Plan, race
from benchmarks.scenes import document

EACH, EACH_OF_DOCUMENT = 512, 32
"""Updates of one writer at most. With 8 writers an object has 32 KiB, so that an update takes the time and not its bytes."""
SUBCHUNKS = 16
"""Of the shard; more would measure how long zarr-python needs for each."""
CELLS, CELL = 8, 2**16
"""Subchunks of each writer and their elements, where the wait is measured: 8 × 8 × 512 KiB are a shard of 32 MiB."""


def elements(kind: str, threads: bool, ground: Ground, peer: str) -> Finding:
    """Element by element, into one chunk or shard, by processes or by threads of one."""
    plan = Plan("element", ground.processes, EACH, ground.seconds)
    size = plan.writers * plan.each
    subchunk = (size // SUBCHUNKS,) if kind == "shard" else None
    path = ground.array(document((size,), (size,), "raw", subchunk))
    return _run(ground, peer, path, plan, threads, partial(_lost_elements, ground, peer, path))


def attributes(ground: Ground, peer: str) -> Finding:
    """Each sets attributes of its own."""
    plan = Plan("set_attribute", ground.processes, EACH_OF_DOCUMENT, ground.seconds)
    path = ground.array(document((1,), (1,), "raw"))
    return _run(ground, peer, path, plan, False, partial(_lost_attributes, path))


def appends(ground: Ground, peer: str) -> Finding:
    """Each appends elements, one at a time; where they land is theirs to agree."""
    plan = Plan("extend", ground.processes, EACH_OF_DOCUMENT, ground.seconds)
    path = ground.array(document((0,), (64,), "raw"))
    return _run(ground, peer, path, plan, False, partial(_lost_appends, ground, peer, path))


def waits(cell: int, ground: Ground, peer: str) -> Finding:
    """Each replaces subchunks of its own in one shard, for twice the time of the others: objects are large."""
    plan = Plan("cell", ground.processes, 2**14, 2 * ground.seconds, CELLS, cell)
    size = plan.writers * CELLS * cell
    path = ground.array(document((size,), (size,), "raw", (cell,)))
    return _run(ground, peer, path, plan, False, partial(_lost_cells, ground, peer, path, plan))


def _run(ground: Ground, peer: str, path: Path, plan: Plan, threads: bool, lost: Callable[[Any], dict[str, int]]) -> Finding:
    """All writers at once; then what is lost, where the object can still be read."""
    ledger = ground.path("ledger")
    ledger.write_bytes(bytes(plan.writers * plan.each))
    parts = [list(range(plan.writers))] if threads else [[rank] for rank in range(plan.writers)]
    settings = ground.many if threads else ground.one
    workers = [ground.worker(race, peer, settings, str(path), str(ledger), plan, ranks) for ranks in parts]
    try:
        words = together(workers, plan.seconds + ground.timeout)
    finally:
        dismiss(workers)
    if all(word.failed and str(word.value).startswith("NotOffered") for word in words):
        return Finding(note="not offered")
    told = np.fromfile(ledger, np.uint8)
    finding = _account(words, told)
    try:
        found = lost(told)
    except Unreadable as error:
        finding.counts["unreadable"] = 1
        finding.troubles[f"afterwards: {error}"] += 1
        finding.harm += 1
    else:
        finding.counts.update(found)
        finding.harm += sum(found.values())
    return finding


def _account(words: Sequence[Word], told: Any) -> Finding:
    """What the writers did and how they ended."""
    laps: list[Lap] = [lap for word in words if word.kind == "done" for lap in word.value]
    troubles = sum((lap.raised for lap in laps), Counter(str(word) for word in words if word.failed))
    failures = Counter(word.kind for word in words if word.failed)
    counts: dict[str, Any] = {
        "begun": int(np.count_nonzero(told)),
        "done": int(np.count_nonzero(told == DONE)),
        "raised": int(np.count_nonzero(told == FAILED)) + failures["raised"],
        "crashed": failures["crashed"],
        "hung": failures["hung"],
        **_times(laps),
    }
    return Finding(counts, troubles, counts["raised"] + counts["crashed"] + counts["hung"])


def _times(laps: Sequence[Lap]) -> dict[str, float]:
    """Rate and waits of those that came to their end; nothing where none did."""
    if not laps:
        return {}
    every = [wait for lap in laps for wait in lap.waits]
    took = max(lap.end for lap in laps) - min(lap.begin for lap in laps)
    rates = [len(lap.waits) / (lap.end - lap.begin) for lap in laps]
    return {
        "seconds": took,
        "rate": sum(len(lap.waits) - sum(lap.raised.values()) for lap in laps) / took,
        "p50": statistics.median(every),
        "max": max(every),
        "fastest/slowest": max(rates) / min(rates),
    }


# ── what is lost ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _lost_elements(ground: Ground, peer: str, path: Path, told: Any) -> dict[str, int]:
    found, wanted = ground.read(peer, path), np.arange(1, told.size + 1, dtype=np.uint64)
    lost = (told == DONE) & (found == 0)
    # An update that raised or was cut short may be there or not; what nobody began must not.
    wrong = ~((found == wanted) & (told != 0)) & (found != 0)
    return {"lost": int(np.count_nonzero(lost)), "wrong": int(np.count_nonzero(wrong))}


def _lost_attributes(path: Path, told: Any) -> dict[str, int]:
    try:
        found = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
    except (ValueError, OSError, KeyError) as error:
        raise Unreadable(f"zarr.json: {error}") from error
    lost = sum(str(i) not in found for i in np.flatnonzero(told == DONE))
    # What has no number is no update: zarrista notes which library stored the metadata.
    wrong = sum(found[key] != int(key) + 1 for key in found if key.isdigit())
    return {"lost": int(lost), "wrong": wrong}


def _lost_appends(ground: Ground, peer: str, path: Path, told: Any) -> dict[str, int]:
    found = Counter(ground.read(peer, path).tolist())
    lost = sum(found[int(i) + 1] == 0 for i in np.flatnonzero(told == DONE))
    # Zeros are places that grew and were not filled; whose, nobody can say.
    wrong = sum(count - 1 if 0 < value <= told.size and told[value - 1] else count for value, count in found.items() if value)
    return {"lost": int(lost), "wrong": wrong}


def _lost_cells(ground: Ground, peer: str, path: Path, plan: Plan, told: Any) -> dict[str, int]:
    """Each cell shows the last update of it, or a later one that raised; a cell that does not is lost, with all its elements."""
    found = ground.read(peer, path).reshape(plan.writers, plan.cells, plan.cell)
    updates = told.reshape(-1, plan.writers).T.reshape(plan.writers, -1, plan.cells)
    lost = wrong = 0
    for rank, slot in np.ndindex(plan.writers, plan.cells):
        shown, of_cell = np.unique(found[rank, slot]), updates[rank, :, slot]
        n = (int(shown[0]) - 1 - slot) / plan.cells
        done = np.flatnonzero(of_cell == DONE)
        if len(shown) > 1 or (shown[0] and (n % 1 or n >= len(of_cell) or not of_cell[int(n)])):
            wrong += 1
        elif done.size and (shown[0] == 0 or n < done[-1]):
            lost += 1
    return {"lost": lost, "wrong": wrong}


# ── how it is shown ──────────────────────────────────────────────────────────────────────────────────────────────────


def _loss(counts: dict[str, Any]) -> str:
    if counts.get("unreadable"):
        return f"unreadable, {counts['done']:,} made"
    return f"{counts['lost']:,} of {counts['done']:,}" + (f", {counts['wrong']:,} wrong" if counts["wrong"] else "")


def _cell_loss(counts: dict[str, Any]) -> str:
    if counts.get("unreadable"):
        return f"unreadable, {counts['done']:,} made"
    return f"{counts['lost']} lost, {counts['wrong']} wrong, {counts['done']:,} made"


def _rate(counts: dict[str, Any]) -> str:
    return f"{counts['rate']:,.0f}" if "rate" in counts else "–"


def _failed(counts: dict[str, Any]) -> str:
    return f"{counts['raised']:,} / {counts['crashed']} / {counts['hung']}"


def _waited(counts: dict[str, Any]) -> str:
    return f"{counts['p50'] * 1000:,.0f} / {counts['max'] * 1000:,.0f} ms" if "p50" in counts else "–"


def _unequal(counts: dict[str, Any]) -> str:
    return f"{counts['fastest/slowest']:.1f}" if "fastest/slowest" in counts else "–"


ROWS = {"values lost": _loss, "updates/s": _rate, "raised / crashed / hung": _failed}


def tests(processes: int, cell: int = CELL) -> list[Test]:
    """The races, by as many writers as said."""
    found = []
    for who in ("processes", "threads"):
        for kind in ("chunk", "shard"):
            title = f"{processes} {who}, one {kind}"
            found.append(Test(f"{who}-{kind}", title, partial(elements, kind, who == "threads"), ROWS))
    found += [
        Test("attributes", f"{processes} processes, attributes", attributes, ROWS),
        Test("appends", f"{processes} processes, append", appends, ROWS),
    ]
    rows = {
        "p50 / longest wait": _waited,
        "fastest / slowest writer": _unequal,
        "cells": _cell_loss,
        "raised / crashed / hung": _failed,
    }
    size = processes * CELLS * cell * 8 / 2**20
    return [*found, Test("waits", f"{processes} processes, one shard of {size:,.3g} MiB", partial(waits, cell), rows)]
