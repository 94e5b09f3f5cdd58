"""Copy an array to other chunks, shards and codecs, in parts that can be done anywhere and go on after a kill.

In: two addresses and the layout of the new array. Out: a dict that says what was done. The work is cut into *units*: blocks of
whole stored objects of the target, of about `BLOCK_BYTES`. A unit reads its part of the source and stores its objects, each
once and never read. So any thread, process or machine may do any unit; one that is done twice stores the same values again, and
no two units touch one object. In memory is one unit for each worker.

What is done stands in a *ledger*, an object `__rechunk.json` beside the chunks, which only the process that hands out the units
writes. A unit is noted when what it stored is as durable as the store can make it. Whoever starts the same job again goes on after
the units that are noted; those in which every element is the fill value store nothing, and are noted as well. When all are done the
ledger is erased. Where codecs and chunks agree the encoded chunks are moved as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from itertools import islice, product
from typing import Any

from zarrant.errors import ConflictError, NodeExistsError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.nodes.array import Array
from zarrant.nodes.open import create_array, open_array
from zarrant.progress import Meter, Report
from zarrant.run.pool import available_cpus
from zarrant.run.threads import Threads
from zarrant.storage import capabilities
from zarrant.tools.copy import KEEP, array_options, blocks, open_source
from zarrant.tools.extras import require
from zarrant.tools.targets import Options, check_apart

LEDGER = "__rechunk.json"
"""A name that no chunk and no node has."""
NOTED_UNITS = 64
"""Units between two writes of the ledger, at most: what is done again after a kill, besides what was under way."""
QUEUED = 2
"""Units for each worker that are handed out: one to do, one to begin with at once."""


def rechunk(
    source: str,
    target: str,
    *,
    chunks: Any = KEEP,
    shards: Any = KEEP,
    compressors: Any = KEEP,
    scheduler: str = "threads",
    workers: int | None = None,
    report: Report | None = None,
    source_options: Options = None,
    storage_options: Options = None,
) -> dict[str, Any]:
    """Copy the array at `source` to `target`, or go on with a copy that was broken off.

    Args:
        source: an array. It must not change meanwhile.
        target: where the new array is to be; or is, where the job was started before.
        chunks: their shape; "keep" takes the source's. shards: likewise; None for none.
        compressors: codecs as in `create_array`; "keep" takes the source's.
        scheduler: "threads" of this process, "local" for a Dask cluster of processes of this machine, or the address of the
            scheduler of one (extra `dask`). Its workers must reach both addresses.
        workers: units at a time; left out, as many as CPUs, or as the cluster has threads.
        report: is called with a `Progress` after each unit.
        source_options: options of the store of the source. storage_options: those of the target.

    Returns:
        `units`, `resumed` (those that were done before), `moved` (whether encoded chunks were moved as they are).

    Raises:
        NodeNotFoundError: nothing is at `source`.
        NodeExistsError: an array is at `target` that is no unfinished copy of this layout.
        ConflictError: the ledger is of another job: another source, or one that was changed since.
    """
    check_apart(source, target, source_options, storage_options)
    old = open_array(source, mode="r", storage_options=source_options)
    with open_source(source, source_options) as opened:
        options = array_options(opened, old.dtype, chunks, shards, compressors)
    new, done = _target(old, target, {**options, "storage_options": storage_options})
    if capabilities(new.store).sync:
        new = new.with_config(durability="fsync")  # a unit that is noted lasts
    itemsize = new.dtype.itemsize
    units = [box for _, box in blocks(ChunkGrid.regular(new.shape, new.write_unit), itemsize)]
    ledger, resumed, move = Ledger(new, old, done), len(done), is_same_layout(old, new)
    meter = Meter(new.nbytes, len(units), report)
    meter.add(sum(units[number].size for number in done) * itemsize, resumed)
    todo = ((number, box) for number, box in enumerate(units) if number not in ledger.done)
    perform = _by_threads if scheduler == "threads" else _by_cluster
    try:
        for number in perform((old, new, move), todo, workers, scheduler):
            ledger.add(number)
            meter.add(units[number].size * itemsize, 1)
    except BaseException:  # Ctrl-C too
        ledger.write()
        raise
    ledger.erase()
    return {"units": len(units), "resumed": resumed, "moved": move}


def copy_unit(old: Array[Any], new: Array[Any], box: ArraySubset, move: bool) -> None:
    """Do one unit: store the objects of the target in a box. Done again, it stores the same."""
    if not move:
        new.store_array_subset(box, old.retrieve_array_subset(box))
        return
    block = new.chunks_in_subset(box)
    encoded = zip(product(*map(range, block.start, block.stop)), old.retrieve_encoded_chunks(block), strict=True)
    there = [(chunk, data) for chunk, data in encoded if data is not None]  # the others are fill, and the target is new
    if there:
        new.store_encoded_chunks([chunk for chunk, _ in there], [data for _, data in there])


def is_same_layout(old: Array[Any], new: Array[Any]) -> bool:
    """Whether an encoded chunk of one is the same chunk of the other."""
    names = ("shape", "data_type", "chunk_grid", "fill_value", "codecs")
    return all(getattr(old.metadata, name) == getattr(new.metadata, name) for name in names)


# ── what is done ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _target(old: Array[Any], target: str, options: Mapping[str, Any]) -> tuple[Array[Any], set[int]]:
    """The new array, and the units that were done before; ConflictError where the ledger is of another job."""
    try:
        return create_array(target, **options), set()
    except NodeExistsError:
        there = open_array(target, mode="r+", storage_options=options["storage_options"])
        blob = there.store.get(_key(there))
        if blob is None:
            raise  # somebody's array, or a copy that is complete
        found = json.loads(bytes(blob.data[0]))
        new = create_array(target, **options, if_exists="match")
        if found["source"] != _identity(old):
            hint = "Delete the target to begin again"
            raise ConflictError(
                "a copy of another source, or of an older one", expected=_identity(old), got=found["source"], hint=hint
            ) from None
        return new, {number for first, stop in found["done"] for number in range(first, stop)}


def _key(array: Array[Any]) -> str:
    return f"{array.path}/{LEDGER}" if array.path else LEDGER


def _identity(old: Array[Any]) -> list[str]:
    return [old.url, repr(old.metadata.version)]


class Ledger:
    """The units that are done, as an object beside the target. One process writes it."""

    def __init__(self, new: Array[Any], old: Array[Any], done: set[int]) -> None:
        self.done, self._array, self._source, self._unwritten = set(done), new, _identity(old), 0
        self.write()

    def add(self, number: int) -> None:
        """Note a unit."""
        self.done.add(number)
        self._unwritten += 1
        if self._unwritten >= NOTED_UNITS or self._unwritten * 16 >= len(self.done):
            self.write()

    def write(self) -> None:
        """Store what is known."""
        text = json.dumps({"source": self._source, "done": spans(self.done)})
        self._array.store.put(_key(self._array), [text.encode()])
        self._unwritten = 0

    def erase(self) -> None:
        """All is done: the target is an array as any other."""
        self._array.store.erase(_key(self._array))


def spans(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as (first, stop) of what is without gaps.

    >>> spans({1, 2, 3, 7})
    [(1, 4), (7, 8)]
    """
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number:
            found[-1] = (found[-1][0], number + 1)
        else:
            found.append((number, number + 1))
    return found


