"""Bytes-to-bytes codecs with a compiled *step*: what blosc, crc32c, gzip and zstd share.

Their `encode` and `decode` are the same step, one chunk a call. They are used where a chain also has a codec without a step
(the general path).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from zarrant import kernels
from zarrant.codecs.protocols import BytesSpec, Kind, Step
from zarrant.kernels import reference
from zarrant.storage import Buffer


class Compiled(ABC):
    """A codec with a compiled step, whose twin is the reference kernel. Subclasses are frozen, as every codec is."""

    kind: ClassVar[Kind] = "bytes_to_bytes"

    @abstractmethod
    def step(self) -> Step:
        """The opcode and parameters that do the same in a kernel."""

    def resolve(self, spec: BytesSpec) -> BytesSpec:
        """What is handed on: compressed bytes, of a size that depends on the data."""
        return BytesSpec(None, spec.itemsize)

    def encode(self, data: Buffer) -> Buffer:
        """Encode one chunk."""
        return reference.encode_step(self.step(), data)

    def decode(self, data: Buffer, limit: int) -> Buffer:
        """Decode one chunk to at most `limit` bytes."""
        decoded: Buffer = kernels.decode_step(self.step(), data, limit)
        return decoded
