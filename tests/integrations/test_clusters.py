"""Copies on a real Dask cluster whose workers, and whose client, are killed: every value is right, nothing noted is done again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.tools.ledger import LEDGER, NOTED_PART, NOTED_UNITS, Ledger
from zarrant.tools.rechunk import rechunk
from zarrant.tools.units import QUEUED

distributed = pytest.importorskip("distributed", reason="needs the extra dask")
from distributed.diagnostics.plugin import WorkerPlugin  # noqa: E402


class Log(WorkerPlugin):  # type: ignore[misc]
    """Each task that a worker has finished, as a line of a file: a kill takes none of them away."""

    name = "log"

    def __init__(self, path: str) -> None:
        self.path = path

    def transition(self, key: Any, start: str, finish: str, **_: Any) -> None:
        if start == "executing" and finish == "memory" and str(key).startswith("zarrant-unit-"):
            with open(self.path, "a") as file:
                file.write(f"{key}\n")


def finished(path: Path) -> list[tuple[str, int]]:
    """(client, unit) of each task that was finished."""
    lines = path.read_text().split() if path.exists() else []
    parts = [line.removeprefix("zarrant-unit-").split("-", 2) for line in lines]
    return [(client, int(number)) for number, _, client in parts]


@contextmanager
def cluster(workers: int, log: Path) -> Iterator[Any]:
    """A cluster of processes that begins a new worker for each one that dies."""
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(**options) as made, distributed.Client(made, set_as_default=False) as client:
        client.register_plugin(Log(str(log)))
        yield made


class Killer:
    """Kills the worker that is there longest whenever so many tasks more are finished, at most one a second.

    A fast machine so sees as many kills as a slow one, where a new worker takes ten seconds until it can work.
    """

    def __init__(self, cluster: Any, log: Path, tasks: int = 80) -> None:
        self._cluster, self._log, self._tasks = cluster, log, tasks
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._seen: list[int] = []
        self.killed = 0

    def kill(self) -> None:
        """Kill one."""
        alive = [each.process.pid for each in self._cluster.workers.values() if each.process and each.process.pid]
        self._seen += [pid for pid in alive if pid not in self._seen]
        os.kill(next(pid for pid in self._seen if pid in alive), signal.SIGKILL)
        self.killed += 1

    def _run(self) -> None:
        last = 0
        while not self._end.wait(1.0):
            now = len(finished(self._log))
            if now - last >= self._tasks:
                last = now
                self.kill()

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def noted(target: Path) -> set[int]:
    """The units that the ledger names."""
    if not (target / LEDGER).exists():
        return set()
    found = json.loads((target / LEDGER).read_text())
    return {number for name in ("done", "fill") for first, stop in found[name] for number in range(first, stop)}


def test_a_copy_on_a_cluster_outlives_a_worker_and_goes_on(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 99, (60, 40)).astype("i2")
    values[:20] = 0
    zarrant.create_array(tmp_path / "a", data=values, chunks=(7, 40))
    source, target, log = str(tmp_path / "a"), str(tmp_path / "b"), tmp_path / "log"
    options: dict[str, Any] = {"chunks": (10, 10), "shards": (20, 10), "block_bytes": 1}
    with cluster(2, log) as made:

        def stop(progress: Any) -> None:
            if progress.bytes_done >= values.nbytes // 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            rechunk(source, target, **options, scheduler=made.scheduler_address, report=stop)
        before, clients = noted(tmp_path / "b"), {client for client, _ in finished(log)}
        assert len(before) >= 4
        Killer(made, log).kill()
        facts = rechunk(source, target, **options, scheduler=made.scheduler_address)
    assert (facts["units"], facts["resumed"], facts["fill_units"]) == (12, len(before), 4)
    assert before.isdisjoint(number for client, number in finished(log) if client not in clients)
    assert np.array_equal(zarrant.open_array(target, mode="r")[...], values)
    assert not (tmp_path / "b" / LEDGER).exists()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_workers_and_clients_are_killed_all_the_time(tmp_path: Path) -> None:
    """Four worker processes, one killed every few seconds; the command is killed three times, and begun again."""
    source, target, log = tmp_path / "a", tmp_path / "b", tmp_path / "log"
    side = 640
    old = zarrant.create_array(source, shape=(side,) * 3, dtype="u2", chunks=(16, side, side))
    rng = np.random.default_rng(0)
    for z in range(0, side, 16):  # an eighth of it is nothing but fill
        old[z : z + 16] = rng.integers(0, 4000, (16, side, side), dtype="u2") * (z >= side // 8)
    words = ["rechunk", str(source), str(target), "--chunks", "20,20,20", "--shards", "80,80,80", "--block-size", "1MiB", "--json"]
    units, stages, before = 512, [], set()
    with cluster(4, log) as made, Killer(made, log) as killer:
        command = [sys.executable, "-m", "zarrant", *words, "--scheduler", made.scheduler_address]
        for fourth in (1, 2, 3):
            clients = {client for client, _ in finished(log)}
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            while len(noted(target)) < units * fourth // 4 and process.poll() is None:
                time.sleep(0.02)
            process.kill()
            _, said = process.communicate()
            assert process.returncode == -signal.SIGKILL, said
            stages.append((clients, before))
            before = noted(target)
        clients = {client for client, _ in finished(log)}
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        stages.append((clients, before))
        killed = killer.killed
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["units"], facts["fill_units"]) == (units, units // 8)
    assert facts["resumed"] >= units * 3 // 4
    for z in range(0, side, 80):
        assert np.array_equal(zarrant.open_array(target, mode="r")[z : z + 80], old[z : z + 80])
    log_of = finished(log)
    for clients, ahead in stages:  # what was noted before a stage is not done by its client
        later = {client for client, _ in log_of} - clients
        first = next(client for client, _ in log_of if client in later)
        assert ahead.isdisjoint(number for client, number in log_of if client == first)
    counts = Counter(number for _, number in log_of)
    again = sum(counts.values()) - units
    print(f"{units} units, {again} done again; {killed} workers and 3 clients killed")
    in_hand = QUEUED * 4 + min(NOTED_UNITS, units // NOTED_PART + 1)  # by a client that is killed: not yet noted
    assert killed >= 4 and set(counts) == set(range(units))
    assert again <= 3 * in_hand + QUEUED * killed


def test_a_ledger_of_another_job_is_not_taken(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "b"), None, ["a", 1])
    ledger.add(3, False)
    ledger.add(4, True)
    found = Ledger(str(tmp_path / "b"), None, ["a", 1])
    assert found.there and (found.stored, found.fill, found.done) == ({3}, {4}, {3, 4})
    with pytest.raises(zarrant.errors.ConflictError):
        Ledger(str(tmp_path / "b"), None, ["a", 2])
    assert not Ledger(str(tmp_path / "b"), None, ["a", 2], again=True).there
