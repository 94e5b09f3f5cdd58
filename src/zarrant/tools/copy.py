"""Copy arrays and groups: to other chunks, shards and codecs, from and to files that are not Zarr, here or on a cluster.

In: two addresses and the properties of the new arrays. Out: a dict that says what was written or, with `dry_run`, what would be.
The work is done by the engine of `units`. Without a `scheduler` a copy that fails or is interrupted removes what it wrote. With one
it keeps a `ledger`, and the same call goes on where it was broken off. What it may replace is decided in `targets`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import DataTypeError, NodeExistsError, NodeNotFoundError, OptionError
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.layouts import auto_chunks
from zarrant.nodes.array import Array
from zarrant.nodes.base import READ
from zarrant.nodes.group import Group
from zarrant.nodes.layout_of import layout_of, retyped
from zarrant.nodes.open import create_array, create_group, open_group
from zarrant.nodes.open import open as open_node
from zarrant.nodes.unreadable import UnreadableNode
from zarrant.ops.consolidated import keeps_copies
from zarrant.ops.node import find_metadata
from zarrant.progress import Meter, Report
from zarrant.storage import capabilities
from zarrant.stores.resolve import ARCHIVES
from zarrant.tools import units
from zarrant.tools.check import open_context
from zarrant.tools.convert import Source, is_foreign, no_series, open_foreign, suffix_of
from zarrant.tools.describe import array_facts, local_path, stored
from zarrant.tools.ledger import Ledger
from zarrant.tools.targets import NpyFile, Options, check_apart, check_npy, check_replaceable
from zarrant.tools.units import Part, Unit, blocks, part_of, perform

KEEP = "keep"
"""Stands for what the source has."""


def copy(
    source: str,
    target: str,
    *,
    chunks: Any = KEEP,
    shards: Any = KEEP,
    compressors: Any = KEEP,
    dtype: Any = None,
    zarr_format: int = 3,
    series: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    scheduler: str | None = None,
    workers: int | None = None,
    block_bytes: int | None = None,
    report: Report | None = None,
    source_options: Options = None,
    storage_options: Options = None,
) -> dict[str, Any]:
    """Copy `source` to `target` and say what was written.

    Args:
        source: an array, a group, or a file ending with .npy, .nii, .nii.gz, .tif, .tiff, .png, .jpg, .jpeg or .bmp. It must not
            change meanwhile. Of a group all nodes below it are copied, with attributes and, where it has them, consolidated
            metadata; `chunks`, `shards` and `dtype` are for arrays alone.
        target: where an array or group is to be, or a file ending with .npy.
        chunks: their shape; "keep" takes the source's, or 1 MiB where it has none. shards: likewise; None for none.
        compressors: codecs as in `create_array`; "keep" takes the source's filters, serializer and compressors. Where all of the
            layout stays, or all but the shards, encoded chunks are moved without being decoded: what is broken in them stays so.
        dtype: another data type, to which every value of the source's can be cast without loss.
        zarr_format: of the copy, 3 or 2.
        series: which one of a TIFF, from 0 on; it must be said where there are several.
        overwrite: replace the array, or the file, that is there.
        scheduler: None, "none", "local" or an address. None: a copy that is broken off takes away what it wrote. With the others
            it keeps a ledger at the target, and the same call goes on: "none" in this process, "local" on a Dask cluster of
            processes of this machine, or the address of the scheduler of a cluster, whose workers must reach both addresses.
        workers: blocks at a time; left out, as many as CPUs within 512 MiB, or as the cluster has threads.
        block_bytes: of values in a block, which is in memory of a worker: 64 MiB if left out. It is one stored object at least.
        report: is called with a `Progress` after each unit.
        source_options: options of the store of the source. storage_options: those of the target.

    Raises NodeNotFoundError, NodeExistsError, OptionError, ShapeError, DataTypeError before anything is written; ConflictError
    where an unfinished copy of another source is at the target.
    """
    check_apart(source, target, source_options, storage_options)
    with open_tree(source, source_options, series) as tree:
        plans = _plans(tree, {"chunks": chunks, "shards": shards, "compressors": compressors}, dtype, zarr_format)
        place = Destination(str(target), storage_options, overwrite, zarr_format, block_bytes or units.BLOCK_BYTES)
        job = [*tree.identity, place.block_bytes]
        ledger = None if scheduler is None else Ledger(place.address, storage_options, job, again=overwrite)
        _check_target(tree, place, plans, ledger)
        facts = _facts(tree, place, plans, dry_run)
        if not dry_run:
            facts |= _perform(tree, place, plans, ledger, scheduler or "none", workers, report)
    return facts


# ── the source ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Tree:
    """What is copied, by path below the address: one array at "", or a group and what is below it, parents first."""

    address: str
    arrays: Mapping[str, Source]
    identity: Any
    groups: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Attributes of each group."""
    consolidated: Sequence[str] = ()
    """The groups that keep copies of metadata."""
    nodes: Mapping[str, Array[Any]] = field(default_factory=dict)
    """The arrays, where they are Zarr."""


