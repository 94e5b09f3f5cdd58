"""Indexes of shards that a handle has read, kept for its next reads.

An index is kept with the version of its shard, and only where that is a version for good: two objects with the same one have the
same bytes, whenever they were stored (`storage.is_lasting`): a strong ETag, or the state of a file that was not just written. It is
used without a look at the shard: the bytes of subchunks are asked for on condition of that version, so that a read is one request,
and what it gives was there when it was asked for. Where the shard was replaced meanwhile, the read begins again with the new index.
A read that needs no bytes (nothing is stored there) asks for the version.

Several reads that begin while the index is unknown ask for it once: one reads it, the others use what it finds as if it were kept.

Absent shards are not kept. All forms of a handle share what is kept; threads too: a dict is all there is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from zarrant.codecs.byte_sources import Stored
from zarrant.requests import Op, fetch_one, share
from zarrant.storage import Blob, Version, is_lasting

MAX_BYTES = 32 << 20
"""Bytes of indexes that a handle keeps: 16 for each subchunk of a shard."""


class _Kept(NamedTuple):
    version: Version
    size: int
    index: Any


class KeptIndexes:
    """Indexes by key, the oldest first."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def source(self, key: str, required: bool) -> ShardSource:
        """A shard as a source of bytes, with its index where that is kept."""
        return ShardSource(key, required, self, self._kept.get(key))

    def find(self, key: str) -> tuple[Version, Any] | None:
        """The version and the index of a shard, if that is kept."""
        kept = self._kept.get(key)
        return None if kept is None else (kept.version, kept.index)

    def keep(self, source: ShardSource) -> None:
        """Keep what a read has found out."""
        if source.index is None or not is_lasting(source.version) or source.kept:
            return
        each = 16 * max(1, len(source.index.offset))
        if each > MAX_BYTES // 4:
            return
        while len(self._kept) * each >= MAX_BYTES:
            self._kept.pop(next(iter(self._kept), ""), None)
        self._kept[source.key] = _Kept(source.version, source.size, source.index)

    def drop(self, key: str) -> None:
        """Forget an index."""
        self._kept.pop(key, None)


class ShardSource(Stored):
    """A stored shard whose index may be known from an earlier read."""

    def __init__(self, key: str, required: bool, indexes: KeptIndexes, kept: _Kept | None) -> None:
        super().__init__(key, required)
        self.kept = self.confirmed = False
        self._indexes = indexes
        if kept is not None:
            self._take(kept)

    def _take(self, kept: _Kept) -> None:
        self.kept, self.seen = True, True
        self.version, self.size, self.index = kept

    def open(self, read_index: Callable[[], Op[Any]]) -> Op[Any]:
        """See `Stored.open`. Reads that begin while another one reads the index take over what that finds."""
        found, own = yield from share((self._indexes, self.key), partial(self._found, read_index), brief=self.brief)
        if own:
            return self.index
        if found is None:
            return (yield from super().open(read_index))
        # It was asked for before this read began, so it may be out of date: as one that is kept.
        self._take(found)  # safety: shared index
        return self.index

    def _found(self, read_index: Callable[[], Op[Any]]) -> Op[_Kept | None]:
        """Read the index; what others may take over of that."""
        yield from super().open(read_index)
        lasts = self.index is not None and is_lasting(self.version)  # safety: shared lasting version
        return _Kept(self.version, self.size, self.index) if lasts else None

    def accept(self, blob: Blob | None) -> list[memoryview] | None:
        """See `Stored.accept`. The store has looked at the version."""
        self.confirmed = True
        return super().accept(blob)

    def confirm(self) -> Op[None]:
        """VersionChangedError where the shard was replaced, unless a request has found that already."""
        if not self.confirmed:  # safety: kept index
            yield from fetch_one(self.key, (), self.version)
