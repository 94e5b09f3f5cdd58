"""Eight processes that update the subchunks of one shard of 32 MiB as fast as they can: how long each waits, and whether in turn.

Seconds depend on the machine and on what else it does; how often a writer was overtaken does not, so that is what is judged.
"""

from __future__ import annotations

import importlib.util
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
from zarrant.locking.file_locks import SUFFIX
from zarrant.stores.local.file_reuse import PREVIOUS

SCRIPT = Path(__file__).with_name("updates.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
REUSE = {**os.environ, "ZARRANT_FILE_REUSE": "1"}
WRITERS, SUBCHUNKS, WIDTH = 8, 128, 2**16
"""Subchunks of 256 KiB, 32 MiB in all; of incompressible values, and without a codec that could make them smaller."""


def contend(path: Path, library: str, seconds: float) -> list[dict[str, Any]]:
    """Let the processes write, and look whether every subchunk holds what was written to it last."""
    size = SUBCHUNKS * WIDTH
    a = zarrant.create_array(path, shape=size, dtype="uint32", chunks=WIDTH, shards=size, compressors=None)
    expected = np.random.default_rng(0).integers(0, 2**32, size, "uint32")
    a[...] = expected
    job = {
        "path": str(path), "kind": "subchunks", "workers": [[library, 1]] * WRITERS,
        "updates": SUBCHUNKS, "width": WIDTH, "seconds": seconds,
    }  # fmt: skip
    ran = subprocess.run([sys.executable, SCRIPT, json.dumps(job)], stdout=subprocess.PIPE, check=True, timeout=600, env=REUSE)
    results: list[dict[str, Any]] = json.loads(ran.stdout)
    for result in results:
        for subchunk, value in result["holds"].items():
            expected[int(subchunk) * WIDTH : (int(subchunk) + 1) * WIDTH] = value
    assert np.array_equal(a[...], expected)
    # The workers leave by os._exit, so the last previous file may stay, one at most, as where they were killed.
    assert {file.name for file in path.rglob("*") if file.name.endswith(SUFFIX)} <= {f"0{PREVIOUS}"}
    return results


def summary(library: str, results: list[dict[str, Any]]) -> str:
    took = np.concatenate([result["took"] for result in results]) * 1e3
    overtaken = np.concatenate([result["overtaken"] for result in results])
    counts = [len(result["took"]) for result in results]
    return (
        f"{library}: {len(took)} updates, p50 {np.median(took):.0f} ms, p99 {np.percentile(took, 99):.0f} ms, "
        f"max {took.max():.0f} ms; writers {min(counts)} to {max(counts)} ({max(counts) / min(counts):.2f}); "
        f"overtaken p50 {np.median(overtaken):.0f}, p99 {np.percentile(overtaken, 99):.0f}, max {overtaken.max()} times"
    )


@pytest.mark.timeout(900 * SOAK or 180)
def test_8_writers_of_one_shard(tmp_path: Path, tally: Callable[[str, int], None], capsys: pytest.CaptureFixture[str]) -> None:
    seconds = 20 * SOAK or 2
    told = []
    if SOAK and importlib.util.find_spec("tensorstore") is not None:
        told.append(summary("tensorstore", contend(tmp_path / "theirs", "tensorstore", seconds)))
    results = contend(tmp_path / "ours", "ours", seconds)
    with capsys.disabled():
        print("", *told, summary("ours", results), sep="\n")
    counts = [len(result["took"]) for result in results]
    assert min(counts) > 0
    if SOAK:  # of few updates each, chance alone makes the ratio
        assert max(counts) <= 3 * min(counts)
    # Eight in turn are overtaken by seven. Measured: 15 to 26; 31 to 60 without the manners of `locking.file_locks`.
    assert np.percentile(np.concatenate([result["overtaken"] for result in results]), 99) <= 40
    tally("contended updates", sum(counts))
