from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from zarrant.codecs.protocols import CodecOptions
from zarrant.errors import DataTypeError, ShapeError
from zarrant.ops.bound_array import BoundArray, OpOptions


def test_facts(state) -> None:
    s = state(fill_value=7)
    assert (s.shape, s.chunk_shape, s.grid.grid_shape) == ((10, 9), (4, 3), (3, 3))
    assert s.fill.scalar == 7
    assert s.chunk_key((1, 2)) == "a/c/1/2"
    assert s.chunk_keys(np.array([[0, 0], [2, 1]])) == ["a/c/0/0", "a/c/2/1"]
    assert state(prefix="", shape=(), chunks=()).chunk_key(()) == "c"
    assert state(chunk_key_encoding="v2").chunk_key((1, 2)) == "a/1.2"


def test_batches_hold_many_small_chunks_or_one_large_or_one_shard(state) -> None:
    small, options = state(), CodecOptions()
    assert small.batch == options.batch_bytes // (4 * 3 * 4)
    assert small.cost <= 2 * options.batch_bytes
    large = state(shape=(2048, 2048), chunks=(1024, 1024))
    assert (large.batch, large.cost) == (1, 2 * 4 * 1024 * 1024)
    assert state(chunks=(2, 3), shards=(4, 3)).batch == 1


def test_options_derive(state) -> None:
    s = state()
    assert s.with_options(OpOptions(missing_chunks="error")).options.missing_chunks == "error"
    assert s.options.missing_chunks == "fill"


@pytest.mark.parametrize(
    ("dtype", "data", "expected"),
    [
        ("int8", [1, -1, 127], [1, -1, 127]),
        ("int8", True, 1),
        ("uint8", 255, 255),
        ("int64", np.int8(-3), -3),
        ("float32", [1, 2.5], [1, 2.5]),
        ("float32", np.float64(2.5), 2.5),
        ("complex64", 1 + 2j, 1 + 2j),
        ("complex64", 3, 3),
        ("bool", [True, False], [True, False]),
        ("bfloat16", 1.5, 1.5),
        ("int16", memoryview(np.array([3, 4], "int16")), [3, 4]),
        ("int16", np.array([3, 4], ">i2"), [3, 4]),
        ("int32", np.array([3, 4], "int64"), [3, 4]),
    ],
)
def test_values_that_fit(dtype, data, expected, state) -> None:
    values = state(dtype=dtype).values(data)
    assert values.dtype == (ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype))
    assert values.tolist() == expected


def test_values_are_not_copied_without_need(state) -> None:
    data = np.arange(12, dtype="int32")[::-2]
    assert np.shares_memory(state().values(data), data)


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("int8", 128),
        ("uint8", -1),
        ("uint8", [0, 256]),
        ("int32", 1.5),
        ("int32", np.array([1.0])),
        ("int32", 1j),
        ("float32", 1j),
        ("bool", 2),
        ("uint8", np.array([-1], "int8")),
        ("int32", "text"),
        ("int32", object()),
        ("int32", None),
        ("int32", np.array(["2020-01-01"], "datetime64[D]")),
    ],
)
def test_values_that_do_not_fit(dtype, data, state) -> None:
    with pytest.raises(DataTypeError):
        state(dtype=dtype).values(data)


def test_output(state) -> None:
    s = state()
    out = np.zeros((2, 3), "int32")
    assert s.output(out, (2, 3)) is out
    assert s.output(None, (4,)).dtype == np.int32
    frozen = np.zeros((2, 3), "int32")
    frozen.flags.writeable = False
    for wrong, error in [
        (np.zeros((3, 2), "int32"), ShapeError),
        (np.zeros((2, 3), "int64"), DataTypeError),
        (np.zeros((2, 3), ">i4"), DataTypeError),
        ([[1, 2, 3]] * 2, DataTypeError),
        (frozen, DataTypeError),
    ]:
        with pytest.raises(error, match="out="):
            s.output(wrong, (2, 3))


@pytest.mark.parametrize("layout", [{"chunks": (2, 3)}, {"chunks": (2, 3), "shards": (4, 3)}])
def test_other_extents_and_attributes_bind_nothing_anew(state, layout) -> None:
    s = state(**layout)
    assert s.batch and s.prepared.partial is not None
    grown = s.with_document(s.document.with_shape((50, 70)).with_attributes({"a": 1}))
    fresh = BoundArray.from_document(s.prefix, grown.document, s.options)
    assert grown == fresh
    assert (grown.shape, grown.grid, grown.chunk_shape, grown.batch) == ((50, 70), fresh.grid, fresh.chunk_shape, fresh.batch)
    assert grown.prepared is s.prepared
    assert grown.known.version is None


def test_other_metadata_are_bound_anew(state) -> None:
    s, other = state(), state(dtype="int16", chunks=(2, 2))
    assert s.prepared.spec.nbytes > other.prepared.spec.nbytes
    moved = s.with_document(other.document)
    assert moved == other
    assert (moved.prepared.spec, moved.chunk_shape) == (other.prepared.spec, (2, 2))
