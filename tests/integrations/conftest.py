"""The engine of xarray is there by name, also where the installed package is older than the one under test."""

from __future__ import annotations

import importlib.metadata
import os
from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("xarray"):
    from xarray.backends.common import BACKEND_ENTRYPOINTS
    from xarray.backends.plugins import list_engines

    from zarrant.integrations.xarray import ZarrantBackend

    BACKEND_ENTRYPOINTS["zarrant"] = (None, ZarrantBackend)
    list_engines.cache_clear()

PIPELINE = "zarrant.integrations.zarr_python.CodecPipeline"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What an installation says of the codec pipeline, for processes that run from the sources."""
    found = importlib.metadata.entry_points(group="zarr.codec_pipeline")
    if any(each.value.startswith("zarrant.") for each in found):
        return
    about = tmp_path / "installed" / "zarrant_of_tests-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zarrant_of_tests\nVersion: 0\n")
    value = PIPELINE.replace(".CodecPipeline", ":CodecPipeline")
    (about / "entry_points.txt").write_text(f"[zarr.codec_pipeline]\nzarrant = {value}\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(about.parent), os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def variable(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable alone: no line of a program names Zarrant."""
    monkeypatch.setenv("ZARR_CODEC_PIPELINE__PATH", PIPELINE)
