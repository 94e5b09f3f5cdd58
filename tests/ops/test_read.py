from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zarrant.codecs import Zstd
from zarrant.errors import BoundsError, CapabilityError, ChunkError, ChunkMissingError, PartialFailure, ShapeError
from zarrant.geometry import selection as select
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.region import box_region
from zarrant.ops import read, update, write
from zarrant.requests import Fetch

FULL = np.s_[0:10, 0:9]
SHARDED = {"chunks": (2, 3), "shards": (4, 3)}


@pytest.fixture(params=["chunks", "shards", "compressed"])
def s(request, state, objects, numbers):
    layout = {"chunks": {}, "shards": SHARDED, "compressed": {"compressors": "auto"}}[request.param]
    state = state(**layout)
    objects.perform(update.store_array_subset(state, FULL, numbers))
    objects.log.clear()
    return state


def test_regions_chunks_and_selections(objects, numbers, s) -> None:
    run = objects.perform
    assert np.array_equal(run(read.retrieve_array_subset(s, FULL)), numbers)
    assert np.array_equal(run(read.retrieve_array_subset(s, np.s_[3:7, 2:8])), numbers[3:7, 2:8])
    assert np.array_equal(run(read.retrieve_chunk(s, (1, 1))), numbers[4:8, 3:6])
    edge = run(read.retrieve_chunk(s, (2, 2)))
    assert edge.shape == (4, 3)
    assert np.array_equal(edge[:2], numbers[8:, 6:])
    assert (edge[2:] == 0).all()
    block = run(read.retrieve_chunks(s, np.s_[1:3, 0:2]))
    assert block.shape == (8, 6)
    assert np.array_equal(block[:6], numbers[4:, :6])
    assert np.array_equal(run(read.retrieve_chunk_subset(s, (1, 1), np.s_[1:3, 0:2])), numbers[5:7, 3:5])
    chosen = select.basic(np.s_[::-3, 4], s.shape)
    assert np.array_equal(run(read.retrieve_selection(s, chosen)), numbers[::-3, 4])
    assert set(objects.kinds()) <= {"All", "Fetch"}


def test_into_the_callers_array(objects, numbers, s) -> None:
    for out in (np.zeros((4, 6), "int32"), np.zeros((6, 4), "int32").T, np.zeros((8, 12), "int32")[::-2, ::2]):
        assert objects.perform(read.retrieve_array_subset(s, np.s_[3:7, 2:8], out)) is out
        assert np.array_equal(out, numbers[3:7, 2:8])
    out = np.zeros((4, 3), "int32")
    assert objects.perform(read.retrieve_chunk(s, (0, 0), out)) is out
    with pytest.raises(ShapeError):
        objects.perform(read.retrieve_chunk(s, (0, 0), np.zeros((3, 4), "int32")))


def test_what_is_not_stored_is_fill(objects, state) -> None:
    s = state(fill_value=-3)
    assert (objects.perform(read.retrieve_array_subset(s, FULL)) == -3).all()
    assert objects.perform(read.retrieve_chunk_if_exists(s, (0, 0))) is None
    strict = s.with_options(dataclasses.replace(s.options, missing_chunks="error"))
    with pytest.raises(ChunkMissingError) as caught:
        objects.perform(read.retrieve_chunk(strict, (0, 1)))
    assert (caught.value.chunk, caught.value.key) == ((0, 1), "a/c/0/1")
    with pytest.raises(PartialFailure) as several:
        objects.perform(read.retrieve_array_subset(strict, FULL))
    assert len(several.value.failed) == 9
    objects.perform(write.store_chunk(s, (0, 0), 5))
    assert (objects.perform(read.retrieve_chunk_if_exists(s, (0, 0))) == 5).all()


def test_empty_reads_ask_for_nothing(objects, s, state) -> None:
    for op, shape in [
        (read.retrieve_array_subset(s, np.s_[4:4, 0:9]), (0, 9)),
        (read.retrieve_chunks(s, np.s_[0:0, 0:2]), (0, 6)),
        (read.retrieve_chunk_subset(s, (0, 0), np.s_[1:1, 0:3]), (0, 3)),
        (read.retrieve_array_subset(state(shape=(0, 3)), np.s_[0:0, 0:3]), (0, 3)),
    ]:
        assert objects.perform(op).shape == shape
    assert objects.log == []


def test_encoded_chunks(objects, s) -> None:
    assert objects.perform(read.retrieve_encoded_chunk(s, (1, 1))) == objects["a/c/1/1"]
    del objects["a/c/0/1"]
    assert objects.perform(read.retrieve_encoded_chunk(s, (0, 1))) is None
    chunks = objects.perform(read.retrieve_encoded_chunks(s, np.s_[0:2, 1:2]))
    assert chunks == [None, objects["a/c/1/1"]]
    assert objects.perform(read.retrieve_encoded_chunks(s, np.s_[0:0, 1:2])) == []


