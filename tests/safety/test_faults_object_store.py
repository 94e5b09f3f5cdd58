"""An object store that answers badly: every request of every operation, once and for ever, and at random.

The service is a dict with versions that compares and swaps, as object stores do; a client turns its answers into what
`zarrant.storage` promises. Two clients: one passes every failure on, the other tries again, as clients of object stores do, and
looks whether its own put is what is there before it speaks of a conflict. The faults: 503 (nothing was done), a lost reply (it
was), 409 (try again), 412 to a put that was done (a proxy sent it twice), 404 for a chunk that is there, a body cut off, another
writer in between, and a service that ignores conditions.

Afterwards each object is old or new, whole; nothing acknowledged is missing, also of the other writer; what is raised is typed
and names the key; where nobody else wrote, nothing is called a conflict.
"""

from __future__ import annotations

import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c
from zarrant.errors import ByteRangeError, ConflictError, DataError, PartialFailure, StoreError, VersionChangedError, ZarrantError
from zarrant.ops import guard
from zarrant.storage import Blob, Buffer, ByteRange, Version
from zarrant.testkit import together

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
QUICK = 8
"""Faults of each operation in the quick run."""

RANDOM = 50 * SOAK or 2
"""Runs of each operation in which a third of the requests fails in some way."""

S = np.s_
CONFIG = {"concurrency": 1}  # one order of requests
SHAPE, UNIT = (8, 16), (4, 8)
OLD = np.arange(128, dtype="uint16").reshape(SHAPE) + 1
DATA = OLD + 500
RIVAL = 60_000
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": UNIT, "compressors": [Crc32c()]},
    "shards": {"chunks": (2, 4), "shards": UNIT, "compressors": None},
}
Fault = Callable[[int, str, str], str]


class Service:
    """Objects: key → (bytes, version, name of the put). `fault(number, method, key)` says what happens to a request."""

    def __init__(self, objects: dict[str, tuple[bytes, int, int]] | None = None) -> None:
        self.objects = {} if objects is None else dict(objects)
        self.number = itertools.count(max((found[1] for found in self.objects.values()), default=0) + 1)
        self.fault: Fault = lambda number, method, key: ""
        self.requests: list[tuple[str, str]] = []
        self.happened: list[str] = []
        self.conditions = True
        self.lock = threading.RLock()

    def put(self, key: str, value: bytes, name: int, condition: Any) -> int | None:
        """The new version; None (412) where the condition is not met."""
        with self.lock:
            if self.conditions and condition is not ANYTHING and self.version(key) != condition:
                return None
            version = next(self.number)
            self.objects[key] = value, version, name
            return version

    def erase(self, key: str, condition: Any) -> bool:
        with self.lock:
            if self.conditions and condition is not ANYTHING and self.version(key) != condition:
                return False
            self.objects.pop(key, None)
            return True

    def version(self, key: str) -> int | None:
        return self.objects[key][1] if key in self.objects else None


ANYTHING = object()
names = itertools.count(1)


class Lost(Exception):
    """A reply that did not come; `done` where the request was carried out."""

    def __init__(self, done: bool) -> None:
        self.done = done


