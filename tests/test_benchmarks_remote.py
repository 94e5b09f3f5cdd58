"""The benchmark on an S3 server does and counts what it says, with few jobs; never a time."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import remote
from benchmarks.counting import Counting
from benchmarks.remote_peers import OURS, PEERS
from servers import Server

pytest.importorskip("obstore")


@pytest.fixture
def counting(gofakes3: Server) -> Iterator[Counting]:
    with Counting(int(gofakes3.endpoint.rpartition(":")[2])) as proxy:
        yield proxy


def test_the_proxy_counts_requests_and_bytes(counting: Counting) -> None:
    place = f"{counting.endpoint}/zarrant/counted"
    urllib.request.urlopen(urllib.request.Request(place, b"x" * 3_000_000, method="PUT")).close()
    with urllib.request.urlopen(place) as reply:
        assert len(reply.read()) == 3_000_000
    urllib.request.urlopen(urllib.request.Request(place, method="HEAD")).close()
    assert counting.take() == {"PUT": 1, "GET": 1, "HEAD": 1, "up": 3_000_000, "down": 3_000_000}
    assert counting.take() == {}


@pytest.mark.usefixtures("gofakes3")
def test_zarrant_is_measured_and_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = ["open", "write-shard", "subchunks", "points", "append"]
    few = ["--jobs", ",".join(jobs), "--peers", ";".join(OURS), "--delays", "0", "--rounds", "1", "--results", str(tmp_path)]
    assert remote.main(few) == 0
    assert "64 random subchunks" in capsys.readouterr().out
    kept = json.loads((tmp_path / "remote.json").read_text())["jobs"]
    assert [*kept] == jobs
    for cells in kept.values():
        for peer in OURS:
            assert cells[peer]["note"] == ""
            assert len(cells[peer]["seconds"]["0.0"]) == 1
    assert kept["open"]["zarrant"]["counts"].keys() == {"GET", "down"}


def test_a_peer_that_is_wrong_is_noted(gofakes3: Server, counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(PEERS["zarrant"][0]):  # type: ignore[misc]
        def read(self, region: object) -> object:
            return super().read(region) + 1

    monkeypatch.setitem(PEERS, "wrong", (Wrong, "zarrant"))
    bench = remote.Bench(remote.values(), gofakes3.endpoint, counting)
    remote.create(gofakes3.endpoint, "data/sharded", "sharded", bench.data)
    found = remote.measure([remote.BY_NAME["read-shard"]], ["wrong"], bench, [0.0], 1)
    assert found["read-shard"]["wrong"].note == "wrong: what was read is not what was stored"
    assert found["read-shard"]["wrong"].seconds == {}
