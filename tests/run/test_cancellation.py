"""An operation that is cancelled at any await leaves every object old or new as a whole, every lock free, and nothing running.

Each operation is cancelled at each suspension of its task, and before and after each call of its store; `ZARRANT_SOAK=1` takes
every moment, the quick run some. After that the same operation is done again, at once and to the end.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
import uuid
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from event_loops.cancelling import Moment, Told, expect_alone, nothing_left
from servers import Server
from zarrant.errors import BoundsError, NodeNotFoundError, ShapeError
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.resolve import resolve_store
from zarrant.stores.wrappers import Latency
from zarrant.testkit import CoroutineStore

SOAK = bool(os.environ.get("ZARRANT_SOAK"))
MAX_MOMENTS = 400
KINDS = {"suspension": 4, "before": 12, "after": 12}
"""Kinds of moments, and of how many first ones the quick run takes one."""

SHAPE = (8, 8)
Work = Callable[[Any, Any], Coroutine[Any, Any, object]]


async def locked(group: Any, a: Any) -> None:
    async with a.lock(np.s_[0:4, 0:8]) as inside:
        await inside.setitem(np.s_[1:4, 1:7], 2)
        await inside.setitem(np.s_[0:4, 0:8], 2)


async def encoded(group: Any, a: Any) -> None:
    async with a.partial_encoder((0, 0)) as encoder:
        await encoder.store(np.s_[0:2, :], 2)
        await encoder.store(np.s_[:, :], 2)
        await encoder.flush()
        await encoder.erase()
        await encoder.store(np.s_[:, :], 2)


async def created(group: Any, a: Any) -> None:
    await group.create_array("new", data=np.full(SHAPE, 2, "u1"), chunks=(4, 4), if_exists="overwrite")


WORKS: dict[str, Work] = {
    "write": lambda group, a: a.setitem(..., 2),
    "store_chunk": lambda group, a: a.store_chunk((0, 0), np.full(a.shards or a.chunks, 2, "u1")),
    "update": lambda group, a: a.setitem(np.s_[1:7, 1:7], 2),
    "subsets": lambda group, a: a.store_array_subsets([(np.s_[0:3, 0:2], 2), (np.s_[1:7, 5:8], 2)]),
    "function": lambda group, a: a.update(np.s_[0:8, 0:8], lambda part: np.full_like(part, 2)),
    "erase": lambda group, a: a.erase_chunks(np.s_[:, :]),
    "append": lambda group, a: a.append(np.full((3, 8), 2, "u1")),
    "grow and shrink": lambda group, a: a.resize((6, 8) if a.shape[0] == 8 else (8, 8), shrink=True),
    "attributes": lambda group, a: a.update_attributes(lambda old: {**old, "n": old["n"] + 1}),
    "lock": locked,
    "encoder": encoded,
    "create": created,
    "delete": lambda group, a: group.delitem("other"),
    "group append": lambda group, a: group.append({"a": np.full((2, 8), 2, "u1"), "other": np.full(2, 2, "u1")}),
    "consolidate": lambda group, a: group.consolidate_metadata(),
    "compact": lambda group, a: a.compact(),
}
SERVERS = ("gofakes3", "moto", "azurite")
"""Of real requests: the first in the quick run, all with `ZARRANT_SOAK=1`."""
IMPOSSIBLE = {("lock", "coroutines"), ("group append", "coroutines"), ("compact", "chunks"), *(("lock", name) for name in SERVERS)}
"""Compare-and-swap alone locks nothing, and a chunk has nothing to compact."""

STORES: dict[str, Callable[[Path], Any]] = {
    "files": FilesystemStore,
    "memory": lambda path: MemoryStore(),
    "coroutines": lambda path: CoroutineStore(),
    "obstore": lambda path: resolve_store(pytest.importorskip("obstore.store").MemoryStore()).store,
}
LAYOUTS: dict[str, dict[str, Any]] = {"chunks": {"chunks": (4, 4)}, "shards": {"chunks": (2, 2), "shards": (4, 4)}}


async def prepared(inner: Any, layout: str) -> None:
    """A group with an array of ones, and another one."""
    group = await zarrant.create_group_async(inner)
    a = await group.create_array("a", shape=SHAPE, dtype="u1", attributes={"n": 0}, **LAYOUTS[layout])
    await a.setitem(..., 1)
    await a.setitem(np.s_[0:2, 0:2], 1)
    await group.create_array("other", data=np.ones(8, "u1"), chunks=(4,))


async def opened(store: Any) -> tuple[Any, Any]:
    group = await zarrant.open_group_async(store, mode="r+")
    return group, await group.getitem("a")


async def expect_whole(inner: Any, work: str) -> None:
    """What others find: each element old or new, and of an operation on one chunk at a time each chunk."""
    group, a = await opened(inner)
    values = await a.getitem(...)
    assert a.shape[0] in {"append": (8, 11), "grow and shrink": (6, 8), "group append": (8, 10)}.get(work, (8,))
    new = {"erase": {0, 1}, "grow and shrink": {0, 1}}.get(work, {1, 2})
    assert set(np.unique(values).tolist()) <= new
    assert (values[:6] == 1).all() or work not in ("append", "grow and shrink", "group append")
    if work in ("write", "store_chunk", "function", "erase", "encoder"):
        for i in (0, 4):
            for j in (0, 4):
                assert len(np.unique(values[i : i + 4, j : j + 4])) == 1, values
    if work == "attributes":
        assert a.attrs["n"] in (0, 1)
    if work == "create" and await group.contains("new"):
        assert set(np.unique(await (await group.getitem("new")).getitem(...)).tolist()) <= {0, 2}


async def cancelled(make: Callable[[], Any], layout: str, work: str, moment: Moment) -> None:
    """One run: the operation is cancelled, what it left is looked at, and it is done again."""
    inner = make()
    await prepared(inner, layout)
    store = Told(inner, moment)
    group, a = await opened(store)
    await moment.run(lambda: WORKS[work](group, a))
    await expect_alone()
    await expect_whole(inner, work)
    group, a = await opened(inner)
    async with asyncio.timeout(10):  # far less than any time-out of a lock
        try:
            await WORKS[work](group, a)
        except NodeNotFoundError:
            assert work == "delete"  # it was done
        if work not in ("delete",):
            await a.setitem(np.s_[0:1, 0:1], 1)
            await a.update_attributes({"m": 1})
    await expect_alone()


def of_server(server: Server) -> Callable[[Path], Any]:
    """A maker of stores, each with a part of the server's bucket for itself."""
    return lambda path: resolve_store(server.make_store(prefix=uuid.uuid4().hex)).store


