"""`sync` of arrays, for threads and for event loops: what it promises is said in `nodes.base.Place.sync`."""

from __future__ import annotations

from zarrant.nodes.base import S
from zarrant.nodes.facts import ArrayFacts


class Syncing(ArrayFacts[S]):
    """Methods of `Array`."""

    def sync(self) -> None:
        """See `nodes.base.Place.sync`."""
        self._place.sync()


class AsyncSyncing(ArrayFacts[S]):
    """Methods of `AsyncArray`."""

    async def sync(self) -> None:
        """See `nodes.base.Place.sync`."""
        await self._place.sync_async()
