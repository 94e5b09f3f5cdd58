"""Many writers of one stored object, each of its own elements: every update is there in the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.testkit import together

Tally = Callable[[str, int], None]
SCRIPT = Path(__file__).with_name("updates.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
TIMEOUT = 900 * SOAK or 180
KINDS = pytest.mark.parametrize("kind", ["chunk", "large chunk", "shard"])
LARGE = 1 << 17
"""Elements of a chunk without compression of which only what an update changes is written anew."""


def array(place: Any, kind: str, size: int) -> Any:
    """One stored object of `size` elements, which may protrude: a chunk, or a shard of subchunks that many updates share."""
    stored = size + -size % 32
    layouts: dict[str, dict[str, Any]] = {
        "chunk": {"chunks": (stored,)},
        "large chunk": {"chunks": (max(LARGE, stored),), "compressors": None},
        "shard": {"chunks": (32,), "shards": (stored,)},
    }
    return zarrant.create_array(place, shape=(size,), dtype="uint32", fill_value=0, **layouts[kind])


def check(a: Any, updates: int, width: int = 1) -> None:
    """Run i of `width` elements is i + 1 for every update, and there is nothing else."""
    expected = np.repeat(np.arange(1, updates + 1, dtype="uint32"), width)
    found = a[...]
    assert found.shape == expected.shape
    wrong = np.flatnonzero(found != expected)
    assert not wrong.size, f"{wrong.size} of {updates} updates lost: {wrong[:10]} hold {found[wrong[:10]]}"


def run(path: Path, workers: Sequence[tuple[str, int]], updates: int, width: int = 1) -> list[tuple[float, float]]:
    """Run a process for each (library, threads), all started at once; when each began and ended to write."""
    job = {"path": str(path), "kind": "elements", "workers": workers, "updates": updates, "width": width}
    ran = subprocess.run([sys.executable, SCRIPT, json.dumps(job)], stdout=subprocess.PIPE, check=True, timeout=TIMEOUT)
    return [(found["begin"], found["end"]) for found in json.loads(ran.stdout)]


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The largest number of processes that were writing at one moment."""
    return max(sum(begin <= moment <= end for begin, end in spans) for moment, _ in spans)


def leftovers(path: Path) -> list[str]:
    return [file.name for file in path.rglob("*") if file.name.endswith("__lock")]


@pytest.mark.timeout(TIMEOUT)
@KINDS
@pytest.mark.parametrize("width", [1, 3], ids=["even", "ragged"])
def test_16_processes(tmp_path: Path, kind: str, width: int, tally: Tally) -> None:
    """Ragged: updates begin and end anywhere in a subchunk, some cross into the next, and the object protrudes."""
    workers, each = 16, 100 * SOAK or 8
    if width == 3:
        each += 1
    updates = workers * each
    a = array(tmp_path / "a", kind, updates * width)
    assert (updates * width % 32 != 0) == (width == 3)
    spans = run(tmp_path / "a", [("ours", 1)] * workers, each, width)
    check(a, updates, width)
    assert most_at_once(spans) >= workers // 2
    assert leftovers(tmp_path) == []
    took = max(end for _, end in spans) - min(begin for begin, _ in spans)
    print(f"{updates} updates of {width} elements of one {kind} by {workers} processes in {took:.1f} s, none lost")
    tally("lost updates", updates)


@pytest.mark.timeout(TIMEOUT)
@pytest.mark.parametrize("layout", [{"chunks": (400,)}, {"chunks": (8,), "shards": (400,)}], ids=["chunk", "shard"])
def test_16_processes_write_text(tmp_path: Path, layout: dict[str, Any], tally: Tally) -> None:
    """Elements of any length: each update moves what lies behind it."""
    workers, each, width = 16, 100 * SOAK or 8, 3
    updates = workers * each
    a = zarrant.create_array(tmp_path / "a", shape=(updates * width,), dtype="string", fill_value="nobody", **layout)
    spans = run(tmp_path / "a", [("ours", 1)] * workers, each, width)
    expected = [f"{i // width + 1} " + "ñ" * ((i // width + 1) % 37) for i in range(updates * width)]  # as updates.text
    lost = [i for i, (found, right) in enumerate(zip(a[...].tolist(), expected, strict=True)) if found != right]
    assert not lost, f"{len(lost)} elements of {updates} updates lost: {lost[:10]}"
    assert most_at_once(spans) >= workers // 2
    assert leftovers(tmp_path) == []
    tally("lost updates", updates)


@pytest.mark.timeout(TIMEOUT)
@KINDS
def test_threads_in_processes(tmp_path: Path, kind: str, tally: Tally) -> None:
    """Threads of one process queue for its turn at the lock file, for which the processes compete."""
    processes, threads, each = 5, 4, 80 * SOAK or 6
    updates = processes * threads * each
    a = array(tmp_path / "a", kind, updates)
    spans = run(tmp_path / "a", [("ours", threads)] * processes, each)
    check(a, updates)
    assert most_at_once(spans) >= 3
    assert leftovers(tmp_path) == []
    print(f"{updates} updates of one {kind} by {threads} threads in each of {processes} processes, none lost")
    tally("lost updates", updates)


@pytest.mark.timeout(TIMEOUT)
@KINDS
def test_mixed_with_tensorstore(tmp_path: Path, kind: str, tally: Tally) -> None:
    pytest.importorskip("tensorstore")
    workers = [("ours", 1)] * 12 + [("ours", 2)] * 2 + [("tensorstore", 1)] * 4
    writers = sum(threads for _, threads in workers)
    each = 41 * SOAK or 4
    updates = writers * each
    a = array(tmp_path / "a", kind, updates)
    spans = run(tmp_path / "a", workers, each)
    check(a, updates)
    theirs, mine = spans[-4:], spans[:-4]
    assert min(begin for begin, _ in theirs) < max(end for _, end in mine)
    assert min(begin for begin, _ in mine) < max(end for _, end in theirs)
    assert most_at_once(spans) >= len(workers) // 2
    print(f"{updates} updates of one {kind} by 14 processes of ours and 4 of TensorStore, none lost")
    tally("mixed with TensorStore", updates)


@KINDS
@pytest.mark.parametrize("place", ["memory", "directory"])
@pytest.mark.parametrize("handles", ["one handle", "a handle each"])
def test_8_threads(tmp_path: Path, kind: str, place: str, handles: str) -> None:
    """On files by locks; in memory, which has none, by compare-and-swap."""
    threads, updates = 8, 250 * SOAK or 25
    store = zarrant.MemoryStore() if place == "memory" else zarrant.FilesystemStore(tmp_path)
    assert hasattr(store, "lock") == (place == "directory")
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
