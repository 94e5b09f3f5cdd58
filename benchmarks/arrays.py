"""The arrays: their values, their shapes for a given size, their zarr.json.

Pure but for `create`, which makes a directory with the document that every peer then opens.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.base import Values

Shape = tuple[int, ...]
Codec = dict[str, Any]

FULL: Shape = (512, 1024, 1024)
"""1 GiB of uint16."""
LARGEST_OBJECT, SMALLEST_OBJECT = 256, 64

BYTES: Codec = {"name": "bytes", "configuration": {"endian": "little"}}
CODECS: dict[str, list[Codec]] = {
    "raw": [],
    "zstd 1": [{"name": "zstd", "configuration": {"level": 1, "checksum": False}}],
    "gzip 5": [{"name": "gzip", "configuration": {"level": 5}}],
    "blosc": [
        {
            "name": "blosc",
            "configuration": {"cname": "blosclz", "clevel": 9, "shuffle": "bitshuffle", "typesize": 2, "blocksize": 0},
        }
    ],
}


def values(shape: Shape) -> Values:
    """x + y²/32 + z³ mod 2¹⁶: neither constant nor noise; zstd 1 keeps about two thirds of it, Blosc an eighth."""
    x, y, z = (np.arange(extent, dtype=np.int64) for extent in shape)
    plane = (y * y // 32)[:, None] + z**3
    out = np.empty(shape, np.uint16)
    for index in range(shape[0]):
        np.copyto(out[index], (x[index] + plane) & 0xFFFF, casting="unsafe")
    return out


def shape_of(size: int) -> Shape:
    """The full shape, its longest axis halved until it takes at most `size` bytes; no axis below one smallest object."""
    shape = list(FULL)
    while 2 * int(np.prod(shape)) > size and max(shape) > SMALLEST_OBJECT:
        shape[shape.index(max(shape))] //= 2
    return tuple(shape)


def object_edge(shape: Shape) -> int:
    """The edge of a stored object: 256 at full size, smaller where that would leave one object along an axis."""
    return max(SMALLEST_OBJECT, min(LARGEST_OBJECT, min(shape) // 2))


def document(shape: Shape, chunk: Shape, codec: Sequence[Codec], subchunk: Shape | None = None) -> dict[str, Any]:
    """A zarr.json: chunks of `chunk`, or shards of it with subchunks."""
    codecs = [BYTES, *codec]
    if subchunk is not None:
        index = [BYTES, {"name": "crc32c"}]
        inner = {"chunk_shape": list(subchunk), "codecs": codecs, "index_codecs": index, "index_location": "end"}
        codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": "uint16",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0,
        "codecs": codecs,
        "attributes": {},
    }


def create(path: Path, contents: dict[str, Any]) -> None:
    """Make an array without chunks, in place of what was there."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(contents, indent=2), encoding="utf-8")


def stored_bytes(path: Path) -> int:
    """The size of all stored objects, without the document."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")
