"""Dead bytes of a shard that is updated repeatedly: how long they stay, and how their place is used again.

An update appends the new subchunks and a new index; the old subchunks stay as dead bytes. In come the index of the stored
shard, the numbers of the subchunks that an update replaces, and the record of earlier updates. Out goes a `Layout`: which old
bytes stay (always at their offsets), where the new ones go, what becomes a hole, and the record for the next update.

**Why dead bytes stay.** Most libraries read a shard in two steps: they open the object and read the index, then open it again
and read subchunks by offset. Other versions may have been published in between. Such a reader gets right (old) data if
everything that was live in the version of its index still has the same offsets in the version of its data. Therefore:

- Live subchunks never move (exceptions below).
- Dead bytes stay for a while. Nobody knows who reads, or for how long. A reader that takes t seconds needs the bytes that died
  in these t seconds, so the promise counts bytes and updates: a dead subchunk keeps its place until `allowance` further bytes of
  the shard have died, in at least `KEPT_UPDATES` *later* updates. The allowance is `dead_limit` (0.5) times the live bytes, and
  at least `KEPT_BYTES`. So dead bytes take no more space than that, or than the last updates replaced. A limit in seconds would
  not work: a shard that is filled row by row replaces its own size many times a second; all of that would have to be kept, and
  copied by every update.
- Bytes that died before that have no reader. They are *free*: new subchunks are put there, large free ranges become holes (the
  file system releases their blocks), and free bytes at the end are cut off. No offset that a reader may have is touched.

**When bytes died.** The format of a shard does not say, so an update writes a record into the shard once there are many dead
bytes: before an index at the end, or at the end of a shard whose index is at the start. It is not part of the index; other
libraries see unreferenced bytes, as they see dead subchunks. The clock of a shard counts bytes that died. The record has the
time on this clock, and for every dead range the time when it died. Without a record (the first time, or after a write of
another library) all dead bytes count as having died now. A record that does not fit the index exactly is ignored. The time of
day is not used: the clocks of several machines differ, and a shard that is not updated has nothing to free.

**When live subchunks do move** (and the offsets of readers become wrong at once): when the whole shard is written, in `compact`,
with `shard_updates="repack"`, and where the shard is longer than `MAX_SHARD_MULTIPLE` times its live bytes and the allowance, as
happens when new subchunks do not fit into the free ranges. Whole reads, copies, and stores without holes pay for that space.

An inner shard that changes moves as a whole, to a new place in the outermost shard; its old version keeps its place by the same
rule. So only the outermost shard, whose bytes are those in the store, is laid out here.

`kernels/native/dead_bytes.cpp` does the same for the compiled update of a box, byte for byte, of which a test makes sure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.sharding.format import Index

Ints = npt.NDArray[np.int64]

KEPT_BYTES = 1 << 21
"""The least allowance of dead bytes that are kept for readers.

With 512 KiB (shards of 64 KiB subchunks, four an update, twelve processes on two processors) zarr-python and zarrs found wrong
bytes within 1,500 reads; with 2 MiB none in 3,000, nor in shards of other sizes.
"""
KEPT_UPDATES = 4
"""The least number of updates for which dead bytes stay. However much one update replaces, the clock advances by a part only.

With one (2.4 MB shards, 1 MB an update, 16 processes on two processors) zarrs found wrong bytes within 700 reads; with four none.
"""
FIRST_RECORD = 4
"""The first record is made when a quarter of the allowance is dead; all of it gets the same time."""
MIN_HOLE_BYTES = 64 << 10
"""Smaller free ranges do not become holes. Copying one takes 15-22 µs (ext4, tmpfs), about as long as one more range.

