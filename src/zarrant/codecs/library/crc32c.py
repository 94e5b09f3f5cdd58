"""crc32c: a checksum after the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from zarrant import kernels
from zarrant.codecs.configuration import check_members, choice
from zarrant.codecs.library.compiled import Compiled
from zarrant.codecs.protocols import BytesSpec, Kind, Step
from zarrant.kernels import reference
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer


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
        """Four bytes more: "The checksum is represented as a 32-bit unsigned integer represented in little endian." """
        return BytesSpec(None if spec.size is None else spec.size + 4, spec.itemsize)

    def step(self) -> Step:
        """The kernel step."""
        return (kernels.CRC32C,)


@dataclass(frozen=True, slots=True)
class NumcodecsCrc32c:
    """`numcodecs.crc32c`: the same checksum, before the bytes or after them.

    >>> bytes(NumcodecsCrc32c("start").encode(b"123456789")[:4]).hex()
    '839206e3'
    """

    location: str = "end"
    name: ClassVar[str] = "numcodecs.crc32c"
    kind: ClassVar[Kind] = "bytes_to_bytes"

    def __post_init__(self) -> None:
        choice(self.location, "location", ("start", "end"))

    @classmethod
    def from_json(cls, document: Named, path: str) -> NumcodecsCrc32c:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=("location",))
        location = document.configuration.get("location")
        if location is None:  # zarr-python writes null where it was not given
            return cls()
        return cls(choice(location, f"{path}.configuration.location", ("start", "end")))

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {"location": self.location}}

    def resolve(self, spec: BytesSpec) -> BytesSpec:
        """Four bytes more."""
        return Crc32c().resolve(spec)

    def step(self) -> Step | None:
        """The kernel step; there is none for a checksum before the bytes."""
        return (kernels.CRC32C,) if self.location == "end" else None

    def encode(self, data: Buffer) -> Buffer:
        """Encode one chunk."""
        encoded = bytes(reference.encode_step((kernels.CRC32C,), data))
        return encoded if self.location == "end" else encoded[-4:] + encoded[:-4]

    def decode(self, data: Buffer, limit: int) -> Buffer:
        """Decode one chunk; ValueError where the checksum is another one."""
        encoded = bytes(data)
        if self.location == "start":
            encoded = encoded[4:] + encoded[:4]
        decoded: Buffer = kernels.decode_step((kernels.CRC32C,), encoded, limit)
        return decoded
