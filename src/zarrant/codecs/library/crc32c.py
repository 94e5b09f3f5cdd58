"""crc32c: a checksum after the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from zarrant import kernels
from zarrant.codecs.configuration import check_members
from zarrant.codecs.library.compiled import Compiled
from zarrant.codecs.protocols import BytesSpec, Step
from zarrant.metadata.v3 import Named


@dataclass(frozen=True, slots=True)
class Crc32c(Compiled):
    """Append the CRC-32C of the bytes, 4 bytes little-endian.

    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/crc32c/
    """

    name: ClassVar[str] = "crc32c"

    @classmethod
    def from_json(cls, document: Named, path: str) -> Crc32c:
        """Read the codec from its name and configuration."""
        check_members(document, path)
        return cls()

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name}

    def resolve(self, spec: BytesSpec) -> BytesSpec:
        """Four bytes more."""
        return BytesSpec(None if spec.size is None else spec.size + 4, spec.itemsize)

    def step(self) -> Step:
        """The kernel step."""
        return (kernels.CRC32C,)
