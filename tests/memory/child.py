"""A process that does one thing with an array and prints how far its memory rose above what it had before, in bytes.

In: a case as JSON. The values, the result and the threads are there before; so is what a first small operation leaves.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import zarrant
from zarrant.codecs import Zstd
from zarrant.stores.wrappers import Latency

AT_ONCE = 64
Box = tuple[slice, ...]


def resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.M)
    assert found is not None
    return int(found[1]) * 1024


def peak(act: Callable[[], None]) -> int:
    """Bytes by which the resident memory was higher than before, at the most."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what is there now
    before = resident("VmRSS")
    act()
    return resident("VmHWM") - before


def boxes_of(shape: Sequence[int], box: Sequence[int]) -> list[Box]:
    counts = [extent // side for extent, side in zip(shape, box, strict=True)]
    return [tuple(slice(i * side, (i + 1) * side) for i, side in zip(at, box, strict=True)) for at in np.ndindex(*counts)]


class Job:
    """An array on files, and the ways to write and to read it: in one call, by threads or by tasks, object by object."""

    def __init__(self, case: dict[str, Any], where: Path) -> None:
        self.config: Any = {name: case[name] for name in ("concurrency", "memory_limit") if name in case}
        self.store: Any = zarrant.FilesystemStore(where)
        if case["delay"]:
            self.store = Latency(self.store, seconds=case["delay"])
        layout = {name: case[name] for name in ("chunks", "shards") if name in case}
        layout["compressors"] = Zstd(1) if case["compressed"] else None
        self.array = zarrant.create_array(self.store, shape=case["shape"], dtype="uint16", **layout, config=self.config)
        self.data = np.arange(self.array.size, dtype="uint32").astype("uint16").reshape(case["shape"])
        self.out = np.zeros_like(self.data)
        self.boxes = boxes_of(case["shape"], case["box"])

    def write_whole(self) -> None:
        self.array[...] = self.data

    def read_whole(self) -> None:
        self.array.retrieve_array_subset(..., out=self.out)

    def write_threads(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda box: self.array.store_array_subset(box, self.data[box]), self.boxes))

    def read_threads(self) -> None:
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(lambda box: self.array.retrieve_array_subset(box, out=self.out[box]), self.boxes))

    def write_tasks(self) -> None:
        async def all_boxes() -> None:
            array = await zarrant.open_array_async(self.store, mode="r+", config=self.config)
            await asyncio.gather(*(array.store_array_subset(box, self.data[box]) for box in self.boxes))

        asyncio.run(all_boxes())

    def read_tasks(self) -> None:
        async def all_boxes() -> None:
            array = await zarrant.open_array_async(self.store, mode="r", config=self.config)
            await asyncio.gather(*(array.retrieve_array_subset(box, out=self.out[box]) for box in self.boxes))

        asyncio.run(all_boxes())


def main() -> None:
    case, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    small = Job({**case, "shape": case["box"]}, folder / "small")
    job = Job(case, folder / "array")
    for act in (small.write_whole, small.read_whole, small.write_threads, small.write_tasks, small.read_tasks):
        act()
    if case["act"].startswith("read"):
        os.posix_fadvise  # noqa: B018 - Linux only, as all of this
        job_writer = zarrant.open_array(folder / "array", mode="r+", config={"concurrency": 1})
        for box in job.boxes:
            job_writer.store_array_subset(box, job.data[box])
    found = peak(getattr(job, case["act"]))
    stored = zarrant.open_array(folder / "array", mode="r")[...] if case["act"].startswith("write") else job.out
    assert np.array_equal(stored, job.data), "the values are wrong"
    sys.stdout.write(str(found))


if __name__ == "__main__":
    main()
