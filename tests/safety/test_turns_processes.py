"""Processes on a store that can only compare and swap: appends, resizes, attributes and updates at once; killed, and stopped.

The store names versions by content, as S3 does, has no locks and cannot erase by version (`testkit.CasStore`).
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.safety.test_appends import side_by_side

import zarrant
from children import ended
from zarrant.ops import turns
from zarrant.testkit import AsyncCasStore, CasStore, together

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
PROCESSES, APPENDS = (8, 25) if SOAK else (4, 8)
LAYOUTS: dict[str, dict[str, Any]] = {"chunks": {"chunks": (4, 3)}, "shards": {"chunks": (2, 3), "shards": (8, 6)}}
layouts = pytest.mark.parametrize("layout", LAYOUTS)
TURN_S = 0.4
"""How long a turn lasts in tests that wait for its end."""


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "TAKE_OVER_S", TURN_S)


def array(path: Path, layout: str, rows: int = 2) -> Any:
    return zarrant.create_array(CasStore(path / "s"), data=np.full((rows, 6), 9, "int32"), **LAYOUTS[layout])


def attach(path: Path, step: Callable[[str, str], None] | None = None, **options: Any) -> Any:
    return zarrant.open_array(CasStore(path / "s", step), mode="r+", **options)


def rows(k: int) -> Any:
    return np.full((1 + k % 3, 6), k, "int32")


def check_places(path: Path, got: list[tuple[int, slice]], first: int) -> None:
    """Each append has rows of its own, one after the other, with what it stored."""
    a = attach(path)
    found, at = a[...], first
    for k, place in sorted(got, key=lambda each: each[1].start):
        assert (place.start, place.stop) == (at, at + 1 + k % 3), (k, place)
        assert (found[place] == k).all(), (k, place, found[place])
        at = place.stop
    assert a.shape[0] == at


@layouts
@pytest.mark.timeout(600)
def test_processes_lose_nothing(tmp_path: Path, layout: str) -> None:
    """Appends, attributes, updates of a shared chunk, writes at the known end, by handles that never look again."""
    array(tmp_path, layout, 5)

    def work(worker: int) -> list[tuple[int, slice]]:
        a, stale = attach(tmp_path), attach(tmp_path)
        got = []
        for k in range(worker * APPENDS + 1, (worker + 1) * APPENDS + 1):
            got.append((k, a.append(rows(k))))
            a.attrs[f"x{k}"] = k
            a.update_attributes(lambda stored: {**stored, "count": stored.get("count", 0) + 1})
            stale.update(np.s_[0:1, 0:1], lambda found: found + 1)
            stale[4, :] = worker  # all that this handle knows of the chunk at the end
            stale[3:5, worker % 6] = worker
        return got

    results = side_by_side(*(lambda worker=worker: work(worker) for worker in range(PROCESSES)))
    check_places(tmp_path, [each for result in results for each in result], 5)
    a = attach(tmp_path)
    assert a[0, 0] == 9 + PROCESSES * APPENDS
    attributes = dict(a.attrs)
    assert attributes.pop("count") == PROCESSES * APPENDS
    assert attributes == {f"x{k}": k for k in range(1, PROCESSES * APPENDS + 1)}
    assert a.metadata.turn is None


@pytest.mark.timeout(600)
def test_processes_update_one_shard(tmp_path: Path) -> None:
    updates = 50 if SOAK else 8
    zarrant.create_array(CasStore(tmp_path / "s"), shape=(PROCESSES, 50), dtype="int32", chunks=(1, 10), shards=(PROCESSES, 50))

    def work(worker: int) -> None:
        a = attach(tmp_path)
        for k in range(updates):
            a[worker, k] = k + 1

    side_by_side(*(lambda worker=worker: work(worker) for worker in range(PROCESSES)))
    assert (attach(tmp_path)[:, :updates] == np.arange(1, updates + 1)).all()


@layouts
@pytest.mark.timeout(600)
def test_resizes_beside_appends(tmp_path: Path, layout: str) -> None:
    """Rows are cut off and come back as fill; what is appended last stays whole."""
    array(tmp_path, layout)

    def append(worker: int) -> None:
        a = attach(tmp_path)
        for k in range(worker * APPENDS + 1, (worker + 1) * APPENDS + 1):
            a.append(rows(k))

    def resize() -> None:
        a, dice = attach(tmp_path), random.Random(layout)
        for _ in range(APPENDS):
            a.resize((dice.randint(1, 30), 6), shrink=True)

    side_by_side(*(lambda worker=worker: append(worker) for worker in range(PROCESSES - 1)), resize)
    a = attach(tmp_path)
    place = a.append(np.full((3, 6), 7777, "int32"))
    found = a[...]
    assert (found == found[:, :1]).all(), "a row of two writers"
    assert (found[place] == 7777).all()
    a.resize((place.stop + 20, 6))
    assert not a[place.stop :].any()


@layouts
def test_threads_and_tasks_lose_nothing(tmp_path: Path, layout: str) -> None:
    array(tmp_path, layout)
    got: list[tuple[int, slice]] = []
    shared = attach(tmp_path)
    together(*(lambda k=k: got.append((k, (shared if k % 2 else attach(tmp_path)).append(rows(k)))) for k in range(1, 9)))

    async def main() -> None:
        store = AsyncCasStore(tmp_path / "s")
        arrays = [await zarrant.open_array_async(store, mode="r+") for _ in range(4)]
        places = await asyncio.gather(*(arrays[k % 4].append(rows(k)) for k in range(11, 19)))
        got.extend(zip(range(11, 19), places, strict=True))
        await arrays[0].refresh()
        await arrays[0].update_attributes({"x": 1})

    asyncio.run(main())
    check_places(tmp_path, got, 2)
    assert dict(attach(tmp_path).attrs) == {"x": 1}


def test_a_cancelled_append_keeps_nobody_waiting(tmp_path: Path) -> None:
    array(tmp_path, "chunks")

    async def main() -> float:
        reached = asyncio.Event()
        store = AsyncCasStore(tmp_path / "s")
        real = store.put_if_async

        async def slow(key: str, *args: Any) -> Any:
            if key.startswith("c/"):
                reached.set()
                await asyncio.sleep(30)
            return await real(key, *args)

        store.put_if_async = slow  # type: ignore[method-assign]
        a = await zarrant.open_array_async(store, mode="r+")
        task = asyncio.create_task(a.append(rows(4)))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        store.put_if_async = real  # type: ignore[method-assign]
        begin = time.monotonic()
        assert await a.append(rows(5)) == slice(2, 5)
        return time.monotonic() - begin

    assert asyncio.run(main()) < 10
    check_places(tmp_path, [(5, slice(2, 5))], 2)


# Killed, and stopped --------------------------------------------------------------------------------------------------------


def child(work: Callable[[Callable[[str, str], None]], None], at: int, what: int) -> tuple[int, bool]:
    """Run `work` in a forked process that sends itself a signal before its call number `at`; (id, whether it got that far)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        calls = iter(range(10**6))
        try:
            # To this thread: a signal to the process may reach another first, and this one would go on into the write.
            work(lambda name, key: signal.pthread_kill(threading.get_ident(), what) if next(calls) == at else None)
            os._exit(0)
        finally:
            os._exit(1)
    status = ended(pid, os.WUNTRACED)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        return pid, False
    return pid, True