# ── who does it ──────────────────────────────────────────────────────────────────────────────────────────────────────

Units = Iterator[tuple[int, ArraySubset]]
Job = tuple[Array[Any], Array[Any], bool]


def _by_threads(job: Job, units: Units, workers: int | None, scheduler: str) -> Iterator[int]:
    """Perform units in threads; the number of each that is done."""
    (old, new, move), limit = job, workers or available_cpus()
    under_way: dict[Future[None], int] = {}
    with Threads(limit, "zarrant-rechunk") as threads:
        for number, box in units:
            under_way[threads.submit(copy_unit, old, new, box, move)] = number
            if len(under_way) >= limit:
                yield from _ended(under_way, FIRST_COMPLETED)
        yield from _ended(under_way, ALL_COMPLETED)


def _ended(under_way: dict[Future[None], int], until: str) -> Iterator[int]:
    done, _ = wait(under_way, return_when=until)
    for future in done:
        number = under_way.pop(future)
        future.result()
        yield number


def _by_cluster(job: Job, units: Units, workers: int | None, scheduler: str) -> Iterator[int]:
    """Perform units on a Dask cluster; the number of each that is done. What a killed worker had is given to another."""
    distributed = require("distributed", "dask", "a cluster")
    (old, new, move) = job
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
    with ExitStack() as stack:
        at = stack.enter_context(distributed.LocalCluster(**options)) if scheduler == "local" else scheduler
        client = stack.enter_context(distributed.Client(at))
        limit = QUEUED * (workers or max(1, sum(client.nthreads().values())))
        started = (
            client.submit(copy_unit, old, new, box, move, key=f"zarrant-rechunk-{number}-{id(units)}") for number, box in units
        )
        ended = distributed.as_completed(list(islice(started, limit)))
        for future in ended:
            future.result()
            yield int(future.key.split("-")[2])
            for another in islice(started, 1):
                ended.add(another)
