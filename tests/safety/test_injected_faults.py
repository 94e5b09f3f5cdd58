"""Thousands of faults injected between Zarrant and a store that compares and swaps, by `zarrant.stores.wrappers.Faults`.

Rounds of operations on one array (chunks or shards), from blocking code and from asyncio. Every request may fail: before or after
it is carried out, by errors of every class, cut-off bodies, ranges that are too short or too long, old replicas, listings that lag.
After each operation a look at the store without faults says what is there:

- What was acknowledged is there, and what `PartialFailure` says is stored.
- After an error each stored object is the old one or the new one, whole; so are attributes, shape, and a new array.
- What is raised is typed and names its key. Nothing is called a conflict: nobody else writes. (Where several write, the counts
  of acknowledged updates are compared.)
- No lock and no place in a queue is left.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c
from zarrant.errors import (
    CapabilityError,
    ConflictError,
    DataError,
    LimitError,
    LostUpdateError,
    NodeNotFoundError,
    PartialFailure,
    StoreError,
    StoreFullError,
    StorePermissionError,
    VersionChangedError,
    ZarrantError,
)
from zarrant.ops import guard, turns
from zarrant.run import group_commit, store_locks
from zarrant.storage import capabilities
from zarrant.stores.wrappers import Fault, Faults
from zarrant.testkit import CoroutineStore, together

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
FAULTS = 8_000 * SOAK or 160
"""Faults of each of 13 cases at least: 2,000 in the quick run, 100,000 in a soak run."""

S = np.s_
CONFIG = {"concurrency": 1}  # one order of requests, so that a seed gives the same faults again
SHAPE, UNIT = (8, 16), (4, 8)
OLD = np.arange(128, dtype="uint16").reshape(SHAPE) + 1
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": UNIT, "compressors": [Crc32c()]},
    "plain": {"chunks": UNIT, "compressors": None},
    "shards": {"chunks": (2, 4), "shards": UNIT, "compressors": None},
}
WRITES = ("put", "put_if", "erase", "erase_if", "erase_prefix")
ERRORS: tuple[type[Exception], ...] = (
    *(StoreError, StorePermissionError, StoreFullError, ConnectionResetError, TimeoutError, OSError, RuntimeError),
)


def faults_of(share: float, erases: bool) -> list[Fault]:
    """Every kind that is no lie about what is there; each happens to `share` of the calls that fit."""
    found = [Fault("error", probability=share / 4, error=error) for error in ERRORS]
    found += [Fault("lost reply", probability=share, methods=WRITES)]
    found += [Fault(kind, probability=share) for kind in ("truncated", "short ranges", "long ranges", "lagging list")]
    # An old replica that says "absent" of what is there makes fill values of data, on any service.
    return found if erases else [*found, Fault("stale read", probability=share)]


class Step(NamedTuple):
    """A method of an array with its arguments, and what it does to the values and the attributes of the model."""

    method: str
    arguments: tuple[Any, ...]
    values: Callable[[np.ndarray], np.ndarray]
    attributes: Callable[[dict[str, Any]], dict[str, Any]] = dict


def laid(values: np.ndarray, *pairs: tuple[Any, Any]) -> np.ndarray:
    values = values.copy()
    for where, data in pairs:
        values[where] = data
    return values


def a_step(dice: random.Random, erases: bool) -> Step:
    """Any of the operations, anywhere."""
    low, high = sorted(dice.sample(range(SHAPE[0] + 1), 2)), sorted(dice.sample(range(SHAPE[1] + 1), 2))
    where, more = S[low[0] : low[1], high[0] : high[1]], S[dice.randrange(8), dice.randrange(16)]
    chunk = dice.randrange(2), dice.randrange(2)
    box = tuple(slice(i * n, i * n + n) for i, n in zip(chunk, UNIT, strict=True))
    value = dice.randrange(1, 60_000)
    data = value + np.arange(values_of(where)).reshape(low[1] - low[0], high[1] - high[0]).astype("u2")
    steps = [
        Step("store_array_subset", (where, data), lambda values: laid(values, (where, data))),
        Step("store_chunk", (chunk, value), lambda values: laid(values, (box, value))),
        Step("store_array_subsets", ([(where, data), (more, 7)],), lambda values: laid(values, (where, data), (more, 7))),
        Step("update", (where, lambda found: found + 1), lambda values: laid(values, (where, values[where] + 1))),
        Step("update_attributes", (lambda found: {**found, "n": value},), np.copy, lambda found: {**found, "n": value}),
        Step("compact", (), np.copy),
        Step("retrieve_array_subset", (where,), np.copy),
    ]
    if erases:
        steps += [
            Step("erase_chunk", (chunk,), lambda values: laid(values, (box, 0))),
            Step("store_array_subset", (box, 0), lambda values: laid(values, (box, 0))),
        ]
    return dice.choice(steps)


def values_of(where: tuple[slice, ...]) -> int:
    return int(np.prod([part.stop - part.start for part in where]))


class Round:
    """One array, its faulty store, and what should be in it."""

    def __init__(self, layout: str, erases: bool, seed: int) -> None:
        self.dice, self.erases, self.data = random.Random(seed), erases, dict[str, bytes]()
        self.inside = CoroutineStore(self.data)
        self.store = Faults(self.inside, *faults_of(0.06, erases), seed=seed)
        a = zarrant.create_array(self.inside, shape=SHAPE, dtype="uint16", attributes={"n": 0}, **LAYOUTS[layout])
        a[...] = OLD
        self.values, self.attributes, self.told, self.done = OLD.copy(), {"n": 0}, 0, 0

    def check(self, step: Step, before: int, error: Exception | None, reply: Any) -> None:
        """The store against the model, after one step."""
        happened = {kind for kind, _ in self.store.happened[before:]}
        values, attributes = look(self.inside)
        new, newer = step.values(self.values), step.attributes(self.attributes)
        stored = set(error.stored) if isinstance(error, PartialFailure) else set()
        check_error(error, happened)
        for chunk in itertools.product(range(2), range(2)):
            part = tuple(slice(i * n, i * n + n) for i, n in zip(chunk, UNIT, strict=True))
            if error is None or chunk in stored:
                assert np.array_equal(values[part], new[part]), (step.method, chunk, error)
            else:
                old = np.array_equal(values[part], self.values[part])
                assert old or np.array_equal(values[part], new[part]), (step.method, chunk, error)
        assert attributes == newer or (error is not None and attributes == self.attributes)
        if step.method == "retrieve_array_subset" and error is None and "stale read" not in happened:
            assert np.array_equal(reply, self.values[step.arguments[0]])
        self.values, self.attributes = values, attributes
        self.told, self.done = self.told + (error is not None), self.done + (error is None)
        check_no_lock_is_left()


def look(store: CoroutineStore) -> tuple[np.ndarray, dict[str, Any]]:
    a = zarrant.open_array(store, mode="r")
    return a[...], dict(a.attrs)


def check_error(error: Exception | None, happened: set[str]) -> None:
    if error is None:
        return
    assert happened, f"nothing was wrong: {error!r}"
    for one in list(error.failed.values()) if isinstance(error, PartialFailure) else [error]:
        gone = isinstance(one, NodeNotFoundError) and "stale read" in happened
        assert isinstance(one, StoreError | DataError) or gone, repr(one)
        assert not isinstance(one, ConflictError | VersionChangedError | LostUpdateError | LimitError), f"a false report: {one!r}"
        assert one.key is not None, repr(one)
        if isinstance(one, DataError):
            assert happened & {"truncated", "short ranges", "long ranges"}, repr(one)


def check_no_lock_is_left() -> None:
    assert store_locks._queues.locked() == []
    assert not any(group_commit.commit_queues._waiting.values())


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_PAUSE_S", 0)


cases = pytest.mark.parametrize(("layout", "erases"), [*itertools.product(LAYOUTS, (False, True))])


def rounds(name: str, layout: str, erases: bool, tally: Callable[[str, int], None]) -> Iterator[Round]:
    """Rounds of 40 steps each, until there were enough faults."""
    count = 0
    for number in itertools.count():
        one = Round(layout, erases, random.Random(f"{name} {layout} {erases} {number}").randrange(1 << 30))
        yield one
        count += len(one.store.happened)
        if count >= FAULTS:
            print(f"{count} faults in {number + 1} rounds; of the last one {one.told} steps failed, {one.done} did not")
            tally("object-store faults", count)
            return


@pytest.mark.timeout(3600 if SOAK else 120)
@cases
def test_blocking_operations(layout: str, erases: bool, tally: Callable[[str, int], None]) -> None:
    for one in rounds("blocking", layout, erases, tally):
        a = opened(one)
        for _ in range(40):
            step, before = a_step(one.dice, erases), len(one.store.happened)
            error, reply = None, None
            try:
                reply = getattr(a, step.method)(*step.arguments)
            except ZarrantError as raised:
                error = raised.with_traceback(None)
            one.check(step, before, error, reply)


def opened(one: Round) -> Any:
    while True:
        before = len(one.store.happened)
        try:
            return zarrant.open_array(one.store, mode="r+", config=CONFIG)
        except ZarrantError as error:
            check_error(error, {kind for kind, _ in one.store.happened[before:]})


@pytest.mark.timeout(3600 if SOAK else 120)
@cases
def test_operations_of_an_event_loop(layout: str, erases: bool, tally: Callable[[str, int], None]) -> None:
    for one in rounds("asyncio", layout, erases, tally):
        assert capabilities(one.store).awaits
        asyncio.run(forty_steps(one))


async def forty_steps(one: Round) -> None:
    a = None
    while a is None:
        before = len(one.store.happened)
        try:
            a = await zarrant.open_array_async(one.store, mode="r+", config=CONFIG)
        except ZarrantError as error:
            check_error(error, {kind for kind, _ in one.store.happened[before:]})
    for _ in range(40):
        step, before = a_step(one.dice, one.erases), len(one.store.happened)
        error, reply = None, None
        try:
            reply = await getattr(a, step.method)(*step.arguments)
        except ZarrantError as raised:
            error = raised.with_traceback(None)
        one.check(step, before, error, reply)


@pytest.mark.timeout(3600 if SOAK else 120)
def test_creation(tally: Callable[[str, int], None]) -> None:
    """There is no array, or all of one; of its data each stored object."""
    count = number = 0
    while count < FAULTS:
        number += 1
        dice = random.Random(number)
        inside, layout = CoroutineStore(), LAYOUTS[dice.choice(sorted(LAYOUTS))]
        store = Faults(inside, *faults_of(0.06, erases=True), seed=number)
        error: Exception | None = None
        try:
            if number % 2:
                zarrant.create_array(store, data=OLD, attributes={"n": 1}, config=CONFIG, **layout)
            else:
                asyncio.run(zarrant.create_array_async(store, data=OLD, attributes={"n": 1}, config=CONFIG, **layout))
        except ZarrantError as raised:
            error = raised.with_traceback(None)
        check_error(error, {kind for kind, _ in store.happened})
        check_no_lock_is_left()
        count += len(store.happened)
        if inside.get("zarr.json") is None:
            assert error is not None
            continue
        values, attributes = look(inside)
        assert attributes == {"n": 1}
        for low in itertools.product(range(0, 8, 4), range(0, 16, 8)):
            part = tuple(slice(i, i + n) for i, n in zip(low, UNIT, strict=True))
            assert np.array_equal(values[part], OLD[part]) or (error is not None and not values[part].any())
    tally("object-store faults", count)


class AnotherProcess(CoroutineStore):
    """The same objects under another address: its writers do not queue with those of this one."""

    def __init__(self, data: dict[str, bytes], name: str) -> None:
        super().__init__(data)
        self.url = f"test://{name}"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_writers_that_count_together(layout: str, tally: Callable[[str, int], None]) -> None:
    """What each was told is done, is there; what is there beyond that, somebody was told is in doubt."""
    data: dict[str, bytes] = {}
    zarrant.create_array(CoroutineStore(data), data=np.zeros(SHAPE, "u2"), attributes={"n": 0}, **LAYOUTS[layout])
    writers, faults = 4, FAULTS // 8
    stores = [
        Faults(AnotherProcess(data, f"{layout} {i}"), *faults_of(0.03, erases=False), seed=i) for i in range(writers)
    ]  # fmt: skip
    done, doubt = [[0, 0] for _ in range(writers)], [[0, 0] for _ in range(writers)]

    def count(i: int) -> None:
        dice, a = random.Random(i), None
        while len(stores[i].happened) < faults:
            which = dice.randrange(2)
            try:
                a = a or zarrant.open_array(stores[i], mode="r+", config=CONFIG)
                if which:
                    a.update_attributes(lambda found: {**found, "n": found["n"] + 1})
                else:
                    a.update(S[1:3, 1:6], lambda found: found + 1)
            except ConflictError:
                raise
            except ZarrantError as error:
                assert isinstance(error, StoreError | DataError | PartialFailure | NodeNotFoundError), repr(error)
                doubt[i][which] += a is not None
            else:
                done[i][which] += 1

    together(*[lambda i=i: count(i) for i in range(writers)])
    values, attributes = look(CoroutineStore(data))
    found = [int(values[1, 1]), attributes["n"]]
    assert (values[1:3, 1:6] == found[0]).all()
    for which in range(2):
        acknowledged, unknown = sum(one[which] for one in done), sum(one[which] for one in doubt)
        assert acknowledged <= found[which] <= acknowledged + unknown
    assert sum(map(sum, done)) > 0
    check_no_lock_is_left()
    tally("object-store faults", sum(len(store.happened) for store in stores))


@pytest.mark.parametrize(("lie", "probe"), [("ignored condition", "auto"), ("mixed read", "full")])
def test_a_service_that_lies_is_found_before_it_is_written(lie: str, probe: str) -> None:
    """Where conditions are ignored, or bytes and tags do not belong together, nothing else can help."""

    class Probed(CoroutineStore):
        pass

    Probed.probe = probe  # type: ignore[attr-defined]
    inside = Probed()
    a = zarrant.create_array(Faults(inside), name="a", shape=SHAPE, dtype="u2", **LAYOUTS["chunks"])
    a[...] = OLD
    inside = Probed(dict(inside._objects.data))
    zarrant.open_array(inside, name="a", mode="r+")[1:3, 1:6] = OLD[1:3, 1:6]  # the service inside was tried, and is right
    liar = Faults(inside, Fault(lie, probability=1.0 if probe == "auto" else 0.5), seed=0)
    with pytest.raises(CapabilityError, match=r"cannot be shared|does not hold|were lost"):
        zarrant.open_array(liar, name="a", mode="r+")[1:3, 1:6] = 5
    assert np.array_equal(zarrant.open_array(inside, name="a", mode="r")[...], OLD)


# ── arrays that grow and shrink ──────────────────────────────────────────────────────────────────────────────────────


def a_change(dice: random.Random, rows: int) -> Step:
    """An append, a resize, or a write of some rows, of an array that has `rows` rows."""
    value, more, to = dice.randrange(1, 60_000), dice.randrange(1, 7), dice.randrange(1, 20)
    data = (value + np.arange(more * WIDTH)).reshape(more, WIDTH).astype("u2")
    low = dice.randrange(rows)
    where = S[low : min(low + more, rows), 1:4]
    return dice.choice(
        [
            Step("append", (data,), lambda values: np.concatenate([values, data])),
            Step("append", (data,), lambda values: np.concatenate([values, data])),
            Step("resize", ((to, WIDTH),), lambda values: resized(values, to)),
            Step("store_array_subset", (where, value), lambda values: laid(values, (where, value))),
            Step("update", (where, lambda found: found + 1), lambda values: laid(values, (where, values[where] + 1))),
        ]
    )


def resized(values: np.ndarray, rows: int) -> np.ndarray:
    found = np.zeros((rows, WIDTH), "u2")
    found[: len(values)] = values[:rows]
    return found


def check_growth(step: Step, values: np.ndarray, found: np.ndarray, error: Exception | None, happened: set[str]) -> None:
    """All of the old shape or of the new one; a write of rows by stored objects."""
    check_error(error, happened)
    check_no_lock_is_left()
    new = step.values(values)
    if error is None:
        assert np.array_equal(found, new), step.method
    elif step.method in ("append", "resize"):
        assert np.array_equal(found, values) or np.array_equal(found, new), (step.method, error)
    else:
        for low in itertools.product(range(0, len(values), 4), range(0, WIDTH, 3)):
            part = tuple(slice(i, i + n) for i, n in zip(low, (4, 3), strict=True))
            assert np.array_equal(found[part], values[part]) or np.array_equal(found[part], new[part]), (step.method, error)


WIDTH = 6
GROWING: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4, 3), "compressors": [Crc32c()]},
    "shards": {"chunks": (2, 3), "shards": (4, 3), "compressors": None},
}


@pytest.fixture
def short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose giving back of a turn failed is soon taken for dead."""
    for name, seconds in {"TAKE_OVER_S": 0.02, "ABANDONED_S": 0.02, "FIRST_PAUSE_S": 0.0005, "LAST_PAUSE_S": 0.005}.items():
        monkeypatch.setattr(turns, name, seconds)


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("layout", GROWING)
@pytest.mark.parametrize("loop", [False, True], ids=["blocking", "asyncio"])
@pytest.mark.usefixtures("short_turns")
@pytest.mark.filterwarnings("ignore:resized, but what was cut off was not erased")
def test_growth(layout: str, loop: bool, tally: Callable[[str, int], None]) -> None:
    count = 0
    for number in itertools.count():
        # Of metadata there are old replicas; of chunks that an append has made they would say that there are none.
        old = Fault("stale read", probability=0.03, key=r"(.*/)?zarr\.json")
        store = Faults(CoroutineStore(), *faults_of(0.03, erases=True), old, seed=number)
        values = np.arange(5 * WIDTH, dtype="u2").reshape(5, WIDTH) + 1
        zarrant.create_array(store.store, data=values, **GROWING[layout])
        asyncio.run(grow(store, values, random.Random(f"{layout} {loop} {number}"), loop))
        count += len(store.happened)
        if count >= FAULTS // 3:
            break
    print(f"{count} faults in {number + 1} rounds")
    tally("object-store faults", count)


