"""Processes that write one object at the same time, TensorStore's among them: nothing is lost, readers see whole objects."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zarrant.stores.local.store import FilesystemStore
from zarrant.testkit import content, together

PROCESSES, UPDATES = 8, 100

OURS = """
import random, sys
from zarrant.errors import VersionChangedError
from zarrant.storage import ByteRange
from zarrant.stores.local.store import FilesystemStore

root, number, updates = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = FilesystemStore(root, lock_timeout=120)

def value(blob):
    return 0 if blob is None else int(bytes(blob.data[0]))

"""

FORK = """
import os, sys, zarrant.stores.local.store
for number in range(int(sys.argv[2])):
    if os.fork() == 0:
        sys.argv[2] = str(number)
        break
else:
    sys.exit(any([os.wait()[1] for _ in range(int(sys.argv[2]))]))
"""

HOLD = """
for _ in range(updates):
    with store.lock(["n", "d/m"]) as held:
        for key in ("n", "d/m"):
            held.put(key, [b"%d" % (value(held.get(key)) + 1)])
"""

HOLD_TWICE = """
for _ in range(updates):
    with store.lock(["n"]) as held:
        count = value(held.get("n"))
        assert count >= 0, "half done work of another owner"
        held.put("n", [b"-1"])
        if count % 3 == 0:
            held.erase("n")
        held.put("n", [b"%d" % (count + 1)])
"""

SWAP = """
for _ in range(updates):
    while True:
        blob = store.get("n")
        try:
            store.put_if("n", [b"%d" % (value(blob) + 1)], blob and blob.version)
            break
        except VersionChangedError:
            pass
"""

SPLICE = """
for i in range(updates):
    while True:
        blob = store.get("n")
        try:
            if blob is None:
                store.put_if("n", [b"%03d-%05d," % (number, i)], None)
            else:
                store.splice("n", [ByteRange(0, blob.size), b"%03d-%05d," % (number, i)], blob.version)
            break
        except VersionChangedError:
            pass
"""

PUTS_AND_ERASES = """
dice = random.Random(number)
for i in range(updates):
    size = dice.choice([1, 50, 3000, 70_000])
    store.put("n", [bytes([number])] * size if size < 100 else [bytes([number]) * size])
    if i % 10 == number:
        store.erase("n")
"""

# One chunk of 4-byte elements, each set by one writer, with no codec but bytes.
ELEMENTS = """
for i in range(updates):
    with store.lock(["c/0"]) as held:
        blob = held.get("c/0")
        data = bytearray(4 * TOTAL) if blob is None else bytearray(blob.data[0])
        at = number * updates + i
        data[4 * at : 4 * at + 4] = (at + 1).to_bytes(4, "little")
        held.put("c/0", [data])
"""

TENSORSTORE = """
import sys
import tensorstore as ts

root, number, updates = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": root + "/"}}
array = ts.open(spec).result()
for i in range(updates):
    at = number * updates + i
    array[at].write(at + 1).result()
