"""Encode and decode programs: one suite for both implementations, their equality, and hostile bytes."""

from __future__ import annotations

import gzip
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numcodecs import blosc as numcodecs_blosc
from numcodecs import zstd as numcodecs_zstd

from zarrant import kernels
from zarrant.errors import OptionError, ShapeError
from zarrant.kernels import BLOSC, CRC32C, GZIP, SWAP, ZSTD, reference

# What was chosen at import: compiled code, but for steps whose library is absent.
native = kernels.active()["encode"] == "native"
twins = pytest.mark.skipif(not native, reason="compiled kernels absent or not chosen")
both = pytest.mark.parametrize("kernel", [pytest.param(reference, id="reference"), pytest.param(kernels, id="native", marks=twins)])

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
    writer, reader = (kernels, reference) if forward else (reference, kernels)
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


def bytewise_crc32c(data: bytes) -> int:
    register = 0xFFFFFFFF
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = (register >> 1) ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


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
@pytest.mark.parametrize("span", [(1, 0, 1), (-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 5, 6), (0, 11, 0), (0, 2**63 - 1, 1)])
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
@pytest.mark.parametrize(
    "step", [(), (9,), (0,), (SWAP,), (SWAP, 0), (ZSTD, 23, 0), (GZIP, 10), (BLOSC, 6, 1, 1, 1, 0), (CRC32C, 1)]
)
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
    _, step, reason = failures[0]
    assert step == len(program) if other < 2048 else (step == len(program) or "too large" in reason)


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


def test_threads_do_not_disturb_each_other() -> None:
    def round_trip(seed: int) -> bool:
        program = PROGRAMS[seed % len(PROGRAMS)]
        rows = sample(8, 4096, seed)
        arena, sizes = kernels.encode(program, rows)
        out = np.zeros_like(rows)
        return not kernels.decode(program, [arena], *spans(sizes), out) and np.array_equal(out, rows)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(round_trip, range(200)))
