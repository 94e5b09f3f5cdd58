"""The nodes below a group, as the store lists them; where it cannot list, as consolidated metadata name them.

In: the path of a group. Out: its children with their metadata, or with the reason why these cannot be read. Metadata are
always those of the nodes themselves: copies may be older, and are asked for names only.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from zarrant.errors import CapabilityError, NodeNotFoundError, ZarrantError
from zarrant.metadata.node import MAIN_V2, V3, key_of
from zarrant.metadata.v3 import ArrayMetadata, GroupMetadata, NodeMetadata
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.consolidated_v2 import stored_entries
from zarrant.ops.node import METADATA_BYTES, find_metadata, paths_above, read_metadata
from zarrant.requests import Op, ReadRequest, fetch, gather_outcomes, list_dir


class Child(NamedTuple):
    """A node below another: its name, its path and its metadata, or (then `metadata` is None) why that cannot be read."""

    name: str
    path: str
    metadata: NodeMetadata | None
    error: ZarrantError | None = None


def list_children(path: str) -> Op[list[Child]]:
    """The nodes directly below a group, sorted by name; other directories are passed over.

    A node whose metadata cannot be read is among them with its error.
    """
    prefix = f"{path}/" if path else ""
    paths = yield from _paths_below(path, prefix)
    outcomes = yield from gather_outcomes((read_metadata(child) for child in paths), METADATA_BYTES)
    children = []
    for child, outcome in zip(paths, outcomes, strict=True):
        name = child[len(prefix) :]
        if isinstance(outcome, ZarrantError):
            if not isinstance(outcome, NodeNotFoundError):
                children.append(Child(name, child, None, outcome))
        elif isinstance(outcome, Exception):
            raise outcome
        else:
            children.append(Child(name, child, outcome))
    return children


def list_names(path: str) -> Op[list[str]]:
    """The names of the nodes directly below a group, those of `list_children`; no metadata are read where the store can look."""
    prefix = f"{path}/" if path else ""
    waiting = paths = yield from _paths_below(path, prefix)
    found: set[str] = set()
    for name in (V3, *MAIN_V2):
        if not waiting:
            break
        outcomes = yield from fetch([ReadRequest(key_of(child, name), ()) for child in waiting])
        # What cannot be read is there, and cannot be opened.
        found.update(child for child, outcome in zip(waiting, outcomes, strict=True) if outcome is not None)
        waiting = [child for child, outcome in zip(waiting, outcomes, strict=True) if outcome is None]
    return [child[len(prefix) :] for child in paths if child in found]


def _paths_below(path: str, prefix: str) -> Op[list[str]]:
    """The paths directly below a group at which there may be nodes."""
    try:
        _, directories = yield from list_dir(prefix)
    except CapabilityError as error:
        for group in [path, *reversed(paths_above(path))]:
            below = yield from _copied_paths(group)
            if below is not None:
                found = {f"{group}/{node}" if group else node for node in below}
                return sorted({child for child in found if child.startswith(prefix) and "/" not in child[len(prefix) :]})
        error.hint = "Where a group has consolidated metadata, its nodes are found without a listing"
        raise
    return [directory[:-1] for directory in directories]


def _copied_paths(group: str) -> Op[Collection[str] | None]:
    """The paths of the nodes below a group of which it keeps copies; None where it keeps none."""
    metadata = yield from find_metadata(group)
    if not isinstance(metadata, GroupMetadata):
        return None
    if metadata.v2 is None:
        return None if metadata.consolidated is None else metadata.consolidated.keys()
    entries = yield from stored_entries(group)
    if entries is None:
        return None
    return [node for node, _, name in (key.rpartition("/") for key in entries) if name in MAIN_V2 and node]


def walk(path: str) -> Op[list[Child]]:
    """Every node below a group, depth first. A group that cannot be listed has its error with it."""
    found: list[Child] = []
    waiting = (yield from list_children(path))[::-1]
    while waiting:
        child = waiting.pop()
        if isinstance(child.metadata, GroupMetadata):
            try:
                waiting += (yield from list_children(child.path))[::-1]
            except ZarrantError as error:
                child = child._replace(error=error)
        found.append(child)
    return found


def count_nodes(path: str, max_depth: int | None) -> Op[int]:
    """The number of nodes below a group, down to `max_depth` levels below its children (None: all)."""
    if max_depth == 0:
        return len((yield from list_names(path)))
    depth = path.count("/") + 1 if path else 0
    levels = [child.path.count("/") - depth for child in (yield from walk(path))]
    return sum(max_depth is None or level <= max_depth for level in levels)


def reason(child: Child) -> ZarrantError | None:
    """Why a node cannot be opened, without asking its store; None where it can be."""
    if child.error is None and isinstance(child.metadata, ArrayMetadata):
        try:
            BoundArray.from_metadata(child.path, child.metadata, OpOptions())
        except ZarrantError as error:
            return error
    return child.error
