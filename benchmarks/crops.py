"""`python -m benchmarks.crops`: random crops of compressed chunks, with and without the option `cache`.

A sampler of machine learning reads small regions at random places. Without a cache each of them decodes every chunk that it
touches. In come a number of crops and a directory; out goes a table: files and a store 5 ms away (blocking and in an event loop, 16
crops at once), chunks of 1 MiB and shards of such chunks. Each time is that of the second round: the cache is full by then.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import zarrant
from benchmarks.arguments import program
from zarrant.codecs import Zstd
from zarrant.stores.wrappers import Latency
from zarrant.testkit import CoroutineStore

CHUNK, CROP, CACHE, AT_ONCE = (1024, 512), 64, "64 MiB", 16
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": CHUNK},
    "shards": {"chunks": CHUNK, "shards": (2048, 2048)},
    "small subchunks": {"chunks": (64, 64), "shards": (1024, 1024)},
}


def values(side: int) -> np.ndarray[Any, Any]:
    """A square that compresses about as microscope images do: a smooth ground with noise of 6 bits."""
    x, y = np.ogrid[:side, :side]
    noise = np.random.default_rng(1).integers(0, 64, (side, side), "u2")
    return (noise + (x // 16 + y // 16)).astype("u2")


def blocking(array: Any, places: list[tuple[int, int]], data: np.ndarray[Any, Any]) -> float:
    """Seconds for all crops, one after the other."""
    begun = time.perf_counter()
    found = [array[x : x + CROP, y : y + CROP] for x, y in places]
    seconds = time.perf_counter() - begun
    check(found, places, data)
    return seconds


def in_a_loop(array: Any, places: list[tuple[int, int]], data: np.ndarray[Any, Any]) -> float:
    """Seconds for all crops, `AT_ONCE` side by side."""

    async def crops() -> float:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(x: int, y: int) -> Any:
            async with gate:
                return await array.retrieve_array_subset(np.s_[x : x + CROP, y : y + CROP])

        begun = time.perf_counter()
        found = await asyncio.gather(*[one(x, y) for x, y in places])
        seconds = time.perf_counter() - begun
        check(found, places, data)
        return seconds

    return asyncio.run(crops())


def check(found: list[Any], places: list[tuple[int, int]], data: np.ndarray[Any, Any]) -> None:
    """AssertionError where a crop is wrong."""
    for got, (x, y) in zip(found, places, strict=True):
        assert np.array_equal(got, data[x : x + CROP, y : y + CROP]), (x, y)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = program("benchmarks.crops", __doc__.partition("\n")[0], Path(tempfile.gettempdir()))
    parser.add_argument("--crops", type=int, default=1000)
    parser.add_argument("--side", type=int, default=4096, help="of the array; its bytes are twice the square")
    options = parser.parse_args(arguments)
    data, dice = values(options.side), np.random.default_rng(2)
    places = [(int(x), int(y)) for x, y in dice.integers(0, options.side - CROP, (options.crops, 2))]
    print(f"{options.crops} crops of {CROP}x{CROP} of {data.shape} uint16, zstd 3, cache {CACHE}")
    print(f"{'store':22} {'layout':16} {'without':>10} {'with':>10} {'ratio':>7}")
    with tempfile.TemporaryDirectory(dir=options.dir) as directory:
        for name, layout in LAYOUTS.items():
            files, far = Path(directory) / name, Latency(CoroutineStore(), seconds=0.005)
            stores: list[tuple[str, Any, Callable[..., Any], Callable[..., float]]] = [
                ("files", files, zarrant.open_array, blocking),
                ("5 ms away, blocking", far, zarrant.open_array, blocking),
                ("5 ms away, 16 at once", far, lambda *at, **how: asyncio.run(zarrant.open_array_async(*at, **how)), in_a_loop),
            ]
            for store in (files, far.store):
                zarrant.create_array(store, data=data, compressors=Zstd(3), **layout)
            for label, store, opened, timed in stores:
                plain, kept = (opened(store, mode="r", config={"cache": cache}) for cache in (0, CACHE))
                times = [[timed(array, places, data) for array in (plain, kept)] for _ in range(2)][1]
                print(f"{label:22} {name:16} {times[0]:8.2f} s {times[1]:8.2f} s {times[0] / times[1]:6.1f}x")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
