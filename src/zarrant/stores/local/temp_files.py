"""New objects on a file system: written next to the old one, then renamed over it.

In: an open temp file, the parts of the new object, the state of the object that it replaces. Out: the version of the new object;
or an OSError, with the old object as it was. The lock file is another file: it outlives the rename, and is always empty.

A version is (device, inode, mtime, size). Inodes are used again, and the kernel's own mtime moves in steps of milliseconds,
so each temp file is given the clock's nanoseconds, or more where that is not later than the mtime of the object it replaces. It
gets that object's permissions too: what a user set by hand stays; an object of another user stays readable for both.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from types import TracebackType

import numpy as np

from zarrant.errors import ByteRangeError, StoreError, StoreFullError, StorePermissionError, ZarrantError
from zarrant.geometry.pieces import pieces_of
from zarrant.locking.file_locks import SUFFIX, FileLock
from zarrant.storage import Buffer, ByteRange, Hole, Part, Version
from zarrant.stores.local.descriptors import is_out_of_descriptors, with_few_descriptors
from zarrant.stores.local.syscalls import Syscalls

FileVersion = tuple[int, int, int, int]

_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_MODES = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems say that have no permissions (FAT, some FUSE and network mounts)."""
GATHERED_BYTES = 1 << 18
"""Bytes of a view of an array that are gathered and written at a time: they are still in the processor's cache."""
_FULL = {errno.ENOSPC, errno.EDQUOT}
_MAX_LEASE_TRIES = 100
"""Times a name that led to a leased file is looked up again: by then it leads to what replaced that file."""
ABSENT = (FileNotFoundError, NotADirectoryError)
_COARSE = (0, 1_000, 1_000_000, 1_000_000_000, 2_000_000_000)
"""Nanoseconds tried on top of the least time wanted: file systems keep µs (NFS 2), ms, seconds (ext3) or two (FAT)."""


class TempFile:
    """A file being written, that will become an object. `guard` is the lock under which one writer only uses the name."""

    fd = -1  # also where an interrupt ended `__init__`

    def __init__(self, files: Syscalls, path: str, guard: FileLock | None, fd: int = -1) -> None:
        """Make the file; or, with `fd`, take over an open one, which has yet to get the name `path`."""
        self.files, self.path, self.guard, self.fd = files, path, guard, fd
        self.inode: tuple[int, int] | None = None
        self.leased = fd >= 0
        self.published = False
        if self.leased:
            return
        try:
            self.fd = files.open(path, _CREATE)
        except FileExistsError:
            # Left by a writer that was killed: we have the lock under which it was made.
            files.unlink(path)  # safety: stale temp file
            self.fd = files.open(path, _CREATE)

    def publish(self, target: str, version: FileVersion, before: Callable[[], object] | None = None) -> None:
        """Close it, and let it become `target`; `version` is what it was stamped with. `before` is called just before that."""
        self.inode = version[:2]
        fd, self.fd = self.fd, -1
        # First: network file systems tell here what they could not write, and the old object is still there.
        self._close(fd)
        if self.guard is not None:
            self.guard.check()  # safety: lock check
        if before is not None:
            before()
        self.files.rename(self.path, target)  # safety: rename
        self.inode, self.published = None, True

    def release(self) -> None:
        """Remove it, unless it was published, and close it."""
        (fd, self.fd), (inode, self.inode) = (self.fd, -1), (self.inode, None)
        if fd < 0 and inode is None:
            return
        try:
            if fd >= 0:
                inode = _inode(self.files.fstat(fd))
            # Where the lock was lost, the name may be in use by the next owner.
            if _inode(self.files.stat(self.path)) == inode:  # safety: temp file of another
                self.files.unlink(self.path)  # safety: failed temp file
        except OSError:
            pass  # the failure that brought us here is the one to report; the next writer removes the file
        finally:
            try:
                if fd >= 0:
                    self._close(fd)
            except OSError:
                pass

    def _close(self, fd: int) -> None:
        try:
            if self.leased:
                self.files.end_write_lease(fd)
        finally:
            self.files.close(fd)

    def __del__(self) -> None:
        # Only where an interrupt came between the file and its owner.
        if self.fd >= 0:
            self.release()


OpenTempFile = Callable[[int], TempFile]
"""Makes a temp file; with a descriptor (else -1) it takes over that open file."""


def _inode(state: os.stat_result) -> tuple[int, int]:
    return state.st_dev, state.st_ino


def version_of(state: os.stat_result) -> FileVersion:
    """The version of a published file."""
    return state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size


class LastingVersion(tuple[int, int, int, int]):
    """The version of a file that was last written some time ago: what is written to it from now on changes the mtime."""

    __slots__ = ()
    lasting = True


