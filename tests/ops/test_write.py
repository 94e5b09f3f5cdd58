from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zarrant.codecs.protocols import CodecOptions
from zarrant.errors import BoundsError, ChunkError, DataTypeError, PartialFailure, SelectionError, ShapeError, StoreFullError
from zarrant.ops import read, write
from zarrant.ops.bound_array import OpOptions
from zarrant.requests import Put, WriteRequest

KEEP = OpOptions(CodecOptions(write_empty_chunks=True))


def test_a_chunk_is_stored_as_it_is(objects, state) -> None:
    s = state()
    data = np.arange(12, dtype="int32").reshape(4, 3)
    objects.perform(write.store_chunk(s, (1, 2), data))
    assert objects == {"a/c/1/2": data.tobytes()}
    assert "Fetch" not in objects.kinds()


@pytest.mark.parametrize("layout", [{}, {"chunks": (2, 3), "shards": (4, 3)}])
def test_nothing_here_ever_reads(objects, stored_state, numbers, layout) -> None:
    s = stored_state(**layout)
    for op in (
        write.store_chunk(s, (2, 0), np.ones((4, 3), "int32")),
        write.store_chunk(s, (2, 0), 5),
        write.store_chunks(s, np.s_[0:3, 0:3], numbers),
        write.store_encoded_chunk(s, (0, 0), b"x" * 48),
        write.store_encoded_chunks(s, [(0, 0), (0, 1)], [b"1", b"2"]),
        write.erase_chunk(s, (0, 0)),
        write.erase_chunks(s, np.s_[0:3, 0:2]),
    ):
        objects.perform(op)
    assert "Fetch" not in objects.kinds()


def test_edge_chunks_take_the_full_shape_or_what_is_in_bounds(objects, state) -> None:
    s = state(fill_value=9)
    objects.perform(write.store_chunk(s, (2, 0), np.ones((2, 3), "int32")))
    assert np.frombuffer(objects["a/c/2/0"], "int32").tolist() == [1] * 6 + [9] * 6
    objects.perform(write.store_chunk(s, (2, 0), np.full((4, 3), 2, "int32")))
    assert np.frombuffer(objects["a/c/2/0"], "int32").tolist() == [2] * 12
    objects.perform(write.store_chunk(s, (2, 0), [3, 4, 5]))
    assert np.frombuffer(objects["a/c/2/0"], "int32").tolist() == [3, 4, 5] * 2 + [9] * 6


def test_blocks_of_chunks(objects, state, numbers) -> None:
    s = state()
    objects.perform(write.store_chunks(s, np.s_[1:3, 0:2], numbers[4:10, 0:6]))
    assert sorted(objects) == ["a/c/1/0", "a/c/1/1", "a/c/2/0", "a/c/2/1"]
    full = np.pad(numbers[4:10, 0:6], ((0, 2), (0, 0)))
    twin = type(objects)()
    twin.perform(write.store_chunks(s, np.s_[1:3, 0:2], full))
    assert twin == objects


def test_chunks_of_fill_are_erased_unless_they_are_wanted(objects, state) -> None:
    s = state(fill_value=5)
    objects.perform(write.store_chunk(s, (0, 0), 1))
    objects.perform(write.store_chunk(s, (0, 0), 5))
    assert objects == {}
    objects.perform(write.store_chunk(s.with_options(KEEP), (0, 0), 5))
    assert np.frombuffer(objects["a/c/0/0"], "int32").tolist() == [5] * 12
    sharded = state(chunks=(2, 3), shards=(4, 3), prefix="s")
    objects.perform(write.store_chunk(sharded, (0, 0), 0))
    assert "s/c/0/0" not in objects
    objects.perform(write.store_chunk(sharded.with_options(KEEP), (0, 0), 0))
    assert len(objects["s/c/0/0"]) == 2 * 24 + 2 * 16 + 4


@pytest.mark.parametrize(
    ("chunk", "data", "error"),
    [
        ((3, 0), 1, BoundsError),
        ((-1, 0), 1, BoundsError),
        ((0,), 1, (BoundsError, SelectionError, ShapeError)),
        ((0, 1.0), 1, SelectionError),
        ((0, 0), np.ones((3, 3), "int32"), ShapeError),
        ((0, 0), np.ones((1, 4, 3), "int32"), ShapeError),
        ((2, 0), np.ones((3, 3), "int32"), ShapeError),
        ((0, 0), np.ones((4, 3)), DataTypeError),
        ((0, 0), "text", DataTypeError),
    ],
)
def test_wrong_calls_write_nothing(objects, state, chunk, data, error) -> None:
    s = state()
    for op in (write.store_chunk(s, chunk, data),):
        with pytest.raises(error):
            objects.perform(op)
    assert objects.log == []


