"""From the keywords of `create_array` to the metadata of an array: shapes, chunks, shards, codecs, fill value.

Names and meanings follow zarr-python's `create_array`. Every impossible combination is refused here, before anything is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zarrant import extensions
from zarrant.codecs import Blosc, Bytes, Crc32c, Gzip, ShardingIndexed, Transpose, Zstd
from zarrant.codecs.chain import Chain, chain_of, check_codec, read_codec
from zarrant.codecs.protocols import VARIABLE_ELEMENT_BYTES, ArraySpec
from zarrant.dtypes.base import DataType
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import DataTypeError, MetadataError, OptionError, ShapeError, did_you_mean, shown
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.keys import KeyEncoding
from zarrant.geometry.layouts import AUTO_CHUNK_BYTES, SUBCHUNK_BYTES, auto_chunks, auto_shard_shape, divisors
from zarrant.geometry.rectilinear import RectilinearGrid
from zarrant.metadata.json_text import plain
from zarrant.metadata.remembered import Remembered, place_of
from zarrant.metadata.v2 import as_v2
from zarrant.metadata.v3 import ArrayMetadata, Kept, Named, attributes_of

DEFAULT_COMPRESSORS = [Zstd(), Crc32c()]
"""What "auto" means. Without a checksum 498 of 545 flipped bits pass unnoticed. It costs 0-2 % of the CPU of writing and 0-3 % of
that of reading data that compress (paired, 8 MiB, chunks and shards); on noise, which zstd passes on, 2-5 % and 5-9 %. Zstandard's
own checksum, which is over the decoded bytes, costs twice as much in reading. Every peer reads and writes both.
"""


_LEFT_OUT: Any = object()
"""As None, zero; but in Zarr V2 None is stored as null, as zarr-python does: then no element means "missing"."""


@dataclass(frozen=True)
class ArrayDescription:
    """The arguments of `create_array` that decide what is stored."""

    shape: tuple[int, ...]
    dtype: Any
    chunks: Any = "auto"
    shards: Any = None
    filters: Any = None
    serializer: Any = "auto"
    compressors: Any = "auto"
    fill_value: Any = _LEFT_OUT
    order: str = "C"
    attributes: Mapping[str, Any] | None = None
    chunk_key_encoding: Any = None
    dimension_names: Sequence[str | None] | None = None
    zarr_format: int = 3

    def metadata(self) -> ArrayMetadata:
        """The metadata; typed errors for what cannot be."""
        return self._v2() if self.zarr_format == 2 else self._known_v3()

    def _known_v3(self) -> ArrayMetadata:
        """`_v3`, of which all but the attributes is remembered for the next array of this layout: a copy takes a tenth."""
        asked = {**vars(self), "attributes": None}
        if isinstance(self.dtype, np.dtype) and self.dtype.isbuiltin == 1 and self.dtype.metadata is None:
            asked["dtype"], asked["NumPy's number"] = None, self.dtype.num
        if asked["fill_value"] is _LEFT_OUT:
            del asked["fill_value"]
        decisive = asked, [registry.changes for registry in _REGISTRIES]
        place = place_of(decisive)
        found = None if place is None else _known.get(place)
        if found is None:
            metadata = self._v3()
            kept = None if place is None else Kept.of(replace(metadata, attributes={}))
            if kept is not None:
                _known.keep(place, decisive, kept)
            return metadata
        metadata = found.copy()
        return metadata if self.attributes is None else metadata.with_attributes(self.attributes)

    def _v2(self) -> ArrayMetadata:
        """The metadata of an array of Zarr V2: what V2 does not have is an OptionError."""
        if self.shards is not None:
            hint = "Leave zarr_format out, or shards"
            raise OptionError("Zarr V2 has no shards", field="shards", expected=None, got=shown(self.shards), hint=hint)
        compressors = [Zstd()] if _is_auto(self.compressors) else self.compressors
        keys = KeyEncoding("v2") if self.chunk_key_encoding is None else self.chunk_key_encoding
        try:
            metadata = as_v2(replace(self, compressors=compressors, chunk_key_encoding=keys)._v3())
        except MetadataError as error:
            what, field = error.message, "zarr_format"
            raise OptionError(
                what, field=field, path=error.path, expected=error.expected, got=error.got, hint=error.hint
            ) from error
        return replace(metadata, v2={**(metadata.v2 or {}), "fill_value": None}) if self.fill_value is None else metadata

    def _v3(self) -> ArrayMetadata:
        data_type = from_numpy(self.dtype)
        shape = _lengths(self.shape, "shape", 0)
        given = _given_grid(self.chunks if self.shards is None else _shard_options(self.shards)[0], shape)
        if given is None:
            chunk_shape, shard_shape = self._shapes(shape, data_type)
            grid = ChunkGrid.regular(shape, shard_shape or chunk_shape)
            chunk_grid = Named(*grid.to_document())
        else:
            grid, chunk_grid = given
            chunk_shape, shard_shape = self._shapes_of(grid, data_type)
        fill = data_type.fill_from_python(None if self.fill_value is _LEFT_OUT else self.fill_value)
        chain = self._chain(ArraySpec(chunk_shape, data_type, fill), shard_shape)
        for stored in grid.typical_shapes():
            chain = chain.bind(ArraySpec(stored, data_type, fill))
        return ArrayMetadata(
            shape=shape,
            data_type=Named.parse(data_type.to_json(), "$.data_type"),
            chunk_grid=chunk_grid,
            chunk_key_encoding=Named(*_key_encoding(self.chunk_key_encoding).to_document()),
            fill_value=fill.to_json(),
            codecs=chain.to_named(),
            attributes={} if self.attributes is None else plain(attributes_of(self.attributes)),
            dimension_names=_names(self.dimension_names, len(shape)),
        )

    def _shapes_of(self, grid: ChunkGrid, data_type: DataType) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        """`_shapes` for a given grid of chunks or shards: of these the largest, and for subchunks what divides them all."""
        shapes = grid.typical_shapes()
        largest, common = shapes[0], tuple([math.gcd(*lengths) for lengths in zip(*shapes, strict=True)])
        if self.shards is None:
            return largest, None
        if _is_auto(self.chunks, "chunks"):
            return divisors(common, data_type.itemsize or VARIABLE_ELEMENT_BYTES), largest
        chunks = _lengths(self.chunks, "chunks", 1, grid.ndim)
        if any(shard % chunk for shard, chunk in zip(common, chunks, strict=True)):
            raise ShapeError("chunks must divide shards", field="shards", expected=f"multiples of {chunks}", got=shown(self.shards))
        return chunks, largest

    def _shapes(self, shape: tuple[int, ...], data_type: DataType) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
        itemsize, given = data_type.itemsize or VARIABLE_ELEMENT_BYTES, _shard_options(self.shards)[0]
        auto_shards = _is_auto(given, "shards")
        shards = None if given is None or auto_shards else _lengths(given, "shards", 1, len(shape))
        if not _is_auto(self.chunks, "chunks"):
            chunks = _lengths(_whole_axes(self.chunks, shape), "chunks", 1, len(shape))
        elif shards is not None:
            chunks = divisors(shards, itemsize)
        else:
            chunks = auto_chunks(shape, itemsize, SUBCHUNK_BYTES if auto_shards else AUTO_CHUNK_BYTES)
        if auto_shards:
            return chunks, auto_shard_shape(shape, chunks, itemsize)
        if shards is not None and any(shard % chunk for shard, chunk in zip(shards, chunks, strict=True)):
            raise ShapeError("chunks must divide shards", field="shards", expected=f"multiples of {chunks}", got=shards)
        return chunks, shards

    def _chain(self, spec: ArraySpec, shards: tuple[int, ...] | None) -> Chain:
        """The codecs for chunks of `spec`, in shards where there are some."""
        filters = [] if _is_auto(self.filters) else [_codec(item) for item in _listed(self.filters)]
        if self.order not in ("C", "F"):
            raise OptionError("impossible value of an option", field="order", expected="C | F", got=self.order)
        if self.order == "F" and len(spec.shape) > 1:
            filters.insert(0, Transpose(tuple(reversed(range(len(spec.shape))))))  # filters of V2 see elements in this order
        if not _is_auto(self.serializer):
            serializer = _codec(self.serializer)
        elif filters and filters[-1].kind == "array_to_bytes":
            serializer = filters.pop()  # an object codec, which is a filter in V2
        else:
            serializer = _default_serializer(_handed_on(filters, spec))
        compressors = DEFAULT_COMPRESSORS if _is_auto(self.compressors) else [_codec(c) for c in _listed(self.compressors)]
        chain = chain_of([*filters, serializer, *compressors])
        if shards is None:
            return chain
        index = chain_of([Bytes("little"), Crc32c()])
        return chain_of([ShardingIndexed(spec.shape, chain, index, _shard_options(self.shards)[1])])


_known: Remembered[Kept] = Remembered()
_REGISTRIES = (extensions.codecs, extensions.data_types, extensions.chunk_grids, extensions.chunk_key_encodings)


def _given_grid(chunks: Any, shape: tuple[int, ...]) -> tuple[ChunkGrid, Named] | None:
    """The grid that a caller gives, and its metadata; None for chunks of one shape.

    It is an object with `to_json`, its JSON (`{"name": ..., "configuration": ...}`), a `ChunkGrid`, or lengths that differ.
    """
    if isinstance(chunks, ChunkGrid):
        if chunks.array_shape != shape:
            raise ShapeError("a chunk grid of another array", field="chunks", expected=shape, got=chunks.array_shape)
        return chunks, Named(*chunks.to_document())
    document = chunks.to_json() if hasattr(chunks, "to_json") else chunks
    if isinstance(document, Mapping):
        named = Named.parse(dict(document), "$.chunk_grid")
        return ChunkGrid.from_document(named.name, named.configuration, shape), named
    grid = _rectilinear(chunks, shape)
    return None if grid is None else (grid, Named(*grid.to_document()))


def _rectilinear(lengths: Any, shape: tuple[int, ...]) -> RectilinearGrid | None:
    """The grid of chunks of given lengths: `[[10, 20], [8, 8]]`, or `[[10, [5, 2]], 8]`; None where they are of one shape."""
    if not isinstance(lengths, list | tuple) or not any(isinstance(_plain_lengths(entry), list) for entry in lengths):
        return None
    entries = [_plain_lengths(entry) for entry in lengths]
    try:
        grid = RectilinearGrid.from_json({"kind": "inline", "chunk_shapes": entries}, shape)
    except MetadataError as error:
        what = f"lengths of chunks that cannot be: {error.message}"
        raise ShapeError(what, field="chunks", expected=error.expected, got=shown(lengths)) from error
    if grid.total_shape != shape:
        raise ShapeError("the lengths of chunks add up to the shape", field="chunks", expected=shape, got=grid.total_shape)
    return grid


def _plain_lengths(entry: Any) -> Any:
    """Lengths of chunks with integers and arrays of NumPy as Python's."""
    if isinstance(entry, list | tuple) or (isinstance(entry, np.ndarray) and entry.ndim):
        return [_plain_lengths(each) for each in entry]
    return int(entry) if isinstance(entry, np.integer) else entry


