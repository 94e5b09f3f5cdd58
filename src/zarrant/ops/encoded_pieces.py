"""Encoded chunks that move between arrays of other shards: into shards, out of them, and from shards to others.

A *piece* is what an array decodes by itself: a chunk, or where there are shards a subchunk of one. Two arrays whose pieces are the
same have the same bytes for each, whatever the shards: none is decoded, and checksums of the inner codecs go along. Only the
indexes of shards are read, checked and made anew. Nothing in pieces is looked into; an index of which an entry is invalid is a
ChunkError where that piece is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from zarrant.codecs.byte_sources import InMemory, Stored
from zarrant.errors import ZarrantError
from zarrant.geometry.box import ArraySubset, Shape
from zarrant.geometry.grid import ChunkGrid
from zarrant.ops.batching import largest_batch
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import put_current_one
from zarrant.ops.read import retrieve_encoded_chunks, while_replaced, whole_limit
from zarrant.ops.write import store_encoded_chunks
from zarrant.requests import Op, WriteRequest, gather
from zarrant.storage import Buffer

Pieces = Mapping[Shape, Buffer]
"""Encoded bytes by the index of the piece in the grid of all pieces. Those that are not stored are left out."""


def have_same_pieces(a: BoundArray, b: BoundArray) -> bool:
    """Whether an encoded piece of one array is the same piece of the other."""
    left, right = _kind(a), _kind(b)
    same = ("shape", "data_type", "fill_value")
    return left is not None and left == right and all(getattr(a.metadata, name) == getattr(b.metadata, name) for name in same)


def piece_grid(array: BoundArray) -> ChunkGrid:
    """The grid of all pieces, of an array that `have_same_pieces` knows."""
    return ChunkGrid.regular(array.shape, array.subchunk_shapes[0]) if array.sharded else array.grid


def retrieve_encoded_pieces(array: BoundArray, block: ArraySubset) -> Op[Pieces]:
    """The encoded pieces of a block of the grid of pieces; of shards only these and the index are read."""
    indices = list(product(*map(range, block.start, block.stop)))
    if not array.sharded:
        found = yield from retrieve_encoded_chunks(array, block)
        return {index: data for index, data in zip(indices, found, strict=True) if data is not None}
    by_shard = _by_shard(array, indices)
    reads = (_split(array, shard, [number for _, number in inside]) for shard, inside in by_shard.items())
    encoded = yield from gather(reads, _cost(array, by_shard))
    return {
        index: data
        for inside, found in zip(by_shard.values(), encoded, strict=True)
        for (index, _), data in zip(inside, found, strict=True)
        if data is not None
    }


def store_encoded_pieces(array: BoundArray, pieces: Pieces) -> Op[None]:
    """Store pieces as whole objects, of each of which all pieces are given; an object without any is not stored."""
    if not array.sharded:
        yield from store_encoded_chunks(array, list(pieces), list(pieces.values()))
        return
    by_shard = _by_shard(array, sorted(pieces))
    writes = (_join(array, shard, {number: pieces[index] for index, number in inside}) for shard, inside in by_shard.items())
    yield from gather(writes, _cost(array, by_shard))


def _kind(array: BoundArray) -> tuple[Any, ...] | None:
    """The shape and the codecs of the pieces; None where they are not all alike, or are shards themselves."""
    shape, chain = array.grid.uniform_shape, array.chain
    if not shape:
        return None
    if array.sharded:
        inner = chain.subchunk_codecs
        if inner is None or inner.subchunk_codecs is not None or chain.array_to_array:
            return None
        shape, chain = array.subchunk_shapes[0], inner
    return tuple(shape), chain.to_named(), chain.skipped


def _by_shard(array: BoundArray, indices: Sequence[Shape]) -> dict[Shape, list[tuple[Shape, int]]]:
    """The shards of pieces: for each the pieces in it, and their entries in its index."""
    sizes = array.grid.uniform_shape
    assert sizes is not None, "see _kind"
    counts = tuple([n // piece for n, piece in zip(sizes, array.subchunk_shapes[0], strict=True)])
    found: dict[Shape, list[tuple[Shape, int]]] = {}
    for index in indices:
        shard, number = [], 0
        for i, n in zip(index, counts, strict=True):
            shard.append(i // n)
            number = number * n + i % n  # entries are in C order
        found.setdefault(tuple(shard), []).append((index, number))
    return found


def _split(array: BoundArray, chunk: Shape, numbers: Sequence[int]) -> Op[list[Buffer | None]]:
    """The encoded subchunks of a shard that have these entries in its index."""
    shard, key, rows = array.shard_for(chunk), array.chunk_key(chunk), np.array(numbers, np.int64)
    limit = whole_limit(shard.subchunk_pipeline)

    def at_last() -> Op[list[Buffer | None]]:
        data = yield from Stored(key).read_all(whole_limit(shard))
        return (yield from shard.split(None if data is None else InMemory(data), rows, limit))

    try:
        return (yield from while_replaced(lambda: shard.split(Stored(key), rows, limit), at_last))
    except ZarrantError as error:
        raise error.annotate(chunk=chunk, key=key) from error.__cause__


def _join(array: BoundArray, chunk: Shape, subchunks: Mapping[int, Buffer]) -> Op[None]:
    """Store a shard of subchunks, by their entries in its index."""
    parts = yield from array.shard_for(chunk).join(np.array(list(subchunks), np.int64), list(subchunks.values()))
    if parts is not None:
        yield from put_current_one(array, WriteRequest(array.chunk_key(chunk), parts))


def _cost(array: BoundArray, shards: Mapping[Shape, Any]) -> int:
    return largest_batch(array, np.array(list(shards), np.int64)).cost if shards else 0
