"""How nodes look: summaries and trees as text, and as HTML for notebooks, which takes its colours from the page around it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from zarrant.geometry.grid import ChunkGrid
from zarrant.limits import human
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.nodes import picture
from zarrant.nodes.picture import escaped
from zarrant.ops.members import Child, reason
from zarrant.storage import Capabilities, access_of

MAX_COUNTED, MAX_NODES = 1_000_000, 200
"""Stored objects of which the chunks are counted, and nodes of a group that are shown, in a notebook."""
TABLE = "border-collapse:collapse;width:auto;margin:0;color:inherit;background:transparent;font-size:13px;max-width:620px"
FIELD = "text-align:left;vertical-align:top;padding:3px 14px 3px 0;border:none;background:transparent;overflow-wrap:anywhere"
LIST, ITEM = "list-style:none;margin:0;padding-left:22px", "margin:0"


Shown: TypeAlias = Any
"""An `ArrayProperties`: it shows itself with what is here, so it cannot be named here."""


class Info(dict[str, Any]):
    """A summary as a dict that prints as aligned lines."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:{width}} : {value}" for name, value in self.items())


def array_info(array: Shown, able: Capabilities) -> Info:
    """What there is to know of an array without reading its chunks."""
    info = Info(
        {
            "Type": type(array).__name__,
            "Address": array.url,
            "Data type": array.metadata.data_type.name,
            "Fill value": array.fill_value,
            "Shape": array.shape,
            "Bytes": f"{array.nbytes} ({human(array.nbytes)})",
            "Chunks": array.chunks,
            "Shards": array.shards,
            "Stored objects": f"{array.nchunks} (grid {array.chunk_grid_shape})",
            "Codecs": " → ".join(codec_names(array.metadata)),
            "Guard": array.guard,
        }
    )
    if able.direct_io:
        info["File access"] = access_of(array.store)
    if able.file_reuse:
        info["File reuse"] = "updates rewrite files that nobody has open; readers by NFS exports and sendfile are not seen"
    if array.dimension_names:
        info["Dimensions"] = array.dimension_names
    return info


def codec_names(metadata: ArrayMetadata) -> list[str]:
    """The codecs that metadata name, those inside shards in brackets."""
    names = []
    for codec in metadata.codecs:
        inner = [item.get("name", "?") if isinstance(item, dict) else str(item) for item in codec.configuration.get("codecs", ())]
        names.append(f"{codec.name}[{' → '.join(inner)}]" if inner else codec.name)
    return names


def array_html(array: Shown, grid: ChunkGrid, sizes: Sequence[int] | None = None) -> str:
    """A table of the array, its shards and its chunks, next to a drawing of them. `sizes`: of the stored objects, where known."""
    names = ("Array", *(("Shard",) if array.shards else ()), "Chunk")
    head = "".join(f"<th style='{FIELD}'>{name}</th>" for name in ("", *names))
    rows = f"<tr>{head}</tr>" + "".join(_html_row(name, fields) for name, fields in _columns(array, grid))
    rows += "".join(_html_row(name, (text,), len(names)) for name, text in _facts(array, sizes))
    table = f"<table style='{TABLE}'><tbody>{rows}</tbody></table>"
    svg = "" if 0 in array.shape else drawing(array, grid)
    return f"<div style='display:flex;flex-wrap:wrap;gap:24px;align-items:center'>{table}{svg}</div>"


def _html_row(name: str, fields: Sequence[str], span: int = 1) -> str:
    wide = f" colspan='{span}'" if span > 1 else ""
    values = "".join(f"<td{wide} style='{FIELD}'>{escaped(field)}</td>" for field in fields)
    return f"<tr><th style='{FIELD}'>{escaped(name)}</th>{values}</tr>"


def _columns(array: Shown, grid: ChunkGrid) -> Iterator[tuple[str, list[str]]]:
    """The rows that say something of the array, of a shard and of a chunk."""
    whole = [array.shards, array.chunks] if array.shards else [array.chunks]
    chunks = math.prod(map(len, array.read_chunk_sizes)) if grid.n_chunks < MAX_COUNTED else None
    counts = [grid.n_chunks, chunks] if array.shards else [grid.n_chunks]
    itemsize = array.dtype.itemsize
    even = [shape if all(isinstance(side, int) for side in shape) else None for shape in whole]
    bytes_of = [human(math.prod(shape) * itemsize) if shape is not None else "differ" for shape in even]
    yield "Bytes", [human(array.nbytes), *bytes_of]
    yield "Shape", [_shape(array.shape), *(_shape(shape) for shape in whole)]
    yield "Count", ["", *("" if count is None else f"{count:,}" for count in counts)]


def _facts(array: Shown, sizes: Sequence[int] | None) -> Iterator[tuple[str, str]]:
    """The rows that say something of the array alone."""
    yield "Data type", f"{array.metadata.data_type.name}, fill value {array.fill_value}"
    if array.dimension_names:
        yield "Dimensions", ", ".join("–" if name is None else name for name in array.dimension_names)
    if array.metadata.codecs:
        yield "Codecs", " → ".join(codec_names(array.metadata))
    if sizes is not None:
        yield "Stored", stored_text(array, sizes)
    yield "Guard", array.guard
    yield "Address", array.url


