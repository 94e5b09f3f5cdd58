"""Processes killed while they write through buffers: every chunk is whole, and what `flush` acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import ended

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
KILLS = 300 * SOAK or 6

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
    pytest.mark.timeout(1800 * SOAK or 120),
]
layouts = pytest.mark.parametrize("layout", [{"chunks": (8, 16)}, {"chunks": (2, 8), "shards": (8, 32)}], ids=["chunks", "shards"])


def killed(work: Callable[[Callable[[], None]], None], seconds: float) -> int:
    """How often a forked process acknowledged something before it was killed."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child makes its own threads
        child = os.fork()
    if child == 0:
        try:
            work(lambda: (os.write(writing, b"."), None)[1])
        finally:
            os._exit(1)
    os.close(writing)
    os.read(reading, 1)  # it has begun
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    status = ended(child)
    assert os.WIFSIGNALED(status), "it ended by itself"
    with os.fdopen(reading, "rb") as file:
        return 1 + len(file.read())


@layouts
def test_a_buffered_writer_is_killed(tmp_path: Path, layout: Any, tally: Callable[[str, int], None]) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(24, 64), dtype="int32", **layout)
    last = 0

    def write(acknowledge: Callable[[], None], *, first: int) -> None:
        with a.buffered(memory_limit=random.choice([4_000, 20_000, 1 << 20])) as w:
            for k in range(first, first + 1_000_000):
                for i in random.sample(range(24), 24):
                    w[i] = k
                w.flush()
                acknowledge()

    for _ in range(KILLS):
        acknowledged = last + killed(partial(write, first=last + 1), random.uniform(0, 0.03))
        found = a[...]
        assert set(np.unique(found).tolist()) <= {acknowledged, acknowledged + 1}
        assert not np.ptp(found.reshape(24, 8, 8), axis=2).any(), "what one write has stored of a chunk is there or not"
        a[...] = last = acknowledged + 1
        tally("kills", 1)
    assert zarrant.open_array(tmp_path / "a").nchunks_initialized == a.nchunks


@layouts
def test_an_appender_is_killed(tmp_path: Path, layout: Any, tally: Callable[[str, int], None]) -> None:
    zarrant.create_array(tmp_path / "a", shape=(0, 64), dtype="int32", **layout)

    def write(acknowledge: Callable[[], None]) -> None:
        a = zarrant.open_array(tmp_path / "a")
        first = a.shape[0]
        with a.appender() as w:
            for i in range(first, first + 1_000_000):
                w.append(np.full((1, 64), i, "int32"))
                if i % 5 == 0:
                    w.flush()
                    acknowledge()

    rows = 0
    for _ in range(KILLS):
        acknowledged = killed(write, random.uniform(0, 0.03))
        a = zarrant.open_array(tmp_path / "a")
        assert a.shape[0] >= rows + 5 * (acknowledged - 1), "what was acknowledged is there"
        assert (a[...] == np.arange(a.shape[0])[:, None]).all(), "no hole, and nothing else"
        rows = a.shape[0]
        tally("kills", 1)
