"""zarr-python through Zarrant's codec pipeline: indexes and data types as NumPy, the ways that calls go, what is refused."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", minversion="3.1")

from zarr.storage import LocalStore, MemoryStore, ObjectStore  # noqa: E402

import zarrant  # noqa: E402
from integrations.zarr_writers import LZMA, has_lzma  # noqa: E402
from zarrant.errors import NodeReplacedError  # noqa: E402
from zarrant.integrations import zarr_python  # noqa: E402

OLD = tuple(int(part) for part in zarr.__version__.split(".")[:2]) < (3, 4)

LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (10, 10)},
    "shards": {"chunks": (5, 10), "shards": (20, 20)},
    "v2": {"chunks": (10, 10), "zarr_format": 2},
    "v2 F": {"chunks": (10, 10), "zarr_format": 2, "order": "F"},
    "unknown codec": {"chunks": (10, 10), "compressors": LZMA},
    "dots": {"chunks": (10, 10), "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}}},
}
if not has_lzma():
    LAYOUTS.pop("unknown codec")


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    zarr_python.enable()
    zarr_python.ways.clear()
    yield
    zarr_python.disable()


@pytest.fixture(params=["local", "memory", "object"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "local":
        return LocalStore(tmp_path / "a.zarr")
    if request.param == "memory":
        return MemoryStore()
    obstore = pytest.importorskip("obstore")
    return ObjectStore(obstore.store.MemoryStore())


SELECTIONS: list[tuple[str, Any]] = [
    ("basic", np.s_[3:17, 4:9]),
    ("basic", np.s_[5]),
    ("basic", np.s_[:, 7]),
    ("basic", np.s_[3:40:3, :]),
    ("basic", np.s_[1:50:7, 0:45:11]),
    ("basic", np.s_[..., 44]),
    ("basic", np.s_[49, 44]),
    ("basic", np.s_[:]),
    ("basic", np.s_[30:, 30:]),
    ("basic", np.s_[10:20, 10:20]),
    ("basic", np.s_[7:7, 3:5]),
    ("oindex", ([1, 5, 33, 49], [0, 44, 12])),
    ("oindex", ([1, 5, 33, 49], 3)),
    ("oindex", (slice(2, 30), [40, 3, 4])),
    ("oindex", ([0], slice(0, 45, 4))),
    ("oindex", (np.arange(50) % 7 == 2, slice(None))),
    ("oindex", (np.arange(50) % 7 == 2, [9, 1])),
    ("vindex", ([1, 5, 33, 49], [0, 44, 12, 12])),
    ("vindex", ([33, 0, 12], [0, 44, 12])),
    ("vindex", ([[33, 0], [12, 1]], [[0, 44], [12, 3]])),
]


def expected(kind: str, selection: Any, shape: tuple[int, ...]) -> Any:
    """The same selection for NumPy."""
    if kind != "oindex":
        return tuple(np.asarray(each) for each in selection) if kind == "vindex" else selection
    dropped = [isinstance(each, int) for each in selection]
    whole = [np.arange(n)[each] if isinstance(each, slice) else each for each, n in zip(selection, shape, strict=True)]
    arrays = [np.flatnonzero(each) if np.asarray(each).dtype == np.bool_ else np.atleast_1d(each) for each in whole]
    mesh = list(np.ix_(*arrays))
    for j, drop in enumerate(dropped):
        if drop:
            mesh = [each.squeeze(j) if each.ndim > 1 else each for each in mesh]
    return tuple(mesh)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_index_kind_writes_and_reads_as_numpy_does(store: Any, layout: str) -> None:
    if layout == "shards" and isinstance(store, MemoryStore) and OLD:
        pytest.skip("before 3.4 zarr-python cannot write an oindex with an integer to shards itself")
    rng = np.random.default_rng(1)
    z = zarr.create_array(store, shape=(50, 45), dtype="i4", **LAYOUTS[layout])
    n = np.zeros((50, 45), "i4")
    for kind, selection in SELECTIONS:
        theirs = z if kind == "basic" else getattr(z, kind)
        where = expected(kind, selection, n.shape)
        value = rng.integers(1, 1 << 30, n[where].shape, dtype="i4")
        n[where] = value
        theirs[selection] = value
        np.testing.assert_array_equal(z[...], n, err_msg=f"{kind} {selection}")
        np.testing.assert_array_equal(theirs[selection], n[where], err_msg=f"{kind} {selection}")
    if not isinstance(store, MemoryStore) and layout != "unknown codec":
        assert set(zarr_python.ways) == {"native reads", "native writes"}
    mask = rng.random(n.shape) < 0.1
    n[mask] = value = rng.integers(1, 99, int(mask.sum()), dtype="i4")
    z.set_mask_selection(mask, value)
    np.testing.assert_array_equal(z.get_mask_selection(mask), value)
    size = z.shards or z.chunks
    n[size[0] : 2 * size[0], : size[1]] = 3
    z.blocks[1, 0] = 3
    n[3:30, 2:40] = 7
    z[3:30, 2:40] = 7
    np.testing.assert_array_equal(z[...], n)
    with zarr.config.set({"codec_pipeline.path": "zarr.core.codec_pipeline.BatchedCodecPipeline"}):
        np.testing.assert_array_equal(zarr.open_array(store, mode="r")[...], n)


DTYPES: list[tuple[Any, dict[str, Any]]] = [
    ("f2", {}),
    ("c8", {}),
    ("bool", {}),
    ("<U5", {}),
    (str, {}),
    ("M8[ns]", {}),
    ("m8[s]", {}),
    ([("a", "i4"), ("b", "f8")], {}),
    (">i4", {}),
    ("i4", {"zarr_format": 2}),
    (">f4", {"zarr_format": 2}),
    ("S4", {"zarr_format": 2}),
    ("f8", {"fill_value": np.nan}),
    ("u1", {"shards": (20,), "chunks": (5,)}),
    ("u2", {"filters": None, "compressors": None}),
]


@pytest.mark.parametrize(("dtype", "options"), DTYPES, ids=str)
@pytest.mark.filterwarnings(
    "ignore::zarr.errors.UnstableSpecificationWarning" if hasattr(zarr.errors, "UnstableSpecificationWarning") else "ignore"
)
def test_values_of_every_data_type(store: Any, dtype: Any, options: dict[str, Any]) -> None:
    z = zarr.create_array(store, shape=(40,), dtype=dtype, **{"chunks": (10,), **options})
    plain = np.arange(40)
    if isinstance(dtype, list):
        value = np.array([(i, i / 2) for i in plain], dtype=dtype)
    elif dtype is str or "U" in dtype or "S" in dtype:
        value = np.array([f"x{i}" for i in plain]).astype(z.dtype)
    else:
        value = (plain % 2 if dtype == "bool" else plain).astype(z.dtype)
    z[3:17], z[20:] = value[3:17], value[20:]
    assert (np.asarray(z[3:17]) == value[3:17]).all()
    assert (np.asarray(z[20:]) == value[20:]).all()
    again = zarr.open_array(store, mode="r")
    assert (np.asarray(again[3:17]) == value[3:17]).all()


def test_the_ways_that_calls_go(tmp_path: Path) -> None:
    z = zarr.create_array(tmp_path / "known", shape=(20,), dtype="i4", chunks=(10,))
    z[3:17] = 1
    assert z[3:17].sum() == 14
    assert zarr_python.status()["calls"] == {"native writes": 1, "native reads": 1}
    zarr_python.ways.clear()
    s = zarr.create_array(tmp_path / "text", shape=(20,), dtype=str, chunks=(10,))
    s[3:17] = "x"
    m = zarr.create_array(MemoryStore(), shape=(20,), dtype="i4", chunks=(10,))
    m[3:17] = 1
    assert zarr_python.status()["calls"] == {"merged writes": 1, "queued writes": 1}


def test_missing_chunks_are_an_error_where_that_is_asked_for(tmp_path: Path) -> None:
    z = zarr.create_array(tmp_path / "a", shape=(20,), dtype="i4", chunks=(5,))
    z[:5] = 1
    with zarr.config.set({"array.read_missing_chunks": False}):
        strict = zarr.open_array(tmp_path / "a")
        if not hasattr(getattr(strict, "config", None), "read_missing_chunks"):
            pytest.skip("this zarr-python reads missing chunks as fill")
        assert strict[:5].sum() == 5
        with pytest.raises(zarr.errors.ChunkNotFoundError, match=r"c/1"):
            strict[:10]


def test_empty_chunks_are_stored_where_that_is_asked_for(tmp_path: Path) -> None:
    for empty in (False, True):
        z = zarr.create_array(tmp_path / str(empty), shape=(20,), dtype="i4", chunks=(5,), config={"write_empty_chunks": empty})
        z[:10] = 1
        z[:7] = 0
        assert (tmp_path / str(empty) / "c" / "0").exists() is empty
        assert z[...].tolist() == [0] * 7 + [1] * 3 + [0] * 10


@pytest.mark.parametrize(
    "layout", [{"chunks": (10, 10)}, {"chunks": (10, 10), "shards": (20, 20)}, {"chunks": (10, 10), "zarr_format": 2}]
)
def test_an_array_that_grows_and_shrinks_after_it_was_opened(store: Any, layout: dict[str, Any]) -> None:
    z = zarr.create_array(store, shape=(50, 45), dtype="i4", **layout)
    z[...] = 1
    other = zarr.open_array(store)
    z.resize((75, 45))
    z[50:70] = 5
    assert (z[50:70] == 5).all()
    assert (z[:50] == 1).all()
    z.append(np.full((10, 45), 6, "i4"))
    assert (z[75:] == 6).all()
    other[40:50] = 3
    assert (z[40:50] == 3).all()
    z.resize((30, 45))
    z.resize((60, 45))
    assert (z[40:] == 0).all()
    z[25:60] = 2
    assert (z[25:] == 2).all()


def test_an_object_that_became_fill_is_not_erased_without_a_condition() -> None:
    """What another writer has stored meanwhile would be gone: object stores have no conditional delete."""
    obstore = pytest.importorskip("obstore")
    inner = obstore.store.MemoryStore()
    z = zarr.create_array(ObjectStore(inner), shape=(20,), dtype=str, chunks=(5,))
    z[:10] = "x"
    z[:3] = ""
    z[3:5] = ""
    assert len(obstore.get(inner, "c/0").bytes())
    assert z[...].tolist() == [""] * 5 + ["x"] * 5 + [""] * 10


@pytest.mark.parametrize("order", ["<", ">"])
def test_values_in_the_other_byte_order(store: Any, order: str) -> None:
    z = zarr.create_array(store, shape=(20,), dtype="u2", chunks=(5,), compressors=None)
    values = np.arange(20, dtype=f"{order}u2")
    z[...] = values
    z[3:9] = values[3:9]
    z.oindex[[12, 2]] = values[[12, 2]]
    assert z[...].tolist() == list(range(20))


def test_an_array_that_was_replaced_by_another_is_not_written(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a", shape=(20,), dtype="i4", chunks=(5,))
    old = zarr.open_array(tmp_path / "a")
    old[:2] = 1
    zarr.create_array(tmp_path / "a", shape=(20,), dtype="f8", chunks=(10,), overwrite=True)
    with pytest.raises(NodeReplacedError):
        old[:2] = 1


def test_handles_are_pickled_and_compared(tmp_path: Path) -> None:
    z = zarr.create_array(tmp_path / "a", shape=(20,), dtype="i4", chunks=(5,))
    z[3:17] = 1
    again = pickle.loads(pickle.dumps(z))
    assert again == z
    again[4:6] = 2
    assert z[3:7].tolist() == [1, 2, 2, 1]
    assert isinstance(again._async_array.codec_pipeline, zarr_python.CodecPipeline)


def test_zero_dimensions_and_scalars(store: Any) -> None:
    z = zarr.create_array(store, shape=(), dtype="f8")
    assert z[()] == 0
    z[...] = 4.5
    assert z[()] == 4.5


def test_members_of_groups_and_consolidated_metadata(store: Any) -> None:
    g = zarr.create_group(store)
    a = g.create_group("b").create_array("c", shape=(20,), dtype="i4", chunks=(6,))
    a[5:9] = 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(store)
    again = zarr.open_consolidated(store)["b/c"]
    again[7:13] = 3
    assert a[...].tolist() == [0] * 5 + [2] * 2 + [3] * 6 + [0] * 7
    if not isinstance(store, MemoryStore):
        assert zarrant.open_group(store)["b/c"][5:9].tolist() == [2, 2, 3, 3]
