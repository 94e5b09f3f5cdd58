"""The engine of every copy: units of work that any thread, process or machine may do, in any order and more than once.

In: arrays to copy (`Part`), and who does it. Out: the number of each unit that is done. A unit is a block of whole stored objects
of a target, of about `BLOCK_BYTES`: it reads its part of the source and stores its objects, each once and never read. No two units
touch one object, and one that is done twice stores the same values again. In memory is one unit for each worker. Where codecs and
chunks agree the encoded chunks are moved as they are, without being decoded, also into shards and out of them.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, NamedTuple

import numpy as np

from zarrant.errors import CapabilityError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.nodes.array import Array
from zarrant.nodes.array_properties import handle_of
from zarrant.nodes.base import READ, WRITE, context_of
from zarrant.ops.encoded_pieces import have_same_pieces, piece_grid, retrieve_encoded_pieces, store_encoded_pieces
from zarrant.run.pool import available_cpus
from zarrant.run.threads import Threads
from zarrant.storage import capabilities
from zarrant.tools.convert import Source, Values
from zarrant.tools.extras import require
from zarrant.tools.targets import ArrayTarget, Target

BLOCK_BYTES = 64 << 20
"""Bytes of values in one block: two shards of 256³ at 16 bits."""
MEMORY_BYTES = 512 << 20
"""Bytes of values in the units that threads of this process do at a time, where the caller says nothing: eight of `BLOCK_BYTES`."""
QUEUED = 2
"""Units for each worker of a cluster that are handed out: one to do, one to begin with at once."""
MAX_LOSSES = 5
"""How often a unit is handed out anew after the cluster gave it up, which it does when four workers were lost with it."""


@dataclass(frozen=True)
class Part:
    """One array to copy. `old` and `new` are the arrays themselves where encoded chunks are moved."""

    source: Source
    target: Target
    dtype: np.dtype[Any]
    old: Array[Any] | None = None

    def share(self) -> Part:
        """The same for other processes; CapabilityError where they cannot reach it."""
        target = self.target
        if not isinstance(target, ArrayTarget) or capabilities(target.array.store).one_process:
            raise CapabilityError("other processes cannot write there", expected="a path or the URL of a store", got=repr(target))
        return Part(self.source.share(), target, self.dtype, self.old)


class Unit(NamedTuple):
    """A block of one part: its number of stored objects and its elements."""

    part: int
    chunks: int
    box: ArraySubset


class Done(NamedTuple):
    """A unit that is done, and whether every element of it is the fill value."""

    number: int
    fill: bool


def part_of(source: Source, old: Array[Any] | None, new: Array[Any], dtype: np.dtype[Any]) -> Part:
    """What copies into a new array."""
    moves = old is not None and (is_same_layout(old, new) or have_same_pieces(handle_of(old).array, handle_of(new).array))
    return Part(source, ArrayTarget(new), dtype, old if moves else None)


def is_same_layout(old: Array[Any], new: Array[Any]) -> bool:
    """Whether an encoded chunk of one is the same chunk of the other."""
    names = ("shape", "data_type", "chunk_grid", "fill_value", "codecs")
    return all(getattr(old.metadata, name) == getattr(new.metadata, name) for name in names)


def copy_unit(part: Part, box: ArraySubset) -> bool:
    """Do one unit: store the objects of the target in a box. Done again, it stores the same.

    True where every element is the fill value, and nothing was stored.
    """
    if part.old is not None and isinstance(part.target, ArrayTarget):
        return _move(part.old, part.target.array, box)
    values = part.source.read(box).astype(part.dtype, copy=False)
    part.target.write(box, values)
    return isinstance(part.target, ArrayTarget) and _is_fill(part.target.array, values)


def _move(old: Array[Any], new: Array[Any], box: ArraySubset) -> bool:
    """Move encoded chunks; what is not stored is fill, and the target is new."""
    if not is_same_layout(old, new):
        return _move_pieces(old, new, box)
    block = new.chunks_in_subset(box)
    encoded = zip(product(*map(range, block.start, block.stop)), old.retrieve_encoded_chunks(block), strict=True)
    there = [(chunk, data) for chunk, data in encoded if data is not None]
    if there:
        new.store_encoded_chunks([chunk for chunk, _ in there], [data for _, data in there])
    return not there


def _move_pieces(old: Array[Any], new: Array[Any], box: ArraySubset) -> bool:
    """Move them where the shards are others, or where only one of the arrays has shards."""
    source, target = handle_of(old).array, handle_of(new).array
    block = piece_grid(target).chunks_in(box)
    pieces = context_of(old).run(retrieve_encoded_pieces(source, block), READ)
    if pieces:
        context_of(new).run(store_encoded_pieces(target, pieces), WRITE)
    return not pieces


def _is_fill(array: Array[Any], values: Values) -> bool:
    """Whether nothing was stored of these values. Most blocks are told by their first element."""
    fill = handle_of(array).array.fill
    first = values[(slice(0, 1),) * values.ndim]
    return bool(fill.equals(first[np.newaxis]).all()) and bool(fill.equals(values[np.newaxis]).all())


def blocks(grid: ChunkGrid, itemsize: int, limit: int) -> Iterator[tuple[int, ArraySubset]]:
    """(number of chunks, their elements) for blocks of whole chunks that cover the grid, in C order.

    A block has at most `limit` bytes, or it is one chunk.

    >>> [box.slices[0] for _, box in blocks(ChunkGrid.regular((10,), (2,)), itemsize=1, limit=4)]
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    nbytes = itemsize * math.prod(dimension.uniform or 1 for dimension in grid.dimensions)
    counts = [1] * grid.ndim
    for axis in reversed(range(grid.ndim)):
        counts[axis] = max(1, min(grid.grid_shape[axis], limit // (nbytes * math.prod(counts))))
        if counts[axis] < grid.grid_shape[axis]:
            break
    for first in product(*(range(0, n, count) for n, count in zip(grid.grid_shape, counts, strict=True))):
        last = [min(start + count, n) - 1 for start, count, n in zip(first, counts, grid.grid_shape, strict=True)]
        low, high = grid.in_bounds(first).start, grid.in_bounds(last).stop
        box = ArraySubset(low, tuple(stop - start for start, stop in zip(low, high, strict=True)))
        yield math.prod(b - a + 1 for a, b in zip(first, last, strict=True)), box


# ── who does it ──────────────────────────────────────────────────────────────────────────────────────────────────────

Numbered = Iterable[tuple[int, Unit]]


def perform(parts: list[Part], units: Numbered, workers: int | None, scheduler: str) -> Generator[Done]:
    """Perform units: "none" in threads of this process, "local" on a Dask cluster of processes of this machine, else on the
    cluster whose scheduler has that address."""
    if scheduler == "none":
        return _by_threads(parts, units, workers)
    return _by_cluster([part.share() for part in parts], units, workers, scheduler)


def _by_threads(parts: list[Part], units: Numbered, workers: int | None) -> Generator[Done]:
    under_way: dict[Future[bool], int] = {}
    most = workers or available_cpus()
    with Threads(most, "zarrant-copy") as threads:
        for number, unit in units:
            nbytes = unit.box.size * parts[unit.part].dtype.itemsize
            limit = most if workers else max(1, min(most, MEMORY_BYTES // max(1, nbytes)))
            while len(under_way) >= limit:
                yield from _ended(under_way, FIRST_COMPLETED)
            under_way[threads.submit(copy_unit, parts[unit.part], unit.box)] = number
        yield from _ended(under_way, ALL_COMPLETED)


def _ended(under_way: dict[Future[bool], int], until: str) -> Iterator[Done]:
    done, _ = wait(under_way, return_when=until)
    for future in done:
        yield Done(under_way.pop(future), future.result())


def _by_cluster(parts: list[Part], units: Numbered, workers: int | None, scheduler: str) -> Generator[Done]:
    """What a killed worker had is given to another."""
    distributed = require("distributed", "dask", "a cluster")
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with ExitStack() as stack:
        at = stack.enter_context(distributed.LocalCluster(**options)) if scheduler == "local" else scheduler
        client = stack.enter_context(distributed.Client(at, set_as_default=False))
        yield from _Handed(distributed, client, parts).perform(iter(units), workers)


class _Handed:
    """Units that a cluster has in hand, each as a task under a key of its own."""

    def __init__(self, distributed: Any, client: Any, parts: list[Part]) -> None:
        self._distributed, self._client, self._parts = distributed, client, parts
        self._units: dict[str, tuple[int, Unit, int]] = {}

    def _submit(self, number: int, unit: Unit, losses: int = 0) -> Any:
        key = f"zarrant-unit-{number}-{losses}-{self._client.id}"
        self._units[key] = number, unit, losses
        return self._client.submit(copy_unit, self._parts[unit.part], unit.box, key=key)

    def perform(self, units: Iterator[tuple[int, Unit]], workers: int | None) -> Iterator[Done]:
        limit = QUEUED * (workers or max(1, sum(self._client.nthreads().values())))
        begun = [self._submit(*each) for each in islice(units, limit)]
        # With results: a worker that is lost after its task was done takes nothing along.
        ended = self._distributed.as_completed(begun, self._client.loop, with_results=True, raise_errors=False)
        begun.clear()  # a future that somebody has is done again where its worker is lost
        for future, result in ended:
            number, unit, losses = self._units.pop(future.key)
            if future.status != "finished":
                cause = result[1] if isinstance(result, tuple) else result
                if not isinstance(cause, self._distributed.KilledWorker) or losses >= MAX_LOSSES:
                    raise cause
                ended.add(self._submit(number, unit, losses + 1))
                continue
            future.release()
            yield Done(number, bool(result))
            for another in islice(units, 1):
                ended.add(self._submit(*another))
