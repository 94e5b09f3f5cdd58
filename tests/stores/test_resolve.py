from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest

from zarrant.errors import OptionError, StoreError
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.resolve import resolve_store
from zarrant.stores.wrappers import ReadOnly, WriteOnly
from zarrant.testkit import content


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = (FilesystemStore(tmp_path / "a b.zarr"), "")
    for target in ("a b.zarr", tmp_path / "a b.zarr", f"{tmp_path}/./a b.zarr/", (tmp_path / "a b.zarr").as_uri()):
        assert resolve_store(target) == expected
    assert list(tmp_path.iterdir()) == []


def test_options_of_directories(tmp_path: Path) -> None:
    store, _ = resolve_store(tmp_path, {"locking": "none", "lock_timeout": 1.5})
    assert (store.locking, store.lock_timeout) == ("none", 1.5)


def test_memory() -> None:
    store, prefix = resolve_store("memory://test_resolve/a/b/")
    assert (store, prefix) == (MemoryStore.named("test_resolve"), "a/b/")
    assert resolve_store("MEMORY://test_resolve") == (store, "")
    data = {"a": b"1"}
    assert content(resolve_store(data).store.get("a")) == b"1"
    assert resolve_store(data).store == resolve_store(data).store


def test_stores_are_taken_as_they_are(tmp_path: Path) -> None:
    for store in (FilesystemStore(tmp_path), MemoryStore(), ReadOnly(MemoryStore()), WriteOnly(MemoryStore())):
        assert resolve_store(store).store is store


class Forwarding:
    """What users write around a store: every method is that of another."""

    def __init__(self, inner: object) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


def test_a_store_that_forwards_its_methods_is_a_store() -> None:
    for inner in (MemoryStore(), ReadOnly(MemoryStore()), WriteOnly(MemoryStore())):
        forwarding = Forwarding(inner)
        assert resolve_store(forwarding) == (forwarding, "")
    with pytest.raises(OptionError, match="not a store"):
        resolve_store(Forwarding(object()))


@pytest.mark.parametrize(
    ("target", "options", "text"),
    [
        ("nothing://host/a", {}, "az://, file://, gs://, http://, https://, memory://, s3://"),
        ("", {}, "empty path"),
        ("memory://", {}, "without a name"),
        ("memory://name/../x", {}, "not a key"),
        ("memory://name?x=1", {}, "more than a path"),
        ("file://otherhost/a", {}, "another machine"),
        ("file://", {}, "another machine"),
        ("here", {"lockin": "os"}, "field lockin"),
        ("here", {"locking": "strong"}, "strong"),
        ("here", {"syscalls": None}, "field syscalls"),
        ("memory://name", {"locking": "os"}, "field locking"),
        ({}, {"create": True}, "field create"),
        (MemoryStore(), {"create": True}, "field create"),
        (5, {}, "got int"),
        (None, {}, "got NoneType"),
        (WriteOnly("s3://bucket"), {}, "an adapter around an address.*resolve_store"),
        (MappingProxyType({}), {}, "MemoryStore\\(mapping\\)"),
    ],
)
def test_refused(target: object, options: dict[str, object], text: str) -> None:
    with pytest.raises(OptionError, match=text):
        resolve_store(target, options)


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="not a directory"):
        resolve_store(tmp_path / "file")
