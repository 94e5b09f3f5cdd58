"""Handles that know less of an array than others have made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant.errors import BoundsError, MetadataError, NodeReplacedError, SelectionError, ShapeError
from zarrant.geometry.box import ArraySubset
from zarrant.nodes.array import Array
from zarrant.nodes.async_array import AsyncArray
from zarrant.stores.wrappers import Recording, WriteOnly

S = np.s_
ROWS = np.arange(1, 41, dtype="int32").reshape(10, 4)
LAYOUTS = [{"chunks": (4, 4)}, {"chunks": (2, 2), "shards": (4, 4)}]


@pytest.fixture(params=["memory", "directory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return tmp_path / "a" if request.param == "directory" else zarrant.MemoryStore()


@pytest.fixture(params=LAYOUTS, ids=["chunks", "shards"])
def grown(request: pytest.FixtureRequest, place: Any) -> Array[Any]:
    """A handle that knows 3 of 10 rows."""
    a = zarrant.create_array(place, data=ROWS[:3], compressors=None, **request.param)
    zarrant.open_array(place).append(ROWS[3:])
    assert a.shape == (3, 4)
    return a


def stored(a: Array[Any]) -> Any:
    return zarrant.open_array(a.store, name=a.path, mode="r")[...]


READS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "one row": (lambda a: a[9], ROWS[9]),
    "one element": (lambda a: a[9, 3], ROWS[9, 3]),
    "a slice that ends beyond": (lambda a: a[2:7], ROWS[2:7]),
    "a slice that begins beyond": (lambda a: a[3:7], ROWS[3:7]),
    "what is new": (lambda a: a[3:], ROWS[3:]),
    "a slice far beyond": (lambda a: a[0:1000], ROWS),
    "backwards": (lambda a: a[8::-2], ROWS[8::-2]),
    "backwards from the end": (lambda a: a[3:0:-1], ROWS[3:0:-1]),
    "indices": (lambda a: a[[0, 9]], ROWS[[0, 9]]),
    "a negative index below the first": (lambda a: a[-7], ROWS[-7]),
    "oindex": (lambda a: a.oindex[[9, 1], [0, 3]], ROWS[np.ix_([9, 1], [0, 3])]),
    "vindex": (lambda a: a.vindex[[9, 1], [0, 3]], ROWS[[9, 1], [0, 3]]),
    "a mask": (lambda a: a[ROWS % 3 == 0], ROWS[ROWS % 3 == 0]),
    "a mask of rows": (lambda a: a[ROWS[:, 0] > 9], ROWS[ROWS[:, 0] > 9]),
    "a block": (lambda a: a.blocks[1], ROWS[4:8]),
    "blocks": (lambda a: a.blocks[1:3], ROWS[4:10]),
    "retrieve_array_subset": (lambda a: a.retrieve_array_subset(S[2:10, 1:3]), ROWS[2:10, 1:3]),
    "retrieve_array_subset of an ArraySubset": (lambda a: a.retrieve_array_subset(ArraySubset((9, 0), (1, 4))), ROWS[9:]),
    "retrieve_array_subset into out": (lambda a: a.retrieve_array_subset(S[4:8], out=np.empty((4, 4), "i4")), ROWS[4:8]),
    "retrieve_chunk": (lambda a: a.retrieve_chunk((1, 0)), ROWS[4:8]),
    "retrieve_chunk_if_exists": (lambda a: a.retrieve_chunk_if_exists((1, 0)), ROWS[4:8]),
    "retrieve_chunks": (lambda a: a.retrieve_chunks(S[0:2, :]), ROWS[:8]),
    "retrieve_chunk_subset": (lambda a: a.retrieve_chunk_subset((2, 0), S[1]), ROWS[9:10]),
    "retrieve_encoded_chunk": (lambda a: len(a.retrieve_encoded_chunk((1, 0))) > 0, True),
    "retrieve_encoded_chunks": (lambda a: len(a.retrieve_encoded_chunks(S[1:3])), 2),
    "partial_decoder": (lambda a: a.partial_decoder((1, 0)).retrieve(S[0:2]), ROWS[4:6]),
    "chunk_stats": (lambda a: a.chunk_stats((1, 0)).stored > 0, True),
}


@pytest.mark.parametrize("name", READS)
def test_reading_beyond_the_known_bounds_finds_what_others_stored(name: str, grown: Array[Any]) -> None:
    read, expected = READS[name]
    found = read(grown)
    assert np.shape(found) == np.shape(expected)
    assert np.array_equal(found, expected)
    assert grown.shape == (10, 4)


def _with(rows: Any, value: Any) -> Any:
    expected = ROWS.copy()
    expected[rows] = value
    return expected


def _in_a_lock(a: Array[Any]) -> None:
    with a.lock(S[8:10]) as locked:
        locked[9] = locked[8]


def _encoded(a: Array[Any]) -> None:
    with a.partial_encoder((1, 0)) as encoder:
        encoder.store(S[1:3], 7)


WRITES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "one row": (lambda a: a.__setitem__(9, 7), _with(9, 7)),
    "a slice and a scalar": (lambda a: a.__setitem__(S[2:7], 7), _with(S[2:7], 7)),
    "a slice and values": (lambda a: a.__setitem__(S[3:5], [[7] * 4, [8] * 4]), _with(S[3:5], [[7] * 4, [8] * 4])),
    "what is new": (lambda a: a.__setitem__(S[3:], 7), _with(S[3:], 7)),
    "all, with as many values as are stored": (lambda a: a.__setitem__(..., ROWS * 2), ROWS * 2),
    "oindex": (lambda a: a.oindex.__setitem__([9, 1], 7), _with([9, 1], 7)),
    "vindex": (lambda a: a.vindex.__setitem__(([9, 1], [0, 3]), 7), _with(([9, 1], [0, 3]), 7)),
    "a mask": (lambda a: a.__setitem__(ROWS > 30, 7), _with(ROWS > 30, 7)),
    "blocks": (lambda a: a.blocks.__setitem__(1, 7), _with(S[4:8], 7)),
    "store_array_subset": (lambda a: a.store_array_subset(S[9], 7), _with(S[9], 7)),
    "store_array_subsets": (lambda a: a.store_array_subsets((s, 7) for s in (S[0:1], S[9])), _with([0, 9], 7)),
    "store_chunk": (lambda a: a.store_chunk((1, 0), 7), _with(S[4:8], 7)),
    "store_chunk at the new edge": (lambda a: a.store_chunk((2, 0), np.full((2, 4), 7)), _with(S[8:10], 7)),
    "store_chunks": (lambda a: a.store_chunks(S[1:3], 7), _with(S[4:10], 7)),
    "store_chunk_subset": (lambda a: a.store_chunk_subset((1, 0), S[1:3], 7), _with(S[5:7], 7)),
    "erase_chunk": (lambda a: a.erase_chunk((1, 0)), _with(S[4:8], 0)),
    "erase_chunks": (lambda a: a.erase_chunks(S[1:3]), _with(S[4:10], 0)),
    "store_encoded_chunk": (lambda a: a.store_encoded_chunk((2, 0), a.retrieve_encoded_chunk((2, 0)), check=True), ROWS),
    "update": (lambda a: a.update(S[2:10], lambda x: x + 100), _with(S[2:10], ROWS[2:10] + 100)),
    "lock": (_in_a_lock, _with(9, ROWS[8])),
    "partial_encoder": (_encoded, _with(S[5:7], 7)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITES)
def test_writing_beyond_the_known_bounds_changes_the_elements_named(name: str, grown: Array[Any]) -> None:
    write, expected = WRITES[name]
    write(grown)
    assert np.array_equal(stored(grown), expected)


@given(st.integers(0, 12), st.integers(0, 12), *[st.none() | st.integers(0, 14)] * 2, st.sampled_from([None, 1, 2, 5, -1, -3]))
def test_a_slice_with_ends_means_the_stored_elements_whatever_the_handle_knows(
    known: int, more: int, start: int | None, stop: int | None, step: int | None
) -> None:
    """Open ends are those that the handle knows."""
    data = np.arange(known + more)
    a = zarrant.create_array({}, data=data, chunks=(3,))
    stale = type(a)(a._context, a.metadata.with_shape((known,)))
    chosen = slice(start, stop, step)
    last = start if step is not None and step < 0 else stop
    found = stale[chosen]
    if last is not None or start == known:
        assert np.array_equal(found, data[chosen])
    else:
        assert np.array_equal(found, data[: stale.shape[0]][chosen])


def test_the_same_from_an_event_loop(place: Any) -> None:
    zarrant.create_array(place, data=ROWS[:3], chunks=(4, 4), compressors=None)

    async def opened() -> AsyncArray[Any]:
        a = await zarrant.open_array_async(place)
        await a.resize((3, 4))
        b = await zarrant.open_array_async(place)
        await b.append(ROWS[3:])
        return a

    async def main() -> None:
        assert (await (await opened()).getitem(9)).tolist() == ROWS[9].tolist()
        assert (await (await opened()).getitem(S[2:7])).tolist() == ROWS[2:7].tolist()
        assert (await (await opened()).getitem(([9], [1]), index="points")).tolist() == [ROWS[9, 1]]
        assert (await (await opened()).retrieve_chunk((1, 0))).tolist() == ROWS[4:8].tolist()
        assert (await (await opened()).retrieve_array_subset(S[8:10])).tolist() == ROWS[8:10].tolist()
        await (await opened()).setitem(9, 7)
        assert (await (await opened()).chunk_stats((1, 0))).stored > 0
        a = await opened()
        await a.store_array_subset(S[4:6], 8)
        assert np.array_equal(stored_async(place), _with(S[4:6], 8))
        async with (await opened()).lock(S[8:10]) as locked:
            await locked.setitem(9, 3)
        assert np.array_equal(stored_async(place), _with(9, 3))
        a = await opened()
        for hold_open in (a.partial_decoder, a.partial_encoder):
            with pytest.raises(BoundsError, match="refresh"):
                hold_open((2, 0))
        await a.refresh()
        assert (await a.partial_decoder((2, 0)).retrieve(1)).tolist() == [ROWS[9].tolist()]
        async with a.partial_encoder((2, 0)) as encoder:
            await encoder.store(1, 3)
        await (await opened()).update(S[2:10], lambda x: x + 100)
        assert np.array_equal(stored_async(place), _with(S[2:10], ROWS[2:10] + 100))

    asyncio.run(main())


def stored_async(place: Any) -> Any:
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: zarrant.open_array(place, mode="r")[...]).result()


def test_what_lies_within_the_known_bounds_asks_for_no_document() -> None:
    store = Recording(zarrant.MemoryStore())
    a = zarrant.create_array(store, data=ROWS, chunks=(5, 4))
    for use in (
        lambda: a[...],
        lambda: a[:],
        lambda: a[2:],
        lambda: a[:10],
        lambda: a[0:10, 0:4],
        lambda: a[9::-1],
        lambda: a[-1],
        lambda: a[10:10],
        lambda: a[12:5],
        lambda: a.oindex[[0, 9]],
        lambda: a.blocks[0:2],
        lambda: a.retrieve_array_subset(...),
        lambda: a.retrieve_chunk((1, 0)),
        lambda: a.__setitem__(S[0:5], 3),
    ):
        store.calls.clear()
        use()
        assert [call.key for call in store.calls if call.key == "zarr.json"] == []
    for beyond in (lambda: a[0:11], lambda: a[10:], lambda: a[20::-1]):
        store.calls.clear()
        beyond()
        assert [call.key for call in store.calls].count("zarr.json") == 1


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        (lambda a: a[10], BoundsError),
        (lambda a: a[-11], BoundsError),
        (lambda a: a.retrieve_chunk((3, 0)), BoundsError),
        (lambda a: a.store_array_subset(S[5:11], 1), BoundsError),
        (lambda a: a.__setitem__(S[0:4], np.ones((5, 4), "i4")), ShapeError),
        (lambda a: a[np.ones((11, 4), bool)], SelectionError),
        (lambda a: a.update(S[5:11], lambda x: x), BoundsError),
        (lambda a: a.lock(S[5:11]), BoundsError),
        (lambda a: a.partial_decoder((3, 0)), BoundsError),
    ],
)
def test_what_is_beyond_the_stored_bounds_too_is_refused(use: Any, kind: type[Exception], grown: Array[Any]) -> None:
    with pytest.raises(kind):
        use(grown)
    assert np.array_equal(stored(grown), ROWS)
    assert grown[5:100].shape == (5, 4)


def test_an_update_whose_function_fails_is_not_started_again(grown: Array[Any]) -> None:
    calls = []

    def fails(part: Any) -> Any:
        calls.append(part)
        zarrant.open_array(grown.store, name=grown.path).resize((11, 4))
        raise BoundsError("of its own")

    with pytest.raises(BoundsError, match="of its own"):
        grown.update(S[4:6], fails)
    assert len(calls) == 1


def test_an_array_that_was_cut_is_refused_by_its_stored_bounds(place: Any) -> None:
    a = zarrant.create_array(place, data=ROWS, chunks=(4, 4))
    zarrant.open_array(place).resize((5, 4))
    with pytest.raises(BoundsError):
        a[10]
    assert a.shape == (5, 4)


def test_another_array_in_its_place_is_not_taken_over(place: Any) -> None:
    a = zarrant.create_array(place, data=ROWS[:3], chunks=(4, 4))
    zarrant.create_array(place, data=ROWS.astype("int64"), chunks=(4, 4), overwrite=True)
    with pytest.raises(NodeReplacedError):
        a[9]
    assert (a.shape, a.dtype) == ((3, 4), np.int32)


def test_a_document_that_cannot_be_read_is_named() -> None:
    objects: dict[str, bytes] = {}
    a = zarrant.create_array(objects, data=ROWS[:3], chunks=(4, 4))
    objects["zarr.json"] = b"{}"
    with pytest.raises(MetadataError):
        a[9]


def test_a_store_that_cannot_be_read_is_not_asked() -> None:
    a = zarrant.create_array(WriteOnly(zarrant.MemoryStore()), shape=(3, 4), dtype="int32", chunks=(4, 4))
    with pytest.raises(BoundsError):
        a.store_chunk((1, 0), 1)


def test_a_handle_that_others_move_on_meanwhile_is_not_moved_back(grown: Array[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from zarrant.ops import current as fresh

    find = fresh.find_metadata

    def slow(path: str) -> Any:
        document = yield from find(path)
        grown._handle.take_over(zarrant.open_array(grown.store, name=path, mode="r").metadata.with_shape((20, 4)))
        return document

    monkeypatch.setattr(fresh, "find_metadata", slow)
    assert grown[9].tolist() == ROWS[9].tolist()
    assert grown.shape == (20, 4)
