"""A view of a store that cannot write.

In: any store that can be read. Out: `ReadOnly`, which *has* only the methods that it allows, so the type checker and
`storage.capabilities` see it alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zarrant.storage import AsyncGet, Blob, FileDecoder, Get
from zarrant.storage.wrapper import Reads


class ReadOnly(Reads):
    """Reads (and lists, where the store does) and cannot write. It can `sync` what others of this process wrote.

    >>> from zarrant.storage import capabilities
    >>> from zarrant.stores.memory import MemoryStore
    >>> capabilities(ReadOnly(MemoryStore())).put
    False
    """

    def __init__(self, store: Get | AsyncGet) -> None:
        super().__init__(store)

    def get_all(self, keys: Sequence[str], limit: int | None) -> list[Blob | Exception | None]:
        """See `storage.GetAll`."""
        return self._inside.get_all(keys, limit)

    def get_decoded(
        self, keys: Sequence[str], limit: int | None, decoder: FileDecoder, share: Callable[[Callable[[], None], int], None]
    ) -> list[Blob | Exception | None]:
        """See `storage.GetDecoded`."""
        return self._inside.get_decoded(keys, limit, decoder, share)

    def get_into(self, key: str, into: memoryview, limit: int | None) -> Blob | None:
        """See `storage.GetInto`."""
        return self._inside.get_into(key, into, limit)

    def list_stored(self, prefix: str, limit: int) -> list[str] | None:
        """See `storage.ListStored`."""
        return self._inside.list_stored(prefix, limit)

    @property
    def guard(self) -> str:
        """Nothing to guard."""
        return "read only"
