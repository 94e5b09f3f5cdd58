"""What users of NumPy, zarr-python and Dask expect of an array."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, OptionError, SelectionError
from zarrant.nodes import array as array_module
from zarrant.storage import Get, Put
from zarrant.stores.wrappers import Recording

DATA = np.arange(60, dtype="int16").reshape(12, 5)


class One:
    def __index__(self) -> int:
        return 1


def test_a_copy_that_is_not_wanted_is_refused() -> None:
    a = zarrant.create_array({}, data=DATA)
    for wanted in (None, True):
        assert np.array_equal(a.__array__(copy=wanted), DATA)
    assert np.asarray(a, "float64").dtype == np.float64
    with pytest.raises(ValueError, match="copy"):
        np.asarray(a, copy=False)
    with pytest.raises(OptionError):
        np.array(a, copy=False)


@pytest.mark.parametrize("chunks", [(4, 5), (5, 2), (12, 5), (1, 1)])
@pytest.mark.parametrize("limit", [1, 24, 2**20])
def test_iterating_gives_what_numpy_gives_and_reads_each_chunk_once(
    chunks: tuple[int, ...], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(array_module, "ITERATION_BYTES", limit)
    store = Recording(zarrant.MemoryStore())
    a = zarrant.create_array(store, data=DATA, chunks=chunks)
    store.calls.clear()
    assert [row.tolist() for row in a] == DATA.tolist()
    if limit == 2**20:
        assert len(store.calls) == a.nchunks
    assert [row.tolist() for row, _ in zip(a, range(3), strict=False)] == DATA[:3].tolist()


def test_iterating_over_a_line_gives_scalars() -> None:
    a = zarrant.create_array({}, data=DATA.ravel(), chunks=(7,))
    assert list(a) == DATA.ravel().tolist()
    assert type(next(iter(a))) is np.int16
    assert list(zarrant.create_array({}, shape=(0,), dtype="int8")) == []
    assert [row.shape for row in zarrant.create_array({}, shape=(2, 0), dtype="int8")] == [(0,), (0,)]
    with pytest.raises(TypeError):
        iter(zarrant.create_array({}, shape=(), dtype="int8"))


def test_membership_is_that_of_numpy() -> None:
    for a in (zarrant.create_array({}, data=DATA, chunks=(4, 5)), zarrant.create_array({}, data=np.int16(3))):
        data = a[...]
        for value in (3, 59, 60, -1, "x"):
            assert (value in a) == (value in np.asarray(data)), value
    assert DATA[0] in zarrant.create_array({}, data=DATA, chunks=(4, 5))


def test_integers_of_other_libraries_and_empty_tuples_are_indices() -> None:
    a = zarrant.create_array({}, data=DATA, chunks=(4, 5))
    for one in (One(), np.array(1), np.int64(1)):
        assert a[one].tolist() == DATA[1].tolist()
        assert a[one:].tolist() == DATA[1:].tolist()
        assert a[one, one] == DATA[1, 1]
        assert a[[0, 2], one].tolist() == DATA[[0, 2], 1].tolist()
        assert a.retrieve_array_subset(np.s_[one, one:]).tolist() == DATA[1:2, 1:].tolist()
        assert a.retrieve_chunk((one, 0)).tolist() == DATA[4:8].tolist()
    assert a[((),)].shape == DATA[((),)].shape
    assert a[[]].shape == DATA[[]].shape
    for wrong in (1.0, True, np.array(1.0), np.array([True]), "1"):
        with pytest.raises(SelectionError):
            a[wrong:]


def test_a_slice_without_a_step_is_a_value_error_as_in_numpy() -> None:
    a = zarrant.create_array({}, data=DATA)
    for use in (
        lambda: a[::0],
        lambda: a[0, ::0],
        lambda: a.oindex[::0],
        lambda: a.blocks[::0],
        lambda: a.__setitem__(np.s_[::0], 1),
    ):
        with pytest.raises(ValueError, match="zero"):
            use()
        with pytest.raises(IndexError):
            use()


def test_a_masked_index_is_refused() -> None:
    a = zarrant.create_array({}, data=DATA)
    with pytest.raises(SelectionError, match="masked"):
        a[np.ma.masked_array([1, 2], mask=[0, 1])]
    assert a[np.ma.masked_array([1, 2])].tolist() == DATA[[1, 2]].tolist()


def test_empty_lists_store_nothing() -> None:
    a = zarrant.create_array({}, data=DATA.ravel(), chunks=(7,))
    a[np.zeros(60, bool)] = []
    a[2:2] = []
    a.store_array_subset(np.s_[2:2], [])
    assert a.append([]) == slice(60, 60)
    assert a[...].tolist() == DATA.ravel().tolist()
    assert zarrant.create_array({}, data=[], dtype="int32").shape == (0,)
    assert zarrant.create_array({}, data=[2**64 - 1, 0], dtype="uint64")[...].tolist() == [2**64 - 1, 0]


def test_every_operation_takes_the_boxes_that_brackets_take() -> None:
    a = zarrant.create_array({}, data=DATA, chunks=(4, 5))
    for subset, box in [
        (..., np.s_[0:12, 0:5]),
        ((), np.s_[0:12, 0:5]),
        (3, np.s_[3:4, 0:5]),
        (np.s_[2:6], np.s_[2:6, 0:5]),
        (np.s_[..., 1:3], np.s_[0:12, 1:3]),
        (np.s_[3, ..., 2], np.s_[3:4, 2:3]),
        (range(2, 6), np.s_[2:6, 0:5]),
        ((range(2, 6), 4), np.s_[2:6, 4:5]),
    ]:
        a[...] = DATA
        assert np.array_equal(a.retrieve_array_subset(subset), DATA[box])
        assert np.array_equal(a.chunks_in_subset(subset).slices, a.chunks_in_subset(box).slices)
        for change in (
            lambda s: a.store_array_subset(s, 7),
            lambda s: a.store_array_subsets([(s, 7)]),
            lambda s: a.update(s, lambda x: x * 0 + 7),
        ):
            a[...] = DATA
            change(subset)
            expected = DATA.copy()
            expected[box] = 7
            assert np.array_equal(a[...], expected)
        a[...] = DATA
        with a.lock(subset) as locked:
            locked.store_array_subset(subset, 7)
        assert np.array_equal(a[...], expected)
    a[...] = DATA
    assert np.array_equal(a.retrieve_chunk_subset((1, 0), 2), DATA[6:7])
    assert np.array_equal(a.retrieve_chunks((1, ...)), DATA[4:8])
    assert np.array_equal(a.retrieve_chunks(...), DATA)
    assert np.array_equal(a.partial_decoder((1, 0)).retrieve((..., 3)), DATA[4:8, 3:4])
    a.store_chunk_subset((1, 0), (2, ...), 9)
    a.store_chunks(2, 8)
    with a.partial_encoder((0, 0)) as encoder:
        encoder.store(1, 7)
    assert [int(value) for value in a[[1, 6, 8], 0]] == [7, 9, 8]
    a.erase_chunks((0, ...))
    assert not a[:4].any()


def test_names_that_zarr_python_has() -> None:
    codecs = zarrant.codecs
    plain = zarrant.create_array({}, shape=(10, 4), dtype="int16", chunks=(4, 3))
    assert (plain.filters, plain.order) == ((), "C")
    assert isinstance(plain.serializer, codecs.Bytes)
    assert [codec.name for codec in plain.compressors] == ["zstd", "crc32c"]
    assert plain.read_chunk_sizes == plain.write_chunk_sizes == ((4, 4, 2), (3, 1))
    turned = zarrant.create_array({}, shape=(10, 4), dtype="int16", chunks=(2, 2), shards=(4, 4), order="F", compressors=None)
    assert (turned.order, turned.compressors) == ("F", ())
    assert isinstance(turned.filters[0], codecs.Transpose)
    assert turned.read_chunk_sizes == ((2, 2, 2, 2, 2), (2, 2))
    assert turned.write_chunk_sizes == ((4, 4, 2), (4,))
    assert zarrant.create_array({}, shape=(0, 4), dtype="int16", chunks=(4, 3)).read_chunk_sizes == ((), (3, 1))
    assert zarrant.create_array({}, shape=(), dtype="int16").write_chunk_sizes == ()


def test_stored_chunks_are_counted() -> None:
    store = zarrant.MemoryStore()
    a = zarrant.create_array(store, name="a", shape=(10, 4), dtype="int16", chunks=(4, 3))
    zarrant.create_array(store, name="ab", data=DATA)
    assert a.nchunks_initialized == 0
    a[0:5] = 1
    assert (a.nchunks_initialized, a.nchunks) == (4, 6)
    store.put("a/c/9/9", [b"beyond"])
    store.put("a/c/other", [b"not a chunk"])
    assert a.nchunks_initialized == 4
    b = asyncio.run(zarrant.open_array_async(store, name="a"))
    assert asyncio.run(b.nchunks_initialized()) == 4

    class Listless(Get, Put):
        def __init__(self) -> None:
            self.get, self.get_ranges, self.put = store.get, store.get_ranges, store.put  # type: ignore[method-assign]

    with pytest.raises(CapabilityError):
        _ = zarrant.open_array(Listless(), name="a", mode="r").nchunks_initialized


class Lazy:
    """What a dataset of h5py, or an array of Dask, looks like."""

    def __init__(self, data: Any) -> None:
        self.data, self.largest = data, 0
        self.shape, self.dtype, self.ndim, self.size = data.shape, data.dtype, data.ndim, data.size

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        self.largest = max(self.largest, self.data.size)
        return np.array(self.data)

    def __getitem__(self, key: Any) -> Any:
        part = self.data[key]
        self.largest = max(self.largest, part.size)
        return part


@pytest.mark.parametrize("layout", [{"chunks": (5, 3)}, {"chunks": (2, 2), "shards": (4, 4)}])
def test_data_that_are_not_in_memory_are_read_in_parts(layout: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from zarrant.ops import ingest

    monkeypatch.setattr(ingest, "BLOCK_BYTES", 64)
    data = np.arange(23 * 7, dtype="int16").reshape(23, 7)
    for source in (Lazy(data), Lazy(np.ma.masked_equal(data, 5))):
        a = zarrant.create_array({}, data=source, fill_value=-1, **layout)
        assert np.array_equal(a[...], np.ma.filled(source.data, -1))
        assert source.largest <= 64
    b = asyncio.run(zarrant.create_array_async({}, data=Lazy(data), **layout))
    assert np.array_equal(asyncio.run(b.getitem(...)), data)
    again = zarrant.create_array({}, data=zarrant.create_array({}, data=data), **layout)
    assert np.array_equal(again[...], data)
    assert zarrant.create_array({}, data=Lazy(np.zeros((0, 4), "u1"))).shape == (0, 4)
    assert zarrant.create_array({}, data=Lazy(np.array(3)))[...] == 3


def test_lazy_data_are_in_memory_before_what_they_are_read_from_is_overwritten() -> None:
    store = zarrant.MemoryStore()
    zarrant.create_array(store, data=DATA, chunks=(4, 5))
    source = Lazy(DATA)
    source.__class__ = type("View", (Lazy,), {"__array__": lambda self, dtype=None, copy=None: zarrant.open_array(store)[...]})
    for options in ({"overwrite": True}, {"if_exists": "overwrite"}):
        a = zarrant.create_array(store, data=source, chunks=(3, 5), **options)
        assert np.array_equal(a[...], DATA)
    assert np.array_equal(zarrant.open_array(store, mode="w", data=source)[...], DATA)
    assert source.largest == 0


def test_overwriting_nothing_reads_lazy_data_in_parts(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from zarrant.ops import ingest

    monkeypatch.setattr(ingest, "BLOCK_BYTES", 32)
    for store in ({}, tmp_path / "new.zarr", "memory://lazy-and-new/deep"):
        source = Lazy(DATA)
        a = zarrant.create_array(store, data=source, chunks=(3, 5), overwrite=True)
        assert np.array_equal(a[...], DATA)
        assert source.largest <= 32
    below = zarrant.MemoryStore()
    zarrant.create_array(below, name="group/a", data=DATA)
    below.erase("group/zarr.json")  # no node is at "group", but what is below it would be erased
    source = Lazy(DATA)
    zarrant.create_array(below, name="group", data=source, overwrite=True)
    assert source.largest == DATA.size


@pytest.mark.parametrize("kind", ["dask", "xarray", "zarr", "zarrant"])
def test_arrays_of_other_libraries_are_stored_in_bounded_memory(kind: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import tracemalloc

    from zarrant.ops import ingest

    monkeypatch.setattr(ingest, "BLOCK_BYTES", 1 << 20)
    whole = 16 << 20
    x = zarrant.full(
        (whole // 4096, 4096), 3, dtype="uint8", store=tmp_path / "x.zarr", chunks=(64, 4096), dimension_names=["y", "x"]
    )
    if kind == "zarrant":
        source: Any = x
    elif kind == "zarr":
        source = pytest.importorskip("zarr").open_array(str(tmp_path / "x.zarr"), mode="r")
    elif kind == "dask":
        source = pytest.importorskip("dask.array").from_array(x, chunks=(256, 4096))
    else:
        pytest.importorskip("dask")
        source = pytest.importorskip("xarray").DataArray(pytest.importorskip("dask.array").from_array(x, chunks=(256, 4096)))
    np.asarray(source[:1])  # imports what it needs
    tracemalloc.start()
    try:
        a = zarrant.create_array(tmp_path / "copy.zarr", data=source, chunks=(64, 64), shards=(64, 4096), config={"concurrency": 2})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (a.shape, a.dtype, a.nchunks_initialized) == (x.shape, x.dtype, a.nchunks)
    assert (a[::97, ::89] == 3).all()
    assert peak < whole // 2


def test_lazy_data_that_do_not_fit_are_refused_before_there_is_an_array() -> None:
    objects: dict[str, bytes] = {}
    for wrong, options in [(Lazy(np.zeros((4, 4))), {"dtype": "int8"}), (Lazy(np.zeros((4, 4))), {"shape": (5, 4)})]:
        with pytest.raises((TypeError, ValueError)):
            zarrant.create_array(objects, data=wrong, **options)
    assert objects == {}


MASKED = np.ma.masked_array([1, 2, 300, 4], mask=[0, 1, 1, 0])


def _in_an_encoder(a: Any) -> None:
    with a.partial_encoder((0,)) as encoder:
        encoder.store(np.s_[0:4], MASKED)


@pytest.mark.parametrize(
    "store",
    [
        lambda a: a.__setitem__(..., MASKED),
        lambda a: a.__setitem__([0, 1, 2, 3], MASKED),
        lambda a: a.store_array_subset(np.s_[0:4], MASKED),
        lambda a: a.store_array_subsets([(np.s_[0:4], MASKED)]),
        lambda a: a.store_chunk((0,), MASKED),
        lambda a: a.store_chunks(np.s_[0:1], MASKED),
        lambda a: a.store_chunk_subset((0,), np.s_[0:4], MASKED),
        lambda a: a.update(np.s_[0:4], lambda x: MASKED),
        lambda a: (a.resize((0,)), a.append(MASKED)),
        _in_an_encoder,
    ],
)
@pytest.mark.parametrize("layout", [{"chunks": (4,)}, {"chunks": (2,), "shards": (4,)}])
def test_masked_elements_are_stored_as_fill_by_every_operation(store: Any, layout: Any) -> None:
    a = zarrant.create_array({}, data=[5, 5, 5, 5], dtype="uint8", fill_value=9, **layout)
    store(a)
    assert a[...].tolist() == [1, 9, 9, 4]


def test_masked_data_of_a_new_array_are_its_fill_value() -> None:
    masked = np.ma.masked_array([1, 2, 3], mask=[0, 1, 0], fill_value=-9)
    assert zarrant.create_array({}, data=masked)[...].tolist() == [1, 0, 3]
    assert zarrant.create_array({}, data=masked, fill_value=-9)[...].tolist() == [1, -9, 3]
    a = zarrant.create_array({}, data=[1, 2, 3], dtype="int8", fill_value=7)
    a[1] = np.ma.masked
    assert a[...].tolist() == [1, 7, 3]
