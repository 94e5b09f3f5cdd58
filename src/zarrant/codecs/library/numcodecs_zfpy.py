"""numcodecs.zfpy: arrays compressed by zfp, each chunk with a header; it needs the package `zfpy` (the extra `zfp`).

The header says the type, the shape and the mode. It is compared with what the metadata say before the library sees it, which
would allocate what a header asks for. The blocks after it are those of the codec `zfp`.

Sources: https://numcodecs.readthedocs.io/en/stable/compression/zfpy.html, and for the header
https://zfp.readthedocs.io/en/release1.0.1/high-level-api.html ("zfp_write_header": 32 bits "magic", 52 bits of type and shape,
12 or 64 bits of mode).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, integer
from zarrant.codecs.library.elementwise import extra_module
from zarrant.codecs.library.zfp import most_bytes, resolve_zfp
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind
from zarrant.errors import MetadataError, shown
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

PARAMETERS: Mapping[int, str | None] = {2: "rate", 3: "precision", 4: "tolerance", 5: None}
"""The member that counts in each of zfpy's modes: fixed rate, fixed precision, fixed accuracy, reversible."""
MAGIC_BITS, FIELD_BITS, SHORT_MODE_BITS = 32, 52, 12
LONG_MODE = (1 << SHORT_MODE_BITS) - 1
"""The short mode that says that the mode has 64 bits."""
HEADER_BYTES = 24
"""148 bits at most, in words of 8 bytes."""


@dataclass(frozen=True, slots=True)
class Zfpy:
    """Arrays compressed by zfp, as numcodecs does. Every parameter but that of the `mode` is -1.

    `mode`: 2 (fixed `rate`), 3 (fixed `precision`), 4 (fixed accuracy, the `tolerance`; below 0 it is reversible), 5 (reversible).

    >>> Zfpy(2, rate=8).to_json()["configuration"]
    {'mode': 2, 'tolerance': -1, 'rate': 8, 'precision': -1}
    """

    mode: int = 4
    tolerance: float = -1
    rate: float = -1
    precision: int = -1
    name: ClassVar[str] = "numcodecs.zfpy"
    kind: ClassVar[Kind] = "array_to_bytes"

    def __post_init__(self) -> None:
        integer(self.mode, "mode", 2, 5)
        for member in ("tolerance", "rate"):
            value = getattr(self, member)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise MetadataError("wrong value", path=member, expected="a number", got=shown(value))
        integer(self.precision, "precision", -1, 64)
        if self.mode == 2 and not 0 < self.rate <= 64:
            raise MetadataError("wrong value", path="rate", expected="a number of bits above 0, up to 64", got=self.rate)
        if self.mode == 3 and self.precision < 1:
            raise MetadataError("wrong value", path="precision", expected="a number of bits from 1 to 64", got=self.precision)

    @classmethod
    def from_json(cls, document: Named, path: str) -> Zfpy:
        """Read the codec from its name and configuration; `compression_kwargs`, which numcodecs writes, says nothing new."""
        members = ("mode", "tolerance", "rate", "precision")
        check_members(document, path, optional=(*members, "compression_kwargs"))
        try:
            return cls(**{key: value for key, value in document.configuration.items() if key in members})
        except MetadataError as error:
            error.path = f"{path}.configuration.{error.path}"
            raise

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec, with every default."""
        parameters = {"tolerance": self.tolerance, "rate": self.rate, "precision": self.precision}
        return {"name": self.name, "configuration": {"mode": self.mode, **parameters}}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """Bytes, of a size that depends on the numbers."""
        return resolve_zfp(self, spec)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The header and the compressed array."""
        return self._compressed(np.ascontiguousarray(array).reshape(spec.shape or (1,)))

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The array; ValueError for bytes that zfp cannot have made of such a chunk."""
        shape = spec.shape or (1,)
        most = HEADER_BYTES + most_bytes(spec, self.rate if self.mode == 2 else None)
        if len(data) < 16 or len(data) % 8 or len(data) > most:
            raise ValueError(f"{len(data)} bytes, expected words of 8, {most} bytes at most")
        expected = self._compressed(np.zeros((1,) * len(shape), spec.data_type.numpy))
        found, wanted = _header(data), _header(expected)
        fields = (found.field, wanted.field | _sizes(shape) << 4)  # the array of one element has sizes of zero, which are one less
        if (found.magic, found.mode) != (wanted.magic, wanted.mode) or fields[0] != fields[1]:
            raise ValueError(f"the header is that of another type, shape or mode than {spec.data_type.name} {list(shape)}")
        zfpy = extra_module("zfpy", self.name, "zfp")
        # The library reads on where a stream ends too early: it gets memory that lasts for every block.
        decoded: npt.NDArray[Any] = zfpy.decompress_numpy(bytes(data).ljust(most, b"\0"))
        return decoded.reshape(spec.shape)

    def _compressed(self, values: npt.NDArray[np.generic]) -> bytes:
        member = PARAMETERS[self.mode]
        options = {} if member is None else {member: getattr(self, member)}
        data: bytes = extra_module("zfpy", self.name, "zfp").compress_numpy(values, write_header=True, **options)
        return data


@dataclass(frozen=True)
class _Header:
    magic: int
    field: int
    mode: int


def _header(data: Buffer) -> _Header:
    """The three parts of a header: bits in little-endian order."""
    bits = int.from_bytes(bytes(data[:HEADER_BYTES]), "little")
    magic, bits = bits & ((1 << MAGIC_BITS) - 1), bits >> MAGIC_BITS
    field, bits = bits & ((1 << FIELD_BITS) - 1), bits >> FIELD_BITS
    short = bits & LONG_MODE
    return _Header(magic, field, bits & ((1 << 64) - 1) if short == LONG_MODE else short)


def _sizes(shape: tuple[int, ...]) -> int:
    """The extents, each less one, in 48 bits: the last dimension first."""
    width = 48 // len(shape)
    return sum((extent - 1) << (width * i) for i, extent in enumerate(reversed(shape)))
