"""Anybody's object with obspec's methods is a store: with blocking ones or coroutines only, over files, without attributes.

The objects here are small and real. They know obspec and nothing of Zarrant; their errors are obspec's.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, OptionError, StoreError, VersionChangedError
from zarrant.storage import ByteRange, capabilities
from zarrant.stores.object_store import ObjectStore
from zarrant.stores.objects.versions import KEPT
from zarrant.testkit import AsyncStoreSuite, StoreSuite, blocking

errors = pytest.importorskip("obspec.exceptions")


@dataclass
class Result:
    """What `get` gives."""

    data: bytes
    meta: dict[str, Any]
    range: tuple[int, int]
    attributes: Mapping[str, str]

    def buffer(self) -> bytes:
        return self.data

    async def buffer_async(self) -> bytes:
        await asyncio.sleep(0)
        return self.data


class InMemory:
    """Objects with tags that are numbers, as (bytes, tag, attributes). What follows gives its methods their names."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str, Mapping[str, str]]] = {}
        self.numbers, self.lock = itertools.count(), threading.Lock()

    def _tag(self, value: bytes) -> str:
        return f'"{next(self.numbers)}"'

    def _load(self, path: str) -> tuple[bytes, str, Mapping[str, str]] | None:
        return self.objects.get(path)

    def _save(self, path: str, value: bytes, tag: str, attributes: Mapping[str, str]) -> None:
        self.objects[path] = value, tag, attributes

    def _remove(self, path: str) -> None:
        del self.objects[path]

    def _paths(self) -> list[str]:
        return list(self.objects)

    def _meta(self, path: str, value: bytes, tag: str) -> dict[str, Any]:
        return {"path": path, "size": len(value), "e_tag": tag, "version": None, "last_modified": None}

    def _get(self, path: str, options: Mapping[str, Any]) -> Result:
        found = self._load(path)
        if found is None:
            raise errors.NotFoundError(path)
        value, tag, attributes = found
        if options.get("if_match", tag) != tag:
            raise errors.PreconditionError(path)
        wanted = options.get("range", (0, len(value)))
        start, stop = wanted if isinstance(wanted, tuple) else (max(0, len(value) - wanted["suffix"]), len(value))
        if start >= len(value) and start:
            raise errors.BaseError(f"Invalid range from {start} of {len(value)} bytes")
        data = b"" if options.get("head") else value[start:stop]
        return Result(data, self._meta(path, value, tag), (start, min(stop, len(value))), attributes)

    def _put(self, path: str, file: Any, mode: Any, attributes: Mapping[str, str] | None) -> dict[str, Any]:
        value = b"".join(file) if isinstance(file, list) else bytes(file)
        with self.lock:
            found = self._load(path)
            if mode == "create" and found is not None:
                raise errors.AlreadyExistsError(path)
            if isinstance(mode, dict) and (found is None or found[1] != mode["e_tag"]):
                raise errors.PreconditionError(path)
            tag = self._tag(value)
            self._save(path, value, tag, attributes or {})
        return {"e_tag": tag, "version": None}

    def _delete(self, paths: str | list[str]) -> None:
        for path in [paths] if isinstance(paths, str) else paths:
            with self.lock:
                if self._load(path) is None:
                    raise errors.NotFoundError(path)
                self._remove(path)

    def _list(self, prefix: str | None) -> list[dict[str, Any]]:
        below = f"{prefix.rstrip('/')}/" if prefix else ""
        loaded = [(path, self._load(path)) for path in self._paths() if path.startswith(below)]
        return [self._meta(path, found[0], found[1]) for path, found in loaded if found is not None]

    def _list_with_delimiter(self, prefix: str | None) -> dict[str, Any]:
        depth = len(prefix.strip("/").split("/")) if prefix else 0
        found = self._list(prefix)
        paths = [meta["path"].split("/") for meta in found]
        prefixes = {"/".join(path[: depth + 1]) for path in paths if len(path) > depth + 1}
        return {
            "common_prefixes": sorted(prefixes),
            "objects": [meta for meta, path in zip(found, paths, strict=True) if len(path) == depth + 1],
        }