def steps(step: int) -> Iterator[int]:
    """Numbers of calls, every one or some of them."""
    return iter(range(0, 200, 1 if SOAK else step))


CHANGES: dict[str, Callable[[Any], Any]] = {
    "append": lambda a: a.append(np.full((7, 6), 50, "int32")),
    "cut": lambda a: a.resize((3, 6)),
    "grow": lambda a: a.resize((12, 6)),
}


def check_after(path: Path, change: str, place: slice) -> None:
    """The array is as before the change or as after it, with what was appended last."""
    a = attach(path)
    found = a[: place.start]
    outcomes = {
        "append": [np.full((5, 6), 9), np.repeat([9, 50], [5, 7])[:, None].repeat(6, 1)],
        "cut": [np.full((5, 6), 9), np.full((3, 6), 9)],
        "grow": [np.full((5, 6), 9), np.repeat([9, 0], [5, 7])[:, None].repeat(6, 1)],
    }[change]
    assert any(np.array_equal(found, outcome) for outcome in outcomes), found
    assert (a[place] == 70).all()
    assert a.metadata.turn is None
    a.resize((place.stop + 9, 6))
    assert not a[place.stop :].any()


@layouts
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.timeout(600)
def test_who_is_killed_is_taken_over_from(tmp_path: Path, layout: str, change: str, short_turns: None) -> None:
    """Before each call: after the turn was taken, between two chunks, before the new shape, while cleaning up."""
    kills = 0
    for at in steps(4):
        path = tmp_path / str(at)
        array(path, layout, 5)
        _, killed = child(lambda step, path=path: CHANGES[change](attach(path, step)), at, signal.SIGKILL)
        if not killed:
            break
        kills += 1
        check_after(path, change, attach(path).append(np.full((4, 6), 70, "int32")))
    else:
        raise AssertionError("it makes too many calls")
    assert kills >= 2
    print(f"{kills} kills of {change}, {layout}")


