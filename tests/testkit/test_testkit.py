"""The test kit finds what is wrong, says it in words, and needs no pytest to be imported."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from zarrant.storage import Blob, ByteRange
from zarrant.stores.memory import MemoryStore
from zarrant.testkit import AsyncStoreSuite, StoreSuite, blocking, check_equal, raises


class OnLoop:
    """The store in memory behind coroutines that give others a turn."""

    def __init__(self) -> None:
        self.inside = MemoryStore()
        self.url = self.inside.url

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_async") and hasattr(self.inside, name := name.removesuffix("_async")) and name != "lock":
            method = getattr(self.inside, name)

            async def call(*args: Any) -> Any:
                await asyncio.sleep(0)
                result = method(*args)
                return list(result) if name == "list_prefix" else result

            return call
        raise AttributeError(name)


class TestOnLoop(AsyncStoreSuite):
    @pytest.fixture
    def store(self) -> Iterator[Any]:
        with blocking(OnLoop()) as store:
            yield store


class Torn(MemoryStore):
    """Shows half of what it stored."""

    def get(self, key: str) -> Blob | None:
        blob = super().get(key)
        return blob if blob is None or blob.size < 2 else Blob((blob.data[0][: blob.size // 2],), blob.version, blob.size)


class Forgetful(MemoryStore):
    """Compares nothing before it swaps."""

    def put_if(self, key: str, parts: Any, if_version: Any) -> Any:
        return self.put(key, parts)


class Lenient(MemoryStore):
    """Gives what there is of a range that is outside."""

    def get_ranges(self, key: str, ranges: Any, if_version: Any = None) -> Blob | None:
        blob = self.get(key)
        if blob is None:
            return None
        return Blob(tuple(blob.data[0][max(each.start, 0) :][: each.length] for each in ranges), blob.version, blob.size)


class NoList(MemoryStore):
    list_prefix = None  # type: ignore[assignment]

    def __getattribute__(self, name: str) -> Any:
        if name in ("list_prefix", "list_dir"):
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("store", "test", "message"),
    [
        (Torn, StoreSuite.test_put_and_get, "after `put` of 4 parts:\n  expected"),
        (Forgetful, StoreSuite.test_put_if, "expected VersionChangedError, no error was raised"),
        (Lenient, StoreSuite.test_ranges_outside, "the range (0, 11) of 10 bytes: expected ByteRangeError"),
    ],
)
def test_a_wrong_store_is_found(store: type, test: Callable[..., None], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        test(StoreSuite(), store())
    assert message in str(caught.value)


def test_what_a_store_cannot_do_is_skipped() -> None:
    with pytest.raises(unittest.SkipTest, match="no list"):
        StoreSuite().test_list(NoList())


def test_a_difference_shows_both_values() -> None:
    with pytest.raises(AssertionError) as caught:
        check_equal(b"found", b"x" * 1000, "the value")
    assert str(caught.value).startswith("the value:\n  expected b'xxx")
    assert "(1003 characters)" in str(caught.value)
    assert "found    b'found'" in str(caught.value)
    with pytest.raises(AssertionError, match="expected KeyError, got ValueError: other"), raises(KeyError, "a look-up"):
        raise ValueError("other")


def test_errors_of_a_lock_reach_the_store() -> None:
    """The block of a lock ends with the error that it raised, also by way of coroutines."""
    with blocking(OnLoop()) as store:
        assert store.get("a") is None
        version = store.put("a", [b"abc"])
        assert store.get_ranges("a", [ByteRange(1, 1)], version).data[0] == b"b"
        assert not hasattr(store, "lock")


def test_it_is_imported_without_pytest(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pytest'] = None; import zarrant.testkit; print(zarrant.testkit.StoreSuite.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "StoreSuite"
