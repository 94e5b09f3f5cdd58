"""Statistics of shards and compaction, against a dict, against NumPy and against zarr-python."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import requests
from zarrant.codecs import Bytes, Crc32c, Gzip, ShardingIndexed, Transpose, Zstd
from zarrant.codecs.chain import chain_of
from zarrant.codecs.protocols import CodecOptions
from zarrant.errors import BoundsError, CapabilityError, ChunkError
from zarrant.ops import compact as compact_ops
from zarrant.ops import update, write
from zarrant.ops.bound_array import OpOptions
from zarrant.storage import ByteRange
from zarrant.testkit import together

INDEX = chain_of([Bytes(), Crc32c()])
KEEP_DEAD = OpOptions(CodecOptions(dead_limit=1.0))


def sharding(shape: tuple[int, ...], *inner: Any, at: str = "end") -> ShardingIndexed:
    return ShardingIndexed(shape, chain_of(list(inner) or [Bytes()]), INDEX, at)


KINDS = {
    "flat": {"chunks": (2, 2), "shards": (8, 8)},
    "compressed": {"chunks": (2, 2), "shards": (8, 8), "compressors": Zstd()},
    "index first": {"chunks": (8, 8), "serializer": sharding((2, 2), at="start")},
    "nested": {"chunks": (8, 8), "serializer": sharding((4, 4), sharding((2, 2)))},
    "nested, index first": {"chunks": (8, 8), "serializer": sharding((4, 4), sharding((2, 1), at="start"), at="start")},
    "three levels": {"chunks": (8, 8), "serializer": sharding((4, 4), sharding((2, 4), sharding((1, 2), Bytes(), Gzip())))},
    "transposed": {
        "chunks": (8, 8),
        "filters": Transpose((1, 0)),
        "serializer": sharding((4, 2), Transpose((1, 0)), sharding((2, 2))),
    },
    "codecs after": {"chunks": (8, 8), "serializer": sharding((2, 2)), "compressors": Gzip()},
    "codecs after the inner one": {"chunks": (8, 8), "serializer": sharding((4, 4), sharding((2, 2)), Crc32c())},
}


def worn(state: Any, objects: Any, layout: Any, options: OpOptions = KEEP_DEAD) -> tuple[Any, np.ndarray]:
    """An array with shards in which much is dead, and its values."""
    made = state(options, shape=(14, 13), **layout)
    values = np.arange(14 * 13, dtype="int32").reshape(14, 13) + 1
    objects.perform(update.store_array_subset(made, np.s_[:, :], values))
    rng = np.random.default_rng(5)
    for step in range(12):
        r, c = rng.integers(0, 12, 2).tolist()
        values[r : r + 2, c : c + 3] = step % 3
        objects.perform(update.store_array_subset(made, np.s_[r : r + 2, c : min(c + 3, 13)], values[r : r + 2, c : c + 3]))
    objects.log.clear()
    return made, values


def check_values(made: Any, objects: Any, values: np.ndarray) -> None:
    from zarrant.ops import read

    assert np.array_equal(objects.perform(read.retrieve_array_subset(made, np.s_[:, :])), values)


@pytest.mark.parametrize("kind", KINDS)
def test_compaction_drops_what_is_dead_and_nothing_else(kind: str, state: Any, objects: Any) -> None:
    made, values = worn(state, objects, KINDS[kind])
    before = {key: len(value) for key, value in objects.items()}
    stats = objects.perform(compact_ops.chunk_stats(made, (0, 0)))
    assert stats.dead > 0
    freed = objects.perform(compact_ops.compact(made))
    assert freed == sum(before.values()) - sum(map(len, objects.values())) > 0
    check_values(made, objects, values)
    after = objects.perform(compact_ops.chunk_stats(made, (0, 0)))
    assert (after.dead, after.live, after.present) == (0, stats.live, stats.present)
    if kind == "codecs after":
        return  # how far gzip gets depends on the order of subchunks
    # As small as a shard that was written whole.
    whole = state(shape=(14, 13), **KINDS[kind])
    compacted = dict(objects)
    objects.perform(write.store_chunks(whole, np.s_[:, :], np.pad(values, ((0, 2), (0, 3)))))
    assert {key: len(value) for key, value in objects.items()} == {key: len(value) for key, value in compacted.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_do_is_a_read_a_level_and_no_write(kind: str, state: Any, objects: Any) -> None:
    made, _ = worn(state, objects, KINDS[kind])
    objects.perform(compact_ops.compact(made))
    objects.log.clear()
    assert objects.perform(compact_ops.compact_chunk(made, (0, 0))) == 0
    levels = {"nested": 2, "nested, index first": 2, "transposed": 2, "codecs after the inner one": 2}.get(kind, 1)
    if kind == "three levels":
        assert set(objects.kinds()) == {"Fetch"}
    else:
        assert objects.kinds() == ["Fetch"] * levels


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("codecs after")])
def test_live_bytes_are_neither_read_nor_sent(kind: str, state: Any, objects: Any) -> None:
    made, _ = worn(state, objects, KINDS[kind])
    stats = objects.perform(compact_ops.chunk_stats(made, (0, 0)))
    objects.log.clear()
    objects.perform(compact_ops.compact_chunk(made, (0, 0)))
    (stored,) = [item for request in objects.log if isinstance(request, requests.Put) for item in request.items]
    sent = sum(len(memoryview(part).cast("B")) for part in stored.parts if not isinstance(part, ByteRange))
    kept = sum(part.length for part in stored.parts if isinstance(part, ByteRange))
    assert 0 < sent <= stats.index
    assert kept + sent == stats.live + stats.index
    wanted = [
        span for request in objects.log if isinstance(request, requests.Fetch) for want in request.items for span in want.ranges
    ]
    assert sum(span.length or -span.start for span in wanted) <= 2 * stats.index


def test_statistics_add_up(state: Any, objects: Any) -> None:
    for kind, layout in KINDS.items():
        made, _ = worn(state, objects, layout)
        stats = objects.perform(compact_ops.chunk_stats(made, (0, 0)))
        if not kind.startswith("codecs after"):
            assert stats.stored == len(objects["a/c/0/0"]) == stats.live + stats.dead + stats.index
        assert stats.subchunks == 64 // np.prod(made.chain.subchunk_shapes()[-1])
        assert len(stats.levels) == len(made.chain.subchunk_shapes())
        objects.clear()


def test_statistics_of_what_is_no_shard_or_not_there(state: Any, objects: Any) -> None:
    plain = state()
    assert objects.perform(compact_ops.chunk_stats(plain, (0, 0))) == compact_ops.ChunkStats(0, 0, 0, 0, 0, 1, ())
    objects.perform(write.store_chunk(plain, (0, 0), 7))
    assert objects.perform(compact_ops.chunk_stats(plain, (0, 0))) == compact_ops.ChunkStats(48, 48, 0, 0, 1, 1, ())
    shard = state(**KINDS["nested"])
    objects.clear()
    stats = objects.perform(compact_ops.chunk_stats(shard, (1, 1)))
    assert (stats.stored, stats.present, stats.subchunks, [each.shards for each in stats.levels]) == (0, 0, 16, [0, 0])
    objects.log.clear()
    assert objects.perform(compact_ops.compact_chunk(plain, (0, 0))) == 0
    assert objects.log == []
    assert objects.perform(compact_ops.compact_chunk(shard, (0, 0))) == 0
    for op in (compact_ops.chunk_stats, compact_ops.compact_chunk):
        with pytest.raises(BoundsError):
            objects.perform(op(plain, (9, 9)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_shard_without_live_subchunks_is_erased(kind: str, state: Any, objects: Any) -> None:
    made, _ = worn(state, objects, KINDS[kind])
    empty = state(OpOptions(CodecOptions(write_empty_chunks=True, dead_limit=1.0)), shape=(14, 13), **KINDS[kind])
    assert empty.prepared_for(empty.grid.uniform_shape) != made.prepared_for(made.grid.uniform_shape)
    shard = made.prepared_for(made.grid.uniform_shape)
    objects["a/c/0/0"] = bytes(shard.encode_index(type(_index(shard)).empty(_index(shard).offset.size)))
    for codec in shard.outer_codecs:
        objects["a/c/0/0"] = bytes(codec.encode(objects["a/c/0/0"]))
    size = len(objects["a/c/0/0"])
    assert objects.perform(compact_ops.compact_chunk(made, (0, 0))) == size
    assert "a/c/0/0" not in objects


def _index(shard: Any) -> Any:
    from zarrant.codecs.sharding.format import Index

    return Index.empty(int(np.prod(shard.grid.grid_shape)))


def test_an_empty_inner_shard_becomes_missing(state: Any, objects: Any) -> None:
    made = state(KEEP_DEAD, shape=(8, 8), **KINDS["nested"])
    objects.perform(write.store_chunk(made, (0, 0), np.arange(64, dtype="int32").reshape(8, 8) + 1))
    inner = made.prepared_for(made.grid.uniform_shape).subchunk_pipeline
    data = bytearray(objects["a/c/0/0"])
    size = 4 * 16 + inner.index_size
    data[size - inner.index_size : size] = bytes(inner.encode_index(_index(inner)))
    objects["a/c/0/0"] = bytes(data)
    assert objects.perform(compact_ops.compact_chunk(made, (0, 0))) == size
    stats = objects.perform(compact_ops.chunk_stats(made, (0, 0)))
    assert [(each.shards, each.present, each.dead) for each in stats.levels] == [(1, 3, 0), (3, 12, 0)]


def test_a_broken_shard_is_left_as_it_is() -> None:
    objects: dict[str, bytes] = {}
    a = zarrant.create_array(objects, shape=(8, 8), dtype="int32", chunks=(8, 8), serializer=KINDS["nested"]["serializer"])
    a[...] = 5
    data = objects["c/0/0"]
    for broken in (data[:-1] + b"\x55", data[:20], b""):
        objects["c/0/0"] = broken
        for method in (a.compact_chunk, a.chunk_stats):
            with pytest.raises(ChunkError) as caught:
                method((0, 0))
            assert (caught.value.key, caught.value.chunk) == ("c/0/0", (0, 0))
        assert objects["c/0/0"] == broken


def test_another_writer_between_look_and_update(state: Any, objects: Any) -> None:
    made, values = worn(state, objects, KINDS["flat"])
    values[:8, :8] = 77

    def race(request: Any) -> None:
        if isinstance(request, requests.Put):
            objects.before = lambda request: None
            objects.perform(write.store_chunk(made, (0, 0), 77))

    objects.before = race
    assert objects.perform(compact_ops.compact_chunk(made, (0, 0))) == 0  # theirs has nothing dead
    check_values(made, objects, values)


# ── on disk ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_compacted_arrays_are_read_by_others(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    a = zarrant.create_array(
        tmp_path / "a", shape=(40, 40), dtype="int32", chunks=(5, 5), shards=(20, 20), config={"dead_limit": 1}
    )
    values = np.arange(1600, dtype="int32").reshape(40, 40)
    a[...] = values
    for step in range(6):
        a[step : step + 9, 3:8] = values[step : step + 9, 3:8] = -step
    dead = a.chunk_stats((0, 0)).dead
    assert a.compact_chunk((0, 0)) == dead > 0
    b = asyncio.run(_reopened(tmp_path / "a"))
    assert b.dead == 0
    assert a.compact(np.s_[0:2, 0:2]) >= 0
    assert np.array_equal(zarr.open_array(tmp_path / "a", mode="r")[...], values)
    assert np.array_equal(a[...], values)


async def _reopened(path: Path) -> compact_ops.ChunkStats:
    a = await zarrant.open_array_async(str(path), mode="r+")
    assert await a.compact_chunk((0, 0)) == 0
    assert await a.compact() >= 0
    return await a.chunk_stats((0, 0))


def test_compaction_needs_a_store_that_writes(tmp_path: Path) -> None:
    zarrant.create_array(tmp_path / "a", shape=(4,), dtype="int32", chunks=(1,), shards=(2,))
    a = zarrant.open_array(tmp_path / "a", mode="r")
    assert a.chunk_stats((0,)).subchunks == 2
    with pytest.raises(CapabilityError):
        a.compact()


def test_compaction_beside_writers_loses_nothing(tmp_path: Path) -> None:
    """Two threads and a process's worth of updates of one shard, while it is compacted over and over."""
    config = {"dead_limit": 1.0}
    zarrant.create_array(tmp_path / "a", shape=(16, 40), dtype="int32", chunks=(4, 4), shards=(16, 40))
    done = threading.Event()
    freed = []

    def write(row: int) -> Callable[[], None]:
        def run() -> None:
            a = zarrant.open_array(tmp_path / "a", mode="r+", config=config)
            for column in range(40):
                a[row : row + 5, column] = row * 100 + column + 1  # across subchunks that both write
            finished.append(row)
            if len(finished) == 2:
                done.set()

        return run

    finished: list[int] = []

    def tidy() -> None:
        a = zarrant.open_array(tmp_path / "a", mode="r+", config=config)
        while not done.is_set():
            freed.append(a.compact())

    together(write(0), write(5), tidy)
    a = zarrant.open_array(tmp_path / "a", mode="r+", config=config)
    expected = np.zeros((16, 40), "int32")
    for row in (0, 5):
        expected[row : row + 5] = row * 100 + np.arange(40) + 1
    assert np.array_equal(a[...], expected)
    assert sum(freed) > 0
    a.compact()
    assert a.chunk_stats((0, 0)).dead == 0
