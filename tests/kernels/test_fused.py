"""Boxes to encoded rows and back in one call: equal to the copy and the program done one after the other."""

from __future__ import annotations

import math
import os
import threading
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zarrant import kernels
from zarrant.kernels import BLOSC, CRC32C, GZIP, SWAP, ZSTD, EncodedRows, OuterBoxes, RowBoxes, RowMemory, reference

native = kernels.active()["encode_boxes"] == "native"
twins = pytest.mark.skipif(not native, reason="compiled kernels absent or not chosen")
both = pytest.mark.parametrize("kernel", [pytest.param(reference, id="reference"), pytest.param(kernels, id="native", marks=twins)])

PROGRAMS: list[tuple[tuple[int, ...], ...]] = [
    (),
    ((SWAP, 2),),
    ((SWAP, 16),),
    ((CRC32C,),),
    ((SWAP, 4), (CRC32C,)),
    ((ZSTD, 1, 0), (CRC32C,)),
    ((SWAP, 2), (ZSTD, 1, 1)),
    ((BLOSC, 0, 9, 2, 2, 0),),
    ((SWAP, 2), (SWAP, 4), (GZIP, 1)),
    ((SWAP, 4), (CRC32C,), (BLOSC, 1, 5, 1, 4, 0), (ZSTD, 1, 0), (CRC32C,)),
]
DTYPES = ["u1", "u2", "f4", "i8", "c16", "V16"]


class Case(NamedTuple):
    values: Any
    rows: RowMemory
    boxes: RowBoxes
    count: int
    fill: bytes
    program: Any


def allocate(nbytes: int) -> Any:
    return np.empty(nbytes, np.uint8)


def strided(draw: Any, shape: list[int], dtype: Any) -> Any:
    """An array with strides of any order and sign, with gaps or none."""
    order = draw(st.permutations(range(len(shape))))
    steps = [draw(st.sampled_from([1, 1, 2, -1, -2])) for _ in shape]
    base = np.zeros([shape[axis] * abs(steps[axis]) for axis in order], dtype)
    view = base.transpose(np.argsort(order)) if shape else base
    return view[tuple(slice(None, None, step) for step in steps)]


def row_memory(room: int, shape: tuple[int, ...], order: tuple[int, ...], dtype: Any) -> RowMemory:
    """Memory for rows of `shape`, of which dimension `order[0]` is the outermost that is stored."""
    rows = np.zeros((room, *(shape[axis] for axis in order)), dtype)
    flat = rows.view(np.uint8).reshape(room, -1) if rows.ndim > 1 else rows.reshape(room, 1).view(np.uint8)
    return RowMemory(flat, rows.transpose(0, *(1 + axis for axis in np.argsort(order))))


def random_bits(array: Any, seed: int, fill: bytes, share: float) -> None:
    """Elements of few values, a `share` of them fill."""
    dice = np.random.default_rng(seed)
    octets = dice.integers(0, 3, (array.size, array.itemsize), dtype=np.uint8)
    octets[dice.random(array.size) < share] = np.frombuffer(fill, np.uint8)
    array[...] = octets.reshape(-1).view(array.dtype).reshape(array.shape)


