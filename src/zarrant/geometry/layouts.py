"""Shapes of chunks and shards: the one way in which a layout is proposed, for new arrays, benchmarks and plans.

In: shapes, the size of an element, and what is read or written at a time. Out: shapes. Nothing is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

AUTO_CHUNK_BYTES = 2**20
"""1 MiB: zarr-python and TensorStore both default to about this; a mini-batch holds one."""

SUBCHUNK_BYTES = 2**16
"""64 KiB: what is read alone from a shard is a request of its own, and a frame of its own to the compressor."""

MIN_SUBCHUNK_DIVISOR = 8
"""A subchunk of less than an eighth of that (8 KiB) costs more in the index and in calls than it saves in reading."""

AUTO_SUBCHUNKS = 2**12
"""An index of 64 KiB: it is read before anything else of a shard, as is one chunk of `SUBCHUNK_BYTES`."""

AUTO_SHARD_BYTES = 2**25
"""32 MiB: few enough objects for a parallel file system, and a shard for each CPU fits the memory of small machines."""


def auto_chunks(shape: tuple[int, ...], itemsize: int, target: int = AUTO_CHUNK_BYTES) -> tuple[int, ...]:
    """Chunks of about `target` bytes: long dimensions are halved until they fit.

    >>> auto_chunks((1000, 1000, 1000), 2)
    (63, 63, 125)
    """
    return halved([max(1, length) for length in shape], itemsize, target)


def auto_shard_shape(shape: tuple[int, ...], chunks: tuple[int, ...], itemsize: int) -> tuple[int, ...] | None:
    """Shards of whole chunks, of at most about `AUTO_SHARD_BYTES`; None where one chunk holds the array.

    The shortest side is doubled until it covers the array. A dimension without elements is meant to grow: it comes last.

    >>> auto_shard_shape((10_000, 512, 512), (1, 256, 256), 2)
    (256, 256, 256)
    """
    n_chunks = [-(-length // chunk) for length, chunk in zip(shape, chunks, strict=True)]
    sides = [1] * len(shape)
    while True:
        open_axes = [axis for axis, side in enumerate(sides) if side < n_chunks[axis]] or [
            axis for axis, length in enumerate(shape) if length == 0
        ]
        nbytes = math.prod(side * chunk for side, chunk in zip(sides, chunks, strict=True)) * itemsize
        if not open_axes or 2 * nbytes > AUTO_SHARD_BYTES or 2 * math.prod(sides) > AUTO_SUBCHUNKS:
            break
        axis = min(open_axes, key=lambda axis: sides[axis] * chunks[axis])
        sides[axis] = 2 * sides[axis] if shape[axis] == 0 else min(2 * sides[axis], n_chunks[axis])
    if math.prod(sides) == 1 and 0 not in shape and math.prod(n_chunks) == 1:
        return None
    return tuple(side * chunk for side, chunk in zip(sides, chunks, strict=True))


def divisors(shards: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of about `SUBCHUNK_BYTES` that divide the shards: large enough to compress, small enough to read alone.

    Where a side has no divisor that would do (it is prime, say), larger chunks are better than very small ones: each has an
    entry of 16 bytes in the index, and is a call of the compressor.

    >>> divisors((512, 512), 4), divisors((99_991,), 8)
    ((128, 128), (99991,))
    """
    chunks = list(shards)
    while (nbytes := math.prod(chunks) * itemsize) > SUBCHUNK_BYTES:
        for axis in sorted(range(len(chunks)), key=lambda axis: -chunks[axis]):
            size = chunks[axis]
            factor = _least_factor(size)
            if factor and nbytes // factor * MIN_SUBCHUNK_DIVISOR >= SUBCHUNK_BYTES:
                chunks[axis] = size // factor
                break
        else:
            break
    return tuple(chunks)


def _least_factor(size: int) -> int | None:
    """The least prime factor of a size; None for 1."""
    return next((factor for factor in range(2, math.isqrt(size) + 1) if size % factor == 0), size if size > 1 else None)


class Layout(NamedTuple):
    """Chunks that can be read alone, and the stored objects that they are put together in."""

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None

    def __str__(self) -> str:
        return f"chunks={self.chunks}, shards={self.shards}"


def cube(shape: Sequence[int], elements: int, free: Sequence[int]) -> tuple[int, ...]:
    """A chunk of at most about so many elements, whose shortest sides along the `free` axes are doubled; the last axis first.

    >>> cube((100, 1000, 1000), 4096, free=(0, 1, 2)), cube((100, 1000, 1000), 4096, free=(1, 2))
    ((16, 16, 16), (1, 64, 64))
    """
    return grown((1,) * len(shape), shape, elements, free)


def grown(sides: Sequence[int], shape: Sequence[int], elements: int, free: Sequence[int]) -> tuple[int, ...]:
    """Sides that are doubled along the `free` axes, the shortest first, while they have no more than so many elements."""
    found = list(sides)
    while (growing := [axis for axis in free if found[axis] < shape[axis]]) and 2 * math.prod(found) <= elements:
        axis = min(growing, key=lambda each: (found[each], -each))
        found[axis] = min(2 * found[axis], shape[axis])
    return tuple(found)


def halved(shape: Sequence[int], itemsize: int, most: int) -> tuple[int, ...]:
    """The shape, its longest axis halved until it takes no more bytes.

    >>> halved((100, 1000), 1, 2000)
    (50, 32)
    """
    sides = list(shape)
    while itemsize * math.prod(sides) > most and max(sides) > 1:
        longest = sides.index(max(sides))
        sides[longest] = -(-sides[longest] // 2)
    return tuple(sides)


def layout_for_reads(shape: tuple[int, ...], itemsize: int, box: tuple[int, ...]) -> Layout:
    """A layout in which boxes of a shape are read with few bytes that nobody wants: subchunks no larger than a box, in shards.

    >>> layout_for_reads((1000, 512, 512), 2, (1, 512, 512))
    Layout(chunks=(1, 128, 256), shards=(256, 256, 256))
    """
    box = tuple(max(1, min(side, length)) for side, length in zip(box, shape, strict=True))
    chunks = halved(box, itemsize, SUBCHUNK_BYTES)
    along = [axis for axis in range(len(shape)) if box[axis] > 1] or list(range(len(shape)))
    chunks = grown(chunks, shape, SUBCHUNK_BYTES // itemsize, along)
    return Layout(chunks, auto_shard_shape(shape, chunks, itemsize))


def layout_for_writes(shape: tuple[int, ...], itemsize: int, box: tuple[int, ...]) -> Layout:
    """A layout in which boxes of a shape, one beside the other, are written without a read: each is one stored object or several.

    >>> layout_for_writes((1000, 512, 512), 2, (10, 512, 512))
    Layout(chunks=(10, 32, 64), shards=(10, 512, 512))
    """
    stored = tuple(max(1, min(side, length)) for side, length in zip(box, shape, strict=True))
    while math.prod(stored) * itemsize > AUTO_SHARD_BYTES:
        factors = [_least_factor(side) for side in stored]
        axis = max(range(len(stored)), key=lambda each: (factors[each] is not None, stored[each]))
        factor = factors[axis]
        if factor is None:
            break
        stored = tuple(side // factor if i == axis else side for i, side in enumerate(stored))
    chunks = divisors(stored, itemsize)
    return Layout(stored, None) if chunks == stored else Layout(chunks, stored)
