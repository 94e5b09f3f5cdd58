"""A view of a store that cannot read.

In: any store that can be written. Out: `WriteOnly`, which *has* only the methods that it allows, so the type checker and
`storage.capabilities` see it alike.
"""

from __future__ import annotations

from zarrant.storage import AsyncReadableWritable, Writable
from zarrant.storage.wrapper import Writes


class WriteOnly(Writes):
    """Puts and erases; cannot read, list, or write on a condition (to have one, something must have been read)."""

    def __init__(self, store: Writable | AsyncReadableWritable) -> None:
        super().__init__(store)
