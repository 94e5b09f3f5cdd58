"""File reuse (opt-in): an update of a big object rewrites the file that the last update replaced.

An update of a shard makes a new file that shares nearly every byte with the old one. Where the file system cannot share blocks
between files (no reflinks), copying them is most of what an update costs. With `file_reuse=True` a file that took long to copy
keeps a second name when it is replaced, `<key>.__new0.__lock`. The next update writes into this *previous file* what it lacks:
first what the last update changed, then its own changes. Then it is renamed over the object.

In: the published file, the parts of the new object. Out: a temp file to write. May not: change a file that anybody may read.

- What a previous file lacks is recorded in an extended attribute of the published file: which file it replaced, and the ranges
  in which the two differ. The record names one state (mtime, size) of both files: it is void once anybody wrote to either. So
  a process without file reuse need not know of any of this: the file that it publishes has no such attribute, and what is
  left beside it is removed by the next writer with file reuse, by the process that left it, or by `zarrant check --repair`.
- Readers that opened a file while it was published read on undisturbed: a previous file is used only if the kernel grants a
  write lease, which it does if nobody has the file open or mapped, and nobody new can find it under the object's name. The
  lease is kept while the file is written: who looked the name up before, and opens the file only now, waits and sees it whole.
  File systems that other machines may have open are never used: their leases tell of this machine only.
- Not seen by the kernel, and so not protected: readers behind an NFS 3 export of this directory (which knows no open files),
  and what `sendfile` has queued of a file that was closed since. That is why this is off unless asked for.
- The lock of the object excludes other writers as ever. A killed writer leaves one previous file at most for an object.
- Loss of power: before a previous file is changed, the renames that made it one, and a temp file, are on disk, whoever made
  them. Otherwise an old directory could lead to it: as the object, or as a previous file whose record still holds, because its
  bytes may be on disk before its mtime is. It is on disk itself before it takes the object's place.
- The process that left a previous file removes it when it was not used for a second, and when the process ends.
"""

from __future__ import annotations

import atexit
import os
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from zarrant.errors import ByteRangeError
from zarrant.locking.file_locks import SUFFIX
from zarrant.locking.local import remake_after_fork
from zarrant.storage import ByteRange, Hole, Part
from zarrant.stores.local.durability import sync_directory
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import ABSENT, FileVersion, TempFile, span, version_of, write_parts

PREVIOUS = f".__new0{SUFFIX}"
"""What is added to the path of an object for its previous file."""
MIN_BYTES = 1 << 20
"""Size of the smallest object whose file is kept: that copying a smaller one was slow says that the machine was busy."""
MIN_COPY_S = {"memory": 0.0005, "disk": 0.006}
"""Seconds that a copy takes before a file is worth keeping, by kind of file system: on a disk it is synced twice to be used."""
UNUSED_S, MAX_FILES, LOCK_TIMEOUT_S = 1.0, 16, 0.2
"""Seconds a file is kept unused, files that one process keeps, and seconds to wait for the lock of an object to remove one."""

Spans = tuple[tuple[int, int], ...]
Opened = tuple[int, os.stat_result]
_HEAD = struct.Struct("<QQQQQQH")
_SPAN = struct.Struct("<QQ")
_MAX_SPANS = 64
_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Delta(NamedTuple):
    """What a published file records: its own mtime and size, the file that it replaced, and the ranges in which it differs."""

    own: tuple[int, int]
    replaced: FileVersion
    changed: Spans

    def pack(self) -> bytes:
        """As bytes."""
        head = _HEAD.pack(*self.own, *self.replaced, len(self.changed))
        return head + b"".join(_SPAN.pack(*each) for each in self.changed)

    @classmethod
    def unpack(cls, data: bytes) -> Delta | None:
        """From bytes; None where they are none of ours."""
        if len(data) < _HEAD.size:
            return None
        mtime, size, device, inode, replaced_mtime, replaced_size, count = _HEAD.unpack_from(data)
        if len(data) != _HEAD.size + count * _SPAN.size:
            return None
        changed = tuple(_SPAN.unpack_from(data, _HEAD.size + number * _SPAN.size) for number in range(count))
        return cls((mtime, size), (device, inode, replaced_mtime, replaced_size), changed)


class FileReuse:
    """File reuse of one store; None in its place where it is off.

    `drop` removes the previous file of a path, of the version given, under the lock of the object: True once it is gone.
    """

    def __init__(self, files: Syscalls, drop: Callable[[str, FileVersion], bool]) -> None:
        self.files, self.drop = files, drop

    def update(self, path: str, parts: Sequence[Part], opened: Opened, open_temp_file: Callable[[int], TempFile]) -> FileUpdate:
        """Begin an update of a published file, whose lock the caller has."""
        return FileUpdate(self, path, parts, opened, open_temp_file)

    def remove(self, path: str) -> None:
        """Remove what was left beside an object that is replaced or erased."""
        _remove(self.files, path)


