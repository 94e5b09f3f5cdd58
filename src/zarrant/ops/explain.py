"""`explain`: what a read or a write of a region will read, write and lock, as a value that prints well.

In: an array, a region, and what the store and the process can do. Out: a `Plan`. The figures are those of a dry run of the real
operation (`ops/plan.py`). Of a region of very many stored objects some are looked at, of each kind, and the rest is reckoned from
those; how many there are of each kind is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np

from zarrant.codecs.protocols import VARIABLE_ELEMENT_BYTES
from zarrant.errors import OptionError
from zarrant.geometry.box import ArraySubset, as_subset
from zarrant.geometry.grid import ChunkGrid, block_indices
from zarrant.geometry.region import Box, ChunkSelections, Region, box_region
from zarrant.geometry.selection import Selection
from zarrant.limits import human
from zarrant.ops.advice import Advice, advise
from zarrant.ops.batching import largest_batch
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import ArrayHandle
from zarrant.ops.indexing import understood
from zarrant.ops.plan import Log, Read, Write, log_read, log_write
from zarrant.requests import Op

MAX_LOOKED_AT = 2_048
"""Stored objects of which each is looked at; a look takes 0.1 ms on files, and a request of a service."""
SAMPLE = 64
"""Of more objects so many of each kind are looked at."""
MAX_SHOWN = 12
"""Objects that a plan prints."""

How = Literal["absent", "parts", "whole", "merged"]


@dataclass(frozen=True)
class PlannedObject:
    """One stored object of a plan.

    `how`: of a read "absent", "parts" (some ranges of it) or "whole"; of a write "whole" (stored, whatever is there) or
    "merged" (read as far as needed, changed and replaced).
    """

    key: str
    how: How
    read: int
    """Bytes read."""
    written: int
    """New bytes stored, at most."""
    kept: int
    """Bytes that the new object takes over from the old one; the store copies them, or they are read too."""
    requests: int
    locked: bool


class Environment(NamedTuple):
    """Where a plan is for: what the store and the process say."""

    url: str
    guard: str
    splices: bool
    """Whether the store copies ranges of the object that is replaced."""
    threads: int
    memory_limit: int


@dataclass(frozen=True)
class Plan:
    """What a read or a write of a region does; print it, or see its fields. All sizes are in bytes."""

    kind: Literal["read", "write"]
    url: str
    shape: tuple[int, ...]
    """Of the values."""
    selected: int
    """Bytes of the values in memory."""
    objects: int
    """Stored objects that the region touches."""
    whole: int
    """Objects that are read, or stored, whole: the latter without a read."""
    merged: int
    """Objects that are read, changed and replaced; of a read those of which parts are read."""
    absent: int
    """Objects that are not stored now, of those that a read asks for."""
    bytes_read: int
    bytes_written: int
    """At most: fill is not stored, and what a compressor makes is not known before."""
    requests: int
    """Reads and writes of chunks; for the metadata, a look for each batch of writes may come on top."""
    locked: int
    """Objects that are locked while they are changed; where the store has no locks, by a queue of this process. Small changes of
    files are swapped in without that."""
    guard: str
    peak_memory: int
    """About the most bytes that the operation has in flight, besides the values."""
    decoded: int | None
    """Bytes that are decoded, or encoded."""
    estimated: bool
    """Whether bytes and requests are reckoned from some of the objects."""
    batches: tuple[ArraySubset, ...] = ()
    """Boxes for workers: no two of them touch the same object, so nobody waits for another."""
    advice: tuple[Advice, ...] = ()
    details: tuple[PlannedObject, ...] = field(default=(), repr=False)
    """Each object that was looked at."""

    @property
    def amplification(self) -> float | None:
        """Bytes decoded for each byte of the values; 1 is best."""
        return None if self.decoded is None or not self.selected else self.decoded / self.selected

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        facts = asdict(self)
        facts["batches"] = [[list(box.start), list(box.shape)] for box in self.batches]
        facts["amplification"] = self.amplification
        return facts

    def __str__(self) -> str:
        return "\n".join([self.title, *(f"  {name:10}{value}" for name, value in self.rows().items())])

    @property
    def title(self) -> str:
        """One line on what is planned."""
        size = " × ".join(map(str, self.shape)) or "1"
        return f"{self.kind} {size} elements ({human(self.selected)}): {self.url}"

    def rows(self) -> dict[str, str]:
        """The plan in words, by the name of each row."""
        about = "about " if self.estimated else ""
        kinds = {"whole": self.whole, "in parts" if self.kind == "read" else "merged": self.merged, "absent": self.absent}
        rows = {"objects": f"{self.objects:,}: " + ", ".join(f"{n:,} {name}" for name, n in kinds.items() if n)}
        rows["read"] = f"{about}{human(self.bytes_read)}"
        if self.kind == "write":
            rows["written"] = f"at most {about}{human(self.bytes_written)}"
        rows["requests"] = f"{about}{self.requests:,}"
        if self.kind == "write":
            rows["locked"] = f"{self.locked:,}"
            rows["guard"] = self.guard
        rows["memory"] = f"about {human(self.peak_memory)} besides the values"
        if self.amplification is not None:
            rows["amplified"] = f"{self.amplification:.2f} bytes {'de' if self.kind == 'read' else 'en'}coded for each"
        if self.batches:
            rows["batches"] = "; ".join(_spelt(box) for box in self.batches[:MAX_SHOWN]) + _more(len(self.batches))
        return rows | {f"advice {i}" if i > 1 else "advice": str(each) for i, each in enumerate(self.advice, 1)}

    def _repr_html_(self) -> str:
        from html import escape  # takes 1.5 ms, and is for notebooks only

        rows = "".join(f"<tr><th style='text-align:left'>{escape(k)}</th><td>{escape(v)}</td></tr>" for k, v in self.rows().items())
        return f"<table><caption style='text-align:left'>{escape(self.title)}</caption>{rows}</table>"


def _more(n: int) -> str:
    return f" and {n - MAX_SHOWN:,} more" if n > MAX_SHOWN else ""


def _spelt(box: ArraySubset) -> str:
    return "[" + ", ".join(f"{part.start}:{part.stop}" for part in box.slices) + "]"


# Planning -----------------------------------------------------------------------------------------------------------------


def explain(handle: ArrayHandle, selection: Any, write: bool, workers: int, environment: Environment) -> Op[Plan]:
    """The plan of reading or writing `a[selection]`; of the stored array where that lies beyond what the handle knows."""
    if isinstance(selection, ArraySubset):
        selection = selection.slices
    array, chosen = yield from understood(handle, selection, "numpy")
    return (yield from _explain(array, chosen, write, workers, environment))


def _explain(array: BoundArray, selection: Selection, write: bool, workers: int, environment: Environment) -> Op[Plan]:
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise OptionError("not a number of workers", field="workers", expected="an integer of at least 1", got=repr(workers))
    region, values = selection.region, math.prod(selection.work_shape) * array.data_type.numpy.itemsize
    kind: Literal["read", "write"] = "write" if write else "read"
    if values == 0:
        return Plan(kind, environment.url, selection.out_shape, 0, 0, 0, 0, 0, 0, 0, 0, 0, environment.guard, 0, 0, False)
    selections = region.split(array.grid, array.shape)
    if selections.n <= MAX_LOOKED_AT or not isinstance(region, Box):
        log = yield from _logged(array, region, selection.work_shape, write, environment.threads)
        found = [_Looked(1.0, each) for each in _objects(log, array.chunk_keys(selections.index), write, environment)]
        peak = max(log.peaks, default=0)
    else:
        found, peak = yield from _sampled(array, region, selections, write, environment)
    decoded = decoded_bytes(array, region)
    if decoded is not None:  # little things do not ask for memory
        peak = max(peak, min(2 * decoded, largest_batch(array, selections.index[:1]).cost))
    plan = Plan(
        kind,
        environment.url,
        selection.out_shape,
        values,
        selections.n,
        whole=_count(found, "whole"),
        merged=_count(found, "merged", "parts"),
        absent=_count(found, "absent"),
        bytes_read=_total(found, [each.object.read for each in found]),
        bytes_written=_total(found, [each.object.written for each in found]),
        requests=_total(found, [each.object.requests for each in found]),
        locked=_total(found, [int(each.object.locked) for each in found]),
        guard=environment.guard,
        peak_memory=min(peak, max(environment.memory_limit, _largest(array))),
        decoded=decoded,
        estimated=len(found) < selections.n,
        batches=batches_of(array, region, workers) if workers > 1 else (),
        details=tuple(each.object for each in found),
    )
    return replace(plan, advice=advise(array, region, plan, environment.memory_limit, environment.threads))


class _Looked(NamedTuple):
    """An object that was looked at, and for how many it stands."""

    weight: float
    object: PlannedObject


def _count(found: Sequence[_Looked], *how: How) -> int:
    return round(sum(each.weight for each in found if each.object.how in how))


def _total(found: Sequence[_Looked], values: Sequence[int]) -> int:
    return round(sum(each.weight * value for each, value in zip(found, values, strict=True)))


def _largest(array: BoundArray) -> int:
    return 2 * math.prod(array.grid.typical_shapes()[0]) * (array.data_type.itemsize or VARIABLE_ELEMENT_BYTES)


def _logged(array: BoundArray, region: Region, shape: Sequence[int], write: bool, threads: int) -> Op[Log]:
    return (log_write if write else log_read)(array, region, shape, threads)


def _sampled(
    array: BoundArray, region: Box, selections: ChunkSelections, write: bool, environment: Environment
) -> Op[tuple[list[_Looked], int]]:
    """Some objects of each kind: those that the region covers, and others."""
    found: list[_Looked] = []
    peaks = [0]
    chosen = ArraySubset(region.start, region.shape)
    for kind in (selections.full, ~selections.full):
        rows = np.flatnonzero(kind)
        some = rows[np.unique(np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64))] if len(rows) else rows
        for row in some.tolist():
            chunk = tuple(selections.index[row].tolist())
            part = chosen.intersect(array.grid.in_bounds(chunk))
            log = yield from _logged(array, box_region(part), part.shape, write, environment.threads)
            (looked,) = _objects(log, [array.chunk_key(chunk)], write, environment)
            found.append(_Looked(len(rows) / len(some), looked))
            peaks += log.peaks
    side_by_side = min(environment.threads, selections.n) * largest_batch(array, selections.index[:1]).cost
    return found, max(*peaks, side_by_side)


def _objects(log: Log, keys: Sequence[str], write: bool, environment: Environment) -> list[PlannedObject]:
    """What a log says, by object."""
    reads: dict[str, list[Read]] = {key: [] for key in keys}
    for each in log.reads:
        reads[each.key].append(each)
    writes, locked = {written.key: written for written in log.writes}, set(log.locked)
    objects = []
    for key in keys:
        asked, stored = reads[key], writes.get(key)
        kept = 0 if stored is None else stored.kept
        read = sum(one.nbytes for one in asked) + (0 if environment.splices else kept)
        requests = len(asked) + (stored is not None) + (kept > 0 and not environment.splices)
        how = _how_written(asked, stored) if write else _how_read(asked)
        new = 0 if stored is None else stored.nbytes + (0 if environment.splices else kept)
        objects.append(PlannedObject(key, how, read, new, kept, requests, key in locked))
    return objects


def _how_read(asked: Sequence[Read]) -> How:
    if not any(each.there for each in asked):
        return "absent"
    return "whole" if any(each.whole for each in asked) else "parts"


def _how_written(asked: Sequence[Read], stored: Write | None) -> How:
    return "merged" if asked or stored is None or stored.swapped else "whole"


def decoded_bytes(array: BoundArray, region: Region) -> int | None:
    """Bytes of all pieces that a region touches: of chunks, or of the subchunks of shards. None where pieces differ in shape."""
    grid = array.grid
    piece = array.subchunk_shapes[-1] if array.sharded else grid.uniform_shape
    if piece is None:
        return None
    each = math.prod(piece) * array.data_type.numpy.itemsize
    if isinstance(region, Box):
        sides = zip(region.start, region.shape, piece, strict=True)
        return each * math.prod((low + n - 1) // size - low // size + 1 for low, n, size in sides)
    return each * region.split(ChunkGrid.regular(array.shape, piece), array.shape).n


def batches_of(array: BoundArray, region: Region, workers: int) -> tuple[ArraySubset, ...]:
    """Boxes for so many workers, of about as many stored objects each; of a region that is no box, the boxes that it lies in.

    >>> a = zarrant.create_array({}, shape=(20,), dtype="int8", chunks=(2,))
    >>> [box.slices for box in a.explain(write=True, workers=3).batches]
    [(slice(0, 6, None),), (slice(6, 14, None),), (slice(14, 20, None),)]
    """
    if isinstance(region, Box):
        chosen = ArraySubset(region.start, region.shape)
        chunks = array.grid.chunks_in(chosen)
    else:
        index = region.split(array.grid, array.shape).index
        low, high = index.min(axis=0), index.max(axis=0) + 1
        chunks = ArraySubset(tuple(low.tolist()), tuple((high - low).tolist()))
        chosen = ArraySubset.full(array.shape)
    return tuple([array.grid.block(part).intersect(chosen) for part in _halves(chunks, workers)])


def _halves(chunks: ArraySubset, workers: int) -> list[ArraySubset]:
    if workers == 1 or chunks.size == 1:
        return [chunks]
    axis = chunks.shape.index(max(chunks.shape))
    length, first = chunks.shape[axis], workers // 2
    cut = min(length - 1, max(1, round(length * first / workers)))
    start = tuple(at + cut * (i == axis) for i, at in enumerate(chunks.start))
    low, high = (tuple(side if i == axis else n for i, n in enumerate(chunks.shape)) for side in (cut, length - cut))
    return _halves(ArraySubset(chunks.start, low), first) + _halves(ArraySubset(start, high), workers - first)


def conflict_free(array: BoundArray, subsets: Sequence[Any]) -> list[list[int]]:
    """The numbers of regions in rounds, so that no two of a round touch the same stored object."""
    grid = array.grid.grid_shape
    taken: dict[int, set[int]] = {}
    rounds: list[list[int]] = []
    for number, subset in enumerate(subsets):
        chunks = array.grid.chunks_in(as_subset(subset, array.shape))
        touched = [] if chunks.is_empty else np.ravel_multi_index(tuple(block_indices(chunks).T), grid).tolist() if grid else [0]
        used = set().union(*(taken.get(chunk, ()) for chunk in touched))
        free = next(at for at in range(len(rounds) + 1) if at not in used)
        if free == len(rounds):
            rounds.append([])
        rounds[free].append(number)
        for chunk in touched:
            taken.setdefault(chunk, set()).add(free)
    return rounds
