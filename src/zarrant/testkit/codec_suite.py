"""What every codec promises (`zarrant.codecs.protocols`), as tests to instance for a codec of any of the three kinds.

In: a pytest fixture named `codec`, one codec. Out: tests of its JSON form, of the codec by itself, and of arrays, in chunks and
in shards, that are written with it, opened again and read. Nothing need be registered.

    class TestMyCodec(BytesToBytesSuite):
        @pytest.fixture(params=[MyCodec(), MyCodec(level=9)], ids=str)
        def codec(self, request):
            return request.param
"""

from __future__ import annotations

import json
import pickle
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np

from zarrant import extensions, kernels
from zarrant.codecs.protocols import ArraySpec, BytesSpec, Kind, step_of
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import MetadataError, ZarrantError
from zarrant.kernels import reference
from zarrant.metadata.v3 import Named
from zarrant.nodes.open import create_array, open_array
from zarrant.testkit.checks import check, check_equal, raises, skip

PATH = "$.codecs[0]"
DECODING_ERRORS = (ValueError, RuntimeError, ZarrantError)
"""What a codec may raise for bytes that do not decode: any other error names no chunk when it reaches a caller."""

SHAPE = (12, 8)
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4, 4)},
    "chunks that reach past the end": {"chunks": (5, 5)},
    "shards": {"chunks": (2, 4), "shards": (6, 8)},
}
CHUNKS: tuple[tuple[int, ...], ...] = ((4, 6), (1, 1), (7, 3))


