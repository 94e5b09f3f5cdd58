"""Check arrays: find what is wrong with the stored objects, without changing anything.

In: an address. Out: a `CheckReport`, a list of findings and some sums. Metadata are parsed, the size and the index of every
stored object are checked, and with `deep` every subchunk is decoded and its checksum compared. Keys that belong to no chunk,
and files that killed writers left, are found by listing. What cannot be read is a finding too: the check ends early only if
there is no node at the address. Severities: "error" (values are lost or cannot be read), "warning" (a file or key without use,
which does no harm), "note" (worth knowing; an array with notes only is clean).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zarrant.config import config as defaults
from zarrant.errors import NodeNotFoundError, UnknownExtensionError, ZarrantError
from zarrant.metadata.json_text import dump_json
from zarrant.metadata.node import COPIES_V2, NAMES, key_of
from zarrant.metadata.v3 import ArrayMetadata, GroupMetadata, NodeMetadata, parse
from zarrant.nodes.base import LIST, READ, NodeContext
from zarrant.ops.batching import batch_size
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.consolidated import entry
from zarrant.ops.consolidated_v2 import entries_of, stored_entries
from zarrant.ops.node import find_metadata, metadata_key
from zarrant.ops.verify import Verified, in_grid, verify
from zarrant.progress import Meter, Report
from zarrant.requests import Op, fetch_one, gather_outcomes, list_dir, list_prefix
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.resolve import resolve_store
from zarrant.tools.ledger import ledger_key
from zarrant.tools.leftovers import Leftover, leftovers
from zarrant.tools.next_steps import Step, next_steps

SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `repairable`: `repair` has a safe way to mend it.

    Kinds: "metadata" (broken), "consolidated" (copies of metadata that are not in step), "unsupported" (a type, codec or format
    that this library does not have: nothing need be wrong with it, and nothing of it was looked at); of a stored object "index",
    "entry", "overlap", "subchunk", "chunk", "size", "unreadable", "dead bytes"; of a key "orphan" (a chunk outside of the grid),
    "stranger" (no chunk key); of a file "lock" and "temp file". "unfinished": a copy to here was broken off.
    """

    kind: str
    key: str
    chunk: tuple[int, ...] | None
    detail: str
    severity: str
    repairable: bool


