"""The engine of xarray is there by name, also where the installed package is older than the one under test."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("xarray"):
    from xarray.backends.common import BACKEND_ENTRYPOINTS
    from xarray.backends.plugins import list_engines

    from zarrant.integrations.xarray import ZarrantBackend

    BACKEND_ENTRYPOINTS["zarrant"] = (None, ZarrantBackend)
    list_engines.cache_clear()
