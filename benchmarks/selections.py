"""Jobs that read, or write, parts of an array other than one box: planes, every so many elements, lists of indices, points, crops.

Each library is asked by the call that it has for that. Where it has none, the box around all of it is read, and NumPy takes the
elements from there, or puts them there before it is written again. Every result is compared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import arrays
from benchmarks.jobs import Bench, read_back, seconds
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
            if not np.array_equal(found, self.bench.data[_in_numpy(phase, key)]):
                return f"the wrong elements of {phase}"
        return None

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class Assignments(Selections):
    """Several of each kind written, one call for each, to an array that is stored. What is named twice gets one value."""

    phases: tuple[str, ...] = ("steps", "outer", "points")

    def __init__(self, bench: Bench, peer: Peer, count: int, subchunk: int | None = None) -> None:
        super().__init__(bench, peer, count, subchunk)
        self.expected, self.turn = bench.data.copy(), 0
        self.values: list[Any] = []

    def reset(self, phase: str) -> None:
        if not (self.path / "c").exists():
            self.handle.write(self.bench.whole, self.expected)
        self.turn += 1
        self.values = [self.bench.data[_in_numpy(phase, key)] + np.uint16(self.turn) for key in self.asked[phase]]
        for key, values in zip(self.asked[phase], self.values, strict=True):
            self.expected[_in_numpy(phase, key)] = values

    def run(self, phase: str) -> float:
        return seconds(lambda: self._write(phase))

    def _write(self, phase: str) -> None:
        kind = phase if phase in ("outer", "points") else "basic"
        for key, values in zip(self.asked[phase], self.values, strict=True):
            assign(self.handle, kind, key, values, self.bench.shape)

    def problem(self, phase: str) -> str | None:
        return read_back(self.bench.referee(self.peer), self.path, self.expected, self.bench.out)


def _in_numpy(phase: str, key: Any) -> Any:
    """The key as NumPy takes it."""
    return np.ix_(*key) if phase == "outer" else key


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
    region, inside = _around(kind, key, shape)
    around = np.empty([side.stop - side.start for side in region], np.uint16)
    handle.read(region, around)
    return around[inside]


def assign(handle: Handle, kind: str, key: Any, values: Any, shape: tuple[int, ...]) -> None:
    """Write values to what an index expression selects; `kind` as of `select`."""
    own = getattr(handle, "assign", None)
    if own is not None:
        own(kind, key, values)
        return
    region, inside = _around(kind, key, shape)
    around = np.empty([side.stop - side.start for side in region], np.uint16)
    handle.read(region, around)
    around[inside] = values
    handle.write(region, around)


def _around(kind: str, key: Any, shape: tuple[int, ...]) -> tuple[Region, Any]:
    """The box around all that is selected, and where in it that is."""
    ends = [_ends(part, extent) for part, extent in zip(key, shape, strict=True)]
    region: Region = tuple(slice(first, last + 1) for first, last in ends)
    if kind == "basic":
        return region, tuple(slice(None, None, part.step) for part in key)
    inside = tuple(part - first for part, (first, _) in zip(key, ends, strict=True))
    return region, _in_numpy(kind, inside)


def _ends(part: Any, extent: int) -> tuple[int, int]:
    """The first and the last index."""
    indices = range(*part.indices(extent)) if isinstance(part, slice) else part
    return int(min(indices)), int(max(indices))
