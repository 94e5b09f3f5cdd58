"""Zarrant, with its default guards: partial writes are locked and atomic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import zarrant
from benchmarks.peers.base import Region, Settings, Values


class Zarrant:
    """Zarrant with `concurrency` threads."""

    name = "zarrant"
    version = zarrant.__version__
    module = "zarrant"
    subchunk_limit = None

    def __init__(self, settings: Settings) -> None:
        durability = "fsync" if settings.sync else "rename"
        self.config: dict[str, Any] = {"concurrency": settings.threads, "durability": durability}

    def open(self, path: Path) -> ZarrantHandle:
        return ZarrantHandle(zarrant.open_array(path, mode="r+", config=self.config))

    def open_kept(self, path: Path, nbytes: int) -> ZarrantHandle:
        return ZarrantHandle(zarrant.open_array(path, mode="r", config=self.config | {"cache": nbytes}))


class ZarrantWithoutRepack(Zarrant):
    """Zarrant told to leave dead bytes in shards until `compact`, so that an update moves no part of them."""

    name = "zarrant without repack"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.config |= {"dead_limit": 1.0}


class ZarrantHandle:
    """An array of Zarrant."""

    def __init__(self, array: zarrant.Array[Any]) -> None:
        self.array = array

    def write(self, region: Region, values: Values) -> None:
        self.array.store_array_subset(region, values)

    def read(self, region: Region, out: Values) -> None:
        self.array.retrieve_array_subset(region, out=out)

    def select(self, kind: str, key: Any) -> Any:
        return {"basic": self.array, "outer": self.array.oindex, "points": self.array.vindex}[kind][key]

    def assign(self, kind: str, key: Any, values: Any) -> None:
        {"basic": self.array, "outer": self.array.oindex, "points": self.array.vindex}[kind][key] = values

    def read_many(self, regions: Sequence[Region]) -> Sequence[Any]:
        return self.array.retrieve_array_subsets(regions)

    def append(self, frames: Values, depth: int) -> None:
        """Through `buffered()`, as the manual says."""
        with self.array.buffered() as writer:
            for index in range(len(frames)):
                writer[index] = frames[index]

    def update_object(self, regions: Sequence[Region], blocks: Sequence[Values]) -> None:
        """Updates of the first stored object, which is read once and written once."""
        with self.array.partial_encoder((0,) * self.array.ndim) as encoder:
            for region, block in zip(regions, blocks, strict=True):
                encoder.store(region, block)

    def set_attribute(self, name: str, value: int) -> None:
        self.array.attrs.update({name: value})

    def extend(self, values: Values) -> None:
        self.array.append(values)
