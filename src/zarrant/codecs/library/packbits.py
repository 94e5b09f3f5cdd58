"""packbits: elements of fewer bits than a byte has, or some of their bits, one after the other without gaps.

The first bit of an element is its least significant one, and the first bit of a byte is, too. What is left of the last byte is
zeros; how many bits that are may be said in a byte before or after.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import ml_dtypes
import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, choice, integer
from zarrant.codecs.library.elementwise import refuse_data_type
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind
from zarrant.errors import MetadataError, shown
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

PADDING = ("first_byte", "last_byte", "none")
BLOCK = 1 << 16
"""Components that are unpacked to a byte a bit at once: 64 bits of each take 4 MiB. A multiple of 8, so that blocks are bytes."""


class Layout(NamedTuple):
    """The stored bits of one component (a number, or a part of a complex one): `first` up to `last`, of `width`."""

    components: int
    word: int
    width: int
    first: int
    last: int
    signed: bool

    @property
    def bits(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class PackBits:
    """Bits `first_bit` to `last_bit` of each element (all of them by default), packed.

    `padding_encoding`: where the number of padding bits is stored, "first_byte", "last_byte" or "none".

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/packbits

    >>> PackBits("first_byte").to_json()["configuration"]
    {'padding_encoding': 'first_byte'}
    """

    padding_encoding: str = "none"
    first_bit: int | None = None
    last_bit: int | None = None
    name: ClassVar[str] = "packbits"
    kind: ClassVar[Kind] = "array_to_bytes"

    def __post_init__(self) -> None:
        choice(self.padding_encoding, "padding_encoding", PADDING)
        _bit_range(self.first_bit, self.last_bit, "")

    @classmethod
    def from_json(cls, document: Named, path: str) -> PackBits:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=("padding_encoding", "first_bit", "last_bit"))
        given, where = document.configuration, f"{path}.configuration."
        padding = choice(given.get("padding_encoding", "none"), f"{where}padding_encoding", PADDING)
        first, last = given.get("first_bit"), given.get("last_bit")
        _bit_range(first, last, where)
        return cls(padding, first, last)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec; what is the default is left out."""
        members = {"first_bit": self.first_bit, "last_bit": self.last_bit}
        configuration: dict[str, Any] = {key: value for key, value in members.items() if value is not None}
        if self.padding_encoding != "none":
            configuration = {"padding_encoding": self.padding_encoding, **configuration}
        return {"name": self.name, "configuration": configuration} if configuration else {"name": self.name}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """As many bytes as the bits of all elements fill."""
        return BytesSpec(_sizes(spec, self._layout(spec))[0] + (self.padding_encoding != "none"))

    def _layout(self, spec: ArraySpec) -> Layout:
        components, word, width, signed = _component(self, spec)
        # "If omitted, or specified as null, defaults to N - 1, where N is the total number of bits per component" (last_bit)
        last = width - 1 if self.last_bit is None else self.last_bit
        first = self.first_bit or 0
        if not first <= last < width:
            path = "$.configuration.first_bit" if self.last_bit is None else "$.configuration.last_bit"
            expected = f"bits of {spec.data_type.name}: 0..{width - 1}, the first before the last"
            raise MetadataError("no bits of this data type", path=path, codec=self.name, expected=expected, got=f"{first}..{last}")
        return Layout(components, word, width, first, last, signed)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The packed bits, and the byte that says how many are padding."""
        layout = self._layout(spec)
        words = np.ascontiguousarray(array).reshape(-1).view(f"u{layout.word}")
        if layout.bits == 8 * layout.word:
            packed = words.astype(words.dtype.newbyteorder("<"), copy=False).tobytes()
        else:
            packed = b"".join(_pack(words[at : at + BLOCK], layout) for at in range(0, len(words), BLOCK))
        padding = bytes([_sizes(spec, layout)[1]])
        if self.padding_encoding == "first_byte":
            return padding + packed
        return packed + padding if self.padding_encoding == "last_byte" else packed

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The elements; ValueError where the bytes are not as many as they have, or the padding is another."""
        layout = self._layout(spec)
        size, padding = _sizes(spec, layout)
        found = np.frombuffer(data, np.uint8)
        expected = size + (self.padding_encoding != "none")
        if found.size != expected:
            raise ValueError(f"{found.size} bytes, expected {expected}")
        if self.padding_encoding != "none":
            at = 0 if self.padding_encoding == "first_byte" else -1
            if found[at] != padding:
                raise ValueError(f"{found[at]} bits of padding, expected {padding}")
            found = found[1:] if at == 0 else found[:-1]
        words = _unpack_all(found, math.prod(spec.shape) * layout.components, layout)
        return words.view(spec.data_type.numpy).reshape(spec.shape)


