"""`update` and encoders against NumPy in every layout; what they read and write, and what they do about a lost race."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from zarrant.codecs import Crc32c, Transpose, Zstd
from zarrant.codecs.protocols import CodecOptions
from zarrant.errors import BoundsError, ConflictError, DataTypeError, PartialFailure, ShapeError
from zarrant.ops import read, update, write
from zarrant.ops.atomic_update import touched_keys, update_subset
from zarrant.ops.bound_array import OpOptions
from zarrant.ops.partial_encoder import Encoder
from zarrant.requests import Fetch, Locked, Put
from zarrant.storage import ByteRange

S = np.s_
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}


def sharding(chunk: tuple[int, ...], *codecs: Any, location: str = "end") -> dict[str, Any]:
    configuration = {"chunk_shape": chunk, "codecs": list(codecs), "index_codecs": [LITTLE, CRC], "index_location": location}
    return {"name": "sharding_indexed", "configuration": configuration}


def swap(*order: int) -> dict[str, Any]:
    return {"name": "transpose", "configuration": {"order": order}}


SHAPE = (13, 10)
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunk": {"chunks": (8, 6), "compressors": "auto"},
    "transposed chunk": {"chunks": (8, 6), "filters": Transpose((1, 0)), "compressors": [Zstd(1), Crc32c()]},
    "chunk larger than the array": {"chunks": (16, 16)},
    "shard": {"chunks": (2, 3), "shards": (8, 6)},
    "index at the start": {"chunks": (8, 6), "serializer": sharding((2, 3), LITTLE, CRC, location="start")},
    "transposed shard": {"chunks": (8, 6), "filters": Transpose((1, 0)), "serializer": sharding((3, 4), swap(1, 0), LITTLE)},
    "nested": {"chunks": (8, 8), "serializer": sharding((4, 4), sharding((2, 2), LITTLE, location="start"))},
    "nested, transposed": {
        "chunks": (8, 4), "filters": Transpose((1, 0)), "serializer": sharding((4, 4), swap(1, 0), sharding((2, 1), LITTLE, CRC)),
    },
    "compressed shard": {"chunks": (8, 6), "serializer": sharding((2, 3), LITTLE), "compressors": [Zstd(), Crc32c()]},
    "compressed shard within a shard": {
        "chunks": (8, 8), "serializer": sharding((4, 4), sharding((2, 2), LITTLE), {"name": "zstd", "configuration": {"level": 1}}),
    },
}  # fmt: skip
OPTIONS = [
    CodecOptions(),
    CodecOptions(write_empty_chunks=True),
    CodecOptions(dead_limit=0.0, subchunk_order="morton"),
    CodecOptions(dead_limit=1.0, batch_bytes=64),
    CodecOptions(shard_updates="repack"),
]


class Dice(random.Random):
    def spans(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        lows = [self.randint(0, extent) for extent in shape]
        return tuple(slice(low, self.randint(low, extent)) for low, extent in zip(lows, shape, strict=True))

    def values(self, shape: tuple[int, ...], fill: int) -> Any:
        if self.random() < 0.3:
            return np.full(shape, fill, "int32")
        return np.array([self.randint(fill, fill + 3) for _ in range(int(np.prod(shape)))], "int32").reshape(shape)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("seed", range(5))
def test_encoders_are_like_numpy(objects, state, layout: str, seed: int) -> None:
    dice, fill = Dice(seed), seed % 2
    s = state(OpOptions(OPTIONS[seed]), shape=SHAPE, fill_value=fill, **LAYOUTS[layout])
    padded = tuple(n * c for n, c in zip(s.grid.grid_shape, s.grid.uniform_shape, strict=True))
    model = np.full(padded, fill, "int32")
    for _ in range(6):
        if dice.random() < 0.5:
            objects.perform(update.store_array_subset(s, spans := dice.spans(SHAPE), value := dice.randint(0, 9)))
            model[spans] = value
        chunk = tuple(dice.randrange(n) for n in s.grid.grid_shape)
        part = model[s.grid.subset(chunk).slices]
        encoder = Encoder(s, chunk, dice.choice([0, 300, 10**9]))
        for _ in range(dice.randint(0, 8)):
            action = dice.random()
            if action < 0.1:
                objects.perform(encoder.erase())
                part[...] = fill
            elif action < 0.2:
                objects.perform(encoder.flush())
            else:
                room = s.grid.in_bounds(chunk).shape if dice.random() < 0.7 else s.chunk_shape(chunk)
                spans = dice.spans(room)
                values = dice.values(part[spans].shape, fill)
                objects.perform(encoder.store(spans, values))
                values += 1  # it was copied
                part[spans] = values - 1
        objects.perform(encoder.flush())
        assert encoder.nbytes == 0
        found = objects.perform(read.retrieve_array_subset(s, S[0 : SHAPE[0], 0 : SHAPE[1]]))
        assert np.array_equal(found, model[: SHAPE[0], : SHAPE[1]])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_updates_are_like_numpy(objects, state, layout: str) -> None:
    dice = Dice(layout)
    for options in OPTIONS:
        s = state(OpOptions(options), shape=SHAPE, fill_value=1, **LAYOUTS[layout])
        objects.clear()
        model = np.ones(SHAPE, "int32")
        for _ in range(10):
            spans = dice.spans(SHAPE)
            seen: list[Any] = []

            def fn(current: Any, seen: list[Any] = seen, kind: int = dice.randrange(3)) -> Any:
                seen.append(current.copy())
                current *= 3
                return current % 11 if kind else 1

            objects.perform(update_subset(s, spans, fn))
            assert len(seen) == len(touched_keys(s, spans))
            assert sorted(v for part in seen for v in part.flat) == sorted(model[spans].flat)
            model[spans] = fn(model[spans].copy())
            assert np.array_equal(objects.perform(read.retrieve_array_subset(s, S[0 : SHAPE[0], 0 : SHAPE[1]])), model)


def test_encoders_write_padding(objects, stored_state) -> None:
    s = stored_state(shape=(3,), chunks=(2,), shards=(8,))
    encoder = Encoder(s, (0,), 10**9)
    objects.perform(encoder.store(S[0:3], [1, 2, 3]))
    objects.perform(encoder.flush())
    assert "Fetch" not in objects.kinds(), "all that is in bounds"
    objects.perform(encoder.store(S[2:6], 4))
    objects.perform(encoder.flush())
    assert objects.perform(read.retrieve_chunk(s, (0,))).tolist() == [1, 2, 4, 4, 4, 4, 0, 0]


def traffic(objects) -> tuple[list[ByteRange | None], list[Any]]:
    """The ranges that were read, and what was put."""
    wants = [want for request in objects.log if isinstance(request, Fetch) for want in request.items]
    reads = [part for want in wants for part in (want.ranges or [None])]
    return reads, [item for request in objects.log if isinstance(request, Put) for item in request.items]


def test_an_encoder_reads_the_index_once_and_writes_once(objects, state) -> None:
    s = state(shape=(16, 16), chunks=(2, 2), shards=(16, 16), fill_value=0)
    objects.perform(write.store_chunk(s, (0, 0), np.arange(1, 257, dtype="int32").reshape(16, 16)))
    before = objects["a/c/0/0"]
    objects.log.clear()
    encoder = Encoder(s, (0, 0), 10**9)
    for i in range(16):
        for _ in range(3):
            objects.perform(encoder.store(S[i : i + 1, 4:8], -1))  # two subchunks, in halves
    objects.perform(encoder.store(S[0:1, 0:2], -1))
    assert objects.log == [], "nothing is asked for before the flush"
    objects.perform(encoder.flush())
    reads, puts = traffic(objects)
    index = 64 * 16 + 4
    assert reads == [ByteRange.suffix(index), ByteRange(0, 16)], "of the subchunks only the one written in part"
    (new,) = puts
    assert [part for part in new.parts if isinstance(part, ByteRange)] == [ByteRange(0, len(before) - index)]
    assert len(objects["a/c/0/0"]) == len(before) + 17 * 16, "each subchunk appended once"
    objects.log.clear()
    objects.perform(encoder.flush())
    assert objects.log == []


def test_a_whole_chunk_is_written_without_a_read(objects, stored_state) -> None:
    for layout in ({"chunks": (4, 3)}, {"chunks": (2, 3), "shards": (4, 3)}):
        s = stored_state(**layout)
        encoder = Encoder(s, (2, 2), 10**9)
        for row in range(2):  # of four, two are in bounds
            objects.perform(encoder.store(S[row : row + 1, 0:3], 5))
        objects.log.clear()
        objects.perform(encoder.flush())
        assert "Fetch" not in objects.kinds() or layout != {"chunks": (4, 3)}
        assert objects.perform(read.retrieve_array_subset(s, S[8:10, 6:9])).tolist() == [[5, 5, 5]] * 2


def test_an_update_reads_each_byte_once(objects, state) -> None:
    s = state(shape=(8, 6), chunks=(2, 3), shards=(8, 6))
    objects.perform(write.store_chunk(s, (0, 0), np.arange(1, 49).reshape(8, 6)))
    objects.log.clear()
    objects.perform(update_subset(s, S[1:3, 0:2], lambda x: -x))
    reads, puts = traffic(objects)
    assert sum(part.length for part in reads if part is not None and part.start >= 0) == 2 * 24
    assert len([part for part in reads if part is not None and part.start < 0]) == 1
    assert len(puts) == 1
    s = state(shape=(8, 6), chunks=(8, 6))
    objects.perform(write.store_chunk(s, (0, 0), 1))
    objects.log.clear()
    objects.perform(update_subset(s, S[1:3, 0:2], lambda x: x + 1))
    assert len(traffic(objects)[0]) == 1


def test_memory_is_bounded(objects, state) -> None:
    s = state(shape=(64,), chunks=(4,), shards=(64,))
    encoder, most = Encoder(s, (0,), 200), 0
    for i in range(64):
        objects.perform(encoder.store(S[i : i + 1], i + 1))
        most = max(most, encoder.nbytes)
    assert 0 < most <= 100
    assert len(traffic(objects)[1]) > 2
    objects.perform(encoder.flush())
    assert objects.perform(read.retrieve_chunk(s, (0,))).tolist() == list(range(1, 65))


@pytest.mark.parametrize("layout", [{"chunks": (8,)}, {"chunks": (2,), "shards": (8,)}])
@pytest.mark.parametrize("there", [True, False])
def test_a_lost_race_starts_over(objects, state, layout, there: bool) -> None:
    """Another writer is between our read and our write, as on a store with compare-and-swap only."""
    s = state(shape=(8,), **layout)
    other = type(objects)()
    if there:
        objects.perform(write.store_chunk(s, (0,), 1))
    other.update(objects)
    races = 2

    def meddle(request: Any) -> None:
        nonlocal races
        if races and isinstance(request, Put):
            races -= 1
            other.perform(update_subset(s, S[4:6], lambda x: x + 10))
            objects.update(other)

    calls: list[Any] = []
    objects.before = meddle
    objects.perform(update_subset(s, S[3:5], lambda x: [calls.append(x.tolist()), x + 100][1]))
    first = int(there)
    assert calls == [[first, first], [first, first + 10], [first, first + 20]]
    expected = [first] * 3 + [first + 100, first + 120, first + 20] + [first] * 2
    assert objects.perform(read.retrieve_chunk(s, (0,))).tolist() == expected

    other.clear()
    other.update(objects)
    races = 2
    encoder = Encoder(s, (0,), 10**9)
    objects.perform(encoder.store(S[5:7], -1))
    objects.perform(encoder.store(S[0:1], -2))
    objects.perform(encoder.flush())
    expected = [-2, first, first, first + 100, first + 140, -1, -1, first]
    assert objects.perform(read.retrieve_chunk(s, (0,))).tolist() == expected

    races = 1000
    objects.perform(encoder.store(S[5:7], -3))
    with pytest.raises(ConflictError) as caught:
        objects.perform(encoder.flush())
    assert (caught.value.chunk, encoder.nbytes > 0) == ((0,), True)


def test_erase(objects, state) -> None:
    s = state(shape=(8,), chunks=(2,), shards=(8,))
    objects.perform(write.store_chunk(s, (0,), 1))
    objects.log.clear()
    encoder = Encoder(s, (0,), 10**9)
    objects.perform(encoder.store(S[0:8], 3))
    objects.perform(encoder.erase())
    assert list(objects) == ["a/c/0"]
    objects.perform(encoder.store(S[3:4], 7))
    objects.perform(encoder.flush())
    assert "Fetch" not in objects.kinds()
    assert objects.perform(read.retrieve_chunk(s, (0,))).tolist() == [0, 0, 0, 7, 0, 0, 0, 0]
    objects.perform(encoder.erase())
    objects.perform(encoder.flush())
    assert objects == {}


def test_wrong_calls_change_nothing(objects, state) -> None:
    s = state()
    with pytest.raises(BoundsError):
        Encoder(s, (3, 0), 1)
    encoder = Encoder(s, (0, 0), 1)
    for subset, data, error in [
        (S[0:5, 0:3], 1, BoundsError),
        (S[0:2, 0:2], [1, 2, 3], ShapeError),
        (S[0:1, 0:1], 0.5, DataTypeError),
    ]:
        with pytest.raises(error):
            objects.perform(encoder.store(subset, data))
    objects.perform(encoder.store(S[1:1, 0:3], 1))
    objects.perform(encoder.flush())
    objects.perform(update_subset(s, S[5:5, 0:3], lambda x: 1 / 0))
    for fn, error in [(lambda x: None, DataTypeError), (lambda x: [1, 2, 3, 4], ShapeError), (lambda x: x / 2, DataTypeError)]:
        with pytest.raises(error):
            objects.perform(update_subset(s, S[0:2, 0:3], fn))
    with pytest.raises(ZeroDivisionError):
        objects.perform(update_subset(s, S[0:2, 0:3], lambda x: 1 // 0))
    assert objects == {}

    with pytest.raises(PartialFailure) as caught:
        objects.perform(update_subset(s, S[0:10, 0:3], lambda x: x + 2 // (len(x) - 2)))
    assert list(caught.value.failed) == [(2, 0)]
    assert sorted(objects) == ["a/c/0/0", "a/c/1/0"]


def test_unguarded_takes_no_lock(objects, state) -> None:
    s = state(OpOptions(exclusive=False))
    objects.perform(update_subset(s, S[0:2, 0:2], lambda x: x + 1))
    assert not any(isinstance(request, Locked) for request in objects.log)