def _is_auto(value: Any, field: str | None = None) -> bool:
    """Whether an option is "auto"; with `field`, any other word is an OptionError."""
    if not isinstance(value, str):
        return False
    if value != "auto" and field is not None:
        hint = did_you_mean(value, ["auto"])
        raise OptionError("impossible value of an option", field=field, expected='a shape or "auto"', got=value, hint=hint)
    return value == "auto"


def _shard_options(shards: Any) -> tuple[Any, str]:
    """The shape (or grid) of shards and where their index is, from these or zarr-python's {"shape", "index_location"}."""
    if not isinstance(shards, Mapping) or "name" in shards:
        return shards, "end"
    unknown = sorted(set(shards) - {"shape", "index_location"})
    if unknown or "shape" not in shards:
        hint = did_you_mean(unknown[0], ["shape", "index_location"]) if unknown else None
        raise OptionError("not shards", field="shards", expected="shape, index_location", got=dict(shards), hint=hint)
    location = shards.get("index_location", "end")
    if location not in ("start", "end"):
        raise OptionError("impossible value of an option", field="index_location", expected="start | end", got=repr(location))
    return shards["shape"], location


def _handed_on(filters: Sequence[Any], spec: ArraySpec) -> DataType:
    """The data type that filters make of chunks. What does not fit is found, with its place, when the chain is bound."""
    data_type = spec.data_type
    try:
        for codec in filters:
            spec = (codec.for_spec(spec) if hasattr(codec, "for_spec") else codec).resolve(spec)
    except Exception:  # a codec from outside may raise anything
        return data_type
    return spec.data_type


