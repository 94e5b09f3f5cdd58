"""Reads of an event loop that wait at the same time: the same elements as one by one, and a chunk is decoded once for all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.errors import BoundsError, ChunkError
from zarrant.nodes import async_array
from zarrant.ops import read
from zarrant.stores.local.syscalls import Syscalls

SHAPE = (60, 50)
index = st.integers(-70, 70)
part = st.builds(slice, st.none() | index, st.none() | index, st.none() | st.integers(1, 3)) | st.integers(-80, 80)
box = st.tuples(*(st.tuples(st.integers(0, n), st.integers(0, n)).map(lambda two: slice(min(two), max(two))) for n in SHAPE))


class Counting(Syscalls):
    """The file calls of the system; `opened` counts files."""

    def __init__(self) -> None:
        self.opened = 0

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        self.opened += 1
        return super().open(path, flags, mode)


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(async_array, "MIN_BYTES_TOGETHER", 0)


async def read_all(array: Any, selections: list[Any]) -> list[Any]:
    return await asyncio.gather(*(array.getitem(each) for each in selections), return_exceptions=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(box | st.tuples(part, part), min_size=1, max_size=12), st.sampled_from([None, (30, 50)]), st.sets(st.integers(0, 5))
)
def test_it_is_equal_to_one_by_one(selections: list[Any], shards: Any, stored: set[int]) -> None:
    array = zarrant.create_array({}, shape=SHAPE, chunks=(10, 25), shards=shards, dtype="u2", fill_value=5)
    for row in stored:
        array[10 * row : 10 * row + 7] = np.arange(7 * 50).reshape(7, 50) + row
    data = array[...]

    async def main() -> list[Any]:
        return await read_all(await zarrant.open_array_async(array.store), selections)

    for found, selection in zip(asyncio.run(main()), selections, strict=True):
        try:
            wanted = data[selection]
        except IndexError:
            assert isinstance(found, BoundsError)
        else:
            assert np.array_equal(found, wanted)
            assert found.dtype == data.dtype


def test_a_chunk_is_read_once_for_all_that_wait(tmp_path: Path) -> None:
    data = np.arange(40 * 40, dtype="u2").reshape(40, 40)
    zarrant.create_array(tmp_path, data=data, chunks=(20, 20))
    calls = Counting()

    async def main() -> None:
        array = await zarrant.open_array_async(zarrant.FilesystemStore(tmp_path, syscalls=calls))
        calls.opened = 0
        boxes = [np.s_[i : i + 20, i : i + 21] for i in range(1, 19)]
        found = await read_all(array, boxes)
        assert all(np.array_equal(each, data[box]) for each, box in zip(found, boxes, strict=True))
        assert calls.opened == 4
        assert all(each.base is None and each.flags.writeable for each in found)

    asyncio.run(main())


def test_a_broken_chunk_is_the_error_of_those_who_read_it(tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path, data=np.ones((40, 40), "u2"), chunks=(20, 20), compressors=zarrant.codecs.Zstd())
    (tmp_path / "c/1/1").write_bytes(b"broken")

    async def main() -> list[Any]:
        boxes = [np.s_[0:20, 0:20], np.s_[10:30, 10:30], np.s_[0:20, 10:40], np.s_[25:30, 25:30]]
        return await read_all(await zarrant.open_array_async(array.store), boxes)

    found = asyncio.run(main())
    assert [isinstance(each, ChunkError) for each in found] == [False, True, False, True]


def test_a_read_sees_what_was_written_before_it_began(tmp_path: Path) -> None:
    async def main() -> None:
        array = await zarrant.create_array_async(tmp_path, shape=(64, 64), chunks=(32, 32), dtype="i4")

        async def task(row: int) -> None:
            for turn in range(1, 20):
                await array.store_array_subset(np.s_[row : row + 1, 0:64], turn)
                assert (await array.getitem(np.s_[row : row + 1, 0:64]) == turn).all()

        await asyncio.gather(*(task(row) for row in range(0, 64, 4)))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("selection", "whole"),
    [
        (np.s_[0:3, 4:5], True),
        (np.s_[0:3], False),
        (np.s_[0:3, :], False),
        (np.s_[0:3, 4:5:2], False),
        (np.s_[0:3, 4], False),
        (np.s_[-3:3, 4:5], False),
        (np.s_[3:3, 4:5], False),
        (np.s_[0:61, 4:5], False),
        (np.s_[..., 4:5], False),
        (np.s_[0:3, True], False),
    ],
)
def test_which_selections_are_plain_boxes(selection: Any, whole: bool) -> None:
    array = zarrant.create_array({}, shape=SHAPE, chunks=(10, 25), dtype="u2")._array
    items = selection if isinstance(selection, tuple) else (selection,)
    found = read.plain_box(array, items)
    assert (found is not None) == whole
    assert found is None or (found.start, found.shape) == ((0, 4), (3, 1))
