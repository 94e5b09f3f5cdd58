"""Consolidated metadata: what zarr-python and xarray see in them is what is there, whatever is done here and by how many."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import LIMIT_S
from zarrant.errors import NodeNotFoundError, ZarrantError

zarr = pytest.importorskip("zarr")
pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata", "ignore:Object at .* is not recognized")

EVERY = 1 if os.environ.get("ZARRANT_SOAK") else 3
"""The processes are killed at each so many-th file call."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A hierarchy that zarr-python made and consolidated, as `xarray.Dataset.to_zarr` does."""
    group = zarr.open_group(tmp_path / "c.zarr", mode="w")
    group.create_array("t", data=np.arange(4, dtype="i4"), chunks=(2,))
    group.create_group("g").create_array("u", data=np.arange(3, dtype="i4"))
    zarr.consolidate_metadata(tmp_path / "c.zarr")
    return tmp_path / "c.zarr"


def seen(place: Path, consolidated: bool) -> dict[str, Any]:
    """What zarr-python finds, by copies of metadata or by looking at each node."""
    group = zarr.open_group(place, mode="r", use_consolidated=consolidated)
    return {name: node.metadata.to_dict() | {"consolidated_metadata": None} for name, node in group.members(max_depth=None)}


def check(place: Path) -> dict[str, Any]:
    found = seen(place, consolidated=True)
    assert found == seen(place, consolidated=False)
    return found


def test_others_see_every_change(place: Path) -> None:
    g = zarrant.open_group(place)
    assert g.info["Consolidated metadata"] == "yes"
    g["t"].append(np.array([4, 5], "i4"))
    assert check(place)["t"]["shape"] == (6,)
    g["t"].resize((2,))
    assert zarr.open_group(place, mode="r")["t"][...].tolist() == [0, 1]
    g["g/u"].attrs["unit"] = "h"
    g["g"].attrs["x"] = 1
    g.attrs["y"] = 2
    assert check(place)["g/u"]["attributes"] == {"unit": "h"}
    assert dict(zarr.open_group(place, mode="r").attrs) == {"y": 2}
    g.create_array("g/deep/er/new", data=[1, 2])
    g.create_group("empty", attributes={"z": 3})
    g["g"].create_array("u", data=[7, 8, 9], overwrite=True)
    assert sorted(check(place)) == ["empty", "g", "g/deep", "g/deep/er", "g/deep/er/new", "g/u", "t"]
    del g["t"]
    g["g/deep"].delete()
    assert sorted(check(place)) == ["empty", "g", "g/u"]
    a = zarrant.open_array(place, name="g/u")
    a.erase_metadata()
    assert "g/u" not in check(place)
    a.store_metadata()
    assert "g/u" in check(place)
    zarrant.create_array(place, name="top", shape=(2,), dtype="i4")
    zarrant.open_array(place, name="top2", mode="a", shape=(2,), dtype="i4")
    assert {"top", "top2"} <= set(check(place))


def test_the_async_twin_keeps_copies_too(place: Path) -> None:
    async def main() -> None:
        g = await zarrant.open_group_async(place)
        t = await g.getitem("t")
        await t.append(np.array([4, 5], "i4"))
        await t.resize((5,))
        await t.update_attributes({"a": 1})
        await g.create_array("new", shape=(2,), dtype="i4")
        await g.delitem("g")
        await g.update_attributes({"b": 2})
        await g.consolidate_metadata()

    asyncio.run(main())
    assert sorted(check(place)) == ["new", "t"]


@pytest.mark.parametrize("where", ["files", "memory"])
def test_groups_are_consolidated_here_as_well(tmp_path: Path, where: str) -> None:
    g = zarrant.create_group(tmp_path / "c" if where == "files" else {})
    g.create_array("x/a", shape=(3,), dtype="i4", attributes={"nan": [1]})
    assert "consolidated_metadata" not in g.metadata.to_json()
    g.consolidate_metadata()
    assert sorted(g.metadata.consolidated or ()) == ["x", "x/a"]
    g.create_array("b", shape=(3,), dtype="i4")
    g.refresh()
    assert sorted(g.metadata.consolidated or ()) == ["b", "x", "x/a"]
    if where == "files":
        check(tmp_path / "c")
        assert zarr.open_consolidated(tmp_path / "c")["x/a"].shape == (3,)
    assert zarrant.create_group(g.store, if_exists="match") == g


