"""Make golden files: the exact bytes that another library stores for small arrays, one JSON file an array.

    python tests/golden/make.py

A file holds who made it, the document, the values and every stored object in hexadecimal digits. Only cases whose bytes the
specification fixes are here, and each is made by a peer that lays out what is left open (the order of subchunks in a shard)
as this library does: TensorStore, in C order; zarr-python, where there is only one order. Files that exist are never
touched: what was once right stays so. To add a case, add a row to `ROWS` and run the script.

The folder `documents` holds the zarr.json of arrays, made by zarr-python's `create_array` with the arguments of `DOCUMENTS`.
No specification fixes their text: members are in its order, indented by 2, and a newline ends them. `storage_transformers`,
which zarr-python writes empty and the specification lets absent, is left out.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "oracle"))

from cases import AXES, Array, Case, Geometry  # noqa: E402 - found through the line above

from peers import Peer, TensorStore, ZarrPython  # noqa: E402

SMALL = {
    "2-d edges": Geometry((5, 7), (4, 6), (2, 6), (2, 3)),
    "3-d edges": Geometry((3, 3, 5), (2, 2, 4), (1, 2, 4), (1, 2, 2)),
    "1-d edges": Geometry((11,), (8,), (4,), (2,)),
    "0-d": Geometry((), (), (), ()),
}


@dataclass(frozen=True)
class Small(Case):
    """A case with few elements and values that a reader can follow."""

    @property
    def grid(self) -> Geometry:
        return SMALL[self.geometry]

    def any_values(self, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
        count = np.arange(1, 1 + int(np.prod(shape)), dtype=np.int64)
        if self.kind == "bool":
            flat: Array = count % 3 == 1
        elif self.is_raw:
            size = self.numpy.itemsize
            flat = (count[:, np.newaxis] * 16 + np.arange(size)).astype(np.uint8).reshape(-1).view(self.numpy)
        elif self.kind == "complex":
            flat = (count - 0.5j * count).astype(self.numpy)
        elif self.kind == "float":
            flat = (count / 4 - 2).astype(self.numpy)
        else:
            flat = (count * (-3 if self.kind == "int" else 3)).astype(self.numpy)
        return flat.reshape(shape)


TS, ZP = TensorStore(), ZarrPython()
NUMBERS = [name for name in AXES["dtype"] if not name.startswith("r")]
ROWS: dict[str, tuple[Peer | None, Small]] = {
    **{f"bytes-{name}-little": (TS, Small(dtype=name, fill="other")) for name in NUMBERS},
    **{f"bytes-{name}-big": (TS, Small(dtype=name, fill="other", endian="big")) for name in NUMBERS if Small(dtype=name).word > 1},
    **{f"bytes-raw_bytes-{size}": (TS, Small(dtype=f"raw_bytes {size}", fill="other")) for size in (2, 3)},
    "bytes-r24": (None, Small(dtype="r24", fill="other")),
    "fill-nan": (TS, Small(dtype="float64", fill="nan", content="gaps", geometry="1-d edges")),
    "fill-only": (TS, Small(dtype="int16", fill="other", content="only fill")),
    "crc32c": (ZP, Small(dtype="uint16", codec="crc32c")),
    "crc32c-big": (TS, Small(dtype="complex64", codec="crc32c", endian="big")),
    "transpose-2d": (TS, Small(dtype="int32", codec="transpose")),
    "transpose-3d": (ZP, Small(dtype="int32", codec="transpose", geometry="3-d edges")),
    **{
        f"keys-{keys.replace(' ', '-').replace('/', 'slash').replace('.', 'dot')}-{geometry[:3]}": (
            ZP,
            Small(dtype="uint8", keys=keys, geometry=geometry),
        )
        for keys in AXES["keys"]
        for geometry in ("0-d", "3-d edges")
    },
    **{
        f"shard-{at}-{index.replace(' ', '-')}": (TS, Small(layout="shard", dtype="int16", index_at=at, index_codecs=index))
        for at in AXES["index_at"]
        for index in AXES["index_codecs"]
    },
    "shard-gaps": (TS, Small(layout="shard", dtype="int16", content="gaps", fill="other")),
    "shard-gaps-start": (TS, Small(layout="shard", dtype="int16", content="gaps", fill="other", index_at="start")),
    "shard-one-dimension": (ZP, Small(layout="shard", dtype="uint32", geometry="1-d edges", content="gaps")),
    "shard-one-dimension-start": (ZP, Small(layout="shard", dtype="uint32", geometry="1-d edges", index_at="start")),
    "shard-inner-crc32c": (TS, Small(layout="shard", dtype="uint8", codec="crc32c", geometry="3-d edges")),
    "shard-inner-transpose": (TS, Small(layout="shard", dtype="uint8", codec="transpose", geometry="3-d edges")),
    "shard-after-transpose": (TS, Small(layout="shard", dtype="uint8", around="transpose", geometry="3-d edges")),
    "shard-before-crc32c": (ZP, Small(layout="shard", dtype="uint8", around="crc32c", geometry="1-d edges")),
    "nested-end": (TS, Small(layout="nested", dtype="int16")),
    "nested-start": (TS, Small(layout="nested", dtype="int16", index_at="start")),
    "nested-gaps": (TS, Small(layout="nested", dtype="int16", content="gaps", fill="other")),
    "nested-one-dimension": (ZP, Small(layout="nested", dtype="uint16", geometry="1-d edges")),
    "nested-transposes": (TS, Small(layout="nested", dtype="int16", around="inner transpose", codec="transpose")),
}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "plain": {"shape": (5, 7), "chunks": (2, 3), "dtype": "int16", "fill_value": -7},
    "sharded": {"shape": (8, 8), "chunks": (2, 2), "shards": (4, 4), "dtype": "float32", "fill_value": float("nan")},
    "named": {
        "shape": (4, 0, 9),
        "chunks": (2, 2, 3),
        "dtype": "uint64",
        "fill_value": 2**64 - 1,
        "dimension_names": ["y", None, "µm"],
        "attributes": {"units": "µm", "n": [1, 2.5, None, True], "nested": {"a": {}, "b": []}},
    },
    "bare": {"shape": (5,), "chunks": (2,), "dtype": "bool", "fill_value": True, "compressors": None},
    "chain": {
        "shape": (5, 6, 7),
        "chunks": (2, 3, 4),
        "dtype": "complex64",
        "fill_value": 1 - 2j,
        "filters": [{"name": "transpose", "configuration": {"order": [2, 0, 1]}}],
        "serializer": {"name": "bytes", "configuration": {"endian": "big"}},
        "compressors": [
            {
                "name": "blosc",
                "configuration": {"typesize": 8, "cname": "lz4", "clevel": 3, "shuffle": "bitshuffle", "blocksize": 0},
            },
            {"name": "crc32c", "configuration": {}},
        ],
    },
    "scalar": {
        "shape": (),
        "chunks": (),
        "dtype": "float64",
        "fill_value": float("-inf"),
        "compressors": [{"name": "gzip", "configuration": {"level": 3}}],
        "chunk_key_encoding": {"name": "v2", "separator": "."},
    },
    "raw": {"shape": (3,), "chunks": (2,), "dtype": "V3", "fill_value": np.void(b"\x01\x02\x03")},
}
MEMBERS = (
    *("zarr_format", "node_type", "shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
    *("attributes", "dimension_names"),
)
PACKAGES = {TS.name: "tensorstore", ZP.name: "zarr"}


def values_to_json(values: Array) -> Any:
    """Nested lists: complex numbers as pairs, raw bits as lists of bytes, NaN as a string."""
    if values.dtype.type is np.void:
        values = np.frombuffer(values.tobytes(), np.uint8).reshape(*values.shape, -1)
    elif values.dtype.kind == "c":
        values = np.stack([values.real, values.imag], axis=-1)
    elif values.dtype.name == "bfloat16":
        values = values.astype(np.float64)
    return _words(values.tolist())


def _words(value: Any) -> Any:
    if isinstance(value, list):
        return [_words(item) for item in value]
    return "NaN" if value != value else value  # NaN alone differs from itself


def values_from_json(value: Any, case_dtype: np.dtype[Any]) -> Array:
    """What `values_to_json` was given."""
    if case_dtype.type is np.void:
        content = np.array(value, np.uint8)
        return np.frombuffer(content.tobytes(), case_dtype).reshape(content.shape[:-1])
    numbers = np.array(value, object)
    if case_dtype.kind == "c":
        numbers = numbers.astype(np.float64)
        return (numbers[..., 0] + 1j * numbers[..., 1]).astype(case_dtype)
    return (numbers.astype(np.float64) if case_dtype.kind in "fV" else numbers).astype(case_dtype)


def golden(peer: Peer | None, case: Small) -> dict[str, Any]:
    """The content of one file."""
    made_by = "the specification" if peer is None else f"{peer.name} {version(PACKAGES[peer.name])}"
    document, values = case.document, case.values
    if peer is None:  # no peer knows the type by this name: its elements are their bytes
        stored = stored_as_given(case)
    else:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place) / "array"
            peer.create(root, document)
            peer.write(root, tuple(slice(0, extent) for extent in values.shape), values)
            found = peer.read(root, case.numpy)
            assert found.tobytes() == values.tobytes(), "the peer does not read what it wrote"
            files = sorted(path for path in root.rglob("*") if path.is_file() and path.name != "zarr.json")
            stored = {path.relative_to(root).as_posix(): path.read_bytes().hex() for path in files}
    return {
        "made_by": made_by,
        "dtype": case.dtype,
        "document": document,
        "values": values_to_json(values),
        "stored": stored,
    }


def stored_as_given(case: Small) -> dict[str, str]:
    """Chunks of elements one after the other, padded with fill."""
    chunk = case.grid.chunk
    stored = {}
    for index in np.ndindex(*(-(-extent // size) for extent, size in zip(case.grid.shape, chunk, strict=True))):
        padded = np.full(chunk, np.frombuffer(case.fill_bytes, case.numpy)[0], case.numpy)
        cut = case.values[tuple(slice(i * size, (i + 1) * size) for i, size in zip(index, chunk, strict=True))]
        padded[tuple(slice(0, extent) for extent in cut.shape)] = cut
        stored["/".join(["c", *map(str, index)])] = padded.tobytes().hex()
    return stored


def document(arguments: dict[str, Any]) -> str:
    """The zarr.json of zarr-python, members in the order of the specification."""
    import zarr

    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # raw_bytes: "no specification"
        zarr.create_array(place, **arguments)
        content = json.loads((Path(place) / "zarr.json").read_text(encoding="utf-8"))
    assert content.pop("storage_transformers") == []
    text = {name: content.pop(name) for name in MEMBERS if name in content}
    assert content == {}
    return json.dumps(text, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write the files that are not there."""
    (HERE / "documents").mkdir(exist_ok=True)
    for name, arguments in DOCUMENTS.items():
        path = HERE / "documents" / f"{name}.json"
        if not path.exists():
            path.write_text(document(arguments), encoding="utf-8")
            print(f"new: documents/{path.name}")
    for name, (peer, case) in ROWS.items():
        path = HERE / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(golden(peer, case), indent=1) + "\n", encoding="utf-8")
            print(f"new: {path.name}")


if __name__ == "__main__":
    main()
