"""Golden bytes: what other libraries stored for small arrays is, byte for byte, what we store, and decodes to the values.

The files are made by `make.py`, each by the peer that it names. Round trips forgive symmetric mistakes; these do not.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Zstd

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.json"))


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location("golden_make", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["golden_make"] = module  # its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


make = load(HERE / "make.py")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(request.param.read_text(encoding="utf-8"))
    content["values"] = make.values_from_json(content["values"], make.Case(dtype=content["dtype"]).numpy)
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
    sides = zip(chunk, array.write_unit, array.shape, strict=True)
    return [(i * size, min((i + 1) * size, extent)) for i, size, extent in sides]


def test_the_document_is_kept(golden: dict[str, Any]) -> None:
    """Read and written again, a zarr.json says the same."""
    objects = {"zarr.json": json.dumps(golden["document"]).encode()}
    zarrant.open_array(objects, mode="r+").store_metadata()
    assert json.loads(objects["zarr.json"]) == golden["document"]


@pytest.mark.parametrize("name", make.DOCUMENTS)
def test_documents(name: str) -> None:
    """`create_array` writes the text that zarr-python's `create_array` does, for the same arguments.

    But for the default codecs: ours have a checksum.
    """
    objects: dict[str, bytes] = {}
    zarrant.create_array(objects, **{"compressors": Zstd(), **make.DOCUMENTS[name]})
    assert bytes(objects["zarr.json"]) == (HERE / "documents" / f"{name}.json").read_bytes()


def test_every_row_has_its_file() -> None:
    assert {f"{name}.json" for name in make.ROWS} <= {path.name for path in FILES}


@pytest.mark.parametrize("name", make.ROWS)
def test_the_peer_still_writes_these_bytes(name: str) -> None:
    """The files are the peers' own: what is installed now makes them again."""
    peer, case = make.ROWS[name]
    pytest.importorskip(make.PACKAGES[peer.name] if peer else "numpy")
    again, kept = make.golden(peer, case), json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    assert {key: again[key] for key in ("document", "values", "stored")} == {
        key: kept[key] for key in ("document", "values", "stored")
    }
