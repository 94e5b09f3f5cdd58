"""Object codecs of numcodecs for text, under the names `numcodecs.<id>`: how V2 stores arrays of `|O`, next to vlen-utf8.

- `categorize` maps texts to integers: the number of a label, 0 for what is none of them. Here such a text is refused.
- `json2` and `msgpack2` store nested lists of the elements, and after them the NumPy type and the shape.

Elements are text; a chunk with anything else (numbers, lists, missing values) is refused, and its first such element named.
Nothing that is read is believed: a length may not reach over the end, the shape must be that of the chunk, and lists are as deep
as it has dimensions.

Sources: https://numcodecs.readthedocs.io/en/stable/ (Categorize, JSON, MsgPack), https://github.com/msgpack/msgpack/blob/master/spec.md
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import boolean, check_members, choice, configured, integer
from zarrant.codecs.library.numcodecs_filters import dtype_member
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind
from zarrant.dtypes.base import Fill
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import DataTypeError, MetadataError, shown
from zarrant.metadata.v3 import Named
from zarrant.storage import Buffer

_TEXT = "text: string, or fixed_length_utf32"


def _require_text(name: str, spec: ArraySpec, kinds: str) -> None:
    if spec.data_type.numpy.kind not in kinds:
        raise MetadataError(f"{name} cannot store this data type", codec=name, expected=_TEXT, got=spec.data_type.name)


# ── categorize


@dataclass(frozen=True)
class Categorize:
    """Texts as the numbers of their labels, counted from 1; 0 is the empty text.

    >>> spec = ArraySpec((3,), from_numpy("str"), from_numpy("str").default_fill())
    >>> Categorize(("female", "male")).encode(np.array(["male", "female", ""], "T"), spec)
    array([2, 1, 0], dtype=uint8)
    """

    labels: tuple[str, ...]
    dtype: str = "|O"
    astype: str = "|u1"
    name: ClassVar[str] = "numcodecs.categorize"
    kind: ClassVar[Kind] = "array_to_array"

    def __post_init__(self) -> None:
        where = "$.configuration"
        if not isinstance(self.labels, list | tuple) or not all(isinstance(label, str) for label in self.labels):
            raise MetadataError("wrong value", path=f"{where}.labels", expected="a list of strings", got=shown(self.labels))
        object.__setattr__(self, "labels", tuple(self.labels))
        dtype = "|O" if self.dtype in ("|O", "O", "object") else dtype_member("SU")(self.dtype, f"{where}.dtype")
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "astype", dtype_member("iu")(self.astype, f"{where}.astype"))
        most = int(np.iinfo(self.astype).max)
        if len(self.labels) > most:
            got = f"{len(self.labels)} labels"
            raise MetadataError("too many labels", path=f"{where}.labels", expected=f"at most {most} for {self.astype}", got=got)

    @classmethod
    def from_json(cls, document: Named, path: str) -> Self:
        """Read the codec from its name and configuration."""
        check_members(document, path, ("labels",), ("dtype", "astype"))
        return configured(cls, document, path)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        configuration = {"labels": list(self.labels), "dtype": self.dtype, "astype": self.astype}
        return {"name": self.name, "configuration": configuration}

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """Integers; the fill value is the number of its label, 0 where it is none."""
        _require_text(self.name, spec, "TU")
        data_type = from_numpy(np.dtype(self.astype))
        fill: Fill = data_type.fill_from_python(self._numbers.get(str(spec.fill.scalar), 0))
        return replace(spec, data_type=data_type, fill=fill)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The numbers; DataTypeError for a text that is neither a label, nor empty, nor the fill value."""
        numbers, known = self._numbers, {"": 0, str(spec.fill.scalar): 0}
        try:
            found = [numbers[text] if text in numbers else known[text] for text in array.reshape(-1).tolist()]
        except KeyError as error:
            expected = shown(list(self.labels))
            raise DataTypeError(
                "a text that is not a label", codec=self.name, expected=expected, got=shown(error.args[0])
            ) from None
        return np.array(found, self._encoded).reshape(array.shape)

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The labels; what is the number of none is the empty text."""
        texts = np.array(["", *self.labels], spec.data_type.numpy)
        at = array.astype(np.int64)
        return texts[np.where((at < 0) | (at > len(self.labels)), 0, at)]

    @property
    def _encoded(self) -> np.dtype[Any]:
        return np.dtype(self.astype).newbyteorder("=")

    @property
    def _numbers(self) -> dict[str, int]:
        return {label: number for number, label in enumerate(self.labels, 1)}


# ── lists of elements


def _texts(items: Any, shape: tuple[int, ...], kind: np.dtype[Any]) -> npt.NDArray[np.generic]:
    """The elements of what json2 and msgpack2 have: nested lists, the NumPy type, and the shape. ValueError."""
    if not isinstance(items, list) or len(items) < 2 or items[-1] != list(shape):
        got = shown(items[-1]) if isinstance(items, list) and items else shown(items)
        raise ValueError(f"says that its shape is {got}, expected {list(shape)}")
    level = items[:-2]
    for length in shape[1:]:
        if not all(isinstance(item, list) and len(item) == length for item in level):
            raise ValueError(f"holds something else than nested lists of {list(shape)}")
        level = [item for inner in level for item in inner]
    if len(level) != math.prod(shape):
        raise ValueError(f"holds {len(level)} elements, expected {math.prod(shape)}")
    for i, item in enumerate(level):
        if not isinstance(item, str):
            raise ValueError(f"element {i} is no text, but {shown(item)}")
    return np.array(level, kind).reshape(shape)


def _listed(array: npt.NDArray[np.generic]) -> list[Any]:
    """The elements as nested lists, and after them NumPy's type for objects, and the shape."""
    return [*np.atleast_1d(array).tolist(), "|O", list(array.shape)]


