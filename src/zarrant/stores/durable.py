"""What was written and is not on disk yet, and how it gets there.

In: paths of objects that were renamed into place or unlinked, directories that were made or removed. Out: they are on disk, or
OSError. With `durability="fsync"` the data of a draft are synced before its rename (`stores.tree`), and its directories here,
before the call returns, or once for all writes of a `Group` when that ends. Otherwise the paths are kept, and `sync` does all
data first, then each directory once.

- A name is on disk when its directory was synced, and a new directory when the one above was: from the bottom up, to the
  first that this process has found on disk before. Directories above the root count only where this process made them.
- A sync that failed says nothing when it is asked again: the system may have dropped what it could not write. A path whose
  sync failed stays broken, for every later `sync`, until it is written or erased again.
- `syncfs` would do it in one call, but waits for what every other program wrote to the file system, and Python has none.
"""

from __future__ import annotations

import errno
import heapq
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Self
from weakref import WeakValueDictionary

from zarrant.errors import CapabilityError, StoreError
from zarrant.locking.local import Gate, remake_after_fork
from zarrant.stores.drafts import ABSENT, open_published, typed
from zarrant.stores.layer import FileLayer

DURABILITY = ("rename", "fsync")
MOST = 1 << 16
"""Paths kept for `sync` (about 10 MB); the write that reaches it syncs them all."""

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class Ledger:
    """What this process wrote below a root and has not synced; one for all stores of the root."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.written: set[str] = set()
        self.broken: dict[str, OSError] = {}
        self.made: set[str] = set()
        self.trusted: set[str] = set()
        self.removals = 0
        self.probed = False
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Fresh locks, in a forked child."""
        self._gate = threading.Lock()
        self._turn = threading.Lock()

    def directory_made(self, path: str) -> None:
        """A directory is new: it must be synced in the one above."""
        with self._gate:
            self.made.add(path)
            self.trusted.discard(path)

    def directory_removed(self, path: str) -> None:
        """A directory is gone; one of that name may be made again."""
        with self._gate:
            self.removals += 1
            self.made.discard(path)
            self.trusted.discard(path)

    def note(self, files: FileLayer, paths: Iterable[str]) -> None:
        """Objects were published or erased: the next `sync` is for them."""
        with self._gate:
            for path in paths:
                self.written.add(path)
                self.broken.pop(path, None)
            full = len(self.written) >= MOST
        if full:
            try:
                self.sync(files)
            except OSError:
                pass  # they are broken, and the next sync says so; this write is done as it was asked for

    def sync(self, files: FileLayer) -> None:
        """Everything written so far is on disk when this returns; else the first error, and the others stay broken too."""
        # A second caller waits: what it wrote may be what the first is busy with.
        with self._turn:
            with self._gate:
                paths, self.written = sorted(self.written), set()
            good = []
            for path in paths:
                try:
                    _sync_data(files, path)
                    good.append(path)
                except OSError as error:
                    self._break([path], error)
            self._sync_directories(files, good)
            with self._gate:
                path, broken = next(iter(self.broken.items()), ("", None))
        if broken is not None:
            raise OSError(broken.errno, broken.strerror, path) from broken

    def settle(self, files: FileLayer, paths: Iterable[str]) -> None:
        """Objects whose data are synced were published, or erased: so are their names when this returns."""
        paths = list(paths)
        with self._gate:
            for path in paths:
                self.broken.pop(path, None)
        error = self._sync_directories(files, paths)
        if error is not None:
            with self._gate:
                doubtful = min((path for path in paths if path in self.broken), default=None)
            raise OSError(error.errno, error.strerror, doubtful) from error

    def probe(self, files: FileLayer) -> None:
        """CapabilityError where directories cannot be synced, before anything is written."""
        directory = self.root
        while not self.probed:
            try:
                sync_directory(files, directory)
            except FileNotFoundError:
                directory = os.path.dirname(directory)
                continue
            except OSError as error:
                if error.errno in _CANNOT:
                    raise CapabilityError(
                        "the file system cannot sync directories",
                        field="durability",
                        expected='durability="rename"',
                        got='durability="fsync"',
                    ) from error
                raise
            self.probed = True

    def _sync_directories(self, files: FileLayer, paths: Iterable[str]) -> OSError | None:
        """Sync the directories that the paths need, the deepest first, each once; the first error."""
        needed: dict[str, set[str]] = {}
        queue: list[tuple[int, str]] = []

        def need(directory: str, rely: Iterable[str]) -> None:
            if directory not in needed:
                needed[directory] = set()
                heapq.heappush(queue, (-directory.count("/"), directory))
            needed[directory].update(rely)

        for path in paths:
            need(os.path.dirname(path), [path])
        first: OSError | None = None
        while queue:
            directory = heapq.heappop(queue)[1]
            rely = needed[directory]
            above, removals = self._above(directory), self.removals
            try:
                sync_directory(files, directory)
            except ABSENT:
                above = os.path.dirname(directory) if directory != self.root else None
            except OSError as error:
                first = first or error
                self._break(rely, error)
                continue
            self._trust(directory, needed, removals)
            if above is not None:
                need(above, rely)
        return first

    def _above(self, directory: str) -> str | None:
        """The directory that must be synced as well: the name of this one may be new in it."""
        with self._gate:
            inside = directory.startswith(f"{self.root}/")
            new = directory not in self.trusted if inside else directory in self.made
        return os.path.dirname(directory) if new else None

    def _trust(self, directory: str, needed: Iterable[str], removals: int) -> None:
        """The names in a directory are on disk, unless one was removed and made again meanwhile."""
        with self._gate:
            if self.removals != removals:
                return
            if len(self.trusted) > MOST:
                self.trusted.clear()  # costs syncs, no safety
            for name in needed:
                if os.path.dirname(name) == directory and name != directory:
                    self.trusted.add(name)
                    self.made.discard(name)

    def _break(self, paths: Iterable[str], error: OSError) -> None:
        with self._gate:
            for path in paths:
                if path not in self.written:  # else written again meanwhile
                    self.broken.setdefault(path, error)


