"""Space that updates of a shard give back to the file system."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c

PIECE = 3 << 15
"""Bytes of a subchunk."""


@pytest.fixture(params=["disk", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
        return
    if not os.path.isdir("/dev/shm"):
        pytest.skip("no file system in memory")
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield path
    shutil.rmtree(path)


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("file_reuse", [True, False])
def test_dead_bytes_become_holes_and_room_for_new_ones(place: Path, file_reuse: bool) -> None:
    n = 40
    store = zarrant.FilesystemStore(place / "a", file_reuse=file_reuse)
    a = zarrant.create_array(store, shape=(n, PIECE), dtype="uint8", chunks=(1, PIECE), shards=(n, PIECE), compressors=[Crc32c()])
    dice = np.random.default_rng(4)
    model = dice.integers(0, 256, (n, PIECE), "uint8")
    a[...] = model
    file = place / "a" / "c" / "0" / "0"
    whole = n * (PIECE + 4)
    most = 0
    for k in range(6 * n):
        i = int(dice.integers(0, n))
        model[i] = dice.integers(0, 256, PIECE, "uint8")
        a[i] = model[i]
        if k % 16 == 0:
            most = max(most, taken(file))
    assert np.array_equal(a[...], model)
    assert most < 2.2 * whole
    assert file.stat().st_size < 3 * whole
    # What only dies leaves holes, once as much again has died.
    for i in range(n - 4):
        a[i] = model[i] = 0
    for k in range(40):
        a[n - 1 - k % 4] = model[n - 1 - k % 4] = dice.integers(1, 256, PIECE, "uint8")
    assert np.array_equal(a[...], model)
    live = 4 * (PIECE + 4)
    assert taken(file) < 2 * live + (2 << 20) + (1 << 20)
    freed = a.compact()
    assert freed > 0
    assert file.stat().st_size < live + 4096
    assert np.array_equal(a[...], model)


def test_offsets_of_what_lives_never_change(place: Path) -> None:
    a = zarrant.create_array(
        place / "a", shape=(32, 1 << 16), dtype="uint8", chunks=(1, 1 << 16), shards=(32, 1 << 16), compressors=None
    )
    a[...] = 1
    file = place / "a" / "c" / "0" / "0"
    size = 32 * 16 + 4
    for k in range(200):
        before = np.frombuffer(file.read_bytes()[-size:-4], "<u8").reshape(32, 2)
        i = k * 7 % 24  # the others are never written again
        a[i] = 1 + k % 200
        after = np.frombuffer(file.read_bytes()[-size:-4], "<u8").reshape(32, 2)
        others = np.arange(32) != i
        assert np.array_equal(before[others], after[others])
    assert sorted(set(a[:, 0].tolist())) == sorted({1 + k % 200 for k in range(176, 200)} | {1})
