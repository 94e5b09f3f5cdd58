"""vlen-utf8 and vlen-bytes: elements of variable size, each after its length; `kernels.elements` has the layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.configuration import check_members
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind
from zarrant.errors import DataTypeError, MetadataError
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer


@dataclass(frozen=True, slots=True)
class _Vlen:
    """What both codecs share."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = "array_to_bytes"
    kinds: ClassVar[str]
    """The kinds of NumPy types whose elements it takes."""
    elements: ClassVar[str]
    element: ClassVar[type[str] | type[bytes]]

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

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The elements one after the other, each after its length; DataTypeError for what is of another kind."""
        try:
            return kernels.encode_elements(array, self.element)
        except TypeError as error:
            message = "not a text" if self.element is str else "not bytes"
            raise DataTypeError(message, expected=self.element.__name__, got=str(error)) from error

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The elements; ValueError where the bytes are not exactly these."""
        out: npt.NDArray[np.generic] = np.empty(spec.shape, spec.data_type.numpy)
        self.decode_into(data, out)
        return out

    def decode_into(self, data: Buffer, out: npt.NDArray[np.generic]) -> None:
        """Store the elements in an array of their number; ValueError, and nothing is stored, where the bytes are not these."""
        kernels.decode_elements(data, out, self.element)


@dataclass(frozen=True, slots=True)
class VlenUtf8(_Vlen):
    """Text as UTF-8.

    >>> VlenUtf8().to_json()
    {'name': 'vlen-utf8', 'configuration': {}}
    """

    name: ClassVar[str] = "vlen-utf8"
    kinds: ClassVar[str] = "TO"
    elements: ClassVar[str] = "text of variable length"
    element: ClassVar[type[str] | type[bytes]] = str


@dataclass(frozen=True, slots=True)
class VlenBytes(_Vlen):
    """Runs of bytes as they are.

    >>> VlenBytes().to_json()
    {'name': 'vlen-bytes', 'configuration': {}}
    """

    name: ClassVar[str] = "vlen-bytes"
    kinds: ClassVar[str] = "O"
    elements: ClassVar[str] = "bytes of variable length"
    element: ClassVar[type[str] | type[bytes]] = bytes
