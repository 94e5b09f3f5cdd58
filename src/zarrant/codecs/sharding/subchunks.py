"""The subchunks of a shard: entries of its index, read through the source of the shard."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.codecs.byte_sources import Window
from zarrant.codecs.protocols import Fetched, Ints, Source
from zarrant.codecs.sharding.format import Index
from zarrant.errors import ChunkError
from zarrant.requests import Op
from zarrant.storage import ByteRange


class SubchunksOfShard:
    """Subchunks of one shard: subchunk i of the batch is entry `numbers[i]` of `index`, in the bytes of `source`."""

    def __init__(self, source: Source, index: Index, numbers: Ints) -> None:
        self.shard, self.index, self.numbers = source, index, numbers

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """The wanted subchunks in one request; adjacent ones are one range."""
        entries = self.numbers[lo:hi]
        self.index.require(entries[wanted])
        rows = np.flatnonzero(wanted & (self.index.size[entries] >= 0)).astype(np.int64)
        if rows.size == 0:
            none = np.empty(0, np.int64)
            return Fetched(none, [], none, none, none)
        chosen = entries[rows]
        if limit is not None and self.index.size[chosen].max() > limit:  # safety: subchunk size
            raise _too_large_subchunk(self.index, chosen, limit)
        begin, end, run = self.index.runs(chosen)
        buffers = yield from self.shard.read([ByteRange(int(a), int(b - a)) for a, b in zip(begin, end, strict=True)])
        if buffers is None:
            raise ChunkError("the shard vanished while it was read", codec="sharding_indexed")
        return Fetched(rows, buffers, run, self.index.offset[chosen] - begin[run], self.index.size[chosen])

    def source(self, i: int) -> Source | None:
        """A window on subchunk i."""
        entry = int(self.numbers[i])
        self.index.require(self.numbers[i : i + 1])
        if self.index.size[entry] < 0:
            return None
        return Window(self.shard, int(self.index.offset[entry]), int(self.index.size[entry]))


class FetchedSubchunks:
    """Subchunks that were fetched together, from subchunk `first` of a batch on."""

    def __init__(self, stored: SubchunksOfShard, fetched: Fetched, first: int) -> None:
        self.stored, self.fetched, self.first, self.numbers = stored, fetched, first, stored.numbers

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """The wanted ones of them; nothing is requested."""
        rows = self.fetched.rows + self.first - lo
        a, b = np.searchsorted(rows, (0, hi - lo)).tolist()
        chosen = a + np.flatnonzero(wanted[rows[a:b]])
        found = self.fetched
        return Fetched(rows[chosen], found.buffers, found.buffer_index[chosen], found.offset[chosen], found.size[chosen])
        yield  # makes this a generator, as every operation is; it has no requests

    def source(self, i: int) -> Source | None:
        """A window on subchunk i."""
        return self.stored.source(i)


Subchunks: TypeAlias = SubchunksOfShard | FetchedSubchunks


def _too_large_subchunk(index: Index, chosen: Ints, limit: int) -> ChunkError:
    row = int(chosen[index.size[chosen].argmax()])
    return ChunkError(
        f"shard index: the entry of subchunk {row} is too large",
        codec="sharding_indexed",
        field=f"index[{row}]",
        expected=f"at most {limit} bytes, as the codecs make no more of a subchunk",
        got=f"{int(index.size[row])} bytes",
        limit=limit,
    )
