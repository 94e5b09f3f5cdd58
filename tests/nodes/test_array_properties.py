from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.ops.bound_array import BoundArray


@pytest.fixture
def array(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> zarrant.Array[Any]:
    """An array whose metadata must not be bound a second time."""
    a = zarrant.create_array(tmp_path / "a.zarr", shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 4))

    def bind(*args: Any) -> BoundArray:
        raise AssertionError("metadata were bound again")

    monkeypatch.setattr(BoundArray, "from_metadata", bind)
    return a


def _lock(a: zarrant.Array[Any]) -> None:
    with a.lock(np.s_[0:4, :]) as locked:
        locked[0:4] = 7
        assert locked.metadata is a.metadata


def _with_config(a: zarrant.Array[Any]) -> None:
    quick = a.with_config(concurrency=1, write_empty_chunks=True)
    quick[0:4] = 7
    quick[4:] = 0
    assert quick.chunk_stats((1, 1)).present == 4  # the new option is in force in subchunks, too
    assert a.config.write_empty_chunks is False


def _encode(a: zarrant.Array[Any]) -> None:
    for column in range(2):
        with a.partial_encoder((0, column)) as encoder:
            encoder.store(..., 7)


def _append(a: zarrant.Array[Any]) -> None:
    a[0:4] = 7
    a.append(np.zeros((3, 8), "int32"))
    assert a.shape == (11, 8)


@pytest.mark.parametrize("work", [_lock, _with_config, _encode, _append])
def test_metadata_are_bound_once(array: zarrant.Array[Any], work: Callable[[zarrant.Array[Any]], None]) -> None:
    work(array)
    assert int(array[...].sum()) == 7 * 32


def test_metadata_are_bound_once_in_an_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        a = await zarrant.create_array_async(tmp_path / "a.zarr", shape=(8,), dtype="int32", chunks=(4,))
        monkeypatch.setattr(BoundArray, "from_metadata", None)
        async with a.lock(np.s_[0:8]) as locked:
            await locked.setitem(..., 1)
        assert (await a.with_config(concurrency=1).getitem(...)).tolist() == [1] * 8

    asyncio.run(main())
