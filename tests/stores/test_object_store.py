from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

import zarrant
from servers import Server
from zarrant.errors import StorePermissionError
from zarrant.stores.object_store import ObjectStore
from zarrant.stores.resolve import resolve_store
from zarrant.testkit import AsyncStoreSuite, StoreSuite, blocking

obstore = pytest.importorskip("obstore")
HOST = "127.0.0.1"


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


def test_no_credentials_are_said_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials a cloud machine's metadata service is asked, here one that is not there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    options = {"region": "eu-west-1", "metadata_endpoint": f"http://{HOST}:9", "retry_config": {"max_retries": 0}}
    start = time.monotonic()
    with pytest.raises(StorePermissionError) as caught:
        zarrant.open("s3://bucket/x", storage_options=options)
    assert time.monotonic() - start < 5
    assert "credentials" in str(caught.value.hint)
