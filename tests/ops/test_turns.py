"""Turns: operations of several processes on a store that can only compare and swap, interleaved in thousands of ways.

Each process is an operation whose requests are performed one by one on one dict, in an order that a random generator chooses. A
write has two steps, the look at the metadata and the storing, between which others may come. Versions are the bytes themselves, so
equal bytes have equal versions. A process may be stopped for longer than its turn lasts, or be killed. What is left must be what
some order of the operations makes of a NumPy array.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.ops.conftest import Dict, make_state
from tests.ops.processes import Disk, Process, run

from zarrant.errors import LockTimeout, NodeNotFoundError, ShapeError
from zarrant.metadata import node
from zarrant.metadata.turn import Turn
from zarrant.metadata.v3 import ArrayMetadata, dump, parse
from zarrant.ops import convert, read, resize, turns, update, write
from zarrant.ops import node as node_ops
from zarrant.ops.bound_array import BoundArray, OpOptions

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
SCHEDULES = 3000 * SOAK or 25
KEY = "a/zarr.json"
ROWS = 6
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4,)},
    "shards": {"chunks": (2,), "shards": (4,)},
}


def begin(layout: str, format_: int = 3) -> tuple[Disk, Callable[[], BoundArray], Any]:
    """An array of `ROWS` rows, handles of it, and its values."""
    disk = Disk()
    options = OpOptions(turns=True, erases_if=False)
    made = make_state(options, shape=(ROWS,), zarr_format=format_, **LAYOUTS[layout])
    for name, data in node.dump_all(made.metadata).items():
        if data is not None:
            disk[f"a/{name}"] = data
    version = disk[f"a/{node.main_name(made.metadata)}"]

    def handle() -> BoundArray:
        return BoundArray.from_metadata("a", replace(made.metadata, version=version), options)

    values = np.arange(1, ROWS + 1, dtype="int32")
    disk.perform(update.store_array_subset(handle(), np.s_[:], values))
    return disk, handle, values


def stored(disk: Disk) -> tuple[Any, ArrayMetadata]:
    """The values and the metadata as somebody finds them who comes now."""
    metadata = disk.perform(node_ops.read_metadata("a"))
    array = BoundArray.from_metadata("a", metadata, OpOptions())
    return disk.perform(read.retrieve_array_subset(array, np.s_[:])), metadata


# What can be done, to the array and to a model of it ------------------------------------------------------------------------


def _append(k: int, n: int) -> tuple[Any, Any]:
    data = np.full(n, k, "int32")
    return lambda array: resize.append(array, data), lambda a: (np.append(a, data), slice(len(a), len(a) + n))


def _resize(n: int) -> tuple[Any, Any]:
    def model(a: Any) -> Any:
        return np.append(a, np.zeros(max(0, n - len(a)), "int32"))[:n].astype("int32"), []

    return lambda array: resize.resize(array, (n,), shrink=True), model


def _write(start: int, stop: int, k: int, op: Callable[[BoundArray], Any]) -> tuple[Any, Any]:
    def model(a: Any) -> Any:
        a = a.copy()
        a[start : min(stop, len(a))] = k
        return a, None

    return op, model


def actions(dice: random.Random, number: int) -> tuple[Any, Any]:
    """An action: the operation of an array, and what it makes of (and returns for) a NumPy array."""
    k = 100 * (number + 1)
    match dice.choice(["append", "append", "append", "grow", "cut", "chunk", "edge", "part", "erase"]):
        case "append":
            return _append(k, dice.randint(1, 6))
        case "grow":
            return _resize(ROWS + dice.randint(1, 7))
        case "cut":
            return _resize(dice.randint(1, ROWS - 1))
        case "chunk":
            return _write(0, 4, k, lambda array: write.store_chunk(array, (0,), np.full(4, k, "int32")))
        case "edge":
            return _write(4, ROWS, k, lambda array: write.store_chunk(array, (1,), np.full(ROWS - 4, k, "int32")))
        case "part":
            start = dice.choice([2, 4])
            part = slice(start, start + 1)
            return _write(start, start + 1, k, lambda array: update.store_array_subset(array, part, np.full(1, k, "int32")))
    return _write(4, ROWS, 0, lambda array: write.erase_chunk(array, (1,)))


def possible(values: Any, models: list[Any], killed: set[int], found: Any, results: list[Any]) -> bool:
    """Whether some order of the operations, of which a killed one may be left out, gives what was found and returned."""
    for count in range(len(killed) + 1):
        for gone in itertools.combinations(sorted(killed), count):
            rest = [i for i in range(len(models)) if i not in gone]
            for order in itertools.permutations(rest):
                now, same = values, True
                for i in order:
                    now, result = models[i](now)
                    same = same and (i in killed or result == results[i])
                if same and np.array_equal(now, found):
                    return True
    return False


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["appends", "all"])
@pytest.mark.parametrize("kills", [False, True], ids=["slow", "killed"])
def test_every_order_of_steps(layout: str, kind: str, kills: bool) -> None:
    """Appends alone stand a request that is on its way for ever; beside a resize it may take three quarters of a turn."""
    for seed in range(SCHEDULES):
        dice = random.Random(f"{layout} {kind} {kills} {seed}")
        disk, handle, values = begin(layout)
        n = dice.choice([2, 3])
        pairs = [_append(100 * (i + 1), dice.randint(1, 6)) if kind == "appends" else actions(dice, i) for i in range(n)]
        processes = [Process(disk, op(handle())) for op, _ in pairs]
        killed = run(dice, disk, processes, 3 * turns.TAKE_OVER_S if kind == "appends" else 0.7 * turns.TAKE_OVER_S, kills)
        results = [each.result for each in processes]
        assert not [result for result in results if isinstance(result, Exception)], (seed, results)
        # Whoever comes next cleans up after those that were killed.
        last = Process(disk, resize.append(handle(), np.full(2, 7, "int32")))
        run(dice, disk, [last])
        found, metadata = stored(disk)
        assert metadata.turn is None
        assert found[last.result].tolist() == [7, 7], (seed, found, last.result)
        models = [model for _, model in pairs]
        assert possible(values, models, killed, found[: last.result.start], results), (seed, found, results, killed)
        # What lies beyond the end is nobody's: growing shows fill values.
        grown = Process(disk, resize.resize(handle(), (len(found) + 9,), shrink=True))
        run(dice, disk, [grown])
        assert not stored(disk)[0][len(found) :].any(), seed


def advance(process: Process, steps: int) -> None:
    """Perform steps of one process; where it waits, time goes by."""
    for _ in range(steps):
        if process.done:
            return
        process.disk.now = max(process.disk.now, process.wake)
        process.step()
    assert steps < FOR_EVER, "it does not come to an end"


FOR_EVER = 5_000
STOPPED: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "append": lambda k: _append(k, 5),
    "short append": lambda k: _append(k, 1),
    "cut": lambda k: _resize(3),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("first", STOPPED)
@pytest.mark.parametrize("second", STOPPED)
def test_who_is_stopped_at_any_step_harms_nobody(layout: str, first: str, second: str) -> None:
    """One is stopped, or its machine suspended; another one takes over, and is stopped as well or not; both go on to their ends."""
    dice = random.Random(f"{layout} {first} {second}")
    for at in range(FOR_EVER):
        pauses = range(60) if SOAK else [dice.choice([FOR_EVER - 1, dice.randrange(30)])]
        for until in pauses:
            disk, handle, values = begin(layout)
            pairs = [STOPPED[first](100), STOPPED[second](200)]
            one, two = (Process(disk, op(handle())) for op, _ in pairs)
            advance(one, at)
            over, since = one.done, disk.now
            advance(two, until)
            one.asleep = dice.choice([0.0, disk.now - since])
            for each in (one, two):
                advance(each, FOR_EVER - 1)
                assert each.done and not isinstance(each.result, Exception), (at, until, each.result)
            found, metadata = stored(disk)
            assert metadata.turn is None
            # What a lost turn did not clean up is told, and cleaned up by whoever grows the array.
            results = [[] if isinstance(each.result, list) else each.result for each in (one, two)]
            assert possible(values, [model for _, model in pairs], set(), found, results), (at, until, found)
        if over:
            assert at > 7
            return


# One by one -----------------------------------------------------------------------------------------------------------------


def take(disk: Disk, handle: Callable[[], BoundArray], seconds: float = 30.0) -> None:
    """Somebody takes the turn, and is killed."""
    metadata = parse(disk[KEY])
    assert isinstance(metadata, ArrayMetadata)
    disk[KEY] = dump(replace(metadata, turn=Turn("somebody", 4, seconds)))


@pytest.mark.parametrize("format_", [2, 3])
def test_the_turn_is_no_part_of_the_array(format_: int) -> None:
    disk, _, values = begin("chunks", format_)
    main = KEY if format_ == 3 else "a/.zarray"
    plain = disk.perform(node_ops.read_metadata("a"))
    taken = replace(plain, turn=Turn("me"))
    disk[main] = node.dump(taken)
    found, metadata = stored(disk)
    assert (metadata.turn, metadata, found.tolist()) == (Turn("me"), plain, values.tolist())
    assert metadata.to_json() == plain.to_json()
    assert b"zarrant_turn" not in b"".join(data or b"" for data in node.dump_all(metadata).values())
    changed = disk.perform(node_ops.update_attributes("a", {"x": 1}))
    assert (changed.turn, changed.attributes) == (Turn("me"), {"x": 1})
    assert stored(disk)[1].turn == Turn("me")
    if format_ == 3:  # of V2 the next one reads .zattrs apart
        array = BoundArray.from_metadata("a", stored(disk)[1], OpOptions(turns=True))
        last = Process(disk, resize.append(array, np.full(2, 7, "int32")))
        run(random.Random(1), disk, [last])
        assert stored(disk)[1].attributes == {"x": 1}


@pytest.mark.parametrize(
    "value",
    [{}, {"must_understand": False}, {"token": 3}, {"token": "a", "beat": "b"}, {"token": "a", "beat": 1, "seconds": 1e300}],
)
def test_what_is_no_turn_in_form_is_waited_for(value: Any) -> None:
    turn = Turn.from_json({"must_understand": False, **value})
    assert (turn.seconds, Turn.from_json(turn.to_json())) == (30.0, turn)


def test_a_dead_writers_turn_is_taken_over_in_time() -> None:
    disk, handle, _ = begin("chunks")
    take(disk, handle, 8.0)
    process = Process(disk, resize.append(handle(), np.full(3, 7, "int32")))
    run(random.Random(1), disk, [process])
    assert process.result == slice(6, 9)
    assert 8.0 < disk.now < 9.0


def test_a_turn_that_is_renewed_is_waited_for() -> None:
    disk, handle, _ = begin("chunks")
    take(disk, handle)
    process, beat = Process(disk, resize.append(handle(), np.full(3, 7, "int32"))), 0
    while not process.done:
        process.step()
        disk.now = max(disk.now, process.wake)
        if disk.now > 5.0 * beat:
            beat += 1
            disk[KEY] = dump(replace(stored(disk)[1], turn=Turn("somebody", beat)))
    assert isinstance(process.result, LockTimeout)
    assert 80 < disk.now < 100


def test_a_writer_renews_its_turn() -> None:
    disk, handle, _ = begin("chunks")
    beats = set()

    def slow(request: Any) -> None:
        disk.now += 5.0
        beats.add(getattr(stored(quiet)[1].turn, "beat", None))

    quiet = Dict()
    quiet.update(disk)
    process = Process(disk, resize.append(handle(), np.full(40, 7, "int32")))
    while not process.done:
        process.step()
        disk.now = max(disk.now, process.wake) + 2.0
        quiet.update(disk)
        slow(None)
    assert process.result == slice(6, 46)
    assert {0, 1} <= beats


@pytest.mark.parametrize(("n", "delay_s", "looks"), [(4, 0.0, [False]), (4, 0.2, [True]), (1, 0.0, [True])])
def test_the_look_of_a_take_serves_new_chunks_for_a_moment(n: int, delay_s: float, looks: list[bool]) -> None:
    """Not where it took long to encode them, and not what depends on a chunk that was read since."""
    disk, handle, _ = begin("chunks")
    if n == 4:
        run(random.Random(1), disk, [Process(disk, resize.resize(handle(), (8,)))])
    array = BoundArray.from_metadata("a", stored(disk)[1], handle().options)
    puts: list[Any] = []

    class Watched(Process):
        def _put(self, items: Any, condition: Any) -> Any:
            if "/c/" in items[0].key:
                puts.append(condition is not None)
            outcome = yield from super()._put(items, condition)
            self.disk.now += delay_s
            return outcome

    process = Watched(disk, resize.append(array, np.full(n, 7, "int32")))
    run(random.Random(1), disk, [process])
    assert isinstance(process.result, slice)
    assert puts == looks
    assert stored(disk)[0][process.result].tolist() == [7] * n


def test_a_turn_that_was_lost_is_started_over_with_more_time() -> None:
    disk, handle, _ = begin("chunks")
    process, seen = Process(disk, resize.append(handle(), np.full(3, 7, "int32"))), []
    while not process.done:
        process.step()
        disk.now = max(disk.now, process.wake)
        turn = stored(disk)[1].turn
        if turn is not None and turn.token != "somebody" and turn.seconds not in seen:
            seen.append(turn.seconds)
            if len(seen) < 4:
                take(disk, handle, 1.0)
    assert process.result == slice(6, 9)
    assert seen == [30.0, 60.0, 120.0, 240.0]


def test_what_cannot_be_done_takes_no_turn() -> None:
    disk, handle, _ = begin("chunks")
    before = dict(disk)
    for op in (
        resize.append(handle(), np.full((3, 3), 7, "int32")),
        resize.resize(handle(), (3,), shrink=False),
    ):
        process = Process(disk, op)
        run(random.Random(1), disk, [process])
        assert isinstance(process.result, ShapeError)
    assert dict(disk) == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fill_is_stored_where_nothing_can_be_erased_by_version(layout: str) -> None:
    disk, handle, _ = begin(layout)
    disk.perform(update.store_array_subset(handle(), np.s_[1:6], np.zeros(5, "int32")))
    disk.perform(update.store_array_subset(handle(), np.s_[0:1], np.zeros(1, "int32")))
    assert {key for key in disk if "/c/" in key} == {"a/c/0", "a/c/1"}
    found, _ = stored(disk)
    assert not found.any()
    assert len(disk["a/c/0"]) <= 40
    process = Process(disk, resize.append(handle(), np.zeros(6, "int32")))
    run(random.Random(1), disk, [process])
    assert process.result == slice(6, 12)
    assert "a/c/2" in disk


def test_an_append_beside_a_conversion_is_kept_or_refused() -> None:
    for seed in range(SCHEDULES):
        dice = random.Random(f"conversion {seed}")
        disk, handle, values = begin("chunks", 2)
        process = Process(disk, resize.append(handle(), np.full(3, 7, "int32")))
        rival = Process(disk, convert.convert("a", 3, handle().options))
        run(dice, disk, [process, rival], 0.2 * turns.TAKE_OVER_S)
        assert rival.result is True, seed
        found, metadata = stored(disk)
        assert (metadata.zarr_format, metadata.turn) == (3, None), seed
        appended = [7, 7, 7] if process.result == slice(6, 9) else []
        assert appended or isinstance(process.result, NodeNotFoundError), (seed, process.result)
        assert found.tolist() == [*values.tolist(), *appended], seed
