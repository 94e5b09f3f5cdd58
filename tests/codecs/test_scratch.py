"""Blocks are lent to one borrower at a time, kept up to a limit, and never leave with what was encoded or decoded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from zarrant.codecs import Blosc, Bytes, Numcodecs, Transpose, Zstd, scratch
from zarrant.codecs.scratch import LEAST, MOST, borrowed
from zarrant.testing import together


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    scratch._kept.clear()
    yield
    scratch._kept.clear()


def kept() -> list[int]:
    return sorted(block.size for block in scratch._kept)


def test_a_block_is_used_again() -> None:
    with borrowed(2 * LEAST) as first, borrowed(2 * LEAST) as second:
        addresses = {first.ctypes.data, second.ctypes.data}
        assert not np.shares_memory(first, second)
    assert kept() == [2 * LEAST, 2 * LEAST]
    with borrowed(LEAST + 1) as third:
        assert (third.nbytes, third.ctypes.data in addresses) == (LEAST + 1, True)
        assert kept() == [2 * LEAST]


def test_small_blocks_and_misfits_are_made_anew() -> None:
    with borrowed(LEAST - 1) as small:
        assert small.nbytes == LEAST - 1
    assert kept() == []
    with borrowed(8 * LEAST):
        pass
    with borrowed(LEAST):
        assert kept() == [8 * LEAST]  # it would waste seven of eight pages
    assert kept() == [LEAST, 8 * LEAST]


def test_what_is_kept_has_a_limit() -> None:
    for n in (1, 2, 3, 4):
        with borrowed(MOST // 2 + n), borrowed(MOST // 4 + n):
            pass
        assert sum(kept()) <= MOST
    with borrowed(MOST + 1):
        pass
    assert kept() == []


def test_an_error_gives_the_block_back() -> None:
    with pytest.raises(ValueError, match="on purpose"), borrowed(LEAST):
        raise ValueError("on purpose")
    assert kept() == [LEAST]


def test_threads_have_blocks_of_their_own() -> None:
    wrong: list[int] = []
    start = threading.Barrier(4)

    def work(number: int) -> None:
        start.wait()
        for turn in range(300):
            with borrowed(LEAST + turn % 3) as block:
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
    for block in scratch._kept:
        block[...] = 255
    assert c.encode(values) == stored
    assert np.array_equal(out, values)
    assert np.array_equal(c.decode(stored), values)
