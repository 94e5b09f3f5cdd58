"""What kind of file system a directory lies on, and what that means for locks and renames.

In: a path. Out: its `Mount`, from the table of mounts (proc(5)); its `Trait`; and, once a mount and process, what a probe found.
A probe sees one mount only: that a second lock is refused here says nothing of another mount of the same directory, on this
machine or another. So the type decides first, and what is not known to share its locks counts as not sharing them.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

TABLE = "/proc/self/mountinfo"
TABLE_S = 1.0
"""Seconds for which a look-up holds: reading the table takes 0.05 ms."""
MAX_ROOTS = 1024

RENAMES = 20
"""Renames under a reader in the probe: bindfs shows a gap in 3 of them on average, ntfs-3g in 2."""

RELOOK_S, QUIET_S, BUSY_S, LISTED_S = 0.002, 5.0, 0.05, 0.2
"""Seconds between two looks at an object that seems absent; seconds after which its directory is not being changed any more
(clocks of servers differ); seconds for which a writer that has the lock may be in the middle of a rename; seconds for which an
object that its directory lists is looked for (a list that the client of a mount remembers may be older than an erase)."""


class Mount(NamedTuple):
    """One line of the table of mounts; all empty where there is none."""

    type: str = ""
    source: str = ""
    point: str = ""
    options: str = ""
    number: str = ""
    root: str = ""
    device: str = ""
    """Major and minor number of the file system, as "8:1"."""


class Trait(NamedTuple):
    """What a type of file system promises."""

    remote: bool
    """Others may change it without this kernel: renames need not be atomic for readers, "not found" is looked at twice."""
    shares_locks: bool
    """A lock that is taken through one mount excludes those of all other mounts."""


_LOCAL, _REMOTE, _SHARING = Trait(False, True), Trait(True, False), Trait(True, True)

_REMOTES = {
    *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "9p", "virtiofs", "afs", "coda", "ncpfs", "vboxsf", "vmhgfs", "prl_fs"),
    *("ceph", "lustre", "gpfs", "orangefs", "pvfs2", "beegfs", "glusterfs", "ocfs2", "gfs2", "davfs", "sshfs"),
}
"""Types whose files other machines, or a program of this one, can change. The kernel's other types are this machine's alone."""


def trait_of(mount: Mount) -> Trait:
    """What the type and the options of a mount promise.

    >>> trait_of(Mount("ext4")), trait_of(Mount("fuse.sshfs"))
    (Trait(remote=False, shares_locks=True), Trait(remote=True, shares_locks=False))
    """
    kind, options = mount.type, set(mount.options.split(","))
    if kind not in _REMOTES and not re.match(r"fuse(blk)?(\.|\Z)", kind):
        return _LOCAL
    if kind in ("nfs", "nfs4"):
        # nfs(5): locking is part of the protocol from version 4 on; `local_lock` and `nolock` keep locks in this client.
        four = kind == "nfs4" or any(option.startswith(("vers=4", "nfsvers=4")) for option in options)
        local = any(option.startswith("local_lock=") and option != "local_lock=none" for option in options)
        return _SHARING if four and not local and "nolock" not in options else _REMOTE
    if kind == "lustre":
        # mount.lustre(8): `flock` is coherent across all clients, `localflock` on this client only, without either: ENOSYS.
        return _SHARING if "flock" in options and "localflock" not in options else _REMOTE
    # IBM Storage Scale: fcntl locks are granted by the token manager of the cluster ("maxFcntlRangesPerFile" of mmchconfig).
    # CephFS: the kernel client asks the metadata server for every fcntl lock (fs/ceph/locks.c of Linux).
    return _SHARING if kind in ("gpfs", "ceph") else _REMOTE


def read_table() -> list[Mount]:
    """All mounts that this process sees; none where the system has no such table."""
    try:
        with open(TABLE, encoding="utf-8", errors="surrogateescape") as table:
            return [_parsed(line.split()) for line in table]
    except OSError:
        return []


def _parsed(fields: list[str]) -> Mount:
    end = fields.index("-")
    kind, source = fields[end + 1], fields[end + 2]
    options = ",".join([fields[5], *fields[end + 3 : end + 4]])
    return Mount(kind, _plain(source), _plain(fields[4]), options, fields[0], _plain(fields[3]), fields[2])


def _plain(text: str) -> str:
    r"""A path of the table: blanks are written \040 there."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def mount_of(path: str, table: list[Mount]) -> Mount:
    """The mount on which a path lies, or would lie."""
    real = os.path.realpath(path)
    found = [mount for mount in table if _below(real, mount.point) is not None]
    return max(enumerate(found), key=lambda each: (len(each[1].point), each[0]), default=(0, Mount()))[1]


