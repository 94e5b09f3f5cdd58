"""Dask: nothing is lost on threads, processes and a cluster whose workers are killed; each stored object is written once."""

from __future__ import annotations

import doctest
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant.errors import BoundsError, NodeNotFoundError, OptionError, ShapeError
from zarrant.stores.wrappers.metrics import Metrics

dask = pytest.importorskip("dask", reason="needs the extra dask")
da = pytest.importorskip("dask.array", reason="needs the extra dask")

from zarrant.integrations.dask import arrays, from_zarrant, store  # noqa: E402

LAYOUT: dict[str, Any] = {"dtype": "float64", "chunks": (10, 16), "shards": (100, 32)}


@pytest.fixture
def values() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).random((390, 64))


@pytest.fixture
def empty(tmp_path: Path, values: np.ndarray[Any, Any]) -> zarrant.Array[Any]:
    return zarrant.create_array(tmp_path / "a", shape=values.shape, **LAYOUT)


def test_examples_run() -> None:
    assert doctest.testmod(arrays, extraglobs={"np": np}).failed == 0


# ── names ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def token(a: Any) -> str:
    return str(dask.base.tokenize(a))


def constant(a: Any) -> Any:
    """The array, opened by somebody who says that it stays as it is."""
    return zarrant.open_array(a.url, mode="r")


def test_two_handles_for_reading_have_one_name(empty: Any) -> None:
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        assert token(constant(empty)) == token(constant(empty))
        assert from_zarrant(constant(empty)).name == from_zarrant(constant(empty)).name
        assert da.from_array(constant(empty)).name == da.from_array(constant(empty)).name


def test_another_process_gives_the_same_name(empty: Any) -> None:
    code = "import sys, zarrant, dask.base; print(dask.base.tokenize(zarrant.open_array(sys.argv[1], mode='r')))"
    done = subprocess.run([sys.executable, "-c", code, empty.url], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == token(constant(empty))


def test_what_differs_has_another_name(empty: Any, tmp_path: Path) -> None:
    before = token(constant(empty))
    others = [
        constant(zarrant.create_array(tmp_path / "b", shape=empty.shape, **LAYOUT)),
        constant(empty).with_config(missing_chunks="error"),
        zarrant.open_array(empty.url, mode="r+"),
        zarrant.create_group(tmp_path / "g"),
        zarrant.open_group(tmp_path / "g", mode="r"),
    ]
    empty.attrs["unit"] = "mm"
    changed = token(constant(empty))
    zarrant.create_array(empty.url, shape=empty.shape, **LAYOUT, overwrite=True)
    assert len({before, changed, token(constant(empty)), *map(token, others)}) == 8


def test_what_may_be_written_to_never_has_a_name_again(empty: Any) -> None:
    """Not by the same handle either: another one, or another process, may have written meanwhile."""
    made = [empty, zarrant.open_array(empty.url, mode="r+"), empty, empty.with_config(missing_chunks="fill")]
    names = {each for a in made for each in (token(a), from_zarrant(a).name, da.from_array(a).name)}
    assert len(names) == 12
    assert len({from_zarrant(empty.url).name for _ in range(3)}) == 3
    assert from_zarrant(empty, name="mine").name == from_zarrant(empty.url, name="mine").name == "mine"


@pytest.mark.parametrize("source", ["handle", "another handle", "address"])
def test_what_was_persisted_does_not_stand_for_what_was_written_since(empty: Any, values: Any, source: str) -> None:
    """Both in one graph, where one name has one value."""
    place = {"handle": empty, "another handle": zarrant.open_array(empty.url, mode="r+"), "address": empty.url}[source]
    old = from_zarrant(place).persist(scheduler="threads")
    empty[...] = values
    before, after = dask.compute(old, from_zarrant(place), scheduler="threads")
    assert not before.any()
    assert np.array_equal(after, values)


def test_arrays_in_memory_are_known_by_their_dict() -> None:
    first, second = {}, {}  # type: ignore[var-annotated]
    a, b = (zarrant.create_array(each, shape=(4,), dtype="int8") for each in (first, second))
    with dask.config.set({"tokenize.ensure-deterministic": True}):
        a, b, again = (zarrant.open_array(each, mode="r") for each in (first, second, first))
        assert token(a) != token(b)
        assert token(a) == token(again)


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ("shards", ((100, 100, 100, 90), (32, 32))),
        ("chunks", ((10,) * 39, (16,) * 4)),
        ("auto", ((390,), (64,))),
        ((50, 64), ((50,) * 7 + (40,), (64,))),
        (-1, ((390,), (64,))),
    ],
)
def test_blocks_are_what_was_asked_for(empty: Any, values: Any, chunks: Any, expected: Any) -> None:
    empty[...] = values
    x = from_zarrant(empty, chunks)
    assert x.chunks == expected
    assert x.dtype == values.dtype
    assert np.array_equal(x.compute(), values)


