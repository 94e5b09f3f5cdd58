"""Growth curves: how the speed changes with subchunks in a shard, chunks in an array, the size of the array, and processes.

In: peers and a directory. Out: points (x, MB/s) for each curve and library: the same bytes are written and read, only the layout
changes. The curve over processes counts updates a second of shards that they share (see `contend`). What was read or written
is compared after each run; a library that is wrong or fails has no point.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks import arrays
from benchmarks.contend import Contended
from benchmarks.jobs import Bench, seconds, spoil
from benchmarks.measure import Say
from benchmarks.peers import OURS
from benchmarks.peers.base import Peer, Values

Points = list[tuple[float, float]]


@dataclass
class Curve:
    """One plot: a line for each library."""

    name: str
    title: str
    x_label: str
    y_label: str = "MB/s"
    lines: dict[str, Points] = field(default_factory=dict)


def layouts(side: int) -> dict[str, tuple[str, str, list[tuple[int, int, int, int | None]]]]:
    """By curve: title, label of x, and (x, edge of the array, edge of an object, edge of a subchunk)."""
    edges = [edge for edge in (64, 32, 16, 8) if edge < side]
    subchunks = [((side // edge) ** 3, side, side, edge) for edge in edges]
    chunks = [((side // edge) ** 3, side, edge, None) for edge in (side // 2, *edges[1:-1])]
    sizes = [(2 * extent**3 // 2**10, extent, min(extent, 64), None) for extent in (16, 32, 64, 128, 256) if extent <= side]
    return {
        "subchunks": ("Subchunks in one shard", "subchunks", [(x, a, b, c) for x, a, b, c in subchunks]),
        "chunks": ("Chunks in the array", "chunks", [(x, a, b, c) for x, a, b, c in chunks]),
        "size": ("Size of the array, chunks of at most 64³", "KiB", [(x, a, b, c) for x, a, b, c in sizes]),
    }


def measure_growth(peers: Mapping[str, Peer], directory: Path, side: int, repeats: int, say: Say) -> list[Curve]:
    """All curves, each with a line for writing and one for reading of each library."""
    found = []
    for name, (title, label, cases) in layouts(side).items():
        say(f"growth: {title}")
        curve = Curve(name, title, label)
        for x, extent, chunk, subchunk in cases:
            data = arrays.values((extent,) * 3)
            for peer_name, peer in peers.items():
                if peer.subchunk_limit is not None and x > peer.subchunk_limit:
                    continue
                for phase, rate in _rates(peer, directory / "growth", data, chunk, subchunk, repeats, say).items():
                    curve.lines.setdefault(f"{peer_name} {phase}", []).append((float(x), rate))
        found.append(curve)
    return [*found, _over_processes(peers, directory, repeats, say)]


PROCESSES = (1, 2, 4, 8)


def _over_processes(peers: Mapping[str, Peer], directory: Path, repeats: int, say: Say) -> Curve:
    """Updates a second of all processes together; none of them may be lost."""
    curve = Curve("processes", "Processes that update shared shards", "processes", "updates/s")
    say(f"growth: {curve.title}")
    nothing = np.empty(0, np.uint16)
    referees = sorted((peer for peer in peers.values() if peer.subchunk_limit is None), key=lambda peer: peer.name == OURS)
    bench = Bench(directory / "processes", nothing, nothing, 1, referees)
    for name, peer in peers.items():
        for processes in PROCESSES:
            try:
                job, times = Contended(bench, peer, processes), []
                for _ in range(repeats):
                    job.reset("update")
                    times.append(job.run("update"))
                    if wrong := job.problem("update"):
                        raise ValueError(wrong)
            except Exception as error:
                say(f"{name}, {processes} processes: {error}")
            else:
                curve.lines.setdefault(name, []).append((float(processes), job.count / max(1e-9, median(times))))
    shutil.rmtree(bench.directory, ignore_errors=True)
    return curve


def _rates(peer: Peer, path: Path, data: Values, chunk: int, subchunk: int | None, repeats: int, say: Say) -> dict[str, float]:
    """MB/s of writing and of reading."""
    inner = None if subchunk is None else (subchunk,) * 3
    out, whole = np.zeros_like(data), tuple(slice(0, extent) for extent in data.shape)
    times: dict[str, list[float]] = {"write": [], "read": []}
    try:
        arrays.create(path, arrays.document(data.shape, (chunk,) * 3, arrays.CODECS["zstd 1"], inner))
        handle = peer.open(path)
        for _ in range(repeats + 1):  # the first is to warm up
            shutil.rmtree(path / "c", ignore_errors=True)
            times["write"].append(seconds(lambda: handle.write(whole, data)))
            spoil(out, data)
            times["read"].append(seconds(lambda: handle.read(whole, out)))
            if not np.array_equal(out, data):
                raise ValueError("what was read is not what was written")
    except Exception as error:
        say(f"{peer.name}: {error}")
        return {}
    finally:
        shutil.rmtree(path, ignore_errors=True)
    return {phase: data.nbytes / 1e6 / max(1e-9, median(found[1:])) for phase, found in times.items()}
