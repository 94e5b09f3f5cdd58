"""Exclusion: queues inside a process (`local`), lock files between processes (`file_locks`), locks of a service (`remote`).

`RedisSynchronizer` and `DaskSynchronizer` are what users give as `synchronizer=`; each is imported when it is asked for.

>>> zarrant.locking.RedisSynchronizer("redis://cache.example:6379/0", prefix="ocean.zarr")
RedisSynchronizer('redis://cache.example:6379/0', prefix='ocean.zarr', lease=10)
"""

from typing import TYPE_CHECKING

from zarrant.lazy import lazy_names

if TYPE_CHECKING:
    from zarrant.locking.remote import DaskSynchronizer, RedisSynchronizer

__all__ = ["DaskSynchronizer", "RedisSynchronizer"]

__getattr__, __dir__ = lazy_names(__name__, dict.fromkeys(__all__, "remote"))