class Blocking(InMemory):
    """Blocking methods only."""

    def get(self, path: str, *, options: Mapping[str, Any] | None = None) -> Result:
        return self._get(path, options or {})

    def put(self, path: str, file: Any, *, attributes: Any = None, mode: Any = None, use_multipart: bool | None = None) -> Any:
        return self._put(path, file, mode, attributes)

    def delete(self, paths: str | list[str]) -> None:
        self._delete(paths)

    def list(self, prefix: str | None = None) -> Iterator[Any]:
        found = self._list(prefix)
        return iter([found[:1], found[1:]])

    def list_with_delimiter(self, prefix: str | None = None) -> Any:
        return self._list_with_delimiter(prefix)


class Awaited(InMemory):
    """Coroutines only."""

    async def get_async(self, path: str, *, options: Mapping[str, Any] | None = None) -> Result:
        await asyncio.sleep(0)
        return self._get(path, options or {})

    async def put_async(
        self, path: str, file: Any, *, attributes: Any = None, mode: Any = None, use_multipart: bool | None = None
    ) -> Any:
        await asyncio.sleep(0)
        return self._put(path, file, mode, attributes)

    async def delete_async(self, paths: str | list[str]) -> None:
        await asyncio.sleep(0)
        self._delete(paths)

    async def list_async(self, prefix: str | None = None) -> Any:
        for meta in self._list(prefix):
            yield [meta]

    async def list_with_delimiter_async(self, prefix: str | None = None) -> Any:
        return self._list_with_delimiter(prefix)


