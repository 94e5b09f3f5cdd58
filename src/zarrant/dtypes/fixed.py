"""Data types of fixed size: one class, one table.

Numbers come as rows of `data_types`; raw bits (`r<bits>`) are made on demand. In come names from documents or NumPy types
from callers, out goes a frozen `FixedType`. The fill values themselves are converted in `fill.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from zarrant import registry
from zarrant.dtypes import fill as fills
from zarrant.dtypes import values
from zarrant.dtypes.base import Array, Fill, FixedFill
from zarrant.errors import DataTypeError, LimitError, MetadataError, shown

MAX_RAW_BYTES = 2**31 - 1
"""NumPy keeps the size of an element in a C int."""


@dataclass(frozen=True)
class FixedType:
    """A data type whose elements all have `itemsize` bytes.

    >>> from_numpy("float32").fill_from_python(float("nan")).to_json()
    'NaN'
    """

    name: str
    kind: str
    numpy: np.dtype[Any] = field(repr=False)
    word: int = field(repr=False)
    spelling: str = field(default="", repr=False, compare=False)
    """Raw bits have two names in use, see `raw`; equal types may be spelled differently."""

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    def fill_from_json(self, value: Any, path: str = "$.fill_value") -> FixedFill:
        """The fill value of a document."""
        return FixedFill(self, fills.from_json(self.kind, self.numpy, value, path))

    def fill_to_json(self, data: bytes) -> Any:
        """The JSON form of one element; `fill_from_json` gives back the same bytes."""
        return fills.to_json(self.kind, self.numpy, data, base64=self.spelling == RAW_BYTES)

    def fill_from_python(self, value: Any) -> FixedFill:
        """The fill value for a caller's scalar, under NumPy's `same_kind` rule; None is the default."""
        return self.default_fill() if value is None else FixedFill(self, fills.from_python(self.kind, self.numpy, value))

    def default_fill(self) -> FixedFill:
        """Zero, or false."""
        return FixedFill(self, bytes(self.itemsize))

    def as_values(self, data: Any, fill: Fill) -> Array:
        """Data as an array of the type, a view where possible; see `dtypes.values` for what does not fit."""
        return values.as_values(data, self, fill)

    def to_json(self) -> str | dict[str, Any]:
        """The form for metadata: a name, or an object with name and configuration."""
        if self.spelling == RAW_BYTES:
            return {"name": RAW_BYTES, "configuration": {"length_bytes": self.itemsize}}
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return parse_data_type, (self.spelling or self.name, _configuration(self.to_json()))


def _configuration(document: str | dict[str, Any]) -> dict[str, Any]:
    return {} if isinstance(document, str) else document["configuration"]


def _number(name: str, kind: str, dtype: Any) -> FixedType:
    numpy = np.dtype(dtype)
    return FixedType(name, kind, numpy, numpy.itemsize // 2 if kind == "complex" else numpy.itemsize)


data_types: tuple[FixedType, ...] = (
    _number("bool", "bool", np.bool_),
    *(_number(f"int{bits}", "int", f"i{bits // 8}") for bits in (8, 16, 32, 64)),
    *(_number(f"uint{bits}", "uint", f"u{bits // 8}") for bits in (8, 16, 32, 64)),
    *(_number(f"float{bits}", "float", f"f{bits // 8}") for bits in (16, 32, 64)),
    *(_number(f"complex{bits}", "complex", f"c{bits // 8}") for bits in (64, 128)),
    _number("bfloat16", "float", ml_dtypes.bfloat16),
)
"""Every number, in the order of the specification."""

_BY_NAME = {row.name: row for row in data_types}

RAW_BYTES = "raw_bytes"


def raw(nbytes: int, spelling: str = "") -> FixedType:
    """Raw bits, `nbytes` an element.

    The core specification calls them `r<bits>` and wants a list of integers as fill value; zarr-python and TensorStore write
    `raw_bytes` (zarr-extensions) with a base64 string. `spelling` "raw_bytes" picks the latter for documents.
    """
    return FixedType(f"r{8 * nbytes}", "raw", np.dtype(f"V{nbytes}"), 1, spelling)


def parse_data_type(name: str, configuration: Mapping[str, Any] | None = None, path: str = "$.data_type") -> FixedType:
    """The type that a document names.

    >>> parse_data_type("r24").numpy
    dtype('V3')
    """
    configuration = configuration or {}
    if name == RAW_BYTES:
        return raw(_raw_length(configuration, path), RAW_BYTES)
    if name not in _BY_NAME and not re.fullmatch(r"r[0-9]+", name):
        raise registry.data_types.unknown(name, path)  # first: what its configuration means is not known either
    if configuration:
        got = dict(configuration)
        raise MetadataError(f"{name} has no configuration", path=f"{path}.configuration", expected="none", got=got)
    return _BY_NAME[name] if name in _BY_NAME else raw(_raw_bits(name, path))


def _raw_bits(name: str, path: str) -> int:
    bits = int(name[1:]) if len(name) < 20 else 10**20
    if bits // 8 > MAX_RAW_BYTES:
        raise LimitError("an element that is too large", path=path, field="itemsize", got=name, limit=MAX_RAW_BYTES)
    if bits == 0 or bits % 8 or name[1] == "0":
        raise MetadataError("wrong number of bits", path=path, expected="r<bits>, bits a multiple of 8 above 0", got=name)
    return bits // 8


def _raw_length(configuration: Mapping[str, Any], path: str) -> int:
    if set(configuration) != {"length_bytes"}:
        raise MetadataError("wrong members", path=f"{path}.configuration", expected="length_bytes", got=sorted(configuration))
    length = configuration["length_bytes"]
    where = f"{path}.configuration.length_bytes"
    if type(length) is not int or length < 1:
        raise MetadataError("wrong value", path=where, expected="an integer above 0", got=shown(length))
    if length > MAX_RAW_BYTES:
        raise LimitError("an element that is too large", path=where, field="itemsize", got=length, limit=MAX_RAW_BYTES)
    return length


def from_numpy(dtype: Any) -> FixedType:
    """The type for whatever NumPy takes as one, in any byte order, or for a name of metadata.

    NumPy's void types become raw bits spelled "raw_bytes", which more libraries read; the name "r24" stays "r24".

    >>> from_numpy(">u2").name, from_numpy(int).name, from_numpy("bfloat16").name
    ('uint16', 'int64', 'bfloat16')
    """
    if isinstance(dtype, FixedType):
        return dtype
    if isinstance(dtype, str) and (dtype in _BY_NAME or re.fullmatch(r"r[0-9]+", dtype)):
        return _parse_callers(dtype)
    numpy = _numpy(dtype)
    if numpy.kind == "V" and type(numpy) is np.dtypes.VoidDType and not numpy.fields and not numpy.subdtype and numpy.itemsize:
        return raw(numpy.itemsize, RAW_BYTES)
    for row in data_types:
        if numpy in (row.numpy, row.numpy.newbyteorder()):
            return row
    raise DataTypeError("a NumPy type without counterpart", field="dtype", expected=_known(), got=str(numpy), hint=_hint(numpy))


def _parse_callers(name: str) -> FixedType:
    try:
        return parse_data_type(name)
    except (MetadataError, LimitError) as cause:  # the caller's fault here, not a document's
        raise DataTypeError(cause.message, field="dtype", expected=cause.expected, got=name, limit=cause.limit) from cause


def _numpy(dtype: Any) -> np.dtype[Any]:
    if dtype is None:  # NumPy would read it as float64
        raise DataTypeError("no data type", field="dtype", expected=_known(), got="None")
    try:
        return dtype.dtype if isinstance(dtype, np.generic) else np.dtype(dtype)
    except (TypeError, ValueError, KeyError, SyntaxError) as cause:
        hint = registry.data_types.hint(dtype) if isinstance(dtype, str) else None
        raise DataTypeError("not a data type", field="dtype", expected=_known(), got=shown(dtype), hint=hint) from cause


def _known() -> str:
    return ", ".join([*_BY_NAME, "r<bits>"])


def _hint(numpy: np.dtype[Any]) -> str:
    if numpy.kind in "mM":
        return "View the data as int64 and give the unit in an attribute"
    if numpy.kind in "OSUT":
        return "Text and Python objects are not supported"
    if numpy.fields or numpy.subdtype:
        return "Store each field in an array of its own, or view the elements as raw bits (np.dtype('V<bytes>'))"
    return "Convert the data to one of these types first"
