"""vlen-utf8 and vlen-bytes: elements of variable size, each after its length.

The layout is the one of numcodecs: the number of elements, then for each its length in bytes and its bytes; numbers are unsigned
integers of 32 bits, little-endian. Nothing that is read is believed: the count must be that of the chunk, no length may reach
over the end, nothing may follow, and text must be UTF-8. So no more memory is asked for than the bytes that are there explain.

Sources: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/vlen-utf8 and .../vlen-bytes
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind
from zarrant.errors import DataTypeError, MetadataError
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

E = TypeVar("E", str, bytes)
LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class _Vlen:
    """What both codecs share."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = "array_to_bytes"
    kinds: ClassVar[str]
    """The kinds of NumPy types whose elements it takes."""
    elements: ClassVar[str]

    @classmethod
    def from_json(cls, document: Named, path: str) -> Self:
        """Read the codec from its name and configuration, which has no members."""
        check_members(document, path)
        return cls()

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {}}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """Bytes, of a size that depends on the elements; only types of variable size have them."""
        if spec.data_type.itemsize is not None or spec.data_type.numpy.kind not in self.kinds:
            raise MetadataError(
                f"{self.name} cannot store this data type", codec=self.name, expected=self.elements, got=spec.data_type.name
            )
        return BytesSpec(None)


def _elements(array: npt.NDArray[np.generic], kind: type[E], words: str) -> list[E]:
    """The elements of a chunk in C order; DataTypeError for one that is of another kind."""
    elements: list[E] = array.reshape(-1).tolist()
    for element in elements:
        if not isinstance(element, kind):
            raise DataTypeError(f"not {words}", expected=kind.__name__, got=type(element).__name__)
    return elements


def _joined(elements: Sequence[bytes]) -> bytes:
    """The elements in the layout above."""
    parts: list[bytes] = [LENGTH.pack(len(elements))]
    for element in elements:
        if len(element) >= 2**32:
            raise DataTypeError("an element is too large", expected="less than 4 GiB", got=f"{len(element)} bytes")
        parts += (LENGTH.pack(len(element)), element)
    return b"".join(parts)


def _split(data: Buffer, n: int) -> list[bytes]:
    """The `n` elements of bytes in the layout above; ValueError where the bytes are not exactly these."""
    whole = bytes(data)
    if len(whole) < LENGTH.size + n * LENGTH.size:
        raise ValueError(f"{len(whole)} bytes are too few for the lengths of {n} elements")
    # "each chunk is prefixed with a 32-bit little-endian unsigned integer (u32le) that specifies the number of elements"
    (count,) = LENGTH.unpack_from(whole)
    if count != n:
        raise ValueError(f"holds {count} elements, expected {n}")
    at, elements = LENGTH.size, []
    for i in range(n):
        if at + LENGTH.size > len(whole):
            raise ValueError(f"ends before the length of element {i}")
        (length,) = LENGTH.unpack_from(whole, at)
        at += LENGTH.size
        if length > len(whole) - at:
            raise ValueError(f"element {i} of {length} bytes reaches over the end, {len(whole) - at} bytes on")
        elements.append(whole[at : at + length])
        at += length
    if at != len(whole):
        raise ValueError(f"{len(whole) - at} bytes follow after the last element")
    return elements


@dataclass(frozen=True, slots=True)
class VlenUtf8(_Vlen):
    """Text as UTF-8.

    >>> VlenUtf8().to_json()
    {'name': 'vlen-utf8', 'configuration': {}}
    """

    name: ClassVar[str] = "vlen-utf8"
    kinds: ClassVar[str] = "TO"
    elements: ClassVar[str] = "text of variable length"

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The texts one after the other, each after its length; DataTypeError for what is no text."""
        return _joined([element.encode() for element in _elements(array, str, "a text")])

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The texts; ValueError where the bytes are not exactly these."""
        texts = [element.decode() for element in _split(data, math.prod(spec.shape))]
        return np.array(texts, spec.data_type.numpy).reshape(spec.shape)


@dataclass(frozen=True, slots=True)
class VlenBytes(_Vlen):
    """Runs of bytes as they are.

    >>> VlenBytes().to_json()
    {'name': 'vlen-bytes', 'configuration': {}}
    """

    name: ClassVar[str] = "vlen-bytes"
    kinds: ClassVar[str] = "O"
    elements: ClassVar[str] = "bytes of variable length"

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The elements one after the other, each after its length; DataTypeError for what is not bytes."""
        return _joined(_elements(array, bytes, "bytes"))

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The elements; ValueError where the bytes are not exactly these."""
        found = np.empty(math.prod(spec.shape), np.object_)
        found[:] = _split(data, math.prod(spec.shape))
        return found.reshape(spec.shape)
