from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from zarrant.codecs.byte_sources import InMemory, OneChunk, Stored, StoredChunks, Window, coalesced, read_whole
from zarrant.codecs.sharding.format import Index
from zarrant.codecs.sharding.subchunks import SubchunksOfShard
from zarrant.errors import ByteRangeError, ChunkMissingError, StoreError
from zarrant.requests import Fetch, Op, ReadRequest
from zarrant.storage import Blob, ByteRange


def answer(op: Op[Any], *replies: Any) -> tuple[Any, list[ReadRequest]]:
    """The result of an operation, given the replies to its fetches, and what it asked for."""
    wants: list[ReadRequest] = []
    left, reply = list(replies), None
    while True:
        try:
            request = op.send(reply)
        except StopIteration as stop:
            assert not left
            return stop.value, wants
        assert isinstance(request, Fetch)
        wants.extend(request.items)
        reply = left.pop(0)


def blob(*parts: bytes, version: Any = 1, size: int = 99) -> Blob:
    return Blob(tuple(map(memoryview, parts)), version, size)


def test_stored_objects_are_read_in_one_version() -> None:
    source = Stored("k")
    assert not source.seen
    data, wants = answer(source.read([ByteRange(0, 2), ByteRange(-1)]), [blob(b"ab", b"z", version=7, size=26)])
    assert [bytes(part) for part in data] == [b"ab", b"z"]
    assert wants == [ReadRequest("k", (ByteRange(0, 2), ByteRange(-1)), None)]
    assert (source.version, source.size, source.seen) == (7, 26, True)
    _, wants = answer(source.read([ByteRange(3, 1)]), [blob(b"d", version=7)])
    assert wants[0].if_version == 7
    assert source.part(3, 4) == ByteRange(3, 4)


def test_absent_objects() -> None:
    assert answer(Stored("k").read([ByteRange(0, 1)]), [None])[0] is None
    with pytest.raises(ChunkMissingError) as caught:
        answer(Stored("k", required=True).read_all(), [None])
    assert caught.value.key == "k"
    with pytest.raises(StoreError):
        answer(Stored("k").read_all(), [StoreError("broken")])


def test_bytes_in_memory_and_windows() -> None:
    source = InMemory(np.arange(10, dtype="uint8"))
    assert [bytes(part) for part in answer(source.read([ByteRange(2, 3), ByteRange.suffix(2)]))[0]] == [b"\2\3\4", b"\x08\x09"]
    assert bytes(source.part(4, 2)) == b"\4\5"
    window = Window(source, 2, 5)
    assert [bytes(part) for part in answer(window.read([ByteRange(0, 2), ByteRange.suffix(1), ByteRange(5)]))[0]] == [
        b"\2\3",
        b"\6",
        b"",
    ]
    assert bytes(window.part(1, 2)) == b"\3\4"
    assert bytes(answer(read_whole(window))[0]) == b"\2\3\4\5\6"
    assert Window(Stored("k"), 10, 5).part(1, 2) == ByteRange(11, 2)
    for wrong in (ByteRange(4, 2), ByteRange(-6), ByteRange(6)):
        with pytest.raises(ByteRangeError):
            answer(window.read([wrong]))
    with pytest.raises(ByteRangeError):
        answer(source.read([ByteRange(0, 11)]))


def test_whole_objects_come_in_one_request() -> None:
    spans = StoredChunks(["a", "b", "c", "d"], first=10)
    wanted = np.array([True, False, True, True])
    fetched, wants = answer(spans.fetch(10, 14, wanted), [blob(b"aaa"), None, blob(b"d")])
    assert [want.key for want in wants] == ["a", "c", "d"]
    assert (fetched.rows.tolist(), fetched.size.tolist(), fetched.offset.tolist()) == ([0, 3], [3, 1], [0, 0])
    assert [bytes(fetched.buffers[i]) for i in fetched.buffer_index] == [b"aaa", b"d"]
    assert spans.source(12).key == "c"
    with pytest.raises(StoreError):
        answer(spans.fetch(10, 12, np.ones(2, bool)), [blob(b"a"), StoreError("b is broken")])


def test_one_source_as_spans() -> None:
    spans = OneChunk(3, InMemory(b"abc"))
    fetched, _ = answer(spans.fetch(3, 4, np.array([True])))
    assert bytes(fetched.buffers[0]) == b"abc"
    assert answer(OneChunk(0, Stored("k")).fetch(0, 1, np.array([True])), [None])[0].rows.size == 0


def test_subchunks_are_fetched_in_runs() -> None:
    index = Index(np.array([0, 3, -1, 10]), np.array([3, 3, -1, 2]))
    spans = SubchunksOfShard(Stored("k"), index, np.array([3, 0, 2, 1]))
    fetched, wants = answer(spans.fetch(0, 4, np.ones(4, bool)), [blob(b"aaabbb", b"dd")])
    assert wants[0].ranges == (ByteRange(0, 6), ByteRange(10, 2))
    got = {
        int(row): bytes(fetched.buffers[buffer_index][offset : offset + size])
        for row, buffer_index, offset, size in zip(fetched.rows, fetched.buffer_index, fetched.offset, fetched.size, strict=True)
    }
    assert got == {0: b"dd", 1: b"aaa", 3: b"bbb"}
    assert spans.source(2) is None
    assert isinstance(spans.source(0), Window)
    nothing, wants = answer(spans.fetch(2, 3, np.ones(1, bool)))
    assert nothing.rows.size == 0
    assert wants == []


def test_near_ranges_are_read_as_one() -> None:
    dice, data = np.random.default_rng(5), bytes(range(256)) * 4
    for _ in range(200):
        ranges = [ByteRange(int(start), int(length)) for start, length in dice.integers(0, [900, 100], (dice.integers(1, 9), 2))]
        gap = int(dice.integers(0, 60))
        merged, places = coalesced(ranges, gap)
        parts = [data[start : start + (length or 0)] for start, length in merged]
        assert [parts[i][at : at + n] for i, at, n in places] == [data[start : start + (n or 0)] for start, n in ranges]
        assert all(b.start - a.start - (a.length or 0) > gap for a, b in pairwise(merged))
