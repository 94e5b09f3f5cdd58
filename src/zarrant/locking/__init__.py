"""Exclusion: queues inside a process (`local`), lock files between processes (`file_locks`), locks of a service (`remote`).

`RedisSynchronizer` and `DaskSynchronizer` are what users give as `synchronizer=`; each is imported when it is asked for.

>>> zarrant.locking.RedisSynchronizer("redis://cache.example:6379/0", prefix="ocean.zarr")
RedisSynchronizer('redis://cache.example:6379/0', prefix='ocean.zarr', lease=10)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zarrant.locking.remote import DaskSynchronizer, RedisSynchronizer

__all__ = ["DaskSynchronizer", "RedisSynchronizer"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found = getattr(import_module(f"{__name__}.remote"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
