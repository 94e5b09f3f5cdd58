"""What libraries exchange: one `Case` for each way to store a small array, as a document, values and source memory.

In comes a row of `AXES`; out go the zarr.json that every library opens, the values to store and a region to update. Nothing
here imports the library under test: document and values are worked out from the specification alone. Which rows of the
product run is for `sampling.py`.
"""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int, ...]


class Geometry(NamedTuple):
    """Extents of the array, of stored objects, of shards within shards, and of innermost chunks."""

    shape: Shape
    outer: Shape
    middle: Shape
    chunk: Shape


GEOMETRIES = {  # innermost chunks of 128 elements and more: Blosc stores less than 128 bytes as they are
    "2-d edges": Geometry((61, 53), (48, 24), (24, 24), (12, 12)),
    "3-d edges": Geometry((10, 22, 26), (6, 16, 12), (6, 8, 12), (3, 8, 6)),
    "1-d edges": Geometry((1000,), (512,), (256,), (128,)),
    "2-d exact": Geometry((48, 96), (48, 48), (24, 24), (8, 24)),
    "0-d": Geometry((), (), (), ()),
    "empty": Geometry((0, 20), (24, 24), (12, 24), (12, 12)),
}
BLOSC = {
    "blosc lz4 shuffle": ("lz4", "shuffle"),
    "blosc zstd bitshuffle": ("zstd", "bitshuffle"),
    "blosc zlib noshuffle": ("zlib", "noshuffle"),
    "blosc lz4hc bitshuffle": ("lz4hc", "bitshuffle"),
    "blosc blosclz shuffle": ("blosclz", "shuffle"),
    "blosc snappy shuffle": ("snappy", "shuffle"),
}
CODECS = ("none", "zstd", "zstd checksum", "gzip", *BLOSC, "crc32c", "transpose", "transpose blosc crc32c", "zstd crc32c")
FILLS: dict[str, tuple[Any, Any]] = {  # JSON forms of a fill value other than zero, and of NaN where there is one
    "bool": (True, None),
    "int": (-7, None),
    "uint": (200, None),
    "float": (-1.5, "NaN"),
    "complex": ([1.5, -2.5], ["NaN", "NaN"]),
}
AXES: dict[str, tuple[str, ...]] = {
    "layout": ("nested", "shard", "chunk"),
    "codec": CODECS,
    "endian": ("little", "big"),
    "index_at": ("start", "end"),
    "index_codecs": ("little crc32c", "little", "big crc32c", "big"),
    "around": ("none", "transpose", "crc32c", "zstd", "transpose crc32c", "inner transpose", "inner crc32c"),
    "dtype": (
        *("float32", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float64", "complex64", "complex128", "bfloat16", "r16", "r24", "raw_bytes 2", "raw_bytes 3"),
    ),
    "source": ("C", "F", "strided"),
    "content": ("gaps", "full", "only fill"),
    "fill": ("nan", "other", "zero"),
    "keys": ("default /", "default .", "v2 .", "v2 /"),
    "geometry": tuple(GEOMETRIES),
}


@dataclass(frozen=True)
class Case:
    """One row of the product. Values that mean nothing with the others are the plain ones, see `canonical`."""

    layout: str = "chunk"
    codec: str = "none"
    endian: str = "little"
    index_at: str = "end"
    index_codecs: str = "little crc32c"
    around: str = "none"
    dtype: str = "float32"
    source: str = "C"
    content: str = "full"
    fill: str = "zero"
    keys: str = "default /"
    geometry: str = "2-d edges"

    def __str__(self) -> str:
        return "-".join(value.replace(" ", "_").replace("/", "slash").replace(".", "dot") for value in self.row)

    @property
    def row(self) -> tuple[str, ...]:
        """The values in the order of `AXES`."""
        return tuple(getattr(self, axis) for axis in AXES)

    @property
    def canonical(self) -> Case:
        """The same case without choices that have no effect."""
        changes: dict[str, str] = {}
        if self.layout == "chunk":
            changes |= {"index_at": "end", "index_codecs": "little crc32c", "around": "none"}
        if self.layout == "shard" and self.around.startswith("inner"):
            changes["around"] = "none"
        if self.fill == "nan" and self.kind not in ("float", "complex"):
            changes["fill"] = "other"
        if self.word == 1:
            changes["endian"] = "little"
        return replace(self, **changes)

    # ── the data type
    @property
    def is_raw(self) -> bool:
        """Raw bits, in either spelling."""
        return self.dtype.startswith("r")

    @cached_property
    def kind(self) -> str:
        """The key of `FILLS`, or raw."""
        return "raw" if self.is_raw else {"b": "bool", "i": "int", "u": "uint", "c": "complex"}.get(self.numpy.kind, "float")

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy type."""
        if self.is_raw:
            return np.dtype(f"V{int(self.dtype[1:]) // 8 if self.dtype[1:].isdigit() else int(self.dtype[-1])}")
        return np.dtype(ml_dtypes.bfloat16) if self.dtype == "bfloat16" else np.dtype(self.dtype)

    @property
    def word(self) -> int:
        """Bytes that the byte order swaps."""
        if self.is_raw:
            return 1
        return self.numpy.itemsize // 2 if self.kind == "complex" else self.numpy.itemsize

    @property
    def fill_json(self) -> Any:
        """The fill value of the document."""
        other, nan = FILLS.get(self.kind, (None, None))
        if self.kind == "raw":
            data = list(self.fill_bytes)
            return base64.b64encode(bytes(data)).decode() if self.dtype.startswith("raw_bytes") else data
        if self.fill == "zero":
            return {"bool": False, "complex": [0.0, 0.0], "float": 0.0}.get(self.kind, 0)
        return nan if self.fill == "nan" else other

    @property
    def fill_bytes(self) -> bytes:
        """One element, in native byte order."""
        if self.kind == "raw":
            return bytes(self.numpy.itemsize) if self.fill == "zero" else bytes(range(1, 1 + self.numpy.itemsize))
        value = self.fill_json
        if self.kind == "complex":
            value = complex(*(float(part) for part in value))
        return np.asarray(float(value) if value == "NaN" else value).astype(self.numpy).tobytes()

    # ── the document
    @property
    def grid(self) -> Geometry:
        """The extents."""
        return GEOMETRIES[self.geometry]

    @property
    def document(self) -> dict[str, Any]:
        """The content of zarr.json."""
        encoding, separator = self.keys.split()
        data_type: Any = self.dtype
        if self.dtype.startswith("raw_bytes"):
            data_type = {"name": "raw_bytes", "configuration": {"length_bytes": self.numpy.itemsize}}
        stored = self.grid.chunk if self.layout == "chunk" else self.grid.outer
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.grid.shape),
            "data_type": data_type,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(stored)}},
            "chunk_key_encoding": {"name": encoding, "configuration": {"separator": separator}},
            "fill_value": self.fill_json,
            "codecs": self._codecs(),
            "attributes": {},
        }

    def _codecs(self) -> list[dict[str, Any]]:
        levels = {"chunk": [], "shard": [self.grid.chunk], "nested": [self.grid.middle, self.grid.chunk]}[self.layout]
        outside = "" if self.around.startswith("inner") else self.around
        inside = self.around.removeprefix("inner ") if self.around.startswith("inner") else ""
        return self._chain(levels, [outside, inside])

    def _chain(self, levels: list[Shape], around: list[str]) -> list[dict[str, Any]]:
        if not levels:
            return self._leaf()
        words = around[0].split()
        if "transpose" in words:  # everything within is laid out in the new order of dimensions
            levels = [tuple(shape[axis] for axis in self.order) for shape in levels]
        sharding = {
            "chunk_shape": list(levels[0]),
            "codecs": self._chain(levels[1:], around[1:]),
            "index_codecs": [_bytes(self.index_codecs.split()[0]), *([_codec("crc32c")] if "crc32c" in self.index_codecs else [])],
            "index_location": self.index_at,
        }
        before = [_codec("transpose", order=list(self.order))] if "transpose" in words else []
        after = [_codec("crc32c")] if "crc32c" in words else []
        after += [_codec("zstd", level=1, checksum=False)] if "zstd" in words else []
        return [*before, _codec("sharding_indexed", **sharding), *after]

    @property
    def order(self) -> Shape:
        """A permutation that is not its own inverse where there are three dimensions."""
        ndim = len(self.grid.shape)
        return tuple((axis + 1) % ndim for axis in range(ndim))

    def _leaf(self) -> list[dict[str, Any]]:
        words = self.codec.split()
        chain = [_codec("transpose", order=list(self.order))] if "transpose" in words else []
        chain.append(_codec("bytes") if self.word == 1 else _bytes(self.endian))
        if "zstd" in words[:1]:
            chain.append(_codec("zstd", level=3, checksum="checksum" in words))
        if "gzip" in words:
            chain.append(_codec("gzip", level=4))
        if "blosc" in words:
            cname, shuffle = BLOSC.get(self.codec, ("zstd", "shuffle"))
            itemsize = self.numpy.itemsize
            chain.append(_codec("blosc", cname=cname, clevel=5, shuffle=shuffle, typesize=itemsize, blocksize=0))
        if "crc32c" in words:
            chain.append(_codec("crc32c"))
        return chain

    # ── values
    @property
    def _random(self) -> np.random.Generator:
        return np.random.default_rng(zlib.crc32(str(self).encode()))

    @cached_property
    def values(self) -> Array:
        """The elements, C-contiguous: any bits a type can hold, few different ones in a part, and fill where `content` says."""
        values = self.any_values(self._random, self.grid.shape)
        if self.content != "full":
            values[self._fill_mask()] = np.frombuffer(self.fill_bytes, self.numpy)[0]
        return values

    def any_values(self, rng: np.random.Generator, shape: Shape) -> Array:
        """Elements of any bits."""
        if self.kind == "bool":
            return rng.integers(0, 2, shape).astype(np.bool_)
        items = np.frombuffer(rng.bytes((math.prod(shape) + 3) * self.numpy.itemsize), self.numpy)
        values = items[3:].reshape(shape).copy()
        half = tuple(slice(0, (extent + 1) // 2) for extent in shape[:1])
        values[half] = items[rng.integers(0, 3, values[half].shape)]  # so that there is something to compress
        return values

    def _fill_mask(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whole innermost chunks, by chance, and the whole first stored object."""
        shape, outer, _, chunk = self.grid
        if self.content == "only fill":
            return np.ones(shape, np.bool_)
        chosen = self._random.random([-(-extent // size) for extent, size in zip(shape, chunk, strict=True)]) < 0.5
        mask = chosen
        for axis, size in enumerate(chunk):
            mask = np.repeat(mask, size, axis)
        mask = np.array(mask[tuple(slice(0, extent) for extent in shape)])
        mask[tuple(slice(0, extent) for extent in outer)] = True
        return mask

    @property
    def source_values(self) -> Array:
        """The same elements in memory as `source` says."""
        values = self.values
        if self.source == "F":
            return np.array(values, order="F")  # np.asfortranarray would add a dimension to a scalar
        if self.source == "strided" and values.ndim:
            wide = np.zeros([2 * extent + 1 for extent in values.shape], self.numpy)
            view = wide[tuple(slice(2 * extent - 1, None, -2) if extent else slice(0, 0) for extent in values.shape)]
            view[...] = values
            return view
        return values

    @cached_property
    def update(self) -> tuple[tuple[slice, ...], Array] | None:
        """A region that cuts through chunks and shards and ends with the last dimension, and elements, the first of them fill."""
        rng = self._random
        shape = self.grid.shape
        fill = np.frombuffer(self.fill_bytes, self.numpy)[0]
        if 0 in shape:
            return None
        if not shape:
            values = self.any_values(rng, shape)
            return (), np.asarray(~fill) if self.kind == "bool" else values
        low = [int(rng.integers(0, extent // 2)) for extent in shape]
        high = [int(rng.integers(extent // 2 + 1, extent + 1)) for extent in shape[:-1]] + [shape[-1]]
        region = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        values = self.any_values(rng, tuple(stop - start for start, stop in zip(low, high, strict=True)))
        values[: len(values) // 3] = fill
        return region, values


def _codec(name: str, **configuration: Any) -> dict[str, Any]:
    return {"name": name, "configuration": configuration} if configuration else {"name": name}


def _bytes(endian: str) -> dict[str, Any]:
    return _codec("bytes", endian=endian)


def transposes(case: Case) -> bool:
    """Whether some codec of the case is a transpose."""
    return "transpose" in case.codec or "transpose" in case.around


def permuted_shards_divide(case: Case) -> bool:
    """True unless a transpose before sharding gives subchunks whose extents do not divide those of the untransposed shard."""
    if not case.around.startswith("transpose"):
        return True
    _, outer, middle, chunk = case.grid
    subchunk = chunk if case.layout == "shard" else middle
    return all(extent % subchunk[axis] == 0 for extent, axis in zip(outer, case.order, strict=True))
