"""The file layer: every file call the project makes, in one small class.

In: paths, descriptors, buffers. Out: what the system says; OSError as it comes (the store that called knows the key and
makes the typed error). The first group of methods is one system call each, so that a test can subclass it and record, fail,
shorten or reorder any of them; the second group is built on the first and deals with short reads and writes. No state.
"""

from __future__ import annotations

import errno
import os
import signal
import struct
import sys
import time
from collections.abc import Sequence

from zarrant.storage import Buffer
from zarrant.stores.mounts import Mount, read_table

if sys.platform != "win32":
    import fcntl

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
_kinds: dict[int, tuple[str, float]] = {}


def _kind_of(device: int) -> str:
    """Looked up in the table of mounts (proc(5)), whose third field is the device and the one after "-" the type."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as table:
            lines = [line.split() for line in table]
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    types = {line[line.index("-") + 1] for line in lines if line[2] == wanted}
    return _LOCAL.get(types.pop(), "") if len(types) == 1 else ""


_NO_COPY_RANGE = {errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EBADF}


class FileLayer:
    """Files of the operating system."""

    # One call each.

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """open(2), never inherited by a program that is started."""
        fds: list[int] = []
        try:
            # Python handles an interrupt (Ctrl-C) when the call has returned, before its result is stored. So C stores it.
            fds.extend(map(os.open, (path,), (flags | getattr(os, "O_CLOEXEC", 0),), (mode,)))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds[0]

    def close(self, fd: int) -> None:
        """close(2)."""
        os.close(fd)

    def read(self, fd: int, view: memoryview, offset: int) -> int:
        """preadv(2) into one buffer; may be short."""
        return os.preadv(fd, [view], offset)

    def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        """pwritev(2) of at most IOV_MAX buffers; may be short."""
        return os.pwritev(fd, views, offset)

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
        with os.scandir(path) as entries:
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

    def note(self, fd: int) -> bytes | None:
        """fgetxattr(2): what was noted on a file, None where nothing was or nothing can be."""
        if not hasattr(os, "getxattr"):
            return None
        try:
            return os.getxattr(fd, NOTE)
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
                return None
            raise

    def set_note(self, fd: int, data: bytes) -> None:
        """fsetxattr(2): note something on a file. Changes neither its bytes nor its mtime."""
        if not hasattr(os, "setxattr"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        os.setxattr(fd, NOTE, data)

    def alone(self, fd: int) -> bool:
        """Whether nobody else on this machine has the file open or mapped: a write lease (F_SETLEASE) is granted.

        It is kept until `unlease`: who had found the file before, and opens it only now, waits so long.
        """
        if not hasattr(fcntl, "F_SETLEASE"):
            return False
        try:
            # Somebody who opens the file is told to us by a signal: one that does nothing by default.
            fcntl.fcntl(fd, _F_SETSIG, signal.SIGURG)
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            return False
        return True

    def unlease(self, fd: int) -> None:
        """Give back the lease that `alone` took, before closing: a child forked meanwhile would keep it."""
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)

    def kind(self, device: int) -> str:
        """ "disk" or "memory" for a file system that is this machine's alone, else "": what it tells of others is not all."""
        kind, until = _kinds.get(device, ("", 0.0))
        if time.monotonic() >= until:  # numbers of devices are used again
            kind = _kind_of(device)
            _kinds[device] = (kind, time.monotonic() + 1)
        return kind

    def mounts(self) -> list[Mount]:
        """The table of mounts (proc(5)); empty where the system has none."""
        return read_table()

    def now(self) -> int:
        """The wall clock in nanoseconds."""
        return time.time_ns()

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
