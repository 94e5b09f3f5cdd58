"""Measuring: every peer does every workload, in turn, several times.

In come workloads, peers and a `Bench`; out goes a `Row` for each phase of each workload, with a `Cell` for each peer: its seconds,
or a note that says why there are none. A peer runs each phase once untimed. What it did is checked then, and after every timed run;
one that is wrong, fails or would take minutes is noted and left out. Each round goes round all that are left, beginning with
another one each time. Nothing here fails on a time, and no failure of a peer ends the run.
"""

from __future__ import annotations

import gc
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any

from benchmarks import arrays, limits
from benchmarks.jobs import Bench, Job
from benchmarks.memory import peak_of
from benchmarks.peers.base import Peer
from benchmarks.workloads import Workload

Say = Callable[[str], None]
PATHS = re.compile(r"(?:/[\w.+-]+){2,}/?")


@dataclass
class Cell:
    """What one peer did in one phase."""

    seconds: list[float] = field(default_factory=list)
    note: str = ""
    stored: int = 0
    """Bytes of all objects afterwards."""
    cpu: list[float] = field(default_factory=list)
    """Seconds of the processor of this process, in each round."""
    peak: int | None = None
    """Bytes by which the memory of the process rose in the first run, at most; None where the system does not tell."""

    @property
    def median(self) -> float | None:
        """Seconds; None where the peer was left out."""
        return median(self.seconds) if self.seconds and not self.note else None


@dataclass
class Row:
    """One phase of one workload."""

    workload: str
    title: str
    phase: str
    nbytes: int
    count: int
    cells: dict[str, Cell]

    def as_json(self) -> dict[str, Any]:
        cells = {name: {**asdict(cell), "median": cell.median} for name, cell in self.cells.items()}
        return {**asdict(self), "cells": cells}


def measure(workloads: Iterable[Workload], peers: Mapping[str, Peer], bench: Bench, repeats: int, say: Say) -> Iterator[Row]:
    """The rows, as they are done."""
    for workload in workloads:
        say(workload.title)
        at = _sized(bench, workload)
        jobs, rows = _jobs(workload, peers, at)
        try:
            for row in rows:
                _prepare(row, jobs)
            for turn in range(repeats):
                for row in rows:
                    _round(row, jobs, turn)
        finally:
            jobs.clear()
            shutil.rmtree(at.directory, ignore_errors=True)
            gc.collect()
        yield from rows


def _sized(bench: Bench, workload: Workload) -> Bench:
    """The bench of a workload: a directory of its own, and no more data than it wants."""
    at = replace(bench, directory=bench.directory / workload.name)
    if bench.data.nbytes <= workload.at_most:
        return at
    shape = arrays.shape_of(workload.at_most)
    part = tuple(slice(0, extent) for extent in shape)
    return replace(at, data=bench.data[part].copy(), out=bench.out[part].copy())


def _jobs(workload: Workload, peers: Mapping[str, Peer], bench: Bench) -> tuple[dict[str, Job], list[Row]]:
    """A job for each peer and for the limit, and the rows, with notes for those that are left out."""
    jobs: dict[str, Job] = {}
    notes: dict[str, str] = {}
    model: Job | None = None
    makers: dict[str, Callable[[], Job]] = {name: lambda peer=peer: workload.job(bench, peer) for name, peer in peers.items()}  # type: ignore[misc]
    if (limit := workload.limit) is not None:
        makers[limits.NAME] = lambda: limit(bench)
    for name, make in makers.items():
        if getattr(peers.get(name), "streams_only", False) and not workload.streams:
            notes[name] = "skipped: it streams frames only"
            continue
        try:
            job = make()
        except Exception as error:
            notes[name] = _failure(error)
            continue
        model = model or job
        most = peers[name].subchunk_limit if name in peers else None
        if most is not None and job.operations > most:
            notes[name] = f"skipped: {job.operations:,} subchunks would take minutes"
        else:
            jobs[name] = job
    # The phases are known from any job, one that is skipped too; where none could be made there is one row, of notes.
    phases, count = (model.phases, model.count) if model else (("all",), 1)
    cells = [{name: Cell(note=notes.get(name, "")) for name in makers} for _ in phases]
    return jobs, [
        Row(workload.name, workload.title, phase, bench.data.nbytes, count, of_phase)
        for phase, of_phase in zip(phases, cells, strict=True)
    ]


def _prepare(row: Row, jobs: dict[str, Job]) -> None:
    """Run and check a phase once, untimed; who fails does not run again."""
    for name, job in list(jobs.items()):
        _, row.cells[name].peak = peak_of(partial(_once, row, name, job, check=False))
        if not row.cells[name].note:
            _check(row, name, job)
        if row.cells[name].note:
            del jobs[name]
        else:
            row.cells[name].seconds.clear()
            row.cells[name].cpu.clear()
            row.cells[name].stored = job.stored()


def _round(row: Row, jobs: Mapping[str, Job], turn: int) -> None:
    names = list(jobs)
    for index in range(len(names)):
        name = names[(index + turn) % len(names)]
        if not row.cells[name].note:
            _once(row, name, jobs[name])


def _once(row: Row, name: str, job: Job, check: bool = True) -> None:
    cell = row.cells[name]
    try:
        job.reset(row.phase)
        begun = time.process_time()
        cell.seconds.append(job.run(row.phase))
        cell.cpu.append(time.process_time() - begun)
    except Exception as error:
        cell.note = _failure(error)
        return
    if check:
        _check(row, name, job)


def _check(row: Row, name: str, job: Job) -> None:
    try:
        if wrong := job.problem(row.phase):
            row.cells[name].note = f"wrong: {wrong}"
    except Exception as error:
        row.cells[name].note = _failure(error)


def _failure(error: Exception) -> str:
    lines = PATHS.sub("…", str(error)).strip().splitlines()  # where arrays were is nobody's business
    return f"failed: {type(error).__name__}: {lines[0][:200] if lines else ''}".rstrip(": ")