@layouts
@pytest.mark.timeout(600)
def test_who_was_stopped_harms_nobody(tmp_path: Path, layout: str, short_turns: None) -> None:
    """Before each call an appender is stopped for longer than its turn lasts, others append, and it goes on."""
    stops = 0
    for at in steps(5):
        path = tmp_path / str(at)
        array(path, layout, 5)
        pid, stopped = child(lambda step, path=path: CHANGES["append"](attach(path, step)), at, signal.SIGSTOP)
        if not stopped:
            break
        stops += 1
        others = [attach(path).append(np.full((n, 6), k, "int32")) for k, n in ((70, 2), (71, 3))]
        os.kill(pid, signal.SIGCONT)
        assert os.waitstatus_to_exitcode(ended(pid)) == 0
        a = attach(path)
        found = a[...]
        assert a.shape[0] == 17
        assert [(found[place] == k).all() for place, k in zip(others, (70, 71), strict=True)] == [True, True]
        rest = found[(found != 70).all(axis=1) & (found != 71).all(axis=1)]
        assert np.array_equal(rest, np.repeat([9, 50], [5, 7])[:, None].repeat(6, 1))
    assert stops >= 2
    print(f"{stops} stops, {layout}")


# Creation, and updates of threads -------------------------------------------------------------------------------------------


def create(path: Path, k: int, step: Callable[[str, str], None] | None = None) -> Any:
    data = np.full((11, 6), k, "int32")
    return zarrant.create_array(CasStore(path / "s", step), name="g/a", data=data, if_exists="match", **LAYOUTS["chunks"])


@pytest.mark.timeout(600)
def test_of_many_creators_one_stores_its_data(tmp_path: Path) -> None:
    for turn in range(10 if SOAK else 3):
        path = tmp_path / str(turn)
        found = side_by_side(*(lambda k=k, path=path: set(create(path, k + 1)[...].ravel().tolist()) for k in range(PROCESSES)))
        assert len(found[0]) == 1
        assert found == [found[0]] * PROCESSES
        assert zarrant.open_array(CasStore(path / "s"), name="g/a").metadata.turn is None


@pytest.mark.timeout(600)
def test_a_creator_that_is_killed_is_taken_over_from(tmp_path: Path, short_turns: None) -> None:
    kills = 0
    for at in steps(5):
        path = tmp_path / str(at)
        _, killed = child(lambda step, path=path: create(path, 50, step), at, signal.SIGKILL)
        if not killed:
            break
        kills += 1
        assert set(create(path, 70)[...].ravel().tolist()) in ({50}, {70})
    else:
        raise AssertionError("it makes too many calls")
    assert kills >= 2


@pytest.mark.parametrize("calls", ["threads", "tasks"])
def test_updates_of_one_shard_by_one_process_are_stored_together(tmp_path: Path, calls: str) -> None:
    """As on files: who comes while the object is being stored is served by the next put."""
    puts = []

    def step(name: str, key: str) -> None:
        if name == "put_if" and key.startswith("c/"):
            puts.append(key)
            time.sleep(0.002)

    made = zarrant.create_array(CasStore(tmp_path / "s"), shape=(8, 100), dtype="int32", chunks=(1, 10), shards=(8, 100))
    made[...] = 1
    a = attach(tmp_path, step)

    def work(i: int) -> None:
        for k in range(10):
            a[i, 10 * k : 10 * k + 10] = k + 5

    async def main() -> None:
        store = AsyncCasStore(tmp_path / "s", step)
        shared = await zarrant.open_array_async(store, mode="r+")

        async def tasks(i: int) -> None:
            for k in range(10):
                await shared.store_array_subset(np.s_[i : i + 1, 10 * k : 10 * k + 10], k + 5)

        await asyncio.gather(*map(tasks, range(8)))

    if calls == "threads":
        together(*(lambda i=i: work(i) for i in range(8)))
    else:
        asyncio.run(main())
    assert (made[...] == np.repeat(np.arange(5, 15), 10)).all()
    assert len(puts) < 50, "80 updates"
    print(f"80 updates by 8 {calls}: {len(puts)} puts")