@st.composite
def cases(draw: Any) -> Case:
    axes, dtype = draw(st.integers(0, 3)), np.dtype(draw(st.sampled_from(DTYPES)))
    shape = tuple(draw(st.integers(1, 6)) for _ in range(axes))
    program = draw(st.sampled_from([each for each in PROGRAMS if fits(each, math.prod(shape) * dtype.itemsize)]))
    count = draw(st.integers(1, 7))
    row_step = [1, *(draw(st.sampled_from([1, 1, 2])) for _ in shape)]
    step = [1, *(draw(st.sampled_from([1, 1, 2, -1])) for _ in shape)]
    lengths = [draw(st.integers(6, 12)) for _ in shape]
    starts, row_starts, counts = [], [], []
    for row in range(count):
        for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
            box: list[tuple[int, int, int]] = [(0, row, 1)]
            for axis, length in enumerate(shape):
                n = draw(st.integers(1, -(-length // row_step[1 + axis])))
                n = min(n, -(-lengths[axis] // abs(step[1 + axis])))
                reach = abs(step[1 + axis]) * (n - 1)
                low = draw(st.integers(0, lengths[axis] - 1 - reach))
                at = draw(st.integers(0, length - 1 - row_step[1 + axis] * (n - 1)))
                box.append((low + (reach if step[1 + axis] < 0 else 0), at, n))
            for column, numbers in zip((starts, row_starts, counts), zip(*box, strict=True), strict=True):
                column.append(numbers)
    tables = [np.array(each, np.int64).reshape(-1, axes + 1) for each in (starts, row_starts, counts)]
    fill = bytes(draw(st.sampled_from([0, 1])) for _ in range(dtype.itemsize))
    values = strided(draw, [1, *lengths], dtype)
    random_bits(values, draw(st.integers(0, 99)), fill, draw(st.sampled_from([0.0, 0.9, 1.0])))
    rows = row_memory(draw(st.integers(1, 4)), shape, tuple(draw(st.permutations(range(axes)))), dtype)
    boxes = RowBoxes(tables[0], np.array(step, np.int64), tables[1], np.array(row_step, np.int64), tables[2])
    return Case(values, rows, boxes, count, fill, program)


def fits(program: Any, nbytes: int) -> bool:
    return all(nbytes % step[1] == 0 for step in program if step[0] == SWAP)


def one_by_one(case: Case, covered: Any, drop: bool) -> tuple[Any, Any, Any]:
    """The rows, copied whole with one call and encoded with another."""
    rows = row_memory(case.count, case.rows.seen.shape[1:], order_of(case.rows.seen), case.values.dtype)
    rows.flat[...] = np.tile(np.frombuffer(case.fill, np.uint8), rows.flat.shape[1] // len(case.fill))
    start, step, row_start, row_step, shape = case.boxes
    reference.copy_boxes(case.values, start, step, rows.seen, row_start, row_step, shape)
    keep = ~reference.equals_fill(rows.flat, case.fill) if drop else None
    return rows.flat, *kernels.encode(case.program, rows.flat, keep)


def order_of(seen: Any) -> tuple[int, ...]:
    """The order of dimensions in the memory of rows; those of length 1 have no place of their own."""
    axes = range(1, seen.ndim)
    return tuple(axis - 1 for axis in sorted(axes, key=lambda axis: (-seen.strides[axis], seen.shape[axis] == 1)))


def encode(
    kernel: Any, case: Case, covered: Any, drop: bool, old: EncodedRows | None = None, room: Any = allocate
) -> tuple[Any, Any]:
    """`encode_boxes` of old rows that decode."""
    program, values, rows = case.program, case.values, case.rows
    arena, sizes, failures = kernel.encode_boxes(program, values, case.boxes, old, rows, covered, case.fill, drop, True, room)
    assert failures == []
    return arena, sizes


def covered_rows(case: Case) -> Any:
    """Rows that one box fills."""
    covered = np.zeros(case.count, np.bool_)
    for row, shape in zip(case.boxes.row_start[:, 0], case.boxes.shape, strict=True):
        covered[row] |= tuple(shape[1:]) == case.rows.seen.shape[1:]
    return covered


@both
@given(case=cases(), drop=st.booleans())
@settings(max_examples=150, deadline=None)
def test_encoding_boxes_is_a_copy_and_a_program(kernel: Any, case: Case, drop: bool) -> None:
    _, expected, sizes = one_by_one(case, covered_rows(case), drop)
    case.values.flags.writeable = False
    arena, found = encode(kernel, case, covered_rows(case), drop)
    if kernel is kernels or native is False or not any(step[0] in (BLOSC, ZSTD, GZIP) for step in case.program):
        assert found.tolist() == sizes.tolist()
        assert arena.tobytes() == expected.tobytes()
    else:  # another library may compress to other bytes; what they decode to is compared below
        assert (found < 0).tolist() == (sizes < 0).tolist()


def spans_of(arena: Any, sizes: Any) -> EncodedRows:
    number = np.flatnonzero(sizes >= 0)
    size = sizes[number]
    return EncodedRows(number, [arena], np.zeros(len(number), np.int64), np.cumsum(size) - size, size)


@both
@given(case=cases(), drop=st.booleans(), gap=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_decoding_boxes_is_a_program_and_a_copy(kernel: Any, case: Case, drop: bool, gap: int) -> None:
    flat, arena, sizes = one_by_one(case, covered_rows(case), drop)
    if gap < case.count and not drop:  # a row that is not stored
        start = int(np.maximum(sizes[:gap], 0).sum())
        arena = np.delete(arena, np.s_[start : start + int(sizes[gap])])
        sizes[gap] = -1
        flat[gap] = np.tile(np.frombuffer(case.fill, np.uint8), flat.shape[1] // len(case.fill))
    expected = np.zeros_like(case.values)
    rows = row_memory(case.count, case.rows.seen.shape[1:], order_of(case.rows.seen), case.values.dtype)
    rows.flat[...] = flat
    start, step, row_start, row_step, shape = case.boxes
    reference.copy_boxes(rows.seen, row_start, row_step, expected, start, step, shape)
    out = case.values
    out[...] = np.zeros((), out.dtype)
    failures = kernel.decode_boxes(case.program, spans_of(arena, sizes), case.count, case.rows, case.boxes, out, case.fill, True)
    assert failures == []
    assert out.tobytes() == expected.tobytes()


@both
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("alone", [True, False], ids=["in_place", "amid"])
def test_long_rows(kernel: Any, program: Any, order: Any, alone: bool) -> None:
    """Rows that are longer than what is copied at a time."""
    chunk, n = (40, 96, 80), 1 if alone else 2
    array = np.zeros((chunk[0], chunk[1] * n, chunk[2]), "u2", order)
    random_bits(array, 7, b"\1\0", 0.5)
    array[: chunk[0] // 2] = 1  # fill, and its first half is not yet swapped when the other begins
    rows = row_memory(1, chunk, (0, 1, 2) if order == "C" else (2, 1, 0), "u2")
    start = np.array([[0, 0, i * chunk[1], 0] for i in range(n)], np.int64)
    row_start = np.array([[i, 0, 0, 0] for i in range(n)], np.int64)
    ones = np.ones(4, np.int64)
    boxes = RowBoxes(start, ones, row_start, ones, np.array([[1, *chunk]] * n, np.int64))
    case = Case(array[np.newaxis], rows, boxes, n, b"\1\0", program)
    _, expected, sizes = one_by_one(case, np.ones(n, np.bool_), True)
    arena, found = encode(kernel, case, np.ones(n, np.bool_), True)
    if kernel is kernels:
        assert (arena.tobytes(), found.tolist()) == (expected.tobytes(), sizes.tolist())
    out = np.zeros_like(array)
    assert kernel.decode_boxes(program, spans_of(arena, found), n, rows, boxes, out[np.newaxis], case.fill, True) == []
    assert out.tobytes(order) == array.tobytes(order)
    array[...] = 1
    arena, found = encode(kernel, case, np.ones(n, np.bool_), True)
    assert arena.size == 0 and found.tolist() == [-1] * n


@both
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
@pytest.mark.parametrize("side", [16, 96], ids=["short", "long"])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_row_that_does_not_decode_is_named_as_by_decode(kernel: Any, program: Any, side: int, cut: int) -> None:
    rows = row_memory(2 if side == 16 else 1, (side, side, 16), (0, 1, 2), "u2")
    nbytes = rows.flat.shape[1]
    data = np.random.default_rng(3).integers(0, 9, (3, nbytes), dtype=np.uint8)
    arena, sizes = kernels.encode(program, data, None)
    good = spans_of(arena, sizes)
    size = good.size.copy()
    size[1] -= cut
    bad = good._replace(size=size)
    ones = np.ones(4, np.int64)
    start = np.array([[0, i * side, 0, 0] for i in range(3)], np.int64)
    row_start = np.array([[i, 0, 0, 0] for i in range(3)], np.int64)
    boxes = RowBoxes(start, ones, row_start, ones, np.array([[1, side, side, 16]] * 3, np.int64))
    out = np.zeros((1, 3 * side, side, 16), "u2")
    found = kernel.decode_boxes(program, bad, 3, rows, boxes, out, b"\0\0", True)
    assert found == kernel.decode(program, *bad[1:], np.empty((3, nbytes), np.uint8), True)


# ── rows of several blocks, of which a part is needed ───────────────────────────────────────────────────────────────

BLOCKS: list[Any] = [
    ((ZSTD, 1, 0),),
    ((ZSTD, 1, 1), (CRC32C,)),
    ((SWAP, 2), (ZSTD, 1, 0), (CRC32C,)),
    ((BLOSC, 1, 5, 1, 2, 1 << 14),),
    ((SWAP, 2), (BLOSC, 0, 9, 2, 2, 1 << 15)),
    ((BLOSC, 5, 1, 0, 2, 1 << 15), (ZSTD, 1, 0)),
]
SIDES = (48, 64, 80)
"""Rows of 480 KiB: several blocks of every compressor."""


def several_blocks(program: Any, order: tuple[int, ...], seed: int = 3) -> tuple[Any, RowMemory, EncodedRows]:
    """A row of random elements in that order, and its encoded bytes."""
    rows = row_memory(1, SIDES, order, "u2")
    data = np.random.default_rng(seed).integers(0, 900, SIDES).astype("u2")
    rows.seen[0] = data
    arena, sizes = kernels.encode(program, rows.flat.copy(), None)
    rows.flat[...] = 0xA5
    return data, rows, spans_of(arena, sizes)


def boxes_of(*parts: tuple[slice, ...]) -> RowBoxes:
    """Parts of row 0 in their places."""
    start = np.array([[0, *(side.start for side in part)] for part in parts], np.int64)
    shape = np.array([[1, *(len(range(side.start, side.stop, side.step or 1)) for side in part)] for part in parts], np.int64)
    step = np.array([1, *(side.step or 1 for side in parts[0])], np.int64)
    return RowBoxes(start, step, start, step, shape)


@both
@given(program=st.sampled_from(BLOCKS), order=st.permutations(range(3)), step=st.sampled_from([1, 1, 2, -1]), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_part_of_a_row_of_blocks(kernel: Any, program: Any, order: Any, step: int, data: Any) -> None:
    """Only what the boxes have is written, and it is right, whatever is left out."""
    values, rows, spans = several_blocks(program, tuple(order))
    parts = []
    for _ in range(data.draw(st.integers(1, 2))):
        low = [data.draw(st.integers(0, side - 1)) for side in SIDES]
        high = [data.draw(st.integers(at, min(side, at + 30) - 1)) for at, side in zip(low, SIDES, strict=True)]
        ends = zip(low, high, strict=True)
        parts.append(tuple(slice(b, a - 1 if a else None, -1) if step < 0 else slice(a, b + 1, step) for a, b in ends))
    expected = np.zeros(SIDES, "u2")
    for part in parts:
        expected[part] = values[part]
    starts = [tuple(part) for part in parts]
    boxes = boxes_of(*[tuple(slice(s.start, -1 if s.stop is None else s.stop, s.step) for s in part) for part in starts])
    out = np.zeros((1, *SIDES), "u2")
    assert kernel.decode_boxes(program, spans, 1, rows, boxes, out, b"\0\0", True) == []
    assert np.array_equal(out[0], expected)


@twins
@pytest.mark.parametrize(
    ("program", "seen"), [(BLOCKS[0], True), (BLOCKS[1], False), (BLOCKS[3], True), (BLOCKS[4], True)], ids=str
)
def test_blocks_without_a_box_are_not_decoded(program: Any, seen: bool) -> None:
    """Damage in the last block is not seen by who needs the first, unless there is a checksum of all."""
    values, rows, spans = several_blocks(program, (0, 1, 2))
    broken = bytearray(spans.buffers[0])
    broken[-40:-8] = bytes(32)
    spans = spans._replace(buffers=[bytes(broken)])
    first, out = boxes_of(np.s_[0:2, 0:64, 0:80]), np.zeros((1, *SIDES), "u2")
    failures = kernels.decode_boxes(program, spans, 1, rows, first, out, b"\0\0", True)
    assert (failures == []) is seen
    assert not seen or np.array_equal(out[0, :2], values[:2])


@twins
@pytest.mark.parametrize("program", [BLOCKS[0], BLOCKS[3], BLOCKS[4]], ids=str)
def test_damaged_blocks_never_crash(program: Any) -> None:
    """Nor is anything written beyond the row; what is refused is refused with the reason that all of the row gives."""
    _, rows, spans = several_blocks(program, (0, 1, 2))
    good, dice = bytes(spans.buffers[0]), np.random.default_rng(8)
    guarded = np.full((3, rows.flat.shape[1]), 0x5A, np.uint8)
    memory = RowMemory(guarded[1:2], guarded[1:2].view("u2").reshape(1, *SIDES))
    parts = [boxes_of(np.s_[0:3, 0:64, 0:80]), boxes_of(np.s_[30:31, 5:9, 0:80]), boxes_of(np.s_[47:48, 60:64, 70:80])]
    places = [*range(64), *dice.integers(64, len(good), 40).tolist()]
    for number, at in enumerate(places):
        broken = good[:at] + bytes([good[at] ^ (1, 0x80, 0xFF)[number % 3]]) + good[at + 1 :]
        broken = broken[: len(good) - number % 2]
        bad = EncodedRows(spans.number, [broken], spans.which, spans.offset, np.array([len(broken)]))
        out = np.zeros((1, *SIDES), "u2")
        failures = kernels.decode_boxes(program, bad, 1, memory, parts[number % len(parts)], out, b"\0\0", True)
        whole = kernels.decode(program, *bad[1:], np.empty((1, rows.flat.shape[1]), np.uint8), True)
        assert failures in (whole, [])
    assert (guarded[::2] == 0x5A).all()


# ── combinations of segments ────────────────────────────────────────────────────────────────────────────────────────


class Outer(NamedTuple):
    data: Any
    rows: RowMemory
    spans: EncodedRows
    outer: OuterBoxes
    index: list[list[tuple[Any, Any]]]
    """For each row and axis where the elements are in the row, and where in the values."""
    out: Any
    program: Any


@st.composite
def outers(draw: Any, programs: Any) -> Outer:
    """Rows of random elements, of which some are not stored, and segments of each axis, in any order and with repeats."""
    axes, dtype = draw(st.integers(0, 3)), np.dtype(draw(st.sampled_from([*DTYPES, "V3"])))
    shape = tuple(draw(st.integers(1, 6)) for _ in range(axes))
    program = draw(st.sampled_from([each for each in programs if fits(each, math.prod(shape) * dtype.itemsize)]))
    count, row_step = draw(st.integers(1, 4)), [draw(st.sampled_from([1, 1, 2])) for _ in shape]
    segments: list[tuple[int, int, int]] = []
    spans = np.zeros((count, axes, 2), np.int64)
    index: list[list[tuple[Any, Any]]] = [[] for _ in range(count)]
    ends = [0] * axes
    for row in range(count):
        for axis, length in enumerate(shape):
            spans[row, axis] = len(segments)
            inside, outside = [], []
            for _ in range(draw(st.integers(0, 4) if row else st.integers(1, 4))):
                at = draw(st.integers(0, length - 1))
                n = draw(st.integers(1, (length - 1 - at) // row_step[axis] + 1))
                segments.append((ends[axis], at, n))
                inside += [at + i * row_step[axis] for i in range(n)]
                outside += [ends[axis] + i for i in range(n)]
                ends[axis] += n
            spans[row, axis, 1] = len(segments)
            index[row].append((np.array(inside, np.int64), np.array(outside, np.int64)))
    rows = row_memory(draw(st.integers(1, 3)), shape, tuple(draw(st.permutations(range(axes)))), dtype)
    all_rows = row_memory(count, shape, order_of(rows.seen), dtype)
    random_bits(all_rows.seen, draw(st.integers(0, 99)), bytes(dtype.itemsize), 0.1)
    arena, sizes = kernels.encode(program, all_rows.flat.copy(), np.array([draw(st.booleans()) for _ in range(count)]))
    all_rows.flat[sizes < 0] = 0
    start, row_start, n = np.array(segments, np.int64).reshape(-1, 3).T.copy()
    outer = OuterBoxes(start, np.ones(1 + axes, np.int64), row_start, np.array([1, *row_step], np.int64), n, spans)
    out = strided(draw, [1, *(end + 1 for end in ends)], dtype)
    return Outer(all_rows.seen, rows, spans_of(arena, sizes), outer, index, out, program)


@both
@given(case=outers(PROGRAMS))
@settings(max_examples=150, deadline=None)
def test_combinations_of_segments_are_what_numpy_selects(kernel: Any, case: Outer) -> None:
    expected = np.zeros_like(case.out)
    for row, axes in enumerate(case.index):
        if axes:
            inside, outside = zip(*axes, strict=True)
            expected[0][np.ix_(*outside)] = case.data[row][np.ix_(*inside)]
        else:
            expected[0] = case.data[row]
    count, fill = len(case.data), bytes(case.out.itemsize)
    assert kernel.decode_boxes(case.program, case.spans, count, case.rows, case.outer, case.out, fill, True) == []
    assert case.out.tobytes() == expected.tobytes()


@both
@given(case=outers(PROGRAMS), drop=st.booleans(), share=st.sampled_from([0.0, 1.0]))
@settings(max_examples=150, deadline=None)
def test_combinations_of_segments_are_laid_over_old_rows(kernel: Any, case: Outer, drop: bool, share: float) -> None:
    """As NumPy assigns them: of several values for one element the last one counts."""
    count, fill = len(case.data), bytes(case.out.itemsize)
    random_bits(case.out, 5, fill, share)
    expected = row_memory(count, case.rows.seen.shape[1:], order_of(case.rows.seen), case.out.dtype)
    expected.seen[...] = case.data
    for row, axes in enumerate(case.index):
        for place in product(*[zip(*each, strict=True) for each in axes]):
            inside, outside = zip(*place, strict=True) if place else ((), ())
            expected.seen[(row, *inside)] = case.out[(0, *outside)]
    boxes: Any = case.outer
    whole = Case(case.out, case.rows, boxes, count, fill, case.program)
    arena, sizes = encode(kernel, whole, np.zeros(count, np.bool_), drop, case.spans)
    assert not drop or (sizes < 0).tolist() == reference.equals_fill(expected.flat, fill).tolist()
    decoded = np.zeros_like(expected.flat)
    spans = spans_of(arena, sizes)
    found = np.zeros((len(spans.number), decoded.shape[1]), np.uint8)
    assert kernels.decode(case.program, *spans[1:], found, True) == []
    decoded[spans.number] = found
    assert decoded.tobytes() == expected.flat.tobytes()


@both
@given(case=cases(), drop=st.booleans(), stored=st.lists(st.booleans(), min_size=7, max_size=7), broken=st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_boxes_are_laid_over_old_rows(kernel: Any, case: Case, drop: bool, stored: list[bool], broken: int) -> None:
    """As with a call that decodes, one that copies and one that encodes; a row that does not decode is named."""
    before = row_memory(case.count, case.rows.seen.shape[1:], order_of(case.rows.seen), case.values.dtype)
    random_bits(before.seen, 11, case.fill, 0.3)
    keep = np.array(stored[: case.count])
    arena, sizes = kernels.encode(case.program, before.flat.copy(), keep)
    before.flat[~keep] = np.tile(np.frombuffer(case.fill, np.uint8), before.flat.shape[1] // len(case.fill))
    start, step, row_start, row_step, shape = case.boxes
    reference.copy_boxes(case.values, start, step, before.seen, row_start, row_step, shape)
    old = spans_of(arena, sizes)
    _, found = kernels.encode(case.program, before.flat, ~reference.equals_fill(before.flat, case.fill) if drop else None)
    covered = covered_rows(case) & keep
    new, made = encode(kernel, case, covered, drop, old)
    assert (made < 0).tolist() == (found < 0).tolist()
    spans = spans_of(new, made)
    decoded = np.zeros((len(spans.number), before.flat.shape[1]), np.uint8)
    assert kernels.decode(case.program, *spans[1:], decoded, True) == []
    assert decoded.tobytes() == before.flat[spans.number].tobytes()
    if broken < len(old.number):
        old.size[broken] -= 1
        bad = kernels.decode(case.program, *old[1:], np.zeros((len(old.number), before.flat.shape[1]), np.uint8), True)
        program, values, rows = case.program, case.values, case.rows
        *_, failures = kernel.encode_boxes(program, values, case.boxes, old, rows, covered, case.fill, drop, True, allocate)
        assert [each[:2] for each in failures] == [each[:2] for each in bad[:1]]


@both
@given(program=st.sampled_from(BLOCKS), order=st.permutations(range(3)), data=st.data())
@settings(max_examples=20, deadline=None)
def test_combinations_of_a_row_of_blocks(kernel: Any, program: Any, order: Any, data: Any) -> None:
    values, rows, spans = several_blocks(program, tuple(order))
    lists = [data.draw(st.lists(st.integers(0, side - 1), min_size=1, max_size=8)) for side in SIDES]
    outer = lists_of(*lists)
    out = np.zeros((1, *map(len, lists)), "u2")
    assert kernel.decode_boxes(program, spans, 1, rows, outer, out, b"\0\0", True) == []
    assert np.array_equal(out[0], values[np.ix_(*lists)])


def lists_of(*lists: list[int]) -> OuterBoxes:
    """Elements of one row, each a segment."""
    ends = np.cumsum([0, *map(len, lists)])
    start = np.concatenate([np.arange(len(each)) for each in lists])
    ones = np.ones(1 + len(lists), np.int64)
    spans = np.stack([ends[:-1], ends[1:]], 1)[np.newaxis]
    return OuterBoxes(start, ones, np.concatenate([*lists]).astype(np.int64), ones, np.ones_like(start), spans)


@both
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("row_start", [0, 4]),
        ("row_start", [-1, 0]),
        ("start", [0, 8]),
        ("start", [0, -1]),
        ("shape", [1, 0]),
        ("shape", [1, 2**62]),
        ("shape", [1]),
        ("spans", [[[0, 3]], [[0, 1]]]),
        ("spans", [[[2, 1]], [[0, 1]]]),
        ("spans", [[[-1, 1]], [[0, 1]]]),
        ("spans", [[[0, 1]]]),
        ("row_step", [1]),
    ],
)
def test_segments_are_checked(kernel: Any, name: str, value: Any) -> None:
    case, two, ones = simple(), np.arange(2), np.ones(2, np.int64)
    spans = EncodedRows(two, [np.zeros(16, np.uint8)], 0 * two, 0 * two, np.full(2, 8))
    good = OuterBoxes(two, ones, two, ones, ones, np.array([[[0, 1]], [[1, 2]]]))
    arguments = (case.program, spans, 2, case.rows)
    assert kernel.decode_boxes(*arguments, good, case.values, case.fill, True) == []
    with pytest.raises(ValueError):
        kernel.decode_boxes(*arguments, good._replace(**{name: np.array(value)}), case.values, case.fill, True)
    assert encode(kernel, case._replace(boxes=good), np.ones(2, bool), False)[0].size == 16
    with pytest.raises(ValueError):
        encode(kernel, case._replace(boxes=good._replace(**{name: np.array(value)})), np.ones(2, bool), False)


# ── what a caller may not give ──────────────────────────────────────────────────────────────────────────────────────


def simple() -> Case:
    ones = np.ones(2, np.int64)
    starts = np.array([[0, 0], [0, 4]], np.int64)
    boxes = RowBoxes(starts, ones, np.array([[0, 0], [1, 0]], np.int64), ones, np.array([[1, 4]] * 2, np.int64))
    return Case(np.zeros((1, 8), "u2"), row_memory(1, (4,), (0,), "u2"), boxes, 2, b"\0\0", ((SWAP, 2),))


BAD: dict[str, Any] = {
    "outside": lambda c: c._replace(boxes=c.boxes._replace(start=np.array([[0, 0], [0, 5]], np.int64))),
    "before": lambda c: c._replace(boxes=c.boxes._replace(start=np.array([[0, -1], [0, 4]], np.int64))),
    "row outside": lambda c: c._replace(boxes=c.boxes._replace(row_start=np.array([[0, 0], [2, 0]], np.int64))),
    "beyond its row": lambda c: c._replace(boxes=c.boxes._replace(row_start=np.array([[0, 0], [1, 1]], np.int64))),
    "rows out of order": lambda c: c._replace(boxes=c.boxes._replace(row_start=np.array([[1, 0], [0, 0]], np.int64))),
    "two rows": lambda c: c._replace(boxes=c.boxes._replace(shape=np.array([[2, 4], [1, 4]], np.int64))),
    "fill": lambda c: c._replace(fill=b"\0"),
    "element": lambda c: c._replace(values=np.zeros((1, 8), "u4")),
    "no room": lambda c: c._replace(rows=RowMemory(c.rows.flat[:0], c.rows.seen[:0])),
    "short view": lambda c: c._replace(rows=RowMemory(c.rows.flat, c.rows.seen[:, :3])),
    "another view": lambda c: c._replace(rows=RowMemory(c.rows.flat, np.zeros((1, 4), "u2"))),
    "shared": lambda c: c._replace(values=np.zeros((1, 8), "u2"), rows=None),
    "int32": lambda c: c._replace(boxes=c.boxes._replace(start=c.boxes.start.astype(np.int32))),
}


@both
@pytest.mark.parametrize("bad", BAD)
def test_mistakes_are_refused(kernel: Any, bad: str) -> None:
    case = BAD[bad](simple())
    if case.rows is None:
        case = case._replace(rows=RowMemory(case.values.view(np.uint8)[:, :8], case.values[:, :4]))
    with pytest.raises(ValueError):
        encode(kernel, case, np.ones(2, bool), True)
    row = np.zeros(8, np.uint8)
    spans = EncodedRows(np.arange(2), [row], np.zeros(2, np.int64), np.zeros(2, np.int64), np.full(2, 8))
    with pytest.raises(ValueError):
        kernel.decode_boxes(case.program, spans, 2, case.rows, case.boxes, case.values, case.fill, True)


@both
@pytest.mark.parametrize(
    "wrong",
    [{"number": np.array([1, 0])}, {"number": np.array([0, 2])}, {"number": np.array([-1, 0])}, {"size": np.array([8, 9])}],
    ids=str,
)
def test_spans_are_checked(kernel: Any, wrong: dict[str, Any]) -> None:
    case = simple()
    spans = EncodedRows(np.arange(2), [np.zeros(8, np.uint8)], np.zeros(2, np.int64), np.zeros(2, np.int64), np.full(2, 8))
    with pytest.raises(ValueError):
        kernel.decode_boxes(case.program, spans._replace(**wrong), 2, case.rows, case.boxes, case.values, case.fill, True)
    with pytest.raises(ValueError):
        encode(kernel, case, np.ones(2, bool), True, spans._replace(**wrong))


@both
def test_a_short_arena_is_refused(kernel: Any) -> None:
    case = simple()
    with pytest.raises(ValueError):
        encode(kernel, case, np.ones(2, bool), False, room=lambda n: allocate(n - 1))


# ── files that are decoded as they are read, by several threads ─────────────────────────────────────────────────────

files = pytest.mark.skipif(not native or kernels.read_files is None, reason="without the compiled call there is one way only")


def decoder_of(case: Case, out: Any) -> Any:
    return kernels.serving(case.program).BoxDecoder(case.program, case.rows, case.boxes, out, case.fill, True)


def kind(device: int) -> str:
    """That of another machine's files."""
    return ""


def read(reader: Any, threads: int) -> list[Any]:
    """What a reader finds, by so many threads."""
    helpers = [threading.Thread(target=reader.work) for _ in range(threads - 1)]
    for helper in helpers:
        helper.start()
    reader.work()
    for helper in helpers:
        helper.join()
    found: list[Any] = reader.versions()
    return found


@files
@given(case=cases(), threads=st.integers(1, 3), absent=st.integers(0, 9), broken=st.integers(0, 9))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_decode_boxes_of_the_bytes(tmp_path: Path, case: Case, threads: int, absent: int, broken: int) -> None:
    _, arena, sizes = one_by_one(case, covered_rows(case), False)
    spans, paths = spans_of(arena, sizes), [str(tmp_path / str(row)) for row in range(case.count)]
    for row, (start, size) in enumerate(zip(spans.offset.tolist(), spans.size.tolist(), strict=True)):
        data = arena[start : start + size].tobytes()
        Path(paths[row]).write_bytes(data + b"?" if row == broken else data)
        if row == absent:
            os.unlink(paths[row])
    expected, out = np.zeros_like(case.values), np.zeros_like(case.values)
    versions = read(decoder_of(case, out).reader(paths, -1, kind), threads)
    failed = [row for row, version in enumerate(versions) if version is None]
    assert [row for row, version in enumerate(versions) if version is False] == [row for row in [absent] if row < case.count]
    for row, version in enumerate(versions):
        if version:
            state = os.stat(paths[row])
            assert version == (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)
    good = np.array([row for row in range(case.count) if row not in (absent, broken)], np.int64)
    assert failed == [row for row in [broken] if row < case.count and row != absent]
    # Each row alone, as boxes of rows that follow may lie over it.
    for row in good.tolist():
        mine = case.boxes.row_start[:, 0] == row
        boxes = case.boxes._replace(
            start=case.boxes.start[mine], row_start=case.boxes.row_start[mine], shape=case.boxes.shape[mine]
        )
        alone = case._replace(boxes=boxes)
        expected[...], out[...] = np.zeros((), out.dtype), np.zeros((), out.dtype)
        one = kernels.EncodedRows(*(each if each is spans.buffers else each[row : row + 1] for each in spans))
        assert kernels.decode_boxes(case.program, one, case.count, case.rows, boxes, expected, case.fill, True) == []
        others = [path if at == row else str(tmp_path / "none") for at, path in enumerate(paths)]
        assert read(decoder_of(alone, out).reader(others, -1, kind), threads)[row]
        start, step, shape = boxes.start, boxes.step, boxes.shape
        for first, lengths in zip(start.tolist(), shape.tolist(), strict=True):
            ends = [a + s * n for a, s, n in zip(first, step.tolist(), lengths, strict=True)]
            place = tuple(slice(a, b if b >= 0 else None, s) for a, b, s in zip(first, ends, step.tolist(), strict=True))
            assert out[place].tobytes() == expected[place].tobytes()


def two_files(tmp_path: Path, program: Any = ((kernels.ZSTD, 1, 0),)) -> tuple[Case, list[str], Any]:
    """Two chunks of 300 elements in files, side by side, and their values."""
    values = np.arange(600, dtype="u2").reshape(1, 600)
    ones, starts = np.ones(2, np.int64), np.array([[0, 0], [0, 300]], np.int64)
    boxes = kernels.RowBoxes(starts, ones, np.array([[0, 0], [1, 0]], np.int64), ones, np.array([[1, 300]] * 2, np.int64))
    rows = np.zeros((1, 300), "u2")
    arena, sizes = kernels.encode(program, values.reshape(2, 300).view(np.uint8), None)
    paths = [str(tmp_path / name) for name in "ab"]
    for path, end, size in zip(paths, np.cumsum(sizes).tolist(), sizes.tolist(), strict=True):
        Path(path).write_bytes(arena[end - size : end].tobytes())
    return Case(values, kernels.RowMemory(rows.view(np.uint8), rows), boxes, 2, b"\0\0", program), paths, values


@files
def test_what_is_not_usual_is_left_to_others(tmp_path: Path) -> None:
    case, paths, values = two_files(tmp_path)
    size = os.stat(paths[0]).st_size
    os.symlink(paths[1], link := str(tmp_path / "link"))
    for other, limit in ((link, -1), (str(tmp_path), -1), (paths[1], size - 1), (f"{paths[1]}/c", -1)):
        out = np.zeros_like(values)
        versions = read(decoder_of(case, out).reader([paths[0], other], limit, kind), 1)
        assert (bool(versions[0]), versions[1]) == (limit == -1, False if other.endswith("/c") else None)
        assert not versions[0] or np.array_equal(out[0, :300], values[0, :300])


@files
@pytest.mark.parametrize(
    "wrong",
    [
        {"start": np.array([[0, 0], [0, 301]])},
        {"row_start": np.array([[1, 0], [0, 0]])},
        {"row_start": np.array([[0, 0], [2, 0]])},
        {"row_start": np.array([[0, 0], [1, 1]])},
        {"shape": np.array([[1, 300], [2, 300]])},
    ],
    ids=str,
)
def test_boxes_that_are_none_are_refused_or_not_done(tmp_path: Path, wrong: dict[str, Any]) -> None:
    case, paths, _ = two_files(tmp_path)
    case, guarded = case._replace(boxes=case.boxes._replace(**wrong)), np.full((3, 600), 0x5A5A, "u2")
    try:
        versions = read(decoder_of(case, guarded[1:2]).reader(paths, -1, kind), 2)
    except ValueError:
        pass
    else:
        assert versions[1] is None and versions[0]
    assert (guarded[::2] == 0x5A5A).all()


@files
@pytest.mark.parametrize(
    ("paths", "fill", "out"), [(1, b"\0\0", "u2"), (2, b"\0", "u2"), (2, b"\0\0", "u4"), (2, b"\0\0", "O")], ids=str
)
def test_mistakes_with_files_are_refused(tmp_path: Path, paths: int, fill: bytes, out: str) -> None:
    case, _, values = two_files(tmp_path)
    decoder = kernels.serving(case.program).BoxDecoder(case.program, case.rows, case.boxes, values.astype(out), fill, True)
    with pytest.raises(ValueError):
        decoder.reader(["x"] * paths, -1, kind)


@files
def test_threads_are_of_use_for_many_bytes_only(tmp_path: Path) -> None:
    case, _, values = two_files(tmp_path)
    assert decoder_of(case, values).threads(2) == 1
    rows = kernels.RowMemory(np.zeros((1, 1 << 18), np.uint8), np.zeros((1, 1 << 17), "u2"))
    assert [decoder_of(case._replace(rows=rows), values).threads(n) for n in (1, 2, 8)] == [1, 2, 8]
