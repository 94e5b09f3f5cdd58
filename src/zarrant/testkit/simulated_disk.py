"""A disk in memory that keeps a journal, for tests of what a crash leaves.

In: file calls, through any number of `SimulatedSyscalls`s (each with a root of its own: to the store they are processes that
share a disk). Out: `journal`, every change in the order in which it was made, from which a test builds the disks that a crash
could have left: `Disk.apply` some of the steps, whole or in part. A disk is names and bytes only, cheap to copy. May not:
touch a real file.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from zarrant.stores.local import direct_io
from zarrant.stores.local.mounts import Mount
from zarrant.stores.local.syscalls import NO_CHILDREN, Syscalls

DEVICE = 77
TOP = 1
"""The root directory."""


class Step(NamedTuple):
    """One change. `node` is the file, or the directory of `name`; `offset` is also a size, a time or an inode.

    kind: "file" and "dir" (name → new inode `offset`), "link" (name → inode that is there), "unlink", "rename" (`source` →
    name), "write" (data at offset), "truncate" (to offset), "time" (offset), "set_xattr" (data), "sync", "mark" (set by the test).
    """

    kind: str
    node: int = 0
    name: str = ""
    offset: int = 0
    data: bytes = b""
    source: str = ""


@dataclass
class Disk:
    """What is stored: directories (names → inodes), the bytes of files, their times."""

    dirs: dict[int, dict[str, int]] = field(default_factory=lambda: {TOP: {}})
    files: dict[int, bytes] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    notes: dict[int, bytes] = field(default_factory=dict)

    def copy(self) -> Disk:
        names = {node: dict(names) for node, names in self.dirs.items()}
        return Disk(names, dict(self.files), dict(self.times), dict(self.notes))

    def apply(self, steps: Iterable[Step]) -> Disk:
        """Make changes; those in a directory or a file that is not there are without effect."""
        for step in steps:
            getattr(self, f"_{step.kind}")(step)
        return self

    def tree(self, node: int = TOP, prefix: str = "") -> dict[str, bytes | None]:
        """Every path and the bytes of its file (None: a directory), sorted."""
        found: dict[str, bytes | None] = {}
        for name, child in sorted(self.dirs[node].items()):
            found[prefix + name] = self.files.get(child)
            if child in self.dirs:
                found |= self.tree(child, f"{prefix}{name}/")
        return found

    def materialise(self, root: Path) -> None:
        """Make real files of it."""
        root.mkdir(parents=True, exist_ok=True)
        for name, data in self.tree().items():
            if data is None:
                (root / name).mkdir()
            else:
                (root / name).write_bytes(data)

    def _file(self, step: Step) -> None:
        self.files[step.offset] = b""
        self._link(step)

    def _dir(self, step: Step) -> None:
        self.dirs.setdefault(step.offset, {})
        self._link(step)

    def _link(self, step: Step) -> None:
        if step.node in self.dirs:
            self.dirs[step.node][step.name] = step.offset

    def _unlink(self, step: Step) -> None:
        self.dirs.get(step.node, {}).pop(step.name, None)

    def _rename(self, step: Step) -> None:
        names = self.dirs.get(step.node, {})
        if step.source in names:
            names[step.name] = names.pop(step.source)

    def _write(self, step: Step) -> None:
        old = self.files.get(step.node, b"")
        gap = bytes(max(0, step.offset - len(old)))
        self.files[step.node] = old[: step.offset] + gap + step.data + old[step.offset + len(step.data) :]

    def _truncate(self, step: Step) -> None:
        old = self.files.get(step.node, b"")
        self.files[step.node] = old[: step.offset] + bytes(max(0, step.offset - len(old)))

    def _time(self, step: Step) -> None:
        self.times[step.node] = step.offset

    def _set_xattr(self, step: Step) -> None:
        self.notes[step.node] = step.data

    def _sync(self, step: Step) -> None:
        pass

    _mark = _sync


class SimulatedDisk:
    """A disk that is running: open descriptors, locks, and the journal of its changes."""

    def __init__(self, disk: Disk | None = None) -> None:
        self.disk = Disk() if disk is None else disk
        self.journal: list[Step] = []
        self.gate = threading.RLock()
        self.opened: dict[int, int] = {}
        self.locks: dict[int, int] = {}
        self.direct: set[int] = set()
        self.clock = max(self.disk.times.values(), default=10**18)
        # Far above the descriptors of the system, of which the process keeps lists.
        self.next = max([*self.disk.dirs, *self.disk.files, 10**6]) + 1

    def number(self) -> int:
        self.next += 1
        return self.next

    def do(self, step: Step) -> None:
        self.disk.apply([step])
        self.journal.append(step)

    def mark(self, name: str, value: int = 0) -> None:
        """Note in the journal what the test knows: an operation begins, or is acknowledged."""
        with self.gate:
            self.do(Step("mark", name=name, offset=value))


def _error(number: int, path: str = "") -> OSError:
    return OSError(number, os.strerror(number), path)


class SimulatedSyscalls(Syscalls):
    """The files of a simulated disk, below `root`.

    >>> from zarrant.stores.local.store import FilesystemStore
    >>> disk = SimulatedDisk()
    >>> version = FilesystemStore("/simulated", syscalls=SimulatedSyscalls(disk)).put("a/b", [b"bytes"])
    >>> disk.disk.tree()
    {'a': None, 'a/b': b'bytes'}
    """

    def __init__(self, disk: SimulatedDisk, root: str = "/simulated") -> None:
        self.system, self.root = disk, root

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        with self.system.gate:
            folder, name = self._place(path)
            node = self.system.disk.dirs[folder].get(name) if name else folder
            if node is None:
                if not flags & os.O_CREAT:
                    raise _error(errno.ENOENT, path)
                node = self.system.number()
                self.system.do(Step("file", folder, name, node))
            elif flags & os.O_CREAT and flags & os.O_EXCL:
                raise _error(errno.EEXIST, path)
            elif node in self.system.disk.dirs and flags & (os.O_WRONLY | os.O_RDWR):
                raise _error(errno.EISDIR, path)
            fd = self.system.number()
            self.system.opened[fd] = node
            return fd

    def close(self, fd: int) -> None:
        with self.system.gate:
            self.unlock(fd)
            self.system.direct.discard(fd)
            del self.system.opened[fd]

    def read(self, fd: int, view: memoryview, offset: int) -> int:
        with self.system.gate:
            self._aligned(fd, [view], offset)
            data = self.system.disk.files[self._node(fd)][offset : offset + len(view)]
            view[: len(data)] = data
            return len(data)

    def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        with self.system.gate:
            self._aligned(fd, views, offset)
            data = b"".join(views)
            self.system.do(Step("write", self._node(fd), offset=offset, data=data))
            return len(data)

    def copy(self, source: int, target: int, length: int, source_offset: int, target_offset: int) -> int:
        with self.system.gate:
            data = self.system.disk.files[self._node(source)][source_offset : source_offset + length]
            self.system.do(Step("write", self._node(target), offset=target_offset, data=data))
            return len(data)

    def truncate(self, fd: int, size: int) -> None:
        with self.system.gate:
            self.system.do(Step("truncate", self._node(fd), offset=size))

    def set_direct(self, fd: int, on: bool) -> None:
        with self.system.gate:
            self._node(fd)
            (self.system.direct.add if on else self.system.direct.discard)(fd)

    def _aligned(self, fd: int, views: Sequence[memoryview], offset: int) -> None:
        """Refuse what a real disk does not take directly, also where it would take smaller blocks."""
        if fd in self.system.direct:
            numbers = [offset, *map(len, views), *(np.frombuffer(view, np.uint8).ctypes.data for view in views)]
            if any(number % direct_io.BLOCK for number in numbers):
                raise _error(errno.EINVAL)

    def sync(self, fd: int) -> None:
        with self.system.gate:
            self.system.do(Step("sync", self._node(fd)))

    def rename(self, source: str, target: str) -> None:
        with self.system.gate:
            (folder, name), (other, new) = self._place(source), self._place(target)
            names = self.system.disk.dirs[folder]
            self._find(source)
            if folder != other:
                raise _error(errno.EXDEV, target)  # the stores rename within a directory only
            if names.get(new) in self.system.disk.dirs:
                raise _error(errno.EISDIR, target)
            self.system.do(Step("rename", folder, new, source=name))

    def unlink(self, path: str) -> None:
        with self.system.gate:
            folder, name = self._place(path)
            node = self._find(path)
            if node in self.system.disk.dirs:
                raise _error(errno.EISDIR, path)
            self.system.do(Step("unlink", folder, name))

    def mkdir(self, path: str) -> None:
        with self.system.gate:
            folder, name = self._place(path)
            if not name or name in self.system.disk.dirs[folder]:
                raise _error(errno.EEXIST, path)
            self.system.do(Step("dir", folder, name, self.system.number()))

    def rmdir(self, path: str) -> None:
        with self.system.gate:
            folder, name = self._place(path)
            if self.system.disk.dirs.get(self._find(path)):
                raise _error(errno.ENOTEMPTY, path)
            self.system.do(Step("unlink", folder, name))

    def stat(self, path: str) -> os.stat_result:
        with self.system.gate:
            return self._state(self._find(path))

    stat_target = stat

    def fstat(self, fd: int) -> os.stat_result:
        with self.system.gate:
            return self._state(self._node(fd))

    def mounts(self) -> list[Mount]:
        return []

    def chmod(self, fd: int, mode: int) -> None:
        pass  # a disk without permissions

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        with self.system.gate:
            self.system.do(Step("time", self._node(fd), offset=nanoseconds))

    def link(self, source: str, target: str) -> None:
        with self.system.gate:
            folder, name = self._place(target)
            if name in self.system.disk.dirs[folder]:
                raise _error(errno.EEXIST, target)
            self.system.do(Step("link", folder, name, self._find(source)))

    def get_xattr(self, fd: int) -> bytes | None:
        with self.system.gate:
            return self.system.disk.notes.get(self._node(fd))

    def set_xattr(self, fd: int, data: bytes) -> None:
        with self.system.gate:
            self.system.do(Step("set_xattr", self._node(fd), data=data))

    def take_write_lease(self, fd: int) -> bool:
        with self.system.gate:
            return list(self.system.opened.values()).count(self._node(fd)) == 1

    def end_write_lease(self, fd: int) -> None:
        self._node(fd)

    begin_sync = end_write_lease

    def write_out(self, fd: int) -> None:
        """As the data of a file that are on disk before its new name is: nothing but that name leads to them."""
        with self.system.gate:
            self.system.do(Step("sync", self._node(fd)))

    def sync_all(self, fd: int) -> None:
        with self.system.gate:
            for node in (*self.system.disk.files, *self.system.disk.dirs):
                self.system.do(Step("sync", node))

    def kind(self, device: int) -> str:
        return "disk"

    def order(self, device: int) -> str:
        return "written"

    @property
    def realm(self) -> Hashable:
        return self

    def children(self) -> tuple[tuple[float, ...], bool]:
        return NO_CHILDREN

    def above(self, path: str) -> list[tuple[str, tuple[int, int]]]:
        found = []
        try:
            while path.startswith(self.root):
                found.append((path, (DEVICE, self._find(path))))
                path = os.path.dirname(path)
        except OSError:
            return []
        return found

    def real(self, path: str) -> str:
        return path

    def is_link(self, path: str) -> bool:
        return False

    def scan(self, path: str) -> list[tuple[str, str]]:
        with self.system.gate:
            names = self.system.disk.dirs.get(self._find(path))
            if names is None:
                raise _error(errno.ENOTDIR, path)
            return [(name, "dir" if node in self.system.disk.dirs else "file") for name, node in names.items()]

    def lock(self, fd: int) -> bool:
        with self.system.gate:
            return self.system.locks.setdefault(self._node(fd), fd) == fd

    def unlock(self, fd: int) -> None:
        with self.system.gate:
            if self.system.locks.get(self._node(fd)) == fd:
                del self.system.locks[self._node(fd)]

    def now(self) -> int:
        with self.system.gate:
            self.system.clock += 1
            return self.system.clock

    def _node(self, fd: int) -> int:
        try:
            return self.system.opened[fd]
        except KeyError:
            raise _error(errno.EBADF) from None

    def _place(self, path: str) -> tuple[int, str]:
        """(directory, last name) of a path; the root has no name."""
        if path == self.root:
            return TOP, ""
        if not path.startswith(self.root + "/"):
            raise _error(errno.ENOENT, path)
        *parts, last = path[len(self.root) + 1 :].split("/")
        node = TOP
        for part in parts:
            found = self.system.disk.dirs[node].get(part)
            if found is None:
                raise _error(errno.ENOENT, path)
            if found not in self.system.disk.dirs:
                raise _error(errno.ENOTDIR, path)
            node = found
        return node, last

    def _find(self, path: str) -> int:
        folder, name = self._place(path)
        if name and name not in self.system.disk.dirs[folder]:
            raise _error(errno.ENOENT, path)
        return self.system.disk.dirs[folder][name] if name else folder

    def _state(self, node: int) -> os.stat_result:
        disk = self.system.disk
        kind = stat.S_IFDIR | 0o755 if node in disk.dirs else stat.S_IFREG | 0o644
        links = sum(node in names.values() for names in disk.dirs.values())
        time, size = disk.times.get(node, 10**18), len(disk.files.get(node, b""))
        return os.stat_result(
            (kind, node, DEVICE, links, 0, 0, size, *[time // 10**9] * 3),
            {"st_atime_ns": time, "st_mtime_ns": time, "st_ctime_ns": time},
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimulatedSyscalls) and other.system is self.system and other.root == self.root

    def __hash__(self) -> int:
        return hash((id(self.system), self.root))
