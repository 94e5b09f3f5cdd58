from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from zarrant.errors import OptionError
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Latency
from zarrant.testkit import CoroutineStore


def test_each_request_takes_longer() -> None:
    store = Latency(MemoryStore(), 0.01)
    began = time.monotonic()
    store.put("a", [b"1"])
    store.get("a")
    assert time.monotonic() - began >= 0.02


def test_bytes_take_time_both_ways() -> None:
    store = Latency(MemoryStore(), 0, bandwidth=1e6)
    began = time.monotonic()
    store.put("a", [bytes(20_000)])
    store.get("a")
    assert time.monotonic() - began >= 0.04


def test_coroutines_wait_side_by_side() -> None:
    store = Latency(CoroutineStore(), 0.05)

    async def many() -> float:
        began = time.monotonic()
        await asyncio.gather(*(store.put_async(f"k{i}", [b"1"]) for i in range(100)))
        return time.monotonic() - began

    assert 0.05 <= asyncio.run(many()) < 2.5


def test_jitter_comes_from_a_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("zarrant.stores.wrappers.latency.time.sleep", slept.append)
    for _ in range(2):
        store = Latency(MemoryStore(), 0.5, jitter=0.1, seed=3)
        for _ in range(5):
            store.get("a")
    assert slept[:5] == slept[5:]
    assert len(set(slept)) == 5
    assert all(0.5 <= seconds <= 0.6 for seconds in slept)


@pytest.mark.parametrize("options", [{"seconds": -1}, {"jitter": float("nan")}, {"bandwidth": 0}])
def test_bad_options(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        Latency(MemoryStore(), **options)
    assert caught.value.field == next(iter(options))
