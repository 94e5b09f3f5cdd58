from __future__ import annotations

import numpy as np
import pytest

from zarrant.codecs.protocols import CodecOptions
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
