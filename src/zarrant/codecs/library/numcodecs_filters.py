"""Filters of numcodecs, which map arrays to arrays, under their V3 names `numcodecs.<id>`; V2 has them as `filters`.

In comes a chunk, out goes one of the type that the configuration names, with the same bytes as numcodecs makes of it. A `dtype`
in a configuration says how the elements of the chunk are looked at: a type of the same size may differ from that of the array.
Its byte order means nothing here, as that of what is stored is up to the `bytes` codec that follows.

numcodecs stores anything, also what it cannot give back. Here an element that a filter cannot hold (out of range, or no number)
is a DataTypeError and nothing is stored; only elements that are the fill value pass, since no chunk without them could be padded.

Source: https://numcodecs.readthedocs.io/en/stable/ (Delta, FixedScaleOffset, Quantize, AsType, BitRound, PackBits)
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, configured, integer
from zarrant.codecs.library.bitround import round_mantissa
from zarrant.codecs.protocols import ArraySpec, Kind
from zarrant.dtypes.base import FixedFill
from zarrant.dtypes.fixed import FixedType, from_numpy
from zarrant.errors import DataTypeError, MetadataError, shown
from zarrant.metadata.v3 import Named

Array = npt.NDArray[Any]
Check = Callable[[Any, str], Any]

_DTYPE = re.compile(r"[<>|=]?[a-zA-Z]\w{0,20}(\[\d{0,9}[a-zA-Z]{1,7}\])?", re.ASCII)
_KINDS = {"b": "bool", "iu": "integers", "f": "floats", "c": "complex numbers", "mM": "times", "SU": "text of fixed length"}


def dtype_member(kinds: str) -> Check:
    """A check for a member that is a NumPy type of one of some kinds, such as "<i4"; it gives NumPy's own spelling."""
    expected = "a NumPy type: " + ", ".join(words for letters, words in _KINDS.items() if set(letters) & set(kinds))

    def check(value: Any, path: str) -> str:
        known = _DTYPE.fullmatch(value) if isinstance(value, str) else isinstance(value, np.dtype | type)
        try:
            dtype = np.dtype(value) if known else None
            if dtype is not None and dtype.kind in kinds:
                from_numpy(dtype)
                return str(dtype.str)
        except (TypeError, ValueError):  # DataTypeError is one of them
            pass
        raise MetadataError("wrong value", path=path, expected=expected, got=shown(value))

    return check


def number_member(value: Any, path: str) -> int | float:
    """A check for a member that is a finite number."""
    fits = isinstance(value, float) or (type(value) is int and abs(value) < 2**63)
    if not fits or not math.isfinite(value):
        raise MetadataError("wrong value", path=path, expected="a finite number", got=shown(value))
    return cast("int | float", value)


def _scale(value: Any, path: str) -> int | float:
    if number_member(value, path) == 0:
        raise MetadataError("wrong value", path=path, expected="a number other than 0", got=shown(value))
    return cast("int | float", value)


def _native(dtype: str) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("=")