class MadeVersion(tuple[int, int, int, int]):
    """The version of a file that this process has made (`remember_made`)."""

    __slots__ = ()
    unique = True


def is_file_version(version: Version) -> bool:
    """Whether a version may be one of a file, which the compiled calls take: one of another store is left to the general way."""
    return isinstance(version, tuple) and len(version) == 4


LASTING_AFTER_NS = 1_500_000_000
"""Nanoseconds from a write on, after which another one shows in the mtime, whoever made it: ext2 and ext3 count whole seconds, the
others steps of the kernel's clock (10 ms)."""


_made: dict[FileVersion, None] = {}
"""Files that this process made; their mtimes are no steps of a clock."""
MAX_MADE, FINE_NS = 4096, 100
"""Versions that are remembered (1 MB); and what the mtime is no multiple of where a file system keeps nanoseconds (one in a hundred
is by chance). The coarser ones keep 100 ns (Windows), µs or more."""


def remember_made(version: FileVersion) -> None:
    """Remember the version of a file that was just stamped, where nobody else's file will have its mtime.

    Ours are always later. Others have mtimes of the kernel's clock, at one of its steps: none of them is this nanosecond.
    """
    if version[2] % FINE_NS:  # safety: fine times
        if len(_made) >= MAX_MADE:
            _made.clear()
        _made[version] = None


def directory_of(path: str) -> str:
    """The path of the directory of a path: `os.path.dirname` of one that has no double slash, in a fourth of the time."""
    return path[: path.rfind("/")]


def version_seen(files: Syscalls, version: FileVersion, before: int) -> FileVersion:
    """The version of a file that was opened after `before`: one for good (`storage.is_lasting`) where a later write would show.

    Zarrant replaces files, and never with an mtime that was there before. Others may write in place, twice within one step of the
    clock; and what the clock of another machine says of a file is not known here, so only file systems of this one count.
    """
    return version_here(version, before) if files.kind(version[0]) else version


def version_here(version: FileVersion, before: int) -> FileVersion:
    """`version_seen` on a file system of this machine."""
    lasting = version[2] + LASTING_AFTER_NS < before  # safety: lasting version
    return LastingVersion(version) if lasting else MadeVersion(version) if version in _made else version


def require_regular(state: os.stat_result) -> os.stat_result:
    """StoreError for what is no file: reading a FIFO or a device might never end."""
    if not stat.S_ISREG(state.st_mode):
        raise StoreError("not a regular file", expected="a regular file", got=_kind(state.st_mode))
    return state


def stat_or_none(files: Syscalls, path: str) -> os.stat_result | None:
    """The state of what has the name, None where nothing has."""
    try:
        return files.stat(path)
    except ABSENT:
        return None


def _open_in_time(files: Syscalls, path: str) -> int:
    """Open for reading; again where the file was replaced in between and is leased to who writes the next one into it."""
    for _ in range(_MAX_LEASE_TRIES):
        try:
            return files.open(path, _READ)
        except BlockingIOError:
            continue
    return files.open(path, _READ)


def open_published(files: Syscalls, path: str, follow: Callable[[str], int] | None = None) -> tuple[int, os.stat_result] | None:
    """(descriptor, state) of a published file, None where there is none; the caller closes the descriptor. `follow` opens links."""
    try:
        return _published(files, path, follow)
    except OSError as error:
        if not is_out_of_descriptors(error):
            raise
    return with_few_descriptors(lambda: _published(files, path, follow))


def _published(files: Syscalls, path: str, follow: Callable[[str], int] | None) -> tuple[int, os.stat_result] | None:
    try:
        try:
            fd = files.open(path, _READ)
        except BlockingIOError:
            fd = _open_in_time(files, path)
    except ABSENT:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            state = stat_or_none(files, path)
            if follow is not None and state is not None and stat.S_ISLNK(state.st_mode):
                return _checked(files, follow(path))
            if state is not None:
                require_regular(state)
        raise
    return _checked(files, fd)


def _checked(files: Syscalls, fd: int) -> tuple[int, os.stat_result]:
    try:
        return fd, require_regular(files.fstat(fd))
    except BaseException:
        files.close(fd)
        raise


