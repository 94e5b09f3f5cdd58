"""Codec chains in their three states: metadata, bound, prepared.

`bind` validates, before the first chunk, everything that can be validated: the order of the kinds, each configuration against
data type and chunk shape, and sharding on all levels. `prepare` makes the object that encodes chunks of one shape with given
options, and caches it. No codec is known here by its class; each says itself what it does (`protocols`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.codecs.pipeline.resolve import SMALLER, Stages, permutation_of, resolve
from zarrant.codecs.pipeline.uncompressed import UncompressedPipeline, worth_ranges
from zarrant.codecs.pipeline.variable_size import AroundShards, VariableSizePipeline
from zarrant.codecs.protocols import (
    KINDS,
    Around,
    ArraySpec,
    ArrayToArray,
    ArrayToBytes,
    BytesToBytes,
    CodecOptions,
    Prepared,
)
from zarrant.errors import LimitError, MetadataError, OptionError, ShapeError, UnknownExtensionError, shown
from zarrant.extensions import codecs as registered
from zarrant.kernels.program import BLOSC_MAX
from zarrant.limits import LIMITS, require
from zarrant.metadata.v3 import Named


@dataclass(frozen=True)
class Chain:
    """Array-to-array codecs, one array-to-bytes codec, bytes-to-bytes codecs. `path` is their place in the metadata."""

    array_to_array: tuple[ArrayToArray, ...]
    array_to_bytes: ArrayToBytes
    bytes_to_bytes: tuple[BytesToBytes, ...]
    path: str = "$.codecs"
    skipped: tuple[str, ...] = ()
    """Unknown codecs that a reader may ignore. A writer would have to apply them, so this chain cannot encode."""

    def skipping(self, names: tuple[str, ...]) -> Chain:
        """The same chain inside of one that skips codecs; it cannot encode either."""
        return replace(self, skipped=(*self.skipped, *names)) if names else self

    def to_named(self) -> tuple[Named, ...]:
        """The names and configurations of all codecs, in order."""
        codecs = (*self.array_to_array, self.array_to_bytes, *self.bytes_to_bytes)
        return tuple(Named.parse(codec.to_json(), self.path) for codec in codecs)

    def stages(self, spec: ArraySpec) -> Stages:
        """What each codec gets and hands on, for chunks of `spec`."""
        return resolve(self.array_to_array, self.array_to_bytes, self.bytes_to_bytes, spec, self.path)

    def decided(self, spec: ArraySpec) -> Chain:
        """The same chain with the values that follow from the data type filled in; MetadataError if a codec does not fit."""
        stages = self.stages(spec)
        return replace(self, array_to_array=stages.before, array_to_bytes=stages.serializer, bytes_to_bytes=stages.codecs)

    def bind(self, spec: ArraySpec) -> Chain:
        """The same chain with these values filled in, checked for chunks of `spec`; MetadataError if it does not fit them."""
        bound = self.decided(spec)
        bound.prepare(spec, CodecOptions())
        return bound

    def prepare(self, spec: ArraySpec, options: CodecOptions, nesting: int = 0) -> Prepared:
        """A pipeline for chunks of `spec` (before transposition). `nesting`: the number of shards around it."""
        return _prepare(self, spec, options, nesting)

    @property
    def order(self) -> tuple[int, ...] | None:
        """All transpositions as one: dimension j after them is dimension `order[j]` before. None if there are none."""
        total: tuple[int, ...] | None = None
        for order in map(permutation_of, self.array_to_array):
            if order is not None:
                total = order if total is None else tuple(total[axis] for axis in order)
        return total

    @property
    def subchunk_shape(self) -> tuple[int, ...] | None:
        """The shape of the subchunks into which the array-to-bytes codec divides a chunk; None if it does not."""
        return getattr(self.array_to_bytes, "chunk_shape", None)

    @property
    def subchunk_codecs(self) -> Chain | None:
        """The chain of these subchunks."""
        return None if self.subchunk_shape is None else getattr(self.array_to_bytes, "codecs", None)

    @property
    def innermost(self) -> Chain:
        """The chain of the smallest subchunks, or of whole chunks without sharding."""
        return self if self.subchunk_codecs is None else self.subchunk_codecs.innermost

    def subchunk_shapes(self) -> list[tuple[int, ...]]:
        """The shape of the subchunks at each level of sharding, the outermost first, in dimensions of the array.

        A level below an array-to-array codec other than a transposition is left out: there a chunk is decoded whole.
        """
        shapes: list[tuple[int, ...]] = []
        orders: list[tuple[int, ...]] = []
        chain: Chain | None = self
        while chain is not None:
            permutations = [permutation_of(codec) for codec in chain.array_to_array]
            if chain.subchunk_shape is None or None in permutations:
                break
            orders += [order for order in permutations if order is not None]
            shape = chain.subchunk_shape
            for order in reversed(orders):
                shape = tuple(shape[axis] for axis in np.argsort(order).tolist())
            shapes.append(shape)
            chain = chain.subchunk_codecs
        return shapes


def parse_chain(value: object, path: str) -> Chain:
    """Read a JSON list of codecs."""
    if not isinstance(value, list | tuple) or not value:
        raise MetadataError("wrong value", path=path, expected="a list of codecs", got=shown(value))
    _check_chain(len(value), path)
    codecs: list[Any] = []
    skipped: list[str] = []
    for i, item in enumerate(value):
        document = item if isinstance(item, Named) else Named.parse(item, f"{path}[{i}]")
        if _ignorable(document):
            skipped.append(document.name)
            continue
        codecs.append(read_codec(document, f"{path}[{i}]"))
        # Checked before the next codec is read, since the number of chains inside of chains would have no bound.
        if sum(codec.kind == "array_to_bytes" for codec in codecs) > 1:
            raise _impossible(codecs, path)
    return replace(chain_of(codecs, path), skipped=tuple(skipped))


def _check_chain(length: int, path: str) -> None:
    """Check the limits of a chain before it is made. Each shard around it adds a `.configuration.` to its path."""
    require(length, LIMITS.chain, "a codec chain that is too long", "codecs", path)
    require(path.count(".configuration."), LIMITS.nesting, "shards nested too deep", "nesting", path)


def _ignorable(document: Named) -> bool:
    """Whether a codec is unknown and may be ignored."""
    return document.may_ignore and document.name not in registered


def read_codec(document: Named, path: str, from_caller: bool = False) -> Any:
    """The codec object of a name and configuration. Only a caller may leave out values that follow from the array."""
    try:
        codec_class = registered.resolve(document.name)
    except UnknownExtensionError as error:
        raise error.annotate(path=path) from None
    make: Callable[..., Any] | None = getattr(codec_class, "from_caller", None) if from_caller else None
    return codec_class.from_json(document, path) if make is None else make(document.configuration, path)


def chain_of(codecs: Sequence[Any], path: str = "$.codecs") -> Chain:
    """A chain of codec objects; the kinds must come in order, with exactly one array-to-bytes codec."""
    _check_chain(len(codecs), path)
    for codec in codecs:
        check_codec(codec)
    kinds = [KINDS.index(codec.kind) for codec in codecs]
    if kinds.count(1) != 1 or kinds != sorted(kinds):
        raise _impossible(codecs, path)
    at = kinds.index(1)
    return Chain(tuple(codecs[:at]), codecs[at], tuple(codecs[at + 1 :]), path)


def check_codec(codec: Any) -> None:
    """OptionError for an object that is no codec. It is found here, where codecs are passed or read, not at the first write."""
    if getattr(codec, "kind", None) not in KINDS or not isinstance(getattr(codec, "name", None), str):
        expected = f"an object with a name and a kind: {' | '.join(KINDS)}"
        raise OptionError("not a codec", field="codecs", expected=expected, got=shown(codec))
    methods = METHODS[:2] if callable(getattr(codec, "prepare", None)) else METHODS
    lacking = [method for method in methods if not callable(getattr(codec, method, None))]
    if lacking or not _hashable(codec):
        expected = "a frozen value, which can be hashed" if not lacking else f"methods {', '.join(methods)}"
        got = f"no {', '.join(lacking)}" if lacking else "one that cannot be hashed"
        raise OptionError(f"{codec.name!r} is not a whole codec", field="codecs", codec=codec.name, expected=expected, got=got)


METHODS = ("to_json", "resolve", "encode", "decode")


def _hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _impossible(codecs: Sequence[Any], path: str) -> MetadataError:
    return MetadataError(
        "codecs in a wrong order",
        path=path,
        expected="array-to-array codecs, exactly one array-to-bytes codec, bytes-to-bytes codecs",
        got=[codec.name for codec in codecs],
    )


@lru_cache(maxsize=256)
def _prepare(chain: Chain, spec: ArraySpec, options: CodecOptions, nesting: int) -> Prepared:
    stages = chain.stages(spec)
    path = f"{chain.path}[{len(stages.before)}]"
    own: Callable[[ArraySpec, Around], Prepared] | None = getattr(stages.serializer, "prepare", None)
    if own is not None:
        return _prepare_own(own, stages, Around(stages.order, stages.codecs, options, nesting, path, chain.skipped))
    require(stages.laid_out.nbytes, LIMITS.decoded, "chunk too large", "decoded bytes of a chunk", path, SMALLER)
    if stages.laid_out.data_type.itemsize is None:
        return VariableSizePipeline(stages, options, chain.skipped)
    uncompressed = worth_ranges(stages) and not chain.skipped
    pipeline = (UncompressedPipeline if uncompressed else FixedSizePipeline)(stages, options, chain.skipped)
    _check_bound(pipeline, path)
    return pipeline


def _prepare_own(own: Callable[[ArraySpec, Around], Prepared], stages: Stages, around: Around) -> Prepared:
    """The pipeline that an array-to-bytes codec makes itself. Behind array-to-array codecs its chunks are encoded whole."""
    if not stages.arrays:
        return own(stages.serialized, around)
    require(stages.laid_out.nbytes, LIMITS.decoded, "chunk too large", "decoded bytes of a chunk", around.path, SMALLER)
    inner = own(stages.serialized, around._replace(order=None, options=replace(around.options, write_empty_chunks=True)))
    return AroundShards(stages, around.options, around.skipped, inner)


def _check_bound(pipeline: ChunkPipeline, path: str) -> None:
    """LimitError for chunks that are too large for a codec. The limit of Blosc is a little below ours."""
    try:
        _ = pipeline.encoded_bound
    except ShapeError as error:
        message, got = f"chunk too large: {error.message}", pipeline.spec.nbytes
        raise LimitError(message, path=path, field="decoded bytes of a chunk", got=got, limit=BLOSC_MAX, hint=SMALLER) from error
