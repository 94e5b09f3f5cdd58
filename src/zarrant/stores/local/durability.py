"""How what was written gets on disk: at once, at the end of a group, or at `sync`.

In: paths of objects that were renamed into place or unlinked, directories that were made or removed. Out: they are on disk, or
OSError. With `durability="fsync"` the data of a temp file are synced before its rename (`stores.local.objects`), and its
directories here, before the call returns, or once for all writes of a `SyncBatch` when that ends. Otherwise the paths are kept
(`stores.local.unsynced`), and `sync` does all data first, then each directory once.

- A name is on disk when its directory was synced, and a new directory when the one above was: from the bottom up, to the
  first that this process has found on disk before. Directories above the root count only where this process made them.
- A sync that failed says nothing when it is asked again: the system may have dropped what it could not write. A path whose
  sync failed stays broken, for every later `sync`, until it is written or erased again.
- `syncfs` does it in one call, but waits for what every other program wrote to the file system. So it is used where the names
  are not known (child processes, more objects than are kept) and for thousands of objects: 2,048 of 4 KiB took 2.3 s on ext4
  and 1.3 s on XFS one by one, 0.02 s with `syncfs`. Where there is none, or it failed, every file below the root is synced.
- What a sync made last stays through a later write without sync: some file systems put a rename on disk before the data of
  the file that was renamed, and then an empty file is left of an object that was on disk (XFS). There the data of an object
  that replaces one which may be on disk go to the device first (`Durable._before_rename`): 24 µs for 4 KiB on XFS, where an
  fsync takes 500.
"""

from __future__ import annotations

import errno
import heapq
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import groupby
from typing import Self
from weakref import WeakValueDictionary

from zarrant.errors import CapabilityError, StoreError
from zarrant.locking.file_locks import SUFFIX
from zarrant.locking.local import ForkSafeLock
from zarrant.stores.local.descriptors import with_few_descriptors
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import ABSENT, FileVersion, directory_of, open_published, typed
from zarrant.stores.local.unsynced import KEPT, REPLACED, UNKNOWN, Mark, Names, Unsynced, parents, unsynced_by, within

DURABILITY = ("rename", "fsync")
MAX_BATCH_PATHS = 1 << 16
"""Paths kept by a group; the write that reaches it syncs their directories."""
MAX_SYNCED_ONE_BY_ONE = 1 << 12
"""Objects synced one by one, a few seconds; for more, `syncfs` is faster, also where others have much to write."""

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


