"""Readers of every library, which read the index of a shard and then its parts, while processes of ours update it.

A shard may be replaced between the two steps of a reader. What an old index names is in the new file at the same place, also
where the update gives room back: no read is wrong, and none fails. Writers have the defaults, so that room is given back many
times; shards of "bytes" have no checksum, so that nothing hides a wrong byte.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
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


Start = Callable[[str], subprocess.Popen[str]]


@pytest.fixture(scope="module")
def reader() -> Iterator[Start]:
    """A process for each library, which reads again and again: to import one takes longer than the reads."""
    started: dict[str, subprocess.Popen[str]] = {}
    yield lambda library: started.get(library) or started.setdefault(library, start(library))
    for process in started.values():
        process.communicate(timeout=60)
        assert process.returncode == 0


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
def test_reads_while_we_update(
    tmp_path: Path, library: str, scale: int, codecs: str, reader: Start, tally: Callable[[str, int], None]
) -> None:
    skip_absent(library)
    made = updates = seen = 0
    for trial in range(TRIALS):
        counted = one_trial(tmp_path / str(trial), reader(library), scale, CODECS[codecs], READS[codecs])
        made, updates, seen = made + counted[0], updates + counted[1], seen + counted[2]
    print(f"{made} reads by {library} ({codecs}, {scale}) during {updates} updates: 0 wrong, 0 failed; {seen} updates were seen")
    assert updates > 20 * TRIALS
    assert seen > TRIALS
    if library != "ours":
        tally("foreign reads", made)


@pytest.mark.timeout(3600 * SOAK or 180)
@pytest.mark.parametrize("library", ["zarr", "zarrs", "tensorstore", "ours"])
def test_reads_while_we_append(tmp_path: Path, library: str, reader: Start, tally: Callable[[str, int], None]) -> None:
    skip_absent(library)
    path, told, reads = tmp_path / "a", tmp_path / "told", 500 * SOAK or 40
    a = zarrant.create_array(path, shape=(0, 16), dtype="uint32", chunks=(8, 16), shards=(64, 16), fill_value=BASE)
    a.append(np.repeat(np.arange(100, dtype="uint32")[:, np.newaxis], 16, 1))
    told.write_bytes(bytes(48))
    made, updates, _ = race(path, told, [("appender", 0)], reader(library), "appended", reads)
    assert updates > 5
    if library != "ours":
        tally("foreign reads", made)


def skip_absent(library: str) -> None:
    if library != "ours" and importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")


def one_trial(root: Path, reader: subprocess.Popen[str], scale: int, compressors: Any, reads: int) -> tuple[int, int, int]:
    """Reads made, updates made meanwhile, different updates that the reader saw."""
    root.mkdir()
    path, told, shape = root / "a", root / "told", (SIDE * scale, SIDE * scale)
    chunks = (CHUNK * scale, CHUNK * scale)
    a = zarrant.create_array(path, shape=shape, dtype="uint32", chunks=chunks, shards=shape, compressors=compressors)
    a[...] = BASE
    for rows, columns in ((slice(4, 30), slice(4, 30)), (slice(32, 44), slice(10, 48)), (slice(0, 16), slice(32, 48))):
        a[rows.start * scale : rows.stop * scale, columns.start * scale : columns.stop * scale] = 0
    told.write_bytes(bytes(48))
    counted = race(path, told, [("writer", number) for number in range(2)], reader, "read", reads)
    shutil.rmtree(root)
    return counted


def race(
    path: Path, told: Path, kinds: list[tuple[str, int]], reader: subprocess.Popen[str], how: str, reads: int
) -> tuple[int, int, int]:
    """Let a reader read while writers write: reads made, updates made meanwhile, different updates that it saw."""
    assert reader.stdin is not None and reader.stdout is not None
    print(json.dumps([how, str(path), str(told), reads]), file=reader.stdin, flush=True)
    assert reader.stdout.readline() == "ready\n"
    writers = [start(kind, path, told, number) for kind, number in kinds]
    try:
        wait_for_writers(told, writers)
        before = np.fromfile(told, "int64")[1::2].sum()
        print("go", file=reader.stdin, flush=True)
        output = reader.stdout.readline()
        updates = np.fromfile(told, "int64")[1::2].sum() - before
        for writer in writers:
            writer.communicate(timeout=60)
        assert [process.returncode for process in writers] == [0] * len(writers)
    finally:
        for process in writers:
            process.kill()
            process.wait()
    made, wrong, failed, seen, *first = output.split(maxsplit=4)
    assert int(made) >= reads
    assert (int(wrong), int(failed)) == (0, 0), first
    assert not [file for file in path.rglob("*") if file.name.endswith("__lock")]
    return int(made), int(updates), int(seen)
