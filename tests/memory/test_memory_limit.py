"""The option `memory_limit` bounds what operations need above their input and output, by the peak of the resident memory.

Each case is a process of its own. `MALLOC_ARENA_MAX`: what the allocator of C keeps of freed memory for each thread is no
memory of Zarrant's, and would be measured with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MIB = 2**20
OBJECT = 4 * MIB
SLACK = 8 * MIB
"""Stacks of 64 threads, tasks, the plans of operations."""
LIMIT = 32 * MIB
WAYS = ("write_whole", "read_whole", "write_threads", "read_threads", "write_tasks", "read_tasks")
BOX = [32, 256, 256]
KINDS: dict[str, dict[str, Any]] = {
    "raw": {"chunks": BOX, "compressed": False},
    "zstd": {"chunks": BOX, "compressed": True},
    "sharded": {"chunks": [32, 32, 32], "shards": BOX, "compressed": True},
    "sharded raw": {"chunks": [32, 32, 32], "shards": BOX, "compressed": False},
    "small chunks": {"chunks": [8, 32, 32], "compressed": True, "delay": 0},
}
QUICK = {("raw", "write_threads"), ("raw", "read_tasks"), ("sharded raw", "write_tasks")}

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is reset and read as Linux has it")


def peak(where: Path, **case: Any) -> int:
    """Bytes that a process needed above what it had before, at most."""
    case = {"delay": 0.02, "shape": [128, 1024, 512], "box": BOX, "concurrency": 8, **case}
    command = [sys.executable, str(Path(__file__).parent / "child.py"), json.dumps(case), str(where)]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "2", "MALLOC_TRIM_THRESHOLD_": "262144"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def _cases() -> list[Any]:
    return [
        pytest.param(kind, way, marks=() if (kind, way) in QUICK else pytest.mark.soak, id=f"{kind}, {way}")
        for kind in KINDS
        for way in WAYS
    ]


@pytest.mark.parametrize(("kind", "way"), _cases())
def test_a_limit_holds_for_all_threads_and_tasks_of_a_process(tmp_path: Path, kind: str, way: str) -> None:
    """32 objects of 4 MiB are written or read, on a store that takes its time; all at once they would be 128 MiB."""
    found = peak(tmp_path, memory_limit=LIMIT, act=way, **KINDS[kind])
    assert found <= LIMIT + (2 if kind.startswith("sharded") else 1) * SLACK


@pytest.mark.parametrize("way", ["write_whole", "read_whole"])
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=() if kind == "sharded" else pytest.mark.soak) for kind in KINDS])
def test_the_default_is_two_objects_for_each_worker(tmp_path: Path, kind: str, way: str) -> None:
    """Of shards: the encoded shard, and 4 MiB."""
    each = OBJECT + 4 * MIB if kind.startswith("sharded") else 2 * OBJECT
    assert peak(tmp_path, act=way, concurrency=2, **{**KINDS[kind], "delay": 0}) <= 2 * each + SLACK