class FileUpdate:
    """One update of an object: `temp` is the file to write, which is the previous file of the object if it can be used."""

    def __init__(
        self, reuse: FileReuse, path: str, parts: Sequence[Part], opened: Opened, open_temp_file: Callable[[int], TempFile]
    ) -> None:
        self.files, self.drop = reuse.files, reuse.drop
        self.path, self.parts, self.opened = path, parts, opened
        self.worth = self.kept = False
        reused = reuse_previous(self.files, path, opened, open_temp_file, max_disk_bytes(parts, opened[1].st_size))
        self.lacking = None if reused is None else reused[1]
        self.temp = open_temp_file(-1) if reused is None else reused[0]

    @property
    def is_reused(self) -> bool:
        """Whether the file was part of a published object before."""
        return self.lacking is not None

    def write(self) -> None:
        """Write the new object."""
        if self.lacking is not None:
            write_changes(self.files, self.temp.fd, self.parts, self.opened, self.lacking)
            self.worth = True
        else:
            self.worth = write_timed(self.files, self.temp.fd, self.parts, self.opened)

    def record(self, version: FileVersion) -> None:
        """Record on the new file, which is of this version now, in what it differs from the one it will replace."""
        self.worth = self.worth and record_delta(self.files, self.temp.fd, self.path, version, self.opened[1], self.parts)

    def keep(self, is_link: Callable[[str], bool]) -> None:
        """Give the published file its second name, just before it is replaced; what a link leads to is not ours."""
        self.kept = self.worth and not is_link(self.path) and keep_previous(self.files, self.path)

    def done(self) -> None:
        """The object was replaced: see to it that its previous file does not stay for good."""
        if self.kept:
            path, drop, replaced = self.path, self.drop, version_of(self.opened[1])
            left_behind(path, lambda: drop(path, replaced))


def reuse_previous(
    files: Syscalls, path: str, opened: Opened, open_temp_file: Callable[[int], TempFile], max_disk_bytes: int | None = None
) -> tuple[TempFile, Spans] | None:
    """The previous file of an object as a temp file, and the ranges in which it differs; None where there is none to use.

    One that takes more than `max_disk_bytes` bytes on disk is not used: the new object has holes, which it has not.
    """
    kind = files.kind(opened[1].st_dev)
    if not kind:
        return None
    taken = _take(files, path, opened, max_disk_bytes)
    if taken is None:
        _remove(files, path)
        return None
    fd, lacking = taken
    temp = open_temp_file(fd)
    try:
        files.rename(path + PREVIOUS, temp.path)
        if kind == "disk":
            sync_directory(files, os.path.dirname(path))  # safety: reused file sync
    except OSError:
        temp.release()
        return None
    except BaseException:
        temp.release()
        raise
    return temp, lacking


def max_disk_bytes(parts: Sequence[Part], size: int) -> int | None:
    """Bytes that the file of a new object may take on disk, an eighth more than it needs; None where it has no holes."""
    if not any(isinstance(part, Hole) for part in parts):
        return None
    needed = 0
    for part in parts:
        if isinstance(part, ByteRange):
            start, stop = span(part, size)
            needed += stop - start
        elif not isinstance(part, Hole):
            needed += memoryview(part).nbytes
    return needed + needed // 8


def _take(files: Syscalls, path: str, opened: Opened, max_disk_bytes: int | None) -> tuple[int, Spans] | None:
    try:
        data = files.get_xattr(opened[0])
        delta = None if data is None else Delta.unpack(data)
        if delta is None or delta.own != version_of(opened[1])[2:]:
            return None
        fd = files.open(path + PREVIOUS, _OPEN)
    except OSError:
        return None
    try:
        state = files.fstat(fd)
        fits = max_disk_bytes is None or (getattr(state, "st_blocks", None) or 0) * 512 <= max_disk_bytes
        is_previous = fits and version_of(state) == delta.replaced and state.st_nlink == 1
        if is_previous and files.take_write_lease(fd):  # safety: reused file
            return fd, delta.changed
    except OSError:
        pass
    except BaseException:
        files.close(fd)
        raise
    files.close(fd)
    return None


def _remove(files: Syscalls, path: str) -> None:
    """Remove a previous file that nobody can use, which a killed writer or a failed rename left."""
    try:
        files.unlink(path + PREVIOUS)
    except OSError:
        pass  # most of the time there is none; where it cannot be removed, it does no harm


