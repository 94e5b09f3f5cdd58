from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from zarrant.errors import BoundsError, ChunkError, DataTypeError, PartialFailure, SelectionError, ShapeError
from zarrant.geometry import selection as select
from zarrant.metadata.v3 import dump
from zarrant.ops import read, update, write
from zarrant.requests import Fetch, GroupCommit, Locked, Put

FULL = np.s_[0:10, 0:9]
LAYOUTS = [{}, {"chunks": (2, 3), "shards": (4, 3)}, {"compressors": "auto", "order": "F"}]


def keys(objects, kind) -> set[str]:
    items = [item for request in objects.log if isinstance(request, kind) for item in request[0]]
    return {item.key for item in items}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_are_merged_with_what_is_there(objects, state, numbers, layout) -> None:
    s = state(**layout)
    objects.perform(update.store_array_subset(s, FULL, numbers))
    assert keys(objects, Fetch) <= {"a/zarr.json"}, "whole chunks, those of the edge too, are written without a read"
    objects.log.clear()
    objects.perform(update.store_array_subset(s, np.s_[3:9, 2:7], -1))
    numbers[3:9, 2:7] = -1
    assert np.array_equal(objects.perform(read.retrieve_array_subset(s, FULL)), numbers)


def test_whole_chunks_of_a_region_are_not_read(objects, state, numbers) -> None:
    s = state()
    objects.perform(update.store_array_subset(s, FULL, numbers))
    objects.log.clear()
    objects.perform(update.store_array_subset(s, np.s_[3:9, 0:3], 5))
    assert keys(objects, Fetch) == {"a/c/0/0", "a/c/2/0"}
    assert keys(objects, Put) == {"a/c/0/0", "a/c/1/0", "a/c/2/0"}
    objects.log.clear()
    objects.perform(update.store_array_subset(s, np.s_[8:10, 6:9], 5))
    assert keys(objects, Fetch) <= {"a/zarr.json"}, "all that is in bounds of an edge chunk"


@pytest.mark.parametrize(
    "chosen",
    [
        lambda s: select.basic(np.s_[::-1, ::-1], s.shape),
        lambda s: select.orthogonal((np.arange(10)[::-1], np.arange(9)), s.shape),
        lambda s: select.mask(np.ones((10, 9), bool), s.shape),
        lambda s: select.block((slice(None), slice(None)), s.grid),
    ],
)
def test_complete_selections_of_every_kind_never_read(objects, state, chosen) -> None:
    s = state()
    objects.perform(update.store_selection(s, chosen(s), 4))
    assert keys(objects, Fetch) <= {"a/zarr.json"}
    assert (objects.perform(read.retrieve_array_subset(s, FULL)) == 4).all()


def test_parts_that_become_fill_erase_the_chunk(objects, state) -> None:
    s = state()
    objects.perform(update.store_array_subset(s, np.s_[0:2, 0:3], 5))
    objects.perform(update.store_array_subset(s, np.s_[0:1, 0:3], 0))
    assert list(objects) == ["a/c/0/0"]
    objects.perform(update.store_array_subset(s, np.s_[1:2, 0:3], 0))
    assert objects == {}


def test_empty_regions_are_no_ops(objects, state) -> None:
    s = state()
    objects.perform(update.store_array_subset(s, np.s_[3:3, 0:9], 5))
    objects.perform(update.store_array_subset(s, np.s_[10:10, 0:9], np.ones((0, 9), "int32")))
    objects.perform(update.store_chunk_subset(s, (0, 0), np.s_[0:0, 0:3], 5))
    objects.perform(update.store_array_subset(state(shape=(0, 9)), np.s_[0:0, 0:9], 5))
    objects.perform(update.store_selection(s, select.basic(np.s_[5:2], s.shape), 5))
    assert objects.log == []


