"""Broken documents, indexes and payloads, many of them, in a process with little memory: typed errors, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
SEED = os.environ.get("ZARRANT_SEED", "1")
ROWS = {"documents": "fuzzed documents", "creations": "fuzzed creations", "arrays": "fuzzed arrays"}
COUNTS = {"documents": 6_000, "creations": 800, "arrays": 400}
if SOAK:
    COUNTS = {"documents": 50_000, "creations": 5_000, "arrays": 2_500}
"""Cases of one process, which runs for about ten seconds of a soak run."""

PARTS = [f"{what}/{part}" for what in ROWS for part in range(20 * SOAK or 1)]
GROWTH = 256
"""MiB that the process may grow: what it decodes at most, a few times, and nothing that only a header promises."""


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", PARTS)
def test_fuzz(part: str, tally: Callable[[str, int], None]) -> None:
    what = part.split("/", maxsplit=1)[0]
    count, seed = COUNTS[what], f"{SEED}/{part}"
    command = [sys.executable, str(SCRIPT), what, seed, str(count)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1000, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    told = json.loads(ran.stdout)
    assert told["wrong"] == [], f"seed {seed}"
    print(f"{count} {what}, {told['refused']} refusals, all of them typed errors; the process grew by {told['grown']} MiB")
    tally(ROWS[what], told["cases"])
    assert told["cases"] == count
    assert count // 10 < told["refused"] < 3 * count
    assert told["grown"] < GROWTH
