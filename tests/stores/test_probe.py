"""Services that do not keep to compare-and-swap are refused before anything is written; those that do are asked once."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

import zarrant
from zarrant.errors import CapabilityError, StoreError, StorePermissionError
from zarrant.storage import ANY, Blob, Buffer, ByteRange, Version, expect_version
from zarrant.stores import probe as probing
from zarrant.stores.probe import CREATED, NEEDED, NOT_CREATED, NOT_READ, NOT_REPLACED, READ, REPLACED, ProbeReport, probe
from zarrant.stores.wrappers import Recording
from zarrant.testkit import together


class Service:
    """Objects of an honest service, by blocking calls and coroutines; it has no lock. `calls` are the requests that came."""

    url = "test://service"

    def __init__(self, probe: str | None = "auto") -> None:
        self.probe = probe
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.versions = itertools.count(1)
        self.mutex = threading.Lock()
        self.calls: list[tuple[str, str]] = []

    def version(self, key: str) -> Version:
        return self.objects.get(key, (b"", None))[1]

    def get(self, key: str) -> Blob | None:
        self.calls.append(("get", key))
        data, version = self.objects.get(key, (b"", None))
        return None if version is None else Blob((memoryview(data),), version, len(data))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        if if_version is not None:
            expect_version(self.version(key), if_version)
        blob = self.get(key)
        if blob is None:
            return None
        spans = [wanted.resolve(blob.size) for wanted in ranges]
        return blob._replace(data=tuple(blob.data[0][start:stop] for start, stop in spans))

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        self.calls.append(("put", key))
        self.objects[key] = b"".join(parts), next(self.versions)
        return self.objects[key][1]

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        with self.mutex:
            self.expect(key, if_version)
            return self.put(key, parts)

    def expect(self, key: str, if_version: Version) -> None:
        self.calls.append(("condition", key))
        expect_version(self.version(key), if_version)

    def erase(self, key: str) -> None:
        self.calls.append(("erase", key))
        self.objects.pop(key, None)

    def erase_prefix(self, prefix: str) -> None:
        for key in self.list_prefix(prefix):
            self.erase(key)

    def list_prefix(self, prefix: str) -> Iterator[str]:
        return iter(sorted(key for key in self.objects if key.startswith(prefix)))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        rest = [key[len(prefix) :].partition("/") for key in self.list_prefix(prefix)]
        keys = sorted(prefix + name for name, slash, _ in rest if not slash)
        return keys, sorted({f"{prefix}{name}/" for name, slash, _ in rest if slash})

    async def get_async(self, key: str) -> Blob | None:
        await asyncio.sleep(0)
        return self.get(key)

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        return self.get_ranges(key, ranges, if_version)

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        return self.put(key, parts)

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        self.expect(key, if_version)
        return self.put(key, parts)

    async def erase_async(self, key: str) -> None:
        self.erase(key)

    async def erase_prefix_async(self, prefix: str) -> None:
        self.erase_prefix(prefix)

    async def list_prefix_async(self, prefix: str) -> list[str]:
        return list(self.list_prefix(prefix))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        return self.list_dir(prefix)


class Ignores(Service):
    """Takes any condition for true, as s3rver does."""

    def expect(self, key: str, if_version: Version) -> None:
        pass


class CreatesOnly(Service):
    """Has no condition but "there is none", as S3 had for a time: others are not looked at."""

    def expect(self, key: str, if_version: Version) -> None:
        super().expect(key, ANY if if_version is not None else None)


class OtherTags(Service):
    """Tells other versions of what it stores than those that it compares."""

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        version = super().put(key, parts)
        assert isinstance(version, int)
        return -version


class TakesNone(Service):
    """Refuses requests with a condition."""

    def expect(self, key: str, if_version: Version) -> None:
        raise CapabilityError("501 Not Implemented", store=self.url, key=key)


class OldBytesNewTag(Service):
    """A read gives the bytes of the version before, with the tag of the last one."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.before: dict[str, bytes] = {}

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        self.before[key] = self.objects.get(key, (b"".join(parts), None))[0]
        return super().put(key, parts)

    def get(self, key: str) -> Blob | None:
        blob = super().get(key)
        return blob and blob._replace(data=(memoryview(self.before[key]),))


