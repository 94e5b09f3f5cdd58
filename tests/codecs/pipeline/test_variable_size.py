"""Elements of variable size, of two small data types of our own: texts of NumPy, and bytes as Python objects."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarrant.codecs import Bytes, Crc32c, Gzip, Numcodecs, ShardingIndexed, Transpose, Zstd
from zarrant.codecs.chain import chain_of
from zarrant.codecs.library.vlen import VlenBytes, VlenUtf8
from zarrant.codecs.protocols import ArraySpec
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import ChunkError, DataTypeError, MetadataError
from zarrant.geometry.box import ArraySubset

TEXTS = np.dtypes.StringDType()


@dataclass(frozen=True)
class SmallFill:
    scalar: Any
    numpy: Any

    @property
    def element(self) -> Any:
        element = np.empty((), self.numpy)
        element[()] = self.scalar
        return element

    def full(self, shape: Any) -> Any:
        return np.broadcast_to(self.element, tuple(shape))

    def equals(self, rows: Any) -> Any:
        return (rows == self.element).reshape(len(rows), -1).all(axis=1)


@dataclass(frozen=True)
class SmallType:
    name: str
    numpy: Any
    default: Any
    itemsize: Any = None
    word: int = 1

    def fill_from_python(self, value: Any) -> SmallFill:
        return SmallFill(self.default if value is None else value, self.numpy)


TEXT, RUNS = SmallType("text", TEXTS, ""), SmallType("runs", np.dtype(object), b"")
ELEMENTS = {"text": ["", "a", "é", "日本語" * 9, "x" * 300, "\0"], "runs": [b"", b"a", b"\xff\0", b"x" * 300]}


def shard(*inner: Any, shape: tuple[int, ...] = (2, 3)) -> ShardingIndexed:
    return ShardingIndexed(shape, chain_of(inner), chain_of([Bytes(), Crc32c()]))


def chains(vlen: Any) -> dict[str, list[Any]]:
    return {
        "alone": [vlen],
        "compressed": [vlen, Zstd(), Crc32c()],
        "transposed, on the general path": [Transpose((1, 0)), vlen, Numcodecs("numcodecs.bz2"), Gzip(1)],
        "in shards": [shard(vlen, Zstd())],
        "in nested shards": [shard(shard(vlen, shape=(1, 3)), shape=(2, 6)), Gzip(1)],
    }


CASES = [(kind, name) for kind in ("text", "runs") for name in chains(VlenUtf8())]


def case(kind: str, name: str, codec: Any, **options: Any) -> Any:
    vlen, data_type = (VlenUtf8(), TEXT) if kind == "text" else (VlenBytes(), RUNS)
    return codec(chains(vlen)[name], (4, 6), data_type, **options)


def values_of(kind: str, seed: int, shape: tuple[int, ...]) -> Any:
    dice = np.random.default_rng(seed)
    found = np.empty(shape, object)
    for at in np.ndindex(shape):
        found[at] = ELEMENTS[kind][dice.integers(len(ELEMENTS[kind]))]
    return found.astype(TEXTS) if kind == "text" else found


@st.composite
def subsets(draw: st.DrawFn) -> ArraySubset:
    start = [draw(st.integers(0, n - 1)) for n in (4, 6)]
    return ArraySubset(tuple(start), tuple(draw(st.integers(1, n - a)) for n, a in zip((4, 6), start, strict=True)))


@pytest.mark.parametrize(("kind", "name"), CASES)
@given(subset=subsets(), seed=st.integers(0, 99))
def test_partial_writes_and_reads_are_slices(kind: str, name: str, subset: ArraySubset, seed: int, codec: Any) -> None:
    c = case(kind, name, codec, write_empty_chunks=True)
    old, new = values_of(kind, seed, (4, 6)), values_of(kind, seed + 1, subset.shape)
    merged = c.encode(new, c.encode(old), subset)
    old[subset.slices] = new
    assert np.array_equal(c.decode(merged), old)
    assert np.array_equal(c.decode(merged, subset), new)


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_fill_is_compared_element_by_element(kind: str, name: str, codec: Any) -> None:
    fill = ELEMENTS[kind][3]
    c = case(kind, name, codec, fill=fill)
    values = np.full((4, 6), fill, c.spec.data_type.numpy)
    assert c.encode(values) is None
    assert case(kind, name, codec, fill=fill, write_empty_chunks=True).encode(values) is not None
    one = ArraySubset((1, 2), (1, 1))
    data = c.encode(np.array([[ELEMENTS[kind][1]]], c.spec.data_type.numpy), None, one)
    values[1, 2] = ELEMENTS[kind][1]
    assert np.array_equal(c.decode(data), values)
    assert c.encode(np.array([[fill]], c.spec.data_type.numpy), data, one) is None


def test_the_layout_is_that_of_numcodecs(codec: Any) -> None:
    numcodecs = pytest.importorskip("numcodecs")
    for kind, theirs in (("text", numcodecs.VLenUTF8()), ("runs", numcodecs.VLenBytes())):
        c, values = case(kind, "alone", codec), values_of(kind, 1, (4, 6))
        data = c.encode(values)
        assert data == bytes(theirs.encode(values.astype(object).reshape(-1)))
        assert theirs.decode(data).tolist() == values.reshape(-1).tolist()


GOOD = struct.pack("<I", 24) + b"".join(struct.pack("<I", 1) + b"a" for _ in range(24))
BAD = {
    "nothing": b"",
    "no lengths": GOOD[:4],
    "cut off": GOOD[:-1],
    "cut off before the last length": GOOD[:-4],
    "bytes after the end": GOOD + b"\0",
    "a smaller count": struct.pack("<I", 23) + GOOD[4:],
    "a large count": struct.pack("<I", 2**32 - 1) + GOOD[4:],
    "a length over the end": GOOD[:4] + struct.pack("<I", 2**32 - 1) + GOOD[8:],
    "a length that takes over the next element": GOOD[:4] + struct.pack("<I", 6) + GOOD[8:],
}


@pytest.mark.parametrize("kind", ["text", "runs"])
@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_bytes_that_lie(data: bytes, kind: str, codec: Any) -> None:
    c = case(kind, "alone", codec)
    with pytest.raises(ChunkError) as caught:
        c.decode(data)
    assert caught.value.codec == ("vlen-utf8" if kind == "text" else "vlen-bytes")


def test_text_that_is_not_utf_8(codec: Any) -> None:
    data = GOOD[:8] + b"\xff" + GOOD[9:]
    with pytest.raises(ChunkError, match="UnicodeDecodeError"):
        case("text", "alone", codec).decode(data)
    assert case("runs", "alone", codec).decode(data)[0, 0] == b"\xff"


def test_what_is_no_text_is_refused(codec: Any) -> None:
    objects = SmallType("text", np.dtype(object), "")
    with pytest.raises(DataTypeError, match="not a text"):
        codec([VlenUtf8()], (2,), objects).encode(np.array(["a", 1], object))
    with pytest.raises(DataTypeError, match="not bytes"):
        codec([VlenBytes()], (2,), objects).encode(np.array([b"a", "b"], object))
    assert codec([VlenUtf8()], (2,), objects).decode(GOOD[:4].replace(b"\x18", b"\2") + GOOD[4:14]).tolist() == ["a", "a"]


def test_types_and_codecs_that_do_not_fit() -> None:
    number = from_numpy("int32")
    for codec, data_type in ((VlenUtf8(), number), (VlenBytes(), number), (VlenBytes(), TEXT), (Bytes(), TEXT)):
        fill: Any = data_type.fill_from_python(None)
        with pytest.raises(MetadataError) as caught:
            chain_of([codec]).bind(ArraySpec((2,), data_type, fill))  # type: ignore[arg-type]
        assert (caught.value.path, caught.value.codec) == ("$.codecs[0]", codec.name)
