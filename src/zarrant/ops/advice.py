"""What is poor about a layout for one access, and a better one.

In: an array, a region, and the figures of its plan. Out: `Advice`, each with a layout where another one would be better. Layouts
come from `geometry/layouts.py`, as those of `create_array` and `zarrant bench` do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from zarrant.codecs.protocols import VARIABLE_ELEMENT_BYTES
from zarrant.geometry.layouts import (
    AUTO_CHUNK_BYTES,
    MIN_SUBCHUNK_DIVISOR,
    SUBCHUNK_BYTES,
    Layout,
    auto_chunks,
    layout_for_reads,
    layout_for_writes,
)
from zarrant.geometry.region import Box, Region
from zarrant.limits import human
from zarrant.ops.bound_array import BoundArray

MAX_AMPLIFICATION = 4.0
"""Bytes decoded for each that is wanted: a plane as large as a chunk, that lies anywhere, touches 2 along each of its axes."""
MANY_OBJECTS = 10_000
"""Files of a directory that a parallel file system, and `ls`, take without complaint."""
LARGE_CHUNK_BYTES = 1 << 28
"""256 MiB that are decoded whole for one element."""
MANY_SUBCHUNKS = 1 << 16
"""An index of 1 MiB, which each first read of a shard and each update moves."""
SMALL_BYTES = SUBCHUNK_BYTES // MIN_SUBCHUNK_DIVISOR

Topic = Literal["reads too much", "unaligned", "one element", "tiny chunks", "huge chunks", "too many subchunks"]


@dataclass(frozen=True)
class Advice:
    """One thing that is poor about a layout for an access."""

    topic: Topic
    text: str
    layout: Layout | None = None
    """`chunks` and `shards` for `create_array` or `zarrant copy`."""

    def __str__(self) -> str:
        return self.text if self.layout is None else f"{self.text}; better: {self.layout}"


class Figures(Protocol):
    """What of a plan is judged (`explain.Plan`)."""

    @property
    def kind(self) -> Literal["read", "write"]:
        """Of the access."""
        ...

    @property
    def merged(self) -> int:
        """Objects of which a part is accessed."""
        ...

    @property
    def objects(self) -> int:
        """All objects."""
        ...

    @property
    def amplification(self) -> float | None:
        """Bytes decoded for each that is accessed."""
        ...


def advise(array: BoundArray, region: Region, plan: Figures, memory_limit: int, threads: int) -> tuple[Advice, ...]:
    """What could be better, the worst first."""
    if not array.shape or array.grid.uniform_shape is None:
        return ()
    return (*_of_pieces(array, memory_limit, threads), *_of_access(array, region, plan))


def _of_pieces(array: BoundArray, memory_limit: int, threads: int) -> Iterator[Advice]:
    """What is wrong with the layout for any access."""
    stored = array.grid.typical_shapes()[0]
    piece, itemsize = (array.subchunk_shapes or (stored,))[-1], array.data_type.itemsize or VARIABLE_ELEMENT_BYTES
    nbytes, count = math.prod(piece) * itemsize, math.prod(-(-n // side) for n, side in zip(array.shape, piece, strict=True))
    proposed = _for_any(array, itemsize)
    if array.piece_size == 1 and count > 1:
        yield Advice("one element", f"each of {count:,} elements is encoded by itself", proposed)
    elif nbytes < SMALL_BYTES and count > MANY_OBJECTS:
        yield Advice("tiny chunks", f"{count:,} pieces of {human(nbytes)} are encoded one by one", proposed)
    if nbytes > min(LARGE_CHUNK_BYTES, max(AUTO_CHUNK_BYTES, memory_limit // (2 * threads))):
        yield Advice("huge chunks", f"one element costs {human(nbytes)} of decoded bytes", proposed)
    if array.sharded and (n := math.prod(stored) // math.prod(array.subchunk_shapes[0])) > MANY_SUBCHUNKS:
        yield Advice("too many subchunks", f"{n:,} subchunks: the index of a shard has {human(16 * n)}", proposed)


def _for_any(array: BoundArray, itemsize: int) -> Layout:
    """What `create_array` would choose."""
    box = auto_chunks(array.shape, itemsize, SUBCHUNK_BYTES if array.sharded else AUTO_CHUNK_BYTES)
    return layout_for_reads(array.shape, itemsize, box) if array.sharded else Layout(box, None)


def _of_access(array: BoundArray, region: Region, plan: Figures) -> Iterator[Advice]:
    """What is wrong for this access."""
    if not isinstance(region, Box):
        return
    itemsize = array.data_type.itemsize or VARIABLE_ELEMENT_BYTES
    amplified, nbytes = plan.amplification or 1.0, math.prod(region.shape) * itemsize
    if plan.kind == "read" and amplified > MAX_AMPLIFICATION and nbytes >= SMALL_BYTES:
        text = f"{amplified:.1f} bytes are decoded for each that is wanted"
        yield from _if_other(array, Advice("reads too much", text, layout_for_reads(array.shape, itemsize, region.shape)))
    if plan.kind == "write" and plan.merged:
        unit = array.grid.typical_shapes()[0]
        text = f"{plan.merged:,} of {plan.objects:,} objects are read and changed: write multiples of {unit}, or with a.buffered()"
        better = layout_for_writes(array.shape, itemsize, region.shape) if nbytes >= SMALL_BYTES else None
        yield from _if_other(array, Advice("unaligned", text, better))


def _if_other(array: BoundArray, advice: Advice) -> Iterator[Advice]:
    """Without a layout that the array has already."""
    stored = array.grid.typical_shapes()[0]
    now = Layout(array.subchunk_shapes[0], stored) if array.sharded else Layout(stored, None)
    yield advice if advice.layout != now else Advice(advice.topic, advice.text)
