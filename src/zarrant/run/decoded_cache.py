"""The decoded chunks that a process keeps for its next reads, for handles with the option `cache`.

One cache for each number of bytes: all handles with the same value share it, and it is freed with the last of them. What was
unused for longest goes first. Nothing here knows what is current: each value lies with the version of its object, and a reader
asks the store for the version of now before it takes it (`codecs.kept`).

A forked child starts with empty caches, a pickled handle finds those of its process.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from zarrant.codecs.kept import Kept
from zarrant.locking.local import ForkSafeLock, remake_after_fork
from zarrant.storage import Version

VALUE_OVERHEAD = 800
"""Bytes of Python objects around a value: its key, the array object and the node of the dict; measured, rounded up."""


_NOTHING: tuple[Kept | None, int] = (None, 0)


class ProcessCache:
    """Values with their versions, at most `max_bytes` of them."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Keep nothing: a thread of the parent may have been at work here when a child was forked."""
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, tuple[Kept, int]] = OrderedDict()
        self.nbytes = self.hits = self.misses = 0

    def find(self, place: Hashable) -> Kept | None:
        """What was kept last at a place."""
        return self.find_all((place,))[0]

    def find_all(self, places: Sequence[Hashable]) -> list[Kept | None]:
        """The same of several places."""
        get, last = self._kept.get, self._kept.move_to_end
        with self._lock:
            found = [get(place, _NOTHING)[0] for place in places]
            misses = 0
            for place, kept in zip(places, found, strict=True):
                if kept is None:
                    misses += 1
                else:
                    last(place)
            self.misses += misses
            self.hits += len(found) - misses
        return found

    def keep(self, place: Hashable, version: Version, value: Any, nbytes: int) -> None:
        """Keep a value, and drop what was unused for longest beyond `max_bytes`."""
        if nbytes + VALUE_OVERHEAD > self.max_bytes // 2:
            return
        with self._lock:
            old = self._kept.pop(place, None)
            self.nbytes += nbytes + VALUE_OVERHEAD - (0 if old is None else old[1])
            self._kept[place] = (Kept(version, value), nbytes + VALUE_OVERHEAD)
            while self.nbytes > self.max_bytes:
                self.nbytes -= self._kept.popitem(last=False)[1][1]


class Token:
    """Stands for a store; equal stores have the same as long as one of them is in use."""

    _numbers = itertools.count()

    def __init__(self) -> None:
        self.number = next(self._numbers)


class StoreCache(NamedTuple):
    """The cache of the process, as a handle on one store sees it. See `codecs.kept.DecodedCache`."""

    cache: ProcessCache
    token: Token

    @property
    def max_value_bytes(self) -> int:
        """Larger values are not kept: one read may not push out all others."""
        return self.cache.max_bytes // 2

    def find(self, place: Hashable) -> Kept | None:
        """What was kept last at a place of this store."""
        return self.cache.find((self.token.number, place))

    def find_all(self, places: Sequence[Hashable]) -> list[Kept | None]:
        """The same of several places."""
        number = self.token.number
        return self.cache.find_all([(number, place) for place in places])

    def keep(self, place: Hashable, version: Version, value: Any, nbytes: int) -> None:
        """Keep a value, if its version is one by which it can be known again."""
        if version is not None and getattr(version, "lasting", True):
            self.cache.keep((self.token.number, place), version, value, nbytes)


_caches: WeakValueDictionary[int, ProcessCache] = WeakValueDictionary()
_tokens: WeakValueDictionary[object, Token] = WeakValueDictionary()
_lock = ForkSafeLock()


def shared_cache(max_bytes: int, store: object) -> StoreCache:
    """The cache of this size in this process, for one store."""
    with _lock.lock:
        cache = _caches.get(max_bytes)
        if cache is None:
            cache = _caches[max_bytes] = ProcessCache(max_bytes)
        try:
            token = _tokens.get(store)
            if token is None:
                token = _tokens[store] = Token()
        except TypeError:  # a store that cannot be compared is known by nobody else
            token = Token()
        return StoreCache(cache, token)
