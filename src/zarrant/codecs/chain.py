"""Codec chains: documents → bound → prepared.

`bind` validates everything that can be validated before the first chunk: the order of kinds, each configuration against data
type and chunk shape, sharding all the way in. `prepare` makes the object that encodes chunks of one shape with given options,
and remembers it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from zarrant.codecs import plain
from zarrant.codecs.array_to_array import Transpose
from zarrant.codecs.array_to_bytes import Bytes
from zarrant.codecs.base import BytesToBytes, ChunkSpec, CodecOptions, Prepared
from zarrant.codecs.bytes_to_bytes import Blosc
from zarrant.codecs.documents import check_members, choice, int_list
from zarrant.codecs.leaf import Leaf
from zarrant.codecs.sharding import Shard
from zarrant.dtypes.base import FixedFill
from zarrant.dtypes.fixed import number
from zarrant.errors import LimitError, MetadataError, ShapeError, UnknownExtensionError, shown
from zarrant.extensions import codecs as registered
from zarrant.geometry.grid import ChunkGrid
from zarrant.kernels.program import BLOSC_MAX
from zarrant.limits import LIMITS, require
from zarrant.metadata.v3 import Named

INDEX_TYPE = number("uint64", "uint", "u8")
MISSING_ENTRY = FixedFill(INDEX_TYPE, b"\xff" * 8)


@dataclass(frozen=True)
class ShardingIndexed:
    """The document of the sharding codec: shards of subchunks of `chunk_shape`, encoded by `codecs`, and an index.

    `index_location` is "end" or "start"; `index_codecs` must give a fixed size.
    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
    """

    chunk_shape: tuple[int, ...]
    codecs: Chain
    index_codecs: Chain
    index_location: str = "end"

    @classmethod
    def from_document(cls, document: Named, path: str) -> ShardingIndexed:
        """Read the codec, and the chains within it, from its document."""
        check_members(document, path, required=("chunk_shape", "codecs"), optional=("index_codecs", "index_location"))
        inside, configuration = f"{path}.configuration", document.configuration
        shape = tuple(int_list(configuration["chunk_shape"], f"{inside}.chunk_shape", low=1))
        index_default: list[object] = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        return cls(
            shape,
            parse_chain(configuration["codecs"], f"{inside}.codecs"),
            parse_chain(configuration.get("index_codecs", index_default), f"{inside}.index_codecs"),
            choice(configuration.get("index_location", "end"), f"{inside}.index_location", ("start", "end")),
        )

    def to_document(self) -> Named:
        """The document of this codec."""
        return Named(
            "sharding_indexed",
            {
                "chunk_shape": list(self.chunk_shape),
                "codecs": [document.to_json() for document in self.codecs.to_documents()],
                "index_codecs": [document.to_json() for document in self.index_codecs.to_documents()],
                "index_location": self.index_location,
            },
        )


@dataclass(frozen=True)
class Chain:
    """Array-to-array codecs, one array-to-bytes codec, bytes-to-bytes codecs; `path` says where in the document they stand."""

    array_to_array: tuple[Transpose, ...]
    array_to_bytes: Bytes | ShardingIndexed
    bytes_to_bytes: tuple[BytesToBytes, ...]
    path: str = "$.codecs"
    skipped: tuple[str, ...] = ()
    """Extensions that are not known here and that a reader may ignore. What a writer should do for them is not known: nothing
    can be encoded."""

    def skipping(self, names: tuple[str, ...]) -> Chain:
        """The same chain as part of something that skips more: it cannot be written either."""
        return replace(self, skipped=(*self.skipped, *names)) if names else self

    def to_documents(self) -> tuple[Named, ...]:
        """The documents of all codecs, in order."""
        return tuple(codec.to_document() for codec in (*self.array_to_array, self.array_to_bytes, *self.bytes_to_bytes))

    @property
    def order(self) -> tuple[int, ...] | None:
        """All transposes as one: dimension j after them is dimension `order[j]` before; None where there are none."""
        total: tuple[int, ...] | None = None
        for codec in self.array_to_array:
            total = codec.order if total is None else tuple(total[axis] for axis in codec.order)
        return total

    def bind(self, spec: ChunkSpec) -> Chain:
        """The same chain with what the data type decides filled in, valid for chunks of `spec`; raises MetadataError."""
        bound = replace(
            self,
            bytes_to_bytes=tuple(
                codec.for_items(spec.data_type.itemsize) if isinstance(codec, Blosc) else codec for codec in self.bytes_to_bytes
            ),
        )
        if isinstance(self.array_to_bytes, ShardingIndexed):
            inner = replace(spec, shape=self.array_to_bytes.chunk_shape)
            sharding = replace(self.array_to_bytes, codecs=self.array_to_bytes.codecs.bind(inner))
            bound = replace(bound, array_to_bytes=sharding)
        bound.prepare(spec, CodecOptions())
        return bound

    def prepare(self, spec: ChunkSpec, options: CodecOptions) -> Prepared:
        """A chain ready for chunks of `spec` (as the array sees them, before transposition)."""
        return _prepare(self, spec, options, 0)

    def subchunk_shapes(self) -> list[tuple[int, ...]]:
        """The shape of the subchunks of each level of sharding, outermost first, as the array sees them."""
        shapes: list[tuple[int, ...]] = []
        orders: list[tuple[int, ...]] = []
        chain = self
        while True:
            if chain.order is not None:
                orders.append(chain.order)
            if not isinstance(chain.array_to_bytes, ShardingIndexed):
                return shapes
            shape = chain.array_to_bytes.chunk_shape
            for order in reversed(orders):
                shape = tuple(shape[axis] for axis in np.argsort(order).tolist())
            shapes.append(shape)
            chain = chain.array_to_bytes.codecs


def parse_chain(value: object, path: str) -> Chain:
    """Read a JSON list of codecs."""
    if not isinstance(value, list | tuple) or not value:
        raise MetadataError("wrong value", path=path, expected="a list of codecs", got=shown(value))
    _check_chain(len(value), path)
    codecs: list[object] = []
    skipped: list[str] = []
    for i, item in enumerate(value):
        document = item if isinstance(item, Named) else Named.parse(item, f"{path}[{i}]")
        if _ignorable(document):
            skipped.append(document.name)
            continue
        codecs.append(read_codec(document, f"{path}[{i}]"))
        if sum(map(_is_middle, codecs)) > 1:  # before the next one is read: chains inside of chains would be without bound
            raise _impossible(codecs, path)
    return replace(chain_of(codecs, path), skipped=tuple(skipped))


def _check_chain(length: int, path: str) -> None:
    """The limits of a chain that is not made yet; each shard around it adds a `.configuration.` to its path."""
    require(length, LIMITS.chain, "a codec chain that is too long", "codecs", path)
    require(path.count(".configuration."), LIMITS.nesting, "shards nested too deep", "nesting", path)


def _ignorable(document: Named) -> bool:
    """A codec that is not known, and need not be."""
    return document.may_ignore and document.name not in registered


def read_codec(document: Named, path: str) -> object:
    """The codec object of one document."""
    try:
        codec_class = registered.resolve(document.name)
    except UnknownExtensionError as error:
        raise error.annotate(path=path) from None
    return codec_class.from_document(document, path)


def chain_of(codecs: Sequence[object], path: str = "$.codecs") -> Chain:
    """A chain of codec objects; the kinds must come in order, with exactly one array-to-bytes codec."""
    _check_chain(len(codecs), path)
    middle = [i for i, codec in enumerate(codecs) if _is_middle(codec)]
    kinds = [_kind(codec) for codec in codecs]
    if len(middle) != 1 or kinds != sorted(kinds):
        raise _impossible(codecs, path)
    at = middle[0]
    before, middle_codec, after = tuple(codecs[:at]), codecs[at], tuple(codecs[at + 1 :])
    return Chain(before, middle_codec, after, path)  # type: ignore[arg-type]


def _impossible(codecs: Sequence[object], path: str) -> MetadataError:
    return MetadataError(
        "codecs in an impossible order",
        path=path,
        expected="array-to-array codecs, exactly one array-to-bytes codec, bytes-to-bytes codecs",
        got=[getattr(codec, "name", type(codec).__name__) for codec in codecs],
    )


def _is_middle(codec: object) -> bool:
    return isinstance(codec, Bytes | ShardingIndexed)


def _kind(codec: object) -> int:
    if isinstance(codec, Transpose):
        return 0
    return 1 if _is_middle(codec) else 2


SMALLER = "A chunk is decoded whole: choose smaller chunks, and shards of them where few objects are wanted (shards=)"


@lru_cache(maxsize=256)
def _prepare(chain: Chain, spec: ChunkSpec, options: CodecOptions, nesting: int) -> Prepared:
    for i, codec in enumerate(chain.array_to_array):
        codec.validate(spec, f"{chain.path}[{i}]")
    order = chain.order
    laid_out = spec if order is None else replace(spec, shape=tuple(spec.shape[axis] for axis in order))
    path = f"{chain.path}[{len(chain.array_to_array)}]"
    if isinstance(chain.array_to_bytes, Bytes):
        chain.array_to_bytes.validate(laid_out, path)
        require(laid_out.nbytes, LIMITS.decoded, "chunk too large", "decoded bytes of a chunk", path, SMALLER)
        plainly = not chain.bytes_to_bytes and not chain.skipped and laid_out.nbytes >= plain.LEAST
        kind = plain.Plain if plainly else Leaf
        leaf = kind(laid_out, order, chain.array_to_bytes.steps(laid_out), chain.bytes_to_bytes, options, chain.skipped)
        _check_bound(leaf, path)
        return leaf
    return _prepare_shard(chain, chain.array_to_bytes, laid_out, path, options, nesting + 1)


def _check_bound(leaf: Leaf, path: str) -> None:
    """LimitError for chunks that a codec of theirs cannot take: Blosc has a limit of its own, a little below ours."""
    try:
        _ = leaf.encoded_bound
    except ShapeError as error:
        message, got = f"chunk too large: {error.message}", leaf.spec.nbytes
        raise LimitError(message, path=path, field="decoded bytes of a chunk", got=got, limit=BLOSC_MAX, hint=SMALLER) from error


def _prepare_shard(
    chain: Chain, sharding: ShardingIndexed, spec: ChunkSpec, path: str, options: CodecOptions, nesting: int
) -> Shard:
    _check_sharding(sharding, spec, f"{path}.configuration.chunk_shape", nesting)
    if chain.bytes_to_bytes:  # applied to the whole shard in memory
        require(spec.nbytes, LIMITS.decoded, "shard too large for codecs after it", "decoded bytes of a chunk", path, SMALLER)
    grid = ChunkGrid.regular(spec.shape, sharding.chunk_shape)
    index_spec = ChunkSpec((*grid.grid_shape, 2), INDEX_TYPE, MISSING_ENTRY)
    index_options = CodecOptions(write_empty_chunks=True, validate_checksums=options.validate_checksums)
    index_codec = _prepare(sharding.index_codecs.skipping(chain.skipped), index_spec, index_options, nesting)
    size = index_codec.encoded_size() if isinstance(index_codec, Leaf) else None
    if size is None:
        raise MetadataError(
            "index codecs must give a fixed size",
            path=f"{path}.configuration.index_codecs",
            expected="bytes, transpose, crc32c",
            got=[document.name for document in sharding.index_codecs.to_documents()],
        )
    inner_chain = sharding.codecs.skipping((*chain.skipped, *sharding.index_codecs.skipped))
    inner = _prepare(inner_chain, replace(spec, shape=sharding.chunk_shape), options, nesting)
    assert isinstance(index_codec, Leaf)
    at_start = sharding.index_location == "start"
    return Shard(spec, chain.order, grid, inner, index_codec, size, at_start, chain.bytes_to_bytes, options)


def _check_sharding(sharding: ShardingIndexed, spec: ChunkSpec, path: str, nesting: int) -> None:
    shape, sub = spec.shape, sharding.chunk_shape
    if len(sub) != len(shape) or any(outer % inner for outer, inner in zip(shape, sub, strict=False)):
        raise MetadataError(
            "subchunks must divide the shard", path=path, codec="sharding_indexed", expected=f"divisors of {shape}", got=sub
        )
    require(nesting, LIMITS.nesting, "shards nested too deep", "nesting", path)
    n = math.prod(outer // inner for outer, inner in zip(shape, sub, strict=True))
    require(n, LIMITS.subchunks, "too many subchunks in a shard", "subchunks", path)
