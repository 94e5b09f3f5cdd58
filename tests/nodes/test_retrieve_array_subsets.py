"""Many regions read with one call are what each of them reads alone."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrant
from servers import Server, start_proxy
from zarrant.errors import BoundsError, ChunkError, DataTypeError, ShapeError

DATA = np.random.default_rng(0).integers(0, 1000, (20, 23)).astype("int32")
LAYOUTS: list[dict[str, Any]] = [
    {"chunks": (4, 5)},
    {"chunks": (2, 3), "shards": (8, 9)},
    {"chunks": (2, 3), "shards": (8, 9), "compressors": None},
    {"chunks": (4, 5), "order": "F"},
    {"chunks": [[5, 15], [8, 8, 7]]},
    {"chunks": (2, 3), "shards": (8, 9), "filters": [zarrant.codecs.Transpose(order=(1, 0))]},
]
spans = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda ends: slice(min(ends), max(ends)))


@pytest.fixture(scope="module")
def arrays() -> list[Any]:
    return [zarrant.create_array({}, data=DATA, **layout) for layout in LAYOUTS]


@settings(deadline=None, max_examples=60)
@given(which=st.integers(0, len(LAYOUTS) - 1), regions=st.lists(st.tuples(spans, spans), max_size=8))
def test_the_same_as_one_by_one(arrays: list[Any], which: int, regions: list[tuple[slice, slice]]) -> None:
    found = arrays[which].retrieve_array_subsets(regions)
    assert len(found) == len(regions)
    for region, got in zip(regions, found, strict=True):
        assert got.shape == DATA[region].shape
        assert (got == DATA[region]).all()


@settings(deadline=None, max_examples=60)
@given(
    which=st.integers(0, len(LAYOUTS) - 1),
    regions=st.lists(st.tuples(spans, spans), max_size=8),
    alike=st.booleans(),
    data=st.data(),
)
def test_into_arrays_of_the_caller(arrays: list[Any], which: int, regions: Any, alike: bool, data: st.DataObject) -> None:
    if alike:  # regions of one shape, into one array
        starts = data.draw(st.lists(st.tuples(st.integers(0, 15), st.integers(0, 17)), min_size=1, max_size=8))
        regions = [np.s_[i : i + 5, j : j + 6] for i, j in starts]
        out: Any = np.full((len(regions), 5, 6), -1, "int32", order=data.draw(st.sampled_from("CF")))
    else:
        out = [np.full(DATA[region].shape, -1, "int32") for region in regions]
    found = arrays[which].retrieve_array_subsets(regions, out=out)
    assert len(found) == len(regions)
    for region, got, place in zip(regions, found, out, strict=True):
        assert np.shares_memory(got, place) or not got.size
        assert (place == DATA[region]).all()


@pytest.mark.parametrize("cache", [0, "1 MiB"])
def test_wrong_places_are_refused_before_anything_is_read(cache: Any) -> None:
    array: Any = zarrant.create_array({}, data=DATA, chunks=(2, 3), shards=(8, 9), config={"cache": cache})
    regions = [np.s_[:2, :3], np.s_[4:6, 5:8]]
    good = np.full((2, 2, 3), -1, "int32")
    fixed = np.full((2, 3), -1, "int32")
    fixed.flags.writeable = False
    cases: list[tuple[Any, Any]] = [
        (good[:1], ShapeError),
        (np.zeros((2, 3, 2), "int32"), ShapeError),
        (np.zeros((), "int32"), ShapeError),
        ([good[0]], ShapeError),
        ([good[0], good[1].T], ShapeError),
        ([good[0], np.zeros((2, 3), "int64")], DataTypeError),
        ([good[0], [[1, 2, 3]] * 2], DataTypeError),
        ([good[0], fixed], DataTypeError),
    ]
    for out, error in cases:
        with pytest.raises(error):
            array.retrieve_array_subsets(regions, out=out)
    assert (good == -1).all()
    for _ in range(2):
        assert array.retrieve_array_subsets(regions, out=good)[1].tolist() == DATA[4:6, 5:8].tolist()
    assert (good[0] == DATA[:2, :3]).all()
    scalar = zarrant.create_array({}, data=np.float64(3))
    batch = np.zeros(2)
    scalar.retrieve_array_subsets([(), ...], out=batch)
    assert batch.tolist() == [3.0, 3.0]

    async def awaited() -> None:
        there = await zarrant.create_array_async({}, data=DATA, chunks=(4, 5))
        good[...] = -1
        await there.retrieve_array_subsets(regions, out=good)

    asyncio.run(awaited())
    assert (good[1] == DATA[4:6, 5:8]).all()


def test_other_shapes_of_arrays() -> None:
    scalar = zarrant.create_array({}, data=np.float64(3))
    assert [part.tolist() for part in scalar.retrieve_array_subsets([(), ...])] == [3.0, 3.0]
    line = zarrant.create_array({}, data=np.arange(10), chunks=3)
    assert [part.tolist() for part in line.retrieve_array_subsets([np.s_[2:5], 4, np.s_[4:7]])] == [[2, 3, 4], [4], [4, 5, 6]]
    assert line.retrieve_array_subsets([]) == []


def test_awaited() -> None:
    async def read() -> list[Any]:
        array = await zarrant.create_array_async({}, data=DATA, chunks=(4, 5))
        return await array.retrieve_array_subsets([np.s_[:2, :3], np.s_[9:, 9:]])

    first, second = asyncio.run(read())
    assert (first == DATA[:2, :3]).all()
    assert (second == DATA[9:, 9:]).all()


def test_bad_input(arrays: list[Any]) -> None:
    with pytest.raises(BoundsError):
        arrays[0].retrieve_array_subsets([np.s_[:2], np.s_[30:31]])


def test_a_damaged_chunk_is_named() -> None:
    array = zarrant.create_array({}, data=DATA, chunks=(4, 5))
    array.store_encoded_chunk((0, 0), b"no")
    with pytest.raises(ChunkError) as caught:
        array.retrieve_array_subsets([np.s_[0, 0], np.s_[10, 10]])
    assert caught.value.chunk == (0, 0)


def test_a_shard_is_asked_once(moto: Server) -> None:
    with start_proxy(moto) as proxy:
        url, options = proxy.server.fresh_url(), proxy.server.storage_options
        array = zarrant.create_array(url, data=DATA, chunks=(2, 3), shards=(20, 24), storage_options=options)
        proxy.requests.clear()
        regions = [np.s_[i : i + 2, i : i + 3] for i in range(10)]
        assert all((got == DATA[region]).all() for got, region in zip(array.retrieve_array_subsets(regions), regions, strict=True))
        assert [request.method for request in proxy.requests] == ["GET", "GET"]
