"""Readers of every library, which read the index of a shard and then its parts, while processes of ours update it.

A shard may be replaced between the two steps of a reader. What an old index names is in the new file at the same place, also
where the update gives room back: no read is wrong, and none fails. Writers have the defaults, so that room is given back many
times; shards of "bytes" have no checksum, so that nothing hides a wrong byte.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c, Zstd

SCRIPT = Path(__file__).with_name("readers.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
TRIALS, READS = (5 * SOAK, {"bytes": 940, "zstd, crc32c": 400}) if SOAK else (1, {"bytes": 90, "zstd, crc32c": 30})
SIDE, CHUNK, BASE = 48, 16, 2**32 - 1
CODECS: dict[str, Any] = {"bytes": None, "zstd, crc32c": [Zstd(), Crc32c()]}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_writers(told: Path, writers: Sequence[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + 60
    while np.count_nonzero(np.fromfile(told, "int64")[1::2]) < len(writers):
        assert time.monotonic() < deadline
        assert all(writer.poll() is None for writer in writers)
        time.sleep(0.01)


@pytest.mark.timeout(3600 * SOAK or 180)
@pytest.mark.parametrize("codecs", CODECS if SOAK else ["bytes"])
@pytest.mark.parametrize("scale", [1, 4])
@pytest.mark.parametrize("library", ["zarr", "zarrs", "tensorstore", "ours"])
def test_reads_while_we_update(tmp_path: Path, library: str, scale: int, codecs: str, tally: Callable[[str, int], None]) -> None:
    skip_absent(library)
    made = updates = seen = 0
    for trial in range(TRIALS):
        counted = one_trial(tmp_path / str(trial), library, scale, CODECS[codecs], READS[codecs])
        made, updates, seen = made + counted[0], updates + counted[1], seen + counted[2]
    print(f"{made} reads by {library} ({codecs}, {scale}) during {updates} updates: 0 wrong, 0 failed; {seen} updates were seen")
    assert updates > 20 * TRIALS
    assert seen > TRIALS
    if library != "ours":
        tally("foreign reads", made)


@pytest.mark.timeout(3600 * SOAK or 180)
@pytest.mark.parametrize("library", ["zarr", "zarrs", "tensorstore", "ours"])
def test_reads_while_we_append(tmp_path: Path, library: str, tally: Callable[[str, int], None]) -> None:
    skip_absent(library)
    path, told, reads = tmp_path / "a", tmp_path / "told", 500 * SOAK or 40
    a = zarrant.create_array(path, shape=(0, 16), dtype="uint32", chunks=(8, 16), shards=(64, 16), fill_value=BASE)
    a.append(np.repeat(np.arange(100, dtype="uint32")[:, np.newaxis], 16, 1))
    told.write_bytes(bytes(48))
    updates, _ = race(path, told, [start("appender", path, told, 0)], [library, path, told, reads, "appended"], reads)
    assert updates > 5
    if library != "ours":
        tally("foreign reads", reads)


def skip_absent(library: str) -> None:
    if library != "ours" and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def one_trial(root: Path, library: str, scale: int, compressors: Any, reads: int) -> tuple[int, int, int]:
    """Reads made, updates made meanwhile, different updates that the reader saw."""
    root.mkdir()
    path, told, shape = root / "a", root / "told", (SIDE * scale, SIDE * scale)
    chunks = (CHUNK * scale, CHUNK * scale)
    a = zarrant.create_array(path, shape=shape, dtype="uint32", chunks=chunks, shards=shape, compressors=compressors)
    a[...] = BASE
    for rows, columns in ((slice(4, 30), slice(4, 30)), (slice(32, 44), slice(10, 48)), (slice(0, 16), slice(32, 48))):
        a[rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = 0
    told.write_bytes(bytes(48))
    updates, seen = race(path, told, [start("writer", path, told, n) for n in range(2)], [library, path, told, reads], reads)
    shutil.rmtree(root)
    return reads, updates, seen


def race(path: Path, told: Path, writers: list[subprocess.Popen[str]], reader: list[Any], reads: int) -> tuple[int, int]:
    """Let a reader read while writers write; updates made meanwhile, and different updates that it saw."""
    processes = list(writers)
    try:
        wait_for_writers(told, processes)
        before = np.fromfile(told, "int64")[1::2].sum()
        processes.append(start(*reader))
        output = processes[-1].communicate(timeout=150)[0]
        updates = np.fromfile(told, "int64")[1::2].sum() - before
        for writer in writers:
            writer.communicate(timeout=60)
        assert [process.returncode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    made, wrong, failed, seen, *first = output.split(maxsplit=4)
    assert (int(made), int(wrong), int(failed)) == (reads, 0, 0), first
    assert not [file for file in path.rglob("*") if file.name.endswith("__lock")]
    return int(updates), int(seen)
