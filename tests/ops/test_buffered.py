"""What is in memory of a buffered writer: which chunks are stored, and when; with an array in a dict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import StoreError
from zarrant.nodes.array_properties import handle_of
from zarrant.ops.buffered import BATCH_BYTES, ChunkBuffers, PendingChunk, plan

S = np.s_


class Memory:
    """Buffers of an array of one dimension in chunks of 4 bytes."""

    def __init__(self, limit: int = 1 << 20, n: int = 64, chunk: int = 4) -> None:
        a = zarrant.create_array({}, shape=(n,), dtype="int8", chunks=(chunk,))
        self.handle, self.work = handle_of(a), ChunkBuffers(limit)

    def begin(self, chunk: int) -> PendingChunk | None:
        return self.work.begin(self.handle.array, (chunk,))

    def write(self, selection: Any, data: Any = 1) -> None:
        try:
            next(plan(self.handle, selection, data))
        except StopIteration as stop:
            planned = stop.value
        for piece in planned.pieces:
            job = self.work.begin(planned.array, piece.chunk)
            assert job is not None
            self.work.finish(job, job.copy(piece.boxes, planned.values))

    def take(self) -> list[PendingChunk]:
        return self.work.take()


def chunks(jobs: list[PendingChunk]) -> list[int]:
    return [job.chunk[0] for job in jobs]


def test_complete_chunks_are_taken_together_and_once() -> None:
    memory = Memory()
    memory.write(S[0:11])
    assert chunks(memory.take()) == [0, 1]
    assert memory.take() == []
    memory.write(S[11])
    assert chunks(memory.take()) == [2]


def test_a_newer_state_waits_for_the_older_one() -> None:
    memory = Memory()
    memory.write(S[0:4], 1)
    memory.write(S[0:4], 2)
    memory.write(S[4:8], 3)
    first = memory.take()
    assert chunks(first) == [0, 1], "the older state, and what came later of another chunk"
    assert memory.take() == []
    memory.work.done(first, [None, None])
    (second,) = memory.take()
    assert second.values.tolist() == [2] * 4


def test_a_flush_seals_what_is_open_and_what_is_written_into() -> None:
    memory = Memory()
    memory.write(S[0])
    busy = memory.begin(1)
    assert busy is not None
    assert memory.begin(1) is None, "one caller at a time"
    mark = memory.work.seal_all()
    first = memory.take()
    assert chunks(first) == [0]
    memory.work.finish(busy)
    second = memory.take()
    assert chunks(second) == [1]
    memory.write(S[0])
    memory.work.done(first, [None])
    assert memory.work.waits_for(mark)
    memory.work.done(second, [StoreError()])
    assert not memory.work.waits_for(mark), "what was written later is not waited for"
    assert memory.work.nbytes_pending == 4


def test_where_memory_is_needed_the_oldest_goes() -> None:
    memory = Memory(limit=24)
    for chunk in range(4):
        memory.write(S[4 * chunk])
    memory.write(S[1])
    assert memory.begin(4) is None
    assert chunks(memory.take()) == [1], "there is room for what is needed to store one"
    assert memory.work.used == 24
    assert memory.begin(4) is None


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        ({"compressors": None}, 2),
        ({"chunks": (1 << 20,), "compressors": None}, 1),
        ({"chunks": (1 << 20,)}, 2),
        ({"chunks": (1 << 15,), "shards": (1 << 20,)}, 1),
    ],
    ids=["small", "raw", "compressed", "sharded"],
)
def test_what_storing_a_chunk_needs_is_counted(settings: Any, copies: int) -> None:
    """The encoded bytes, and the gathered ones where all of a chunk is compressed at once."""
    a = zarrant.create_array({}, **{"shape": (1 << 22,), "dtype": "int8", "chunks": (64,), **settings})
    array = handle_of(a).array
    nbytes = array.chunk_shape((0,))[0]
    work = ChunkBuffers((1 + copies) * nbytes)
    job = work.begin(array, (0,))
    assert job is not None
    assert not job.due, "all that is needed fits"
    assert work.begin(array, (1,)) is None
    job.due = True
    work.finish(job)
    assert work.take() == [job]
    assert work.used == (1 + copies) * nbytes == work.limit
    work.done([job], [None])
    assert work.used == 0
    work.limit -= 1
    job = work.begin(array, (0,))
    assert job is not None
    assert job.due, "parts of it are stored at once"


@pytest.mark.parametrize("limit", [1, 7])
def test_a_chunk_beyond_the_limit_is_stored_at_once(limit: int) -> None:
    memory = Memory(limit=limit)
    memory.write(S[1])
    assert memory.begin(1) is None
    (job,) = memory.take()
    memory.work.done([job], [None])
    assert memory.work.used == 0
    assert memory.begin(1) is not None


def test_batches_are_bounded() -> None:
    memory = Memory(limit=64 << 20, n=8 << 20, chunk=1 << 20)
    memory.write(S[...])
    assert [job.nbytes for job in memory.take()] == [1 << 20] * (BATCH_BYTES >> 20)


def test_memory_for_a_mask_is_counted() -> None:
    memory = Memory()
    memory.write(S[0])
    memory.write(S[2])
    assert memory.work.used == 4
    memory.write(S[0:4:3])
    assert memory.work.used == 8