class UnsyncedPaths:
    """What this process wrote below a root, for all stores of that root: a view of what it wrote at all."""

    def __init__(self, root: str, state: Unsynced) -> None:
        self.root, self.real, self.state = root, root, state
        self.probed = False
        self._generation = -1
        self._directories: dict[str, str] = {}

    def directories_made(self, files: Syscalls, paths: Iterable[str]) -> None:
        """Directories are new, the outermost first: each must be synced in the one above."""
        below = f"{self.root}/"
        with self.state.gate:
            for path in paths:
                if path.startswith(below):  # it was made here and now, so that it is no link
                    directory, _, name = path.rpartition("/")
                    above = self._directories.get(directory) if self._generation == self.state.generation else None
                    real = f"{above or self._directory(files, directory)}/{name}"
                    self._directories[path] = real
                else:
                    real = self._directory(files, path)
                self.state.made.add(real)
                self.state.known_durable.pop(real, None)

    def directory_removed(self, files: Syscalls, path: str) -> None:
        """A directory is gone; one of that name may be made again."""
        with self.state.gate:
            path = self._directory(files, path)
            self._generation = -1
            self.state.removals += 1
            self.state.made.discard(path)
            self.state.known_durable.pop(path, None)

    def mark(self, files: Syscalls, path: str, old: int | None, version: FileVersion) -> Mark:
        """See `Unsynced.mark`."""
        with self.state.gate:
            return self.state.mark(*self._object(files, path), old, version[2], version[0])

    def add(self, files: Syscalls, paths: Collection[str], mark: Mark = UNKNOWN) -> None:
        """Objects were published or erased: the next `sync` is for them."""
        with self.state.gate:
            if len(paths) == 1:
                (path,) = paths
                self.state.add(*self._object(files, path), mark)
                return
            for directory, below in groupby(paths, directory_of):
                there = list(below)
                real, _ = self._object(files, there[0])
                self.state.add_all(real, [path[len(directory) + 1 :] for path in there], mark)

    def has_failed(self, files: Syscalls, path: str) -> bool:
        """Whether a sync of the object failed."""
        with self.state.gate:
            return bool(self.state.failed) and "/".join(self._object(files, path)) in self.state.failed

    def sync(self, files: Syscalls) -> None:
        """Everything written so far is on disk when this returns; else the first error, and the others stay broken too."""
        state = self.state
        state.children(*files.children())  # safety: children
        epoch, above = state.epoch, files.above(self.root)
        root = above[0][0] if above else files.real(self.root)
        prefixes, leading = state.covers(root, above, self.real), [path for path, _ in above[1:]]

        def covered(directory: str) -> bool:
            return directory in leading or within(directory, prefixes)

        with state.syncing(lambda: state.take(prefixes, leading), covered) as taken:
            keys = [above[0][1], above[0][1][0]] if above else []
            unknown = bool(keys) and state.uncovered(keys)
            many = sum(map(len, taken.values())) > MAX_SYNCED_ONE_BY_ONE
            if (unknown or many) and _sync_file_systems(files, {*prefixes.values(), *taken}):
                keys = keys[1:]
            else:
                self._sync_each(files, _with(taken, _walk(files, root)) if unknown else taken, prefixes)
                keys = keys[:1]
            if unknown:
                state.cover(keys, epoch)
        failure = state.failure(prefixes, leading)
        if failure is not None:
            raise self._as_named_by_caller(*failure)

    def _sync_each(self, files: Syscalls, taken: Names, prefixes: Mapping[str, str]) -> None:
        """Sync objects and then their directories, each by itself, wherever a directory is by now."""
        directories: dict[str, list[str]] = {}
        for directory in sorted(taken):
            good = []
            places = [directory, *_elsewhere(directory, prefixes)]
            for name in sorted(taken[directory]):
                path = f"{directory}/{name}"
                try:
                    for place in places:
                        _sync_data(files, f"{place}/{name}")
                    good.append(path)
                except OSError as error:
                    self.state.fail([path], error)
            for place in places:
                directories[place] = good
        self._sync_directories(files, directories)

    def commit(self, files: Syscalls, paths: Iterable[str]) -> None:
        """Objects whose data are synced were published, or erased: so are their names when this returns."""
        directories: dict[str, list[str]] = {}
        state = self.state
        with state.gate:
            for path in paths:
                directory, name = self._object(files, path)
                directories.setdefault(directory, []).append(f"{directory}/{name}")
                state.failed.pop(f"{directory}/{name}", None)
        wanted = [path for group in directories.values() for path in group]
        if state.written or state.busy:
            wanted += self._sync_metadata(files, directories)
        error = self._sync_directories(files, directories)
        doubtful = min((path for path in wanted if path in state.failed), default=None) if state.failed else None
        if error is not None or doubtful is not None:
            raise self._as_named_by_caller(doubtful or "", error or state.failed[doubtful or ""])

    def _sync_metadata(self, files: Syscalls, directories: Collection[str]) -> list[str]:
        """Sync what leads to objects and was written without a sync, by another handle; the paths."""
        above = {parent for each in directories for parent in parents(each)}
        covered = {*directories, *above}.__contains__
        with self.state.syncing(lambda: self.state.take_metadata(directories, above), covered) as taken:
            if taken:
                self._sync_each(files, taken, {})  # safety: metadata sync
        return [f"{directory}/{name}" for directory, names in taken.items() for name in names]

    def probe(self, files: Syscalls) -> None:
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

    def _sync_directories(self, files: Syscalls, directories: Mapping[str, Iterable[str]]) -> OSError | None:
        """Sync the directories of objects and those above that need it, the deepest first, each once; the first error."""
        needed: dict[str, set[str]] = {}
        queue: list[tuple[int, str]] = []
        inodes: dict[str, int] = {}

        def need(directory: str, rely: Iterable[str]) -> None:
            if directory not in needed:
                needed[directory] = set()
                heapq.heappush(queue, (-directory.count("/"), directory))
            needed[directory].update(rely)

        for directory, paths in directories.items():
            need(directory, paths)
        first: OSError | None = None
        while queue:
            directory = heapq.heappop(queue)[1]
            rely, removals = needed[directory], self.state.removals
            try:
                inodes[directory] = sync_directory(files, directory)
                new = self.state.is_new(directory, inodes[directory])
            except ABSENT:
                new = directory not in self.state.roots
            except OSError as error:
                first = first or error
                self.state.fail(rely, error)
                continue
            self.state.mark_durable(directory, inodes, removals)
            if new:
                need(os.path.dirname(directory), rely)
        return first

    def _object(self, files: Syscalls, path: str) -> tuple[str, str]:
        """The real directory of an object, and its name; with the gate of the state taken."""
        directory, _, name = path.rpartition("/")
        found = self._directories.get(directory) if self._generation == self.state.generation else None
        return self._directory(files, directory) if found is None else found, name

    def _directory(self, files: Syscalls, path: str) -> str:
        """The real path of a directory; those above the root are looked at once in a generation, each one below once."""
        if self._generation != self.state.generation or len(self._directories) > MAX_BATCH_PATHS:
            self._register_root(files)
        if path != self.root and not within(path, (self.root,)):
            return files.real(path)
        unknown = []
        while (found := self._directories.get(path)) is None:
            unknown.append(path)
            path = os.path.dirname(path)
        for below in reversed(unknown):
            found = f"{found}/{os.path.basename(below)}"
            if files.is_link(below):
                self.state.links[found] = found = files.real(below)
            self._directories[below] = found
        return found

    def _register_root(self, files: Syscalls) -> None:
        above = files.above(self.root)
        self.real = above[0][0] if above else files.real(self.root)
        self.state.register_root(self.real, above)
        self._directories = {self.root: self.real}
        if above:  # else the root is being made
            self._generation = self.state.generation

    def _as_named_by_caller(self, path: str, error: OSError) -> OSError:
        """The error of an object, under the name that the caller knows."""
        inside = path.removeprefix(f"{self.real}/")
        renamed = OSError(error.errno, error.strerror, path if inside == path else f"{self.root}/{inside}")
        renamed.__cause__ = error
        return renamed


