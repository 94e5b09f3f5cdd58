"""zarrs-python: zarr-python with the codec pipeline of the Rust library zarrs; strict, so that nothing falls back silently.

It reads into C-contiguous arrays only, so into others values are copied.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np
import zarrs  # noqa: F401 - registers its pipeline

from benchmarks.peers.base import Region, Settings, Values
from benchmarks.peers.zarr_python import ZarrHandle, ZarrPython


class ZarrsPython(ZarrPython):
    """zarr-python with `zarrs.ZarrsCodecPipeline`."""

    name = "zarrs-python"
    version = version("zarrs")
    module = "zarrs"
    subchunk_limit = None

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.options = {
            "codec_pipeline.path": "zarrs.ZarrsCodecPipeline",
            "codec_pipeline.chunk_concurrent_maximum": settings.threads,
            "codec_pipeline.strict": True,
        }

    def open(self, path: Path) -> ZarrHandle:
        return ZarrsHandle(super().open(path).array)


class ZarrsHandle(ZarrHandle):
    """An array whose pipeline is that of zarrs."""

    def read(self, region: Region, out: Values) -> None:
        into = out if out.flags.c_contiguous else np.empty(out.shape, out.dtype)
        super().read(region, into)
        if into is not out:
            np.copyto(out, into)
