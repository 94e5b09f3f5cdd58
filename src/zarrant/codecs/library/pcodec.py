"""numcodecs.pcodec: numbers compressed by pcodec, which needs the package `pcodec` (the extra `pcodec`).

The stream says how many numbers it has; it is decoded into memory of the size of the chunk, and what has more or fewer is refused.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, choice, integer
from zarrant.codecs.library.elementwise import extra_module, refuse_data_type
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

TYPES = ("int16", "int32", "int64", "uint16", "uint32", "uint64", "float16", "float32", "float64")
MODES = ("auto", "classic")
DELTAS = ("auto", "no_op", "none", "try_consecutive", "try_lookback")


@dataclass(frozen=True, slots=True)
class PCodec:
    """Numbers compressed by pcodec; the elements of a chunk in C order are one run.

    Source: https://numcodecs.readthedocs.io/en/stable/compression/pcodec.html

    >>> PCodec(level=5).to_json()["configuration"]["level"]
    5
    """

    level: int = 8
    mode_spec: str = "auto"
    delta_spec: str = "auto"
    paging_spec: str = "equal_pages_up_to"
    delta_encoding_order: int | None = None
    equal_pages_up_to: int = 262144
    name: ClassVar[str] = "numcodecs.pcodec"
    kind: ClassVar[Kind] = "array_to_bytes"

    def __post_init__(self) -> None:
        self._check("")

    def _check(self, where: str) -> None:
        integer(self.level, f"{where}level", 0, 12)
        choice(self.mode_spec, f"{where}mode_spec", MODES)
        choice(self.delta_spec, f"{where}delta_spec", DELTAS)
        choice(self.paging_spec, f"{where}paging_spec", ("equal_pages_up_to",))
        integer(self.equal_pages_up_to, f"{where}equal_pages_up_to", 1, 2**31 - 1)
        if self.delta_encoding_order is not None:
            integer(self.delta_encoding_order, f"{where}delta_encoding_order", 0, 7)
            if self.delta_spec not in ("auto", "try_consecutive"):
                expected = "null, as delta_spec is neither auto nor try_consecutive"
                got = self.delta_encoding_order
                raise MetadataError("wrong value", path=f"{where}delta_encoding_order", expected=expected, got=got)

    @classmethod
    def from_json(cls, document: Named, path: str) -> PCodec:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=tuple(cls.__dataclass_fields__))
        try:
            return cls(**document.configuration)
        except MetadataError as error:
            error.path = f"{path}.configuration.{error.path}"
            raise

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec, with every default."""
        return {"name": self.name, "configuration": asdict(self)}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """Bytes, of a size that depends on the numbers."""
        if spec.data_type.name not in TYPES:
            raise refuse_data_type(self, spec, ", ".join(TYPES))
        extra_module("pcodec", self.name)
        return BytesSpec(None)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The compressed numbers."""
        pcodec = extra_module("pcodec", self.name)
        if self.delta_encoding_order is not None:
            delta = pcodec.DeltaSpec.try_consecutive(self.delta_encoding_order)
        elif self.delta_spec == "try_consecutive":
            delta = pcodec.DeltaSpec.try_consecutive(1)
        else:
            delta = getattr(pcodec.DeltaSpec, "no_op" if self.delta_spec == "none" else self.delta_spec)()
        config = pcodec.ChunkConfig(
            compression_level=self.level,
            delta_spec=delta,
            mode_spec=getattr(pcodec.ModeSpec, self.mode_spec)(),
            paging_spec=pcodec.PagingSpec.equal_pages_up_to(self.equal_pages_up_to),
        )
        data: Buffer = pcodec.standalone.simple_compress(np.ascontiguousarray(array).reshape(-1), config)
        return data

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The numbers; ValueError where the bytes are not exactly those of a chunk."""
        standalone = extra_module("pcodec", self.name).standalone
        count = math.prod(spec.shape)
        found = np.empty(count + 1, spec.data_type.numpy)  # one more, to see whether there are more
        progress = standalone.simple_decompress_into(bytes(data), found)
        if progress.n_processed != count or not progress.finished:
            raise ValueError(f"holds {progress.n_processed} numbers or more, expected {count}")
        return found[:count].reshape(spec.shape)
