"""Processes that update shared shards at the same time: how many updates a second, and how many values are lost.

The parent gives every process its own blocks of every shard, in an order of its own; no element is written twice, so each that
does not hold its value at the end was lost. One that crashes or does not come to an end is a result, not an error.
"""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks import arrays
from benchmarks.crew import Worker, dismiss, together
from benchmarks.jobs import Bench, erase_chunks, read_back
from benchmarks.peers import make_peer
from benchmarks.peers.base import Peer, Settings

SHAPE = (2, 128, 128)
"""Eight shards of 64², 16 subchunks each: small, so that what takes the time is the update, not the codec."""
SHARD, SUBCHUNK, BLOCK = (1, 64, 64), (1, 16, 16), 8
BLOCKS = 2 * (128 // BLOCK) ** 2


def block(index: int) -> tuple[slice, slice, slice]:
    """The region of a block; four share a subchunk."""
    plane, row, column = np.unravel_index(index, (2, 128 // BLOCK, 128 // BLOCK))
    return slice(int(plane), int(plane) + 1), _span(int(row)), _span(int(column))


def _span(index: int) -> slice:
    return slice(index * BLOCK, (index + 1) * BLOCK)


def expected() -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """What the array holds when nothing is lost; nothing is 0, which is what unwritten elements are."""
    return arrays.values(SHAPE) | np.uint16(1)


class Contended:
    """Four processes, one thread each."""

    phases: tuple[str, ...] = ("update",)
    count = BLOCKS
    operations = 0

    def __init__(self, bench: Bench, peer: Peer, processes: int) -> None:
        self.bench, self.peer, self.processes = bench, peer, processes
        self.path = bench.directory / peer.name
        self.seconds = 0.0
        arrays.create(self.path, arrays.document(SHAPE, SHARD, arrays.CODECS["zstd 1"], SUBCHUNK))

    def reset(self, phase: str) -> None:
        erase_chunks(self.path)

    def run(self, phase: str) -> float:
        context = multiprocessing.get_context("spawn")
        logs = [self.bench.directory / f"log-{rank}" for rank in range(self.processes)]
        workers = [
            Worker(context, log, work, self.peer.name, str(self.path), self.processes, rank) for rank, log in enumerate(logs)
        ]
        try:
            words = together(workers, self.bench.timeout)
        finally:
            dismiss(workers)
        if failed := [word for word in words if word.failed]:
            raise WorkerFailed(f"a process {failed[0]}")
        self.seconds = max(word.value[1] for word in words) - min(word.value[0] for word in words)
        return self.seconds

    def problem(self, phase: str) -> str | None:
        wanted = expected()
        wrong = read_back(self.bench.referee(self.peer), self.path, wanted, np.empty_like(wanted))
        if wrong is None:
            return None
        found = np.empty_like(wanted)
        self.bench.referee(self.peer).open(self.path).read(tuple(slice(0, n) for n in SHAPE), found)
        return f"{np.mean(found != wanted):.1%} of the values lost, at {BLOCKS / self.seconds:,.0f} updates/s"

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class Alone(Contended):
    """The same updates by this process, one after the other: what a lock costs that nobody else wants."""

    def __init__(self, bench: Bench, peer: Peer) -> None:
        super().__init__(bench, peer, 1)

    def run(self, phase: str) -> float:
        handle, values = self.peer.open(self.path), expected()
        blocks = [(block(index), np.ascontiguousarray(values[block(index)])) for index in range(BLOCKS)]
        start = time.perf_counter()
        for region, part in blocks:
            handle.write(region, part)
        self.seconds = time.perf_counter() - start
        return self.seconds


class WorkerFailed(Exception):
    """A process crashed or did not come to an end."""


def work(pipe: Connection, name: str, path: str, processes: int, rank: int) -> tuple[float, float]:
    """One process: every `processes`-th block, in an order of its own; when it began and ended, by the clock all share."""
    handle = make_peer(name, Settings(threads=1)).open(Path(path))
    values = expected()
    mine = [int(index) for index in np.random.default_rng(rank).permutation(np.arange(rank, BLOCKS, processes))]
    blocks = [(block(index), np.ascontiguousarray(values[block(index)])) for index in mine]
    pipe.send(("ready", None))
    pipe.recv()
    start = time.monotonic()
    for region, part in blocks:
        handle.write(region, part)
    return start, time.monotonic()
