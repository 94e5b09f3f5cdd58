"""A view of a store that cannot write.

In: any store that can be read. Out: `ReadOnly`, which *has* only the methods that it allows, so the type checker and
`storage.capabilities` see it alike.
"""

from __future__ import annotations

from zarrant.storage import AsyncGet, Get
from zarrant.storage.wrapper import ReadsTogether


class ReadOnly(ReadsTogether):
    """Reads (and lists, where the store does) and cannot write. It can `sync` what others of this process wrote.

    >>> from zarrant.storage import capabilities
    >>> from zarrant.stores.memory import MemoryStore
    >>> capabilities(ReadOnly(MemoryStore())).put
    False
    """

    def __init__(self, store: Get | AsyncGet) -> None:
        super().__init__(store)

    @property
    def guard(self) -> str:
        """Nothing to guard."""
        return "read only"
