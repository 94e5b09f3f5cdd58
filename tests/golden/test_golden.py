"""Golden bytes: what other libraries stored for small arrays is, byte for byte, what we store, and decodes to the values.

The files are made by `make.py`, each by the peer that it names. Round trips forgive symmetric mistakes; these do not.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import zarrant

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.json"))


def numpy_type(name: str) -> np.dtype[Any]:
    if name.startswith("r"):
        return np.dtype(f"V{int(name[1:]) // 8 if name[1:].isdigit() else int(name[-1])}")
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def parse_values(value: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
    """Elements from nested lists: raw bits as lists of bytes, complex numbers as pairs, "NaN"."""
    if dtype.type is np.void:
        content = np.array(value, np.uint8)
        return np.frombuffer(content.tobytes(), dtype).reshape(content.shape[:-1])
    numbers = np.array(value, object)
    if dtype.kind == "c":
        numbers = numbers.astype(np.float64)
        return (numbers[..., 0] + 1j * numbers[..., 1]).astype(dtype)
    return (numbers.astype(np.float64) if dtype.kind in "fV" else numbers).astype(dtype)


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    content["values"] = parse_values(content["values"], numpy_type(content["dtype"]))
    content["stored"] = {key: bytes.fromhex(digits) for key, digits in content["stored"].items()}
    return content


def test_the_bytes_decode_to_the_values(golden: dict[str, Any]) -> None:
    objects = {"zarr.json": json.dumps(golden["document"]).encode(), **golden["stored"]}
    got = np.asarray(zarrant.open_array(objects, mode="r")[...])
    assert (got.shape, got.dtype) == (golden["values"].shape, golden["values"].dtype)
    assert got.tobytes() == golden["values"].tobytes()


@pytest.mark.parametrize("how", ["whole", "chunk by chunk", "updated"])
def test_the_values_encode_to_the_bytes(golden: dict[str, Any], how: str) -> None:
    objects = {"zarr.json": json.dumps(golden["document"]).encode()}
    array = zarrant.open_array(objects, mode="r+")
    if how == "whole":
        array[...] = golden["values"]
    if how == "chunk by chunk":
        fill = np.full(array.write_unit, array.fill_value, array.dtype)
        for chunk in array.iter_chunks():
            padded, part = fill.copy(), golden["values"][tuple(slice(a, b) for a, b in bounds(array, chunk))]
            padded[tuple(slice(0, extent) for extent in part.shape)] = part
            array.store_chunk(chunk, padded if array.ndim else golden["values"])
    if how == "updated":  # the second write covers every element, so nothing of the first may stay
        array[...] = golden["values"][..., ::-1] if array.ndim else array.fill_value
        array[...] = golden["values"]
    stored = {key: bytes(value).hex() for key, value in objects.items() if key != "zarr.json"}
    assert stored == {key: value.hex() for key, value in golden["stored"].items()}


def bounds(array: zarrant.Array[Any], chunk: tuple[int, ...]) -> list[tuple[int, int]]:
    return [
        (i * size, min((i + 1) * size, extent)) for i, size, extent in zip(chunk, array.write_unit, array.shape, strict=True)
    ]


def test_the_document_is_kept(golden: dict[str, Any]) -> None:
    """Read and written again, a zarr.json says the same."""
    objects = {"zarr.json": json.dumps(golden["document"]).encode()}
    zarrant.open_array(objects, mode="r+").store_metadata()
    assert json.loads(objects["zarr.json"]) == golden["document"]


def test_every_row_has_its_file() -> None:
    for module in ("tensorstore", "zarr"):
        pytest.importorskip(module)
    spec = importlib.util.spec_from_file_location("golden_make", HERE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    missing = {f"{name}.json" for name in make.ROWS} - {path.name for path in FILES}
    assert missing == set()
