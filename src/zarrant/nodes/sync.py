"""`sync` of arrays and groups, for threads and for event loops: what it promises is said in `nodes.base.Place.sync`."""

from __future__ import annotations

from zarrant.nodes.base import Located, S


class Syncing(Located[S]):
    """Methods of `Array` and `Group`."""

    def sync(self) -> None:
        """See `nodes.base.Place.sync`."""
        self._place.sync()


class AsyncSyncing(Located[S]):
    """Methods of `AsyncArray` and `AsyncGroup`."""

    async def sync(self) -> None:
        """See `nodes.base.Place.sync`."""
        await self._place.sync_async()
