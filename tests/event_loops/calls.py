"""Every public coroutine of arrays and groups, one after the other, on any store.

In: a store. Out: for each call its name and how long it took, by `on_call`; what the store cannot do is skipped and returned. The
values that are read are compared with what was written.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np

import zarrant
from zarrant.errors import CapabilityError

Call = tuple[str, Callable[[], Awaitable[Any]]]
OnCall = Callable[[str], None]


def public_coroutines() -> set[str]:
    """The names of all coroutines that users can call, and of methods that give something to await in."""
    owners: list[Any] = [zarrant.AsyncArray, zarrant.AsyncGroup]
    names = {
        f"{owner.__name__}.{name}"
        for owner in owners
        for name, member in inspect.getmembers(owner)
        if not name.startswith("_") and inspect.iscoroutinefunction(member)
    }
    return names | {name for name in zarrant.__all__ if name.endswith("_async")}


class Program:
    """The calls; `side` is that of a chunk in elements of two bytes, `where` are keywords of every function that opens."""

    def __init__(self, store: Any, side: int = 8, codec: Any = None, **where: Any) -> None:
        self.store, self.side, self.where = store, side, where
        self.layout: dict[str, Any] = {"dtype": "uint16", "compressors": codec or zarrant.codecs.Zstd(level=1)}
        self.data = np.random.default_rng(0).integers(1, 1000, (2 * side, side)).astype("uint16")
        self.skipped: set[str] = set()
        self.group: Any = None
        self.plain: Any = None
        self.sharded: Any = None

    async def run(self, on_call: OnCall = lambda name: None) -> set[str]:
        """Make all calls; the names of those that the store refused."""
        for calls in (self._creation, self._group_calls, self._writes, self._shapes, self._upkeep, self._removal):
            for name, call in calls():
                on_call(name)
                try:
                    await call()
                except CapabilityError:
                    self.skipped.add(name)
        return self.skipped

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _creation(self) -> Iterator[Call]:
        store, where, data = self.store, self.where, self.data
        chunks = (self.side, self.side)

        async def group() -> None:
            self.group = await zarrant.create_group_async(store, attributes={"a": 1}, **where)

        async def plain() -> None:
            self.plain = await self.group.create_array("plain", data=data, chunks=chunks, **self.layout)

        async def sharded() -> None:
            inner = (self.side // 4, self.side // 4)
            self.sharded = await self.group.create_array("sharded", data=data, chunks=inner, shards=chunks, **self.layout)

        async def top() -> None:
            few = data[:3, :8].tolist()
            await zarrant.create_array_async(store, name="top", data=few, dtype="uint16", chunks=(3, 8), **where)

        yield "create_group_async", group
        yield "AsyncGroup.create_array", plain
        yield "AsyncGroup.create_array", sharded
        yield "create_array_async", top
        yield "AsyncGroup.create_group", lambda: self.group.create_group("below/deeper")
        yield "open_async", lambda: zarrant.open_async(store, name="top", **where)
        yield "open_array_async", lambda: zarrant.open_array_async(store, name="top", mode="r", **where)
        yield "open_group_async", lambda: zarrant.open_group_async(store, mode="r+", **where)

    def _group_calls(self) -> Iterator[Call]:
        group, side = self.group, self.side

        async def found() -> None:
            assert await group.contains("plain")

        yield "AsyncGroup.require_group", lambda: group.require_group("below")
        yield "AsyncGroup.require_array", lambda: group.require_array("r", shape=(side,), dtype="uint16", chunks=(side,))
        yield "AsyncGroup.getitem", lambda: group.getitem("plain")
        yield "AsyncGroup.get", lambda: group.get("absent")
        yield "AsyncGroup.contains", found
        for name in ("members", "keys", "values", "items", "nmembers", "info_complete", "arrays", "groups", "tree"):
            yield f"AsyncGroup.{name}", getattr(group, name)
        yield "AsyncGroup.update_attributes", lambda: group.update_attributes({"b": list(range(50))})
        yield "AsyncGroup.consolidate_metadata", group.consolidate_metadata
        yield "AsyncGroup.refresh", group.refresh
        yield "AsyncGroup.append", lambda: group.append({"r": np.ones(3, "uint16")})
        yield "AsyncGroup.lock", self._lock_group

    async def _lock_group(self) -> None:
        async with self.group.lock({"plain": np.s_[0:2, 0:2]}) as locked:
            await locked["plain"].setitem((0, 0), int(self.data[0, 0]))

    # ── elements ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _writes(self) -> Iterator[Call]:
        for array in (self.plain, self.sharded):
            yield from self._writes_of(array)
            yield from self._reads_of(array)

    def _writes_of(self, a: Any) -> Iterator[Call]:
        data, side = self.data, self.side
        first, second = data[:side], data[side:]
        encoded: list[Any] = []

        async def retrieve() -> None:
            encoded.append(await a.retrieve_encoded_chunk((0, 0)))

        yield "AsyncArray.setitem", lambda: a.setitem(..., data)
        yield "AsyncArray.store_chunk", lambda: a.store_chunk((0, 0), first)
        yield "AsyncArray.store_chunks", lambda: a.store_chunks(np.s_[0:2, 0:1], data)
        yield "AsyncArray.retrieve_encoded_chunk", retrieve
        yield "AsyncArray.store_encoded_chunk", lambda: a.store_encoded_chunk((0, 0), encoded[0], check=True)
        yield "AsyncArray.store_encoded_chunks", lambda: a.store_encoded_chunks([(0, 0)], [encoded[0]])
        yield "AsyncArray.erase_chunk", lambda: a.erase_chunk((1, 0))
        yield "AsyncArray.erase_chunks", lambda: a.erase_chunks(np.s_[1:2, 0:1])
        yield "AsyncArray.store_array_subset", lambda: a.store_array_subset(np.s_[side:, :], second)
        yield "AsyncArray.store_chunk_subset", lambda: a.store_chunk_subset((0, 0), np.s_[0:3, 1:4], first[0:3, 1:4])
        yield "AsyncArray.store_array_subsets", lambda: a.store_array_subsets([(np.s_[1:side, :2], first[1:, :2])])
        yield "AsyncArray.update", lambda: a.update(np.s_[0:side, 0:side], lambda part: part)
        yield "AsyncArray.update_attributes", lambda: a.update_attributes({"k": [1, 2]})
        yield "AsyncArray.lock", lambda: self._lock(a)
        yield "AsyncArray.partial_encoder", lambda: self._encode(a)

    async def _lock(self, a: Any) -> None:
        async with a.lock(np.s_[0:2, 0:2]) as locked:
            await locked.setitem(np.s_[0:2, 0:2], self.data[0:2, 0:2])

    async def _encode(self, a: Any) -> None:
        async with a.partial_encoder((0, 0)) as encoder:
            await encoder.erase()
            await encoder.store(np.s_[:, :], self.data[: self.side])
            await encoder.flush()

    def _reads_of(self, a: Any) -> Iterator[Call]:
        data, side = self.data, self.side
        quarter = side // 4

        async def whole() -> None:
            assert np.array_equal(await a.getitem(...), data)

        async def points() -> None:
            rows = np.arange(0, 2 * side, 3)
            assert np.array_equal(await a.getitem((rows, rows % side), index="points"), data[rows, rows % side])

        async def subchunk() -> None:
            found = await a.retrieve_subchunk((0, 0))
            assert np.array_equal(found, data[:quarter, :quarter])

        yield "AsyncArray.getitem", whole
        yield "AsyncArray.getitem", points
        yield "AsyncArray.retrieve_chunk", lambda: a.retrieve_chunk((0, 0))
        yield "AsyncArray.retrieve_chunk_if_exists", lambda: a.retrieve_chunk_if_exists((1, 0))
        yield "AsyncArray.retrieve_chunks", lambda: a.retrieve_chunks(np.s_[0:2, 0:1])
        yield "AsyncArray.retrieve_chunk_subset", lambda: a.retrieve_chunk_subset((0, 0), np.s_[1:3, 0:2])
        yield "AsyncArray.retrieve_array_subset", lambda: a.retrieve_array_subset(np.s_[1:, 2:])
        yield "AsyncArray.retrieve_array_subsets", lambda: a.retrieve_array_subsets([np.s_[1:3, :2], np.s_[side:, 1:]])
        yield "AsyncArray.retrieve_encoded_chunks", lambda: a.retrieve_encoded_chunks(np.s_[0:2, 0:1])
        if a.shards is not None:
            yield "AsyncArray.retrieve_subchunk", subchunk
            yield "AsyncArray.retrieve_subchunks", lambda: a.retrieve_subchunks(np.s_[0:1, 0:1])
        yield "AsyncArray.partial_decoder", lambda: a.partial_decoder((0, 0)).retrieve(np.s_[0:2, 0:2])
        yield "AsyncArray.explain", lambda: a.explain(np.s_[1:, 2:], write=True, workers=2)
        yield "AsyncArray.refresh", a.refresh

    # ── shape, upkeep, removal ───────────────────────────────────────────────────────────────────────────────────────

    def _shapes(self) -> Iterator[Call]:
        side, data = self.side, self.data
        for a in (self.plain, self.sharded):
            yield "AsyncArray.append", lambda a=a: a.append(data[: side // 2 + 1])
            yield "AsyncArray.resize", lambda a=a: a.resize((side + 1, side), shrink=True)

    def _upkeep(self) -> Iterator[Call]:
        for a in (self.plain, self.sharded):
            yield "AsyncArray.nchunks_initialized", a.nchunks_initialized
            yield "AsyncArray.info_complete", a.info_complete
            yield "AsyncArray.store_metadata", a.store_metadata
        yield "AsyncArray.chunk_stats", lambda: self.sharded.chunk_stats((0, 0))
        yield "AsyncArray.compact_chunk", lambda: self.sharded.compact_chunk((0, 0))
        yield "AsyncArray.compact", self.sharded.compact
        yield "AsyncArray.sync", self.plain.sync
        yield "AsyncGroup.sync", self.group.sync

    def _removal(self) -> Iterator[Call]:
        yield "AsyncArray.erase_metadata", self.sharded.erase_metadata
        yield "AsyncGroup.delitem", lambda: self.group.delitem("plain")
        yield "AsyncGroup.delete", self.group.delete
