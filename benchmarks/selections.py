"""Jobs that read parts of an array other than one box: planes, every so many elements, lists of indices, points, many crops.

Each library is asked by the call that it has for that. Where it has none, the box around all of it is read, and NumPy takes the
elements from there. Every result is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import arrays
from benchmarks.jobs import Bench, seconds
from benchmarks.peers.base import Handle, Peer, Region

CACHE_BYTES = 2**30
Found = list[Any]


class Selections:
    """Several of each kind, one call for each; `together` in one call for all, `kept` again with a cache of decoded chunks."""

    phases: tuple[str, ...] = ("planes", "steps", "outer", "points", "together", "kept")
    POINTS = 5000

    def __init__(self, bench: Bench, peer: Peer, count: int, subchunk: int | None = None) -> None:
        self.bench, self.peer, self.count = bench, peer, count
        self.path = bench.directory / peer.name
        side = arrays.object_edge(bench.shape)
        chunk, inner = ((min(64, side),) * 3, None) if subchunk is None else ((side,) * 3, (subchunk,) * 3)
        arrays.create(self.path, arrays.document(bench.shape, chunk, arrays.CODECS["zstd 1"], inner))
        self.operations = bench.data.size // subchunk**3 if subchunk else 0
        self.asked = {phase: [_selection(phase, bench.shape, self.POINTS, n) for n in range(count)] for phase in self.phases}
        self.handle: Handle = peer.open(self.path)
        self.found: Found = []

    def reset(self, phase: str) -> None:
        if not (self.path / "c").exists():
            self.handle.write(self.bench.whole, self.bench.data)
        self.found = []
        opened = getattr(self.peer, "open_kept", None)
        self.kept = self.handle if phase != "kept" or opened is None else opened(self.path, CACHE_BYTES)
        if phase == "kept":
            self._read(phase)

    def run(self, phase: str) -> float:
        return seconds(lambda: self._read(phase))

    def _read(self, phase: str) -> None:
        together = getattr(self.handle, "read_many", None)
        if phase == "together" and together is not None:
            self.found = together(self.asked[phase])
        else:
            kind = phase if phase in ("outer", "points") else "basic"
            handle = self.kept if phase == "kept" else self.handle
            self.found = [select(handle, kind, key, self.bench.shape) for key in self.asked[phase]]

    def problem(self, phase: str) -> str | None:
        for key, found in zip(self.asked[phase], self.found, strict=True):
            if not np.array_equal(found, self.bench.data[np.ix_(*key) if phase == "outer" else key]):
                return f"the wrong elements of {phase}"
        return None

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


def _selection(phase: str, shape: tuple[int, ...], points: int, number: int) -> Any:
    """An index expression."""
    dice = np.random.default_rng(number)
    if phase == "planes":
        axis = number % len(shape)
        at = int(dice.integers(shape[axis]))
        return tuple(slice(at, at + 1) if each == axis else slice(0, extent) for each, extent in enumerate(shape))
    if phase == "steps":
        return tuple(slice(number % 3, extent, step) for extent, step in zip(shape, (7, 3, 1), strict=True))
    if phase == "outer":
        return tuple(np.sort(dice.choice(extent, min(60, extent), replace=False)) for extent in shape)
    if phase == "points":
        return tuple(np.append(0, dice.integers(0, extent, points - 1)) for extent in shape)
    edge = min(64, min(shape) // 2)
    return tuple(slice(c, c + edge) for c in dice.integers(0, [extent - edge + 1 for extent in shape]).tolist())


def select(handle: Handle, kind: str, key: Any, shape: tuple[int, ...]) -> Any:
    """What an index expression selects; `kind` is basic (slices), outer (lists of indices) or points."""
    own = getattr(handle, "select", None)
    if own is not None:
        return own(kind, key)
    ends = [_ends(part, extent) for part, extent in zip(key, shape, strict=True)]
    region: Region = tuple(slice(first, last + 1) for first, last in ends)
    around = np.empty([last + 1 - first for first, last in ends], np.uint16)
    handle.read(region, around)
    if kind == "basic":
        return around[tuple(slice(None, None, part.step) for part in key)]
    inside = [part - first for part, (first, _) in zip(key, ends, strict=True)]
    return around[np.ix_(*inside) if kind == "outer" else tuple(inside)]


def _ends(part: Any, extent: int) -> tuple[int, int]:
    """The first and the last index."""
    indices = range(*part.indices(extent)) if isinstance(part, slice) else part
    return int(min(indices)), int(max(indices))
