"""Requests to an object server that fail, thousands of them: 0 changes lost, 0 made twice, 0 reported wrongly.

A proxy in front of a real server fails a third of all requests: the reply is lost (the server has performed the request), 500 and
503, 409 and 412 though nobody else writes, 429, and bodies that break off. Threads count in one chunk and one attribute, append
rows and write their own elements of one shard, so that every write builds on the others.
"""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Answer, Request, Server, start_proxy
from zarrant.ops import turns
from zarrant.testkit import together

pytest.importorskip("obstore")

Tally = Callable[[str, int], None]
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
FAULTS = 25_000 * SOAK or 850
"""Of each test on each server."""
TIMEOUT_S = 7200 * SOAK or 120
THREADS, WIDTH = 4, 6
PAUSES = {"init_backoff": timedelta(milliseconds=1), "max_backoff": timedelta(milliseconds=20), "base": 2}
RETRIES = {"max_retries": 40, "backoff": PAUSES, "retry_timeout": timedelta(seconds=60)}
PUT = [Answer(lose_reply=True)] * 3 + [Answer(status=status) for status in (500, 503, 409, 412, 429)]
GET = [Answer(lose_reply=True), Answer(truncate=1), Answer(status=500), Answer(status=503), Answer(status=429)]


class Fate:
    """Fails a third of the requests."""

    def __init__(self, seed: object) -> None:
        self.dice, self.lock, self.faults = random.Random(str(seed)), threading.Lock(), 0

    def __call__(self, request: Request) -> Answer | None:
        with self.lock:
            if self.dice.random() > 1 / 3:
                return None
            self.faults += 1
            return self.dice.choice(PUT if request.method == "PUT" else GET)


def create(server: Server) -> tuple[str, dict[str, Any]]:
    url = server.fresh_url()
    layout: dict[str, Any] = {"chunks": (2, WIDTH), "shards": (8, WIDTH), "attributes": {"n": 0}}
    zarrant.create_array(url, data=np.zeros((8, WIDTH), "int64"), storage_options=dict(server.storage_options), **layout)
    return url, {"mode": "r+"}


def check(server: Server, url: str, rounds: list[int]) -> None:
    array = zarrant.open_array(url, mode="r", storage_options=dict(server.storage_options))
    found = array[...]
    assert found[0, 0] == sum(rounds) == array.attrs["n"], "what counts, counts every change once"
    assert [found[worker + 1, 0] for worker in range(THREADS)] == rounds
    rows = found[8:]
    assert (rows == rows[:, :1]).all()
    assert sorted(rows[:, 0].tolist()) == sorted(
        worker * 10**6 + number for worker, made in enumerate(rounds) for number in range(1, made + 1)
    )


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's turn is taken over because a third of his requests fail."""
    monkeypatch.setattr(turns, "TAKE_OVER_S", 120.0)


servers = pytest.mark.parametrize("name", ["gofakes3", pytest.param("moto", marks=pytest.mark.soak)])


@pytest.mark.timeout(TIMEOUT_S)
@servers
def test_threads(name: str, request: pytest.FixtureRequest, tally: Tally) -> None:
    server: Server = request.getfixturevalue(name)
    url, how = create(server)
    fate, rounds = Fate(name), [0] * THREADS
    with start_proxy(server, fate) as proxy:
        options = {**proxy.server.storage_options, "retry_config": RETRIES, "probe": "off"}

        def work(worker: int) -> None:
            array = zarrant.open_array(url, storage_options=options, **how)
            while fate.faults < FAULTS:
                rounds[worker] += 1
                array.update(np.s_[0:1, 0:1], lambda found: found + 1)
                array.update_attributes(lambda stored: {**stored, "n": stored["n"] + 1})
                array[worker + 1, 0] = rounds[worker]
                array.append(np.full((1, WIDTH), worker * 10**6 + rounds[worker]))

        together(*[lambda worker=worker: work(worker) for worker in range(THREADS)], seconds=TIMEOUT_S)
    check(server, url, rounds)
    tally("object-server faults", fate.faults)


@pytest.mark.timeout(TIMEOUT_S)
@servers
def test_tasks(name: str, request: pytest.FixtureRequest, tally: Tally) -> None:
    server: Server = request.getfixturevalue(name)
    url, how = create(server)
    fate, rounds = Fate(f"{name} awaited"), [0] * THREADS
    with start_proxy(server, fate) as proxy:
        options = {**proxy.server.storage_options, "retry_config": RETRIES, "probe": "off"}

        async def work(worker: int) -> None:
            array = await zarrant.open_array_async(url, storage_options=options, **how)
            while fate.faults < FAULTS:
                rounds[worker] += 1
                await array.update(np.s_[0:1, 0:1], lambda found: found + 1)
                await array.update_attributes(lambda stored: {**stored, "n": stored["n"] + 1})
                await array.setitem((worker + 1, 0), rounds[worker])
                await array.append(np.full((1, WIDTH), worker * 10**6 + rounds[worker]))

        async def all_of_them() -> None:
            await asyncio.gather(*map(work, range(THREADS)))

        asyncio.run(all_of_them())
    check(server, url, rounds)
    tally("object-server faults", fate.faults)
