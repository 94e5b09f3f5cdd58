"""Put a Zarr hierarchy into one file (`zarrant archive`): a zip archive as OME's RFC-9 requires.

In: an address, and the path of an archive. Out: the archive, which appears whole or not at all, and a dict with its size. Objects
are copied as they are, nothing is decoded. What others write to the source meanwhile may be in the archive or not, object by
object.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from zarrant.errors import CapabilityError, NodeExistsError, NodeNotFoundError, OptionError
from zarrant.metadata.node import MAIN
from zarrant.nodes.open import open as open_node
from zarrant.progress import Meter, Report
from zarrant.storage import capabilities
from zarrant.stores.resolve import ARCHIVES, resolve_store
from zarrant.stores.zip_store import ZipStore


def archive(
    source: Any,
    target: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    report: Report | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Put an array, or a group and all below it, into a zip archive.

    Args:
        source: the address of an array or a group.
        target: the path of the archive, which ends with `.ozx` (V3 only) or `.zip`.
        overwrite: replace the file that is there, when the new archive is done.
        report: is called with a `Progress` after each object. Its bytes are those of objects that are archived: how many there
            will be is known at the end only.
        storage_options: options of the store of the source, as `open` takes them.

    Returns:
        The `address` of the archive, how many `objects` it holds, and its `bytes`.

    Raises:
        NodeNotFoundError: there is no array or group.
        NodeExistsError: the file is there, without `overwrite`; or a directory is.
        OptionError: another ending, or metadata of V2 for `.ozx`.
        CapabilityError: the source cannot be listed.

    >>> import tempfile, zarrant
    >>> path = tempfile.mkdtemp() + "/image.ozx"
    >>> objects = {}
    >>> _ = zarrant.create_array(objects, data=range(6), chunks=2)
    >>> archive(objects, path)["objects"]
    4
    >>> zarrant.open_array(path, mode="r")[3:5].tolist()
    [3, 4]
    """
    path = os.fspath(target)
    store, prefix = _checked(source, path, overwrite, storage_options)
    names = [key[len(prefix) :] for key in store.list_prefix(prefix)]
    meter = Meter(0, len(names), report)
    with ZipStore(path, "w") as made:
        for name in names:
            blob = store.get(prefix + name)
            if blob is not None:
                made.put(name, blob.data)
            meter.add(0 if blob is None else blob.size, 1)
    return {"address": path, "objects": len(names), "bytes": os.path.getsize(path)}


def _checked(source: Any, path: str, overwrite: bool, storage_options: Mapping[str, Any] | None) -> tuple[Any, str]:
    """The store and the prefix of the source, where all can be done that is asked for."""
    if not path.lower().endswith(ARCHIVES):
        raise OptionError("not a name of an archive", field="target", expected=" or ".join(f"*{end}" for end in ARCHIVES), got=path)
    if os.path.isdir(path) or (os.path.exists(path) and not overwrite):
        hint = "This is a directory" if os.path.isdir(path) else "--overwrite (overwrite=True) replaces it"
        raise NodeExistsError("something is here already", path=path, hint=hint)
    store, prefix = resolve_store(source, storage_options)
    able = capabilities(store)
    if not (able.sync_calls.list and able.sync_calls.get):
        raise CapabilityError("the source cannot be listed", store=repr(store), expected=["get", "list"], got=list(able.names))
    if not any(store.get_ranges(prefix + name, ()) for name in MAIN):
        raise NodeNotFoundError("no array or group to put into an archive", store=repr(store), path=prefix or "/")
    if path.lower().endswith(".ozx") and open_node(source, mode="r", storage_options=storage_options).metadata.zarr_format != 3:
        hint = "Convert it (`zarrant convert`), or name the archive .zip"
        raise OptionError("an .ozx archive holds Zarr V3", field="target", expected="zarr.json", got="V2", hint=hint)
    return store, prefix