def _default_serializer(data_type: DataType) -> Any:
    """The codec that a data type of variable size names as its own (`serializer`), else `bytes`."""
    name = getattr(data_type, "serializer", "bytes")
    if name != "bytes":
        return read_codec(Named(name, {}), "$.codecs", from_caller=True)
    return Bytes(None if data_type.word == 1 else "little")


def _lengths(value: Any, name: str, low: int, ndim: int | None = None) -> tuple[int, ...]:
    items = (value,) if isinstance(value, int | np.integer) else value
    try:
        lengths = tuple(items)
    except TypeError:
        raise ShapeError("not a shape", field=name, expected="integers", got=shown(value)) from None
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or not low <= n < 2**63 for n in lengths):
        raise ShapeError("not a shape", field=name, expected=f"integers of at least {low}", got=shown(value))
    if ndim is not None and len(lengths) != ndim:
        raise ShapeError("wrong number of dimensions", field=name, expected=ndim, got=shown(value))
    return tuple(int(n) for n in lengths)


def _whole_axes(chunks: Any, shape: tuple[int, ...]) -> Any:
    """Chunks in which -1, for all dimensions or for one of them, is the length of the array (as in zarr-python and Dask)."""
    if isinstance(chunks, int) and chunks == -1:
        chunks = (-1,) * len(shape)
    if not isinstance(chunks, tuple | list) or len(chunks) != len(shape):
        return chunks
    whole = [isinstance(size, int) and size == -1 for size in chunks]
    return tuple(max(1, length) if all_ else size for size, length, all_ in zip(chunks, shape, whole, strict=True))


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _codec(item: Any) -> Any:
    """A codec object from what users pass: ours, a metadata, or one of numcodecs."""
    if isinstance(getattr(item, "kind", None), str):
        check_codec(item)
        return item
    if isinstance(item, Mapping | str):
        path = "$.codecs"
        metadata = Named.parse(dict(item) if isinstance(item, Mapping) else item, path)
        return read_codec(metadata, path, from_caller=True)
    if hasattr(item, "codec_id") and hasattr(item, "get_config"):
        return _from_numcodecs(dict(item.get_config()))
    if hasattr(item, "to_dict"):
        return _codec(_decided(item))
    raise OptionError(
        "not a codec", expected="a codec object, a {name, configuration} document or a numcodecs codec", got=shown(item)
    )


