"""zarr-python with its own codec pipeline; `ZarrHandle` serves zarrs-python as well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from zarr.core.buffer.cpu import NDBuffer

from benchmarks.peers.base import Region, Settings, Values, append_frames


class ZarrPython:
    """zarr-python as it is installed, with an executor of as many threads as the others have."""

    name = "zarr-python"
    version = zarr.__version__
    module = "zarr"
    subchunk_limit: int | None = 1024

    def __init__(self, settings: Settings) -> None:
        zarr.config.set({"threading.max_workers": settings.threads})  # for good: the one executor is made at the first use
        self.options: dict[str, Any] = {"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}

    def open(self, path: Path) -> ZarrHandle:
        # An array keeps the pipeline that was configured when it was opened.
        with zarr.config.set(self.options):
            return SelectingHandle(zarr.open_array(str(path), mode="r+", zarr_format=3))


class ZarrHandle:
    """An array of zarr-python, whatever its pipeline."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def write(self, region: Region, values: Values) -> None:
        self.array[region] = values

    def read(self, region: Region, out: Values) -> None:
        self.array.get_basic_selection(region, out=NDBuffer.from_numpy_array(out))

    def append(self, frames: Values, depth: int) -> None:
        append_frames(self, frames)

    def set_attribute(self, name: str, value: int) -> None:
        self.array.update_attributes({name: value})

    def extend(self, values: Values) -> None:
        self.array.append(values)


class SelectingHandle(ZarrHandle):
    """An array whose pipeline does every selection; that of zarrs has no steps."""

    def select(self, kind: str, key: Any) -> Any:
        return {"basic": self.array, "outer": self.array.oindex, "points": self.array.vindex}[kind][key]

    def assign(self, kind: str, key: Any, values: Any) -> None:
        {"basic": self.array, "outer": self.array.oindex, "points": self.array.vindex}[kind][key] = values