In the compiled update one more range costs nothing on tmpfs, where holes of 8 KiB and more would save 0 to 12 % of the CPU time; on
ext4 it costs 14 µs, and with 100 holes of 19 kB in 7 MiB a sync takes 80 to 135 ms in place of 8 to 12.
"""
MAX_SHARD_MULTIPLE = 6
"""A shard may be this many times as long as (live bytes + allowance). Keeping four updates that replace all of it needs half."""
MAX_RECORD_RANGES = 1 << 16
"""The most dead ranges in a record, which is then 1.5 MiB. With more, nothing is freed until the shard is repacked."""

_TAIL = struct.Struct("<QII8s")
_MAGIC = b"\x89zdead\r\n"
TAIL_BYTES = _TAIL.size
_RUN = np.dtype("<i8")


class Record(NamedTuple):
    """What died when: `runs` (n, 3) are start, stop, and the clock when the update that replaced them was published."""

    clock: int
    runs: Ints

    def encode(self) -> bytes:
        """As bytes: the runs, then a tail of fixed size."""
        body = np.ascontiguousarray(self.runs, _RUN).tobytes()
        head = _TAIL.pack(self.clock, len(self.runs), 0, _MAGIC)
        return body + _TAIL.pack(self.clock, len(self.runs), kernels.crc32c(body + head), _MAGIC)


def record_size(tail: bytes | memoryview) -> int:
    """The size of the record that ends with this tail; 0 if it is no tail of a record."""
    _, count, _, magic = _TAIL.unpack(tail)
    return 0 if magic != _MAGIC or count > MAX_RECORD_RANGES else count * 24 + TAIL_BYTES


def read_record(data: bytes | memoryview, index: Index, first: int, start: int) -> Record | None:
    """The record whose bytes begin at `start`; None if it is damaged or does not fit the index."""
    body, tail = bytes(data[:-TAIL_BYTES]), bytes(data[-TAIL_BYTES:])
    clock, count, checksum, _ = _TAIL.unpack(tail)
    if kernels.crc32c(body + _TAIL.pack(clock, count, 0, _MAGIC)) != checksum or clock >= 2**62:
        return None
    runs = np.frombuffer(body, _RUN).reshape(count, 3).astype(np.int64)
    live = _live(index)
    begin, end = np.concatenate((runs[:, 0], live[0])), np.concatenate((runs[:, 1], live[1]))
    order = begin.argsort(kind="stable")
    begin, end = begin[order], end[order]
    apart = (begin[1:] >= end[:-1]).all() and (begin < end).all()
    inside = begin.size == 0 or (begin[0] >= first and end[-1] <= start)
    return Record(clock, runs) if apart and inside and (runs[:, 2] <= clock).all() else None


def allowance(live: int, dead_limit: float) -> int | None:
    """How many dead bytes are kept; None for all of them. It is the part `dead_limit` of the live bytes, or `KEPT_BYTES`."""
    return None if dead_limit >= 1 else max(KEPT_BYTES, int(live * dead_limit))


def rules(dead_limit: float) -> tuple[float, int, int, int, int, int, int]:
    """What `kernels.ChunkLayout` has to know to do the same: the numbers of this page, in its order."""
    return dead_limit, KEPT_BYTES, KEPT_UPDATES, FIRST_RECORD, MIN_HOLE_BYTES, MAX_SHARD_MULTIPLE, MAX_RECORD_RANGES


def needs_record(dead: int, kept: int | None) -> bool:
    """Whether there are so many dead bytes that a record is needed."""
    return kept is not None and FIRST_RECORD * dead > kept


@dataclass(frozen=True)
class Layout:
    """The new layout of a shard: old bytes [first, end) with `holes`, the place `at` of the new bytes, and the record.

    `at` lies in [first, end], and is `end` where the new bytes are appended.
    """

    first: int
    end: int
    at: int
    holes: Ints
    record: bytes

    @property
    def size(self) -> int:
        """Length of the old bytes, free ranges included."""
        return self.end - self.first


def lay_out(
    index: Index, numbers: Ints, record: Record | None, data: tuple[int, int], added: int, kept_bytes: int
) -> Layout | None:
    """Find a place for `added` bytes that replace the subchunks `numbers` of a shard with the old bytes `data` [first, end).

    `data` does not include the record. None if there are too many dead ranges for a record.
    """
    first, end = data
    live, dying = _live(index), _runs(index, numbers)
    if record is None:
        dead = _gaps(live, first, end)
        record = Record(0, _timed(dead, 0))
    clock = record.clock + min(int((dying[1] - dying[0]).sum()), kept_bytes // KEPT_UPDATES)  # safety: dead clock
    runs = np.concatenate((record.runs, _timed(dying, clock)))
    runs = runs[clock - runs[:, 2] < kept_bytes]  # safety: dead bytes
    if len(runs) > MAX_RECORD_RANGES:
        return None
    # These ranges do not overlap, so their starts and their stops have the same order.
    taken = (np.sort(np.concatenate((live[0], runs[:, 0]))), np.sort(np.concatenate((live[1], runs[:, 1]))))
    free = np.stack(_gaps(taken, first, end), 1)
    if len(free) and free[-1, 1] == end:
        end, free = int(free[-1, 0]), free[:-1]
    at, free = _place(free, end, added)
    holes = free[free[:, 1] - free[:, 0] >= MIN_HOLE_BYTES]
    return Layout(first, end, at, holes, Record(clock, runs).encode())


def _place(free: Ints, end: int, added: int) -> tuple[int, Ints]:
    """Put the new bytes into the smallest free range that is large enough, else at the end; also returns what stays free."""
    length = free[:, 1] - free[:, 0]
    fit = np.flatnonzero(length >= added)
    if added == 0 or fit.size == 0:
        return end, free
    row = int(fit[np.argmin(length[fit])])
    free = free.copy()
    at = int(free[row, 0])
    free[row, 0] += added
    return at, free


def _live(index: Index) -> tuple[Ints, Ints]:
    """(start, stop) of the stored subchunks, in order."""
    rows = (index.size > 0).nonzero()[0]
    start = index.offset[rows]
    order = start.argsort(kind="stable")
    start = start[order]
    return start, start + index.size[rows[order]]


def _runs(index: Index, rows: Ints) -> tuple[Ints, Ints]:
    """(start, stop) of the stored ones of `rows`, in order; adjacent ones are merged."""
    begin, end, _ = index.runs(rows[index.size[rows] > 0])
    return begin, end


def _gaps(taken: tuple[Ints, Ints], first: int, end: int) -> tuple[Ints, Ints]:
    """The gaps of [first, end) between sorted ranges that do not overlap."""
    start, stop = np.append(first, taken[1]), np.append(taken[0], end)
    some = start < stop
    return start[some], stop[some]


def _timed(ranges: tuple[Ints, Ints], clock: int) -> Ints:
    return np.stack((*ranges, np.full(ranges[0].size, clock, np.int64)), 1)
