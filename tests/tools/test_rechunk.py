"""Copies to other chunks that go on after a kill: every value is right, done units are not done again."""

from __future__ import annotations

import doctest
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import ChunkError, ConflictError, NodeExistsError, NodeNotFoundError
from zarrant.tools import ledger, units
from zarrant.tools.ledger import LEDGER
from zarrant.tools.rechunk import rechunk
from zarrant.tools.units import copy_unit


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "BLOCK_BYTES", 1)


@pytest.fixture
def source(tmp_path: Path) -> zarrant.Array[Any]:
    values = np.random.default_rng(0).integers(0, 99, (50, 40)).astype("i2")
    values[20:30] = 0
    return zarrant.create_array(tmp_path / "a", data=values, chunks=(7, 40), attributes={"unit": "mm"})


@pytest.mark.parametrize("module", [ledger, units])
def test_examples_run(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("shards", [None, (20, 20)])
@pytest.mark.parametrize("workers", [1, 4])
def test_every_value_is_there(source: Any, tmp_path: Path, shards: Any, workers: int) -> None:
    seen: list[Any] = []
    facts = rechunk(source.url, str(tmp_path / "b"), chunks=(10, 10), shards=shards, workers=workers, report=seen.append)
    new = zarrant.open_array(tmp_path / "b", mode="r")
    assert np.array_equal(new[...], source[...])
    assert (new.chunks, new.shards, dict(new.attrs)) == ((10, 10), shards, {"unit": "mm"})
    assert (facts["units"], facts["resumed"], facts["moved"]) == (new.nchunks, 0, False)
    assert facts["fill_units"] == sum(chunk is None for chunk in new.retrieve_encoded_chunks(...))
    assert (seen[-1].bytes_done, seen[-1].bytes_total) == (source.nbytes, source.nbytes)
    assert not (tmp_path / "b" / LEDGER).exists()
    with pytest.raises(NodeExistsError):  # it is complete: an array as any other
        rechunk(source.url, str(tmp_path / "b"), chunks=(10, 10), shards=shards)


def test_encoded_chunks_are_moved_where_layouts_agree(source: Any, tmp_path: Path) -> None:
    assert rechunk(source.url, str(tmp_path / "b"))["moved"]
    new = zarrant.open_array(tmp_path / "b", mode="r")
    assert np.array_equal(new[...], source[...])
    assert all(new.retrieve_encoded_chunk(chunk) == source.retrieve_encoded_chunk(chunk) for chunk in source.iter_chunks())


@pytest.fixture
def sharded(tmp_path: Path, source: Any) -> zarrant.Array[Any]:
    """The same values, with checksums; a row of shards has none."""
    options: dict[str, Any] = {
        "chunks": (5, 8),
        "shards": (10, 16),
        "compressors": [zarrant.codecs.Zstd(1), zarrant.codecs.Crc32c()],
    }
    return zarrant.create_array(tmp_path / "sharded", data=source[...], **options)


def test_encoded_chunks_are_moved_into_shards_and_out_of_them(sharded: Any, tmp_path: Path) -> None:
    steps: list[Any] = [None, (20, 40), (15, 8), (10, 16)]  # shards of the copy of the copy before
    before = sharded
    for number, shards in enumerate(steps):
        facts = rechunk(before.url, str(tmp_path / str(number)), shards=shards, workers=2)
        new = zarrant.open_array(tmp_path / str(number), mode="r")
        assert facts["moved"] and (new.chunks, new.shards) == ((5, 8), shards)
        assert facts["fill_units"] == sum(chunk is None for chunk in new.retrieve_encoded_chunks(...))
        assert np.array_equal(new[...], sharded[...])
        before = new
    assert not rechunk(sharded.url, str(tmp_path / "c"), chunks=(5, 4), shards=None)["moved"]
    assert not rechunk(sharded.url, str(tmp_path / "d"), compressors=[zarrant.codecs.Zstd(2)], shards=None)["moved"]


def test_a_move_out_of_shards_goes_on_and_keeps_what_is_damaged(
    sharded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A chunk that does not decode stays so, and its checksum says it: nothing is decoded."""
    shard = tmp_path / "sharded" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    data[3] ^= 255
    shard.write_bytes(data)
    done: list[Any] = []

    def unit(part: Any, box: Any) -> bool:
        if len(done) == 7:
            raise RuntimeError("stop")
        done.append(box)
        return copy_unit(part, box)

    target = str(tmp_path / "b")
    monkeypatch.setattr(units, "copy_unit", unit)
    with pytest.raises(RuntimeError):
        rechunk(sharded.url, target, shards=None, workers=1)
    monkeypatch.setattr(units, "copy_unit", copy_unit)
    facts = rechunk(sharded.url, target, shards=None, workers=1)
    assert (facts["resumed"], facts["units"], facts["moved"]) == (7, 50, True)
    new = zarrant.open_array(target, mode="r")
    assert np.array_equal(new[5:], sharded[5:])
    with pytest.raises(ChunkError):
        new[:5, :8]


def test_what_is_broken_off_goes_on(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[Any] = []

    def fail_at(limit: int) -> Any:
        def unit(part: Any, box: Any) -> bool:
            if limit and len(done) >= limit:
                raise RuntimeError("stop")
            fill = copy_unit(part, box)
            done.append(box)
            return fill

        return unit

    target, options = str(tmp_path / "b"), {"chunks": (10, 10), "workers": 1}
    for limit in (1, 6, 13):
        monkeypatch.setattr(units, "copy_unit", fail_at(limit))
        with pytest.raises(RuntimeError):
            rechunk(source.url, target, **options)  # type: ignore[arg-type]
    assert (tmp_path / "b" / LEDGER).exists()
    monkeypatch.setattr(units, "copy_unit", fail_at(0))
    facts = rechunk(source.url, target, **options)  # type: ignore[arg-type]
    assert facts["resumed"] == 13
    assert len(done) == facts["units"] == 20  # none twice, those of nothing but fill neither
    assert np.array_equal(zarrant.open_array(target)[...], source[...])


def test_another_job_is_refused(source: Any, tmp_path: Path) -> None:
    target = tmp_path / "b"
    zarrant.create_array(target, shape=source.shape, dtype="i2", chunks=(10, 10))
    before = source.metadata
    for _ in range(2):
        with pytest.raises(NodeExistsError):
            rechunk(source.url, str(target), chunks=(10, 10))
    zarrant.open_group(tmp_path, mode="a")
    rechunk(source.url, str(tmp_path / "c"), chunks=(10, 10))
    (tmp_path / "c" / LEDGER).write_text(json.dumps({"source": ["elsewhere", repr(before.version)], "done": [], "fill": []}))
    with pytest.raises(ConflictError):
        rechunk(source.url, str(tmp_path / "c"), chunks=(10, 10))
    with pytest.raises(NodeNotFoundError):
        rechunk(str(tmp_path / "no"), str(tmp_path / "d"))


def test_a_killed_process_leaves_what_the_next_one_finishes(source: Any, tmp_path: Path) -> None:
    code = """
import os, sys
from zarrant.tools.rechunk import rechunk
def report(progress):
    if progress.chunks_done >= int(sys.argv[3]):
        os.kill(os.getpid(), 9)
rechunk(sys.argv[1], sys.argv[2], chunks=(5, 5), workers=2, block_bytes=1, report=report)
"""
    for at in ("5", "30"):
        done = subprocess.run([sys.executable, "-c", code, source.url, str(tmp_path / "b"), at], check=False)
        assert done.returncode == -9
    facts = rechunk(source.url, str(tmp_path / "b"), chunks=(5, 5))
    assert 20 <= facts["resumed"] < facts["units"]
    assert np.array_equal(zarrant.open_array(tmp_path / "b")[...], source[...])


@pytest.mark.soak
def test_a_cluster_does_it(source: Any, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs the extra dask")
    facts = rechunk(source.url, str(tmp_path / "b"), chunks=(10, 10), scheduler="local", workers=2)
    assert facts["units"] == 20
    assert np.array_equal(zarrant.open_array(tmp_path / "b")[...], source[...])
