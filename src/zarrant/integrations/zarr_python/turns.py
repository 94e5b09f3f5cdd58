"""Stores of which Zarrant knows nothing: writers of this process take turns at each object, and nothing keeps others out.

In: a store of zarr-python and keys. Out: the keys are ours until the block ends. Coroutines of any event loop and thread
wait for each other; nothing is held across a fork.
"""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from zarr.core.config import config

from zarrant.errors import CapabilityError, ZarrantWarning
from zarrant.locking.local import remake_after_fork

FIRST_PAUSE_S, LAST_PAUSE_S = 0.0002, 0.01
"""Between looks whether a key is free: about what one write takes, and so much that waiting costs next to nothing."""

_warned: set[str] = set()


class _Taken:
    """The keys that somebody has; a forked child has none of them."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.mutex, self.keys = threading.Lock(), set[tuple[str, str]]()


_taken = _Taken()


@asynccontextmanager
async def in_turn(store: Any, keys: Sequence[str]) -> AsyncIterator[None]:
    """Have keys of a store for oneself, all of them at once."""
    name = str(store)  # its address; of memory, the one of the dict
    wanted = {(name, key) for key in keys}
    pause = FIRST_PAUSE_S
    while not _take(wanted):
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_PAUSE_S)
    try:
        yield
    finally:
        with _taken.mutex:
            _taken.keys.difference_update(wanted)


def _take(wanted: set[tuple[str, str]]) -> bool:
    with _taken.mutex:
        if not _taken.keys.isdisjoint(wanted):
            return False
        _taken.keys.update(wanted)
        return True


def is_strict() -> bool:
    """Whether what cannot be made safe is refused."""
    return bool(config.get("codec_pipeline.strict", False))


def warn_unguarded(store: Any, what: str) -> None:
    """Say once for each store what is not promised; CapabilityError under `strict`."""
    message = f"{what}: other processes that write to the same chunks can undo each other's writes"
    if is_strict():
        raise CapabilityError(message, store=repr(store), expected="a store that locks, or compares and swaps")
    where = f"{type(store).__module__}.{type(store).__qualname__}, {store}"
    if where not in _warned:
        _warned.add(where)
        warnings.warn(f"{message} ({where})", ZarrantWarning, stacklevel=2)
