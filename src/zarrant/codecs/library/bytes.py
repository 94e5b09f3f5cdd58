"""bytes: the elements one after the other.

The rows of a batch are C-contiguous in native byte order; `Bytes` adds a byte swap to the program where the stored order is
the other one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.codecs.configuration import check_members, choice
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind, Step
from zarrant.errors import MetadataError
from zarrant.kernels import reference
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

ENDIANS = ("little", "big")


@dataclass(frozen=True, slots=True)
class Bytes:
    """Elements one after the other in C order; `endian` is "little", "big", or None for types of one-byte units.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/bytes/

    >>> Bytes("big").to_json()["configuration"]
    {'endian': 'big'}
    """

    endian: str | None = "little"
    name: ClassVar[str] = "bytes"
    kind: ClassVar[Kind] = "array_to_bytes"

    def __post_init__(self) -> None:
        if self.endian is not None:
            choice(self.endian, "endian", ENDIANS)

    @classmethod
    def from_json(cls, document: Named, path: str) -> Bytes:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=("endian",))
        if "endian" not in document.configuration:
            return cls(None)
        return cls(choice(document.configuration["endian"], f"{path}.configuration.endian", ENDIANS))

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name} if self.endian is None else {"name": self.name, "configuration": {"endian": self.endian}}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """As many bytes as the elements have. Types of more than one byte need an order."""
        # "Required for data types for which endianness is applicable [...] but not single-byte data types"
        if self.endian is None and spec.data_type.word > 1:
            raise MetadataError(
                f"the byte order of {spec.data_type.name} must be given",
                path="$.configuration",
                expected="endian: little | big",
                got="no endian",
            )
        if spec.data_type.itemsize is None:
            message = f"elements of {spec.data_type.name} have no size of their own"
            raise MetadataError(message, codec=self.name, expected="a data type of fixed size", got=spec.data_type.name)
        return BytesSpec(spec.nbytes, spec.data_type.itemsize)

    def steps(self, spec: ArraySpec) -> tuple[Step, ...] | None:
        """A byte swap, where one is needed; None where the parts of an element have words of several sizes."""
        word = spec.data_type.word
        if word == 1 or self.endian in (None, sys.byteorder):
            return ()
        return ((kernels.SWAP, word),) if word else None

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The bytes of the elements in C order: "Array elements are encoded in lexicographical order." """
        steps = self.steps(spec)
        if steps is None:
            array, steps = array.astype(spec.data_type.numpy.newbyteorder("S")), ()
        data: Buffer = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        for step in steps:
            data = reference.encode_step(step, data)
        return data

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The elements; ValueError where the bytes are not as many as they have."""
        if len(data) != spec.nbytes:
            raise ValueError(f"decodes to {len(data)} bytes, expected {spec.nbytes}")
        steps = self.steps(spec)
        if steps is None:
            swapped = np.frombuffer(data, spec.data_type.numpy.newbyteorder("S"))
            return swapped.astype(spec.data_type.numpy).reshape(spec.shape)
        for step in steps:
            data = reference.decode_step(step, data, spec.nbytes)
        return np.frombuffer(data, spec.data_type.numpy).reshape(spec.shape)
