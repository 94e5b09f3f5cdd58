"""`python -m benchmarks.direct`: direct I/O on a disk beside a plain loop of the same bytes, buffered writing, and TensorStore.

In come arguments; out goes a table: throughput, wall and CPU seconds of each way to write and to read one array of uncompressed
chunks, medians of rounds in which every way has its turn. CPU is that of this process: what the kernel needs later to write
the page cache to the disk is nobody's. Files are removed after each turn, which drops what of them is not on the disk yet. Ends
with 0 whatever the times, with 1 where something that was written does not read back, with 2 for arguments that mean nothing.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import zarrant
from benchmarks import arrays
from benchmarks.arguments import positive, program, size
from benchmarks.jobs import erase_chunks
from benchmarks.measure import Say
from benchmarks.peers import PeerMissing, make_peer
from benchmarks.peers.base import Settings, Values
from zarrant.run.pool import available_cpus

PIECE = 8 << 20
"""Bytes that a plain loop writes and reads at once."""
LOOP = "plain direct loop"
BUFFERED = "zarrant, buffered"
DIRECT = ("zarrant direct, aligned encoded chunks", "zarrant direct, array", "zarrant direct, array, concurrency auto")


@dataclass
class Load:
    """The array, once as a whole, and once cut into chunks that lie in memory as the disk takes them."""

    data: Values
    edge: int
    threads: int
    chunks: dict[tuple[int, ...], Values] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index in np.ndindex(*(extent // self.edge for extent in self.data.shape)):
            self.chunks[index] = zarrant.aligned_empty((self.edge,) * 3, self.data.dtype)
            self.chunks[index][...] = self.part(index)
        self.out = zarrant.aligned_empty(self.data.shape, self.data.dtype)
        self.out[...] = 0

    def part(self, index: tuple[int, ...]) -> Values:
        """The values of a chunk, where they are in the array."""
        return self.data[tuple(slice(at * self.edge, (at + 1) * self.edge) for at in index)]

    def each_chunk(self, act: Callable[[tuple[int, ...], memoryview], None]) -> None:
        """Act on the bytes of every chunk, with as many threads as all have."""
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(lambda index: act(index, self.chunks[index].reshape(-1).view(np.uint8).data), self.chunks))


class Way:
    """One way to write and read the array: `write` into an empty array, `read` into memory that was used before."""

    name: str
    reads = True

    def __init__(self, load: Load, path: Path) -> None:
        self.load, self.path = load, path

    def write(self) -> None: ...
    def read(self) -> None: ...


class Plain(Way):
    """No library: `pwrite` and `pread` of aligned memory; with `gather`, into which the chunks of the array are copied first."""

    def __init__(self, load: Load, path: Path, direct: bool, sync: bool = False, gather: bool = False) -> None:
        super().__init__(load, path)
        self.flag, self.sync, self.gather, self.reads = os.O_DIRECT if direct else 0, sync, gather, not gather
        self.name = (LOOP if direct else "plain buffered loop") + (", gathering" if gather else "") + (", synced" if sync else "")
        self.memory = [zarrant.aligned_empty((load.edge,) * 3, load.data.dtype) for _ in range(load.threads * gather)]
        for chunk in self.memory:
            chunk[...] = 0

    def _open(self, index: tuple[int, ...], flags: int) -> int:
        file = self.path.joinpath("c", *map(str, index))
        if flags & os.O_CREAT:
            file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(file, flags | self.flag)

    def write(self) -> None:
        def one(index: tuple[int, ...], view: memoryview) -> None:
            memory = self.memory.pop() if self.gather else None
            if memory is not None:
                memory[...] = self.load.part(index)
                view = memory.reshape(-1).view(np.uint8).data
            fd = self._open(index, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            for at in range(0, len(view), PIECE):
                assert os.pwrite(fd, view[at : at + PIECE], at) == len(view[at : at + PIECE])
            if self.sync:
                os.fsync(fd)
            os.close(fd)
            if memory is not None:
                self.memory.append(memory)

        self.load.each_chunk(one)

    def read(self) -> None:
        memory = self.load.out.reshape(-1).view(np.uint8).data
        places = {index: number for number, index in enumerate(self.load.chunks)}

        def one(index: tuple[int, ...], view: memoryview) -> None:
            fd = self._open(index, os.O_RDONLY)
            for at in range(0, len(view), PIECE):
                place = places[index] * len(view) + at
                os.preadv(fd, [memory[place : place + len(view[at : at + PIECE])]], at)
            os.close(fd)

        self.load.each_chunk(one)


class Ours(Way):
    """Zarrant."""

    def __init__(self, load: Load, path: Path, name: str, encoded: bool = False, **config: Any) -> None:
        super().__init__(load, path)
        self.name, self.encoded, self.reads = name, encoded, not encoded
        self.array = zarrant.open_array(path, mode="r+", config={"concurrency": load.threads, **config})

    def write(self) -> None:
        if self.encoded:
            self.array.store_encoded_chunks(list(self.load.chunks), list(self.load.chunks.values()))
        else:
            self.array[...] = self.load.data

    def read(self) -> None:
        self.array.retrieve_array_subset((slice(None),) * 3, out=self.load.out)


class Theirs(Way):
    """A peer of the other benchmarks."""

    def __init__(self, load: Load, path: Path, peer: str, sync: bool) -> None:
        super().__init__(load, path)
        self.name = peer + (", synced" if sync else "")
        self.handle = make_peer(peer, Settings(load.threads, sync)).open(path)
        self.whole = tuple(slice(0, extent) for extent in load.data.shape)

    def write(self) -> None:
        self.handle.write(self.whole, self.load.data)

    def read(self) -> None:
        self.handle.read(self.whole, self.load.out)


@dataclass
class Line:
    """What one way needed in one phase, by round."""

    name: str
    phase: str
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    against: list[float] = field(default_factory=list)
    """The plain loop's wall seconds of the same round over its own."""


