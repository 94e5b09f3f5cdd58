from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, Numcodecs, Transpose, Zstd
from zarrant.codecs.pipeline import fixed_size
from zarrant.errors import ChunkError
from zarrant.geometry.box import ArraySubset

CHAINS = [
    [Bytes()],
    [Bytes("big"), Crc32c()],
    [Transpose((1, 0)), Bytes(), Zstd()],
    [Bytes("big"), Numcodecs("numcodecs.zlib"), Crc32c()],
]


@st.composite
def subsets(draw: st.DrawFn) -> ArraySubset:
    start = [draw(st.integers(0, n - 1)) for n in (5, 4)]
    return ArraySubset(tuple(start), tuple(draw(st.integers(1, n - a)) for n, a in zip((5, 4), start, strict=True)))


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
@given(subset=subsets(), seed=st.integers(0, 99))
def test_partial_writes_and_reads_are_slices(codecs: list[Any], subset: ArraySubset, seed: int, codec: Any) -> None:
    dice = np.random.default_rng(seed)
    c = codec(codecs, (5, 4), fill=3, write_empty_chunks=True)
    old = dice.integers(0, 9, (5, 4), "int32")
    new = dice.integers(0, 9, subset.shape, "int32")
    merged = c.encode(new, c.encode(old), subset)
    old[subset.slices] = new
    assert np.array_equal(c.decode(merged), old)
    assert np.array_equal(c.decode(merged, subset), new)


@pytest.mark.parametrize(
    "codecs", [[Bytes(), Zstd(1)], [Transpose((1, 0)), Bytes("big"), Blosc("lz4", blocksize=1 << 15)]], ids=str
)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_part_of_a_large_chunk_is_a_slice_of_it(codecs: list[Any], data: st.DataObject, codec: Any) -> None:
    """Large enough that blocks are left out."""
    shape = (300, 420)
    values = np.random.default_rng(2).integers(0, 999, shape, "int32")
    c = codec(codecs, shape)
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    subset = ArraySubset(tuple(start), tuple(data.draw(st.integers(1, n - a)) for n, a in zip(shape, start, strict=True)))
    assert np.array_equal(c.decode(c.encode(values), subset), values[subset.slices])


def test_without_old_data_the_rest_is_fill(codec: Any) -> None:
    c = codec([Bytes()], (2, 3), fill=7)
    assert c.decode(c.encode([[1]], None, ArraySubset((1, 1), (1, 1)))).tolist() == [[7, 7, 7], [7, 1, 7]]


@pytest.mark.parametrize(
    ("dtype", "fill"), [("int32", 5), ("float32", np.nan), ("float64", -0.0), ("complex64", 1j), ("bool", True)]
)
def test_rows_of_fill_are_not_stored(dtype: str, fill: Any, codec: Any) -> None:
    data = np.full((4, 4), fill, dtype)
    assert codec([Bytes(), Zstd()], (4, 4), dtype, fill).encode(data) is None
    assert codec([Bytes(), Zstd()], (4, 4), dtype, fill, write_empty_chunks=True).encode(data) is not None
    data[3, 3] = 0
    assert codec([Bytes(), Zstd()], (4, 4), dtype, fill).encode(data) is not None


def test_fill_is_compared_bit_by_bit(codec: Any) -> None:
    assert codec([Bytes()], (2,), "float32", 0.0).encode(np.array([0.0, -0.0], "float32")) is not None
    payload = np.array([0x7FC00001, 0x7FC00001], "uint32").view("float32")
    assert codec([Bytes()], (2,), "float32", np.nan).encode(payload) is not None


def test_encoded_sizes_that_do_not_depend_on_data(codec: Any) -> None:
    assert codec([Bytes(), Crc32c()], (4, 4)).prepared.encoded_size() == 68
    assert codec([Bytes(), Gzip()], (4, 4)).prepared.encoded_size() is None
    assert codec([Bytes(), Numcodecs("numcodecs.bz2")], (4, 4)).prepared.encoded_size() is None


def test_a_leaf_is_read_and_written_whole(codec: Any) -> None:
    assert codec([Bytes()], (4, 4)).prepared.partial == (False, False)


@pytest.mark.parametrize("codecs", [[Bytes()], [Bytes(), Numcodecs("numcodecs.crc32")]], ids=str)
def test_wrong_lengths(codecs: list[Any], codec: Any) -> None:
    c = codec(codecs, (4, 4))
    good = codec(codecs, (4, 4), write_empty_chunks=True).encode(np.zeros((4, 4), "int32"))
    for bad in (good[:-4], good + b"\0" * 4, b""):
        with pytest.raises(ChunkError):
            c.decode(bad)


SIDES = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 6), st.integers(1, 7)), min_size=1, max_size=3)


@given(
    sides=SIDES,
    dtype=st.sampled_from(["uint8", "int32", ">i2", "float32", "complex64", "bool", "datetime64[s]", "U3"]),
    compressors=st.sampled_from([None, [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}]]),
    order=st.sampled_from("CF"),
    shards=st.booleans(),
    empty=st.booleans(),
    old=st.booleans(),
    seed=st.integers(0, 9),
)
def test_a_box_of_one_chunk_is_laid_over_it_as_many_boxes_are(
    sides: list[tuple[int, int, int]],
    dtype: str,
    compressors: Any,
    order: str,
    shards: bool,
    empty: bool,
    old: bool,
    seed: int,
) -> None:
    shape = tuple(length for length, _, _ in sides)
    box = tuple(slice(min(at, length - 1), min(at, length - 1) + count) for length, at, count in sides)
    chunks = tuple(length + seed % 2 for length in shape)
    random = np.random.default_rng(seed)
    before, values = (random.integers(0, 1 + seed % 3, shape).astype(dtype) for _ in range(2))
    stored: list[dict[str, bytes]] = []
    for most in (fixed_size.MAX_LINES, -1):  # -1: always the general way
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fixed_size, "MAX_LINES", most)
            objects: dict[str, Any] = {}
            array = zarrant.create_array(
                objects,
                shape=shape,
                dtype=dtype,
                chunks=chunks,
                shards=tuple(2 * n for n in chunks) if shards else None,
                compressors=compressors,
                order=order,
                config={"write_empty_chunks": empty},
            )
            if old:
                array[...] = before
            expected = array[...]
            array[box] = values[box]
            expected[box] = values[box]
            np.testing.assert_array_equal(array[...], expected)
            stored.append({key: bytes(value) for key, value in objects.items()})
    assert stored[0] == stored[1]