class Client:
    """A store (Get, Put, PutIf, Erase, List) on the service. With `tries` 1 every failure is passed on."""

    def __init__(self, service: Service, tries: int = 1, host: str = "here") -> None:
        # Threads of one process queue for the objects of one address; the other writer is of another process.
        self.service, self.tries, self.url = service, tries, f"test://{host}/{id(service)}"

    def get(self, key: str) -> Blob | None:
        found = self._ask("get", key)
        if found is None:
            return None
        value, version, size = found
        return Blob((memoryview(value),), version, size)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        found = self._ask("get_ranges", key)
        if found is None and if_version is None:
            return None
        if found is None or (if_version is not None and found[1] != if_version):
            raise VersionChangedError("412", key=key)
        value, version, size = found
        if len(value) < size:  # a range that is short is the client's to notice; see `storage.Get`
            raise ByteRangeError("the body was cut off", key=key, expected=size, got=len(value))
        return Blob(tuple(memoryview(value)[slice(*part.resolve(size))] for part in ranges), version, size)

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        return self._put(key, parts, ANYTHING)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        return self._put(key, parts, if_version)

    def erase(self, key: str) -> None:
        self._erase(key, ANYTHING)

    def erase_if(self, key: str, if_version: Version) -> None:
        self._erase(key, if_version)

    def erase_prefix(self, prefix: str) -> None:
        for key in list(self.list_prefix(prefix)):
            self.erase(key)

    def list_prefix(self, prefix: str) -> Iterator[str]:
        self._ask("list", prefix)
        return iter(sorted(key for key in self.service.objects if key.startswith(prefix)))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        below = {key[len(prefix) :].partition("/")[:2] for key in self.list_prefix(prefix)}
        return sorted(prefix + a for a, b in below if not b), sorted(f"{prefix}{a}/" for a, b in below if b)

    def _ask(self, method: str, key: str) -> Any:
        for left in reversed(range(self.tries)):
            try:
                return self._asked_once(method, key)
            except Lost as lost:
                if not left:
                    raise StoreError("no answer", key=key) from lost
        raise AssertionError

    def _asked_once(self, method: str, key: str) -> Any:
        what = self._happens(method, key)
        if what in ("503", "lost reply"):
            raise Lost(False)
        if method == "list" or what == "404" or key not in self.service.objects:
            return None
        value, version, _ = self.service.objects[key]
        return value[: len(value) // 2] if what == "cut off" else value, version, len(value)

    def _put(self, key: str, parts: Sequence[Buffer], condition: Any) -> Version:
        value, name = b"".join(parts), next(names)
        return self._change("put", key, condition, lambda: self.service.put(key, value, name, condition), name)

    def _erase(self, key: str, condition: Any) -> None:
        self._change("erase", key, condition, lambda: self.service.erase(key, condition) or None, 0)

    def _change(self, method: str, key: str, condition: Any, act: Callable[[], Any], name: int) -> Any:
        unsure = False
        for left in reversed(range(self.tries)):
            try:
                done = self._changed_once(method, key, condition, act)
            except Lost as lost:
                unsure = True
                if not left:
                    raise StoreError("no answer", key=key) from lost
                continue
            if done is not None:
                return done
            if unsure or self.tries > 1:
                # Refused, though it may be our own put that is there already.
                self._happens("get", key)
                there = self.service.objects.get(key)
                if (there is not None and there[2] == name) or (there is None and method == "erase"):
                    return None if there is None else there[1]
            raise VersionChangedError("412", key=key)
        raise AssertionError

    def _changed_once(self, method: str, key: str, condition: Any, act: Callable[[], Any]) -> Any:
        what = self._happens(method, key)
        if what == "503" or (what == "409" and condition is not ANYTHING):
            raise Lost(False)
        done = act()
        if what == "lost reply":
            raise Lost(True)
        return None if what == "412" and condition is not ANYTHING else done

    def _happens(self, method: str, key: str) -> str:
        number = len(self.service.requests)
        self.service.requests.append((method, key))
        what = self.service.fault(number, method, key)
        if what:
            self.service.happened.append(what)
        if what == "rival":
            self._rival(key)
        return what

    def _rival(self, key: str) -> None:
        """Another writer changes the first element of the chunk, or an attribute."""
        fault, self.service.fault = self.service.fault, lambda number, method, key: ""
        try:
            a = zarrant.open_array(Client(self.service, host="elsewhere"), name="a", mode="r+", config=CONFIG)
            if key == "a/zarr.json":
                a.attrs["rival"] = 1
            elif key.startswith("a/c/"):
                i, j = map(int, key.split("/")[2:])
                a[i * UNIT[0], j * UNIT[1]] = RIVAL
        finally:
            self.service.fault = fault


def encode(a: Any) -> None:
    with a.partial_encoder((0, 0)) as encoder:
        encoder.store(S[1:3, 0:3], 5)
        encoder.store(S[1:4, 2:7], 6)


def compact(a: Any) -> None:
    a.compact()


def read(a: Any) -> None:
    found = a[...]
    assert np.isin(found, [RIVAL]).sum() + (found == OLD).sum() == OLD.size
    a.partial_decoder((0, 0)).retrieve(S[1:3, 1:5])


OPERATIONS: dict[str, Callable[[Any], object]] = {
    "write everything": lambda a: a.__setitem__(..., DATA),
    "write a chunk": lambda a: a.store_chunk((1, 0), 9),
    "write a part": lambda a: a.__setitem__(S[1:4, 3:9], 9),
    "write parts": lambda a: a.store_array_subsets([(S[1:3, 1:10], 5), (S[2:4, 2:6], 6)]),
    "write fill": lambda a: a.__setitem__(S[0:4, :], 0),
    "write fill into a part": lambda a: a.__setitem__(S[1:4, :], 0),
    "erase": lambda a: a.erase_chunk((1, 1)),
    "update": lambda a: a.update(S[1:4, 3:9], lambda values: values + 1),
    "encode": encode,
    "annotate": lambda a: a.attrs.update({"n": 1}),
    "count": lambda a: a.update_attributes(lambda stored: {**stored, "n": stored["n"] + 1}),
    "compact": compact,
    "read": read,
}
READS, PUTS = ("get", "get_ranges", "list"), ("put", "erase")
FAULTS = {
    "503": (*READS, *PUTS), "lost reply": PUTS, "409": ("put",), "412": PUTS, "404": READS, "cut off": READS,
    "rival": (*READS, *PUTS),
}  # fmt: skip


def start(layout: str) -> dict[str, tuple[bytes, int, int]]:
    service = Service()
    a = zarrant.create_array(
        Client(service), name="a", shape=SHAPE, dtype="uint16", attributes={"n": 0}, config=CONFIG, **LAYOUTS[layout]
    )
    a[...] = OLD
    if layout == "shards":  # with bytes that are dead
        loose = a.with_config(dead_limit=1.0, **CONFIG)
        loose[0:2, 0:4] = 3
        loose[0:2, 0:4] = OLD[0:2, 0:4]
    return service.objects


def look(service: Service) -> tuple[Any, dict[str, Any]]:
    service.fault = lambda number, method, key: ""
    a = zarrant.open_array(Client(service), name="a", mode="r", config=CONFIG)
    return a[...], dict(a.attrs)


class Trial:
    """An operation on objects that are the same each time."""

    def __init__(self, name: str, layout: str) -> None:
        self.name, self.operation, self.objects = name, OPERATIONS[name], start(layout)
        service, error = self.run(lambda number, method, key: "", 1)
        assert error is None
        self.requests, (self.new, self.attributes) = list(service.requests), look(service)
        self.told = self.hidden = 0

    def run(self, fault: Fault, tries: int) -> tuple[Service, Exception | None]:
        service = Service(self.objects)
        client = Client(service, tries)
        a = zarrant.open_array(client, name="a", mode="r+", config=CONFIG)
        service.requests.clear()
        service.fault = fault
        try:
            self.operation(a)
        except ZarrantError as error:
            return service, error.with_traceback(None)
        return service, None

    def check(self, fault: Fault, tries: int) -> int:
        """One trial; how many faults there were."""
        service, error = self.run(fault, tries)
        happened = list(service.happened)
        if not happened:
            return 0
        self.told, self.hidden = self.told + (error is not None), self.hidden + (error is None)
        check_error(error, set(happened))
        self.check_objects(service, error is None, happened)
        # The same again, without faults, is exact; an update is not the same again.
        if error is not None and self.name not in ("update", "count"):
            a = zarrant.open_array(Client(service), name="a", mode="r+", config=CONFIG)
            self.operation(a)
            self.check_objects(service, True, happened)
        return len(happened)

    def check_objects(self, service: Service, done: bool, happened: list[str]) -> None:
        values, attributes = look(service)
        rivals = np.zeros(SHAPE, bool)
        rivals[:: UNIT[0], :: UNIT[1]] = "rival" in happened
        for low in itertools.product(range(0, SHAPE[0], UNIT[0]), range(0, SHAPE[1], UNIT[1])):
            part = tuple(slice(a, a + n) for a, n in zip(low, UNIT, strict=True))
            here = ~rivals[part]
            new = (values[part] == self.new[part])[here].all()
            assert new or (not done and (values[part] == OLD[part])[here].all())
        first = values[:: UNIT[0], :: UNIT[1]]
        assert ((first == RIVAL) | (first == self.new[:: UNIT[0], :: UNIT[1]]) | (first == OLD[:: UNIT[0], :: UNIT[1]])).all()
        assert attributes["n"] == self.attributes["n"] or (not done and attributes["n"] == 0)


def check_error(error: Exception | None, happened: set[str]) -> None:
    if error is None:
        return
    for one in list(error.failed.values()) if isinstance(error, PartialFailure) else [error]:
        assert isinstance(one, StoreError | DataError), repr(one)
        assert one.key is not None
        if isinstance(one, DataError):
            assert "cut off" in happened, repr(one)
        if isinstance(one, ConflictError | VersionChangedError):
            assert happened & {"rival", "404"}, f"a false conflict: {one!r}"


def plans(requests: list[tuple[str, str]]) -> Iterator[tuple[str, int, bool, int]]:
    """(fault, the request, for ever?, tries of the client)."""
    for number, (method, key) in enumerate(requests):
        for what, methods in FAULTS.items():
            if method not in methods or (what == "404" and "/c/" not in key):
                continue
            for for_ever, tries in itertools.product((False, True), (1, 4)):
                # Who passes all on cannot know that a refused put was done; a chunk that never is there, is not there.
                if (what == "412" and tries == 1) or (what == "404" and for_ever):
                    continue
                yield what, number, for_ever, tries


def planned(what: str, at: int, for_ever: bool) -> Fault:
    def fault(number: int, method: str, key: str) -> str:
        wanted = number == at or (for_ever and number > at)
        return what if wanted and method in FAULTS[what] and (what != "404" or "/c/" in key) else ""

    return fault


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(guard, "MAX_TRIES", 8)


NOT_ABSENT = ("read", "compact", "write fill into a part")
"""Operations for which it is enough to see that nothing is there: a 404 for what is there makes them wrong, on any service."""

cases = pytest.mark.parametrize(
    ("name", "layout"), [case for case in itertools.product(OPERATIONS, LAYOUTS) if case != ("compact", "chunks")]
)


@pytest.mark.timeout(600)
@cases
def test_a_request_fails(name: str, layout: str, tally: Callable[[str, int], None]) -> None:
    trial, dice = Trial(name, layout), random.Random(f"{name} {layout}")
    todo = [plan for plan in plans(trial.requests) if not (plan[0] == "404" and name in NOT_ABSENT)]
    for what, at, for_ever, tries in todo if SOAK else dice.sample(todo, min(QUICK, len(todo))):
        trial.check(planned(what, at, for_ever), tries)
    print(f"{name}: {len(trial.requests)} requests; {trial.told} faults were told, {trial.hidden} made no difference")
    tally("object-store faults", trial.told + trial.hidden)
    assert trial.told + trial.hidden


@pytest.mark.timeout(600)
@cases
def test_a_careful_client_hides_what_happens_once(name: str, layout: str, tally: Callable[[str, int], None]) -> None:
    """Each change is made once: nothing is missing, nothing is done twice, nothing is called a conflict."""
    trial, count = Trial(name, layout), 0
    for what, at, for_ever, tries in plans(trial.requests):
        if what in ("503", "lost reply", "409", "412") and tries > 1 and not for_ever and (SOAK or at % 3 == 0):
            service, error = trial.run(planned(what, at, False), tries)
            assert error is None
            assert service.happened == [what]
            trial.check_objects(service, True, service.happened)
            count += 1
    tally("object-store faults", count)
    assert count or name in ("compact", "read") or not SOAK


@pytest.mark.timeout(600)
@cases
def test_requests_fail_at_random(name: str, layout: str, tally: Callable[[str, int], None]) -> None:
    trial, dice, count = Trial(name, layout), random.Random(f"random {name} {layout}"), 0
    kinds = [what for what in FAULTS if what != "404" or name not in NOT_ABSENT]
    if name in ("update", "count"):
        kinds.remove("rival")  # over a put whose reply was lost: then nobody can tell that it was done, and it is done again
    for _ in range(RANDOM):

        def fault(number: int, method: str, key: str) -> str:
            what = dice.choice(kinds)
            fits = method in FAULTS[what] and (what != "404" or "/c/" in key)
            return what if fits and dice.random() < 0.3 else ""

        count += trial.check(fault, 4) > 0
    tally("object-store faults", count)
    assert count or not SOAK


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_service_that_ignores_conditions(layout: str, tally: Callable[[str, int], None]) -> None:
    """Then other processes cannot be kept out; threads of this one wait for each other, and lose nothing."""
    service = Service(start(layout))
    service.conditions = False
    threads, updates = 4, 25 * SOAK or 5
    arrays = [zarrant.open_array(Client(service), name="a", mode="r+", config=CONFIG) for _ in range(threads)]

    def count(a: Any) -> Callable[[], None]:
        def work() -> None:
            for _ in range(updates):
                a.update(S[0:2, 0:2], lambda found: found + 1)

        return work

    together(*map(count, arrays))
    expected = OLD.copy()
    expected[0:2, 0:2] += threads * updates
    assert np.array_equal(look(service)[0], expected)
    tally("object-store faults", threads * updates)
