"""Encoded chunks that are moved into shards and out of them: the elements as by decoding, and the same bytes for each piece."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, ShardingIndexed, Transpose, Zstd
from zarrant.errors import ChunkError
from zarrant.geometry.box import ArraySubset
from zarrant.nodes.array_properties import handle_of
from zarrant.nodes.base import READ, WRITE, context_of
from zarrant.ops.encoded_pieces import have_same_pieces, piece_grid, retrieve_encoded_pieces, store_encoded_pieces

CODECS = [[Zstd(1), Crc32c()], [], [Gzip(1)], [Blosc(typesize=2)]]


def bound(a: Any) -> Any:
    return handle_of(a).array


def pieces_of(a: Any, block: ArraySubset | None = None) -> dict[tuple[int, ...], bytes]:
    block = ArraySubset.full(piece_grid(bound(a)).grid_shape) if block is None else block
    found = context_of(a).run(retrieve_encoded_pieces(bound(a), block), READ)
    return {index: bytes(data) for index, data in found.items()}


def move(old: Any, new: Any) -> None:
    """In blocks of one stored object of the target, as a copy does."""
    for chunk in product(*map(range, new.chunk_grid_shape)):
        block = piece_grid(bound(new)).chunks_in(new.chunk_subset(chunk))
        pieces = context_of(old).run(retrieve_encoded_pieces(bound(old), block), READ)
        context_of(new).run(store_encoded_pieces(bound(new), pieces), WRITE)


layouts = st.none() | st.tuples(st.lists(st.integers(1, 3), min_size=3, max_size=3), st.sampled_from(["start", "end"]))


@given(st.data())
def test_what_is_moved_is_what_decoding_gives(data: st.DataObject) -> None:
    ndim = data.draw(st.integers(1, 3))
    each = lambda low, high: tuple(data.draw(st.lists(st.integers(low, high), min_size=ndim, max_size=ndim)))  # noqa: E731
    shape, piece = each(1, 11), each(1, 4)
    compressors = data.draw(st.sampled_from(CODECS))
    arrays = []
    for layout in (data.draw(layouts), data.draw(layouts)):
        options: dict[str, Any] = {"chunks": piece, "compressors": compressors, "fill_value": 7}
        if layout is not None:
            times, where = layout
            sharding = ShardingIndexed(piece, parse(Bytes(), *compressors), parse(Bytes(), Crc32c()), index_location=where)
            options = {
                "chunks": tuple(n * k for n, k in zip(piece, times, strict=False)),
                "serializer": sharding,
                "compressors": [],
            }
            options["fill_value"] = 7
        arrays.append(zarrant.create_array({}, shape=shape, dtype="int16", **options))
    old, new = arrays
    for number in range(data.draw(st.integers(0, 4))):
        start = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
        old[tuple(slice(low, low + 4) for low in start)] = number + 5  # 7 is the fill value
    assert have_same_pieces(bound(old), bound(new))
    move(old, new)
    assert np.array_equal(new[...], old[...])
    assert pieces_of(new) == pieces_of(old)
    assert {
        tuple(chunk) for chunk in product(*map(range, new.chunk_grid_shape)) if new.retrieve_encoded_chunk(chunk) is not None
    } == {tuple(i * p // c for i, p, c in zip(index, piece, new.write_unit, strict=True)) for index in pieces_of(old)}


def parse(*codecs: Any) -> Any:
    from zarrant.codecs.chain import parse_chain

    return parse_chain([codec.to_json() for codec in codecs], "$")


@pytest.fixture
def shards() -> Any:
    return zarrant.create_array({}, data=np.arange(144).reshape(12, 12), chunks=(2, 3), shards=(6, 6), compressors=[Zstd(1)])


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (2, 2)},
        {"compressors": [Gzip(1)]},
        {"dtype": "int32"},
        {"fill_value": 1},
        {"shape": (12, 13)},
        {"filters": [Transpose((1, 0))]},
    ],
    ids=str,
)
def test_what_differs_is_not_moved(shards: Any, options: dict[str, Any]) -> None:
    same = {"shape": (12, 12), "dtype": "int64", "chunks": (2, 3), "compressors": [Zstd(1)]}
    assert have_same_pieces(bound(shards), bound(zarrant.create_array({}, **same)))
    other = zarrant.create_array({}, **{**same, **options})
    assert not have_same_pieces(bound(shards), bound(other))


def test_nested_shards_are_not_moved(shards: Any) -> None:
    inner = ShardingIndexed((2, 3), parse(Bytes(), Zstd(1)), parse(Bytes(), Crc32c()))
    nested = ShardingIndexed((6, 6), parse(inner), parse(Bytes(), Crc32c()))
    a = zarrant.create_array({}, shape=(12, 12), dtype="int64", chunks=(12, 12), serializer=nested, compressors=[])
    assert not have_same_pieces(bound(shards), bound(a)) and not have_same_pieces(bound(a), bound(a))


def test_of_shards_only_the_pieces_of_the_block_are_read(shards: Any) -> None:
    block = ArraySubset((2, 1), (3, 2))
    everything = pieces_of(shards)
    assert pieces_of(shards, block) == {index: everything[index] for index in product((2, 3, 4), (1, 2))}


def test_a_broken_index_is_an_error_that_names_the_shard(tmp_path: Path) -> None:
    values = np.arange(144).reshape(12, 12)
    old = zarrant.create_array(tmp_path / "a", data=values, chunks=(2, 3), shards=(6, 6))
    new = zarrant.create_array({}, shape=(12, 12), dtype="int64", chunks=(2, 3))
    path = tmp_path / "a" / "c" / "1" / "0"
    torn = bytearray(path.read_bytes())
    torn[-7] ^= 1
    path.write_bytes(torn)
    with pytest.raises(ChunkError, match="index") as error:
        move(zarrant.open_array(tmp_path / "a"), new)
    assert (error.value.chunk, error.value.key) == ((1, 0), "c/1/0")
    path.write_bytes(torn[:9])
    with pytest.raises(ChunkError, match="smaller than its index"):
        move(zarrant.open_array(tmp_path / "a"), new)
    path.unlink()
    move(zarrant.open_array(tmp_path / "a"), new)
    assert not new[6:, :6].any() and np.array_equal(new[:6], values[:6])
    assert old.shape == new.shape


def test_other_codecs_around_a_shard_are_undone_and_applied(shards: Any) -> None:
    inner = ShardingIndexed((2, 3), parse(Bytes(), Zstd(1)), parse(Bytes(), Crc32c()))
    around = zarrant.create_array({}, shape=(12, 12), dtype="int64", chunks=(4, 6), serializer=inner, compressors=[Gzip(1)])
    assert have_same_pieces(bound(shards), bound(around))
    move(shards, around)
    back = zarrant.create_array({}, shape=(12, 12), dtype="int64", chunks=(2, 3), compressors=[Zstd(1)])
    move(around, back)
    assert np.array_equal(around[...], shards[...]) and np.array_equal(back[...], shards[...])
    assert pieces_of(back) == pieces_of(around) == pieces_of(shards)
