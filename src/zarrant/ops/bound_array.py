"""What an operation knows of an array: everything its document says, bound and validated, and the options in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.codecs.chain import Chain, parse_chain
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.protocols import ArraySpec, CodecOptions, Prepared
from zarrant.dtypes.base import Fill
from zarrant.dtypes.fixed import FixedType, fixed_size, parse_data_type
from zarrant.errors import DataTypeError, ShapeError
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.keys import KeyEncoding
from zarrant.limits import LIMITS
from zarrant.metadata.v3 import ArrayDocument
from zarrant.requests import OnlyWhile
from zarrant.storage import Version

Array = npt.NDArray[np.generic]

_BOUND = ("data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs", "storage_transformers")
"""What of the metadata is bound, but for the shape."""
_OF_ONE_CHUNK = {"chunk_shape", "prepared", "subchunk_shapes", "piece_shape", "batch", "cost", "write_batch", "write_cost"}
"""What was computed for a chunk, wherever the array ends."""


@dataclass(frozen=True, slots=True)
class OpOptions:
    """Run-time options of operations (API.md §3). `exclusive` False lets partial writes go without a guard. `readable` False:
    the store cannot be read, so that nothing can be known of what is stored.

    `checks_conditions`: the store checks the condition of a write under the lock of what is written, and sees other locks.

    `together`: decoded bytes of whole chunks that are best stored with one request (the store syncs them together); 0: any.
    """

    codec: CodecOptions = CodecOptions()
    missing_chunks: str = "fill"
    exclusive: bool = True
    readable: bool = True
    together: int = 0
    checks_conditions: bool = False


@dataclass(slots=True)
class Known:
    """What was last seen of an array's stored metadata; the only part of its state that changes.

    `version` None: nothing was seen stored. `same_shape`: whether that version has the shape that the state has. `shape`: the
    shape that was last read, None where the metadata was not read again.
    """

    version: Version
    same_shape: bool = True
    shape: tuple[int, ...] | None = None
    condition: OnlyWhile | None = None
    """The condition of writes, made once for a version."""

    def learn(self, version: Version, shape: tuple[int, ...], same_shape: bool) -> None:
        """The stored metadata was read. The shape first: a thread that sees the version relies on it."""
        if self.version != version:
            self.version = None
        self.same_shape, self.shape = same_shape, shape
        self.version = version


@dataclass(frozen=True)
class BoundArray:
    """An array at `prefix` ("" for the root of the store, else without slashes at its ends)."""

    prefix: str
    document: ArrayDocument
    data_type: FixedType
    fill: Fill
    grid: ChunkGrid
    key_encoding: KeyEncoding
    chain: Chain
    options: OpOptions

    @classmethod
    def from_document(cls, prefix: str, document: ArrayDocument, options: OpOptions) -> BoundArray:
        """Bind a document; MetadataError (or UnknownExtensionError) for anything in it that cannot be."""
        data_type = fixed_size(parse_data_type(document.data_type.name, document.data_type.configuration))
        fill = data_type.fill_from_json(document.fill_value)
        grid = ChunkGrid.from_document(document.chunk_grid.name, document.chunk_grid.configuration, document.shape)
        keys = KeyEncoding.from_document(document.chunk_key_encoding.name, document.chunk_key_encoding.configuration)
        spec = ArraySpec(_chunk_shape(grid), data_type, fill)
        chain = parse_chain(document.codecs, "$.codecs").bind(spec)
        if document.storage_transformers:  # those that may be ignored; the others are refused with the document
            chain = chain.skipping(tuple(transformer.name for transformer in document.storage_transformers))
        return cls(prefix, document, data_type, fill, grid, keys, chain, options)

    def with_options(self, options: OpOptions) -> BoundArray:
        """The same array under other options."""
        return replace(self, options=options)

    def with_document(self, document: ArrayDocument) -> BoundArray:
        """The same array as other metadata describe it; bound anew only where more than shape and attributes may differ."""
        old = self.document
        same = all(getattr(document, name) is getattr(old, name) for name in _BOUND)
        if not same or len(document.shape) != len(old.shape):
            return BoundArray.from_document(self.prefix, document, self.options)
        grid = ChunkGrid.from_document(document.chunk_grid.name, document.chunk_grid.configuration, document.shape)
        state = BoundArray(self.prefix, document, self.data_type, self.fill, grid, self.key_encoding, self.chain, self.options)
        for name in _OF_ONE_CHUNK & self.__dict__.keys():
            state.__dict__[name] = self.__dict__[name]
        return state

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.document.shape

    @cached_property
    def chunk_shape(self) -> tuple[int, ...]:
        """The shape of every chunk (stored object)."""
        return _chunk_shape(self.grid)

    @cached_property
    def known(self) -> Known:
        """What is known of the stored metadata."""
        return Known(self.document.version)

    @cached_property
    def prepared(self) -> Prepared:
        """The codec chain, ready for chunks."""
        return self.chain.prepare(ArraySpec(self.chunk_shape, self.data_type, self.fill), self.options.codec)

    @cached_property
    def subchunk_shapes(self) -> list[tuple[int, ...]]:
        """The shape of the subchunks of each level of sharding, outermost first; none where the array is not sharded."""
        return self.chain.subchunk_shapes()

    @property
    def sharded(self) -> bool:
        """Whether a chunk (stored object) is a shard of subchunks."""
        return bool(self.subchunk_shapes)

    @cached_property
    def piece_shape(self) -> tuple[int, ...]:
        """The smallest part of a stored object that can be replaced without decoding another."""
        return self.subchunk_shapes[-1] if self.sharded and self.prepared.partial.write else self.chunk_shape

    @property
    def whole_limit(self) -> int:
        """The bytes of a stored object that is read whole as it is: a shard may also have dead ones, and a file holes."""
        return 2 * max(LIMITS.decoded, self.prepared.encoded_bound)

    @cached_property
    def batch(self) -> int:
        """Whole chunks handled together: many small ones, or one that is large or a shard."""
        if not isinstance(self.prepared, ChunkPipeline):
            return 1
        return max(1, self.options.codec.batch_bytes // max(1, self.prepared.spec.nbytes))

    @cached_property
    def cost(self) -> int:
        """Bytes that one batch of chunks holds at its peak: rows and encoded rows, or an encoded shard."""
        return 2 * self.batch * self.prepared.spec.nbytes

    @cached_property
    def write_batch(self) -> int:
        """Whole chunks stored with one request."""
        return max(self.batch, self.options.together // max(1, self.prepared.spec.nbytes))

    @cached_property
    def write_cost(self) -> int:
        """Bytes that the chunks of one request hold at its peak."""
        return 2 * self.write_batch * self.prepared.spec.nbytes

    def key_of(self, name: str) -> str:
        """A key below the array."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def chunk_key(self, chunk: Sequence[int]) -> str:
        """The key of one chunk."""
        return self.key_of(self.key_encoding.key(chunk))

    def chunk_keys(self, indices: npt.NDArray[np.int64]) -> list[str]:
        """The keys of chunks (n, d)."""
        return [self.key_of(key) for key in self.key_encoding.keys(indices)]

    def empty(self, shape: Sequence[int]) -> Array:
        """A new array for results."""
        return np.empty(tuple(shape), self.data_type.numpy)

    def values(self, data: Any) -> Array:
        """Data as an array of the array's type, a view where possible; see `dtypes.values` for what does not fit."""
        return self.data_type.as_values(data, self.fill)

    def output(self, out: Array | None, shape: Sequence[int]) -> Array:
        """`out` checked, or a new array."""
        if out is None:
            return self.empty(shape)
        if not isinstance(out, np.ndarray):
            raise DataTypeError("out= must be a NumPy array", expected="numpy.ndarray", got=type(out).__name__)
        if out.shape != tuple(shape):
            raise ShapeError("out= has the wrong shape", expected=tuple(shape), got=out.shape)
        if out.dtype != self.data_type.numpy:
            raise DataTypeError("out= has the wrong type", expected=self.data_type.name, got=str(out.dtype))
        if not out.flags.writeable:
            raise DataTypeError("out= is read-only", expected="a writeable array", got="read-only")
        return out


def _chunk_shape(grid: ChunkGrid) -> tuple[int, ...]:
    shape = grid.uniform_shape
    assert shape is not None, "every grid that can be opened is regular"
    return shape
