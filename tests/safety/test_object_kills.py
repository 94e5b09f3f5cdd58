"""Writers on object servers that are killed between a request and its reply: nothing acknowledged is lost, the next one goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Answer, Request, Server, start_proxy

pytest.importorskip("obstore")

Tally = Callable[[str, int], None]
SCRIPT = Path(__file__).with_name("object_writers.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
KILLS = 1000 * SOAK or 6
"""On each server."""
KINDS = ("append", "shard", "attributes")
TURN_S = 0.15
TIMEOUT_S = 7200 * SOAK or 120


class Writers:
    """The process that forks a writer for each job."""

    def __init__(self, server: Server) -> None:
        command = [sys.executable, str(SCRIPT)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.server, self.pid = server, 0

    def run(self, **job: Any) -> str:
        """One change; how it ended."""
        assert self.process.stdin is not None and self.process.stdout is not None
        job = {**job, "storage_options": self.server.storage_options, "seconds": TURN_S}
        self.process.stdin.write(json.dumps(job) + "\n")
        while True:
            said = self.process.stdout.readline().strip()
            assert said, "the process that starts writers has ended"
            if not said.isdigit():
                self.pid = 0
                return said
            self.pid = int(said)

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0


@pytest.fixture
def killer() -> Iterator[Callable[[Server], Any]]:
    """Something that runs writers through a proxy, which kills them."""
    made: list[Killer] = []

    def make(server: Server) -> Killer:
        made.append(Killer(server))
        return made[-1]

    yield make
    for each in made:
        each.close()


class Killer:
    """Kills the writer at its request number `at`, and lets the service perform that request or not."""

    def __init__(self, server: Server) -> None:
        self.proxying = start_proxy(server, self.rule)
        self.proxy = self.proxying.__enter__()
        self.writers = Writers(self.proxy.server)
        self.lock, self.seen, self.at, self.performed = threading.Lock(), 0, -1, True

    def rule(self, request: Request) -> Answer | None:
        with self.lock:
            if not self.writers.pid:
                return None
            self.seen += 1
            if self.seen != self.at:
                return None
            os.kill(self.writers.pid, signal.SIGKILL)
            return Answer(lose_reply=True) if self.performed else Answer(status=500)

    def run(self, at: int, performed: bool, **job: Any) -> str:
        self.seen, self.at, self.performed = 0, at, performed
        return self.writers.run(**job)

    def close(self) -> None:
        self.writers.close()
        self.proxying.__exit__(None, None, None)


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", ["moto", "gofakes3", *(pytest.param(n, marks=pytest.mark.soak) for n in ("azurite", "versitygw"))])
def test_what_is_acknowledged_outlives_kills(
    name: str, request: pytest.FixtureRequest, killer: Callable[[Server], Killer], tally: Tally
) -> None:
    server: Server = request.getfixturevalue(name)
    url, dice = server.fresh_url(), random.Random(name)
    zarrant.create_array(
        url, data=np.zeros((8, 8), "int32"), chunks=(4, 4), shards=(8, 8), storage_options=dict(server.storage_options)
    )
    killing, model, killed, value = killer(server), Model(), 0, 0
    while killed < KILLS:
        value += 1
        kind, row = KINDS[value % 3], dice.randrange(8)
        end = killing.run(dice.randint(1, 9), dice.random() < 0.7, url=url, kind=kind, value=value, row=row)
        assert end in ("ended: 0", f"ended: {-signal.SIGKILL}"), end
        killed += end != "ended: 0"
        model.note(kind, value, row, sure=end == "ended: 0")
        if killed and not killed % 200:
            model.check(server, url)
    value += 1
    end = killing.run(-1, True, url=url, kind="append", value=value, row=0)
    assert end == "ended: 0", "the next writer goes on"
    model.note("append", value, 0, sure=True)
    model.check(server, url)
    tally("object-server kills", killed)


class Model:
    """What must be there, and what may be."""

    def __init__(self) -> None:
        self.appended: dict[int, bool] = {}
        self.attributes: dict[int, bool] = {}
        self.cells: dict[tuple[int, int], list[int]] = {}

    def note(self, kind: str, value: int, row: int, sure: bool) -> None:
        if kind == "append":
            self.appended[value] = sure
        elif kind == "attributes":
            self.attributes[value] = sure
        else:  # what may be there beside the last one that is sure: those killed since then
            cell = self.cells.setdefault((row, value % 8), [0])
            self.cells[row, value % 8] = [value] if sure else [*cell, value]

    def check(self, server: Server, url: str) -> None:
        array = zarrant.open_array(url, mode="r", storage_options=dict(server.storage_options))
        found = array[...]
        rows = found[8:]
        assert (rows == rows[:, :1]).all(), "rows are whole"
        values = rows[:, 0].tolist()
        assert len(set(values)) == len(values), "nothing is appended twice"
        assert {value for value, sure in self.appended.items() if sure} <= set(values) <= set(self.appended)
        names = {int(name[1:]) for name in array.attrs}
        assert {value for value, sure in self.attributes.items() if sure} <= names <= set(self.attributes)
        for row, column in np.ndindex(8, 8):
            assert found[row, column] in self.cells.get((row, column), [0]), (row, column)
