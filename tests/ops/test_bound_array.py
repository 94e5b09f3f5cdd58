from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs.library.crc32c import Crc32c
from zarrant.codecs.protocols import CodecOptions
from zarrant.metadata.remembered import place_of
from zarrant.ops import bound_array
from zarrant.ops.batching import batch_size
from zarrant.ops.bound_array import BoundArray, OpOptions


def test_facts(state) -> None:
    s = state(fill_value=7)
    assert (s.shape, s.chunk_shape((2, 2)), s.grid.grid_shape) == ((10, 9), (4, 3), (3, 3))
    assert s.fill.scalar == 7
    assert s.chunk_key((1, 2)) == "a/c/1/2"
    assert s.chunk_keys(np.array([[0, 0], [2, 1]])) == ["a/c/0/0", "a/c/2/1"]
    assert state(prefix="", shape=(), chunks=()).chunk_key(()) == "c"
    assert state(chunk_key_encoding="v2").chunk_key((1, 2)) == "a/1.2"


def test_batches_hold_many_small_chunks_or_one_large_or_one_shard(state) -> None:
    small, options = state(), CodecOptions()
    size = batch_size(small, (4, 3))
    assert size.encoded == size.stored == options.batch_bytes // (4 * 3 * 4)
    assert size.cost <= 2 * options.batch_bytes
    large = state(shape=(2048, 2048), chunks=(1024, 1024))
    assert batch_size(large, (1024, 1024))[:2] == (1, 2 * 4 * 1024 * 1024)
    assert batch_size(state(chunks=(2, 3), shards=(4, 3)), (4, 3)).encoded == 1


def test_options_derive(state) -> None:
    s = state()
    assert s.with_options(OpOptions(missing_chunks="error")).options.missing_chunks == "error"
    assert s.options.missing_chunks == "fill"


@pytest.mark.parametrize("layout", [{"chunks": (2, 3)}, {"chunks": (2, 3), "shards": (4, 3)}])
def test_other_extents_and_attributes_bind_nothing_anew(state, layout) -> None:
    s = state(**layout)
    grown = s.with_metadata(s.metadata.with_shape((50, 70)).with_attributes({"a": 1}))
    fresh = BoundArray.from_metadata(s.prefix, grown.metadata, s.options)
    assert grown == fresh
    assert (grown.shape, grown.grid) == ((50, 70), fresh.grid)
    assert grown.prepared_for((4, 3)) is s.prepared_for((4, 3))
    assert grown.known.version is None


def test_other_metadata_are_bound_anew(state) -> None:
    s, other = state(), state(dtype="int16", chunks=(2, 2))
    assert s.prepared_for((4, 3)).spec.data_type.name == "int32"
    moved = s.with_metadata(other.metadata)
    assert moved == other
    assert (moved.prepared_for((2, 2)).spec, moved.chunk_shape((0, 0))) == (other.prepared_for((2, 2)).spec, (2, 2))


def test_what_says_the_same_is_bound_once() -> None:
    first, second = (zarrant.create_array({}, shape=(8,), dtype="int16", chunks=(4,)) for _ in range(2))
    assert first._array.chain is second._array.chain
    first.metadata.codecs[0].configuration["endian"] = "big"  # type: ignore[index]
    again = zarrant.create_array({}, data=np.arange(8, dtype="int16"), chunks=(4,))
    assert again._array.chain is second._array.chain
    assert again[...].tolist() == list(range(8))


@pytest.mark.parametrize(("dtype", "one", "other"), [("bool", False, 0), ("float32", 0, -0.0), ("float32", "NaN", "Infinity")])
def test_fill_values_that_are_equal_in_python_are_not_confused(dtype: str, one: Any, other: Any) -> None:
    metadata = zarrant.create_array({}, shape=(4,), dtype=dtype).metadata
    places = {place_of(bound_array._decisive(replace(metadata, fill_value=value))) for value in (one, other)}
    assert len(places) == 2


def test_a_codec_that_is_registered_anew_is_bound_anew() -> None:
    class Other(Crc32c):
        pass

    before = zarrant.create_array({}, shape=(4,), dtype="int8", compressors=zarrant.codecs.Crc32c())
    zarrant.extensions.codecs.register("crc32c", Other)
    try:
        opened = zarrant.open_array(before.store)
        assert type(opened.compressors[0]) is Other
    finally:
        zarrant.extensions.codecs.register("crc32c", "zarrant.codecs.library.crc32c:Crc32c")
    assert type(zarrant.open_array(before.store).compressors[0]) is Crc32c
