"""`python -m benchmarks.heartbeat`: how long an event loop waits for its turn while tasks read crops of an array on files.

In come arguments; out goes a table: crops a second, and how much later than asked for a task came back that sleeps 5 ms again and
again (median, 95th percentile, maximum), for Zarrant and, where it is installed, for TensorStore, which reads the same files in
threads of C++. The libraries take turns. The last line is the ratio of the medians of their 95th percentiles. Ends with 0
whatever the times, with 1 where the libraries do not read the same.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import zarrant
from benchmarks.arguments import positive, program

BEAT_S = 0.005
CROP, EDGE = 300, 256
"""Elements of a crop and of a chunk along each side: most crops touch four chunks."""

Read = Callable[[int, int], Awaitable[Any]]


class Beats(NamedTuple):
    """What was measured in one turn; times in milliseconds."""

    rate: float
    half: float
    p95: float
    longest: float


async def measure(read: Read, tasks: int, seconds: float, extent: int) -> Beats:
    """Let tasks read crops at random places for a while, beside a heartbeat."""
    stop = time.perf_counter() + seconds
    late: list[float] = []
    crops = 0

    async def beat() -> None:
        while (now := time.perf_counter()) < stop:
            await asyncio.sleep(BEAT_S)
            late.append((time.perf_counter() - now - BEAT_S) * 1e3)

    async def reader(seed: int) -> None:
        nonlocal crops
        places = np.random.default_rng(seed)
        while time.perf_counter() < stop:
            y, x = places.integers(0, extent - CROP, 2).tolist()
            await read(y, x)
            crops += 1

    await asyncio.gather(beat(), *(reader(seed) for seed in range(tasks)))
    half, p95 = np.percentile(late, [50, 95]).tolist()
    return Beats(crops / seconds, half, p95, max(late))


async def open_zarrant(path: Path) -> Read:
    array = await zarrant.open_array_async(path, mode="r")
    return lambda y, x: array.getitem(np.s_[y : y + CROP, x : x + CROP])


async def open_tensorstore(path: Path) -> Read:
    import tensorstore

    store = {"driver": "file", "path": str(path)}
    array = await tensorstore.open({"driver": "zarr3", "kvstore": store}, read=True)
    return lambda y, x: array[y : y + CROP, x : x + CROP].read()


async def run(path: Path, tasks: int, seconds: float, rounds: int, extent: int) -> int:
    """Measure in turns, and print what was found."""
    readers = {"zarrant": await open_zarrant(path)}
    if importlib.util.find_spec("tensorstore") is not None:
        readers["tensorstore"] = await open_tensorstore(path)
    crops = [np.asarray(await read(7, 11)) for read in readers.values()]
    if not all(np.array_equal(crop, crops[0]) for crop in crops):
        print("the libraries do not read the same", file=sys.stderr)
        return 1
    found: dict[str, list[Beats]] = {name: [] for name in readers}
    print(f"{'':12} {'crops/s':>8} {'p50 ms':>8} {'p95 ms':>8} {'max ms':>8}")
    for _ in range(rounds):
        for name, read in readers.items():
            beats = await measure(read, tasks, seconds, extent)
            found[name].append(beats)
            print(f"{name:12} {beats.rate:8.0f} {beats.half:8.1f} {beats.p95:8.1f} {beats.longest:8.1f}")
    if len(found) == 2:
        ours, theirs = (median(beats.p95 for beats in each) for each in found.values())
        print(f"the 95th percentile of Zarrant's delay is {ours / theirs:.2f}× TensorStore's")
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Make the array, measure, and remove it."""
    parser = program("benchmarks.heartbeat", "Delay of an event loop during reads.", rounds=5)
    parser.add_argument("--tasks", type=positive, default=64, help="that read at the same time (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn (default %(default)s)")
    parser.add_argument("--extent", type=positive, default=4096, help="of the array along each side (default %(default)s)")
    given = parser.parse_args(args)
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        data = np.random.default_rng(0).integers(0, 200, (given.extent, given.extent)).astype("uint16")
        zarrant.create_array(Path(folder) / "a", data=data, chunks=(EDGE, EDGE), compressors=zarrant.codecs.Zstd(level=1))
        return asyncio.run(run(Path(folder) / "a", given.tasks, given.seconds, given.rounds, given.extent))


if __name__ == "__main__":
    sys.exit(main())
