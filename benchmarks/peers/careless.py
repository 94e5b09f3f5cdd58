"""A library that breaks every rule, to show that the tests notice: `--peers zarrant,benchmarks.peers.careless:Careless`.

It reads the object once, when it is opened, and every write stores that with one region changed, in place, in two halves with a
pause between them. So each write undoes all others, and whoever looks meanwhile sees two halves that do not belong together.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

import zarrant
from benchmarks.peers.base import Region, Settings, Values, append_frames

PAUSE = 0.05
"""Seconds, in which a kill or a read is next to certain to come."""


class Careless:
    """Arrays of one object, encoded by Zarrant in memory."""

    name = "careless"
    version = zarrant.__version__
    module = "zarrant"
    subchunk_limit = 1

    def __init__(self, settings: Settings) -> None:
        pass

    def open(self, path: Path) -> CarelessHandle:
        return CarelessHandle(path)


class CarelessHandle:
    """What the object and the document were when they were opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = json.loads((path / "zarr.json").read_text("utf-8"))
        self.array = zarrant.open_array(path, mode="r")
        self.values: Any = self.array[...]

    def write(self, region: Region, values: Values) -> None:
        changed = self.values.copy()
        changed[region] = values
        store = zarrant.MemoryStore()
        store.put("zarr.json", [json.dumps(self.document).encode()])
        alone = zarrant.open_array(store, mode="r+")
        alone.store_array_subset(tuple(slice(0, extent) for extent in changed.shape), changed)
        key = "/".join(["c", *("0" for _ in changed.shape)])
        write_in_place(self.path / key, bytes(alone.retrieve_encoded_chunk((0,) * changed.ndim) or b""))

    def read(self, region: Region, out: Values) -> None:
        np.copyto(out, self.array[region])

    def append(self, frames: Values, depth: int) -> None:
        append_frames(self, frames)

    def set_attribute(self, name: str, value: int) -> None:
        changed = {**self.document, "attributes": {**self.document["attributes"], name: value}}
        (self.path / "zarr.json").write_text(json.dumps(changed), encoding="utf-8")


def write_in_place(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with open(path, "r+b", buffering=0) as file:
        file.truncate(len(data))
        file.write(data[: len(data) // 2])
        time.sleep(PAUSE)
        file.write(data[len(data) // 2 :])
