"""Stores that have blocking calls and coroutines: each driver uses its own kind, and safety does not depend on which."""

from __future__ import annotations

import asyncio
import copy
import itertools
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import OptionError
from zarrant.storage import Blob, Buffer, ByteRange, Version, capabilities, expect_version
from zarrant.testkit import together

METHODS = ("get", "get_ranges", "put", "put_if", "erase", "erase_if", "erase_prefix", "list_prefix", "list_dir")


class DictStore:
    """Objects in a dict, by either kind of calls; `used` counts the calls of each kind. It compares and swaps."""

    url = "test://dict"

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.versions = itertools.count(1)
        self.used = {"blocking": 0, "coroutine": 0}
        self.mutex = threading.Lock()

    def _get(self, key: str) -> Blob | None:
        found = self.objects.get(key)
        return None if found is None else Blob((memoryview(found[0]),), found[1], len(found[0]))

    def _get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        found = self.objects.get(key)
        if if_version is not None:
            expect_version(None if found is None else found[1], if_version)
        if found is None:
            return None
        spans = [wanted.resolve(len(found[0])) for wanted in ranges]
        return Blob(tuple(memoryview(found[0])[start:stop] for start, stop in spans), found[1], len(found[0]))

    def _put(self, key: str, parts: Sequence[Buffer]) -> Version:
        with self.mutex:
            self.objects[key] = (b"".join(parts), next(self.versions))
            return self.objects[key][1]

    def _put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        with self.mutex:
            expect_version(self.objects.get(key, (b"", None))[1], if_version)
            self.objects[key] = (b"".join(parts), next(self.versions))
            return self.objects[key][1]

    def _erase(self, key: str) -> None:
        self.objects.pop(key, None)

    def _erase_if(self, key: str, if_version: Version) -> None:
        with self.mutex:
            expect_version(self.objects.get(key, (b"", None))[1], if_version)
            self.objects.pop(key, None)

    def _erase_prefix(self, prefix: str) -> None:
        for key in self._list_prefix(prefix):
            self._erase(key)

    def _list_prefix(self, prefix: str) -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def _list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        tails = [key[len(prefix) :].partition("/") for key in self._list_prefix(prefix)]
        keys = [prefix + head for head, slash, _ in tails if not slash]
        return keys, sorted({prefix + head + slash for head, slash, _ in tails if slash})


def _both(name: str) -> tuple[Any, Any]:
    def blocking(self: DictStore, *args: Any) -> Any:
        self.used["blocking"] += 1
        found = getattr(self, f"_{name}")(*args)
        return iter(found) if name == "list_prefix" else found

    async def coroutine(self: DictStore, *args: Any) -> Any:
        self.used["coroutine"] += 1
        await asyncio.sleep(0)
        return getattr(self, f"_{name}")(*args)

    return blocking, coroutine


for _name in METHODS:
    _blocking, _coroutine = _both(_name)
    setattr(DictStore, _name, _blocking)
    setattr(DictStore, f"{_name}_async", _coroutine)


class OneProcess(DictStore):
    """Says that no other process can reach it."""

    one_process = True


class Locking(DictStore):
    """Has locks of both kinds on its keys; inside of them its own keys can be locked again."""

    def __init__(self) -> None:
        super().__init__()
        self.busy: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self.inside = False

    def _held(self) -> Locking:
        held = copy.copy(self)
        held.inside = True
        return held

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[Locking]:
        with ExitStack() as stack:
            for key in () if self.inside else sorted(set(keys)):
                stack.enter_context(self.busy[key])
            yield self._held()

    @asynccontextmanager
    async def lock_async(self, keys: Sequence[str]) -> AsyncIterator[Locking]:
        with ExitStack() as stack:
            for key in () if self.inside else sorted(set(keys)):
                while not self.busy[key].acquire(blocking=False):
                    await asyncio.sleep(0)
                stack.callback(self.busy[key].release)
            yield self._held()


LAYOUTS = [{"chunks": (4, 5)}, {"chunks": (2, 5), "shards": (4, 10)}]
MODEL = np.arange(8 * 10, dtype="int32").reshape(8, 10)


def model() -> Any:
    expected = MODEL.copy()
    expected[1:3, 2:9] = -1
    return expected


@pytest.mark.parametrize("layout", LAYOUTS, ids=["chunks", "shards"])
def test_each_driver_uses_its_own_kind(layout: dict[str, Any]) -> None:
    store = DictStore()
    a = zarrant.create_array(store, name="a", shape=(8, 10), dtype="int32", **layout)
    a[...] = MODEL
    a[1:3, 2:9] = -1
    assert np.array_equal(a[...], model())
    assert store.used["coroutine"] == 0
    assert store.used["blocking"] > 0
    store.used["blocking"] = 0

    async def main() -> None:
        b = await zarrant.create_array_async(store, name="b", shape=(8, 10), dtype="int32", **layout)
        await b.setitem(..., MODEL)
        await b.setitem(np.s_[1:3, 2:9], -1)
        assert np.array_equal(await b.getitem(...), model())
        await asyncio.gather(*(b.update(np.s_[0:8], lambda part: part + 1) for _ in range(4)))
        assert np.array_equal(await b.getitem(...), model() + 4)

    asyncio.run(main())
    assert store.used["blocking"] == 0
    assert np.array_equal(zarrant.open_array(store, name="b")[...], model() + 4)


@pytest.mark.parametrize("kind", [DictStore, OneProcess, Locking])
@pytest.mark.parametrize("layout", LAYOUTS, ids=["chunks", "shards"])
def test_appends_under_both_drivers_lose_nothing(kind: type[DictStore], layout: dict[str, Any]) -> None:
    store = kind()
    a = zarrant.create_array(store, shape=(0, 10), dtype="int32", **layout)
    together(*(lambda i=i: zarrant.open_array(store).append(np.full((3, 10), i)) for i in range(4)))

    async def main() -> None:
        arrays = [await zarrant.open_array_async(store) for _ in range(4)]
        await asyncio.gather(*(array.append(np.full((3, 10), 4 + i)) for i, array in enumerate(arrays)))

    asyncio.run(main())
    a.refresh()
    assert a.shape == (24, 10)
    assert sorted(a[:, 0].tolist()) == sorted([*range(8)] * 3)
    # A queue of this process is of threads: the coroutines of a store without a lock are not used for it.
    assert capabilities(store).awaits == (kind is not OneProcess)


def test_a_lock_that_only_threads_have_is_used_by_tasks_too() -> None:
    class Half(Locking):
        lock_async = None  # type: ignore[assignment]

    store = Half()
    zarrant.create_array(store, shape=(8, 10), dtype="int32", chunks=(4, 5))

    async def main() -> None:
        a = await zarrant.open_array_async(store)
        await asyncio.gather(*(a.update(np.s_[0:8], lambda part: part + 1) for _ in range(4)))
        async with a.lock(np.s_[0:1, 0:1]) as held:
            await held.setitem((0, 0), 9)

    asyncio.run(main())
    assert store.used["coroutine"] == 0
    assert zarrant.open_array(store)[0, :2].tolist() == [9, 4]


def test_a_lock_takes_no_other_keys_and_ends(tmp_path: Any) -> None:
    for store in (OneProcess(), zarrant.FilesystemStore(tmp_path)):
        a = zarrant.create_array(store, data=MODEL, chunks=(4, 5))
        with a.lock(np.s_[0:1, 0:1]) as held, pytest.raises(OptionError, match="takes only its keys"):
            held[7, 9] = 1
