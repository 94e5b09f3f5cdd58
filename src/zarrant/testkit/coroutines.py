"""A store in memory whose calls are coroutines too: for tests of asynchronous programs without a service.

In: nothing, or a dict. Out: `CoroutineStore`, a `MemoryStore` that other processes could reach for all its drivers know: an event
loop awaits it, and nothing but compare-and-swap keeps writers apart, as on an object store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from zarrant.storage import Blob, Buffer, ByteRange, Version
from zarrant.stores.memory import MemoryStore


class CoroutineStore(MemoryStore):
    """A `MemoryStore` with coroutines beside its blocking calls; each lets other tasks run first.

    >>> store = CoroutineStore()
    >>> version = asyncio.run(store.put_async("a", [b"bytes"]))
    >>> asyncio.run(store.get_async("a")).size
    5
    """

    one_process = False

    async def get_async(self, key: str) -> Blob | None:
        await asyncio.sleep(0)
        return self.get(key)

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        await asyncio.sleep(0)
        return self.get_ranges(key, ranges, if_version)

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        await asyncio.sleep(0)
        return self.put(key, parts)

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        await asyncio.sleep(0)
        return self.put_if(key, parts, if_version)

    async def erase_async(self, key: str) -> None:
        await asyncio.sleep(0)
        self.erase(key)

    async def erase_if_async(self, key: str, if_version: Version) -> None:
        await asyncio.sleep(0)
        self.erase_if(key, if_version)

    async def erase_prefix_async(self, prefix: str) -> None:
        await asyncio.sleep(0)
        self.erase_prefix(prefix)

    async def list_prefix_async(self, prefix: str) -> list[str]:
        await asyncio.sleep(0)
        return list(self.list_prefix(prefix))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        await asyncio.sleep(0)
        return self.list_dir(prefix)
