"""The format of a shard: index entries and layout arithmetic. No bytes are moved here.

A shard consists of encoded subchunks and an index, at its start or its end. The index has an offset and a length for each
subchunk, in C order; offsets count from the start of the stored object. "Empty inner chunks are denoted by setting both offset
and nbytes to 2^64 - 1." https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.errors import ChunkError

Ints = npt.NDArray[np.int64]
MISSING = np.uint64(2**64 - 1)


@dataclass(frozen=True, slots=True)
class FaultyEntries:
    """A stored index of which some entries are invalid, and the `data` part of its object.

    `kept` has what an update stores for these entries. Their offset stays. Where an entry might become valid when the shard
    grows, or overlap another subchunk then, its length is stored as missing.
    """

    table: npt.NDArray[np.uint64]
    data: tuple[int, int]
    kept: npt.NDArray[np.uint64]

    def error(self, row: int) -> ChunkError:
        """The error for one invalid entry."""
        offset, size = int(self.table[row, 0]), int(self.table[row, 1])
        missing = int(MISSING)
        if (offset == missing) != (size == missing):
            reason = "offset and length must both be missing or both be given"
        elif not self.data[0] <= offset <= offset + size <= self.data[1]:
            reason = f"points outside of the data, bytes {self.data[0]}..{self.data[1]}"
        else:
            reason = "overlaps another subchunk"
        return ChunkError(
            f"shard index: the entry of subchunk {row} {reason}",
            codec="sharding_indexed",
            field=f"index[{row}]",
            got=f"offset {offset}, length {size}",
            hint="Other subchunks can be read; writing all of this one mends it",
        )


AT_FAULT = -2
"""Stands for offset and size of a subchunk whose entry is invalid."""


@dataclass(frozen=True, slots=True)
class Index:
    """The decoded index of one shard: `offset` and `size` (n,) int64, -1 where the subchunk is not stored.

    Both are `AT_FAULT` where the stored entry is invalid; `faulty` has what is stored, and is None where every entry can.
    """

    offset: Ints
    size: Ints
    faulty: FaultyEntries | None = None

    @classmethod
    def empty(cls, n: int) -> Index:
        """No subchunk is stored."""
        # "Empty inner chunks are denoted by setting both offset and nbytes to 2^64 - 1." (sharding_indexed, binary shard format)
        return cls(np.full(n, -1, np.int64), np.full(n, -1, np.int64))

    @classmethod
    def from_table(cls, table: npt.NDArray[np.uint64], data: tuple[int, int]) -> Index:
        """Check the (n, 2) table of a stored index against the `data` part [start, stop) of its object.

        Invalid are entries of which one half is missing, that reach outside of the data, or that overlap: no writer means two
        subchunks to share bytes. An entry that reaches over several others is invalid alone; of two overlapping ones both are.
        """
        entries = table.view(np.int64)  # MISSING is -1 here
        if kernels.valid_index(entries, *data):
            return cls(entries[:, 0], entries[:, 1])
        index, half, outside = cls.separate_faulty(table, data)
        long = index.reaching_over_others()
        overlapping = index.without(long)._overlapping_each_other()
        rows = np.concatenate((half, outside, long, overlapping))
        if not rows.size:
            return index
        kept = table.copy()
        kept[np.concatenate((outside, long)), 1] = MISSING
        return Index(index.offset, index.size, FaultyEntries(table, data, kept))._with_entry(rows, AT_FAULT)

    def require(self, rows: Ints | npt.NDArray[np.intp]) -> None:
        """ChunkError if the entry of one of `rows` is invalid."""
        if self.faulty is not None:
            bad = rows[self.size[rows] == AT_FAULT]
            if bad.size:
                raise self.faulty.error(int(bad[0]))

    @classmethod
    def separate_faulty(
        cls, table: npt.NDArray[np.uint64], data: tuple[int, int]
    ) -> tuple[Index, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """An index of the valid entries, the rows of which one half is missing, and those that reach outside of the data."""
        offset, size = table[:, 0], table[:, 1]
        absent = offset == MISSING
        half = absent != (size == MISSING)
        start, stop = np.uint64(data[0]), np.uint64(data[1])
        # Checked without overflow: offset <= stop, then length <= stop - offset.
        outside = ~absent & ~half & ((offset < start) | (offset > stop) | (size > stop - np.minimum(offset, stop)))
        gone = absent | half | outside
        index = cls(np.where(gone, -1, offset.astype(np.int64)), np.where(gone, -1, size.astype(np.int64)))
        return index, np.flatnonzero(half), np.flatnonzero(outside)

    def overlapping(self) -> npt.NDArray[np.intp]:
        """Rows that begin before the one below them in the data ends."""
        live = (self.size > 0).nonzero()[0]
        offset, end = self.offset[live], (self.offset + self.size)[live]
        if (offset[1:] >= end[:-1]).all():  # a shard with subchunks in C order needs no sort
            return live[:0]
        live, offset, end = self._in_place_order()
        # Compared with the farthest end so far: one long entry may cover many others.
        return live[np.flatnonzero(offset[1:] < np.maximum.accumulate(end)[:-1]) + 1]

    def _in_place_order(self) -> tuple[npt.NDArray[np.intp], Ints, Ints]:
        """Rows with bytes by offset, their offsets, and where they end."""
        live = (self.size > 0).nonzero()[0]
        live = live[self.offset[live].argsort(kind="stable")]
        return live, self.offset[live], (self.offset + self.size)[live]

    def reaching_over_others(self) -> npt.NDArray[np.intp]:
        """Rows that reach into the second one after them."""
        live, offset, end = self._in_place_order()
        return live[:-2][end[:-2] > offset[2:]]

    def _overlapping_each_other(self) -> npt.NDArray[np.intp]:
        """Rows that share bytes with another one, both of them."""
        live, offset, end = self._in_place_order()
        shared = np.zeros(live.size, np.bool_)
        shared[1:] = offset[1:] < np.maximum.accumulate(end)[:-1]
        shared[:-1] |= end[:-1] > offset[1:]
        return live[shared]

    def to_table(self) -> npt.NDArray[np.uint64]:
        """The (n, 2) table to be stored; invalid entries stay invalid."""
        table = np.empty((self.offset.size, 2), np.int64)
        table[:, 0], table[:, 1] = self.offset, self.size
        found = table.view(np.uint64)  # -1 is MISSING
        if self.faulty is not None:
            found[self.size == AT_FAULT] = self.faulty.kept[self.size == AT_FAULT]
        return found

    @property
    def present(self) -> npt.NDArray[np.bool_]:
        """(n,) which subchunks are stored."""
        return self.size >= 0

    @property
    def live_bytes(self) -> int:
        """Bytes of stored subchunks."""
        return int(np.maximum(self.size, 0).sum())

    @property
    def all_missing(self) -> bool:
        """Whether no subchunk is stored. An invalid entry counts as stored: there may have been data."""
        return bool((self.size == -1).all())

    def moved(self, rows: Ints, offset: Ints, size: Ints) -> Index:
        """A copy with some entries replaced; size -1 removes."""
        offsets, sizes = self.offset.copy(), self.size.copy()
        offsets[rows] = np.where(size < 0, -1, offset)
        sizes[rows] = size
        return Index(offsets, sizes, self.faulty)

    def without(self, rows: Ints | npt.NDArray[np.intp]) -> Index:
        """A copy in which some subchunks are not stored."""
        return self._with_entry(rows, -1)

    def _with_entry(self, rows: Ints | npt.NDArray[np.intp], entry: int) -> Index:
        offsets, sizes = self.offset.copy(), self.size.copy()
        offsets[rows] = sizes[rows] = entry
        return Index(offsets, sizes, self.faulty)

    def runs(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """The byte runs that cover the stored ones of `rows`: (start, stop) of each run, and the run of each row.

        Adjacent ones are merged, in the order of offsets; no other bytes are covered.
        """
        offset, size = self.offset[rows], self.size[rows]
        if rows.size == 1:
            return offset, offset + size, np.zeros(1, np.int64)
        order = np.argsort(offset, kind="stable")
        begin, end = offset[order], offset[order] + size[order]
        fresh = np.ones(rows.size, np.bool_)
        fresh[1:] = begin[1:] != end[:-1]
        run_sorted = np.cumsum(fresh) - 1
        run = np.empty(rows.size, np.int64)
        run[order] = run_sorted
        last = np.append(np.flatnonzero(fresh)[1:] - 1, rows.size - 1) if rows.size else np.empty(0, np.int64)
        return begin[fresh], end[last], run


def locate(size: int, index_size: int, at_start: bool) -> tuple[int, int]:
    """The data part [start, stop) of a shard object of `size` bytes."""
    if size < index_size:
        raise ChunkError(
            "the shard is smaller than its index",
            codec="sharding_indexed",
            expected=f"at least {index_size} bytes",
            got=f"{size} bytes",
        )
    # "The index is either placed at the end of the file or at the beginning of the file, as configured by index_location."
    return (index_size, size) if at_start else (0, size - index_size)


def morton_order(grid_shape: tuple[int, ...]) -> Ints:
    """C-order numbers of the subchunks of a grid in Morton order; places outside of the grid are skipped."""
    if not grid_shape:
        return np.zeros(1, np.int64)
    indices = np.indices(grid_shape).reshape(len(grid_shape), -1)
    bits = max((length - 1).bit_length() for length in grid_shape)
    code = np.zeros(indices.shape[1], np.uint64)
    for bit in range(bits):
        for axis in range(len(grid_shape)):
            place = np.uint64(bit * len(grid_shape) + len(grid_shape) - 1 - axis)
            code |= ((indices[axis] >> bit) & 1).astype(np.uint64) << place
    return np.argsort(code, kind="stable").astype(np.int64)