class SyncBatch:
    """Writes that are acknowledged together: each is published by itself, their directories are synced when the batch is committed.

    64 chunks on ext4, one after the other: 61 commits of its journal, where each write syncs its directory 123. Data that are
    synced together (`stores.local.batch_put`) save the rest.
    """

    def __init__(self, unsynced_paths: UnsyncedPaths, files: Syscalls) -> None:
        self.unsynced_paths, self.files = unsynced_paths, files
        self.paths: set[str] = set()
        self.error: OSError | None = None
        self._gate = threading.Lock()
        self._turn = threading.Lock()

    def add(self, paths: Iterable[str]) -> None:
        """Objects whose data are synced were published, or erased."""
        with self._gate:
            self.paths.update(paths)
            full = len(self.paths) >= MAX_BATCH_PATHS
        if full:
            self.commit()

    def commit(self) -> None:
        """The names of all that was added are on disk when this returns. After an error it fails for good: it concerns all."""
        # A second caller waits: what it added may be what the first is busy with.
        with self._turn:
            paths = self._taken()
            try:
                if paths:
                    self.unsynced_paths.commit(self.files, paths)
            except OSError as error:
                self.error = self.error or error
            if self.error is not None:
                raise OSError(self.error.errno, self.error.strerror, self.error.filename)

    def abandon(self) -> None:
        """Forget these writes: no caller was told that they are on disk, and the next `sync` makes them last."""
        self.unsynced_paths.add(self.files, self._taken())

    def _taken(self) -> set[str]:
        with self._gate:
            paths, self.paths = self.paths, set()
        return paths


