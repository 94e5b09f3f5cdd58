"""Every file call the project makes, in one small class.

In: paths, descriptors, buffers. Out: what the system says; OSError as it comes (the calling store knows the key and
makes the typed error). The first group of methods is one system call each, so that a test can subclass it and record, fail,
shorten or reorder any of them; the second group is built on the first and deals with short reads and writes. No state.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from zarrant import kernels
from zarrant.storage import Buffer
from zarrant.stores.local.mounts import Mount, read_table

if sys.platform != "win32":
    import fcntl
    import resource

T = TypeVar("T")

IOV_MAX = 1024
"""Buffers in one `writev`: POSIX allows fewer, Linux and macOS have 1024 (limits.h)."""

COPY_STEP = 8 << 20
"""Bytes in one step of the copy by read and write, which bounds its memory."""

if sys.platform.startswith("linux"):
    # struct flock of 64-bit offsets: type, whence, start, length (0: all), pid (0: demanded by F_OFD_*).
    _LOCKED, _UNLOCKED = (struct.pack("hhqqi0q", kind, os.SEEK_SET, 0, 0, 0) for kind in (fcntl.F_WRLCK, fcntl.F_UNLCK))

NOTE = "user.zarrant"
_F_SETSIG = 10
_LOCAL = {"tmpfs": "memory", **dict.fromkeys(("ext2", "ext3", "ext4", "xfs", "f2fs", "bcachefs"), "disk")}


def _type_of(device: int) -> tuple[str, str]:
    """Type and options of a file system, from Linux's table of mounts; nothing where two mounts of the device differ."""
    if not sys.platform.startswith("linux"):
        return "", ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    found = {(mount.type, mount.options) for mount in read_table() if mount.device == wanted}
    return max(found) if len({kind for kind, _ in found}) == 1 else ("", "")


class _Mount(NamedTuple):
    """A file system: its type, what the two tables say of it, and until when that is believed."""

    type: str
    kind: str
    order: str
    until: float


_mounts: dict[int, _Mount] = {}


def _mount(device: int) -> _Mount:
    found = _mounts.get(device)
    if found is None or time.monotonic() >= found.until:  # numbers of devices are used again
        name, options = _type_of(device)
        order = "" if _UNORDERED & set(options.split(",")) else _ORDER.get(name, "")
        found = _mounts[device] = _Mount(name, _LOCAL.get(name, ""), order, time.monotonic() + 1)
    return found


def order_here(device: int) -> str:
    """`Syscalls.order` of a file system that is this machine's alone, else ""."""
    found = _mount(device)
    return found.order if found.kind else ""


_ORDER = {"tmpfs": "memory", "ramfs": "memory", "ext3": "replaced", "ext4": "replaced", "xfs": "written"}
_UNORDERED = {"noauto_da_alloc", "data=writeback"}
"""Options under which ext4 does not write the data of a file before the rename by which it replaces another."""

