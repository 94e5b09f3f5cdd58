"""Several arrays that grow as one without locks: appends of several processes, interleaved, stopped and killed at every step."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
from tests.ops.conftest import make_state
from tests.ops.processes import Disk, Process, run

from zarrant import requests
from zarrant.errors import ConflictError, LockTimeout, ShapeError, StoreError, VersionChangedError
from zarrant.metadata.turn import Turn
from zarrant.ops import append_record, group_changes, read, resize, turns
from zarrant.ops import node as node_ops
from zarrant.ops.bound_array import BoundArray, OpOptions

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
SCHEDULES = 3000 * SOAK or 30
NAMES = ("b", "a", "h/c")
OPTIONS = OpOptions(turns=True, erases_if=False)
FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


class Shared(Disk):
    """Objects whose writes are answered with their version, and can fail."""

    fails: Any = None

    def store(self, item: Any) -> Any:
        if self.fails is not None:
            self.fails(item)
        super().store(item)
        return self.get(item.key)


def begin(zarr_format: int = 3) -> Shared:
    """A group g with three arrays of two rows."""
    disk = Shared()
    for name, shape, chunks in (("b", (0,), (3,)), ("a", (0, 2), (4, 2)), ("h/c", (0,), (5,))):
        path = f"g/{name}"
        disk.perform(node_ops.create_node(path, make_state(shape=shape, chunks=chunks, zarr_format=zarr_format).metadata))
    to_end(disk, append(9, 2))
    return disk


def append(k: int, n: int, names: tuple[str, ...] = NAMES) -> requests.Op[slice]:
    """Append n rows of k."""
    data = {name: np.full((n, 2) if name == "a" else n, k, "int32") for name in names}
    return group_changes.append("g", data, 0, OPTIONS)


def to_end(disk: Disk, op: requests.Op[Any]) -> Any:
    process = Process(disk, op)
    run(random.Random(1), disk, [process])
    return process.result


def bound(disk: Disk, name: str) -> BoundArray:
    return BoundArray.from_metadata(f"g/{name}", disk.perform(node_ops.read_metadata(f"g/{name}")), OPTIONS)


def rows(disk: Disk, name: str) -> list[int]:
    """The number in each row; all elements of a row have it."""
    state = bound(disk, name)
    found = disk.perform(read.retrieve_array_subset(state, tuple(slice(0, n) for n in state.shape)))
    found = found.reshape(len(found), 2 if name == "a" else 1)
    assert (found == found[:, :1]).all()
    return [int(n) for n in found[:, 0]]


def check(disk: Disk, got: dict[int, Any], killed: dict[int, int], where: Any) -> None:
    """Rows of one append lie together, in all arrays at one place; none is there twice, none that was told is missing."""
    found = {name: rows(disk, name) for name in NAMES}
    assert found["a"] == found["b"] == found["h/c"], (where, found)
    values = found["a"]
    assert values[:2] == [9, 9]
    expected = 2
    for k, place in got.items():
        assert isinstance(place, slice), (where, place)
        assert values[place] == [k] * (place.stop - place.start), (where, values, place)
        assert values.count(k) == place.stop - place.start, (where, values, place)
        expected += place.stop - place.start
    for k, n in killed.items():
        assert values.count(k) in (0, n), (where, values, k)
        expected += values.count(k)
    assert len(values) == expected, (where, values)
    assert not any(bound(disk, name).metadata.turn for name in NAMES), where


@FORMATS
@pytest.mark.parametrize("kills", [False, True], ids=["slow", "killed"])
def test_every_order_of_steps(zarr_format: int, kills: bool) -> None:
    for seed in range(SCHEDULES):
        dice = random.Random(f"{zarr_format} {kills} {seed}")
        disk, n = begin(zarr_format), dice.choice([2, 2, 3])
        sizes = [dice.randint(1, 5) for _ in range(n)]
        processes = [Process(disk, append(100 + i, size)) for i, size in enumerate(sizes)]
        killed = run(dice, disk, processes, 3 * turns.TAKE_OVER_S, kills)
        last = to_end(disk, append(7, 2))
        got = {100 + i: each.result for i, each in enumerate(processes) if i not in killed}
        check(disk, {**got, 7: last}, {100 + i: sizes[i] for i in killed}, seed)
        assert kills or not [key for key in disk if "__append" in key], seed


@pytest.mark.parametrize("others", [False, True], ids=["the same arrays", "some of the arrays"])
def test_who_is_stopped_at_any_step_harms_nobody(others: bool) -> None:
    """One is stopped, another one comes, and is stopped as well or not; the first goes on to its end, then the second."""
    dice = random.Random(f"{others}")
    for at in range(dice.randrange(3), 500, 1 if SOAK else 3):
        for until in range(90) if SOAK else [dice.choice([10_000, dice.randrange(60)])]:
            disk = begin()
            one, two = Process(disk, append(100, 4)), Process(disk, append(200, 3))
            three = Process(disk, resize.append(bound(disk, "h/c"), np.zeros(0, "int32")))
            for process, steps in ((one, at), (three, 10_000 if others else 0), (two, until), (one, 10_000), (two, 10_000)):
                for _ in range(steps):
                    if not process.done:
                        disk.now = max(disk.now, process.wake)
                        process.step()
            check(disk, {100: one.result, 200: two.result}, {}, (at, until))
        if one.done and at > 150:
            return


@FORMATS
def test_who_is_killed_at_any_step_leaves_all_or_nothing(zarr_format: int) -> None:
    """Killed before the record says so: nothing. After it: everything, at once, also for whoever appends to one array only."""
    seen: set[Any] = set()
    for at in range(500):
        disk = begin(zarr_format)
        process = Process(disk, append(100, 4))
        for _ in range(at):
            disk.now = max(disk.now, process.wake)
            if not process.done:
                process.step()
        if process.done:
            break
        before = {name: len(rows(disk, name)) for name in NAMES}
        if min(before.values()) < max(before.values()):
            start = disk.now
            op = resize.append(bound(disk, "h/c"), np.zeros(0, "int32")) if at % 2 else append(7, 0)
            assert not isinstance(to_end(disk, op), Exception)
            assert disk.now - start < 1, "what was decided is completed without waiting"
            check(disk, {}, {100: 4}, at)
        seen.add(tuple(before.values()))
        check(disk, {7: to_end(disk, append(7, 2))}, {100: 4}, at)
        seen.add(rows(disk, "a").count(100))
    assert {0, 4, (2, 2, 2), (6, 2, 2)} <= seen or {0, 4, (2, 2, 2), (2, 6, 2)} <= seen
    assert at > 20


def test_a_failed_append_leaves_nothing() -> None:
    """Each write of an object fails in turn, before it was stored or after: told, and all or nothing."""
    outcomes = set()
    for after in (False, True):
        for at in range(40):
            disk = begin()
            left = [at]

            def fail(item: Any, disk: Any = disk, left: Any = left, after: bool = after) -> None:
                left[0] -= 1
                if left[0] == -1:
                    if after:
                        Disk.store(disk, item)
                    raise StoreError("broken")

            disk.fails = fail
            process = Process(disk, append(100, 4))
            run(random.Random(1), disk, [process])
            disk.fails = None
            told = isinstance(process.result, Exception)
            last = to_end(disk, append(7, 2))
            there = rows(disk, "a").count(100) == 4
            outcomes.add((told, there))
            if told and there:
                assert isinstance(process.result, ConflictError), process.result
                assert "next append" in process.result.hint
            check(disk, {7: last, **({} if told else {100: process.result})}, {100: 4} if told else {}, at)
            if left[0] >= 0:
                break
    assert outcomes == {(True, False), (False, True), (True, True)}


def test_what_does_not_fit_leaves_nothing() -> None:
    disk = begin()
    before = dict(disk)
    for data in (
        {"a": np.zeros((2, 3), "int32"), "b": np.zeros(2, "int32")},
        {"a": np.zeros((2, 2), "int32"), "b": np.zeros(3, "int32")},
    ):
        assert isinstance(to_end(disk, group_changes.append("g", data, 0, OPTIONS)), ShapeError)
    assert dict(disk) == before


def test_a_record_that_is_not_in_the_store_is_waited_for() -> None:
    """The store of who waits begins at the array, that of the append above it."""
    disk, inside = begin(), Shared()
    process = Process(disk, append(100, 4))
    while "a/c/0/0" not in str(list(disk)) or bound(disk, "a").metadata.turn is None:
        process.step()
    inside.update({key.removeprefix("g/a/"): data for key, data in disk.items() if key.startswith("g/a/")})
    array = BoundArray.from_metadata("", inside.perform(node_ops.read_metadata("")), OPTIONS)
    found = to_end(inside, resize.append(array, np.zeros((1, 2), "int32")))
    assert isinstance(found, LockTimeout)
    assert "several arrays" in found.hint


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"append": "ab", "state": "decided", "arrays": {"..": [1]}}', b"\xff"])
def test_what_is_no_record_is_dropped_in_time(data: bytes) -> None:
    disk = begin()
    disk["g/__append.ab.json"] = data
    end_of = {name: len(rows(disk, name)) for name in NAMES}
    array = bound(disk, "a")
    swapped = turns._swap_in(array, Turn("ab", 0, 5.0, "../__append.ab.json"), disk["g/a/zarr.json"])
    assert disk.perform(swapped) is not None
    assert to_end(disk, append(7, 2)) == slice(end_of["a"], end_of["a"] + 2)
    assert disk.now > 5


@pytest.mark.parametrize("record", ["__append.ab.json", "../zarr.json", "../__append.xy.json", "/__append.ab.json", 5])
def test_the_path_of_a_record_is_checked(record: Any) -> None:
    value = {"token": "ab", "beat": 1, "seconds": 3, "record": record}
    assert Turn.from_json(value).record is None
    assert Turn.from_json(value).token != "ab"


def test_a_store_that_says_no_to_what_it_stored_is_understood() -> None:
    """As where a reply was lost and the request was made again."""
    disk = begin()

    def refuse(item: Any) -> None:
        if "__append" in item.key and item.parts is not None and b"decided" in b"".join(item.parts):
            Disk.store(disk, item)
            raise VersionChangedError("the object was replaced")

    disk.fails = refuse
    assert to_end(disk, append(100, 4)) == slice(2, 6)
    disk.fails = None
    check(disk, {100: slice(2, 6)}, {}, None)


def test_names_of_records() -> None:
    for group, path in (("", "a"), ("", "x/y"), ("g", "g/a"), ("g/h", "g/h/i/j")):
        name = append_record.name_of(group, path, "5f")
        assert Turn.from_json({"token": "5f", "beat": 0, "seconds": 1, "record": name}).record == name
        assert append_record.group_of(path, name) == group


def test_who_decides_while_another_one_drops_it_wins() -> None:
    """He was stopped for long, and goes on in the moment in which others have seen that."""
    count = 0
    for at in range(60):
        disk = begin()
        one, two = Process(disk, append(100, 4)), Process(disk, append(200, 3))
        for _ in range(at):
            disk.now = max(disk.now, one.wake)
            one.step()
            if one.done:
                break

        def go_on(item: Any, disk: Any = disk, one: Any = one) -> None:
            if "__append" in item.key and item.parts is not None and b"dropped" in b"".join(item.parts):
                disk.fails = None
                while not one.done and not any("__append" in key and b"decided" in disk[key] for key in disk):
                    one.step()

        disk.fails = go_on
        run(random.Random(1), disk, [two])
        count += disk.fails is None
        while not one.done:
            disk.now = max(disk.now, one.wake)
            one.step()
        check(disk, {100: one.result, 200: two.result}, {}, at)
    assert count > 5
