"""zarrista: the Rust library zarrs under Python's own face of it, without zarr-python.

It has no call that appends, and none that changes one attribute: its manual derives an array with all attributes and stores the
metadata of that, which is what is done here. It reads into memory of its own, from which values are copied into the caller's. It
takes C-contiguous values in the byte order of the machine only, so others are copied first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarrista
from zarrista.store import FilesystemStore

from benchmarks.peers.base import Region, Settings, Values, append_frames


class Zarrista:
    """zarrista on files, told how many of its operations run at once: its threads are as many as there are CPUs."""

    name = "zarrista"
    version = zarrista.__version__
    module = "zarrista"
    subchunk_limit = None

    def __init__(self, settings: Settings) -> None:
        self.options = {"concurrent_target": settings.threads, "chunk_concurrent_minimum": settings.threads}

    def open(self, path: Path) -> ZarristaHandle:
        return ZarristaHandle(zarrista.Array.open(FilesystemStore(str(path))), self.options)


class ZarristaHandle:
    """An array of zarrista."""

    def __init__(self, array: Any, options: dict[str, int]) -> None:
        self.array, self.options = array, options

    def write(self, region: Region, values: Values) -> None:
        self.array.store_array_subset(region, np.ascontiguousarray(values, values.dtype.newbyteorder("=")), **self.options)

    def read(self, region: Region, out: Values) -> None:
        np.copyto(out, np.asarray(self.array.retrieve_array_subset(region, **self.options)))

    def append(self, frames: Values, depth: int) -> None:
        append_frames(self, frames)

    def set_attribute(self, name: str, value: int) -> None:
        self.array = self.array.with_attrs({**self.array.attrs, name: value})
        self.array.store_metadata()
