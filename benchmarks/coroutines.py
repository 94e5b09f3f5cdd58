"""Jobs of an event loop with many tasks: small chunks written and read, and crops read. For Zarrant and TensorStore only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

import zarrant
from benchmarks import arrays
from benchmarks.jobs import Bench, read_back, seconds
from benchmarks.peers import OURS
from benchmarks.peers.base import Peer, Region, Values
from benchmarks.tasks import CHUNK, CROP, EDGE, in_tasks


class ChunksByTasks:
    """Chunks of 10 kB, a task's next one when its last one is done."""

    phases: tuple[str, ...] = ("write", "read")
    operations = 0

    def __init__(self, bench: Bench, peer: Peer, count: int, tasks: int) -> None:
        self.bench, self.peer, self.count, self.tasks = bench, peer, count, tasks
        self.path = bench.directory / peer.name
        self.data: Values = np.random.default_rng(0).integers(1, 200, (count, *CHUNK), np.uint16)
        self.found: list[Any] = []
        arrays.create(self.path, arrays.document(self.data.shape, (1, *CHUNK), arrays.CODECS["raw"]))
        self.loop = asyncio.new_event_loop()
        self.calls = self._calls(opened(self.loop, peer, self.path))

    def _calls(self, array: Any) -> dict[str, Callable[[int], Awaitable[Any]]]:
        data = self.data
        if self.peer.name == OURS:
            return {"write": lambda i: array.store_chunk((i, 0, 0), data[i : i + 1]), "read": array.getitem}
        return {"write": lambda i: array[i].write(data[i]), "read": lambda i: array[i].read()}

    def reset(self, phase: str) -> None:
        self.found = []
        if phase == "write":
            self.data[:, 3, 5] ^= np.uint16(256)

    def run(self, phase: str) -> float:
        return seconds(lambda: self.found.extend(in_tasks(self.loop, self.count, self.tasks, self.calls[phase])))

    def problem(self, phase: str) -> str | None:
        if phase == "write":
            return read_back(self.bench.referee(self.peer), self.path, self.data, np.empty_like(self.data))
        wrong = sum(not np.array_equal(each, row) for each, row in zip(self.found, self.data, strict=True))
        return f"{wrong} of {self.count} chunks are wrong" if wrong else None

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class CropsByTasks:
    """Crops at random places of an image in chunks of 256²."""

    phases: tuple[str, ...] = ("read",)
    operations = 0
    EXTENT = 2048

    def __init__(self, bench: Bench, peer: Peer, count: int, tasks: int) -> None:
        self.peer, self.count, self.tasks = peer, count, tasks
        self.path = bench.directory / peer.name
        dice = np.random.default_rng(1)
        self.data: Values = dice.integers(0, 200, (self.EXTENT, self.EXTENT), np.uint16)
        starts = dice.integers(0, self.EXTENT - CROP, (count, 2)).tolist()
        self.boxes: list[Region] = [(slice(y, y + CROP), slice(x, x + CROP)) for y, x in starts]
        self.found: list[Any] = []
        arrays.create(self.path, arrays.document(self.data.shape, (EDGE, EDGE), arrays.CODECS["zstd 1"]))
        zarrant.open_array(self.path)[...] = self.data
        self.loop = asyncio.new_event_loop()
        self.array = opened(self.loop, peer, self.path)

    def reset(self, phase: str) -> None:
        self.found = []

    def run(self, phase: str) -> float:
        if self.peer.name == OURS:
            return self._all(lambda i: self.array.getitem(self.boxes[i]))
        return self._all(lambda i: self.array[self.boxes[i]].read())

    def _all(self, call: Callable[[int], Awaitable[Any]]) -> float:
        return seconds(lambda: self.found.extend(in_tasks(self.loop, self.count, self.tasks, call)))

    def problem(self, phase: str) -> str | None:
        wrong = sum(not np.array_equal(each, self.data[box]) for each, box in zip(self.found, self.boxes, strict=True))
        return f"{wrong} of {self.count} crops are wrong" if wrong else None

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


def opened(loop: asyncio.AbstractEventLoop, peer: Peer, path: Any) -> Any:
    """The array as coroutines are made from it: Zarrant's asynchronous one, or that of the library."""
    handle: Any = peer.open(path)
    return loop.run_until_complete(zarrant.open_array_async(path)) if peer.name == OURS else handle.array
