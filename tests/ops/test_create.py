"""Arrays that several create at once, with data, on a store that can only compare and swap: of one creator, or not there."""

from __future__ import annotations

import os
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.ops.conftest import make_state
from tests.ops.processes import Disk, Process, run

from zarrant import requests
from zarrant.errors import NodeExistsError, NodeNotFoundError, StoreError
from zarrant.metadata.turn import Turn
from zarrant.metadata.v2 import dump_attributes
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.ops import create, read, resize, turns
from zarrant.ops import node as node_ops
from zarrant.ops.bound_array import BoundArray, OpOptions

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
SCHEDULES = 3000 * SOAK or 30
OPTIONS = OpOptions(turns=True, erases_if=False)
SHAPE = (6, 4)
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4, 3)},
    "shards": {"chunks": (2, 2), "shards": (4, 4)},
    "V2": {"chunks": (4, 3), "zarr_format": 2},
}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


class Shared(Disk):
    """Objects whose writes are answered with their version."""

    def store(self, item: Any) -> Any:
        super().store(item)
        return self.get(item.key)


def creator(layout: str, k: int | None, match: bool = True, **options: Any) -> requests.Op[Any]:
    """Create an array that is k everywhere; None: without data."""
    array = make_state(OPTIONS, shape=SHAPE, **{**LAYOUTS[layout], **options})
    return create.create_array(array, None if k is None else np.full(SHAPE, k, "int32"), match=match, listing=True)


def found(disk: Disk) -> tuple[ArrayMetadata, set[int]]:
    """The metadata that are stored, and the values."""
    metadata = disk.perform(node_ops.read_metadata("a"))
    state = BoundArray.from_metadata("a", metadata, OPTIONS)
    values = disk.perform(read.retrieve_array_subset(state, tuple(slice(0, n) for n in state.shape)))
    return metadata, {int(value) for value in np.unique(values)}


def to_end(disk: Disk, op: requests.Op[Any]) -> Any:
    process = Process(disk, op)
    run(random.Random(1), disk, [process])
    return process.result


@layouts
@pytest.mark.parametrize("match", [True, False], ids=["match", "error"])
@pytest.mark.parametrize("kills", [False, True], ids=["slow", "killed"])
def test_chunks_of_creators_do_not_mix(layout: str, match: bool, kills: bool) -> None:
    for seed in range(SCHEDULES):
        dice, disk = random.Random(f"{layout} {match} {kills} {seed}"), Shared()
        n = dice.choice([2, 3])
        processes = [Process(disk, creator(layout, k + 1, match)) for k in range(n)]
        killed = run(dice, disk, processes, 3 * turns.TAKE_OVER_S, kills)
        last = to_end(disk, creator(layout, 9))
        metadata, values = found(disk)
        assert (metadata.shape, metadata.turn) == (SHAPE, None), seed
        assert len(values) == 1, (seed, values)
        assert values <= ({*range(1, n + 1)} if len(killed) < n and not killed else {*range(1, n + 1), 9}), seed
        results = [each.result for i, each in enumerate(processes) if i not in killed]
        assert last == metadata
        if match:
            assert results == [metadata] * len(results), seed
        else:
            done = [i for i, each in enumerate(processes) if isinstance(each.result, ArrayMetadata)]
            assert len(done) <= 1
            assert all(isinstance(result, ArrayMetadata | NodeExistsError) for result in results), (seed, results)
            assert not done or values == {done[0] + 1}, seed


@layouts
def test_a_creator_who_is_stopped_at_any_step_stores_nothing_in_the_array_of_another(layout: str) -> None:
    seen = set()
    for at in range(200):
        disk = Shared()
        one, two = Process(disk, creator(layout, 1)), Process(disk, creator(layout, 2))
        for process, steps in ((one, at), (two, 10_000), (one, 10_000)):
            for _ in range(steps):
                if not process.done:
                    disk.now = max(disk.now, process.wake)
                    process.step()
        metadata, values = found(disk)
        assert (one.result, two.result) == (metadata, metadata), at
        seen.add(frozenset(values))
        if at > 60:
            break
    assert seen == {frozenset({1}), frozenset({2})}


