"""Objects in memory: a dict with versions.

In and out: bytes of a `dict` of this process, the caller's own where one is given, which stays in step both ways. Every
method is atomic against every other thread; each write makes a version that was never used before. A change that the caller
makes to the dict is noticed, because the bytes object is another one. There is no `lock`: what must read and write uses
compare-and-swap (`put_if`), as on an object store.

It cannot be shared between processes, so it refuses to be pickled.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, MutableMapping, Sequence
from typing import NoReturn, Self
from weakref import WeakValueDictionary

from zarrant.errors import ByteRangeError, CapabilityError, DataTypeError
from zarrant.locking.local import ForkSafeLock, remake_after_fork
from zarrant.storage import Blob, Buffer, ByteRange, OnlyWhile, Part, Version, expect_version, filled
from zarrant.stores.keys import check_key, check_prefix


class _DictState:
    """The dict, its lock and its versions: one of these for each dict, however many stores look at it."""

    def __init__(self, data: MutableMapping[str, bytes]) -> None:
        self.data = data
        self.versions: dict[str, tuple[bytes, int]] = {}
        self.count = 0
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.lock = threading.RLock()

    def find(self, key: str, store: str) -> tuple[bytes, int] | None:
        """(bytes, version); called under the lock."""
        value = self.data.get(key)
        if value is None:
            self.versions.pop(key, None)
            return None
        if not isinstance(value, bytes):
            raise DataTypeError("the dict holds a value that is not bytes", store=store, key=key, got=type(value).__name__)
        found = self.versions.get(key)
        # The bytes are kept with the version: an object that is still referred to cannot lend its identity to another.
        return found if found is not None and found[0] is value else self.note(key, value)

    def note(self, key: str, value: bytes) -> tuple[bytes, int]:
        """Give a value a new version."""
        self.count += 1
        self.versions[key] = (value, self.count)
        return self.versions[key]


_gate = ForkSafeLock()
_shared: WeakValueDictionary[int, _DictState] = WeakValueDictionary()
_named: dict[str, MemoryStore] = {}


class MemoryStore:
    """A store in the memory of this process: Get, Put, PutIf, Splice, Erase and List.

    `data` is the dict to use; stores on one dict are one store. A value that is not `bytes` is a
    DataTypeError when it is met.

    >>> store = MemoryStore()
    >>> version = store.put("a", [b"bytes"])
    >>> bytes(store.get("a").data[0])
    b'bytes'
    """

    url: str
    one_process = True
    """See `storage.Capabilities`."""
    condition: OnlyWhile | None = None

    def __init__(self, data: MutableMapping[str, bytes] | None = None) -> None:
        self._objects = _objects_of({} if data is None else data)
        self.url = f"memory://{id(self._objects.data):x}"

    @classmethod
    def named(cls, name: str) -> MemoryStore:
        """The store of this process that goes by `name` (made at the first call): what `memory://name` means."""
        with _gate.lock:
            store = _named.get(name)
        if store is None:
            made = cls()
            made.url = f"memory://{name}"
            with _gate.lock:
                store = _named.setdefault(name, made)
        return store

    is_local = True

    @property
    def guard(self) -> str:
        """What guards writes."""
        return "compare-and-swap, threads of this process"

    def get(self, key: str) -> Blob | None:
        """See `storage.Get`."""
        found = self._find(key)
        return None if found is None else Blob((memoryview(found[0]),), found[1], len(found[0]))

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Version = None) -> Blob | None:
        """See `storage.Get`."""
        found = self._find(key)
        if if_version is not None:
            expect_version(None if found is None else found[1], if_version, self.url, key)
        if found is None:
            return None
        return Blob(tuple(self._slice(key, found[0], wanted) for wanted in ranges), found[1], len(found[0]))

    def version(self, key: str) -> Version:
        """The version of an object, None where there is none."""
        found = self._find(key)
        return None if found is None else found[1]

    def only_while(self, condition: OnlyWhile) -> Self:
        """See `storage.Conditional`."""
        view = object.__new__(type(self))
        view.__dict__.update(self.__dict__)
        view.condition = condition
        return view

    def put(self, key: str, parts: Sequence[Buffer]) -> Version:
        """See `storage.Put`."""
        value = b"".join(parts)
        check_key(key, self.url)
        with self._objects.lock:
            self._check()
            return self._store(key, value)

    def put_if(self, key: str, parts: Sequence[Buffer], if_version: Version) -> Version:
        """See `storage.PutIf`."""
        value = b"".join(parts)
        with self._objects.lock:
            self._check()
            self._expect(key, if_version)
            return self._store(key, value)

    def erase_if(self, key: str, if_version: Version) -> None:
        """See `storage.PutIf`."""
        with self._objects.lock:
            self._check()
            self._expect(key, if_version)
            self._objects.data.pop(key, None)

    def splice(self, key: str, parts: Sequence[Part], if_version: Version) -> Version:
        """See `storage.Splice`."""
        with self._objects.lock:
            self._check()
            base = self._expect(key, if_version)
            value = b"".join(self._slice(key, base, part) if isinstance(part, ByteRange) else filled(part) for part in parts)
            return self._store(key, value)

    def erase(self, key: str) -> None:
        """See `storage.Erase`."""
        check_key(key, self.url)
        with self._objects.lock:
            self._check()
            self._objects.data.pop(key, None)
            self._objects.versions.pop(key, None)

    def erase_prefix(self, prefix: str) -> None:
        """See `storage.Erase`."""
        with self._objects.lock:
            for key in self._keys(prefix):
                self.erase(key)

    def list_prefix(self, prefix: str) -> Iterator[str]:
        """See `storage.List`; the keys of the moment of the call."""
        return iter(self._keys(prefix))

    def list_stored(self, prefix: str, limit: int) -> list[str] | None:
        """See `storage.ListStored`; the keys of the moment of the call."""
        keys = self._keys(prefix)
        return keys if len(keys) <= limit else None

    def list_dir(self, prefix: str) -> tuple[list[str], list[str]]:
        """See `storage.List`."""
        tails = [key[len(prefix) :].partition("/") for key in self._keys(prefix)]
        keys = [prefix + head for head, slash, _ in tails if not slash]
        prefixes = {prefix + head + slash for head, slash, _ in tails if slash}
        return keys, sorted(prefixes)

    def _check(self) -> None:
        if self.condition is not None:
            self.condition.check(self.version(self.condition.key))

    def _find(self, key: str) -> tuple[bytes, int] | None:
        check_key(key, self.url)
        with self._objects.lock:
            return self._objects.find(key, self.url)

    def _store(self, key: str, value: bytes) -> Version:
        self._objects.data[key] = value
        return self._objects.note(key, value)[1]

    def _expect(self, key: str, if_version: Version) -> bytes:
        """The bytes of the version asked for (none for "absent"; `storage.ANY` is every version); VersionChangedError."""
        found = self._find(key)
        expect_version(None if found is None else found[1], if_version, self.url, key)
        return b"" if found is None else found[0]

    def _slice(self, key: str, value: bytes, wanted: ByteRange) -> memoryview:
        try:
            start, stop = wanted.resolve(len(value))
        except ValueError as cause:
            raise ByteRangeError(
                "range outside the object", store=self.url, key=key, expected=wanted, got=f"{len(value)} bytes"
            ) from cause
        return memoryview(value)[start:stop]

    def _keys(self, prefix: str) -> list[str]:
        check_prefix(prefix, self.url)
        with self._objects.lock:
            return sorted(key for key in self._objects.data if key.startswith(prefix))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MemoryStore) and self._objects is other._objects

    def __hash__(self) -> int:
        return hash(id(self._objects))

    def __repr__(self) -> str:
        return f"MemoryStore({self.url!r}, {len(self._objects.data)} objects)"

    def __reduce__(self) -> NoReturn:
        raise CapabilityError(
            "a memory store lives in one process and cannot be pickled",
            store=self.url,
            hint="Use a directory to share an array between processes",
        )


def _objects_of(data: MutableMapping[str, bytes]) -> _DictState:
    """The shared state of a dict; it refers to the dict, so that no other dict has its id while the state lives."""
    with _gate.lock:
        found = _shared.get(id(data))
        if found is None:
            found = _shared[id(data)] = _DictState(data)
        return found
