"""Many writers of one stored object, each of its own elements: every update is there in the end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.testing import together

SCRIPT = Path(__file__).with_name("updates.py")
SOAK = bool(os.environ.get("ZARRANT_SOAK"))
UPDATES = 250


def array(place: Any, kind: str, size: int) -> Any:
    """One stored object of `size` elements: a chunk, or a shard of subchunks that many updates share."""
    size += -size % 32
    layout: dict[str, Any] = {"chunks": (size,)} if kind == "chunk" else {"chunks": (32,), "shards": (size,)}
    return zarrant.create_array(place, shape=(size,), dtype="uint32", fill_value=0, **layout)


def check(a: Any, updates: int) -> None:
    """Element i is i + 1 for every update, and 0 beyond them."""
    expected = np.arange(1, a.shape[0] + 1, dtype="uint32")
    expected[updates:] = 0
    found = a[...]
    wrong = np.flatnonzero(found != expected)
    assert not wrong.size, f"{wrong.size} of {updates} updates lost: {wrong[:10]} hold {found[wrong[:10]]}"


def run(path: Path, libraries: Sequence[str], updates: int) -> list[tuple[float, float]]:
    """Run one process for each library named, all started at once; when each began and ended to write."""
    arguments = [str(path), "{}", str(len(libraries)), str(updates)]
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), library, *(argument.format(worker) for argument in arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for worker, library in enumerate(libraries)
    ]  # fmt: skip
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=160)[0] for process in processes]
        assert [process.returncode for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(float(begin), float(end)) for begin, end in (output.split() for output in outputs)]


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The largest number of processes that were writing at one moment."""
    return max(sum(begin <= moment <= end for begin, end in spans) for moment, _ in spans)


def leftovers(path: Path) -> list[str]:
    return [file.name for file in path.rglob("*") if file.name.endswith("__lock")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["chunk", "shard"])
def test_16_processes(tmp_path: Path, kind: str) -> None:
    workers = 16
    a = array(tmp_path / "a", kind, workers * UPDATES)
    spans = run(tmp_path / "a", ["ours"] * workers, UPDATES)
    check(a, workers * UPDATES)
    assert most_at_once(spans) >= workers * 3 // 4
    assert leftovers(tmp_path) == []
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    print(f"{workers * UPDATES} updates of one {kind} by {workers} processes in {took:.1f} s, none lost")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["chunk", "shard"])
def test_mixed_with_tensorstore(tmp_path: Path, kind: str) -> None:
    pytest.importorskip("tensorstore")
    libraries = ["ours"] * 16 + ["tensorstore"] * 4
    updates = UPDATES if SOAK else 40
    a = array(tmp_path / "a", kind, len(libraries) * updates)
    spans = run(tmp_path / "a", libraries, updates)
    check(a, len(libraries) * updates)
    theirs, mine = spans[16:], spans[:16]
    assert max(begin for begin, _ in theirs) < max(end for _, end in mine)
    assert max(begin for begin, _ in mine) < max(end for _, end in theirs)
    assert most_at_once(spans) >= len(libraries) // 2
    print(f"{len(libraries) * updates} updates of one {kind} by 16 processes of ours and 4 of TensorStore, none lost")


@pytest.mark.parametrize("kind", ["chunk", "shard"])
@pytest.mark.parametrize("place", ["memory", "directory"])
@pytest.mark.parametrize("handles", ["one handle", "a handle each"])
def test_8_threads(tmp_path: Path, kind: str, place: str, handles: str) -> None:
    """On files by locks; in memory, which has none, by compare-and-swap."""
    threads, updates = 8, UPDATES if SOAK else 60
    store = zarrant.MemoryStore() if place == "memory" else zarrant.FilesystemStore(tmp_path)
    assert hasattr(store, "hold") == (place == "directory")
    a = array(store, kind, threads * updates)

    def work(worker: int) -> None:
        mine = a if handles == "one handle" else zarrant.open_array(store)
        for update in range(updates):
            i = update * threads + worker
            mine[i : i + 1] = i + 1

    together(*(lambda worker=worker: work(worker) for worker in range(threads)))
    check(a, threads * updates)
    print(f"{threads * updates} updates of one {kind} in {place} by {threads} threads, none lost")


def test_swaps_that_are_lost_are_tried_again() -> None:
    """Another writer, outside of the queue of this process, wins the first races; its updates stay too."""
    store = zarrant.MemoryStore()
    a = array(store, "chunk", 64)
    a[0:1] = 1
    real, races = store.put_if, []

    def put_if(key: str, parts: Any, if_version: Any) -> Any:
        if len(races) < 5:
            races.append(key)
            values = np.frombuffer(bytes(store.get(key).data[0]), np.uint8)
            rival = zarrant.create_array({}, shape=(64,), dtype="uint32", chunks=(64,), fill_value=0)
            rival.store_encoded_chunk((0,), values)
            rival[len(races)] = len(races) + 1
            store.put(key, [rival.retrieve_encoded_chunk((0,))])
        return real(key, parts, if_version)

    store.put_if = put_if  # type: ignore[method-assign]
    a[6:7] = 7
    assert len(races) == 5
    assert a[0:8].tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
