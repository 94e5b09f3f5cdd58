"""Codecs of other packages, without a compiled step: each kind in chunks, in shards, around shards, and as index codecs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest

import zarrant
from zarrant import extensions
from zarrant.codecs import Bytes, Crc32c, Gzip, ShardingIndexed, Transpose, Zstd
from zarrant.codecs.chain import chain_of
from zarrant.codecs.protocols import KINDS, ArraySpec, BytesSpec, CodecOptions
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import ChunkError, MetadataError, OptionError, UnknownExtensionError


@dataclass(frozen=True)
class ThirdParty:
    name: ClassVar[str]

    @classmethod
    def from_json(cls, document: Any, path: str) -> ThirdParty:
        return cls()

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name}


@dataclass(frozen=True)
class Widened(ThirdParty):
    """Array to array: another type, twice as many elements, and another shape."""

    name: ClassVar[str] = "test.widened"
    kind: ClassVar[str] = "array_to_array"

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        data_type = from_numpy("uint64" if spec.data_type.numpy.kind == "u" else "int64")
        fill = data_type.fill_from_python(int(spec.fill.scalar))
        return replace(spec, shape=(*spec.shape[:-1], 2 * spec.shape[-1]), data_type=data_type, fill=fill)

    def encode(self, array: Any, spec: ArraySpec) -> Any:
        return np.repeat(array.astype(self.resolve(spec).data_type.numpy), 2, axis=-1)

    def decode(self, array: Any, spec: ArraySpec) -> Any:
        return array[..., ::2].astype(spec.data_type.numpy)


@dataclass(frozen=True)
class Text(ThirdParty):
    """Array to bytes: JSON, whose size depends on the elements."""

    name: ClassVar[str] = "test.text"
    kind: ClassVar[str] = "array_to_bytes"

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        return BytesSpec(None)

    def encode(self, array: Any, spec: ArraySpec) -> bytes:
        return json.dumps(array.reshape(-1).tolist()).encode()

    def decode(self, data: Any, spec: ArraySpec) -> Any:
        return np.array(json.loads(bytes(data)), spec.data_type.numpy).reshape(spec.shape)


@dataclass(frozen=True)
class Hex(ThirdParty):
    """Bytes to bytes, of fixed size."""

    name: ClassVar[str] = "test.hex"
    kind: ClassVar[str] = "bytes_to_bytes"

    def resolve(self, spec: BytesSpec) -> BytesSpec:
        return BytesSpec(None if spec.size is None else 2 * spec.size)

    def encode(self, data: Any) -> bytes:
        return bytes(data).hex().encode()

    def decode(self, data: Any, limit: int) -> bytes:
        return bytes.fromhex(bytes(data).decode())


@dataclass(frozen=True)
class Inverting(ThirdParty):
    """Makes fill of what is not, and the other way round."""

    name: ClassVar[str] = "test.inverting"
    kind: ClassVar[str] = "array_to_array"

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        return spec

    def encode(self, array: Any, spec: ArraySpec) -> Any:
        return 1 - array

    decode = encode


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    for codec in (Widened, Text, Hex, Inverting):
        extensions.codecs.register(codec.name, codec)
    yield
    for codec in (Widened, Text, Hex, Inverting):
        extensions.codecs.unregister(codec.name)


def shard(*inner: Any, shape: tuple[int, ...] = (2, 4), index: tuple[Any, ...] = (Bytes(), Crc32c())) -> ShardingIndexed:
    return ShardingIndexed(shape, chain_of(inner), chain_of(index))


LAYOUTS: dict[str, list[Any]] = {
    "an array filter": [Widened(), Bytes()],
    "an array filter and compiled steps": [Widened(), Bytes("big"), Zstd(), Crc32c()],
    "an array filter between transpositions": [Transpose((1, 0)), Widened(), Transpose((1, 0)), Bytes()],
    "two array filters": [Widened(), Widened(), Bytes()],
    "a serializer": [Text()],
    "a serializer and compiled steps": [Transpose((1, 0)), Text(), Gzip(1)],
    "a bytes codec": [Bytes(), Hex(), Zstd()],
    "all three": [Widened(), Text(), Hex()],
    "an array filter in a shard": [shard(Widened(), Bytes(), Crc32c())],
    "a serializer in a shard": [shard(Text(), Zstd())],
    "a bytes codec in a shard": [shard(Bytes(), Hex())],
    "all three in a nested shard": [shard(shard(Widened(), Text(), Hex(), shape=(1, 2)), shape=(2, 4))],
    "a bytes codec after a shard": [shard(Bytes()), Hex()],
    "an array filter around a shard": [Widened(), shard(Bytes(), Zstd(), shape=(2, 4))],
    "an array filter around a nested shard, transposed": [
        Transpose((1, 0)), Widened(), shard(shard(Bytes(), Zstd(), shape=(1, 2)), shape=(2, 4)), Gzip(1)
    ],
    "an array filter around a shard in a shard": [shard(Widened(), shard(Bytes(), shape=(2, 4)), shape=(4, 8))],
    "a bytes codec of an index": [shard(Bytes(), index=(Bytes(), Hex()))],
    "an array filter of an index": [shard(Bytes(), index=(Widened(), Bytes(), Crc32c()))],
}  # fmt: skip


def by_kind(codecs: list[Any]) -> dict[str, Any]:
    """The keywords of `create_array`."""
    before, (serializer,), after = ([codec for codec in codecs if codec.kind == kind] for kind in KINDS)
    return {"filters": before, "serializer": serializer, "compressors": after}


@pytest.mark.parametrize("codecs", LAYOUTS.values(), ids=LAYOUTS)
def test_they_work_everywhere(codecs: list[Any]) -> None:
    store: dict[str, bytes] = {}
    a = zarrant.create_array(store, shape=(10, 20), chunks=(4, 8), dtype="int32", fill_value=7, **by_kind(codecs))
    values = np.full((10, 20), 7, "int32")
    dice = np.random.default_rng(1)
    for box in (np.s_[:, :], np.s_[1:3, 2:9], np.s_[4:8, 8:16], np.s_[::3, 1::2], np.s_[9, 19]):
        values[box] = dice.integers(-100, 100, values[box].shape)
        a[box] = values[box]
        assert np.array_equal(zarrant.open_array(store)[...], values)
    a[0:4, 0:8] = values[0:4, 0:8] = 7
    assert a.retrieve_encoded_chunk((0, 0)) is None
    assert np.array_equal(zarrant.open_array(store)[...], values)
    a.append(np.ones((3, 20), "int32"))
    assert np.array_equal(a[...], np.concatenate((values, np.ones((3, 20), "int32"))))
    with a.partial_encoder((1, 1)) as encoder:
        encoder.store(np.s_[0:1, 1:3], 5)
    assert a[4, 8:12].tolist()[1:3] == [5, 5]
    assert a.partial_decoder((1, 1)).retrieve(np.s_[0:1, 1:3]).tolist() == [[5, 5]]
    a.compact()
    assert a[4, 9] == 5


@pytest.mark.parametrize(
    "codecs",
    [*LAYOUTS.values(), [Bytes()], [Transpose((1, 0)), Bytes("big"), Zstd()], [shard(Bytes()), Gzip(1)]],
    ids=[*LAYOUTS, "raw", "compiled", "a compiled codec after a shard"],
)
def test_a_chunk_of_fill_can_be_stored(codecs: list[Any]) -> None:
    int32 = from_numpy("int32")
    prepared = chain_of(codecs).prepare(ArraySpec((4, 8), int32, int32.fill_from_json(7, "$")), CodecOptions())
    with pytest.raises(StopIteration) as made:
        next(prepared.filled())
    parts = made.value.value
    assert parts
    a = zarrant.create_array({}, shape=(4, 8), chunks=(4, 8), dtype="int32", fill_value=7, **by_kind(codecs))
    a.store.put("c/0/0", parts)
    assert a.retrieve_encoded_chunk((0, 0)) is not None
    assert (a[...] == 7).all()
    a[1, 2] = 3
    assert a[...].sum() == 7 * 31 + 3


@pytest.mark.parametrize("codecs", [[Widened(), shard(Bytes())], [shard(Widened(), Bytes())]], ids=["around", "in"])
def test_nothing_but_fill_is_found_by_the_elements_as_the_array_has_them(codecs: list[Any]) -> None:
    """What a codec makes may be fill where the chunk is not."""
    a = zarrant.create_array(
        {}, shape=(4, 8), chunks=(4, 8), dtype="int32", filters=codecs[:-1], serializer=codecs[-1], compressors=None
    )
    a[...] = 0
    assert a.retrieve_encoded_chunk((0, 0)) is None
    a[3, 7] = 1
    assert a.retrieve_encoded_chunk((0, 0)) is not None
    assert a[...].sum() == 1


def test_a_chunk_that_is_encoded_to_fill_is_stored() -> None:
    a = zarrant.create_array(
        {}, shape=(4, 8), chunks=(4, 8), dtype="int32", filters=[Inverting()], serializer=shard(Bytes()), compressors=None
    )
    a[...] = 1  # zeros, encoded
    assert a.retrieve_encoded_chunk((0, 0)) is not None
    assert (a[...] == 1).all()


# ── what is wrong with a codec is found where it is registered or bound


@dataclass(frozen=True)
class NoKind(ThirdParty):
    name: ClassVar[str] = "test.no-kind"


class Unhashable(Hex):
    __hash__ = None  # type: ignore[assignment]


class NoDecode(Hex):
    decode = None  # type: ignore[assignment]


class Silent(Hex):
    def resolve(self, spec: BytesSpec) -> Any:
        return None


class Refusing(Hex):
    def resolve(self, spec: BytesSpec) -> BytesSpec:
        raise ValueError("not for me")


@pytest.mark.parametrize(
    ("codec", "error", "match"),
    [
        (NoKind(), OptionError, "not a codec"),
        (Unhashable(), OptionError, "hash"),
        (NoDecode(), OptionError, "decode"),
        (Silent(), OptionError, "what it hands on"),
        (Refusing(), MetadataError, "not for me"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_codec_is_found_before_anything_is_stored(codec: Any, error: type[Exception], match: str) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(error, match=match):
        zarrant.create_array(store, shape=(4,), chunks=(2,), dtype="int32", compressors=codec)
    assert not store


def test_a_class_that_is_no_codec_is_not_registered() -> None:
    with pytest.raises(OptionError, match="kind"):
        extensions.codecs.register("test.no-kind", NoKind)


def test_the_place_in_the_metadata() -> None:
    with pytest.raises(MetadataError) as caught:
        chain_of([shard(Bytes(), Refusing(), shape=(2,))]).bind(spec(4))
    assert (caught.value.path, caught.value.codec) == ("$.codecs[1]", "test.hex")


def spec(*shape: int, dtype: str = "int32") -> ArraySpec:
    data_type = from_numpy(dtype)
    return ArraySpec(shape, data_type, data_type.default_fill())


# ── what codecs make is checked


class Shifted(Widened):
    def decode(self, array: Any, spec: ArraySpec) -> Any:
        return array


class Raising(Text):
    def encode(self, array: Any, spec: ArraySpec) -> bytes:
        raise RuntimeError("no")


def test_an_array_that_is_not_what_was_said(codec: Any) -> None:
    c = codec([Shifted(), Bytes()], (2, 2))
    with pytest.raises(ChunkError, match=r"makes int64 \(2, 4\), not int32 \(2, 2\)") as caught:
        c.decode(c.encode(np.ones((2, 2))))
    assert caught.value.codec == "test.widened"


def test_what_a_codec_raises_in_encoding_names_it(codec: Any) -> None:
    with pytest.raises(ChunkError, match="RuntimeError: no") as caught:
        codec([Raising()], (2, 2)).encode(np.ones((2, 2)))
    assert caught.value.codec == "test.text"


@pytest.mark.parametrize("layout", ["an array filter around a shard", "all three in a nested shard", "a serializer"])
def test_damage_is_a_chunk_error(layout: str) -> None:
    codecs = LAYOUTS[layout]
    a = zarrant.create_array(
        {}, shape=(4, 8), chunks=(4, 8), dtype="int32", filters=codecs[:-1], serializer=codecs[-1], compressors=None
    )
    a[...] = np.arange(32).reshape(4, 8)
    data = bytearray(a.retrieve_encoded_chunk((0, 0)))
    a.store_encoded_chunk((0, 0), data[: len(data) // 2])
    with pytest.raises(ChunkError):
        a[...]


def test_unknown_names_are_refused() -> None:
    extensions.codecs.unregister("test.hex")
    with pytest.raises(UnknownExtensionError):
        zarrant.create_array({}, shape=(4,), chunks=(2,), dtype="int32", compressors={"name": "test.hex"})