def test_parts_of_one_chunk(objects, state) -> None:
    s = state()
    objects.perform(update.store_chunk_subset(s, (1, 1), np.s_[1:3, 0:2], [[1, 2], [3, 4]]))
    assert objects.perform(read.retrieve_array_subset(s, np.s_[4:8, 3:6])).tolist() == [[0, 0, 0], [1, 2, 0], [3, 4, 0], [0, 0, 0]]
    objects.perform(update.store_chunk_subset(s, (2, 0), np.s_[1:4, 0:3], 8))
    assert objects.perform(read.retrieve_chunk(s, (2, 0))).tolist() == [[0] * 3, [8] * 3, [8] * 3, [8] * 3]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda s: update.store_array_subset(s, np.s_[0:11, 0:9], 1), BoundsError),
        (lambda s: update.store_array_subset(s, np.s_[-1:3, 0:9], 1), BoundsError),
        (lambda s: update.store_array_subset(s, np.s_[0:4:2, 0:9], 1), SelectionError),
        (lambda s: update.store_array_subset(s, np.s_[0:2, 0:3], np.ones((3, 2), "int32")), ShapeError),
        (lambda s: update.store_array_subset(s, np.s_[0:2, 0:3], np.ones((2, 3))), DataTypeError),
        (lambda s: update.store_chunk_subset(s, (0, 0), np.s_[0:5, 0:3], 1), BoundsError),
        (lambda s: update.store_chunk_subset(s, (0, 3), np.s_[0:1, 0:1], 1), BoundsError),
        (lambda s: update.store_selection(s, select.basic(np.s_[0:2], s.shape), np.ones((3, 9), "int32")), ShapeError),
    ],
)
def test_wrong_calls_ask_for_nothing(objects, state, make, error) -> None:
    with pytest.raises(error):
        objects.perform(make(state()))
    assert objects.log == []


def test_a_partial_write_of_a_shard_reads_index_and_touched_subchunks_only(objects, state, numbers) -> None:
    s = state(shape=(8, 6), chunks=(2, 3), shards=(8, 6))
    objects.perform(update.store_array_subset(s, np.s_[0:8, 0:6], numbers[:8, :6]))
    objects.log.clear()
    objects.perform(update.store_array_subset(s, np.s_[2:4, 0:3], 7))
    reads = [want.ranges for request in objects.log if isinstance(request, Fetch) for want in request.items]
    assert [len(ranges) for ranges in reads] == [1], "a whole subchunk: only the index"
    objects.log.clear()
    objects.perform(update.store_array_subset(s, np.s_[2:3, 0:2], 8))
    reads = [want.ranges for request in objects.log if isinstance(request, Fetch) for want in request.items]
    assert sum(r.length for r in reads[1]) == 24, "one subchunk of 24 bytes"
    assert len(reads) == 2


def test_a_broken_old_chunk_stops_its_update_only(objects, state) -> None:
    s = state(compressors="auto")
    objects.perform(update.store_array_subset(s, FULL, 1))
    objects["a/c/0/0"] = b"broken"
    with pytest.raises(PartialFailure) as caught:
        objects.perform(update.store_array_subset(s, np.s_[1:10, 1:9], 2))
    assert list(caught.value.failed) == [(0, 0)]
    assert isinstance(caught.value.failed[(0, 0)], ChunkError)
    assert objects["a/c/0/0"] == b"broken"
    assert len(caught.value.stored) == 8
    objects.perform(write.store_chunk(s, (0, 0), 3))
    assert (objects.perform(read.retrieve_chunk(s, (0, 0))) == 3).all()


def test_unguarded_updates_take_no_lock(objects, state) -> None:
    s = state()
    s = s.with_options(dataclasses.replace(s.options, exclusive=False))
    objects.perform(update.store_array_subset(s, np.s_[1:2, 1:2], 2))
    assert "Locked" not in objects.kinds()
    objects.perform(update.store_array_subset(state(), np.s_[1:2, 1:2], 2))
    assert "Locked" in objects.kinds()


def test_a_refused_write_at_the_edge_does_not_ask_again_before_it_reads_the_metadata(objects, stored_state, numbers) -> None:
    made = stored_state()
    state = dataclasses.replace(made, options=dataclasses.replace(made.options, checks_conditions=True))
    objects.perform(update.store_array_subset(state, np.s_[0:10, 0:9], numbers))
    objects["a/zarr.json"] = dump(state.metadata.with_attributes({"by": "another"}))
    objects.log.clear()
    objects.perform(update.store_array_subset(state, np.s_[8:10, 0:3], 7))
    asked = [request for request in objects.log if not isinstance(request, Locked | GroupCommit)]
    assert [type(request).__name__ for request in asked] == ["Put", "Fetch", "CheckUnchanged", "Put"]
    assert objects.perform(read.retrieve_array_subset(state, np.s_[8:10, 0:3])).tolist() == [[7] * 3] * 2
