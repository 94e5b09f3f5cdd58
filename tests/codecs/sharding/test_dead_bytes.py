"""Where dead bytes go, against a reader that has an old index: what it finds at the offsets it has."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import requests
from zarrant.codecs.byte_sources import OneChunk, Stored
from zarrant.codecs.chain import chain_of
from zarrant.codecs.protocols import ArraySpec, CodecOptions
from zarrant.codecs.sharding import dead_bytes
from zarrant.codecs.sharding.dead_bytes import Record, allowance, lay_out, read_record, record_size
from zarrant.codecs.sharding.format import Index
from zarrant.codecs.sharding.inspect import inspect
from zarrant.codecs.sharding.prepared import Shard
from zarrant.dtypes.fixed import from_numpy
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import box_region
from zarrant.metadata.v3 import Named
from zarrant.storage import Blob, ByteRange, Hole
from zarrant.stores.memory import MemoryStore

CODECS: dict[str, list[Any]] = {
    "raw": [{"name": "bytes", "configuration": {"endian": "little"}}],
    "zstd": [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 0, "checksum": True}},
    ],
}


class Object:
    """One stored object, and what an operation on it asks for."""

    def __init__(self, inner: list[Any], at: str, n: int, rows: int, **options: Any) -> None:
        from zarrant.codecs.chain import read_codec

        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        sharding = {"chunk_shape": [rows], "codecs": inner, "index_codecs": index, "index_location": at}
        data_type = from_numpy("uint32")
        self.shape = (n * rows,)
        self.spec = ArraySpec(self.shape, data_type, data_type.fill_from_python(0))
        chain = chain_of([read_codec(Named("sharding_indexed", sharding), "$")]).bind(self.spec)
        prepared = chain.prepare(self.spec, CodecOptions(**options))
        assert isinstance(prepared, Shard)
        self.shard = prepared
        self.data: bytes | None = None
        self.holes = 0
        self.requests = 0

    def perform(self, op: requests.Op[Any]) -> Any:
        reply: Any = None
        while True:
            try:
                request = op.send(reply)
            except StopIteration as stop:
                return stop.value
            if isinstance(request, requests.Fetch):
                self.requests += 1
                reply = [self.blob(want.ranges) for want in request.items]
            else:
                reply = [self.perform(each) for each in request.ops]

    def blob(self, ranges: Any) -> Blob | None:
        if self.data is None:
            return None
        views = [memoryview(self.data)[slice(*each.resolve(len(self.data)))] for each in ranges or (ByteRange(0),)]
        return Blob(tuple(views), 1, len(self.data))

    def selections(self, subset: ArraySubset) -> Any:
        return box_region(subset).split(ChunkGrid.regular(self.shape, self.shape), self.shape)

    def write(self, start: int, values: Any) -> None:
        selections = self.selections(ArraySubset((start,), values.shape))
        row = self.perform(self.shard.write(OneChunk(0, Stored("c")), selections, 0, 1, values)).only()
        self.holes = sum(part.length for part in row or () if isinstance(part, Hole))
        cut = [self.cut(part) for part in row or ()]
        self.data = None if row is None else b"".join(cut)

    def cut(self, part: Any) -> bytes:
        """A part of the new object; what is in a hole must not matter."""
        if isinstance(part, ByteRange):
            return (self.data or b"")[slice(*part.resolve(len(self.data or b"")))]
        return b"\xee" * part.length if isinstance(part, Hole) else bytes(part)

    def read(self) -> Any:
        out = np.empty(self.shape, "uint32")
        self.perform(self.shard.read(OneChunk(0, Stored("c")), self.selections(ArraySubset.full(self.shape)), 0, 1, out))
        return out

    def live(self) -> list[tuple[int, bytes]]:
        """What a reader that has the index now expects at its offsets."""
        if self.data is None:
            return []
        report = self.perform(inspect(self.shard, Stored("c")))
        rows = np.flatnonzero(report.index.present)
        spans = zip(report.index.offset[rows].tolist(), report.index.size[rows].tolist(), strict=True)
        return [(offset, self.data[offset : offset + size]) for offset, size in spans]


@pytest.mark.parametrize("inner", CODECS)
@pytest.mark.parametrize("at", ["start", "end"])
def test_a_reader_with_an_old_index_finds_what_it_leads_to(inner: str, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_bytes, "KEPT_BYTES", 3000)
    monkeypatch.setattr(dead_bytes, "MIN_HOLE_BYTES", 200)
    dice, n, rows = random.Random(f"{inner}{at}"), 12, 64
    stored, model = Object(CODECS[inner], at, n, rows), np.zeros(n * rows, "uint32")
    history: list[tuple[int, list[tuple[int, bytes]]]] = []
    clock, holes, longest = 0, 0, 0
    for _ in range(600):
        first = dice.randrange(n)
        count = dice.randrange(1, min(4, n - first) + 1)
        start, stop = first * rows, (first + count) * rows
        if dice.random() < 0.5:
            start += dice.randrange(rows)
        values = np.frombuffer(dice.randbytes(4 * (stop - start)), "uint32").copy()
        if dice.random() < 0.2:
            values[:] = 0
        before = dict(stored.live())
        stored.write(start, values)
        model[start:stop] = values
        assert (stored.data is None) == (not model.any())
        if stored.data is None:
            history.clear()
            continue
        after = stored.live()
        clock += sum(len(data) for offset, data in before.items() if (offset, data) not in after)
        history.append((clock, after))
        assert np.array_equal(stored.read(), model)
        longest, holes = max(longest, len(stored.data)), holes + stored.holes
        history = [each for k, each in enumerate(history) if each[0] > clock - 3000 or k >= len(history) - 5]
        for _, then in history[:-1]:
            assert all(stored.data[offset : offset + len(data)] == data for offset, data in then)
    assert holes > 0
    assert len(history) > 3
    assert longest < 3 * (n * rows * 4 + 3000) + 4096


def test_small_shards_are_looked_after_without_a_read_more() -> None:
    stored = Object(CODECS["raw"], "end", 4, 64)
    stored.write(0, np.arange(1, 257, dtype="uint32"))
    for k in range(8):
        stored.requests = 0
        stored.write(0, np.full(64, k + 1, "uint32"))
        assert stored.requests == 1
    assert len(stored.data or b"") == 12 * 256 + 68


def test_how_much_is_kept() -> None:
    assert allowance(1 << 30, 0.5) == 1 << 29
    assert allowance(1 << 30, 0.75) == 3 << 28
    assert allowance(1000, 0.5) == allowance(1 << 30, 0.0) == dead_bytes.KEPT_BYTES
    assert allowance(1000, 1.0) is None


def test_records_that_do_not_fit_are_none() -> None:
    index = Index(np.array([0, 30, -1]), np.array([10, 10, -1]))
    good = Record(100, np.array([[10, 20, 5], [22, 30, 100]]))
    data = good.encode()
    assert record_size(data[-dead_bytes.TAIL_BYTES :]) == len(data)
    found = read_record(data, index, 0, 40)
    assert found is not None
    assert found.clock == 100
    assert np.array_equal(found.runs, good.runs)
    for runs in (
        [[5, 12, 0]],
        [[35, 45, 0]],
        [[12, 12, 0]],
        [[14, 12, 0]],
        [[12, 20, 0], [18, 22, 0]],
        [[12, 20, 101]],
        [[-5, 0, 0]],
    ):
        assert read_record(Record(100, np.array(runs)).encode(), index, 0, 40) is None
    assert read_record(Record(0, np.array([[1, 9, 0]])).encode(), Index.empty(3), 4, 40) is None
    for at in range(len(data) - dead_bytes.TAIL_BYTES):
        assert read_record(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], index, 0, 40) is None
    assert record_size(b"\0" * dead_bytes.TAIL_BYTES) == 0


def test_where_there_is_no_record_all_that_is_dead_has_just_died() -> None:
    index = Index(np.array([0, 500]), np.array([100, 100]))
    layout = lay_out(index, np.array([0]), None, (0, 600), 100, 1000)
    assert layout is not None
    assert (layout.at, layout.end, len(layout.holes)) == (600, 600, 0)
    record = read_record(layout.record, Index(np.array([600, 500]), np.array([100, 100])), 0, 700)
    assert record is not None
    assert record.runs.tolist() == [[100, 500, 0], [0, 100, 100]]
    assert record.clock == 100
    later = Record(1200, record.runs)  # as after four updates
    again = lay_out(Index(np.array([600, 500]), np.array([100, 100])), np.array([1]), later, (0, 700), 100, 1000)
    assert again is not None
    assert (again.at, again.end) == (0, 700)


def test_what_is_free_at_the_end_is_cut_off() -> None:
    index = Index(np.array([0, 100]), np.array([100, 100]))
    layout = lay_out(index, np.array([], np.int64), Record(0, np.empty((0, 3), np.int64)), (0, 900), 0, 1000)
    assert layout is not None
    assert (layout.at, layout.end) == (200, 200)


def test_large_updates_outlive_each_other() -> None:
    index = Index(np.array([0]), np.array([10_000]))
    record, end = None, 10_000
    for k in range(4):
        layout = lay_out(index, np.array([0]), record, (0, end), 10_000, 1000)
        assert layout is not None
        assert layout.at == end
        index, end = Index(np.array([end]), np.array([10_000])), end + 10_000
        record = read_record(layout.record, index, 0, end)
        assert record is not None
        assert record.clock == 250 * (k + 1)
    layout = lay_out(index, np.array([0]), record, (0, end), 10_000, 1000)
    assert layout is not None
    assert layout.at == 0


def test_an_update_reads_the_index_and_the_record() -> None:
    class Counting(MemoryStore):
        reads = 0

        def get_ranges(self, *args: Any, **options: Any) -> Any:
            self.reads += 1
            return super().get_ranges(*args, **options)

    store = Counting()
    array = zarrant.create_array(store, shape=(1024, 1024), dtype="uint16", chunks=(64, 64), shards=(1024, 1024), compressors=None)
    array[...] = 1
    for number in range(150):
        row, column = 64 * (number % 16), 128 * (number // 16 % 8)
        array[row : row + 64, column : column + 64] = number + 2
    store.reads = 0
    array[:64, :64] = 1
    assert store.reads == 2
