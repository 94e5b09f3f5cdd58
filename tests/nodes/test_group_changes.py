"""`Group.append` and `Group.lock`: data and its time coordinate grow and change as one, from many processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import LIMIT_S
from zarrant.errors import CapabilityError, LockTimeout, NodeNotFoundError, OptionError, ShapeError
from zarrant.testkit import together

LAYOUTS: dict[str, Any] = {"chunks": {"chunks": (10, 4, 4)}, "shards": {"chunks": (5, 2, 4), "shards": (10, 4, 4)}}

EVERY = 1 if os.environ.get("ZARRANT_SOAK") else 3
"""The processes are killed at each so many-th file call."""


def make(place: Any, layout: str = "chunks") -> Any:
    g = zarrant.create_group(place)
    g.create_array("tas", shape=(0, 4, 4), dtype="f4", **LAYOUTS[layout])
    g.create_array("time", shape=(0,), dtype="f8", chunks=(100,), fill_value=np.nan)
    return g


def pairs(place: Any) -> list[float]:
    """The days, which are the same in both arrays."""
    g = zarrant.open_group(place, mode="r")
    tas, days = g["tas"][...], g["time"][...]
    assert len(tas) == len(days)
    assert (tas == days[:, None, None]).all()
    return [float(day) for day in days]


def day(*numbers: int) -> dict[str, Any]:
    days = np.array(numbers, "f8")
    return {"tas": np.broadcast_to(days[:, None, None], (len(days), 4, 4)).astype("f4"), "time": days}


def processes(work: Callable[..., None], count: int, *args: Any) -> list[Any]:
    context = multiprocessing.get_context("fork")
    made = [context.Process(target=work, args=(i, *args)) for i in range(count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child makes its own threads
        for process in made:
            process.start()
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("where", ["files", "memory"])
def test_data_and_coordinate_grow_as_one(tmp_path: Path, where: str, layout: str) -> None:
    g = make(tmp_path / "g" if where == "files" else {}, layout)
    assert g.append(day(1, 2)) == slice(0, 2)
    assert g.append(day(*range(3, 30))) == slice(2, 29)
    assert pairs(g.store) == list(range(1, 30))
    inner = zarrant.open_group(g.store).create_group("inner")
    inner.create_array("x", shape=(2, 0), dtype="i4")
    inner.create_array("deep/y", shape=(0,), dtype="i4")
    assert inner.append({"x": [[1, 2], [3, 4]], "deep/y": [5, 6]}, axis=-1) == slice(0, 2)
    assert inner["x"][...].tolist() == [[1, 2], [3, 4]]


def test_consolidated_metadata_show_the_new_shapes_of_all(tmp_path: Path) -> None:
    g = make(tmp_path)
    g.consolidate_metadata()
    g.append(day(1, 2, 3))
    g.refresh()
    shapes = {name: entry["shape"] for name, entry in (g.metadata.consolidated or {}).items()}
    assert shapes == {"tas": [3, 4, 4], "time": [3]}


def test_lengths_that_differ_are_told(tmp_path: Path) -> None:
    g = make(tmp_path)
    g["time"].append([0.0])
    with pytest.raises(ShapeError, match="not of one length") as caught:
        g.append(day(1))
    assert caught.value.got == {"tas": 0, "time": 1}
    with pytest.raises(NodeNotFoundError):
        g.append({"tas": day(1)["tas"], "none": [1.0]})
    assert not (tmp_path / "none").exists()
    with pytest.raises(OptionError):
        g.append({})


def test_a_store_without_locks_is_refused_unless_nobody_shares_it(tmp_path: Path) -> None:
    make(tmp_path).append(day(1))
    with pytest.warns(zarrant.errors.ZarrantWarning):
        alone = zarrant.open_group(tmp_path, synchronizer=None)
    alone.append(day(2))
    assert pairs(tmp_path) == [1, 2]
    with pytest.raises(CapabilityError):
        zarrant.open_group(tmp_path, mode="r").append(day(3))


def grow(i: int, place: Path, layout: str) -> None:
    for j in range(25):
        zarrant.open_group(place).append(day(*[100 * i + j] * (1 + j % 3)))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_many_processes_append_and_no_row_is_lost(tmp_path: Path, layout: str, tally: Any) -> None:
    make(tmp_path, layout)
    made = processes(grow, 8, tmp_path, layout)
    for process in made:
        process.join(LIMIT_S)
    assert [process.exitcode for process in made] == [0] * 8
    expected = sorted(100 * i + j for i in range(8) for j in range(25) for _ in range(1 + j % 3))
    found = pairs(tmp_path)
    assert sorted(found) == expected
    starts = [n for n, value in enumerate(found) if n == 0 or found[n - 1] != value]
    assert len(starts) == 8 * 25, "the rows of each call lie together"
    tally("lost updates", 200)


def grow_until_killed(i: int, place: Path, log: Path, turn: int) -> None:
    g, i = zarrant.open_group(place), 10 * turn + i
    with open(log / str(i), "a", buffering=1) as acknowledged:
        for j in range(1_000_000):
            g.append(day(1000 * i + j, 1000 * i + j))
            acknowledged.write(f"{1000 * i + j}\n")


def test_kills_lose_nothing_that_was_acknowledged(tmp_path: Path, tally: Any) -> None:
    place, log = tmp_path / "g", tmp_path / "log"
    log.mkdir()
    make(place)
    for turn in range(6):
        made = processes(grow_until_killed, 3, place, log, turn)
        time.sleep(random.uniform(0.2, 0.6))
        for process in made:
            process.kill()
            process.join(LIMIT_S)
        zarrant.open_group(place).append(day(-turn - 1))
        pairs(place)
    found = pairs(place)
    acknowledged = [int(line) for file in log.iterdir() for line in file.read_text().split("\n")[:-1]]
    assert len(acknowledged) > 20
    for value in acknowledged:
        assert found.count(value) == 2
    assert [value for value in found if value < 0] == [-1, -2, -3, -4, -5, -6]
    tally("kills", 18)


def test_a_kill_at_every_file_call_leaves_rows_together(tmp_path: Path, killed_at: Any, tally: Any) -> None:
    g = make(tmp_path)
    g.append(day(1, 2))
    step = kills = 0

    def write(store: Any) -> None:
        zarrant.open_group(store).append(day(1000 + step, 1000 + step))

    while killed_at(tmp_path, step, write):
        g.append(day(-step - 1))
        found = pairs(tmp_path)
        assert found[-1] == -step - 1
        assert found.count(1000 + step) in (0, 2)
        step, kills = step + EVERY, kills + 1
    assert step > 30
    assert pairs(tmp_path)[-2:] == [1000 + step] * 2
    tally("kills", kills)


def test_readers_find_the_rows_that_all_arrays_have_together(tmp_path: Path) -> None:
    make(tmp_path)
    made = processes(grow, 2, tmp_path, "chunks")
    looks = 0
    while any(process.is_alive() for process in made):
        g = zarrant.open_group(tmp_path, mode="r")
        tas, days = g["tas"][:, 0, 0], g["time"][...]
        n = min(len(tas), len(days))
        assert (tas[:n] == days[:n]).all()
        looks += 1
    for process in made:
        process.join(LIMIT_S)
    assert looks


def test_the_async_twin(tmp_path: Path) -> None:
    make(tmp_path)

    async def main() -> None:
        g: Any = await zarrant.open_group_async(tmp_path)
        got = await asyncio.gather(*(g.append(day(i, i)) for i in range(10)))
        assert sorted(where.start for where in got) == list(range(0, 20, 2))
        async with g.lock({"tas": np.s_[0:2, 0:4, 0:4], "time": np.s_[0:2]}) as held:
            assert isinstance(held["tas"], zarrant.AsyncArray)
            for name in held:
                await held[name].setitem(np.s_[0:2], 77)

    asyncio.run(main())
    assert pairs(tmp_path)[:2] == [77, 77]


def change(i: int, place: Path) -> None:
    for _ in range(20):
        g = zarrant.open_group(place)
        names = {"a": np.s_[0:3], "b": np.s_[0:3]} if i % 2 else {"b": np.s_[0:3], "a": np.s_[0:3]}
        with g.lock(names) as held:
            held["a"][0:3] = held["a"][0:3] + 1
            held["b"][0:3] = held["a"][0:3] * 10


@pytest.mark.parametrize("where", ["files", "memory"])
def test_locked_arrays_change_as_one(tmp_path: Path, where: str) -> None:
    g = zarrant.create_group(tmp_path / "g" if where == "files" else {})
    for name in ("a", "b"):
        g.create_array(name, shape=(6,), dtype="i8", chunks=(2,))
    if where == "files":
        made = processes(change, 4, tmp_path / "g")
        for process in made:
            process.join(LIMIT_S)
        assert [process.exitcode for process in made] == [0] * 4
    else:
        threads = [threading.Thread(target=change, args=(i, g.store)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert g["a"][...].tolist() == [80, 80, 80, 0, 0, 0]
    assert g["b"][...].tolist() == [800, 800, 800, 0, 0, 0]


def test_others_wait_for_what_is_locked_together(tmp_path: Path) -> None:
    g = zarrant.create_group(tmp_path / "g")
    for name in ("a", "b"):
        g.create_array(name, shape=(6,), dtype="i8", chunks=(2,))
    other = zarrant.open_group(tmp_path / "g", config={"lock_timeout": 0.2})
    with g.lock({"a": np.s_[0:2], "b": np.s_[4:6]}):
        for name, locked in (("a", 1), ("b", 4)):
            with pytest.raises(LockTimeout):
                together(lambda name=name, locked=locked: other[name].__setitem__(locked, 1))
        other["a"][4] = other["b"][1] = 1
    other["a"][1] = 1
    with pytest.raises(NodeNotFoundError):
        g.lock({"none": np.s_[0:1]})