@contextmanager
def open_tree(address: str, storage_options: Options = None, series: int | None = None) -> Iterator[Tree]:
    """The source at an address, while the context lasts."""
    path = local_path(address)
    if path is not None and is_foreign(path) and not path.is_dir():
        with open_foreign(path, series) as opened:
            state = path.stat()
            identity = [str(path.resolve()), state.st_size, state.st_mtime_ns, *([] if series is None else [series])]
            yield Tree(str(address), {"": opened}, identity)
        return
    if series is not None:
        raise no_series(address, series)
    if path is not None and path.is_file() and path.suffix.lower() not in ARCHIVES:
        raise OptionError(
            "not a kind of file that is read",
            field="source",
            expected="an array or group, .zip, .ozx, .npy, .nii, .nii.gz, .tif, .png or .jpg",
            got=str(path),
        )
    if path is not None and not path.exists():
        raise NodeNotFoundError("nothing to copy here", path=str(path))
    yield _tree(address, open_node(address, mode="r", storage_options=storage_options), storage_options)


def _tree(address: str, root: Array[Any] | Group[Any], storage_options: Options) -> Tree:
    nodes: dict[str, Array[Any]] = {}
    groups: dict[str, Mapping[str, Any]] = {}
    consolidated: list[str] = []
    waiting: list[tuple[str, Any]] = [("", root)]
    context = open_context(address, storage_options)
    for path, node in waiting:
        if isinstance(node, UnreadableNode):
            raise node.error
        if isinstance(node, Array):
            nodes[path] = node
            continue
        groups[path] = dict(node.metadata.attributes)
        if context.run(keeps_copies(node.path, node.metadata), READ):
            consolidated.append(path)
        waiting += [(f"{path}/{name}".lstrip("/"), member) for name, member in sorted(node.members().items())]
    arrays = {path: _source_of(node) for path, node in nodes.items()}
    identity = [root.url, *([path, repr(node.metadata.version)] for path, node in nodes.items())]
    return Tree(str(address), arrays, identity, groups, consolidated, nodes)


def _source_of(array: Array[Any]) -> Source:
    options = {**layout_of(array), "attributes": array.metadata.attributes}
    return Source("array", array.shape, array.dtype, array.retrieve_array_subset, array.write_unit, options)


def array_options(source: Source, dtype: np.dtype[Any], chunks: Any, shards: Any, compressors: Any) -> dict[str, Any]:
    """The keywords of `create_array`: the layout of the source, changed as the caller asks."""
    options = dict(source.options)
    given = {"chunks": chunks, "shards": shards, "compressors": compressors}
    options |= {name: value for name, value in given.items() if not _is_kept(value)}
    if source.kind == "array" and "compressors" not in options:
        raise OptionError(
            "the source's codecs cannot be kept: nested shards, or codecs around shards",
            field="compressors",
            got=KEEP,
            hint="Name a compressor",
        )
    if dtype != source.dtype:
        options = retyped(options, dtype)
    return {"dtype": dtype, **options, "shape": source.shape}


# ── the plan ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Plan:
    """How one array is copied: its data type and the keywords of `create_array`."""

    source: Source
    dtype: np.dtype[Any]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Destination:
    """Where the copy goes."""

    address: str
    storage_options: Options
    overwrite: bool
    zarr_format: int
    block_bytes: int

    @property
    def is_npy(self) -> bool:
        """Whether it is a .npy file."""
        path = local_path(self.address)
        return path is not None and suffix_of(path) == ".npy"

    def named(self, path: str) -> dict[str, Any]:
        """Where a node below is."""
        return {"name": path or None, "storage_options": self.storage_options}


