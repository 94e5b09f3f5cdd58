"""The usual write of an object, all of its file calls made by one compiled call.

In: a path, the parts of the new object, the version that the old one must have. Out: the new version and what to note of it; or
None, and nothing was done: then the general way (`stores.local.objects`) does it, and finds the error where there is one.

It is the same sequence of file calls as the general way makes where nobody else writes the object, of which a test makes sure.
What is not so goes the general way: a lock file that is there (another writer, or one that was killed), a temp file that is there,
links, a condition that does not hold, an error of any call, stores that sync, reuse files or go around the page cache, other file
systems than this machine's own, and every `Syscalls` but the real one.

- No thread of this process can come in between on a file system in memory: a small object is written without giving the GIL away,
  which takes less time than threads take to hand it on. Elsewhere, or where the object is large, others run meanwhile, and find
  the lock file.
- Of many objects of one directory in memory each is locked, written and published in the same way, by one call without the GIL.
  One lock file serves them: it is renamed to the lock file of the next object, if nobody has that one. A writer that waits for the
  object before sees that the file is gone from its place, as when it is removed. It is never renamed over another lock file.
- Where an object was new, the next one is taken for new as well: it is written into a file without a name (`O_TMPFILE`), which gets
  the object's name by a link. That fails where there is something, and then it is done in the usual way. It saves a temp file and a
  look: 24.0 -> 21.4 us for each of 20,000 chunks of 1 kB.
- The locks of the device must have been probed in this process (`store._probe`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol, Self

from zarrant import kernels
from zarrant.errors import ZarrantError
from zarrant.locking.file_locks import SUFFIX, FileLock, forget_missing, shared_permissions
from zarrant.locking.local import KeyQueues
from zarrant.storage import ANY, ByteRange, Hole, OnlyWhile, Part, Version
from zarrant.stores.local.direct_io import DirectIO
from zarrant.stores.local.durability import UnsyncedPaths
from zarrant.stores.local.syscalls import Syscalls, are_plain, order_here
from zarrant.stores.local.temp_files import FileVersion, directory_of, is_file_version
from zarrant.stores.local.unsynced import KEPT, REPLACED, UNKNOWN, Mark

if TYPE_CHECKING:
    from zarrant.codecs.protocols import BoxUpdate

MAX_HELD_BYTES = 1 << 17
"""Bytes written to memory without giving the GIL away: 10 to 20 µs, where handing it on takes 50 and more."""

_probed: set[int] = set()
"""Devices on which a lock was probed, by any store of this process."""


class InDirectory(Protocol):
    """What is asked of objects in a directory, locked ones (`LockedFiles`) and others."""

    files: Syscalls
    lock_timeout: float
    condition: OnlyWhile | None

    @property
    def unsynced_paths(self) -> UnsyncedPaths: ...

    def path_of(self, key: str) -> str: ...


class Directory(InDirectory, Protocol):
    """And of those that are not locked (`FilesystemStore`)."""

    locking: str
    durability: str
    file_reuse: bool
    direct: DirectIO | None

    def make_directory(self, path: str) -> None: ...

    def only_while(self, condition: OnlyWhile) -> Self: ...


def locks_probed(device: int) -> None:
    """Lock files on a device exclude other writers."""
    _probed.add(device)


def can_put_at_once(store: Directory) -> bool:
    """Whether a store writes this way at all."""
    usual = store.durability == "rename" and store.locking in ("auto", "os") and store.direct is None and not store.file_reuse
    return kernels.put_file is not None and usual and are_plain(store.files)


BUSY, LARGE = 1, 2
"""Why an update was not done: somebody has the lock of the object; it is large, and the GIL was not to be given away."""
Done = tuple[FileVersion, Mark]
Updated = tuple[FileVersion | None, Mark | None]
"""No version: nothing is stored now. No mark: nothing was."""
Lock = tuple[int, int, int]
"""Device, permissions of a new lock file, inode of the lock file if the caller has the lock, else 0."""


def put_at_once(
    store: Directory,
    queues: KeyQueues,
    path: str,
    parts: Sequence[Part],
    if_version: Version,
    absent: tuple[str, ...] | None = None,
) -> Done | None:
    """See the module. `queues`: where threads of this process wait for a path. `absent`: see `storage.PutsFirst`."""
    lock = None if queues.is_wanted(path) else _new_lock(store, directory_of(path))
    done = None if lock is None else _put(store, queues, path, parts, if_version, lock, absent)
    if lock is None or done is not None or not forget_missing(store.files, directory_of(path)):
        return done
    lock = _new_lock(store, directory_of(path))  # which makes the directory
    return None if lock is None else _put(store, queues, path, parts, if_version, lock, absent)


def put_each_at_once(
    store: Directory, queues: KeyQueues, items: Sequence[tuple[str, Sequence[Part]]], done: list[FileVersion | None]
) -> None:
    """`put_at_once` of many paths, whatever is there, as far as it can be done in memory; one version or None is added for each.

    The files of one directory are written by one call, without the GIL: other threads do the same, or encode, meanwhile.
    """
    busy = set(queues.locked())
    for directory, files in groupby(items, lambda item: directory_of(item[0])):
        found = list(files)
        asked = _asked(store, ANY, lock, store.condition) if (lock := _new_lock(store, directory)) else None
        if asked is None or asked[0] != "memory" or (busy and not busy.isdisjoint([path for path, _ in found])):
            done += [None] * len(found)
            continue
        condition, _, device, share, _ = asked[1]
        names = [(path[len(directory) + 1 :], parts) for path, parts in found]
        assert kernels.put_files is not None, "there where `put_file` is"
        try:
            kernels.put_files(directory, names, condition, device, share, MAX_HELD_BYTES, done, None)
        except (ValueError, RuntimeError):  # as in `_call`: nothing was written yet
            done += [None] * len(found)


def _new_lock(store: Directory, directory: str, make: bool = True) -> Lock | None:
    """The lock of a file in a directory, as the compiled call takes it; None where it may not."""
    try:
        share, device = _directory(store, directory) if make else shared_permissions(store.files, directory)
    except FileNotFoundError:  # the directory is being erased: the general way makes it as often as it takes
        return None
    if store.locking == "auto" and device not in _probed:  # safety: probe at once
        return None
    return device, share, 0


def put_under_lock(
    store: InDirectory, queues: KeyQueues, path: str, parts: Sequence[Part], if_version: Version, lock: FileLock
) -> Done | None:
    """The same by who has the lock of the path; `queues`: where threads wait that share it."""
    if lock.fd < 0 or queues.is_wanted(path):
        return None
    return _put(store, queues, path, parts, if_version, (lock.inode[0], 0, lock.inode[1]))


def update_at_once(
    store: Directory, queues: KeyQueues, path: str, update: BoxUpdate, condition: OnlyWhile | None
) -> Updated | int | None:
    """Replace a box of a chunk: it is read (or begins as fill), changed and written by one call, under its lock; or BUSY."""
    directory = directory_of(path)
    if queues.is_wanted(path):
        return None
    lock = _new_lock(store, directory, make=False)
    done = None if lock is None else _update(store, queues, path, update, condition, lock)
    if done is not None or (lock is not None and not forget_missing(store.files, directory)) or update.is_fill:
        return done
    try:
        if condition is not None:
            store = store.only_while(OnlyWhile(condition.key, ANY))  # safety: no ghost at once
        lock = _new_lock(store, directory)  # which makes the directory
    except (OSError, ZarrantError):  # the general way says so
        return None
    return None if lock is None else _update(store, queues, path, update, condition, lock)


def update_under_lock(
    store: InDirectory, queues: KeyQueues, path: str, update: BoxUpdate, condition: OnlyWhile | None, lock: FileLock
) -> Updated | None:
    """The same by who has the lock of the path."""
    if lock.fd < 0 or queues.is_wanted(path):
        return None
    done = _update(store, queues, path, update, condition, (lock.inode[0], 0, lock.inode[1]))
    return done if isinstance(done, tuple) else None


def _update(
    store: InDirectory, queues: KeyQueues, path: str, update: BoxUpdate, condition: OnlyWhile | None, lock: Lock
) -> Updated | int | None:
    found = _asked(store, ANY, lock, condition)
    if found is None:
        return None
    order, (on, _, *where) = found
    assert kernels.update_file is not None, "there where `put_file` is"
    mark, done, asked = KEPT, LARGE, update[:4]
    if order == "memory" and update.nbytes <= MAX_HELD_BYTES:
        done = kernels.update_file(path, *asked, on, *where, False, MAX_HELD_BYTES, False, None)
    if done == LARGE:
        with queues.lock((path,), time.monotonic() + store.lock_timeout):
            mark = KEPT if order == "memory" else store.unsynced_paths.mark(store.files, path, None, (lock[0], 0, 1, 0))
            must_replace = order != "memory" and mark[0] == REPLACED  # safety: data before the name of an update
            done = kernels.update_file(path, *asked, on, *where, must_replace, -1, True, None)
    if not isinstance(done, tuple):
        return done
    version, old = done
    if version is None:
        return None, UNKNOWN if old >= 0 else None
    return version, KEPT if old >= 0 else _of_new(version, mark)


def _put(
    store: InDirectory,
    queues: KeyQueues,
    path: str,
    parts: Sequence[Part],
    if_version: Version,
    lock: Lock,
    absent: tuple[str, ...] | None = None,
) -> Done | None:
    """Write under a lock."""
    found = _asked(store, if_version, lock, store.condition)
    if found is None:
        return None
    order, asked = found
    if order == "memory" and _size(parts) <= MAX_HELD_BYTES:
        done = _call(path, parts, *asked, False, False, None, absent)
        return None if done is None else (done[0], KEPT)
    with queues.lock((path,), time.monotonic() + store.lock_timeout):
        mark = KEPT if order == "memory" else store.unsynced_paths.mark(store.files, path, None, (lock[0], 0, 1, 0))
        must_replace = order != "memory" and mark[0] == REPLACED  # safety: data before the name at once
        done = _call(path, parts, *asked, must_replace, True, None, absent)
    if done is None:
        return None
    version, old = done
    return version, KEPT if old >= 0 else _of_new(version, mark)


def _of_new(version: FileVersion, mark: Mark) -> Mark:
    """What to note of an object that is new."""
    return KEPT if mark is KEPT else (max(1, version[2]), mark[1])


def _asked(store: InDirectory, if_version: Version, lock: Lock, on: OnlyWhile | None) -> tuple[str, tuple[Any, ...]] | None:
    """The order of what gets on disk, and what the compiled call is asked for; None where it cannot be."""
    order = order_here(lock[0])
    if order not in ("memory", "replaced") or not (on is None or on.version is ANY or is_file_version(on.version)):
        return None
    wanted = None if if_version is ANY else False if if_version is None else if_version  # safety: version at once
    condition = _as_tuple(store, on)  # safety: metadata at once
    return order, (condition, wanted, *lock)


def _size(parts: Sequence[Part]) -> int:
    """Bytes that are written or copied."""
    size = 0
    for part in parts:
        if isinstance(part, ByteRange):
            size += part.length or 0
        elif not isinstance(part, Hole):
            size += memoryview(part).nbytes
    return size


def _call(path: str, parts: Sequence[Part], *rest: Any) -> tuple[FileVersion, int] | None:
    assert kernels.put_file is not None, "looked at by `can_put_at_once`"
    try:
        done: tuple[FileVersion, int] | None = kernels.put_file(path, parts, *rest)
    except (ValueError, RuntimeError):  # a version of another store, parts that are no plain bytes, or ranges counted from the end
        return None
    return done


def _as_tuple(store: InDirectory, condition: OnlyWhile | None) -> tuple[Any, ...] | None:
    """The condition as the compiled call takes it."""
    if condition is None:
        return None
    path = store.path_of(condition.key)
    return path, path + SUFFIX if condition.unlocked else None, None if condition.version is ANY else condition.version


def _directory(store: Directory, directory: str) -> tuple[int, int]:
    """(permissions of a lock file, device) in a directory, which is made if it is not there."""
    try:
        return shared_permissions(store.files, directory)
    except FileNotFoundError:
        store.make_directory(directory)
    return shared_permissions(store.files, directory)
