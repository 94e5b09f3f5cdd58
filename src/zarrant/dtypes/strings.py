"""Text and bytes: of fixed length, padded with zeros, and of any length.

| name                                | in memory         | fill value in JSON |
|-------------------------------------|-------------------|--------------------|
| `fixed_length_utf32`                | `U<n>`            | a string           |
| `null_terminated_bytes`             | `S<n>`            | base64             |
| `string`                            | `StringDType`     | a string           |
| `bytes`, `variable_length_bytes`    | objects (`bytes`) | base64             |

What is longer than its element, or ends with the zeros that NumPy takes for padding, is refused: nothing is cut off. Text is
not taken for bytes, nor bytes for text.
"""

from __future__ import annotations

import base64
import binascii
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.dtypes import values
from zarrant.dtypes.base import Array, Fill
from zarrant.dtypes.fixed import FixedType, check_members, parse_data_type, positive, refuse_configuration
from zarrant.errors import DataTypeError, MetadataError, ShapeError, shown
from zarrant.metadata.v3 import Named

_UTF32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"
TEXT = np.dtypes.StringDType()
_OBJECTS = np.dtype(object)


# ── of fixed length


@dataclass(frozen=True)
class FixedText(FixedType):
    """Text of at most `n` code points, four bytes each.

    >>> FixedText.from_numpy(np.dtype("U5")).to_json()
    {'name': 'fixed_length_utf32', 'configuration': {'length_bytes': 20}}
    """

    @classmethod
    def from_json(cls, document: Named, path: str) -> FixedText:
        """The type of a length in bytes, which is a multiple of four."""
        check_members(document, path, "length_bytes")
        length = positive(document, path, "length_bytes")
        if length % 4:
            where = f"{path}.configuration.length_bytes"
            raise MetadataError("wrong value", path=where, expected="a multiple of 4", got=length)
        return cls("fixed_length_utf32", np.dtype(f"U{length // 4}"), 4)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> FixedText | None:
        """The type for NumPy's text of fixed length."""
        if dtype.kind != "U":
            return None
        _require_length(dtype)
        return cls("fixed_length_utf32", dtype.newbyteorder("="), 4)

    @property
    def length(self) -> int:
        """Code points of one element."""
        return self.itemsize // 4

    def element_from_json(self, value: Any, path: str) -> bytes:
        """A string that is no longer than an element."""
        expected = f"a string of at most {self.length} characters"
        if not isinstance(value, str) or len(value.rstrip("\0")) > self.length:
            raise MetadataError("wrong fill value", path=path, expected=expected, got=shown(value))
        try:
            return value.rstrip("\0").encode(_UTF32).ljust(self.itemsize, b"\0")
        except UnicodeEncodeError as cause:
            raise MetadataError("text with half a character", path=path, expected=expected, got=shown(value)) from cause

    def element_from_python(self, value: Any) -> bytes:
        """A string that is no longer than an element."""
        return _one(self, value, str).tobytes()

    def fill_to_json(self, data: bytes) -> Any:
        """The text without its padding."""
        return data.decode(_UTF32).rstrip("\0")

    def from_objects(self, data: Any) -> Array:
        """Strings and lists of them."""
        return _from_objects(data, str, self.name, padded=True)

    def cast(self, array: Array) -> Array:
        """Text that fits."""
        if array.dtype.kind in "OT":
            array = _from_objects(array, str, self.name, padded=True)
        if array.dtype.kind != "U":
            raise values.wrong_kind(array.dtype, self)
        return _fitted(array, self, self.length, "characters")

    def to_json(self) -> dict[str, Any]:
        """Name and length."""
        return {"name": self.name, "configuration": {"length_bytes": self.itemsize}}


@dataclass(frozen=True)
class FixedBytes(FixedType):
    """At most `n` bytes, without zeros at their end.

    >>> FixedBytes.from_numpy(np.dtype("S5")).to_json()
    {'name': 'null_terminated_bytes', 'configuration': {'length_bytes': 5}}
    """

    @classmethod
    def from_json(cls, document: Named, path: str) -> FixedBytes:
        """The type of a length in bytes."""
        check_members(document, path, "length_bytes")
        return cls("null_terminated_bytes", np.dtype(f"S{positive(document, path, 'length_bytes')}"), 1)

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> FixedBytes | None:
        """The type for NumPy's bytes of fixed length."""
        if dtype.kind != "S":
            return None
        _require_length(dtype)
        return cls("null_terminated_bytes", dtype, 1)

    def element_from_json(self, value: Any, path: str) -> bytes:
        """Base64 of bytes that are no longer than an element."""
        data = _from_base64(value)
        if data is None or len(data.rstrip(b"\0")) > self.itemsize:
            expected = f"at most {self.itemsize} bytes as base64"
            raise MetadataError("wrong fill value", path=path, expected=expected, got=shown(value))
        return data.rstrip(b"\0").ljust(self.itemsize, b"\0")

    def element_from_python(self, value: Any) -> bytes:
        """Bytes that are no longer than an element."""
        return _one(self, value, bytes).tobytes()

    def fill_to_json(self, data: bytes) -> Any:
        """Base64 of the bytes without their padding."""
        return base64.b64encode(data.rstrip(b"\0")).decode("ascii")

    def from_objects(self, data: Any) -> Array:
        """Bytes and lists of them."""
        return _from_objects(data, bytes, self.name, padded=True)

    def cast(self, array: Array) -> Array:
        """Bytes that fit."""
        if array.dtype.kind == "O":
            array = _from_objects(array, bytes, self.name, padded=True)
        if array.dtype.kind != "S":
            raise values.wrong_kind(array.dtype, self)
        return _fitted(array, self, self.itemsize, "bytes")

    def to_json(self) -> dict[str, Any]:
        """Name and length."""
        return {"name": self.name, "configuration": {"length_bytes": self.itemsize}}