_WHOLE = {"tmpfs", "ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "bcachefs", "overlay"}
"""File systems of which syncfs(2) says when all is on disk; on others (FUSE) it may return at once."""

_RANGE = 1 | 2 | 4
"""SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER."""


@lru_cache(maxsize=1)
def _libc() -> Any:
    """The C library, for the two calls that Python has not; None where it has neither."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes  # takes 10 ms, and most processes never need it

    library = ctypes.CDLL(None, use_errno=True)
    try:
        library.sync_file_range.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
        library.syncfs.argtypes = [ctypes.c_int]
    except AttributeError:
        return None
    return library


def _check(result: int) -> None:
    if result:
        import ctypes

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@lru_cache(maxsize=1)
def _syncfs_reports_errors() -> bool:
    """Whether syncfs(2) fails where data could not be written: since Linux 5.8."""
    return tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]) >= (5, 8)


_NO_COPY_RANGE = {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF}


PAUSES_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.2, 0.4)
"""Waits for a descriptor, one second in all: other threads of this process close theirs within milliseconds."""


_NONE_LEFT = {errno.EMFILE, errno.ENFILE}
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
"""Flags of every file: child processes do not have it; and its bytes are not those of lines, which Windows changes otherwise."""

if hasattr(os, "pread"):
    _read_at: Callable[[int, int, int], bytes] = os.pread
    _write_at: Callable[[int, Buffer, int], int] = os.pwrite
else:  # Windows: the place in a file is shared by the threads that have it
    _one_at_a_time = threading.Lock()

    def _read_in_turn(fd: int, length: int, offset: int) -> bytes:
        with _one_at_a_time:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, length)

    def _write_in_turn(fd: int, data: Buffer, offset: int) -> int:
        with _one_at_a_time:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)

    _read_at, _write_at = _read_in_turn, _write_in_turn


def _retry_open(call: Callable[..., T], *args: Any) -> T:
    for pause in PAUSES_S:
        try:
            return call(*args)
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
        time.sleep(pause)
    return call(*args)


Children = tuple[tuple[float, ...], bool]
NO_CHILDREN: Children = ((0, 0.0), False)


def _open(path: str, flags: int, mode: int) -> int:
    """open(2), so that an interrupt loses no descriptor."""
    fds: list[int] = []
    try:
        # Python handles an interrupt (Ctrl-C) when the call has returned, before its result is stored. So C stores it.
        fds.extend(map(os.open, (path,), (flags,), (mode,)))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    return fds[0]


class Syscalls:
    """Files of the operating system."""

    @property
    def realm(self) -> Hashable:
        """Equal for what reaches the same files."""
        return ""

    # One call each.

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """open(2), never inherited by a program that is started; where no descriptor is free it waits for one a while."""
        flags |= _ALWAYS
        fds: list[int] = []
        try:
            # As `_open`, without the call.
            fds.extend(map(os.open, (path,), (flags,), (mode,)))
            return fds[0]
        except BaseException as error:
            for fd in fds:
                os.close(fd)
            if getattr(error, "errno", None) not in _NONE_LEFT:
                raise
        return _retry_open(_open, path, flags, mode)

    def close(self, fd: int) -> None:
        """close(2)."""
        os.close(fd)

    if hasattr(os, "preadv"):

        def read(self, fd: int, view: memoryview, offset: int) -> int:
            """preadv(2) into one buffer; may be short."""
            return os.preadv(fd, [view], offset)

        def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
            """pwritev(2) of at most IOV_MAX buffers; may be short."""
            return os.pwritev(fd, views, offset)

    else:  # macOS before 11, Windows

        def read(self, fd: int, view: memoryview, offset: int) -> int:
            """pread(2) into one buffer; may be short."""
            data = _read_at(fd, len(view), offset)
            view[: len(data)] = data
            return len(data)

        def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
            """pwrite(2) of the first buffer; may be short."""
            return _write_at(fd, views[0], offset)

    def copy(self, source: int, target: int, length: int, source_offset: int, target_offset: int) -> int:
        """copy_file_range(2): in the kernel, shares blocks where the file system can; may be short."""
        if not hasattr(os, "copy_file_range"):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        return os.copy_file_range(source, target, length, source_offset, target_offset)

    def truncate(self, fd: int, size: int) -> None:
        """ftruncate(2)."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """fsync(2)."""
        os.fsync(fd)

    def set_direct(self, fd: int, on: bool) -> None:
        """fcntl(2), F_SETFL: whether what is read and written goes around the page cache (O_DIRECT).

        A file system that cannot do it says EINVAL, here or at the first read or write.
        """
        if not hasattr(os, "O_DIRECT"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_DIRECT if on else 0)

    def write_out(self, fd: int) -> None:
        """sync_file_range(2): the device has been given the data of a file; no promise that they outlive a loss of power.

        Where the system has no such call, fsync(2).
        """
        library = _libc()
        if library is None:
            self.sync(fd)
        else:
            _check(library.sync_file_range(fd, 0, 0, _RANGE))

    def sync_all(self, fd: int) -> None:
        """syncfs(2): all of the file system is on disk, also what other processes wrote; OSError where the system does not know."""
        library = _libc()
        if library is None or not _syncfs_reports_errors() or _mount(os.fstat(fd).st_dev).type not in _WHOLE:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        _check(library.syncfs(fd))

    def begin_sync(self, fd: int) -> None:
        """posix_fadvise(2): have the system begin to write a file to its device; nothing is waited for, nothing promised."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def rename(self, source: str, target: str) -> None:
        """rename(2), over what is there."""
        os.replace(source, target)

    def unlink(self, path: str) -> None:
        """unlink(2)."""
        os.unlink(path)

    def mkdir(self, path: str) -> None:
        """mkdir(2)."""
        os.mkdir(path)

    def rmdir(self, path: str) -> None:
        """rmdir(2)."""
        os.rmdir(path)

    def stat(self, path: str) -> os.stat_result:
        """lstat(2): of the name itself, also where it is a symbolic link."""
        return os.lstat(path)

    def stat_target(self, path: str) -> os.stat_result:
        """stat(2): of what a symbolic link leads to."""
        return os.stat(path)

    def real(self, path: str) -> str:
        """realpath(3): where a path leads, or would lead."""
        return os.path.realpath(path)

    def fstat(self, fd: int) -> os.stat_result:
        """fstat(2)."""
        return os.fstat(fd)

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        """futimens(2), both times."""
        os.utime(fd, ns=(nanoseconds, nanoseconds))

    def chmod(self, fd: int, mode: int) -> None:
        """fchmod(2): unlike the mode of `open`, not subject to the umask."""
        os.fchmod(fd, mode)

    def scan(self, path: str) -> list[tuple[str, str]]:
        """(name, kind) of all entries of a directory; the kind is "file", "dir", "link" (to whatever) or "other"."""
        found = []
        with _retry_open(os.scandir, path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append((entry.name, "dir"))
                elif entry.is_symlink():
                    found.append((entry.name, "link"))
                else:
                    found.append((entry.name, "file" if entry.is_file(follow_symlinks=False) else "other"))
        return found

    def lock(self, fd: int) -> bool:
        """Take the exclusive lock of an open file description at once; False where another one has it.

        Linux: F_OFD_SETLK, which TensorStore uses too, and which closing another descriptor of the file does not drop, as it
        would a POSIX lock. Elsewhere: flock(2).
        """
        try:
            self._lock(fd, exclusive=True)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def unlock(self, fd: int) -> None:
        """Give the lock back, also for copies of the descriptor that a fork made."""
        self._lock(fd, exclusive=False)

    def link(self, source: str, target: str) -> None:
        """link(2): a second name."""
        os.link(source, target)

    def get_xattr(self, fd: int) -> bytes | None:
        """fgetxattr(2): what was noted on a file, None where nothing was or nothing can be."""
        if not hasattr(os, "getxattr"):
            return None
        try:
            return os.getxattr(fd, NOTE)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise

    def set_xattr(self, fd: int, data: bytes) -> None:
        """fsetxattr(2): note something on a file. Changes neither its bytes nor its mtime."""
        if not hasattr(os, "setxattr"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.setxattr(fd, NOTE, data)

    def take_write_lease(self, fd: int) -> bool:
        """Take a write lease (F_SETLEASE). True only if no other process of this machine has the file open or mapped.

        The lease is kept until `end_write_lease`. A process that looked up the name before, and opens the file now, waits so long.
        """
        if not hasattr(fcntl, "F_SETLEASE"):
            return False
        try:
            # The kernel sends a signal when another process opens the file. This one does nothing by default.
            fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
        return True

    def end_write_lease(self, fd: int) -> None:
        """Give back the lease that `take_write_lease` took, before closing: a child forked meanwhile would keep it."""
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def kind(self, device: int) -> str:
        """ "disk" or "memory" for a file system that is this machine's alone, else "": what it tells of others is not all."""
        return _mount(device).kind

    def order(self, device: int) -> str:
        """What a file system has on disk when the rename of a file is on disk.

        "memory": nothing is ever lost, or all; "replaced": the file's data, where it replaced another one (ext4 with its
        default options); "written": data that were given to the device before (`write_out`); "": what was synced.
        """
        return _mount(device).order

    def mounts(self) -> list[Mount]:
        """The table of mounts (proc(5)); empty where the system has none."""
        return read_table()

    def now(self) -> int:
        """The wall clock in nanoseconds."""
        return time.time_ns()

    def children(self) -> Children:
        """getrusage(2) and waitid(2): what child processes that have ended used, and whether there are others."""
        if not hasattr(os, "waitid"):
            return NO_CHILDREN
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        try:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return (used.ru_minflt, used.ru_utime), False
        return (used.ru_minflt, used.ru_utime), True

    def above(self, path: str) -> list[tuple[str, tuple[int, int]]]:
        """A directory and all above it, without symbolic links, and the (device, inode) of each; none where it is not there."""
        found: list[tuple[str, tuple[int, int]]] = []
        if kernels.directories_above is not None and _IS_NORMAL(path) and (plain := kernels.directories_above(path)):
            return plain
        try:
            here = path = os.path.realpath(path) if ".." in path else os.path.abspath(path)
            while True:
                state = os.lstat(here)
                if not stat.S_ISDIR(state.st_mode):  # most often a link: what is behind it, from the first on again
                    real = os.path.realpath(path)
                    return [] if real == path else self.above(real)
                found.append((here, (state.st_dev, state.st_ino)))
                above = os.path.dirname(here)
                if above == here:
                    return found
                here = above
        except OSError:
            return []

    def is_link(self, path: str) -> bool:
        """Whether a name is a symbolic link."""
        return os.path.islink(path)

    # Made of the above.

    def read_full(self, fd: int, view: memoryview, offset: int) -> int:
        """Fill a buffer; returns the bytes read, fewer only at the end of the file."""
        done = 0
        while done < len(view):
            count = self.read(fd, view[done:], offset + done)
            if count == 0:
                break
            done += count
        return done

    def write_full(self, fd: int, parts: Sequence[Buffer], offset: int) -> int:
        """Write all parts one after the other; returns their total length."""
        given = [memoryview(part) for part in parts]
        views = [view.cast("B") for view in given if view.nbytes]
        start, first = offset, 0
        while first < len(views):
            count = self.write(fd, views[first : first + IOV_MAX], offset)
            if count <= 0:
                raise OSError(errno.EIO, "the file took no bytes")
            offset += count
            while count and count >= len(views[first]):
                count -= len(views[first])
                first += 1
            if count:
                views[first] = views[first][count:]
        return offset - start

    def copy_full(self, source: int, target: int, length: int, source_offset: int, target_offset: int) -> int:
        """Copy a range of a file; returns the bytes copied, fewer only at the end of the source."""
        done = 0
        while done < length:
            try:
                count = self.copy(source, target, length - done, source_offset + done, target_offset + done)
            except OSError as error:
                if error.errno not in _NO_COPY_RANGE:
                    raise
                count = 0
            # Zero is the end of the source, or a file system that gives nothing (as procfs does): reading tells which.
            if count == 0:
                break
            done += count
        while done < length:
            buffer = memoryview(bytearray(min(COPY_STEP, length - done)))
            count = self.read_full(source, buffer, source_offset + done)
            self.write_full(target, [buffer[:count]], target_offset + done)
            done += count
            if count < len(buffer):
                break
        return done

    if sys.platform.startswith("linux"):

        def _lock(self, fd: int, exclusive: bool) -> None:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _LOCKED if exclusive else _UNLOCKED)

    elif sys.platform != "win32":

        def _lock(self, fd: int, exclusive: bool) -> None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_UN)

    else:

        def _lock(self, fd: int, exclusive: bool) -> None:
            raise OSError(errno.ENOSYS, "file locks are not available on this platform")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))


_IS_NORMAL = re.compile(r"(/(?!\.{0,2}(/|\Z))[^/]*)+\Z").match
"""Whether a path is as `os.path.abspath` gives it."""

_METHODS = dict(vars(Syscalls))


def are_plain(files: Syscalls) -> bool:
    """Whether file calls are those of the system and nothing else: neither a subclass, nor with a method that was replaced.

    The interpreter may give the class more than it had (`__annotations__`, when somebody asks for them).
    """
    return type(files) is Syscalls and not vars(files) and vars(Syscalls).items() >= _METHODS.items()
