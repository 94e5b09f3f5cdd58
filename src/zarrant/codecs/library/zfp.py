"""zfp: arrays of up to four dimensions, compressed in blocks; it needs the package `zfpy` (the extra `zfp`).

The stream has no header: mode and shape are in the metadata. The library reads on where a stream ends too early, so it is given
memory that lasts for every block, however long.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, choice, integer
from zarrant.codecs.library.elementwise import extra_module, refuse_data_type
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind
from zarrant.errors import MetadataError, shown
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

MODES: Mapping[str, str | None] = {
    "reversible": None,
    "fixed_accuracy": "tolerance",
    "fixed_rate": "rate",
    "fixed_precision": "precision",
}
"""The member that each mode has."""
ZTYPES = {"int32": "type_int32", "int64": "type_int64", "float32": "type_float", "float64": "type_double"}
WIDTHS = {"int32": 32, "int64": 64, "float32": 32, "float64": 64}


@dataclass(frozen=True, slots=True)
class Zfp:
    """Arrays compressed by zfp.

    `mode`: "reversible", or one with a `parameter`: "fixed_accuracy" (the tolerance), "fixed_rate" (bits of each number) or
    "fixed_precision" (bits).

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/zfp

    >>> Zfp("fixed_rate", 8).to_json()["configuration"]
    {'mode': 'fixed_rate', 'rate': 8}
    """

    mode: str = "reversible"
    parameter: float | None = None
    name: ClassVar[str] = "zfp"
    kind: ClassVar[Kind] = "array_to_bytes"

    def __post_init__(self) -> None:
        _check(self.mode, self.parameter, "")

    @classmethod
    def from_json(cls, document: Named, path: str) -> Zfp:
        """Read the codec from its name and configuration."""
        given, where = document.configuration, f"{path}.configuration."
        if "mode" not in given:
            check_members(document, path, required=("mode",))
        mode = choice(given["mode"], f"{where}mode", tuple(MODES))
        member = MODES[mode]
        check_members(document, path, required=("mode",) if member is None else ("mode", member))
        parameter = None if member is None else given[member]
        _check(mode, parameter, where)
        return cls(mode, parameter)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        member = MODES[self.mode]
        return {"name": self.name, "configuration": {"mode": self.mode, **({} if member is None else {member: self.parameter})}}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """Bytes, of a size that depends on the numbers."""
        return resolve_zfp(self, spec)

    @property
    def _options(self) -> dict[str, Any]:
        member = MODES[self.mode]
        return {} if member is None else {member: self.parameter}

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The compressed array."""
        values = np.ascontiguousarray(array).reshape(spec.shape or (1,))
        data: Buffer = extra_module("zfpy", self.name, "zfp").compress_numpy(values, write_header=False, **self._options)
        return data

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The array; ValueError for bytes that zfp cannot have made."""
        zfpy = extra_module("zfpy", self.name, "zfp")
        most = most_bytes(spec, self.parameter if self.mode == "fixed_rate" else None)
        if not data or len(data) % 8 or len(data) > most:
            raise ValueError(f"{len(data)} bytes, expected words of 8, {most} bytes at most")
        ztype = getattr(zfpy, ZTYPES[spec.data_type.name])
        found: npt.NDArray[Any] = zfpy._decompress(bytes(data).ljust(most, b"\0"), ztype, spec.shape or (1,), **self._options)
        return found.reshape(spec.shape)


def resolve_zfp(codec: Any, spec: ArraySpec) -> BytesSpec:
    """What zfp hands on; MetadataError for arrays that it does not take, UnknownExtensionError where the package is not there."""
    if spec.data_type.name not in WIDTHS:
        raise refuse_data_type(codec, spec, ", ".join(WIDTHS))
    if len(spec.shape) > 4:
        message = "zfp takes up to four dimensions"
        hint = "A filter 'reshape' makes fewer"
        raise MetadataError(message, codec=codec.name, expected="4 dimensions or fewer", got=list(spec.shape), hint=hint)
    extra_module("zfpy", codec.name, "zfp")
    return BytesSpec(None)


def _check(mode: object, parameter: Any, where: str) -> None:
    member = MODES[choice(mode, f"{where}mode", tuple(MODES))]
    if member == "precision":
        integer(parameter, f"{where}precision", 1, 64)
    elif member is not None:
        limits = {"tolerance": "a positive number", "rate": "a number of bits above 0, up to 64"}
        is_number = isinstance(parameter, int | float) and not isinstance(parameter, bool)
        if not is_number or not 0 < parameter < math.inf or (member == "rate" and parameter > 64):
            raise MetadataError("wrong value", path=f"{where}{member}", expected=limits[member], got=shown(parameter))
    elif parameter is not None:
        raise MetadataError("wrong value", path=f"{where}parameter", expected="none in this mode", got=shown(parameter))


def most_bytes(spec: ArraySpec, rate: float | None = None) -> int:
    """The bytes that the blocks of a chunk have at most: a few bits more than the numbers, or what a fixed rate gives them."""
    shape = spec.shape or (1,)
    blocks = math.prod(-(-length // 4) for length in shape)
    block_bits = 4 ** len(shape) * max(WIDTHS[spec.data_type.name] + 2, math.ceil(rate or 0)) + 64
    return int(blocks * -(-block_bits // 64) * 8 + 64)