def _require_length(dtype: np.dtype[Any]) -> None:
    if not dtype.itemsize:
        hint = "Give the length, as in 'U12' or 'S12', or take 'string' (or 'bytes') for elements of any length"
        raise DataTypeError("text of no length", field="dtype", expected="a length above 0", got=str(dtype), hint=hint)


def _one(data_type: FixedType | VariableType, value: Any, kind: type[str] | type[bytes]) -> Array:
    """A caller's fill value as an element."""
    if not isinstance(value, kind):
        expected = f"{kind.__name__} ({data_type.name})"
        raise DataTypeError("a fill value that the data type cannot hold", field="fill_value", expected=expected, got=shown(value))
    try:
        return data_type.as_values(value, data_type.default_fill())
    except DataTypeError as error:
        raise error.annotate(field="fill_value") from error.__cause__


def _fitted(array: Array, data_type: FixedType, length: int, what: str) -> Array:
    lengths = np.strings.str_len(array)
    if array.size and (longest := int(lengths.max())) > length:
        variable = "string" if what == "characters" else "bytes"
        hint = f"Nothing was stored: take a longer data type, or one of any length ({variable})"
        got, expected = f"{longest} {what}", f"at most {length} {what}"
        raise DataTypeError("an element that is too long", expected=expected, got=got, hint=hint)
    return array.astype(data_type.numpy)


# ── of any length


@dataclass(frozen=True)
class VariableFill:
    """A fill value of any length."""

    data_type: VariableType
    value: str | bytes

    @property
    def element(self) -> Array:
        """One element, as a read-only array without dimensions."""
        element = np.empty((), self.data_type.numpy)
        element[()] = self.value
        element.flags.writeable = False
        return element

    @property
    def scalar(self) -> Any:
        """One element: `str` or `bytes`."""
        return self.value

    def full(self, shape: Sequence[int]) -> Array:
        """A read-only array of fill elements; it takes no memory for them."""
        return np.broadcast_to(self.element, tuple(shape))

    def equals(self, rows: Array) -> npt.NDArray[np.bool_]:
        """Say of each row (n, *shape) whether all its elements are the fill value."""
        if not rows.size:
            return np.ones(len(rows), np.bool_)
        first: tuple[Any, ...] = (slice(None), *(0 for _ in rows.shape[1:]))
        same: npt.NDArray[np.bool_] = np.array(rows[first] == self.element, np.bool_)
        for i in np.flatnonzero(same):  # mostly none: the first element says it
            same[i] = np.all(rows[i, ...] == self.element)
        return same

    def to_json(self) -> Any:
        """A string; base64 for bytes."""
        return self.value if isinstance(self.value, str) else base64.b64encode(self.value).decode("ascii")


@dataclass(frozen=True)
class VariableType(ABC):
    """Elements of any length: what text and bytes have in common."""

    name: str
    numpy: ClassVar[np.dtype[Any]]
    kind: ClassVar[type[str] | type[bytes]]
    itemsize: ClassVar[None] = None
    serializer: ClassVar[str]
    """The codec that stores such elements where nobody chooses another."""
    word: ClassVar[int] = 1

    @classmethod
    def from_json(cls, document: Named, path: str) -> VariableType:
        """The type has no configuration."""
        refuse_configuration(document, path)
        return cls(document.name)

    def fill_from_python(self, value: Any) -> VariableFill:
        """The fill value for a caller's scalar; None is the empty one."""
        if value is None:
            return self.default_fill()
        item = _one(self, value, self.kind)[()]
        return VariableFill(self, str(item) if self.kind is str else bytes(item))

    def default_fill(self) -> VariableFill:
        """The empty text, or no bytes."""
        return VariableFill(self, self.kind())

    def as_values(self, data: Any, fill: Fill) -> Array:
        """Data as an array of the type; masked elements become `fill`. DataTypeError for elements of another kind."""
        array = values.as_values(data, self, fill)
        return self.cast(array) if array is data and array.dtype == _OBJECTS else array

    def to_json(self) -> str:
        """The name."""
        return self.name

    @abstractmethod
    def from_objects(self, data: Any) -> Array:
        """Python scalars and lists of them as an array."""

    @abstractmethod
    def cast(self, array: Array) -> Array:
        """An array of another NumPy type as one of this; DataTypeError where an element does not fit."""

    def __reduce__(self) -> tuple[Any, ...]:
        return parse_data_type, (self.name,)


