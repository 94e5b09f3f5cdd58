"""Objects as files below a directory, safe against every other writer that keeps to the same lock files.

In: keys and buffers. Out: blobs and versions, or one typed error that names store and key. A write takes the object's place
in one rename, under the lock file `<key>.__lock` (`locking.file_locks`): a reader of any library sees the old object or the new,
and a killed writer leaves it whole. A read is one `open`, whose descriptor serves the check of the version and every range.

- Threads of this process queue for a key in order (`locking.local`) before one of them tries the lock file.
- A value is written to `<key>.__new.__lock`, which is renamed over the key while the lock file stays where it is, empty.
  TensorStore writes into the lock file itself, which saves a file, but does not empty one that it finds: had ours a value in
  it when we were killed, its tail would be part of what they write next. Also, a lock file that outlives the rename serves any
  number of writes, and no other writer comes in between. Only the owner of the lock uses the name of the temp file, so a temp
  file that is found was left by a killed writer. TensorStore takes both files for lock files, and hides them.
- Symbolic links are followed by the rule of `stores.local.links`: read through, replaced by writing, removed by erasing.
- What kind of file system it is decides which locks are used (`stores.local.mounts`): where those of one mount need not reach
  another, `locking="auto"` means lock files that are created. The first write of a process on a mount probes what was chosen.
- Erasing leaves directories; `erase_prefix` removes those it emptied.
- What lasts through a loss of power, and from when on, is in `stores.local.durability`.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from zarrant import kernels
from zarrant.errors import (
    CapabilityError,
    LockTimeout,
    MetadataChangedError,
    NodeNotFoundError,
    OptionError,
    ReentrantLockError,
    StoreError,
    ZarrantError,
)
from zarrant.locking.created_locks import CreatedLock
from zarrant.locking.file_locks import SUFFIX, FileLock, remember_permissions
from zarrant.locking.local import KeyQueues, lock_names
from zarrant.storage import ANY, OnlyWhile, Part, Version
from zarrant.stores.local.descriptors import MIN_COUNTED, require_descriptors
from zarrant.stores.local.direct_io import DirectIO
from zarrant.stores.local.durability import DURABILITY, SyncBatch, UnsyncedPaths, unsynced_paths_of
from zarrant.stores.local.links import Links
from zarrant.stores.local.locked import LockedFiles
from zarrant.stores.local.mounts import (
    Mount,
    find_mount,
    renames_are_atomic,
    second_file_is_refused,
    second_lock_is_refused,
    trait_of,
)
from zarrant.stores.local.objects import TEMP_INFIX, FileObjects
from zarrant.stores.local.put_at_once import (
    BUSY,
    Updated,
    can_put_at_once,
    locks_probed,
    put_at_once,
    put_each_at_once,
    update_at_once,
)
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import (
    FileVersion,
    OpenTempFile,
    TempFile,
    annotate_errors,
    remember_made,
    stat_or_none,
    typed,
    version_of,
)
from zarrant.stores.local.unsynced import Mark

if TYPE_CHECKING:
    from zarrant.codecs.protocols import BoxUpdate
    from zarrant.stores.local.file_reuse import FileReuse

T = TypeVar("T")

LOCKING = ("auto", "os", "lockfile", "none")
_GUARDS = {
    "os": f"os locks (<key>{SUFFIX}), any process or machine whose file system has working locks",
    "lockfile": f"lock files (<key>{SUFFIX}), any process or machine whose Zarrant uses them too",
    "none": "no locks: only threads of this process are kept apart",
}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_MAX_MKDIR_TRIES = 100
"""Times a directory is made again because another process removed it, empty, before a file was in it."""

_queues = KeyQueues()

_probed_mounts: dict[tuple[int, Mount, bool], str] = {}
"""What was probed in this process."""


class FilesystemStore(FileObjects):
    """A store on a directory; it has the methods of Get, Put, PutIf, Splice, Erase, List, Lock and more (`zarrant.storage`).

    Args:
        root: the directory. With `create` it is made at the first write, else it must be there.
        locking: how other writers are kept out. "os" locks the file `<key>.__lock` for every write. "lockfile" is for file
            systems without locks: it does not keep TensorStore out, and the lock file of a killed writer must be removed by hand
            (`locking.created_locks`). "none" keeps only threads of this process apart. "auto" is "os", but "lockfile" on FUSE and
            network mounts whose locks need not reach other mounts. The first write makes sure that the choice excludes other
            writers, else it is a CapabilityError; `guard` says what was chosen.
        lock_timeout: seconds to wait for a lock, then LockTimeout.
        durability: "fsync": what a call wrote is on disk when it returns; "rename": at the next `sync`.
        file_reuse: True: updates of big objects, on file systems without reflinks, rewrite the file that the last update replaced,
            if no process has it open. Not for directories that this machine exports by NFS 3, or whose files are sent by
            `sendfile`: readers there cannot be seen (`stores.local.file_reuse`).
        direct_io: True: whole objects are written and read around the page cache, where the file system can do that
            (`stores.local.direct_io`); `access` says whether it does.
        follow_symlinks: "files" reads files that are links wherever these lead, and enters directories that are links only where
            they stay in the store; True enters those that leave it too; False reads no file outside either
            (`stores.local.links`).
        syscalls: what makes every file call; tests give one that records calls, or lets them fail.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     store = FilesystemStore(root)
    ...     version = store.put("c/0", [b"some ", b"bytes"])
    ...     bytes(store.get("c/0").data[0])
    b'some bytes'
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        locking: str = "auto",
        lock_timeout: float = 60.0,
        durability: str = "rename",
        create: bool = True,
        file_reuse: bool = False,
        direct_io: bool = False,
        follow_symlinks: bool | str = "files",
        syscalls: Syscalls | None = None,
    ) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.url = _url(self.root)
        self.files = Syscalls() if syscalls is None else syscalls
        self.locking, self.lock_timeout, self.durability, self.create = locking, lock_timeout, durability, create
        usual = locking in LOCKING and durability in DURABILITY and type(lock_timeout) is float and lock_timeout >= 0
        if not usual or type(direct_io) is not bool or type(file_reuse) is not bool:
            self._check_options(direct_io, file_reuse)
        self.file_reuse = file_reuse
        self.direct = DirectIO(self.files, self.url) if direct_io else None
        self.follow_symlinks = follow_symlinks
        self.links = Links(self.files, self.root, self.url, follow_symlinks)
        self._chosen = "" if locking == "auto" else locking
        self._mount: Mount | None = None
        self._probed: dict[int, str] = {}
        """Device: what was found there."""
        self._remote: bool | None = None
        self._at_once = can_put_at_once(self)
        self._check_root()

    def _check_options(self, direct_io: object, file_reuse: object) -> None:
        """OptionError for a value that an option cannot have."""
        lock_timeout: object = self.lock_timeout
        for field, known in {"locking": LOCKING, "durability": DURABILITY}.items():
            if (got := getattr(self, field)) not in known:
                raise OptionError(f"unknown {field}", store=self.url, field=field, expected=", ".join(known), got=got)
        if isinstance(lock_timeout, bool) or not isinstance(lock_timeout, int | float) or not lock_timeout >= 0:
            raise OptionError(
                "not a time to wait", store=self.url, field="lock_timeout", expected="seconds", got=repr(lock_timeout)
            )
        for field, value in {"direct_io": direct_io, "file_reuse": file_reuse}.items():
            if not isinstance(value, bool):
                raise OptionError("neither true nor false", store=self.url, field=field, expected="True | False", got=repr(value))

    @cached_property
    def unsynced_paths(self) -> UnsyncedPaths:  # type: ignore[override]  # looked up where something is written
        """What this process wrote below the root."""
        return unsynced_paths_of(self.root, self.files)

    @property
    def strided_parts(self) -> bool:
        """Whether it gathers a view of an array while it writes it: see `storage.Part`."""
        return self._at_once

    def put_first(self, key: str, parts: Sequence[Part], absent: tuple[str, ...]) -> Version:
        """See `storage.PutsFirst`."""
        if not self._at_once:
            return None
        try:
            path = self._path(key, True, self.condition)
            done = put_at_once(self, _queues, path, parts, None, absent)
        except (OSError, ZarrantError):  # the general way says so
            return None
        if done is None:
            return None
        version, mark = done
        with annotate_errors("write", self.url, key):
            self._on_published([path], mark)
        remember_made(version)
        return version

    def _update_at_once(self, key: str, path: str, update: BoxUpdate, condition: OnlyWhile | None) -> Updated | None:
        done = update_at_once(self, _queues, path, update, condition)
        if isinstance(done, tuple):
            return done
        return self._update_when_free(key, path, update, condition) if done == BUSY else None

    def _update_when_free(self, key: str, path: str, update: BoxUpdate, condition: OnlyWhile | None) -> Updated | None:
        """The same of a key that another process has locked, or whose owner was killed."""
        below = self if condition is None else self.only_while(OnlyWhile(condition.key, ANY))
        try:
            with below.lock([key]) as locked:
                return locked._update_at_once(key, path, update, condition)
        except MetadataChangedError:
            return None

    def with_options(self, **options: Any) -> FilesystemStore:
        """A store on the same directory under other options."""
        return FilesystemStore(self.root, **{**self._options(), **options}, syscalls=self.files)

    def _options(self) -> dict[str, Any]:
        names = ("locking", "lock_timeout", "durability", "create", "file_reuse", "direct_io", "follow_symlinks")
        return {name: getattr(self, name) for name in names}

    @property
    def guard(self) -> str:
        """What guards writes, and whom it reaches."""
        chosen = self._lock_kind()
        if self.locking != "auto":
            return _GUARDS[chosen]
        found = "; ".join(self._findings()) or "to be probed by the first write"
        return f"{_GUARDS[chosen]} ({self._mount_here().type or 'unknown file system'}: {found})"

    @property
    def is_local(self) -> bool:
        """Whether the directory is on this machine, and not on a network mount."""
        return not self.renames_show_gaps()

    @property
    def file_system(self) -> dict[str, Any]:
        """What the directory lies on, what that means for locks and renames, and what was probed by now."""
        mount = self._mount_here()
        return {
            "type": mount.type,
            "source": mount.source,
            "mounted_at": mount.point,
            "locks_reach_other_mounts": trait_of(mount).shares_locks,
            "renames_may_show_gaps": trait_of(mount).remote,
            "locking": self._lock_kind(),
            "probed": self._findings(),
        }

    def _findings(self) -> list[str]:
        """What was probed for the locks in use, by this store or another one of this process on the same mount."""
        if self.locking != "auto":
            return []
        mount, locks = self._mount_here(), self._lock_kind() == "os"
        probed = (
            ()
            if self._probed
            else [probed for (_, there, kind), probed in _probed_mounts.items() if (there, kind) == (mount, locks)]
        )
        return list(dict.fromkeys([*self._probed.values(), *probed]))

    def _mount_here(self) -> Mount:
        if self._mount is None:
            self._mount = find_mount(self.files, self.root)
        return self._mount

    def _lock_kind(self) -> str:
        """The locks that are used: never "auto"."""
        if not self._chosen:
            self._chosen = "os" if trait_of(self._mount_here()).shares_locks else "lockfile"  # safety: mount type
        return self._chosen

    def renames_show_gaps(self) -> bool:
        """For `stores.local`: whether a reader may find no object while it is replaced, as on network mounts."""
        if self._remote is None:
            self._remote = trait_of(self._mount_here()).remote
        return self._remote

    @contextmanager
    def lock(self, keys: Sequence[str]) -> Iterator[LockedFiles]:
        """See `storage.Lock`. The value reads and writes all keys of the store; the locked ones any number of times.

        To write a locked key through this store, and not through the value, waits until the lock is released; in the same thread
        or task it is a ReentrantLockError at once. Lock all keys that you will write with one call: two callers that each wait
        for a key of the other end with LockTimeout.
        """
        paths = {self._path(key): key for key in sorted(set(keys))}
        deadline = time.monotonic() + self.lock_timeout
        if self.locking != "none" and len(paths) >= MIN_COUNTED:
            require_descriptors(len(paths), self.url)
        with lock_names(_queues, paths, deadline, self.url):
            locks: dict[str, FileLock | None] = dict.fromkeys(paths)
            try:
                for path, key in paths.items():
                    if self.locking != "none":
                        with annotate_errors("lock", self.url, key):
                            locks[path] = self._lock_path(path, deadline)
                yield LockedFiles(self, locks)
            finally:
                try:
                    _release(locks)
                finally:
                    _release(locks)  # what an interrupt kept from being given back; the rest is known to be

    def is_locked_by_caller(self, key: str) -> bool:
        """Whether the caller has locked the key through another handle: to write it here would wait for ever."""
        return _queues.is_locked_by_caller(self._path(key))

    def is_unchanged(self, key: str, version: Version) -> bool:
        """Whether an object has this version and no writer has locked it. The lock is looked at first; a killed writer's counts."""
        path = self._path(key)
        with annotate_errors("look at", self.url, key):
            state = None if self._is_locked(path) else self.links.state(path)
        return state is not None and version_of(state) == version

    def _is_locked(self, path: str) -> bool:
        return path in _queues.locked() if self.locking == "none" else stat_or_none(self.files, path + SUFFIX) is not None

    @contextmanager
    def exclusive_path(self, path: str, timeout: float | None = None) -> Iterator[OpenTempFile]:
        """For `stores.local`: keep other writers of a path out; the value opens a temp file for its new object."""
        deadline = time.monotonic() + (self.lock_timeout if timeout is None else timeout)
        with _queues.lock((path,), deadline):
            if self.locking == "none":
                yield lambda fd: self.unlocked_temp_file(path)
                return
            lock = self._lock_path(path, deadline)
            try:
                yield lambda fd: self.locked_temp_file(path, lock, fd)
            finally:
                lock.release()

    @contextmanager
    def in_batch(self, group: SyncBatch) -> Iterator[Self]:
        """For `stores.local`: the same store, whose writes are committed with the batch."""
        batch_store = self._view()  # not a copy, which would be a store made anew: without the condition of `only_while`
        batch_store.group = group
        yield batch_store

    def path_of(self, key: str) -> str:
        """For `stores.local`: the path of an object."""
        return self._path(key)

    def _put_at_once(self, path: str, parts: Sequence[Part], if_version: Version) -> tuple[FileVersion, Mark] | None:
        return put_at_once(self, _queues, path, parts, if_version)

    def put_each_at_once(self, items: Sequence[tuple[str, Sequence[Part]]], done: list[FileVersion | None]) -> None:
        """For `stores.local`: `_put_at_once` of many paths, whatever is there; for each its version, or None."""
        if self._at_once:
            put_each_at_once(self, _queues, items, done)

    def locked_temp_file(self, path: str, lock: FileLock, fd: int) -> TempFile:
        return TempFile(self.files, f"{path}{TEMP_INFIX}{SUFFIX}", lock, fd)

    @cached_property
    def reuse(self) -> FileReuse | None:
        """What reuses files; None where it is off, and where other processes are not kept out."""
        if not self.file_reuse or self._lock_kind() != "os":
            return None
        from zarrant.stores.local.file_reuse import FileReuse  # a thread and an exit handler that nobody else needs

        return FileReuse(self.files, self._drop_previous)

    def _drop_previous(self, path: str, replaced: FileVersion) -> bool:
        """Remove a previous file, unless the object is being written now; whether it is gone."""
        from zarrant.stores.local.file_reuse import LOCK_TIMEOUT_S, PREVIOUS, absent

        if absent(self.files, path, replaced):
            return True
        try:
            with self.exclusive_path(path, LOCK_TIMEOUT_S):
                if not absent(self.files, path, replaced):
                    self._unlink(path + PREVIOUS)
        except (LockTimeout, ReentrantLockError):
            return False
        return True

    def unlocked_temp_file(self, path: str) -> TempFile:
        """A temp file under a name that no other writer uses."""
        name = f"{path}{TEMP_INFIX}{os.urandom(8).hex()}{SUFFIX}"
        return self._with_parents(path, lambda: TempFile(self.files, name, None))

    def _lock_path(self, path: str, deadline: float) -> FileLock:
        """Lock a path, and remove the temp file that a killed owner left."""
        try:
            kind = CreatedLock if self._lock_kind() == "lockfile" else FileLock
            lock = self._with_parents(path, lambda: kind.take(self.files, path + SUFFIX, deadline))
        except OSError as error:
            if error.errno in _NO_LOCKS and not isinstance(error, StoreError):
                raise self._no_locks("the file system has no locks") from error
            raise
        try:
            if lock.found:
                self._unlink(f"{path}{TEMP_INFIX}{SUFFIX}")  # safety: killed owner
            if self.locking == "auto" and lock.inode[0] not in self._probed:
                self._probe(lock, path)  # safety: probe
        except BaseException:
            lock.release()
            raise
        return lock

    def _probe(self, lock: FileLock, path: str) -> None:
        """What was chosen must exclude a second writer; done once a mount and process, and again for the file calls of a test."""
        mount = find_mount(self.files, os.path.dirname(path))
        key = (lock.inode[0], mount, lock.locks)
        probed = _probed_mounts.get(key) if type(self.files) is Syscalls else None
        if probed is None:
            probed = self._probe_mount(lock, path, mount)
            _probed_mounts[key] = probed
        if lock.locks:
            locks_probed(lock.inode[0])
        self._probed[lock.inode[0]] = probed

    def _probe_mount(self, lock: FileLock, path: str, mount: Mount) -> str:
        trait = trait_of(mount)
        if lock.locks and not trait.shares_locks:
            raise self._no_locks(f"a part of the store is on a mount ({mount.type}) whose locks need not reach other mounts")
        if lock.locks and not second_lock_is_refused(self.files, lock.path, mount):
            raise self._no_locks("the file system grants one lock to two writers")
        if not lock.locks and not second_file_is_refused(self.files, lock.path, mount):
            raise self._no_locks("the file system makes one lock file for two writers", 'locking="none"')
        found = "a second lock is refused" if lock.locks else "a second lock file is refused"
        if trait.remote and not renames_are_atomic(self.files, path, SUFFIX):
            found += ", readers see gaps in renames"
        return found

    def _no_locks(self, message: str, options: str = 'locking="lockfile"') -> CapabilityError:
        hint = 'with locking="none" it is up to you that one process writes an object at a time'
        return CapabilityError(
            message,
            store=self.url,
            expected="working file locks",
            hint=hint.capitalize() if "none" in options else f"Use {options}; {hint}",
        )

    def _with_parents(self, path: str, make: Callable[[], T]) -> T:
        """Make a file, and first its directory, as often as another process takes that away again."""
        for _ in range(_MAX_MKDIR_TRIES):
            try:
                return make()
            except FileNotFoundError:
                self.make_directory(os.path.dirname(path))
        return make()

    def make_directory(self, path: str) -> None:
        """For `stores.local`: make a directory and those above it. Where one is removed meanwhile it may be missing at the end.

        What belongs to a node is made only where its metadata is: a node that was removed does not come back as a directory.
        """
        if self.condition is not None:
            OnlyWhile(self.condition.key, ANY).check(self._version(self.condition.key))  # safety: no ghost
        if self._at_once and path != self.root:
            assert kernels.enter_directory is not None, "there where `put_file` is"
            made, entered = kernels.enter_directory(path, self.root, None, None)
            self._note_made(made)
            if entered:
                return
        missing = []
        while True:
            if path == self.root and not self.create:
                raise FileNotFoundError(errno.ENOENT, "the store's directory is gone", path)
            try:
                self._mkdir(path)
            except FileNotFoundError:
                missing.append(path)
                path = os.path.dirname(path)
                continue
            break
        for below in reversed(missing):
            try:
                self._mkdir(below)
            except FileNotFoundError:
                return

    def _made_ready(self, directory: str, condition: OnlyWhile | None) -> bool:
        """See `FileObjects`. What is not as usual the general way finds out: a link, no such node, a root that is not there."""
        if not self._at_once:
            return False
        known, path = self.links.trusted_part(directory), f"{self.root}/{directory}"
        node = None if condition is None else f"{self.root}/{condition.key}"  # safety: no ghost of a put
        assert kernels.enter_directory is not None, "there where `put_file` is"
        made, entered = kernels.enter_directory(path, f"{self.root}/{known}" if known else self.root, node, None)
        if made:
            self.unsynced_paths.directories_made(self.files, made)
        if entered is None:
            return False
        self.links.entered(directory, known)
        remember_permissions(path, *entered)
        return True

    def _mkdir(self, path: str) -> None:
        try:
            self.files.mkdir(path)
        except FileExistsError:
            return
        self._note_made([path])

    def _note_made(self, paths: Sequence[str]) -> None:
        self.unsynced_paths.directories_made(self.files, paths)
        self.links.directories_made([path for path in paths if path != self.root])

    def _check_root(self) -> None:
        try:
            state = self.files.stat_target(self.root)
        except FileNotFoundError as error:
            if not self.create:
                missing = NodeNotFoundError("no such directory", expected="a directory", path=self.root)
                raise missing.annotate(store=self.url) from error
        except OSError as error:
            raise typed(error, "open", self.url, None) from error
        else:
            if not stat.S_ISDIR(state.st_mode):
                found = StoreError("the root is not a directory", expected="a directory", got="a file", path=self.root)
                raise found.annotate(store=self.url)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FilesystemStore) and self.__reduce__()[1:] == other.__reduce__()[1:]

    def __hash__(self) -> int:
        return hash(self.root)

    def __repr__(self) -> str:
        durable = "" if self.durability == "rename" else f", durability={self.durability!r}"
        direct = f", direct_io={True if not self.direct.refused else self.access!r}" if self.direct else ""
        reuse = ", file_reuse=True" if self.file_reuse else ""
        return f"FilesystemStore({self.root!r}, locking={self.locking!r}{durable}{direct}{reuse})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (self.root, self._options(), self.files)


def _release(locks: dict[str, FileLock | None]) -> None:
    """Release locks, the last one first. Locks that were released already are skipped."""
    for lock in reversed(locks.values()):
        if lock is not None:
            lock.release()  # safety: lock exit


_PLAIN = re.compile(r"/[A-Za-z0-9/._~-]*").fullmatch


def _url(root: str) -> str:
    """The address of a directory. Of most names it is plain, and `pathlib` takes 6 µs to find that out."""
    if _PLAIN(root):
        return f"file://{root}"
    from pathlib import Path

    return Path(root).as_uri()


def _open(root: str, options: Mapping[str, Any], syscalls: Syscalls) -> FilesystemStore:
    """A pickled store, again."""
    return FilesystemStore(root, **options, syscalls=syscalls)