"""


def start(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE)


def start_several(code: str, root: Path, count: int, updates: int) -> list[subprocess.Popen[bytes]]:
    """Processes with the numbers from 0, forked from one that has imported the library."""
    return [start(FORK + code, root, count, updates)]


def finish(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=150)
        assert process.returncode == 0, errors.decode()


def litter(root: Path) -> list[str]:
    return [path.name for path in root.rglob("*") if ".__" in path.name]


@pytest.mark.parametrize("code", [HOLD, HOLD_TWICE, SWAP], ids=["lock", "hold twice", "swap"])
def test_no_increment_is_lost(tmp_path: Path, code: str) -> None:
    finish(start_several(OURS + code, tmp_path, PROCESSES, UPDATES))
    store = FilesystemStore(tmp_path)
    assert content(store.get("n")) == b"%d" % (PROCESSES * UPDATES)
    if code is HOLD:
        assert content(store.get("d/m")) == b"%d" % (PROCESSES * UPDATES)
    assert litter(tmp_path) == []


def test_no_increment_is_lost_by_threads_and_processes(tmp_path: Path) -> None:
    processes = start_several(OURS + HOLD, tmp_path, 2, UPDATES)
    store = FilesystemStore(tmp_path, lock_timeout=120)

    def increment() -> None:
        for _ in range(UPDATES):
            with store.lock(["d/m", "n"]) as locked:
                for key in ("n", "d/m"):
                    locked.put(key, [b"%d" % (int(content(locked.get(key)) or b"0") + 1)])

    together(increment, increment)
    finish(processes)
    assert [content(store.get(key)) for key in ("n", "d/m")] == [b"%d" % (4 * UPDATES)] * 2


def test_no_append_is_lost(tmp_path: Path) -> None:
    finish(start_several(OURS + SPLICE, tmp_path, 4, 50))
    records = (content(FilesystemStore(tmp_path).get("n")) or b"").split(b",")
    assert records.pop() == b""
    assert sorted(records) == sorted(b"%03d-%05d" % (number, i) for number in range(4) for i in range(50))
    assert litter(tmp_path) == []


def test_readers_see_whole_objects(tmp_path: Path) -> None:
    """By plain reads too, as other libraries do; and every version stands for one value."""
    processes = start_several(OURS + PUTS_AND_ERASES, tmp_path, 3, 300)
    store = FilesystemStore(tmp_path)
    seen: dict[object, bytes] = {}
    while any(process.poll() is None for process in processes):
        blob = store.get("n")
        if blob is not None:
            value = content(blob) or b""
            assert len(value) in (1, 50, 3000, 70_000)
            assert len(set(value)) == 1
            assert seen.setdefault(blob.version, value) == value
        try:
            assert len(set((tmp_path / "n").read_bytes())) == 1
        except FileNotFoundError:
            pass
    finish(processes)
    assert len(seen) > 10
    assert litter(tmp_path) == []


def test_nothing_is_lost_among_writers_of_tensorstore(tmp_path: Path) -> None:
    ts = pytest.importorskip("tensorstore")
    ours, theirs, updates = 4, 2, 100
    total = (ours + theirs) * updates
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": f"{tmp_path}/"},
        "metadata": {
            "shape": [total],
            "data_type": "uint32",
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [total]}},
            "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        },
    }
    ts.open(spec, create=True).result()
    code = OURS + ELEMENTS.replace("TOTAL", str(total))
    processes = [start(code, tmp_path, number, updates) for number in range(ours)]
    processes += [start(TENSORSTORE, tmp_path, number, updates) for number in range(ours, ours + theirs)]
    finish(processes)
    stored = np.frombuffer((tmp_path / "c" / "0").read_bytes(), "<u4")
    np.testing.assert_array_equal(stored, np.arange(1, total + 1))
    assert litter(tmp_path) == []


def test_it_waits_for_the_lock_of_tensorstore_and_is_waited_for(tmp_path: Path) -> None:
    """Their writer is stopped by our lock, and goes on when it is given back."""
    pytest.importorskip("tensorstore")
    code = f"import tensorstore as ts; ts.KvStore.open('file://{tmp_path}/').result()['k'] = b'theirs'"
    store = FilesystemStore(tmp_path)
    with store.lock(["k"]) as locked:
        process = start(code)
        time.sleep(1.5)
        assert process.poll() is None
        locked.put("k", [b"ours"])
        locked.put("k", [b"ours again"])
        time.sleep(0.2)
        assert content(store.get("k")) == b"ours again"
    finish([process])
    assert content(store.get("k")) == b"theirs"
    assert litter(tmp_path) == []


def put_in_hold(store: Any, key: str, value: bytes) -> None:
    with store.lock([key]) as locked:
        locked.put(key, [value])


@pytest.mark.parametrize("there", [False, True], ids=["absent", "there"])
def test_tensorstore_writes_exactly_after_we_were_killed(tmp_path: Path, there: bool, killed_at: Callable[..., bool]) -> None:
    """It does not empty a lock file that it finds: what ours leaves must be empty, or its tail ends up in their object."""
    pytest.importorskip("tensorstore")
    store = FilesystemStore(tmp_path)
    long, keys, left = b"the long value of a killed writer" * 3000, [], 0
    writes: dict[str, Callable[[Any, str], object]] = {
        "put": lambda store, key: store.put(key, [long]),
        "splice": lambda store, key: store.splice(key, [long, long], (found := store.get(key)) and found.version),
        "lock": lambda store, key: put_in_hold(store, key, long),
    }
    for name, write in writes.items():
        for step in range(100):
            key = f"{name}{step}"
            if there:
                store.put(key, [b"old"])
            keys.append(key)
            if not killed_at(tmp_path, step, lambda inner, key=key, write=write: write(inner, key)):
                break
            left += key in {path.split(".__")[0] for path in litter(tmp_path)}
            assert content(store.get(key)) in (b"old" if there else None, long, long * 2)
        assert step > 8
    assert left > 10
    code = f"import tensorstore as ts; kv = ts.KvStore.open('file://{tmp_path}/').result()"
    finish([start(f"{code}\nfor key in {keys}: kv[key] = b'short'")])
    assert {key: (tmp_path / key).read_bytes() for key in keys} == dict.fromkeys(keys, b"short")
    for key in keys:
        store.erase(key)
    store.erase_prefix("")
    assert litter(tmp_path) == []


HAMMER = """
i = 0
while True:
    i += 1
    with store.lock(["n"]) as held:
        held.put("n", [bytes([i % 251]) * (1 + 40_000 * (i % 2))])
    store.put("n", [bytes([i % 251]) * (1 + 50_000 * (i % 3))])
    if i % 7 == 0:
        store.erase("n")
"""


@pytest.fixture
def victims(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_killed_at_random(tmp_path: Path, victims: list[subprocess.Popen[bytes]]) -> None:
    """Two hammer an object, one after the other is killed; the object stays whole, and the next write is exact."""
    dice = random.Random(0)
    store = FilesystemStore(tmp_path, lock_timeout=30)
    victims.extend(start(OURS + HAMMER, tmp_path, number, 0) for number in range(2))
    while store.get("n") is None:
        time.sleep(0.01)
    for number in range(2, 14):
        time.sleep(dice.uniform(0.001, 0.05))
        victim = victims.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.communicate()
        value = content(store.get("n"))
        assert value is None or len(set(value)) == 1
        with store.lock(["n"]) as locked:
            locked.put("n", [b"x"])
            assert os.path.getsize(tmp_path / "n") == 1
            locked.put("n", [b"yy"])
            assert os.path.getsize(tmp_path / "n") == 2
        victims.append(start(OURS + HAMMER, tmp_path, number, 0))
        time.sleep(0.15)
    for victim in victims:
        victim.kill()
        victim.communicate()
    victims.clear()
    store.put("n", [b"z"])
    assert (tmp_path / "n").read_bytes() == b"z"
    with store.lock(["n"]) as locked:
        locked.put("n", [b"z"])
    assert os.listdir(tmp_path) == ["n"]
