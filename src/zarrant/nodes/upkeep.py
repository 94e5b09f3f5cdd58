"""What looks after the stored objects of an array: statistics and compaction, for threads and for event loops.

Every method is one line, as in `nodes.array`: what it does is said in `ops.maintain`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zarrant.nodes.base import LIST, READ, UPDATE, S
from zarrant.nodes.facts import ArrayFacts
from zarrant.nodes.fresh import fresh
from zarrant.ops import maintain
from zarrant.ops.maintain import ChunkStats
from zarrant.storage import Readable, ReadableWritable


class Upkeep(ArrayFacts[S]):
    """Methods of `Array`."""

    @property
    def nchunks_initialized(self: Upkeep[Readable]) -> int:
        """How many of the `nchunks` are stored; see `ops.maintain.count_stored`."""
        return self._place.run(maintain.count_stored(self._state), LIST)

    def chunk_stats(self: Upkeep[Readable], chunk: Sequence[int]) -> ChunkStats:
        """See `ops.maintain.chunk_stats`."""
        return self._place.run(fresh(self, maintain.chunk_stats, chunk), READ)

    def compact_chunk(self: Upkeep[ReadableWritable], chunk: Sequence[int]) -> int:
        """See `ops.maintain.compact_chunk`."""
        return self._place.run(fresh(self, maintain.compact_chunk, chunk), UPDATE)

    def compact(self: Upkeep[ReadableWritable], chunks: Any = None) -> int:
        """See `ops.maintain.compact`."""
        return self._place.run(fresh(self, maintain.compact, chunks), UPDATE)


class AsyncUpkeep(ArrayFacts[S]):
    """Methods of `AsyncArray`."""

    async def nchunks_initialized(self: AsyncUpkeep[Readable]) -> int:
        """How many of the `nchunks` are stored; see `ops.maintain.count_stored`."""
        return await self._place.run_async(maintain.count_stored(self._state), LIST)

    async def chunk_stats(self: AsyncUpkeep[Readable], chunk: Sequence[int]) -> ChunkStats:
        """See `ops.maintain.chunk_stats`."""
        return await self._place.run_async(fresh(self, maintain.chunk_stats, chunk), READ)

    async def compact_chunk(self: AsyncUpkeep[ReadableWritable], chunk: Sequence[int]) -> int:
        """See `ops.maintain.compact_chunk`."""
        return await self._place.run_async(fresh(self, maintain.compact_chunk, chunk), UPDATE)

    async def compact(self: AsyncUpkeep[ReadableWritable], chunks: Any = None) -> int:
        """See `ops.maintain.compact`."""
        return await self._place.run_async(fresh(self, maintain.compact, chunks), UPDATE)
