"""The array of an operation: its metadata, bound to data type, grid and codecs and validated, and the options in force."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter, is_
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant import extensions
from zarrant.codecs.chain import Chain, parse_chain
from zarrant.codecs.kept import DecodedCache
from zarrant.codecs.protocols import ArraySpec, CodecOptions, Prepared
from zarrant.codecs.sharding.prepared import Shard
from zarrant.dtypes.base import DataType, Fill
from zarrant.dtypes.fixed import parse_data_type
from zarrant.errors import ZarrantError
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.keys import KeyEncoding
from zarrant.metadata.json_text import plain
from zarrant.metadata.node import placed
from zarrant.metadata.remembered import Remembered, place_of
from zarrant.metadata.turn import Turn
from zarrant.metadata.v3 import ArrayMetadata, Named
from zarrant.ops.guard import SwapFirst
from zarrant.ops.kept_indexes import KeptIndexes
from zarrant.requests import MIN_ADMITTED_BYTES, OnlyWhile
from zarrant.storage import Version

Array = npt.NDArray[np.generic]

_BOUND = attrgetter("data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "storage_transformers")
"""What of the metadata is bound, but for the shape."""
MAX_PREPARED = 256
"""Chunk shapes that an array keeps prepared: a regular grid has one. Each takes 0.1 ms to prepare again."""


@dataclass(frozen=True, slots=True)
class OpOptions:
    """Run-time options of operations (`docs/options.md`). `guarded` False: partial writes have no guard.
    `readable` False: the store cannot be read, so that nothing can be known of what is stored.

    `checks_conditions`: the store checks the condition of a write under the lock of what is written, and sees other locks.

    `turns`: several processes share the store, and it has no locks: changes of the shape take turns (`ops/turns.py`).
    `erases_if`: the store can erase on condition of a version; else fill is stored where another writer could be faster.

    `batch_put_bytes`: decoded bytes of whole chunks that are best stored with one request (the store syncs them together); 0: any.
    """

    codec: CodecOptions = CodecOptions()
    missing_chunks: str = "fill"
    guarded: bool = True
    readable: bool = True
    batch_put_bytes: int = 0
    checks_conditions: bool = False
    swaps_first: bool = False
    """Small updates may begin without a lock (`ops.guard.SwapFirst`): not inside of a lock, whose keys alone may be written."""
    updates_boxes: bool = False
    """The store replaces boxes of stored chunks with one call; not inside of a lock either."""
    turns: bool = False
    erases_if: bool = True
    turn_timeout: float = 60.0
    """Seconds to wait while one writer has the turn."""
    cache: DecodedCache | None = None
    """Where decoded chunks are kept between reads."""
    coalesce_gap: int = 0
    """Ranges of one object with no more bytes between them are read as one; 0: that is up to the store."""


@dataclass(slots=True)
class Known:
    """What was last seen of an array's stored metadata; the only part of it that changes.

    `version` None: nothing was seen stored. `same_shape`: whether that version has the shape of this `BoundArray`. `shape`: the
    shape that was last read, None where the metadata was not read again.
    """

    version: Version
    same_shape: bool = True
    shape: tuple[int, ...] | None = None
    condition: OnlyWhile | None = None
    """The condition of writes, made once for a version."""
    swap_first: SwapFirst = field(default_factory=SwapFirst)
    """How parts of small chunks are written."""

    def learn(self, version: Version, shape: tuple[int, ...], same_shape: bool) -> None:
        """The stored metadata was read. The shape first: a thread that sees the version relies on it."""
        if self.version != version:
            self.version = None
        self.same_shape, self.shape = same_shape, shape
        self.version = version


@dataclass(slots=True)
class OwnTurn:
    """The turn that an operation has taken to change the shape of an array; shared by all that it does meanwhile."""

    metadata: ArrayMetadata
    """The metadata that have the turn, with their version, as they were last seen."""
    since: float
    """When the last beat was about to be stored, by the driver's clock."""
    seen: float
    """When somebody was last about to look whether they have it, who found it so; by the driver's clock."""
    ended: bool = False
    """It was given back."""
    lost: bool = False
    """Another writer has taken it over, or the array is gone."""
    others: list[BoundArray] = field(default_factory=list)
    """The other arrays that the operation has turns of; they are renewed together."""

    @property
    def turn(self) -> Turn:
        """The turn."""
        assert self.metadata.turn is not None, "made of metadata with a turn"
        return self.metadata.turn