def stored_text(array: Shown, sizes: Sequence[int]) -> str:
    """How much is stored, and how much smaller that is than the values in memory."""
    total = sum(sizes)
    ratio = f", {array.nbytes / total:.3g} : 1" if total and len(sizes) == array.nchunks else ""
    return f"{human(total)} in {len(sizes):,} of {array.nchunks:,} objects{ratio}"


def with_sizes(array: Shown, sizes: Sequence[int]) -> Info:
    """The summary of an array, with what is stored of it."""
    return Info({**array.info, "Stored": stored_text(array, sizes)})


def _shape(shape: Sequence[Any]) -> str:
    """Lengths with × between them; of chunks that differ along a dimension the shortest and the longest."""
    return " × ".join(f"{side:,}" if isinstance(side, int) else _range(side) for side in shape) or "one element"


def _range(lengths: Sequence[int | Sequence[int]]) -> str:
    """Of lengths, or of runs (length, count) of them."""
    each = [length if isinstance(length, int) else length[0] for length in lengths]
    return f"{min(each):,}–{max(each):,}"


def drawing(array: Shown, grid: ChunkGrid) -> str:
    """The array as SVG, with the borders of its shards and chunks."""
    inner = ChunkGrid.regular(array.shape, array.chunks) if array.shards else grid
    names = array.dimension_names or [None] * len(array.shape)
    axes = [
        picture.Axis(length, picture.Cut(chunks.n_chunks, chunks.start), picture.Cut(shards.n_chunks, shards.start), name or "")
        for length, chunks, shards, name in zip(array.shape, inner.dimensions, grid.dimensions, names, strict=True)
    ]
    shard = f"shard {_shape(array.shards)}: one stored object" if array.shards else None
    chunk = f"chunk {_shape(array.chunks)}".replace("chunk one", "one") + ("" if array.shards else ": one stored object")
    label = f"{_shape(array.shape)} elements, with the borders of chunks" + (" and shards" if array.shards else "")
    return picture.draw(axes, chunk, shard, label)


def group_info(group: Shown, members: Mapping[str, Any] | None = None) -> Info:
    """What there is to know of a group, and of its members where they are given."""
    info = Info({"Type": type(group).__name__, "Address": group.url, "Attributes": len(group.metadata.attributes)})
    if group.metadata.v2 is None:  # those of Zarr V2 are an object of their own
        info["Consolidated metadata"] = "yes" if group.metadata.consolidated is not None else "no"
    if members is not None:
        kinds = [getattr(member, "kind", "array" if hasattr(member, "shape") else "group") for member in members.values()]
        info["Members"] = len(members)
        info |= {f"{kind.capitalize()}s": kinds.count(kind) for kind in ("array", "group")}
        reasons = {name: member.reason for name, member in members.items() if hasattr(member, "reason")}
        if reasons:
            info["Cannot be opened"] = "; ".join(f"{name} ({reason})" for name, reason in reasons.items())
    return info


def tree_text(root: str, path: str, nodes: Sequence[Child]) -> str:
    """Nodes below `path`, depth first, as a drawn tree."""
    last = {node.path.rpartition("/")[0]: node.path for node in nodes}  # the last child of every parent
    lines, stems = [root], {path: ""}
    for node in nodes:
        parent, _, name = node.path.rpartition("/")
        ends = last[parent] == node.path
        lines.append(f"{stems[parent]}{'└── ' if ends else '├── '}{name}{_summary(node)}")
        stems[node.path] = stems[parent] + ("    " if ends else "│   ")
    return "\n".join(lines)


def _summary(node: Child) -> str:
    metadata, error = node.metadata, reason(node)
    facts = f" {metadata.shape} {metadata.data_type.name}" if isinstance(metadata, ArrayMetadata) else ""
    return facts if error is None else f"{facts} (cannot be opened: {error.message})"


def group_html(root: str, path: str, nodes: Sequence[Child]) -> str:
    """The nodes below a group as a tree that can be folded; `MAX_NODES` of them."""
    shown = nodes[:MAX_NODES]
    below: dict[str, list[Child]] = {}
    for node in shown:
        below.setdefault(node.path.rpartition("/")[0], []).append(node)
    more = len(nodes) - len(shown)
    note = f"<div style='opacity:.7'>… and {more:,} more</div>" if more else ""
    return f"<div style='line-height:1.5'>{_folder(root, '', path, below)}{note}</div>"


def _folder(name: str, facts: str, path: str, below: Mapping[str, list[Child]]) -> str:
    """A group with what is in it, open."""
    inside = "".join(f"<li style='{ITEM}'>{_html_node(child, below)}</li>" for child in below.get(path, ()))
    title = f"<summary><strong>{escaped(name)}</strong>{facts}</summary>"
    return f"<details open='open'>{title}<ul style='{LIST}'>{inside}</ul></details>"


def _html_node(node: Child, below: Mapping[str, list[Child]]) -> str:
    metadata, name = node.metadata, node.path.rpartition("/")[2]
    error = reason(node)
    facts = "" if error is None else f" <em>cannot be opened: {escaped(error.message)}</em>"
    if isinstance(metadata, ArrayMetadata):
        text = f"{_shape(metadata.shape)} {metadata.data_type.name}"
        return f"<strong>{escaped(name)}</strong> <span style='opacity:.75'>{escaped(text)}</span>{facts}"
    return _folder(name, facts, node.path, below) if metadata is not None else f"<strong>{escaped(name)}</strong>{facts}"
