"""Objects as files below a directory: everything but the locks.

In: keys, and `exclusive_path` of the subclass, which keeps other writers of one path out and makes temp files there. Out: the
methods of Get, Put, PutIf, Splice, Erase and List. Every OSError becomes one typed error that names store and key. A failed
write leaves the old object as it was, and removes its temp file. `if_version` may also be `storage.ANY`: any version, or none.
With `durability="fsync"` a call returns when its changes are on disk; inside of a `write_batch` they are on disk when the block
ends. What is not synced at once is added to `unsynced_paths`, for the next `sync`.
"""

from __future__ import annotations

import os
import re
import stat
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Self

from zarrant.codecs.buffer_pool import lent
from zarrant.errors import ByteRangeError, LimitError, OptionError, ZarrantError
from zarrant.locking.file_locks import SUFFIX
from zarrant.storage import ANY, Blob, Buffer, ByteRange, FileDecoder, Hole, OnlyWhile, Part, ShareWork, Version, expect_version
from zarrant.stores.keys import are_doubtful, check_key, check_prefix, is_doubtful
from zarrant.stores.local.batch_put import put_batch
from zarrant.stores.local.descriptors import could_not_open, with_few_descriptors
from zarrant.stores.local.direct_io import DirectIO
from zarrant.stores.local.durability import Durable
from zarrant.stores.local.links import Links
from zarrant.stores.local.mounts import BUSY_S, LISTED_S, QUIET_S, RELOOK_S
from zarrant.stores.local.read_at_once import (
    OTHERWISE,
    ReadAtOnce,
    can_read_at_once,
    read_decoded,
    read_into,
    read_parts,
    read_whole,
)
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import (
    ABSENT,
    FileVersion,
    OpenTempFile,
    TempFile,
    annotate_errors,
    open_published,
    remember_made,
    require_regular,
    span,
    stamp,
    stat_or_none,
    version_of,
    version_seen,
    write_parts,
)
from zarrant.stores.local.unsynced import Mark

if TYPE_CHECKING:
    from zarrant.codecs.protocols import BoxUpdate
    from zarrant.stores.local.file_reuse import FileReuse
    from zarrant.stores.local.put_at_once import Updated

Opened = tuple[int, os.stat_result]

TEMP_INFIX = ".__new"
"""Temp file of a writer with a lock: `<key>.__new.__lock`. Without locks: `<key>.__new<hex digits>.__lock`."""

_MAX_PASSES = 100
"""Scans of a prefix that is being erased while others write to it; without them the second finds nothing."""

UNCHANGED_S, MAX_WAITS = 0.05, 3
"""Age of an mtime that tells whether a directory changes; how often a listing waits for that."""

_RESERVED = re.compile(rf"(?:{re.escape(SUFFIX)}|{re.escape(TEMP_INFIX)}[0-9a-f]*)(?:/|\Z)")
_TEMP_OR_LOCK = re.compile(rf"(?:{re.escape(TEMP_INFIX)}[0-9a-f]*)?{re.escape(SUFFIX)}\Z")


