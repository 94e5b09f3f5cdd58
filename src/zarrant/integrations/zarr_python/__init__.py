"""zarr-python on Zarrant: programs that use zarr-python, xarray or Dask lose no values where several write to one array.

`enable()` is the one line. The environment variable `ZARR_CODEC_PIPELINE__PATH=zarrant.integrations.zarr_python.CodecPipeline`
needs none. See `docs/zarr-python.md` for what is safe then, and what is not.

>>> import zarr, zarrant.integrations.zarr_python as on_zarrant
>>> on_zarrant.enable()
>>> on_zarrant.status()["enabled"]
True
>>> on_zarrant.disable()
"""

from __future__ import annotations

import os
from typing import Any

from zarrant.errors import CapabilityError

try:
    import zarr
    from zarr.abc.codec import CodecPipeline as _Protocol
    from zarr.core.config import config
except ImportError as cause:
    raise CapabilityError("zarr-python 3 is not installed", expected="zarr >= 3.1", hint="pip install 'zarrant[zarr]'") from cause

if not hasattr(_Protocol, "from_array_metadata_and_store"):  # a pipeline would not know where the chunks are
    message = "this zarr-python tells a codec pipeline nothing of the store"
    raise CapabilityError(message, expected="zarr >= 3.1", got=f"zarr {zarr.__version__}", hint="pip install --upgrade zarr")

from zarrant.integrations.zarr_python.pipeline import CodecPipeline, ways
from zarrant.integrations.zarr_python.store import Store, append

__all__ = ["CodecPipeline", "Store", "append", "disable", "enable", "status"]

PATH = f"{__name__}.CodecPipeline"
TESTED = "3.1.0 to 3.4.2"
"""Versions of zarr-python with which all tests were run (`scripts/zarr_matrix.sh`)."""

VARIABLE, STRICT = "ZARR_CODEC_PIPELINE__PATH", "ZARR_CODEC_PIPELINE__STRICT"
_before: list[tuple[str, Any]] = []


def enable(*, strict: bool = False) -> None:
    """From now on arrays that zarr-python opens are read and written through Zarrant, in this process and in those it starts.

    Arrays that are open already stay as they are. `strict`: what cannot be made safe is refused (CapabilityError) instead of
    warned of: stores that neither lock nor compare and swap, values in the memory of a GPU.
    """
    current = config.get("codec_pipeline.path")
    if current != PATH:
        _before.append((current, os.environ.get(VARIABLE)))
    os.environ[VARIABLE] = PATH
    config.set({"codec_pipeline.path": PATH, "codec_pipeline.strict": strict})
    if strict:
        os.environ[STRICT] = "True"


def disable() -> None:
    """Arrays that are opened from now on are zarr-python's alone again."""
    path, variable = _before.pop() if _before else (config.defaults[0]["codec_pipeline"]["path"], None)
    config.set({"codec_pipeline.path": path, "codec_pipeline.strict": False})
    os.environ.pop(STRICT, None)
    if variable is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = variable


def status() -> dict[str, Any]:
    """Whether it is on, and how the calls of this process went: "native", "merged", "queued" and so on (see `pipeline`)."""
    path = config.get("codec_pipeline.path")
    return {
        "enabled": path == PATH,
        "pipeline": path,
        "inherited": os.environ.get(VARIABLE) == PATH,
        "strict": bool(config.get("codec_pipeline.strict", False)),
        "zarr": zarr.__version__,
        "calls": dict(ways),
    }
