"""A handle that does not know of an append changes only the elements it names, whatever the operation, layout and store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import ChunkError
from zarrant.metadata.v3 import dump
from zarrant.stores.local.store import FilesystemStore

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def sharding(shape: int, codecs: list[dict[str, Any]], location: str = "end") -> dict[str, Any]:
    return {"name": "sharding_indexed", "configuration": {"chunk_shape": [shape], "index_location": location, "codecs": codecs}}


LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (8,)},
    "raw chunks": {"chunks": (8,), "compressors": None},
    "shards": {"chunks": (4,), "shards": (8,)},
    "shards, index first, raw": {"chunks": (8,), "compressors": None, "serializer": sharding(4, [LITTLE], "start")},
    "nested": {"chunks": (8,), "compressors": None, "serializer": sharding(8, [sharding(4, [LITTLE, {"name": "crc32c"}])])},
}


def locked(a: Any) -> None:
    with a.lock(np.s_[9:10]) as inside:
        inside[9:10] = 2


def encoded(a: Any) -> None:
    with a.partial_encoder((1,)) as encoder:
        encoder.store(np.s_[1:2], 2)


def encoder_erased(a: Any) -> None:
    with a.partial_encoder((1,)) as encoder:
        encoder.erase()


def encoder_erased_and_stored(a: Any) -> None:
    with a.partial_encoder((1,)) as encoder:
        encoder.store(np.s_[0:1], 7)
        encoder.erase()
        encoder.store(np.s_[1:2], 2)


# What is done to a handle that knows ten elements, and what elements 8 and 9 are then (they were 1).
OPERATIONS: dict[str, tuple[Callable[[Any], Any], list[int]]] = {
    "setitem": (lambda a: a.__setitem__(slice(8, 10), 2), [2, 2]),
    "setitem of the last": (lambda a: a.__setitem__(9, 2), [1, 2]),
    "setitem of all": (lambda a: a.__setitem__(..., 2), [2, 2]),
    "setitem of fill": (lambda a: a.__setitem__(slice(8, 10), 0), [0, 0]),
    "strided": (lambda a: a.__setitem__(slice(1, 10, 2), 2), [1, 2]),
    "backwards": (lambda a: a.__setitem__(slice(None, None, -1), np.full(10, 2, "i4")), [2, 2]),
    "masked": (lambda a: a.__setitem__(np.arange(10) > 7, 2), [2, 2]),
    "vindex": (lambda a: a.vindex.__setitem__([9, 8], [2, 2]), [2, 2]),
    "oindex": (lambda a: a.oindex.__setitem__([9], [2]), [1, 2]),
    "blocks": (lambda a: a.blocks.__setitem__(1, 2) if hasattr(a, "blocks") else a.store_chunk((1,), 2), [2, 2]),
    "array subset": (lambda a: a.store_array_subset(np.s_[8:10], 2), [2, 2]),
    "array subsets": (lambda a: a.store_array_subsets([(np.s_[8:9], 2), (np.s_[9:10], 2)]), [2, 2]),
    "chunk subset": (lambda a: a.store_chunk_subset((1,), np.s_[0:2], 2), [2, 2]),
    "chunk": (lambda a: a.store_chunk((1,), 2), [2, 2]),
    "chunk, in bounds": (lambda a: a.store_chunk((1,), np.array([2, 3], "i4")), [2, 3]),
    "chunks": (lambda a: a.store_chunks(np.s_[0:2], np.full(10, 2, "i4")), [2, 2]),
    "update": (lambda a: a.update(np.s_[8:10], lambda part: part + 1), [2, 2]),
    "lock": (locked, [1, 2]),
    "encoder": (encoded, [1, 2]),
    "encoder, erased": (encoder_erased, [0, 0]),
    "encoder, erased and stored": (encoder_erased_and_stored, [0, 2]),
    "erase chunk": (lambda a: a.erase_chunk((1,)), [0, 0]),
    "erase chunks": (lambda a: a.erase_chunks(np.s_[0:2]), [0, 0]),
    "compact": (lambda a: a.compact(), [1, 1]),
}


def stale_and_grown(store: Any, layout: dict[str, Any], appended: int, **config: Any) -> tuple[Any, list[int]]:
    a = zarrant.create_array(store, shape=(10,), dtype="i4", fill_value=0, config=config, **layout)
    a[...] = 1
    tail = list(range(50, 50 + appended))
    zarrant.open_array(store, mode="r+").append(np.array(tail, "i4"))
    return a, tail


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_others_appended_stays(tmp_path: Path, layout: str, operation: str) -> None:
    do, expected = OPERATIONS[operation]
    for number, appended in enumerate((1, 2, 5, 6, 13)):
        for store in ({}, tmp_path / str(number)):
            stale, tail = stale_and_grown(store, LAYOUTS[layout], appended)
            do(stale)
            found = zarrant.open_array(store, mode="r")[8:].tolist()
            assert found == [*expected, *tail], (appended, type(store))


@pytest.mark.parametrize("layout", ["chunks", "shards"])
@pytest.mark.parametrize("operation", ["erase chunk", "encoder, erased", "setitem of fill", "chunk"])
def test_empty_chunks_are_written_too(layout: str, operation: str) -> None:
    do, expected = OPERATIONS[operation]
    store: dict[str, bytes] = {}
    stale, tail = stale_and_grown(store, LAYOUTS[layout], 4, write_empty_chunks=True)
    do(stale)
    assert zarrant.open_array(store, mode="r")[8:].tolist() == [*expected, *tail]


def test_a_chunk_of_which_all_is_known_is_erased_not_filled() -> None:
    store: dict[str, bytes] = {}
    a = zarrant.create_array(store, shape=(10,), dtype="i4", chunks=(8,), config={"write_empty_chunks": True})
    a[...] = 1
    a.erase_chunk((1,))
    a.erase_chunks(np.s_[0:2])
    assert [key for key in store if key != "zarr.json"] == []


@pytest.mark.parametrize("layout", ["chunks", "shards", "nested"])
def test_coroutines_too(layout: str, tmp_path: Path) -> None:
    async def work(store: Any) -> None:
        stale = await zarrant.open_array_async(store, mode="r+")
        other = await zarrant.open_array_async(store, mode="r+")
        await other.append(np.array([5, 6], "i4"))
        await stale.setitem(slice(8, 10), 2)
        await stale.update(np.s_[9:10], lambda part: part + 1)
        async with stale.partial_encoder((1,)) as encoder:
            await encoder.store(np.s_[0:1], 4)

    for store in ({}, tmp_path / "a"):
        zarrant.create_array(store, shape=(10,), dtype="i4", fill_value=0, **LAYOUTS[layout])[...] = 1
        asyncio.run(work(store))
        assert zarrant.open_array(store, mode="r")[8:].tolist() == [4, 3, 5, 6]


def test_two_dimensions_are_bounded_each_for_itself() -> None:
    for layout in ({"chunks": (4, 4)}, {"chunks": (2, 2), "shards": (4, 4)}):
        store: dict[str, bytes] = {}
        stale = zarrant.create_array(store, shape=(5, 5), dtype="i4", fill_value=0, **layout)
        stale[...] = 1
        other = zarrant.open_array(store, mode="r+")
        other.append(np.full((2, 5), 7, "i4"), axis=0)
        other.append(np.full((7, 2), 8, "i4"), axis=1)
        stale[4:5, :] = 2
        stale[:, 4] = 3
        expected = np.ones((7, 7), "i4")
        expected[5:] = 7
        expected[:, 5:] = 8
        expected[4, :5] = 2
        expected[:5, 4] = 3
        assert np.array_equal(zarrant.open_array(store, mode="r")[...], expected)


def damage(store: dict[str, bytes], value: int) -> None:
    """Flip a bit of the subchunk of raw bytes and a checksum that holds a value."""
    data = bytearray(store["c/0"])
    data[data.rfind(np.array([value], "i4").tobytes())] ^= 4
    store["c/0"] = bytes(data)


def test_a_damaged_subchunk_costs_itself_alone() -> None:
    store: dict[str, bytes] = {}
    options = {"chunks": (4,), "shards": (16,), "compressors": [{"name": "crc32c"}], "fill_value": 0}
    stale = zarrant.create_array(store, shape=(10,), dtype="i4", **options)
    stale[...] = np.arange(100, 110)
    zarrant.open_array(store, mode="r+").append(np.arange(110, 116, dtype="i4"))
    damage(store, 109)  # subchunk 8..12, of which this handle knows two elements
    stale[0:10] = 5
    found = zarrant.open_array(store, mode="r")[...].tolist()
    assert found == [5] * 10 + [0, 0] + [112, 113, 114, 115]
    damage(store, 112)
    with pytest.raises(ChunkError):
        zarrant.open_array(store, mode="r+")[15] = 1
    assert zarrant.open_array(store, mode="r")[:12].tolist() == [5] * 10 + [0, 0]


def test_a_killed_appender_leaves_nothing_that_a_stale_handle_must_keep(tmp_path: Path) -> None:
    """Data of an append that was never committed lie beyond every bound; they stay invisible, and growth covers them."""
    a = zarrant.create_array(tmp_path / "a", shape=(5,), dtype="i4", chunks=(4,), shards=(8,), fill_value=0)
    a[...] = 1
    a.store_chunk_subset((0,), np.s_[5:8], 9)  # what a killed appender leaves
    a[4:5] = 2
    a.resize((8,))
    assert zarrant.open_array(tmp_path / "a", mode="r")[...].tolist() == [1, 1, 1, 1, 2, 0, 0, 0]


@pytest.mark.parametrize("operation", sorted(set(OPERATIONS) - {"lock"}))
@pytest.mark.parametrize("layout", ["chunks", "shards"])
@pytest.mark.filterwarnings("ignore:synchronizer=None")
def test_without_a_synchronizer_too(tmp_path: Path, layout: str, operation: str) -> None:
    do, expected = OPERATIONS[operation]
    stale_and_grown(tmp_path / "a", LAYOUTS[layout], 0)
    stale = zarrant.open_array(tmp_path / "a", mode="r+", synchronizer=None)
    zarrant.open_array(tmp_path / "a", mode="r+").append(np.arange(50, 55, dtype="i4"))
    do(stale)
    assert zarrant.open_array(tmp_path / "a", mode="r")[8:].tolist() == [*expected, *range(50, 55)]


@pytest.mark.parametrize("locking", ["os", "lockfile", "none"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("operation", ["setitem", "chunk", "chunk, in bounds", "setitem of fill", "array subset"])
def test_an_append_that_is_not_finished_stays(tmp_path: Path, layout: str, operation: str, locking: str) -> None:
    # An appender locks the metadata and stores its data first: for a while no metadata tell of them.
    do, expected = OPERATIONS[operation]
    store = FilesystemStore(tmp_path / "a", locking=locking)
    stale = zarrant.create_array(store, shape=(10,), dtype="i4", fill_value=0, **LAYOUTS[layout])
    stale[...] = 1
    other = zarrant.open_array(store, mode="r+")
    with store.lock(("zarr.json",)) as inside:
        other.store_chunk_subset((1,), np.s_[2:4], 7)
        do(stale)
        inside.put("zarr.json", [dump(stale.metadata.with_shape((12,)))])
    assert zarrant.open_array(store, mode="r")[8:].tolist() == [*expected, 7, 7]
