"""The protocol of a peer: open an array that exists, then write, read and append to it.

Arrays are made by the harness, as one zarr.json that every peer opens, so that all of them store the same format. Every call
returns when its work is done. Regions are tuples of slices without steps, values C-contiguous NumPy arrays of the array's type.
A handle that can has two more methods: `set_attribute(name, value)` stores one attribute beside those that are there, and
`extend(values)` makes an array of one dimension longer. So it is with `select(kind, key)`, `assign(kind, key, values)` and
`read_many(regions)` (`selections`), and with `open_kept(path, nbytes)` of a peer: an array of which decoded chunks are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.uint16]
Region = tuple[slice, ...]


@dataclass(frozen=True)
class Settings:
    """What is equal for all peers: threads, and whether files are synced where a peer can be told to."""

    threads: int
    sync: bool = False


class Handle(Protocol):
    """An open array."""

    def write(self, region: Region, values: Values) -> None:
        """Store values."""

    def read(self, region: Region, out: Values) -> None:
        """Read into memory that the caller reuses."""

    def append(self, frames: Values, depth: int) -> None:
        """Store frames one at a time from the start, as they would arrive from a camera; chunks are `depth` frames deep."""


class Peer(Protocol):
    """A library under test."""

    name: str
    version: str
    module: str
    """What a program imports."""
    subchunk_limit: int | None
    """The most subchunks that one run may write, where the library needs long for each; None: no limit."""

    def open(self, path: Path) -> Handle:
        """Open the array for reading and writing."""


def append_frames(handle: Handle, frames: Any) -> None:
    """The plain loop: one write for each frame."""
    for index in range(len(frames)):
        handle.write((slice(index, index + 1), slice(None), slice(None)), frames[index : index + 1])
