"""`python -m benchmarks.remote`: time, requests and bytes of each library on an S3 server of this machine.

In come arguments; out go tables, printed and kept in `benchmarks/results/` (`remote.md`, `remote.json`). The server is gofakes3, in
memory. Each library does each job once through a proxy that counts its requests and bytes, and is checked; then the libraries take
turns: straight at the server, and through the proxy where each request takes 10 ms more. A handle is opened anew before each
run, outside of the time. Ends with 0 whatever the times, with 1 where Zarrant was wrong or failed, with 2 without a server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import zarrant
from benchmarks import arrays
from benchmarks.__main__ import RESULTS
from benchmarks.arguments import names, positive
from benchmarks.counting import Counting
from benchmarks.peers.base import Region, Values
from benchmarks.remote_peers import OURS, PEERS, Ours, Unable, installed, obstore_store, versions

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # how servers are started is known there

SHAPE, SHARD, SUBCHUNK, CHUNK = (64, 512, 512), (64, 256, 256), (32, 32, 32), (32, 64, 64)
READS, BATCHES = 64, 4
FRAMES = 16


@dataclass
class Bench:
    """The data, the places that are read, and the two ways to the server."""

    data: Values
    direct: str
    proxy: Counting
    batches: list[list[Region]] = field(default_factory=list)
    points: tuple[Any, ...] = ()
    made: int = 0

    def __post_init__(self) -> None:
        random = np.random.default_rng(7)
        for _ in range(BATCHES):
            starts = [
                [int(random.integers(0, n // size)) * size for n, size in zip(SHAPE, SUBCHUNK, strict=True)] for _ in range(READS)
            ]
            self.batches.append([tuple(slice(a, a + size) for a, size in zip(at, SUBCHUNK, strict=True)) for at in starts])
        self.points = tuple(random.integers(0, n, READS) for n in SHAPE)

    @property
    def regions(self) -> list[Region]:
        """The first batch."""
        return self.batches[0]

    def place(self, job: Job, peer: str) -> str:
        """The prefix of the array that a peer reads or writes: one for all that is only read, a new one for each that grows."""
        if not job.writes:
            return f"data/{job.layout}"
        name = peer.replace(", ", "-").replace(" ", "-")
        if job.layout == "frames":
            self.made += 1
            name = f"{name}-{self.made}"
            create(self.direct, f"{name}/frames", "frames")
        return f"{name}/{job.layout}"


Work = Callable[[Any, Bench], Any]
EVERYTHING: Region = tuple(slice(0, n) for n in SHAPE)
ONE_SHARD: Region = tuple(slice(0, n) for n in SHARD)


@dataclass(frozen=True)
class Job:
    """What is timed. `count`: objects or calls, by which requests are divided. `result`: what must come out of a read."""

    name: str
    title: str
    layout: str
    count: int
    work: Work
    writes: bool = False
    result: Callable[[Bench], list[Any]] | None = None
    opens: bool = False


def _each(act: Callable[[Any, Region, Bench], Any], few: int | None = None) -> Work:
    return lambda handle, bench: [act(handle, region, bench) for region in bench.regions[:few]]


def _regions(bench: Bench) -> list[Any]:
    return [bench.data[region] for region in bench.regions]


def _all_batches(bench: Bench) -> list[Any]:
    return [bench.data[region] for regions in bench.batches for region in regions]


def _append(handle: Any, bench: Bench) -> None:
    for index in range(FRAMES):
        handle.append(bench.data[index : index + 1])


N_SHARDS = int(np.prod([n // size for n, size in zip(SHAPE, SHARD, strict=True)]))
N_CHUNKS = int(np.prod([n // size for n, size in zip(SHAPE, CHUNK, strict=True)]))
JOBS = (
    Job("open", "open an array", "sharded", 1, lambda handle, bench: None, opens=True),
    Job("write-shard", "write one shard", "sharded", 1, lambda h, b: h.write(ONE_SHARD, b.data[ONE_SHARD]), writes=True),
    Job("write-shards", f"write {N_SHARDS} shards", "sharded", N_SHARDS, lambda h, b: h.write(EVERYTHING, b.data), writes=True),
    Job("read-shard", "read one shard", "sharded", 1, lambda h, b: [h.read(ONE_SHARD)], result=lambda b: [b.data[ONE_SHARD]]),
    Job(
        "read-shards", f"read {N_SHARDS} shards", "sharded", N_SHARDS, lambda h, b: [h.read(EVERYTHING)], result=lambda b: [b.data]
    ),
    Job("write-chunks", f"write {N_CHUNKS} chunks", "plain", N_CHUNKS, lambda h, b: h.write(EVERYTHING, b.data), writes=True),
    Job("read-chunks", f"read {N_CHUNKS} chunks", "plain", N_CHUNKS, lambda h, b: [h.read(EVERYTHING)], result=lambda b: [b.data]),
    Job(
        "subchunks",
        f"{READS} random subchunks, one by one",
        "sharded",
        READS,
        _each(lambda h, r, b: h.read(r)),
        result=_regions,
    ),
    Job(
        "subchunks-at-once",
        f"{BATCHES} × {READS} random subchunks, at once",
        "sharded",
        BATCHES * READS,
        lambda h, b: [part for regions in b.batches for part in h.read_many(regions)],
        result=_all_batches,
    ),
    Job(
        "subsets",
        f"{BATCHES} × {READS} random subchunks, one call each",
        "sharded",
        BATCHES * READS,
        lambda h, b: [part for regions in b.batches for part in h.subsets(regions)],
        result=_all_batches,
    ),
    Job(
        "points",
        f"{READS} random elements, one call",
        "sharded",
        READS,
        lambda h, b: [h.points(b.points)],
        result=lambda b: [b.data[b.points]],
    ),
    Job("update", "write 4 subchunks of shards", "sharded", 4, _each(lambda h, r, b: h.write(r, b.data[r]), 4), writes=True),
    Job("append", f"append {FRAMES} frames", "frames", FRAMES, _append, writes=True),
)
BY_NAME = {job.name: job for job in JOBS}


@dataclass
class Cell:
    """What one peer did of one job: seconds of each round by delay, and what was counted."""

    seconds: dict[float, list[float]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    note: str = ""

    def median(self, delay: float) -> float | None:
        times = self.seconds.get(delay)
        return median(times) if times and not self.note else None

    @property
    def requests(self) -> int:
        return sum(count for name, count in self.counts.items() if name.isupper())

    @property
    def nbytes(self) -> int:
        return self.counts.get("up", 0) + self.counts.get("down", 0)


def values() -> Values:
    """A slope with four bits of noise: zstd 1 keeps about half of it."""
    noise = np.random.default_rng(0).integers(0, 16, SHAPE).astype(np.uint16)
    return (arrays.values(SHAPE) >> 8) + noise


def document(layout: str) -> dict[str, Any]:
    codec = arrays.CODECS["zstd 1"]
    if layout == "sharded":
        return arrays.document(SHAPE, SHARD, codec, SUBCHUNK)
    if layout == "frames":
        return arrays.document((0, *SHAPE[1:]), (1, *SHAPE[1:]), codec)
    return arrays.document(SHAPE, CHUNK, codec)


def create(endpoint: str, prefix: str, layout: str, data: Values | None = None) -> None:
    """An array, with data or without."""
    obstore_store(endpoint, prefix).put("zarr.json", json.dumps(document(layout)).encode())
    if data is not None:
        Ours(endpoint, prefix).write(EVERYTHING, data)


def run_once(job: Job, peer: str, bench: Bench, endpoint: str, counts: dict[str, int] | None = None) -> tuple[float, Any, str]:
    """The seconds of one run, what it gave, and where it worked."""
    prefix = bench.place(job, peer)
    handle = None if job.opens else PEERS[peer][0](endpoint, prefix)
    if counts is not None:
        bench.proxy.take()
    began = time.perf_counter()
    if job.opens:
        handle = PEERS[peer][0](endpoint, prefix)
    result = job.work(handle, bench)
    seconds = time.perf_counter() - began
    if counts is not None:
        counts.update(bench.proxy.take())
    getattr(handle, "close", lambda: None)()
    return seconds, result, prefix


def check(job: Job, bench: Bench, result: Any, prefix: str) -> str:
    """What is wrong with a run, or nothing."""
    if job.result is not None:
        expected = job.result(bench)
        same = len(result) == len(expected) and all(np.array_equal(got, want) for got, want in zip(result, expected, strict=True))
        return "" if same else "wrong: what was read is not what was stored"
    if job.writes:
        stored = Ours(bench.direct, prefix).array
        extent = FRAMES if job.layout == "frames" else SHAPE[0]
        region = ONE_SHARD if job.name == "write-shard" else EVERYTHING
        wanted = bench.data[region][:extent]
        return "" if np.array_equal(stored[region], wanted) else "wrong: what is stored is not what was written"
    return ""


def measure(
    jobs: Sequence[Job], peers: Sequence[str], bench: Bench, delays: Sequence[float], rounds: int
) -> dict[str, dict[str, Cell]]:
    """A cell for each peer of each job."""
    through = bench.proxy.endpoint
    found: dict[str, dict[str, Cell]] = {}
    for job in jobs:
        print(job.title, file=sys.stderr, flush=True)
        cells = found[job.name] = {peer: Cell() for peer in peers}
        bench.proxy.delay(0)
        for peer, cell in cells.items():
            try:
                _, result, prefix = run_once(job, peer, bench, through, cell.counts)
                cell.note = check(job, bench, result, prefix)
            except Unable as reason:
                cell.note = f"skipped: {reason}"
            except Exception as error:
                cell.note = failure(error)
        for delay in delays:
            bench.proxy.delay(delay)
            for turn in range(rounds):
                for peer in [*peers[turn % len(peers) :], *peers[: turn % len(peers)]]:
                    timed(job, peer, bench, through if delay else bench.direct, cells[peer], delay)
    return found


def timed(job: Job, peer: str, bench: Bench, endpoint: str, cell: Cell, delay: float) -> None:
    if cell.note:
        return
    try:
        cell.seconds.setdefault(delay, []).append(run_once(job, peer, bench, endpoint)[0])
    except Exception as error:
        cell.note = failure(error)


def failure(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {lines[0][:160] if lines else ''}".rstrip(": ")


def tables(found: dict[str, dict[str, Cell]], peers: Sequence[str], delays: Sequence[float], facts: dict[str, str]) -> str:
    """The tables: milliseconds for each delay, requests by object or call, bytes; then the notes."""
    notes: list[str] = []
    texts = []
    for delay in delays:
        texts.append(f"Milliseconds, {delay * 1e3:.0f} ms more for each request:\n")
        texts.append(table(found, peers, notes, lambda cell, job, delay=delay: cell.median(delay), lambda n: f"{n * 1e3:,.1f}"))
    texts.append("Requests of all calls:\n")
    texts.append(table(found, peers, notes, lambda cell, job: cell.requests, lambda n: f"{n:,}"))
    texts.append("MB up and down:\n")
    texts.append(table(found, peers, notes, lambda cell, job: cell.nbytes, lambda n: f"{n / 1e6:,.2f}"))
    lines = [*(f"[{number}] {note}" for number, note in enumerate(notes, 1)), ""]
    return "\n".join([*texts, *lines, *(f"- {name}: {value}" for name, value in facts.items())]) + "\n"


def table(
    found: dict[str, dict[str, Cell]],
    peers: Sequence[str],
    notes: list[str],
    value: Callable[[Cell, Job], float | None],
    show: Callable[[float], str],
) -> str:
    """One table; the last column is the best of the others over the better of Zarrant's two."""
    rows = [["", *peers, "best other / zarrant"], ["---", *["---:"] * (len(peers) + 1)]]
    for name, cells in found.items():
        job = BY_NAME[name]
        numbers = {peer: None if cell.note else value(cell, job) for peer, cell in cells.items()}
        best = min((number for number in numbers.values() if number is not None), default=None)
        row = [job.title]
        for peer, number in numbers.items():
            if number is None:
                row.append(noted(f"{peer}: {cells[peer].note}", notes))
            else:
                row.append(f"**{show(number)}**" if number == best else show(number))
        rows.append([*row, ratio(numbers)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def ratio(numbers: dict[str, float | None]) -> str:
    ours = [number for peer, number in numbers.items() if peer in OURS and number is not None]
    others = [number for peer, number in numbers.items() if peer not in OURS and number is not None]
    return f"{min(others) / min(ours):.2f}×" if ours and others and min(ours) else "–"


def noted(note: str, notes: list[str]) -> str:
    if note not in notes:
        notes.append(note)
    return f"[{notes.index(note) + 1}]"


def facts(peers: Sequence[str], rounds: int) -> dict[str, str]:
    """What a reader has to know."""
    return {
        "versions": versions(peers),
        "server": "gofakes3, in memory, on the same machine",
        "rounds": str(rounds),
        "python": f"{platform.python_version()}, {platform.system()} {platform.machine()}",
        "load before": f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} CPUs",
        "when": time.strftime("%Y-%m-%d"),
    }


def parser() -> argparse.ArgumentParser:
    given = argparse.ArgumentParser(prog="python -m benchmarks.remote", description=__doc__.partition("\n")[0])
    given.add_argument("--jobs", type=names(list(BY_NAME)), default=list(BY_NAME), help=f"of {', '.join(BY_NAME)}")
    given.add_argument("--peers", type=lambda text: text.split(";"), default=list(PEERS), help=f"of {'; '.join(PEERS)}")
    given.add_argument(
        "--delays", type=lambda text: [float(each) / 1e3 for each in text.split(",")], default=[0.0, 0.01], help="ms"
    )
    given.add_argument("--rounds", type=positive, default=5)
    given.add_argument("--results", type=Path, default=RESULTS, help="directory of remote.md and remote.json")
    return given


def main(args: Sequence[str] | None = None) -> int:
    """Start server and proxy, measure, print."""
    options = parser().parse_args(args)
    import pytest

    from servers import start_gofakes3

    peers, missing = installed(options.peers)
    told = facts(peers, options.rounds) | ({"not installed": ", ".join(missing)} if missing else {})
    with ExitStack() as stack:
        try:
            server = stack.enter_context(start_gofakes3())
        except pytest.skip.Exception as absent:
            print(absent, file=sys.stderr)
            return 2
        proxy = stack.enter_context(Counting(int(server.endpoint.rpartition(":")[2])))
        bench = Bench(values(), server.endpoint, proxy)
        chosen = [BY_NAME[name] for name in options.jobs]
        _create_all(bench, chosen, peers)
        create(proxy.endpoint, "first", "plain", bench.data)  # the first write of a process tries the server out
        found: dict[str, dict[str, Cell]] = {}
        text = ""
        for job in chosen:
            found |= measure([job], peers, bench, options.delays, options.rounds)
            text = tables(found, peers, options.delays, told)
            keep(options.results, text, found, told)  # of what was done so far: it may be interrupted
    print(text)
    wrong = [cell.note for cells in found.values() for peer, cell in cells.items() if peer in OURS and "skipped" not in cell.note]
    return int(any(wrong))


def _create_all(bench: Bench, jobs: Sequence[Job], peers: Sequence[str]) -> None:
    places = {(job.layout, bench.place(job, peer)) for job in jobs for peer in peers if job.layout != "frames"}
    for layout, prefix in sorted(places):
        create(bench.direct, prefix, layout, bench.data)


def keep(results: Path, text: str, found: dict[str, dict[str, Cell]], told: dict[str, str]) -> None:
    results.mkdir(parents=True, exist_ok=True)
    (results / "remote.md").write_text(text, encoding="utf-8")
    rows = {
        name: {peer: {"seconds": cell.seconds, "counts": cell.counts, "note": cell.note} for peer, cell in cells.items()}
        for name, cells in found.items()
    }
    (results / "remote.json").write_text(json.dumps({"facts": told, "jobs": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    print(f"zarrant {zarrant.__version__}", file=sys.stderr)
    sys.exit(main())
