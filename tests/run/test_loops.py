"""Handles in several event loops, blocking calls inside of one, a notebook's loop, and uvloop."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from event_loops.calls import Program, public_coroutines
from event_loops.cancelling import nothing_left
from event_loops.stores import make_store, may_block
from zarrant.errors import CapabilityError
from zarrant.stores.resolve import resolve_store
from zarrant.testkit import AsyncCasStore, together

ROOT = Path(__file__).parents[2]
STORES = ("files", "memory", "coroutines", "obstore memory", "gofakes3", "fsspec", "fsspec async", "zarr-python")
GUARDED = ("files", "memory", "coroutines", "obstore memory", "gofakes3")
TASKS, TURNS = 6, 4
needs_uvloop = pytest.mark.skipif(
    importlib.util.find_spec("uvloop") is None, reason="uvloop is not installed; pip install 'zarrant[servers]' does it"
)


def new_store(name: str, request: pytest.FixtureRequest, path: Path) -> Any:
    """A store, and the keywords to open it with."""
    store, where = make_store(name, request, path)
    return resolve_store(may_block(store)).store, where


@pytest.fixture(params=STORES)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A store of each kind, and the keywords to open it with."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of `synchronizer=None`
        yield new_store(request.param, request, tmp_path)


@pytest.fixture(params=GUARDED)
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A store on which nothing gets lost."""
    return new_store(request.param, request, tmp_path)[0]


async def counted_up(a: Any) -> None:
    """Many updates of the same chunk."""
    for _ in range(TURNS):
        await asyncio.gather(*(a.update(np.s_[i : i + 1], lambda part: part + 1) for i in range(TASKS)))


# ── several loops ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_handle_in_one_loop_after_another(made: Any) -> None:
    store, where = made

    async def create() -> Any:
        return await zarrant.create_array_async(store, data=np.arange(8, dtype="u1"), chunks=(4,), **where)

    async def use(a: Any) -> list[int]:
        async with a.partial_encoder((0,)) as encoder:
            await asyncio.gather(*(encoder.store(np.s_[i : i + 1], 7) for i in range(3)))
        await a.setitem(np.s_[5:7], 9)
        return (await a.getitem(...)).tolist()  # type: ignore[no-any-return]

    with nothing_left():
        a = asyncio.run(create())
        assert [asyncio.run(use(a)) for _ in range(3)] == [[7, 7, 7, 3, 4, 9, 9, 7]] * 3
        asyncio.run(a.append(np.ones(2, "u1")))
        assert asyncio.run(a.getitem(...)).tolist() == [7, 7, 7, 3, 4, 9, 9, 7, 1, 1]


def test_one_handle_in_loops_of_several_threads(guarded: Any) -> None:
    a = asyncio.run(zarrant.create_array_async(guarded, shape=(TASKS,), dtype="u2", chunks=(TASKS,)))

    with nothing_left():
        together(*[lambda: asyncio.run(counted_up(a))] * 3)
    assert asyncio.run(a.getitem(...)).tolist() == [3 * TURNS] * TASKS


def test_blocking_handles_and_coroutines_side_by_side(guarded: Any) -> None:
    blocking = zarrant.create_array(guarded, shape=(TASKS,), dtype="u2", chunks=(TASKS,))
    a = asyncio.run(zarrant.open_array_async(guarded))

    def count_up() -> None:
        for _ in range(TURNS):
            for i in range(TASKS):
                blocking.update(np.s_[i : i + 1], lambda part: part + 1)

    with nothing_left():
        together(lambda: asyncio.run(counted_up(a)), count_up)
    assert blocking[...].tolist() == [2 * TURNS] * TASKS


# ── blocking calls inside of a loop ──────────────────────────────────────────────────────────────────────────────────


def test_blocking_calls_work_inside_of_a_loop(made: Any) -> None:
    """They keep the loop waiting, as any blocking call does; but they end."""
    store, where = made

    async def main() -> list[int]:
        a = zarrant.create_array(store, name="a", data=np.arange(6, dtype="u1"), chunks=(2,), **where)
        a[1:4] = 8
        a.append(np.ones(1, "u1"))
        b = await zarrant.open_array_async(store, name="a", **where)
        await b.setitem(0, 5)
        return a[...].tolist()  # type: ignore[no-any-return]

    assert asyncio.run(asyncio.wait_for(main(), 30)) == [5, 8, 8, 8, 4, 5, 1]


