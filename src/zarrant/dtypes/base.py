"""What a data type is, and what a fill value is.

A data type says how one element looks in memory and in storage, and which values it takes. It is found by the name that a
document has for it (`parse_data_type`) or by what a caller gives (`fixed.from_numpy`). Wrong JSON ends in `MetadataError`
with the path, a wrong Python value in `DataTypeError`.

A fill value belongs to one data type. It is compared bitwise where elements have a fixed size: NaN payloads and the sign of
zero count. It comes from JSON or from Python, and goes back to either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.errors import DataTypeError

Array = npt.NDArray[Any]


@runtime_checkable
class Fill(Protocol):
    """The fill value of a data type: what elements are that were never written. Frozen, hashable, and it can be pickled."""

    @property
    def element(self) -> Array:
        """One element, as a read-only array without dimensions."""
        ...

    @property
    def scalar(self) -> Any:
        """One element as a NumPy (or Python) scalar."""
        ...

    def full(self, shape: Sequence[int]) -> Array:
        """A read-only array of fill elements; it takes no memory for them."""
        ...

    def equals(self, rows: Array) -> npt.NDArray[np.bool_]:
        """Say of each row (n, *shape) whether all its elements are the fill value."""
        ...

    def to_json(self) -> Any:
        """The fill value that a document takes; `DataType.fill_from_json` gives back an equal one."""
        ...


@runtime_checkable
class DataType(Protocol):
    """A data type: what arrays ask of the type of their elements."""

    @property
    def name(self) -> str:
        """Its name in metadata."""
        ...

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type of elements in memory, in native byte order."""
        ...

    @property
    def itemsize(self) -> int | None:
        """Stored bytes of one element; None where they differ from element to element."""
        ...

    @property
    def word(self) -> int:
        """Bytes of the unit that a change of byte order reverses: 1 where it means nothing, 0 for units of several sizes."""
        ...

    def fill_from_json(self, value: Any, path: str = "$.fill_value") -> Fill:
        """The fill value of a document; MetadataError where the type has no such value."""
        ...

    def fill_from_python(self, value: Any) -> Fill:
        """The fill value for a caller's scalar; None is the default. DataTypeError where the type cannot hold it."""
        ...

    def default_fill(self) -> Fill:
        """Zero, false, or the empty text."""
        ...

    def as_values(self, data: Any, fill: Fill) -> Array:
        """Data as an array of the type, a view where possible; masked elements become `fill`.

        DataTypeError for what the type cannot hold: nothing is wrapped, clamped or cut off.
        """
        ...

    def to_json(self) -> str | dict[str, Any]:
        """The form for metadata: a name, or an object with name and configuration."""
        ...


class FixedSize(Protocol):
    """A data type whose elements all have `itemsize` bytes, in memory as stored."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def numpy(self) -> np.dtype[Any]: ...  # noqa: D102

    @property
    def itemsize(self) -> int: ...  # noqa: D102

    def fill_to_json(self, data: bytes) -> Any:
        """The JSON form of one element, given as its bytes in native byte order."""
        ...


@dataclass(frozen=True)
class FixedFill:
    """A fill value of fixed size: `data` are the bytes of one element in native byte order, and every bit counts."""

    data_type: FixedSize
    data: bytes

    def __post_init__(self) -> None:
        if len(self.data) != self.data_type.itemsize:
            expected, got = f"{self.data_type.itemsize} bytes", f"{len(self.data)} bytes"
            raise DataTypeError("not one element", field="fill", expected=expected, got=got)

    @property
    def element(self) -> Array:
        """One element, as a read-only array without dimensions."""
        return np.ndarray((), self.data_type.numpy, self.data)

    @property
    def scalar(self) -> Any:
        """One element as a NumPy scalar."""
        return self.element[()]

    def full(self, shape: Sequence[int]) -> Array:
        """A read-only array of fill elements; it takes no memory for them."""
        return np.broadcast_to(self.element, tuple(shape))

    def equals(self, rows: Array) -> npt.NDArray[np.bool_]:
        """Say of each row (n, *shape) whether all its elements are the fill value, bit by bit."""
        flat = np.ascontiguousarray(rows).reshape(len(rows), math.prod(rows.shape[1:]))
        return kernels.equals_fill(flat.view(np.uint8), self.data)

    def to_json(self) -> Any:
        """The fill value that a document takes; `fill_from_json` of the type gives back the same bytes."""
        return self.data_type.fill_to_json(self.data)
