"""Pipelines that ask for what they would read, and neither decode nor encode anything: for plans of reads and writes.

In: a prepared chain. Out: the same chain in which only the innermost pipelines are others. So which subchunks of a shard are
read, how their ranges are put together and how a new shard is laid out is said by the code that does it. The bytes of chunks are
asked for by `SizesOnly` instead of `Fetch`: whoever runs the operation answers with zeros. What is written has the right size
where the codecs make a fixed one, else the largest that they can make.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.chain import Chain
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.pipeline.uncompressed import Runs, UncompressedPipeline
from zarrant.codecs.protocols import ArraySpec, CodecOptions, Encoded, EncodedChunks, Fetched, Prepared
from zarrant.codecs.sharding.prepared import Shard
from zarrant.geometry.region import ChunkSelections, Values
from zarrant.requests import Fetch, Op
from zarrant.storage import ByteRange, Hole, Part

T = TypeVar("T")


class SizesOnly(Fetch):
    """A read of which only the sizes are asked for. Whoever runs the operation answers it; drivers do not know it."""

    __slots__ = ()


class Fresh(Hole):
    """So many new bytes, of which only the number is known."""

    __slots__ = ()


@dataclass(frozen=True)
class DryChain(Chain):
    """A chain whose pipelines do not decode or encode."""

    @classmethod
    def of(cls, chain: Chain) -> DryChain:
        """The same codecs."""
        return cls(**_fields(chain))

    def prepare(self, spec: ArraySpec, options: CodecOptions, nesting: int = 0) -> Prepared:
        """See `Chain.prepare`."""
        return _dry(Chain(**_fields(self)).prepare(spec, options, nesting))


def _fields(value: Any) -> dict[str, Any]:
    return {each.name: getattr(value, each.name) for each in fields(value)}


def _dry(prepared: Prepared) -> Prepared:
    if isinstance(prepared, Shard):
        inner = _dry(prepared.subchunk_pipeline)
        if prepared.outer_codecs:
            return _ShardInCodecs(**{**_fields(prepared), "subchunk_pipeline": inner})
        return replace(prepared, subchunk_pipeline=inner)
    if isinstance(prepared, UncompressedPipeline):
        return _DryUncompressed(**_fields(prepared))
    assert isinstance(prepared, ChunkPipeline), "a chain is prepared as a shard, or for chunks that are decoded whole"
    return _DryChunks(prepared.stages, prepared.options, prepared.skipped, prepared.encoded_bound)


def sizes_only(op: Op[T]) -> Op[T]:
    """Run an operation that reads bytes of chunks, for their sizes."""
    reply: Any = None
    while True:
        try:
            request = op.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        reply = yield SizesOnly(*request) if isinstance(request, Fetch) else request


def _whole(stored: EncodedChunks, lo: int, hi: int, wanted: npt.NDArray[np.bool_]) -> Op[Fetched]:
    """Chunks that are read whole."""
    return sizes_only(stored.fetch(lo, hi, wanted))


def _new(n: int, size: int) -> Encoded:
    """Chunks that are written whole."""
    return Encoded(np.full(n, size, np.int64), [Fresh(size)] * n, [1] * n)


class _Dry:
    """Reads and writes of chunks that are decoded and encoded whole."""

    written_bytes: int

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`."""
        stale = ~selections.full[lo:hi]
        if stored is not None and stale.any():
            yield from _whole(stored, lo, hi, stale)
        return _new(hi - lo, self.written_bytes)

    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        yield from _whole(stored, lo, hi, np.ones(hi - lo, np.bool_))


class _ShardInCodecs(_Dry, Shard):
    """A shard behind codecs: of its bytes nothing can be read alone."""

    @property
    def written_bytes(self) -> int:  # type: ignore[override]
        """See `_Dry`."""
        return self.encoded_bound


@dataclass(frozen=True)
class _DryChunks(_Dry, ChunkPipeline):
    """Any pipeline of chunks that are decoded whole."""

    bound: int = 0

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`; UnknownExtensionError where a codec of the chain is not known."""
        if self.skipped:
            raise self.unknown_codec()
        return (yield from super().write(stored, selections, lo, hi, values))

    @cached_property
    def written_bytes(self) -> int:  # type: ignore[override]
        """See `_Dry`."""
        size = self.encoded_size()
        return self.bound if size is None else size

    def check(self, fetched: Fetched) -> Op[dict[int, str]]:
        """Nothing is decoded, so nothing fails."""
        return {}
        yield  # makes this a generator, as every operation is; it has no requests


class _DryUncompressed(UncompressedPipeline):
    """Chunks without compression, of which boxes are read and written as ranges where that is worth it."""

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`."""
        if self.skipped:
            raise self.unknown_codec()
        parts: list[Part] = []
        counts: list[int] = []
        for i in range(lo, hi):
            new = yield from self._write_row(stored, selections, i, values)
            parts += new
            counts.append(len(new))
        return Encoded(np.full(hi - lo, self.spec.nbytes, np.int64), parts, counts)

    def _write_row(self, stored: EncodedChunks | None, selections: ChunkSelections, i: int, values: Values) -> Op[list[Part]]:
        size = self.spec.nbytes
        if stored is None or selections.full[i]:
            return [Fresh(size)]
        runs = self._worth(selections, i, values)
        source = stored.source(i) if runs is not None else None
        there = source is not None and (yield from source.read(())) is not None
        if runs is not None and source is not None and there and source.size == size:
            new = sum(len(each.start) * each.length for each in runs)
            return [source.part(0, size - new), Fresh(new)]
        if runs is None or there:  # else there is fill around what is written
            yield from _whole(stored, i, i + 1, np.ones(1, np.bool_))
        return [Fresh(size)]

    def _worth(self, selections: ChunkSelections, i: int, values: Values) -> list[Runs] | None:
        plans = selections.boxes_by_source(i, i + 1, values)
        return self._runs(plans[0][0]) if len(plans) == 1 else None

    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """See `Prepared.read`."""
        if selections.full[lo:hi].all():
            yield from _whole(stored, lo, hi, np.ones(hi - lo, np.bool_))
            return
        for i in range(lo, hi):
            runs = self._runs(selections.boxes(i, i + 1))
            source = None if runs is None else stored.source(i)
            if runs is None or source is None:
                yield from _whole(stored, i, i + 1, np.ones(1, np.bool_))
                continue
            ranges = [ByteRange(start, each.length) for each in runs for start in each.start.tolist()]
            found = yield from sizes_only(source.read(ranges))
            if found is None or source.size != self.spec.nbytes:
                yield from _whole(stored, i, i + 1, np.ones(1, np.bool_))
