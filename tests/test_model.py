"""An array against NumPy: random writes, erasures and reads with every kind of selection, in every layout."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Blosc, Crc32c, Gzip, Numcodecs, Transpose, Zstd

SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
RUNS, STEPS = (8 * SOAK, 60) if SOAK else (1, 25)

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}
CRC = {"name": "crc32c"}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}


def sharding(chunk: tuple[int, ...], *codecs: Any, location: str = "end", index: Any = (LITTLE, CRC)) -> dict[str, Any]:
    configuration = {"chunk_shape": chunk, "codecs": list(codecs), "index_codecs": list(index), "index_location": location}
    return {"name": "sharding_indexed", "configuration": configuration}


def swap(*order: int) -> dict[str, Any]:
    return {"name": "transpose", "configuration": {"order": order}}


NESTED = sharding((2, 2), BIG, ZSTD, location="start")

LAYOUTS: dict[str, dict[str, Any]] = {
    "chunked": {"shape": (13, 10), "chunks": (4, 3)},
    "one chunk": {"shape": (7, 5), "chunks": (7, 5), "compressors": None},
    "chunk larger than the array": {"shape": (3, 5), "chunks": (8, 8), "compressors": Gzip(1)},
    "single elements": {"shape": (5, 4), "chunks": (1, 1), "compressors": Crc32c()},
    "transposed": {"shape": (13, 10), "chunks": (4, 3), "filters": Transpose((1, 0)), "compressors": [Blosc(), Crc32c()]},
    "fortran": {"shape": (5, 6, 4), "chunks": (2, 3, 4), "order": "F"},
    "general path": {"shape": (13, 10), "chunks": (5, 4), "compressors": [Numcodecs("numcodecs.bz2"), Crc32c()]},
    "line": {"shape": (40,), "chunks": (7,)},
    "no dimensions": {"shape": (), "chunks": ()},
    "no dimensions, sharded": {"shape": (), "chunks": (), "shards": ()},
    "nothing": {"shape": (0, 4), "chunks": (2, 2)},
    "cube": {"shape": (6, 5, 7), "chunks": (2, 2, 3)},
    "sharded": {"shape": (13, 10), "chunks": (2, 3), "shards": (8, 6)},
    "sharded line": {"shape": (50,), "chunks": (3,), "shards": (12,), "compressors": [Zstd(3), Crc32c()]},
    "shard larger than the array": {"shape": (3, 5), "chunks": (2, 2), "shards": (8, 8)},
    "sharded cube": {"shape": (6, 9, 7), "chunks": (2, 3, 1), "shards": (4, 3, 4), "order": "F"},
    "sharded, general path": {"shape": (9, 9), "chunks": (2, 2), "shards": (4, 4), "compressors": Numcodecs("numcodecs.lzma")},
    "index at the start": {"shape": (13, 10), "chunks": (8, 6), "compressors": None,
                           "serializer": sharding((2, 3), LITTLE, ZSTD, location="start")},
    "index without a checksum": {"shape": (13, 10), "chunks": (8, 6), "compressors": None,
                                 "serializer": sharding((2, 3), LITTLE, index=(BIG,))},
    "nested": {"shape": (13, 10), "chunks": (4, 4), "shards": (8, 8), "serializer": NESTED, "compressors": None},
    "nested, index first": {
        "shape": (13, 10), "chunks": (8, 8), "serializer": sharding((4, 4), NESTED, location="start"), "compressors": None,
    },
    "nested, transposed": {
        "shape": (13, 10), "chunks": (8, 4), "filters": Transpose((1, 0)),
        "serializer": sharding((4, 4), swap(1, 0), sharding((2, 2), swap(1, 0), LITTLE)), "compressors": None,
    },
    "nested three deep": {
        "shape": (20, 17), "chunks": (16, 16), "compressors": None,
        "serializer": sharding((8, 8), sharding((4, 4), sharding((2, 2), LITTLE, CRC), location="start")),
    },
    "transposed shard": {
        "shape": (6, 9, 7), "chunks": (4, 6, 2), "filters": Transpose((2, 0, 1)),
        "serializer": sharding((2, 2, 3), swap(1, 2, 0), BIG, ZSTD), "compressors": None,
    },
    "compressed shard": {"shape": (13, 10), "chunks": (8, 6), "serializer": sharding((2, 3), LITTLE),
                         "compressors": [Zstd(), Crc32c()]},
    "compressed shard within a shard": {
        "shape": (13, 10), "chunks": (8, 8), "compressors": None, "serializer": sharding((4, 4), sharding((2, 2), LITTLE), ZSTD),
    },
}  # fmt: skip

CONFIGS: list[dict[str, Any]] = [
    {},
    {"write_empty_chunks": True},
    {"subchunk_order": "morton"},
    {"subchunk_order": "unordered", "shard_updates": "repack"},
    {"dead_limit": 0.0, "write_empty_chunks": True},
    {"dead_limit": 1.0, "concurrency": 1},
    {"dead_limit": 1.0, "concurrency": 4, "memory_limit": "1 KiB", "subchunk_order": "morton"},
]

TYPES = [
    ("uint16", 0),
    ("uint16", 7),
    ("float32", float("nan")),
    ("float64", -0.0),
    ("int8", -1),
    ("complex64", 0),
    ("int32", 3),
    ("bool", True),
]


class Dice(random.Random):
    """Random selections."""

    def slice(self, extent: int) -> slice:
        ends = [None, *range(-extent - 1, extent + 2)]
        return slice(self.choice(ends), self.choice(ends), self.choice([None, 1, 1, 2, 3, -1, -2]))

    def span(self, extent: int) -> slice:
        low = self.randint(0, extent)
        return slice(low, self.randint(low, extent))

    def spans(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(self.span(extent) for extent in shape)

    def mask(self, shape: tuple[int, ...]) -> Any:
        share = self.choice([0, 0.1, 0.6, 1])
        return np.array([self.random() < share for _ in range(int(np.prod(shape)))], bool).reshape(shape)

    def indices(self, extent: int, n: int) -> Any:
        return np.array([self.randint(-extent, extent - 1) for _ in range(n)], np.int64)

    def basic(self, shape: tuple[int, ...]) -> Any:
        items: list[Any] = [
            self.randint(-extent, extent - 1) if extent and self.random() < 0.25 else self.slice(extent) for extent in shape
        ]
        if self.random() < 0.3:
            low = self.randint(0, len(items))
            items[low : self.randint(low, len(items))] = [...]
        return tuple(items)

    def orthogonal(self, shape: tuple[int, ...]) -> Any:
        def item(extent: int) -> Any:
            kind = self.choice(["slice", "mask", "indices"]) if extent else "slice"
            return {
                "slice": self.slice,
                "mask": lambda n: self.mask((n,)),
                "indices": lambda n: self.indices(n, self.randint(0, n + 2)),
            }[kind](extent)

        return tuple(item(extent) for extent in shape)

    def points(self, shape: tuple[int, ...]) -> Any:
        n = 0 if 0 in shape else self.randint(0, 12)
        return tuple(self.indices(extent, n) for extent in shape) if 0 not in shape else tuple(np.empty(0, np.int64) for _ in shape)


def ix(items: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    return np.ix_(*[np.arange(extent)[item] for item, extent in zip(items, shape, strict=True)])


class Machine:
    """An array and its model, changed and compared together."""

    def __init__(self, array: Any, model: Any, dice: Dice) -> None:
        self.array, self.model, self.dice = array, model, dice

    def values(self, shape: tuple[int, ...]) -> Any:
        dice, dtype = self.dice, self.model.dtype
        kind = dice.choice(["random", "random", "random", "fill", "scalar", "mixed", "strided"])
        if kind == "scalar":
            return dtype.type(dice.randint(0, 100))
        if kind == "fill":
            return np.full(shape, self.array.fill_value, dtype)
        count = int(np.prod(shape))
        data = np.array([dice.randint(0, 100) for _ in range(2 * count)]).astype(dtype)
        if kind == "strided":
            return data[::-2][:count].reshape(shape) if dice.random() < 0.5 else data[:count].reshape(shape[::-1]).T
        data = data[:count].reshape(shape)
        return np.where(self.dice.mask(shape), self.array.fill_value, data).astype(dtype) if kind == "mixed" else data

    def select(self) -> tuple[Any, Any, Any]:
        """(the array's indexer, its selection, the same for NumPy)."""
        dice, a, shape = self.dice, self.array, self.model.shape
        kind = dice.choice(["basic", "basic", "basic", "orthogonal", "points", "mask", "blocks"])
        if kind == "blocks" and shape and 0 not in shape:
            block = dice.spans(a.chunk_grid_shape)
            whole = tuple(
                slice(s.start * c, max(s.start * c, min(s.stop * c, n))) if s.stop > s.start else slice(0, 0)
                for s, c, n in zip(block, a.write_unit, shape, strict=True)
            )
            return a.blocks, block, whole
        if kind == "orthogonal" and shape:
            items = dice.orthogonal(shape)
            return a.oindex, items, ix(items, shape)
        if kind == "points" and shape:
            items = dice.points(shape)
            return a.vindex, items, items
        if kind == "mask" and shape:
            mask = dice.mask(shape)
            return dice.choice([a, a.vindex]), mask, mask
        items = dice.basic(shape)
        return a, items, items

    def write(self) -> None:
        indexer, selection, plain = self.select()
        values = self.values(self.model[plain].shape)
        indexer[selection] = values
        self.model[plain] = values

    def read(self) -> None:
        indexer, selection, plain = self.select()
        same(indexer[selection], self.model[plain])

    def subset(self) -> None:
        spans = self.dice.spans(self.model.shape)
        values = self.values(self.model[spans].shape)
        self.array.store_array_subset(spans, values)
        self.model[spans] = values
        out = np.empty(self.model[spans].shape, self.model.dtype)
        assert self.array.retrieve_array_subset(spans, out=out) is out
        same(out, self.model[spans])

    def chunk(self) -> Any:
        return tuple(self.dice.randrange(n) for n in self.array.chunk_grid_shape)

    def chunk_op(self) -> None:
        if 0 in self.array.chunk_grid_shape:
            return
        chunk = self.chunk()
        inside = self.array.chunk_subset(chunk)
        action = self.dice.choice(["store", "store padded", "erase", "part", "read"])
        if action == "erase":
            self.array.erase_chunk(chunk)
            self.model[inside.slices] = self.array.fill_value
        elif action == "part":
            spans = self.dice.spans(inside.shape)
            values = self.values(tuple(s.stop - s.start for s in spans))
            self.array.store_chunk_subset(chunk, spans, values)
            self.model[(*inside.slices, ...)][spans] = values
        elif action == "read":
            spans = self.dice.spans(inside.shape)
            same(self.array.retrieve_chunk_subset(chunk, spans), self.model[inside.slices][spans])
        else:
            shape = inside.shape if action == "store" else self.array.write_unit
            values = np.broadcast_to(self.values(shape), shape)
            self.array.store_chunk(chunk, values)
            self.model[inside.slices] = values[tuple(slice(0, n) for n in inside.shape)]
            part = tuple(slice(0, n) for n in inside.shape)
            same(self.array.retrieve_chunk(chunk)[part], self.model[inside.slices])

    def chunks_op(self) -> None:
        block = self.dice.spans(self.array.chunk_grid_shape)
        if any(s.start == s.stop for s in block):
            return
        unit = self.array.write_unit
        whole = tuple(slice(s.start * c, min(s.stop * c, n)) for s, c, n in zip(block, unit, self.model.shape, strict=True))
        if self.dice.random() < 0.3:
            self.array.erase_chunks(block)
            self.model[whole] = self.array.fill_value
        else:
            values = self.values(self.model[whole].shape)
            self.array.store_chunks(block, values)
            self.model[whole] = values
        same(self.array.retrieve_chunks(block)[tuple(slice(0, n) for n in self.model[whole].shape)], self.model[whole])

    def run(self, steps: int) -> None:
        actions = [self.write] * 4 + [self.read] * 3 + [self.subset, self.chunk_op, self.chunk_op, self.chunks_op]
        for _ in range(steps):
            self.dice.choice(actions)()
        same(self.array[...], self.model)


def same(got: Any, expected: Any) -> None:
    """Equal bit by bit, so that NaN equals itself and -0.0 is not 0.0."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes(), (got, expected)


@pytest.fixture(params=["memory", "files"])
def where(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "memory":
        yield {}
        return
    fast = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=fast) as root:
        yield root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_like_numpy(layout: str, where: Any) -> None:
    for run in range(RUNS):
        seed = f"{layout}/{run}/{os.environ.get('ZARRANT_SEED', '')}"
        dice = Dice(seed)
        for number, config in enumerate(dice.sample(CONFIGS, 3)):
            dtype, fill = dice.choice(TYPES)
            array = zarrant.create_array(
                where, name=f"{run}/{number}", dtype=dtype, fill_value=fill, config=config, **LAYOUTS[layout]
            )
            model = np.full(array.shape, array.fill_value, array.dtype)
            Machine(array, model, dice).run(STEPS)
            again = zarrant.open_array(where, name=f"{run}/{number}", mode="r")
            same(again[...], model)


# zarr-python compares subchunks with the shape of the shard before its transposition, and takes no shards without dimensions.
NOT_THEIRS = ("transposed shard", "no dimensions, sharded")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name not in NOT_THEIRS])
def test_other_libraries_read_what_is_left(layout: str, tmp_path: Any) -> None:
    zarr = pytest.importorskip("zarr")
    dice = Dice(layout)
    for number, config in enumerate(CONFIGS[:4]):
        array = zarrant.create_array(tmp_path, name=str(number), dtype="int32", fill_value=5, config=config, **LAYOUTS[layout])
        model = np.full(array.shape, 5, np.int32)
        Machine(array, model, dice).run(15)
        theirs = zarr.open_array(str(tmp_path / str(number)), mode="r")
        same(np.asarray(theirs[...]), model)


@pytest.mark.parametrize("dead_limit", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("updates", ["append", "repack"])
@pytest.mark.parametrize("location", ["start", "end"])
def test_a_shard_whose_live_data_shrink_stays_readable(location: str, updates: str, dead_limit: float, tmp_path: Any) -> None:
    """Filling the last subchunks and then writing the first has left files whose end is no index, in other libraries."""
    zarr = pytest.importorskip("zarr")
    serializer = sharding((1,), LITTLE, location=location)
    config = {"shard_updates": updates, "dead_limit": dead_limit}
    a = zarrant.create_array(
        tmp_path, shape=(4,), chunks=(4,), dtype="uint16", serializer=serializer, compressors=None, config=config
    )

    def check(expected: list[int]) -> None:
        assert a[...].tolist() == expected
        assert zarr.open_array(str(tmp_path), mode="r")[...].tolist() == expected

    a[...] = [1, 2, 3, 4]
    check([1, 2, 3, 4])
    a[2:4] = 0
    check([1, 2, 0, 0])
    a[0] = 9
    check([9, 2, 0, 0])
    a[0:2] = 0
    check([0, 0, 0, 0])
    assert not (tmp_path / "c" / "0").exists()
    a[3] = 8
    check([0, 0, 0, 8])


def test_dead_bytes_are_bounded(tmp_path: Any, keep_dead_bytes: Callable[[int], None]) -> None:
    keep_dead_bytes(4096)
    sizes = {}
    for limit in (0.0, 0.5, 0.9):
        a = zarrant.create_array(
            tmp_path,
            name=str(limit),
            shape=(8192,),
            chunks=(1024,),
            shards=(8192,),
            dtype="uint64",
            compressors=None,
            config={"dead_limit": limit},
        )
        a[...] = np.arange(1, 8193, dtype="uint64")
        live = (tmp_path / str(limit) / "c" / "0").stat().st_size
        largest = 0
        for i in range(100):
            a[1024 * (i % 8)] = i + 1
            largest = max(largest, (tmp_path / str(limit) / "c" / "0").stat().st_size)
        sizes[limit] = largest / live
    assert 1.4 < sizes[0.0] <= 1.6  # four updates of an eighth each
    assert 1.4 < sizes[0.5] <= 1.8
    assert 1.8 < sizes[0.9] <= 2.2
