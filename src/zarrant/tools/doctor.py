"""What `zarrant doctor` reports: versions, kernels, the options in force, and what several writers may rely on at an address.

In: a path, a URL, or nothing. Out: a plain dict. Of a directory it says the type of the mount and the locks that are chosen for
it, and nothing is written: whether those locks exclude other writers is probed by the first write. A service is tried out
(`stores.probe`, both probes) and measured, with objects of its own that are erased again.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from zarrant import __version__, kernels
from zarrant.config import config
from zarrant.errors import OptionError
from zarrant.run.pool import available_cpus, available_memory
from zarrant.storage import Capabilities, capabilities, guard_of, url_of
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.probe import probe
from zarrant.stores.resolve import resolve_store
from zarrant.tools import describe
from zarrant.tools.measure import measure

PEERS = ("numcodecs", "ml_dtypes", "nibabel", "tifffile", "imageio", "zarr", "tensorstore", "zarrs", "obstore")

WHOLE = "a reader finds an object as it was or as it is, never a part of it"
UPDATES = "of updates of one chunk, shard or metadata by any number of writers none is lost"
KILLED = "a writer that is killed leaves what was there, or what it wrote"
WHOLE_CHUNKS = "of whole chunks that are stored at the same time the last one stays"
UNGUARDED = "writers with synchronizer=None, and other software that does not use this guard, can undo updates"
ONE_WRITER = "updates of one chunk, shard or metadata by several writers can be lost: one at a time may write"


def examine(path: str | None = None, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The facts that a report of a problem should have.

    `path` may be a URL, with its `storage_options`. Then `["path"]["safe"]` says whether several writers may share the place,
    `scope` who they may be, `promises` what they may rely on, and `exceptions` on what not.

    >>> sorted(examine())
    ['config', 'cpus', 'kernels', 'memory', 'packages', 'path', 'python', 'version']
    """
    sources = config.sources
    return {
        "version": __version__,
        "python": platform.python_version(),
        "packages": {"numpy": np.__version__, **{name: found for name in PEERS if (found := _version(name))}},
        "cpus": available_cpus(),
        "memory": available_memory(),
        "kernels": {"active": kernels.active(), "missing": kernels.missing(), "libraries": kernels.libraries()},
        "config": {name: {"value": value, "source": sources[name][1]} for name, value in asdict(config.config).items()},
        "path": None if path is None else _place(path, storage_options or {}),
    }


def _place(path: str, storage_options: Mapping[str, Any]) -> dict[str, Any]:
    store, prefix = resolve_store(path, storage_options)
    if isinstance(store, FilesystemStore):
        safe = store.file_system["locking"] != "none"
        facts = {"path": path, "guard": store.guard, **_sharing(safe, _FILES[store.file_system["locking"]])}
        return {**facts, **store.file_system, "direct_io": describe.direct_io(store.root)}
    can = capabilities(store)
    if can.one_process:
        message = "not a path, nor the URL of a store that others reach"
        raise OptionError(message, field="path", expected="a directory or a URL", got=path)
    found = _service(store, prefix, can)
    return {"path": path, "guard": guard_of(store), **found}  # in this order: the guard says what the probe found


_FILES = {
    "os": "any process or machine that mounts this file system, where its locks reach the other mounts",
    "lockfile": "any process or machine whose Zarrant uses lock files too",
    "none": "threads of this process",
}


def _service(store: Any, prefix: str, can: Capabilities) -> dict[str, Any]:
    """What a service says of itself by what it does. Only blocking calls are made."""
    if not can.sync_calls.put or not can.sync_calls.get:
        shared = {**_sharing(True, "readers only: nothing is written"), "promises": [WHOLE], "exceptions": [], "read_only": True}
        return {**shared, "probe": None, "latency": None, "throughput": None}
    report = probe(store, prefix.rstrip("/")) if can.put_if else None
    safe = can.lock or (report is not None and report.problem is None)
    scope = "any process or machine that writes to this service" if safe else "one writer"
    shared = _sharing(safe, scope)
    if report is None:
        shared["problem"] = f"{url_of(store)} has no locks, and no compare-and-swap"
    elif report.problem is not None:
        shared["problem"] = report.problem
    return {**shared, "probe": None if report is None else report.to_json(), **measure(store, prefix)}


def _sharing(safe: bool, scope: str) -> dict[str, Any]:
    promises, exceptions = ([WHOLE, KILLED, UPDATES], [WHOLE_CHUNKS, UNGUARDED]) if safe else ([WHOLE, KILLED], [ONE_WRITER])
    return {"safe": safe, "scope": scope, "promises": promises, "exceptions": exceptions, "problem": None}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