def write_parts(files: Syscalls, fd: int, parts: Sequence[Part], base: tuple[int, os.stat_result] | None) -> None:
    """Write a new object; its ByteRange parts are copied from `base`, and all fit it or nothing is written.

    Nothing is written where a Hole is: the file system gives no blocks to it.
    """
    size = 0 if base is None else base[1].st_size
    spans = {index: span(part, size) for index, part in enumerate(parts) if isinstance(part, ByteRange)}
    offset = 0
    run: list[Buffer] = []
    for index, part in enumerate(parts):
        if not isinstance(part, ByteRange | Hole):
            if isinstance(part, memoryview) and not part.c_contiguous:
                offset += files.write_full(fd, run, offset)
                offset += _gather(files, fd, part, offset)
                run = []
            else:
                run.append(part)
            continue
        offset += files.write_full(fd, run, offset)
        run = []
        if isinstance(part, Hole):
            offset += part.length
            continue
        start, stop = spans[index]
        if base is not None and files.copy_full(base[0], fd, stop - start, start, offset) < stop - start:
            raise ByteRangeError("the object became shorter while it was copied", expected=f"{size} bytes")
        offset += stop - start
    files.write_full(fd, run, offset)
    if parts and isinstance(parts[-1], Hole):
        files.truncate(fd, offset)


def _gather(files: Syscalls, fd: int, part: memoryview, offset: int) -> int:
    """Write a view of an array that is not contiguous, a piece at a time. Returns its bytes."""
    array = np.asarray(part).view(f"V{part.itemsize}")  # else plain bytes are a structure without fields, which is not copied
    for piece in pieces_of(array, GATHERED_BYTES):
        offset += files.write_full(fd, [np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data], offset)
    return part.nbytes


def stamp(files: Syscalls, fd: int, old: os.stat_result | None) -> FileVersion:
    """Give the temp file a later mtime than the object that it replaces has. Returns its version."""
    earliest = files.now() if old is None else max(files.now(), old.st_mtime_ns + 1)  # safety: later than the old
    for more in _COARSE:
        files.set_mtime(fd, earliest + more)
        state = files.fstat(fd)
        if old is None or state.st_mtime_ns > old.st_mtime_ns:  # safety: coarse times
            return _like(files, fd, state, old)
    # The old one has the last time that there is (a broken clock, `touch`): the new one starts again from now. A version that
    # comes with the same inode again is still another one: it would have to come in the very last moment of the file system.
    for more in _COARSE:
        files.set_mtime(fd, files.now() + more)
        state = files.fstat(fd)
        if old is not None and state.st_mtime_ns != old.st_mtime_ns:  # safety: last time
            return _like(files, fd, state, old)
    raise OSError(errno.EOVERFLOW, "the file system has no other time than that of the object replaced")


def _like(files: Syscalls, fd: int, state: os.stat_result, old: os.stat_result | None) -> FileVersion:
    """Give the temp file the permissions of the object that it replaces. Returns its version."""
    if old is not None and stat.S_ISREG(old.st_mode):
        mode = old.st_mode & 0o777
        if old.st_uid != state.st_uid:
            mode |= state.st_mode & 0o777  # the owner of the old one may not be shut out by being replaced, nor the new one
        if mode != state.st_mode & 0o777:
            try:
                files.chmod(fd, mode)
            except OSError as error:
                if error.errno not in _NO_MODES:
                    raise
    return version_of(state)


def typed(error: OSError, action: str, store: str, key: str | None) -> StoreError:
    """The error of the tree for what the system said."""
    kind = StorePermissionError if error.errno in _DENIED else StoreFullError if error.errno in _FULL else StoreError
    found = kind(f"cannot {action}: {error.strerror or error}", store=store, key=key)
    if error.errno in (errno.EACCES, errno.EPERM) and error.filename is not None:
        found.path = os.fsdecode(error.filename if error.filename2 is None else error.filename2)
        if error.errno == errno.EACCES and found.path.endswith(SUFFIX):
            found.hint = "The file belongs to another user: its owner may `chmod g+rw` it, or remove it when no writer runs"
        else:
            found.hint = (
                "In a shared directory every writer needs its group permissions (chmod g+rwxs), files that can be read "
                "(umask 027), and no sticky bit (chmod -t): under that only its owner may replace a file"
            )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        found.hint = "Raise the limit of open files (ulimit -n), or touch fewer objects at once"
    found.errno = error.errno
    return found


class annotate_errors:
    """A block in which OSErrors become typed errors, and every error of ours gets the store and the key."""

    __slots__ = ("action", "key", "store")

    def __init__(self, action: str, store: str, key: str | None) -> None:
        self.action, self.store, self.key = action, store, key

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, ZarrantError):
            error.annotate(store=self.store, key=self.key)
        elif isinstance(error, OSError):
            raise typed(error, self.action, self.store, self.key) from error


def span(part: ByteRange, size: int) -> tuple[int, int]:
    """(start, stop) of a range of an object; ByteRangeError where it does not fit."""
    try:
        return part.resolve(size)
    except ValueError as cause:
        raise ByteRangeError("range outside the object", expected=part, got=f"{size} bytes") from cause


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")
