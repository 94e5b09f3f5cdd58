"""The subchunks of a shard: entries of its index, read through the source of the shard."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.codecs.byte_sources import Window
from zarrant.codecs.kept import Keeper
from zarrant.codecs.protocols import Fetched, Ints, Source
from zarrant.codecs.sharding.format import Index
from zarrant.errors import ChunkError
from zarrant.requests import Op
from zarrant.storage import Buffer, ByteRange


class SubchunksOfShard:
    """Subchunks of one shard: subchunk i of the batch is entry `numbers[i]` of `index`, in the bytes of `source`."""

    def __init__(self, source: Source, index: Index, numbers: Ints, kept: KeptSubchunks | None = None) -> None:
        self.shard, self.index, self.numbers, self.kept = source, index, numbers, kept

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

    def fetch_one(self, i: int, limit: int | None = None) -> Op[Buffer | None]:
        """Subchunk i alone."""
        entry, index = int(self.numbers[i]), self.index
        start, size = index.offset.item(entry), index.size.item(entry)
        if size < 0:
            index.require(self.numbers[i : i + 1])
            return None
        if limit is not None and size > limit:  # safety: size of one subchunk
            raise _too_large_subchunk(index, self.numbers[i : i + 1], limit)
        buffers = yield from self.shard.read((ByteRange(start, size),))
        if buffers is None:
            raise ChunkError("the shard vanished while it was read", codec="sharding_indexed")
        return buffers[0]

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
        self.stored, self.fetched, self.first = stored, fetched, first
        self.numbers, self.kept = stored.numbers, stored.kept

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """The wanted ones of them; nothing is requested."""
        rows = self.fetched.rows + self.first - lo
        a, b = np.searchsorted(rows, (0, hi - lo)).tolist()
        chosen = a + np.flatnonzero(wanted[rows[a:b]])
        found = self.fetched
        return Fetched(rows[chosen], found.buffers, found.buffer_index[chosen], found.offset[chosen], found.size[chosen])
        yield  # makes this a generator, as every operation is; it has no requests

    def fetch_one(self, i: int, limit: int | None = None) -> Op[Buffer | None]:
        """One of them; nothing is requested."""
        fetched = yield from self.fetch(i, i + 1, np.ones(1, np.bool_), limit)
        return fetched.data(0) if fetched.rows.size else None

    def source(self, i: int) -> Source | None:
        """A window on subchunk i."""
        return self.stored.source(i)


Subchunks: TypeAlias = SubchunksOfShard | FetchedSubchunks


class ChosenSubchunks:
    """Some subchunks of a batch, as subchunks 0, 1, …"""

    def __init__(self, stored: Subchunks, rows: Ints) -> None:
        self.stored, self.rows = stored, rows

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """The wanted ones of lo..hi, with one call."""
        rows = self.rows[lo:hi]
        first, end = int(rows[0]), int(rows[-1]) + 1
        chosen = np.zeros(end - first, np.bool_)
        chosen[rows[wanted] - first] = True
        fetched = yield from self.stored.fetch(first, end, chosen, limit)
        return fetched._replace(rows=np.searchsorted(rows - first, fetched.rows))

    def fetch_one(self, i: int, limit: int | None = None) -> Op[Buffer | None]:
        """Subchunk i alone."""
        return (yield from self.stored.fetch_one(int(self.rows[i]), limit))

    def source(self, i: int) -> Source | None:
        """A window on subchunk i."""
        return self.stored.source(int(self.rows[i]))


class KeptSubchunks:
    """Those of the subchunks `numbers` of a shard that are kept as they were decoded from this version of it.

    They are looked up once: what is dropped from the cache during a read is still at hand for it.
    """

    def __init__(self, keeper: Keeper, index: Index, numbers: Ints, shape: tuple[int, ...]) -> None:
        self.keeper, self.shape = keeper, shape
        self.places = list(zip(index.offset[numbers].tolist(), index.size[numbers].tolist(), strict=True))
        self.found = keeper.find_all(self.places, shape)  # of those that are not stored, none is kept

    def missing(self, lo: int, hi: int) -> npt.NDArray[np.bool_]:
        """(hi - lo,) which are not kept."""
        return np.array([array is None for array in self.found[lo:hi]], np.bool_)

    def keep(self, i: int, array: npt.NDArray[Any], nbytes: int) -> None:
        """Keep subchunk i, if it is stored."""
        start, size = self.places[i]
        if size >= 0:
            self.keeper.keep(start, size, self.shape, array, nbytes)


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
