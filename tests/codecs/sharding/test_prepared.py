from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Bytes, Crc32c, Gzip, ShardingIndexed, Transpose, Zstd
from zarrant.codecs.chain import chain_of
from zarrant.errors import ChunkError
from zarrant.geometry.box import ArraySubset
from zarrant.stores.wrappers import Recording

INDEX = chain_of([Bytes(), Crc32c()])
MISSING = 2**64 - 1


def sharding(*shape: int, inner: Any = None, at: str = "end", index: Any = INDEX) -> ShardingIndexed:
    return ShardingIndexed(shape, chain_of([Bytes()] if inner is None else inner), index, at)


def plain_index(data: bytes, n: int) -> list[list[int]]:
    return np.frombuffer(data, "<u8").reshape(n, 2).tolist()


PLAIN = chain_of([Bytes()])
A = ArraySubset


@pytest.mark.parametrize("at", ["start", "end"])
def test_golden_bytes(at: str, codec: Any) -> None:
    c = codec([sharding(2, at=at, index=PLAIN)], (6,), "uint8")
    data = c.encode(np.array([1, 2, 0, 0, 5, 6], "uint8"))
    first = 48 if at == "start" else 0
    index = np.array([[first, 2], [MISSING, MISSING], [first + 2, 2]], "<u8").tobytes()
    assert data == (index + b"\1\2\5\6" if at == "start" else b"\1\2\5\6" + index)
    assert c.decode(data).tolist() == [1, 2, 0, 0, 5, 6]


@pytest.mark.parametrize("at", ["start", "end"])
def test_updates_append_and_leave_the_others_where_they_are(at: str, codec: Any) -> None:
    c = codec([sharding(2, at=at, index=PLAIN)], (6,), "uint8", dead_limit=1.0)
    old = c.encode(np.array([1, 2, 3, 4, 5, 6], "uint8"))
    new = c.encode(np.array([9, 9], "uint8"), old, A((2,), (2,)))
    first = 48 if at == "start" else 0
    index = new[:48] if at == "start" else new[-48:]
    assert plain_index(index, 3) == [[first, 2], [first + 6, 2], [first + 4, 2]]
    assert new[first : first + 8] == b"\1\2\3\4\5\6\x09\x09"
    assert len(new) == len(old) + 2


def test_repacking(codec: Any) -> None:
    for options in ({"shard_updates": "repack"}, {"dead_limit": 0.0}):
        c = codec([sharding(2, index=PLAIN)], (6,), "uint8", **options)
        old = c.encode(np.array([1, 2, 3, 4, 5, 6], "uint8"))
        new = c.encode(np.array([9, 9], "uint8"), old, A((0,), (2,)))
        assert new[:6] == b"\3\4\5\6\x09\x09"
        assert len(new) == len(old)


def test_subchunks_of_fill_are_missing_and_shards_of_fill_absent(codec: Any) -> None:
    c = codec([sharding(2, index=PLAIN)], (4,), "uint8", fill=7)
    data = c.encode(np.array([1, 1, 7, 7], "uint8"))
    assert plain_index(data[-32:], 2)[1] == [MISSING, MISSING]
    assert c.encode(np.array([7, 7], "uint8"), data, A((0,), (2,))) is None
    keep = codec([sharding(2, index=PLAIN)], (4,), "uint8", fill=7, write_empty_chunks=True)
    assert plain_index(keep.encode(np.array([7, 7, 7, 7], "uint8"))[-32:], 2) == [[0, 2], [2, 2]]


@pytest.mark.parametrize("order", ["C", "unordered", "morton"])
def test_orders_of_subchunks_change_places_only(order: str, codec: Any) -> None:
    data = np.arange(64, dtype="uint8").reshape(8, 8) + 1
    c = codec([sharding(2, 2, index=PLAIN)], (8, 8), "uint8", subchunk_order=order)
    encoded = c.encode(data)
    assert np.array_equal(c.decode(encoded), data)
    offsets = np.array(plain_index(encoded[-256:], 16))[:, 0] // 4
    expected = [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15] if order == "morton" else list(range(16))
    assert np.argsort(offsets).tolist() == expected


@pytest.mark.parametrize(
    "codecs",
    [
        [sharding(4, 4, inner=[sharding(2, 2, inner=[Bytes(), Zstd()])])],
        [sharding(4, 4, at="start", inner=[sharding(2, 1, inner=[Bytes("big"), Crc32c()], at="start")])],
        [Transpose((1, 0)), sharding(4, 2, inner=[Transpose((1, 0)), Bytes()]), Gzip(1), Crc32c()],
        [sharding(8, 8, inner=[sharding(4, 4, inner=[sharding(2, 2, inner=[sharding(1, 1)])])])],
    ],
    ids=str,
)
def test_random_updates(codecs: list[Any], codec: Any) -> None:
    c = codec(codecs, (8, 8), dead_limit=0.7)
    dice = np.random.default_rng(5)
    model = np.zeros((8, 8), "int32")
    stored = None
    for _ in range(30):
        (a, b), (x, y) = np.sort(dice.integers(0, 9, 2)), np.sort(dice.integers(0, 9, 2))
        if a == b or x == y:
            continue
        subset = A((int(a), int(x)), (int(b - a), int(y - x)))
        values = dice.integers(0, 3, subset.shape, "int32") * int(dice.integers(0, 2))
        stored = c.encode(values, stored, subset)
        model[subset.slices] = values
        assert (stored is None) == (not model.any())
        if stored is not None:
            assert np.array_equal(c.decode(stored), model)