class Text(VariableType):
    """`string`: Unicode text, in memory NumPy's StringDType.

    >>> Text("string").as_values(["a", "longer"], Text("string").default_fill()).tolist()
    ['a', 'longer']
    """

    numpy = TEXT
    kind = str
    serializer = "vlen-utf8"

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> Text | None:
        """The type for StringDType."""
        return cls("string") if dtype.kind == "T" else None

    def fill_from_json(self, value: Any, path: str = "$.fill_value") -> VariableFill:
        """A string."""
        if not isinstance(value, str) or not _is_whole(value):
            raise MetadataError("wrong fill value", path=path, expected="a string", got=shown(value))
        return VariableFill(self, value)

    def from_objects(self, data: Any) -> Array:
        """Strings and lists of them."""
        return _from_objects(data, str, self.name)

    def cast(self, array: Array) -> Array:
        """Text of any NumPy type."""
        if array.dtype.kind == "O":
            return _from_objects(array, str, self.name)
        if array.dtype.kind not in "UT":
            raise values.wrong_kind(array.dtype, self)
        if hasattr(array.dtype, "na_object") and _has_missing(array):
            hint, got = 'Say what it is: "" or another text', repr(array.dtype.na_object)
            raise DataTypeError("missing text", expected=self.name, got=got, hint=hint)
        try:
            return array.astype(TEXT)
        except (TypeError, ValueError) as error:
            raise DataTypeError("text with half a character", expected=self.name, got=shown(str(error))) from error


class AnyBytes(VariableType):
    """`bytes`, also called `variable_length_bytes`: in memory an array of objects."""

    numpy = _OBJECTS
    kind = bytes
    serializer = "vlen-bytes"

    def fill_from_json(self, value: Any, path: str = "$.fill_value") -> VariableFill:
        """Base64, or a list of bytes."""
        data = _from_base64(value)
        if isinstance(value, list) and all(type(byte) is int and 0 <= byte <= 255 for byte in value):
            data = bytes(value)
        if data is None:
            expected = "base64, or a list of integers in 0..255"
            raise MetadataError("wrong fill value", path=path, expected=expected, got=shown(value))
        return VariableFill(self, data)

    def from_objects(self, data: Any) -> Array:
        """Bytes and lists of them."""
        return _from_objects(data, bytes, self.name)

    def cast(self, array: Array) -> Array:
        """Bytes of any NumPy type."""
        if array.dtype.kind not in "OS":
            raise values.wrong_kind(array.dtype, self)
        return _from_objects(array, bytes, self.name)


def _from_objects(data: Any, kind: type[str] | type[bytes], name: str, padded: bool = False) -> Array:
    """Strings (or bytes) and lists of them as an array; `padded`: zeros at the end would be taken for padding."""
    try:
        array = np.asarray(data, object)
    except ValueError as error:
        raise ShapeError("the data is a ragged list", expected="lists of equal length", got=type(data).__name__) from error
    items = array.reshape(-1).tolist()
    wrong = next((item for item in items if not isinstance(item, kind)), None) if items else None
    if wrong is not None or None in items:
        raise DataTypeError(f"an element that is not {kind.__name__}", expected=name, got=shown(wrong))
    if kind is str and (halves := _halves(items)):
        raise DataTypeError("text with half a character", expected=name, got=shown(halves[0]))
    if not padded:
        if kind is bytes:
            return array
        return np.array(items, TEXT).reshape(array.shape)
    zero: Any = "\0" if kind is str else b"\0"
    if any(item.endswith(zero) for item in items):
        hint = "Its elements are padded with zeros, so these could not be distinguished from padding"
        raise DataTypeError("an element that ends with a zero", expected=name, got="a zero at the end", hint=hint)
    return np.array(items, "U" if kind is str else "S").reshape(array.shape)


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _halves(items: Iterable[str]) -> list[str]:
    return [item for item in items if not item.isascii() and not _is_whole(item)]


def _has_missing(array: Array) -> bool:
    return any(not isinstance(item, str) for item in array.reshape(-1).tolist())


def _from_base64(value: Any) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
