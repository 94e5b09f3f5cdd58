"""zarrs-python: zarr-python with the codec pipeline of the Rust library zarrs; strict, so that nothing falls back silently."""

from __future__ import annotations

from importlib.metadata import version

import zarrs  # noqa: F401 - registers its pipeline

from benchmarks.peers.base import Settings
from benchmarks.peers.zarr_python import ZarrPython


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
