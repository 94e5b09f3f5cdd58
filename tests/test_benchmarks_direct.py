"""The benchmark of direct I/O does what it times, on a tiny array, and notices what is wrong; never a time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks import direct

pytestmark = pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no direct I/O")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    try:
        os.close(os.open(tmp_path / "probe", os.O_RDWR | os.O_CREAT | os.O_DIRECT))
    except OSError as error:
        pytest.skip(f"the file system of temporary files has no direct I/O: {error}")
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def run(place: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, Any]:
    kept = place.parent / "kept.json"
    status = direct.main(["--size", "1MiB", "--rounds", "2", "--threads", "2", "--dir", str(place), "--json", str(kept)])
    return status, capsys.readouterr().out, json.loads(kept.read_text())


def test_every_way_is_measured_and_right(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, text, kept = run(place, capsys)
    assert (status, kept["wrong"]) == (0, [])
    assert os.listdir(place) == []
    names = {line["name"] for line in kept["lines"] if line["phase"] == "write"}
    assert {direct.LOOP, direct.BUFFERED, *direct.DIRECT, "zarrant direct, synced"} <= names
    for line in kept["lines"]:
        assert len(line["wall"]) == len(line["cpu"]) == len(line["against"]) == 2
        assert min(line["wall"]) > 0
        assert f"| {line['name']} | {line['phase']} |" in text
    assert kept["facts"]["access"] == dict.fromkeys(direct.DIRECT, "direct")


def test_a_way_that_writes_something_else_is_noticed(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: Any) -> None:
        self.array[...] = self.load.data + 1

    monkeypatch.setattr(direct.Ours, "write", write)
    status, text, kept = run(place, capsys)
    assert status == 1
    assert len(kept["wrong"]) == 6  # every way of ours
    assert all("is not what was written" in wrong and wrong in text for wrong in kept["wrong"])
    assert os.listdir(place) == []