@dataclass
class Found:
    """An array that could be opened, and what is found in it, as `inspect` fills it in."""

    array: BoundArray
    context: NodeContext
    findings: list[Finding] = field(default_factory=list)
    examined: dict[tuple[int, ...], Verified] = field(default_factory=dict)
    orphans: list[tuple[int, ...]] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found, in order of keys, and how much it looked at."""

    address: str
    deep: bool
    arrays: int
    objects: int
    stored_bytes: int
    dead_bytes: int
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        """Nothing is wrong; notes do not count."""
        return all(finding.severity == "note" for finding in self.findings)

    @property
    def next_steps(self) -> list[Step]:
        """What to do about it."""
        return next_steps(self.findings, self.address.removeprefix("file://"), self.deep)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"clean": self.clean, **asdict(self), "next": [step._asdict() for step in self.next_steps]}


def check(
    address: Any, *, deep: bool = False, report: Report | None = None, storage_options: Mapping[str, Any] | None = None
) -> CheckReport:
    """Check an array, or all arrays below a group; `report` hears of progress in bytes of values.

    NodeNotFoundError where nothing is.

    >>> import zarrant
    >>> objects = {}
    >>> a = zarrant.create_array(objects, data=[1, 2, 3, 4], chunks=2)
    >>> check(objects).clean
    True
    >>> objects["c/0"] = b"torn"
    >>> [finding.kind for finding in check(objects, deep=True).findings]
    ['chunk']
    """
    context = open_context(address, storage_options)
    arrays, broken = search(context, context.path)
    broken += [finding_of(leftover) for leftover in outside(context, arrays)]
    broken += _unfinished(context)
    return summed(context, deep, arrays, broken, sum(inspect(found, deep, report) for found in arrays))


def open_context(address: Any, storage_options: Mapping[str, Any] | None = None) -> NodeContext:
    """Where an address leads, whatever is there."""
    options = defaults.config
    files = {"locking": options.locking, "lock_timeout": options.lock_timeout}
    store, prefix = resolve_store(address, storage_options, files)
    return NodeContext(store, prefix.rstrip("/"), options)


def search(context: NodeContext, path: str) -> tuple[list[Found], list[Finding]]:
    """The arrays at and below a path, and the metadata that are broken or not supported; NodeNotFoundError where nothing is."""
    arrays: list[Found] = []
    broken: list[Finding] = []
    documents: dict[str, NodeMetadata] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        key = metadata_key(path)
        try:
            document = context.run(find_metadata(path), READ)
            if document is not None:
                documents[path] = document
            if isinstance(document, ArrayMetadata):
                broken += [Finding("metadata", key, None, note, "note", False) for note in document.notes]
                arrays.append(Found(BoundArray.from_metadata(path, document, context.options), context))
            elif document is not None:
                below = context.run(list_dir(f"{path}/" if path else ""), LIST)[1]
                waiting += [directory.rstrip("/") for directory in reversed(below)]
        except UnknownExtensionError as error:
            broken.append(Finding("unsupported", error.key or key, None, f"not supported here: {_message(error)}", "note", False))
        except ZarrantError as error:
            broken.append(Finding("metadata", error.key or key, None, _message(error), "error", False))
        else:
            if document is None and path == context.path:
                raise NodeNotFoundError("no array or group here", store=context.url, key=key)
    return arrays, [*broken, *_stale_copies(documents), *_stale_copies_v2(context, documents)]


def _stale_copies(documents: Mapping[str, NodeMetadata]) -> Iterator[Finding]:
    """Groups whose consolidated metadata are not those of the nodes below: other libraries read nothing else."""
    for group, document in documents.items():
        copies = document.consolidated if isinstance(document, GroupMetadata) else None
        if copies is None:
            continue
        prefix = f"{group}/" if group else ""
        found = {
            path[len(prefix) :]: entry(node)
            for path, node in documents.items()
            if path.startswith(prefix) and node.zarr_format == document.zarr_format
        }
        found.pop("", None)  # the root, which every path starts with
        wrong = sorted(path for path in {*found, *copies} if path not in found or found[path] != _copied(copies.get(path)))
        if wrong:
            yield _stale(metadata_key(group), wrong)


def _stale_copies_v2(context: NodeContext, documents: Mapping[str, NodeMetadata]) -> Iterator[Finding]:
    """The same of Zarr V2, whose copies are an object of their own, and by key."""
    for group, document in documents.items():
        if isinstance(document, ArrayMetadata) or document.v2 is None:
            continue
        copies = context.run(stored_entries(group), READ)
        if copies is None:
            continue
        prefix = f"{group}/" if group else ""
        nodes = {path[len(prefix) :]: node for path, node in documents.items() if path.startswith(prefix) and node.v2 is not None}
        found = entries_of({**nodes, "": document})
        wrong = sorted(key for key in {*found, *copies} if found.get(key) != copies.get(key))
        if wrong:
            yield _stale(key_of(group, COPIES_V2), wrong)


def _stale(key: str, wrong: Sequence[str]) -> Finding:
    detail = f"consolidated metadata are not those of {', '.join(wrong[:3])}{' and more' * (len(wrong) > 3)}"
    return Finding("consolidated", key, None, f"{detail}: consolidate_metadata() makes them anew", "error", False)


def _copied(copy: Any) -> Any:
    """A copy in the words in which it would be written here; None where it is none."""
    try:
        return entry(parse(dump_json(copy)))
    except ZarrantError:
        return None


def inspect(found: Found, deep: bool, report: Report | None = None) -> int:
    """Fill in what is found in one array; returns the number of stored objects."""
    array, context = found.array, found.context
    prefix = array.key_of("")
    metadata = {key_of(array.prefix, name) for name in NAMES}
    chunks = []
    for key in context.run(list_prefix(prefix), LIST):
        chunk = array.key_encoding.parse(key[len(prefix) :], len(array.shape))
        if key in metadata or key == ledger_key(prefix):
            continue
        if chunk is None:
            found.findings.append(Finding("stranger", key, None, "is not the key of a chunk of this array", "warning", False))
        elif in_grid(array, chunk):
            chunks.append(chunk)
        else:
            detail = f"lies outside of the grid of {array.grid.grid_shape} chunks"
            found.orphans.append(chunk)
            found.findings.append(Finding("orphan", key, chunk, detail, "warning", True))
    meter = Meter(sum(_nbytes(array, chunk) for chunk in chunks), len(chunks), report)
    cost = max((batch_size(array, array.chunk_shape(chunk)).cost for chunk in chunks), default=0)
    outcomes = context.run(gather_outcomes((_examined(array, chunk, deep, meter) for chunk in chunks), cost), READ)
    for chunk, outcome in zip(chunks, outcomes, strict=True):
        found.findings += _judge(found, chunk, outcome)
    if isinstance(context.store, FilesystemStore):
        found.leftovers += leftovers(context.store, prefix)
        found.findings += map(finding_of, found.leftovers)
    return len(chunks)


def outside(context: NodeContext, arrays: Sequence[Found]) -> list[Leftover]:
    """The leftovers that are in none of the arrays: those of groups, and of what is broken."""
    if not isinstance(context.store, FilesystemStore):
        return []
    return list(leftovers(context.store, f"{context.path}/" if context.path else "", {found.array.key_of("") for found in arrays}))


def _unfinished(context: NodeContext) -> Iterator[Finding]:
    key = ledger_key(context.path)
    if context.run(fetch_one(key, ()), READ) is not None:
        yield Finding("unfinished", key, None, "a copy to this place was broken off: not all elements are here", "error", False)


def finding_of(leftover: Leftover) -> Finding:
    """A leftover as a finding."""
    kind = "temp file" if leftover.is_temp else "lock"
    return Finding(kind, leftover.name, None, leftover.detail, "warning", leftover.removable)


def _examined(array: BoundArray, chunk: tuple[int, ...], deep: bool, meter: Meter) -> Op[Verified]:
    try:
        return (yield from verify(array, chunk, deep))
    finally:
        meter.add(_nbytes(array, chunk), 1)


def _nbytes(array: BoundArray, chunk: tuple[int, ...]) -> int:
    """The decoded bytes of a chunk."""
    return array.prepared_for(array.chunk_shape(chunk)).spec.nbytes


def _judge(found: Found, chunk: tuple[int, ...], outcome: Verified | Exception) -> Iterator[Finding]:
    """The findings on one stored object."""
    key = found.array.chunk_key(chunk)
    if isinstance(outcome, Exception):
        yield Finding("unreadable", key, chunk, _message(outcome), "error", False)
        return
    found.examined[chunk] = outcome
    for problem in outcome.problems:
        yield Finding(problem.kind, key, chunk, problem.detail, "error", problem.repairable)
    if outcome.dead > found.array.options.codec.dead_limit * outcome.stored:
        yield Finding("dead bytes", key, chunk, f"{outcome.dead} of {outcome.stored} bytes: compact() frees them", "note", False)


def summed(context: NodeContext, deep: bool, arrays: Sequence[Found], broken: Sequence[Finding], objects: int) -> CheckReport:
    """The report on all arrays."""
    findings = [*broken, *(finding for found in arrays for finding in found.findings)]
    examined = [each for found in arrays for each in found.examined.values()]
    return CheckReport(
        address=context.url,
        deep=deep,
        arrays=len(arrays),
        objects=objects,
        stored_bytes=sum(each.stored for each in examined),
        dead_bytes=sum(each.dead for each in examined),
        findings=tuple(sorted(findings, key=lambda finding: (finding.key, SEVERITIES.index(finding.severity)))),
    )


def _message(error: Exception) -> str:
    return str(error) or type(error).__name__