class AnyRead(Service):
    """Does not look at the condition of a read."""

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        return super().get_ranges(key, ranges)


class Racy(Service):
    """Each request by itself is right; the look and the write are apart, as in s3s-fs and `versitygw --sidecar`."""

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        self.expect(key, if_version)
        time.sleep(0.001)
        return self.put(key, parts)

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        self.expect(key, if_version)
        await asyncio.sleep(0.001)
        return self.put(key, parts)


SERIAL_LIARS = {Ignores: NOT_CREATED, CreatesOnly: NOT_REPLACED, OtherTags: REPLACED, TakesNone: CREATED}
THOROUGH_LIARS = {OldBytesNewTag: READ, AnyRead: NOT_READ}
LAYOUT: Any = {"shape": (8,), "chunks": (4,), "dtype": "uint8", "fill_value": 0}


@pytest.fixture(autouse=True)
def nothing_is_known() -> Iterator[None]:
    probing._reports.clear()
    yield
    probing._reports.clear()


@pytest.mark.parametrize("kind", SERIAL_LIARS)
def test_a_service_that_ignores_conditions_is_refused(kind: type[Service]) -> None:
    store = kind()
    with pytest.raises(CapabilityError, match="several writers cannot share") as caught:
        zarrant.create_array(store, **LAYOUT)
    assert caught.value.got == f"it does not hold that {SERIAL_LIARS[kind]}"
    assert caught.value.store == "test://service" and "synchronizer=" in str(caught.value)
    assert store.objects == {}
    before = len(store.calls)
    with pytest.raises(CapabilityError, match="several writers cannot share"):
        zarrant.create_group(store)
    assert len(store.calls) == before  # it is known by now


@pytest.mark.parametrize("kind", SERIAL_LIARS)
def test_it_is_refused_by_coroutines_too(kind: type[Service]) -> None:
    store = kind()
    with pytest.raises(CapabilityError) as caught:
        asyncio.run(zarrant.create_array_async(store, **LAYOUT))
    assert caught.value.got == f"it does not hold that {SERIAL_LIARS[kind]}"
    assert store.objects == {}


@pytest.mark.filterwarnings("ignore:synchronizer=None")
def test_writes_of_every_kind_are_refused_and_reads_are_not() -> None:
    store = Ignores()
    zarrant.create_array(store, **LAYOUT, synchronizer=None)[...] = 1
    array, before = zarrant.open_array(store, mode="r+"), dict(store.objects)
    for write in (
        lambda: array.__setitem__(1, 9),
        lambda: array.store_chunk((0,), [1, 2, 3, 4]),
        lambda: array.update_attributes({"a": 1}),
        lambda: array.erase_chunk((0,)),
    ):
        with pytest.raises(CapabilityError, match="several writers cannot share"):
            write()
    assert array[...].tolist() == [1] * 8
    assert store.objects == before


class ThreadLocks:
    """A lock that all writers of this test use."""

    def __init__(self) -> None:
        self.mutex = threading.RLock()

    def lock(self, keys: Sequence[str], timeout: float) -> Any:
        return self.mutex


@pytest.mark.filterwarnings("ignore:synchronizer=None")
@pytest.mark.parametrize(
    ("probe", "options"),
    [("auto", {"synchronizer": None}), ("auto", {"synchronizer": ThreadLocks()}), ("off", {}), (None, {})],
    ids=["unguarded", "locked", "off", "believed"],
)
def test_where_compare_and_swap_is_not_relied_on_nothing_is_tried(probe: str | None, options: Any) -> None:
    store = Ignores(probe)
    array = zarrant.create_array(store, **LAYOUT, **options)
    array[1] = 9
    assert not any(".zarrant-probe" in key for _, key in store.calls)