def _sizes(spec: ArraySpec, layout: Layout) -> tuple[int, int]:
    """The bytes of the bits of all elements, and the bits of the last byte that are padding."""
    bits = math.prod(spec.shape) * layout.components * layout.bits
    return -(-bits // 8), -bits % 8


def _bit_range(first: object, last: object, where: str) -> None:
    for name, value in (("first_bit", first), ("last_bit", last)):
        if value is not None:
            integer(value, f"{where}{name}", 0, 63)
    if isinstance(first, int) and isinstance(last, int) and last < first:
        raise MetadataError("wrong value", path=f"{where}last_bit", expected=f"{first} (first_bit) or more", got=shown(last))


def _component(codec: PackBits, spec: ArraySpec) -> tuple[int, int, int, bool]:
    """Of the data type of a spec: components an element, bytes of one, its bits, and whether it is a signed integer."""
    data_type = spec.data_type
    kind = getattr(data_type, "kind", None)
    if data_type.numpy.kind in "mM":
        return 1, 8, 64, True
    if kind == "bool":
        return 1, 1, 1, False
    if kind in ("int", "uint"):
        return 1, data_type.word, int(ml_dtypes.iinfo(data_type.numpy).bits), kind == "int"  # type: ignore[no-untyped-call]
    part: Any = getattr(data_type, "part", data_type)
    if kind in ("float", "complex") or part is not data_type:
        components = (data_type.itemsize or 0) // data_type.word
        scalar = part.numpy if kind != "complex" else np.dtype(f"f{data_type.word}")
        return components, data_type.word, int(ml_dtypes.finfo(scalar).bits), False  # type: ignore[no-untyped-call]
    raise refuse_data_type(codec, spec, "bool, integers, floats, complex numbers and times")


def _pack(words: npt.NDArray[Any], layout: Layout) -> bytes:
    data = words.astype(words.dtype.newbyteorder("<"), copy=False).view(np.uint8).reshape(len(words), layout.word)
    bits = np.unpackbits(data, axis=1, bitorder="little")[:, layout.first : layout.last + 1]
    return np.packbits(bits, axis=None, bitorder="little").tobytes()


def _unpack_all(packed: npt.NDArray[np.uint8], count: int, layout: Layout) -> npt.NDArray[Any]:
    """`count` components as unsigned words in native byte order."""
    dtype = np.dtype(f"u{layout.word}")
    if layout.bits == 8 * layout.word:
        return packed.view(dtype.newbyteorder("<")).astype(dtype)
    words = np.empty(count, dtype)
    for at in range(0, count, BLOCK):
        n = min(BLOCK, count - at)
        start = at * layout.bits // 8
        words[at : at + n] = _unpack(packed[start : start + -(-n * layout.bits // 8)], n, layout)
    return words


def _unpack(packed: npt.NDArray[np.uint8], count: int, layout: Layout) -> npt.NDArray[Any]:
    bits = np.zeros((count, 8 * layout.word), np.uint8)
    found = np.unpackbits(packed, count=count * layout.bits, bitorder="little").reshape(count, layout.bits)
    bits[:, layout.first : layout.last + 1] = found
    if layout.signed:  # the sign goes on up to the width of the type; beyond that bits are zero, as ml_dtypes has them
        bits[:, layout.last + 1 : layout.width] = found[:, -1:]
    return np.packbits(bits, axis=1, bitorder="little").reshape(-1).view(f"<u{layout.word}")