def files_of_locks(path: Path) -> list[Path]:
    return [each for each in path.rglob("*") if "__lock" in each.name]


def cases() -> list[Any]:
    return [
        pytest.param(store, layout, work, id=f"{work}-{layout}-{store}")
        for i, store in enumerate([*STORES, *SERVERS])
        for j, layout in enumerate(LAYOUTS)
        for k, work in enumerate(WORKS)
        if (SOAK or ((i + j + k) % 4 == 0 and store not in SERVERS[1:]))
        and (work, store) not in IMPOSSIBLE
        and (work, layout) not in IMPOSSIBLE
    ]


@pytest.mark.parametrize(("store", "layout", "work"), cases())
def test_cancelled_at_any_moment(store: str, layout: str, work: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    make = STORES.get(store) or of_server(request.getfixturevalue(store))
    threads, dice = threading.active_count(), random.Random(f"{store} {layout} {work}")
    made = iter(range(10**6))

    def run(moment: Moment) -> bool:
        path = tmp_path / str(next(made))
        path.mkdir()
        asyncio.run(cancelled(lambda: make(path), layout, work, moment))
        assert not files_of_locks(path)
        return moment.came

    with nothing_left():
        for kind, most in KINDS.items():
            if SOAK:
                last = next(number for number in range(MAX_MOMENTS) if not run(Moment(kind, number)))
                assert last > 0
            else:
                run(Moment(kind, dice.randrange(most)))
    assert threading.active_count() <= threads + 40


# ── time-outs, task groups, a second cancellation ────────────────────────────────────────────────────────────────────


async def full_of(inner: Any, value: int) -> Any:
    return await zarrant.create_array_async(inner, data=np.full((64, 64), value, "u2"), chunks=(8, 8), shards=(32, 32))


def whole_shards(values: Any) -> set[int]:
    """The values, each of which fills whole shards."""
    found = [np.unique(values[i : i + 32, j : j + 32]) for i in (0, 32) for j in (0, 32)]
    assert all(len(each) == 1 for each in found), values
    return {int(each[0]) for each in found}


@pytest.fixture(params=STORES)
def inner(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return STORES[request.param](tmp_path)


def test_a_deadline_at_any_time(inner: Any) -> None:
    async def main() -> None:
        await full_of(inner, 1)
        a = await zarrant.open_array_async(Latency(inner, 0.001))
        for i in range(8):
            try:
                async with asyncio.timeout(0.002 * i):
                    await a.update(np.s_[:, :], lambda part: np.full_like(part, 2))
            except TimeoutError:
                pass
            assert whole_shards(await (await zarrant.open_array_async(inner)).getitem(...)) <= {1, 2}
            await expect_alone()
        async with asyncio.timeout(10):
            await a.setitem(np.s_[0:64, 0:64], 3)
        assert whole_shards(await a.getitem(...)) == {3}

    with nothing_left():
        asyncio.run(main())


def test_a_task_group_of_which_one_fails(inner: Any) -> None:
    async def main() -> None:
        await full_of(inner, 1)
        a = await zarrant.open_array_async(Latency(inner, 0.001))
        for _ in range(4):
            with pytest.raises(ExceptionGroup) as caught:
                async with asyncio.TaskGroup() as tasks:
                    for value in range(2, 6):
                        tasks.create_task(a.setitem(np.s_[:, :], value))
                        tasks.create_task(a.update(np.s_[0:40, :], lambda part: part))
                    tasks.create_task(a.setitem(np.s_[100:], 1))
                    tasks.create_task(a.retrieve_chunk((9, 9)))
            assert {type(error) for error in caught.value.exceptions} <= {BoundsError, ShapeError}
            await expect_alone()
            whole_shards(await a.getitem(...))
        async with asyncio.timeout(10):
            await a.setitem(..., 3)
        assert whole_shards(await a.getitem(...)) == {3}

    with nothing_left():
        asyncio.run(main())


@pytest.mark.parametrize("selection", [np.s_[:, :], np.s_[1:63, 1:63], np.s_[1:31, 1:31]], ids=["whole", "part", "one"])
def test_a_task_that_is_cancelled_again_and_again(inner: Any, selection: Any) -> None:
    """It ends no sooner than its work has let go: what it wrote from may be changed afterwards."""

    async def main() -> None:
        await full_of(inner, 1)
        a = await zarrant.open_array_async(Latency(inner, 0.001))
        for value in range(2, 12):
            values = [np.full((64, 64), value, "u2")[selection] for _ in range(4)]
            tasks = [asyncio.create_task(a.setitem(selection, each)) for each in values]
            await asyncio.sleep(0.0005 * value)
            for task, each in zip(tasks[1:], values[1:], strict=True):
                while not task.done():
                    task.cancel()
                    await asyncio.sleep(0)
                each[...] = 99
            await asyncio.gather(*tasks, return_exceptions=True)
            assert 99 not in await a.getitem(...)
            await expect_alone()

    with nothing_left():
        asyncio.run(main())
