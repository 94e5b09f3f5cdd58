"""Processes that change one array on real object stores at once: nothing is lost. Services where it would be are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Server
from zarrant.cli import main
from zarrant.errors import CapabilityError, ZarrantWarning
from zarrant.stores.probe import probe
from zarrant.stores.resolve import resolve_store
from zarrant.tools import doctor

pytest.importorskip("obstore")

Tally = Callable[[str, int], None]
SCRIPT = Path(__file__).with_name("object_updates.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
PROCESSES = 8 if SOAK else 4
EACH = {"shard": 50 * SOAK or 5, "attributes": 25 * SOAK or 2, "append": 25 * SOAK or 2}
QUICK = ("moto", "gofakes3", "azurite", "fake_gcs")
SERVERS = [*QUICK, pytest.param("versitygw", marks=pytest.mark.soak)]
TIMEOUT_S = 1200 * SOAK or 120


def create(server: Server, url: str, length: int, **options: Any) -> Any:
    """One shard, which covers `length` elements."""
    stored = max(32, length + -length % 8)
    layout: Any = {"chunks": (8,), "shards": (stored,), "dtype": "uint32", "fill_value": 0}
    return zarrant.create_array(url, shape=(length,), storage_options=dict(server.storage_options), **layout, **options)


def run(server: Server, url: str, kind: str) -> int:
    """All changes, by processes that begin at one moment; how many they are."""
    job = {"url": url, "storage_options": server.storage_options, "kind": kind, "processes": PROCESSES, "each": EACH[kind]}
    subprocess.run([sys.executable, SCRIPT, json.dumps(job)], check=True, timeout=TIMEOUT_S)
    return PROCESSES * EACH[kind]


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("name", SERVERS)
class TestNothingIsLost:
    @pytest.fixture
    def server(self, request: pytest.FixtureRequest, name: str) -> Server:
        server: Server = request.getfixturevalue(name)
        return server

    def test_updates_of_one_shard(self, server: Server, tally: Tally) -> None:
        url, updates = server.fresh_url(), PROCESSES * EACH["shard"]
        array = create(server, url, updates)
        run(server, url, "shard")
        found = array[...]
        lost = np.flatnonzero(found != np.arange(1, updates + 1))
        assert not lost.size, f"{lost.size} of {updates} updates lost: {lost[:10]}"
        tally("object-server changes", updates)

    def test_attributes(self, server: Server, tally: Tally) -> None:
        url = server.fresh_url()
        create(server, url, 8)
        changes = run(server, url, "attributes")
        attributes = zarrant.open_array(url, mode="r", storage_options=dict(server.storage_options)).attrs
        assert dict(attributes) == {f"attribute {index}": index for index in range(changes)}
        tally("object-server changes", changes)

    def test_appends(self, server: Server, tally: Tally) -> None:
        url = server.fresh_url()
        create(server, url, 0)
        appends = run(server, url, "append")
        found = zarrant.open_array(url, mode="r", storage_options=dict(server.storage_options))[...]
        assert sorted(found.tolist()) == list(range(1, appends + 1))
        tally("object-server changes", appends)


def test_one_that_ignores_conditions_is_refused(no_conditions: Server) -> None:
    url = no_conditions.fresh_url()
    with pytest.raises(CapabilityError, match="several writers cannot share") as caught:
        create(no_conditions, url, 8)
    assert "no object is created where there is one" in str(caught.value)
    store, prefix = resolve_store(url, no_conditions.storage_options)
    assert list(store.list_prefix(prefix)) == []
    with pytest.warns(ZarrantWarning, match="synchronizer=None"):
        alone = create(no_conditions, url, 8, synchronizer=None)
    alone[3] = 4
    assert alone[3] == 4


@pytest.mark.parametrize("name", QUICK)
def test_the_doctor_finds_nothing_wrong(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    place = doctor.examine(server.fresh_url(), server.storage_options)["path"]
    assert place["safe"] and place["probe"]["lost"] == 0, place["problem"]


@pytest.mark.soak
def test_a_service_that_only_a_concurrent_probe_finds_is_refused(versitygw_sidecar: Server, tally: Tally) -> None:
    options = {**versitygw_sidecar.storage_options, "probe": "full"}
    with pytest.raises(CapabilityError, match=r"of 48 increments by 8 writers were lost"):
        zarrant.create_array(versitygw_sidecar.fresh_url(), shape=(8,), dtype="uint8", storage_options=options)
    store, _ = resolve_store(versitygw_sidecar.fresh_url(), options)
    for _ in range(20 * SOAK):
        report = probe(store)
        assert report.lost and all(report.checks.values())


@pytest.mark.soak
@pytest.mark.parametrize("name", ["moto", "gofakes3", "azurite", "fake_gcs", "versitygw"])
def test_honest_services_pass_every_probe(name: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(name)
    store, _ = resolve_store(server.url, server.storage_options)
    for _ in range(20 * SOAK):
        assert probe(store, server.fresh_url().rpartition("/")[2]).problem is None


def test_the_command_line_examines_a_server(gofakes3: Server, no_conditions: Server, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    pytest.importorskip("rich")

    def status(server: Server) -> int:
        words = [f"--option={name}={json.dumps(value)}" for name, value in server.storage_options.items()]
        with pytest.raises(SystemExit) as end:
            main(["doctor", server.fresh_url(), *words, "--json"])
        return int(end.value.code or 0)

    assert status(gofakes3) == 0
    place = json.loads(capsys.readouterr().out)["path"]
    assert place["guard"].startswith("compare-and-swap") and place["throughput"]["get"] > 0
    assert status(no_conditions) == 1
    assert json.loads(capsys.readouterr().out)["path"]["safe"] is False
