"""xarray: the engine reads what zarr-python's reads, bit for bit."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

import zarrant
from zarrant.errors import MetadataError, NodeNotFoundError, UnknownExtensionError

xr = pytest.importorskip("xarray", reason="needs the extra xarray")
zarr = pytest.importorskip("zarr", reason="needs zarr-python, to compare with")

from integrations.datasets import assert_same, dataset  # noqa: E402
from zarrant.integrations.xarray import ZarrantBackend  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


def opened(address: Any, **options: Any) -> Any:
    return xr.open_dataset(address, engine="zarrant", **options)


@pytest.fixture(params=[2, 3], scope="module")
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The dataset, written by zarr-python; nobody changes it."""
    path = str(tmp_path_factory.mktemp("written") / "d.zarr")
    dataset().to_zarr(path, zarr_format=request.param)
    return path


# ── the engine ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("decode", [{}, {"decode_cf": False}, {"mask_and_scale": False}])
def test_it_reads_what_zarr_python_wrote(written: str, decode: dict[str, Any]) -> None:
    assert_same(opened(written, **decode), xr.open_zarr(written, chunks=None, **decode))


def test_the_entry_point_names_the_engine() -> None:
    import tomllib

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["project"]["entry-points"]["xarray.backends"] == {
        "zarrant": f"zarrant.integrations.xarray:{ZarrantBackend.__name__}"
    }


def test_nothing_is_read_before_it_is_used(tmp_path: Path) -> None:
    dataset().to_zarr(tmp_path / "d.zarr")
    for chunk in (tmp_path / "d.zarr" / "tas" / "c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"broken")
    ds = opened(tmp_path / "d.zarr")
    assert ds.sizes == {"time": 10, "y": 6, "x": 5}
    with pytest.raises(zarrant.errors.ChunkError):
        ds.tas.load()


INDEXES: list[dict[str, Any]] = [
    {"time": 3},
    {"time": slice(8, 1, -3), "x": slice(None, None, 2)},
    {"time": [1, 1, 0], "y": [5, 2]},
    {"time": ("p", [1, 9, 0]), "x": ("p", [4, 0, 0])},
    {"time": (("p", "q"), [[1, 2], [3, 4]]), "y": slice(1, 3)},
    {"time": -1, "y": [-1, 0], "x": slice(1, 4)},
    {"time": slice(0, 0)},
]


@pytest.mark.parametrize("index", INDEXES, ids=repr)
@pytest.mark.parametrize("chunks", [None, {}], ids=["lazy", "dask"])
def test_any_index_gives_the_same(written: str, index: dict[str, Any], chunks: Any) -> None:
    if chunks is not None:
        pytest.importorskip("dask", reason="needs the extra dask")
    index = {name: xr.Variable(*each) if isinstance(each, tuple) else each for name, each in index.items()}
    ours, theirs = opened(written, chunks=chunks).isel(index), xr.open_zarr(written, chunks=None).isel(index)
    xr.testing.assert_identical(ours.load(), theirs.load())
    again = opened(written).isel({"y": slice(1, None)})
    xr.testing.assert_identical(again.isel(x=0).load(), xr.open_zarr(written, chunks=None).isel(y=slice(1, None), x=0).load())


@pytest.mark.parametrize("index", INDEXES, ids=repr)
def test_an_event_loop_reads_the_same(written: str, index: dict[str, Any]) -> None:
    index = {name: xr.Variable(*each) if isinstance(each, tuple) else each for name, each in index.items()}
    ours = opened(written).isel(index)
    loaded = asyncio.run(ours.load_async())
    xr.testing.assert_identical(loaded, xr.open_zarr(written, chunks=None).isel(index).load())


def test_it_goes_to_other_processes(written: str) -> None:
    ds = opened(written)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(ds)).load(), ds.load())


def test_blocks_of_a_dataset_that_is_opened_again_have_other_names(written: str) -> None:
    """So that a graph never takes elements from before they were changed; but for those that xarray names by the path."""
    pytest.importorskip("dask", reason="needs the extra dask")

    def names(place: Any, **options: Any) -> int:
        return len({opened(place, **options).chunk().tas.data.name for _ in range(2)})

    group, constant = zarrant.open_group(written, mode="r+"), zarrant.open_group(written, mode="r")
    assert names(group, chunks={}) == names(group) == names(written) == 2
    assert names(constant, chunks={}) == names(written, chunks={}) == 1
    ds = opened(written)
    assert ds.chunk().tas.data.name == ds.chunk().tas.data.name


def test_groups_and_trees(tmp_path: Path) -> None:
    path, ds = str(tmp_path / "t.zarr"), dataset()
    ds.to_zarr(path)
    ds[["count"]].to_zarr(path, group="a/b", mode="a")
    assert_same(opened(path, group="a/b"), xr.open_zarr(path, group="a/b", chunks=None))
    ours, theirs = xr.open_datatree(path, engine="zarrant"), xr.open_datatree(path, engine="zarr")
    xr.testing.assert_identical(ours, theirs)
    assert set(xr.open_groups(path, engine="zarrant")) == {"/", "/a", "/a/b"}
    ours, theirs = (xr.open_datatree(path, engine=engine, group="a") for engine in ("zarrant", "zarr"))
    xr.testing.assert_identical(ours, theirs)


def test_open_groups_and_dicts_will_do(written: str) -> None:
    theirs = xr.open_zarr(written, chunks=None)
    assert_same(opened(zarrant.open_group(written, mode="r")), theirs)
    objects = {file.relative_to(written).as_posix(): file.read_bytes() for file in Path(written).rglob("*") if file.is_file()}
    assert_same(opened(zarrant.MemoryStore(objects)), theirs)


def test_what_cannot_be_opened_is_named_and_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "d.zarr"
    dataset().to_zarr(path, consolidated=False)
    document = path / "count" / "zarr.json"
    document.write_text(document.read_text().replace('"int64"', '"int640"'))
    g = zarrant.open_group(path, mode="r+")
    g.create_array("unnamed", shape=(3,), dtype="i1")
    with pytest.raises(UnknownExtensionError, match="int640"):
        opened(path)
    with pytest.raises(MetadataError) as error:
        opened(path, drop_variables="count")
    assert error.value.path == "unnamed"
    assert "tas" in opened(path, drop_variables=["count", "unnamed"])
    with pytest.raises(NodeNotFoundError):
        opened(tmp_path / "no.zarr")


def test_it_offers_itself_for_zarr_only() -> None:
    backend = ZarrantBackend()
    assert backend.guess_can_open("s3://bucket/a.zarr/")
    assert not backend.guess_can_open("a.nc")
    assert not backend.guess_can_open(b"a.zarr")