class Durable(ABC):
    """A store below `root` that puts what it wrote on disk: at once, at the end of a block, or at `sync`."""

    root: str
    url: str
    files: Syscalls
    durability: str
    unsynced_paths: UnsyncedPaths
    group: SyncBatch | None = None

    @abstractmethod
    def in_batch(self, group: SyncBatch) -> AbstractContextManager[Self]:
        """The same store, whose writes are committed with the batch."""

    @contextmanager
    def write_batch(self) -> Iterator[Self]:
        """See `storage.WriteBatch`."""
        if self.group is not None or self.durability == "rename":
            yield self
            return
        group = SyncBatch(self.unsynced_paths, self.files)
        try:
            with self.in_batch(group) as inside:
                yield inside
        except BaseException:
            group.abandon()
            raise
        self._commit(group)

    def commit(self) -> None:
        """See `storage.WriteBatch`."""
        if self.group is not None:
            self._commit(self.group)

    def _commit(self, group: SyncBatch) -> None:
        try:
            group.commit()
        except OSError as error:
            raise self._sync_error(error) from error

    def sync(self) -> None:
        """See `storage.Sync`."""
        self.commit()
        try:
            self.unsynced_paths.sync(self.files)
        except OSError as error:
            raise self._sync_error(error) from error

    def _sync_error(self, error: OSError) -> StoreError:
        """The error that names the first object that may not be on disk."""
        key = str(error.filename or "").removeprefix(f"{self.root}/") or None
        return typed(error, "sync", self.url, key)

    def _check_durability(self) -> None:
        """What is asked for must be possible, before anything is written."""
        if self.durability == "fsync" and not self.unsynced_paths.probed:
            self.unsynced_paths.probe(self.files)

    def _before_rename(self, path: str, fd: int, version: FileVersion, old: os.stat_result | None, reused: bool) -> Mark:
        """Sync the data of a temp file where that is asked for, or where the file was published before; what to note of it.

        Otherwise: what is on disk of an object must not be lost by replacing it with data that are not.
        """
        if self.durability == "fsync" or (reused and self.files.kind(version[0]) == "disk"):
            self.files.sync(fd)  # safety: data sync
            return UNKNOWN
        order = self.files.order(version[0])
        if order == "memory" or (order == "replaced" and old is not None):
            return KEPT
        mark = self.unsynced_paths.mark(self.files, path, None if old is None else old.st_mtime_ns, version)
        if mark[0] == REPLACED and order:
            self.files.write_out(fd)  # safety: data before the name
        elif mark[0] == REPLACED:
            self.files.sync(fd)  # safety: data before the name anywhere
        return mark

    def _on_published(self, paths: Sequence[str], mark: Mark = UNKNOWN) -> None:
        """Names were changed, their data synced where that is asked for: see to it that they last, now or at `sync`."""
        if self.durability == "rename":
            self.unsynced_paths.add(self.files, paths, mark)
        elif self.group is not None:
            self.group.add(paths)
        else:
            self.unsynced_paths.commit(self.files, paths)


_gate = ForkSafeLock()
_ledgers: WeakValueDictionary[tuple[int, str], UnsyncedPaths] = WeakValueDictionary()


def unsynced_paths_of(root: str, files: Syscalls) -> UnsyncedPaths:
    """The unsynced paths of a root: all stores of this process on that root share them."""
    state = unsynced_by(files)
    with _gate.lock:
        unsynced_paths = _ledgers.get((id(state), root))
        if unsynced_paths is None:
            unsynced_paths = _ledgers[id(state), root] = UnsyncedPaths(root, state)
        return unsynced_paths


def _elsewhere(directory: str, prefixes: Mapping[str, str]) -> list[str]:
    """Where a directory may be by now: one above it was moved, or is mounted there too."""
    moved = [(prefix, base) for prefix, base in prefixes.items() if prefix != base and within(directory, (prefix,))]
    return [base + directory[len(prefix.rstrip("/")) :] for prefix, base in moved]


def _sync_file_systems(files: Syscalls, directories: Iterable[str]) -> bool:
    """Sync all of the file systems on which the directories are; False where the system cannot say that it did."""
    places: dict[int, str] = {}
    try:
        for directory in directories:
            try:
                places.setdefault(files.stat_target(directory).st_dev, directory)
            except ABSENT:
                continue
        for directory in places.values():
            fd = files.open(directory, _DIRECTORY)
            try:
                files.sync_all(fd)  # safety: file system sync
            finally:
                files.close(fd)
    except OSError:
        return False  # what failed is found and reported when each file is synced by itself
    return True


def _walk(files: Syscalls, root: str) -> Names:
    """Every directory from the root down, and the files in it."""
    found: Names = {}
    stack = [root]
    while stack:
        directory = stack.pop()
        try:
            entries = files.scan(directory)
        except ABSENT:
            continue
        stack.extend(f"{directory}/{name}" for name, kind in entries if kind == "dir")
        found[directory] = {name: 0 for name, kind in entries if kind == "file" and not name.endswith(SUFFIX)}
    return found


def _with(names: Names, more: Names) -> Names:
    return {directory: {**names.get(directory, {}), **more.get(directory, {})} for directory in {*names, *more}}


def _sync_data(files: Syscalls, path: str) -> None:
    """Sync the published file; one that was erased since has no data."""
    try:
        opened = open_published(files, path)
    except StoreError:
        return  # no file: another process put something else in its place
    if opened is None:
        return
    try:
        files.sync(opened[0])  # safety: later data sync
    finally:
        files.close(opened[0])


def sync_directory(files: Syscalls, path: str) -> int:
    """The names in a directory are on disk when this returns; its inode."""
    if sys.platform == "win32":  # directories cannot be opened there, and renames are journalled
        return 0
    fd = with_few_descriptors(lambda: files.open(path, _DIRECTORY))
    try:
        files.sync(fd)  # safety: directory sync
        return files.fstat(fd).st_ino
    finally:
        files.close(fd)
