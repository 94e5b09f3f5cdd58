"""Large chunks of nothing but `bytes`: a box is read and written as ranges, with the result of any other pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.codecs import Bytes, Crc32c, Transpose
from zarrant.codecs.byte_sources import InMemory, OneChunk
from zarrant.codecs.pipeline import uncompressed
from zarrant.codecs.pipeline.uncompressed import UncompressedPipeline, runs_of
from zarrant.errors import ChunkError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.selection import orthogonal
from zarrant.storage import ByteRange
from zarrant.stores.wrappers import Recording

SHAPE = (5, 4, 6)
CHAINS = [[Bytes()], [Bytes("big")], [Transpose((2, 0, 1)), Bytes()], [Transpose((1, 0, 2)), Transpose((0, 2, 1)), Bytes("big")]]


pytestmark = pytest.mark.usefixtures("ranges_of_small_chunks")


class RecordingSource(InMemory):
    """Bytes that tell which of them were asked for."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked: list[tuple[int, int]] = []

    def read(self, ranges: Sequence[ByteRange]) -> Any:
        self.asked += [span.resolve(self.size) for span in ranges]
        return (yield from super().read(ranges))


class Memory(zarrant.MemoryStore):
    """A store that tells which ranges were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: list[str] = []
        self.ranges: list[int] = []

    def get(self, key: str) -> Any:
        self.whole.append(key)
        return super().get(key)

    def get_ranges(self, key: str, ranges: Sequence[ByteRange], if_version: Any = None) -> Any:
        self.ranges += [span.length or 0 for span in ranges]
        return super().get_ranges(key, ranges, if_version)


@st.composite
def subsets(draw: st.DrawFn) -> ArraySubset:
    start = [draw(st.integers(0, n - 1)) for n in SHAPE]
    return ArraySubset(tuple(start), tuple(draw(st.integers(1, n - a)) for n, a in zip(SHAPE, start, strict=True)))


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
@given(subset=subsets(), seed=st.integers(0, 99))
def test_boxes_are_slices_and_touch_nothing_else(
    codecs: list[Any], subset: ArraySubset, seed: int, codec: Callable[..., Any], run: Callable[..., Any]
) -> None:
    dice = np.random.default_rng(seed)
    c = codec(codecs, SHAPE, fill=3)
    assert type(c.prepared) is UncompressedPipeline
    old, new = dice.integers(0, 9, SHAPE, "int32"), dice.integers(10, 19, subset.shape, "int32")
    stored = c.encode(old)

    source = RecordingSource(stored)
    written = run(c.prepared.write(OneChunk(0, source), c.selections(subset), 0, 1, new)).only()
    assert source.asked == []
    merged = b"".join(bytes(part) for part in written)
    assert sum(memoryview(part).nbytes for part in written) == len(stored)
    old[subset.slices] = new
    assert merged == c.encode(old)

    source, out = RecordingSource(merged), np.empty(subset.shape, "int32")
    run(c.prepared.read(OneChunk(0, source), c.selections(subset), 0, 1, out))
    assert np.array_equal(out, new)
    assert sum(stop - start for start, stop in source.asked) == new.nbytes

    fresh = np.full(SHAPE, 3, "int32")
    fresh[subset.slices] = new
    assert c.encode(new, None, subset) == c.encode(fresh)


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    data=st.data(),
    itemsize=st.sampled_from([1, 2, 8]),
)
def test_runs_are_where_the_elements_are(shape: list[int], data: st.DataObject, itemsize: int) -> None:
    start = [data.draw(st.integers(0, n - 1)) for n in shape]
    count = [data.draw(st.integers(1, n - a)) for n, a in zip(shape, start, strict=True)]
    runs = runs_of(tuple(shape), start, count, itemsize)
    if runs is None:
        assert np.prod(count[:-1]) > 1  # never for want of savings here: only for too many runs
        return
    numbers = np.arange(np.prod(shape)).reshape(shape)[tuple(slice(a, a + n) for a, n in zip(start, count, strict=True))]
    found = np.concatenate([np.arange(a, a + runs.length) for a in runs.start.tolist()])
    assert np.array_equal(found[::itemsize] // itemsize, numbers.ravel())


def test_what_only_the_whole_chunk_tells(codec: Callable[..., Any]) -> None:
    c = codec([Bytes()], (4, 4), fill=0)
    row = ArraySubset((1, 0), (1, 4))
    old = np.zeros((4, 4), "int32")
    old[1] = 7
    assert c.encode(np.zeros((1, 4)), c.encode(old), row) is None, "all of it is fill now"
    for bad in (b"", b"x", c.encode(old)[:-4], c.encode(old) + b"four"):
        with pytest.raises(ChunkError):
            c.decode(bad, row)
        with pytest.raises(ChunkError):
            c.encode(np.ones((1, 4)), bad, row)


@settings(max_examples=30)
@given(steps=st.lists(st.tuples(st.sampled_from(["box", "stride", "points", "many"]), st.integers(0, 2**32)), max_size=8))
def test_an_array_does_what_numpy_does(steps: list[tuple[str, int]]) -> None:
    store = zarrant.MemoryStore()
    array = zarrant.create_array(store, shape=(13, 9), chunks=(8, 6), dtype="uint16", fill_value=0, compressors=None)
    expected = np.zeros((13, 9), "uint16")
    for kind, seed in steps:
        dice = np.random.default_rng(seed)
        low = [int(dice.integers(0, n)) for n in (13, 9)]
        high = [int(dice.integers(a + 1, n + 1)) for a, n in zip(low, (13, 9), strict=True)]
        where: Any = tuple(slice(a, b, int(dice.integers(1, 3)) if kind == "stride" else 1) for a, b in zip(low, high, strict=True))
        if kind == "points":
            where = (dice.integers(0, 13, 5), dice.integers(0, 9, 5))
            array.vindex[where] = expected[where] = dice.integers(0, 3, 5, "uint16")
        elif kind == "many":
            pairs = [(where, dice.integers(0, 3, expected[where].shape, "uint16")) for _ in range(2)]
            array.store_array_subsets(pairs)
            expected[where] = pairs[-1][1]
        else:
            array[where] = expected[where] = dice.integers(0, 2, expected[where].shape, "uint16")
        assert np.array_equal(array[where] if kind != "points" else array.vindex[where], expected[where])
    assert np.array_equal(array[...], expected)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), filters=st.sampled_from([None, [Transpose((1, 2, 0))]]), empty=st.booleans(), fill=st.sampled_from([0, 7]))
def test_a_chunk_that_is_gathered_by_the_store_is_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    data: st.DataObject,
    filters: Any,
    empty: bool,
    fill: int,
) -> None:
    chunk = tuple(data.draw(st.lists(st.integers(1, 4), min_size=3, max_size=3)))
    shape = tuple(n * data.draw(st.integers(1, 3)) - data.draw(st.integers(0, n - 1)) for n in chunk)
    dtype = data.draw(st.sampled_from(["uint8", "int16", "float64", "complex128", "datetime64[s]", "bool"]))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, 2, shape, "uint8") * np.uint8(7)
    values[: data.draw(st.integers(0, 3)), : data.draw(st.integers(0, 3))] = fill
    values = np.asfortranarray(values) if data.draw(st.booleans()) else values
    values = values.astype(dtype)[:: data.draw(st.sampled_from([1, -1]))]
    monkeypatch.setattr(uncompressed, "FILL_BLOCK_BYTES", data.draw(st.sampled_from([1, 40, 1 << 18])))
    files = zarrant.stores.FilesystemStore(tmp_path_factory.mktemp("files"))
    stored: list[dict[str, bytes]] = []
    for store in (files, files.with_options(locking="none"), zarrant.MemoryStore()):
        layout: Any = {"chunks": chunk, "dtype": dtype, "fill_value": np.asarray(fill).astype(dtype)[()], "compressors": None}
        config = {"write_empty_chunks": empty}
        array = zarrant.create_array(store, shape=shape, filters=filters, config=config, overwrite=True, **layout)
        for corner in np.ndindex(*array.chunk_grid_shape):  # one by one: small ones that are stored together are gathered before
            where = tuple(slice(i * n, min((i + 1) * n, length)) for i, n, length in zip(corner, chunk, shape, strict=True))
            array[where] = values[where]
            out = np.full(values[where].T.shape, fill, "uint8").astype(dtype).T
            array.retrieve_array_subset(where, out=out)
            assert np.array_equal(out, values[where]) and np.array_equal(array[where], values[where])
        assert np.array_equal(array[...], values)
        stored.append({key: bytes(store.get(key).data[0]) for key in store.list_prefix("")})
    assert stored[0] == stored[1] == stored[2]


def test_views_go_only_to_stores_that_gather_them(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[bool] = []
    real = UncompressedPipeline._box_to_gather

    def record(*args: Any) -> Any:
        found.append((view := real(*args)) is not None)
        return view

    monkeypatch.setattr(UncompressedPipeline, "_box_to_gather", record)
    files = zarrant.stores.FilesystemStore(tmp_path)
    values = np.ones((8, 8), "uint16")
    layout: Any = {"shape": (8, 8), "dtype": "uint16", "compressors": None, "overwrite": True}
    for store in (files, Recording(files), files.with_options(durability="fsync"), zarrant.MemoryStore()):
        zarrant.create_array(store, chunks=(4, 4), **layout)[:4, 4:] = values[:4, 4:]
    assert found == [True] * files.strided_parts
    found.clear()
    zarrant.create_array(files, chunks=(8, 8), shards=(8, 8), **layout)[...] = values[::-1]
    assert True not in found
    zarrant.create_array(files, chunks=(8, 8), **layout)[...] = np.zeros((8, 8), "uint16").T
    assert list(files.list_prefix("")) == ["zarr.json"]


def test_a_frame_costs_a_frame() -> None:
    store = Memory()
    array = zarrant.create_array(store, shape=(32, 64, 64), chunks=(32, 64, 64), dtype="uint16", fill_value=0, compressors=None)
    array[...] = 1
    store.whole.clear()
    array[7] = 5
    assert [np.unique(array[frame]).tolist() for frame in (6, 7, 8)] == [[1], [5], [1]]
    assert store.whole == []
    assert sum(store.ranges) == 3 * 64 * 64 * 2


def test_a_chunk_that_is_read_whole_is_asked_for_once() -> None:
    store = Memory()
    array = zarrant.create_array(store, shape=(8, 8), chunks=(4, 4), dtype="uint16", fill_value=3, compressors=None)
    array[:4, :4] = 1
    store.whole.clear()
    assert array[...].sum() == 16 * 1 + 48 * 3
    assert sorted(store.whole) == ["c/0/0", "c/0/1", "c/1/0", "c/1/1"]


def test_other_chains_are_read_whole(codec: Callable[..., Any]) -> None:
    assert type(codec([Bytes(), Crc32c()], SHAPE).prepared) is not UncompressedPipeline


LARGE = {"shape": (1024, 2048), "chunks": (1024, 2048), "dtype": "uint8", "compressors": None}


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> Any:
    """An array of one chunk of 2 MiB, in a store that counts, under the limits that users have."""
    monkeypatch.setattr("zarrant.codecs.pipeline.uncompressed.RANGE_COST_BYTES", 1 << 15)
    a = zarrant.create_array(Memory(), **LARGE)
    a[...] = np.arange(2**21).reshape(1024, 2048) % 251
    return a


def counted(a: Any) -> tuple[int, int]:
    """Bytes that were asked for in ranges since the last time, and requests of whole objects."""
    found = sum(a.store.ranges), len([key for key in a.store.whole if not key.endswith("json")])
    a.store.ranges.clear()
    a.store.whole.clear()
    return found


def test_a_partial_decoder_reads_what_it_is_asked_for(large: Any) -> None:
    values, decoder = large[...], large.partial_decoder((0, 0))
    counted(large)
    for row in (7, 900, 7):
        assert np.array_equal(decoder.retrieve(np.s_[row : row + 1, 16:48]), values[row : row + 1, 16:48])
    assert counted(large) == (64, 0)  # what was read first is kept
    assert decoder.nbytes_held <= 64
    for column in (5, 6):
        assert np.array_equal(decoder.retrieve(np.s_[:, column : column + 1]), values[:, column : column + 1])
    assert counted(large)[0] in (0, 2**21)  # more runs than are worth it: read whole, once
    assert np.array_equal(decoder.retrieve(np.s_[7:8, 16:48]), values[7:8, 16:48])


def test_a_partial_encoder_reads_and_holds_the_parts_that_it_changes(large: Any) -> None:
    values = large[...]
    counted(large)
    with large.partial_encoder((0, 0)) as encoder:
        for row in (3, 700, 701):
            values[row, 100:116] = 255 - row % 5
            encoder.store(np.s_[row : row + 1, 100:116], 255 - row % 5)
    asked, whole = counted(large)
    assert asked <= 3 << 15
    assert whole == 0
    assert np.array_equal(large[...], values)
    large.update(np.s_[9:10, 0:16], lambda old: old + 1)
    assert sum(large.store.ranges) <= 2 << 15
    values[9:10, 0:16] += 1
    assert np.array_equal(large[...], values)


@pytest.mark.parametrize("codecs", CHAINS, ids=str)
def test_several_boxes(codecs: list[Any], codec: Callable[..., Any], run: Callable[..., Any]) -> None:
    c = codec(codecs, SHAPE, fill=3)
    old = np.arange(120, dtype="int32").reshape(SHAPE)
    chosen = np.array([0, 1, 3])
    region = orthogonal((chosen, slice(1, 3), slice(0, 6)), SHAPE).region
    selections = region.split(ChunkGrid.regular(SHAPE, SHAPE), SHAPE)
    source, out = RecordingSource(c.encode(old)), np.empty((3, 2, 6), "int32")
    run(c.prepared.read(OneChunk(0, source), selections, 0, 1, out))
    assert np.array_equal(out, old[chosen, 1:3])
    assert sum(stop - start for start, stop in source.asked) == out.nbytes
    written = run(c.prepared.write(OneChunk(0, source), selections, 0, 1, out + 500)).only()
    old[chosen, 1:3] += 500
    assert b"".join(bytes(part) for part in written) == c.encode(old)


@pytest.mark.parametrize(
    ("codecs", "shape", "granularity"),
    [
        ([Bytes()], (1024, 2048), (4, 2048)),
        ([Transpose((1, 0)), Bytes()], (2048, 1024), (2048, 4)),
        ([Bytes()], (3, 1000, 1000), (1, 8, 1000)),
        ([Bytes()], (7, 999_983), (1, 999_983)),
        ([Bytes()], (64, 64), (64, 64)),
        ([Bytes()], (), ()),
    ],
)
def test_the_write_granularity_is_one_run(codecs: Any, shape: Any, granularity: Any, codec: Callable[..., Any]) -> None:
    assert codec(codecs, shape).prepared.write_granularity == granularity


@pytest.mark.parametrize("filters", [None, [Transpose((1, 0))]], ids=str)
def test_an_encoder_of_shards_changes_parts_of_subchunks(filters: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.codecs.pipeline.uncompressed.RANGE_COST_BYTES", 1 << 15)
    a = zarrant.create_array(
        Memory(), shape=(1024, 1536), shards=(1024, 1536), chunks=(512, 768), dtype="uint8", compressors=None, filters=filters
    )
    values = np.arange(1024 * 1536).reshape(1024, 1536).astype("uint8") % 251
    a[...] = values
    counted(a)
    with a.partial_encoder((0, 0)) as encoder:
        for rows, columns in ((np.s_[3:5], np.s_[700:800]), (np.s_[500:520], np.s_[1:2]), (np.s_[1000:1024], np.s_[1530:1536])):
            encoder.store((rows, columns), 252)
            values[rows, columns] = 252
        encoder.flush()
        assert counted(a)[0] < 20 << 15
        assert np.array_equal(a[...], values)
        encoder.erase()
        encoder.store(np.s_[7:9, 0:1000], 9)
    values[...] = 0
    values[7:9, 0:1000] = 9
    assert np.array_equal(a[...], values)
