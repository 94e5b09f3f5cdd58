"""Data types of fixed size: what they have in common, and numbers and raw bits.

A `FixedType` is a frozen value. A family of types is a class of its own with a few methods: the bytes of one element from JSON
and from Python, its JSON form, and how arrays of other NumPy types become arrays of this one. Numbers are rows of `data_types`.
`parse_data_type` finds the type that a document names, `from_numpy` the one that a caller means.
"""

from __future__ import annotations

import base64
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import ml_dtypes
import numpy as np

from zarrant import extensions
from zarrant.dtypes import fill as fills
from zarrant.dtypes import values
from zarrant.dtypes.base import Array, DataType, Fill, FixedFill
from zarrant.errors import DataTypeError, LimitError, MetadataError, UnknownExtensionError, shown
from zarrant.limits import LIMITS
from zarrant.metadata.v3 import Named


@dataclass(frozen=True)
class FixedType(ABC):
    """A data type whose elements all have `itemsize` bytes, in memory as stored (but for their byte order).

    >>> from_numpy("float32").fill_from_python(float("nan")).to_json()
    'NaN'
    """

    name: str
    numpy: np.dtype[Any] = field(repr=False)
    word: int = field(repr=False)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.numpy.itemsize

    @classmethod
    @abstractmethod
    def from_json(cls, document: Named, path: str) -> FixedType:
        """The type of a name and a configuration; MetadataError (or LimitError) where the configuration is wrong."""

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> FixedType | None:
        """The type for a NumPy type, None where it is none of this family; DataTypeError where it cannot be stored."""
        return None

    @abstractmethod
    def element_from_json(self, value: Any, path: str) -> bytes:
        """One element, in native byte order, from the fill value of a document; MetadataError where it has no such form."""

    @abstractmethod
    def element_from_python(self, value: Any) -> bytes:
        """One element from a caller's scalar; DataTypeError where the type cannot hold it."""

    @abstractmethod
    def fill_to_json(self, data: bytes) -> Any:
        """The JSON form of one element; `element_from_json` gives back the same bytes."""

    @abstractmethod
    def from_objects(self, data: Any) -> Array:
        """Python scalars and lists of them as an array, which need not be of this type yet."""

    @abstractmethod
    def cast(self, array: Array) -> Array:
        """An array of another NumPy type as one of this; DataTypeError where a value does not fit."""

    def fill_from_json(self, value: Any, path: str = "$.fill_value") -> FixedFill:
        """The fill value of a document."""
        return FixedFill(self, self.element_from_json(value, path))

    def fill_from_python(self, value: Any) -> FixedFill:
        """The fill value for a caller's scalar; None is the default."""
        return self.default_fill() if value is None else FixedFill(self, self.element_from_python(value))

    def default_fill(self) -> FixedFill:
        """All bits zero: 0, false, the empty text."""
        return FixedFill(self, bytes(self.itemsize))

    def as_values(self, data: Any, fill: Fill) -> Array:
        """Data as an array of the type, a view where possible; see `dtypes.values` for what does not fit."""
        return values.as_values(data, self, fill)

    def to_json(self) -> str | dict[str, Any]:
        """The form for metadata: a name, or an object with name and configuration."""
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        document = Named.parse(self.to_json(), "$.data_type")
        return parse_data_type, (document.name, dict(document.configuration))


@dataclass(frozen=True)
class Number(FixedType):
    """A number: `kind` is "bool", "int", "uint", "float" or "complex"."""

    kind: str = "int"

    @classmethod
    def from_json(cls, document: Named, path: str) -> Number:
        """The number of a name; it has no configuration."""
        refuse_configuration(document, path)
        return _BY_NAME[document.name]

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> Number | None:
        """The number for a NumPy type in any byte order."""
        return next((row for row in data_types if dtype in (row.numpy, row.numpy.newbyteorder())), None)

    def element_from_json(self, value: Any, path: str) -> bytes:
        """See `dtypes.fill`."""
        return fills.from_json(self.kind, self.numpy, value, path)

    def element_from_python(self, value: Any) -> bytes:
        """A scalar under NumPy's `same_kind` rule."""
        return fills.from_python(self.kind, self.numpy, value)

    def fill_to_json(self, data: bytes) -> Any:
        """See `dtypes.fill`."""
        return fills.to_json(self.kind, self.numpy, data)

    def from_objects(self, data: Any) -> Array:
        """Numbers take the array's type where their values fit it."""
        return values.numbers_from_python(data, self)

    def cast(self, array: Array) -> Array:
        """Integers are checked by value, floats are rounded."""
        return values.cast_numbers(array, self)


