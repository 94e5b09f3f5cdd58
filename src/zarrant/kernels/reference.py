"""NumPy and numcodecs twins of every kernel: the specification of each.

In come arrays, buffers and programs; out go copies, encoded arenas and lists of failures, exactly as the compiled module
gives them. A caller's mistake ends in `ValueError` before anything is written; bad stored data ends as a failure of its
row and never as an exception. No size found in stored data is trusted for an allocation, and the code here is meant to be
read, not to be fast.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zarrant.errors import OptionError
from zarrant.kernels import packing, zstd_frames
from zarrant.kernels.checksum import crc32c
from zarrant.kernels.external import external_bound, external_decode, external_encode
from zarrant.kernels.program import (
    BLOSC,
    BLOSC_COMPRESSORS,
    CRC32C,
    EXTERNAL,
    GZIP,
    SLACK,
    SWAP,
    ZSTD,
    BoxPlan,
    EncodedRows,
    Failure,
    OuterBoxes,
    Program,
    RowBoxes,
    RowMemory,
    Shape,
    Step,
    check_sizes,
    fixed_size,
)
from zarrant.kernels.streams import decode_streams

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]

pack = packing.pack


class _Bad(Exception):
    """Stored bytes that do not decode; the text is the reason."""


def features() -> dict[str, bool]:
    """Name the steps, and the compressors inside Blosc frames, that this implementation has."""
    from numcodecs import blosc  # importing it takes 30 ms, and most programs are compiled

    inside = {f"blosc:{name}": name in blosc.list_compressors() for name in BLOSC_COMPRESSORS}
    return {"swap": True, "blosc": True, "zstd": True, "gzip": True, "crc32c": True, "external": True, **inside}


def copy_boxes(
    src: NDArray[Any],
    src_start: Ints,
    src_step: Ints,
    dst: NDArray[Any],
    dst_start: Ints,
    dst_step: Ints,
    shape: Ints,
) -> None:
    """Copy box b of `src` to box b of `dst`, in order, bit for bit.

    Box b has the shape `shape[b]`; its element i lies at `start[b] + i * step`. `src` and `dst` have D axes, equal item
    sizes, any strides, and share no memory. Later boxes win where boxes overlap in `dst`.

    Raises ValueError for a box that leaves `src` or `dst`, before anything is copied.
    """
    _check_pair(src, dst)
    for array, start, step in ((src, src_start, src_step), (dst, dst_start, dst_step)):
        _check_boxes(array, start, step, shape)
    if (shape[:, dst_step == 0] > 1).any():
        raise ValueError("a destination cannot step by 0")
    bits = np.dtype((np.void, src.itemsize))
    src, dst = src.view(bits), dst.view(bits)
    for box in range(len(shape)):
        if (shape[box] > 0).all():
            into = dst[_slices(dst_start[box], dst_step, shape[box])]
            into[...] = src[_slices(src_start[box], src_step, shape[box])]


def _check_pair(src: NDArray[Any], dst: NDArray[Any]) -> None:
    if src.ndim != dst.ndim or src.itemsize != dst.itemsize or src.itemsize == 0:
        raise ValueError(
            f"source and destination need equal axes and item sizes: {src.ndim} and {dst.ndim} axes, "
            f"{src.itemsize} and {dst.itemsize} bytes"
        )
    if src.dtype.hasobject or dst.dtype.hasobject:
        raise ValueError("Python objects cannot be copied bit for bit")
    if not dst.flags.writeable:
        raise ValueError("the destination is read-only")
    if np.may_share_memory(src, dst):
        raise ValueError("source and destination share memory")


def _check_boxes(array: NDArray[Any], start: Ints, step: Ints, shape: Ints) -> None:
    for name, columns, expected in (("start", start, (len(shape), array.ndim)), ("step", step, (array.ndim,))):
        if columns.dtype != np.int64 or columns.shape != expected or not columns.flags.c_contiguous:
            raise ValueError(f"{name}: expected C-contiguous int64 of shape {expected}, got {columns.dtype} {columns.shape}")
    if shape.dtype != np.int64 or shape.shape != start.shape or not shape.flags.c_contiguous:
        raise ValueError(f"shape: expected C-contiguous int64 of shape {start.shape}, got {shape.dtype} {shape.shape}")
    for box in range(len(shape)):
        counts = [int(count) for count in shape[box]]
        if any(count < 0 for count in counts):
            raise ValueError(f"box {box} has a negative length: {counts}")
        if 0 in counts:
            continue
        for axis, count in enumerate(counts):
            first, stride = int(start[box, axis]), int(step[axis])
            last = first + stride * (count - 1)
            if not (0 <= first < array.shape[axis] and 0 <= last < array.shape[axis]):
                raise ValueError(f"box {box} leaves axis {axis} of length {array.shape[axis]}: {first} to {last}")


def _slices(start: Ints, step: Ints, shape: Ints) -> tuple[Any, ...]:
    slices: list[Any] = [...]  # keeps an array of no axes an array
    for first, stride, count in zip(start.tolist(), step.tolist(), shape.tolist(), strict=True):
        if stride == 0 or count == 1:
            slices.append(slice(first, first + 1))  # a step of 0 repeats one source element; NumPy broadcasts it
        else:
            stop = first + stride * count
            slices.append(slice(first, None if stop < 0 else stop, stride))
    return tuple(slices)


def equals_fill(rows: Bytes, fill: bytes) -> NDArray[np.bool_]:
    """Say of each row whether it is `fill`, repeated: bitwise, so that -0.0 is not 0.0 and NaN payloads count."""
    _check_rows(rows)
    if not fill or rows.shape[1] % len(fill):
        raise ValueError(f"rows of {rows.shape[1]} bytes are no repetition of {len(fill)} bytes")
    pattern = np.frombuffer(fill, np.uint8)
    result: NDArray[np.bool_] = (rows.reshape(len(rows), rows.shape[1] // len(fill), len(fill)) == pattern).all(axis=(1, 2))
    return result


def _check_rows(rows: Bytes) -> None:
    if rows.dtype != np.uint8 or rows.ndim != 2 or (rows.size and rows.shape[1] > 1 and rows.strides[1] != 1):
        raise ValueError(f"rows: expected contiguous rows of uint8, got {rows.dtype} {rows.shape}")


def encoded_bound(program: Program, nbytes: int) -> int:
    """Return the most bytes that one row of `nbytes` can take, encoded."""
    check_sizes(program, nbytes)
    for step in program:
        nbytes = external_bound(step, nbytes) if step[0] == EXTERNAL else _BOUNDS[step[0]](nbytes)
    return nbytes


_BOUNDS: dict[int, Callable[[int], int]] = {
    SWAP: lambda n: n,
    BLOSC: lambda n: n + 16,
    ZSTD: lambda n: n + (n >> 8) + (((1 << 17) - n) >> 11 if n < 1 << 17 else 0) + 64,  # ZSTD_compressBound
    GZIP: lambda n: n + (n >> 5) + (n >> 7) + (n >> 11) + 64,  # deflateBound, the conservative form
    CRC32C: lambda n: n + 4,
}


def encode(program: Program, rows: Bytes, keep: NDArray[np.bool_] | None) -> tuple[Bytes, Ints]:
    """Encode the kept rows: `(arena, sizes)`.

    The arena holds the encoded rows back to back in row order and ends with the last; `sizes[i]` is -1 for a row that is
    not kept. With an empty program and every row kept the arena is `rows` itself, not a copy.
    """
    _check_rows(rows)
    check_sizes(program, rows.shape[1])
    if keep is not None and (keep.dtype != np.bool_ or keep.shape != (len(rows),)):
        raise ValueError(f"keep: expected bool of shape ({len(rows)},), got {keep.dtype} {keep.shape}")
    kept = range(len(rows)) if keep is None else np.flatnonzero(keep)
    sizes = np.full(len(rows), -1, np.int64)
    if not program and len(kept) == len(rows) and rows.flags.c_contiguous:
        sizes[:] = rows.shape[1]
        return rows.reshape(-1), sizes
    arena = bytearray()
    for row in kept:
        data = rows[row].tobytes()
        for step in program:
            data = _ENCODERS[step[0]](step, data)
        sizes[row] = len(data)
        arena += data
    return np.frombuffer(arena, np.uint8), sizes


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
    """Copy boxes of `values` to the rows of a batch, one for each of `covered`, and encode these: `encode(...)` of them.

    A row is what it is in `old` where no box lies; one that is not there, and not `covered`, is `fill` (one element). With `drop`,
    rows of nothing but fill are not kept. The arena is the beginning of what `allocate` gave for as many bytes as it was asked for.
    The failures are the first of `old`, as of `decode_boxes`, or none; where there is one, what is in the arena is not defined.
    """
    boxes = _expanded(boxes, len(covered), values.ndim) if isinstance(boxes, OuterBoxes) else boxes
    _check_batch(values, boxes, rows, fill)
    if covered.dtype != np.bool_ or covered.ndim != 1:
        raise ValueError(f"covered: expected a column of bool, got {covered.dtype} {covered.shape}")
    flat, seen = _all_rows(rows, len(covered), fill)
    failures = [] if old is None else _decode_rows(program, old, flat, check)
    copy_boxes(values, boxes.start, boxes.step, seen, boxes.row_start, boxes.row_step, boxes.shape)
    encoded, sizes = encode(program, flat, ~equals_fill(flat, fill) if drop else None)
    arena = allocate(len(covered) * encoded_bound(program, flat.shape[1]))
    arena[: encoded.size] = encoded
    return arena[: encoded.size], sizes, failures


def _check_batch(array: NDArray[Any], boxes: RowBoxes, rows: RowMemory, fill: bytes) -> None:
    flat, seen = rows
    _check_rows(flat)
    bits = (*seen.shape[:1], seen.size // max(1, len(seen)) * seen.itemsize)
    if not len(flat) or bits != flat.shape or not flat.flags.c_contiguous or not np.may_share_memory(flat, seen):
        raise ValueError(f"expected two views of the same rows, got {flat.shape} and {seen.shape}")
    if len(fill) != array.itemsize or array.itemsize != seen.itemsize:
        raise ValueError(f"expected a fill value and rows of {array.itemsize} bytes, got {len(fill)} and {seen.itemsize}")
    if np.may_share_memory(array, flat):
        raise ValueError("the array and the rows share memory")
    if len(boxes.shape) and ((boxes.shape[:, 0] != 1).any() or (np.diff(boxes.row_start[:, 0]) < 0).any()):
        raise ValueError("expected boxes of one row each, in the order of the rows")


def _all_rows(rows: RowMemory, count: int, fill: bytes) -> tuple[Bytes, NDArray[Any]]:
    """New memory for all rows of a batch, full of fill elements."""
    flat = np.tile(np.frombuffer(fill, np.uint8), (count, rows.flat.shape[1] // len(fill)))
    seen = np.ndarray((count, *rows.seen.shape[1:]), rows.seen.dtype, flat, 0, (flat.shape[1], *rows.seen.strides[1:]))
    return flat, seen


def _swap(step: Step, data: bytes) -> bytes:
    return np.frombuffer(data, np.uint8).reshape(-1, step[1])[:, ::-1].tobytes()


def _blosc(step: Step, data: bytes) -> bytes:
    from numcodecs import blosc

    _, compressor, level, shuffle, typesize, blocksize = step
    name = BLOSC_COMPRESSORS[compressor]
    if name not in blosc.list_compressors():
        raise OptionError("this Blosc is built without a compressor", got=name, expected=blosc.list_compressors())
    if not data:
        return bytes((2, 1, 2, 1)) + struct.pack("<III", 0, 0, 16)  # numcodecs refuses to make an empty frame
    typesize = typesize if typesize <= 255 else 1  # as c-blosc does
    encoded: bytes = blosc.compress(data, name.encode(), level, shuffle, blocksize, typesize)
    return encoded


def _zstd(step: Step, data: bytes) -> bytes:
    from numcodecs import zstd

    encoded: bytes = zstd.compress(data, step[1], bool(step[2]))
    return encoded


def _gzip(step: Step, data: bytes) -> bytes:
    encoder = zlib.compressobj(step[1], wbits=31)
    return encoder.compress(data) + encoder.flush()


def _append_crc32c(step: Step, data: bytes) -> bytes:
    return data + struct.pack("<I", crc32c(data))


_ENCODERS: dict[int, Callable[[Step, bytes], bytes]] = {
    SWAP: _swap,
    BLOSC: _blosc,
    ZSTD: _zstd,
    GZIP: _gzip,
    CRC32C: _append_crc32c,
    EXTERNAL: external_encode,
}


def decode(
    program: Program,
    buffers: Sequence[Any],
    which: Ints,
    offset: Ints,
    size: Ints,
    rows: Bytes,
    check: bool,
) -> list[Failure]:
    """Decode `buffers[which[i]][offset[i] : offset[i] + size[i]]` into `rows[i]`; return what failed.

    A failure is `(row, step, reason)`; step `len(program)` is the final check that the row is exactly full. The other rows
    are decoded all the same; what a failed row then holds is not defined. `check=False` skips comparing CRC-32C.

    Raises ValueError for spans outside of their buffers and for columns or rows of the wrong form: the caller's mistakes.
    """
    _check_rows(rows)
    check_sizes(program, rows.shape[1])
    if not rows.flags.writeable:
        raise ValueError("rows are read-only")
    views, spans = packing.check_spans(buffers, which, offset, size, len(rows))
    failures: list[Failure] = []
    for row, (buffer, first, length) in enumerate(spans):
        data = bytes(views[buffer][first : first + length])
        failure = _decode_row(program, data, rows[row], check)
        if failure:
            failures.append((row, *failure))
    return failures


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
    """Decode spans to rows of a batch of `count`, the others are `fill` (one element); copy boxes of the rows to `out`.

    Ends with the first span that fails, and returns that alone: `(span, step, reason)` as `decode` does. What lies in the boxes
    in `out` is then not defined. Of a span that consists of blocks, with no checksum of all, those may be left out in which no
    box lies: the compiled twin does that, and does not see what is wrong with them.
    """
    boxes = _expanded(boxes, count, out.ndim) if isinstance(boxes, OuterBoxes) else boxes
    _check_batch(out, boxes, rows, fill)
    flat, seen = _all_rows(rows, count, fill)
    failures = _decode_rows(program, spans, flat, check)
    _check_boxes(out, boxes.start, boxes.step, boxes.shape)
    if not failures:
        copy_boxes(seen, boxes.row_start, boxes.row_step, out, boxes.start, boxes.step, boxes.shape)
    return failures


def _decode_rows(program: Program, spans: EncodedRows, rows: Bytes, check: bool) -> list[Failure]:
    """Decode spans to their places in all rows of a batch; the first failure, or none."""
    number = spans.number
    if number.dtype != np.int64 or number.shape != spans.which.shape:
        raise ValueError(f"number: expected int64 of shape {spans.which.shape}, got {number.dtype} {number.shape}")
    if len(number) and (number[0] < 0 or number[-1] >= len(rows) or (np.diff(number) <= 0).any()):
        raise ValueError("expected the rows of spans in ascending order")
    decoded = np.empty((len(number), rows.shape[1]), np.uint8)
    failures = decode(program, spans.buffers, spans.which, spans.offset, spans.size, decoded, check)
    rows[number] = decoded
    return failures[:1]


def _expanded(outer: OuterBoxes, count: int, axes: int) -> RowBoxes:
    """A box for each combination of segments."""
    columns = (outer.start, outer.row_start, outer.shape)
    good = all(column.dtype == np.int64 and column.shape == outer.shape.shape[:1] for column in columns)
    if not good or outer.spans.dtype != np.int64 or outer.spans.shape != (count, axes - 1, 2):
        raise ValueError("expected columns of segments, and those of each row and axis")
    first, last = outer.spans[..., 0], outer.spans[..., 1]
    if (first < 0).any() or (last < first).any() or (last > len(outer.shape)).any() or (outer.shape < 1).any():
        raise ValueError("expected segments that are there, of one element at least")
    parts = [_combinations(row, [range(*span) for span in spans]) for row, spans in enumerate(outer.spans.tolist())]
    chosen = np.concatenate([np.zeros((0, axes), np.int64), *parts])
    start, row_start, shape = (np.empty((len(chosen), axes), np.int64) for _ in range(3))
    start[:, 0], row_start[:, 0], shape[:, 0] = 0, chosen[:, 0], 1
    for table, column in zip((start, row_start, shape), columns, strict=True):
        table[:, 1:] = column[chosen[:, 1:]]
    return RowBoxes(start, outer.step, row_start, outer.row_step, shape)


def _combinations(row: int, segments: list[range]) -> Ints:
    """(k, 1 + axes): the row, and a segment of each axis."""
    found = list(product([row], *segments))
    return np.array(found, np.int64).reshape(len(found), 1 + len(segments))


def valid_index(table: Ints, start: int, stop: int) -> bool:
    """Say whether every entry (offset, size) of an (n, 2) table is -1, -1 or lies in start..stop, and no two with bytes overlap."""
    if table.ndim != 2 or table.shape[1] != 2 or table.dtype != np.int64 or start < 0:
        raise ValueError("expected a table of offsets and sizes")
    live = table[(table != -1).any(axis=1)]
    if (live < (start, 0)).any() or (live[:, 0] > stop).any() or (live[:, 1] > stop - live[:, 0]).any():
        return False
    spans = live[live[:, 1] > 0]
    spans = spans[spans[:, 0].argsort(kind="stable")]
    return bool((spans[1:, 0] >= spans[:-1].sum(axis=1)).all())


def plan_box(
    box: tuple[Shape, Shape, Shape], edge: Shape, grid: Shape, offset: Ints, size: Ints, limit: int, lo: int, hi: int
) -> BoxPlan | None:
    """Plan the read of those subchunks lo..hi, in C order, that a box of a shard touches.

    `box`: its start in the shard, its shape, and its start in the values. `edge`: the shape of a subchunk; `grid`: how many there
    are. `offset`, `size`: the index, -1 where a subchunk is not stored. None where the entry of one is at fault, or has more than
    `limit` bytes.

    Raises ValueError for a box or rows that are not there: the caller's mistakes.
    """
    start, count, value, each = (np.array(side, np.int64).reshape(len(edge)) for side in (*box, edge))
    first, last = start // each, (start + count - 1) // each
    if not (count > 0).all() or (start < 0).any() or (last >= grid).any() or not len(offset) == len(size) == math.prod(grid):
        raise ValueError("expected a box within the shard")
    along = tuple((last - first + 1).tolist())
    places = np.indices(along).reshape(len(edge), math.prod(along)).T + first
    if not 0 <= lo <= hi <= len(places):
        raise ValueError("expected rows of the box")
    places = places[lo:hi]
    low, high = np.maximum(start, places * each), np.minimum(start + count, (places + 1) * each)
    boxes = np.zeros((3, hi - lo, len(edge) + 1), np.int64)
    boxes[1, :, 0], boxes[2, :, 0] = np.arange(hi - lo), 1
    boxes[:, :, 1:] = value + low - start, low - places * each, high - low
    entries = places @ np.array([math.prod(grid[axis + 1 :]) for axis in range(len(grid))], np.int64)
    at, nbytes = offset[entries], size[entries]
    if ((nbytes < -1) | (nbytes > limit) | ((nbytes >= 0) & ((at < 0) | (at > np.iinfo(np.int64).max - nbytes)))).any():
        return None
    rows = np.flatnonzero(nbytes >= 0)
    spans, runs = np.zeros((4, rows.size), np.int64), list[tuple[int, int]]()
    spans[0], spans[3] = rows, nbytes[rows]
    for i in np.argsort(at[rows], kind="stable").tolist():
        begin = int(at[rows[i]])
        if not runs or sum(runs[-1]) != begin:
            runs.append((begin, 0))
        spans[1, i], spans[2, i] = len(runs) - 1, begin - runs[-1][0]
        runs[-1] = runs[-1][0], runs[-1][1] + int(spans[3, i])
    return BoxPlan(runs, spans, boxes)


def _decode_row(program: Program, data: bytes, row: Bytes, check: bool) -> tuple[int, str] | None:
    for index in reversed(range(len(program))):
        fixed = fixed_size(program[:index], row.size)
        limit = 2 * encoded_bound(program[:index], row.size) + SLACK if fixed is None else fixed
        try:
            data = _DECODERS[program[index][0]](program[index], data, limit, check)
        except _Bad as bad:
            return index, str(bad)
    if len(data) != row.size:
        return len(program), f"decoded to {len(data)} bytes, expected {row.size}"
    row[:] = np.frombuffer(data, np.uint8)
    return None


def _unswap(step: Step, data: bytes, limit: int, check: bool) -> bytes:
    if len(data) % step[1]:
        raise _Bad(f"{len(data)} bytes are no whole number of {step[1]}-byte words")
    return _swap(step, data)


def _strip_crc32c(step: Step, data: bytes, limit: int, check: bool) -> bytes:
    if len(data) < 4:
        raise _Bad(f"{len(data)} bytes are too short for a CRC-32C")
    body, stored = data[:-4], struct.unpack("<I", data[-4:])[0]
    if check and (computed := crc32c(body)) != stored:
        raise _Bad(f"CRC-32C is {computed:08x}, stored {stored:08x}")
    return body


def _unblosc(step: Step, data: bytes, limit: int, check: bool) -> bytes:
    from numcodecs import blosc

    if len(data) < 16:
        raise _Bad(f"{len(data)} bytes are too short for a Blosc header")
    nbytes, _, cbytes = struct.unpack_from("<III", data, 4)
    if cbytes != len(data):
        raise _Bad(f"Blosc frame of {cbytes} bytes stored in {len(data)}")
    if nbytes > limit:
        raise _Bad(f"too large: Blosc frame decodes to {nbytes} bytes, limit {limit}")
    if nbytes == 0:
        return b""
    if data[2] >> 5 == 2 and not data[2] & 2 and "snappy" not in blosc.list_compressors():
        raise _Bad("Blosc: this Blosc is built without snappy")  # the library's own error reads like damage
    try:
        decoded: bytes = blosc.decompress(data)
    except (RuntimeError, ValueError) as error:
        raise _Bad(f"Blosc: {error}") from error
    return decoded


def _ungzip(step: Step, data: bytes, limit: int, check: bool) -> bytes:
    if not data:
        raise _Bad("gzip: truncated")
    try:  # RFC 1952: members follow each other; tools pad with zeros
        return decode_streams(lambda: zlib.decompressobj(wbits=31), data, limit, padding=b"\0")
    except (zlib.error, ValueError) as error:
        raise _Bad(f"gzip: {error}") from error


def _unzstd(step: Step, data: bytes, limit: int, check: bool) -> bytes:
    try:
        return zstd_frames.decompress(data, limit)
    except (ValueError, RuntimeError) as error:
        raise _Bad(f"zstd: {error}") from error


def _external(step: Step, data: bytes, limit: int, check: bool) -> bytes:
    try:
        return external_decode(step, data, limit)
    except ValueError as error:
        raise _Bad(str(error)) from error


_DECODERS: dict[int, Callable[[Step, bytes, int, bool], bytes]] = {
    SWAP: _unswap,
    BLOSC: _unblosc,
    ZSTD: _unzstd,
    GZIP: _ungzip,
    CRC32C: _strip_crc32c,
    EXTERNAL: _external,
}


def encode_step(step: Step, data: Any) -> bytes:
    """Encode one run of bytes by one step."""
    return _ENCODERS[step[0]](step, bytes(data))


def decode_step(step: Step, data: Any, limit: int, check: bool = True) -> bytes:
    """Decode one run of bytes by one step, to at most `limit` bytes; ValueError where it does not decode."""
    try:
        return _DECODERS[step[0]](step, bytes(data), limit, check)
    except _Bad as bad:
        raise ValueError(str(bad)) from bad
