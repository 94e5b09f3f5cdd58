"""Dead bytes of a shard that is updated again and again: how long they stay, and what becomes of their room.

An update appends the new subchunks and a new index; the old subchunks stay where they are as dead bytes. In come the index of
the stored shard, which subchunks an update replaces, and what former updates noted; out goes a `Layout`: which old bytes stay
(at their offsets, always), where the new ones go, what becomes a hole, and the note for the next update.

**Who needs dead bytes.** Most libraries read a shard in two steps: they open the object and read the index, then open it again
and read subchunks by offset. In between other versions may have been published. Such a reader gets right (old) data if what
was live in the version whose index it has is, in the version whose bytes it gets, still at the same offsets. So:

- live subchunks never move (but see below);
- bytes that died must stay a while. How long a reader takes nobody can know, nor who reads. All that must be kept for a reader
  that takes t seconds is what died in t seconds, so the promise is made in bytes and updates: a dead subchunk keeps its place
  until `allowance` further bytes of the shard have died, in at least `KEPT_UPDATES` *later* updates. The allowance is
  `dead_limit` (0.5) times the live bytes, and never less than `KEPT_BYTES`; so dead bytes take no more room than that, or than
  what the last updates replaced. A time instead would be of no use: a shard that is filled row by row replaces its size many
  times in a second, which would all have to be kept, and copied by every update.
- Bytes that died earlier have no reader, and are *free*: new subchunks are put there, large rests become holes (the file
  system gives their blocks back), and what is free at the end is cut off. No offset that a reader may have is touched.

**When bytes died** is not told by a shard, so an update notes it in the shard itself once there is much that is dead: a record
before an index at the end, or at the end of a shard with its index at the start. It is not in the index, so that for other
libraries it is unreferenced bytes, as dead subchunks are. The clock of a shard counts bytes that died; the record has its time
and, for every dead range, when it died. Where there is no record (the first time, or after another library wrote), all that is
dead counts as having died now. A record that does not fit the index exactly is ignored. No wall clock is used: those of several
machines differ, and a shard that is not updated needs nothing freed.

**True moves** (offsets become wrong at once) happen in a whole rewrite, in `compact`, with `shard_updates="repack"`, and where
a shard is larger than `MOST_TIMES` its live bytes and the allowance: free room that new subchunks do not fit into. Whole reads,
copies, and stores without holes, which get zeros, pay for that room.

A shard inside of a shard moves as a whole when it changes, to new room of the outermost one; its old version keeps its place by
the same rule. So only the outermost shard, whose bytes a store has, is laid out here.
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
"""Dead bytes that are kept for readers in any case.

With 512 KiB (shards of 64 KiB subchunks, four an update, twelve processes on two processors) zarr-python and zarrs found wrong
bytes within 1,500 reads; with 2 MiB none in 3,000, nor in shards of other sizes.
"""
KEPT_UPDATES = 4
"""Updates that dead bytes outlive in any case, however much each of them replaces: the clock advances by a part only.

With one (2.4 MB shards, 1 MB an update, 16 processes on two processors) zarrs found wrong bytes within 700 reads; with four none.
"""
FIRST_RECORD = 4
"""A record is made when a quarter of the allowance is dead: that much has no time of its own yet, and dies as one."""
MIN_HOLE_BYTES = 64 << 10
"""Free ranges that become holes. A smaller one is copied in 15-22 µs (ext4, tmpfs), about what one more range costs."""
MOST_TIMES = 6
"""Times (live bytes + allowance) that a shard may be long: updates that replace all of it, of which four are kept, need half."""
MOST_RUNS = 1 << 16
"""Dead ranges in a record: 1.5 MiB. Where there are more, nothing is freed until they are moved."""

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
    """Bytes of the record that ends with this tail, 0 where it is none."""
    _, count, _, magic = _TAIL.unpack(tail)
    return 0 if magic != _MAGIC or count > MOST_RUNS else count * 24 + TAIL_BYTES


def read_record(data: bytes | memoryview, index: Index, first: int, start: int) -> Record | None:
    """The record whose bytes begin at `start`; None unless it is whole and says of every byte that is dead what can be."""
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
    """Dead bytes that are kept; None: all of them.

    `dead_limit` of the live bytes: on average as many as when a shard was repacked each time as its dead share passed it.
    """
    return None if dead_limit >= 1 else max(KEPT_BYTES, int(live * dead_limit))


def is_much(dead: int, kept: int | None) -> bool:
    """Whether it is time to look after dead bytes."""
    return kept is not None and FIRST_RECORD * dead > kept


@dataclass(frozen=True)
class Layout:
    """Where everything goes: the old bytes [first, end) with `holes` in them, `at` which the new bytes are, and the record.

    `at` lies in [first, end], and is `end` where the new bytes are appended.
    """

    first: int
    end: int
    at: int
    holes: Ints
    record: bytes

    @property
    def size(self) -> int:
        """Bytes of old and free room."""
        return self.end - self.first


def lay_out(
    index: Index, numbers: Ints, record: Record | None, data: tuple[int, int], added: int, kept_bytes: int
) -> Layout | None:
    """Room for `added` bytes that replace the subchunks `numbers` of a shard whose old bytes are `data` [first, end).

    `data` is without the record. None where there are too many dead ranges to tell of.
    """
    first, end = data
    live, dying = _live(index), _runs(index, numbers)
    if record is None:
        dead = _gaps(live, first, end)
        record = Record(0, _timed(dead, 0))
    clock = record.clock + min(int((dying[1] - dying[0]).sum()), kept_bytes // KEPT_UPDATES)  # safety: dead clock
    runs = np.concatenate((record.runs, _timed(dying, clock)))
    runs = runs[clock - runs[:, 2] < kept_bytes]  # safety: dead bytes
    if len(runs) > MOST_RUNS:
        return None
    # Ranges that share nothing: those that begin in some order end in the same one.
    taken = (np.sort(np.concatenate((live[0], runs[:, 0]))), np.sort(np.concatenate((live[1], runs[:, 1]))))
    free = np.stack(_gaps(taken, first, end), 1)
    if len(free) and free[-1, 1] == end:
        end, free = int(free[-1, 0]), free[:-1]
    at, free = _place(free, end, added)
    holes = free[free[:, 1] - free[:, 0] >= MIN_HOLE_BYTES]
    return Layout(first, end, at, holes, Record(clock, runs).encode())


def _place(free: Ints, end: int, added: int) -> tuple[int, Ints]:
    """Where the new bytes go: into the smallest free range that is large enough, else to the end; and what stays free."""
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
    """(start, stop) of the stored ones of `rows`, neighbours merged, in order."""
    begin, end, _ = index.runs(rows[index.size[rows] > 0])
    return begin, end


def _gaps(taken: tuple[Ints, Ints], first: int, end: int) -> tuple[Ints, Ints]:
    """What is left of [first, end) between sorted ranges that do not overlap."""
    start, stop = np.append(first, taken[1]), np.append(taken[0], end)
    some = start < stop
    return start[some], stop[some]


def _timed(ranges: tuple[Ints, Ints], clock: int) -> Ints:
    return np.stack((*ranges, np.full(ranges[0].size, clock, np.int64)), 1)
