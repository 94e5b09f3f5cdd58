"""`python -m benchmarks.tasks`: an event loop with many tasks that write and read small chunks, and read crops.

In come numbers of operations and tasks; out goes a table beside TensorStore. What is written is read by the other library after
each run, and what is read is compared. How long the event loop waits meanwhile is measured by `benchmarks.heartbeat`.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import zarrant
from benchmarks.arguments import positive, program
from benchmarks.pairs import Found, Pair, compare, table
from benchmarks.small_files import open_tensorstore

CHUNK = (64, 80)
"""Elements of two bytes: 10 kB."""
EDGE, CROP, EXTENT = 256, 300, 4096

Call = Callable[[int], Awaitable[Any]]


def in_tasks(loop: asyncio.AbstractEventLoop, count: int, tasks: int, call: Call) -> list[Any]:
    """The results of calls with the numbers below `count`, which so many tasks do."""
    results: list[Any] = [None] * count

    async def work(numbers: Iterator[int]) -> None:
        for number in numbers:
            results[number] = await call(number)

    async def main() -> None:
        numbers = iter(range(count))
        await asyncio.gather(*(work(numbers) for _ in range(tasks)))

    loop.run_until_complete(main())
    return results


def small_chunks(folder: Path, loop: asyncio.AbstractEventLoop, count: int, tasks: int, rounds: int) -> list[Found]:
    """Writes and reads of single chunks."""
    data = np.random.default_rng(0).integers(0, 200, (count, *CHUNK), "uint16")
    paths = [folder / "zarrant", folder / "tensorstore"]
    for path in paths:
        zarrant.create_array(path, shape=data.shape, chunks=(1, *CHUNK), dtype="uint16", compressors=None)
    array, theirs = loop.run_until_complete(zarrant.open_array_async(paths[0])), open_tensorstore(paths[1])

    def change() -> None:
        data[:, 3, 5] += 1

    def written(_: Any) -> bool:
        return bool(np.array_equal(open_tensorstore(paths[0])[...].read().result(), data))

    def written_theirs(_: Any) -> bool:
        return bool(np.array_equal(zarrant.open_array(paths[1])[...], data))

    def equal(found: Any) -> bool:
        return all(np.array_equal(each, row) for each, row in zip(found, data, strict=True))

    name = f"{count} chunks of 10 kB, {tasks} tasks"

    def run(call: Call) -> Callable[[], Any]:
        return lambda: in_tasks(loop, count, tasks, call)

    return compare(
        [
            Pair(
                f"{name}: write",
                run(lambda i: array.store_chunk((i, 0, 0), data[i : i + 1])),
                run(lambda i: theirs[i].write(data[i])),
                written,
                written_theirs,
                change,
            ),
            Pair(f"{name}: read", run(array.getitem), run(lambda i: theirs[i].read()), equal, equal),
        ],
        rounds,
        "TensorStore",
    )


def crops(folder: Path, loop: asyncio.AbstractEventLoop, count: int, tasks: int, rounds: int, extent: int = EXTENT) -> list[Found]:
    """Reads of regions at random places, most of which touch four chunks."""
    data = np.random.default_rng(0).integers(0, 200, (extent, extent)).astype("uint16")
    zarrant.create_array(folder / "crops", data=data, chunks=(EDGE, EDGE), compressors=zarrant.codecs.Zstd(level=1))
    array = loop.run_until_complete(zarrant.open_array_async(folder / "crops", mode="r"))
    theirs = open_tensorstore(folder / "crops")
    starts = np.random.default_rng(1).integers(0, extent - CROP, (count, 2)).tolist()
    boxes = [np.s_[y : y + CROP, x : x + CROP] for y, x in starts]

    def equal(found: Any) -> bool:
        return all(np.array_equal(each, data[box]) for each, box in zip(found, boxes, strict=True))

    pair = Pair(
        f"{count} crops, {tasks} tasks: read",
        lambda: in_tasks(loop, count, tasks, lambda i: array.getitem(boxes[i])),
        lambda: in_tasks(loop, count, tasks, lambda i: theirs[boxes[i]].read()),
        equal,
        equal,
    )
    return compare([pair], rounds, "TensorStore")


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print, and remove what was made."""
    parser = program("benchmarks.tasks", "Many tasks of an event loop.", rounds=5)
    parser.add_argument("--count", type=positive, default=1000, help="of writes and reads (default %(default)s)")
    parser.add_argument("--tasks", type=positive, nargs="*", default=[1, 64], help="that do them (default %(default)s)")
    parser.add_argument("--crops", type=positive, default=2000, help="of 300 × 300 elements (default %(default)s)")
    parser.add_argument("--crop-tasks", type=positive, default=400, help="that read them (default %(default)s)")
    parser.add_argument("--extent", type=positive, default=EXTENT, help="of the array of crops (default %(default)s)")
    given = parser.parse_args(args)
    loop, found = asyncio.new_event_loop(), []
    try:
        for tasks in given.tasks:
            with tempfile.TemporaryDirectory(dir=given.dir) as folder:
                found += small_chunks(Path(folder), loop, given.count, tasks, given.rounds)
        with tempfile.TemporaryDirectory(dir=given.dir) as folder:
            found += crops(Path(folder), loop, given.crops, given.crop_tasks, given.rounds, given.extent)
    finally:
        loop.close()
    print(table(found, "TensorStore"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