def test_a_store_of_coroutines_alone_says_so(tmp_path: Path) -> None:
    class OnlyAsync:
        """The coroutines of a store."""

        def __init__(self, inner: Any) -> None:
            for name, member in inspect.getmembers(inner, inspect.iscoroutinefunction):
                setattr(self, name, member)

    with pytest.raises(CapabilityError, match="Use AsyncArray or AsyncGroup"):
        zarrant.open_array(OnlyAsync(AsyncCasStore(tmp_path)))


# ── a notebook ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Notebook:
    """A loop that runs in a thread for as long as the notebook is open. Each cell is a task in it, and may await at its top."""

    def __init__(self, **names: Any) -> None:
        self.names = {"np": np, "zarrant": zarrant, **names}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)

    def __enter__(self) -> Notebook:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def run(self, cell: str) -> Any:
        """Run a cell, as IPython does; the value is that of the name `out`."""
        code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)

        async def task() -> None:
            found = eval(code, self.names)
            if asyncio.iscoroutine(found):
                await found

        asyncio.run_coroutine_threadsafe(task(), self.loop).result(30)
        return self.names.get("out")


def test_a_notebook(made: Any) -> None:
    store, where = made
    with nothing_left(), Notebook(store=store, where=where) as notebook:
        notebook.run("a = await zarrant.create_array_async(store, name='a', shape=(8,), dtype='u1', chunks=(4,), **where)")
        notebook.run("await a.setitem(np.s_[2:6], 3)")
        assert notebook.run("out = (await a.getitem(...)).tolist()") == [0, 0, 3, 3, 3, 3, 0, 0]
        notebook.run("b = zarrant.open_array(store, name='a', **where)\nb[0] = 1")
        assert notebook.run("out = b[...].tolist()") == [1, 0, 3, 3, 3, 3, 0, 0]
        notebook.run("import asyncio\nawait asyncio.gather(*(a.setitem(np.s_[i : i + 4], 9) for i in (0, 4)))")
        assert notebook.run("b.refresh()\nout = b[...].tolist()") == [9] * 8


@pytest.mark.parametrize("name", ["files", "memory"])
def test_a_lock_from_one_cell_to_another(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Each cell is another task."""
    store, where = new_store(name, request, tmp_path)
    with nothing_left(), Notebook(store=store, where=where) as notebook:
        notebook.run("a = await zarrant.create_array_async(store, shape=(8,), dtype='u1', chunks=(4,), **where)")
        notebook.run("lock = a.lock(np.s_[0:4])\nlocked = await lock.__aenter__()")
        notebook.run("await locked.setitem(np.s_[1:3], 2)")
        notebook.run("await a.setitem(np.s_[5:7], 4)")
        notebook.run("await lock.__aexit__(None, None, None)")
        notebook.run("import asyncio\nawait asyncio.wait_for(a.setitem(0, 1), 5)")
        assert notebook.run("out = (await a.getitem(...)).tolist()") == [1, 2, 2, 0, 0, 4, 4, 0]


# ── uvloop ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def run_in_uvloop(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """`asyncio.run` in a loop of uvloop."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


@needs_uvloop
def test_every_coroutine_in_uvloop(made: Any) -> None:
    store, where = made
    names: list[str] = []
    with nothing_left():
        run_in_uvloop(lambda: Program(store, 8, **where).run(names.append))
    assert public_coroutines() <= set(names)


@needs_uvloop
def test_uvloop_beside_asyncio(guarded: Any) -> None:
    a = asyncio.run(zarrant.create_array_async(guarded, shape=(TASKS,), dtype="u2", chunks=(TASKS,)))
    together(lambda: run_in_uvloop(lambda: counted_up(a)), lambda: asyncio.run(counted_up(a)))
    assert asyncio.run(a.getitem(...)).tolist() == [2 * TURNS] * TASKS


SUITES = [
    *(
        "tests/run/test_cancellation.py",
        "tests/run/test_drivers.py",
        "tests/run/test_watchdog.py",
        "tests/run/test_group_commit.py",
    ),
    *("tests/run/test_both_kinds_of_calls.py", "tests/nodes/test_partial_encoder.py", "tests/stores/test_object_store.py"),
]


@needs_uvloop
@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("suite", SUITES)
def test_suites_in_uvloop(suite: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "event_loops.with_uvloop", f"--basetemp={tmp_path / 'inner'}", suite]
    env = {name: value for name, value in os.environ.items() if name != "ZARRANT_SOAK"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT), env.get("PYTHONPATH", "")])
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]
