"""Zarr V2 of zarr-python and TensorStore reads equal here, and ours there, whole and after updates of parts."""

from __future__ import annotations

import json
import multiprocessing
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant

SHAPE, CHUNKS = (7, 9), (3, 4)
TYPES = [
    *("|b1", "|i1", "|u1", "<i2", ">i4", "<u8", "<f2", ">f4", "<f8", "<c8", ">c16"),
    *("|S5", "<U3", ">U3", "<M8[ns]", ">m8[s]", "<M8[2D]", "|V4", "struct"),
]
COMPRESSORS: dict[str, tuple[str, dict[str, Any]] | None] = {
    "none": None,
    "blosc": ("Blosc", {"cname": "zstd", "clevel": 3, "shuffle": -1}),
    "zlib": ("Zlib", {"level": 1}),
    "zstd": ("Zstd", {"level": 2}),
    "bz2": ("BZ2", {"level": 1}),
    "gzip": ("GZip", {"level": 1}),
    "lz4": ("LZ4", {}),
    "lzma": ("LZMA", {}),
}


def values(dtype: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(5)
    numbers = rng.integers(0, 2 if dtype == "|b1" else 100, SHAPE)
    if dtype == "struct":
        return np.array([(x, x / 2) for x in numbers.ravel()], [("a", "<i4"), ("b", "<f8")]).reshape(SHAPE)
    if dtype == "|V4":
        return np.frombuffer(rng.bytes(4 * numbers.size), "V4").reshape(SHAPE)
    return numbers.astype(dtype)


def codec(name: str) -> Any:
    numcodecs = pytest.importorskip("numcodecs")
    made = COMPRESSORS[name]
    return None if made is None else getattr(numcodecs, made[0])(**made[1])


class TestZarrPython:
    @pytest.fixture(autouse=True)
    def zarr(self) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield pytest.importorskip("zarr", minversion="3.1")

    @pytest.mark.parametrize("order", "CF")
    @pytest.mark.parametrize("dtype", TYPES)
    @pytest.mark.parametrize("compressor", ["none", "blosc"])
    def test_types(self, zarr: Any, tmp_path: Path, dtype: str, order: str, compressor: str) -> None:
        data = values(dtype)
        theirs = zarr.create_array(
            tmp_path / "z",
            shape=SHAPE,
            dtype=data.dtype,
            chunks=CHUNKS,
            order=order,
            compressors=codec(compressor),
            zarr_format=2,
        )
        theirs[...] = data
        check_both_ways(zarr, tmp_path / "z", data)
        if dtype not in ("|V4",):
            ours = zarrant.create_array(
                tmp_path / "a", data=data, chunks=CHUNKS, order=order, compressors=codec(compressor), zarr_format=2
            )
            assert ours.metadata.zarr_format == 2
            assert np.array_equal(zarr.open_array(tmp_path / "a", zarr_format=2)[...], data)

    @pytest.mark.parametrize("separator", "./")
    @pytest.mark.parametrize("compressor", COMPRESSORS)
    def test_compressors(self, zarr: Any, tmp_path: Path, compressor: str, separator: str) -> None:
        data = values("<i2")
        keys = {"name": "v2", "separator": separator}
        options: dict[str, Any] = {"chunks": CHUNKS, "compressors": codec(compressor), "chunk_key_encoding": keys}
        zarr.create_array(tmp_path / "z", data=data, zarr_format=2, **options)
        check_both_ways(zarr, tmp_path / "z", data)
        zarrant.create_array(tmp_path / "a", data=data, zarr_format=2, **options)
        check_both_ways(zarr, tmp_path / "a", data)

    def test_a_filter_of_bytes(self, zarr: Any, tmp_path: Path) -> None:
        numcodecs = pytest.importorskip("numcodecs")
        data = values("<i4")
        options: dict[str, Any] = {"chunks": CHUNKS, "filters": [numcodecs.Shuffle(4)], "compressors": numcodecs.Zlib(1)}
        zarr.create_array(tmp_path / "z", data=data, zarr_format=2, **options)
        check_both_ways(zarr, tmp_path / "z", data)

    def test_text_of_variable_length(self, zarr: Any, tmp_path: Path) -> None:
        texts = np.array(["a", "bb", "é", "", "\N{SNOWMAN}" * 9], dtype=object)
        theirs = zarr.create_array(tmp_path / "z", shape=(5,), chunks=(2,), dtype=str, zarr_format=2)
        theirs[...] = texts
        ours = zarrant.open_array(tmp_path / "z")
        assert ours[:].tolist() == texts.tolist()
        ours[1:4] = "changed"
        ours.append(np.array(["more"], dtype=object))
        assert zarr.open_array(tmp_path / "z")[:].tolist() == ["a", *["changed"] * 3, texts[4], "more"]
        zarrant.create_array(tmp_path / "a", data=texts.astype("T"), zarr_format=2)
        assert zarr.open_array(tmp_path / "a")[:].tolist() == texts.tolist()

    def test_groups_and_copies(self, zarr: Any, tmp_path: Path) -> None:
        root = zarr.open_group(tmp_path / "g", mode="w", zarr_format=2)
        root.attrs["title"] = "t"
        root.create_array("a/b", data=values("<i4"), chunks=CHUNKS)
        zarr.consolidate_metadata(root.store)
        ours = zarrant.open(tmp_path / "g")
        assert (ours.attrs["title"], list(ours), list(ours["a"])) == ("t", ["a"], ["b"])
        ours["a/b"].append(values("<i4"))
        ours["a"].attrs["x"] = 1
        ours.create_array("c", data=values("<f8"), dimension_names=["y", "x"])
        theirs = zarr.open_consolidated(tmp_path / "g", zarr_format=2)
        assert theirs["a/b"].shape == (14, 9)
        assert (theirs["a"].attrs["x"], theirs["c"].attrs["_ARRAY_DIMENSIONS"]) == (1, ["y", "x"])


def check_both_ways(zarr: Any, path: Path, data: np.ndarray[Any, Any]) -> None:
    """Read here, changed here, read there."""
    before = (path / ".zarray").read_bytes()
    a = zarrant.open_array(path)
    assert a.dtype == data.dtype.newbyteorder("=")
    assert np.array_equal(a[...], data)
    expected = data.copy()
    expected[1:5, 2:6] = data[0:4, 3:7]
    a[1:5, 2:6] = data[0:4, 3:7]
    assert np.array_equal(zarr.open_array(path, zarr_format=2)[...], expected)
    a[1:5, 2:6] = data[1:5, 2:6]
    assert (path / ".zarray").read_bytes() == before


class TestTensorStore:
    COMPRESSORS = (None, {"id": "blosc", "cname": "lz4"}, {"id": "zlib", "level": 1}, {"id": "zstd", "level": 1}, {"id": "bz2"})

    @pytest.mark.parametrize("order", "CF")
    @pytest.mark.parametrize("compressor", COMPRESSORS, ids=str)
    @pytest.mark.parametrize("dtype", ["|b1", "|u1", "<i2", ">f4", "<c8", "bfloat16", [["a", "<i4"], ["b", "<i4"]]], ids=str)
    def test_exchange(self, tmp_path: Path, dtype: Any, compressor: Any, order: str) -> None:
        ts = pytest.importorskip("tensorstore")
        structured = isinstance(dtype, list)
        metadata = {"shape": SHAPE, "chunks": CHUNKS, "dtype": dtype, "compressor": compressor, "order": order, "fill_value": None}
        spec = {"driver": "zarr", "kvstore": f"file://{tmp_path}/t/", "metadata": {**metadata, "filters": None, "zarr_format": 2}}
        spec |= {"field": "a"} if structured else {}
        theirs = ts.open(spec, create=True).result()
        data = np.random.default_rng(1).integers(0, 2, SHAPE).astype(theirs.dtype.numpy_dtype)
        theirs.write(data).result()
        ours = zarrant.open_array(tmp_path / "t")
        found = ours[...]["a"] if structured else ours[...]
        assert np.array_equal(found, data)
        if structured:
            return
        ours[2:5, 1:7] = data[1:4, 0:6]
        data[2:5, 1:7] = data[1:4, 0:6].copy()
        assert np.array_equal(ts.open(spec).result().read().result(), data)
        if dtype != "bfloat16":
            zarrant.create_array(tmp_path / "o", data=data, chunks=CHUNKS, order=order, zarr_format=2)
            again = ts.open({"driver": "zarr", "kvstore": f"file://{tmp_path}/o/"}).result()
            assert np.array_equal(again.read().result(), data)


def _increment(path: str, worker: int) -> None:
    a = zarrant.open_array(path)
    for step in range(20):
        a[worker * 20 + step] = worker * 20 + step + 1


def test_sixteen_writers_of_one_chunk_lose_nothing(tmp_path: Path) -> None:
    zarrant.create_array(tmp_path / "a", shape=(320,), dtype="i4", chunks=(320,), zarr_format=2)
    context = multiprocessing.get_context("fork")  # another kind imports all of this in each
    workers = [context.Process(target=_increment, args=(str(tmp_path / "a"), worker)) for worker in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 16
    assert zarrant.open_array(tmp_path / "a")[:].tolist() == list(range(1, 321))
    assert json.loads((tmp_path / "a" / ".zarray").read_text())["shape"] == [320]
