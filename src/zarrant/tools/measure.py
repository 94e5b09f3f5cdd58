"""How fast a store answers: the time of small requests, and bytes a second of large ones.

In: a store, and a prefix below which nothing else lies. Out: plain dicts, in milliseconds and bytes a second. What is written
(33 MB) is erased again.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from zarrant.errors import StoreError
from zarrant.storage import ByteRange, as_store, capabilities

SMALL_BYTES, REQUESTS = 1024, 20
LARGE_BYTES, OBJECTS = 4 << 20, 8
"""As many and as large as the shards of a write that fills a fast network."""


def measure(store: object, prefix: str = "") -> dict[str, Any]:
    """Latency (`put head get range list`, each with `median_ms` and `p95_ms`) and throughput (`put`, `get`, bytes a second).

    >>> from zarrant.stores.memory import MemoryStore
    >>> sorted(measure(MemoryStore()))
    ['latency', 'throughput']
    """
    folder = f"{prefix}.zarrant-probe-{secrets.token_hex(6)}/"
    try:
        return {"latency": _latency(store, folder), "throughput": _throughput(store, folder)}
    finally:
        _erase(store, folder)


def _erase(store: object, folder: str) -> None:
    for name in ("small", *map(str, range(OBJECTS))):
        try:
            as_store(store).erase(folder + name)
        except StoreError:
            pass  # what was measured, or failed, is what the caller wants to know


def _latency(store: object, folder: str) -> dict[str, dict[str, float]]:
    inner, can, key = as_store(store), capabilities(store), f"{folder}small"
    small = secrets.token_bytes(SMALL_BYTES)
    calls: dict[str, Callable[[], object]] = {"put": lambda: inner.put(key, [small])}
    if can.version:
        calls["head"] = lambda: inner.version(key)
    calls["get"] = lambda: inner.get(key)
    calls["range"] = lambda: inner.get_ranges(key, [ByteRange(100, 100)])
    if can.list:
        calls["list"] = lambda: list(inner.list_prefix(folder))
    return {name: _timed(call) for name, call in calls.items()}


def _timed(call: Callable[[], object]) -> dict[str, float]:
    seconds = []
    for _ in range(REQUESTS):
        begin = perf_counter()
        call()
        seconds.append(perf_counter() - begin)
    return {"median_ms": round(1e3 * median(seconds), 3), "p95_ms": round(1e3 * quantiles(seconds, n=20)[-1], 3)}


def _throughput(store: object, folder: str) -> dict[str, float]:
    inner, data = as_store(store), os.urandom(LARGE_BYTES)
    keys = [f"{folder}{number}" for number in range(OBJECTS)]
    found: dict[str, float] = {}
    with ThreadPoolExecutor(OBJECTS) as threads:
        calls: dict[str, Callable[[str], object]] = {"put": lambda key: inner.put(key, [data]), "get": inner.get}
        for name, call in calls.items():
            begin = perf_counter()
            list(threads.map(call, keys))
            found[name] = round(OBJECTS * LARGE_BYTES / (perf_counter() - begin))
    return found
