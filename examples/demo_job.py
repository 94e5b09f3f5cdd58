"""The job of the demo: one 4-D series, cut into slabs that fit no chunk, written by several processes at the same time.

In comes the size of the job and the name of a library; out goes who wrote what and when. Processes are spawned, meet at a
barrier, and then write; slabs are dealt like cards, so that neighbours write neighbouring slabs at the same time. The
values are computed where they are needed, from the file that nibabel ships: nobody ever holds the whole series.
"""

from __future__ import annotations

import math
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from threading import BrokenBarrierError
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

import zarrant
from zarrant.tools.extras import require

EXAMPLE = "example4d.nii.gz"
SLAB_FRAMES = 5  # against 4 in a shard and 2 in a chunk
SHARD_FRAMES, CHUNK_FRAMES = 4, 2
SMALL_JOB = 64 << 20
"""Bytes below which a frame is the one of the file; from here on it is tiled 4 x 2 x 2 times: shards of some size."""
MEETING_SECONDS = 120.0

Values = npt.NDArray[np.int16]


class Series:
    """The two frames of the file, as (z, y, x), repeated; frame t is rolled by t along x, so that no two are equal."""

    def __init__(self, tiles: tuple[int, int, int]) -> None:
        nibabel = require("nibabel", "demo", "The demo")
        testing = require("nibabel.testing", "demo", "The demo")
        stored = np.asarray(nibabel.load(Path(testing.data_path) / EXAMPLE).dataobj)
        self._frames = np.tile(np.ascontiguousarray(stored.T), (1, *tiles))

    def frames(self, low: int, high: int) -> Values:
        """Frames low..high-1."""
        return np.stack([np.roll(self._frames[t % len(self._frames)], t, -1) for t in range(low, high)])


@dataclass(frozen=True)
class Slab:
    """A range of frames and of rows, and the process that writes it."""

    process: int
    frames: tuple[int, int]
    rows: tuple[int, int]


