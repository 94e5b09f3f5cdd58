"""Version 2 metadata (`.zarray`, `.zgroup`, `.zattrs`): bytes to the same dataclasses as version 3, and back.

In comes the content of these objects, out goes an `ArrayMetadata` or a `GroupMetadata` as for version 3: the data type, the
chunk grid, the chunk keys and a list of named codecs say what the V2 members say, so that nothing above this package asks for
the version. What was stored is kept in `v2` and written back as it was, but for the shape and the attributes: a fill value of
null stays null, and members that no version of the format knows stay.

- `order: "F"` is a `transpose` that reverses the dimensions; it comes first, as V2 filters see elements in that order.
- Filters are `numcodecs.<id>`. The first filter of an `|O` array is its object codec.
- The byte order of `dtype` is the `endian` of the `bytes` codec. A filter that changes the type names a byte order of its own.
- The compressor is `blosc`, `gzip`, `zstd`, `crc32c`, or `numcodecs.<id>`; without one there is none.

Metadata end as those of version 3 do: they are understood, they are wrong (`MetadataError` with the JSON path), or they need
what is not there (`UnknownExtensionError`). Specification: https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zarrant.errors import MetadataError, UnknownExtensionError, shown
from zarrant.limits import LIMITS, Limits, require
from zarrant.metadata.json_text import dump_json, parse_json
from zarrant.metadata.turn import NAME as TURN
from zarrant.metadata.turn import Turn
from zarrant.metadata.v3 import DIMENSIONS_V2, MAX_SIZE, ArrayMetadata, GroupMetadata, Json, Named, array_dimensions

ARRAY_MEMBERS = ("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters")
SEPARATOR = "dimension_separator"

PICKLE = "It runs code that is in the data: arrays that need it are never read"
ARRAY_FILTERS = frozenset(("astype", "bitround", "categorize", "delta", "fixedscaleoffset", "packbits", "quantize"))
"""Codecs of numcodecs that make arrays of arrays."""
TO_BYTES = frozenset(("json2", "msgpack2", "pcodec", "pickle", "vlen-array", "vlen-bytes", "vlen-utf8", "zfpy"))
"""Codecs of numcodecs that make bytes of arrays."""
OBJECT_CODECS: Mapping[str, str] = {
    **dict.fromkeys(("vlen-utf8", "categorize", "json2", "msgpack2"), "string"),
    "vlen-bytes": "variable_length_bytes",
}
"""The codecs that may be first for `|O`, and the data type that they stand for."""
NOT_OBJECTS = "Arrays of Python objects other than text and bytes are not supported"

SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle"}


class Element(NamedTuple):
    """What a V2 `dtype` says: the data type, the family, stored bytes of an element (None: variable), and its byte order."""

    data_type: Named
    kind: str
    itemsize: int | None
    endian: str | None = None
    """None where byte order means nothing."""


# Reading ----------------------------------------------------------------------------------------------------------------


def parse_array(data: bytes, attributes: Mapping[str, Json], limits: Limits = LIMITS) -> ArrayMetadata:
    """Read a `.zarray`; `attributes` are those of its `.zattrs`.

    >>> array = parse_array(
    ...     b'{"zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "<i2", "compressor": {"id": "zlib", "level": 1},'
    ...     b' "fill_value": null, "order": "C", "filters": null}', {})
    >>> array.data_type.name, [codec.name for codec in array.codecs], array.fill_value
    ('int16', ['bytes', 'numcodecs.zlib'], 0)
    """
    return read_array(_object(data, limits), attributes, limits)


def read_array(value: dict[str, Json], attributes: Mapping[str, Json], limits: Limits = LIMITS) -> ArrayMetadata:
    """`parse_array` of the JSON value."""
    check_format(value)
    for name in ARRAY_MEMBERS:
        if name not in value:
            raise MetadataError("missing member", path="$", expected=name, got=sorted(value))
    shape = _shape(value["shape"], limits)
    element = _element(value, limits)
    return ArrayMetadata(
        shape=shape,
        data_type=element.data_type,
        chunk_grid=Named("regular", {"chunk_shape": _chunks(value["chunks"], shape)}),
        chunk_key_encoding=Named("v2", {"separator": _separator(value.get(SEPARATOR, "."))}),
        fill_value=_fill(value["fill_value"], element, value["dtype"]),
        codecs=_codecs(value, element, len(shape), limits),
        attributes=dict(attributes),
        dimension_names=array_dimensions(attributes, len(shape)),
        v2={key: item for key, item in value.items() if key not in ("zarr_format", "shape", TURN)},
        turn=Turn.from_json(value[TURN]) if TURN in value else None,
    )


def parse_group(data: bytes, attributes: Mapping[str, Json], limits: Limits = LIMITS) -> GroupMetadata:
    """Read a `.zgroup`; `attributes` are those of its `.zattrs`."""
    value = _object(data, limits)
    check_format(value)
    return GroupMetadata(dict(attributes), v2={key: item for key, item in value.items() if key != "zarr_format"})


def parse_attributes(data: bytes, limits: Limits = LIMITS) -> dict[str, Json]:
    """Read a `.zattrs`."""
    return _object(data, limits, words=True)


def _object(data: bytes, limits: Limits, words: bool = False) -> dict[str, Json]:
    value = parse_json(data, limits, words)
    if not isinstance(value, dict):
        raise _wrong("$", "an object", value)
    return value


def check_format(value: Mapping[str, Json]) -> None:
    """MetadataError unless these are members of version 2."""
    if "zarr_format" not in value:
        raise MetadataError("missing member", path="$", expected="zarr_format", got=sorted(value))
    if type(value["zarr_format"]) is not int or value["zarr_format"] != 2:
        raise _wrong("$.zarr_format", "the integer 2", value["zarr_format"])


def _wrong(path: str, expected: str, got: Json) -> MetadataError:
    return MetadataError("wrong value", path=path, expected=expected, got=shown(got))


def _shape(value: Json, limits: Limits) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise _wrong("$.shape", "a list", value)
    require(len(value), limits.rank, "too many dimensions", "rank", "$.shape")
    for i, length in enumerate(value):
        if type(length) is not int or not 0 <= length <= MAX_SIZE:
            raise _wrong(f"$.shape[{i}]", f"an integer in 0..{MAX_SIZE}", length)
    return tuple(value)


def _chunks(value: Json, shape: Sequence[int]) -> list[int]:
    """The shape of chunks. Writers store 0 or false along axes without elements: a chunk there has at least one."""
    if not isinstance(value, list) or len(value) != len(shape):
        raise _wrong("$.chunks", f"a list of {len(shape)} sizes, one a dimension", value)
    sizes = []
    for i, (size, length) in enumerate(zip(value, shape, strict=True)):
        if length == 0 and (size is False or (type(size) is int and size == 0)):
            size = 1
        if type(size) is not int or not 1 <= size <= MAX_SIZE:
            raise _wrong(f"$.chunks[{i}]", f"an integer in 1..{MAX_SIZE}", size)
        sizes.append(size)
    return sizes


def _separator(value: Json) -> str:
    # "If the value is not set, then the default MUST be assumed to be ".", leading to chunk keys of the form 0.0."
    # https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html
    if value not in (".", "/"):
        raise _wrong(f"$.{SEPARATOR}", '"." or "/"', value)
    return str(value)


# Data types -------------------------------------------------------------------------------------------------------------

_SIMPLE = re.compile(r"([<>|])([biufcSUVOmM])([0-9]*)(?:\[([0-9]*)([A-Za-zμµ]+)\])?")
_NUMBERS: Mapping[tuple[str, int], str] = {
    ("b", 1): "bool",
    **{("i", size): f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{("u", size): f"uint{8 * size}" for size in (1, 2, 4, 8)},
    **{("f", size): f"float{8 * size}" for size in (2, 4, 8)},
    **{("c", size): f"complex{8 * size}" for size in (8, 16)},
}
_KINDS = {"b": "bool", "i": "int", "u": "int", "f": "float", "c": "complex"}
_TEXTS = {"S": "null_terminated_bytes", "U": "fixed_length_utf32", "V": "raw_bytes"}
_TIMES = {"M": "numpy.datetime64", "m": "numpy.timedelta64"}
_UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as", "generic")
_SMALL = {"bfloat16": 2, **dict.fromkeys(("float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn"), 1)}
_SMALL |= dict.fromkeys(("float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "int4", "int2", "uint2", "uint4"), 1)
"""Types that NumPy does not have, by the names under which TensorStore stores them in V2."""
_ENDIAN = {"<": "little", ">": "big"}
_TOO_LARGE = "an element that is too large"


def _element(value: Mapping[str, Json], limits: Limits) -> Element:
    dtype = value["dtype"]
    if isinstance(dtype, str) and re.fullmatch(r"[<>|]O[0-9]*", dtype):
        return _object_type(value["filters"])
    return element_of(dtype, "$.dtype", limits)


def element_of(dtype: Json, path: str, limits: Limits = LIMITS, depth: int = 0) -> Element:
    """What a `dtype` says: a string like "<f4", or a list of fields.

    >>> element_of("<M8[ns]", "$.dtype").data_type.to_json()
    {'name': 'numpy.datetime64', 'configuration': {'unit': 'ns', 'scale_factor': 1}}
    """
    if isinstance(dtype, list):
        return _struct(dtype, path, limits, depth)
    if not isinstance(dtype, str):
        raise _wrong(path, 'a type like "<f4", or a list of fields', dtype)
    if dtype in _SMALL:
        return Element(Named(dtype, bare=True), "float" if "float" in dtype else "int", _SMALL[dtype], _small_endian(dtype))
    match = _SIMPLE.fullmatch(dtype)
    if match is None:
        raise _wrong(path, 'a byte order ("<", ">", "|"), a letter of bBiufcmMSUVO and a size in bytes, like "<f4"', dtype)
    order, kind, digits, factor, unit = match.groups()
    size = int(digits) if digits and len(digits) < 12 else limits.element + 1 if digits else 0
    if kind in _TIMES:
        return _time(dtype, path, kind, size, _ENDIAN.get(order), factor, unit)
    if unit is not None:
        raise _wrong(path, "a unit with datetimes (M) and timedeltas (m) only", dtype)
    if kind in _TEXTS:
        return _text(dtype, path, kind, size, _ENDIAN.get(order), limits)
    if kind == "O":
        raise _wrong(path, "a type of fixed size", dtype)
    if (kind, size) not in _NUMBERS:
        sizes = [str(known) for letter, known in _NUMBERS if letter == kind]
        raise _wrong(path, f"{kind} with a size of {', '.join(sizes)} bytes", dtype)
    word = size // 2 if kind == "c" else size
    return Element(Named(_NUMBERS[kind, size], bare=True), _KINDS[kind], size, _order(dtype, path, word, order))


def _small_endian(name: str) -> str | None:
    return "little" if _SMALL[name] > 1 else None


def _order(dtype: str, path: str, word: int, order: str) -> str | None:
    if word == 1:
        return None  # netCDF-C, Zarr.jl and jzarr write "<i1" and ">b1"
    if order not in _ENDIAN:
        raise _wrong(path, 'a byte order, "<" or ">", with elements of more than one byte', dtype)
    return _ENDIAN[order]


def _text(dtype: str, path: str, kind: str, size: int, endian: str | None, limits: Limits) -> Element:
    unit = 4 if kind == "U" else 1
    if size == 0:
        raise _wrong(path, "an element of at least one byte", dtype)
    require(size * unit, limits.element, _TOO_LARGE, "itemsize", path)
    if kind == "U" and endian is None:
        raise _wrong(path, 'a byte order, "<" or ">", with characters of four bytes', dtype)
    named = Named(_TEXTS[kind], {"length_bytes": size * unit})
    return Element(named, {"S": "text", "U": "unicode", "V": "raw"}[kind], size * unit, endian if kind == "U" else None)


def _time(dtype: str, path: str, kind: str, size: int, endian: str | None, factor: str | None, unit: str | None) -> Element:
    unit = "us" if unit in ("μs", "µs") else "generic" if unit is None else unit
    scale = int(factor) if factor and len(factor) < 11 else 1
    if size != 8 or endian is None or unit not in _UNITS or not 1 <= scale <= 2**31 - 1 or (factor and len(factor) > 10):
        raise _wrong(path, f'"<{kind}8[unit]" or ">{kind}8[unit]" with a unit of {", ".join(_UNITS)}', dtype)
    return Element(Named(_TIMES[kind], {"unit": unit, "scale_factor": scale}), "time", 8, endian)


def _struct(fields: list[Json], path: str, limits: Limits, depth: int) -> Element:
    require(depth, limits.nesting, "structs nested too deep", "nesting", path)
    if not fields:
        raise _wrong(path, "at least one field", fields)
    parts, named, seen = [], [], set[str]()
    for i, item in enumerate(fields):
        where = f"{path}[{i}]"
        if not isinstance(item, list) or not 2 <= len(item) <= 3:
            raise _wrong(where, "[name, type]", item)
        name, dtype = item[:2]
        if not isinstance(name, str) or not name or name in seen:
            raise _wrong(f"{where}[0]", "a name that no other field has", name)
        if len(item) == 3:
            raise UnknownExtensionError(
                "fields that are arrays are not supported", field="data_types", path=f"{where}[2]", got=shown(item[2])
            )
        part = element_of(dtype, f"{where}[1]", limits, depth + 1)
        seen.add(name)
        parts.append(part)
        named.append({"name": name, "data_type": part.data_type.to_json()})
    orders = {part.endian for part in parts} - {None}
    if len(orders) > 1:
        raise UnknownExtensionError(
            "fields of different byte orders are not supported", field="data_types", path=path, expected="one", got=shown(fields)
        )
    itemsize = sum(part.itemsize or 0 for part in parts)
    require(itemsize, limits.element, _TOO_LARGE, "itemsize", path)
    return Element(Named("struct", {"fields": named}), "struct", itemsize, orders.pop() if orders else None)


def _object_type(filters: Json) -> Element:
    """The type of an `|O` array, which its first filter decides."""
    path = "$.filters[0]"
    if not isinstance(filters, list) or not filters:
        raise _wrong("$.filters", f"an object codec first ({', '.join(OBJECT_CODECS)}) for the dtype |O", filters)
    identifier = _configuration(filters[0], path)["id"]
    if identifier == "pickle":
        raise UnknownExtensionError("arrays of pickles are refused", field="codecs", path=path, got="pickle", hint=PICKLE)
    if identifier not in OBJECT_CODECS:
        if identifier in TO_BYTES:
            raise UnknownExtensionError(NOT_OBJECTS, field="codecs", path=path, expected=list(OBJECT_CODECS), got=identifier)
        raise _wrong(f"{path}.id", f"an object codec first ({', '.join(OBJECT_CODECS)}) for the dtype |O", identifier)
    name = OBJECT_CODECS[identifier]
    return Element(Named(name, bare=True), name, None)


# Codecs -----------------------------------------------------------------------------------------------------------------


def _codecs(value: Mapping[str, Json], element: Element, rank: int, limits: Limits) -> tuple[Named, ...]:
    """The members `order`, `filters`, `dtype` (its byte order) and `compressor` as codecs."""
    order, filters, compressor = value["order"], value["filters"], value["compressor"]
    if order not in ("C", "F"):
        raise _wrong("$.order", '"C" or "F"', order)
    codecs = [Named("transpose", {"order": list(reversed(range(rank)))})] if order == "F" and rank > 1 else []
    if filters is not None and not isinstance(filters, list):
        raise _wrong("$.filters", "a list of codecs, or null", filters)
    items = [(item, f"$.filters[{i}]") for i, item in enumerate(filters or ())]
    require(len(items), limits.chain - 4, "a codec chain that is too long", "codecs", "$.filters")
    if compressor is not None:
        items.append((compressor, "$.compressor"))
    endian, in_bytes = element.endian, False
    for item, path in items:
        configuration = _configuration(item, path)
        identifier = configuration.pop("id")
        if identifier == "pickle":
            raise UnknownExtensionError("the codec pickle is refused", field="codecs", path=path, got="pickle", hint=PICKLE)
        if identifier in ARRAY_FILTERS or identifier in TO_BYTES:
            if in_bytes:
                raise MetadataError(
                    "filters in an impossible order",
                    path=path,
                    expected="filters of arrays before those that make bytes",
                    got=identifier,
                )
            endian = _after(identifier, configuration, endian, path)
            in_bytes = identifier in TO_BYTES
        elif not in_bytes:
            codecs.append(_bytes(endian))
            in_bytes = True
        codecs.append(_named(identifier, configuration, path, element))
    return (*codecs,) if in_bytes else (*codecs, _bytes(endian))


def _configuration(item: Json, path: str) -> dict[str, Json]:
    """A codec of V2: an object with an id."""
    # "The object MUST contain an "id" key identifying the codec to be used." (Zarr V2, compressor)
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item["id"]:
        raise _wrong(path, "an object with an id", item)
    return dict(item)


def _bytes(endian: str | None) -> Named:
    return Named("bytes", {} if endian is None else {"endian": endian})


def _after(identifier: str, configuration: Mapping[str, Json], endian: str | None, path: str) -> str | None:
    """The byte order of what a filter of arrays gives, for what it gets in the order `endian`."""
    if identifier == "packbits":
        return None
    decoded, encoded = ("decode_dtype", "encode_dtype") if identifier == "astype" else ("dtype", "astype")
    given = _order_of(configuration.get(decoded))
    if None not in (given, endian) and given != endian:  # numcodecs would take the bytes for other numbers
        raise _wrong(f"{path}.{decoded}", f"a type in {endian}-endian order, as what the filter gets", configuration[decoded])
    dtype = configuration.get(encoded, "|u1" if identifier == "categorize" else configuration.get(decoded))
    if not isinstance(dtype, str) or dtype[:1] not in (*_ENDIAN, "|"):
        return endian
    return _order_of(dtype)


def _order_of(dtype: Json) -> str | None:
    """The byte order that a member like "<i4" says; None where it means nothing."""
    if not isinstance(dtype, str) or re.fullmatch(r"[<>|][a-zA-Z]1", dtype):
        return None
    return _ENDIAN.get(dtype[:1])


def _named(identifier: str, configuration: dict[str, Json], path: str, element: Element) -> Named:
    """A codec of V2 under its name in V3, with the configuration that it has there."""
    if identifier == "blosc":
        return _blosc(configuration, path, element)
    if identifier == "zstd":
        return Named("zstd", {"level": 0, **configuration, "checksum": bool(configuration.get("checksum", False))})
    if identifier == "gzip":
        return Named("gzip", {"level": 1, **configuration})
    if identifier == "shuffle" and type(size := configuration.get("elementsize")) is int and size == 0 and element.itemsize:
        configuration["elementsize"] = element.itemsize  # netCDF-C stores 0, and shuffles elements of the array's type
    if identifier in ("vlen-utf8", "vlen-bytes"):
        return Named(identifier, configuration)
    if identifier == "crc32c" and configuration.get("location", "end") == "end":
        return Named("crc32c", {key: item for key, item in configuration.items() if key != "location"})
    return Named(f"numcodecs.{identifier}", configuration, explicit=True)


def _blosc(configuration: dict[str, Json], path: str, element: Element) -> Named:
    """Blosc stores the element size and the shuffle in the data: these are what new data get."""
    size = element.itemsize if element.itemsize and element.itemsize <= 255 else 1
    shuffle = configuration.get("shuffle", 1)
    if shuffle == -1:  # numcodecs: bits of elements of one byte, else bytes
        shuffle = 2 if size == 1 else 1
    if isinstance(shuffle, bool) or shuffle not in SHUFFLES:
        raise _wrong(f"{path}.shuffle", "-1, 0, 1 or 2", shuffle)
    defaults = {"cname": "lz4", "clevel": 5, "blocksize": 0, "typesize": size}
    return Named("blosc", {**defaults, **configuration, "shuffle": SHUFFLES[shuffle]})


# Fill values ------------------------------------------------------------------------------------------------------------

ZERO: Mapping[str, Json] = {"bool": False, "int": 0, "float": 0.0, "complex": [0.0, 0.0], "time": 0, "unicode": "", "text": ""}


def _fill(value: Json, element: Element, dtype: Json, path: str = "$.fill_value") -> Json:
    """The fill value as V3 spells it. Null means that it is not defined: such elements are read as zeros."""
    kind = element.kind
    # "If an array has a fixed length byte string data type [...] or a structured data type, and if the fill value is not null,
    # then the fill value MUST be encoded as an ASCII string using the standard Base64 alphabet." (Zarr V2, fill value encoding)
    if kind in ("text", "raw", "struct", "variable_length_bytes"):
        return _base64(value, element, dtype, path)
    if value is None:
        return ZERO.get(kind, "")
    if kind == "bool":
        return _bool(value, path)
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "complex" and isinstance(value, int | float) and not isinstance(value, bool):
        return [value, 0.0]
    if kind in ("unicode", "string"):
        if type(value) is int and value == 0:
            return ""  # zarr-python 2 stored 0 for every type
        if not isinstance(value, str):
            raise _wrong_fill(path, "a string", value)
    return value


def _numpy(dtype: Json) -> np.dtype[Any]:
    return np.dtype([(name, _numpy(part)) for name, part in dtype]) if isinstance(dtype, list) else np.dtype(dtype)


def _wrong_fill(path: str, expected: str, got: Json) -> MetadataError:
    return MetadataError("wrong fill value", path=path, expected=expected, got=shown(got))


def _bool(value: Json, path: str) -> bool:
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise _wrong_fill(path, "true, false, 0 or 1", value)


def _base64(value: Json, element: Element, dtype: Json, path: str) -> Json:
    """Bytes as base64, padded with zeros; those of text without the zeros at their end."""
    size = element.itemsize
    expected = "base64" if size is None else f"at most {size} bytes as base64"
    if value is None or (type(value) is int and value == 0):
        data = b""
    elif not isinstance(value, str):
        raise _wrong_fill(path, expected, value)
    else:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError) as cause:
            raise _wrong_fill(path, expected, value) from cause
    if size is not None and len(data) > size:
        raise _wrong_fill(path, expected, value)
    if element.kind in ("raw", "struct") and size is not None:
        data = data.ljust(size, b"\0")
        if element.endian == "big":  # V3 has the bytes of a struct in little-endian order
            numpy = _numpy(dtype)
            data = np.frombuffer(data, numpy).astype(numpy.newbyteorder("<")).tobytes()
    elif element.kind == "text":
        data = data.rstrip(b"\0")
    return base64.b64encode(data).decode("ascii")


# Writing ----------------------------------------------------------------------------------------------------------------


def dump_array(document: ArrayMetadata) -> bytes:
    """Write a `.zarray`. What could not be read again is refused."""
    value = array_members(document)
    read_array(value, {})
    return dump_json(value if document.turn is None else {**value, TURN: document.turn.to_json()})


def array_members(document: ArrayMetadata) -> dict[str, Json]:
    """The members of a `.zarray`, as they were but for the shape; a chunk size that was left open is given where it has to be."""
    kept = dict(document.v2 or {})
    chunks = kept.get("chunks")
    if isinstance(chunks, list):
        sizes = document.chunk_grid.configuration["chunk_shape"]
        empty = all(length == 0 for length, size in zip(document.shape, chunks, strict=True) if not size)
        kept["chunks"] = chunks if empty else list(sizes)
    return {"zarr_format": 2, "shape": list(document.shape), **kept}


def dump_group(document: GroupMetadata) -> bytes:
    """Write a `.zgroup`."""
    return dump_json({"zarr_format": 2, **(document.v2 or {})})


def dump_attributes(attributes: Mapping[str, Any]) -> bytes:
    """Write a `.zattrs`."""
    return dump_json(dict(attributes), words=True)


# From version 3 ---------------------------------------------------------------------------------------------------------


def as_v2(document: ArrayMetadata) -> ArrayMetadata:
    """The same array in the words of V2: its chunks stay as they are.

    MetadataError, with the place in `document`, for what V2 does not have: shards, other chunk keys, fill values with a payload.

    >>> codecs = (Named("bytes", {"endian": "big"}), Named("gzip", {"level": 1}))
    >>> keys, grid = Named("v2", {"separator": "/"}), Named("regular", {"chunk_shape": [2]})
    >>> array = as_v2(ArrayMetadata((4,), Named("int16"), grid, keys, 0, codecs))
    >>> array.v2["dtype"], array.v2["compressor"]
    ('>i2', {'id': 'gzip', 'level': 1})
    """
    if document.v2 is not None:
        return document
    if document.storage_transformers:
        raise _none("$.storage_transformers", "storage transformers", [item.name for item in document.storage_transformers])
    order, filters, endian, compressor = _v2_codecs(document)
    dtype = "|O" if document.data_type.name in _VARIABLE else dtype_of(document.data_type, endian)
    value = {
        "zarr_format": 2,
        "shape": list(document.shape),
        "chunks": _v2_chunks(document.chunk_grid),
        "dtype": dtype,
        "compressor": compressor,
        "fill_value": _v2_fill(document.fill_value, dtype),
        "order": order,
        "filters": filters or None,
        SEPARATOR: _v2_separator(document.chunk_key_encoding),
        **document.extra,
    }
    return read_array(value, _v2_attributes(document))


_VARIABLE = frozenset(("string", "bytes", "variable_length_bytes"))


def _none(path: str, what: str, got: Json) -> MetadataError:
    return MetadataError(f"Zarr V2 has no {what}", path=path, expected="what both versions have", got=shown(got))


def _v2_chunks(grid: Named) -> Json:
    if grid.name != "regular":
        raise _none("$.chunk_grid", "other chunk grids than the regular one", grid.name)
    return list(grid.configuration.get("chunk_shape", ()))


def _v2_separator(keys: Named) -> str:
    if keys.name != "v2":
        hint = 'Chunks would have to be renamed: chunk_key_encoding="v2" has the names of V2'
        error = _none("$.chunk_key_encoding", "such names of chunks", keys.to_json())
        error.hint = hint
        raise error
    return str(keys.configuration.get("separator", "."))


def _v2_attributes(document: ArrayMetadata) -> dict[str, Json]:
    """The attributes, and the names of dimensions among them."""
    names = document.dimension_names
    if names is None or not names:
        return document.attributes
    if not all(isinstance(name, str) for name in names):
        raise _none("$.dimension_names", "names for some dimensions only", list(names))
    if document.attributes.get(DIMENSIONS_V2, list(names)) != list(names):
        raise _none(
            f"$.attributes.{DIMENSIONS_V2}", "other dimension names than this attribute", document.attributes[DIMENSIONS_V2]
        )
    return {**document.attributes, DIMENSIONS_V2: list(names)}


def _v2_fill(value: Json, dtype: Json) -> Json:
    """The fill value in V2, which has no bit patterns, and bytes and structs as base64 only."""
    if isinstance(value, dict):
        return base64.b64encode(_v2_element(value, dtype, "$.fill_value")).decode("ascii")
    if isinstance(dtype, str) and dtype.startswith("|V") and isinstance(value, list):
        return base64.b64encode(bytes(value)).decode("ascii")
    for i, part in enumerate(value if isinstance(value, list) else [value]):
        if isinstance(part, str) and part.startswith("0x"):
            raise _none(f"$.fill_value[{i}]" if isinstance(value, list) else "$.fill_value", "bit patterns", part)
    return value


def _v2_element(value: Json, dtype: Json, path: str) -> bytes:
    """The bytes of a fill value, in the byte order of the type."""
    if isinstance(dtype, list):
        return b"".join(_v2_element(value.get(name), part, f"{path}.{name}") for name, part in dtype)
    numpy = np.dtype(dtype)
    if isinstance(value, str) and value.startswith("0x"):
        raise _none(path, "bit patterns", value)
    if numpy.kind in "SV":
        return base64.b64decode(value or "").ljust(numpy.itemsize, b"\0")
    if numpy.kind in "Mm":
        count = np.iinfo(np.int64).min if value == "NaT" else value or 0
        return np.array(count, f"{dtype[0]}i8").tobytes()
    if numpy.kind == "c" and isinstance(value, list):
        value = complex(float(value[0]), float(value[1]))
    return np.array(float(value) if numpy.kind == "f" else value or 0 if numpy.kind != "U" else value or "", numpy).tobytes()


def dtype_of(data_type: Named, endian: str | None, path: str = "$.data_type") -> Json:
    """The `dtype` of V2 for a data type; MetadataError where there is none.

    >>> dtype_of(Named("float32"), "little"), dtype_of(Named("bool"), None), dtype_of(Named("raw_bytes", {"length_bytes": 3}), None)
    ('<f4', '|b1', '|V3')
    """
    name, configuration = data_type.name, data_type.configuration
    order = {"little": "<", "big": ">", None: "|"}[endian]
    if name in _SMALL:
        return name
    for (kind, size), known in _NUMBERS.items():
        if known == name:
            return f"{'|' if size == 1 else order}{kind}{size}"
    if match := re.fullmatch(r"r([0-9]+)", name):
        return f"|V{int(match[1]) // 8}"
    for kind, known in _TEXTS.items():
        if known == name:
            size = int(configuration.get("length_bytes", 0))
            return f"{order}U{size // 4}" if kind == "U" else f"|{kind}{size}"
    for kind, known in _TIMES.items():
        if known == name:
            unit, scale = configuration.get("unit", "generic"), configuration.get("scale_factor", 1)
            return f"{order}{kind}8[{'' if scale == 1 else scale}{'us' if unit in ('μs', 'µs') else unit}]"
    if name in ("struct", "structured"):
        return [_v2_field(field, endian, f"{path}.configuration.fields[{i}]") for i, field in enumerate(configuration["fields"])]
    raise _none(path, "such data type", name)


def _v2_field(field: Json, endian: str | None, path: str) -> Json:
    name, data_type = (field["name"], field["data_type"]) if isinstance(field, dict) else field
    return [name, dtype_of(Named.parse(data_type, path), endian, path)]


def _v2_codecs(document: ArrayMetadata) -> tuple[str, list[Json], str | None, Json]:
    """The order, the filters, the byte order and the compressor for the codecs of an array."""
    codecs, rank, order, at = list(document.codecs), len(document.shape), "C", 0
    if codecs and codecs[0].name == "transpose":
        given = codecs.pop(0).configuration.get("order")
        if given != list(reversed(range(rank))):
            raise _none("$.codecs[0]", "other orders of dimensions than C and F", given)
        order, at = "F", 1
    filters: list[Json] = []
    endian: str | None = None if any(codec.name == "bytes" for codec in codecs) else "little"
    for i, codec in enumerate(codecs):
        if codec.name == "bytes":
            endian = codec.configuration.get("endian")
        else:
            filters.append(_v2_codec(codec, f"$.codecs[{i + at}]"))
    compressed = bool(filters) and filters[-1]["id"] not in ARRAY_FILTERS | TO_BYTES
    if filters and filters[0]["id"] in ARRAY_FILTERS:  # the byte order of `bytes` is that of what filters give
        first = filters[0]
        dtype = first.get("decode_dtype", first.get("dtype"))
        endian = _ENDIAN.get(dtype[:1], endian) if isinstance(dtype, str) else endian
    return order, filters[:-1] if compressed else filters, endian, filters[-1] if compressed else None


def _v2_codec(codec: Named, path: str) -> dict[str, Json]:
    configuration = dict(codec.configuration)
    if codec.name == "blosc":
        shuffles = {name: number for number, name in SHUFFLES.items()}
        configuration.pop("typesize", None)
        return {"id": "blosc", **configuration, "shuffle": shuffles[configuration.get("shuffle", "shuffle")]}
    if codec.name == "zstd" and not configuration.get("checksum"):
        configuration.pop("checksum", None)  # TensorStore knows no such member
    if codec.name in ("zstd", "gzip", "vlen-utf8", "vlen-bytes"):
        return {"id": codec.name, **configuration}
    if codec.name == "crc32c":
        return {"id": "crc32c", "location": "end"}
    if codec.name.startswith("numcodecs."):
        return {"id": codec.name.removeprefix("numcodecs."), **configuration}
    raise _none(path, "such codec", codec.name)


def place(value: Mapping[str, Json], path: str) -> str:
    """Where in a `.zarray` of these members something is whose place in version 3 is `path`.

    >>> members = {"chunks": [2, 2], "order": "F", "filters": [{"id": "delta"}], "compressor": {"id": "lz4"}}
    >>> place(members, "$.codecs[1].configuration.dtype")
    '$.filters[0].dtype'
    """
    for v3, v2 in (("$.data_type", "$.dtype"), ("$.chunk_grid", "$.chunks"), ("$.chunk_key_encoding", f"$.{SEPARATOR}")):
        if path.startswith(v3):
            return v2
    match = re.fullmatch(r"\$\.codecs\[(\d+)\](?:\.configuration)?(.*)", path)
    if match is None:
        return path
    places = _places(value)
    at = int(match[1])
    return f"{places[at]}{match[2]}" if at < len(places) else path


def _places(value: Mapping[str, Json]) -> list[str]:
    """The member that each codec comes from, in order."""
    rank = len(value.get("chunks") or ())
    places = ["$.order"] if value.get("order") == "F" and rank > 1 else []
    filters = value.get("filters") or []
    items = [(item, f"$.filters[{i}]") for i, item in enumerate(filters)]
    items += [(value["compressor"], "$.compressor")] if value.get("compressor") is not None else []
    in_bytes = False
    for item, path in items:
        if not in_bytes and item["id"] not in ARRAY_FILTERS:
            in_bytes = True
            if item["id"] not in TO_BYTES:
                places.append("$.dtype")
        places.append(path)
    return places if in_bytes else [*places, "$.dtype"]
