"""The benchmark of random crops runs, and what it reads is right; its times are not looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import crops


def test_it_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert crops.main(["--crops", "8", "--side", "256", "--dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("x\n") == 3 * len(crops.LAYOUTS)