def ways_of(load: Load, directory: Path, say: Say) -> list[Way]:
    """All that can be done here; says what cannot."""
    makers: list[Callable[[Path], Way]] = [
        lambda path: Plain(load, path, direct=True),
        lambda path: Plain(load, path, direct=True, gather=True),
        lambda path: Plain(load, path, direct=False),
        lambda path: Ours(load, path, DIRECT[0], encoded=True, direct_io=True),
        lambda path: Ours(load, path, DIRECT[1], direct_io=True),
        lambda path: Ours(load, path, DIRECT[2], direct_io=True, concurrency="auto"),
        lambda path: Ours(load, path, BUFFERED),
        lambda path: Theirs(load, path, "tensorstore", sync=False),
        lambda path: Plain(load, path, direct=True, sync=True),
        lambda path: Ours(load, path, "zarrant direct, synced", direct_io=True, durability="fsync"),
        lambda path: Ours(load, path, "zarrant, synced", durability="fsync"),
        lambda path: Theirs(load, path, "tensorstore", sync=True),
    ]
    ways = []
    for number, make in enumerate(makers):
        path = directory / str(number)
        arrays.create(path, arrays.document(load.data.shape, (load.edge,) * 3, []))
        try:
            ways.append(make(path))
        except PeerMissing as reason:
            say(f"skipped: {reason}")
    return ways


def timed(act: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds."""

    def used() -> float:
        found = resource.getrusage(resource.RUSAGE_SELF)
        return found.ru_utime + found.ru_stime

    wall, cpu = time.perf_counter(), used()
    act()
    return time.perf_counter() - wall, used() - cpu


def forget(path: Path) -> None:
    """Have everything below on the disk, and nothing of it in the page cache."""
    for file in path.joinpath("c").rglob("*"):
        if file.is_file():
            fd = os.open(file, os.O_RDONLY)
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def problem(way: Way) -> str | None:
    """What the files of a way lack, as read by plain reads; None where they are right."""
    for index, chunk in way.load.chunks.items():
        if not np.array_equal(np.fromfile(way.path.joinpath("c", *map(str, index)), chunk.dtype), chunk.reshape(-1)):
            return f"{way.name}: chunk {index} is not what was written"
    return None


def measure(ways: Sequence[Way], rounds: int) -> tuple[list[Line], list[str]]:
    """Every way writes, is checked in the first round, and reads, in turn; each round begins with another one."""
    lines = {(way.name, phase): Line(way.name, phase) for phase in ("write", "read") for way in ways}
    wrong = []
    for turn in range(-1, rounds):  # the first is to warm up: it is not counted
        for number in range(len(ways)):
            way = ways[(number + turn) % len(ways)]
            for phase in ("write", "read") if way.reads and not way.name.endswith("synced") else ("write",):
                if phase == "read":
                    forget(way.path)
                wall, cpu = timed(getattr(way, phase))
                if turn >= 0:
                    lines[way.name, phase].wall.append(wall)
                    lines[way.name, phase].cpu.append(cpu)
            if turn < 0 and (found := problem(way)):
                wrong.append(found)
            erase_chunks(way.path)
    for line in lines.values():
        loop = lines[LOOP + (", synced" if line.name.endswith("synced") else ""), line.phase]
        line.against = [theirs / own for theirs, own in zip(loop.wall, line.wall, strict=False)]
    return [line for line in lines.values() if line.wall], wrong


def table(lines: Sequence[Line], nbytes: int, facts: dict[str, Any]) -> str:
    rows = [
        "| way | phase | MB/s | of the plain direct loop | wall s | CPU s | CPU of zarrant, buffered |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    buffered = {line.phase: median(line.cpu) for line in lines if line.name == BUFFERED}
    for line in lines:
        wall, cpu, against = median(line.wall), median(line.cpu), median(line.against)
        share = cpu / buffered[line.phase] if buffered.get(line.phase) else float("nan")
        rows.append(
            f"| {line.name} | {line.phase} | {nbytes / wall / 1e6:,.0f} | {against:.0%} | {wall:.3f} | {cpu:.3f} | {share:.0%} |"
        )
    return "\n".join([*rows, "", *(f"{name}: {value}" for name, value in facts.items())])


def main(arguments: Sequence[str] | None = None) -> int:
    given = program("benchmarks.direct", (__doc__ or "").split("\n")[0], Path(), rounds=5)
    given.add_argument("--size", type=size, default="128MiB", help="of the array (default %(default)s)")
    given.add_argument("--threads", type=positive, default=available_cpus(), help="for every way (default: the CPUs)")
    given.add_argument("--json", type=Path, help="file for every single time")
    options = given.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="zarrant-direct-", dir=options.dir.absolute()))
    try:
        shape = arrays.shape_of(options.size)
        load = Load(arrays.values(shape), arrays.object_edge(shape), options.threads)
        ways = ways_of(load, directory, lambda text: print(text, file=sys.stderr, flush=True))
        lines, wrong = measure(ways, options.rounds)
        access = {way.name: way.array.store.access for way in ways if isinstance(way, Ours) and way.name in DIRECT}
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    facts = {
        "array": f"{shape} uint16, chunks {load.edge}³",
        "threads": options.threads,
        "rounds": options.rounds,
        "access": access,
    }
    if options.json:
        options.json.write_text(json.dumps({"facts": facts, "lines": [asdict(line) for line in lines], "wrong": wrong}, indent=1))
    print("\n".join([table(lines, load.data.nbytes, facts), *wrong]))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
