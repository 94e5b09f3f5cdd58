"""zarr-python with its synchronous pipeline, which it has from 3.4 on and does not take by default."""

from __future__ import annotations

import zarr
from zarr.core.codec_pipeline import FusedCodecPipeline

from benchmarks.peers.base import Settings
from benchmarks.peers.zarr_python import ZarrPython


class ZarrPythonFused(ZarrPython):
    """zarr-python with `FusedCodecPipeline`, which has threads of its own."""

    name = "zarr-python-fused"
    version = zarr.__version__
    subchunk_limit = 2**15  # 20 to a millisecond, where the default pipeline writes 4

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.options = {
            "codec_pipeline.path": f"{FusedCodecPipeline.__module__}.{FusedCodecPipeline.__qualname__}",
            "codec_pipeline.max_workers": settings.threads,
        }
