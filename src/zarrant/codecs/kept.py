"""What is kept of stored objects between reads: decoded chunks and subchunks, and the indexes of shards.

In: a cache (`run.decoded_cache` has the one of the process), and where something was read. Out: what was decoded there, if the
object still is of the version from which it was decoded. Who asks must know the object's version of now: nothing here is used on
trust. A place says all on what a decoded chunk depends: the object, its codecs, and the bytes of the object.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol

from zarrant.storage import Version


class Kept(NamedTuple):
    """A value that was decoded from an object of this version."""

    version: Version
    value: Any


class DecodedCache(Protocol):
    """Values by place, of a bounded number of bytes; any thread may use it."""

    @property
    def max_value_bytes(self) -> int:
        """Larger values are not kept."""
        ...

    def find(self, place: Hashable) -> Kept | None:
        """What was kept last at a place."""
        ...

    def find_all(self, places: Sequence[Hashable]) -> list[Kept | None]:
        """The same of several places."""
        ...

    def keep(self, place: Hashable, version: Version, value: Any, nbytes: int) -> None:
        """Keep a value that nobody changes any more."""
        ...


class Keeper(NamedTuple):
    """What is kept of one stored object, of one version (None: not known yet); places are bytes from `start` on."""

    cache: DecodedCache
    place: tuple[Hashable, ...]
    version: Version = None
    start: int = 0

    def find(self, start: int, size: int, kind: Hashable) -> Any | None:
        """What was decoded from these bytes of this version; None if that is not kept."""
        return self.find_all(((start, size),), kind)[0]

    def find_all(self, spans: Sequence[tuple[int, int]], kind: Hashable) -> list[Any | None]:
        """The same of several (start, size)."""
        place, first, version = self.place, self.start, self.version
        found = self.cache.find_all([(*place, first + start, size, kind) for start, size in spans])
        return [
            each.value
            if each is not None and each.version == version  # safety: version of a kept subchunk
            else None
            for each in found
        ]

    def keep(self, start: int, size: int, kind: Hashable, value: Any, nbytes: int) -> None:
        """Keep what was decoded from these bytes."""
        self.cache.keep((*self.place, self.start + start, size, kind), self.version, value, nbytes)
