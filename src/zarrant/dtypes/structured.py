"""Records: `struct`, elements made of named fields of fixed size, packed one after the other.

Also read is `structured`, the older name: fields as pairs, fill values as base64 of the packed bytes. What is given as data
has the same field names in the same order, and each field takes what a data type of its own would take.
https://github.com/zarr-developers/zarr-extensions/tree/main/data-types/struct
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from zarrant.dtypes.base import Array, FixedFill
from zarrant.dtypes.fixed import FixedType, check_members, from_numpy, parse_data_type
from zarrant.errors import DataTypeError, MetadataError, ShapeError, shown
from zarrant.limits import LIMITS, require
from zarrant.metadata.json_text import member
from zarrant.metadata.v3 import Named

MIXED = 0
"""The `word` of elements whose parts have words of different sizes."""


@dataclass(frozen=True)
class Field:
    """One field of a record."""

    name: str
    data_type: FixedType

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type of its elements."""
        return self.data_type.numpy


@dataclass(frozen=True)
class Struct(FixedType):
    """Records of named fields.

    >>> struct = Struct.from_numpy(np.dtype([("x", "f4"), ("n", "u1")]))
    >>> struct.itemsize, struct.default_fill().to_json()
    (5, {'x': 0.0, 'n': 0})
    """

    fields: tuple[Field, ...] = field(default=(), repr=False)

    @classmethod
    def from_json(cls, document: Named, path: str) -> Struct:
        """The type of a list of fields; their names are not empty, and no two are equal."""
        check_members(document, path, "fields")
        given, where = document.configuration["fields"], f"{path}.configuration.fields"
        if not isinstance(given, list | tuple) or not given:
            raise MetadataError("wrong value", path=where, expected="a list of at least one field", got=shown(given))
        fields: dict[str, Field] = {}
        for i, item in enumerate(given):
            name, data_type = _field(item, f"{where}[{i}]")
            if name in fields:
                raise MetadataError("two fields of one name", path=f"{where}[{i}]", expected="names that differ", got=shown(name))
            fields[name] = Field(name, data_type)
        size = sum(item.data_type.itemsize for item in fields.values())
        require(size, LIMITS.element, "an element that is too large", "itemsize", where)
        found = _struct(tuple(fields.values()))
        # "Arrays where the `bytes` codec has no `endian` configuration MUST be treated as little-endian", of this name alone:
        # https://github.com/zarr-developers/zarr-extensions/tree/main/data-types/structured
        return replace(found, word=MIXED) if document.name == "structured" else found

    @classmethod
    def from_numpy(cls, dtype: np.dtype[Any]) -> Struct | None:
        """The type for NumPy's records; padding between fields is not stored."""
        if dtype.names is None or dtype.fields is None:
            return None
        _check_layout(dtype)
        return _struct(tuple(Field(name, _field_type(name, dtype.fields[name][0])) for name in dtype.names))

    def element_from_json(self, value: Any, path: str) -> bytes:
        """An object with a fill value for each field; base64 of the packed (little-endian) bytes is read too."""
        if isinstance(value, str):
            return self._from_base64(value, path)
        if not isinstance(value, dict):
            raise MetadataError("wrong fill value", path=path, expected=f"an object with {self._names()}", got=shown(value))
        for name in value.keys() - {item.name for item in self.fields}:
            raise MetadataError("no field of this name", path=member(path, name), expected=self._names(), got=shown(name))
        parts = []
        for item in self.fields:
            where = member(path, item.name)
            if item.name not in value:
                raise MetadataError("a field without fill value", path=where, expected="a value", got="nothing")
            parts.append(item.data_type.element_from_json(value[item.name], where))
        return b"".join(parts)

    def _from_base64(self, value: str, path: str) -> bytes:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            data = b""
        if len(data) != self.itemsize:
            expected = f"an object with {self._names()}, or {self.itemsize} bytes as base64"
            raise MetadataError("wrong fill value", path=path, expected=expected, got=shown(value))
        return np.frombuffer(data, self.numpy.newbyteorder("<")).astype(self.numpy).tobytes()

    def element_from_python(self, value: Any) -> bytes:
        """A NumPy record, a tuple, or a mapping with a value for each field."""
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, np.void) and value.dtype.names == self.numpy.names:
            items = [value[name] for name in self.numpy.names or ()]
        elif isinstance(value, Mapping) and value.keys() == {item.name for item in self.fields}:
            items = [value[item.name] for item in self.fields]
        elif isinstance(value, tuple) and len(value) == len(self.fields):
            items = list(value)
        else:
            expected = f"a record, tuple or dict of {self._names()}"
            raise DataTypeError("not a record of this type", field="fill_value", expected=expected, got=shown(value))
        return b"".join(part.data_type.element_from_python(item) for part, item in zip(self.fields, items, strict=True))

    def fill_to_json(self, data: bytes) -> Any:
        """An object with the fill value of each field."""
        ends = itertools.accumulate(item.data_type.itemsize for item in self.fields)
        starts = [0, *ends]
        return {
            item.name: item.data_type.fill_to_json(data[start : start + item.data_type.itemsize])
            for item, start in zip(self.fields, starts, strict=False)
        }

    def default_fill(self) -> FixedFill:
        """The default of each field."""
        return FixedFill(self, b"".join(item.data_type.default_fill().data for item in self.fields))

    def from_objects(self, data: Any) -> Array:
        """Tuples and lists of them."""
        if not self._are_records(data):  # NumPy would put a number into every field
            raise DataTypeError("not a record of this type", expected=f"a tuple of {self._names()}", got=shown(data))
        try:
            return np.array(data, [(item.name, object) for item in self.fields])
        except (TypeError, ValueError) as error:
            raise ShapeError("the data is a ragged list", expected="lists of equal length", got=shown(data)) from error

    def _are_records(self, data: Any) -> bool:
        if isinstance(data, list):
            return all(map(self._are_records, data))
        fields = data if isinstance(data, tuple) else data.dtype.names if isinstance(data, np.void) else None
        return fields is not None and len(fields) == len(self.fields)

    def cast(self, array: Array) -> Array:
        """Records with the same fields; each field is taken as its data type takes data."""
        if array.dtype.names != self.numpy.names:
            got = ", ".join(array.dtype.names) if array.dtype.names else str(array.dtype)
            raise DataTypeError("records of other fields", expected=self._names(), got=got)
        result = np.empty(array.shape, self.numpy)
        for item in self.fields:
            column = array[item.name]
            plain = column.tolist() if column.dtype == object else column
            try:
                result[item.name] = item.data_type.as_values(plain, item.data_type.default_fill())
            except DataTypeError as error:
                raise error.annotate(field=item.name) from error.__cause__
        return result

    def to_json(self) -> dict[str, Any]:
        """Name and fields."""
        fields = [{"name": item.name, "data_type": item.data_type.to_json()} for item in self.fields]
        return {"name": "struct", "configuration": {"fields": fields}}

    def _names(self) -> str:
        return ", ".join(item.name for item in self.fields)