class Group:
    """Writes that are acknowledged together: each is published by itself, their directories are synced when it is settled.

    64 chunks on ext4, one after the other: 61 commits of its journal, where each write syncs its directory 123. Data that are
    synced together (`stores.together`) save the rest.
    """

    def __init__(self, ledger: Ledger, files: FileLayer) -> None:
        self.ledger, self.files = ledger, files
        self.paths: set[str] = set()
        self.error: OSError | None = None
        self._gate = threading.Lock()
        self._turn = threading.Lock()

    def add(self, paths: Iterable[str]) -> None:
        """Objects whose data are synced were published, or erased."""
        with self._gate:
            self.paths.update(paths)
            full = len(self.paths) >= MOST
        if full:
            self.settle()

    def settle(self) -> None:
        """The names of all that was added are on disk when this returns; never again after an error: it was not for one only."""
        # A second caller waits: what it added may be what the first is busy with.
        with self._turn:
            paths = self._taken()
            try:
                if paths:
                    self.ledger.settle(self.files, paths)
            except OSError as error:
                self.error = self.error or error
            if self.error is not None:
                raise OSError(self.error.errno, self.error.strerror, self.error.filename)

    def abandon(self) -> None:
        """Nobody is told that these writes were done: they last from the next `sync` on."""
        self.ledger.note(self.files, self._taken())

    def _taken(self) -> set[str]:
        with self._gate:
            paths, self.paths = self.paths, set()
        return paths


class Durable(ABC):
    """A store below `root` that tells what is on disk: at once, at the end of a block, or at `sync`."""

    root: str
    url: str
    files: FileLayer
    durability: str
    ledger: Ledger
    group: Group | None = None

    @abstractmethod
    def _within(self, group: Group) -> AbstractContextManager[Self]:
        """The same store, whose writes are settled with the group."""

    @contextmanager
    def grouped(self) -> Iterator[Self]:
        """See `storage.Grouped`."""
        if self.group is not None or self.durability == "rename":
            yield self
            return
        group = Group(self.ledger, self.files)
        try:
            with self._within(group) as inside:
                yield inside
        except BaseException:
            group.abandon()
            raise
        self._settle(group)

    def settle(self) -> None:
        """See `storage.Grouped`."""
        if self.group is not None:
            self._settle(self.group)

    def _settle(self, group: Group) -> None:
        try:
            group.settle()
        except OSError as error:
            raise self._in_doubt(error) from error

    def sync(self) -> None:
        """See `storage.Sync`."""
        self.settle()
        try:
            self.ledger.sync(self.files)
        except OSError as error:
            raise self._in_doubt(error) from error

    def _in_doubt(self, error: OSError) -> StoreError:
        """The error that names the first object that may not be on disk."""
        key = str(error.filename or "").removeprefix(f"{self.root}/") or None
        return typed(error, "sync", self.url, key)

    def _ready(self) -> None:
        """What is asked for must be possible, before anything is written."""
        if self.durability == "fsync" and not self.ledger.probed:
            self.ledger.probe(self.files)

    def _done(self, paths: Sequence[str]) -> None:
        """Names were changed, their data synced where that is asked for: see to it that they last, now or at `sync`."""
        if self.durability == "rename":
            self.ledger.note(self.files, paths)
        elif self.group is not None:
            self.group.add(paths)
        else:
            self.ledger.settle(self.files, paths)


_gate = Gate()
_ledgers: WeakValueDictionary[str, Ledger] = WeakValueDictionary()


def ledger_of(root: str) -> Ledger:
    """The ledger of a root: every store of this process on it writes into the same one."""
    with _gate.lock:
        ledger = _ledgers.get(root)
        if ledger is None:
            ledger = _ledgers[root] = Ledger(root)
        return ledger


def _sync_data(files: FileLayer, path: str) -> None:
    """Sync the published file; one that was erased since has no data."""
    try:
        opened = open_published(files, path)
    except StoreError:
        return  # no file: somebody put something else in its place
    if opened is None:
        return
    try:
        files.sync(opened[0])  # safety: later data sync
    finally:
        files.close(opened[0])


def sync_directory(files: FileLayer, path: str) -> None:
    """The names in a directory are on disk when this returns."""
    if os.name == "nt":  # directories cannot be opened there, and renames are journalled
        return
    fd = files.open(path, _DIRECTORY)
    try:
        files.sync(fd)  # safety: directory sync
    finally:
        files.close(fd)
