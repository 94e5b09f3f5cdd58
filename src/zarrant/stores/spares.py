"""Spares: the object that an update replaced, kept for a moment, because most of the next one is in it already.

An update of a shard makes a new file that shares nearly every byte with the old one. Where the file system cannot share
blocks, copying them is what an update costs. So after a slow copy the replaced file keeps a name, `<key>.__new0.__lock`, and
the next update writes only what has changed since, first by the last update, then by itself, into that file, which then takes
the object's place. In: the published file, the parts of the new object. Out: an open spare and what it lacks, or None: then
everything is copied as ever. May not: touch a file that anybody could still be reading.

- What a spare lacks is told by a note on the published file (an extended attribute): which file it replaced, and where the two
  differ. It holds for one state of both files only: anybody's write to either makes it void.
- Readers that opened the file while it was published read on undisturbed: a spare is used only where the kernel grants a write
  lease, which it does when nobody else has the file open or mapped, and nobody new can find it under the object's name. The
  lease is kept while the file is written: who looked it up before, and comes to open it only now, waits and sees it whole.
  File systems that other machines may have open grant nothing here: their leases tell of this machine only. (Two
  readers are not seen: those of a directory that this machine exports by NFS 3, which knows no open files, and what `sendfile`
  has queued of a file that is closed by now. For them there is `FilesystemStore(spares=False)`.)
- The same lock excludes writers as ever. Killed writers leave at most one spare for each object; the next update uses or
  removes it.
- Loss of power: before the spare is changed, the renames that made it one, and a draft, are on disk, whoever made them. Else
  an old directory could lead to it: as the object, or as a spare whose note still holds, for its bytes may be on disk before
  its mtime is. It is on disk itself before it takes the object's place.
- The process that left a spare removes it when it was not used for a second, and when it ends.
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
from zarrant.locking.files import SUFFIX
from zarrant.locking.local import remake_after_fork
from zarrant.storage import ByteRange, Hole, Part
from zarrant.stores.drafts import ABSENT, FileVersion, TempFile, span, version_of, write_parts
from zarrant.stores.durable import sync_directory
from zarrant.stores.layer import FileLayer

SPARE = f".__new0{SUFFIX}"
LEAST = 1 << 20
"""Bytes of the smallest object worth a spare: that copying a smaller one was slow says that the machine was busy."""
SLOW = {"memory": 0.0005, "disk": 0.006}
"""Seconds that a copy takes before a spare is worth it, by kind of file system: on a disk a spare is synced twice."""
IDLE, MOST, PATIENCE = 1.0, 16, 0.2
"""Seconds a spare is kept unused, spares one process keeps, and seconds to wait for an object that is being written meanwhile."""

Spans = tuple[tuple[int, int], ...]
Opened = tuple[int, os.stat_result]
_HEAD = struct.Struct("<QQQQQQH")
_SPAN = struct.Struct("<QQ")
_MOST_SPANS = 64
_OPEN = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Note(NamedTuple):
    """What a published file tells: its own mtime and size, the file that it replaced, and the ranges in which it differs."""

    own: tuple[int, int]
    replaced: FileVersion
    changed: Spans

    def pack(self) -> bytes:
        """As bytes."""
        head = _HEAD.pack(*self.own, *self.replaced, len(self.changed))
        return head + b"".join(_SPAN.pack(*each) for each in self.changed)

    @classmethod
    def unpack(cls, data: bytes) -> Note | None:
        """From bytes; None where they are none of ours."""
        if len(data) < _HEAD.size:
            return None
        mtime, size, device, inode, replaced_mtime, replaced_size, count = _HEAD.unpack_from(data)
        if len(data) != _HEAD.size + count * _SPAN.size:
            return None
        changed = tuple(_SPAN.unpack_from(data, _HEAD.size + number * _SPAN.size) for number in range(count))
        return cls((mtime, size), (device, inode, replaced_mtime, replaced_size), changed)


def adopt(
    files: FileLayer, path: str, opened: Opened, make_draft: Callable[[int], TempFile], room: int | None = None
) -> tuple[TempFile, Spans] | None:
    """The spare of a published file as a draft, and the ranges in which it differs; None where there is none to use.

    A spare that takes more than `room` bytes on disk is not used: the new object has holes, which the spare has not.
    """
    kind = files.kind(opened[1].st_dev)
    if not kind:
        return None
    taken = _take(files, path, opened, room)
    if taken is None:
        _remove(files, path)
        return None
    fd, lacking = taken
    draft = make_draft(fd)
    try:
        files.rename(path + SPARE, draft.path)
        if kind == "disk":
            sync_directory(files, os.path.dirname(path))  # safety: spare sync
    except OSError:
        draft.release()
        return None
    except BaseException:
        draft.release()
        raise
    return draft, lacking


def room_for(parts: Sequence[Part], size: int) -> int | None:
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


def _take(files: FileLayer, path: str, opened: Opened, room: int | None) -> tuple[int, Spans] | None:
    try:
        data = files.note(opened[0])
        note = None if data is None else Note.unpack(data)
        if note is None or note.own != version_of(opened[1])[2:]:
            return None
        fd = files.open(path + SPARE, _OPEN)
    except OSError:
        return None
    try:
        state = files.fstat(fd)
        fits = room is None or (getattr(state, "st_blocks", None) or 0) * 512 <= room
        if fits and version_of(state) == note.replaced and state.st_nlink == 1 and files.alone(fd):  # safety: spare
            return fd, note.changed
    except OSError:
        pass
    except BaseException:
        files.close(fd)
        raise
    files.close(fd)
    return None


def _remove(files: FileLayer, path: str) -> None:
    """Remove a spare that nobody can use, which a killed writer or a failed rename left."""
    try:
        files.unlink(path + SPARE)
    except OSError:
        pass  # most of the time there is none; where it cannot be removed, it does no harm


def write_changes(files: FileLayer, fd: int, parts: Sequence[Part], opened: Opened, lacking: Spans) -> None:
    """Make a spare the new object: like `write_parts`, but what it has already is not copied from the published file."""
    size = opened[1].st_size
    spans = {index: span(part, size) for index, part in enumerate(parts) if isinstance(part, ByteRange)}
    offset = 0
    for index, part in enumerate(parts):
        if isinstance(part, Hole):
            offset += part.length  # what the spare has there is as good as zeros
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
        files.truncate(fd, offset)  # safety: spare tail


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
    return tuple(spans) if len(spans) <= _MOST_SPANS else None


def write_timed(files: FileLayer, fd: int, parts: Sequence[Part], opened: Opened) -> bool:
    """Write a new object in full; whether that took so long that a spare is worth it."""
    if opened[1].st_size < LEAST:
        write_parts(files, fd, parts, opened)
        return False
    begin = time.perf_counter()
    write_parts(files, fd, parts, opened)
    took = time.perf_counter() - begin
    return took > min(SLOW.values()) and took > SLOW.get(files.kind(opened[1].st_dev), float("inf"))


def remember(files: FileLayer, fd: int, path: str, version: FileVersion, old: os.stat_result, parts: Sequence[Part]) -> bool:
    """Note on a draft what it will replace, and where it differs; False where that cannot be."""
    changed = changed_by(parts, old.st_size)
    if changed is None or _kept.full(path):
        return False
    try:
        files.set_note(fd, Note(version[2:], version_of(old), changed).pack())
    except OSError:
        return False
    return True


def keep(files: FileLayer, path: str) -> bool:
    """Give the published file its second name, before another one takes the first; False where it cannot have one."""
    try:
        try:
            files.link(path, path + SPARE)
        except FileExistsError:
            files.unlink(path + SPARE)
            files.link(path, path + SPARE)
    except OSError:
        return False
    return True


class _Kept:
    """The spares that this process left, and the thread that removes those nobody used."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.gate = threading.Lock()
        self.left: dict[str, tuple[float, Callable[[], bool]]] = {}
        self.thread: threading.Thread | None = None
        self.ending = False

    def full(self, path: str) -> bool:
        return len(self.left) >= MOST and path not in self.left

    def add(self, path: str, remove: Callable[[], bool]) -> None:
        with self.gate:
            self.left[path] = (time.monotonic(), remove)
            if not self.ending:
                _at_the_end_of_a_worker(self.remove)
                self.ending = True
            if self.thread is None:
                thread = threading.Thread(target=self._tidy, name="zarrant-spares", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return  # too many threads, or the interpreter ends: the object was written; the next one tries again
                self.thread = thread

    def _tidy(self) -> None:
        while True:
            time.sleep(IDLE / 2)
            self.remove(time.monotonic() - IDLE)
            with self.gate:
                if not self.left:
                    self.thread = None
                    return

    def remove(self, before: float = float("inf")) -> None:
        """Remove the spares left before a moment, except those whose objects are being written now."""
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


def absent(files: FileLayer, path: str, replaced: FileVersion) -> bool:
    """Whether the spare of a path is not this one."""
    try:
        return version_of(files.stat(path + SPARE)) != replaced
    except ABSENT:
        return True