class OverFiles(Blocking):
    """Files of one directory: a tag is a hash of the bytes, and attributes have no place."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def _tag(self, value: bytes) -> str:
        return f'"{hashlib.md5(value, usedforsecurity=False).hexdigest()}"'

    def _load(self, path: str) -> tuple[bytes, str, Mapping[str, str]] | None:
        try:
            value = (self.root / quote(path, safe="")).read_bytes()
        except FileNotFoundError:
            return None
        return value, self._tag(value), {}

    def _save(self, path: str, value: bytes, tag: str, attributes: Mapping[str, str]) -> None:
        if attributes:
            raise errors.NotSupportedError("attributes")
        new = self.root / f"%new-{next(self.numbers)}"
        new.write_bytes(value)
        new.replace(self.root / quote(path, safe=""))

    def _remove(self, path: str) -> None:
        (self.root / quote(path, safe="")).unlink()

    def _paths(self) -> list[str]:
        return [unquote(file.name) for file in self.root.iterdir() if not file.name.startswith("%new")]


class Forgetful(OverFiles):
    """It takes attributes and forgets them."""

    def _save(self, path: str, value: bytes, tag: str, attributes: Mapping[str, str]) -> None:
        super()._save(path, value, tag, {})


class TestBlocking(StoreSuite):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return ObjectStore(Blocking())


class TestAwaited(AsyncStoreSuite):
    @pytest.fixture
    def async_store(self) -> ObjectStore:
        return ObjectStore(Awaited())

    @pytest.fixture
    def store(self, async_store: ObjectStore) -> Iterator[Any]:
        with blocking(async_store) as store:
            yield store


class TestOverFiles(StoreSuite):
    named_by_content = True

    @pytest.fixture(params=[OverFiles, Forgetful])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
        return ObjectStore(request.param(tmp_path))


def test_what_it_can_do_is_read_off_its_methods() -> None:
    for inner, ending in ((Blocking(), "sync"), (Awaited(), "async")):
        can = capabilities(ObjectStore(inner))
        there, missing = (can.sync_calls, can.async_calls) if ending == "sync" else (can.async_calls, can.sync_calls)
        assert all([there.get, there.get_within, there.put, there.put_if, there.erase, there.list])
        assert not any(missing)
    with pytest.raises(OptionError, match="obspec"):
        ObjectStore(object())


INNER: dict[str, Callable[[Path], Any]] = {
    "blocking": lambda path: Blocking(),
    "coroutines": lambda path: Awaited(),
    "files": OverFiles,
    "files, forgetful": Forgetful,
}


@pytest.mark.parametrize("kind", INNER)
def test_arrays_work(kind: str, tmp_path: Path) -> None:
    store = ObjectStore(INNER[kind](tmp_path))

    async def work() -> None:
        a = await zarrant.create_array_async(store, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))
        await a.setitem(..., 1)
        await a.setitem(np.s_[1:3, 2:7], 2)
        assert await a.append(np.full((3, 8), 3)) == slice(8, 11)
        await a.update_attributes({"x": 1})
        b = await zarrant.open_array_async(store, mode="r")
        found = await b.getitem(...)
        assert found.sum() == 64 + 10 + 72 and b.shape == (11, 8) and dict(b.attrs) == {"x": 1}

    asyncio.run(work())
    if kind != "coroutines":
        assert zarrant.open_array(store, mode="r")[1:3, 2:7].tolist() == [[2] * 5] * 2
    else:
        with pytest.raises(CapabilityError, match="async only"):
            zarrant.open_array(store, mode="r")


class Unlucky:
    """Loses the reply of the next puts; with `before` the request too."""

    def __init__(self, inner: Any, lost: int, before: bool = False) -> None:
        self.inner, self.lost, self.before = inner, lost, before

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def put(self, path: str, file: Any, **options: Any) -> Any:
        lost, self.lost = self.lost > 0, self.lost - 1
        if lost and self.before:
            raise ConnectionError("nothing was sent")
        result = self.inner.put(path, file, **options)
        if lost:
            raise ConnectionError("no reply")
        return result


KINDS: list[Callable[[Path], Any]] = [lambda path: Blocking(), OverFiles, Forgetful]


@pytest.mark.parametrize("inner", KINDS, ids=["attributes", "none", "forgotten"])
@pytest.mark.parametrize("before", [False, True], ids=["reply", "request"])
def test_a_lost_reply_is_no_conflict(inner: Callable[[Path], Any], before: bool, tmp_path: Path) -> None:
    unlucky = Unlucky(inner(tmp_path), 1, before)
    store = ObjectStore(unlucky)
    version = store.put_if("a", [b"1"], None)
    for value in (b"2", b"3"):
        unlucky.lost = 2
        version = store.put_if("a", [value], version)
    assert bytes(store.get("a").data[0]) == b"3"  # type: ignore[union-attr]
    assert store.get("a").version == version  # type: ignore[union-attr]


def test_a_conflict_is_one_also_when_a_reply_was_lost() -> None:
    unlucky = Unlucky(Blocking(), 0)
    store = ObjectStore(unlucky)
    first = store.put_if("a", [b"1"], None)
    store.put_if("a", [b"2"], first)
    unlucky.lost, unlucky.before = 1, True
    with pytest.raises(VersionChangedError):
        store.put_if("a", [b"3"], first)
    assert bytes(store.get("a").data[0]) == b"2"  # type: ignore[union-attr]


class Overtaken(Blocking):
    """The next put is made, `others` more are made upon it, and its reply is lost; `erased`: or the object is erased."""

    others, erased = 0, False

    def put(self, path: str, file: Any, *, attributes: Any = None, mode: Any = None, use_multipart: bool | None = None) -> Any:
        result = super().put(path, file, attributes=attributes, mode=mode)
        others, self.others = self.others, 0
        erased, self.erased = self.erased, False
        if not others and not erased:
            return result
        store = ObjectStore(self)
        for number in range(others):
            store.put_if(path, [b"%d" % number], store.version(path))
        if erased:
            self.delete(path)
        raise ConnectionError("no reply")


@pytest.mark.parametrize("there", [False, True], ids=["new", "replaced"])
def test_a_put_that_is_no_longer_remembered_is_no_conflict(there: bool) -> None:
    """Who is told of a conflict does his change again: a counter would count it twice."""
    inner = Overtaken()
    store = ObjectStore(inner)
    for others, erased, known in ((KEPT - 1, False, True), (KEPT, False, False), (3, True, False))[: 2 + there]:
        before = store.put_if(f"{others}", [b"mine"], None) if there else None
        inner.others, inner.erased = others, erased
        if known:
            assert store.put_if(f"{others}", [b"mine, too"], before).replaced  # type: ignore[union-attr]
        else:
            with pytest.raises(StoreError, match="not known") as caught:
                store.put_if(f"{others}", [b"mine, too"], before)
            assert not isinstance(caught.value, VersionChangedError)


@pytest.mark.parametrize("inner", KINDS[1:], ids=["none", "forgotten"])
def test_where_nothing_is_remembered_a_conflict_after_a_lost_reply_is_not_known(
    inner: Callable[[Path], Any], tmp_path: Path
) -> None:
    unlucky = Unlucky(inner(tmp_path), 0)
    store = ObjectStore(unlucky)
    first = store.put_if("a", [b"1"], None)
    store.put_if("a", [b"2"], first)
    unlucky.lost, unlucky.before = 1, True
    with pytest.raises(StoreError, match="not known"):
        store.put_if("a", [b"3"], first)
    with pytest.raises(VersionChangedError):
        store.put_if("a", [b"3"], first)
    assert bytes(store.get("a").data[0]) == b"2"  # type: ignore[union-attr]


class Busy(Blocking):
    """Another writer replaces an object after each of the first `times` times that it is read."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def get(self, path: str, *, options: Mapping[str, Any] | None = None) -> Result:
        result = super().get(path, options={**(options or {})} | {"if_match": self.objects[path][1]})
        if self.times > 0 and not (options or {}).get("head"):
            self.times -= 1
            self._put(path, bytes([result.data[0] + 1]) * 100, None, None)
        return result


