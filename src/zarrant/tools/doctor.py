"""What serves here: versions, which kernels are compiled, the options in force, and what would guard writes at a path.

In comes a path, or none; out goes a plain dict, for a path with the type of its mount and the locks that are chosen for it.
Nothing is written, so a guard is what is configured: whether those locks exclude anyone is probed by the first write.
"""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from zarrant import __version__, kernels
from zarrant.config import config
from zarrant.run.pool import available_cpus, available_memory
from zarrant.tools import describe

PEERS = ("numcodecs", "ml_dtypes", "nibabel", "tifffile", "imageio", "zarr", "tensorstore", "zarrs")


def examine(path: str | None = None) -> dict[str, Any]:
    """The facts that a report of a problem should have.

    >>> sorted(examine())
    ['config', 'cpus', 'kernels', 'memory', 'packages', 'path', 'python', 'version']
    """
    sources = config.sources
    return {
        "version": __version__,
        "python": platform.python_version(),
        "packages": {"numpy": np.__version__, **{name: found for name in PEERS if (found := _version(name))}},
        "cpus": available_cpus(),
        "memory": available_memory(),
        "kernels": {"active": kernels.active(), "missing": kernels.missing()},
        "config": {name: {"value": value, "source": sources[name][1]} for name, value in asdict(config.config).items()},
        "path": None
        if path is None
        else {"path": path, "guard": describe.guard(path), **describe.file_system(path), "direct_io": describe.direct_io(path)},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
