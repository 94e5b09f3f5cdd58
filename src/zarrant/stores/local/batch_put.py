"""Many whole objects stored with one call.

In: a tree of files, and pairs of a key and the parts of its new object. Out: for each its version or its error.

Where they must last, their data reach the disk together, then they take their places. Every draft is written, and the system
told to begin with it, before the first is waited for: then one commit of the file system's journal serves for all of them.
64 objects on ext4: 3 commits, where each draft is synced before the next is written 61. The locks of all are held meanwhile,
taken in sorted order, as a hold takes them. Who finds one taken does not wait for it with others in hand: that object comes
afterwards, by itself.

Else one thread at a time stores its objects, one after the other, while others encode theirs. Two that both make small files
lose more time to handing the interpreter to each other than they save: 512 chunks of 4 KiB on tmpfs took 106 µs each, take 68.
Where a file takes long the others do not wait for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, NamedTuple, Protocol

from zarrant.errors import LockTimeout, ReentrantLockError
from zarrant.locking.local import Gate, remake_after_fork
from zarrant.storage import Buffer, Part, Version
from zarrant.stores.local.descriptors import free_descriptors, none_left
from zarrant.stores.local.syscalls import FileLayer
from zarrant.stores.local.temp_files import FileVersion, MakeDraft, Naming, TempFile, look, stamp

PATIENCE = 0.002
"""Seconds to wait for a lock while others are held: about as long as one small update keeps it."""

MOST, MOST_OF_ALL = 64, 256
"""Objects written at once, by one thread and by all together: each needs two descriptors, and many systems give 1,024.

Where few are left it is fewer objects: those of a thread may take half of what is left, and none where that is not enough.
"""

TURN = 0.02
"""Seconds that a thread waits until another has stored its objects; it goes on in any case."""

_turn = Gate()

Item = tuple[str, Sequence[Buffer]]


class Tree(Protocol):
    """What is needed of `stores.local.objects.FileTree`."""

    files: FileLayer
    url: str
    durability: str

    def put(self, key: str, parts: Sequence[Buffer]) -> Version: ...
    def _path(self, key: str) -> str: ...
    def _slot(self, path: str, patience: float | None = None) -> AbstractContextManager[MakeDraft]: ...
    def _write_parts(self, fd: int, parts: Sequence[Part], base: Any) -> None: ...
    def _remove_previous(self, path: str) -> None: ...
    def _check(self) -> None: ...
    def _done(self, paths: Sequence[str]) -> None: ...


class _Written(NamedTuple):
    """A draft that has yet to take its place."""

    path: str
    draft: TempFile
    version: FileVersion
    replaces: bool


def put_together(tree: Tree, items: Sequence[Item]) -> list[Version | Exception]:
    """Store the objects; an error is that of one object, and says nothing of the others."""
    outcomes: list[Version | Exception] = []
    while (low := len(outcomes)) < len(items):
        if tree.durability == "fsync":
            with _room.for_some(min(MOST, len(items) - low)) as count:
                outcomes += _Batch(tree, items[low : low + count]).store_together()
        else:
            outcomes += _Batch(tree, items[low : low + MOST]).store_in_turn()
    return outcomes


class _Room:
    """How many objects all threads may write at once; a thread for which there is no room writes one after the other."""

    def __init__(self) -> None:
        self.remake()
        remake_after_fork(self)

    def remake(self) -> None:
        self.lock, self.left = threading.Lock(), MOST_OF_ALL

    @contextmanager
    def for_some(self, wanted: int) -> Iterator[int]:
        with self.lock:
            free = free_descriptors() - 2 * (MOST_OF_ALL - self.left)  # some of these are open by now, and counted twice
            taken = max(0, min(wanted, self.left, free // 4))
            self.left -= taken
        try:
            yield max(1, taken)
        finally:
            with self.lock:
                self.left += taken


_room = _Room()


_WAITS: Any = object()
"""In place of an outcome: this object is stored by itself."""


class _Batch:
    def __init__(self, tree: Tree, items: Sequence[Item]) -> None:
        self.tree, self.items = tree, items
        self.outcomes: list[Version | Exception] = [_WAITS] * len(items)
        self.written: dict[int, _Written] = {}
        self.stack = ExitStack()

    def store_in_turn(self) -> list[Version | Exception]:
        mine = _turn.lock.acquire(timeout=TURN)
        try:
            self.each(range(len(self.items)), self.alone)
        finally:
            if mine:
                _turn.lock.release()
        return self.outcomes

    def store_together(self) -> list[Version | Exception]:
        with self.stack:
            self.write_all()
            self.each(list(self.written), self.sync)
            self.each(list(self.written), self.publish)
            self.settle()
        self.each([number for number, outcome in enumerate(self.outcomes) if outcome is _WAITS], self.alone)
        return self.outcomes

    def write_all(self) -> None:
        """Write the drafts, as many as there are descriptors for: the others wait until these are given back."""
        for number in sorted(range(len(self.items)), key=lambda number: self.items[number][0]):
            try:
                with Naming("write", self.tree.url, self.items[number][0]):
                    self.write(number)
            except Exception as error:
                if none_left(error):
                    return
                self._fail(number, error)

    def each(self, numbers: Sequence[int], act: Callable[[int], None]) -> None:
        for number in numbers:
            try:
                with Naming("write", self.tree.url, self.items[number][0]):
                    act(number)
            except Exception as error:
                self._fail(number, error)

    def _fail(self, number: int, error: Exception) -> None:
        self.outcomes[number] = error
        self.written.pop(number, None)

    def write(self, number: int) -> None:
        key, parts = self.items[number]
        tree, path = self.tree, self.tree._path(key)
        try:
            make_draft = self.stack.enter_context(tree._slot(path, PATIENCE))
        except (LockTimeout, ReentrantLockError):  # the latter: the same key again, or one that the caller has
            return
        tree._check()
        draft = make_draft(-1)
        for _ in range(2):  # an interrupt can keep one call from doing it; else the other does nothing
            self.stack.callback(draft.release)
        tree._write_parts(draft.fd, parts, None)
        old = look(tree.files, path)
        self.written[number] = _Written(path, draft, stamp(tree.files, draft.fd, old), old is not None)
        with suppress(OSError):
            tree.files.begin_sync(draft.fd)

    def sync(self, number: int) -> None:
        self.tree.files.sync(self.written[number].draft.fd)  # safety: data syncs

    def publish(self, number: int) -> None:
        path, draft, version, replaces = self.written[number]
        draft.publish(path, version)
        if replaces:
            self.tree._remove_previous(path)
        self.outcomes[number] = version

    def settle(self) -> None:
        try:
            with Naming("write", self.tree.url, None):
                self.tree._done([each.path for each in self.written.values()])
        except Exception as error:
            for number in list(self.written):
                self._fail(number, error)

    def alone(self, number: int) -> None:
        self.outcomes[number] = self.tree.put(*self.items[number])
