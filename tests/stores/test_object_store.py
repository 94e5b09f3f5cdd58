from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from servers import Server
from zarrant.stores.object_store import ObjectStore
from zarrant.stores.resolve import resolve_store
from zarrant.testkit import AsyncStoreSuite, StoreSuite, blocking

obstore = pytest.importorskip("obstore")


def empty(server: Server) -> ObjectStore:
    """A store of the bucket, of which nothing is left of other tests."""
    store, _ = resolve_store(server.url, server.storage_options)
    store.erase_prefix("")
    return store  # type: ignore[no-any-return]


class TestInMemory(StoreSuite):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return ObjectStore(obstore.store.MemoryStore())


class TestInMemoryAwaited(AsyncStoreSuite):
    @pytest.fixture
    def async_store(self) -> ObjectStore:
        return ObjectStore(obstore.store.MemoryStore())

    @pytest.fixture
    def store(self, async_store: ObjectStore) -> Iterator[Any]:
        with blocking(async_store) as store:
            yield store


class TestS3(StoreSuite):
    named_by_content = True

    @pytest.fixture
    def store(self, gofakes3: Server) -> ObjectStore:
        return empty(gofakes3)


class TestS3Awaited(AsyncStoreSuite):
    named_by_content = True

    @pytest.fixture
    def async_store(self, gofakes3: Server) -> ObjectStore:
        return empty(gofakes3)

    @pytest.fixture
    def store(self, async_store: ObjectStore) -> Iterator[Any]:
        with blocking(async_store) as store:
            yield store


class TestMoto(StoreSuite):
    named_by_content = True

    @pytest.fixture
    def store(self, moto: Server) -> ObjectStore:
        return empty(moto)

    def test_like_a_dict(self, store: Any) -> None:
        """Once, for each request takes 5 ms."""
        self.compare_with_a_dict(store, 0)