def test_damage_is_kept_to_its_subchunk(codec: Any) -> None:
    c = codec([sharding(2, inner=[Bytes(), Crc32c()])], (6,), "uint8")
    data = bytearray(c.encode(np.array([1, 2, 3, 4, 5, 6], "uint8")))
    data[7] ^= 255
    assert c.decode(bytes(data), A((0,), (2,))).tolist() == [1, 2]
    with pytest.raises(ChunkError) as caught:
        c.decode(bytes(data), A((2,), (2,)))
    assert caught.value.codec == "crc32c"
    assert c.decode(c.encode(np.array([9, 9], "uint8"), bytes(data), A((2,), (2,)))).tolist() == [1, 2, 9, 9, 5, 6]


@pytest.mark.parametrize("at", ["start", "end"])
def test_damaged_indexes(at: str, codec: Any) -> None:
    c = codec([sharding(2, at=at)], (6,), "uint8")
    good = c.encode(np.array([1, 2, 3, 4, 5, 6], "uint8"))
    for bad in (b"", good[:20], b"\0" * len(good), b"\xff" * len(good), good[1:] if at == "start" else good[:-1]):
        with pytest.raises(ChunkError, match="index"):
            c.decode(bad)
        with pytest.raises(ChunkError):
            c.encode(np.array([1], "uint8"), bad, A((0,), (1,)))
        assert c.encode(np.ones(6, "uint8"), bad) is not None


def test_partial_access_needs_the_stored_bytes(codec: Any) -> None:
    assert codec([sharding(2)], (4,)).prepared.partial == (True, True)
    assert codec([sharding(2), Gzip()], (4,)).prepared.partial == (False, False)


@pytest.mark.parametrize(
    ("shards", "side", "expected"), [(1, 128, 4), (2, 128, 2), (8, 128, 1), (1, 64, 1), (1, 256, 4), (64, 256, 4), (1, 512, 32)]
)
def test_a_shard_is_cut_where_there_are_few_of_them(shards: int, side: int, expected: int, codec: Any) -> None:
    """So that several threads share a call; more than 8 MiB are never one mini-batch."""
    shard = codec([sharding(32, 32, 32)], (side,) * 3, "uint16").prepared
    ranges = list(shard.batches((side // 32) ** 3, shards))
    assert len(ranges) == expected
    assert [row for lo, hi in ranges for row in range(lo, hi)] == list(range((side // 32) ** 3))
    assert 2 * (ranges[0][1] * 32**3 * 2) <= shard.batch_cost(shards) <= 2 * (8 << 20)


@pytest.mark.parametrize(("n", "shards", "expected"), [(8, 1, [8]), (27, 1, [14, 13]), (27, 2, [27]), (60, 1, [15] * 4)])
def test_a_part_of_one_shard_is_cut_for_several_threads(n: int, shards: int, expected: list[int], codec: Any) -> None:
    shard = codec([sharding(32, 32, 32)], (256,) * 3, "uint16").prepared
    assert [hi - lo for lo, hi in shard.batches(n, shards)] == expected


def test_an_update_of_some_subchunks_is_cut_for_several_threads(codec: Any) -> None:
    """Those of a box that straddles them: 8 of 64 KiB are decoded and encoded as two batches, and stored as one object."""
    store = Recording(zarrant.MemoryStore())
    array = zarrant.create_array(store, shape=(128,) * 3, chunks=(32,) * 3, shards=(128,) * 3, dtype="uint16")
    array[...] = values = np.arange(128**3, dtype="uint16").reshape((128,) * 3)
    store.calls.clear()
    array[5:37, 7:39, 11:43] = values[5:37, 7:39, 11:43] = 3
    reads = [len(call.ranges or ()) for call in store.calls if call.method == "get_ranges" and call.key != "zarr.json"]
    assert len(reads) == 3, "the index, and the subchunks of each batch"
    assert np.array_equal(array[...], values)


def test_shards_that_are_read_together_are_not_cut() -> None:
    """As many as threads need are there; the last part of a call knows that it is not alone."""
    store = Recording(zarrant.MemoryStore())
    array = zarrant.create_array(
        store, shape=(256, 256, 64), chunks=(32, 32, 32), shards=(128, 128, 64), dtype="uint16", fill_value=0, compressors=None
    )
    array[...] = values = np.arange(256 * 256 * 64, dtype="uint16").reshape(256, 256, 64)
    before = len(store.calls)
    assert np.array_equal(array[...], values)
    asked = [call.key for call in store.calls[before:] if call.method == "get_ranges"]
    assert len(asked) == 2 * 4, "the index of each shard, and its subchunks"
