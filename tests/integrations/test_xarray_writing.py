"""`dataset.zarrant.to_zarr`: what it writes is what zarr-python's engine reads, and many writers lose nothing."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import (
    BoundsError,
    DataTypeError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    ShapeError,
)

xr = pytest.importorskip("xarray", reason="needs the extra xarray")
pd = pytest.importorskip("pandas", reason="needs the extra xarray")
zarr = pytest.importorskip("zarr", reason="needs zarr-python, to compare with")

import zarrant.integrations.xarray  # noqa: E402 - the accessor
from integrations.datasets import assert_same, dataset  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
formats = pytest.mark.parametrize("zarr_format", [2, 3])


def by_zarr(path: Any, **options: Any) -> Any:
    return xr.open_zarr(str(path), chunks=None, **options)


def by_zarrant(path: Any, **options: Any) -> Any:
    return xr.open_dataset(path, engine="zarrant", **options)


# ── whole ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@formats
@pytest.mark.parametrize("blocks", [None, {"time": 4}, {"time": (3, 5, 2)}], ids=["memory", "even", "uneven"])
def test_both_read_what_was_written(tmp_path: Path, zarr_format: Any, blocks: Any) -> None:
    if blocks is not None:
        pytest.importorskip("dask", reason="needs the extra dask")
    ds = dataset() if blocks is None else dataset().chunk(blocks)
    ds.zarrant.to_zarr(tmp_path / "ours", zarr_format=zarr_format)
    (ds if blocks is None else dataset().chunk({"time": 4})).to_zarr(tmp_path / "theirs", zarr_format=zarr_format)
    assert_same(by_zarr(tmp_path / "ours").load(), by_zarr(tmp_path / "theirs").load(), layout=False)
    assert_same(by_zarrant(tmp_path / "ours").load(), by_zarr(tmp_path / "ours").load())
    xr.testing.assert_identical(
        by_zarr(tmp_path / "ours", decode_cf=False).load(), by_zarr(tmp_path / "theirs", decode_cf=False).load()
    )


@formats
@pytest.mark.parametrize("engine", ["zarr", "zarrant"])
def test_what_was_read_is_written_again_with_its_encoding(tmp_path: Path, zarr_format: Any, engine: str) -> None:
    dataset().to_zarr(tmp_path / "first", zarr_format=zarr_format)
    xr.open_dataset(tmp_path / "first", engine=engine).zarrant.to_zarr(tmp_path / "second", zarr_format=zarr_format)
    if zarr_format == 2:  # zarr-python does not write again the text that it wrote as V2
        xr.testing.assert_identical(by_zarr(tmp_path / "second").load(), by_zarr(tmp_path / "first").load())
        return
    by_zarr(tmp_path / "first").to_zarr(tmp_path / "theirs")
    assert_same(by_zarr(tmp_path / "second").load(), by_zarr(tmp_path / "theirs").load())
    by_zarrant(tmp_path / "second").to_zarr(tmp_path / "third")
    assert_same(by_zarr(tmp_path / "third").load(), by_zarr(tmp_path / "theirs").load())


def test_encoding_is_xarrays(tmp_path: Path) -> None:
    encoding = {
        "tas": {"chunks": (2, 3, 5), "shards": (4, 6, 5), "dtype": "i2", "scale_factor": 0.001, "_FillValue": -1},
        "time": {"units": "hours since 2020-01-01", "dtype": "i4"},
    }
    dataset().zarrant.to_zarr(tmp_path / "d", encoding=encoding)
    a = zarrant.open_array(tmp_path / "d" / "tas", mode="r")
    assert (a.shards, a.chunks, a.dtype) == ((4, 6, 5), (2, 3, 5), np.dtype("i2"))
    assert by_zarr(tmp_path / "d").time.encoding["units"] == "hours since 2020-01-01"
    assert np.allclose(by_zarr(tmp_path / "d").tas, dataset().tas, atol=0.001, equal_nan=True)
    with pytest.raises(ValueError, match="chunk"):
        dataset().zarrant.to_zarr(tmp_path / "e", encoding={"tas": {"chunkz": 3}})
    with pytest.raises(OptionError):
        dataset().zarrant.to_zarr(tmp_path / "e", encoding={"tos": {"chunks": 3}})
    assert not (tmp_path / "e").exists()


def test_metadata_are_consolidated_and_stay_so(tmp_path: Path) -> None:
    ds = dataset()
    ds.zarrant.to_zarr(tmp_path / "d", group="a/b")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        xr.testing.assert_allclose(by_zarr(tmp_path / "d", group="a/b", consolidated=True).load(), ds)
    ds.drop_vars(["y", "x", "lat", "count", "flag", "label", "fixed", "unicode", "complex", "number"]).zarrant.to_zarr(
        tmp_path / "d", group="a/b", append_dim="time"
    )
    assert by_zarr(tmp_path / "d", group="a/b", consolidated=True).sizes["time"] == 20


def test_modes(tmp_path: Path) -> None:
    ds, path = dataset(), tmp_path / "d"
    with pytest.raises(NodeNotFoundError):
        ds.zarrant.to_zarr(path, mode="r+")
    ds[["tas"]].zarrant.to_zarr(path, mode="a")
    with pytest.raises(NodeExistsError):
        ds.zarrant.to_zarr(path)
    with pytest.raises(NodeNotFoundError, match="not stored"):
        ds.zarrant.to_zarr(path, mode="r+")
    ds.assign(tas=ds.tas * 2).zarrant.to_zarr(path, mode="a")
    assert np.array_equal(by_zarr(path).tas, ds.tas * 2, equal_nan=True)
    assert set(by_zarr(path).variables) == set(ds.variables)
    ds[["count"]].zarrant.to_zarr(path, mode="w")
    xr.testing.assert_identical(by_zarr(path).load(), ds[["count"]])
    for wrong in [{"mode": "x"}, {"mode": "w", "region": "auto"}, {"region": "auto", "append_dim": "time"}, {"if_exists": "?"}]:
        with pytest.raises(OptionError):
            ds.zarrant.to_zarr(path, **wrong)


def test_what_is_replaced_may_be_what_is_read(tmp_path: Path) -> None:
    dataset().zarrant.to_zarr(tmp_path / "d")
    by_zarrant(tmp_path / "d").zarrant.to_zarr(tmp_path / "d", mode="w")
    xr.testing.assert_allclose(by_zarr(tmp_path / "d").load(), dataset())


def test_later_means_later(tmp_path: Path) -> None:
    pytest.importorskip("dask", reason="needs the extra dask")
    ds = dataset()
    later = ds.chunk({"time": 3}).assign_coords(lat=ds.lat).zarrant.to_zarr(tmp_path / "d", compute=False)
    assert by_zarr(tmp_path / "d").tas.isnull().all()
    assert later.compute() is None
    xr.testing.assert_allclose(by_zarr(tmp_path / "d").load(), ds)


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@formats
@pytest.mark.parametrize("blocks", [None, {"time": 2, "y": 5}], ids=["memory", "dask"])
def test_regions_need_fit_nothing(tmp_path: Path, zarr_format: Any, blocks: Any) -> None:
    ds, path = dataset()[["tas", "packed", "wait"]], tmp_path / "d"
    xr.zeros_like(ds).zarrant.to_zarr(path, zarr_format=zarr_format, encoding={"wait": {"units": "seconds"}})
    part = ds.isel(time=slice(3, 8), y=slice(1, 5))
    part = part if blocks is None else part.chunk(blocks)
    part.drop_vars(["x"]).zarrant.to_zarr(path, region={"time": slice(3, 8), "y": "auto"})
    got = by_zarr(path).load()
    for name in ("tas", "packed"):
        expected = np.zeros_like(ds[name].values)
        expected[3:8, 1:5] = ds[name].values[3:8, 1:5]
        assert np.allclose(got[name], expected, atol=0.006, equal_nan=True)
    assert np.array_equal(got.wait, np.where((np.arange(10) >= 3) & (np.arange(10) < 8), ds.wait, np.timedelta64(0)))
    ds.isel(time=slice(0, 3)).zarrant.to_zarr(path, region="auto")
    xr.testing.assert_allclose(by_zarr(path).tas[:3].load(), ds.tas[:3])


def test_regions_that_cannot_be_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    ds, path = dataset()[["tas"]], tmp_path / "d"
    xr.zeros_like(ds).zarrant.to_zarr(path)
    moved = ds.isel(time=slice(0, 2)).drop_vars(["y", "x", "lat"])
    cases: list[tuple[Any, Any, type[Exception]]] = [
        (moved.assign_coords(time=moved.time + np.timedelta64(1, "h")), "auto", BoundsError),
        (moved.isel(time=[1, 0]), {"time": "auto"}, BoundsError),
        (moved, {"time": slice(0, 3)}, ShapeError),
        (moved, {"t": slice(0, 2)}, OptionError),
        (moved, {"time": slice(0, 4, 2)}, OptionError),
        (moved, 7, OptionError),
        (moved.drop_vars("time"), {"time": "auto"}, OptionError),
        (ds.isel(time=slice(0, 2)), {"time": slice(0, 2)}, OptionError),
        (moved.rename(tas="tos"), {"time": slice(0, 2)}, NodeNotFoundError),
        (moved.isel(x=0), {"time": slice(0, 2)}, ShapeError),
    ]
    for part, region, error in cases:
        with pytest.raises(error):
            part.zarrant.to_zarr(path, region=region)
    xr.testing.assert_identical(by_zarr(path).load(), xr.zeros_like(ds))


# ── appending ────────────────────────────────────────────────────────────────────────────────────────────────────────


def growing() -> Any:
    return dataset()[["tas", "packed", "wait"]]


@formats
@pytest.mark.parametrize("blocks", [None, {"time": 4}], ids=["memory", "dask"])
def test_all_variables_grow_as_one(tmp_path: Path, zarr_format: Any, blocks: Any) -> None:
    ds, path = growing(), tmp_path / "d"
    later = ds.assign_coords(time=ds.time + np.timedelta64(10, "D"), day=ds.day + np.timedelta64(10, "D"))
    ds.zarrant.to_zarr(path, zarr_format=zarr_format)
    assert (later if blocks is None else later.chunk(blocks)).zarrant.to_zarr(path, append_dim="time") == slice(10, 20)
    ds.to_zarr(tmp_path / "theirs", zarr_format=zarr_format)
    later.to_zarr(tmp_path / "theirs", append_dim="time")
    xr.testing.assert_identical(by_zarr(path).load(), by_zarr(tmp_path / "theirs").load())


def test_appends_that_cannot_be_are_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    ds, path = growing(), tmp_path / "d"
    ds.zarrant.to_zarr(path)
    between = ds.assign_coords(time=ds.time + np.timedelta64(90, "s"))
    cases: list[tuple[Any, str, type[Exception]]] = [
        (between, "time", DataTypeError),  # the stored units are hours
        (ds.drop_vars("packed"), "time", OptionError),
        (ds.assign(more=ds.wait), "time", NodeNotFoundError),
        (ds, "t", OptionError),
        (ds.isel(y=slice(0, 2)), "time", ShapeError),
        (ds.rename(x="z"), "time", ShapeError),
    ]
    for part, dim, error in cases:
        with pytest.raises(error):
            part.zarrant.to_zarr(path, append_dim=dim)
    xr.testing.assert_allclose(by_zarr(path).load(), ds, atol=0.006)


PACKED: dict[str, Any] = {"dtype": "i1", "scale_factor": 0.5, "add_offset": 10.0, "_FillValue": -128}
STORED: dict[str, tuple[Any, dict[str, Any], list[Any], list[Any]]] = {  # values, encoding, values that fit, and those that do not
    "integers": (
        np.array([1, 2], "i1"),
        {},
        [[5, -6], [3.0, -4.0], np.array([7, 8], "u2")],
        [[1.7, 2.0], [1000, 1], [np.nan, 2.5]],
    ),
    "unsigned": (np.array([1, 2], "u8"), {}, [np.array([2**64 - 1, 0], "u8")], [[-1, 1], [2.0**64, 1.0], [np.inf, 1.0]]),
    "masked": (np.array([1.0, np.nan]), {"dtype": "i1", "_FillValue": -1}, [[np.nan, 4.0]], [[1.5, 2.0], [128.0, 1.0]]),
    "packed": (np.array([10.5, np.nan]), PACKED, [[10.26, np.nan], [73.5, -53.5]], [[74.0, 1.0], [-60.0, 1.0], [np.inf, 1.0]]),
    "short floats": (np.array([1, 2], "f4"), {}, [[np.nan, 1e38], [np.inf, 1.5]], [[1e300, 1.0]]),
    "text": (np.array(["ab", "cd"]), {}, [["x", "yz"]], [["looooong", "x"]]),
}


@pytest.mark.parametrize("blocks", [None, {}], ids=["memory", "dask"])
@pytest.mark.parametrize("how", ["append", "region", "again"])
@pytest.mark.parametrize("name", STORED)
def test_values_that_the_stored_type_cannot_hold_are_refused(tmp_path: Path, name: str, how: str, blocks: Any) -> None:
    values, encoding, fitting, others = STORED[name]
    options = {"append": {"append_dim": "t"}, "region": {"region": {"t": slice(0, 2)}}, "again": {"mode": "a"}}[how]

    def of(values: Any) -> Any:
        ds = xr.Dataset({"v": ("t", np.asarray(values))})
        return ds if blocks is None else ds.chunk(blocks)

    of(values).zarrant.to_zarr(tmp_path / "d", encoding={"v": encoding})
    before = by_zarr(tmp_path / "d").v.load()
    for other in others:
        with pytest.raises(DataTypeError):
            of(other).zarrant.to_zarr(tmp_path / "d", **options)
        if blocks is None:
            xr.testing.assert_identical(by_zarr(tmp_path / "d").v.load(), before)
    for fits in fitting:
        of(fits).zarrant.to_zarr(tmp_path / "d", **options)
        got = by_zarr(tmp_path / "d").v.load()
        assert got.encoding["dtype"] == before.encoding["dtype"]
        last = np.asarray(got[-2:] if how == "append" else got[:2])
        if values.dtype.kind in "US":
            assert last.tolist() == fits
        elif name == "unsigned":
            assert last.tolist() == list(fits)
        else:
            np.testing.assert_allclose(last.astype("f8"), np.asarray(fits, "f8"), atol=0.25 if name == "packed" else 0, rtol=1e-6)


WRITER = """
import sys
import numpy as np, xarray as xr
import zarrant.integrations.xarray
path, what, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for i in range(6):
    if what == "append":
        t = 1000 * number + 7 * i + np.arange(7)
        ds = xr.Dataset({"v": (("t", "x"), t[:, None] + np.zeros((7, 3)))}, coords={"t": t})
        print(ds.zarrant.to_zarr(path, append_dim="t").start, flush=True)
    else:
        xr.Dataset({"v": (("t", "x"), np.zeros((126, 3)))}, coords={"t": np.arange(126)}).zarrant.to_zarr(path, if_exists="match")
        t = 42 * number + 7 * i + np.arange(7)
        ds = xr.Dataset({"v": (("t", "x"), 1.0 + t[:, None] + np.zeros((7, 3)))}, coords={"t": t})
        ds.zarrant.to_zarr(path, region="auto")
