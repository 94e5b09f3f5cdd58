"""Partial decoders: right after every change of the chunk, and no more is read than was not known."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c, Transpose, Zstd
from zarrant.errors import BoundsError, ChunkMissingError
from zarrant.stores.wrappers import Recording

LAYOUTS: dict[str, dict[str, Any]] = {
    "chunk": {"chunks": (12, 10)},
    "shard": {"chunks": (3, 5), "shards": (12, 10)},
    "transposed shard": {"chunks": (3, 5), "shards": (12, 10), "filters": Transpose((1, 0))},
    "checked chunk": {"chunks": (12, 10), "compressors": [Zstd(1), Crc32c()]},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_reads_what_is_there_now(layout: str) -> None:
    rng = np.random.default_rng(3)
    a = zarrant.create_array({}, shape=(20, 20), dtype="int16", **LAYOUTS[layout])
    expected = np.zeros((24, 20), "int16")
    decoder = a.partial_decoder((1, 0))
    for _ in range(60):
        x, y = rng.integers(0, 20), rng.integers(0, 20)
        if rng.random() < 0.5:
            value = int(rng.integers(0, 3))
            a[x:, y:] = value
            expected[x:20, y:] = value
        low, high = sorted(rng.integers(0, 9, 2))
        got = decoder.retrieve(np.s_[low:high, 0:10])
        assert np.array_equal(got, expected[12 + low : 12 + high, :10])


def test_an_index_is_read_once() -> None:
    store = Recording(zarrant.MemoryStore())
    a = zarrant.create_array(store, data=np.arange(100, dtype="int16"), chunks=(10,), shards=(100,), compressors=None)
    decoder = a.partial_decoder((0,))
    decoder.retrieve(np.s_[0:10])
    store.calls.clear()
    assert decoder.retrieve(np.s_[20:30]).tolist() == list(range(20, 30))
    ranges = [tuple(part) for call in store.calls for part in call.ranges or ()]
    assert ranges == [(0, 0), (40, 20)]  # a look at the version, and one subchunk
    assert decoder.nbytes_held == 10 * 16 + 4


def test_out_and_errors() -> None:
    a = zarrant.create_array({}, shape=(8,), dtype="int16", chunks=(4,))
    with pytest.raises(BoundsError):
        a.partial_decoder((2,))
    decoder = a.partial_decoder((1,))
    out = np.ones(2, "int16")
    assert decoder.retrieve(np.s_[1:3], out=out) is out
    assert out.tolist() == [0, 0]
    with pytest.raises(BoundsError):
        decoder.retrieve(np.s_[1:5])
    with pytest.raises(ChunkMissingError, match="c/1"):
        a.with_config(missing_chunks="error").partial_decoder((1,)).retrieve(np.s_[0:1])


def test_from_an_event_loop() -> None:
    async def main() -> list[int]:
        a = await zarrant.create_array_async({}, data=np.arange(12, dtype="int16"), chunks=(2,), shards=(12,))
        decoder = a.partial_decoder((0,))
        first = await decoder.retrieve(np.s_[3:5])
        await a.setitem(np.s_[3:5], 9)
        return [*first.tolist(), *(await decoder.retrieve(np.s_[3:5])).tolist()]

    assert asyncio.run(main()) == [3, 4, 9, 9]
