"""What is in memory of an appender: which blocks are stored, in which order; with an array in a dict."""

from __future__ import annotations

from typing import Any

import numpy as np

import zarrant
from zarrant.nodes.array_properties import handle_of
from zarrant.ops.appending import AppendBuffers


def buffers(length: int = 0, limit: int = 1 << 20) -> AppendBuffers:
    a = zarrant.create_array({}, shape=(length, 2), dtype="int16", chunks=(4, 2))
    return AppendBuffers(handle_of(a), 0, limit)


def add(work: AppendBuffers, n: int) -> Any:
    slab = work.slab(np.zeros((n, 2), "int16"))
    block = work.begin(slab)
    assert block is not None
    return work.finish(block, slab, block.copy(slab))


def test_one_append_is_in_flight_at_a_time() -> None:
    work = buffers()
    for _ in range(9):
        add(work, 1)
    first = work.take()
    assert [block.filled for block in first] == [4, 4]
    for _ in range(3):
        add(work, 1)
    assert work.ready == 0
    assert work.take() == []
    work.done(first, [slice(0, 8)] * 2)
    assert [block.filled for block in work.take()] == [4]


def test_blocks_end_where_chunks_do() -> None:
    work = buffers(length=3)
    for n in (1, 3, 2, 1, 9, 1):
        add(work, n)
    work.seal_all()
    assert [block.filled for block in work.take()] == [1, 5, 1, 9, 1]


def test_where_others_have_appended_the_ends_are_chosen_anew() -> None:
    work = buffers()
    for _ in range(4):
        place = add(work, 1)
    jobs = work.take()
    work.done(jobs, [slice(2, 6)])
    assert place.slice == slice(5, 6)
    for _ in range(2):
        add(work, 1)
    assert [block.filled for block in work.take()] == [2]


def test_memory_is_given_back() -> None:
    work = buffers(limit=96)
    add(work, 4)
    assert work.nbytes_pending == 16
    add(work, 4)
    jobs = work.take()
    assert work.used == 96, "the values, encoded ones, and gathered ones"
    slab = work.slab(np.zeros((1, 2), "int16"))
    assert work.begin(slab) is None
    work.done(jobs, [ValueError()] * 2)
    assert work.used == work.nbytes_pending == 0
    assert work.begin(slab) is not None
    assert work.begin(slab) is None, "one caller at a time"
