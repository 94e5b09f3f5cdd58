"""An archive that is being written: a temp file beside it, which becomes the archive when it is closed.

In: objects. Out: an archive as OME's RFC-9 wants it (https://ngff.openmicroscopy.org/rfc/9): nothing is compressed, ZIP64, every
`zarr.json` first. Until `publish` there is the old archive, or none; afterwards the new one; so it is for a process that is killed
at any moment, and for a loss of power. The temp file of a killed writer is taken over by the next one. A second writer
of the same archive is refused while the first is at work: the temp file is locked.

Metadata stay in memory until the end, for which space is left at the start of the file. All else is written where it will stay.
Objects that were replaced or erased before the end leave gaps; where there are some, or where the metadata need more space,
`publish` copies what is left into another file.
"""

from __future__ import annotations

import itertools
import os
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from zarrant.errors import LimitError, LockTimeout, StoreError
from zarrant.storage import Buffer
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import annotate_errors, require_regular
from zarrant.stores.zip_format import (
    MAX_DIRECTORY,
    STORED,
    Entry,
    build_directory,
    directory_size,
    in_order,
    is_metadata,
    local_header,
    local_size,
    ome_comment,
)

TEMP, COPY = ".__writing", ".__copy"
RESERVED_BYTES = 60_000
"""Bytes left for metadata: some 40 arrays and groups. What is not used is padding, of which a header takes 65,535 at most."""

MIN_PADDING = 6


