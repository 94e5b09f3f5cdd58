"""Boxes of several subchunks are read, and new shards written, with one plan: the same as the general way, errors too."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant.codecs.sharding.prepared import Shard
from zarrant.errors import ChunkError, ZarrantError
from zarrant.requests import Op
from zarrant.stores.wrappers import Recording

SHAPE = (11, 14)
KINDS: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": zarrant.codecs.Zstd()},
    "raw": {"compressors": None},
    "checksum": {"compressors": zarrant.codecs.Crc32c(), "fill_value": 7},
    "big-endian": {"dtype": ">f8", "serializer": zarrant.codecs.Bytes("big"), "fill_value": np.nan},
    "structured": {"dtype": [("a", "u1"), ("b", "<i4")], "fill_value": (1, 2)},
    "transposed": {"order": "F"},
    "one shard": {"shards": (12, 15), "chunks": (4, 5)},
}


def made(kind: str) -> Any:
    """An array of which some shards, and some subchunks, are not stored."""
    options = {"shape": SHAPE, "dtype": "int16", "chunks": (2, 5), "shards": (4, 10), **KINDS[kind]}
    array = zarrant.create_array({}, **options)
    numbers = np.arange(1, 1 + SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    values: Any = numbers.astype(array.dtype) if array.dtype.names is None else np.zeros(SHAPE, array.dtype)
    for name in array.dtype.names or ():
        values[name] = numbers % 100
    array[:9, :10] = values[:9, :10]
    array[1:4, 12:13] = values[1:4, 12:13]
    array[0:2, 5:10] = array.fill_value  # among stored ones
    return array


ARRAYS = {kind: made(kind) for kind in KINDS}


def never(*args: Any) -> Op[bool]:
    return False
    yield


def outcome(read: Any) -> Any:
    try:
        return read().tobytes()
    except ZarrantError as error:
        return str(error)


@given(st.sampled_from(sorted(KINDS)), st.data())
def test_equals_the_general_way(kind: str, data: Any) -> None:
    array = ARRAYS[kind]
    box = tuple(slice(a, b + 1) for a, b in (sorted(data.draw(st.tuples(*[st.integers(0, n - 1)] * 2))) for n in SHAPE))
    found = array[box]
    with mock.patch.object(Shard, "_read_planned", never):
        assert found.tobytes() == array[box].tobytes()


@given(st.sampled_from(sorted(KINDS)), st.booleans(), st.integers(0, 3), st.sampled_from([1, -1, 2]), st.data())
def test_new_shards_are_those_of_the_general_way(kind: str, empty: bool, missing: int, step: int, data: Any) -> None:
    shape = tuple(data.draw(st.integers(1, n)) for n in SHAPE)
    options: Any = {"shape": shape, "dtype": "int16", "chunks": (2, 5), "shards": (4, 10), **KINDS[kind]}
    stored = []
    for way in (Shard._planned, lambda *args: None):
        with mock.patch.object(Shard, "_planned", way):
            array = zarrant.create_array(zarrant.MemoryStore(), config={"write_empty_chunks": empty}, **options)
            octets = np.random.default_rng(missing).integers(0, 5, 2 * int(np.prod(shape)) * array.dtype.itemsize, "uint8")
            values = octets.view(array.dtype).reshape(2 * shape[0], shape[1])[::step][: shape[0]]
            values[: 2 * missing] = array.fill_value
            array[...] = values
            stored.append({key: bytes(array.store.get(key).data[0]) for key in array.store.list_prefix("")})
            assert array[...].tobytes() == values.tobytes()
    assert stored[0] == stored[1]


def test_new_shards_are_planned() -> None:
    array = zarrant.create_array({}, shape=SHAPE, dtype="int16", chunks=(2, 5), shards=(4, 10), compressors=zarrant.codecs.Zstd())
    with mock.patch.object(Shard, "split_box", side_effect=AssertionError):
        array[:8, :10] = 1


def damage(file: Path, entry: int, table: tuple[int, int] | None) -> None:
    """Damage one subchunk, or its entry of the index."""
    data = bytearray(file.read_bytes())
    entries = np.frombuffer(data[-68:-4], "<u8").reshape(4, 2).copy()
    if table is None:
        at = int(entries[entry, 0])
        data[at : at + 4] = b"\xff" * 4
    else:
        entries[entry] = table
        data[-68:-4] = entries.tobytes()
        data[-4:] = struct.pack("<I", zarrant.kernels.crc32c(entries.tobytes()))
    file.write_bytes(data)


@pytest.mark.parametrize("table", [None, (5, 2**64 - 1), (0, 2**40), (2**63, 1)], ids=str)
def test_damage_is_told_as_by_the_general_way(table: Any, tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path, shape=(8,), chunks=(2,), shards=(8,), dtype="i4", compressors=zarrant.codecs.Zstd())
    array[...] = np.arange(1, 9)
    damage(tmp_path / "c/0", 2, table)
    boxes = (slice(0, 4), slice(1, 7), slice(4, 6), slice(0, 8))
    found = [outcome(lambda box=box: array[box]) for box in boxes]
    with mock.patch.object(Shard, "_read_planned", never):
        assert found == [outcome(lambda box=box: array[box]) for box in boxes]
    assert found[0] == np.arange(1, 5, dtype="i4").tobytes()
    assert "subchunk 2" in found[1]


def test_what_is_too_large_is_not_read() -> None:
    """An entry that asks for far more bytes than the codecs can have made."""
    size = 1 << 20
    store = Recording(zarrant.MemoryStore())
    array = zarrant.create_array(store, shape=(8,), chunks=(2,), shards=(8,), dtype="u1", compressors=None)
    array[...] = np.arange(1, 9)
    data = bytes(store.get("c/0").data[0])
    entries = np.frombuffer(data[-68:-4], "<u8").reshape(4, 2).copy()
    entries[2] = len(data), size
    index = entries.tobytes()
    store.put("c/0", [data + bytes(size) + index + struct.pack("<I", zarrant.kernels.crc32c(index))])
    store.calls.clear()
    with pytest.raises(ChunkError, match="subchunk 2"):
        array[...]
    asked = [each.length or 0 for call in store.calls for each in call.ranges or ()]
    assert asked and max(asked) < size
