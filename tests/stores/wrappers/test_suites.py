"""Every adapter keeps what the store inside promises, alone and in stacks; and can do what it can do, no more."""

from __future__ import annotations

import inspect
import os
import pickle
import tempfile
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarrant.errors import CapabilityError
from zarrant.storage import capabilities
from zarrant.storage.wrapper import Forwarding
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.object_store import ObjectStore
from zarrant.stores.wrappers import Cache, Fault, Faults, Latency, Logging, Metrics, Prefix, ReadOnly, Recording, WriteOnly
from zarrant.stores.wrappers.each_call import EachCall
from zarrant.testkit import AsyncStoreSuite, CoroutineStore, StoreSuite, blocking

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
NEVER = Fault("error", at=1 << 60)
ADAPTERS: dict[str, Callable[[Any], Any]] = {
    "prefix": lambda store: Prefix(store, "some/where"),
    "logging": Logging,
    "metrics": Metrics,
    "cache": Cache,
    "small cache": lambda store: Cache(store, 4000),
    "old cache": lambda store: Cache(store, max_age=60),
    "latency": lambda store: Latency(store, 0, jitter=1e-6, seed=1),
    "faults": lambda store: Faults(store, NEVER, Fault("stale read", at=1 << 60)),
    "recording": Recording,
}
STORES: dict[str, Callable[[Path], Any]] = {"memory": lambda path: MemoryStore(), "files": FilesystemStore}


PAIRS = [(adapter, store) for adapter in ADAPTERS for store in STORES]
MEMORY_ONLY = ("small cache", "old cache", "latency", "recording")
"""Unless it is a soak run: beside a test of the same adapter, or of one as thin, on files."""


class TestBlocking(StoreSuite):
    @pytest.fixture(
        params=[pair for pair in PAIRS if SOAK or pair != (pair[0], "files") or pair[0] not in MEMORY_ONLY], ids="-".join
    )
    def store(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        adapter, store = request.param
        return ADAPTERS[adapter](STORES[store](tmp_path))


class TestCoroutines(AsyncStoreSuite):
    @pytest.fixture(params=ADAPTERS)
    def store(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        with blocking(ADAPTERS[request.param](CoroutineStore())) as store:
            yield store


class TestObjectStores(AsyncStoreSuite):
    """Over a store that cannot erase on condition, and whose versions are those of a service."""

    @pytest.fixture(params=ADAPTERS if SOAK else ("prefix", "cache", "faults"))
    def store(self, request: pytest.FixtureRequest) -> Iterator[Any]:
        obstore = pytest.importorskip("obstore.store")
        with blocking(ADAPTERS[request.param](ObjectStore(obstore.MemoryStore()))) as store:
            yield store


LONG = ("splice_of_much", "splice_with_holes", "like_a_dict", "hold_loses_nothing", "readers_see_whole_objects")
"""Each adapter alone has passed them."""
TESTS = [
    name
    for name, function in inspect.getmembers(StoreSuite, inspect.isfunction)
    if name.startswith("test_") and (SOAK or name.removeprefix("test_") not in LONG)
]


def stacked(names: tuple[str, ...], store: Any) -> Any:
    for name in names:
        store = ADAPTERS[name](store)
    return store


stacks = st.tuples(*[st.sampled_from(sorted(ADAPTERS))] * 3)


@settings(max_examples=100 * SOAK or 8)
@given(stacks, st.sampled_from(sorted(STORES)), st.data())
def test_stacks_of_three(names: tuple[str, ...], kind: str, data: st.DataObject) -> None:
    """In any order: each test of the suite, on a fresh store."""
    for test in data.draw(st.permutations(TESTS))[: 40 if SOAK else 5]:
        with tempfile.TemporaryDirectory() as folder:
            store = stacked(names, STORES[kind](Path(folder)))
            try:
                getattr(StoreSuite(), test)(store)
            except unittest.SkipTest:
                pass


@given(stacks)
def test_a_stack_can_do_what_the_store_can(names: tuple[str, ...]) -> None:
    for store in (MemoryStore(), CoroutineStore(), FilesystemStore("/nowhere"), ReadOnly(MemoryStore()), WriteOnly(MemoryStore())):
        found, inside = capabilities(stacked(names, store)), capabilities(store)
        assert set(found.names) <= set(inside.names)
        # Of `Faults`, which fails each object by itself; and what only a store itself can be sure of.
        lost = {"get_all", "get_decoded", "get_into", "put_all", "puts_first", "updates_boxes", "list_stored"}
        assert set(inside.names) - set(found.names) <= (lost if set(names) != {"prefix"} else set())
        assert (found.sync_calls, found.async_calls) == (inside.sync_calls, inside.async_calls)
        assert (found.one_process, found.durability, found.awaits) == (inside.one_process, inside.durability, inside.awaits)


@given(stacks)
def test_a_stack_is_pickled_where_the_store_is(names: tuple[str, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = stacked(names, FilesystemStore(folder))
        store.put("a/b", [b"123"])
        again = pickle.loads(pickle.dumps(store))
        assert bytes(again.get("a/b").data[0]) == b"123"
        assert (type(again), again.url, repr(again)) == (type(store), store.url, repr(store))
        assert capabilities(again) == capabilities(store)
        if not {"cache", "small cache", "old cache"}.intersection(names):  # two caches know nothing of each other's writes
            assert again == store
    with pytest.raises(CapabilityError):
        pickle.dumps(stacked(names, MemoryStore()))


def test_every_method_of_a_store_goes_through_the_hooks() -> None:
    """A method that were passed on by the base would be neither counted nor logged nor cached."""
    base = {name for name, _ in inspect.getmembers(Forwarding, inspect.isfunction) if not name.startswith("_")}
    elsewhere = {"write_batch", "with_options", "with_coalesce_gap"}  # they give another form of the store, by `_over`
    assert {name for name in base if name not in vars(EachCall)} == elsewhere
