"""cast_value: numbers stored as numbers of another type, under rules that say what becomes of each.

A value is looked up in `scalar_map` first; then it is cast, see `casting`. What has no counterpart is an error, when it is written
and when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, choice
from zarrant.codecs.library.casting import OUT_OF_RANGE, ROUNDING, cast_numbers
from zarrant.codecs.library.elementwise import encoded_fill, json_scalar, native, refuse_data_type
from zarrant.codecs.protocols import ArraySpec, Kind
from zarrant.dtypes.base import DataType
from zarrant.dtypes.fixed import from_numpy, parse_data_type
from zarrant.errors import MetadataError, shown
from zarrant.limits import LIMITS, require
from zarrant.metadata.v3 import Named

Pairs = tuple[tuple[Any, Any], ...]
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CastValue:
    """Numbers as `data_type`, an integer or float type.

    `rounding`: "nearest-even", "towards-zero", "towards-positive", "towards-negative" or "nearest-away". `out_of_range`: "clamp",
    "wrap" (integers), or None, which makes it an error. `encode` and `decode` are pairs of a value and what it becomes.

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/cast_value

    >>> CastValue("uint8", "towards-zero", encode=[("NaN", 0)]).to_json()["configuration"]
    {'data_type': 'uint8', 'rounding': 'towards-zero', 'scalar_map': {'encode': [['NaN', 0]]}}
    """

    data_type: DataType
    rounding: str = "nearest-even"
    out_of_range: str | None = None
    encode_map: Pairs = ()
    decode_map: Pairs = ()
    name: ClassVar[str] = "cast_value"
    kind: ClassVar[Kind] = "array_to_array"

    def __init__(
        self,
        data_type: Any,
        rounding: str = "nearest-even",
        out_of_range: str | None = None,
        encode: Any = (),
        decode: Any = (),
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "data_type", from_numpy(data_type))
        set_field(self, "rounding", choice(rounding, "rounding", ROUNDING))
        set_field(
            self, "out_of_range", out_of_range if out_of_range is None else choice(out_of_range, "out_of_range", OUT_OF_RANGE)
        )
        set_field(self, "encode_map", _pairs(encode, "encode"))
        set_field(self, "decode_map", _pairs(decode, "decode"))

    @classmethod
    def from_json(cls, document: Named, path: str) -> CastValue:
        """Read the codec from its name and configuration."""
        check_members(document, path, required=("data_type",), optional=("rounding", "out_of_range", "scalar_map"))
        given, where = document.configuration, f"{path}.configuration"
        named = Named.parse(given["data_type"], f"{where}.data_type")
        scalars = given.get("scalar_map", {})
        if not isinstance(scalars, dict):
            raise MetadataError("wrong value", path=f"{where}.scalar_map", expected="an object", got=shown(scalars))
        check_members(Named(document.name, scalars), f"{where}.scalar_map", optional=("encode", "decode"))
        return cls(
            parse_data_type(named.name, named.configuration, f"{where}.data_type"),
            # "If this field is not present, implementations MUST use "nearest-even"."
            choice(given.get("rounding", "nearest-even"), f"{where}.rounding", ROUNDING),
            choice(given["out_of_range"], f"{where}.out_of_range", OUT_OF_RANGE) if "out_of_range" in given else None,
            _pairs(scalars.get("encode", []), f"{where}.scalar_map.encode"),
            _pairs(scalars.get("decode", []), f"{where}.scalar_map.decode"),
        )

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec; what is the default is left out."""
        configuration: dict[str, Any] = {"data_type": self.data_type.to_json()}
        if self.rounding != "nearest-even":
            configuration["rounding"] = self.rounding
        if self.out_of_range is not None:
            configuration["out_of_range"] = self.out_of_range
        maps = {"encode": self.encode_map, "decode": self.decode_map}
        if any(maps.values()):
            configuration["scalar_map"] = {name: [list(pair) for pair in pairs] for name, pairs in maps.items() if pairs}
        return {"name": self.name, "configuration": configuration}

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """An array of the other type; the fill value must come back as it was."""
        kinds = ("int", "uint", "float")
        if getattr(spec.data_type, "kind", None) not in kinds:
            raise refuse_data_type(self, spec, "an integer or a float")
        kind = getattr(self.data_type, "kind", None)
        if kind not in kinds:
            expected, got = "an integer or a float", self.data_type.name
            raise MetadataError("wrong value", path="$.configuration.data_type", codec=self.name, expected=expected, got=got)
        if self.out_of_range == "wrap" and kind == "float":
            expected = "clamp, or nothing: only integers wrap around"
            raise MetadataError("wrong value", path="$.configuration.out_of_range", codec=self.name, expected=expected, got="wrap")
        _scalars(self.encode_map, spec.data_type, self.data_type, "encode")
        _scalars(self.decode_map, self.data_type, spec.data_type, "decode")
        after = replace(spec, data_type=self.data_type, fill=encoded_fill(self, spec, self.data_type))
        self._check_fill(spec, after)
        return after

    def _check_fill(self, spec: ArraySpec, after: ArraySpec) -> None:
        """MetadataError where the fill value is another one after it was encoded and decoded."""
        before = native(spec.fill.full((1,)))
        try:
            again = native(self.decode(after.fill.full((1,)), replace(spec, shape=(1,))))
        except ValueError as error:
            message = f"the fill value cannot be decoded by {self.name}: {error}"
            raise MetadataError(message, path="$.fill_value", codec=self.name, got=after.fill.to_json()) from error
        if not np.array_equal(before, again, equal_nan=before.dtype.kind == "f"):
            message, expected = "the fill value does not come back", f"a number that {self.data_type.name} has"
            raise MetadataError(message, path="$.fill_value", codec=self.name, expected=expected, got=spec.fill.to_json())

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The numbers in the other type; ValueError for one that it does not have."""
        return self._cast(array, self.data_type, _scalars(self.encode_map, spec.data_type, self.data_type, "encode"))

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The numbers in the type of the array; ValueError for one that it does not have."""
        return self._cast(array, spec.data_type, _scalars(self.decode_map, self.data_type, spec.data_type, "decode"))

    def _cast(self, array: Array, target: DataType, scalars: list[tuple[Array, Array]]) -> Array:
        # Read back, a number of the type wanted is taken by the same rules; only integers can wrap around.
        rule = None if self.out_of_range == "wrap" and getattr(target, "kind", None) == "float" else self.out_of_range
        if not scalars:  # "The scalar map MUST be evaluated before any other representability checks."
            return cast_numbers(array, target.numpy, self.rounding, rule)
        result = np.empty(array.shape, target.numpy)
        left, values = np.ones(array.shape, np.bool_), native(array)
        for key, value in scalars:
            matches = np.isnan(values) if np.isnan(key) else values == key
            result[left & matches] = value
            left &= ~matches
        result[left] = cast_numbers(array[left], target.numpy, self.rounding, rule)
        return result


def _pairs(value: Any, path: str) -> Pairs:
    if not isinstance(value, list | tuple):
        raise MetadataError("wrong value", path=path, expected="a list of pairs", got=shown(value))
    require(len(value), LIMITS.chain * 64, "too many scalars", "scalar_map", path)
    for i, pair in enumerate(value):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise MetadataError("wrong value", path=f"{path}[{i}]", expected="[value, what it becomes]", got=shown(pair))
    return tuple((json_scalar(a, f"{path}[{i}][0]"), json_scalar(b, f"{path}[{i}][1]")) for i, (a, b) in enumerate(value))


def _scalars(pairs: Pairs, source: DataType, target: DataType, name: str) -> list[tuple[Array, Array]]:
    """Pairs of elements; the keys in the NumPy type that is calculated with."""
    where = f"$.configuration.scalar_map.{name}"
    found = []
    for i, (key, value) in enumerate(pairs):
        both = (source.fill_from_json(_plain(key), f"{where}[{i}][0]"), target.fill_from_json(_plain(value), f"{where}[{i}][1]"))
        found.append((native(both[0].element), both[1].element))
    return found


def _plain(value: Any) -> Any:
    return "Infinity" if value == "+Infinity" else value  # as an example of the specification has it
