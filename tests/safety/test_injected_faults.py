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
from zarrant.ops import guard
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
    liar = Faults(inside, Fault(lie, probability=1.0 if probe == "auto" else 0.5), seed=0)
    with pytest.raises(CapabilityError, match=r"cannot be shared|does not hold|were lost"):
        zarrant.open_array(liar, name="a", mode="r+")[1:3, 1:6] = 5
    assert np.array_equal(zarrant.open_array(inside, name="a", mode="r")[...], OLD)
