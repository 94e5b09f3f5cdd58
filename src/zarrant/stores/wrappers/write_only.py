"""A view of a store that cannot read.

In: any store that can be written. Out: `WriteOnly`, which *has* only the methods that it allows, so the type checker and
`storage.capabilities` see it alike.
"""

from __future__ import annotations

from zarrant.storage import AsyncReadableWritable, Writable
from zarrant.storage.wrapper import Writes


class WriteOnly(Writes):
    """Puts and erases; cannot read, list, or write on a condition (to have one, something must have been read).

    >>> import zarrant
    >>> store = WriteOnly(zarrant.MemoryStore())
    >>> a = zarrant.create_array(store, shape=(4,), dtype="uint8", chunks=2)
    >>> a.store_chunk((0,), [1, 2])
    >>> a[0]
    Traceback (most recent call last):
    zarrant.errors.CapabilityError: ...
    """

    def __init__(self, store: Writable | AsyncReadableWritable) -> None:
        super().__init__(store)
