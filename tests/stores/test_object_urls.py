"""Stores of URLs; what they do is tested in `test_object_store`."""

from __future__ import annotations

from typing import Any

import pytest

from servers import Server
from zarrant.stores.resolve import resolve_store

pytest.importorskip("obstore")


def test_stores_of_one_bucket_share_their_connections(gofakes3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def client(**more: Any) -> Any:
        store, _ = resolve_store(gofakes3.fresh_url(), {**gofakes3.storage_options, **more})
        return store._inner()  # type: ignore[attr-defined]

    first = client()
    assert client() is first
    assert client(region="eu-west-1") is not first
    monkeypatch.setenv("AWS_REGION", "eu-west-2")  # what is not given is looked for anew
    assert client() is not first