def _struct(fields: tuple[Field, ...]) -> Struct:
    words = {item.data_type.word for item in fields}
    numpy = np.dtype([(item.name, item.numpy) for item in fields])
    return Struct("struct", numpy, words.pop() if len(words) == 1 else MIXED, fields)


def _field(item: Any, path: str) -> tuple[str, FixedType]:
    """Name and type of one field: an object, or a pair as in older documents."""
    if isinstance(item, list | tuple) and len(item) == 2:
        item = {"name": item[0], "data_type": item[1]}
    if not isinstance(item, dict) or item.keys() != {"name", "data_type"}:
        raise MetadataError("not a field", path=path, expected="an object with name and data_type", got=shown(item))
    name = item["name"]
    if not isinstance(name, str) or not name:
        raise MetadataError("wrong name of a field", path=f"{path}.name", expected="a non-empty string", got=shown(name))
    where = f"{path}.data_type"
    document = Named.parse(item["data_type"], where)
    data_type = parse_data_type(document.name, document.configuration, where)
    if data_type.itemsize is None:
        raise MetadataError("a field of variable size", path=where, expected="a type of fixed size", got=data_type.name)
    return name, cast("FixedType", data_type)


def _field_type(name: str, dtype: np.dtype[Any]) -> FixedType:
    hint = "Store the field in an array of its own"
    try:
        data_type = from_numpy(dtype)
    except DataTypeError as error:
        raise DataTypeError(f"field {name!r} cannot be stored", field="dtype", got=str(dtype), hint=hint) from error
    if data_type.itemsize is None:
        expected = "a type of fixed size"
        raise DataTypeError(f"field {name!r} cannot be stored", field="dtype", expected=expected, got=str(dtype), hint=hint)
    return cast("FixedType", data_type)


def _check_layout(dtype: np.dtype[Any]) -> None:
    """DataTypeError for records whose fields share bytes, have titles, or have no name."""
    assert dtype.fields is not None and dtype.names is not None
    if not all(dtype.names) or len(dtype.fields) != len(dtype.names):
        raise DataTypeError("fields without name, or with titles", field="dtype", expected="names", got=str(dtype))
    spans = sorted((dtype.fields[name][1], dtype.fields[name][0].itemsize, name) for name in dtype.names)
    for (start, size, first), (after, _, second) in itertools.pairwise(spans):
        if start + size > after:
            expected, got = "fields side by side", f"{first!r} and {second!r} share bytes"
            raise DataTypeError("fields that overlap", field="dtype", expected=expected, got=got)
