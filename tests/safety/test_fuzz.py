"""Broken documents, indexes and payloads, many of them, in a process with little memory: typed errors, and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz.py")
SOAK = bool(os.environ.get("ZARRANT_SOAK"))
SEED = os.environ.get("ZARRANT_SEED", "1")
COUNTS = {"documents": 1_000_000 if SOAK else 20_000, "arrays": 50_000 if SOAK else 2_000}
PART = 20_000
GROWTH = 256
"""MiB that the process may grow: what it decodes at most, a few times, and nothing that only a header promises."""


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("what", COUNTS)
def test_fuzz(what: str) -> None:
    cases = refused = grown = 0
    for part in range(0, COUNTS[what], PART):
        count = min(PART, COUNTS[what] - part)
        command = [sys.executable, str(SCRIPT), what, f"{SEED}/{part}", str(count)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        told = json.loads(ran.stdout)
        assert told["wrong"] == [], f"seed {SEED}/{part}"
        cases, refused, grown = cases + told["cases"], refused + told["refused"], max(grown, told["grown"])
    print(f"{cases} {what}, {refused} refusals, all of them typed errors; the process grew by {grown} MiB at most")
    assert cases == COUNTS[what]
    assert cases // 10 < refused < 3 * cases
    assert grown < GROWTH