def test_an_address_will_do(empty: Any, values: Any) -> None:
    empty[...] = values
    assert np.array_equal(from_zarrant(empty.url)[5:7].compute(), values[5:7])
    with pytest.raises(NodeNotFoundError):
        from_zarrant(empty.url + "/no")
    with pytest.raises(OptionError) as error:
        from_zarrant(empty, "shard")
    assert error.value.field == "chunks"


def test_an_address_has_storage_options(empty: Any, values: Any) -> None:
    x, options = da.from_array(values, chunks=100), {"durability": "fsync"}
    store(x, empty.url, storage_options=options)
    np.testing.assert_array_equal(from_zarrant(empty.url, storage_options=options).compute(), values)
    for read in (from_zarrant, lambda a, **given: store(x, a, **given)):
        with pytest.raises(OptionError, match="unknown storage option"):
            read(empty.url, storage_options={"durabilty": "fsync"})
        with pytest.raises(OptionError, match="open already"):
            read(empty, storage_options=options)


@pytest.mark.parametrize(
    "index",
    [np.s_[3], np.s_[5:300:7, ::-1], np.s_[[3, 200, 3], 5:9], np.s_[:, [60, 1]], np.s_[..., None, 2], np.s_[-1, -2]],
    ids=str,
)
@pytest.mark.parametrize("through", [from_zarrant, da.from_array])
def test_any_index_reads_the_same(empty: Any, values: Any, index: Any, through: Any) -> None:
    empty[...] = values
    assert np.array_equal(through(empty)[index].compute(), values[index])


@pytest.mark.parametrize("dtype", ["string", "datetime64[s]", "S5", "bool", "complex64"])
def test_other_types_come_through(dtype: str) -> None:
    values = np.array(["1", "0", "1", "1", "0"])
    values = values.astype("T") if dtype == "string" else values.astype("i4").astype(dtype)
    a = zarrant.create_array({}, shape=(5,), dtype=dtype, chunks=(2,))
    store(da.from_array(values, chunks=3), a)
    assert np.array_equal(a[...], values)
    assert np.array_equal(from_zarrant(a).compute(), values)


def test_no_dimensions_and_no_elements() -> None:
    for shape in [(), (0, 4)]:
        a = zarrant.create_array({}, shape=shape, dtype="int8")
        store(da.full(shape, 7, dtype="int8"), a)
        assert (from_zarrant(a).compute() == 7).all()


# ── storing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("scheduler", "align"), [("threads", True), ("threads", False), ("processes", False), ("synchronous", False)]
)
def test_nothing_is_lost(empty: Any, values: Any, scheduler: str, align: bool) -> None:
    workers = 2 if scheduler == "processes" else 4
    store(da.from_array(values, chunks=(13, 30)), empty, align=align, scheduler=scheduler, num_workers=workers)
    assert np.array_equal(empty[...], values)


@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.soak)])
def test_dasks_own_store_without_its_lock(empty: Any, values: Any, scheduler: str) -> None:
    da.store(da.from_array(values, chunks=(13, 64)), empty, lock=False, scheduler=scheduler, num_workers=4)
    assert np.array_equal(empty[...], values)