@dataclass(frozen=True)
class BoundArray:
    """An array at `prefix` ("" for the root of the store, else without slashes at its ends): its metadata, bound once.

    Everything that depends on the shape of a chunk is asked for by that shape: chunks of one array may differ.
    """

    prefix: str
    metadata: ArrayMetadata
    data_type: DataType
    fill: Fill
    grid: ChunkGrid
    key_encoding: KeyEncoding
    chain: Chain
    subchunk_shapes: tuple[tuple[int, ...], ...]
    """The shape of the subchunks of each level of sharding, outermost first; none where the array is not sharded."""
    options: OpOptions
    _prepared: dict[tuple[int, ...], Prepared] = field(default_factory=dict, compare=False, repr=False)
    """Pipelines by chunk shape; arrays that differ only in attributes share them, those made of one another also in the shape."""
    indexes: KeptIndexes = field(default_factory=KeptIndexes, compare=False, repr=False)
    """Indexes of shards that were read; arrays that differ only in shape and attributes share them."""
    turn: OwnTurn | None = field(default=None, compare=False, repr=False)
    """The turn under which objects are stored, if that is how the shape is changed."""

    @classmethod
    def from_metadata(cls, prefix: str, metadata: ArrayMetadata, options: OpOptions) -> BoundArray:
        """Bind the metadata of an array; MetadataError (or UnknownExtensionError) for anything in it that cannot be."""
        try:
            return cls._bound(prefix, metadata, options)
        except ZarrantError as error:
            raise placed(error, metadata) from error.__cause__

    @classmethod
    def _bound(cls, prefix: str, metadata: ArrayMetadata, options: OpOptions) -> BoundArray:
        parts, prepared = _parts(metadata)
        return cls(prefix, metadata, *parts, options, prepared.setdefault(options.codec, {}))

    def with_options(self, options: OpOptions) -> BoundArray:
        """The same array under other options."""
        return replace(self, options=options, _prepared=self._prepared if options.codec == self.options.codec else {})

    def with_shape(self, shape: Sequence[int]) -> BoundArray:
        """The same array with another shape; ShapeError where the chunk grid cannot have them."""
        grid = self.grid.with_shape(self.metadata.with_shape(shape).shape)
        metadata = replace(self.metadata, shape=grid.array_shape)
        if grid.grows:
            metadata = replace(metadata, chunk_grid=Named(*grid.to_document()))
        return replace(self, metadata=metadata, grid=grid)

    def with_metadata(self, metadata: ArrayMetadata) -> BoundArray:
        """The same array as other metadata describe it; bound anew only where more than shape and attributes may differ."""
        old = self.metadata
        same = all(map(is_, _BOUND(metadata), _BOUND(old)))
        if not same or len(metadata.shape) != len(old.shape):
            return BoundArray.from_metadata(self.prefix, metadata, self.options)
        grid = self.grid if metadata.shape == old.shape else self.grid.with_shape(metadata.shape)
        parts = self.data_type, self.fill, grid, self.key_encoding, self.chain, self.subchunk_shapes
        return BoundArray(self.prefix, metadata, *parts, self.options, self._prepared, self.indexes, self.turn)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.metadata.shape

    @cached_property
    def known(self) -> Known:
        """What is known of the stored metadata."""
        return Known(self.metadata.version)

    @cached_property
    def decoding(self) -> str:
        """On what a decoded chunk depends, besides its bytes and its shape."""
        metadata = self.metadata
        codecs = metadata.data_type, metadata.fill_value, metadata.codecs, metadata.storage_transformers
        return repr((codecs, self.options.codec.validate_checksums))

    @cached_property
    def brief_chunks(self) -> int:
        """How many chunks are so few bytes that an operation on them does not ask for memory (`requests.admitted`)."""
        shape = self.grid.uniform_shape
        nbytes = MIN_ADMITTED_BYTES if shape is None else math.prod(shape) * (self.data_type.itemsize or 16)
        return MIN_ADMITTED_BYTES // (2 * max(1, nbytes))

    @cached_property
    def piece_size(self) -> int:
        """Elements of what is decoded whole: of a subchunk, or of the largest chunk."""
        return math.prod(self.subchunk_shapes[-1] if self.subchunk_shapes else self.grid.typical_shapes()[0])

    @property
    def sharded(self) -> bool:
        """Whether a chunk (stored object) is a shard of subchunks."""
        return bool(self.subchunk_shapes)

    def chunk_shape(self, chunk: Sequence[int]) -> tuple[int, ...]:
        """The full shape of a chunk, also where the array ends inside of it."""
        shape = self.grid.uniform_shape
        return self.grid.chunk_shape(chunk) if shape is None else shape

    def prepared_for(self, chunk_shape: tuple[int, ...]) -> Prepared:
        """The codec chain, ready for chunks of a shape."""
        prepared = self._prepared.get(chunk_shape)
        if prepared is None:
            prepared = self.chain.prepare(ArraySpec(chunk_shape, self.data_type, self.fill), self.options.codec)
            if len(self._prepared) >= MAX_PREPARED:
                self._prepared.clear()
            self._prepared[chunk_shape] = prepared
        return prepared

    def shard_for(self, chunk: Sequence[int]) -> Shard:
        """The same for a chunk of an array that is sharded."""
        shard = self.prepared_for(self.chunk_shape(chunk))
        assert isinstance(shard, Shard), "asked for shards only"
        return shard

    def piece_shape_for(self, chunk_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The smallest part of a chunk of a shape that can be replaced without decoding another."""
        prepared = self.prepared_for(chunk_shape)
        return prepared.write_granularity if prepared.partial.write else chunk_shape

    def key_of(self, name: str) -> str:
        """A key below the array."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def chunk_key(self, chunk: Sequence[int]) -> str:
        """The key of one chunk."""
        return self.key_of(self.key_encoding.key(chunk))

    def chunk_keys(self, indices: npt.NDArray[np.int64]) -> list[str]:
        """The keys of chunks (n, d)."""
        keys = self.key_encoding.keys(indices)
        return [f"{self.prefix}/{key}" for key in keys] if self.prefix else keys

    def empty(self, shape: Sequence[int]) -> Array:
        """A new array for results."""
        return np.empty(tuple(shape), self.data_type.numpy)


_Parts: TypeAlias = tuple[DataType, Fill, ChunkGrid, KeyEncoding, Chain, tuple[tuple[int, ...], ...]]
"""What of a `BoundArray` its metadata decide; nothing of it can be changed."""
_PreparedBy: TypeAlias = dict[CodecOptions, dict[tuple[int, ...], Prepared]]
"""Pipelines by options and chunk shape."""
_bound: Remembered[tuple[_Parts, _PreparedBy]] = Remembered()
"""Metadata that stay bound, for the next array that says the same: binding takes 40 µs, and looking it up 2."""


def _parts(metadata: ArrayMetadata) -> tuple[_Parts, _PreparedBy]:
    """The parts that these metadata decide, bound before or now, and what was prepared of them."""
    decisive = _decisive(metadata)
    place = place_of(decisive)
    found = None if place is None else _bound.get(place)
    if found is None:
        found = _bind(metadata), {}
        _bound.keep(place, decisive, found)
    return found


def _decisive(metadata: ArrayMetadata) -> tuple[Any, ...]:
    """All on what the parts depend."""
    named = (metadata.data_type, metadata.chunk_grid, metadata.chunk_key_encoding, *metadata.codecs)
    changes = [registry.changes for registry in _REGISTRIES]
    texts = [(each.name, each.configuration, each.bare, each.must_understand) for each in named]
    skipped = [transformer.name for transformer in metadata.storage_transformers]
    return metadata.shape, metadata.fill_value, texts, skipped, changes


_REGISTRIES = (extensions.codecs, extensions.data_types, extensions.chunk_grids, extensions.chunk_key_encodings)


def _bind(metadata: ArrayMetadata) -> _Parts:
    data_type = parse_data_type(metadata.data_type.name, metadata.data_type.configuration)
    fill = data_type.fill_from_json(metadata.fill_value)
    grid = ChunkGrid.from_document(metadata.chunk_grid.name, metadata.chunk_grid.configuration, metadata.shape)
    keys = KeyEncoding.from_document(metadata.chunk_key_encoding.name, metadata.chunk_key_encoding.configuration)
    # Copies: a codec may keep its configuration, and metadata that were handed out can be changed.
    codecs = [replace(codec, configuration=plain(codec.configuration)) for codec in metadata.codecs]
    chain = parse_chain(codecs, "$.codecs")
    for shape in grid.typical_shapes():  # values that the codecs fill in depend on the data type only, not on the shape
        chain = chain.bind(ArraySpec(shape, data_type, fill))
    if metadata.storage_transformers:  # those that may be ignored; the others are refused with the metadata
        chain = chain.skipping(tuple(transformer.name for transformer in metadata.storage_transformers))
    return data_type, fill, grid, keys, chain, tuple(chain.subchunk_shapes())
