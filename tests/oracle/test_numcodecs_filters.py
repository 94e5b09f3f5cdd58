"""Filters of numcodecs in V2 and V3: the bytes of zarr-python, read both ways, and by zarrs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant

numcodecs = pytest.importorskip("numcodecs")
SHAPE, CHUNKS = (7, 9), (4, 5)
Filters = list[tuple[str, dict[str, Any]]]


def typed(name: str, pairs: list[str], **options: Any) -> Iterator[tuple[str, Filters]]:
    """A filter for "from to" pairs of types."""
    for pair in pairs:
        decoded, _, encoded = pair.partition(" ")
        yield decoded, [(name, {**options, "dtype": decoded, **({"astype": encoded} if encoded else {})})]


CASES: list[tuple[str, Filters]] = [
    *typed("Delta", ["|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8", "<c8"]),
    *typed("Delta", ["<i8 <i4", "<i4 <i8", "<i4 <i2", "<f8 <f4", "<i2 <f8"]),
    *typed("FixedScaleOffset", ["<f8 |u1", "<f4 <i2", "<f8", "<i4 <i2", "<i4", "<f8 <f4"], offset=-3, scale=2),
    *typed("Quantize", ["<f2", "<f4", "<f8"], digits=2),
    *(
        (decoded, [("AsType", {"encode_dtype": encoded, "decode_dtype": decoded})])
        for decoded, encoded in [("<i8", "|u1"), ("<f8", "<f4"), ("<f8", "<i2"), ("<u2", "<f8"), ("|b1", "|u1"), ("<i4", "<c16")]
    ),
    *((dtype, [("BitRound", {"keepbits": 4})]) for dtype in ("<f2", "<f4", "<f8")),
    ("|b1", [("PackBits", {})]),
    ("|b1", [("PackBits", {}), ("Delta", {"dtype": "|u1"})]),
    ("<f4", [("BitRound", {"keepbits": 4}), ("Delta", {"dtype": "<i4"})]),
    ("<f8", [*next(typed("FixedScaleOffset", ["<f8 <i4"], offset=0, scale=10))[1], ("Delta", {"dtype": "<i4", "astype": "<i2"})]),
]
NAMES = [
    " ".join((dtype, *(f"{name} {' '.join(map(str, options.values()))}" for name, options in chain))) for dtype, chain in CASES
]


def values(dtype: str) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(3)
    kind = np.dtype(dtype).kind
    if kind == "f":
        return (rng.integers(0, 120, SHAPE) / 2 + rng.random(SHAPE) / 4).astype(dtype)
    return rng.integers(0, 2 if kind == "b" else 60, SHAPE).astype(dtype)


def in_order(filters: Filters, order: str) -> Filters:
    return [(name, {key: value.replace("<", order) if isinstance(value, str) else value for key, value in options.items()})
            for name, options in filters]  # fmt: skip


def chunks_of(path: Path) -> dict[str, bytes]:
    files = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr.json")))
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


@pytest.fixture(autouse=True)
def zarr() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield pytest.importorskip("zarr", minversion="3.1.3")


def check(zarr: Any, tmp_path: Path, data: np.ndarray[Any, Any], options: dict[str, Any]) -> None:
    """Theirs read and changed here; ours has the same bytes, and is read there."""
    theirs = zarr.create_array(tmp_path / "z", shape=SHAPE, dtype=data.dtype, chunks=CHUNKS, fill_value=0, **options)
    theirs[...] = data
    stored = theirs[...]  # some filters are lossy
    before = chunks_of(tmp_path / "z")
    a = zarrant.open_array(tmp_path / "z")
    assert np.array_equal(a[...], stored)
    a[...] = data.astype(a.dtype)
    in_shards = options.get("shards") is not None  # libraries have the subchunks in different orders
    assert in_shards or chunks_of(tmp_path / "z") == before
    ours = zarrant.create_array(tmp_path / "a", shape=SHAPE, dtype=data.dtype, chunks=CHUNKS, fill_value=0, **options)
    ours[...] = data.astype(ours.dtype)
    assert in_shards or chunks_of(tmp_path / "a") == before
    ours[2:6, 3:7] = ours[1:5, 2:6]
    expected = stored.copy()
    expected[2:6, 3:7] = stored[1:5, 2:6]
    found = zarr.open_array(tmp_path / "a", mode="r", zarr_format=options["zarr_format"])[...]
    assert np.allclose(found, ours[...], rtol=0, atol=0)
    assert np.allclose(found, expected, rtol=2**-4)  # what is lossy is rounded once more


@pytest.mark.parametrize("byte_order", "<>")
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize(("dtype", "filters"), CASES, ids=NAMES)
def test_v2(zarr: Any, tmp_path: Path, dtype: str, filters: Filters, order: str, byte_order: str) -> None:
    if filters[0][0] == "BitRound" and (order, byte_order) != ("C", "<"):
        pytest.skip("numcodecs knows no big-endian floats here, and stores chunks in the order C whatever the array says")
    codecs = [getattr(numcodecs, name)(**options) for name, options in in_order(filters, byte_order)]
    data = values(dtype).astype(dtype.replace("<", byte_order))
    check(zarr, tmp_path, data, {"filters": codecs, "compressors": numcodecs.Zlib(1), "order": order, "zarr_format": 2})


@pytest.mark.parametrize("shards", [None, (8, 10)], ids=["chunks", "shards"])
@pytest.mark.parametrize(("dtype", "filters"), CASES, ids=NAMES)
def test_v3(zarr: Any, tmp_path: Path, dtype: str, filters: Filters, shards: Any) -> None:
    import zarr.codecs.numcodecs as theirs

    codecs = [getattr(theirs, name)(**options) for name, options in filters]
    check(zarr, tmp_path, values(dtype), {"filters": codecs, "compressors": None, "shards": shards, "zarr_format": 3})


@pytest.mark.parametrize(("dtype", "filters"), CASES, ids=NAMES)
def test_zarrs(tmp_path: Path, dtype: str, filters: Filters) -> None:
    zarr, zarrs = pytest.importorskip("zarr"), pytest.importorskip("zarrs")
    assert zarrs
    codecs = [getattr(numcodecs, name)(**options) for name, options in filters]
    ours = zarrant.create_array(tmp_path / "a", data=values(dtype), chunks=CHUNKS, filters=codecs)
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        try:
            found = zarr.open_array(tmp_path / "a", mode="r")[...]
        except Exception as error:  # each release of zarrs has codecs of its own
            pytest.skip(f"zarrs does not read it: {error}")
    assert np.array_equal(found, ours[...])
