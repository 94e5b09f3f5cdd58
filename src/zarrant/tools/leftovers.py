"""Files that killed writers left next to objects: lock files and temp files.

In: a store of files and a prefix. Out: the files of both kinds below the prefix that no writer uses now, each with whether it
can be removed safely and a sentence for the user. A lock file is stale if its lock can be taken, for a writer at work has it
locked. A temp file `<key>.__new.__lock` is stale if the lock of its object can be taken. The search creates and removes no
file; `remove` takes the lock of the object, as every write does.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from zarrant.locking.file_locks import CREATED_HEADER, SUFFIX
from zarrant.stores.local.file_reuse import PREVIOUS
from zarrant.stores.local.objects import TEMP_INFIX
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.temp_files import annotate_errors

_KIND = re.compile(rf"(?P<owner>.+?)(?P<temp>{re.escape(TEMP_INFIX)}(?P<own>[0-9a-f]*))?{re.escape(SUFFIX)}")
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True)
class Leftover:
    """One file. `name` is its path in the store, `key` the key of its object; `removable`: no writer can still need it."""

    name: str
    key: str
    is_temp: bool
    removable: bool
    detail: str


def leftovers(store: FilesystemStore, prefix: str, but: Collection[str] = ()) -> Iterator[Leftover]:
    """The leftovers below a prefix ("" or ending with "/") but not below the directories `but`. Files in use are left out."""
    directories = [prefix]
    for directory in directories:
        if directory in but:
            continue
        with annotate_errors("list", store.url, directory or None):
            try:
                entries = store.files.scan(f"{store.root}/{directory}".rstrip("/"))
            except (FileNotFoundError, NotADirectoryError):
                continue
        for name, kind in sorted(entries):
            if kind == "dir" and SUFFIX not in name:
                directories.append(f"{directory}{name}/")
            found = _KIND.fullmatch(name)
            if kind == "file" and found is not None:
                leftover = _look(store, directory, name, found)
                if leftover is not None:
                    yield leftover


def _look(store: FilesystemStore, directory: str, name: str, found: re.Match[str]) -> Leftover | None:
    key, is_temp = directory + found["owner"], found["temp"] is not None
    path = f"{store.root}/{directory}{name}"
    try:
        before = store.files.stat(path)
    except FileNotFoundError:
        return None
    previous = path.endswith(PREVIOUS)
    if found["own"] and not previous:
        return Leftover(directory + name, key, True, False, "a temp file made without locks: a writer that still runs may need it")
    with _try_lock(store, f"{store.root}/{key}{SUFFIX}") as (free, size, start):
        if not free or not _same(store, path, before):  # the same file before and after: nobody had it locked
            return None
        if previous:
            return Leftover(directory + name, key, True, True, "what an update replaced a moment ago, or before it was killed")
        if is_temp:
            return Leftover(directory + name, key, True, True, "a temp file of a writer that was killed")
        if start == CREATED_HEADER:
            return Leftover(directory + name, key, False, False, 'a lock of locking="lockfile": in force if its owner still runs')
        value = f", with {size} bytes of a value that was never published" if size else ""
        return Leftover(directory + name, key, False, True, f"a lock file that nobody has locked{value}")


@contextmanager
def _try_lock(store: FilesystemStore, path: str) -> Iterator[tuple[bool, int, bytes]]:
    """Take a lock if it is free: (whether it was free, the size of the file, its first bytes). One without a file is free."""
    files = store.files
    try:
        fd = files.open(path, _FLAGS)
    except FileNotFoundError:
        yield True, 0, b""
        return
    except OSError:  # no permission, a link, a device: not ours to judge
        yield False, 0, b""
        return
    taken = False
    try:
        state = files.fstat(fd)
        taken = stat.S_ISREG(state.st_mode) and files.lock(fd)
        start = memoryview(bytearray(len(CREATED_HEADER)))
        count = files.read_full(fd, start, 0) if taken else 0
        yield taken and _same(store, path, state), files.fstat(fd).st_size, bytes(start[:count])
    finally:
        if taken:
            files.unlock(fd)
        files.close(fd)


def _same(store: FilesystemStore, path: str, state: os.stat_result) -> bool:
    try:
        return os.path.samestat(store.files.stat(path), state)
    except FileNotFoundError:
        return False


def remove(store: FilesystemStore, leftover: Leftover) -> None:
    """Remove a leftover under the lock of its object; the lock file goes with the lock."""
    with store.lock([leftover.key]):
        if leftover.is_temp:
            try:
                store.files.unlink(f"{store.root}/{leftover.name}")
            except FileNotFoundError:
                pass
