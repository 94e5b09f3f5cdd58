"""sharding_indexed: its metadata, and what it takes to prepare it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from zarrant.codecs.chain import Chain, parse_chain
from zarrant.codecs.configuration import check_members, choice, int_list
from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.codecs.pipeline.resolve import SMALLER
from zarrant.codecs.protocols import Around, ArraySpec, BytesSpec, CodecOptions, Kind
from zarrant.codecs.sharding.prepared import Shard
from zarrant.dtypes.base import FixedFill
from zarrant.dtypes.fixed import number
from zarrant.errors import MetadataError
from zarrant.geometry.grid import ChunkGrid
from zarrant.limits import LIMITS, require
from zarrant.metadata.v3 import Named

INDEX_TYPE = number("uint64", "uint", "u8")
MISSING_ENTRY = FixedFill(INDEX_TYPE, b"\xff" * 8)


@dataclass(frozen=True)
class ShardingIndexed:
    """Shards of subchunks of `chunk_shape`, encoded by `codecs`, and an index.

    `index_location` is "end" or "start"; `index_codecs` must give a fixed size.
    Source: https://zarr-specs.readthedocs.io/en/latest/v3/codecs/sharding-indexed/
    """

    chunk_shape: tuple[int, ...]
    codecs: Chain
    index_codecs: Chain
    index_location: str = "end"
    name: ClassVar[str] = "sharding_indexed"
    kind: ClassVar[Kind] = "array_to_bytes"

    @classmethod
    def from_json(cls, document: Named, path: str) -> ShardingIndexed:
        """Read the codec, and the chains within it."""
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

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {
            "name": self.name,
            "configuration": {
                "chunk_shape": list(self.chunk_shape),
                "codecs": [document.to_json() for document in self.codecs.to_named()],
                "index_codecs": [document.to_json() for document in self.index_codecs.to_named()],
                "index_location": self.index_location,
            },
        }

    def for_spec(self, spec: ArraySpec) -> ShardingIndexed:
        """The same codec with the codecs of its subchunks bound."""
        self._check(spec)
        return replace(self, codecs=self.codecs.decided(replace(spec, shape=self.chunk_shape)))

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """Bytes, of a size that depends on the data. The subchunks must divide the shard."""
        self._check(spec)
        return BytesSpec(None, spec.data_type.itemsize or 1)

    def prepare(self, spec: ArraySpec, around: Around) -> Shard:
        """A shard that reads and writes its parts, for chunks of `spec`."""
        path = f"{around.path}.configuration"
        nesting, options = around.nesting + 1, replace(around.options, strided_parts=False, reads_into=False)
        grid = ChunkGrid.regular(spec.shape, self.chunk_shape)
        require(nesting, LIMITS.nesting, "shards nested too deep", "nesting", f"{path}.chunk_shape")
        n = math.prod(grid.grid_shape)
        require(n, LIMITS.subchunks, "too many subchunks in a shard", "subchunks", f"{path}.chunk_shape")
        if around.codecs:  # applied to the whole shard in memory
            what = "shard too large for codecs after it"
            require(spec.nbytes, LIMITS.decoded, what, "decoded bytes of a chunk", around.path, SMALLER)
        # "The index is an array with 64-bit unsigned integers with a shape that matches the chunks per shard tuple with an
        # appended dimension of size 2." (sharding_indexed, binary shard format)
        index_spec = ArraySpec((*grid.grid_shape, 2), INDEX_TYPE, MISSING_ENTRY)
        index_options = CodecOptions(write_empty_chunks=True, validate_checksums=options.validate_checksums)
        index_codec = self.index_codecs.skipping(around.skipped).prepare(index_spec, index_options, nesting)
        # "Codecs that produce variable-sized encoded representation [...] MUST NOT be used for index codecs."
        size = index_codec.encoded_size() if isinstance(index_codec, FixedSizePipeline) else None
        if size is None or not isinstance(index_codec, FixedSizePipeline):
            raise MetadataError(
                "index codecs must give a fixed size",
                path=f"{path}.index_codecs",
                expected="bytes, transpose, crc32c",
                got=[document.name for document in self.index_codecs.to_named()],
            )
        inner_chain = self.codecs.skipping((*around.skipped, *self.index_codecs.skipped))
        inner = inner_chain.prepare(replace(spec, shape=self.chunk_shape), options, nesting)
        at_start = self.index_location == "start"
        return Shard(spec, around.order, grid, inner, index_codec, size, at_start, around.codecs, options)

    def _check(self, spec: ArraySpec) -> None:
        # "the inner chunk shape along each dimension must evenly divide the size of the shard shape" (chunk_shape)
        shape, sub = spec.shape, self.chunk_shape
        if len(sub) != len(shape) or any(outer % inner for outer, inner in zip(shape, sub, strict=False)):
            raise MetadataError(
                "subchunks must divide the shard",
                path="$.configuration.chunk_shape",
                codec=self.name,
                expected=f"divisors of {shape}",
                got=sub,
            )
