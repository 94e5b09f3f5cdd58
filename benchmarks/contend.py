"""Processes that update shared shards at the same time: how many updates a second, and how many values are lost.

The parent gives every process its own blocks of every shard, in an order of its own; no element is written twice, so each that
does not hold its value at the end was lost. `python -m benchmarks.contend` is such a process: it opens the array, says "ready",
waits for a line, updates, says how long it took. One that crashes or does not come to an end is a result, not an error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import arrays
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
    recheck = True

    def __init__(self, bench: Bench, peer: Peer, processes: int) -> None:
        self.bench, self.peer, self.processes = bench, peer, processes
        self.path = bench.directory / peer.name
        self.seconds = 0.0
        arrays.create(self.path, arrays.document(SHAPE, SHARD, arrays.CODECS["zstd 1"], SUBCHUNK))

    def reset(self, phase: str) -> None:
        erase_chunks(self.path)

    def run(self, phase: str) -> float:
        command = [sys.executable, "-m", "benchmarks.contend", self.peer.name, str(self.path), str(self.processes)]
        root = str(Path(__file__).parents[1])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers: list[subprocess.Popen[str]] = [
            subprocess.Popen([*command, str(rank)], env=environment, **pipes)  # type: ignore[call-overload]
            for rank in range(self.processes)
        ]
        try:
            self.seconds = _gather(workers, self.bench.timeout)
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
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


class WorkerFailed(Exception):
    """A process crashed or did not come to an end."""


def _gather(workers: list[subprocess.Popen[str]], timeout: float) -> float:
    """Start all when all are ready; the time from the first start to the last end."""
    for worker in workers:
        if worker.stdout is None or worker.stdout.readline().strip() != "ready":
            raise WorkerFailed(f"a process did not start: {_last_words(worker)}")
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    deadline = time.monotonic() + timeout
    spans = []
    for worker in workers:
        try:
            output, errors = worker.communicate(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise WorkerFailed(f"a process did not end within {timeout:.0f} s") from None
        if worker.returncode:
            raise WorkerFailed(f"a process crashed: {_summary(errors) or worker.returncode}")
        spans.append(json.loads(output))
    return float(max(end for _, end in spans) - min(start for start, _ in spans))


def _last_words(worker: subprocess.Popen[str]) -> str:
    worker.kill()
    return _summary(worker.communicate()[1])


def _summary(errors: str) -> str:
    """The last line of a traceback, which names the error."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    return lines[-1][:200] if lines else ""


def work(name: str, path: Path, processes: int, rank: int) -> tuple[float, float]:
    """One process: every `processes`-th block, in an order of its own; when it began and ended, by the clock all share."""
    handle = make_peer(name, Settings(threads=1)).open(path)
    values = expected()
    mine = [int(index) for index in np.random.default_rng(rank).permutation(np.arange(rank, BLOCKS, processes))]
    blocks = [(block(index), np.ascontiguousarray(values[block(index)])) for index in mine]
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.clock_gettime(time.CLOCK_MONOTONIC)
    for region, part in blocks:
        handle.write(region, part)
    return start, time.clock_gettime(time.CLOCK_MONOTONIC)


if __name__ == "__main__":
    _, peer_name, array_path, of, number = sys.argv
    print(json.dumps(work(peer_name, Path(array_path), int(of), int(number))))