def other_paths(path: str, mount: Mount, table: list[Mount]) -> Iterator[str]:
    """The names of a file through other mounts of the same source, where they show the same part of it."""
    below = _below(os.path.realpath(path), mount.point)
    for other in table:
        same = (other.type, other.source, other.root) == (mount.type, mount.source, mount.root)
        if same and other.point != mount.point and below is not None:
            yield f"{other.point.rstrip('/')}/{below}"


def _below(path: str, directory: str) -> str | None:
    directory = directory.rstrip("/")
    if path == directory:
        return ""
    return path[len(directory) + 1 :] if path.startswith(f"{directory}/") else None


_found: dict[tuple[Any, str], tuple[Mount, float]] = {}
_tables: dict[Any, tuple[list[Mount], float]] = {}
"""By who reads it: the table as it was read last, and until when it is used for other roots."""


class Files(Protocol):
    """The file calls of a probe: a part of `Syscalls`."""

    def mounts(self) -> list[Mount]: ...
    def open(self, path: str, flags: int) -> int: ...
    def close(self, fd: int) -> None: ...
    def stat(self, path: str) -> os.stat_result: ...
    def rename(self, source: str, target: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def lock(self, fd: int) -> bool: ...


def find_mount(files: Files, root: str) -> Mount:
    """The mount of a directory; looked up once a second at most."""
    key, now = (type(files), root), time.monotonic()
    mount, until = _found.get(key, (Mount(), 0.0))
    if now >= until:
        mount = _look_up(files, root, now)
        if len(_found) >= MAX_ROOTS:
            _found.clear()
        _found[key] = (mount, now + TABLE_S)
    return mount


def _look_up(files: Files, root: str, now: float) -> Mount:
    """The mount of a root, by the last table where that is of this second and has one mount of the device on which the root lies.

    What was mounted or unmounted there since has another device. A program that makes many small stores does not read the table
    for each.
    """
    reader = type(files).mounts
    table, until = _tables.get(reader, ([], 0.0))
    if now < until:
        device = _device_of(root)
        same = [mount for mount in table if mount.device == device]
        if device and len(same) == 1:
            return same[0]
    table = files.mounts()
    _tables[reader] = table, now + TABLE_S
    return mount_of(root, table)


def _device_of(path: str) -> str:
    """Major and minor number of the file system on which a path lies, or would lie; "" where that takes long, and on Windows."""
    while hasattr(os, "major"):
        try:
            device = os.stat(path).st_dev
        except FileNotFoundError:
            if os.path.islink(path):  # it would lie where the link leads
                return ""
            path = os.path.dirname(path)
        except OSError:
            return ""
        else:
            return f"{os.major(device)}:{os.minor(device)}"
    return ""


def second_lock_is_refused(files: Files, path: str, mount: Mount) -> bool:
    """Whether a lock file that is locked cannot be locked again, by this name or by another one of another mount."""
    return not _granted(files, path) and not any(_elsewhere(_granted, files, name) for name in _others(files, path, mount))


def second_file_is_refused(files: Files, path: str, mount: Mount) -> bool:
    """Whether a file that was created exclusively cannot be created again, by this name or by one of another mount."""
    return not _created(files, path) and not any(_elsewhere(_created, files, name) for name in _others(files, path, mount))


def _others(files: Files, path: str, mount: Mount) -> Iterator[str]:
    return other_paths(path, mount, files.mounts()) if trait_of(mount).remote else iter(())


def _elsewhere(probe: Callable[[Files, str], bool], files: Files, path: str) -> bool:
    """A probe through another mount; False where that does not show the file, or does not let us in: it tells nothing then."""
    try:
        files.stat(path)
        return probe(files, path)
    except OSError:
        return False


def _granted(files: Files, path: str) -> bool:
    fd = files.open(path, os.O_RDWR)
    try:
        return files.lock(fd)
    finally:
        files.close(fd)


def _created(files: Files, path: str) -> bool:
    try:
        files.close(files.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def renames_are_atomic(files: Files, path: str, suffix: str) -> bool:
    """Whether a reader always sees something while one file takes another's place; `suffix` makes reserved names."""
    target, temp = (f"{path}.__new{os.urandom(8).hex()}{suffix}" for _ in range(2))
    missed, ended = [0], threading.Event()

    def stat_or_none() -> None:
        while not ended.is_set():
            try:
                files.close(files.open(target, os.O_RDONLY))  # not `stat`: names are kept in the cache of the kernel
            except FileNotFoundError:
                missed[0] += 1

    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
    files.close(files.open(target, flags))
    reader = threading.Thread(target=stat_or_none, daemon=True)
    try:
        reader.start()
        for _ in range(RENAMES):
            files.close(files.open(temp, flags))
            files.rename(temp, target)
    finally:
        ended.set()
        reader.join()
        files.unlink(target)
    return not missed[0]
