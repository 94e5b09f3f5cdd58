from __future__ import annotations

import asyncio
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import ConflictError, StoreError, VersionChangedError
from zarrant.ops import guard
from zarrant.storage import ByteRange
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Fault, Faults, Latency, Metrics, MetricsSnapshot
from zarrant.testkit import CoroutineStore, together


def test_what_is_counted() -> None:
    store = Metrics(MemoryStore())
    version = store.put("a", [b"12345", b"67"])
    store.get("a")
    store.get_ranges("a", [ByteRange(0, 2), ByteRange(5)])
    store.get("absent")
    newer = store.splice("a", [ByteRange(0, 4), b"xyz"], version)
    for old in (version, None):
        with pytest.raises(VersionChangedError):
            store.put_if("a", [b"12"], old)
    store.put_if("a", [b"123"], newer)
    store.handed_in(6)
    counts = store.snapshot()
    assert counts.requests == {"put": 1, "get": 2, "get_ranges": 1, "splice": 1, "put_if": 3}
    assert (counts.bytes_read, counts.bytes_written, counts.bytes_copied) == (7 + 4, 7 + 3 + 3, 4)
    assert (counts.conflicts, counts.retries, counts.errors) == (2, 2, {"VersionChangedError": 2})
    assert counts.write_amplification == (13 + 4) / 6
    assert set(counts.seconds) == set(counts.requests)
    assert store.reset() == counts
    assert store.snapshot() == MetricsSnapshot()
    assert store.snapshot().write_amplification is None


def test_counts_are_added_up() -> None:
    one = MetricsSnapshot({"get": 1}, {"get": 0.5}, {}, bytes_read=3)
    two = MetricsSnapshot({"get": 2, "lock": 1}, {"get": 0.5, "lock": 2.0}, {"StoreError": 1}, conflicts=2, bytes_from_caller=9)
    both = MetricsSnapshot({"get": 3, "lock": 1}, {"get": 1.0, "lock": 2.0}, {"StoreError": 1}, 3, 0, 0, 9, 2)
    assert sum([one, two], MetricsSnapshot()) == both
    assert both.lock_seconds == 2.0
    assert pickle.loads(pickle.dumps(both)) == both


def test_waits_for_locks(tmp_path: Path) -> None:
    store = Metrics(Latency(FilesystemStore(tmp_path), 0.01))
    with store.lock(["a"]) as held:
        held.put("a", [b"1"])
    counts = store.snapshot()
    assert counts.requests == {"lock": 1, "put": 1}
    assert 0.01 <= counts.lock_seconds < 5


def test_threads_are_all_counted() -> None:
    store = Metrics(MemoryStore())

    def work() -> None:
        for _ in range(500):
            store.put("a", [b"12"])

    together(*[work] * 6)
    assert (store.snapshot().requests, store.snapshot().bytes_written) == ({"put": 3000}, 6000)


def test_many_objects_of_one_call(tmp_path: Path) -> None:
    store = Metrics(FilesystemStore(tmp_path, durability="fsync"))
    (tmp_path / "b").mkdir()
    found = store.put_all([("a", [b"12"]), ("b", [b"3"])])
    assert isinstance(found[1], StoreError)
    counts = store.snapshot()
    assert (counts.requests, counts.bytes_written, counts.errors) == ({"put_all": 1}, 3, {type(found[1]).__name__: 1})


def test_a_program_that_collects() -> None:
    seen: list[tuple[str, Mapping[str, Any]]] = []

    def on_call(name: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        assert seconds >= 0
        seen.append((name, attributes))

    store = Metrics(Faults(CoroutineStore(), Fault("error", at=0, methods=("get",))), on_call)
    asyncio.run(store.put_async("a", [b"12"]))
    with pytest.raises(StoreError):
        store.get("a")
    assert seen == [
        ("put", {"key": "a", "bytes_sent": 2, "bytes_received": 0, "error": None}),
        ("get", {"key": "a", "bytes_sent": 0, "bytes_received": 0, "error": "StoreError"}),
    ]


def test_a_program_that_collects_and_fails_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def on_call(name: str, seconds: float, attributes: Mapping[str, Any]) -> None:
        raise RuntimeError("no connection")

    store = Metrics(MemoryStore(), on_call)
    assert store.put("a", [b"1"]) == store.version("a")
    assert "on_call of Metrics failed" in caplog.text


def test_an_array_tells_conflicts_and_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "FIRST_PAUSE_S", 0)
    monkeypatch.setattr(guard, "MAX_TRIES", 4)
    store = Metrics(
        Faults(MemoryStore(), Fault("error", at=0, forever=True, methods=("put_if",), key="c/0", error=VersionChangedError))
    )
    a = zarrant.create_array(store, shape=(8,), chunks=(4,), dtype="u1", compressors=None)
    store.reset()
    a[0:4] = np.arange(4)
    store.handed_in(4)
    assert store.snapshot().write_amplification == 1.0
    with pytest.raises(ConflictError):
        a[1:3] = 5
    assert (store.snapshot().conflicts, store.snapshot().retries) == (4, 3)
