"""What stores around other libraries have in common: their errors become ours, ranges are fitted to
the size of an object, and objects are known by a hash where nothing else tells them apart."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from zarrant.errors import ByteRangeError, StoreError, StorePermissionError, ZarrantError
from zarrant.storage import Buffer, ByteRange, Version


class typed_errors:
    """A block whose errors become typed (StorePermissionError, else StoreError), and name the store and the key."""

    __slots__ = ("action", "key", "store")

    def __init__(self, action: str, store: str, key: str | None) -> None:
        self.action, self.store, self.key = action, store, key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ZarrantError):
            error.annotate(store=self.store, key=self.key)
        elif isinstance(error, Exception):
            found = StorePermissionError if isinstance(error, PermissionError) else StoreError
            message = f"cannot {self.action}: {type(error).__name__}: {error}"
            raise found(message, store=self.store, key=self.key) from error


def spans_within(ranges: Sequence[ByteRange], size: int) -> list[tuple[int, int]]:
    """(start, stop) of each range of an object of `size` bytes; ByteRangeError where one does not fit."""
    try:
        return [wanted.resolve(size) for wanted in ranges]
    except ValueError as cause:
        raise ByteRangeError("range outside the object", expected=list(ranges), got=f"{size} bytes") from cause


def hash_of(data: Buffer) -> Version:
    """The version of an object that nothing but its bytes tells apart from others."""
    return "hash", hashlib.blake2b(data, digest_size=16).digest(), len(data)
