"""The store that can only compare and swap, blocking and with coroutines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zarrant.storage import capabilities
from zarrant.testkit import AsyncCasStore, AsyncStoreSuite, CasStore, StoreSuite, blocking


class TestCasStore(StoreSuite):
    named_by_content = True

    @pytest.fixture
    def store(self, tmp_path: Path) -> Any:
        return CasStore(tmp_path / "store")


class TestAsyncCasStore(AsyncStoreSuite):
    named_by_content = True

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Any]:
        with blocking(AsyncCasStore(tmp_path / "store")) as store:
            yield store


def test_it_has_no_locks(tmp_path: Path) -> None:
    able = capabilities(CasStore(tmp_path))
    assert (able.put_if, able.lock, able.erase_if, able.one_process, able.is_unchanged) == (True, False, False, False, False)


def test_equal_bytes_have_equal_versions(tmp_path: Path) -> None:
    store = CasStore(tmp_path / "store")
    first = store.put("a", [b"one"])
    store.put("a", [b"other"])
    assert store.put("a", [b"o", b"ne"]) == first
    assert store.put_if("a", [b"two"], first) != first


def test_each_call_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    store = CasStore(tmp_path / "store", lambda name, key: told.append((name, key)))
    store.put("a", [b"one"])
    store.get("a")
    assert told == [("put", "a"), ("get", "a")]


def test_all_that_it_makes_is_in_its_directory(tmp_path: Path) -> None:
    store = CasStore(tmp_path / "store")
    store.put_if("a", [b"one"], None)
    store.erase("a")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert list(store.list_prefix("")) == []
