"""Repair arrays: mend what `check` calls repairable, and nothing else.

In: an address. Out: a `RepairReport`, which says what would be done, or with `apply` what was done and what a second check
finds. Three things are done:

- Damaged subchunks of a shard whose index is intact are dropped: they read as the fill value from then on. The other subchunks
  stay as they are.
- Stale lock files and temp files are removed, under the lock of their object.
- Chunks outside of the grid are erased, if the caller asks for it.

A repair loses nothing that could be read before. A copy of each object is on disk before the object is replaced or erased; each
is replaced in one step, under the same lock as any write, and only if it is still the version that was examined. What is not
understood is left alone. A second repair changes nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from zarrant.errors import OptionError, ZarrantError
from zarrant.nodes.base import LIST, READ, UPDATE, NodeContext
from zarrant.ops.verify import drop_corrupt_subchunks, erase_orphan, object_version
from zarrant.progress import Report
from zarrant.requests import Op, fetch_one
from zarrant.storage import Blob, ByteRange, Version
from zarrant.stores.local.store import FilesystemStore
from zarrant.tools.check import CheckReport, Found, check, finding_of, inspect, open_context, outside, search, summed
from zarrant.tools.leftovers import Leftover, remove

COPY_STEP = 64 << 20
"""Bytes of an object that are in memory while it is copied."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do: "salvage" a shard, "erase" an orphan, "remove" a leftover file.

    `outcome`: "planned", "done", "refused" (there is no safe way), "failed" (`detail` says why; nothing was changed).
    """

    what: str
    key: str
    chunk: tuple[int, ...] | None
    detail: str
    outcome: str


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What was found, what is done about it, where the copies are, and (when applied) what a check finds afterwards."""

    applied: bool
    backup: str | None
    before: CheckReport
    actions: tuple[Action, ...]
    after: CheckReport | None

    @property
    def clean(self) -> bool:
        """Nothing is wrong (any more)."""
        return (self.after or self.before).clean

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"clean": self.clean, **asdict(self)}


def repair(
    address: Any,
    *,
    apply: bool = False,
    deep: bool = False,
    orphans: bool = False,
    backup: str | os.PathLike[str] | None = None,
    report: Report | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> RepairReport:
    """Repair an array, or all arrays below a group; without `apply` nothing is changed.

    `deep` decodes every subchunk to find those to drop, `orphans` erases chunks outside of the grid. Copies of what is replaced
    or erased go to the directory `backup`, by default `<store>.bak-<time>` next to the store, under their keys. OptionError where
    there is no such place (a store that is no directory needs one).
    """
    context = open_context(address, storage_options)
    arrays, broken = search(context, context.path)
    others = outside(context, arrays)
    broken += map(finding_of, others)
    before = summed(context, deep, arrays, broken, sum(inspect(found, deep, report) for found in arrays))
    plans = [*_removals(others), *(plan for found in arrays for plan in _planned(found, deep, orphans))]
    if not apply:
        return RepairReport(False, None, before, tuple(plan.action for plan in plans), None)
    context.require((*UPDATE, *LIST), context.able.sync_calls)
    vault = _Vault(context, backup, needed=any(plan.op is not None for plan in plans))
    actions = tuple(_perform(context, vault, plan) for plan in plans)
    return RepairReport(True, vault.used, before, actions, check(address, deep=deep, storage_options=storage_options))


class _Plan(NamedTuple):
    """What to do: an operation that replaces or erases an object of one version, or a leftover to remove."""

    action: Action
    op: Callable[[], Op[bool]] | None
    version: Version = None
    leftover: Leftover | None = None


def _planned(found: Found, deep: bool, orphans: bool) -> Iterator[_Plan]:
    """What could be done about one array."""
    array = found.array
    for chunk, examined in found.examined.items():
        mendable = [problem.detail for problem in examined.problems if problem.repairable]
        if mendable:
            detail = f"drop what cannot be read: {'; '.join(mendable)}"
            action = Action("salvage", array.chunk_key(chunk), chunk, detail, "planned")
            yield _Plan(action, partial(drop_corrupt_subchunks, array, chunk, examined.version, deep), examined.version)
    yield from _removals(found.leftovers)
    for chunk in found.orphans if orphans else ():
        version, size = found.context.run(object_version(array.chunk_key(chunk)), READ)
        if version is not None:
            action = Action("erase", array.chunk_key(chunk), chunk, f"{size} bytes outside of the grid", "planned")
            yield _Plan(action, partial(erase_orphan, array, chunk, version), version)


def _removals(found: Iterable[Leftover]) -> Iterator[_Plan]:
    for leftover in found:
        if leftover.removable:
            yield _Plan(Action("remove", leftover.name, None, leftover.detail, "planned"), None, leftover=leftover)


def _perform(context: NodeContext, vault: _Vault, plan: _Plan) -> Action:
    """Do one thing; the action with its outcome."""
    action = plan.action
    try:
        if plan.op is None:
            done = (
                plan.leftover is not None and isinstance(context.store, FilesystemStore) and _remove(context.store, plan.leftover)
            )
        else:
            vault.keep(action.key, plan.version)
            done = context.run(plan.op(), UPDATE)
    except (ZarrantError, OSError) as error:
        return replace(action, outcome="failed", detail=f"{action.detail}. {error}")
    return replace(action, outcome="done" if done else "refused")


def _remove(store: FilesystemStore, leftover: Leftover) -> bool:
    if store.locking not in ("auto", "os"):
        return False  # without locks it cannot be known that no writer uses it
    remove(store, leftover)
    return True


class _Vault:
    """Where copies go: made when the first one does."""

    def __init__(self, context: NodeContext, directory: str | os.PathLike[str] | None, needed: bool) -> None:
        self._context = context
        if directory is not None:
            self._directory: Path | None = Path(directory)
        elif isinstance(context.store, FilesystemStore):
            self._directory = Path(f"{context.store.root}.bak-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        else:
            self._directory = None
        if needed and self._directory is None:
            raise OptionError("no place for copies of what is repaired", field="backup", expected="a directory", got="None")
        self.used: str | None = None

    def keep(self, key: str, version: Version) -> None:
        """Copy the object of a key as it was in this version, and see it onto the disk. VersionChangedError if it is no more."""
        assert self._directory is not None, "looked at before anything was done"
        target = self._directory / key
        target.parent.mkdir(parents=True, exist_ok=True)
        while target.exists():
            target = target.with_name(f"{target.name}+")
        size = self._read(key, version, 0, 0).size
        with open(target, "xb") as file:
            for offset in range(0, size, COPY_STEP):
                file.write(self._read(key, version, offset, min(COPY_STEP, size - offset)).data[0])
            file.flush()
            os.fsync(file.fileno())
        self.used = str(self._directory)

    def _read(self, key: str, version: Version, offset: int, length: int) -> Blob:
        blob = self._context.run(fetch_one(key, (ByteRange(offset, length),), version), READ)
        assert blob is not None, "an object of a version is there, or VersionChangedError"
        return blob
