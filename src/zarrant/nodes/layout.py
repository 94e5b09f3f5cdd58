"""From keyword arguments to an array document: shapes, chunks, shards, codecs, fill value.

Names and meanings follow zarr-python's `create_array`. Every impossible combination is refused here, before anything is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, Numcodecs, Transpose, Zstd
from zarrant.codecs.base import ChunkSpec
from zarrant.codecs.chain import Chain, ShardingIndexed, chain_of, read_codec
from zarrant.dtypes.fixed import FixedType, from_numpy
from zarrant.errors import DataTypeError, OptionError, ShapeError
from zarrant.geometry.keys import KeyEncoding
from zarrant.metadata.v3 import ArrayDocument, Named

AUTO_CHUNK_BYTES = 2**20
"""1 MiB: zarr-python and TensorStore both default to about this; a mini-batch holds one."""
DEFAULT_COMPRESSORS = [Zstd(), Crc32c()]
"""What "auto" means. Without a checksum 498 of 545 flipped bits pass unnoticed. It costs 0-2 % of the CPU of writing and 0-3 % of
that of reading data that compress (paired, 8 MiB, chunks and shards); on noise, which zstd passes on, 2-5 % and 5-9 %. Zstandard's
own checksum, which is over the decoded bytes, costs twice as much in reading. Every peer reads and writes both.
"""


@dataclass(frozen=True)
class Layout:
    """The arguments of `create_array` that decide what is stored."""

    shape: tuple[int, ...]
    dtype: Any
    chunks: Any = "auto"
    shards: Any = None
    filters: Any = None
    serializer: Any = "auto"
    compressors: Any = "auto"
    fill_value: Any = None
    order: str = "C"
    attributes: Mapping[str, Any] | None = None
    chunk_key_encoding: Any = None
    dimension_names: Sequence[str | None] | None = None

    def document(self) -> ArrayDocument:
        """The document; typed errors for what cannot be."""
        data_type = from_numpy(self.dtype)
        shape = _extents(self.shape, "shape", 0)
        chunk_shape, shard_shape = self._shapes(shape, data_type)
        chain = self._chain(data_type, chunk_shape, shard_shape)
        fill = data_type.fill_from_python(self.fill_value)
        stored = shard_shape or chunk_shape
        chain = chain.bind(ChunkSpec(stored, data_type, fill))
        return ArrayDocument(
            shape=shape,
            data_type=Named.parse(data_type.to_document(), "$.data_type"),
            chunk_grid=Named("regular", {"chunk_shape": list(stored)}),
            chunk_key_encoding=Named(*_key_encoding(self.chunk_key_encoding).to_document()),
            fill_value=data_type.fill_to_json(fill),
            codecs=chain.to_documents(),
            attributes=dict(self.attributes or {}),
            dimension_names=_names(self.dimension_names, len(shape)),
        )

    def _shapes(self, shape: tuple[int, ...], data_type: FixedType) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        shards = None if self.shards is None else _extents(self.shards, "shards", 1, len(shape))
        if isinstance(self.chunks, str):
            if self.chunks != "auto":
                raise OptionError("impossible value of an option", field="chunks", expected='a shape or "auto"', got=self.chunks)
            chunks = auto_chunks(shape, data_type.itemsize) if shards is None else _divisors(shards, data_type.itemsize)
        else:
            chunks = _extents(self.chunks, "chunks", 1, len(shape))
        if shards is not None and any(shard % chunk for shard, chunk in zip(shards, chunks, strict=True)):
            raise ShapeError("chunks must divide shards", field="shards", expected=f"multiples of {chunks}", got=shards)
        return chunks, shards

    def _chain(self, data_type: FixedType, chunks: tuple[int, ...], shards: tuple[int, ...] | None) -> Chain:
        filters = [_codec(item) for item in _listed(self.filters)]
        if self.order not in ("C", "F"):
            raise OptionError("impossible value of an option", field="order", expected="C | F", got=self.order)
        if self.order == "F" and len(chunks) > 1:
            filters.append(Transpose(tuple(reversed(range(len(chunks))))))
        serializer = (
            _default_bytes(data_type) if isinstance(self.serializer, str) and self.serializer == "auto" else _codec(self.serializer)
        )
        compressors = (
            DEFAULT_COMPRESSORS
            if isinstance(self.compressors, str) and self.compressors == "auto"
            else [_codec(c) for c in _listed(self.compressors)]
        )
        chain = chain_of([*filters, serializer, *compressors])
        if shards is None:
            return chain
        index = chain_of([Bytes("little"), Crc32c()])
        return chain_of([ShardingIndexed(chunks, chain, index)])


def auto_chunks(shape: tuple[int, ...], itemsize: int, target: int = AUTO_CHUNK_BYTES) -> tuple[int, ...]:
    """Chunks of about `target` bytes: long dimensions are halved until they fit.

    >>> auto_chunks((1000, 1000, 1000), 2)
    (63, 63, 125)
    """
    chunks = [max(1, extent) for extent in shape]
    while math.prod(chunks) * itemsize > target and max(chunks) > 1:
        axis = chunks.index(max(chunks))
        chunks[axis] = -(-chunks[axis] // 2)
    return tuple(chunks)


def _divisors(shards: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Chunks of about 64 KiB that divide the shards: large enough to compress, small enough to read alone."""
    chunks = list(shards)
    while math.prod(chunks) * itemsize > 65536 and max(chunks) > 1:
        axis = chunks.index(max(chunks))
        size = chunks[axis]
        chunks[axis] = next(size // factor for factor in range(2, size + 1) if size % factor == 0)
    return tuple(chunks)


def _default_bytes(data_type: FixedType) -> Bytes:
    return Bytes(None if data_type.word == 1 else "little")


def _extents(value: Any, name: str, low: int, ndim: int | None = None) -> tuple[int, ...]:
    items = (value,) if isinstance(value, int | np.integer) else value
    try:
        extents = tuple(items)
    except TypeError:
        raise ShapeError("not a shape", field=name, expected="integers", got=repr(value)) from None
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or not low <= n < 2**63 for n in extents):
        raise ShapeError("not a shape", field=name, expected=f"integers of at least {low}", got=repr(value))
    if ndim is not None and len(extents) != ndim:
        raise ShapeError("wrong number of dimensions", field=name, expected=ndim, got=repr(value))
    return tuple(int(n) for n in extents)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _codec(item: Any) -> Any:
    """A codec object from what users pass: ours, a document, or one of numcodecs."""
    if isinstance(item, Transpose | Bytes | ShardingIndexed | Blosc | Gzip | Zstd | Crc32c | Numcodecs):
        return item
    if isinstance(item, Mapping | str):
        path = "$.codecs"
        document = Named.parse(dict(item) if isinstance(item, Mapping) else item, path)
        if document.name in ("blosc",) and "typesize" not in document.configuration:
            return Blosc(**document.configuration)
        return read_codec(document, path)
    if hasattr(item, "codec_id") and hasattr(item, "get_config"):
        return _from_numcodecs(dict(item.get_config()))
    if hasattr(item, "to_dict"):
        return _codec(item.to_dict())
    if hasattr(item, "encode") and hasattr(item, "decode") and hasattr(item, "to_document"):
        return item
    raise OptionError(
        "not a codec", expected="a codec object, a {name, configuration} document or a numcodecs codec", got=repr(item)
    )


