"""acquire-zarr: streams frames from a camera to files, and nothing else; it writes metadata of its own over that of the harness.

Its chunks are shards of one chunk each; the rest of the format is the same.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import acquire_zarr

from benchmarks.peers.base import Region, Settings, Values


class Acquire:
    """acquire-zarr with as many threads as the others."""

    name = "acquire-zarr"
    version = version("acquire-zarr")
    module = "acquire_zarr"
    subchunk_limit = None
    streams_only = True

    def __init__(self, settings: Settings) -> None:
        self.threads = settings.threads

    def open(self, path: Path) -> AcquireHandle:
        return AcquireHandle(path, self.threads)


class AcquireHandle:
    """A place where a stream will be."""

    def __init__(self, path: Path, threads: int) -> None:
        self.path, self.threads = path, threads
        self.shape = json.loads((path / "zarr.json").read_text("utf-8"))["shape"]

    def append(self, frames: Values, depth: int) -> None:
        kinds = acquire_zarr.DimensionType
        axes = (("t", kinds.TIME, 0, depth), ("y", kinds.SPACE, *self.shape[1:2] * 2), ("x", kinds.SPACE, *self.shape[2:] * 2))
        dimensions = [
            acquire_zarr.Dimension(name=name, kind=kind, array_size_px=size, chunk_size_px=chunk, shard_size_chunks=1)
            for name, kind, size, chunk in axes
        ]
        array = acquire_zarr.ArraySettings(dimensions=dimensions, data_type=acquire_zarr.DataType.UINT16)
        settings = acquire_zarr.StreamSettings(arrays=[array], store_path=str(self.path), overwrite=True, max_threads=self.threads)
        stream = acquire_zarr.ZarrStream(settings)
        for frame in frames:
            stream.append(frame)
        stream.close()

    def write(self, region: Region, values: Values) -> None:
        raise NotImplementedError("it streams frames only")

    def read(self, region: Region, out: Values) -> None:
        raise NotImplementedError("it streams frames only")
