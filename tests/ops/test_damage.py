"""Operations on a shard of which one subchunk is damaged: it costs itself, and no other."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Crc32c, Zstd
from zarrant.errors import ChunkError, ZarrantError
from zarrant.kernels import crc32c

N, ROWS, WIDTH, BAD = 6, 4, 8, 2
"""Subchunks of a shard along the first dimension, their rows, and which one is damaged."""
KEY = "c/0/0"


def expected() -> np.ndarray:
    return np.arange(1, N * ROWS * WIDTH + 1, dtype="uint16").reshape(N * ROWS, WIDTH)


def make(objects: dict[str, bytes], layout: str, **config: Any) -> Any:
    """An array whose first shard is full, and the same values."""
    compressors: Any = [Zstd(1, True)] if layout == "zstd" else [Crc32c()]
    kind: dict[str, Any] = {"chunks": (ROWS, WIDTH), "shards": (N * ROWS, WIDTH), "compressors": compressors}
    if layout == "start":
        inner = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        sharding = {"chunk_shape": [ROWS, WIDTH], "codecs": inner, "index_codecs": inner, "index_location": "start"}
        serializer = {"name": "sharding_indexed", "configuration": sharding}
        kind = {"chunks": (N * ROWS, WIDTH), "serializer": serializer, "compressors": None}
    a = zarrant.create_array(objects, shape=(N * ROWS, WIDTH), dtype="uint16", config=config, **kind)
    a[...] = expected()
    return a


def split(objects: dict[str, bytes], layout: str) -> tuple[list[list[int]], int]:
    """The index of the stored shard, and where it begins."""
    data, size = objects[KEY], N * 16 + 4
    at = 0 if layout == "start" else len(data) - size
    return [list(struct.unpack_from("<QQ", data, at + 16 * i)) for i in range(N)], at


def with_entry(objects: dict[str, bytes], layout: str, row: int, entry: tuple[int, int]) -> None:
    entries, at = split(objects, layout)
    entries[row] = list(entry)
    raw = b"".join(struct.pack("<QQ", *each) for each in entries)
    raw += struct.pack("<I", int(crc32c(raw)))
    objects[KEY] = objects[KEY][:at] + raw + objects[KEY][at + len(raw) :]


def flip(objects: dict[str, bytes], layout: str) -> None:
    offset, size = split(objects, layout)[0][BAD]
    data = bytearray(objects[KEY])
    data[offset + size // 2] ^= 0x10
    objects[KEY] = bytes(data)


def outside(objects: dict[str, bytes], layout: str) -> None:
    with_entry(objects, layout, BAD, (split(objects, layout)[0][BAD][0], 10**6))


def half(objects: dict[str, bytes], layout: str) -> None:
    with_entry(objects, layout, BAD, (split(objects, layout)[0][BAD][0], 2**64 - 1))


def long(objects: dict[str, bytes], layout: str) -> None:
    """The entry reaches over all that come after."""
    entries, _ = split(objects, layout)
    with_entry(objects, layout, BAD, (entries[BAD][0], sum(entries[N - 1]) - entries[BAD][0]))


def short(objects: dict[str, bytes], layout: str) -> None:
    offset, size = split(objects, layout)[0][BAD]
    with_entry(objects, layout, BAD, (offset, size - 1))


DAMAGES: dict[str, Callable[[dict[str, bytes], str], None]] = {
    "flipped bit": flip, "entry outside": outside, "half an entry": half, "long entry": long, "short entry": short
}  # fmt: skip


@pytest.fixture(params=["end", "start", "zstd"])
def layout(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def others(found: Any) -> np.ndarray:
    return np.delete(np.asarray(found), np.s_[BAD * ROWS : BAD * ROWS + ROWS], 0)


def readable(a: Any) -> np.ndarray:
    """All rows but those of the damaged subchunk, each subchunk read by itself and all before it and after it at once."""
    apart = np.concatenate([a[ROWS * i : ROWS * (i + 1)] for i in range(-(-a.shape[0] // ROWS)) if i != BAD])
    together = np.concatenate((a[: BAD * ROWS], a[(BAD + 1) * ROWS :]))
    assert np.array_equal(apart, together)
    return apart


def refused(call: Callable[[], Any], objects: dict[str, bytes]) -> None:
    before = dict(objects)
    with pytest.raises(ChunkError) as caught:
        call()
    assert caught.value.field in (f"subchunk {BAD}", f"index[{BAD}]")
    assert caught.value.key == KEY
    assert caught.value.chunk == (0, 0)
    assert dict(objects) == before


def write(a: Any, rows: Any, value: int) -> None:
    a[rows] = value


def encoder(a: Any) -> None:
    with a.partial_encoder((0, 0)) as encode:
        encode.store(np.s_[0:3, 0:2], 77)
        encode.store(np.s_[20:24, 0:8], 78)


NEXT: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "part": (lambda a: write(a, 5, 77), [(5, 77)]),
    "whole subchunk": (lambda a: write(a, slice(12, 16), 77), [(slice(12, 16), 77)]),
    "before and after": (
        lambda a: a.store_array_subsets([(np.s_[0:2, :], 7), (np.s_[18:24, :], 8)]), [(slice(0, 2), 7), (slice(18, 24), 8)]
    ),
    "update": (lambda a: a.update(np.s_[4:6, :], lambda old: old + 1), [(slice(4, 6), expected()[4:6] + 1)]),
    "encoder": (encoder, [(np.s_[0:3, 0:2], 77), (np.s_[20:24, 0:8], 78)]),
    "fill": (lambda a: write(a, slice(4, 8), 0), [(slice(4, 8), 0)]),
    "strided": (lambda a: write(a, slice(0, 8, 3), 9), [(slice(0, 8, 3), 9)]),
    "chunk subset": (lambda a: a.store_chunk_subset((0, 0), np.s_[20:21, 0:8], 5), [(20, 5)]),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("operation", NEXT)
@pytest.mark.parametrize("config", [{}, {"shard_updates": "repack"}, {"dead_limit": 0.0}, {"subchunk_order": "morton"}], ids=str)
def test_writes_next_to_it(layout: str, damage: str, operation: str, config: dict[str, Any]) -> None:
    objects: dict[str, bytes] = {}
    a = make(objects, layout, **config)
    DAMAGES[damage](objects, layout)
    model = expected()
    assert np.array_equal(readable(a), others(model))
    change, effects = NEXT[operation]
    for _ in range(3):
        change(a)
        if operation == "update":
            effects = [(slice(4, 6), model[4:6] + 1)]
        for where, values in effects:
            model[where] = values
        assert np.array_equal(readable(zarrant.open_array(objects)), others(model))
    refused(lambda: a[BAD * ROWS], objects)
    refused(lambda: a[...], objects)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_write_of_a_part_of_it_stores_nothing_of_the_shard(layout: str, damage: str) -> None:
    objects: dict[str, bytes] = {}
    a = make(objects, layout)
    DAMAGES[damage](objects, layout)
    row = BAD * ROWS
    refused(lambda: write(a, row, 7), objects)
    refused(lambda: write(a, slice(0, row + 1), 7), objects)
    refused(lambda: a.update(np.s_[row : row + 1, :], lambda old: old + 1), objects)
    refused(lambda: a.store_array_subsets([(np.s_[0:4, :], 1), (np.s_[row : row + 4, 1:3], 2)]), objects)

    def encode() -> None:
        with a.partial_encoder((0, 0)) as encoder:
            encoder.store(np.s_[0:4, :], 5)
            encoder.store(np.s_[row : row + 1, :], 5)

    refused(encode, objects)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_write_of_all_of_it_mends_it(layout: str, damage: str) -> None:
    for change in (
        lambda a: write(a, slice(BAD * ROWS, BAD * ROWS + ROWS), 7),
        lambda a: a.store_array_subset(np.s_[BAD * ROWS - 1 : BAD * ROWS + ROWS, :], np.full((ROWS + 1, WIDTH), 7, "uint16")),
        lambda a: a.store_array_subsets([(np.s_[9:10, :], 1), (np.s_[7:12, :], 7)]),
    ):
        objects: dict[str, bytes] = {}
        a = make(objects, layout)
        DAMAGES[damage](objects, layout)
        change(a)
        model = expected()
        model[BAD * ROWS : BAD * ROWS + ROWS] = 7
        assert np.array_equal(a[BAD * ROWS :], model[BAD * ROWS :])
        assert np.array_equal(a[: BAD * ROWS - 1], model[: BAD * ROWS - 1])
        assert a.chunk_stats((0, 0)).present == N
        assert a.compact() >= 0
        assert np.array_equal(a[BAD * ROWS :], model[BAD * ROWS :])


@pytest.mark.parametrize("damage", DAMAGES)
def test_upkeep_of_the_array_keeps_the_others(layout: str, damage: str) -> None:
    objects: dict[str, bytes] = {}
    a = make(objects, layout)
    write(a, 0, 3)
    DAMAGES[damage](objects, layout)
    model = expected()
    model[0] = 3
    try:
        a.compact()
    except ZarrantError as error:
        assert isinstance(error, ChunkError)
    assert np.array_equal(readable(a), others(model))
    assert a.append(np.full((5, WIDTH), 9, "uint16")).start == N * ROWS
    assert np.array_equal(readable(a)[: len(others(model))], others(model))
    a.resize((N * ROWS - 2, WIDTH))
    assert np.array_equal(np.concatenate((a[:8], a[12:])), others(model)[:-2])


def test_much_that_is_dead_is_left_alone_while_an_entry_is_at_fault(keep_dead_bytes: Callable[[int], None]) -> None:
    keep_dead_bytes(200)
    objects: dict[str, bytes] = {}
    a = make(objects, "end")
    outside(objects, "end")
    model, before = expected(), objects[KEY]
    for k in range(40):
        i = k % N
        if i == BAD:
            continue
        a[i * ROWS] = model[i * ROWS] = k
    assert np.array_equal(readable(a), others(model))
    assert objects[KEY].startswith(before[: N * (ROWS * WIDTH * 2 + 4)])
    a[BAD * ROWS : BAD * ROWS + ROWS] = 1
    model[BAD * ROWS : BAD * ROWS + ROWS] = 1
    for k in range(40):
        a[k % N * ROWS] = model[k % N * ROWS] = k
    assert np.array_equal(a[...], model)
    assert len(objects[KEY]) < len(before) * 3


def test_a_shard_in_a_shard_names_the_subchunk_and_spares_the_rest() -> None:
    objects: dict[str, bytes] = {}
    inner = {"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}
    index = [inner[0], inner[1]]
    within = {"chunk_shape": [2], "codecs": list(inner), "index_codecs": index, "index_location": "end"}
    around = {"chunk_shape": [8], "codecs": [{"name": "sharding_indexed", "configuration": within}], "index_codecs": index}
    serializer = {"name": "sharding_indexed", "configuration": around}
    a = zarrant.create_array(objects, shape=(32,), chunks=(32,), dtype="uint16", serializer=serializer, compressors=None)
    model = np.arange(1, 33, dtype="uint16")
    a[...] = model
    at = objects["c/0"].find(model[10:12].tobytes())
    objects["c/0"] = objects["c/0"][: at + 1] + b"\x77" + objects["c/0"][at + 2 :]
    with pytest.raises(ChunkError) as caught:
        a[...]
    assert caught.value.field == "subchunk 1 in subchunk 1"
    for _ in range(3):
        a[8:10] = model[8:10] = 7
        a[13] = model[13] = 9
        a[20:22] = model[20:22] = 5
    assert np.array_equal(np.concatenate((a[:10], a[12:])), np.concatenate((model[:10], model[12:])))
    a[10:12] = model[10:12] = 4
    assert np.array_equal(a[...], model)
