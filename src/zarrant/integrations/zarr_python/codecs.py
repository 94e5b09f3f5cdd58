"""zarr-python's own codecs, as a change of one stored object under the guards of Zarrant.

In: what zarr-python would write to one chunk, and its pipeline. Out: an operation that gets the old object, lets that pipeline
merge and encode, and gives the new one. What keeps other writers out is `ops.guard.update_object`, as for every other update:
locks on files, compare-and-swap on object stores. Nothing has to be known of the codecs or of the data type.

`read_shards` reads by these codecs what others may replace meanwhile: zarr-python asks for the index of a shard, and then for
subchunks, of whatever object is there by then. Here both are of one version.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.common import concurrent_map
from zarr.core.config import config

from zarrant.codecs.byte_sources import Stored
from zarrant.errors import VersionChangedError
from zarrant.nodes.base import READ, NodeContext
from zarrant.ops.guard import Guard, Node, update_object
from zarrant.ops.read import MOVED_TRIES
from zarrant.requests import Op, gather
from zarrant.storage import Part
from zarrant.stores.zarr_store import byte_range_of


def store_merged(
    pipeline: Any, items: Sequence[Any], value: Any, drop_axes: tuple[int, ...], node: Node | None, erases_if: bool
) -> Op[None]:
    """Store the parts of chunks that zarr-python's pipeline is asked to write; each object is one atomic step."""

    def one(item: Any) -> Op[Any]:
        def change(source: Stored) -> Op[list[Part] | None]:
            data = None if _is_whole(item) else (yield from source.read_all())
            kept = source.version is not None and not erases_if
            return _encoded(pipeline, item, value, drop_axes, data, kept)

        return update_object(item[0].path, change, Guard.LOCK, node=node)

    shape, itemsize = items[0][1].shape, getattr(value, "dtype", None)
    cost = 3 * getattr(itemsize, "itemsize", 16)
    for length in shape:
        cost *= length
    yield from gather((one(item) for item in items), cost)


def _is_whole(item: Any) -> bool:
    """Whether every element of a chunk is written, those beyond the end of the array included: others may have appended there."""
    _, spec, selection, _, complete = item
    if not complete or len(selection) != len(spec.shape):
        return False
    return all(
        type(each) is slice and each.step in (None, 1) and each.start == 0 and each.stop >= length
        for each, length in zip(selection, spec.shape, strict=True)
    )


def _encoded(pipeline: Any, item: Any, value: Any, drop_axes: tuple[int, ...], data: Any, kept: bool) -> list[Part] | None:
    """The new object, or None to erase it; `kept`: it may not be erased, so what is all fill is stored as such."""
    _, spec, selection, out, _ = item
    whole = _is_whole(item)
    held = ObjectInMemory(data)
    run_here(pipeline.write([(held, spec, selection, out, whole)], value, drop_axes))
    if held.data is None and kept:  # safety: fill in the place of an object
        held, stored = ObjectInMemory(data), replace(spec, config=replace(spec.config, write_empty_chunks=True))
        run_here(pipeline.write([(held, stored, selection, out, whole)], value, drop_axes))
    return None if held.data is None else [held.data]


async def read_shards(context: NodeContext, pipeline: Any, batch: Sequence[Any], out: Any, drop_axes: tuple[int, ...]) -> Any:
    """Read parts of shards; what zarr-python's pipeline says of each of them."""

    async def one(item: Any) -> Any:
        key, rest = item[0].path, item[1:]
        for _ in range(MOVED_TRIES):
            try:
                return await pipeline.read([(ObjectOfOneVersion(context, key), *rest)], out, drop_axes)
            except VersionChangedError:
                continue
        data = await context.run_async(Stored(key).read_all(), READ)
        return await pipeline.read([(ObjectInMemory(data), *rest)], out, drop_axes)

    said = await concurrent_map([(item,) for item in batch], one, config.get("async.concurrency"))
    return tuple(result for each in said for result in each or ())


class ObjectOfOneVersion:
    """What zarr-python's codecs read: a stored object, VersionChangedError where it was replaced between two of their reads."""

    def __init__(self, context: NodeContext, key: str) -> None:
        self.context, self.source = context, Stored(key)

    async def get(self, prototype: Any, byte_range: Any = None) -> Any:
        """The bytes, or a range of them."""
        if byte_range is None:
            data = await self.context.run_async(self.source.read_all(), READ)
        else:
            found = await self.context.run_async(self.source.read([byte_range_of(byte_range)]), READ)
            data = None if found is None else found[0]
        return None if data is None else prototype.buffer.from_bytes(data)


class ObjectInMemory:
    """What zarr-python's codecs read and write: the bytes of one object."""

    def __init__(self, data: Any) -> None:
        self.data: memoryview | None = None if data is None else memoryview(data)

    async def get(self, prototype: Any, byte_range: Any = None) -> Any:
        """The bytes, or a range of them."""
        if self.data is None:
            return None
        return prototype.buffer.from_bytes(bytes(self.data[_span(byte_range, len(self.data))]))

    async def set(self, value: Any) -> None:
        """Other bytes."""
        self.data = memoryview(value.to_bytes())

    async def delete(self) -> None:
        """No object."""
        self.data = None

    async def set_if_not_exists(self, default: Any) -> None:
        """The bytes, if there are none."""
        if self.data is None:
            await self.set(default)


def _span(wanted: Any, size: int) -> slice:
    if isinstance(wanted, RangeByteRequest):
        return slice(wanted.start, wanted.end)
    if isinstance(wanted, OffsetByteRequest):
        return slice(wanted.offset, size)
    if isinstance(wanted, SuffixByteRequest):
        return slice(max(0, size - wanted.suffix), size)
    return slice(None)


# ── coroutines of codecs in the thread of an operation ───────────────────────────────────────────────────────────────────


class _Inline(ThreadPoolExecutor):
    """Does at once what zarr-python's codecs would do in another thread: this one is a worker already."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future


class _Loops(threading.local):
    """An event loop for each thread."""

    runner: asyncio.Runner | None = None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self.runner is None:
            self.runner = asyncio.Runner()
            self.runner.get_loop().set_default_executor(_Inline(1))
        return self.runner.run(coroutine)


_loops = _Loops()


def run_here(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing outside of it, from code that is none."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _loops.run(coroutine)
    with ThreadPoolExecutor(1) as thread:  # this thread's loop is the one that waits for us
        return thread.submit(_loops.run, coroutine).result()