def refuse_configuration(document: Named, path: str) -> None:
    """MetadataError where a type without configuration has one."""
    if document.configuration:
        got = dict(document.configuration)
        raise MetadataError(f"{document.name} has no configuration", path=f"{path}.configuration", expected="none", got=got)


def check_members(document: Named, path: str, *names: str) -> None:
    """MetadataError where a configuration has not just the members `names`."""
    if set(document.configuration) != set(names):
        got = sorted(document.configuration)
        raise MetadataError("wrong members", path=f"{path}.configuration", expected=", ".join(names), got=got)


def positive(document: Named, path: str, name: str, most: int = LIMITS.element, limited: str = "itemsize") -> int:
    """A member of a configuration that is an integer above 0; LimitError where it is above `most`."""
    value, where = document.configuration[name], f"{path}.configuration.{name}"
    if type(value) is not int or value < 1:
        raise MetadataError("wrong value", path=where, expected="an integer above 0", got=shown(value))
    if value > most:
        raise LimitError("an element that is too large", path=where, field=limited, got=value, limit=most)
    return value


def number(name: str, kind: str, dtype: Any) -> Number:
    """A row of a table of numbers."""
    numpy = np.dtype(dtype)
    return Number(name, numpy, numpy.itemsize // 2 if kind == "complex" else numpy.itemsize, kind)


data_types: tuple[Number, ...] = (
    number("bool", "bool", np.bool_),
    *(number(f"int{bits}", "int", f"i{bits // 8}") for bits in (8, 16, 32, 64)),
    *(number(f"uint{bits}", "uint", f"u{bits // 8}") for bits in (8, 16, 32, 64)),
    *(number(f"float{bits}", "float", f"f{bits // 8}") for bits in (16, 32, 64)),
    *(number(f"complex{bits}", "complex", f"c{bits // 8}") for bits in (64, 128)),
    number("bfloat16", "float", ml_dtypes.bfloat16),
)
"""Every number, in the order of the specification."""

_BY_NAME = {row.name: row for row in data_types}

RAW_BYTES = "raw_bytes"


@dataclass(frozen=True)
class RawBits(FixedType):
    """Elements of which nothing but their size is known."""

    kind: ClassVar = "raw"
    spelling: str = field(default="", repr=False, compare=False)
    """Raw bits have two names in use, see `raw`; equal types may be spelled differently."""

    @classmethod
    def from_json(cls, document: Named, path: str) -> RawBits:
        """`r<bits>`, or `raw_bytes` with its length."""
        if document.name == RAW_BYTES:
            check_members(document, path, "length_bytes")
            return raw(positive(document, path, "length_bytes"), RAW_BYTES)
        refuse_configuration(document, path)
        return raw(_raw_bits(document.name, path))

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> RawBits | None:
        """NumPy's void types become raw bits spelled "raw_bytes", which more libraries read."""
        plain = type(dtype) is np.dtypes.VoidDType and not dtype.fields and not dtype.subdtype and dtype.itemsize
        return raw(dtype.itemsize, RAW_BYTES) if plain else None

    def element_from_json(self, value: Any, path: str) -> bytes:
        """A list of bytes, or base64."""
        return fills.raw_from_json(self.itemsize, value, path)

    def element_from_python(self, value: Any) -> bytes:
        """Bytes of the right length."""
        return fills.raw_from_python(self.itemsize, value)

    def fill_to_json(self, data: bytes) -> Any:
        """A list of bytes; base64 where the type is spelled "raw_bytes"."""
        return base64.b64encode(data).decode("ascii") if self.spelling == RAW_BYTES else list(data)

    def from_objects(self, data: Any) -> Array:
        """Bytes and lists of them."""
        return values.numbers_from_python(data, self)

    def cast(self, array: Array) -> Array:
        """Elements that are no longer than these; they are padded with zeros."""
        longer = array.dtype.kind in "OTU" or array.dtype.itemsize > self.itemsize
        if longer or not np.can_cast(array.dtype, self.numpy, "same_kind"):
            raise values.wrong_kind(array.dtype, self)
        return array.astype(self.numpy)

    def to_json(self) -> str | dict[str, Any]:
        """The name of the core specification, or the one of zarr-extensions."""
        if self.spelling == RAW_BYTES:
            return {"name": RAW_BYTES, "configuration": {"length_bytes": self.itemsize}}
        return self.name


def raw(nbytes: int, spelling: str = "") -> RawBits:
    """Raw bits, `nbytes` an element.

    The core specification calls them `r<bits>` and wants a list of integers as fill value; zarr-python and TensorStore write
    `raw_bytes` (zarr-extensions) with a base64 string. `spelling` "raw_bytes" picks the latter for documents.
    """
    return RawBits(f"r{8 * nbytes}", np.dtype(f"V{nbytes}"), 1, spelling)


def _raw_bits(name: str, path: str) -> int:
    bits = int(name[1:]) if len(name) < 20 else 10**20
    if bits // 8 > LIMITS.element:
        raise LimitError("an element that is too large", path=path, field="itemsize", got=name, limit=LIMITS.element)
    if bits == 0 or bits % 8 or name[1] == "0":
        raise MetadataError("wrong number of bits", path=path, expected="r<bits>, bits a multiple of 8 above 0", got=name)
    return bits // 8


# ── data types by name and by NumPy type


def parse_data_type(name: str, configuration: Mapping[str, Any] | None = None, path: str = "$.data_type") -> DataType:
    """The type that a document names.

    >>> parse_data_type("r24").numpy
    dtype('V3')
    """
    found = extensions.data_types.resolve(name, path)
    return cast("DataType", found.from_json(Named(extensions.data_types.canonical(name), configuration or {}), path))


def from_numpy(dtype: Any) -> DataType:
    """The type for whatever NumPy takes as one, in any byte order, for a name of metadata, or for what a document has.

    >>> from_numpy(">u2").name, from_numpy(int).name, from_numpy("bfloat16").name
    ('uint16', 'int64', 'bfloat16')
    """
    if not isinstance(dtype, np.dtype | str | type | Mapping) and isinstance(dtype, DataType):
        return dtype
    if dtype is str or dtype is bytes or (isinstance(dtype, str) and dtype == "str"):
        dtype = "bytes" if dtype is bytes else "string"
    # Most spellings of NumPy ("u2", ">f4") are names of no data type, and looking through every installed package costs 1 ms.
    if isinstance(dtype, Mapping) or (isinstance(dtype, str) and extensions.data_types.is_registered(dtype)):
        return _parse_callers(dtype)
    try:
        numpy = _numpy(dtype)
    except DataTypeError:
        if isinstance(dtype, str) and dtype in extensions.data_types:
            return _parse_callers(dtype)
        raise
    for family in extensions.data_types.classes():
        if found := getattr(family, "from_numpy", lambda _: None)(numpy):
            if numpy.itemsize > LIMITS.element:
                message = "an element that is too large"
                raise DataTypeError(message, field="dtype", got=numpy.itemsize, limit=LIMITS.element, hint="Add a dimension")
            return cast("DataType", found)
    raise DataTypeError("a NumPy type without counterpart", field="dtype", expected=_known(), got=str(numpy), hint=_hint(numpy))


def _parse_callers(dtype: str | Mapping[str, Any]) -> DataType:
    try:
        document = Named.parse(dtype if isinstance(dtype, str) else dict(dtype), "dtype")
        return parse_data_type(document.name, document.configuration, "dtype")
    except UnknownExtensionError:
        raise
    except (MetadataError, LimitError) as cause:  # the caller's fault here, not a document's
        raise DataTypeError(cause.message, field="dtype", expected=cause.expected, got=dtype, limit=cause.limit) from cause


def _numpy(dtype: Any) -> np.dtype[Any]:
    if dtype is None:  # NumPy would read it as float64
        raise DataTypeError("no data type", field="dtype", expected=_known(), got="None")
    try:
        return dtype.dtype if isinstance(dtype, np.generic) else np.dtype(dtype)
    except (TypeError, ValueError, KeyError, SyntaxError) as cause:
        hint = extensions.data_types.hint(dtype) if isinstance(dtype, str) else None
        raise DataTypeError("not a data type", field="dtype", expected=_known(), got=shown(dtype), hint=hint) from cause


def _known() -> str:
    return ", ".join(extensions.data_types.names())


def _hint(numpy: np.dtype[Any]) -> str:
    if numpy.kind == "O":
        return "Say what the objects are: 'string' for text, 'bytes' for bytes"
    if numpy.subdtype:
        return "Give the array more dimensions instead"
    return "Convert the data to one of these types first"
