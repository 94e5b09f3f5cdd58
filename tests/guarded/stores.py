"""Stores on files with less than they have: without locks and conditions, and one that stops its process right before a write."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

from zarrant.stores.local.store import FilesystemStore

KINDS = ("plain", "conditional")


class PlainFiles:
    """Files without locks, versions and conditions: what a mapper of another library can do."""

    METHODS = ("get", "get_ranges", "put", "erase", "erase_prefix", "list_prefix", "list_dir")

    def __init__(self, root: str) -> None:
        self.root, self.url = root, f"plain://{root}"
        self.files = FilesystemStore(root, locking="none")
        for name in self.METHODS:
            setattr(self, name, getattr(self.files, name))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.root,)


class ConditionalFiles(PlainFiles):
    """Files that can compare and swap, as an object store; without locks."""

    METHODS = (*PlainFiles.METHODS, "put_if", "erase_if", "version")

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.files = FilesystemStore(root)
        for name in self.METHODS:
            setattr(self, name, getattr(self.files, name))


def store_of(kind: str, root: Path | str) -> PlainFiles:
    return (PlainFiles if kind == "plain" else ConditionalFiles)(str(root))


def stopping(store: PlainFiles, key: str) -> PlainFiles:
    """The store, whose process stops right before it writes a key: after every check, and once."""
    armed = [True]

    def stop_before(method: Any) -> Any:
        def call(name: str, *args: Any) -> Any:
            if armed and name == key:
                armed.clear()
                print("stopped", flush=True)
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
            return method(name, *args)

        return call

    for method in ("put", "put_if"):
        if hasattr(store, method):
            setattr(store, method, stop_before(getattr(store, method)))
    return store
