"""Blocks are lent to one borrower at a time, kept up to a limit, and never leave with what was encoded or decoded."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from zarrant.codecs import Blosc, Bytes, Numcodecs, Transpose, Zstd, buffer_pool
from zarrant.codecs.buffer_pool import (
    HUGE_PAGE,
    MAX_KEPT_BYTES,
    MAX_LENT_BYTES,
    MIN_KEPT_BLOCK_BYTES,
    aligned_empty,
    borrowed,
    lent,
    lent_to_disk,
)
from zarrant.testkit import together


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    for blocks in (buffer_pool._kept, buffer_pool._lent, buffer_pool._parts):
        blocks.clear()
    yield
    for blocks in (buffer_pool._kept, buffer_pool._lent, buffer_pool._parts):
        blocks.clear()


def kept() -> list[int]:
    return sorted(block.size for block in buffer_pool._kept)


def test_a_block_is_used_again() -> None:
    with borrowed(2 * MIN_KEPT_BLOCK_BYTES) as first, borrowed(2 * MIN_KEPT_BLOCK_BYTES) as second:
        addresses = {first.ctypes.data, second.ctypes.data}
        assert not np.shares_memory(first, second)
    assert kept() == [2 * MIN_KEPT_BLOCK_BYTES, 2 * MIN_KEPT_BLOCK_BYTES]
    with borrowed(MIN_KEPT_BLOCK_BYTES + 1) as third:
        assert (third.nbytes, third.ctypes.data in addresses) == (MIN_KEPT_BLOCK_BYTES + 1, True)
        assert kept() == [2 * MIN_KEPT_BLOCK_BYTES]


def test_small_blocks_and_misfits_are_made_anew() -> None:
    with borrowed(MIN_KEPT_BLOCK_BYTES - 1) as small:
        assert small.nbytes == MIN_KEPT_BLOCK_BYTES - 1
    assert kept() == []
    with borrowed(8 * MIN_KEPT_BLOCK_BYTES):
        pass
    with borrowed(MIN_KEPT_BLOCK_BYTES):
        assert kept() == [8 * MIN_KEPT_BLOCK_BYTES]  # it would waste seven of eight pages
    assert kept() == [MIN_KEPT_BLOCK_BYTES, 8 * MIN_KEPT_BLOCK_BYTES]


def test_what_is_kept_has_a_limit() -> None:
    for n in (1, 2, 3, 4):
        with borrowed(MAX_KEPT_BYTES // 2 + n), borrowed(MAX_KEPT_BYTES // 4 + n):
            pass
        assert sum(kept()) <= MAX_KEPT_BYTES
    with borrowed(MAX_KEPT_BYTES + 1):
        pass
    assert kept() == []


def test_an_error_gives_the_block_back() -> None:
    with pytest.raises(ValueError, match="on purpose"), borrowed(MIN_KEPT_BLOCK_BYTES):
        raise ValueError("on purpose")
    assert kept() == [MIN_KEPT_BLOCK_BYTES]


def test_threads_have_blocks_of_their_own() -> None:
    wrong: list[int] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for turn in range(300):
            with borrowed(MIN_KEPT_BLOCK_BYTES + turn % 3) as block:
                block[:64] = number
                block[-64:] = number
                if (block[:64] != number).any() or (block[-64:] != number).any():
                    wrong.append(number)

    together(*(lambda number=number: work(number) for number in range(4)))
    assert wrong == []
    assert len(kept()) <= 4


@pytest.mark.parametrize(
    "codecs",
    [[Bytes()], [Bytes("big")], [Transpose((1, 0)), Bytes(), Zstd()], [Bytes(), Blosc()], [Bytes(), Numcodecs("numcodecs.crc32")]],
    ids=str,
)
def test_nothing_refers_to_a_block_that_was_given_back(codecs: list[Any], codec: Callable[..., Any]) -> None:
    dice = np.random.default_rng(0)
    c = codec(codecs, (512, 256))
    values = dice.integers(0, 1000, (512, 256), "int32")
    stored = c.encode(values)
    out = c.decode(stored)
    for block in buffer_pool._kept:
        block[...] = 255
    assert c.encode(values) == stored
    assert np.array_equal(out, values)
    assert np.array_equal(c.decode(stored), values)


# ── lent ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

VIEWS: dict[str, Callable[[Any], Any]] = {
    "itself": lambda block: block,
    "slice": lambda block: block[5:9],
    "other type": lambda block: block[:MIN_KEPT_BLOCK_BYTES].view("uint64").reshape(4, -1).T[3:, ::2],
    "array on it": lambda block: np.ndarray((2, 3), "int16", block)[1],
    "memoryview": memoryview,
    "read-only slice": lambda block: block.data[7:8].toreadonly(),
    "cast": lambda block: block.data.cast("B")[3:],
    "array of a memoryview": lambda block: np.frombuffer(block.data[:64], "uint32")[2:3],
    "element": lambda block: block[:4].view("int32")[0:1].squeeze(),
    "in a list": lambda block: [block.reshape(-1, 4)[1]],
}


SIZES: dict[str, tuple[Callable[[int], Any], int]] = {
    "small pages": (lent, 2 * MIN_KEPT_BLOCK_BYTES),
    "huge pages": (lent, HUGE_PAGE + 8),
    "parts of huge pages": (lent_to_disk, 2 * MIN_KEPT_BLOCK_BYTES),
    "most of a huge page": (lent_to_disk, HUGE_PAGE - 8),
}


@pytest.mark.parametrize(("lend", "nbytes"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_lent_block_is_not_lent_again_while_anything_refers_to_it(
    view: Callable[[Any], Any], lend: Callable[[int], Any], nbytes: int
) -> None:
    locked = view(lend(nbytes))
    before = np.array(locked)
    others = [lend(nbytes) for _ in range(5)]
    for other in others:
        other[:] = 255 - other[0]
    assert np.array_equal(np.array(locked), before)
    assert not any(np.shares_memory(other, np.asarray(locked[0] if isinstance(locked, list) else locked)) for other in others)


@pytest.mark.parametrize(("lend", "nbytes"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_lent_block_is_lent_again_afterwards(view: Callable[[Any], Any], lend: Callable[[int], Any], nbytes: int) -> None:
    block = lend(nbytes)
    address = block.ctypes.data
    locked = view(block)
    del block, locked
    others = [lend(nbytes) for _ in range(len(buffer_pool._parts) - 1)]  # those of the same page
    again = lend(nbytes - 4)
    assert (again.ctypes.data, again.nbytes) == (address, nbytes - 4)
    assert address % 4096 == 0
    del others


@pytest.mark.parametrize("nbytes", [HUGE_PAGE, HUGE_PAGE + 1, 2 * HUGE_PAGE - 4096, 3 * HUGE_PAGE])
def test_large_memory_begins_with_a_huge_page_and_ends_in_one_of_its_own(nbytes: int) -> None:
    for block in (lent(nbytes), lent(nbytes), aligned_empty(nbytes, "uint8")):
        assert (block.nbytes, block.ctypes.data % HUGE_PAGE) == (nbytes, 0)
    page = HUGE_PAGE
    for owner in buffer_pool._lent:
        assert -owner.ctypes.data % page + -(-nbytes // page) * page <= owner.size


def test_a_block_that_began_with_a_huge_page_is_lent_for_fewer_bytes() -> None:
    address = lent(HUGE_PAGE).ctypes.data
    block = lent(HUGE_PAGE - 1)
    assert (block.ctypes.data, block.nbytes) == (address, HUGE_PAGE - 1)


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux only")
@pytest.mark.parametrize("failing", [OSError("no huge pages"), AttributeError("MADV_HUGEPAGE")], ids=["refused", "unknown"])
def test_without_huge_pages_memory_is_as_usual(failing: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise failing

    monkeypatch.setattr(buffer_pool.mmap, "mmap", refuse)
    block = lent(HUGE_PAGE + 5)
    block[...] = 7
    assert (block.nbytes, block.ctypes.data % HUGE_PAGE, int(block.sum())) == (HUGE_PAGE + 5, 0, 7 * (HUGE_PAGE + 5))


def test_lent_blocks_that_are_kept_have_a_limit() -> None:
    locked = [lent(MAX_LENT_BYTES // 4) for _ in range(8)]
    assert sum(block.size for block in buffer_pool._lent) <= MAX_LENT_BYTES
    assert len({block.ctypes.data for block in locked}) == 8
    lent(MAX_LENT_BYTES + 1)
    assert sum(block.size for block in buffer_pool._lent) <= MAX_LENT_BYTES
    assert lent(5).ctypes.data % 4096 == 0


def test_threads_are_lent_blocks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 6 * (MIN_KEPT_BLOCK_BYTES + 3 * buffer_pool.PAGE)
    monkeypatch.setattr(buffer_pool, "MAX_LENT_BYTES", most)
    wrong: list[int] = []

    def work(number: int) -> None:
        kept: list[Any] = []
        for turn in range(400):
            view = lent(MIN_KEPT_BLOCK_BYTES + turn % 7).data[turn % 5 :: 1]
            view[:8] = bytes([number]) * 8
            kept.append(view)
            if len(kept) > 3:
                old = kept.pop(0)
                if bytes(old[:8]) != bytes([number]) * 8:
                    wrong.append(number)

    together(*(lambda number=number: work(number) for number in range(4)))
    assert wrong == []
    # Each call ends with a look at all of them: whoever looked last saw what the others had put there.
    assert 0 < sum(block.size for block in buffer_pool._lent) <= most


# ── lent to a disk ───────────────────────────────────────────────────────────────────────────────────────────────────

parts = pytest.mark.skipif(not buffer_pool.COPIES_SMALL_PAGES, reason="blocks have pages of their own on this system")


@parts
@pytest.mark.parametrize("nbytes", [MIN_KEPT_BLOCK_BYTES, MIN_KEPT_BLOCK_BYTES + 1, HUGE_PAGE // 2, HUGE_PAGE // 2 + 1, HUGE_PAGE])
def test_blocks_smaller_than_a_huge_page_share_one(nbytes: int) -> None:
    size = 1 << (nbytes - 1).bit_length()
    blocks = [lent_to_disk(nbytes) for _ in range(2 * HUGE_PAGE // size)]
    addresses = [block.ctypes.data for block in blocks]
    assert len({address // HUGE_PAGE for address in addresses}) == 2
    assert len(set(addresses)) == len(blocks)
    assert all(block.nbytes == nbytes and block.ctypes.data % size == 0 for block in blocks)
    del blocks
    assert {lent_to_disk(nbytes).ctypes.data for _ in range(4)} <= set(addresses)


def test_small_and_large_blocks_have_pages_of_their_own() -> None:
    assert [lent_to_disk(n).nbytes for n in (0, 5, HUGE_PAGE + 1)] == [0, 5, HUGE_PAGE + 1]
    assert buffer_pool._parts == []


@parts
def test_parts_that_are_kept_have_a_limit() -> None:
    locked = [lent_to_disk(HUGE_PAGE // 2) for _ in range(40)]
    assert sum(block.size for block in buffer_pool._parts) <= buffer_pool.MAX_PARTS_BYTES
    assert len({block.ctypes.data for block in locked}) == 40


@pytest.mark.parametrize(
    ("system", "release", "copies"),
    [
        ("linux", "5.8.0-generic", True),
        ("linux", "6.1", True),
        ("linux", "5.7.19", False),
        ("linux", "4.18.0-553.el8", False),
        ("linux", "", False),
        ("darwin", "24.1.0", False),
    ],
)
def test_which_systems_copy_small_pages(system: str, release: str, copies: bool) -> None:
    assert buffer_pool._copies_small_pages(system, release) is copies


def test_where_a_huge_page_is_copied_whole_no_blocks_share_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_pool, "COPIES_SMALL_PAGES", False)
    blocks = [lent_to_disk(MIN_KEPT_BLOCK_BYTES) for _ in range(4)]
    assert buffer_pool._parts == []
    assert len({block.ctypes.data for block in blocks}) == 4
