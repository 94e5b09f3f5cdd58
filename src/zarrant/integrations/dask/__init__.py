"""Dask (extra `dask`): arrays of Dask from stored ones, storing without a lock, and a plugin for the workers of a cluster.

Each name is imported when it is first asked for: `from_zarrant` and `store` need `dask`, `WorkerPlugin` needs `distributed`.
"""

from typing import TYPE_CHECKING

from zarrant.lazy import lazy_names

if TYPE_CHECKING:
    from zarrant.integrations.dask.arrays import from_zarrant, store
    from zarrant.integrations.dask.workers import WorkerPlugin

__all__ = ["WorkerPlugin", "from_zarrant", "store"]

_MODULES = {"WorkerPlugin": "workers", "from_zarrant": "arrays", "store": "arrays"}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)