def test_ranges_are_of_one_version() -> None:
    """Also where the service does not look at the condition of a read, and the requests are made at once."""
    inner = Busy(0)
    store = ObjectStore(inner, coalesce_gap=0)
    version = store.put("a", [bytes(100)])
    inner.times = 3
    blob = store.get_ranges("a", [ByteRange(0, 2), ByteRange(50, 2), ByteRange(98, 2)])
    assert blob is not None
    assert len({bytes(view) for view in blob.data}) == 1 and blob.version != version
    inner.times = 1
    with pytest.raises(VersionChangedError):
        store.get_ranges("a", [ByteRange(0, 2), ByteRange(50, 2)], blob.version)
    inner.times = 1000
    with pytest.raises(VersionChangedError, match="faster than it can be read"):
        store.get_ranges("a", [ByteRange(0, 2), ByteRange(50, 2)])


def test_a_put_that_others_built_upon() -> None:
    """The reply is lost, and another writer has replaced what was put before it is looked for: it was put, all the same."""

    class Followed(Blocking):
        def put(self, path: str, file: Any, *, attributes: Any = None, mode: Any = None, use_multipart: bool | None = None) -> Any:
            super().put(path, file, attributes=attributes, mode=mode)
            if file != b"follows":
                other = ObjectStore(self)
                other.put_if(path, [b"follows"], other.version(path))
                raise ConnectionError("no reply")
            return {"e_tag": self.objects[path][1], "version": None}

    store = ObjectStore(Followed())
    version = store.put_if("a", [b"1"], None)
    assert bytes(store.get("a").data[0]) == b"follows"  # type: ignore[union-attr]
    with pytest.raises(VersionChangedError):
        store.put_if("a", [b"2"], version)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"!", lambda data: b""], ids=["short", "long", "none"]
)
def test_a_reply_of_another_length_is_not_believed(change: Callable[[bytes], bytes]) -> None:
    class Wrong(Blocking):
        times = 2

        def get(self, path: str, *, options: Mapping[str, Any] | None = None) -> Result:
            result = super().get(path, options=options)
            self.times -= 1
            if self.times >= 0:
                result.data = change(result.data)
            return result

    inner = Wrong()
    store = ObjectStore(inner)
    store.put("a", [b"0123456789"])
    assert bytes(store.get_ranges("a", [ByteRange(2, 3)]).data[0]) == b"234"  # type: ignore[union-attr]
    inner.times = 100
    for call in (lambda: store.get("a"), lambda: store.get_ranges("a", [ByteRange(2, 3)])):
        with pytest.raises(StoreError, match="another length") as caught:
            call()
        assert (caught.value.key, caught.value.retryable) == ("a", True)


def test_errors_that_obspec_does_not_know_are_typed_with_place_and_key() -> None:
    class Broken(Blocking):
        def get(self, path: str, *, options: Mapping[str, Any] | None = None) -> Result:
            raise RuntimeError("the disk is on fire")

    store = ObjectStore(Broken())
    with pytest.raises(StoreError, match="on fire") as caught:
        store.get("a/b")
    assert (caught.value.key, caught.value.store) == ("a/b", store.url)
    assert isinstance(caught.value.__cause__, RuntimeError)