def write_changes(files: Syscalls, fd: int, parts: Sequence[Part], opened: Opened, lacking: Spans) -> None:
    """Make a previous file the new object: like `write_parts`, but what it has already is not copied from the published file."""
    size = opened[1].st_size
    spans = {index: span(part, size) for index, part in enumerate(parts) if isinstance(part, ByteRange)}
    offset = 0
    for index, part in enumerate(parts):
        if isinstance(part, Hole):
            offset += part.length  # what the previous file has there is as good as zeros
            continue
        if not isinstance(part, ByteRange):
            offset += files.write_full(fd, [part], offset)
            continue
        start, stop = spans[index]
        pieces = [(start, stop)] if start != offset else [(max(start, a), min(stop, b)) for a, b in lacking]
        for a, b in pieces:
            if a < b and files.copy_full(opened[0], fd, b - a, a, offset + a - start) < b - a:
                raise ByteRangeError("the object became shorter while it was copied", expected=f"{size} bytes")
        offset += stop - start
    if files.fstat(fd).st_size != offset:
        files.truncate(fd, offset)  # safety: reused file tail


def changed_by(parts: Sequence[Part], size: int) -> Spans | None:
    """The ranges of a new object that differ from the one of `size` bytes that it replaces; None for very many."""
    spans: list[tuple[int, int]] = []
    offset = 0
    for part in parts:
        if isinstance(part, ByteRange):
            start, stop = part.resolve(size)
            length, same = stop - start, start == offset
        elif isinstance(part, Hole):
            length, same = part.length, True  # nobody asks for these bytes again
        else:
            length, same = memoryview(part).nbytes, False
        if length and not same:
            if spans and spans[-1][1] == offset:
                spans[-1] = (spans[-1][0], offset + length)
            else:
                spans.append((offset, offset + length))
        offset += length
    return tuple(spans) if len(spans) <= _MAX_SPANS else None


def write_timed(files: Syscalls, fd: int, parts: Sequence[Part], opened: Opened) -> bool:
    """Write a new object in full; whether that took so long that the old file is worth keeping."""
    if opened[1].st_size < MIN_BYTES:
        write_parts(files, fd, parts, opened)
        return False
    begin = time.perf_counter()
    write_parts(files, fd, parts, opened)
    took = time.perf_counter() - begin
    return took > min(MIN_COPY_S.values()) and took > MIN_COPY_S.get(files.kind(opened[1].st_dev), float("inf"))


def record_delta(files: Syscalls, fd: int, path: str, version: FileVersion, old: os.stat_result, parts: Sequence[Part]) -> bool:
    """Record on a temp file what it will replace, and where it differs; False where that cannot be."""
    changed = changed_by(parts, old.st_size)
    if changed is None or _kept.full(path):
        return False
    try:
        files.set_xattr(fd, Delta(version[2:], version_of(old), changed).pack())
    except OSError:
        return False
    return True


def keep_previous(files: Syscalls, path: str) -> bool:
    """Give the published file its second name, before another one takes the first; False where it cannot have one."""
    try:
        try:
            files.link(path, path + PREVIOUS)
        except FileExistsError:
            files.unlink(path + PREVIOUS)
            files.link(path, path + PREVIOUS)
    except OSError:
        return False
    return True


class _Kept:
    """The previous files that this process left, and the thread that removes those nobody used."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.gate = threading.Lock()
        self.left: dict[str, tuple[float, Callable[[], bool]]] = {}
        self.thread: threading.Thread | None = None
        self.ending = False

    def full(self, path: str) -> bool:
        return len(self.left) >= MAX_FILES and path not in self.left

    def add(self, path: str, remove: Callable[[], bool]) -> None:
        with self.gate:
            self.left[path] = (time.monotonic(), remove)
            if not self.ending:
                _at_the_end_of_a_worker(self.remove)
                self.ending = True
            if self.thread is None:
                thread = threading.Thread(target=self._tidy, name="zarrant-file-reuse", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # too many threads, or the interpreter ends: the object was written; the next one tries again
                self.thread = thread

    def _tidy(self) -> None:
        while True:
            time.sleep(UNUSED_S / 2)
            self.remove(time.monotonic() - UNUSED_S)
            with self.gate:
                if not self.left:
                    self.thread = None
                    return

    def remove(self, before: float = float("inf")) -> None:
        """Remove the files left before a moment, except those whose objects are being written now."""
        with self.gate:
            old = [(path, entry) for path, entry in self.left.items() if entry[0] <= before]
        for path, entry in old:
            try:
                gone = entry[1]()
            except Exception:
                gone = True  # where it cannot be removed, the next update finds it
            with self.gate:
                if gone and self.left.get(path) is entry:
                    del self.left[path]


def _at_the_end_of_a_worker(act: Callable[[], None]) -> None:
    """A worker of `multiprocessing` ends without what was registered with `atexit`."""
    util = sys.modules.get("multiprocessing.util")
    if util is not None:
        util.Finalize(None, act, exitpriority=0)


_kept = _Kept()
left_behind = _kept.add
remove_all = _kept.remove
atexit.register(remove_all)


def absent(files: Syscalls, path: str, replaced: FileVersion) -> bool:
    """Whether the previous file of a path is not this one."""
    try:
        return version_of(files.stat(path + PREVIOUS)) != replaced
    except ABSENT:
        return True