# What others see, and what is refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("format_", [2, 3])
@pytest.mark.parametrize("library", ["zarr", "tensorstore", "zarrista"])
def test_other_libraries_read_during_a_turn(tmp_path: Path, format_: int, library: str) -> None:
    pytest.importorskip(library)
    zarrant.create_array(tmp_path, data=np.arange(24).reshape(6, 4), chunks=(2, 4), zarr_format=format_)
    main = tmp_path / ("zarr.json" if format_ == 3 else ".zarray")
    from dataclasses import replace

    from zarrant.metadata import node
    from zarrant.metadata.turn import Turn

    metadata = zarrant.open_array(tmp_path).metadata
    main.write_bytes(node.dump(replace(metadata, turn=Turn("0123456789abcdef", 3))))
    assert b"zarrant_turn" in main.read_bytes()
    if library == "zarr":
        import zarr

        found = zarr.open_array(str(tmp_path), mode="r")[...]
    elif library == "tensorstore":
        import tensorstore

        spec = {"driver": "zarr3" if format_ == 3 else "zarr", "kvstore": {"driver": "file", "path": str(tmp_path)}}
        found = tensorstore.open(spec).result().read().result()
    else:
        import zarrista
        from zarrista.store import FilesystemStore

        opened = zarrista.Array.open(FilesystemStore(str(tmp_path)))
        assert list(opened.shape) == [6, 4]
        return
    assert np.array_equal(found, np.arange(24).reshape(6, 4))


# Several arrays as one ------------------------------------------------------------------------------------------------------


def group(path: Path) -> Any:
    group = zarrant.create_group(CasStore(path / "s"), name="g")
    group.create_array("time", data=np.full(2, 9, "int32"), chunks=(5,))
    group.create_array("h/tas", data=np.full((2, 6), 9, "int32"), chunks=(2, 3), shards=(4, 6))
    return group


def append_rows(path: Path, k: int, step: Callable[[str, str], None] | None = None) -> slice:
    n = 1 + k % 3
    g = zarrant.open_group(CasStore(path / "s", step), name="g", mode="r+")
    place: slice = g.append({"time": np.full(n, k, "int32"), "h/tas": np.full((n, 6), k, "int32")})
    return place


def check_group(path: Path, got: list[tuple[int, slice]], killed: int | None = None) -> int:
    """Rows of one append are at one place in both arrays; how many rows there are of the one that was killed."""
    g = zarrant.open_group(CasStore(path / "s"), name="g")
    time, tas = g["time"][...], g["h/tas"][...]
    assert len(time) == len(tas)
    assert (tas == time[:, None]).all()
    for k, place in got:
        assert time[place].tolist() == [k] * (1 + k % 3)
    left = int((time == killed).sum())
    assert len(time) == 2 + left + sum(1 + k % 3 for k, _ in got)
    assert left in (0, 1 + (killed or 0) % 3)
    assert all(g[name].metadata.turn is None for name in ("time", "h/tas"))
    return left


@pytest.mark.timeout(600)
def test_arrays_grow_together(tmp_path: Path) -> None:
    group(tmp_path)

    def work(worker: int) -> list[tuple[int, slice]]:
        return [(k, append_rows(tmp_path, k)) for k in range(worker * 100 + 1, worker * 100 + 1 + APPENDS // 2)]

    def count() -> None:
        a = zarrant.open_array(CasStore(tmp_path / "s"), name="g/time", mode="r+")
        for _ in range(APPENDS):
            a.update_attributes(lambda stored: {"n": stored.get("n", 0) + 1})

    *results, _ = side_by_side(*(lambda worker=worker: work(worker) for worker in range(PROCESSES)), count)
    check_group(tmp_path, [each for result in results for each in result])
    assert zarrant.open_array(CasStore(tmp_path / "s"), name="g/time").attrs["n"] == APPENDS
    assert not [key for key in CasStore(tmp_path / "s").list_prefix("g/") if "__append" in key]


@pytest.mark.timeout(600)
def test_who_is_killed_while_arrays_grow_together(tmp_path: Path, short_turns: None) -> None:
    seen, kills = set(), 0
    for at in steps(4):
        path = tmp_path / str(at)
        group(path)
        _, killed = child(lambda step, path=path: append_rows(path, 50, step), at, signal.SIGKILL)
        if not killed:
            break
        kills += 1
        seen.add(check_group(path, [(70, append_rows(path, 70))], 50))
    else:
        raise AssertionError("it makes too many calls")
    assert 0 in seen
    print(f"{kills} kills of an append to two arrays")