def _from_numcodecs(config: dict[str, Any]) -> Any:
    identifier = config.pop("id")
    if identifier == "zstd":
        return Zstd(config.get("level", 0), bool(config.get("checksum", False)))
    if identifier == "gzip":
        return Gzip(config.get("level", 5))
    if identifier == "blosc":
        shuffle = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle", -1: "shuffle"}[config.get("shuffle", 1)]
        return Blosc(config["cname"], config["clevel"], shuffle, None, config.get("blocksize", 0))
    return Numcodecs(f"numcodecs.{identifier}", config)


def _key_encoding(value: Any) -> KeyEncoding:
    if value is None:
        return KeyEncoding.from_document("default", {})
    if isinstance(value, KeyEncoding):
        return value
    if isinstance(value, str):
        return KeyEncoding.from_document(value, {})
    if isinstance(value, Mapping) and "name" in value:
        configuration = dict(value.get("configuration", {}))
        configuration.update({key: value[key] for key in ("separator",) if key in value})
        return KeyEncoding.from_document(value["name"], configuration)
    raise OptionError("not a chunk key encoding", expected='"default", "v2" or {name, configuration}', got=repr(value))


def _names(names: Sequence[str | None] | None, ndim: int) -> tuple[str | None, ...] | None:
    if names is None:
        return None
    if isinstance(names, str) or len(names) != ndim:
        raise ShapeError("one name a dimension", field="dimension_names", expected=ndim, got=repr(names))
    if any(name is not None and not isinstance(name, str) for name in names):
        raise DataTypeError("names are strings or None", field="dimension_names", got=repr(names))
    return tuple(names)
