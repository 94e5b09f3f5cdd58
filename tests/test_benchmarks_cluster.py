"""The benchmark of copies on a cluster runs, and says whether every element is there."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("distributed")
from benchmarks import cluster


@pytest.mark.soak
def test_it_prints_a_line_for_each_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cluster.main(["--size", "64MiB", "--workers", "2", "--only", "zarrant", "--dir", str(tmp_path)]) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("zarrant") and line.endswith("yes")
    assert list(tmp_path.iterdir()) == []
