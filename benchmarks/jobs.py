"""Jobs: what one peer does in one workload, phase by phase, timed by itself and checked against the data.

A job is made for a peer on a `Bench` (where, how much, which data); `reset` puts things back untimed, `run` does the phase and
gives its seconds, `problem` says what is wrong with what that run left, or None; it is asked after every run. What was written is
read by another library where one is installed: a library that reads its own mistakes back would not notice them.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks import arrays
from benchmarks.peers.base import Handle, Peer, Region, Values, append_frames


@dataclass
class Bench:
    """Where and on what a workload runs; `out` is memory that every read reuses."""

    directory: Path
    data: Values
    out: Values
    threads: int
    referees: list[Peer] = field(default_factory=list)
    """Who reads what others wrote, in order of preference."""
    timeout: float = 120.0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def whole(self) -> Region:
        return tuple(slice(0, extent) for extent in self.shape)

    def referee(self, peer: Peer) -> Peer:
        """Another library if there is one, else the peer itself."""
        return next((other for other in self.referees if other.name != peer.name), peer)


class Job(Protocol):
    """One peer's part in one workload."""

    phases: tuple[str, ...]
    count: int
    """Operations in a run: 1, or more where a rate is of interest."""
    operations: int
    """Subchunks that a run encodes, for the peers that have a limit."""

    def reset(self, phase: str) -> None: ...
    def run(self, phase: str) -> float: ...
    def problem(self, phase: str) -> str | None: ...
    def stored(self) -> int: ...


def seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def differing(found: Values, expected: Values) -> str | None:
    """How many elements differ, plane by plane so as not to need the memory of a mask; None where none does."""
    wrong = sum(int(np.count_nonzero(a != b)) for a, b in zip(found, expected, strict=True))
    return f"{wrong} of {expected.size} values are wrong" if wrong else None


def spoil(out: Values, expected: Values) -> None:
    """Make every value wrong, in case nothing is read into them."""
    np.invert(expected, out=out)


def read_back(peer: Peer, path: Path, expected: Values, out: Values) -> str | None:
    """Read everything through a peer, and compare."""
    spoil(out, expected)
    peer.open(path).read(tuple(slice(0, extent) for extent in expected.shape), out)
    wrong = differing(out, expected)
    return f"{wrong}, as read by {peer.name}" if wrong else None


def erase_chunks(path: Path) -> None:
    shutil.rmtree(path / "c", ignore_errors=True)