def test_wrong_blocks_write_nothing(objects, state) -> None:
    s = state()
    for op, error in [
        (write.store_chunks(s, np.s_[0:4, 0:1], 1), BoundsError),
        (write.store_chunks(s, np.s_[0:2, 0:1], np.ones((7, 3), "int32")), ShapeError),
        (write.erase_chunks(s, np.s_[0:4, 0:1]), BoundsError),
        (write.erase_chunk(s, (0, 3)), BoundsError),
        (write.store_encoded_chunk(s, (9, 0), b""), BoundsError),
        (write.store_encoded_chunk(s, (0, 0), "text"), ShapeError),
        (write.store_encoded_chunk(s, (0, 0), np.ones((4, 4))[:, 1]), ShapeError),
        (write.store_encoded_chunks(s, [(0, 0)], [b"", b""]), ShapeError),
    ]:
        with pytest.raises(error):
            objects.perform(op)
    assert objects.log == []


def test_empty_blocks_are_no_ops(objects, state) -> None:
    s, nothing = state(), state(shape=(0, 9))
    objects.perform(write.store_chunks(s, np.s_[1:1, 0:3], 1))
    objects.perform(write.erase_chunks(s, np.s_[0:0, 0:3]))
    objects.perform(write.store_chunks(nothing, np.s_[0:0, 0:3], np.ones((0, 9), "int32")))
    objects.perform(write.store_encoded_chunks(s, [], []))
    assert "Put" not in objects.kinds()


def test_no_dimensions(objects, state) -> None:
    for layout in ({}, {"shards": ()}):
        s = state(shape=(), chunks=(), prefix="", **layout)
        objects.perform(write.store_chunk(s, (), 7))
        assert objects.perform(read.retrieve_chunk(s, ())).tolist() == 7
        objects.perform(write.erase_chunks(s, ()))
        assert objects == {}
        objects.perform(write.store_chunks(s, (), 8))
        assert objects.perform(read.retrieve_chunks(s, ())).tolist() == 8


def test_encoded_chunks_are_passed_on_without_a_copy(objects, state) -> None:
    s = state()
    data = np.arange(12, dtype="int32")
    objects.perform(write.store_encoded_chunk(s, (0, 1), data))
    (put,) = (request for request in objects.log if isinstance(request, Put))
    (part,) = put.items[0].parts
    assert np.shares_memory(np.frombuffer(part, "uint8"), data)


def test_encoded_chunks_can_be_checked(objects, state) -> None:
    for layout in ({"compressors": "auto"}, {"chunks": (2, 3), "shards": (4, 3)}):
        s = state(**layout)
        objects.perform(write.store_chunk(s, (0, 0), 3))
        good = objects["a/c/0/0"]
        objects.perform(write.store_encoded_chunk(s, (0, 1), good, check=True))
        objects.log.clear()
        for bad in (b"", b"nonsense", good[:-1], good + b"\0"):
            with pytest.raises(ChunkError) as caught:
                objects.perform(write.store_encoded_chunk(s, (0, 1), bad, check=True))
            assert (caught.value.chunk, caught.value.key) == ((0, 1), "a/c/0/1")
        assert "Put" not in objects.kinds()
        assert objects["a/c/0/1"] == good
        objects.clear()


def test_a_failure_of_some_names_those_and_the_stored(objects, state, numbers) -> None:
    s = state()

    def full(item: WriteRequest) -> None:
        if item.key in ("a/c/1/1", "a/c/2/0"):
            raise StoreFullError("no space", key=item.key)
        type(objects).store(objects, item)

    objects.store = full
    with pytest.raises(PartialFailure) as caught:
        objects.perform(write.store_chunks(s, np.s_[0:3, 0:3], numbers))
    assert set(caught.value.failed) == {(1, 1), (2, 0)}
    assert all(isinstance(error, StoreFullError) for error in caught.value.failed.values())
    assert len(caught.value.stored) == len(objects) == 7
    assert caught.value.blame == "store"
    with pytest.raises(StoreFullError) as single:
        objects.perform(write.store_chunk(s, (1, 1), 5))
    assert (single.value.chunk, single.value.key) == ((1, 1), "a/c/1/1")


def test_small_chunks_travel_in_batches(objects, state) -> None:
    s = state(shape=(1000,), chunks=(1,))
    s = s.with_options(dataclasses.replace(s.options, codec=CodecOptions(batch_bytes=400)))
    objects.perform(write.store_chunks(s, np.s_[0:1000], np.arange(1, 1001, dtype="int32")))
    assert len(objects) == 1000
    assert objects.kinds().count("Put") == 10