@dataclass(frozen=True)
class Filter(ABC):
    """What filters share: a name, checked members, the type that is handed on, and chunks without a shape in between."""

    name: ClassVar[str]
    kind: ClassVar[Kind] = "array_to_array"
    members: ClassVar[Mapping[str, Check]]
    required: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        for member, check in self.members.items():
            value = getattr(self, member)
            if value is not None or member in self.required:
                object.__setattr__(self, member, check(value, f"$.configuration.{member}"))
        if getattr(self, "astype", "") is None:
            object.__setattr__(self, "astype", getattr(self, "dtype", None))

    @classmethod
    def from_json(cls, document: Named, path: str) -> Self:
        """Read the codec from its name and configuration."""
        optional = [member for member in cls.members if member not in cls.required]
        check_members(document, path, cls.required, optional)
        return configured(cls, document, path)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec, with every default as numcodecs writes it."""
        members = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"name": self.name, "configuration": {key: value for key, value in members.items() if value is not None}}

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """Chunks of the same shape and of the type that the configuration names; the fill value is encoded as an element."""
        self._check(spec)
        data_type = from_numpy(self.encoded_type(spec))
        fill = self._quietly(self.encode_flat, self._looked_at(spec.fill.element, spec))
        return replace(spec, data_type=data_type, fill=FixedFill(cast("FixedType", data_type), fill.tobytes()))

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """One chunk; DataTypeError for an element that could not be given back."""
        flat = self._looked_at(array, spec)
        encoded = self._quietly(self.encode_flat, flat)
        lost = self._quietly(self.lost, flat, encoded)
        if lost.any():
            self._refuse(flat[lost], spec)
        return encoded.reshape(array.shape)

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """One chunk."""
        flat = np.ascontiguousarray(array).reshape(-1)
        decoded = self._quietly(self.decode_flat, flat, self.decoded_type(spec))
        return decoded.view(spec.data_type.numpy).reshape(spec.shape)

    @abstractmethod
    def decoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """How the elements of a chunk are looked at."""

    @abstractmethod
    def encoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """The type of encoded elements."""

    @abstractmethod
    def encode_flat(self, values: Array) -> Array:
        """Encode the elements of a chunk."""

    @abstractmethod
    def decode_flat(self, encoded: Array, dtype: np.dtype[Any]) -> Array:
        """Decode to elements of `dtype`."""

    @abstractmethod
    def lost(self, values: Array, encoded: Array) -> npt.NDArray[np.bool_]:
        """Say of each element whether decoding would give another one than the filter promises."""

    def _check(self, spec: ArraySpec) -> None:
        """MetadataError for arrays that the filter does not take."""
        dtype = self.decoded_type(spec)
        if spec.data_type.itemsize != dtype.itemsize:
            raise MetadataError(
                f"{self.name} does not fit the data type",
                path="$.configuration",
                codec=self.name,
                expected=f"{spec.data_type.name}, or a type of the same size",
                got=dtype.str,
            )

    def _looked_at(self, array: Array, spec: ArraySpec) -> Array:
        return np.ascontiguousarray(array).reshape(-1).view(self.decoded_type(spec))

    def _quietly(self, work: Callable[..., Array], *arguments: Any) -> Array:
        """What a filter makes; what overflows in it is noticed by `lost`, and needs no warning."""
        with np.errstate(all="ignore"):
            return work(*arguments)

    def _refuse(self, lost: Array, spec: ArraySpec) -> None:
        """DataTypeError for lost elements, unless they are fill."""
        unfit = lost[~spec.fill.equals(lost.view(spec.data_type.numpy).reshape(-1, 1))]
        if unfit.size:
            raise DataTypeError(
                f"{self.name} cannot store an element",
                codec=self.name,
                expected=f"what {self.encoded_type(spec)} can hold",
                got=shown(unfit[0].item()),
                hint="Nothing of this chunk was stored: choose another configuration of the filter, or leave it out",
            )


@dataclass(frozen=True)
class _Typed(Filter):
    """Filters with the members `dtype`, of decoded elements, and `astype`, of encoded ones; without it they are the same."""

    def for_spec(self, spec: ArraySpec) -> Self:
        """With the type of the array as `dtype`, where that was left open."""
        if getattr(self, "dtype", None) is not None or spec.data_type.itemsize is None:
            return self
        return replace(self, dtype=self.members["dtype"](spec.data_type.numpy, "$.configuration.dtype"))  # type: ignore[call-arg]

    def decoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """See `Filter.decoded_type`."""
        dtype = getattr(self, "dtype", None)
        return spec.data_type.numpy if dtype is None else _native(dtype)

    def encoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """See `Filter.encoded_type`."""
        return _native(self._astype) if self._astype else self.decoded_type(spec)

    @property
    def _astype(self) -> str | None:
        return cast("str | None", getattr(self, "astype", None))

    def _as_encoded(self, made: Array, values: Array) -> Array:
        return made.astype(_native(self._astype) if self._astype else values.dtype)


@dataclass(frozen=True)
class Delta(_Typed):
    """The difference of each element to the one before it, in C order.

    >>> spec = ArraySpec((3,), from_numpy("int16"), from_numpy("int16").default_fill())
    >>> Delta("<i2", "|i1").encode(np.array([100, 101, 99], "i2"), spec)
    array([100,   1,  -2], dtype=int8)
    """

    dtype: str
    astype: str | None = None
    name: ClassVar[str] = "numcodecs.delta"
    members: ClassVar[Mapping[str, Check]] = {"dtype": dtype_member("biufc"), "astype": dtype_member("biufc")}
    required: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_complex_loss(self.dtype, self.astype, "astype")

    def encode_flat(self, values: Array) -> Array:
        """See `Filter.encode_flat`."""
        encoded = np.empty(values.size, _native(self.astype or self.dtype))
        encoded[:1] = values[:1]
        encoded[1:] = np.diff(values)
        return encoded

    def decode_flat(self, encoded: Array, dtype: np.dtype[Any]) -> Array:
        """See `Filter.decode_flat`."""
        decoded = np.empty(encoded.size, dtype)
        np.cumsum(encoded, out=decoded)
        return decoded

    def lost(self, values: Array, encoded: Array) -> npt.NDArray[np.bool_]:
        """Integers that differ. Those of as many bits or more overflow and come back; sums of floats are rounded."""
        wraps = values.dtype.kind in "iu" and encoded.dtype.kind in "iu" and encoded.itemsize >= values.itemsize
        if wraps or values.dtype.kind in "fc":
            return np.zeros(values.shape, np.bool_)
        return np.asarray(self.decode_flat(encoded, values.dtype) != values)


@dataclass(frozen=True)
class FixedScaleOffset(_Typed):
    """`(x - offset) * scale`, rounded to integers.

    >>> spec = ArraySpec((2,), from_numpy("float64"), from_numpy("float64").default_fill())
    >>> FixedScaleOffset(1000, 10, "<f8", "|u1").encode(np.array([1000.1, 1001.0]), spec)
    array([ 1, 10], dtype=uint8)
    """

    offset: float
    scale: float
    dtype: str | None = None
    astype: str | None = None
    name: ClassVar[str] = "numcodecs.fixedscaleoffset"
    members: ClassVar[Mapping[str, Check]] = {
        "offset": number_member,
        "scale": _scale,
        "dtype": dtype_member("biuf"),
        "astype": dtype_member("biuf"),
    }
    required: ClassVar[tuple[str, ...]] = ("offset", "scale")

    def encode_flat(self, values: Array) -> Array:
        """See `Filter.encode_flat`."""
        wide = values if values.dtype.kind == "f" else values.astype(np.int64)
        return self._as_encoded(np.around((wide - self.offset) * self.scale), values)

    def decode_flat(self, encoded: Array, dtype: np.dtype[Any]) -> Array:
        """See `Filter.decode_flat`."""
        wide = encoded if encoded.dtype.kind == "f" else encoded.astype(np.float64)
        return (wide / self.scale + self.offset).astype(dtype)

    def lost(self, values: Array, encoded: Array) -> npt.NDArray[np.bool_]:
        """What differs by more than half a step, and the rounding of the types."""
        decoded = self.decode_flat(encoded, values.dtype)
        step = 0.5 / abs(self.scale) + (values.dtype.kind != "f")
        return _differ(values, decoded, step, encoded.dtype, abs(self.offset))


@dataclass(frozen=True)
class Quantize(_Typed):
    """Floats with some decimal digits kept; what follows them is zero in binary, which compresses well.

    >>> spec = ArraySpec((2,), from_numpy("float64"), from_numpy("float64").default_fill())
    >>> Quantize(1, "<f8").encode(np.array([0.11, 0.34]), spec)
    array([0.125 , 0.3125])
    """

    digits: int
    dtype: str | None = None
    astype: str | None = None
    name: ClassVar[str] = "numcodecs.quantize"
    members: ClassVar[Mapping[str, Check]] = {
        "digits": lambda value, path: integer(value, path, -300, 300),
        "dtype": dtype_member("f"),
        "astype": dtype_member("f"),
    }
    required: ClassVar[tuple[str, ...]] = ("digits",)

    @property
    def scale(self) -> float:
        """The power of two of which elements become multiples, inverted: at least as fine as the digits."""
        exponent = math.log10(10.0**-self.digits)
        whole = math.floor(exponent) if exponent < 0 else math.ceil(exponent)
        return float(2.0 ** math.ceil(math.log2(10.0**-whole)))

    def encode_flat(self, values: Array) -> Array:
        """See `Filter.encode_flat`."""
        return self._as_encoded(np.around(self.scale * values) / self.scale, values)

    def decode_flat(self, encoded: Array, dtype: np.dtype[Any]) -> Array:
        """See `Filter.decode_flat`."""
        return encoded.astype(dtype)

    def lost(self, values: Array, encoded: Array) -> npt.NDArray[np.bool_]:
        """What differs by more than half a step, and the rounding of the types."""
        return _differ(values, encoded.astype(values.dtype), 0.5 / self.scale, encoded.dtype, 0)


@dataclass(frozen=True)
class AsType(Filter):
    """Elements of another type.

    >>> spec = ArraySpec((2,), from_numpy("int64"), from_numpy("int64").default_fill())
    >>> AsType("|u1", "<i8").encode(np.array([1, 255]), spec)
    array([  1, 255], dtype=uint8)
    """

    encode_dtype: str
    decode_dtype: str | None = None
    name: ClassVar[str] = "numcodecs.astype"
    members: ClassVar[Mapping[str, Check]] = {
        "encode_dtype": dtype_member("biufcmMSU"),
        "decode_dtype": dtype_member("biufcmMSU"),
    }
    required: ClassVar[tuple[str, ...]] = ("encode_dtype",)

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_complex_loss(self.decode_dtype, self.encode_dtype, "encode_dtype")

    def for_spec(self, spec: ArraySpec) -> Self:
        """With the type of the array as `decode_dtype`, where that was left open."""
        if self.decode_dtype is not None or spec.data_type.itemsize is None:
            return self
        return replace(self, decode_dtype=self.members["decode_dtype"](spec.data_type.numpy, "$.configuration.decode_dtype"))

    def decoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """See `Filter.decoded_type`."""
        return _native(self.decode_dtype) if self.decode_dtype else spec.data_type.numpy

    def encoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """See `Filter.encoded_type`."""
        return _native(self.encode_dtype)

    def encode_flat(self, values: Array) -> Array:
        """See `Filter.encode_flat`."""
        return values.astype(_native(self.encode_dtype))

    def decode_flat(self, encoded: Array, dtype: np.dtype[Any]) -> Array:
        """See `Filter.decode_flat`."""
        return (encoded.real if encoded.dtype.kind == "c" and dtype.kind != "c" else encoded).astype(dtype)

    def lost(self, values: Array, encoded: Array) -> npt.NDArray[np.bool_]:
        """Finite numbers that become infinite; floats may lose what follows the point, anything else must come back."""
        kinds = values.dtype.kind, encoded.dtype.kind
        if kinds[0] in "fc" and kinds[1] in "fc":
            return np.asarray(np.isfinite(values) & ~np.isfinite(encoded))
        decoded = self.decode_flat(encoded, values.dtype)
        if kinds[0] in "fc" and kinds[1] in "iu":
            return np.asarray(~(np.abs(decoded - values) < 1))
        return np.asarray((decoded != values) & (values == values))  # NaT is not itself


@dataclass(frozen=True)
class BitRound(Filter):
    """Floats with some bits of their mantissa kept, rounded to nearest, ties to even.

    >>> spec = ArraySpec((2,), from_numpy("float32"), from_numpy("float32").default_fill())
    >>> BitRound(2).encode(np.array([1.3, 1.2], "f4"), spec)
    array([1.25, 1.25], dtype=float32)
    """

    keepbits: int
    name: ClassVar[str] = "numcodecs.bitround"
    members: ClassVar[Mapping[str, Check]] = {"keepbits": lambda value, path: integer(value, path, 0, 52)}
    required: ClassVar[tuple[str, ...]] = ("keepbits",)

    def decoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """See `Filter.decoded_type`."""
        return spec.data_type.numpy

    encoded_type = decoded_type

    def _check(self, spec: ArraySpec) -> None:
        dtype = spec.data_type.numpy
        if dtype.kind != "f":
            expected = "float16, float32 or float64"
            raise MetadataError("a type that has no bits to round", path="$.data_type", expected=expected, got=spec.data_type.name)
        integer(self.keepbits, "$.configuration.keepbits", 0, np.finfo(dtype).nmant)

    def encode_flat(self, values: Array) -> Array:
        """See `Filter.encode_flat`."""
        dropped = np.finfo(values.dtype).nmant - self.keepbits
        if dropped == 0:
            return values
        return round_mantissa(values.view(f"u{values.itemsize}"), dropped).view(values.dtype)

    def decode_flat(self, encoded: Array, dtype: np.dtype[Any]) -> Array:
        """See `Filter.decode_flat`."""
        return encoded

    def lost(self, values: Array, encoded: Array) -> npt.NDArray[np.bool_]:
        """Numbers that become infinite, and what is not a number but becomes one."""
        return np.asarray((np.isfinite(values) != np.isfinite(encoded)) | (np.isnan(values) != np.isnan(encoded)))


@dataclass(frozen=True)
class PackBits(Filter):
    """Eight bools a byte, the first in its highest bit; the first byte counts the bits of the last that mean nothing.

    >>> spec = ArraySpec((4,), from_numpy("bool"), from_numpy("bool").default_fill())
    >>> PackBits().encode(np.array([True, False, False, True]), spec)
    array([  4, 144], dtype=uint8)
    """

    name: ClassVar[str] = "numcodecs.packbits"
    members: ClassVar[Mapping[str, Check]] = {}

    def decoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """See `Filter.decoded_type`."""
        return np.dtype(np.bool_)

    def encoded_type(self, spec: ArraySpec) -> np.dtype[Any]:
        """See `Filter.encoded_type`."""
        return np.dtype(np.uint8)

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """One dimension of bytes, whose fill value is 0: that of the bools is not one of theirs."""
        if spec.data_type.name != "bool":
            raise MetadataError("a type without single bits", path="$.data_type", expected="bool", got=spec.data_type.name)
        data_type = from_numpy("uint8")
        return ArraySpec((1 + -(-math.prod(spec.shape) // 8),), data_type, data_type.default_fill())

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """One chunk."""
        return self.encode_flat(self._looked_at(array, spec))

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """One chunk; ValueError where the bits are not as many as the elements."""
        count = math.prod(spec.shape)
        if int(array[0]) != -count % 8:
            raise ValueError(f"says that {int(array[0])} bits of the last byte mean nothing, expected {-count % 8}")
        return self.decode_flat(np.ascontiguousarray(array), np.dtype(np.bool_))[:count].reshape(spec.shape)

    def encode_flat(self, values: Array) -> Array:
        """See `Filter.encode_flat`."""
        return np.concatenate((np.array([-values.size % 8], np.uint8), np.packbits(values)))

    def decode_flat(self, encoded: Array, dtype: np.dtype[Any]) -> Array:
        """See `Filter.decode_flat`."""
        return np.unpackbits(encoded[1:]).view(dtype)

    def lost(self, values: Array, encoded: Array) -> npt.NDArray[np.bool_]:
        """No bit is."""
        return np.zeros(values.shape, np.bool_)


def _refuse_complex_loss(decoded: str | None, encoded: str | None, member: str) -> None:
    """MetadataError where complex numbers would lose a part."""
    if decoded and encoded and np.dtype(decoded).kind == "c" and np.dtype(encoded).kind != "c":
        expected = "a complex type, as that of the elements"
        raise MetadataError("wrong value", path=f"$.configuration.{member}", expected=expected, got=encoded)


def _differ(values: Array, decoded: Array, step: float, encoded: np.dtype[Any], offset: float) -> npt.NDArray[np.bool_]:
    """Elements that differ by more than `step` and the rounding of floats of both types."""
    epsilon = max([np.finfo(dtype).eps for dtype in (values.dtype, encoded) if dtype.kind == "f"], default=2.0**-52)
    wide, found = values.astype(np.float64), decoded.astype(np.float64)
    near = np.abs(found - wide) <= step + 8 * float(epsilon) * (np.abs(wide) + offset)
    return np.asarray(~(near | (found == wide) | (np.isnan(found) & np.isnan(wide))))
