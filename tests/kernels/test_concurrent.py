"""Kernels called by several threads at once: shared inputs nobody writes, outputs that lie side by side, results of the twin.

The calls release the GIL and last long enough to run at the same time. A thread sanitizer finds its work here; see
scripts/sanitize.sh.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zarrant import kernels
from zarrant.kernels import BLOSC, CRC32C, GZIP, SWAP, ZSTD, reference
from zarrant.testkit import together

THREADS, ROUNDS = 6, 3
ROWS, NBYTES = 4, 48_000

PROGRAMS: list[tuple[tuple[int, ...], ...]] = [
    ((SWAP, 4), (CRC32C,)),
    ((BLOSC, 1, 5, 1, 4, 0),),
    ((BLOSC, 5, 1, 2, 2, 0), (CRC32C,)),
    ((ZSTD, 3, 1),),
    ((GZIP, 1), (CRC32C,)),
    ((SWAP, 2), (CRC32C,), (GZIP, 1), (ZSTD, 1, 0), (CRC32C,)),  # through scratch memory, several times
]
programs = pytest.mark.parametrize("program", PROGRAMS, ids=str)


def sample() -> Any:
    """Rows that nobody can write."""
    rows = np.random.default_rng(0).integers(0, 5, (ROWS, NBYTES), dtype=np.uint8)
    rows.flags.writeable = False
    return rows


def spans(sizes: Any) -> tuple[Any, Any, Any]:
    return np.zeros(len(sizes), np.int64), np.cumsum(sizes) - sizes, sizes


def in_threads(work: Callable[[int], object]) -> None:
    """`work(thread)`, some rounds in each thread, all started at once."""

    def rounds(thread: int) -> None:
        for _ in range(ROUNDS):
            work(thread)

    together(*(lambda thread=thread: rounds(thread) for thread in range(THREADS)))


@programs
def test_encode(program: Any) -> None:
    rows, keep = sample(), np.array([True, False, True, True])
    found: list[Any] = [None] * THREADS
    in_threads(lambda thread: found.__setitem__(thread, kernels.encode(program, rows, keep)))
    alone, sizes = kernels.encode(program, rows, keep)
    for arena, each in found:
        assert each.tolist() == sizes.tolist() and np.array_equal(arena, alone)
    decoded = np.zeros((3, NBYTES), np.uint8)
    assert reference.decode(program, [alone], *spans(sizes[keep]), decoded, True) == []
    assert np.array_equal(decoded, rows[keep])


@programs
def test_decode(program: Any) -> None:
    rows = sample()
    arena, sizes = reference.encode(program, rows, None)
    arena = bytes(arena)
    out = np.zeros((THREADS, ROWS, NBYTES), np.uint8)

    def work(thread: int) -> None:
        out[thread] = 7
        assert kernels.decode(program, [arena], *spans(sizes), out[thread]) == []

    in_threads(work)
    assert (out == rows).all()


@programs
def test_decode_of_broken_rows(program: Any) -> None:
    """What fails fails in its row, whatever other threads decode."""
    arena, sizes = reference.encode(program, sample(), None)
    which, offset, size = spans(sizes)
    size = size - np.array([0, 1, 0, sizes[3] // 2])
    columns = (which, offset, size)
    out = np.zeros((THREADS, ROWS, NBYTES), np.uint8)
    found: list[Any] = [None] * THREADS
    in_threads(lambda thread: found.__setitem__(thread, kernels.decode(program, [arena], *columns, out[thread])))
    expected = reference.decode(program, [arena], *columns, np.zeros((ROWS, NBYTES), np.uint8), True)
    assert [row for row, _, _ in expected] == [1, 3]
    alone = kernels.decode(program, [arena], *columns, np.zeros((ROWS, NBYTES), np.uint8))
    assert [[row for row, _, _ in failures] for failures in found] == [[1, 3]] * THREADS
    assert found == [alone] * THREADS
    assert (out[:, [0, 2]] == sample()[[0, 2]]).all()


# Odd lengths: boxes of different threads meet inside of machine words and cache lines.
BOX, GRID = (5, 7, 9), (14, 12, 10)


def boxes() -> tuple[Any, Any, Any, Any]:
    """Starts in the volume and in the rows, shapes, and the thread of each box; neighbours belong to different threads."""
    chunks = np.indices(GRID).reshape(3, -1).T
    count = len(chunks)
    in_volume = np.ascontiguousarray(chunks * BOX)
    in_rows = np.zeros((count, 4), np.int64)
    in_rows[:, 0] = np.arange(count)
    return in_volume, in_rows, np.tile(np.array(BOX, np.int64), (count, 1)), np.arange(count) % THREADS


@pytest.mark.parametrize("dtype", ["u1", "u2", "u8", "V3"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("into", ["rows", "volume"])
def test_copy_boxes(dtype: str, order: Any, into: str) -> None:
    in_volume, in_rows, shapes, owner = boxes()
    size = np.dtype(dtype).itemsize
    extent = tuple(np.multiply(BOX, GRID).tolist())
    whole = np.random.default_rng(1).integers(0, 256, (*extent, size), np.uint8).view(dtype)[..., 0]
    volume: Any = np.asarray(whole, order=order)
    rows: Any = np.random.default_rng(2).integers(0, 256, (len(shapes), *BOX, size), np.uint8).view(dtype)[..., 0]
    step, one = np.ones(4, np.int64), np.ones((len(shapes), 1), np.int64)
    left: Any = (volume[None], np.hstack([0 * one, in_volume]), step)
    right: Any = (rows, in_rows, step)
    src, dst = (left, right) if into == "rows" else (right, left)
    target, shape = dst[0], np.hstack([one, shapes])
    expected = np.zeros_like(target)
    reference.copy_boxes(*src, expected, *dst[1:], shape)
    target[...] = np.zeros((), dtype)
    src[0].flags.writeable = False

    def work(thread: int) -> None:
        mine = owner == thread
        kernels.copy_boxes(src[0], src[1][mine], step, target, dst[1][mine], step, shape[mine])

    in_threads(work)
    assert target.tobytes() == expected.tobytes()


def test_fill_checksums_and_packing() -> None:
    data = np.random.default_rng(3).integers(0, 256, 1 << 20, dtype=np.uint8)
    filled = np.tile(np.frombuffer(b"\x01\x02\x03\x04", np.uint8), (64, 5000))
    filled[::3, -1] ^= 1
    which, offset, size = np.zeros(500, np.int64), np.arange(500, dtype=np.int64) * 1000, np.arange(500, dtype=np.int64) * 3
    data.flags.writeable = filled.flags.writeable = False
    packed, checksum = reference.pack([data], which, offset, size), reference.crc32c(data)
    equal = reference.equals_fill(filled, b"\x01\x02\x03\x04")
    assert 0 < equal.sum() < 64

    def work(thread: int) -> None:
        assert kernels.crc32c(data) == checksum
        assert np.array_equal(kernels.equals_fill(filled, b"\x01\x02\x03\x04"), equal)
        assert np.array_equal(kernels.pack([data], which, offset, size), packed)

    in_threads(work)


FIRST = """
from zarrant import kernels
from zarrant.testkit import together
found = []
data = bytes(range(256)) * 1024
together(*[lambda: found.append(kernels.crc32c(data))] * 6)
print(*found)
"""


def test_the_first_calls_of_a_process_may_come_together() -> None:
    """Tables that are made at the first call are made once, and whole before anyone reads them."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(reference.crc32c(bytes(range(256)) * 1024))] * 6
