"""Blocks of very many chunks of which few are stored: the same is erased as where each chunk is tried, and in no time."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.errors import NodeNotFoundError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.keys import KeyEncoding
from zarrant.ops import stored_chunks
from zarrant.stores.local.syscalls import Syscalls

GRID = (40, 50)


def sparse(place: Any, chunks: Any = (), **options: Any) -> Any:
    """An array of 40 × 50 chunks, of which some are stored."""
    array = zarrant.create_array(place, shape=(80, 99), chunks=(2, 2), dtype="int8", **options)
    for i, j in chunks:
        array.store_chunk((i, j), np.full((2, 2), 7, "int8"))
    return array


def age(root: Path) -> None:
    """Let no directory look as if somebody wrote into it a moment ago."""
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            os.utime(path, ns=(10**18, 10**18))


class Counting(Syscalls):
    """The file calls of the system; `looks` counts those at names of files."""

    def __init__(self) -> None:
        self.looks = 0

    def stat(self, path: str) -> os.stat_result:
        self.looks += 1
        return super().stat(path)


chunk = st.tuples(st.integers(0, GRID[0] - 1), st.integers(0, GRID[1] - 1))
box = st.tuples(chunk, chunk).map(lambda two: tuple(slice(min(pair), max(pair) + 1) for pair in zip(*two, strict=True)))
encodings = [{"name": name, "configuration": {"separator": each}} for name in ("default", "v2") for each in "./"]
encoded = st.sampled_from(encodings)


@settings(max_examples=40, deadline=None)
@given(
    stored=st.sets(chunk, max_size=9), block=box | st.just(np.s_[:, :]), encoding=st.sampled_from(encodings), files=st.booleans()
)
def test_the_same_is_erased_as_one_by_one(stored: Any, block: Any, encoding: Any, files: bool, tmp_path_factory: Any) -> None:
    left = []
    for least in (0, 10**9):
        place = tmp_path_factory.mktemp("a") if files else {}
        array = sparse(place, stored, chunk_key_encoding=encoding)
        if files:
            age(place)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stored_chunks, "LIST_FROM", least)
            array.erase_chunks(block)
        left.append(np.asarray(array[...]))
        assert array.nchunks_initialized == len({tuple(i // 2 for i in at) for at in np.argwhere(left[-1] == 7).tolist()})
    assert np.array_equal(*left)


@given(stored=st.sets(chunk, max_size=30), block=box, encoding=st.sampled_from(encodings))
def test_the_prefix_of_a_block_is_that_of_its_chunks_alone(stored: Any, block: Any, encoding: Any) -> None:
    array = sparse({}, chunk_key_encoding=encoding)._array
    chosen = ArraySubset(tuple(each.start for each in block), tuple(each.stop - each.start for each in block))
    prefix = stored_chunks._prefix(array, chosen)
    keys = [array.chunk_key(each) for each in stored]
    inside = {each for each in stored if all(s.start <= i < s.stop for i, s in zip(each, block, strict=True))}
    assert all(array.chunk_key(each).startswith(prefix) for each in inside)
    found = stored_chunks.chunks_of(array, [*keys, array.key_of("zarr.json"), array.key_of("c/x")], chosen)
    assert set(map(tuple, found.tolist())) == inside


@pytest.mark.parametrize("name", ["default", "v2"])
def test_prefixes(name: str) -> None:
    array = sparse({}, chunk_key_encoding={"name": name, "configuration": {"separator": "/"}})._array
    head = "c/" if name == "default" else ""
    for shape, prefix in [((2, 2), ""), ((1, 2), "3/"), ((2, 1), ""), ((1, 1), "3/")]:
        assert stored_chunks._prefix(array, ArraySubset((3, 4), shape)) == head + prefix
    assert isinstance(array.key_encoding, KeyEncoding)


def test_a_million_absent_chunks_are_erased_at_once(tmp_path: Path) -> None:
    calls = Counting()
    store = zarrant.FilesystemStore(tmp_path, syscalls=calls)
    array = zarrant.create_array(store, shape=(10**6,), chunks=(1,), dtype="int8")
    array[[3, 70_000, 999_999]] = 1
    age(tmp_path)
    calls.looks, begin = 0, time.process_time()
    array.erase_chunks(...)
    assert time.process_time() - begin < 5
    assert calls.looks < 100
    assert array.nchunks_initialized == 0
    with pytest.raises(NodeNotFoundError):
        _removed(tmp_path, array).erase_chunks(...)


def _removed(path: Path, array: Any) -> Any:
    (path / "zarr.json").unlink()
    age(path)
    return array


def test_shards_that_are_absent_are_not_tried_by_compact(tmp_path: Path) -> None:
    calls = Counting()
    store = zarrant.FilesystemStore(tmp_path, syscalls=calls)
    array = zarrant.create_array(store, shape=(10**6,), chunks=(2,), shards=(8,), dtype="int8", compressors=None)
    array[80:88] = 1
    array[82:84] = 2
    array[84:86] = 0
    age(tmp_path)
    calls.looks = 0
    assert array.compact() > 0
    assert calls.looks < 100
    assert array[80:90].tolist() == [1, 1, 2, 2, 0, 0, 1, 1, 0, 0]


class Hiding(Syscalls):
    """A scan that does not show a file which another writer replaces meanwhile, as that of some file systems."""

    def __init__(self, name: str) -> None:
        self.name, self.replaces, self.times = name, lambda: None, 0

    def scan(self, path: str) -> list[tuple[str, str]]:
        found = super().scan(path)
        if (self.name, "file") in found and self.times:
            self.times -= 1
            self.replaces()
            found.remove((self.name, "file"))
        return found


@pytest.mark.parametrize("times", [1, 2, 50])
def test_a_chunk_that_a_scan_does_not_show_is_erased_too(times: int, tmp_path: Path) -> None:
    """An update in part that comes meanwhile has read the old elements: erasing would have come after it, not before it."""
    calls = Hiding("7")
    store = zarrant.FilesystemStore(tmp_path, syscalls=calls)
    array = zarrant.create_array(store, shape=(20_000,), chunks=(2,), dtype="int8")
    other = zarrant.open_array(tmp_path)
    array[14:16] = [1, 2]
    age(tmp_path)
    calls.replaces, calls.times = lambda: other.store_array_subset(np.s_[15:16], 9), times
    array.erase_chunks(...)
    assert array[14:16].tolist() == [0, 0]


@pytest.mark.parametrize("limit", [0, 4, 5, 100])
def test_a_listing_ends_where_there_is_too_much(limit: int, tmp_path: Path) -> None:
    sparse(tmp_path, [(i, 2 * i) for i in range(4)])
    age(tmp_path)
    found = zarrant.FilesystemStore(tmp_path).list_stored("c/", limit)
    assert (found is None) == (limit < 4)
    assert found is None or sorted(found) == [f"c/{i}/{2 * i}" for i in range(4)]


def test_a_directory_that_just_changed_is_waited_for(tmp_path: Path) -> None:
    sparse(tmp_path, [(0, 0)])
    assert zarrant.FilesystemStore(tmp_path).list_stored("c/", 10) == ["c/0/0"]
    assert zarrant.FilesystemStore(tmp_path).list_stored("none/", 10) == []
