"""Data types beyond plain numbers, against zarr-python and TensorStore: what they write reads equal here, and ours there.

In chunks and in shards, compressed and not, in both byte orders, with fill values other than the default; after a part was
written by the other library.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zarrant

N, CHUNK, SHARD = 23, 4, 12
POINT = np.dtype([("x", "f4"), ("y", "f4")])
RECORD = np.dtype([("id", "u1"), ("p", POINT), ("t", "M8[s]"), ("s", "U2"), ("b", "S3"), ("ok", "?")])
TIMES = np.arange(N).astype("i8") * 1_000_003 - 5
WORDS = np.array(["", "a", "ñandú", "🎈x", "abcde"])[np.arange(N) % 5]
LAYOUTS = {"chunks": None, "shards": (SHARD,)}


def record() -> Any:
    return np.array([(i, (i / 2, -i), i, "ñ" * (i % 3), b"x" * (i % 4), i % 2) for i in range(N)], RECORD)


CASES: dict[str, tuple[Any, Any]] = {  # values, and a fill value
    "datetime64 s": (TIMES.astype("M8[s]"), np.datetime64(77, "s")),
    "datetime64 10us": (TIMES.astype("M8[10us]"), np.datetime64("NaT")),
    "datetime64 generic": (TIMES.astype("M8"), np.datetime64("NaT")),
    "datetime64 D with NaT": (np.where(TIMES % 2, TIMES, np.iinfo("i8").min).astype("M8[D]"), np.datetime64(0, "D")),
    "timedelta64 ns": (TIMES.astype("m8[ns]"), np.timedelta64(-3, "ns")),
    "timedelta64 h": (TIMES.astype("m8[h]"), np.timedelta64("NaT")),
    "text": (WORDS.astype("U5"), "añ"),
    "empty text": (WORDS.astype("U7"), ""),
    "bytes": (np.array([b"", b"a", b"a\0b", b"\xff" * 5])[np.arange(N) % 4].astype("S5"), b"a\xff"),
    "record": (record(), record()[3]),
    "pairs": (np.array([(i, -i) for i in range(N)], POINT), (1.5, float("nan"))),
    "void": (np.arange(3 * N, dtype="u1").view("V3"), b"abc"),
}
ZARR_PYTHON_3_1 = {  # the last for Python 3.11: what it does with a type that later ones have right
    "datetime64 generic": "opens none with a current NumPy, and does not swap its bytes",
    "record": "does not know `struct`",
    "pairs": "does not know `struct`",
    "void": "cannot hash a fill value, in shards",
}


@pytest.fixture
def zarr() -> Iterator[Any]:
    zarr = pytest.importorskip("zarr", minversion="3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "no specification", and NumPy's of units
        yield zarr


def same(got: Any, expected: Any) -> None:
    got = np.asarray(got)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    if expected.dtype in (ml_dtypes.int2, ml_dtypes.int4):  # the upper bits mean nothing, and TensorStore sets them
        got, expected = got.astype("i1"), expected.astype("i1")
    assert got.tobytes() == expected.tobytes()


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CASES)
def test_zarr_python(name: str, layout: str, endian: str, zarr: Any, tmp_path: Path) -> None:
    if name in ZARR_PYTHON_3_1 and zarr.__version__.startswith("3.1."):
        pytest.skip(f"zarr {zarr.__version__} {ZARR_PYTHON_3_1[name]}")
    values, fill = CASES[name]
    options = {"shape": (N,), "chunks": (CHUNK,), "shards": LAYOUTS[layout], "fill_value": fill, "dtype": values.dtype}
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    made = zarrant.create_array(ours, **options, serializer=zarrant.codecs.Bytes(endian))
    made[2:] = values[2:]
    there = zarr.create_array(theirs, **options, serializer=zarr.codecs.BytesCodec(endian=endian))
    there[2:] = values[2:]
    expected = values.copy()
    expected[:2] = made.fill_value
    for path in (ours, theirs):
        same(zarrant.open_array(path)[...], expected)
        same(zarr.open_array(path, mode="r")[...], expected)
    assert zarrant.open_array(theirs).dtype == made.dtype == values.dtype
    assert _fill(made) == _fill(zarrant.open_array(theirs)) == _fill(zarr.open_array(ours, mode="r"))
    data_types = [json.loads((path / "zarr.json").read_bytes())["data_type"] for path in (ours, theirs)]
    assert data_types[0] == data_types[1]
    zarr.open_array(ours, mode="r+")[5:7] = values[:2]
    zarrant.open_array(theirs)[5:7] = values[:2]
    expected[5:7] = values[:2]
    for path in (ours, theirs):
        same(zarrant.open_array(path)[...], expected)
        same(zarr.open_array(path, mode="r")[...], expected)


def _fill(array: Any) -> bytes:
    return np.asarray(array.fill_value, array.dtype).tobytes()


def test_the_older_records_of_zarr_python_are_read(zarr: Any, tmp_path: Path) -> None:
    """`structured`, with pairs and a base64 fill value, as zarr-python 3.1 wrote it."""
    values = np.array([(i, -i) for i in range(N)], POINT)
    there = zarr.create_array(tmp_path, shape=(N,), chunks=(CHUNK,), dtype=POINT, fill_value=(0, 0))
    there[:] = values
    document = json.loads((tmp_path / "zarr.json").read_bytes())
    document["data_type"] = {"name": "structured", "configuration": {"fields": [["x", "float32"], ["y", "float32"]]}}
    document["fill_value"] = "AAAAAAAAAAA="
    document["codecs"][0] = {"name": "bytes"}
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    same(zarrant.open_array(tmp_path)[...], values)


SMALL = {
    "int2": np.arange(N) % 4 - 2,
    "int4": np.arange(N) % 16 - 8,
    "float4_e2m1fn": np.arange(N) % 7 / 2,
    "float8_e3m4": np.arange(N) / 2,
    **dict.fromkeys(["float8_e4m3fn", "float8_e4m3fnuz", "float8_e4m3b11fnuz"], np.arange(N)),
    **dict.fromkeys(["float8_e5m2", "float8_e5m2fnuz", "bfloat16"], np.arange(N) / 4),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SMALL)
def test_tensorstore(name: str, layout: str, tmp_path: Path) -> None:
    ts = pytest.importorskip("tensorstore")
    values = SMALL[name].astype(np.float32).astype(getattr(ml_dtypes, name))
    options = {"shape": (N,), "chunks": (CHUNK,), "shards": LAYOUTS[layout], "fill_value": values[3], "dtype": name}
    made = zarrant.create_array(tmp_path / "ours", **options)
    made[2:] = values[2:]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/ours/"}}
    theirs = ts.open(spec, open=True).result()
    expected = values.copy()
    expected[:2] = values[3]
    same(theirs.read().result(), expected)
    theirs[5:7] = values[:2]
    expected[5:7] = values[:2]
    same(zarrant.open_array(tmp_path / "ours")[...], expected)
    document = json.loads((tmp_path / "ours" / "zarr.json").read_bytes())
    metadata = {key: document[key] for key in ("shape", "data_type", "chunk_grid", "codecs", "fill_value")}
    other = spec | {"kvstore": {"driver": "file", "path": f"{tmp_path}/theirs/"}, "metadata": metadata}
    ts.open(other, create=True).result()[2:] = values[2:]
    expected[5:7] = values[5:7]
    same(zarrant.open_array(tmp_path / "theirs")[...], expected)
