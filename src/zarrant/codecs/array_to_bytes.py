"""Array-to-bytes codecs of leaf chunks: bytes. (Sharding, the other one, has a room of its own.)

The rows of a batch are C-contiguous in native byte order; `Bytes` adds a byte swap to the program where the stored order is
the other one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from zarrant import kernels
from zarrant.codecs.base import ChunkSpec, Step
from zarrant.codecs.documents import check_members, choice
from zarrant.errors import MetadataError, UnknownExtensionError
from zarrant.metadata.v3 import Named

ENDIANS = ("little", "big")


@dataclass(frozen=True, slots=True)
class Bytes:
    """Elements one after the other in C order; `endian` is "little", "big", or None for types of one-byte units.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/bytes/

    >>> Bytes("big").to_document().configuration
    {'endian': 'big'}
    """

    endian: str | None = "little"

    def __post_init__(self) -> None:
        if self.endian is not None:
            choice(self.endian, "endian", ENDIANS)

    @classmethod
    def from_document(cls, document: Named, path: str) -> Bytes:
        """Read the codec from its document."""
        check_members(document, path, optional=("endian",))
        if "endian" not in document.configuration:
            return cls(None)
        return cls(choice(document.configuration["endian"], f"{path}.configuration.endian", ENDIANS))

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named("bytes", {} if self.endian is None else {"endian": self.endian})

    def validate(self, spec: ChunkSpec, path: str) -> None:
        """Types of more than one byte need an order."""
        if self.endian is None and spec.data_type.word > 1:
            raise MetadataError(
                f"the byte order of {spec.data_type.name} must be given",
                path=f"{path}.configuration",
                expected="endian: little | big",
                got="no endian",
            )
        if spec.data_type.word == 0 and self.endian not in (None, sys.byteorder):
            raise UnknownExtensionError(
                f"elements of mixed parts ({spec.data_type.name}) in the other byte order are not supported",
                path=f"{path}.configuration.endian",
                expected=sys.byteorder,
                got=self.endian,
            )

    def steps(self, spec: ChunkSpec) -> tuple[Step, ...]:
        """A byte swap, where one is needed."""
        word = spec.data_type.word
        if word == 1 or self.endian in (None, sys.byteorder):
            return ()
        return ((kernels.SWAP, word),)