@pytest.mark.parametrize("attributes", [{"k": 1}, {}], ids=["some", "none"])
@pytest.mark.parametrize("there", [{}, {"k": 0}], ids=["nothing there", "left over"])
def test_a_creator_who_is_stopped_at_any_step_leaves_the_attributes_of_another(there: Any, attributes: Any) -> None:
    """Of V2, where they are an object of their own: also those that the other one has changed meanwhile."""
    for at in range(200):
        disk = Shared()
        if there:
            disk["a/.zattrs"] = dump_attributes(there)
        one = Process(disk, creator("V2", None, match=False, attributes=attributes))
        for _ in range(at):
            if not one.done:
                one.step()
        if one.done:
            break
        two = to_end(disk, creator("V2", None, match=False, attributes={"k": 2}))
        if isinstance(two, NodeExistsError):
            continue
        to_end(disk, node_ops.update_attributes("a", {"more": 3}))
        run(random.Random(at), disk, [one])
        assert isinstance(one.result, NodeExistsError), at
        assert disk.perform(node_ops.read_metadata("a")).attributes == {"k": 2, "more": 3}, at
    assert at > 3


@layouts
def test_who_creates_without_data_waits_for_who_has_some(layout: str) -> None:
    disk = Shared()
    one, two = Process(disk, creator(layout, 1)), Process(disk, creator(layout, None))
    while "a/c/0/0" not in disk and "a/0.0" not in disk:
        one.step()
    early, values = found(disk)
    assert (early.shape, values) == ((0, 4), set())
    run(random.Random(1), disk, [one, two])
    assert one.result == two.result
    assert found(disk)[1] == {1}


def test_another_array_than_the_one_that_is_created_is_refused() -> None:
    for options in ({"chunks": (2, 2)}, {"attributes": {"x": 1}}, {"dtype": "int16"}):
        disk = Shared()
        one = Process(disk, creator("chunks", 1))
        while "a/c/0/0" not in disk:
            one.step()
        assert isinstance(to_end(disk, creator("chunks", 2, **options)), NodeExistsError)
        run(random.Random(1), disk, [one])
        assert found(disk)[1] == {1}


def test_what_fails_leaves_no_array() -> None:
    disk = Shared()
    store = disk.store

    def fail(item: Any) -> Any:
        if item.key == "a/c/1/0":
            raise StoreError("broken")
        return store(item)

    disk.store = fail  # type: ignore[method-assign]
    assert isinstance(to_end(disk, creator("chunks", 1)), StoreError)
    assert "a/zarr.json" not in disk
    disk.store = store  # type: ignore[method-assign]
    to_end(disk, creator("chunks", 2))
    assert found(disk)[1] == {2}


def test_an_array_below_another_one_is_refused() -> None:
    disk = Shared()
    to_end(disk, creator("chunks", 1))
    array = make_state(OPTIONS, prefix="a/b", shape=SHAPE)
    result = to_end(disk, create.create_array(array, np.ones(SHAPE, "int32")))
    assert isinstance(result, NodeExistsError)
    assert "cannot hold" in str(result)


def test_appending_to_an_array_whose_creator_was_killed() -> None:
    disk = Shared()
    one = Process(disk, creator("chunks", 1))
    while "a/c/0/0" not in disk:
        one.step()
    state = BoundArray.from_metadata("a", disk.perform(node_ops.read_metadata("a")), OPTIONS)
    assert to_end(disk, resize.append(state, np.full((2, 4), 5, "int32"))) == slice(0, 2)
    metadata, values = found(disk)
    assert (metadata.shape, metadata.turn, values) == ((2, 4), None, {5})
    run(random.Random(1), disk, [one])
    assert isinstance(one.result, NodeExistsError | NodeNotFoundError)
    assert found(disk)[1] == {5}


def test_the_turn_says_that_the_array_is_being_made() -> None:
    turn = Turn("ab", 3, 5.0, creates=True)
    assert Turn.from_json(turn.to_json()) == turn
    assert replace(turn, creates=False).to_json() == Turn("ab", 3, 5.0).to_json()
    assert "creates" not in Turn("ab").to_json()
