"""Writers killed at any time: every object is whole, old or new, for every reader, and the next write is exact."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c, Zstd

TRIALS = 2000 if os.environ.get("ZARRANT_SOAK") else 50
SHAPE, SHARD, CHUNK = (64, 128), (64, 64), (16, 16)
REGION = np.s_[8:50, 8:50]
"""A part of the first shard: whole subchunks in the middle, partly covered ones around them."""


def step(a: Any, k: int) -> None:
    """Write number k: an update of the first shard and the whole second one, long or short by turns."""
    a[REGION] = values(k)[REGION]
    a.store_chunk((0, 1), values(k)[:, 64:])


def values(k: int) -> np.ndarray:
    """What the array holds after write k: every element tells k; odd ones compress to little, even ones do not."""
    noise = np.random.default_rng(k).integers(0, 2**20, SHAPE) if k % 2 == 0 else np.zeros(SHAPE, "int64")
    return (k * 2**20 + noise).astype("uint64")


def write_for_ever(a: Any, done: mmap.mmap) -> None:
    k = struct.unpack("<q", done[:8])[0]
    while True:
        k += 1
        step(a, k)
        done[:8] = struct.pack("<q", k)


def kill_a_writer(a: Any, done: mmap.mmap, seconds: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child makes its own threads
        child = os.fork()
    if child == 0:
        try:
            write_for_ever(a, done)
        finally:
            os._exit(1)
    try:
        time.sleep(seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the writer ended by itself"


def version_of(found: np.ndarray, acknowledged: int) -> int:
    """Which write a part of the array shows; it must be one, wholly, and the last acknowledged or the one after it."""
    k = int(found.flat[0]) >> 20
    assert acknowledged <= k <= acknowledged + 1
    return k


def check(found: np.ndarray, acknowledged: int, base: np.ndarray) -> None:
    first, second = found[:, :64], found[:, 64:]
    expected = base[:, :64].copy()
    expected[REGION] = values(version_of(first[REGION], acknowledged))[REGION]
    assert np.array_equal(first, expected)
    assert np.array_equal(second, values(version_of(second, acknowledged))[:, 64:])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.timeout(3600 if TRIALS > 50 else 180)
def test_kill(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    a = zarrant.create_array(tmp_path, shape=SHAPE, dtype="uint64", chunks=CHUNK, shards=SHARD, compressors=[Zstd(), Crc32c()])
    base = values(0)
    a[...] = base
    step(a, 1)
    done = mmap.mmap(-1, 8)
    done[:8] = struct.pack("<q", 1)
    dice, left, seen = random.Random(0), 0, set()
    for trial in range(TRIALS):
        kill_a_writer(a, done, dice.uniform(0.002, 0.04))
        (acknowledged,) = struct.unpack("<q", done[:8])
        seen.add(acknowledged)
        locks = [path for path in tmp_path.rglob("*") if path.name.endswith("__lock")]
        left += bool(locks)
        assert len(locks) <= 4
        check(a[...], acknowledged, base)
        check(zarr.open_array(tmp_path, mode="r")[...], acknowledged, base)
        k = acknowledged + 2 + trial % 2
        step(a, k)  # at times shorter than what the killed writer left behind
        expected = base.copy()
        expected[REGION] = values(k)[REGION]
        expected[:, 64:] = values(k)[:, 64:]
        assert np.array_equal(a[...], expected)
        assert bytes(a.retrieve_encoded_chunk((0, 1))) == encoded_alone(k)
        assert [path.name for path in tmp_path.rglob("*") if path.name.endswith("__lock")] == []
        done[:8] = struct.pack("<q", k)
    print(f"{TRIALS} writers killed, {left} of them in the middle of a write, {len(seen)} different writes seen")
    assert left
    assert len(seen) > TRIALS // 2


def encoded_alone(k: int) -> bytes:
    """The second shard as it is stored where nobody was ever killed."""
    b = zarrant.create_array({}, shape=SHARD, dtype="uint64", chunks=CHUNK, shards=SHARD, compressors=[Zstd(), Crc32c()])
    b.store_chunk((0, 0), values(k)[:, 64:])
    return bytes(b.retrieve_encoded_chunk((0, 0)))