class FileObjects(Durable):
    """Objects as files below `root`."""

    links: Links
    condition: OnlyWhile | None = None

    def only_while(self, condition: OnlyWhile) -> Self:
        """See `storage.Conditional`."""
        view = self._view()
        view.condition = condition
        return view

    def _view(self) -> Self:
        """The same store, of which something can be changed."""
        _ = self.unsynced_paths  # the view's too: it lives for as long as a store knows it
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        return view

    def version(self, key: str) -> Version:
        """The version of an object, None where there is none."""
        with annotate_errors("look at", self.url, key):
            return self._version(key)

    def _version(self, key: str) -> FileVersion | None:
        state = self.links.state(self._path(key))
        return None if state is None else version_of(state)

    def _check(self) -> None:
        """MetadataChangedError where the condition of a write does not hold; asked under the lock of what is written."""
        condition = self.condition
        if condition is not None:
            locked = condition.unlocked and self._is_locked(self._path(condition.key))  # before the version: see `is_unchanged`
            condition.check(self._version(condition.key), locked)  # safety: metadata

    in_memory = False
    """Whether the last file that was read lies in memory."""

    @cached_property
    def _reads_at_once(self) -> bool:
        return can_read_at_once(self)

    direct: DirectIO | None = None
    """Files are written and read around the page cache; None: buffered."""

    file_reuse = False
    """Whether updates may rewrite the file that the last one replaced."""

    @property
    def reuse(self) -> FileReuse | None:
        """What lets updates rewrite the file that the last one replaced; None: every update makes a new file."""
        return None

    @property
    def direct_io(self) -> bool:
        """Whether direct I/O was asked for; `access` tells whether it is done."""
        return self.direct is not None

    @property
    def access(self) -> str:
        """How files are written and read, as far as it is known by now."""
        if self.direct is None:
            return "buffered"
        if not self.direct.refused:
            return "direct"
        return f"buffered: the file system refuses direct I/O ({', '.join(sorted(set(self.direct.refused.values())))})"

    @abstractmethod
    def exclusive_path(self, path: str, timeout: float | None = None) -> AbstractContextManager[OpenTempFile]:
        """Keep other writers of a path out; the value makes a temp file in its directory, which exists by then.

        LockTimeout after `timeout` seconds, or else after as long as the store waits for locks.
        """

    @abstractmethod
    def _is_locked(self, path: str) -> bool:
        """Whether anybody has the lock of a path, this caller too; what was left by the killed counts as a lock."""

    @abstractmethod
    def renames_show_gaps(self) -> bool:
        """Whether an object that was just not found may be there: on file systems whose renames are not atomic for readers."""

    def get(self, key: str) -> Blob | None:
        return self._get(key, None)

    def get_within(self, key: str, limit: int) -> Blob | None:
        """See `storage.GetWithin`: the size of a file says nothing of the space that it takes (holes), only of ours."""
        return self._get(key, limit)

    def get_into(self, key: str, into: memoryview, limit: int | None) -> Blob | None:
        """See `storage.GetInto`."""
        path = self._path(key)
        found = read_into(self, path, into) if self._reads_at_once else OTHERWISE
        if found is not OTHERWISE and (found is not None or not self.renames_show_gaps()):
            return found
        return self._get_in_steps(key, path, limit, into)

    def get_all(self, keys: Sequence[str], limit: int | None) -> list[Blob | Exception | None]:
        """See `storage.GetAll`."""
        return self._get_each(keys, limit, lambda paths: read_whole(self, paths, limit))

    def get_decoded(
        self, keys: Sequence[str], limit: int | None, decoder: FileDecoder, share: ShareWork
    ) -> list[Blob | Exception | None]:
        """See `storage.GetDecoded`."""
        if decoder.whole:
            return self._get_each(keys, limit, lambda paths: read_decoded(self, paths, limit, decoder, share))
        try:
            paths = self._paths(keys) if self._reads_at_once else []
        except ZarrantError:
            paths = []
        found = read_decoded(self, paths, limit, decoder, share) if paths else [OTHERWISE] * len(keys)
        return [None if each is OTHERWISE else each for each in found]

    def _get_each(
        self, keys: Sequence[str], limit: int | None, read: Callable[[list[str]], list[ReadAtOnce]]
    ) -> list[Blob | Exception | None]:
        if not self._reads_at_once:
            return [self._outcome(key, limit) for key in keys]
        try:
            paths = self._paths(keys)
        except ZarrantError:
            return [self._outcome(key, limit) for key in keys]
        gaps = self.renames_show_gaps()
        return [
            self._outcome(key, limit) if found is OTHERWISE or (found is None and gaps) else found
            for key, found in zip(keys, read(paths), strict=True)
        ]

    def _outcome(self, key: str, limit: int | None) -> Blob | Exception | None:
        try:
            return self._get_in_steps(key, self._path(key), limit)
        except Exception as error:
            return error

    def _get(self, key: str, limit: int | None) -> Blob | None:
        path = self._path(key)
        if self._reads_at_once:
            (found,) = read_whole(self, [path], limit)
            if found is not OTHERWISE and (found is not None or not self.renames_show_gaps()):
                return found
        return self._get_in_steps(key, path, limit)

    def _get_in_steps(self, key: str, path: str, limit: int | None, into: memoryview | None = None) -> Blob | None:
        with annotate_errors("read", self.url, key):
            before = self.files.now()
            opened = open_published(self.files, path, self.links.open) or self._open_again(path)
            if opened is None:
                return None
            fd, state = opened
            try:
                if limit is not None and state.st_size > limit:  # safety: object size
                    raise LimitError("a stored object that is too large", field="stored bytes", got=state.st_size, limit=limit)
                is_there = into is not None and self.direct is not None and self.direct.read_into(fd, state, into)
                data = () if is_there else tuple(self._read(fd, state, [(0, state.st_size)]))
            finally:
                self.files.close(fd)
        return Blob(data, version_seen(self.files, version_of(state), before), state.st_size)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        path = self._path(key)
        if ranges and self._reads_at_once:
            found = read_parts(self, path, ranges, if_version)
            if found is not OTHERWISE and (found is not None or not self.renames_show_gaps()):
                return found
        with annotate_errors("read", self.url, key):
            before = self.files.now()
            state = None if ranges else self._state_by_name(path)
            if state is not None:
                if if_version is not None:
                    _expect(state, if_version)
                return Blob((), version_seen(self.files, version_of(state), before), state.st_size)
            opened = open_published(self.files, path, self.links.open) or self._open_again(path)
            if opened is None:
                if if_version is not None:
                    _expect(None, if_version)
                return None
            fd, state = opened
            try:
                if if_version is not None:
                    _expect(state, if_version)
                views = self._read(fd, state, [span(wanted, state.st_size) for wanted in ranges])
            finally:
                self.files.close(fd)
        return Blob(tuple(views), version_seen(self.files, version_of(state), before), state.st_size)

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        return self._swap(key, parts, ANY)

    def put_all(self, items: Sequence[tuple[str, Sequence[Buffer]]]) -> list[Version | Exception]:
        """See `storage.PutAll`."""
        with annotate_errors("write", self.url, None):
            self._check_durability()
        return put_batch(self, items)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        return self._swap(key, parts, if_version)

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        return self._swap(key, parts, if_version)

    def erase(self, key: str) -> None:
        path = self._path(key)
        with annotate_errors("erase", self.url, key):
            self._check_durability()
            # Where there is nothing, the lock need not be waited for: this is the moment at which there was nothing to erase.
            if stat_or_none(self.files, path) is not None or self.renames_show_gaps():
                with self.exclusive_path(path):
                    self._check()
                    self._remove_previous(path)  # first: who is killed in between leaves none without its object
                    self._unlink(path)
            else:
                self._check()
                if self.durability == "rename":
                    return
            self._on_published([path])

    def erase_if(self, key: str, if_version: Version) -> None:
        path = self._path(key)
        with annotate_errors("erase", self.url, key):
            self._check_durability()
            with self.exclusive_path(path):
                self._check()
                _expect(self.links.state(path), if_version)
                self._remove_previous(path)
                self._unlink(path)
            self._on_published([path])

    def erase_prefix(self, prefix: str) -> None:
        self._directory(prefix, enter=False)
        if self.erase_link(prefix):
            return
        with annotate_errors("erase", self.url, prefix or None):
            self._check_durability()
        erased: list[str] = []
        # Again until there is nothing left, and twice at least: a scan need not show an object that is made while it goes on, nor
        # the lock of its writer, which is removed then; but the next one shows the object.
        for scans in range(_MAX_PASSES):
            found = self._erase_seen(prefix)
            erased += found
            if not found and scans:  # safety: scanned twice
                break
        with annotate_errors("erase", self.url, prefix or None):
            self._on_published(erased)

    def _erase_seen(self, prefix: str) -> list[str]:
        """Erase what one scan shows below a prefix, and the directories that are empty then; the paths of what was erased."""
        found, erased = [prefix], []
        for directory in found:
            by_owner: dict[str, list[str]] = {}
            for name, kind in self._scan(directory):
                if kind == "dir":
                    if _is_key(name):
                        found.append(f"{directory}{name}/")
                elif kind != "other" and _is_key(owner := _TEMP_OR_LOCK.sub("", name)):
                    by_owner.setdefault(owner, []).append(name)
            for owner, names in by_owner.items():
                self._wipe(directory, owner, names)
                erased.append(f"{self.root}/{directory}{owner}")
        for directory in reversed(found):
            if directory:
                try:
                    self.files.rmdir(self._directory(directory))
                    self.unsynced_paths.directory_removed(self.files, self._directory(directory))
                except OSError:
                    pass  # not empty: another writer was here since; otherwise an empty directory is no object
        return erased

    def erase_link(self, prefix: str) -> bool:
        """Remove a directory that is a link, and nothing behind it; False where it is none."""
        path = self._directory(prefix, enter=False)
        with annotate_errors("erase", self.url, prefix or None):
            if not prefix or not self.links.is_link(path):
                return False
            self._check_durability()
            parent, _, name = prefix[:-1].rpartition("/")
            self._wipe(f"{parent}/" if parent else "", name, [name])
            self._on_published([path])
        return True

    def list_prefix(self, prefix: str) -> Iterator[str]:
        stack = self._entries(prefix)[::-1]
        return self._walk(stack)

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        entries = self._entries(prefix)
        return [name for name in entries if name[-1] != "/"], [name for name in entries if name[-1] == "/"]

    def list_stored(self, prefix: str, limit: int) -> list[str] | None:
        """See `storage.ListStored`.

        A scan of a directory need not show what is renamed over an older file meanwhile: the new name may come before the place
        that the scan has reached. So a scan counts only if its directory did not change meanwhile, by its mtime.
        """
        found: list[str] = []
        waits, stack = MAX_WAITS, [prefix]
        while stack:
            prefix = stack.pop()
            entries = self._unchanged_entries(prefix)
            while entries is None and waits:
                waits -= 1
                time.sleep(UNCHANGED_S)
                entries = self._unchanged_entries(prefix)
            if entries is None or len(found) + len(stack) + len(entries) > limit:
                return None
            for name in entries:
                (stack if name[-1] == "/" else found).append(name)
        return found

    def _unchanged_entries(self, prefix: str) -> list[str] | None:
        """What is directly below a prefix; None where it may have changed meanwhile."""
        path = self._directory(prefix)
        with annotate_errors("list", self.url, prefix or None):
            now, before = self.files.now(), stat_or_none(self.files, path)
            if before is None:
                return []
            # The kernel's clock for mtimes moves in steps of up to 10 ms: one that is older is another one after a change.
            if before.st_mtime_ns > now - UNCHANGED_S * 1e9 or not self.files.kind(before.st_dev):
                return None
            entries = self._entries(prefix)
            after = stat_or_none(self.files, path)
        return entries if after is not None and after.st_mtime_ns == before.st_mtime_ns else None  # safety: unchanged directory

    def _path(self, key: str, to_write: bool | BoxUpdate = False, condition: OnlyWhile | None = None) -> str:
        """The path of an object. `to_write`: it is about to be stored, and its directory may be made while the condition holds;
        by an update only where that is not of fill, which takes time to see.
        """
        if is_doubtful(key):
            check_key(key, self.url)
            self._refuse_reserved(key)
        end = key.rfind("/")
        if end > 0 and not self.links.trusts(key[:end]):
            stores = to_write if isinstance(to_write, bool) else not to_write.is_fill
            if not (stores and self._made_ready(key[:end], condition)):
                self._enter(key[:end])
        return f"{self.root}/{key}"

    def _made_ready(self, directory: str, condition: OnlyWhile | None) -> bool:
        """Whether a directory below the root was looked at, and made, by one compiled call; else the general way does it."""
        return False

    def _paths(self, keys: Sequence[str]) -> list[str]:
        """`_path` of each: a directory is entered once for the keys of it that follow each other."""
        if are_doubtful("/".join(keys)):
            return [self._path(key) for key in keys]
        entered = ""
        for key in keys:
            directory = key[: max(0, key.rfind("/"))]
            if directory != entered:
                entered = directory
                if directory and not self.links.trusts(directory):
                    self._enter(directory)
        return [f"{self.root}/{key}" for key in keys]

    def _enter(self, directory: str, again: bool = False) -> None:
        with annotate_errors("look at", self.url, directory):
            self.links.check(directory, again)

    def _directory(self, prefix: str, enter: bool = True) -> str:
        check_prefix(prefix, self.url)
        self._refuse_reserved(prefix)
        directory = prefix[:-1] if enter else prefix[:-1].rpartition("/")[0]
        if directory:
            self._enter(directory, again=True)
        return f"{self.root}/{prefix[:-1]}" if prefix else self.root

    def _refuse_reserved(self, key: str) -> None:
        if _reserved(key):
            raise OptionError("a reserved name", store=self.url, key=key, expected=f"no part ending with {SUFFIX} or {TEMP_INFIX}")

    def _read(self, fd: int, state: os.stat_result, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """The spans of a file in one buffer; neighbours, which are neighbours in the buffer too, in one call."""
        direct = None if self.direct is None else self.direct.read(fd, state, spans)
        if direct is not None:
            return direct
        total = sum(stop - start for start, stop in spans)
        buffer = lent(total).data if total else memoryview(b"")
        first = offset = 0
        views = []
        while first < len(spans):
            start, stop = spans[first]
            views.append(buffer[offset : offset + stop - start].toreadonly())
            last = first + 1
            while last < len(spans) and spans[last][0] == stop:
                at = offset + stop - start
                stop = spans[last][1]
                views.append(buffer[at : offset + stop - start].toreadonly())
                last += 1
            length = stop - start
            count = self.files.read_full(fd, buffer[offset : offset + length], start)
            if count < length:
                raise ByteRangeError("the object became shorter while it was read", expected=f"{stop} bytes", got=start + count)
            offset, first = offset + length, last
        return views

    def _state_by_name(self, path: str) -> os.stat_result | None:
        """The state of a file, if it is known without opening it: network mounts may tell an old one until a file is opened."""
        state = stat_or_none(self.files, path)
        known = state is not None and stat.S_ISREG(state.st_mode) and self.files.kind(state.st_dev)  # safety: state by name
        return state if known else None

    def _open_again(self, path: str) -> Opened | None:
        """Look a second time for an object that was not found, where one is replaced in two steps that readers can see.

        The kernel may remember for a second what it found under a name just before a rename, and look for that: FUSE does. A list
        of the directory, which is asked for where it was changed a moment ago, tells what is there, and makes it look anew.
        """
        if not self.renames_show_gaps():
            return None
        start, quiet = time.monotonic(), _quiet(self.files, os.path.dirname(path))
        looks = 0
        while True:
            opened = open_published(self.files, path, self.links.open)  # safety: second look
            if opened is not None:
                return opened
            looks += 1
            waited = time.monotonic() - start
            busy = waited < BUSY_S and stat_or_none(self.files, path + SUFFIX) is not None
            looked_for = not busy and (quiet or looks > 2)
            if looked_for and (quiet or waited > LISTED_S or not _is_listed(self.files, path)):  # safety: listed look
                return None
            time.sleep(RELOOK_S)

    def _swap(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """Replace an object by a new one, if it is of the version asked for."""
        path = self._path(key, True, self.condition)
        with annotate_errors("write", self.url, key):
            self._check_durability()
            done = self._put_at_once(path, parts, if_version) if self._at_once else None
            if done is None:
                made: list[TempFile] = []
                try:
                    done = self._swap_locked(path, parts, if_version, made)
                except OSError as error:
                    if not could_not_open(error) or _is_published(made):
                        raise
                    done = with_few_descriptors(
                        lambda: self._swap_locked(path, parts, if_version, made), lambda: _is_published(made)
                    )
            version, mark = done
            self._on_published([path], mark)
        remember_made(version)
        return version

    def _put_at_once(self, path: str, parts: Sequence[Part], if_version: Version) -> tuple[FileVersion, Mark] | None:
        """`_swap_locked` by one compiled call; None where that cannot be done, and nothing was."""
        return None

    @property
    def updates_boxes(self) -> bool:
        """See `storage.UpdatesBoxes`."""
        return self._at_once

    def update_box(self, key: str, update: BoxUpdate, condition: OnlyWhile | None) -> bool:
        """See `storage.UpdatesBoxes`."""
        path = self._path(key, self._at_once and update, condition)
        done = self._update_at_once(key, path, update, condition) if self._at_once else None
        if done is None:
            return False
        version, mark = done
        if mark is not None:
            with annotate_errors("write", self.url, key):
                self._on_published([path], mark)
        if version is not None:
            remember_made(version)
        return True

    def _update_at_once(self, key: str, path: str, update: BoxUpdate, condition: OnlyWhile | None) -> Updated | None:
        """`update_box` by one compiled call; None where that cannot be done, and nothing was."""
        return None

    def put_each_at_once(self, items: Sequence[tuple[str, Sequence[Part]]], done: list[FileVersion | None]) -> None:
        """For `stores.local`: `_put_at_once` of many paths, whatever is there; for each its version, or None."""

    _at_once = False
    """Whether `_put_at_once` can do anything."""

    def _swap_locked(self, path: str, parts: Sequence[Part], if_version: Version, made: list[TempFile]) -> tuple[FileVersion, Mark]:
        """`_swap` while the object is locked; the temp files that it makes are added to `made`."""
        with self.exclusive_path(path) as open_temp_file:
            self._check()

            def make(fd: int) -> TempFile:
                made.append(open_temp_file(fd))
                return made[-1]

            spliced = any([isinstance(part, ByteRange) for part in parts])  # noqa: C419 - half the time of a generator
            opened = open_published(self.files, path, self.links.open) if spliced else None
            try:
                old = self.links.state(path) if opened is None else opened[1]
                if if_version is not ANY:
                    _expect(old, if_version)  # safety: version
                return self._replace(path, parts, if_version, opened, old, make)
            finally:
                if opened is not None:
                    self.files.close(opened[0])

    def _replace(
        self,
        path: str,
        parts: Sequence[Part],
        if_version: Version,
        opened: Opened | None,
        old: os.stat_result | None,
        open_temp_file: OpenTempFile,
    ) -> tuple[FileVersion, Mark]:
        """Write a temp file and rename it over the object."""
        update, reuse = None, self.reuse if self.file_reuse else None
        if opened is not None and reuse is not None and not self.unsynced_paths.has_failed(self.files, path):
            update = reuse.update(path, parts, opened, open_temp_file)
        temp = open_temp_file(-1) if update is None else update.temp
        try:
            if update is None:
                self._write_parts(temp.fd, parts, opened)
            else:
                update.write()
            version = stamp(self.files, temp.fd, old)
            if update is not None:
                update.record(version)
            mark = self._before_rename(path, temp.fd, version, old, update is not None and update.is_reused)
            if temp.guard is None and if_version is not ANY:
                _expect(self.links.state(path), if_version)  # no other writer was kept out while it was written
            temp.publish(path, version, None if update is None else partial(update.keep, self.links.is_link))
        except BaseException:
            temp.release()
            raise
        if update is not None:
            update.done()
        elif self.file_reuse and opened is None and old is not None:
            self._remove_previous(path)
        return version, mark

    def _write_parts(self, fd: int, parts: Sequence[Part], base: Opened | None) -> None:
        """Write a new object: directly where that is asked for and possible, and it takes nothing from the file before."""
        if self.direct is not None and base is None:
            new = [part for part in parts if not isinstance(part, ByteRange | Hole)]
            if len(new) == len(parts) and self.direct.write(fd, new):
                return
        write_parts(self.files, fd, parts, base)

    def _remove_previous(self, path: str) -> None:
        """Remove the previous file of an object that is replaced or erased; nothing to do where files are not reused."""
        if (reuse := self.reuse) is not None:
            reuse.remove(path)

    def _unlink(self, path: str) -> None:
        try:
            self.files.unlink(path)
        except ABSENT:
            pass

    def _wipe(self, directory: str, owner: str, names: Sequence[str]) -> None:
        """Erase an object and the temp files that killed writers left next to it; the lock file goes with the lock."""
        path = self._path(directory + owner)
        with annotate_errors("erase", self.url, directory + owner), self.exclusive_path(path):
            for name in sorted(names, reverse=True):  # the object last
                if name != owner + SUFFIX:
                    self._unlink(f"{self.root}/{directory}{name}")

    def _scan(self, prefix: str) -> list[tuple[str, str]]:
        with annotate_errors("list", self.url, prefix or None):
            try:
                return self.files.scan(self._directory(prefix))
            except ABSENT:
                return []

    def _entries(self, prefix: str) -> list[str]:
        """Keys and (ending with "/") prefixes directly below a prefix, in the order that sorts all keys below."""
        found = ((name, self._target_kind(prefix + name) if kind == "link" else kind) for name, kind in self._scan(prefix))
        return sorted(
            f"{prefix}{name}/" if kind == "dir" else prefix + name for name, kind in found if kind != "other" and _is_key(name)
        )

    def _target_kind(self, key: str) -> str:
        with annotate_errors("list", self.url, key):
            return self.links.kind(f"{self.root}/{key}")

    def _walk(self, stack: list[str]) -> Iterator[str]:
        while stack:
            name = stack.pop()
            if name[-1] == "/":
                stack.extend(self._entries(name)[::-1])
            else:
                yield name


def _quiet(files: Syscalls, directory: str) -> bool:
    """Whether nothing was renamed in a directory for a while."""
    state = stat_or_none(files, directory)
    return state is None or abs(files.now() - state.st_mtime_ns) > QUIET_S * 1e9


def _is_listed(files: Syscalls, path: str) -> bool:
    """Whether a directory says that it has such a file."""
    directory, name = os.path.split(path)
    try:
        return any(found == name and kind == "file" for found, kind in files.scan(directory))
    except OSError:
        return False


def _is_published(made: Sequence[TempFile]) -> bool:
    return any(each.published for each in made)


def _reserved(name: str) -> bool:
    return ".__" in name and _RESERVED.search(name) is not None


def _is_key(name: str) -> bool:
    """Whether a file of this name can be an object; names that are not UTF-8 cannot."""
    if _reserved(name):
        return False
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def _expect(state: os.stat_result | None, if_version: Version) -> None:
    expect_version(None if state is None else version_of(require_regular(state)), if_version)