class CodecSuite(ABC):
    """What every codec promises, whatever its kind."""

    kind: ClassVar[Kind]
    dtype: ClassVar[Any] = "int32"
    """The data type of the arrays that are tested."""

    @abstractmethod
    def place(self, codec: Any) -> dict[str, Any]:
        """The keywords of `create_array` that put the codec in its place."""

    def values(self, shape: tuple[int, ...]) -> Any:
        """Elements that the codec gives back exactly; override for a codec that does not take all of them."""
        count = int(np.prod(shape))
        return (np.arange(count) // 3 % 100).astype(from_numpy(self.dtype).numpy).reshape(shape)

    def spec(self, shape: tuple[int, ...]) -> ArraySpec:
        """Chunks of a shape."""
        data_type: Any = from_numpy(self.dtype)
        return ArraySpec(shape, data_type, data_type.default_fill())

    def test_it_is_registered_as_its_kind(self, codec: Any) -> None:
        check_equal(codec.kind, self.kind, "the kind of the codec")
        extensions.codecs.check(type(codec))

    def test_json(self, codec: Any) -> None:
        document = codec.to_json()
        check_equal(json.loads(json.dumps(document)), document, "`to_json`, as JSON text and back")
        named = Named.parse(document, PATH)
        check_equal(named.name, codec.name, "the name in `to_json`")
        again = type(codec).from_json(named, PATH)
        check_equal(again, codec, "`from_json` of `to_json`")
        check_equal(hash(again), hash(codec), "the hashes of two equal codecs")

    def test_unknown_members_are_refused(self, codec: Any) -> None:
        named = Named.parse(codec.to_json(), PATH)
        with raises(MetadataError, "`from_json` of a configuration with the unknown member 'testkit'") as caught:
            type(codec).from_json(Named(named.name, {**named.configuration, "testkit": 1}), PATH)
        where = str(caught.value.path)
        check(where.startswith(f"{PATH}.configuration"), f"the error names {PATH}.configuration.testkit, not {where}")

    def test_pickle(self, codec: Any) -> None:
        check_equal(pickle.loads(pickle.dumps(codec)), codec, "the codec, pickled and back")

    def test_arrays(self, codec: Any) -> None:
        """Written whole and in part, opened again by the name in the metadata, and read."""
        values = self.values(SHAPE)
        with registered(codec):
            for layout, options in LAYOUTS.items():
                objects: dict[str, Any] = {}
                array: Any = create_array(objects, shape=SHAPE, dtype=self.dtype, **options, **self.place(codec))
                array[...] = np.roll(values, 1, 0)
                array[...] = values
                array[3:7, 1:6] = values[3:7, 1:6]
                again: Any = open_array(objects)
                check(np.array_equal(again[...], values), f"an array in {layout}, opened again, has other values")
                check(np.array_equal(again[2:9:3, 5], values[2:9:3, 5]), f"a selection of an array in {layout} has other values")


@contextmanager
def registered(codec: Any) -> Iterator[None]:
    """The class of the codec under its name, where nothing is, while the block runs."""
    absent = codec.name not in extensions.codecs
    if absent:
        extensions.codecs.register(codec.name, type(codec))
    try:
        yield
    finally:
        if absent:
            extensions.codecs.unregister(codec.name)


class ArrayToArraySuite(CodecSuite):
    """What a codec that maps arrays to arrays promises."""

    kind = "array_to_array"

    def place(self, codec: Any) -> dict[str, Any]:
        return {"filters": [codec]}

    def test_round_trip(self, codec: Any) -> None:
        for shape in CHUNKS:
            spec, values = self.spec(shape), self.values(shape)
            after = codec.resolve(spec)
            encoded = codec.encode(values, spec)
            found = (encoded.shape, encoded.dtype)
            check_equal(found, (after.shape, after.data_type.numpy), f"shape and type of an encoded chunk of {shape}")
            decoded = codec.decode(np.ascontiguousarray(encoded), spec)
            check_equal((decoded.shape, decoded.dtype), (shape, values.dtype), f"shape and type of a decoded chunk of {shape}")
            check(np.array_equal(decoded, values), f"a chunk of {shape}, encoded and decoded, has other values")

    def test_input_stays(self, codec: Any) -> None:
        values = self.values(CHUNKS[0])
        before = values.copy()
        values.flags.writeable = False
        codec.encode(values, self.spec(CHUNKS[0]))
        check(np.array_equal(values, before), "`encode` changed the array that it was given")


class ArrayToBytesSuite(CodecSuite):
    """What a codec that makes bytes of arrays promises."""

    kind = "array_to_bytes"

    def place(self, codec: Any) -> dict[str, Any]:
        return {"serializer": codec, "compressors": None}

    def test_round_trip(self, codec: Any) -> None:
        for shape in CHUNKS:
            spec, values = self.spec(shape), self.values(shape)
            data = bytes(codec.encode(values, spec))
            size = codec.resolve(spec).size
            check(size in (None, len(data)), f"`resolve` says {size} bytes of a chunk of {shape}, `encode` makes {len(data)}")
            decoded = codec.decode(data, spec)
            check_equal((decoded.shape, decoded.dtype), (shape, values.dtype), f"shape and type of a decoded chunk of {shape}")
            check(np.array_equal(decoded, values), f"a chunk of {shape}, encoded and decoded, has other values")

    def test_damage(self, codec: Any) -> None:
        spec = self.spec(CHUNKS[0])
        data = bytes(codec.encode(self.values(CHUNKS[0]), spec))
        for what, bad in {"no bytes": b"", "all bytes but the last": data[:-1]}.items():
            with raises(DECODING_ERRORS, f"`decode` of {what}"):
                codec.decode(bad, spec)


class BytesToBytesSuite(CodecSuite):
    """What a codec over bytes promises."""

    kind = "bytes_to_bytes"
    itemsize: ClassVar[int] = 4
    SAMPLES: ClassVar[dict[str, bytes]] = {
        "8 bytes": b"12345678",
        "zeros": bytes(4096),
        "numbers": np.arange(5000, dtype="<i4").tobytes(),
        "noise": np.random.default_rng(0).bytes(20_000),
    }

    def place(self, codec: Any) -> dict[str, Any]:
        return {"compressors": [codec]}

    def bound(self, codec: Any, size: int) -> Any:
        """The codec with what the spec decides filled in."""
        fill_in = getattr(codec, "for_spec", None)
        return codec if fill_in is None else fill_in(BytesSpec(size, self.itemsize))

    def test_round_trip(self, codec: Any) -> None:
        for what, data in self.SAMPLES.items():
            bound = self.bound(codec, len(data))
            encoded = bytes(bound.encode(data))
            size = bound.resolve(BytesSpec(len(data), self.itemsize)).size
            check(size in (None, len(encoded)), f"`resolve` says {size} bytes for {what}, `encode` makes {len(encoded)}")
            check_equal(bytes(bound.decode(encoded, len(data))), data, f"{what}, encoded and decoded")

    def test_any_buffer(self, codec: Any) -> None:
        data = self.SAMPLES["numbers"]
        bound = self.bound(codec, len(data))
        for kind in (bytearray, memoryview):
            encoded = bound.encode(kind(data))
            check_equal(bytes(bound.decode(kind(bytes(encoded)), len(data))), data, f"bytes given as {kind.__name__}")

    def test_decoding_is_bounded(self, codec: Any) -> None:
        """A chunk that would decode to more than it can hold costs no more memory than it can hold."""
        bound = self.bound(codec, 1 << 20)
        encoded = bytes(bound.encode(bytes(1 << 20)))
        try:
            decoded = bytes(bound.decode(encoded, 1000))
        except DECODING_ERRORS:
            return
        limit = max(1000, len(encoded))  # what is as large as what was stored costs no more than that did
        check(len(decoded) <= limit, f"`decode` of {len(encoded)} bytes with limit 1000 gives {len(decoded)} bytes")

    def test_damage(self, codec: Any) -> None:
        """Bytes that are cut off end in an error that names a chunk, or in other bytes; never in another error."""
        data = self.SAMPLES["numbers"]
        bound = self.bound(codec, len(data))
        encoded = bytes(bound.encode(data))
        for length in (0, 1, len(encoded) // 2, len(encoded) - 1):
            try:
                decoded = bytes(bound.decode(encoded[:length], len(data)))
            except DECODING_ERRORS:
                continue
            except Exception as error:
                names = " or ".join(each.__name__ for each in DECODING_ERRORS)
                raise AssertionError(f"`decode` of {length} bytes raised {type(error).__name__}, not {names}") from error
            check(decoded != data, f"`decode` of {length} of {len(encoded)} bytes gives all data")

    def test_the_compiled_step_agrees(self, codec: Any) -> None:
        """What `encode` makes the step decodes, and `decode` what the step makes: as it is called through Python, and compiled."""
        for what, data in self.SAMPLES.items():
            bound = self.bound(codec, len(data))
            step = step_of(bound)
            if step is None:
                skip("the codec has no compiled step")
            for how, kernel in {"step through Python": reference, "compiled step": kernels}.items():
                decoded = bytes(kernel.decode_step(step, bytes(bound.encode(data)), len(data)))
                check_equal(decoded, data, f"{what}, encoded by `encode` and decoded by the {how}")
                encoded = kernel.encode((step,), np.frombuffer(data, np.uint8)[np.newaxis], None)[0].tobytes()
                check_equal(bytes(bound.decode(encoded, len(data))), data, f"{what}, encoded by the {how} and decoded by `decode`")
