"""The compiled twins, behind the signatures of `zarrant.kernels.reference`.

In come the same arguments, out go the same results. This module allocates what the compiled code writes into and refuses
what it cannot see (Python objects inside arrays); it is importable only where the compiled module was built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zarrant.kernels import _native, elements
from zarrant.kernels.program import (
    BoxPlan,
    EncodedRows,
    Failure,
    KeptBox,
    OuterBoxes,
    Program,
    RowBoxes,
    RowMemory,
    Shape,
    Step,
    check_sizes,
)

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

directories_above: Any = getattr(_native, "directories_above", None)
enter_directory: Any = getattr(_native, "enter_directory", None)
put_file: Any = getattr(_native, "put_file", None)
put_files: Any = getattr(_native, "put_files", None)
update_file: Any = getattr(_native, "update_file", None)
ChunkLayout: Any = getattr(_native, "ChunkLayout", None)
read_files: Any = getattr(_native, "read_files", None)
read_into: Any = getattr(_native, "read_into", None)
read_ranges: Any = getattr(_native, "read_ranges", None)


def features() -> dict[str, bool]:
    """Name the steps, and the compressors inside Blosc frames, that were built in."""
    built: dict[str, bool] = _native.features()
    return built


def libraries() -> dict[str, str]:
    """Name the compression libraries, each with its version and where it comes from."""
    found: dict[str, str] = _native.libraries()
    return found


def copy_boxes(
    src: NDArray[Any],
    src_start: Ints,
    src_step: Ints,
    dst: NDArray[Any],
    dst_start: Ints,
    dst_step: Ints,
    shape: Ints,
) -> None:
    """Copy boxes; see `reference.copy_boxes`."""
    if src.dtype.hasobject or dst.dtype.hasobject:
        raise ValueError("Python objects cannot be copied bit for bit")
    _native.copy_boxes(src, src_start, src_step, dst, dst_start, dst_step, shape)


def equals_fill(rows: Bytes, fill: bytes) -> NDArray[np.bool_]:
    """Say of each row whether it is `fill`, repeated; see `reference.equals_fill`."""
    result = np.empty(len(rows), np.bool_)
    _native.equals_fill(rows, fill, result)
    return result


MIN_DECODED_BYTES = 1 << 20
"""Room for a run of bytes whose decoded size is not known: the system gives what is written to."""
GROWTH = 8
"""So many times the encoded bytes at first, then so many times more where that was too small: that costs a seventh at most."""


@lru_cache(maxsize=1024)
def encoded_bound(program: Program, nbytes: int) -> int:
    """Return the most bytes that one row of `nbytes` can take, encoded; see `reference.encoded_bound`."""
    check_sizes(program, nbytes)
    bound: int = _native.encoded_bound(program, nbytes)
    return bound


def encode(program: Program, rows: Bytes, keep: NDArray[np.bool_] | None) -> tuple[Bytes, Ints]:
    """Encode the kept rows into one arena; see `reference.encode`."""
    bound = encoded_bound(program, rows.shape[1])
    sizes = np.empty(len(rows), np.int64)
    kept = len(rows)
    if keep is not None:
        if keep.dtype != np.bool_ or keep.shape != (kept,) or not keep.flags.c_contiguous:
            raise ValueError(f"keep: expected bool of shape ({kept},), got {keep.dtype} {keep.shape}")
        kept = int(np.count_nonzero(keep))
    if not program and kept == len(rows) and rows.dtype == np.uint8 and rows.flags.c_contiguous:
        sizes[:] = bound
        return rows.reshape(-1), sizes
    arena = np.empty(kept * bound, np.uint8)
    total = _native.encode(program, rows, keep, arena, sizes)
    if total != arena.size:
        arena.resize(total, refcheck=False)  # gives the tail back in place; nothing else refers to the arena yet
    return arena, sizes


def decode(
    program: Program,
    buffers: Sequence[Any],
    which: Ints,
    offset: Ints,
    size: Ints,
    rows: Bytes,
    check: bool,
) -> list[Failure]:
    """Decode spans of `buffers` into `rows` and return what failed; see `reference.decode`."""
    check_sizes(program, rows.shape[1])
    columns = (np.ascontiguousarray(which), np.ascontiguousarray(offset), np.ascontiguousarray(size))
    failures: list[Failure] = _native.decode(program, buffers, *columns, rows, check)
    return failures


def encode_boxes(
    program: Program,
    values: NDArray[Any],
    boxes: RowBoxes | OuterBoxes,
    old: EncodedRows | None,
    rows: RowMemory,
    covered: NDArray[np.bool_],
    fill: bytes,
    drop: bool,
    check: bool,
    allocate: Callable[[int], Bytes],
) -> tuple[Bytes, Ints, list[Failure]]:
    """Lay boxes over rows and encode these; see `reference.encode_boxes`."""
    if values.dtype.hasobject or covered.dtype != np.bool_:
        raise ValueError(f"expected plain elements and flags, got {values.dtype} and {covered.dtype}")
    sizes = np.empty(len(covered), np.int64)
    arena = allocate(len(covered) * encoded_bound(program, rows.flat.shape[1]))
    before = None if old is None else _contiguous(old)
    total, failures = _native.encode_boxes(program, values, boxes, before, *rows, covered, fill, drop, check, arena, sizes)
    return arena[:total], sizes, failures


def _contiguous(spans: EncodedRows) -> EncodedRows:
    """The columns in one piece of memory each."""
    columns = [np.ascontiguousarray(each) for each in spans[2:]]
    return EncodedRows(np.ascontiguousarray(spans.number), spans.buffers, *columns)


def decode_boxes(
    program: Program,
    spans: EncodedRows,
    count: int,
    rows: RowMemory,
    boxes: RowBoxes | OuterBoxes,
    out: NDArray[Any],
    fill: bytes,
    check: bool,
) -> list[Failure]:
    """Decode rows and scatter boxes of them; see `reference.decode_boxes`."""
    if out.dtype.hasobject:
        raise ValueError("Python objects cannot be copied bit for bit")
    check_sizes(program, rows.flat.shape[1])
    failures: list[Failure] = _native.decode_boxes(program, _contiguous(spans), count, *rows, boxes, out, fill, check)
    return failures


class BoxDecoder(NamedTuple):
    """What `decode_boxes` gets, but for the encoded rows: these are files. `rows` has memory for one row."""

    program: Program
    rows: RowMemory
    boxes: RowBoxes | OuterBoxes
    out: NDArray[Any]
    fill: bytes
    check: bool

    def reader(self, paths: list[str], limit: int, kind: Callable[[int], str]) -> _native.ReadBoxes:
        """Read files of at most `limit` bytes, a row each, by as many threads as call its `work` at once, without the GIL.

        Then its `versions` has for each file the version of what was decoded, False where there is none, and None where it was not
        done for any other reason: that is left to the general way, which finds what is wrong.
        """
        if self.out.dtype.hasobject:
            raise ValueError("Python objects cannot be copied bit for bit")
        check_sizes(self.program, self.rows.flat.shape[1])
        return _native.ReadBoxes(paths, limit, self.program, *self.rows, self.boxes, self.out, self.fill, self.check)

    def threads(self, rows: int) -> int:
        """So many threads save more than they cost."""
        return min(rows, 1 + rows * self.rows.flat.nbytes // BYTES_OF_THREAD)

    @property
    def whole(self) -> bool:
        """Whether whole files are decoded, so that one that was not is read whole."""
        return True


class ShardDecoder(NamedTuple):
    """Decodes boxes of shards, whose indexes are known: see `plan_box`, and `decode_boxes`, to which subchunks are rows."""

    shards: Sequence[tuple[Any, tuple[Shape, Shape, Shape], Ints, Ints]]
    """For each its version, the box in it, and the columns of its index."""
    edge: Shape
    grid: Shape
    limit: int
    touched: int
    """Subchunks that the boxes have elements of."""
    program: Program
    rows: RowMemory
    out: NDArray[Any]
    fill: bytes
    check: bool

    def reader(self, paths: list[str], limit: int, kind: Callable[[int], str]) -> _native.ReadShards:
        """See `BoxDecoder.reader`; `limit` is not that of whole files. What is of another version is not done."""
        if self.out.dtype.hasobject:
            raise ValueError("Python objects cannot be copied bit for bit")
        check_sizes(self.program, self.rows.flat.shape[1])
        shards = [(path, version, *box, *index) for path, (version, box, *index) in zip(paths, self.shards, strict=True)]
        return _native.ReadShards(
            shards, self.edge, self.grid, self.limit, self.program, *self.rows, self.out, self.fill, self.check
        )

    def threads(self, rows: int) -> int:
        """See `BoxDecoder.threads`."""
        row: int = self.rows.flat[0].nbytes
        return 1 + self.touched * row // BYTES_OF_THREAD

    @property
    def whole(self) -> bool:
        """See `BoxDecoder.whole`."""
        return False


class KeptCopier(NamedTuple):
    """Copies boxes from where their pieces are kept as they were decoded, as a decoder of the objects that have these pieces.

    The pieces of an object are the chunk, or its subchunks: arrays of the shape `edge`, in C order.
    """

    objects: Sequence[tuple[Any, list[KeptBox]]]
    """For each its version, and the boxes in it."""
    edge: Shape
    out: NDArray[Any]
    fill: bytes

    def reader(self, paths: list[str], limit: int, kind: Callable[[int], str]) -> _native.ReadKept:
        """See `BoxDecoder.reader`; files of any size are looked at. Of one of another version nothing is copied.

        Files are looked at by name alone where that says all: on network mounts it may tell an old version.
        """
        if self.out.dtype.hasobject:
            raise ValueError("Python objects cannot be copied bit for bit")
        objects = [(path, *each) for path, each in zip(paths, self.objects, strict=True)]
        devices = {version[0] if isinstance(version, tuple) else -1 for version, _ in self.objects}
        by_name = all(map(kind, devices))  # safety: kept by name
        return _native.ReadKept(objects, self.edge, self.out, self.fill, by_name)

    def threads(self, rows: int) -> int:
        """See `BoxDecoder.threads`."""
        return min(rows, 1 + self.out.nbytes // COPIED_BYTES_OF_THREAD)

    @property
    def whole(self) -> bool:
        """See `BoxDecoder.whole`."""
        return False


class FileLooks:
    """Finds the versions of files, all with one call, as a decoder that decodes nothing of them."""

    whole = False
    """See `BoxDecoder.whole`."""

    def reader(self, paths: list[str], limit: int, kind: Callable[[int], str]) -> Looks:
        """See `BoxDecoder.reader`; files of any size are looked at."""
        return Looks(paths)

    def threads(self, rows: int) -> int:
        """See `BoxDecoder.threads`."""
        return 1


class Looks:
    """The looks at some files."""

    def __init__(self, paths: list[str]) -> None:
        self.paths, self.found = paths, list[Any]()

    def work(self) -> None:
        """Look at all of them."""
        self.found = _native.look_at_files(self.paths)

    def versions(self) -> list[Any]:
        """See `BoxDecoder.reader`."""
        return self.found


COPIED_BYTES_OF_THREAD = 1 << 20
"""Bytes for which another thread is woken to copy them: that takes as long as to copy half of them."""
BYTES_OF_THREAD = 1 << 18
"""Decoded bytes for which another thread is woken: 256 KiB take 50 µs, as that does."""


def encode_elements(array: NDArray[Any], kind: elements.Kind) -> bytes:
    """Return the elements of an array, each after its length; see `elements.encode_elements`."""
    if kind is str and array.dtype.kind == "O":
        return elements.encode_elements(array, kind)
    encoded: bytes = (_native.encode_texts if kind is str else _native.encode_runs)(array)
    return encoded


def decode_elements(data: Any, out: NDArray[Any], kind: elements.Kind) -> None:
    """Store elements in an array; see `elements.decode_elements`."""
    if kind is str and out.dtype.kind == "O":
        elements.decode_elements(data, out, kind)
    else:
        (_native.decode_texts if kind is str else _native.decode_runs)(data, out)


def valid_index(table: Ints, start: int, stop: int) -> bool:
    """Say whether every entry of an index is good; see `reference.valid_index`."""
    valid: bool = _native.valid_index(table, start, stop)
    return valid


def plan_box(
    box: tuple[Shape, Shape, Shape], edge: Shape, grid: Shape, offset: Ints, size: Ints, limit: int, lo: int, hi: int
) -> BoxPlan | None:
    """Plan the read of a box of a shard; see `reference.plan_box`."""
    axes = len(edge)
    boxes, spans = np.empty((3, hi - lo, axes + 1), np.int64), np.empty((4, hi - lo), np.int64)
    found = _native.plan_box(*box, edge, grid, offset, size, limit, lo, boxes, spans)
    if found is None:
        return None
    stored, runs = found
    return BoxPlan(runs, spans[:, :stored], boxes)


def decode_step(step: Step, data: Any, limit: int) -> memoryview:
    """Decode one run of bytes by one compressing step, to at most `limit` bytes; see `reference.decode_step`."""
    # Not all of the limit at once: that of a shard may be gigabytes, more addresses than a process may have.
    size = min(limit, max(MIN_DECODED_BYTES, GROWTH * memoryview(data).nbytes))
    while True:
        place = np.empty(size, np.uint8)
        try:
            return memoryview(place.data)[: _native.decompress(step, data, place)]
        except ValueError as error:
            if size == limit or "too large" not in str(error):
                raise
            size = min(limit, GROWTH * size)


def pack(buffers: Sequence[Any], which: Ints, offset: Ints, size: Ints) -> Bytes:
    """Copy spans of `buffers` back to back into one new array; see `reference.pack`."""
    columns = (np.ascontiguousarray(which), np.ascontiguousarray(offset), np.ascontiguousarray(size))
    packed: Bytes = _native.pack(buffers, *columns, _allocate)
    return packed


def _allocate(size: int) -> Bytes:
    return np.empty(size, np.uint8)


def crc32c(data: Any, value: int = 0) -> int:
    """Return the CRC-32C of `data`, continuing from `value`; see `zarrant.kernels.checksum.crc32c`."""
    checksum: int = _native.crc32c(data, value)
    return checksum