@dataclass(frozen=True)
class Json2:
    """Elements as JSON. `encoding` is that of the bytes; the other members say how JSON is written.

    >>> spec = ArraySpec((2,), from_numpy("str"), from_numpy("str").default_fill())
    >>> Json2().encode(np.array(["a", "b"], "T"), spec)
    b'["a","b","|O",[2]]'
    """

    encoding: str = "utf-8"
    skipkeys: bool = False
    ensure_ascii: bool = True
    check_circular: bool = True
    allow_nan: bool = True
    sort_keys: bool = True
    indent: int | None = None
    separators: tuple[str, str] | None = None
    strict: bool = True
    name: ClassVar[str] = "numcodecs.json2"
    kind: ClassVar[Kind] = "array_to_bytes"
    FLAGS: ClassVar = ("skipkeys", "ensure_ascii", "check_circular", "allow_nan", "sort_keys", "strict")
    SEPARATORS: ClassVar = tuple((comma, colon) for comma in (",", ", ") for colon in (":", ": "))

    def __post_init__(self) -> None:
        where = "$.configuration"
        choice(self.encoding, f"{where}.encoding", ("utf-8", "utf8", "ascii"))
        for flag in self.FLAGS:
            boolean(getattr(self, flag), f"{where}.{flag}")
        if self.indent is not None:
            integer(self.indent, f"{where}.indent", 0, 64)
        separators = self.separators or ((",", ":") if self.indent is None else (", ", ": "))
        if not isinstance(separators, list | tuple) or tuple(separators) not in self.SEPARATORS:
            expected = 'a comma and a colon, with a space after them or not, as in [",", ":"]'
            raise MetadataError("wrong value", path=f"{where}.separators", expected=expected, got=shown(separators))
        object.__setattr__(self, "separators", tuple(separators))

    @classmethod
    def from_json(cls, document: Named, path: str) -> Self:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=("encoding", *cls.FLAGS, "indent", "separators"))
        return configured(cls, document, path)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        configuration = {"encoding": self.encoding, **{flag: getattr(self, flag) for flag in self.FLAGS}}
        separators = list(self.separators or ())
        return {"name": self.name, "configuration": {**configuration, "indent": self.indent, "separators": separators}}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """Bytes, of a size that depends on the elements, which are text."""
        _require_text(self.name, spec, "T")
        return BytesSpec(None)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The elements, their type and their shape."""
        text = json.dumps(_listed(array), ensure_ascii=self.ensure_ascii, indent=self.indent, separators=self.separators)
        return text.encode(self.encoding)

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The elements; ValueError where the bytes are not JSON of just these, RecursionError where they nest too deep."""
        items = json.loads(bytes(data).decode(self.encoding), strict=self.strict)
        return _texts(items, spec.shape, spec.data_type.numpy)


