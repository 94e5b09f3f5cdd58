"""What is in a stored shard: its index, and those of the shards inside of it, with every fault.

In come a prepared shard and a source. Out goes a tree of `ShardReport`s, one for each shard. A report has the valid entries of
the index and names the faults of the others; it does not stop at the first. Only indexes are read, all those inside of one
shard in one request; `decode` also reads and decodes the subchunks. If the index of the outermost shard cannot be read, that is
a ChunkError: without it nothing can be found.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant.codecs.byte_sources import InMemory, Window
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.protocols import Fetched, Ints, Source
from zarrant.codecs.sharding.format import Index, locate
from zarrant.codecs.sharding.prepared import Shard
from zarrant.errors import ChunkError
from zarrant.requests import Op
from zarrant.storage import ByteRange


class Fault(NamedTuple):
    """One subchunk that cannot be read. `path`: the numbers of the shards around it, the outermost first, and its own number.

    `kind`: "entry" (its index entry is wrong), "overlap" (its bytes belong to another one too), "subchunk" (its bytes do not
    decode).
    """

    kind: str
    path: tuple[int, ...]
    detail: str


@dataclass
class ShardReport:
    """One shard. `index` has the valid entries; `faults` says what is wrong with the others, by their number."""

    shard: Shard
    source: Source
    index: Index
    faults: dict[int, Fault] = field(default_factory=dict)
    children: dict[int, ShardReport] = field(default_factory=dict)
    dropped: bool = False

    @property
    def data(self) -> tuple[int, int]:
        """The bytes [start, stop) of subchunks."""
        return locate(self.source.size, self.shard.index_size, self.shard.at_start)

    @property
    def dead(self) -> int:
        """Bytes of this shard that no entry of its own index needs."""
        start, stop = self.data
        return max(0, stop - start - self.index.live_bytes)

    def walk(self) -> Iterator[ShardReport]:
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

    def add_fault(self, rows: Ints | npt.NDArray[np.intp], kind: str, detail: str) -> None:
        """Add the same fault for several subchunks; the first fault of a subchunk counts."""
        for row in rows.tolist():
            self.faults.setdefault(row, Fault(kind, (row,), detail))

    def drop_faulty(self) -> None:
        """Drop the entries that cannot be read, here and in inner shards. Overlapping ones stay: either may be the right one."""
        rows = np.array([row for row, fault in self.faults.items() if fault.kind != "overlap"], np.int64)
        self.index = self.index.without(rows)
        self.dropped = self.dropped or bool(rows.size)
        for row in rows.tolist():
            self.children.pop(row, None)
        for child in self.children.values():
            child.drop_faulty()


def inspect(shard: Shard, source: Source) -> Op[ShardReport | None]:
    """The report of a stored shard; None if it is not stored."""
    opened = yield from shard.read_index(source)
    if opened is None:
        return None
    return (yield from _report(shard, *opened))


def _report(shard: Shard, source: Source, index_bytes: memoryview) -> Op[ShardReport]:
    table = shard.decode_index(index_bytes)
    data = locate(source.size, shard.index_size, shard.at_start)
    index, half, outside = Index.separate_faulty(table, data)
    report = ShardReport(shard, source, index)
    report.add_fault(half, "entry", "only one of offset and length is given")
    for row in outside.tolist():
        detail = f"points outside of the data, to {table[row, 1]} bytes from {table[row, 0]} (the data: {data[0]}..{data[1]})"
        report.add_fault(np.array([row]), "entry", detail)
    long = index.reaching_over_others()
    report.add_fault(long, "entry", "reaches over several other subchunks")
    report.add_fault(index.without(long).overlapping(), "overlap", "shares bytes with another subchunk")
    if isinstance(shard.subchunk_pipeline, Shard):
        yield from _inspect_children(report, shard.subchunk_pipeline)
    elif isinstance(shard.subchunk_pipeline, ChunkPipeline) and (size := shard.subchunk_pipeline.encoded_size()) is not None:
        wrong = np.flatnonzero(index.present & (index.size != size))
        report.add_fault(wrong, "entry", f"has another length than the {size} bytes of every encoded subchunk")
    elif isinstance(shard.subchunk_pipeline, ChunkPipeline):
        large = np.flatnonzero(index.size > shard.subchunk_pipeline.stored_limit)
        report.add_fault(
            large, "entry", f"is longer than the {shard.subchunk_pipeline.stored_limit} bytes that its codecs make at most"
        )
    return report


def _inspect_children(report: ShardReport, inner: Shard) -> Op[None]:
    """Read the inner shards of a shard. If the index of one cannot be read, only that one gets a fault."""
    offset, size = report.index.offset, report.index.size
    small = np.flatnonzero(report.index.present & (size < inner.index_size)) if not inner.outer_codecs else np.empty(0, np.int64)
    report.add_fault(small, "subchunk", f"is smaller than its index of {inner.index_size} bytes")
    rows = [row for row in np.flatnonzero(report.index.present).tolist() if row not in report.faults]
    if not rows:
        return
    if inner.outer_codecs:
        ranges = [ByteRange(int(offset[row]), int(size[row])) for row in rows]
    elif inner.at_start:
        ranges = [ByteRange(int(offset[row]), inner.index_size) for row in rows]
    else:
        ranges = [ByteRange(int(offset[row] + size[row]) - inner.index_size, inner.index_size) for row in rows]
    found = yield from report.source.read(ranges)
    if found is None:
        raise ChunkError("the shard vanished while it was read", codec="sharding_indexed")
    for row, data in zip(rows, found, strict=True):
        try:
            if inner.outer_codecs:
                child = yield from inspect(inner, InMemory(data))
            else:
                child = yield from _report(inner, Window(report.source, int(offset[row]), int(size[row])), data)
        except ChunkError as error:
            report.add_fault(np.array([row]), "subchunk", f"is a shard whose index cannot be read: {error}")
        else:
            assert child is not None, "bytes in memory are there"
            report.children[row] = child


def decode(report: ShardReport) -> Op[None]:
    """Decode every subchunk, and note those that do not decode."""
    for child in report.children.values():
        yield from decode(child)
    inner = report.shard.subchunk_pipeline
    if isinstance(inner, ChunkPipeline):
        readable = report.index.present & (report.index.size <= inner.stored_limit)
        rows = np.flatnonzero(readable).astype(np.int64)
        for lo, hi in report.shard.batches(rows.size, 1):
            yield from _decode_rows(report, inner, rows[lo:hi])


def _decode_rows(report: ShardReport, inner: ChunkPipeline, rows: Ints) -> Op[None]:
    index = report.index
    # Adjacent subchunks are one range. With faults each has its own range, since overlapping ones cannot be merged.
    begin, end, run = index.offset[rows], index.offset[rows] + index.size[rows], np.arange(rows.size)
    if not report.faults:
        begin, end, run = index.runs(rows)
    found = yield from report.source.read([ByteRange(int(a), int(b - a)) for a, b in zip(begin, end, strict=True)])
    if found is None:
        raise ChunkError("the shard vanished while it was read", codec="sharding_indexed")
    fetched = Fetched(rows, found, run, index.offset[rows] - begin[run], index.size[rows])
    for row, reason in (yield from inner.check(fetched)).items():
        report.faults[row] = Fault("subchunk", (row,), f"does not decode: {reason}")
