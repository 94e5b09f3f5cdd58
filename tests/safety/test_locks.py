"""Locks across processes: they exclude each other, leave readers alone, and a killed owner leaves the old object."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from children import go, waiting
from zarrant.errors import LockTimeout

SCRIPT = Path(__file__).with_name("sessions.py")
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
TIMES, KILLS = (500 * SOAK, 25 * SOAK) if SOAK else (25, 1)
S = np.s_


def array(path: Path, kind: str = "shard") -> Any:
    layout: dict[str, Any] = {"chunks": (8,)} if kind == "chunk" else {"chunks": (2,), "shards": (8,)}
    return zarrant.create_array(path, shape=(16,), dtype="int32", **layout)


def leftovers(path: Path) -> list[str]:
    return [file.name for file in path.rglob("*") if file.name.endswith("__lock")]


@pytest.mark.timeout(3600 * SOAK if SOAK else 120)
@pytest.mark.parametrize("kind", ["chunk", "shard"])
def test_locks_of_processes_exclude_each_other(tmp_path: Path, kind: str) -> None:
    a = array(tmp_path, kind)
    with (
        waiting(SCRIPT, "add", tmp_path, TIMES) as one,
        waiting(SCRIPT, "add", tmp_path, TIMES) as two,
        waiting(SCRIPT, "add", tmp_path, TIMES) as three,
    ):
        for child in (one, two, three):
            go(child)
        for child in (one, two, three):
            child.communicate(timeout=600)
            assert child.returncode == 0
    print(f"{3 * TIMES} locks of 2 objects each, {3 * TIMES - int(a[0])} additions lost")
    assert a[...].tolist() == [3 * TIMES if i in (0, 12) else 0 for i in range(16)]
    assert leftovers(tmp_path) == []


@pytest.mark.timeout(60)
def test_another_process_waits_for_an_encoder(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    a = array(tmp_path)
    a[...] = 1
    with waiting(SCRIPT, "write", tmp_path) as other:
        with a.partial_encoder((0,)) as encoder:
            go(other)
            for i in range(8):
                encoder.store(S[i : i + 1], 2)
                time.sleep(0.04)
                assert zarr.open_array(tmp_path, mode="r")[...].tolist() == [1] * 16
            end = time.monotonic()
        assert float(other.communicate(timeout=30)[0]) >= end
    assert a[0:9].tolist() == [2] * 7 + [7, 1]
    assert zarr.open_array(tmp_path, mode="r")[0:9].tolist() == [2] * 7 + [7, 1]
    assert leftovers(tmp_path) == []


@pytest.mark.timeout(3600 * SOAK if SOAK else 60)
@pytest.mark.parametrize("kind", ["chunk", "shard"])
def test_a_killed_encoder_leaves_the_old_object(tmp_path: Path, kind: str, tally: Callable[[str, int], None]) -> None:
    zarr = pytest.importorskip("zarr")
    a = array(tmp_path, kind)
    impatient = a.with_config(lock_timeout=0.05)
    a[...] = 5
    for trial in range(KILLS):
        before = bytes(a.retrieve_encoded_chunk((0,)))
        with waiting(SCRIPT, "encode", tmp_path) as child:
            go(child)
            assert child.stdout.readline() == "stored\n"
            with pytest.raises(LockTimeout) as caught:
                impatient[0] = 1
            assert "c/0" in str(caught.value)
        assert bytes(a.retrieve_encoded_chunk((0,))) == before
        assert zarr.open_array(tmp_path, mode="r")[...].tolist() == [*[5 + trial] * 8, *[5] * 8]
        with impatient.partial_encoder((0,)) as encoder:
            encoder.store(S[0:8], 6 + trial)
        assert a[0:8].tolist() == [6 + trial] * 8
        assert leftovers(tmp_path) == []
    print(f"{KILLS} encoders killed while they held an object, 0 left anything")
    tally("kills", KILLS)
