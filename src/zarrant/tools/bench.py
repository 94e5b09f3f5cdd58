"""Try layouts, codecs and options where an array is or will be, on a sample of its values, and propose a layout.

In: an address, and the access that counts. Out: a `BenchReport`: for each candidate its size and its speeds, and the one proposed.
The layout that an array has is the first candidate. The proposed one is tried with other options as well, which it may be worth to
set, but which nobody proposes: two of them are about promises, not about speed.
Candidates are arrays of their own below a temporary name beside the array (in its prefix, on an object store); they are removed
in the end, also after an error or an interrupt. The time is bounded: what has begun is finished, the rest is left out.
"""

from __future__ import annotations

import math
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zarrant.codecs import Blosc, Zstd
from zarrant.errors import OptionError
from zarrant.geometry.layouts import cube, halved
from zarrant.nodes.array import Array
from zarrant.nodes.open import create_array, open_array
from zarrant.progress import Meter, Report
from zarrant.storage import as_store
from zarrant.stores.resolve import resolve_store
from zarrant.tools.describe import local_path

ACCESS = ("planes", "crops", "append", "whole")
CODECS: dict[str, Any] = {"zstd:1": Zstd(1), "zstd:5": Zstd(5), "blosc:lz4:5:shuffle": Blosc("lz4", 5, "shuffle"), "none": None}
CHUNK_BYTES = (64 << 10, 512 << 10, 4 << 20)
"""From what a request of a service costs (64 KiB move in less time than one takes) to what fits a core's cache."""
OPTIONS: dict[str, dict[str, Any]] = {
    "concurrency=1": {"concurrency": 1},
    "durability=fsync": {"durability": "fsync"},
    "direct_io": {"direct_io": True},
}
"""What is tried besides the defaults; but the number of threads, on files only."""
MOST_OBJECTS = 4096
"""Of the layout that the array has, in the sample: more would take long on a service."""
STORED = "as stored"
"""The codecs that the array has."""
SHARD_CHUNKS = 4
"""Chunks of a shard along each axis: 64 of a volume."""
CROP, ACCESSES, ROUNDS = 64, 12, 2


@dataclass(frozen=True)
class Candidate:
    """One layout with one codec: shapes, bytes stored per byte of values, MB/s of all values, milliseconds of one access."""

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    compressors: str
    stored_ratio: float
    write_mb_per_s: float
    read_mb_per_s: float
    access_ms: float
    options: str = ""
    """A key of OPTIONS, or the defaults."""

    @property
    def cost(self) -> float:
        """What is compared: the time of an access counts twice as much as size and the time of writing."""
        return self.access_ms * math.sqrt((0.01 + self.stored_ratio) / max(1e-9, self.write_mb_per_s))


