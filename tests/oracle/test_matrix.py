"""Every data type, with every codec that fits it, in chunks, shards and shards of shards, of Zarr V2 and V3, against peers.

For each case an array is made here and by the other library, from the same metadata. Both libraries must read both arrays equal,
whole and after a part was written by the other one: bit for bit, text element by element. Chunks that are not written show the
fill value. `TYPES`, `CODECS`, `LAYOUTS` and `PEERS` are the axes; `CANNOT` says what a peer cannot do and how its attempt ends.

A normal run takes a sample (the same each time) that has every type, codec and layout with each peer; `make soak` takes all.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
import json
import random
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import ml_dtypes
import numpy as np
import pytest

import peers
import zarrant
from zarrant import extensions

SHAPE, OUTER, MIDDLE, CHUNK = (13, 10), (8, 8), (8, 4), (4, 4)
N = 60
"""Cases of a normal run of each peer, besides those that hold every value of an axis once."""
TEXT = np.dtypes.StringDType()
RNG = np.random.default_rng(10)
PICK = RNG.integers(0, 5, SHAPE)
PART = np.s_[3:7, 2:9]


# ── the axes


class Type(NamedTuple):
    """A data type: what codecs ask of it, five elements, a fill value, and the name of V2 where it has one."""

    kind: str
    dtype: Any
    elements: Any
    fill: Any
    v2: bool = True


def _pairs(part: Any) -> Any:
    elements = np.zeros(5, [("real", part), ("imag", part)])
    elements["real"], elements["imag"] = (
        np.array([1, 2, 0.5, 4, 1], "f4").astype(part),
        np.array([2, 1, 4, 1, 0.5], "f4").astype(part),
    )
    return elements


def _small(name: str) -> Any:
    return getattr(ml_dtypes, name)


INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
SMALL_FLOATS = tuple(
    name
    for name in extensions.data_types.names()
    if name.startswith("float") and not name.startswith(("float16", "float32", "float64"))
)
RECORD = np.dtype([("a", "<i4"), ("b", "<f8"), ("c", "S3")])
TYPES: dict[str, Type] = {
    "bool": Type("bool", "bool", np.array([0, 1, 1, 0, 1], bool), True),
    **{name: Type("int", name, np.array([0, 1, 100, 7, 3], name), 9) for name in INTEGERS},
    **{
        name: Type("tiny", name, np.array([0, 1, 1, 0, 1]).astype(_small(name)), 1, False)
        for name in ("int2", "int4", "uint2", "uint4")
    },
    **{name: Type("float", name, np.array([0, 1.5, np.inf, -7, 3], name), -1.25) for name in ("float16", "float32", "float64")},
    **{
        name: Type("tiny", name, np.array([1, 0.5, 2, 4, 1], "f4").astype(_small(name)), 2, False)
        for name in ("bfloat16", *SMALL_FLOATS)
    },
    **{name: Type("complex", name, np.array([0, 1.5, 3j, -7 + 1j, 3], name), 2 - 1j) for name in ("complex64", "complex128")},
    **{
        f"complex_{name}": Type("tiny", f"complex_{name}", _pairs(_small(name)), None, False)
        for name in ("bfloat16", *SMALL_FLOATS)
    },
    "complex_float16": Type("tiny", "complex_float16", _pairs(np.float16), None, False),
    "r24": Type("raw", "r24", np.frombuffer(bytes(range(15)), "V3"), b"\1\2\3"),
    "raw_bytes": Type(
        "raw", {"name": "raw_bytes", "configuration": {"length_bytes": 3}}, np.frombuffer(bytes(range(15)), "V3"), None
    ),
    "fixed_length_utf32": Type("fixed text", "U4", np.array(["", "a", "ñ", "🎈xyz", "abcd"], "U4"), "fill"),
    "null_terminated_bytes": Type("fixed text", "S4", np.array([b"", b"a", b"\xff\0b", b"abcd", b"xyz"], "S4"), b"fill"),
    "datetime64": Type("time", "M8[ms]", np.array([0, 1, -5, 10**12, 3], "M8[ms]"), np.datetime64("NaT", "ms")),
    "timedelta64": Type("time", "m8[10s]", np.array([0, 1, -5, 10**12, 3], "m8[10s]"), np.timedelta64(70, "s")),
    "struct": Type("record", RECORD, np.array([(i, i / 2, b"abc"[:i]) for i in range(5)], RECORD), (7, 1.5, b"f")),
    "string": Type("text", "string", np.array(["", "a", "ñandú", "🎈" * 9, "more than fifteen bytes"], TEXT), "fill"),
    "bytes": Type("bytes", "variable_length_bytes", np.array([b"", b"a", b"\xff\0", b"x" * 40, b"\0"], object), b"f\xff"),
}
FIXED = ("bool", "int", "tiny", "float", "complex", "raw", "fixed text", "time", "record")
NOT_IN_TYPES = {"r<bits>", "structured", "variable_length_bytes", "numpy.datetime64", "numpy.timedelta64"}
"""Names that stand in `TYPES` under another; `complex_float32` and `complex_float64` are other names of numbers of NumPy."""
NOT_IN_TYPES |= {"complex_float32", "complex_float64"}


class Codecs(NamedTuple):
    """Codecs before and after the one that makes bytes, the types that they fit, and whether Zarr V2 has them.

    A filter may be a function of the name that V2 has for the type. What is lossy gives these elements back all the same.
    """

    filters: tuple[Any, ...] = ()
    compressors: tuple[Any, ...] = ()
    kinds: tuple[str, ...] = (*FIXED, "text", "bytes")
    v2: bool = True
    endian: str = "little"
    serializer: Any = None
    types: tuple[str, ...] | None = None
    """The types that fit; None for all of the kinds."""


def _named(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration}


def _numcodecs(identifier: str, **configuration: Any) -> dict[str, Any]:
    return _named(f"numcodecs.{identifier}", **configuration)


ZFP_TYPES = ("int32", "int64", "float32", "float64")
PCODEC_TYPES = ("int16", "uint16", "float16", "uint32", "uint64", *ZFP_TYPES)
ZSTD = _named("zstd", level=1, checksum=False)
CRC32C = {"name": "crc32c"}
CODECS: dict[str, Codecs] = {
    "none": Codecs(),
    "big endian": Codecs(kinds=FIXED, endian="big"),
    "zstd": Codecs(compressors=(ZSTD,)),
    "gzip": Codecs(compressors=(_named("gzip", level=1),)),
    "blosc": Codecs(compressors=(_named("blosc", cname="lz4", clevel=5, shuffle="shuffle", typesize=2, blocksize=0),), kinds=FIXED),
    "blosc of text": Codecs(
        compressors=(_named("blosc", cname="lz4", clevel=5, shuffle="noshuffle", typesize=1, blocksize=0),), kinds=("text", "bytes")
    ),
    "crc32c": Codecs(compressors=(CRC32C,), v2=False),
    "zstd crc32c": Codecs(compressors=(ZSTD, CRC32C), v2=False),
    "transpose": Codecs(filters=(_named("transpose", order=[1, 0]),)),
    **{name: Codecs(compressors=(_numcodecs(name, level=1),)) for name in ("bz2", "zlib")},
    "lz4": Codecs(compressors=(_numcodecs("lz4", acceleration=1),)),
    "lzma": Codecs(compressors=(_numcodecs("lzma", preset=1, format=1, check=-1, filters=None),)),
    "shuffle zlib": Codecs(compressors=(_numcodecs("shuffle", elementsize=4), _numcodecs("zlib", level=1)), kinds=FIXED),
    **{name: Codecs(compressors=(_numcodecs(name),)) for name in ("crc32", "adler32")},
    "fletcher32": Codecs(compressors=(_numcodecs("fletcher32"),)),
    "bitround": Codecs(filters=(_named("bitround", keepbits=6),), kinds=("float", "complex"), v2=False),
    "scale_offset": Codecs(filters=(_named("scale_offset", offset=-2, scale=2),), kinds=("float",), v2=False),
    "scale_offset of integers": Codecs(filters=(_named("scale_offset", offset=-2, scale=1),), types=INTEGERS[:4], v2=False),
    "scale_offset of unsigned": Codecs(filters=(_named("scale_offset", offset=0, scale=2),), types=INTEGERS[4:], v2=False),
    "cast_value": Codecs(filters=(_named("cast_value", data_type="int16"),), kinds=("int",), v2=False),
    "cast_value to float": Codecs(filters=(_named("cast_value", data_type="float64"),), kinds=("int", "float"), v2=False),
    "reshape": Codecs(filters=(_named("reshape", shape=[[0, 1]]),), kinds=FIXED, v2=False),
    "packbits": Codecs(serializer={"name": "packbits"}, kinds=("bool", "int", "tiny"), v2=False),
    "packbits counted": Codecs(
        serializer=_named("packbits", padding_encoding="first_byte"), types=("bool", "int2", "int4", "uint2", "uint4"), v2=False
    ),
    "zfp": Codecs(serializer=_named("zfp", mode="reversible"), types=ZFP_TYPES, v2=False),
    "zfpy": Codecs(serializer=_numcodecs("zfpy", mode=4, tolerance=-1, rate=-1, precision=-1), types=ZFP_TYPES),
    "pcodec": Codecs(serializer=_numcodecs("pcodec", level=8, mode_spec="auto"), types=PCODEC_TYPES),
    "delta": Codecs(filters=(lambda dtype: _numcodecs("delta", dtype=dtype),), kinds=("int",)),
    "fixedscaleoffset": Codecs(
        filters=(lambda dtype: _numcodecs("fixedscaleoffset", offset=0, scale=4, dtype=dtype, astype=dtype),), kinds=("float",)
    ),
    "quantize": Codecs(filters=(lambda dtype: _numcodecs("quantize", digits=2, dtype=dtype),), kinds=("float",)),
    "astype": Codecs(filters=(lambda dtype: _numcodecs("astype", encode_dtype="<f8", decode_dtype=dtype),), kinds=("int", "float")),
    "numcodecs bitround": Codecs(filters=(_numcodecs("bitround", keepbits=6),), kinds=("float",)),
    "numcodecs packbits": Codecs(filters=(_numcodecs("packbits"),), kinds=("bool",)),
}
LAYOUTS = ("V2 chunk", "V3 chunk", "V3 shard", "V3 nested")


class Case(NamedTuple):
    """One point of the matrix."""

    type: str
    codec: str
    layout: str

    def __str__(self) -> str:
        return "-".join(self).replace(" ", "_")

    @property
    def kind(self) -> str:
        return TYPES[self.type].kind

    @property
    def possible(self) -> bool:
        """Whether the codec fits the type, and the version of the format has both."""
        type_, codec = TYPES[self.type], CODECS[self.codec]
        fits = type_.kind in codec.kinds and (codec.types is None or self.type in codec.types)
        return fits and ("V3" in self.layout or (type_.v2 and codec.v2))

    @property
    def v2(self) -> bool:
        return "V2" in self.layout

    def options(self) -> dict[str, Any]:
        """Keywords of `create_array`."""
        type_, codec = TYPES[self.type], CODECS[self.codec]
        common = {
            "shape": SHAPE,
            "dtype": type_.dtype,
            "chunks": CHUNK if "chunk" in self.layout else OUTER,
        }
        if type_.fill is not None:  # None would be null in V2
            common["fill_value"] = type_.fill
        byte_order = _named("bytes", endian=codec.endian)
        serializer = codec.serializer or {"text": {"name": "vlen-utf8"}, "bytes": {"name": "vlen-bytes"}}.get(
            type_.kind, byte_order
        )
        filters = [each(np.dtype(type_.dtype).str) if callable(each) else each for each in codec.filters]
        if "chunk" in self.layout:
            version = {"zarr_format": 2} if self.v2 else {}
            return common | {"filters": filters, "serializer": serializer, "compressors": codec.compressors} | version
        chain = [*filters, serializer, *codec.compressors]
        for shape in [CHUNK] if self.layout == "V3 shard" else [CHUNK, MIDDLE]:
            index = [_named("bytes", endian="little"), CRC32C]
            chain = [_named("sharding_indexed", chunk_shape=list(shape), codecs=chain, index_codecs=index, index_location="end")]
        return common | {"filters": None, "serializer": chain[0], "compressors": None}


CASES = [case for case in itertools.starmap(Case, itertools.product(TYPES, CODECS, LAYOUTS)) if case.possible]


def sample() -> list[Case]:
    """Cases with every type, every codec and every layout, and N others."""
    dice = random.Random(10)
    chosen: list[Case] = []
    for axis, values in (("type", TYPES), ("codec", CODECS), ("layout", LAYOUTS)):
        for value in values:
            chosen.append(dice.choice([case for case in CASES if getattr(case, axis) == value]))
    return list(dict.fromkeys([*chosen, *dice.sample(CASES, N)]))


# ── the peers


class ZarrPython:
    """zarr-python."""

    config: ClassVar[dict[str, Any]] = {}

    def __init__(self) -> None:
        pytest.importorskip("zarr", minversion="3.4")  # earlier ones lack types and codecs

    def create(self, path: Path, document: dict[str, Any]) -> None:
        from zarr.core.buffer import default_buffer_prototype
        from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

        made = (ArrayV2Metadata if document["zarr_format"] == 2 else ArrayV3Metadata).from_dict(document)
        path.mkdir(parents=True)
        for name, data in made.to_buffer_dict(default_buffer_prototype()).items():
            (path / name).write_bytes(data.to_bytes())

    def open(self, path: Path) -> Any:
        import zarr

        return zarr.open_array(path, mode="r+")

    def read(self, path: Path, dtype: Any) -> Any:
        import zarr

        with zarr.config.set(self.config):
            return np.asarray(self.open(path)[...])

    def write(self, path: Path, region: Any, values: Any) -> None:
        import zarr

        with zarr.config.set(self.config):
            self.open(path)[region] = values


class Zarrs(ZarrPython):
    """zarrs, as the codec pipeline of zarr-python; strict, so that Python codecs never serve."""

    config = peers.Zarrs.config

    def __init__(self) -> None:
        super().__init__()
        pytest.importorskip("zarrs")


class Zarrista:
    """zarrs by its own binding."""

    def __init__(self) -> None:
        pytest.importorskip("zarrista")

    def _open(self, path: Path) -> Any:
        import zarrista
        from zarrista.store import FilesystemStore

        return zarrista.Array.open(FilesystemStore(path))

    def create(self, path: Path, document: dict[str, Any]) -> None:
        import zarrista
        from zarrista.store import FilesystemStore

        path.mkdir(parents=True)
        zarrista.Array.from_metadata(document, FilesystemStore(path)).store_metadata()

    def read(self, path: Path, dtype: Any) -> Any:
        try:
            tensor = self._open(path).retrieve_array_subset(...)
        except BaseException as error:
            if type(error).__name__ != "PanicException":
                raise
            raise RuntimeError("panic") from None
        if dtype.kind in "TO":
            return tensor.to_numpy()
        return np.frombuffer(tensor.buffer(), dtype).reshape(tensor.shape)

    def write(self, path: Path, region: Any, values: Any) -> None:
        from zarrista import ArrayBytes

        if values.dtype.kind in "TO":
            items = [item.encode() if isinstance(item, str) else item for item in values.reshape(-1).tolist()]
            data = ArrayBytes(b"".join(items), offsets=np.cumsum([0, *map(len, items)]).astype("u8"))
        else:
            data = ArrayBytes(values.tobytes())
        self._open(path).store_array_subset(region, data)


class TensorStore:
    """TensorStore's drivers of both versions."""

    def __init__(self) -> None:
        pytest.importorskip("tensorstore")

    def _spec(self, path: Path) -> dict[str, Any]:
        driver = "zarr" if (path / ".zarray").exists() else "zarr3"
        return {"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}}

    def create(self, path: Path, document: dict[str, Any]) -> None:
        if document["zarr_format"] == 2:
            path.mkdir(parents=True)
            (path / ".zarray").write_text(json.dumps(document))
        else:
            peers.TensorStore().create(path, document)

    def read(self, path: Path, dtype: Any) -> Any:
        if (path / "zarr.json").exists():
            return peers.TensorStore().read(path, dtype)
        import tensorstore as ts

        got = np.asarray(ts.open(self._spec(path), open=True).result().read().result())
        if got.ndim == len(SHAPE):
            return got
        return np.frombuffer(ctypes.string_at(got.ctypes.data, got.size), dtype).reshape(SHAPE)  # NumPy sees items of no size

    def write(self, path: Path, region: Any, values: Any) -> None:
        if (path / "zarr.json").exists():
            return peers.TensorStore().write(path, region, values)
        import tensorstore as ts

        if values.dtype.kind in "SV":  # its elements are single bytes, in a dimension of their own
            values = values.copy(order="C")[..., np.newaxis].view("S1" if values.dtype.kind == "S" else "V1")
        ts.open(self._spec(path), open=True).result()[region].write(values).result()


PEERS: dict[str, Callable[[], Any]] = {"zarr-python": ZarrPython, "zarrs": Zarrs, "zarrista": Zarrista, "TensorStore": TensorStore}


class Cannot(NamedTuple):
    """What a peer cannot do: the reason, the cases, and what its error says."""

    peers: str
    reason: str
    covers: Callable[[Case], bool]
    message: str


NUMCODECS = ("bz2", "zlib", "lz4", "lzma", "shuffle zlib", "crc32", "adler32", "fletcher32")
ML_TYPES = tuple(name for name, type_ in TYPES.items() if type_.kind == "tiny")
IN_TENSORSTORE = (
    "int2",
    "int4",
    "bfloat16",
    *(name for name in SMALL_FLOATS if name not in ("float6_e2m3fn", "float6_e3m2fn", "float8_e4m3")),
)
V2_IN_TENSORSTORE = ("none", "big endian", "zstd", "gzip", "blosc", "bz2", "zlib", "transpose")
OF_NUMCODECS = ("zfpy", "pcodec", "delta", "fixedscaleoffset", "quantize", "astype", "numcodecs bitround", "numcodecs packbits")
SCALED = ("scale_offset", "scale_offset of integers", "scale_offset of unsigned")
CAST = ("cast_value", "cast_value to float")
IN_ZARRS = ("bitround", "reshape", "packbits", "packbits counted", "zfp")
EXTENSIONS = (*OF_NUMCODECS, *SCALED, *CAST, *IN_ZARRS)
"""Codecs of which each peer has some."""
CANNOT: list[Cannot] = [
    Cannot(
        "zarr-python zarrs",
        "zarr-python has none of the small types, and raw bits of V3 as raw_bytes only",
        lambda case: case.type in ML_TYPES or (case.type == "r24" and not case.v2),
        "No Zarr data type found",
    ),
    Cannot(
        "zarr-python zarrs",
        "zarr-python has not these codecs, also where zarrs has them",
        lambda case: case.codec in IN_ZARRS,
        "UnknownCodecError",
    ),
    Cannot(
        "zarr-python zarrs",
        "zarr-python has cast_value with a package of its own",
        lambda case: case.codec in CAST and importlib.util.find_spec("cast_value_rs") is None,
        "requires the 'cast-value-rs' package",
    ),
    Cannot(
        "zarr-python",
        "that package panics on elements that are not aligned in memory",
        lambda case: case.codec == "cast_value to float" and case.layout == "V3 nested",
        "PanicException.*AsSliceError",
    ),
    Cannot(
        "zarrs",
        "it has not these codecs",
        lambda case: (
            case.codec in (*SCALED, *CAST)
            or (case.codec in OF_NUMCODECS and case.codec != "fixedscaleoffset" and (case.codec != "pcodec" or case.v2))
        ),
        "UnsupportedMetadataError",
    ),
    Cannot(
        "zarrs zarrista",
        "it has not this codec for this type",
        lambda case: case.codec == "fixedscaleoffset" and case.type == "float16",
        "does not support the FixedScaleOffset codec",
    ),
    Cannot(
        "zarrs",
        "it has no types but numbers in the pipeline",
        lambda case: case.kind in ("raw", "fixed text", "time", "record", "text", "bytes"),
        "UnsupportedMetadataError|UnsupportedDataTypeError",
    ),
    Cannot(
        "zarrs",
        "it has not these codecs",
        lambda case: case.codec in ("lz4", "lzma", "crc32", "adler32", "fletcher32"),
        "UnsupportedMetadataError",
    ),
    Cannot(
        "zarrs",
        "it swaps big-endian complex numbers as one word",
        lambda case: case.codec == "big endian" and case.kind == "complex" and not case.v2,
        "they read",
    ),
    Cannot(
        "zarrs",
        "it has V2 in native byte order and C order only",
        lambda case: (
            case.v2 and (case.codec == "transpose" or (case.codec == "big endian" and not case.type.endswith(("bool", "int8"))))
        ),
        "Non-native byte order|C contiguous",
    ),
    Cannot(
        "zarrista",
        "it has few codecs of numcodecs, and its wheel none that need a library of their own",
        lambda case: (
            case.codec in (*NUMCODECS, *SCALED, *CAST, "zfp")
            or (case.codec in OF_NUMCODECS and case.codec != "fixedscaleoffset" and (case.codec != "numcodecs bitround" or case.v2))
        ),
        "is not supported|did not match",
    ),
    Cannot(
        "zarrista",
        "it has not these types",
        lambda case: (
            case.type in ("float8_e4m3fn", "complex_float8_e4m3fn", "struct", "null_terminated_bytes")
            or (case.type == "raw_bytes" and not case.v2)
            or (case.kind == "time" and case.v2)
        ),
        "is not supported|did not match",
    ),
    Cannot(
        "zarrista",
        "it takes bytes of variable size in V2 for text",
        lambda case: case.kind == "bytes" and case.v2,
        "UnicodeDecodeError",
    ),
    Cannot(
        "TensorStore",
        "it has not these types",
        lambda case: (
            case.kind in ("text", "bytes", "time", "record")
            or case.type == "fixed_length_utf32"
            or (case.type == "null_terminated_bytes" and not case.v2)
            or (case.type in ML_TYPES and case.type not in IN_TENSORSTORE)
        ),
        "is not registered|filters are not supported|not one of the supported data types|Unsupported zarr dtype"
        "|Nested struct types|Must specify a .field.",
    ),
    Cannot(
        "TensorStore",
        "it wants the fill value of raw bits as base64, also where they are called r<bits>",
        lambda case: case.type == "r24" and not case.v2,
        "is not registered|Expected base64-encoded string for raw_bytes fill_value",
    ),
    Cannot(
        "TensorStore",
        "it has not these codecs",
        lambda case: case.codec in (*NUMCODECS, *EXTENSIONS) and not (case.v2 and case.codec in V2_IN_TENSORSTORE),
        "is not registered|filters are not supported",
    ),
    Cannot(
        "TensorStore",
        "it takes another number for the fill value of this type",
        lambda case: case.type == "float8_e8m0fnu",
        "they read ours",
    ),
]


# ── the exchange


class Differs(AssertionError):
    """Elements that are not those that were written."""


def expect(expected: Any, got: Any, who: str) -> None:
    """Equal elements: bit for bit, text element by element."""
    got = np.asarray(got)
    if got.shape != expected.shape:
        raise Differs(f"{who}: {got.shape}, not {expected.shape}")
    if expected.dtype.kind in "TO":
        if list(map(_plain, got.reshape(-1).tolist())) != expected.reshape(-1).tolist():
            raise Differs(f"{who}: {got.reshape(-1)[:8].tolist()}, not {expected.reshape(-1)[:8].tolist()}")
        return
    if got.dtype.newbyteorder("=") == expected.dtype or got.dtype.kind in "US":
        got = got.astype(expected.dtype)
    if got.dtype.itemsize != expected.dtype.itemsize:
        raise Differs(f"{who}: {got.dtype}, not {expected.dtype}")
    if expected.dtype in (ml_dtypes.int2, ml_dtypes.int4):  # the upper bits mean nothing
        got, expected = got.astype("i1"), expected.astype("i1")
    if got.tobytes() != expected.tobytes():
        raise Differs(f"{who}: {got[:2].tolist()}, not {expected[:2].tolist()}")


def _plain(item: Any) -> Any:
    return bytes(item) if isinstance(item, bytearray | memoryview) else item


def exchange(case: Case, peer: Any, place: Path) -> None:
    """Make the array on both sides; read both on both sides; then the same after a part was written by the other side."""
    ours, theirs = place / "ours", place / "theirs"
    array: Any = zarrant.create_array(ours, **case.options())
    expected = np.broadcast_to(np.asarray(array.metadata and array[0, 0], array.dtype), SHAPE).copy()
    values = np.asarray(TYPES[case.type].elements).astype(array.dtype, copy=False)[PICK]
    document = json.loads((ours / (".zarray" if case.v2 else "zarr.json")).read_bytes())
    peer.create(theirs, document)
    upper = np.s_[:9, :]
    expected[upper] = values[upper]
    array[upper] = values[upper]
    peer.write(theirs, upper, values[upper])
    _compare(expected, peer, ours, theirs, "")
    expected[PART] = values[::-1][PART]
    peer.write(ours, PART, expected[PART].copy())
    zarrant.open_array(theirs, mode="r+")[PART] = expected[PART]
    _compare(expected, peer, ours, theirs, ", a part by the other")


def _compare(expected: Any, peer: Any, ours: Path, theirs: Path, what: str) -> None:
    expect(expected, zarrant.open_array(ours)[...], f"we read ours{what}")
    expect(expected, peer.read(ours, expected.dtype), f"they read ours{what}")
    expect(expected, zarrant.open_array(theirs)[...], f"we read theirs{what}")
    expect(expected, peer.read(theirs, expected.dtype), f"they read theirs{what}")


def check(name: str, case: Case, place: Path) -> None:
    """The exchange succeeds, or ends as the first row says that covers the case."""
    row = next((row for row in CANNOT if name in row.peers and row.covers(case)), None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what has no final specification
        try:
            exchange(case, PEERS[name](), place)
        except BaseException as error:  # of which a panic of Rust is one
            if row is not None and re.search(row.message, f"{type(error).__name__}: {error} {error.__cause__}", re.DOTALL):
                return
            raise
    if row is not None:
        raise AssertionError(f"{name} can do this now, the row is outdated: {row.reason}")


@pytest.fixture(params=PEERS)
def peer(request: pytest.FixtureRequest) -> Iterator[str]:
    PEERS[request.param]()
    yield request.param


@pytest.mark.parametrize("matrix_case", sample(), ids=str)
def test_it_reads_equal_there_and_here(peer: str, matrix_case: Case, tmp_path: Path) -> None:
    check(peer, matrix_case, tmp_path)


def test_every_name_is_in_the_matrix() -> None:
    """What is registered here and has no row was compared with nobody."""
    missing = set(extensions.data_types.names()) - set(TYPES) - NOT_IN_TYPES
    assert not missing


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("type_", TYPES)
def test_everything(peer: str, type_: str, tmp_path: Path) -> None:
    for turn, case in enumerate(case for case in CASES if case.type == type_):
        check(peer, case, tmp_path / str(turn))