def test_a_region_of_the_array(empty: Any, values: Any) -> None:
    store(da.from_array(values[7:333, 5:60], chunks=(60, 60)), empty, np.s_[7:333, 5:60])
    expected = np.zeros_like(values)
    expected[7:333, 5:60] = values[7:333, 5:60]
    assert np.array_equal(empty[...], expected)


def test_later_means_later(empty: Any, values: Any) -> None:
    later = store(da.from_array(values, chunks=(50, 64)), empty, compute=False)
    assert not empty[...].any()
    assert later.compute() is None
    assert np.array_equal(empty[...], values)


def test_what_does_not_fit_is_refused_before_anything_is_stored(empty: Any) -> None:
    for region, error in [(np.s_[0:3], ShapeError), (np.s_[0:391], BoundsError)]:
        with pytest.raises(error):
            store(da.ones((2, 64)), empty, region)
    assert empty.nchunks_initialized == 0


def test_each_stored_object_is_written_once_and_never_read(tmp_path: Path, values: Any) -> None:
    counted = Metrics(zarrant.FilesystemStore(tmp_path))
    a = zarrant.create_array(counted, shape=values.shape, **LAYOUT)
    before = counted.snapshot()
    store(da.from_array(values, chunks=(13, 9)), a)
    assert np.array_equal(zarrant.open_array(tmp_path)[...], values)
    requests = {name: count - before.requests.get(name, 0) for name, count in counted.snapshot().requests.items()}
    assert {name: n for name, n in requests.items() if n and name.startswith(("put", "splice"))} == {"put": a.nchunks}
    assert requests.get("get", 0) == 0


def test_blocks_stay_as_they_are_where_they_would_be_too_large(monkeypatch: pytest.MonkeyPatch, empty: Any) -> None:
    x = da.ones((390, 64), chunks=(13, 64))
    assert arrays._aligned(x, empty, (0, 0)).chunks[0] == (100, 100, 100, 90)
    monkeypatch.setattr(arrays, "MAX_BLOCK_BYTES", 1000)
    assert arrays._aligned(x, empty, (0, 0)).chunks == x.chunks


lengths = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@given(lengths, lengths, st.data())
def test_borders_of_blocks_are_borders_of_objects(blocks: list[int], sizes: list[int], data: st.DataObject) -> None:
    blocks = blocks if sum(blocks) <= sum(sizes) else [sum(sizes)]
    start = data.draw(st.integers(0, sum(sizes) - sum(blocks)))
    got = arrays.aligned_lengths(blocks, sizes, start)
    assert sum(got) == sum(blocks)
    assert min(got) > 0
    assert len(got) <= len(blocks)
    assert set(accumulate(got[:-1], initial=start)) - {start} <= set(accumulate(sizes))


# ── a cluster ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="needs the extra dask")
    options = {"n_workers": 2, "threads_per_worker": 2, "processes": True, "dashboard_address": None, "host": "127.0.0.1"}
    settings = {
        "distributed.scheduler.allowed-failures": 30,
        "distributed.logging.distributed": "critical",
        "distributed.deploy.lost-worker-timeout": "1h",  # 15 s after a kill, a worker that is killed then again is given up
    }
    with (
        dask.config.set(settings),
        distributed.LocalCluster(**options, silence_logs=50) as made,
        distributed.Client(made) as client,
    ):
        yield client


def slowly(block: Any) -> Any:
    time.sleep(0.05)
    return block