def test_subchunks(objects, state, numbers) -> None:
    s = state(**SHARDED)
    objects.perform(update.store_array_subset(s, FULL, numbers))
    assert read.subchunk_grid(s).grid_shape == (5, 3)
    assert np.array_equal(objects.perform(read.retrieve_subchunk(s, (3, 1))), numbers[6:8, 3:6])
    assert np.array_equal(objects.perform(read.retrieve_subchunks(s, np.s_[1:5, 0:2])), numbers[2:10, 0:6])
    assert objects.perform(read.retrieve_subchunks(s, np.s_[1:1, 0:2])).shape == (0, 6)
    with pytest.raises(BoundsError):
        objects.perform(read.retrieve_subchunk(s, (5, 0)))
    for op in (read.retrieve_subchunk(state(), (0, 0)), read.retrieve_subchunks(state(), np.s_[0:1, 0:1])):
        with pytest.raises(CapabilityError, match="not sharded"):
            objects.perform(op)


@pytest.mark.parametrize(
    "make",
    [
        lambda s: read.retrieve_array_subset(s, np.s_[0:11, 0:9]),
        lambda s: read.retrieve_array_subset(s, np.s_[-2:3, 0:9]),
        lambda s: read.retrieve_chunk(s, (3, 0)),
        lambda s: read.retrieve_chunk(s, (-1, 0)),
        lambda s: read.retrieve_chunks(s, np.s_[0:4, 0:1]),
        lambda s: read.retrieve_chunk_subset(s, (0, 0), np.s_[0:5, 0:1]),
        lambda s: read.retrieve_encoded_chunk(s, (0, 3)),
        lambda s: read.retrieve_chunk_if_exists(s, (0, 3)),
    ],
)
def test_out_of_bounds(objects, s, make) -> None:
    with pytest.raises(BoundsError):
        objects.perform(make(s))
    assert objects.log == []


def test_every_broken_chunk_is_named_and_the_others_are_read(objects, state, numbers) -> None:
    s = state(compressors=Zstd())
    objects.perform(update.store_array_subset(s, FULL, numbers))
    objects["a/c/0/1"] = b"broken"
    with pytest.raises(ChunkError) as one:
        objects.perform(read.retrieve_array_subset(s, FULL))
    assert (one.value.chunk, one.value.key, one.value.codec) == ((0, 1), "a/c/0/1", "zstd")
    objects["a/c/2/2"] = objects["a/c/2/2"][:-3]
    out = np.zeros((10, 9), "int32")
    with pytest.raises(PartialFailure) as several:
        objects.perform(read.retrieve_array_subset(s, FULL, out))
    assert set(several.value.failed) == {(0, 1), (2, 2)}
    assert several.value.blame == "data"
    assert np.array_equal(out[4:8], numbers[4:8])


def test_a_shard_that_moves_is_read_again_and_in_the_end_whole(objects, state, numbers) -> None:
    s = state(**SHARDED, compressors=None)
    objects.perform(update.store_array_subset(s, FULL, numbers))
    one = objects["a/c/0/0"]
    objects.perform(update.store_array_subset(s, np.s_[0:4, 0:3], 5))
    versions, count = [one, objects["a/c/0/0"]], [0]

    def move(request) -> None:
        if isinstance(request, Fetch):
            count[0] += 1
            objects["a/c/0/0"] = versions[count[0] % 2]

    objects.before = move
    got = objects.perform(read.retrieve_array_subset(s, np.s_[0:2, 0:3]))
    assert got.tolist() in (numbers[0:2, 0:3].tolist(), [[5] * 3] * 2)
    assert [request.items[0].ranges is None for request in objects.log if isinstance(request, Fetch)][-1]
    del objects["a/c/0/0"]
    objects.before = lambda request: None
    assert (objects.perform(read.retrieve_array_subset(s, np.s_[0:2, 0:3])) == 0).all()


@pytest.mark.parametrize(
    ("chunks", "batches"), [(8, [2] * 4), (32, [2] * 16), (48, [3] * 16), (64, [4] * 16), (70, [4] * 17 + [2])]
)
def test_reads_of_many_chunks_have_larger_batches(chunks: int, batches: list[int], state) -> None:
    """Once there is work for all threads; never of more than twice as many chunks, which is what they are said to cost."""
    s = state(shape=(chunks, 1 << 19), chunks=(1, 1 << 19), dtype="uint8", compressors=Zstd())
    ranges, cost = read._ranges(s, box_region(ArraySubset.full(s.shape)).split(s.grid, s.shape))
    assert [hi - lo for lo, hi in ranges] == batches
    assert cost >= max(batches) << 19
