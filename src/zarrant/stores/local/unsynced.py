"""What this process wrote and is not on disk yet, whichever handle wrote it and however that handle spelled the path.

In: real paths of directories, the names in them that were published or erased, directories made and removed. Out: which of
them a `sync` of one directory covers. One `Unsynced` serves all stores of a process; it outlives them. It knows paths only:
`stores.local.durability` does the syncing.

- A directory is known by its device and inode as well as by its path: one that was moved, or is mounted at two places, is
  found under its other names (`places`).
- What is kept is bounded. Beyond the bound nothing is kept but the fact: then a `sync` is for all of the file system, or for
  every file below the directory. So no write ever waits for the objects of others. The same goes for what child processes
  wrote, of which nothing is known here (`epoch`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from weakref import WeakValueDictionary

from zarrant.locking.local import ForkSafeLock, remake_after_fork
from zarrant.stores.local.syscalls import NO_CHILDREN, Syscalls

MAX_KEPT = 1 << 16
"""Objects kept by name (about 10 MB)."""

ERASED, REPLACED = -1, 0
"""In place of the mtime of a new object: what had the name, or may have had it, may be on disk."""

Mark = tuple[int, int]
"""What is noted of an object, and the generation in which it was noted: a sync may have come in between."""

UNKNOWN: Mark = (ERASED, -1)
KEPT: Mark = (REPLACED, -1)

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")

Identity = tuple[int, int]
Names = dict[str, dict[str, int]]
"""Directory → name → mtime of an object of which nothing was on disk before, or ERASED or REPLACED."""


class Unsynced:
    """See the module. Methods may be called from any thread."""

    def __init__(self) -> None:
        self.written: Names = {}
        self.count = 0
        self.failed: dict[str, OSError] = {}
        self.made: set[str] = set()
        self.known_durable: dict[str, int] = {}
        self.removals = 0
        self.roots: set[str] = set()
        self.places: dict[Identity, set[str]] = {}
        self.links: dict[str, str] = {}
        self.generation = 0
        self.epoch = 0
        self.covered: dict[Hashable, int] = {}
        self.forgot_erased = 0
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        """Fresh locks, in a forked child, which has no children yet."""
        self.gate = threading.RLock()
        self.busy: list[tuple[tuple[str, ...], threading.Event]] = []
        self.ended = NO_CHILDREN[0]

    def register_root(self, root: str, above: Iterable[tuple[str, Identity]]) -> None:
        """A root is written below: remember by what names it and the directories above it are known."""
        with self.gate:
            self.roots.add(root)
            places = self.places
            for path, identity in above:
                known = places.get(identity)
                if known is None:
                    places[identity] = {path}
                elif path not in known:
                    known.add(path)
            if len(self.roots) > MAX_KEPT:
                self.forget()

    def mark(self, directory: str, name: str, old: int | None, mtime: int, device: int) -> Mark:
        """What to note of an object that is about to take a name: new, or REPLACED where that may lose what is on disk.

        `old` is the mtime of the object that has the name. Nothing was on disk where that one was new, and is the one noted
        here, or where there was none, and none was erased since the last sync.
        """
        known = self.written.get(directory, {}).get(name)
        if old is not None:
            new = known == old
        elif known is None:
            new = self.covered.get(device, 0) >= self.forgot_erased
        else:
            new = known > 0
        return max(1, mtime) if new else REPLACED, self.generation

    def add(self, directory: str, name: str, mark: Mark) -> None:
        """An object was published or erased: the next sync is for it. With the gate taken."""
        names = self.written.get(directory)
        if names is None:
            names = self.written[directory] = {}
        if name not in names:
            self.count += 1
        elif mark is UNKNOWN:
            mark = names[name], self.generation
        names[name] = mark[0] if mark[1] == self.generation or mark is UNKNOWN else REPLACED
        if self.failed:
            self.failed.pop(f"{directory}/{name}", None)
        if self.count >= MAX_KEPT:
            self.forget()

    def add_all(self, directory: str, names: Collection[str], mark: Mark) -> None:
        """`add` of many names of a directory."""
        if mark is not KEPT or self.failed:
            for name in names:
                self.add(directory, name, mark)
            return
        known = self.written.setdefault(directory, {})
        before = len(known)
        known.update(dict.fromkeys(names, REPLACED))
        self.count += len(known) - before
        if self.count >= MAX_KEPT:
            self.forget()

    def forget(self) -> None:
        """Too much: from now on only that something was written is known."""
        self.epoch += 1
        if any(ERASED in names.values() for names in self.written.values()):
            self.forgot_erased = self.epoch
        self.generation += 1
        self.count = 0
        for kept in (self.written, self.roots, self.places, self.links, self.known_durable):
            kept.clear()

    def covers(self, root: str, above: Iterable[tuple[str, Identity]], usual: str) -> dict[str, str]:
        """The directories of which a sync of `root` covers everything below, and where that is now.

        `root` is a real path, `usual` the one under which its objects were noted last.
        """
        with self.gate:
            found = {root: root, usual: root}
            for path, identity in above:
                below = root[len(path.rstrip("/")) :]
                for known in self.places.get(identity, ()):
                    found.setdefault((known.rstrip("/") + below) or "/", root)
            targets = {target for link, target in self.links.items() if within(link, found)}
            return found | {target: target for target in targets}

    @contextmanager
    def syncing(self, take: Callable[[], Names], covers: Callable[[str], bool]) -> Iterator[Names]:
        """What is to be synced; at the end of the block, waits for those who took something of it before and are busy with it."""
        done = threading.Event()
        taken: Names = {}
        try:
            with self.gate:
                taken = take()
                before = [event for directories, event in self.busy if any(map(covers, directories))]
                self.busy.append((tuple(taken), done))
            yield taken
        except BaseException:
            # Broken off, by an interrupt for instance: the next sync is for them.
            with self.gate:
                for directory, names in taken.items():
                    for name in names:
                        self.add(directory, name, KEPT)
            raise
        finally:
            with self.gate:
                self.busy[:] = [each for each in self.busy if each[1] is not done]
            done.set()
        for event in before:
            event.wait()

    def take(self, prefixes: Iterable[str], leading: Iterable[str]) -> Names:
        """What was written below the prefixes, and in the leading directories themselves; it is not kept any longer."""
        self.generation += 1  # links are looked at again
        wanted = {directory for directory in self.written if within(directory, prefixes)}
        wanted.update(directory for directory in leading if directory in self.written)
        found = {directory: self.written.pop(directory) for directory in wanted}
        self.count -= sum(map(len, found.values()))
        return found

    def take_metadata(self, directories: Collection[str], above: Collection[str]) -> Names:
        """What was written in the directories above, and the metadata in these: without them what is here cannot be found."""
        found = {directory: self.written.pop(directory) for directory in above if directory in self.written}
        for directory in directories:
            names = self.written.get(directory, {})
            here = {name: names.pop(name) for name in METADATA if name in names}
            if here:
                found.setdefault(directory, {}).update(here)
        self.count -= sum(map(len, found.values()))
        return found

    def children(self, ended: tuple[float, ...], others: bool) -> None:
        """Take note of child processes that ended, or work now: nothing is known of what they wrote."""
        with self.gate:
            if ended != self.ended or others:
                self.epoch += 1
            self.ended = ended

    def uncovered(self, keys: Iterable[Hashable]) -> bool:
        """Whether something was written that is not known by name, and none of the keys was covered since."""
        with self.gate:
            return self.epoch > 0 and all(self.covered.get(key, 0) < self.epoch for key in keys)

    def cover(self, keys: Iterable[Hashable], epoch: int) -> None:
        """Everything written up to an epoch on a device, or below a directory, is on disk."""
        with self.gate:
            if len(self.covered) > MAX_KEPT:
                self.covered.clear()
            self.covered.update(dict.fromkeys(keys, epoch))

    def is_new(self, directory: str, inode: int) -> bool:
        """Whether the name of a directory may not be on disk; those above all roots count only where they were made here."""
        with self.gate:
            if directory in self.made:
                return True
            return self.known_durable.get(directory) != inode and any(parent in self.roots for parent in parents(directory))

    def mark_durable(self, directory: str, inodes: Mapping[str, int], removals: int) -> None:
        """The names in a directory are on disk, unless one was removed and made again meanwhile."""
        with self.gate:
            if self.removals != removals:
                return
            if len(self.known_durable) > MAX_KEPT:
                self.known_durable.clear()  # costs syncs, no safety
            for path, inode in inodes.items():
                if path != directory and os.path.dirname(path) == directory:
                    self.known_durable[path] = inode
                    self.made.discard(path)

    def fail(self, paths: Iterable[str], error: OSError) -> None:
        """Objects may not be on disk, and stay so until they are written again."""
        with self.gate:
            for path in paths:
                directory, _, name = path.rpartition("/")
                if name not in self.written.get(directory, ()):  # else written again meanwhile
                    self.failed.setdefault(path, error)

    def failure(self, prefixes: Iterable[str], leading: Iterable[str]) -> tuple[str, OSError] | None:
        """The first object of those that are covered which may not be on disk, and why."""
        with self.gate:
            for path, error in self.failed.items():
                directory = path.rpartition("/")[0]
                if within(directory, prefixes) or directory in leading:
                    return path, error
        return None


def within(directory: str, prefixes: Iterable[str]) -> bool:
    """Whether a directory is one of these, or below one."""
    return any(directory == prefix or directory.startswith(f"{prefix.rstrip('/')}/") for prefix in prefixes)


def parents(directory: str) -> list[str]:
    """The directories above one, the nearest first."""
    found = []
    while (above := os.path.dirname(directory)) != directory:
        found.append(directory := above)
    return found


_OURS = Unsynced()
_gate = ForkSafeLock()
_all: WeakValueDictionary[Hashable, Unsynced] = WeakValueDictionary()


def unsynced_by(files: Syscalls) -> Unsynced:
    """What was written through these file calls and all that reach the same files."""
    if (realm := files.realm) == "":
        return _OURS
    with _gate.lock:
        found = _all.get(realm)
        if found is None:
            found = _all[realm] = Unsynced()
        return found
