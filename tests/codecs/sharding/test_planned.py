"""Boxes of several subchunks are read, and new shards written, with one plan: the same as the general way, errors too."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant import kernels
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


def made(kind: str, place: Any = None) -> Any:
    """An array of which some shards, and some subchunks, are not stored."""
    options = {"shape": SHAPE, "dtype": "int16", "chunks": (2, 5), "shards": (4, 10), **KINDS[kind]}
    array = zarrant.create_array({} if place is None else place, **options)
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


# ── files that are decoded as they are read ─────────────────────────────────────────────────────────────────────────

compiled = pytest.mark.skipif(
    kernels.read_files is None or kernels.active()["decode_boxes"] != "native",
    reason="without the compiled call there is one way only",
)


def age(folder: Path) -> None:
    """Give files times from which their indexes are kept: not those of just now."""
    for number, file in enumerate(sorted(each for each in folder.rglob("*") if each.is_file())):
        os.utime(file, ns=(0, 10**18 + file.stat().st_mtime_ns % 10**15 + number))


@pytest.fixture(scope="module")
def on_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("shards") / "a"
        made(kind, folder)
        age(folder)
        found[kind] = zarrant.open_array(folder, mode="r")
        assert found[kind][...].tobytes() == ARRAYS[kind][...].tobytes()  # and the indexes are kept
    return found


@compiled
@given(st.sampled_from(sorted(KINDS)), st.data())
def test_as_it_is_read_equals_the_general_way(on_files: dict[str, Any], kind: str, data: Any) -> None:
    box = tuple(slice(a, b + 1) for a, b in (sorted(data.draw(st.tuples(*[st.integers(0, n - 1)] * 2))) for n in SHAPE))
    with mock.patch("zarrant.ops.read.SMALL_BYTES", 0):
        assert on_files[kind][box].tobytes() == ARRAYS[kind][box].tobytes()


@compiled
@given(st.sampled_from(sorted(KINDS)), st.sampled_from([1.25, 1e9]), st.data())
def test_together_as_they_are_read_equals_the_general_way(on_files: dict[str, Any], kind: str, twice: float, data: Any) -> None:
    """Whether or not subchunks are decoded more than once."""
    shape = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 6)))
    corners = data.draw(
        st.lists(st.tuples(*[st.integers(0, n - m) for n, m in zip(SHAPE, shape, strict=True)]), min_size=1, max_size=5)
    )
    boxes = [tuple(slice(a, a + n) for a, n in zip(corner, shape, strict=True)) for corner in corners]
    with mock.patch("zarrant.ops.read.MAX_TWICE", twice):
        found = on_files[kind].retrieve_array_subsets(boxes)
    assert [part.tobytes() for part in found] == [ARRAYS[kind][box].tobytes() for box in boxes]


@compiled
def test_together_it_is_used_where_few_subchunks_are_decoded_twice(tmp_path: Path) -> None:
    values = np.arange(400, dtype="i4").reshape(20, 20)
    zarrant.create_array(tmp_path, data=values, chunks=(4, 4), shards=(8, 8), compressors=zarrant.codecs.Zstd())
    age(tmp_path)
    array = zarrant.open_array(tmp_path, mode="r", config={"missing_chunks": "error"})
    read, asked = Shard.read_decoded, []

    def noted(shard: Shard, sources: Any, boxes: Any, out: Any) -> Op[list[bool]]:
        asked.append(len(boxes))
        return (yield from read(shard, sources, boxes, out))

    apart = [np.s_[1:7, 2:9], np.s_[9:15, 10:17]]
    more = [*apart, np.s_[12:18, 1:8]]
    with mock.patch.object(Shard, "read_decoded", noted):
        for boxes in (apart, apart, [*apart, np.s_[2:8, 2:9]], more, more):
            found = array.retrieve_array_subsets(boxes)
            assert all(np.array_equal(part, values[box]) for part, box in zip(found, boxes, strict=True))
        assert asked == [4, 6]  # not before the indexes are known, and not where two crops are nearly the same
        os.unlink(tmp_path / "c/1/1")
        for _ in range(2):
            with pytest.raises(ZarrantError):
                array.retrieve_array_subsets(apart)


@compiled
def test_it_is_used_where_indexes_are_known(on_files: dict[str, Any]) -> None:
    read, found = Shard.read_decoded, []

    def noted(shard: Shard, sources: Any, boxes: Any, out: Any) -> Op[list[bool]]:
        done = yield from read(shard, sources, boxes, out)
        found.append(done)
        return done

    with mock.patch.object(Shard, "read_decoded", noted):
        for kind in KINDS:
            on_files[kind][:6]
        assert not found  # what is small is decoded at once without other threads
        with mock.patch("zarrant.ops.read.SMALL_BYTES", 0):
            for kind in ("zstd", "checksum", "big-endian", "structured", "one shard"):
                on_files[kind][:6, :14]
    assert [all(done) for done in found] == [True] * 5
    assert [len(done) for done in found] == [3, 3, 3, 3, 1]  # those that are stored


@compiled
@pytest.mark.parametrize("table", [None, (5, 2**64 - 1), (0, 2**40), (2**63, 1)], ids=str)
def test_damage_is_told_as_ever(table: Any, tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path, shape=(8,), chunks=(2,), shards=(8,), dtype="i4", compressors=zarrant.codecs.Zstd())
    array[...] = np.arange(1, 9)
    damage(tmp_path / "c/0", 2, table)
    age(tmp_path)
    boxes = (slice(0, 4), slice(1, 7), slice(4, 6), slice(0, 8))
    array = zarrant.open_array(tmp_path)
    with mock.patch("zarrant.ops.read.SMALL_BYTES", 0):
        found = [[outcome(lambda box=box: array[box]) for box in boxes] for _ in range(2)]
    with mock.patch.object(Shard, "is_read_decoded", lambda shard, boxes: False):
        assert found == [[outcome(lambda box=box: array[box]) for box in boxes]] * 2
    assert found[0][0] == np.arange(1, 5, dtype="i4").tobytes()


@compiled
def test_what_is_too_large_is_not_decoded(tmp_path: Path) -> None:
    """A frame that decodes, but has more bytes than the codec makes of so many: zstd skips what stands in a frame for that."""
    array = zarrant.create_array(tmp_path, shape=(8,), chunks=(2,), shards=(8,), dtype="i4", compressors=zarrant.codecs.Zstd())
    array[...] = np.arange(1, 9)
    data = (tmp_path / "c/0").read_bytes()
    entries = np.frombuffer(data[-68:-4], "<u8").reshape(4, 2).copy()
    start, size = entries[2].tolist()
    more = data[start : start + size] + struct.pack("<II", 0x184D2A50, 1 << 20) + bytes(1 << 20)
    entries[2] = len(data), len(more)
    index = entries.tobytes()
    (tmp_path / "c/0").write_bytes(data + more + index + struct.pack("<I", kernels.crc32c(index)))
    age(tmp_path)
    array = zarrant.open_array(tmp_path)
    with mock.patch("zarrant.ops.read.SMALL_BYTES", 0):
        assert array[:4].tolist() == [1, 2, 3, 4]
        for _ in range(2):
            with pytest.raises(ChunkError, match="subchunk 2"):
                array[2:8]


@compiled
def test_a_shard_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    """By one with the same subchunks, each of the same size, in other places."""
    values = np.arange(4096, dtype="i4").reshape(64, 64)
    options: dict[str, Any] = {"chunks": (8, 8), "shards": (64, 64), "compressors": zarrant.codecs.Crc32c()}
    zarrant.create_array(tmp_path, data=values, **options)
    age(tmp_path)
    array = zarrant.open_array(tmp_path)
    with mock.patch("zarrant.ops.read.SMALL_BYTES", 0):
        for order in ("C", "morton", "C"):
            zarrant.open_array(tmp_path, config={"subchunk_order": order})[...] = values
            age(tmp_path)
            for _ in range(3):
                assert np.array_equal(array[5:40, 3:50], values[5:40, 3:50])
