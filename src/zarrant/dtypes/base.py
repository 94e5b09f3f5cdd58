"""What a data type is: the shape of one element in memory, and its fill values in three forms.

A fill value is kept as the bytes of one element in native byte order, because fill comparison is bitwise: NaN payloads and
the sign of zero count. It comes from JSON (documents) or from Python (callers) and goes back to either. `bind` finds the
type that a document names. Wrong JSON ends in `MetadataError` with the path, a wrong Python value in `DataTypeError`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from zarrant import registry


@runtime_checkable
class DataType(Protocol):
    """A data type whose elements all have the same size."""

    @property
    def name(self) -> str:
        """Its name in metadata."""
        ...

    @property
    def kind(self) -> str:
        """The family: "bool", "int", "uint", "float", "complex" or "raw"."""
        ...

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type of elements in memory, in native byte order."""
        ...

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        ...

    @property
    def word(self) -> int:
        """Bytes of the unit that a change of byte order reverses; 1 where byte order means nothing."""
        ...

    def fill_from_json(self, value: Any, path: str = "$.fill_value") -> bytes:
        """One element from a document's fill value."""
        ...

    def fill_to_json(self, fill: bytes) -> Any:
        """The fill value that a document takes; `fill_from_json` gives back the same bytes."""
        ...

    def fill_from_python(self, value: Any) -> bytes:
        """One element from a caller's scalar, under NumPy's `same_kind` rule; None is the default."""
        ...

    def fill_scalar(self, fill: bytes) -> Any:
        """One element as a NumPy scalar."""
        ...

    def default_fill(self) -> bytes:
        """Zero, or false."""
        ...

    def to_document(self) -> str | dict[str, Any]:
        """The form for metadata: a name, or an object with name and configuration."""
        ...


def bind(name: str, configuration: Mapping[str, Any] | None = None, path: str = "$.data_type") -> DataType:
    """The data type that a document names; UnknownExtensionError where none has that name.

    >>> bind("uint16").itemsize
    2
    """
    parse = registry.data_types.resolve(name, path)
    return cast("DataType", parse(registry.data_types.canonical(name), configuration or {}, path))
