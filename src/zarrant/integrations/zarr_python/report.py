"""Whether zarr-python reads and writes through Zarrant here, and which way it takes at a place: for `zarrant doctor`.

In: nothing, or an address with its options. Out: a plain dict. Nothing is written.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from itertools import islice
from typing import Any

import zarr
from zarr.core.config import config

from zarrant.config import config as defaults
from zarrant.errors import NodeReplacedError, UnknownExtensionError
from zarrant.integrations.zarr_python import PATH, TESTED, VARIABLE, status
from zarrant.integrations.zarr_python.arrays import find_array
from zarrant.nodes.base import READ, NodeContext
from zarrant.storage import as_store, capabilities
from zarrant.stores.resolve import resolve_store
from zarrant.stores.zarr_store import as_zarr_store

MAX_ARRAYS = 100
"""Arrays of a group that are looked at."""

OBJECT_STORES = ("s3://", "s3a://", "gs://", "gcs://", "az://", "abfs://", "abfss://", "adl://", "azure://")
WAYS = {
    "native": "Zarrant's own operations",
    "locked": "zarr-python's codecs, each object under a lock of Zarrant",
    "compare-and-swap": "zarr-python's codecs, each object by compare-and-swap",
    "in turns": "cannot promise: zarr-python's codecs; threads of one process take turns, other processes can undo updates",
    "read only": "nothing is written here",
}
"""What each way means."""


def facts(address: str | None = None, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The state of the integration; with an address, what happens there once it is on.

    >>> found = facts()
    >>> found["enabled"], found["place"]
    (False, None)
    """
    said = status()
    installed = any(
        each.value == PATH.replace(".CodecPipeline", ":CodecPipeline") for each in entry_points(group="zarr.codec_pipeline")
    )
    return {
        "version": zarr.__version__,
        "tested": TESTED,
        "enabled": said["enabled"],
        "by": _source() if said["enabled"] else None,
        "pipeline": said["pipeline"],
        "strict": said["strict"],
        "entry_point": installed,
        "problem": _problem(said["enabled"], installed),
        "place": None if address is None else place(address, storage_options),
    }


def _source() -> str:
    """What has switched it on."""
    return f"the variable {VARIABLE}" if os.environ.get(VARIABLE) == PATH else "zarr-python's configuration"


def _problem(enabled: bool, installed: bool) -> str | None:
    """What to do where it is off, or would not be found."""
    if enabled and not installed:
        return "the installed package does not name the pipeline (entry points): worker processes need zarrant to be installed"
    if enabled:
        return None
    other = (
        "" if config.get("codec_pipeline.path") == config.defaults[0]["codec_pipeline"]["path"] else " (another pipeline is set)"
    )
    return f"off{other}: writers of zarr-python can undo each other's updates. export {VARIABLE}={PATH}"


def place(address: str, storage_options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The way that writes take at an address: of any array (`way`), and of each array that is there (`arrays`)."""
    store, prefix = resolve_store(address, storage_options)
    able = capabilities(store)
    guarded = able.get and (able.lock or able.put_if)
    way = "read only" if not able.put else "in turns" if not guarded else "locked" if able.lock else "compare-and-swap"
    arrays: dict[str, dict[str, str]] = {}
    if guarded and able.put:
        for path, metadata in islice(_arrays(store, prefix.rstrip("/")), MAX_ARRAYS):
            arrays[path or "/"] = _way_of(store, path, metadata, way)
    hint = None
    if address.lower().startswith(OBJECT_STORES):
        hint = (
            "A URL as text is opened by zarr-python through fsspec, where nothing keeps writers apart: "
            "open it as zarr.storage.ObjectStore, or as zarrant.integrations.zarr_python.Store(url)"
        )
    return {
        "way": way,
        "meaning": WAYS[way],
        "safe": way != "in turns",
        "known": "native" if guarded else way,
        "arrays": arrays,
        "hint": hint,
    }


def _arrays(store: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, metadata of zarr-python) of an array, or of those of a group."""
    try:
        node = zarr.open(as_zarr_store(store, read_only=True), path=path, mode="r")
    except (FileNotFoundError, KeyError):
        return
    if isinstance(node, zarr.Array):
        yield path, node.metadata
        return
    for _, member in node.members(max_depth=None):
        if isinstance(member, zarr.Array):
            yield member.path, member.metadata


def _way_of(store: Any, path: str, metadata: Any, otherwise: str) -> dict[str, str]:
    """The way of one array, and why it is not native."""
    context = NodeContext(as_store(store), path, defaults.config)
    try:
        found = context.run(find_array(store, path, metadata), READ)
    except (NodeReplacedError, UnknownExtensionError) as error:
        return {"way": otherwise, "why": str(error)}
    return {"way": otherwise, "why": found.why} if found.bound is None else {"way": "native", "why": ""}
