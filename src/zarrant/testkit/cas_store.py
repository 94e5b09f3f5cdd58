"""A store that can only compare and swap, shared by processes: what an object store is, without a network.

In and out: bytes, in files below a directory, which has everything that the store makes. It has no locks, cannot erase on
condition, and its versions are a hash of the content: equal bytes have equal versions, as on S3. `step` is called before each call
is made, so that a test can end, stop or delay the process there. `AsyncCasStore` has the same as coroutines.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, unquote

from zarrant.errors import ByteRangeError
from zarrant.locking.local import remake_after_fork
from zarrant.storage import Blob, Buffer, ByteRange, Version, expect_version
from zarrant.stores.keys import check_key, check_prefix

Step = Callable[[str, str], None]
OBJECTS = "objects"


class _OneAtATime:
    """A process that is stopped by a step has no other thread within a write: that would stop the service for all."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.lock = threading.RLock()  # a step may use the store


_one_at_a_time = _OneAtATime()


class CasStore:
    """Get, Put, PutIf, Erase and List on a directory. The files in its `objects` have the names of the keys, quoted.

    >>> store = CasStore("there")
    >>> first = store.put_if("a", [b"old"], None)
    >>> store.put_if("a", [b"new"], first) == first
    False
    """

    guard = "compare-and-swap"

    def __init__(self, path: str | os.PathLike[str], step: Step | None = None) -> None:
        self.path, self.step = Path(path).absolute(), step
        self.url = f"cas://{self.path}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CasStore) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self.get_ranges(key, (ByteRange(0),))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        file = self._file(key)
        self._announce("get", key)
        found = _read(file)
        if if_version is not None:
            expect_version(_version(found), if_version, self.url, key)
        if found is None:
            return None
        data = memoryview(found)
        try:
            parts = tuple(data[slice(*wanted.resolve(len(data)))] for wanted in ranges)
        except ValueError as error:
            raise ByteRangeError(str(error), store=self.url, key=key) from None
        return Blob(parts, _version(found), len(data))

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        file = self._file(key)
        self._announce("put", key)
        with self._alone():
            return self._write(file, parts)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        file = self._file(key)
        self._announce("put_if", key)
        with self._alone():
            expect_version(_version(_read(file)), if_version, self.url, key)
            return self._write(file, parts)

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        file = self._file(key)
        self._announce("erase", key)
        with self._alone():
            file.unlink(missing_ok=True)

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        for key in self.list_prefix(prefix):
            self.erase(key)

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`."""
        check_prefix(prefix, self.url)
        self._announce("list", prefix)
        objects = self.path / OBJECTS
        names = os.listdir(objects) if objects.exists() else []
        return iter(sorted(key for key in map(unquote, names) if key.startswith(prefix)))

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        tails = [key[len(prefix) :].partition("/") for key in self.list_prefix(prefix)]
        return [prefix + head for head, slash, _ in tails if not slash], sorted({prefix + a + s for a, s, _ in tails if s})

    def _announce(self, name: str, key: str) -> None:
        if self.step is not None:
            with _one_at_a_time.lock:
                self.step(name, key)

    def _file(self, key: str) -> Path:
        check_key(key, self.url)
        return self.path / OBJECTS / quote(key, safe="")

    def _write(self, file: Path, parts: Sequence[Buffer]) -> Version:
        data = b"".join(parts)
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._folder("new"))
        with os.fdopen(handle, "wb") as new:
            new.write(data)
        os.replace(name, file)
        return _version(data)

    def _folder(self, name: str) -> Path:
        """A directory beside that of the objects: what is in it is under no key."""
        place = self.path / name
        place.mkdir(parents=True, exist_ok=True)
        return place

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Each write is one step for all processes; the lock ends with the process."""
        with _one_at_a_time.lock:
            handle = os.open(self._folder("lock") / "lock", os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield
            finally:
                os.close(handle)


class AsyncCasStore:
    """`CasStore` as coroutines, and nothing else."""

    guard = "compare-and-swap"

    def __init__(self, path: str | os.PathLike[str], step: Step | None = None) -> None:
        self.inside = CasStore(path, step)
        self.url = self.inside.url

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.inside.path)!r})"

    async def get_async(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        return self.inside.get(key)

    async def get_ranges_async(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        return self.inside.get_ranges(key, ranges, if_version)

    async def put_async(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        return self.inside.put(key, parts)

    async def put_if_async(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        return self.inside.put_if(key, parts, if_version)

    async def erase_async(self, key: str) -> None:
        """See `storage.Erase`."""
        self.inside.erase(key)

    async def erase_prefix_async(self, prefix: str) -> None:
        """See `storage.Erase`."""
        self.inside.erase_prefix(prefix)

    async def list_prefix_async(self, prefix: str) -> list[str]:
        """See `storage.List`."""
        return list(self.inside.list_prefix(prefix))

    async def list_dir_async(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        return self.inside.list_dir(prefix)


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None


def _version(found: bytes | None) -> str | None:
    return None if found is None else hashlib.sha256(found).hexdigest()[:32]