@dataclass(frozen=True)
class MsgPack2:
    """Elements as MessagePack.

    >>> spec = ArraySpec((2,), from_numpy("str"), from_numpy("str").default_fill())
    >>> MsgPack2().encode(np.array(["a", "b"], "T"), spec)
    b'\\x94\\xa1a\\xa1b\\xa2|O\\x91\\x02'
    """

    raw: bool = False
    use_single_float: bool = False
    use_bin_type: bool = True
    name: ClassVar[str] = "numcodecs.msgpack2"
    kind: ClassVar[Kind] = "array_to_bytes"
    FLAGS: ClassVar = ("raw", "use_single_float", "use_bin_type")

    def __post_init__(self) -> None:
        for flag in self.FLAGS:
            boolean(getattr(self, flag), f"$.configuration.{flag}")
        if self.raw:
            raise MetadataError("wrong value", path="$.configuration.raw", expected="false: elements are text", got="true")

    @classmethod
    def from_json(cls, document: Named, path: str) -> Self:
        """Read the codec from its name and configuration."""
        check_members(document, path, optional=cls.FLAGS)
        return configured(cls, document, path)

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {flag: getattr(self, flag) for flag in self.FLAGS}}

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """Bytes, of a size that depends on the elements, which are text."""
        _require_text(self.name, spec, "T")
        if not spec.shape:
            raise MetadataError(f"{self.name} cannot store arrays without dimensions", codec=self.name, expected="a dimension")
        return BytesSpec(None)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """The elements, their type and their shape."""
        parts: list[bytes] = []
        _pack(_listed(array), parts, self.use_bin_type)
        return b"".join(parts)

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """The elements; ValueError where the bytes are not MessagePack of just these."""
        reader = _Reader(bytes(data))
        items = reader.value(len(spec.shape) + 1)
        if reader.at != len(reader.data):
            raise ValueError(f"{len(reader.data) - reader.at} bytes follow after the elements")
        return _texts(items, spec.shape, spec.data_type.numpy)


_STRINGS = ((32, 0xA0, ""), (256, 0xD9, ">B"), (2**16, 0xDA, ">H"), (2**32, 0xDB, ">I"))
_LISTS = ((16, 0x90, ""), (2**16, 0xDC, ">H"), (2**32, 0xDD, ">I"))
_NUMBERS = ((128, 0x00, ""), (256, 0xCC, ">B"), (2**16, 0xCD, ">H"), (2**32, 0xCE, ">I"), (2**64, 0xCF, ">Q"))
"""For numbers below a bound: the first byte, and the form of the number after it. Without one it is part of that byte."""


def _head(number: int, rows: tuple[tuple[int, int, str], ...]) -> bytes:
    """A length, or a number, in its shortest form."""
    for bound, first, form in rows:
        if number < bound:
            return bytes([first]) + struct.pack(form, number) if form else bytes([first | number])
    raise DataTypeError("an element is too large", expected="less than 4 GiB", got=f"{number} bytes")


def _pack(item: Any, parts: list[bytes], str8: bool) -> None:
    """Add the bytes of a text, a number or a list; without `str8` there are no texts with a length of one byte."""
    if isinstance(item, str):
        data = item.encode()
        parts += (_head(len(data), _STRINGS if str8 else (_STRINGS[0], *_STRINGS[2:])), data)
    elif isinstance(item, int):
        parts.append(_head(item, _NUMBERS))
    else:
        parts.append(_head(len(item), _LISTS))
        for each in item:
            _pack(each, parts, str8)


class _Reader:
    """MessagePack of texts, numbers and lists; ValueError for anything else, and for what reaches over the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def value(self, depth: int) -> Any:
        """The next value; lists nest at most `depth` deep."""
        first = self._bytes(1)[0]
        if (length := self._number(first, _STRINGS)) is not None:
            return self._bytes(length).decode()
        if (number := self._number(first, _NUMBERS)) is not None:
            return number
        if (length := self._number(first, _LISTS)) is not None:
            if depth == 0:
                raise ValueError("lists nest too deep")
            if length > len(self.data) - self.at:
                raise ValueError(f"a list of {length} items reaches over the end")
            return [self.value(depth - 1) for _ in range(length)]
        raise ValueError(f"the value at byte {self.at - 1} is no text, but of the type {first:#04x} of MessagePack")

    def _number(self, first: int, rows: tuple[tuple[int, int, str], ...]) -> int | None:
        bound, base, _ = rows[0]
        if base <= first < base + bound:
            return first - base
        for _, code, form in rows[1:]:
            if first == code:
                (number,) = struct.unpack(form, self._bytes(struct.calcsize(form)))
                return int(number)
        return None

    def _bytes(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            raise ValueError(f"{length} bytes at {self.at} reach over the end")
        self.at += length
        return self.data[self.at - length : self.at]