class ZipWriter:
    """Objects that will be an archive at `path`."""

    def __init__(self, path: str, url: str, files: Syscalls) -> None:
        self.path, self.url, self.files = path, url, files
        self.pid, self.mutex = os.getpid(), threading.Lock()
        self._in_use, self._users = threading.Condition(self.mutex), 0
        self.entries: dict[str, Entry] = {}
        self.metadata: dict[str, memoryview] = {}
        self.versions: dict[str, int] = {}
        self.comment: bytes | None = None
        """Of the archive that this one continues."""
        self.end, self.gaps, self.directory = RESERVED_BYTES, False, 0
        self._count = itertools.count(1)
        self.fd = -1
        with annotate_errors("write the archive", url, None):
            self.fd = self._open_temp_file()

    def _open_temp_file(self) -> int:
        """Make the temp file, or take over one whose writer was killed. LockTimeout where a writer is at work."""
        name = self.path + TEMP
        while True:
            fd = self.files.open(name, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                require_regular(self.files.fstat(fd))
                if not self.files.lock(fd):
                    hint = "Close the other writer, or write another archive"
                    raise LockTimeout("another writer is writing this archive", store=self.url, path=name, hint=hint)
                if self._is_there(fd, name):
                    self.files.truncate(fd, 0)
                    return fd
            except BaseException:
                self.files.close(fd)
                raise
            self.files.close(fd)  # another writer published it meanwhile

    def _is_there(self, fd: int, name: str) -> bool:
        mine = self.files.fstat(fd)
        try:
            there = self.files.stat(name)
        except FileNotFoundError:
            return False
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)

    def put(self, key: str, parts: Sequence[Buffer], expect: Callable[[int | None], None] | None = None) -> int:
        """Add an object, or replace one of this archive that is not published yet. `expect` is asked whether that is wanted."""
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        if is_metadata(key):
            value = memoryview(b"".join(views))
            with self._changing(key, expect):
                self._forget(key)
                self.metadata[key] = value
                return self._new_version(key)
        size, crc = sum(map(len, views)), 0
        for view in views:
            crc = zlib.crc32(view, crc)
        entry = self._add(key, size, crc, lambda at: self.files.write_full(self.fd, views, at))
        with self._changing(key, expect, entry):
            self._forget(key)
            self.entries[key] = entry
            return self._new_version(key)

    def copy_in(self, key: str, entry: Entry, source: int, at: int) -> None:
        """Add an object of another archive as it is there; its bytes begin at `at` of that file."""

        def copy(place: int) -> None:
            if self.files.copy_full(source, self.fd, entry.stored, at, place) < entry.stored:
                raise StoreError("the archive became shorter while it was copied", key=key)

        self.entries[key] = self._add(key, entry.size, entry.crc, copy, entry.stored, entry.method)
        self._new_version(key)

    def _add(
        self, key: str, size: int, crc: int, write: Callable[[int], object], stored: int | None = None, method: int = STORED
    ) -> Entry:
        """Write an object at the end of the file. It is part of nothing yet."""
        with annotate_errors("write", self.url, key), self._using() as fd:
            with self.mutex:
                self._reserve(key)
                offset = self.end
                entry = Entry(offset, size if stored is None else stored, size, crc, method)
                self.end = offset + local_size(key) + entry.stored
            try:
                self.files.write_full(fd, [local_header(key, entry)], offset)
                write(offset + local_size(key))
            except BaseException:
                self.gaps = True
                raise
        return entry

    @contextmanager
    def _using(self) -> Iterator[int]:
        """The descriptor of the file, which stays open while the block runs."""
        with self.mutex:
            self.require_open()
            self._users += 1
        try:
            yield self.fd
        finally:
            with self.mutex:
                self._users -= 1
                self._in_use.notify_all()

    def _reserve(self, key: str) -> None:
        """LimitError for more entries than can be read again."""
        self.directory += directory_size(key)
        if self.directory > MAX_DIRECTORY:
            hint = "Use larger chunks, or shards"
            raise LimitError("too many objects for one archive", key=key, field="directory bytes", limit=MAX_DIRECTORY, hint=hint)

    @contextmanager
    def _changing(self, key: str, expect: Callable[[int | None], None] | None, written: Entry | None = None) -> Iterator[None]:
        with self.mutex:
            try:
                self.require_open()
                if expect is not None:
                    expect(self.versions.get(key))
                yield
            except BaseException:
                self.gaps = self.gaps or written is not None
                raise

    def erase(self, key: str, expect: Callable[[int | None], None] | None = None) -> None:
        """Remove an object; succeed if it is absent."""
        with self._changing(key, expect):
            self._forget(key)
            self.versions.pop(key, None)

    def _forget(self, key: str) -> None:
        if self.entries.pop(key, None) is not None:
            self.gaps = True
            self.directory -= directory_size(key)
        self.metadata.pop(key, None)

    def _new_version(self, key: str) -> int:
        self.versions[key] = version = next(self._count)
        return version

    def require_open(self) -> None:
        """StoreError where the archive is published or given up, or is that of a parent process."""
        if self.fd < 0 or self.pid != os.getpid():
            got = "it is closed" if self.fd < 0 else "this is another process"
            raise StoreError("the archive cannot be written any more", store=self.url, expected="an open writer", got=got)

    def read(self, entry: Entry, key: str, start: int, stop: int) -> memoryview:
        """Bytes of an object as they are in the file."""
        view = memoryview(bytearray(stop - start))
        with annotate_errors("read", self.url, key), self._using() as fd:
            count = self.files.read_full(fd, view, entry.offset + local_size(key) + start)
        if count < len(view):
            raise StoreError("the temp file of the archive became shorter", store=self.url, key=key)
        return view.toreadonly()

    def publish(self) -> None:
        """Let the file become the archive; it is on disk when this returns."""
        with self.mutex, annotate_errors("write the archive", self.url, None):
            self.require_open()
            self._in_use.wait_for(lambda: not self._users)
            head = sum(local_size(key) + len(value) for key, value in self.metadata.items())
            padding = RESERVED_BYTES - head
            if self.metadata and not self.gaps and (padding == 0 or padding >= MIN_PADDING):
                self._finish(self.fd, padding, self.entries, self.end)
                self.files.rename(self.path + TEMP, self.path)
            else:
                self._publish_copy(head)
            self._sync_directory()
            self._close()

    def _publish_copy(self, head: int) -> None:
        """Publish a copy in which all lies close together."""
        name = self.path + COPY
        self._unlink(name)  # of a writer that was killed: the lock of the temp file is ours
        fd = self.files.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            moved, end = {}, head
            for key, entry in sorted(self.entries.items(), key=lambda item: item[1].offset):
                length = local_size(key) + entry.stored
                if self.files.copy_full(self.fd, fd, length, entry.offset, end) < length:
                    raise StoreError("the temp file of the archive became shorter", key=key)
                moved[key] = entry._replace(offset=end)
                end += length
            self._finish(fd, 0, moved, end)
            self.files.rename(name, self.path)
        except BaseException:
            self._unlink(name)
            raise
        finally:
            self.files.close(fd)
        self._unlink(self.path + TEMP)

    def _finish(self, fd: int, padding: int, entries: dict[str, Entry], end: int) -> None:
        """Write the metadata, with `padding` free bytes behind them, and the directory; and have all on disk."""
        keys, placed, parts, at = in_order(self.metadata), [], list[Buffer](), 0
        for number, key in enumerate(keys):
            value = self.metadata[key]
            entry = Entry(at, len(value), len(value), zlib.crc32(value))
            header = local_header(key, entry, padding if number == len(keys) - 1 else 0)
            parts += (header, value)
            placed.append((key, entry))
            at += len(header) + len(value)
        self.files.write_full(fd, parts, 0)
        comment = ome_comment({key: bytes(value) for key, value in self.metadata.items() if key == "zarr.json"})
        directory = build_directory([*placed, *entries.items()], end, comment or self.comment or b"")
        self.files.write_full(fd, [directory], end)
        self.files.truncate(fd, end + len(directory))
        self.files.sync(fd)  # safety: archive on disk

    def _sync_directory(self) -> None:
        fd = self.files.open(os.path.dirname(self.path), os.O_RDONLY)
        try:
            self.files.sync(fd)
        finally:
            self.files.close(fd)

    def discard(self) -> None:
        """Give it up: the old archive stays, or none is there."""
        with self.mutex:
            self._in_use.wait_for(lambda: not self._users)
            if self.fd >= 0 and self.pid == os.getpid():
                self._unlink(self.path + TEMP)
            self._close()

    def _close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            self.files.close(fd)

    def _unlink(self, path: str) -> None:
        try:
            self.files.unlink(path)
        except FileNotFoundError:
            pass
