"""The benchmark of the heartbeat runs, and says how Zarrant's delay compares."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.heartbeat import main

pytest.importorskip("tensorstore")


def test_it_measures_both_libraries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--tasks", "4", "--seconds", "0.05", "--rounds", "1", "--extent", "512", "--dir", str(tmp_path)]
    assert main(few) == 0
    header, ours, theirs, ratio = capsys.readouterr().out.splitlines()
    assert header.split() == ["crops/s", "p50", "ms", "p95", "ms", "max", "ms"]
    assert (ours.split()[0], theirs.split()[0]) == ("zarrant", "tensorstore")
    assert all(float(number) >= 0 for number in ours.split()[1:] + theirs.split()[1:])
    assert ratio.endswith("× TensorStore's")
    assert list(tmp_path.iterdir()) == []
