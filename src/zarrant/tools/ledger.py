"""What is done of a copy that can go on after a kill: an object `__copy.json` at the target, besides its metadata and chunks.

In: the target and what identifies the job. Out: the units that are done. The ledger tells three things apart: units that are
"done", those that are "fill" (done, and nothing was stored, because every element is the fill value), and those that are missing,
which it does not name. Only the process that hands out the units writes it. A unit is noted when what it stored is as durable as
the store can make it. When all are done the ledger is erased: the target is then an array, or a group, as any other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from zarrant.errors import ConflictError
from zarrant.metadata.node import key_of
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.resolve import resolve_store
from zarrant.tools.targets import Options

LEDGER = "__copy.json"
"""A name that no chunk and no node has."""
NOTED_UNITS = 64
"""Units between two writes of the ledger, at most: what is done again after a kill, besides what was under way."""
NOTED_PART = 16
"""The ledger is also written when the units that are not yet noted are a sixteenth of those that are done."""


class Ledger:
    """The units that are done, as an object at the target. `there`: the job was begun before."""

    def __init__(self, target: str, storage_options: Options, source: Any, again: bool = False) -> None:
        """Read it; ConflictError where it is of another job, unless that is to begin again."""
        store, prefix = resolve_store(target, storage_options)
        self._store = store.with_options(durability="fsync") if isinstance(store, FilesystemStore) else store
        self._key, self._source, self._unwritten = ledger_key(prefix), source, 0
        self.stored: set[int] = set()
        self.fill: set[int] = set()
        blob = self._store.get(self._key)
        found = None if blob is None else json.loads(b"".join(map(bytes, blob.data)))
        self.there = False
        if found is not None and found["source"] == source:
            self.there = True
            self.stored, self.fill = _numbers(found["done"]), _numbers(found["fill"])
        elif found is not None and not again:
            message, hint = "an unfinished copy of another source, or of an older one, is here", "Delete the target to begin again"
            raise ConflictError(message, path=target, expected=source, got=found["source"], hint=hint)

    @property
    def done(self) -> set[int]:
        """All units that need not be done again."""
        return self.stored | self.fill

    def add(self, number: int, fill: bool) -> None:
        """Note a unit."""
        (self.fill if fill else self.stored).add(number)
        self._unwritten += 1
        if self._unwritten >= NOTED_UNITS or self._unwritten * NOTED_PART >= len(self.stored) + len(self.fill):
            self.write()

    def write(self) -> None:
        """Store what is known."""
        text = json.dumps({"source": self._source, "done": spans(self.stored), "fill": spans(self.fill)})
        self._store.put(self._key, [text.encode()])
        self._unwritten = 0

    def erase(self) -> None:
        """All is done."""
        self._store.erase(self._key)


def ledger_key(path: str) -> str:
    """Where the ledger of a node is."""
    return key_of(path.rstrip("/"), LEDGER)


def spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as (first, stop) of what is without gaps.

    >>> spans({1, 2, 3, 7})
    [(1, 4), (7, 8)]
    """
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


def _numbers(pairs: Iterable[tuple[int, int]]) -> set[int]:
    return {number for first, stop in pairs for number in range(first, stop)}