@dataclass(frozen=True)
class BenchReport:
    """What was tried at an address, and what is proposed for an access."""

    address: str
    access: str
    sample: tuple[int, ...]
    data_type: str
    candidates: tuple[Candidate, ...]
    left_out: int
    """Candidates for which there was no time."""

    @property
    def proposal(self) -> Candidate:
        """The candidate of least cost, with the default options."""
        return min((each for each in self.candidates if not each.options), key=lambda each: each.cost)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON has it."""
        return {**asdict(self), "proposal": asdict(self.proposal)}


def bench(
    address: Any,
    *,
    access: str = "crops",
    seconds: float = 20.0,
    max_bytes: int = 64 << 20,
    shape: Sequence[int] | None = None,
    dtype: Any = "uint16",
    report: Report | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> BenchReport:
    """Compare chunks, shards, codecs and options at an address.

    Args:
        address: of an array, whose values are sampled; or with `shape` of a place where none is yet, for made-up values.
        access: what is to be fast: "planes" along the first axis, "crops" of 64 elements along each axis, "append" along the
            first axis, or "whole".
        seconds: after so many no other candidate is begun.
        max_bytes: of the sample; each candidate is at most as large, and one is there at a time.
        shape: of an array that is to be made. dtype: its data type.
        report: is called with a `Progress` after each candidate; its bytes are those of the sample.
        storage_options: options of the store.

    Raises OptionError for what means nothing, NodeNotFoundError where there is no array and no shape was given.

    >>> import zarrant
    >>> store = zarrant.MemoryStore()
    >>> report = bench(store, shape=(64, 64, 64), seconds=0.1)
    >>> report.access, list(store.list_prefix(""))
    ('crops', [])
    """
    _check(access, seconds, max_bytes)
    values = _sample(address, max_bytes, shape, dtype, storage_options)
    if values.ndim == 0 or values.size == 0:
        raise OptionError("there is nothing to sample", field="address", expected="an array with elements", got=str(values.shape))
    has = [] if shape is not None else _layout_of(open_array(address, mode="r", storage_options=storage_options), values.shape)
    layouts = has + list(_layouts(values.shape, values.dtype.itemsize, access))
    options = list(OPTIONS if local_path(address) is not None else ("concurrency=1",))
    planned = len(layouts) + len(CODECS) - 1 + len(options)
    meter = Meter(planned * values.nbytes, planned, report)
    with _temporary(address, storage_options) as create:
        trials = _Trials(partial(_measure, create, values, access), perf_counter() + seconds, len(has) + 1, meter, values.nbytes)
        trials.run(layouts, options)
    found = tuple(trials.found)
    return BenchReport(str(address), access, values.shape, str(values.dtype), found, planned - len(found))


def _layout_of(array: Array[Any], sample: tuple[int, ...]) -> list[Layout]:
    """Of an array that is there; none where its chunks differ in shape, or the sample would be very many objects."""
    objects: tuple[Any, ...] = array.shards or array.chunks
    if not all(isinstance(side, int) for side in objects):
        return []
    if math.prod(-(-extent // max(1, side)) for extent, side in zip(sample, objects, strict=True)) > MOST_OBJECTS:
        return []
    codecs = {"filters": array.filters, "serializer": array.serializer, "compressors": array.compressors}
    return [Layout(array.chunks, array.shards, STORED, codecs)]


class Layout(NamedTuple):
    """What a candidate is made with: the last one are keywords of `create_array` for its codecs."""

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    compressors: str
    codecs: dict[str, Any]


@dataclass
class _Trials:
    """Candidates that are measured one after the other, until the time is over."""

    measure: Callable[..., Candidate]
    end: float
    at_least: int
    """So many are measured however long they take: what the array has, and one other."""
    meter: Meter
    nbytes: int
    found: list[Candidate] = field(default_factory=list)

    def run(self, layouts: Sequence[Layout], options: Sequence[str]) -> None:
        """Try layouts, then other codecs in the best of them, then options with the best of those."""
        for layout in layouts:
            self._try(layout)
        chunks, shards = self._best().chunks, self._best().shards
        for name in list(CODECS)[1:]:
            self._try(Layout(chunks, shards, name, {"compressors": CODECS[name]}))
        name = self._best().compressors
        for option in options:
            self._try(Layout(chunks, shards, name, {"compressors": CODECS[name]}), option)

    def _try(self, layout: Layout, option: str = "") -> None:
        if len(self.found) < self.at_least or perf_counter() < self.end:
            self.found.append(self.measure(layout, option))
            self.meter.add(self.nbytes, 1)

    def _best(self) -> Candidate:
        return min((each for each in self.found if each.compressors != STORED), key=lambda each: each.cost)


def _check(access: str, seconds: float, max_bytes: int) -> None:
    if access not in ACCESS:
        raise OptionError("unknown access", field="access", expected=f"one of {', '.join(ACCESS)}", got=repr(access))
    if not 0 < seconds < math.inf:
        raise OptionError("not a time", field="seconds", expected="a number above 0", got=repr(seconds))
    if max_bytes < 1:
        raise OptionError("not a size", field="max_bytes", expected="at least 1", got=repr(max_bytes))


def _sample(
    address: Any, max_bytes: int, shape: Sequence[int] | None, dtype: Any, options: Mapping[str, Any] | None
) -> npt.NDArray[Any]:
    """Values from the middle of the array, or made up: a smooth ground with noise, as of a microscope."""
    if shape is None:
        array = open_array(address, mode="r", storage_options=options)
        box = halved(array.shape, array.dtype.itemsize, max_bytes)
        starts = [(extent - side) // 2 for extent, side in zip(array.shape, box, strict=True)]
        return np.asarray(array[tuple(slice(start, start + side) for start, side in zip(starts, box, strict=True))])
    kind = np.dtype(dtype)
    if kind.kind not in "iuf" or any(side < 0 for side in shape):
        raise OptionError("nothing can be made up", field="dtype", expected="integers or floats, and a shape", got=str(kind))
    box = halved(shape, kind.itemsize, max_bytes)
    noise = np.random.default_rng(0).integers(0, 16, box, np.uint8)
    slope = np.add.outer(np.arange(math.prod(box[:-1])) // 7, np.arange(box[-1]) // 3).reshape(box) if box else 0
    return (noise + slope % 64).astype(kind)


def _layouts(shape: tuple[int, ...], itemsize: int, access: str) -> Iterator[Layout]:
    """Chunks and shards with the first codec, no pair twice."""
    seen: set[tuple[Any, ...]] = set()
    for nbytes in CHUNK_BYTES:
        chunks = _chunk(shape, max(1, nbytes // itemsize), access)
        shards = tuple(side * SHARD_CHUNKS for side in chunks)
        fits = any(side < extent for side, extent in zip(chunks, shape, strict=True))
        for each in (None, shards) if fits else (None,):
            if (chunks, each) not in seen:
                seen.add((chunks, each))
                yield Layout(chunks, each, "zstd:1", {"compressors": CODECS["zstd:1"]})


def _chunk(shape: tuple[int, ...], elements: int, access: str) -> tuple[int, ...]:
    """A chunk of about so many elements: flat for planes, a cube for crops, long along the first axis for what is appended."""
    if access == "append":
        slab = halved(shape[1:], 1, elements)
        return max(1, min(shape[0], elements // max(1, math.prod(slab)))), *slab
    return cube(shape, elements, range(1 if access == "planes" and len(shape) > 1 else 0, len(shape)))


Create = Callable[..., tuple[Array[Any], Callable[[], int]]]


@contextmanager
def _temporary(address: Any, options: Mapping[str, Any] | None) -> Iterator[Create]:
    """What creates an array below a temporary name, and says how many bytes it stores; all of it is removed in the end."""
    name, path, folder = f".zarrant-bench-{secrets.token_hex(6)}", local_path(address), None
    if path is not None:
        folder = path.absolute().parent / f"{name}-{path.absolute().name}"
        store, prefix = resolve_store(folder, options)
    else:
        store, prefix = resolve_store(address, options)
        prefix = f"{prefix.rstrip('/')}/{name}".lstrip("/")

    def create(**how: Any) -> tuple[Array[Any], Callable[[], int]]:
        array = create_array(store, name=prefix, overwrite=True, **how)

        return array, lambda: sum(len(array.retrieve_encoded_chunk(at) or b"") for at in np.ndindex(*array.chunk_grid_shape))

    try:
        yield create
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            as_store(store).erase_prefix(f"{prefix}/")


def _measure(create: Create, values: npt.NDArray[Any], access: str, layout: Layout, option: str) -> Candidate:
    """Write, read and access the sample; the shortest time of two rounds, the median of accesses."""
    chunks, shards, codec, codecs = layout
    config = {"cache": 0, **OPTIONS.get(option, {})}
    array, stored = create(shape=values.shape, dtype=values.dtype, chunks=chunks, shards=shards, config=config, **codecs)
    out, writes, reads = np.empty_like(values), [], []
    for _ in range(ROUNDS):
        writes.append(_seconds(lambda: array.store_array_subset(..., values)))
        reads.append(_seconds(lambda: array.retrieve_array_subset(..., out=out)))
    times = [_seconds(act) for act in _accesses(array, values, out, access)]
    if values.dtype.kind in "iub" and not np.array_equal(out, values):
        raise OptionError("the place does not give back what was written", field="address", expected="the values", got=array.url)
    mega, ratio = values.nbytes / 1e6, stored() / max(1, values.nbytes)
    write, read = (round(mega / max(1e-9, min(each)), 1) for each in (writes, reads))
    return Candidate(chunks, shards, codec, round(ratio, 4), write, read, round(1e3 * median(times), 4), option)


def _accesses(array: Array[Any], values: npt.NDArray[Any], out: npt.NDArray[Any], access: str) -> Iterator[Callable[[], object]]:
    """Calls as the user will make them, at places that are the same for every candidate."""
    dice, shape = np.random.default_rng(1), values.shape
    for _ in range(2 if access == "whole" else ACCESSES):
        if access == "whole":
            yield lambda: array.retrieve_array_subset(..., out=out)
        elif access == "planes":
            at = int(dice.integers(shape[0]))
            yield lambda at=at: array[at]  # type: ignore[misc]
        elif access == "append":
            at = int(dice.integers(shape[0]))
            yield lambda at=at: array.store_array_subset(slice(at, at + 1), values[at : at + 1])  # type: ignore[misc]
        else:
            starts = [int(dice.integers(max(1, extent - CROP + 1))) for extent in shape]
            box = tuple(slice(start, start + CROP) for start in starts)
            yield lambda box=box: array[box]  # type: ignore[misc]


def _seconds(act: Callable[[], object]) -> float:
    begun = perf_counter()
    act()
    return perf_counter() - begun