async def grow(store: Faults, values: np.ndarray, dice: random.Random, loop: bool) -> None:
    a: Any = None
    for _ in range(40):
        step, before = a_change(dice, len(values)), len(store.happened)
        options = {"shrink": True} if step.method == "resize" else {}
        error = None
        try:
            if loop:
                a = a or await zarrant.open_array_async(store, mode="r+", config=CONFIG)
                await getattr(a, step.method)(*step.arguments, **options)
            else:
                a = a or zarrant.open_array(store, mode="r+", config=CONFIG)
                getattr(a, step.method)(*step.arguments, **options)
        except ZarrantError as raised:
            error = raised.with_traceback(None)
        found = look(store.store)[0]
        check_growth(step, values, found, error, {kind for kind, _ in store.happened[before:]})
        values = found


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize("layout", GROWING)
def test_writers_that_append_together(layout: str, tally: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each append that was acknowledged is where its slice says; one in doubt is there once or not at all; nothing else is."""
    for name, seconds in {"TAKE_OVER_S": 0.3, "FIRST_PAUSE_S": 0.001, "LAST_PAUSE_S": 0.01}.items():
        monkeypatch.setattr(turns, name, seconds)
    data: dict[str, bytes] = {}
    zarrant.create_array(CoroutineStore(data), data=np.zeros((1, WIDTH), "u2"), **GROWING[layout])
    stores = [Faults(AnotherProcess(data, f"grow {layout} {i}"), *faults_of(0.005, erases=True), seed=i) for i in range(3)]
    done: dict[int, slice] = {}
    doubt: dict[int, int] = {}

    def append(i: int) -> None:
        dice, a = random.Random(i), None
        for number in range(20 * (SOAK or 1)):
            token, rows = 1 + 3 * number + i, dice.randrange(1, 4)
            try:
                a = a or zarrant.open_array(stores[i], mode="r+", config=CONFIG)
                doubt[token] = rows
                done[token] = a.append(np.full((rows, WIDTH), token, "u2"))
                del doubt[token]
            except ZarrantError as error:
                assert isinstance(error, StoreError | DataError | PartialFailure), repr(error)
                assert not isinstance(error, ConflictError)

    together(*[lambda i=i: append(i) for i in range(3)])
    found = look(CoroutineStore(data))[0]
    assert (found == found[:, :1]).all()
    for token, where in done.items():
        assert (found[where] == token).all()
    counts = {int(token): int(count) for token, count in zip(*np.unique(found[1:, 0], return_counts=True), strict=True)}
    expected = {token: where.stop - where.start for token, where in done.items()}
    for token, count in counts.items():
        assert count == expected.pop(token, None) or count == doubt.get(token)
    assert expected == {} and len(done) > 10
    check_no_lock_is_left()
    tally("object-store faults", sum(len(store.happened) for store in stores))


@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.usefixtures("short_turns")
def test_arrays_that_grow_together(tally: Callable[[str, int], None]) -> None:
    """An append to several arrays is there in all of them or in none, whatever was told; told as done, it is there."""
    count, outcomes = 0, set()
    for number in range(FAULTS // 8 if SOAK else 60):
        inside = CoroutineStore()
        group = zarrant.create_group(inside, name="g")
        group.create_array("time", data=np.full(2, 9, "i4"), chunks=(5,))
        group.create_array("tas", data=np.full((2, 6), 9, "i4"), chunks=(2, 3))
        store, told = Faults(inside, *faults_of(0.006, erases=False), seed=number), None
        try:
            opened = zarrant.open_group(store, name="g", mode="r+", config=CONFIG)
            opened.append({"time": np.full(4, 50, "i4"), "tas": np.full((4, 6), 50, "i4")})
        except ZarrantError as raised:
            told = raised.with_traceback(None)
        if isinstance(told, ConflictError):  # decided, or nobody knows
            assert "Do not repeat it" in (told.hint or ""), told
        else:
            check_error(told, {kind for kind, _ in store.happened})
        count += len(store.happened)
        place = group.append({"time": [7], "tas": np.full((1, 6), 7, "i4")})
        time, tas = group["time"][...], group["tas"][...]
        there = (time == 50).sum()
        assert (tas == time[:, None]).all(), number
        assert there == 4 or (there == 0 and told is not None), (number, told)
        assert time[place] == [7]
        outcomes.add((told is None, int(there)))
    assert {(True, 4), (False, 0)} <= outcomes
    tally("object-store faults", count)
