"""`python -m benchmarks.profiles`: where Zarrant's time goes, by layer, and what nothing could be faster than.

In come workloads of the benchmark; out go two tables, of one operation each, in CPU time, which is nearly free of the load of a
shared machine. The first has the layers (see `layer_times`). The second has limits that are measured in the same run: the codec,
a copy of the bytes alone, the system calls for files alone; and TensorStore, doing the same. What each run wrote or read is
compared with the data, as in the benchmark. With `--docs` the tables are written into the page of the documentation.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import arrays, limits, report
from benchmarks.__main__ import say, surroundings
from benchmarks.arguments import names, program, size
from benchmarks.coroutines import ChunksByTasks, CropsByTasks
from benchmarks.jobs import Bench, Job
from benchmarks.layer_times import LAYER_NAMES, Profile, Sampler
from benchmarks.pairs import WrongResult
from benchmarks.peers import OURS, find_peers
from benchmarks.peers.base import Peer, Region, Settings
from benchmarks.workloads import BY_NAME, MakeJob

THEIRS = "tensorstore"
COPY_AT_ONCE = 2**26
"""Bytes copied in turn: more than caches have, as the array of a whole read or write is in memory."""


@dataclass
class Bare:
    """The least that a run of a job has to do."""

    codec: str | None = None
    edge: int = 0
    """Of the chunks or subchunks that the codec gets."""
    encoded: float = 0
    decoded: float = 0
    """How many of them."""
    copied: float = 0
    """Bytes."""
    written: float = 0
    read: float = 0
    """Files."""
    nbytes: int = 0
    """Of each of them."""


class Row(NamedTuple):
    """A job and the least it has to do."""

    name: str
    title: str
    make: MakeJob
    bare: Callable[[Any, str], Bare]
    apart: bool = False
    """Whether other threads do short work only (see `Sampler`)."""


@dataclass
class Line:
    """What was found for one phase, in seconds of one operation; None where it does not apply."""

    title: str
    ours: Profile
    theirs: tuple[float, float] | None = None
    """Wall and CPU time of TensorStore."""
    wall: float = 0.0
    """The least wall time of Zarrant without being watched."""
    cpu: float = 0.0
    bare: dict[str, float | None] = field(default_factory=dict)


# ── the least ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _bulk(job: Any, phase: str, codec: str | None, subchunk: int | None) -> Bare:
    """A whole array."""
    shape, edge = job.bench.shape, arrays.object_edge(job.bench.shape)
    objects, inner = job.bench.data.size / edge**3, subchunk or edge
    rows = job.bench.data.size / inner**3
    writes = phase == "write"
    return Bare(
        codec,
        inner,
        encoded=rows if codec and writes else 0,
        decoded=0 if writes else rows if codec else 0,
        copied=2 * float(np.prod(shape)),
        written=objects if writes else 0,
        read=0 if writes else objects,
        nbytes=int(job.stored() / objects),
    )


def _updates(job: Any, phase: str) -> Bare:
    """Updates of a shard: the subchunks that they touch, and the shard, which is replaced by a new file."""
    touched = [_touched(region, job.EDGE) for region in job.regions]
    whole = sum(number == 1 for number in touched)
    copied = 2.0 * job.EDGE**3 * job.count
    return Bare("blosc", job.EDGE, sum(touched), sum(touched) - whole, copied, job.count, job.count, job.stored())


def _crops(job: Any, phase: str, edge: int, reads: Callable[[Region], int]) -> Bare:
    """Crops: the chunks that they touch."""
    touched = sum(_touched(region, edge) for region in job.regions)
    files = sum(reads(region) for region in job.regions)
    stored = job.stored() / (job.bench.data.size / edge**3) * touched / files
    return Bare("zstd 1", edge, decoded=touched, copied=float(job.outs.nbytes), read=files, nbytes=int(stored))


def _touched(region: Region, edge: int) -> int:
    return int(np.prod([(part.stop - 1) // edge - part.start // edge + 1 for part in region]))


def _small(job: Any, phase: str, nbytes: int) -> Bare:
    """A file for each operation."""
    reads = phase == "read"
    return Bare(copied=float(nbytes) * job.count, written=0 if reads else job.count, read=job.count if reads else 0, nbytes=nbytes)


def _tiny(job: Any, phase: str) -> Bare:
    return Bare(copied=4000.0 * job.count, written=job.count, read=2 * job.count, nbytes=2000)


def _frames(job: Any, phase: str) -> Bare:
    return Bare(
        copied=2.0 * job.frames.nbytes,
        written=job.count / job.depth,
        nbytes=int(job.depth * job.frames[0].nbytes),
    )


def _cell(job: Any, phase: str) -> Bare:
    """An update of a subchunk of 16²: it is decoded and encoded."""
    return Bare(copied=128.0 * job.count, written=job.count, read=job.count, nbytes=512)


def _rows() -> Iterator[Row]:
    def of(name: str, bare: Callable[[Any, str], Bare]) -> Row:
        return Row(name, BY_NAME[name].title, BY_NAME[name].job, bare)

    bulk = [("raw", None, None), ("zstd", "zstd 1", None), ("blosc", "blosc", None)]
    bulk += [(f"sharded-{codec.split()[0]}-{edge}", codec, edge) for codec, edge in (("blosc", 32), ("zstd 1", 32), ("zstd 1", 16))]
    for name, codec, subchunk in bulk:
        yield of(name, partial(_bulk, codec=codec, subchunk=subchunk))
    yield of("updates-aligned", _updates)
    yield of("updates-unaligned", _updates)
    yield of("uncontended", _cell)
    yield of("crops", partial(_crops, edge=64, reads=lambda region: _touched(region, 64)))
    yield of("crops-sharded-32", partial(_crops, edge=32, reads=lambda region: 1))
    yield of("subchunks", partial(_crops, edge=32, reads=lambda region: 1))
    yield of("chunk-whole", partial(_small, nbytes=20_000))
    yield of("chunk-part", partial(_small, nbytes=20_000))
    yield of("tiny", _tiny)
    yield of("files", partial(_small, nbytes=1024))
    yield of("append", _frames)
    yield Row(
        "tasks", "chunks of 10 kB by 64 tasks", partial(ChunksByTasks, count=1000, tasks=64), partial(_small, nbytes=10_240), True
    )
    yield Row("task-crops", "crops of 300² by 400 tasks", partial(CropsByTasks, count=400, tasks=400), _task_crops, True)


def _task_crops(job: Any, phase: str) -> Bare:
    return Bare(copied=float(job.count * 2 * 300**2), read=4 * job.count, nbytes=60_000)


ROWS = {row.name: row for row in _rows()}


def bare_seconds(bare: Bare, bench: Bench) -> dict[str, float | None]:
    """CPU seconds of each limit of one run."""
    found: dict[str, float | None] = {"codec": None, "copy": None, "files": None}
    if bare.codec is not None and (bare.encoded or bare.decoded):
        codec = limits.CodecLimit(bench, bare.codec, bare.edge)
        costs = {phase: _cpu(codec, phase) / len(codec.rows) for phase in codec.phases}
        found["codec"] = costs["write"] * bare.encoded + costs["read"] * bare.decoded
    part = max(1, min(int(bare.copied), COPY_AT_ONCE))
    source, target = np.ones(part, np.uint8), np.zeros(part, np.uint8)
    found["copy"] = _least(lambda: np.copyto(target, source)) * bare.copied / part
    bench.directory.mkdir(parents=True, exist_ok=True)
    number = max(1, min(200, 2**28 // max(1, bare.nbytes)))
    files = limits.FileLimit(replace(bench, directory=bench.directory / "files"), number, bare.nbytes)
    costs = {phase: _cpu(files, phase) / number for phase in files.phases}
    shutil.rmtree(files.path.parent)
    found["files"] = costs["write"] * bare.written + costs["read"] * bare.read
    return found


def _cpu(job: Job, phase: str) -> float:
    def once() -> float:
        job.reset(phase)
        return _least(partial(job.run, phase), 1)

    least = min(once() for _ in range(3))
    if wrong := job.problem(phase):
        raise WrongResult(f"a limit: {wrong}")
    return least


def _least(act: Callable[[], object], times: int = 5) -> float:
    found = []
    for _ in range(times):
        begun = time.process_time()
        act()
        found.append(time.process_time() - begun)
    return min(found)


# ── measuring ────────────────────────────────────────────────────────────────────────────────────────────────────────


def profile(row: Row, peers: dict[str, Peer], bench: Bench, enough: float) -> Iterator[Line]:
    """A line for each phase, of so many seconds of the processor."""
    at = replace(bench, directory=bench.directory / row.name)
    jobs = {name: row.make(at, peer) for name, peer in peers.items()}
    ours = jobs[OURS]
    for phase in ours.phases:
        say(f"{row.title}: {phase}")
        for name, job in jobs.items():
            _checked(row, name, job, phase)
        sampler, runs = Sampler(row.apart), 0
        while sampler.profile.cpu < enough:
            ours.reset(phase)
            with sampler.running():
                ours.run(phase)
            runs += 1
        least = {name: _watched(job, row, name, phase) for name, job in jobs.items()}
        count = ours.count
        bare = bare_seconds(row.bare(ours, phase), at)
        yield Line(
            f"{row.title}: {phase}",
            sampler.profile.over(runs * count),
            None if THEIRS not in least else (least[THEIRS][0] / count, least[THEIRS][1] / count),
            least[OURS][0] / count,
            least[OURS][1] / count,
            {name: None if value is None else value / count for name, value in bare.items()},
        )
    shutil.rmtree(at.directory, ignore_errors=True)


def _watched(job: Job, row: Row, name: str, phase: str, rounds: int = 3) -> tuple[float, float]:
    """The least wall and CPU time of a run without the sampler, each checked."""
    found = [_checked(row, name, job, phase) for _ in range(rounds)]
    return min(wall for wall, _ in found), min(cpu for _, cpu in found)


def _checked(row: Row, name: str, job: Job, phase: str) -> tuple[float, float]:
    job.reset(phase)
    cpu = time.process_time()
    wall = job.run(phase)
    cpu = time.process_time() - cpu
    if wrong := job.problem(phase):
        raise WrongResult(f"{row.title}, {phase}, {name}: {wrong}")
    return wall, cpu


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _shown(seconds: float | None, unit: float) -> str:
    if seconds is None:
        return "–"
    value = seconds / unit
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 0.05 else "0"


def _unit(line: Line) -> tuple[str, float]:
    return ("ms", 1e-3) if line.cpu >= 2e-3 else ("µs", 1e-6)


def layers_table(lines: Sequence[Line]) -> str:
    """CPU time by layer."""
    used = [name for name in LAYER_NAMES if any(line.ours.layers.get(name, 0) > 0.002 * line.ours.cpu for line in lines)]
    heads = ["one operation", "unit", "CPU", "of it in the kernel", *used, "waiting"]
    table = [report.line(heads), report.line(["---", "---", *["--:"] * (len(heads) - 2)])]
    for line in lines:
        unit, scale = _unit(line)
        cells = [line.ours.cpu, line.ours.kernel, *(line.ours.layers.get(name, 0.0) for name in used), line.ours.waited]
        table.append(report.line([line.title, unit, *(_shown(cell, scale) for cell in cells)]))
    return "\n".join(table) + "\n"


def limits_table(lines: Sequence[Line]) -> str:
    """The limits, beside Zarrant and TensorStore; the last columns are ratios."""
    heads = ["one operation", "unit", "CPU", "TensorStore", "codec alone", "copy alone", "files alone", "CPU over the limits"]
    heads += ["TensorStore over Zarrant, CPU", "the same, time"]
    table = [report.line(heads), report.line(["---", "---", *["--:"] * (len(heads) - 2)])]
    for line in lines:
        unit, scale = _unit(line)
        least = sum(value or 0.0 for value in line.bare.values())
        their = line.theirs
        ratios = [line.cpu / least if least else None]
        ratios += [None, None] if their is None else [their[1] / max(1e-9, line.cpu), their[0] / max(1e-9, line.wall)]
        cells = [line.cpu, None if their is None else their[1], line.bare["codec"], line.bare["copy"], line.bare["files"]]
        shown = [_shown(cell, scale) for cell in cells] + ["–" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        table.append(report.line([line.title, unit, *shown]))
    return "\n".join(table) + "\n"


def page(lines: Sequence[Line], facts: dict[str, Any]) -> str:
    """Both tables and what was measured with."""
    told = "".join(f"- {name}: {value}\n" for name, value in facts.items())
    return f"### By layer\n\n{layers_table(lines)}\n### Beside the limits\n\n{limits_table(lines)}\n{told}"


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print, and remove what was made."""
    parser = program("benchmarks.profiles", "Where the time goes.")
    parser.add_argument("--size", type=size, default=size("128MiB"), help="of the array (default 128MiB)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of the processor, of each line (default %(default)s)")
    parser.add_argument("--rows", type=names(list(ROWS)), default=list(ROWS), help=f"of {', '.join(ROWS)}")
    parser.add_argument("--threads", type=int, default=2, help="(default %(default)s)")
    parser.add_argument("--docs", type=Path, help="write the tables into where-time-goes.md of this directory")
    given = parser.parse_args(args)
    peers, _ = find_peers([OURS, THEIRS], Settings(given.threads))
    data = arrays.values(arrays.shape_of(given.size))
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="zarrant-profiles-", dir=given.dir) as folder:
        referees = [peer for name, peer in peers.items() if name != OURS] + [peers[OURS]]
        bench = Bench(Path(folder), data, np.empty_like(data), given.threads, referees)
        limits.warm(bench, 2)
        for name in given.rows:
            lines += profile(ROWS[name], peers, bench, given.seconds)
    facts = {"array": f"{' × '.join(map(str, data.shape))} uint16", "threads": given.threads, **surroundings(peers)}
    print(text := page(lines, facts))
    if given.docs is not None:
        report.write_below_marker(given.docs / "where-time-goes.md", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
