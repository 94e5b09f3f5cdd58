"""Scenes: the arrays on which writers race, are killed and are read, and what they hold after update k.

Pure. Elements are uint64: every one tells the update that wrote it, k · 2²⁰, plus 20 bits which are noise in even updates and 0
in odd ones, so that compressed objects grow and shrink by turns. Update 0 fills the array, the others write `region`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import arrays
from benchmarks.peers.base import Region

Values = npt.NDArray[np.uint64]
GOLDEN, MASK = 0x9E3779B97F4A7C15, 2**64 - 1


@dataclass(frozen=True)
class Scene:
    """One stored object of 3 × 3 cells of `edge`², which are subchunks of a shard, or nothing to a plain chunk."""

    edge: int
    sharded: bool

    @property
    def shape(self) -> tuple[int, int]:
        return 3 * self.edge, 3 * self.edge

    @property
    def whole(self) -> Region:
        return span(0, 3 * self.edge), span(0, 3 * self.edge)

    @property
    def region(self) -> Region:
        """What updates write: one cell wholly, three in part; five are never written after update 0."""
        return (span(self.edge // 4, 7 * self.edge // 4),) * 2

    @property
    def parts(self) -> list[Region]:
        """What is read, by turns."""
        e = self.edge
        return [self.whole, (span(0, e), span(0, e)), (span(e // 2, 3 * e // 2), span(e // 2, 5 * e // 2)), (span(e, 2 * e),) * 2]

    @property
    def document(self) -> dict[str, Any]:
        """A plain chunk is stored as it is; subchunks are compressed, so that they have another length in each update."""
        if self.sharded:
            return document(self.shape, self.shape, "zstd 1", (self.edge, self.edge))
        return document(self.shape, self.shape, "raw")

    def version(self, k: int, part: Region | None = None) -> Values:
        """The elements of update k, in a part of the array."""
        rows, columns = (np.arange(side.start, side.stop, dtype=np.uint64) for side in part or self.whole)
        out = np.full((rows.size, columns.size), k << 20, np.uint64)
        if k % 2 == 0:
            number = rows[:, None] * np.uint64(3 * self.edge) + columns + np.uint64(1)
            out |= number * np.uint64((2 * k + 1) * GOLDEN & MASK) >> np.uint64(44)
        return out

    def after(self, k: int) -> Values:
        """The whole array after update k."""
        out = self.version(0)
        out[self.region] = self.version(k, self.region)
        return out

    def pieces(self, part: Region) -> list[Region]:
        """A part, cut where what is stored together ends: at subchunks, or nowhere."""
        if not self.sharded:
            return [part]
        cells = [span(i * self.edge, (i + 1) * self.edge) for i in range(3)]
        return [cut for row in cells for column in cells if (cut := common(part, (row, column))) is not None]


def span(start: int, stop: int) -> slice:
    return slice(start, stop)


def common(a: Region, b: Region) -> Region | None:
    """The intersection of two regions; None where there is none."""
    out = tuple(slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True))
    return out if all(side.start < side.stop for side in out) else None


def inside(part: Region, piece: Region) -> Region:
    """A piece of a part, in coordinates of that part."""
    return tuple(slice(p.start - w.start, p.stop - w.start) for p, w in zip(piece, part, strict=True))


def document(shape: tuple[int, ...], chunk: tuple[int, ...], codec: str, subchunk: tuple[int, ...] | None = None) -> dict[str, Any]:
    """A zarr.json of uint64."""
    return arrays.document(shape, chunk, arrays.CODECS[codec], subchunk) | {"data_type": "uint64"}


def shown(scene: Scene, found: Values, part: Region, oldest: int, newest: int) -> list[int]:
    """The update that each piece of what was read shows, of oldest..newest; raises Wrong where it shows none."""
    seen = []
    for piece in scene.pieces(part):
        values, written = found[inside(part, piece)], common(piece, scene.region)
        expected = scene.version(0, piece)
        if written is not None:
            k = int(values[inside(piece, written)].flat[0]) >> 20
            if not oldest <= k <= newest:
                raise Wrong("the fill value" if not values.any() else "an older update" if k < oldest else "no update")
            expected[inside(piece, written)] = scene.version(k, written)
            seen.append(k)
        if not np.array_equal(values, expected):
            raise Wrong("values that are not of one update" if values.any() else "the fill value")
    return seen


class Wrong(Exception):
    """What was read was never there."""
