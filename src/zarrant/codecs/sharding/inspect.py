"""What is in a shard: its index and those of the shards inside it, as far as they can be trusted.

In comes a prepared shard and a source; out goes a tree of `Level`s, one for each shard, that holds the entries which can be
and names the faults of the others, instead of stopping at the first. Only indexes are read, all those inside of one shard in
one request; `decode` reads the subchunks as well. An index of the outermost shard that cannot be read is a ChunkError: nothing
can be found without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.protocols import Fetched, Ints, Source
from zarrant.codecs.sharding.format import Index, locate
from zarrant.codecs.sharding.prepared import Shard
from zarrant.codecs.sources import InMemory, Window
from zarrant.errors import ChunkError
from zarrant.requests import Op
from zarrant.storage import ByteRange


class Fault(NamedTuple):
    """One subchunk that cannot be read. `path`: its number in the shard, and before that the numbers of the shards around it.

    `kind`: "entry" (its index entry is wrong), "overlap" (its bytes belong to another one too), "subchunk" (its bytes do not
    decode).
    """

    kind: str
    path: tuple[int, ...]
    detail: str


@dataclass
class Level:
    """One shard. `index` has the entries that can be; `faults` says of the other ones, by number, what is wrong."""

    shard: Shard
    source: Source
    index: Index
    faults: dict[int, Fault] = field(default_factory=dict)
    children: dict[int, Level] = field(default_factory=dict)
    dropped: bool = False

    @property
    def data(self) -> tuple[int, int]:
        """The bytes [start, stop) that hold subchunks."""
        return locate(self.source.size, self.shard.index_size, self.shard.at_start)

    @property
    def dead(self) -> int:
        """Bytes of this shard that no entry of its own index needs."""
        start, stop = self.data
        return max(0, stop - start - self.index.live_bytes)

    def walk(self) -> Iterator[Level]:
        """This shard and all those inside of it."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    def all_faults(self, above: tuple[int, ...] = ()) -> list[Fault]:
        """Faults of this shard and of those inside, each with its whole path, in order."""
        found = [fault._replace(path=(*above, row)) for row, fault in self.faults.items()]
        for row, child in self.children.items():
            found += child.all_faults((*above, row))
        return sorted(found, key=lambda fault: fault.path)

    def blame(self, rows: Ints | npt.NDArray[np.intp], kind: str, detail: str) -> None:
        """Note the same fault of several subchunks."""
        for row in rows.tolist():
            self.faults.setdefault(row, Fault(kind, (row,), detail))

    def drop_faulty(self) -> None:
        """Forget the entries that cannot be read, here and inside. Those that overlap stay: either may be the right one."""
        rows = np.array([row for row, fault in self.faults.items() if fault.kind != "overlap"], np.int64)
        self.index = self.index.without(rows)
        self.dropped = self.dropped or bool(rows.size)
        for row in rows.tolist():
            self.children.pop(row, None)
        for child in self.children.values():
            child.drop_faulty()


def survey(shard: Shard, source: Source) -> Op[Level | None]:
    """The tree of a stored shard; None where it is not stored."""
    opened = yield from shard.read_index(source)
    if opened is None:
        return None
    return (yield from _level(shard, *opened))


def _level(shard: Shard, source: Source, index_bytes: memoryview) -> Op[Level]:
    table = shard.decode_index(index_bytes)
    data = locate(source.size, shard.index_size, shard.at_start)
    index, half, outside = Index.sift(table, data)
    level = Level(shard, source, index)
    level.blame(half, "entry", "only one of offset and length is given")
    for row in outside.tolist():
        detail = f"points outside of the data, to {table[row, 1]} bytes from {table[row, 0]} (the data: {data[0]}..{data[1]})"
        level.blame(np.array([row]), "entry", detail)
    long = index.reaching_over_others()
    level.blame(long, "entry", "reaches over several other subchunks")
    level.blame(index.without(long).overlapping(), "overlap", "shares bytes with another subchunk")
    if isinstance(shard.inner, Shard):
        yield from _survey_children(level, shard.inner)
    elif isinstance(shard.inner, ChunkPipeline) and (size := shard.inner.encoded_size()) is not None:
        wrong = np.flatnonzero(index.present & (index.size != size))
        level.blame(wrong, "entry", f"has another length than the {size} bytes of every encoded subchunk")
    elif isinstance(shard.inner, ChunkPipeline):
        large = np.flatnonzero(index.size > shard.inner.stored_limit)
        level.blame(large, "entry", f"is longer than the {shard.inner.stored_limit} bytes that its codecs make at most")
    return level


def _survey_children(level: Level, inner: Shard) -> Op[None]:
    """The shards inside of a shard. What cannot be read of one is its fault alone."""
    offset, size = level.index.offset, level.index.size
    small = np.flatnonzero(level.index.present & (size < inner.index_size)) if not inner.outer else np.empty(0, np.int64)
    level.blame(small, "subchunk", f"is smaller than its index of {inner.index_size} bytes")
    rows = [row for row in np.flatnonzero(level.index.present).tolist() if row not in level.faults]
    if not rows:
        return
    if inner.outer:
        spans = [ByteRange(int(offset[row]), int(size[row])) for row in rows]
    elif inner.at_start:
        spans = [ByteRange(int(offset[row]), inner.index_size) for row in rows]
    else:
        spans = [ByteRange(int(offset[row] + size[row]) - inner.index_size, inner.index_size) for row in rows]
    found = yield from level.source.read(spans)
    if found is None:
        raise ChunkError("the shard vanished while it was read", codec="sharding_indexed")
    for row, data in zip(rows, found, strict=True):
        try:
            if inner.outer:
                child = yield from survey(inner, InMemory(data))
            else:
                child = yield from _level(inner, Window(level.source, int(offset[row]), int(size[row])), data)
        except ChunkError as error:
            level.blame(np.array([row]), "subchunk", f"is a shard whose index cannot be read: {error}")
        else:
            assert child is not None, "bytes in memory are there"
            level.children[row] = child


def decode(level: Level) -> Op[None]:
    """Decode every subchunk, and note those that do not decode."""
    for child in level.children.values():
        yield from decode(child)
    inner = level.shard.inner
    if isinstance(inner, ChunkPipeline):
        readable = level.index.present & (level.index.size <= inner.stored_limit)
        rows = np.flatnonzero(readable).astype(np.int64)
        for lo, hi in level.shard.batches(rows.size):
            yield from _decode_rows(level, inner, rows[lo:hi])


def _decode_rows(level: Level, inner: ChunkPipeline, rows: Ints) -> Op[None]:
    index = level.index
    # Neighbours in one range; a range for each where something is wrong, since what overlaps cannot be merged.
    begin, end, run = index.offset[rows], index.offset[rows] + index.size[rows], np.arange(rows.size)
    if not level.faults:
        begin, end, run = index.runs(rows)
    found = yield from level.source.read([ByteRange(int(a), int(b - a)) for a, b in zip(begin, end, strict=True)])
    if found is None:
        raise ChunkError("the shard vanished while it was read", codec="sharding_indexed")
    fetched = Fetched(rows, found, run, index.offset[rows] - begin[run], index.size[rows])
    for row, reason in (yield from inner.check(fetched)).items():
        level.faults[row] = Fault("subchunk", (row,), f"does not decode: {reason}")
