"""Profiles put the processor's time where it is used, and the page gets tables whose results were checked; no time is looked at."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import layer_times, profiles
from benchmarks.jobs import Bench
from benchmarks.pairs import WrongResult
from benchmarks.peers import OURS, make_peer
from benchmarks.peers.base import Settings
from zarrant import kernels
from zarrant.geometry.box import as_subset

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have clocks on Linux only")


def busy(act: Any) -> None:
    end = time.process_time() + 0.15
    while time.process_time() < end:
        act()


def test_time_is_charged_to_the_layer_that_uses_it() -> None:
    rows = np.random.default_rng(0).integers(0, 99, (8, 2**16), np.uint8)
    acts = {
        "codec and copy": lambda: kernels.encode(((kernels.ZSTD, 1, 0),), rows),
        "geometry": lambda: [as_subset((slice(0, 5),) * 9, (9,) * 9) for _ in range(50)],
        "caller": lambda: sum(range(10_000)),
    }
    for layer, act in acts.items():
        sampler = layer_times.Sampler()
        with sampler.running():
            busy(act)
        found = sampler.profile.over(2)
        assert max(found.layers, key=lambda name: found.layers[name]) == layer
        assert sum(found.layers.values()) == pytest.approx(found.cpu) and found.cpu >= 0.07
        assert sampler.profile.wall >= sampler.profile.cpu * 0.9


def test_a_profile_fills_its_page_and_leaves_the_text_above(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    page = docs / "where-time-goes.md"
    page.write_text("# Where the time goes\n\ntext\n\n<!-- measured -->\n\nfigures of last time\n", encoding="utf-8")
    work = tmp_path / "work"
    work.mkdir()
    rows = "sharded-zstd-32,updates-unaligned,crops,chunk-whole,tasks"
    arguments = ["--size", "512KiB", "--seconds", "0.01", "--rows", rows, "--docs", str(docs), "--dir", str(work)]
    assert profiles.main(arguments) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Where the time goes\n\ntext\n\n<!-- measured -->\n\n### By layer\n") and "last time" not in text
    assert text.count("| 200 whole chunks of 20 kB: write |") == 2
    assert str(tmp_path) not in text and list(work.iterdir()) == []
    assert "### Beside the limits" in capsys.readouterr().out


def test_a_wrong_result_ends_a_profile(tmp_path: Path) -> None:
    peer: Any = make_peer(OURS, Settings(1))
    right = peer.open

    def opened(path: Path) -> Any:
        handle = right(path)
        write = handle.write
        handle.write = lambda region, values: write(region, values ^ 1)
        return handle

    peer.open = opened
    data = np.ones((64, 64, 64), np.uint16)
    bench = Bench(tmp_path, data, np.empty_like(data), 1, [make_peer(OURS, Settings(1))])
    with pytest.raises(WrongResult, match="raw, write, zarrant: 262144 of 262144 values are wrong"):
        list(profiles.profile(profiles.ROWS["raw"], {OURS: peer}, bench, 0.01))
