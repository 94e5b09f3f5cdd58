"""Fill values and documents against zarr-python and TensorStore: what they write we read to the same bits, and back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from zarrant.dtypes.base import FixedFill
from zarrant.dtypes.fixed import FixedType, data_types, parse_data_type, raw
from zarrant.metadata.v3 import ArrayMetadata, Named, dump, parse_array, parse_group

NUMBERS = [row for row in data_types if row.name != "bfloat16"]  # zarr-python has no bfloat16
SPECIAL: dict[str, list[Any]] = {
    "bool": [True, False],
    "int": [0, -1, 100, -100],
    "uint": [0, 1, 200],
    "float": [0.0, -0.0, 0.1, 1e-7, 65504.0, "NaN", "Infinity", "-Infinity"],
    "complex": [[0.1, -0.0], ["NaN", "-Infinity"], [1e-7, 3]],
}
HEX = {"float16": "0x7e01", "bfloat16": "0xffc1", "float32": "0x7fc00001", "float64": "0x7ff8000000000001"}
FILLS = [(row, value) for row in data_types for value in [*SPECIAL[row.kind], *([HEX[row.name]] if row.name in HEX else [])]]
FILLS += [(raw(3, "raw_bytes"), [1, 2, 255])]


def document(data_type: FixedType, fill: bytes) -> ArrayMetadata:
    named = Named.parse(data_type.to_json(), "$.data_type")
    return ArrayMetadata(
        shape=(2,),
        data_type=named,
        chunk_grid=Named("regular", {"chunk_shape": [2]}),
        chunk_key_encoding=Named("default", {"separator": "/"}),
        fill_value=data_type.fill_to_json(fill),
        codecs=(Named("bytes", {"endian": "little"}),),
        attributes={"ünits": "µm"},
        dimension_names=("x",),
    )


def bits_of(array: ArrayMetadata) -> bytes:
    return parse_data_type(array.data_type.name, array.data_type.configuration).fill_from_json(array.fill_value).data


@pytest.mark.parametrize(("data_type", "value"), FILLS, ids=str)
def test_tensorstore(data_type: FixedType, value: Any, tmp_path: Path) -> None:
    ts = pytest.importorskip("tensorstore")
    fill = data_type.fill_from_json(value).data
    (tmp_path / "zarr.json").write_bytes(dump(document(data_type, fill)))
    theirs = ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/"}}, read=True).result()
    if data_type.kind == "raw":  # bytes in a dimension of their own, without a usable NumPy value
        assert theirs.shape == (2, data_type.itemsize)
        return
    assert theirs.shape == (2,)
    assert theirs.read().result().tobytes() == fill * 2
    kvstore = {"driver": "memory", "path": "x/"}
    metadata = {"shape": [2], "data_type": data_type.name, "fill_value": data_type.fill_to_json(fill)}
    written = ts.open({"driver": "zarr3", "kvstore": kvstore, "metadata": metadata}, create=True).result()
    ours = parse_array(written.kvstore.read("zarr.json").result().value)
    assert bits_of(ours) == fill


@pytest.mark.parametrize(("data_type", "value"), [row for row in FILLS if row[0].name != "bfloat16"], ids=str)
def test_zarr_python(data_type: FixedType, value: Any, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr", minversion="3")
    fill = data_type.fill_from_json(value).data
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "zarr.json").write_bytes(dump(document(data_type, fill)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raw_bytes: "no specification"
        theirs = zarr.open_array(tmp_path / "ours", mode="r")
        if (data_type.name, value) != ("float16", HEX["float16"]):  # zarr-python drops the payload of these NaNs
            assert theirs[:].tobytes() == fill * 2
        assert theirs.attrs["ünits"] == "µm"
        made = {"shape": (2,), "dtype": data_type.numpy, "fill_value": FixedFill(data_type, fill).scalar}
        zarr.create_array(tmp_path / "theirs", **made)
    ours = parse_array((tmp_path / "theirs" / "zarr.json").read_bytes())
    if isinstance(value, str) and value.startswith("0x"):
        assert ours.fill_value == "NaN"  # zarr-python does not keep payloads when it writes
    else:
        assert bits_of(ours) == fill
    assert json.loads(dump(ours)).items() >= {key: ours.to_json()[key] for key in ("shape", "data_type", "codecs")}.items()


def test_documents_of_zarr_python(tmp_path: Path) -> None:
    """Sharding, transpose, NaN in attributes and consolidated metadata; rewritten, it is the same node to zarr-python."""
    zarr = pytest.importorskip("zarr", minversion="3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(tmp_path, mode="w", attributes={"nan": float("nan")})
        made = {"shape": (8, 8), "chunks": (2, 2), "shards": (4, 4), "dtype": "float32", "dimension_names": ["y", None]}
        group.create_array("a", **made, compressors=zarr.codecs.BloscCodec(), attributes={"inf": float("-inf")})
        zarr.consolidate_metadata(tmp_path)
        for path, parse in ((tmp_path, parse_group), (tmp_path / "a", parse_array)):
            file = path / "zarr.json"
            text = file.read_bytes()
            before = zarr.open(path, mode="r").metadata.to_dict()
            file.write_bytes(dump(parse(text)))
            after = zarr.open(path, mode="r").metadata.to_dict()
            assert repr(sorted(after.items())) == repr(sorted(before.items()))
            assert json.loads(file.read_bytes()).keys() - json.loads(text).keys() == set()
    assert parse_group((tmp_path / "zarr.json").read_bytes()).extra.keys() == {"consolidated_metadata"}


@pytest.mark.parametrize("value", [1, "0x7fc00001", 1.5, "NaN", "nan", True, None, [1], "-0.0", -(2**63), 2**64 - 1])
@pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float32", "complex64", "bfloat16"])
def test_we_refuse_what_tensorstore_refuses(name: str, value: Any) -> None:
    ts = pytest.importorskip("tensorstore")
    metadata = {"shape": [2], "data_type": name, "fill_value": value}
    spec = {"driver": "zarr3", "kvstore": {"driver": "memory", "path": "x/"}, "metadata": metadata}
    try:
        theirs: bytes | None = ts.open(spec, create=True).result().read().result().tobytes()[: parse_data_type(name).itemsize]
    except ValueError:
        theirs = None
    if value is None:  # no member at all to TensorStore; wrong to the specification
        theirs = None
    try:
        ours = parse_data_type(name).fill_from_json(value).data
    except ValueError:
        ours = None
    assert ours == theirs
