"""One suite for both implementations of the kernels, and their equality."""

from __future__ import annotations

import gzip
import os
import resource
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import blosc as numcodecs_blosc
from numcodecs import zstd as numcodecs_zstd
from zarrant import kernels
from zarrant.errors import OptionError, ShapeError
from zarrant.kernels import BLOSC, CRC32C, GZIP, SWAP, ZSTD, reference
from zarrant.kernels.checksum import crc32c as numpy_crc32c

try:
    from zarrant.kernels import compiled
except ImportError:
    compiled = None  # type: ignore[assignment]

IMPLEMENTATIONS = [
    pytest.param(reference, id="reference"),
    pytest.param(compiled, id="native", marks=pytest.mark.skipif(compiled is None, reason="compiled kernels absent")),
]
both = pytest.mark.parametrize("kernel", IMPLEMENTATIONS)
twins = pytest.mark.skipif(compiled is None, reason="compiled kernels absent")

PROGRAMS: list[tuple[tuple[int, ...], ...]] = [
    (),
    ((SWAP, 1),),
    ((SWAP, 2),),
    ((SWAP, 4), (CRC32C,)),
    ((SWAP, 16),),
    ((CRC32C,), (CRC32C,)),
    ((BLOSC, 0, 5, 1, 4, 0),),
    ((BLOSC, 1, 5, 1, 2, 0), (CRC32C,)),
    ((BLOSC, 2, 9, 2, 8, 64),),
    ((BLOSC, 4, 1, 0, 1, 0),),
    ((SWAP, 8), (BLOSC, 5, 3, 2, 300, 0)),
    ((BLOSC, 1, 0, 1, 4, 0),),
    ((ZSTD, 3, 0),),
    ((SWAP, 2), (ZSTD, -5, 1), (CRC32C,)),
    ((GZIP, 0),),
    ((GZIP, 6), (CRC32C,)),
    ((CRC32C,), (GZIP, 1), (ZSTD, 1, 1)),
    ((SWAP, 4), (CRC32C,), (BLOSC, 5, 1, 1, 4, 0), (ZSTD, 1, 0), (GZIP, 9), (CRC32C,)),
]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=str)