@pytest.mark.parametrize("kills", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_a_cluster_with_killed_workers_loses_nothing(cluster: Any, empty: Any, values: Any, kills: int) -> None:
    expected = np.zeros_like(values)
    for number in range(kills):
        victims = [worker["pid"] for worker in cluster.run(lambda: {"pid": os.getpid()}).values()]
        x = da.from_array(values + number, chunks=(13, 64)).map_blocks(slowly)
        future = cluster.compute(store(x, empty, compute=False, align=bool(number % 2)))
        time.sleep(0.4)
        os.kill(victims[number % 2], signal.SIGKILL)
        future.result()
        expected = values + number
        assert np.array_equal(empty[...], expected)
        cluster.wait_for_workers(2)
    assert np.array_equal(from_zarrant(empty).compute(), expected)


def total(a: Any) -> float:
    return float(a[...].sum())


def test_a_cluster_reads_what_was_written_since_it_read(cluster: Any, empty: Any, values: Any) -> None:
    kept = [from_zarrant(each).persist() for each in (empty, empty.url)]
    pytest.importorskip("distributed").wait(kept)  # all of it is read before it changes
    counted = cluster.submit(total, empty)
    assert counted.result() == 0
    store(da.from_array(values, chunks=(100, 64)), empty)
    for each in (empty, empty.url):
        assert np.array_equal(from_zarrant(each).compute(), values)
    assert cluster.submit(total, empty).result() == values.sum() != counted.result()
    assert not any(each.sum().compute() for each in kept), "what was persisted stays as it was"


def pipeline() -> str:
    import zarr

    return str(zarr.config.get("codec_pipeline.path"))


def test_the_plugin_lets_zarr_python_write_through_zarrant_on_every_worker(cluster: Any, tmp_path: Path, values: Any) -> None:
    """Also on one that takes the place of a killed one, while blocks that fit no shard are stored."""
    zarr = pytest.importorskip("zarr", minversion="3.1", reason="needs the extra zarr")
    from zarrant.integrations.dask import WorkerPlugin
    from zarrant.integrations.zarr_python import disable

    cluster.register_plugin(WorkerPlugin())
    first = cluster.run(os.getpid)
    z = zarr.create_array(tmp_path / "z", shape=values.shape, dtype="float64", chunks=(10, 16), shards=(100, 32))
    disable()  # z keeps what it was opened with
    x = da.from_array(values, chunks=(13, 64)).map_blocks(slowly)
    future = cluster.compute(da.store(x, z, lock=False, compute=False))
    time.sleep(0.4)
    os.kill(next(iter(first.values())), signal.SIGKILL)
    future.result()
    assert np.array_equal(zarr.open_array(tmp_path / "z")[...], values)
    cluster.wait_for_workers(2)
    assert cluster.run(os.getpid) != first
    assert all("zarrant" in path for path in cluster.run(pipeline).values())


# ── Dask's own functions, with arrays of zarr-python ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def through_zarrant() -> Iterator[Any]:
    """zarr-python, whose arrays are written through Zarrant by this process and those that it starts."""
    zarr = pytest.importorskip("zarr", minversion="3.1", reason="needs the extra zarr")
    from zarrant.integrations import zarr_python

    zarr_python.enable()
    yield zarr
    zarr_python.disable()


@pytest.mark.parametrize("scheduler", ["threads", pytest.param("processes", marks=pytest.mark.soak)])
def test_blocks_of_dask_that_fit_no_shard_of_zarr_python(through_zarrant: Any, tmp_path: Path, values: Any, scheduler: str) -> None:
    z = through_zarrant.create_array(tmp_path / "z", shape=values.shape, dtype="float64", chunks=(10, 16), shards=(100, 32))
    da.store(da.from_array(values, chunks=(13, 30)), z, lock=False, scheduler=scheduler, num_workers=2)
    assert np.array_equal(zarrant.open_array(tmp_path / "z")[...], values)


def test_to_zarr_makes_arrays_and_stores_regions(through_zarrant: Any, tmp_path: Path, values: Any) -> None:
    x = da.from_array(values, chunks=(100, 32))
    da.to_zarr(x, str(tmp_path / "made"), compute=True)
    assert np.array_equal(zarrant.open_array(tmp_path / "made")[...], values)
    z = through_zarrant.create_array(tmp_path / "z", shape=(500, 64), dtype="float64", chunks=(50, 16))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", da.PerformanceWarning)
        da.to_zarr(x, z, region=(slice(50, 440), slice(None)))
    assert np.array_equal(zarrant.open_array(tmp_path / "z")[50:440], values)