def test_an_honest_service_is_asked_once() -> None:
    store = Service()
    array = zarrant.create_array(store, **LAYOUT)
    asked = [call for call, key in store.calls if ".zarrant-probe" in key]
    assert asked == ["condition", "put", "condition", "condition", "put", "condition", "erase"]
    array[1] = 9
    zarrant.open_array(Recording(store), mode="r+")[2] = 8
    asyncio.run(store_one(store))
    assert sum(".zarrant-probe" in key for _, key in store.calls) == len(asked)
    assert array[...].tolist() == [0, 9, 8, 7, 0, 0, 0, 0]
    assert [key for key in store.objects if "probe" in key] == []


async def store_one(store: Service) -> None:
    await (await zarrant.open_array_async(store, mode="r+")).setitem(3, 7)


def test_it_is_tried_below_the_path_of_the_node() -> None:
    store = Service(None)
    zarrant.create_group(store).create_array("a/b", **LAYOUT)
    store.probe = "auto"
    array = zarrant.open_group(store, mode="r+")["a/b"]
    assert isinstance(array, zarrant.Array)
    array[1] = 9
    assert {key.partition(".zarrant-probe")[0] for _, key in store.calls if "probe" in key} == {"a/b/"}


def test_threads_that_write_first_at_once_try_once() -> None:
    store = Service(None)
    zarrant.create_array(store, **LAYOUT)
    store.probe = "auto"
    arrays = [zarrant.open_array(store, mode="r+") for _ in range(8)]
    together(*(lambda i=i: arrays[i].__setitem__(i, i) for i in range(8)))
    assert sum(call == "erase" for call, key in store.calls if "probe" in key) == 1


@pytest.mark.parametrize("how", ["blocking", "coroutines"])
def test_a_race_is_found_by_concurrent_writers_only(how: str) -> None:
    store = Racy("full")
    with pytest.raises(CapabilityError, match=r"\d+ of 48 increments by 8 writers were lost"):
        if how == "blocking":
            zarrant.create_array(store, **LAYOUT)
        else:
            asyncio.run(zarrant.create_array_async(store, **LAYOUT))
    assert store.objects == {}
    zarrant.create_array(Racy("auto"), **LAYOUT)


def test_an_honest_service_loses_no_increment() -> None:
    store = Service("full")
    zarrant.create_array(store, **LAYOUT)
    report = probing.known(store)
    assert report is not None and (report.increments, report.lost, report.problem) == (48, 0, None)
    assert [key for key in store.objects if "probe" in key] == []


@pytest.mark.parametrize("kind", {**SERIAL_LIARS, **THOROUGH_LIARS})
def test_everything_is_tried_when_asked_for(kind: type[Service]) -> None:
    report = probe(kind())
    assert report.problem == f"it does not hold that {({**SERIAL_LIARS, **THOROUGH_LIARS})[kind]}"
    assert report.to_json()["problem"] == report.problem
    assert (probe(Service()).problem, probe(Service()).words) == (
        None,
        "7 of 7 serial checks hold, 0 of 48 concurrent increments lost",
    )


class Fails(Service):
    """Fails from a request on, but erases."""

    after = 0

    def expect(self, key: str, if_version: Version) -> None:
        if len(self.calls) >= self.after:
            raise StorePermissionError("403", store=self.url, key=key)
        super().expect(key, if_version)


@pytest.mark.parametrize("after", range(6))
def test_what_fails_in_the_probe_is_told_and_tried_again(after: int) -> None:
    store = Fails()
    store.after = after
    with pytest.raises(StorePermissionError, match="403"):
        zarrant.create_array(store, **LAYOUT)
    assert store.objects == {} and probing.known(store) is None
    store.after = 1000
    zarrant.create_array(store, **LAYOUT)


def test_a_probe_that_cannot_clean_up_stops_nobody() -> None:
    class Keeps(Service):
        def erase(self, key: str) -> None:
            raise StoreError("no delete here", store=self.url, key=key)

    store = Keeps()
    zarrant.create_array(store, **LAYOUT)
    assert sum("probe" in key for key in store.objects) == 1


def test_a_report_without_a_trial_says_so() -> None:
    assert ProbeReport().words == "not tried" and ProbeReport().problem is None
    assert set(SERIAL_LIARS.values()) | set(THOROUGH_LIARS.values()) == set(NEEDED)