def test_xarray_opens_what_was_appended(tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = xarray.Dataset({"tas": ("time", np.arange(3.0))}, coords={"time": np.arange(3)})
        data.to_zarr(tmp_path / "x.zarr", zarr_format=3, consolidated=True)
        g = zarrant.open_group(tmp_path / "x.zarr")
        g["tas"].append(np.array([3.0, 4.0]))
        g["time"].append(np.array([3, 4]))
        found = xarray.open_zarr(tmp_path / "x.zarr", consolidated=True)
        assert found["tas"].values.tolist() == [0, 1, 2, 3, 4]


def test_without_locks_there_are_no_copies_rather_than_wrong_ones(place: Path) -> None:
    with pytest.warns(zarrant.errors.ZarrantWarning):
        g = zarrant.open_group(place, synchronizer=None)
    g["t"].append(np.array([4, 5], "i4"))
    assert "consolidated_metadata" not in json.loads((place / "zarr.json").read_text())
    assert zarr.open_group(place, mode="r")["t"].shape == (6,)


def work(place: Path, i: int) -> None:
    g = zarrant.open_group(place)
    for j in range(4):
        g.create_array(f"{'g/' if j % 2 else ''}new{i}.{j}", shape=(0,), dtype="i4", chunks=(4,)).append(np.arange(j, dtype="i4"))
        g["t"].append(np.array([i], "i4"))
        g["g/u"].attrs[f"{i}.{j}"] = j
    del g[f"new{i}.0"]
    if i == 0:
        g["g"].consolidate_metadata()


def run(target: Any, jobs: list[Any]) -> list[Any]:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=target, args=args) for args in jobs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child makes its own threads
        for process in processes:
            process.start()
    return processes


def test_many_processes_change_one_consolidated_hierarchy(place: Path) -> None:
    processes = run(work, [(place, i) for i in range(8)])
    for process in processes:
        process.join(LIMIT_S)
    assert [process.exitcode for process in processes] == [0] * 8
    found = check(place)
    assert len(found) == 3 + 8 * 3
    assert found["t"]["shape"] == (4 + 8 * 4,)
    assert len(found["g/u"]["attributes"]) == 32
    assert sorted(zarrant.open_group(place)["g"].metadata.consolidated or ()) == sorted(
        name[2:] for name in found if name.startswith("g/")
    )


def test_who_consolidates_beside_many_writers_tells_the_truth_or_nothing(place: Path) -> None:
    processes = run(work, [(place, i) for i in range(1, 4)])
    g = zarrant.open_group(place)
    done = 0
    while any(process.is_alive() for process in processes):
        try:
            g.consolidate_metadata()
            done += 1
        except ZarrantError:
            pass
    for process in processes:
        process.join(LIMIT_S)
    assert [process.exitcode for process in processes] == [0] * 3
    assert done
    assert len(check(place)) == 3 + 3 * 3


@pytest.mark.parametrize("what", ["append", "create", "delete", "consolidate"])
def test_kills_leave_right_copies_or_none(place: Path, what: str, killed_at: Any, tally: Any) -> None:
    def write(store: Any) -> None:
        g = zarrant.open_group(store)
        if what == "append":
            g["t"].append(np.array([7], "i4"))
        elif what == "create":
            g.create_array("g/new", shape=(2,), dtype="i4", data=[1, 2])
        elif what == "consolidate":
            g.consolidate_metadata()
        else:
            del g["g/u"]

    step = kills = 0
    while killed_at(place, step, write):
        step, kills = step + EVERY, kills + 1
        if what == "consolidate":
            zarrant.open_group(place)["t"].append(np.array([7], "i4"))
        copies = json.loads((place / "zarr.json").read_text()).get("consolidated_metadata")
        if copies is None:
            zarrant.open_group(place).consolidate_metadata()
        check(place)
        if what == "delete" and "u" not in zarrant.open_group(place)["g"]:
            zarrant.create_array(place, name="g/u", data=np.arange(3, dtype="i4"))
        if what == "create" and "g/new" in zarrant.open_group(place):
            del zarrant.open_group(place)["g/new"]
    assert step > 10
    check(place)
    tally("kills", kills)


@pytest.mark.parametrize("kind", ["group", "array"])
@pytest.mark.parametrize("above", ["", "top"])
@pytest.mark.parametrize("copies", ["there", "announced"])
def test_overwriting_a_group_and_an_append_below_do_not_wait_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copies: str, above: str, kind: str
) -> None:
    """The append has locked its array and is about to lock the group; overwriting has the group, and must erase the array."""
    from zarrant.ops import consolidated

    options: dict[str, Any] = {"name": above, "config": {"lock_timeout": 3}}
    group = zarrant.create_group(tmp_path, **options)
    array = group.create_array("h/t", shape=(4,), chunks=(2,), dtype="i4")
    group.consolidate_metadata()
    if copies == "announced":  # by a program that was killed before it had made them
        file = tmp_path / above / "zarr.json"
        text = json.loads(file.read_text())
        file.write_text(json.dumps({**text, "consolidated_metadata": None}))
    found, taken = threading.Event(), consolidated._with_copies

    def slowly(*args: Any) -> Any:
        if threading.current_thread().name == "append" and not found.is_set():
            found.set()
            time.sleep(0.5)
        return (yield from taken(*args))

    def append() -> None:
        try:
            array.append([1, 2])
        except ZarrantError as error:
            failed.append(error)

    failed: list[ZarrantError] = []
    monkeypatch.setattr(consolidated, "_with_copies", slowly)
    thread = threading.Thread(target=append, name="append")
    thread.start()
    assert found.wait(5)
    if kind == "group":
        zarrant.create_group(tmp_path, **options, overwrite=True)
    else:
        zarrant.create_array(tmp_path, **options, overwrite=True, shape=(2,), dtype="i4")
    thread.join()
    assert not [error for error in failed if not isinstance(error, NodeNotFoundError)]
    assert not list((tmp_path / above).glob("h/**/*"))