def _plans(tree: Tree, layout: Mapping[str, Any], dtype: Any, zarr_format: int) -> dict[str, Plan]:
    """The plan of each array; typed errors for what cannot be."""
    for name, value in {**layout, "dtype": dtype}.items():
        if tree.groups and name != "compressors" and value is not None and not _is_kept(value):
            raise OptionError("is for one array, not for a group", field=name, expected="the arrays' own", got=str(value))
    plans = {}
    for path, source in tree.arrays.items():
        wanted = from_numpy(dtype).numpy if dtype is not None else source.dtype
        if not np.can_cast(source.dtype, wanted, "safe"):
            expected = f"a type that holds all of {source.dtype}"
            raise DataTypeError("a copy keeps every value", field="dtype", expected=expected, got=str(wanted))
        options = {**array_options(source, wanted, **layout), "zarr_format": zarr_format}
        if zarr_format == 2:
            options.pop("chunk_key_encoding", None)  # V2 has names of its own, and so has a new array
        plans[path] = Plan(source, wanted, options)
    return plans


def _check_target(tree: Tree, place: Destination, plans: Mapping[str, Plan], ledger: Ledger | None) -> None:
    """Every reason not to write, found before anything is written."""
    path = local_path(place.address)
    if place.is_npy:
        assert path is not None, "a .npy file has a path"
        if tree.groups or ledger is not None:
            what = "a group" if tree.groups else "a copy that can go on"
            raise OptionError(f"a .npy file cannot hold {what}", field="target", expected="an address", got=place.address)
        return check_npy(path, plans[""].dtype, place.overwrite)
    if path is not None and is_foreign(path):
        raise OptionError(
            "not a kind of file that is written",
            field="target",
            expected="an array, or a name ending with .npy",
            got=str(path),
        )
    for plan in plans.values():
        create_array({}, **plan.options)
    if ledger is not None and ledger.there:
        return None
    if path is not None:
        return check_replaceable(path, place.overwrite and not tree.groups)
    context = open_context(place.address, place.storage_options)
    if not (place.overwrite and not tree.groups) and context.run(find_metadata(context.path), READ) is not None:
        raise NodeExistsError("an array or group is here already", store=context.url, key=context.path)
    return None


def _facts(tree: Tree, place: Destination, plans: Mapping[str, Plan], dry_run: bool) -> dict[str, Any]:
    """What is copied, and what that makes."""
    if tree.groups:
        size = sum(source.nbytes for source in tree.arrays.values())
        about = {"kind": "group", "groups": len(tree.groups), "arrays": len(tree.arrays), "bytes": size}
        made = {path: _target_facts(plan, False) for path, plan in plans.items()}
        total = sum(each["bytes"] for each in made.values()), sum(each["stored_objects"] for each in made.values())
        target = {"kind": "group", "bytes": total[0], "stored_objects": total[1], "arrays": made}
    else:
        source = plans[""].source
        about = {"kind": source.kind, "data_type": str(source.dtype), "shape": list(source.shape), "bytes": source.nbytes}
        target = {"kind": "npy" if place.is_npy else "array", **_target_facts(plans[""], place.is_npy)}
    addresses = {"address": tree.address}, {"address": place.address}
    return {"dry_run": dry_run, "source": addresses[0] | about, "target": addresses[1] | target}


def _target_facts(plan: Plan, is_npy: bool) -> dict[str, Any]:
    if is_npy:
        shape = plan.source.shape
        nbytes = math.prod(shape) * plan.dtype.itemsize
        return {"data_type": str(plan.dtype), "shape": list(shape), "bytes": nbytes, "stored_objects": 1}
    facts = array_facts(create_array({}, **plan.options))
    names = ("data_type", "shape", "bytes", "chunks", "shards", "stored_objects", "codecs", "dimension_names")
    return {name: facts[name] for name in names}


# ── the work ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _perform(
    tree: Tree,
    place: Destination,
    plans: Mapping[str, Plan],
    ledger: Ledger | None,
    scheduler: str,
    workers: int | None,
    report: Report | None,
) -> dict[str, Any]:
    new = NewNodes(tree, place, plans, ledger)
    try:
        new.begin()
        every = [Unit(number, *block) for number, part in enumerate(new.parts) for block in new.blocks(part)]
        done = _done(new.parts, every, ledger, scheduler, workers, report)
        new.finish()
    except BaseException:  # Ctrl-C too
        new.break_off()
        raise
    return {**done, **_stored(place, done.pop("bytes"))}