def _decided(item: Any) -> dict[str, Any]:
    """The metadata of a codec object of zarr-python, without what the object leaves to the array and fills in meanwhile."""
    metadata = dict(item.to_dict())
    undecided = getattr(item, "_tunable_attrs", ())
    if undecided and "configuration" in metadata:
        metadata["configuration"] = {key: value for key, value in metadata["configuration"].items() if key not in undecided}
    return metadata


def _from_numcodecs(config: dict[str, Any]) -> Any:
    identifier = config.pop("id")
    if identifier == "zstd":
        return Zstd(config.get("level", 0), bool(config.get("checksum", False)))
    if identifier == "gzip":
        return Gzip(config.get("level", 5))
    if identifier == "blosc":
        shuffle = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle", -1: None}[config.get("shuffle", 1)]
        return Blosc(config["cname"], config["clevel"], shuffle, None, config.get("blocksize", 0))
    name = identifier if identifier in _OBJECT_CODECS else f"numcodecs.{identifier}"
    return read_codec(Named(name, config), "$.codecs")


_OBJECT_CODECS = ("vlen-utf8", "vlen-bytes")
"""Codecs of numcodecs that have the same names in V3."""


def _key_encoding(value: Any) -> KeyEncoding:
    if value is None:
        return KeyEncoding.from_document("default", {})
    if isinstance(value, KeyEncoding):
        return value
    if isinstance(value, str):
        return KeyEncoding.from_document(value, {})
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        given = dict(value)
        name, configuration = given.pop("name"), given.pop("configuration", {})
        # zarr-python takes the separator next to the name, metadata have it in the configuration.
        if set(given) <= {"separator"} and isinstance(configuration, Mapping):
            return KeyEncoding.from_document(name, {**configuration, **given})
    expected = '"default", "v2", {name, separator} or {name, configuration}'
    raise OptionError("not a chunk key encoding", field="chunk_key_encoding", expected=expected, got=shown(value))


def _names(names: Sequence[str | None] | None, ndim: int) -> tuple[str | None, ...] | None:
    if names is None:
        return None
    if isinstance(names, str) or not isinstance(names, Sequence) or len(names) != ndim:
        raise ShapeError("one name a dimension", field="dimension_names", expected=ndim, got=shown(names))
    if any(name is not None and not isinstance(name, str) for name in names):
        raise DataTypeError("names are strings or None", field="dimension_names", got=shown(names))
    return tuple(names)
