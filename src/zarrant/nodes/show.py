"""How nodes look: summaries, trees, and a drawing of the chunk and shard grid for notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from zarrant.geometry.grid import ChunkGrid
from zarrant.limits import human
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.ops.members import Child, reason
from zarrant.storage import Capabilities, access_of

SIDE = 180
MAX_LINES = 48
"""Grid lines drawn along a side; more would be a grey box."""


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


def array_html(array: Shown, grid: ChunkGrid) -> str:
    """The summary as a table, next to a drawing of the last two dimensions with shard and chunk borders."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{_escaped(str(k))}</th><td>{_escaped(str(v))}</td></tr>" for k, v in array.info.items()
    )
    return f"<div style='display:flex;gap:1em;align-items:center'><table>{rows}</table>{grid_svg(array, grid)}</div>"


def grid_svg(array: Shown, grid: ChunkGrid) -> str:
    """The last two dimensions of the array as SVG: thin lines between chunks, thick ones between stored objects."""
    shape = (1, 1, *array.shape)[-2:]
    if 0 in shape:
        return ""
    scale = SIDE / max(shape)
    height, width = (max(8.0, length * scale) for length in shape)
    pieces = ChunkGrid.regular(array.shape, array.chunks) if array.shards else grid
    lines = _grid_lines(shape, pieces, (height, width), "#9bb", 0.5) if array.shards else ""
    lines += _grid_lines(shape, grid, (height, width), "#345", 1.2)
    frame = f"<rect x='0' y='0' width='{width:.1f}' height='{height:.1f}' fill='#e8f1f2' stroke='#345' stroke-width='1.5'/>"
    box = f"viewBox='-4 -4 {width + 8:.1f} {height + 8:.1f}' width='{width + 8:.0f}' height='{height + 8:.0f}'"
    label = f"chunk grid, last two of {len(array.shape)} dimensions"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' {box} role='img' aria-label='{label}'><title>{label}</title>"
    return f"{head}{frame}{lines}</svg>"


def _grid_lines(shape: Sequence[int], grid: ChunkGrid, size: tuple[float, float], colour: str, stroke: float) -> str:
    height, width = size
    out = []
    for axis, dimension in enumerate((None, None, *grid.dimensions)[-2:]):
        if dimension is None or dimension.n_chunks > MAX_LINES:
            continue
        for chunk in range(1, dimension.n_chunks):
            at = dimension.start(chunk) * size[axis] / shape[axis]
            ends = (0.0, at, width, at) if axis == 0 else (at, 0.0, at, height)
            out.append(
                "<line x1='{:.1f}' y1='{:.1f}' x2='{:.1f}' y2='{:.1f}'".format(*ends)
                + f" stroke='{colour}' stroke-width='{stroke}'/>"
            )
    return "".join(out)


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


def group_html(tree: str) -> str:
    """A tree in a notebook."""
    return f"<pre>{_escaped(tree)}</pre>"


def _escaped(text: str) -> str:
    from html import escape  # takes 1.5 ms, and is for notebooks only

    return escape(text)