@dataclass(frozen=True)
class Job:
    """What is written, and by how many."""

    n_frames: int
    frame: tuple[int, int, int]
    tiles: tuple[int, int, int]
    processes: int

    @classmethod
    def of_size(cls, nbytes: int, processes: int) -> Job:
        """The job nearest to a size, of at least two slabs a process in time."""
        tiles = (1, 1, 1) if nbytes < SMALL_JOB else (4, 2, 2)
        frame = tuple(extent * n for extent, n in zip((24, 96, 128), tiles, strict=True))
        n_frames = max(2 * SLAB_FRAMES, nbytes // (2 * math.prod(frame)))
        return cls(n_frames, (frame[0], frame[1], frame[2]), tiles, processes)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(t, z, y, x)."""
        return (self.n_frames, *self.frame)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return 2 * math.prod(self.shape)

    @property
    def layout(self) -> dict[str, Any]:
        """Shape, type, shards and chunks, as `create_array` takes them in either library."""
        shards = (SHARD_FRAMES, *(extent // 2 for extent in self.frame))
        chunks = (CHUNK_FRAMES, *(extent // 4 for extent in self.frame))
        return {"shape": self.shape, "dtype": "int16", "shards": shards, "chunks": chunks}

    @property
    def grid(self) -> tuple[int, ...]:
        """The number of stored objects along each dimension."""
        return tuple(-(-extent // shard) for extent, shard in zip(self.shape, self.layout["shards"], strict=True))

    @property
    def slabs(self) -> list[Slab]:
        """Five frames deep, and cut twice across the rows where no chunk ends; dealt to the processes in turn."""
        first, second = self.frame[1] * 2 // 7, self.frame[1] * 5 // 7
        times = [(low, min(low + SLAB_FRAMES, self.n_frames)) for low in range(0, self.n_frames, SLAB_FRAMES)]
        pieces = product(times, ((0, first), (first, second), (second, self.frame[1])))
        return [Slab(i % self.processes, frames, rows) for i, (frames, rows) in enumerate(pieces)]

    def objects(self, slab: Slab) -> tuple[slice, ...]:
        """The block of stored objects that a slab touches."""
        shards = self.layout["shards"]
        spans = (slab.frames, (0, self.frame[0]), slab.rows, (0, self.frame[2]))
        return tuple(slice(low // n, -(-high // n)) for (low, high), n in zip(spans, shards, strict=True))


@dataclass(frozen=True)
class Written:
    """How it went: seconds from the first start to the last end, when each slab was done, and what failed."""

    seconds: float
    finished: list[tuple[float, Slab]]
    failures: list[str]

    def last_writer(self, job: Job) -> npt.NDArray[np.int64]:
        """For each stored object, the process whose slab in it was the last to be done; -1 for none."""
        last = np.full(job.grid, -1)
        for _, slab in sorted(self.finished, key=lambda item: item[0]):
            last[job.objects(slab)] = slab.process
        return last


def sharers(job: Job) -> npt.NDArray[np.int64]:
    """For each stored object, how many processes write to it."""
    writes = np.zeros((job.processes, *job.grid), bool)
    for slab in job.slabs:
        writes[slab.process][job.objects(slab)] = True
    return np.asarray(writes.sum(0), np.int64)


def megabytes_per_second(job: Job, seconds: float) -> float:
    """10^6 bytes of values a second; 0 where nothing was done."""
    return job.nbytes / seconds / 1e6 if seconds > 0 else 0.0


def run(job: Job, library: str, path: str) -> Written:
    """Let every process write its slabs into the array at `path`, through "zarrant" or "zarr"."""
    context = get_context("spawn")
    barrier = context.Barrier(job.processes)
    with ProcessPoolExecutor(job.processes, context, initializer=_meet_at, initargs=(barrier,)) as pool:
        running = [pool.submit(_write, job, i, library, path) for i in range(job.processes)]
        parts = [_result(process, future) for process, future in enumerate(running)]
    timed = [part for part in parts if part.end > part.start]
    seconds = max((part.end for part in timed), default=0.0) - min((part.start for part in timed), default=0.0)
    finished = [item for part in parts for item in part.finished]
    return Written(seconds, finished, [part.failure for part in parts if part.failure])


@dataclass(frozen=True)
class Part:
    """What one process did: from when to when, when each slab was done, and what failed."""

    start: float = 0.0
    end: float = 0.0
    finished: list[tuple[float, Slab]] = field(default_factory=list)
    failure: str = ""


def _result(process: int, future: Future[Part]) -> Part:
    try:
        return future.result()
    except BrokenProcessPool:
        return Part(failure=f"process {process}: ended without a result")


_barrier: Any = None


def _meet_at(barrier: Any) -> None:
    """Every task waits here, so that each process takes exactly one."""
    global _barrier
    _barrier = barrier


def _write(job: Job, process: int, library: str, path: str) -> Part:
    """One process."""
    finished: list[tuple[float, Slab]] = []
    failure, start = "", time.monotonic()
    try:
        array, series = open_with(library, path, "r+"), Series(job.tiles)
        _barrier.wait(MEETING_SECONDS)
        start = time.monotonic()
        for slab in (slab for slab in job.slabs if slab.process == process):
            rows = slice(*slab.rows)
            array[slice(*slab.frames), :, rows] = series.frames(*slab.frames)[:, :, rows]
            finished.append((time.monotonic(), slab))
    except BrokenBarrierError:
        failure = f"process {process}: another process did not come to the start"
    except Exception as error:  # what a library raises is a result of the demo
        _barrier.abort()
        failure = f"process {process}: {type(error).__name__}: {error}"
    return Part(start, time.monotonic(), finished, failure)


def open_with(library: str, path: str, mode: Literal["r", "r+"]) -> Any:
    """The array, through one of the libraries."""
    return (
        zarrant.open_array(path, mode=mode)
        if library == "zarrant"
        else require("zarr", "zarr", "The comparison").open_array(path, mode=mode)
    )


@dataclass(frozen=True)
class Checked:
    """What came back: seconds of reading, the number of wrong values in each stored object, and what failed."""

    seconds: float
    wrong: npt.NDArray[np.int64]
    failures: list[str]

    @property
    def total(self) -> int:
        """The number of wrong values."""
        return int(self.wrong.sum())


def check(job: Job, library: str, path: str) -> Checked:
    """Read everything and compare every element; what cannot be read is wrong."""
    series, array = Series(job.tiles), open_with(library, path, "r")
    wrong, seconds, failures = np.zeros(job.grid, np.int64), 0.0, []
    shards = job.layout["shards"]
    for low in range(0, job.n_frames, SHARD_FRAMES):
        expected = series.frames(low, min(low + SHARD_FRAMES, job.n_frames))
        start = time.monotonic()
        try:
            differs = np.asarray(array[low : low + SHARD_FRAMES]) != expected
        except Exception as error:  # as above
            failures.append(f"frames from {low}: {type(error).__name__}: {error}")
            differs = np.ones(expected.shape, bool)
        seconds += time.monotonic() - start
        blocks = [part for count, shard in zip(job.grid[1:], shards[1:], strict=True) for part in (count, shard)]
        wrong[low // SHARD_FRAMES] = differs.reshape(len(differs), *blocks).sum((0, 2, 4, 6))
    return Checked(seconds, wrong, failures)