"""


def in_processes(path: Path, what: str, of: int = 3, killed: int = 0) -> list[int]:
    """Let processes write; the first `killed` ones are killed while they append. How many appends these have reported."""
    script = path.with_suffix(".py")
    script.write_text(WRITER, encoding="utf-8")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children: list[Any] = [subprocess.Popen([sys.executable, script, path, what, str(n)], **pipes) for n in range(of)]  # type: ignore[call-overload]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children[:killed]:
        child.stdout.readline()
        child.kill()
    done = [1 + child.communicate()[0].count("\n") for child in children[:killed]]
    for child in children[killed:]:
        child.communicate()
        assert child.returncode == 0
    return done


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.soak)])
@formats
def test_processes_append_and_every_row_is_there_once(tmp_path: Path, rounds: int, zarr_format: Any) -> None:
    """Four processes, of which one is killed: all arrays have the same rows, each row is whole, and what was reported is there."""
    if zarr_format == 2 and rounds == 1:
        pytest.skip("in soak runs")
    empty = xr.Dataset({"v": (("t", "x"), np.zeros((0, 3)))}, coords={"t": np.zeros(0, "i8")})
    for number in range(rounds):
        path = tmp_path / f"d{number}"
        empty.zarrant.to_zarr(path, encoding={"v": {"chunks": (5, 3)}, "t": {"chunks": (50,)}}, zarr_format=zarr_format)
        (reported,) = in_processes(path, "append", of=4, killed=1)
        later = xr.Dataset({"v": (("t", "x"), np.full((7, 3), 9000.0))}, coords={"t": np.full(7, 9000)})
        later.zarrant.to_zarr(path, append_dim="t")
        got = by_zarr(path, consolidated=True).load()
        assert (got.v == got.t).all()  # data and their coordinates belong together
        rows = sorted(got.t.values.tolist())
        kept = [row for row in rows if row < 1000]
        assert rows == [*kept, *(1000 * n + i for n in (1, 2, 3) for i in range(42)), *[9000] * 7]
        assert kept in (list(range(7 * reported)), list(range(7 * (reported + 1))))


def test_processes_make_one_template_and_fill_it(tmp_path: Path) -> None:
    in_processes(tmp_path / "d", "template")
    got = by_zarr(tmp_path / "d", consolidated=True).load()
    assert np.array_equal(got.v, 1.0 + np.arange(126)[:, None] + np.zeros((126, 3)))