def sample(count: int, nbytes: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    rows = random.integers(0, 4, (count, nbytes), dtype=np.uint8)
    if count > 1:
        rows[1] = 0
    if count > 2:
        rows[2] = random.integers(0, 256, nbytes, dtype=np.uint8)
    return rows


def spans(sizes: Any) -> tuple[Any, Any, Any]:
    return np.zeros(len(sizes), np.int64), np.cumsum(sizes) - sizes, sizes


def one(*data: bytes) -> tuple[Any, Any, Any, Any]:
    """Each buffer as one whole row."""
    count = len(data)
    sizes = np.array([len(item) for item in data], np.int64)
    return list(data), np.arange(count), np.zeros(count, np.int64), sizes


# ── copies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@st.composite
def axis_plans(draw: st.DrawFn) -> tuple[list[int], list[int], list[int], list[list[tuple[int, int, int]]]]:
    """Lengths of both arrays, steps, and boxes as (source start, destination start, count) an axis."""
    axes = draw(st.integers(0, 4))
    src_step = [draw(st.sampled_from([1, 1, 2, -1, -3, 0])) for _ in range(axes)]
    dst_step = [draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in range(axes)]
    count = draw(st.integers(0, 5))
    same = draw(st.booleans())
    boxes: list[list[tuple[int, int, int]]] = []
    lengths = [draw(st.integers(1, 20)) for _ in range(axes)], [draw(st.integers(1, 20)) for _ in range(axes)]
    for number in range(count):
        box = []
        for axis in range(axes):
            n = boxes[0][axis][2] if same and boxes else draw(st.integers(0, 12))
            room = [abs(step[axis]) * max(n - 1, 0) for step in (src_step, dst_step)]
            for side in (0, 1):
                lengths[side][axis] = max(lengths[side][axis], room[side] + 1 + (number if same else 0))
            starts = []
            for side, step in ((0, src_step), (1, dst_step)):
                free = lengths[side][axis] - 1 - room[side]
                at = min(number * room[side] + number, free) if same else draw(st.integers(0, free))
                starts.append(at + (room[side] if step[axis] < 0 else 0))
            box.append((starts[0], starts[1], n))
        boxes.append(box)
    return lengths[0], lengths[1], [*src_step, *dst_step], boxes


def laid_out(draw: st.DrawFn, lengths: list[int], dtype: Any) -> Any:
    """An array with strides of any order and sign, with or without gaps."""
    order = draw(st.permutations(range(len(lengths))))
    gaps = [draw(st.sampled_from([1, 1, 2])) for _ in lengths]
    base = np.zeros([lengths[axis] * gaps[axis] for axis in order], dtype)
    view = base.transpose(np.argsort(order)) if lengths else base
    return view[(..., *(slice(None, None, gap * draw(st.sampled_from([1, 1, -1]))) for gap in gaps))]


def columns(plan: Any, axes: int) -> Any:
    table = np.array(plan[3], np.int64).reshape(len(plan[3]), axes, 3)
    src_start, dst_start, shape = (np.ascontiguousarray(table[:, :, i]) for i in range(3))
    steps = np.array(plan[2], np.int64).reshape(2, axes)
    return (src_start, np.ascontiguousarray(steps[0])), (dst_start, np.ascontiguousarray(steps[1]), shape)


def elementwise(src: Any, dst: Any, plan: Any) -> None:
    """The slowest and plainest copy: one element at a time."""
    axes = src.ndim
    steps = plan[2]
    for box in plan[3]:
        for index in np.ndindex(*(axis[2] for axis in box)):
            at = tuple(box[a][0] + index[a] * steps[a] for a in range(axes))
            to = tuple(box[a][1] + index[a] * steps[axes + a] for a in range(axes))
            dst[to] = src[at]


@both
@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_boxes_arrive_element_by_element(kernel: Any, data: st.DataObject) -> None:
    plan = data.draw(axis_plans())
    dtype = data.draw(st.sampled_from(["u1", "u2", "f4", "i8", "c16", "V3", "S7"]))
    draw: Any = data.draw
    src, dst = laid_out(draw, plan[0], dtype), laid_out(draw, plan[1], dtype)
    octets = np.random.default_rng(1).integers(0, 256, src.size * src.itemsize, dtype=np.uint8)
    src[...] = octets.view(dtype).reshape(src.shape)
    expected = dst.copy()
    bits = np.dtype((np.void, src.itemsize))
    src.flags.writeable = False
    elementwise(src.view(bits), expected.view(bits), plan)
    before, after = columns(plan, src.ndim)
    kernel.copy_boxes(src, *before, dst, *after)
    assert dst.tobytes() == expected.tobytes()


def cube_boxes(shape: tuple[int, ...], cell: tuple[int, ...]) -> tuple[Any, Any, Any, Any]:
    grid = [length // size for length, size in zip(shape, cell, strict=True)]
    cells = np.array(list(np.ndindex(*grid)), np.int64)
    big = np.ascontiguousarray(np.c_[np.zeros(len(cells), np.int64), cells * cell])
    rows = np.zeros_like(big)
    rows[:, 0] = np.arange(len(cells))
    sizes = np.tile(np.array([1, *cell], np.int64), (len(cells), 1))
    return big, rows, sizes, np.ones(len(cell) + 1, np.int64)


@both
@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "c16", "V3"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("turned", [False, True])
def test_pencils_of_a_whole_grid(kernel: Any, dtype: str, order: Any, turned: bool) -> None:
    shape, cell = (20, 36, 80), (10, 9, 20)
    octets = np.random.default_rng(2).integers(0, 256, 20 * 36 * 80 * np.dtype(dtype).itemsize, dtype=np.uint8)
    array = np.asarray(octets.view(dtype).reshape(shape), order=order)
    big, starts, sizes, step = cube_boxes(shape, cell)
    rows = np.zeros((32, *(cell[::-1] if turned else cell)), dtype)
    view = rows.transpose(0, 3, 2, 1) if turned else rows
    kernel.copy_boxes(array[None], big, step, view, starts, step, sizes)
    for number, corner in enumerate(big[:, 1:]):
        part = array[tuple(slice(at, at + size) for at, size in zip(corner, cell, strict=True))]
        assert view[number].tobytes() == part.tobytes()
    back = np.zeros_like(array)
    kernel.copy_boxes(view, starts, step, back[None], big, step, sizes)
    assert back.tobytes() == array.tobytes()


@both
def test_later_boxes_win(kernel: Any) -> None:
    src, dst = np.arange(12, dtype=np.int16).reshape(3, 4), np.zeros((1, 6), np.int16)
    starts = np.array([[0, 0], [1, 0], [2, 0]], np.int64)
    into = np.array([[0, 0], [0, 1], [0, 2]], np.int64)
    step = np.ones(2, np.int64)
    kernel.copy_boxes(src, starts, step, dst, into, step, np.array([[1, 4]] * 3, np.int64))
    assert dst.tolist() == [[0, 4, 8, 9, 10, 11]]


@both
def test_broadcast_source(kernel: Any) -> None:
    src, dst = np.broadcast_to(np.arange(3, dtype=np.float32), (4, 3)), np.zeros((4, 3), np.float32)
    start, step = np.zeros((1, 2), np.int64), np.ones(2, np.int64)
    kernel.copy_boxes(src, start, step, dst, start, step, np.array([[4, 3]], np.int64))
    assert dst.tolist() == src.tolist()


BIG = 2**63 - 1


@both
@pytest.mark.parametrize(
    ("start", "step", "count"),
    [(0, 1, 5), (-1, 1, 2), (4, 1, 1), (1, -1, 3), (1, BIG, 2), (BIG, 1, 2), (0, -BIG, BIG), (2, BIG, BIG), (0, 1, -1)],
)
@pytest.mark.parametrize("side", ["source", "destination"])
def test_boxes_outside_are_refused_before_any_copy(kernel: Any, start: int, step: int, count: int, side: str) -> None:
    src, dst = np.ones(4, np.int32), np.zeros(4, np.int32)
    good, bad = np.zeros((2, 1), np.int64), np.array([[0], [start]], np.int64)
    steps = np.ones(1, np.int64), np.array([step], np.int64)
    shape = np.array([[1], [count]], np.int64)
    with pytest.raises(ValueError, match="box 1"):
        if side == "source":
            kernel.copy_boxes(src, bad, steps[1], dst, good, steps[0], shape)
        else:
            kernel.copy_boxes(src, good, steps[0], dst, bad, steps[1], shape)
    assert not dst.any()


@both
def test_steps_that_are_never_taken_may_be_anything(kernel: Any) -> None:
    src, dst = np.arange(4, dtype=np.int32), np.zeros(4, np.int32)
    step = np.array([-BIG - 1], np.int64)
    at = np.array([[1], [2]], np.int64)
    kernel.copy_boxes(src, at, step, dst, at, step, np.ones((2, 1), np.int64))
    assert dst.tolist() == [0, 1, 2, 0]


@both
def test_arrays_that_do_not_fit_are_refused(kernel: Any) -> None:
    start, step, shape = np.zeros((1, 1), np.int64), np.ones(1, np.int64), np.ones((1, 1), np.int64)
    whole = np.zeros(4, np.int32)
    fixed = np.zeros(4, np.int32)
    fixed.flags.writeable = False
    pairs = [
        (whole, np.zeros(4, np.int16)),
        (whole, np.zeros((4, 1), np.int32)),
        (whole, fixed),
        (whole, whole[1:]),
        (np.zeros(4, object), np.zeros(4, np.int64)),
        (np.zeros(4, np.int64), np.zeros(4, object)),
    ]
    for src, dst in pairs:
        with pytest.raises(ValueError):
            kernel.copy_boxes(src, start, step, dst, start, step, shape)
    other = np.zeros(4, np.int32)
    for bad in (start.astype(np.int32), np.zeros((2, 1), np.int64), np.zeros((1, 2), np.int64), start.astype(np.float64)):
        with pytest.raises(ValueError):
            kernel.copy_boxes(whole, bad, step, other, start, step, shape)
    with pytest.raises(ValueError, match="step"):
        kernel.copy_boxes(whole, start, step, other, start, np.zeros(1, np.int64), shape + 1)


@both
def test_any_plain_dtype_is_copied(kernel: Any) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    start, step, shape = np.zeros((1, 1), np.int64), np.ones(1, np.int64), np.full((1, 1), 3, np.int64)
    for dtype in (ml_dtypes.bfloat16, "M8[s]", "?", "U2", [("a", "i4"), ("b", "f8")]):
        src = np.frombuffer(bytes(range(3 * np.dtype(dtype).itemsize)), np.uint8).view(dtype)
        dst = np.zeros(3, dtype)
        kernel.copy_boxes(src, start, step, dst, start, step, shape)
        assert dst.tobytes() == src.tobytes()


# ── fill ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@both
@pytest.mark.parametrize("fill", [b"\0", b"\x01\x02", b"\0\0\0\x80", bytes(7), bytes(range(16)), bytes(range(24))])
@pytest.mark.parametrize("times", [0, 1, 2, 63, 500])
def test_fill_is_compared_bitwise(kernel: Any, fill: bytes, times: int) -> None:
    nbytes = len(fill) * times
    rows = np.tile(np.frombuffer(fill, np.uint8), (min(nbytes, 70) + 1, times))
    for changed in range(1, len(rows)):
        rows[changed, -changed] ^= 0x80
    assert kernel.equals_fill(rows, fill).tolist() == [True] + [False] * (len(rows) - 1)


@both
def test_negative_zero_is_not_zero(kernel: Any) -> None:
    rows = np.array([[0.0, 0.0], [0.0, -0.0]]).view(np.uint8)
    assert kernel.equals_fill(rows, bytes(8)).tolist() == [True, False]


@both
@pytest.mark.parametrize("fill", [b"", b"123"])
def test_fill_that_does_not_divide_is_refused(kernel: Any, fill: bytes) -> None:
    with pytest.raises(ValueError):
        kernel.equals_fill(np.zeros((2, 4), np.uint8), fill)


# ── checksum ────────────────────────────────────────────────────────────────────────────────────────────────────────


@both
def test_crc32c_vectors(kernel: Any) -> None:
    # RFC 3720, appendix B.4, and the check value of the catalogue of parametrised CRCs
    assert kernel.crc32c(b"123456789") == 0xE3069283
    assert kernel.crc32c(bytes(32)) == 0x8A9136AA
    assert kernel.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert kernel.crc32c(bytes(range(32))) == 0x46DD794E
    assert kernel.crc32c(b"") == 0


def bytewise_crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@both
@given(size=st.integers(0, 3000), cut=st.integers(0, 3000), seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_crc32c_of_any_length_and_in_parts(kernel: Any, size: int, cut: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(size)
    assert kernel.crc32c(data) == bytewise_crc32c(data)
    assert kernel.crc32c(data[cut:], kernel.crc32c(data[:cut])) == kernel.crc32c(memoryview(data))


@twins
@pytest.mark.parametrize("size", [767, 768, 12287, 12288, 12289, 100_001, 1 << 20])
def test_crc32c_of_many_lanes(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert compiled.crc32c(data) == numpy_crc32c(data)


# ── encode and decode ───────────────────────────────────────────────────────────────────────────────────────────────


@both
@programs
@pytest.mark.parametrize("nbytes", [0, 16, 2048, 48000])
def test_rows_come_back(kernel: Any, program: Any, nbytes: int) -> None:
    rows = sample(5, nbytes)
    arena, sizes = kernel.encode(program, rows, None)
    assert arena.dtype == np.uint8 and arena.ndim == 1 and sizes.dtype == np.int64
    assert arena.size == sizes.sum() and sizes.max() <= kernel.encoded_bound(program, nbytes)
    out = np.full_like(rows, 7)
    assert kernel.decode(program, [arena], *spans(sizes), out, True) == []
    assert np.array_equal(out, rows)


@twins
@programs
@pytest.mark.parametrize("nbytes", [0, 16, 2048, 48000])
@pytest.mark.parametrize("forward", [True, False])
def test_one_twin_reads_what_the_other_wrote(program: Any, nbytes: int, forward: bool) -> None:
    writer, reader = (compiled, reference) if forward else (reference, compiled)
    rows = sample(4, nbytes)
    arena, sizes = writer.encode(program, rows, None)
    out = np.full_like(rows, 7)
    assert reader.decode(program, [bytes(arena)], *spans(sizes), out, True) == []
    assert np.array_equal(out, rows)


@both
@programs
def test_only_kept_rows_are_encoded(kernel: Any, program: Any) -> None:
    rows = sample(5, 2048)
    keep = np.array([True, False, True, False, True])
    arena, sizes = kernel.encode(program, rows, keep)
    every, each = kernel.encode(program, rows, None)
    starts = np.cumsum(each) - each
    assert sizes.tolist() == [size if kept else -1 for size, kept in zip(each.tolist(), keep, strict=True)]
    parts = [every[at : at + size] for at, size, kept in zip(starts, each, keep, strict=True) if kept]
    assert arena.tobytes() == b"".join(part.tobytes() for part in parts)
    nothing, none = kernel.encode(program, rows, np.zeros(5, bool))
    assert nothing.size == 0 and none.tolist() == [-1] * 5


@both
def test_an_empty_program_copies_nothing(kernel: Any) -> None:
    rows = sample(3, 64)
    for keep in (None, np.ones(3, bool)):
        arena, sizes = kernel.encode((), rows, keep)
        assert np.shares_memory(arena, rows) and arena.size == rows.size and sizes.tolist() == [64] * 3


@both
def test_the_bytes_are_those_of_the_formats(kernel: Any) -> None:
    rows = sample(1, 4096)
    data = rows.tobytes()

    def encoded(*program: tuple[int, ...]) -> bytes:
        return bytes(kernel.encode(program, rows, None)[0])

    assert encoded((SWAP, 4)) == rows.view(">u4").astype("<u4").tobytes()
    assert encoded((CRC32C,)) == data + bytewise_crc32c(data).to_bytes(4, "little")
    assert gzip.decompress(encoded((GZIP, 5))) == data
    assert bytes(numcodecs_zstd.decompress(encoded((ZSTD, 3, 1)))) == data
    assert bytes(numcodecs_blosc.decompress(encoded((BLOSC, 1, 5, 1, 4, 0)))) == data
    plain, checked = encoded((ZSTD, 3, 0)), encoded((ZSTD, 3, 1))
    assert len(checked) == len(plain) + 4 and checked[4] & 4 and not plain[4] & 4
    blosc = encoded((BLOSC, 1, 5, 2, 8, 512))
    assert blosc[2] & 4 and blosc[3] == 8 and int.from_bytes(blosc[8:12], "little") == 512


@both
def test_spans_of_many_buffers_in_any_order(kernel: Any) -> None:
    rows = sample(3, 100)
    arena, sizes = kernel.encode(((ZSTD, 1, 0),), rows, None)
    _, offset, _ = spans(sizes)
    first = b"xx" + bytes(arena[: sizes[0]])
    out = np.zeros((4, 200), np.uint8)[:, :100]  # rows that do not follow each other
    which, at = np.array([1, 0, 1, 1]), np.array([offset[2], 2, offset[1], offset[2]])
    size = np.array([sizes[2], sizes[0], sizes[1], sizes[2]])
    assert kernel.decode(((ZSTD, 1, 0),), [first, memoryview(bytes(arena))], which, at, size, out, True) == []
    assert np.array_equal(out, rows[[2, 0, 1, 2]])


@both
@pytest.mark.parametrize("span", [(1, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 5, 6), (0, 11, 0), (0, BIG, BIG)])
def test_spans_outside_of_a_buffer_are_the_callers_mistake(kernel: Any, span: tuple[int, int, int]) -> None:
    columns = [np.array([value], np.int64) for value in span]
    with pytest.raises(ValueError, match="span"):
        kernel.decode((), [bytes(10)], *columns, np.zeros((1, 1), np.uint8), True)


@both
def test_columns_and_rows_of_the_wrong_form_are_refused(kernel: Any) -> None:
    column, rows = np.zeros(2, np.int64), np.zeros((2, 4), np.uint8)
    fixed = np.zeros((2, 4), np.uint8)
    fixed.flags.writeable = False
    for which, out in ((column[:1], rows), (column.astype(np.int32), rows), (column, fixed), (column, rows[:, ::2])):
        with pytest.raises(ValueError):
            kernel.decode((), [bytes(10)], which, column, column, out, True)
    with pytest.raises(ValueError):
        kernel.encode((), rows[:, ::2], None)
    with pytest.raises(ValueError):
        kernel.encode(((CRC32C,),), rows, np.ones(3, bool))


@both
@pytest.mark.parametrize("step", [(), (9,), (0,), (SWAP,), (SWAP, 0), (ZSTD, 23, 0), (GZIP, 10), (BLOSC, 6, 1, 1, 1, 0), (CRC32C, 1)])
def test_programs_that_do_not_exist_are_refused(kernel: Any, step: tuple[int, ...]) -> None:
    with pytest.raises(OptionError):
        kernel.encode((step,), sample(1, 8), None)
    with pytest.raises(OptionError):
        kernel.encode(((GZIP, 1), (SWAP, 2)), sample(1, 8), None)
    with pytest.raises(ShapeError):
        kernel.encode(((SWAP, 3),), sample(1, 8), None)
    with pytest.raises(ShapeError):
        kernel.encoded_bound(((BLOSC, 1, 1, 1, 1, 0),), 2**31 - 10)


# ── bad data ────────────────────────────────────────────────────────────────────────────────────────────────────────


@both
@programs
def test_a_broken_row_leaves_the_others_whole(kernel: Any, program: Any) -> None:
    rows = sample(3, 2048)
    arena, sizes = kernel.encode(program, rows, None)
    which, offset, size = spans(sizes)
    for kept in (0, 1, 3, 15, size[1] // 2, size[1] - 1):
        short = size.copy()
        short[1] = kept
        out = np.zeros_like(rows)
        failures = kernel.decode(program, [arena], which, offset, short, out, True)
        assert [row for row, _, _ in failures] == [1]
        assert 0 <= failures[0][1] <= len(program) and failures[0][2]
        assert np.array_equal(out[[0, 2]], rows[[0, 2]])


@both
@programs
@pytest.mark.parametrize("other", [2032, 2064])
def test_rows_of_another_length_fail(kernel: Any, program: Any, other: int) -> None:
    arena, sizes = kernel.encode(program, sample(1, other), None)
    failures = kernel.decode(program, [arena], *spans(sizes), np.zeros((1, 2048), np.uint8), True)
    assert [row for row, _, _ in failures] == [0]
    if other < 2048:
        assert failures[0][1] in (len(program), *range(len(program))) and str(2048) in failures[0][2] + "2048"


@both
def test_the_failed_step_is_named(kernel: Any) -> None:
    program = ((SWAP, 4), (ZSTD, 1, 0), (CRC32C,))
    rows = sample(1, 256)
    good = bytes(kernel.encode(program, rows, None)[0])
    shorter = bytes(kernel.encode(program, sample(1, 252), None)[0])
    broken = bytes([good[0] ^ 1]) + good[1:]
    relabelled = broken[:-4] + kernel.crc32c(broken[:-4]).to_bytes(4, "little")
    out = np.zeros((5, 256), np.uint8)
    failures = kernel.decode(program, *one(broken, relabelled, good, shorter, b"ab"), out, True)
    assert [(row, step) for row, step, _ in failures] == [(0, 2), (1, 1), (3, 3), (4, 2)]
    assert failures[0][2].startswith("CRC-32C is") and failures[1][2].startswith("zstd")
    assert failures[2][2] == "decoded to 252 bytes, expected 256"
    assert np.array_equal(out[2], rows[0])


@both
def test_checksums_can_be_skipped(kernel: Any) -> None:
    rows = sample(1, 64)
    data = bytearray(kernel.encode(((CRC32C,),), rows, None)[0])
    data[-1] ^= 1
    out = np.zeros_like(rows)
    assert len(kernel.decode(((CRC32C,),), *one(bytes(data)), out, True)) == 1
    assert kernel.decode(((CRC32C,),), *one(bytes(data)), out, False) == []
    assert np.array_equal(out, rows)


COMPRESSED: list[tuple[int, ...]] = [
    (BLOSC, 0, 5, 1, 4, 0),
    (BLOSC, 1, 5, 1, 2, 0),
    (BLOSC, 2, 5, 2, 4, 128),
    (BLOSC, 4, 5, 1, 4, 0),
    (BLOSC, 5, 5, 0, 1, 0),
    (ZSTD, 3, 1),
    (ZSTD, 3, 0),
    (GZIP, 6),
]


@both
@pytest.mark.parametrize("step", COMPRESSED, ids=str)
def test_corruption_of_any_byte_never_crashes(kernel: Any, step: tuple[int, ...]) -> None:
    rows = sample(1, 512, seed=5)
    good = bytes(kernel.encode((step,), rows, None)[0])
    places = range(len(good)) if kernel is compiled else [*range(24), *range(24, len(good), 7)]
    broken = [good[:at] + bytes([good[at] ^ flip]) + good[at + 1 :] for at in places for flip in (1, 0x80, 0xFF)]
    guarded = np.full((len(broken), 1024), 0xA5, np.uint8)
    failures = {row for row, _, _ in kernel.decode((step,), *one(*broken), guarded[:, :512], True)}
    assert (guarded[:, 512:] == 0xA5).all()  # nothing was written behind a row
    if step[0] == GZIP or step == (ZSTD, 3, 1):  # formats with a checksum: what is accepted is right
        assert all(np.array_equal(guarded[row, :512], rows[0]) for row in range(len(broken)) if row not in failures)


@both
@given(data=st.binary(max_size=200), step=st.sampled_from([*COMPRESSED, (CRC32C,), (SWAP, 4)]), magic=st.booleans())
@settings(max_examples=200, deadline=None)
def test_noise_never_crashes(kernel: Any, data: bytes, step: tuple[int, ...], magic: bool) -> None:
    heads = {ZSTD: b"\x28\xb5\x2f\xfd", GZIP: b"\x1f\x8b\x08\x00", BLOSC: b"\x02\x01\x01\x04"}
    data = (heads.get(step[0], b"") + data) if magic else data
    failures = kernel.decode((step,), *one(data), np.zeros((1, 64), np.uint8), True)
    assert failures == [] or (failures[0][0] == 0 and failures[0][2])


def zstd_blocks(*blocks: tuple[int, int, bytes], last: bool = True) -> bytes:
    """A frame without content size, of (type, size, content) blocks; window 128 KiB."""
    frame = b"\x28\xb5\x2f\xfd\x00\x38"
    for number, (kind, size, content) in enumerate(blocks):
        final = last and number == len(blocks) - 1
        frame += (size << 3 | kind << 1 | final).to_bytes(3, "little") + content
    return frame


@both
def test_zstd_frames_of_all_kinds(kernel: Any) -> None:
    data = sample(1, 3000).tobytes()
    known = bytes(numcodecs_zstd.compress(data[:1000], 3))
    unknown = zstd_blocks((0, 500, data[1000:1500]), (0, 500, data[1500:2000]))
    skipped = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    run = zstd_blocks((1, 300, b"\x07"))
    row = np.frombuffer(data[:2000] + b"\x07" * 300, np.uint8)
    out = np.zeros((3, 2300), np.uint8)
    pieces = known + unknown + run, skipped + known + unknown + skipped + run, known + skipped[:5] + unknown + run
    failures = kernel.decode(((ZSTD, 3, 0),), *one(*pieces), out, True)
    assert [number for number, _, _ in failures] == [2]
    assert np.array_equal(out[0], row) and np.array_equal(out[1], row)


@both
def test_gzip_members_of_all_kinds(kernel: Any) -> None:
    first, second = gzip.compress(b"a" * 600, mtime=0), gzip.compress(b"b" * 400, 9)
    out = np.zeros((4, 1000), np.uint8)
    failures = kernel.decode(
        ((GZIP, 6),), *one(first + second, first + second + bytes(9), first + second + b"x", first + second[:-3]), out, True
    )
    assert [number for number, _, _ in failures] == [2, 3]
    assert bytes(out[0]) == bytes(out[1]) == b"a" * 600 + b"b" * 400


@both
def test_zlib_streams_are_not_gzip(kernel: Any) -> None:
    assert kernel.decode(((GZIP, 6),), *one(zlib.compress(bytes(64))), np.zeros((1, 64), np.uint8), True)


def bombs() -> list[tuple[Any, bytes]]:
    huge = bytes(200 << 20)
    zipped = gzip.compress(huge, 9)
    packed = bytes(numcodecs_zstd.compress(huge, 1))
    runs = zstd_blocks(*[(1, 128 << 10, b"\0")] * 20_000)
    lying = b"\x28\xb5\x2f\xfd\xe0" + (1 << 50).to_bytes(8, "little") + packed[14:]
    blosc = bytes(numcodecs_blosc.compress(huge, b"zstd", 1, 0))
    twice = gzip.compress(zipped, 9)
    return [
        (((GZIP, 1),), zipped),
        (((ZSTD, 1, 0),), packed),
        (((ZSTD, 1, 0),), runs),
        (((ZSTD, 1, 0),), lying),
        (((BLOSC, 5, 1, 0, 1, 0),), blosc),
        (((GZIP, 1), (GZIP, 1)), twice),
        (((ZSTD, 1, 0), (ZSTD, 1, 0)), bytes(numcodecs_zstd.compress(runs, 1))),
    ]


@both
def test_bombs_fail_within_memory(kernel: Any) -> None:
    made = bombs()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as statm:
        now = int(statm.read().split()[0]) * resource.getpagesize()
    out = np.zeros((1, 4096), np.uint8)
    resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), limits[1]))
    try:
        failures = [kernel.decode(program, *one(data), out, True) for program, data in made]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert [len(failed) for failed in failures] == [1] * len(made)


# ── choice ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_threads_do_not_disturb_each_other() -> None:
    def round_trip(seed: int) -> bool:
        program = PROGRAMS[seed % len(PROGRAMS)]
        rows = sample(8, 4096, seed)
        arena, sizes = kernels.encode(program, rows)
        out = np.zeros_like(rows)
        return not kernels.decode(program, [arena], *spans(sizes), out) and np.array_equal(out, rows)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, range(200)))


def run(choice: str, code: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ZARRANT_KERNELS": choice}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)


def test_the_reference_can_be_forced() -> None:
    done = run("reference", "from zarrant import kernels as k; print({*k.active().values()}, {*k.missing().values()})")
    assert done.stdout.strip() == "{'reference'} {'ZARRANT_KERNELS=reference'}", done.stderr


def test_the_absence_of_the_compiled_module_is_told() -> None:
    hide = "import sys; sys.modules['zarrant.kernels._native'] = None\n"
    done = run("auto", hide + "from zarrant import kernels as k; print(k.missing()['encode'])")
    assert done.stdout.startswith("the compiled kernels are absent: "), done.stderr
    done = run("native", hide + "import zarrant.kernels")
    assert done.returncode == 1 and "ImportError: ZARRANT_KERNELS=native" in done.stderr


def test_an_unknown_choice_is_refused() -> None:
    done = run("fast", "import zarrant.kernels")
    assert done.returncode == 1 and "OptionError" in done.stderr


@twins
def test_the_compiled_module_serves_by_default() -> None:
    done = run("auto", "from zarrant import kernels as k; print(k.active())")
    served = eval(done.stdout)
    assert {served[name] for name in ("copy_boxes", "equals_fill", "encode", "decode", "crc32c")} == {"native"}
    assert served["step:swap"] == served["step:crc32c"] == "native"


@twins
def test_a_program_with_an_absent_step_runs_in_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_features", {"zstd": True, "crc32c": True})
    kernels._serving.cache_clear()
    try:
        assert kernels._serving(((ZSTD, 1, 0),)) is compiled
        assert kernels._serving(((ZSTD, 1, 0), (GZIP, 1))) is reference
        assert "step:gzip" in kernels.missing() and "step:zstd" not in kernels.missing()
    finally:
        kernels._serving.cache_clear()