def _done(
    parts: list[Part], every: list[Unit], ledger: Ledger | None, scheduler: str, workers: int | None, report: Report | None
) -> dict[str, Any]:
    """Do all units that are not done; what there is to say of them."""
    sizes = [unit.box.size * parts[unit.part].dtype.itemsize for unit in every]
    before = set() if ledger is None else ledger.done
    nbytes, chunks = sum(sizes[number] for number in before), sum(every[number].chunks for number in before)
    meter = Meter(sum(sizes), sum(unit.chunks for unit in every), report, done=(nbytes, chunks))
    todo = [(number, unit) for number, unit in enumerate(every) if number not in before]
    fill = 0 if ledger is None else len(ledger.fill)
    with closing(perform(parts, todo, workers, scheduler)) as ended:
        for number, is_fill in ended:
            fill += is_fill
            if ledger is not None:
                ledger.add(number, is_fill)
            meter.add(sizes[number], every[number].chunks)
    progress = meter.progress
    return {
        "seconds": round(progress.seconds, 3),
        "megabytes_per_second": round(progress.megabytes_per_second, 1),
        "units": len(every),
        "resumed": len(before),
        "fill_units": fill,
        "moved": all(part.old is not None for part in parts),
        "bytes": progress.bytes_total,
    }


def _stored(place: Destination, nbytes: int) -> dict[str, Any]:
    """Files and bytes at a path; elsewhere to count them would be a listing with a size of each object."""
    path = local_path(place.address)
    if path is None:
        return {"stored_files": None, "stored_bytes": None, "ratio": None}
    files, size = (1, path.stat().st_size) if path.is_file() else stored(path)
    return {"stored_files": files, "stored_bytes": size, "ratio": round(nbytes / size, 2) if size else None}


class NewNodes:
    """The nodes that a copy makes: begun, and then finished or broken off."""

    def __init__(self, tree: Tree, place: Destination, plans: Mapping[str, Plan], ledger: Ledger | None) -> None:
        self._tree, self._place, self._plans, self._ledger = tree, place, plans, ledger
        self._begun = False
        self.parts: list[Part] = []

    def begin(self) -> None:
        """Create every node. The ledger comes first, so that a kill leaves nothing that is not known to be unfinished."""
        ledger, place = self._ledger, self._place
        if ledger is not None and not place.overwrite:
            ledger.write()
        if place.is_npy:
            self.parts = [self._npy(self._plans[""])]
            return
        exists: dict[str, Any] = {"if_exists": "error"} if ledger is None else {"if_exists": "match"}
        if place.overwrite and not (ledger is not None and ledger.there):
            exists = {"if_exists": "overwrite"}
        for path, attributes in self._tree.groups.items():
            options = {"attributes": attributes, "zarr_format": place.zarr_format}
            create_group(place.address, **options, **exists, **place.named(path))  # type: ignore[arg-type]
            self._begun = True
        for path, plan in self._plans.items():
            keywords: dict[str, Any] = {**plan.options, **exists, **place.named(path)}
            new: Array[Any] = create_array(place.address, **keywords)
            self._begun = True
            if ledger is not None and capabilities(new.store).sync:
                new = new.with_config(durability="fsync")  # a unit that is noted lasts
            self.parts.append(part_of(plan.source, self._tree.nodes.get(path), new, plan.dtype))
        if ledger is not None and place.overwrite:  # replacing what was there took the ledger along
            ledger.write()

    def _npy(self, plan: Plan) -> Part:
        path = local_path(self._place.address)
        assert path is not None, "a .npy file has a path"
        return Part(plan.source, NpyFile(path, plan.source.shape, plan.dtype, self._place.overwrite), plan.dtype)

    def blocks(self, part: Part) -> Iterator[tuple[int, Any]]:
        """Blocks of whole stored objects of a target."""
        unit = part.target.unit or part.source.unit or auto_chunks(part.source.shape, part.dtype.itemsize)
        return blocks(ChunkGrid.regular(part.source.shape, unit), part.dtype.itemsize, self._place.block_bytes)

    def finish(self) -> None:
        """All values are stored."""
        for part in self.parts:
            part.target.finish()
        for path in reversed(self._tree.consolidated):
            open_group(self._place.address, mode="r+", **self._place.named(path)).consolidate_metadata()
        if self._ledger is not None:
            self._ledger.erase()

    def break_off(self) -> None:
        """Keep what is done where there is a ledger, else take away what was written."""
        if self._ledger is not None:
            self._ledger.write() if self._begun or self._ledger.there else self._ledger.erase()
            return
        for part in self.parts:
            part.target.abandon()
        if self._begun and self._tree.groups:
            open_group(self._place.address, mode="r+", storage_options=self._place.storage_options).delete()


def _is_kept(value: Any) -> bool:
    return isinstance(value, str) and value == KEEP
