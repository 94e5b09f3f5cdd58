"""Readers of every library, which read the index of a shard and then its parts, while processes of ours update it.

A shard may be replaced between the two steps of a reader. Where updates only append, what an old index names is in the new
file at the same place: no read is wrong, and none fails. The shard has no checksum, so that nothing hides a wrong byte.
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
"""Of each trial on an array of its own, because a shard that is only appended to grows."""
SHAPE, SHARD, CHUNK, BASE = (48, 48), (48, 48), (16, 16), 2**32 - 1
CODECS: dict[str, Any] = {"bytes": None, "zstd, crc32c": [Zstd(), Crc32c()]}


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def wait_for_writers(told: Path, writers: Sequence[subprocess.Popen[str]]) -> None:
    deadline = time.monotonic() + 60
    while (np.fromfile(told, "int64")[1::2] == 0).any():
        assert time.monotonic() < deadline
        assert all(writer.poll() is None for writer in writers)
        time.sleep(0.01)


@pytest.mark.timeout(3600 * SOAK or 180)
@pytest.mark.parametrize("codecs", CODECS if SOAK else ["bytes"])
@pytest.mark.parametrize("library", ["zarr", "zarrs", "tensorstore", "ours"])
def test_reads_while_we_update(tmp_path: Path, library: str, codecs: str, tally: Callable[[str, int], None]) -> None:
    if library != "ours" and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    made = updates = seen = 0
    for trial in range(TRIALS):
        counted = one_trial(tmp_path / str(trial), library, CODECS[codecs], READS[codecs])
        made, updates, seen = made + counted[0], updates + counted[1], seen + counted[2]
    print(f"{made} reads by {library} ({codecs}) during {updates} updates: 0 wrong, 0 failed; {seen} updates were seen")
    assert updates > 20 * TRIALS
    assert seen > TRIALS
    if library != "ours":
        tally("foreign reads", made)


def one_trial(root: Path, library: str, compressors: Any, reads: int) -> tuple[int, int, int]:
    """Reads made, updates made meanwhile, different updates that the reader saw."""
    root.mkdir()
    path, told = root / "a", root / "told"
    a = zarrant.create_array(path, shape=SHAPE, dtype="uint32", chunks=CHUNK, shards=SHARD, compressors=compressors)
    a[...] = BASE
    a[4:30, 4:30] = a[32:44, 10:48] = 0
    told.write_bytes(bytes(32))
    processes = [start("writer", path, told, number) for number in range(2)]
    try:
        wait_for_writers(told, processes)
        before = np.fromfile(told, "int64")[1::2].sum()
        reader = start(library, path, told, reads)
        processes.append(reader)
        output = reader.communicate(timeout=150)[0]
        updates = np.fromfile(told, "int64")[1::2].sum() - before
        for writer in processes[:2]:
            writer.communicate(timeout=60)
        assert [process.returncode for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    made, wrong, failed, seen, *first = output.split(maxsplit=4)
    assert (int(made), int(wrong), int(failed)) == (reads, 0, 0), first
    assert not [file for file in path.rglob("*") if file.name.endswith("__lock")]
    shutil.rmtree(root)
    return reads, int(updates), int(seen)