class Bulk:
    """Write the whole array into an empty directory, and read it whole."""

    phases: tuple[str, ...] = ("write", "read")
    count = 1

    def __init__(self, bench: Bench, peer: Peer, codec: str, subchunk: int | None) -> None:
        self.bench, self.peer = bench, peer
        self.path = bench.directory / peer.name
        edge = arrays.object_edge(bench.shape)
        inner = None if subchunk is None else (subchunk,) * 3
        arrays.create(self.path, arrays.document(bench.shape, (edge,) * 3, arrays.CODECS[codec], inner))
        self.operations = bench.data.size // subchunk**3 if subchunk else 0
        self.handle = peer.open(self.path)

    def reset(self, phase: str) -> None:
        if phase == "write":
            erase_chunks(self.path)
        else:
            spoil(self.bench.out, self.bench.data)

    def run(self, phase: str) -> float:
        bench = self.bench
        if phase == "write":
            return seconds(lambda: self.handle.write(bench.whole, bench.data))
        return seconds(lambda: self.handle.read(bench.whole, bench.out))

    def problem(self, phase: str) -> str | None:
        if phase == "read":
            return differing(self.bench.out, self.bench.data)
        return read_back(self.bench.referee(self.peer), self.path, self.bench.data, self.bench.out)

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class Updates:
    """Updates of one shard, one after the other, each of a cube as large as a subchunk; the shard is as new at every start."""

    phases: tuple[str, ...] = ("update",)
    EDGE = 32

    def __init__(self, bench: Bench, peer: Peer, count: int, aligned: bool) -> None:
        self.bench, self.peer, self.count = bench, peer, count
        side = min(arrays.LARGEST_OBJECT, *bench.shape)
        self.path = bench.directory / peer.name
        self.pristine = bench.directory / f"{peer.name}.pristine"
        cube: Values = bench.data[:side, :side, :side].copy()
        shape = cube.shape
        arrays.create(self.pristine, arrays.document(shape, shape, arrays.CODECS["blosc"], (self.EDGE,) * 3))
        self.operations = count * (side // self.EDGE) ** 3
        self.regions = update_regions(side, self.EDGE, count, aligned)
        self.values = [np.ascontiguousarray(cube[region] + np.uint16(257 * (n + 1))) for n, region in enumerate(self.regions)]
        self.before, self.expected = cube, cube.copy()
        for region, block in zip(self.regions, self.values, strict=True):
            self.expected[region] = block
        self.handle: Handle | None = None

    def reset(self, phase: str) -> None:
        if not (self.pristine / "c").exists():
            whole = tuple(slice(0, extent) for extent in self.before.shape)
            self.peer.open(self.pristine).write(whole, self.before)
        shutil.rmtree(self.path, ignore_errors=True)
        shutil.copytree(self.pristine, self.path)
        self.handle = self.peer.open(self.path)

    def run(self, phase: str) -> float:
        assert self.handle is not None
        return seconds(self._update)

    def _update(self) -> None:
        assert self.handle is not None
        for region, block in zip(self.regions, self.values, strict=True):
            self.handle.write(region, block)

    def problem(self, phase: str) -> str | None:
        return read_back(self.bench.referee(self.peer), self.path, self.expected, np.empty_like(self.expected))

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


def update_regions(side: int, edge: int, count: int, aligned: bool) -> list[Region]:
    """Cubes in a cube, the same for every peer, no place twice until all were used; unaligned ones straddle subchunks."""
    places = np.random.default_rng(0).permutation((side // edge) ** 3)
    offsets = (0, 0, 0) if aligned else (5, 7, 11)
    regions = []
    for index in range(count):
        corner = np.unravel_index(int(places[index % len(places)]), (side // edge,) * 3)
        starts = [int(c) * edge for c in corner]
        starts = [s + o if s + o + edge <= side else s - o for s, o in zip(starts, offsets, strict=True)]
        regions.append(tuple(slice(start, start + edge) for start in starts))
    return regions


class Frames:
    """Frames that arrive one at a time, into chunks as deep as many frames: as a library is meant to do it, or by plain writes."""

    phases: tuple[str, ...] = ("append",)
    operations = 0

    def __init__(self, bench: Bench, peer: Peer, count: int, depth: int, plain: bool = False) -> None:
        self.bench, self.peer, self.count, self.depth, self.plain = bench, peer, count, depth, plain
        edge = 512
        while count * edge * edge * 2 > bench.data.nbytes and edge > 32:
            edge //= 2
        self.path = bench.directory / peer.name
        self.frames = arrays.values((count, edge, edge))
        arrays.create(self.path, arrays.document(self.frames.shape, (depth, edge, edge), arrays.CODECS["raw"]))
        self.handle = peer.open(self.path)

    def reset(self, phase: str) -> None:
        erase_chunks(self.path)

    def run(self, phase: str) -> float:
        if self.plain:
            return seconds(lambda: append_frames(self.handle, self.frames))
        return seconds(lambda: self.handle.append(self.frames, self.depth))

    def problem(self, phase: str) -> str | None:
        return read_back(self.bench.referee(self.peer), self.path, self.frames, np.empty_like(self.frames))

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class Tiny:
    """Open, write and read 2 kB, again and again: what a call costs when there is next to nothing to do."""

    phases: tuple[str, ...] = ("all",)
    operations = 0

    def __init__(self, bench: Bench, peer: Peer, count: int) -> None:
        self.bench, self.peer, self.count = bench, peer, count
        self.data = arrays.values((10, 10, 10))
        self.paths = [bench.directory / peer.name / str(index) for index in range(count)]
        self.outs = np.empty((count, *self.data.shape), np.uint16)

    def reset(self, phase: str) -> None:
        self.outs[...] = 0
        for path in self.paths:
            arrays.create(path, arrays.document(self.data.shape, self.data.shape, arrays.CODECS["raw"]))

    def run(self, phase: str) -> float:
        return seconds(self._all)

    def _all(self) -> None:
        whole = (slice(0, 10),) * 3
        for path, out in zip(self.paths, self.outs, strict=True):
            handle = self.peer.open(path)
            handle.write(whole, self.data)
            handle.read(whole, out)

    def problem(self, phase: str) -> str | None:
        wrong = next((found for out in self.outs if (found := differing(out, self.data))), None)
        return wrong or read_back(self.bench.referee(self.peer), self.paths[-1], self.data, np.empty_like(self.data))

    def stored(self) -> int:
        return arrays.stored_bytes(self.paths[-1])
