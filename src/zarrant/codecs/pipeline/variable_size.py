"""The pipeline for elements of variable size, and for codecs around shards: one chunk after the other, as NumPy arrays.

In comes a mini-batch of chunks, as boxes of a values array. Out go encoded chunks, or decoded elements in their places, as from
the fixed-size pipeline. A chunk that is one box of the values is encoded from where it lies, or decoded to there. NumPy indexing
copies other boxes, since it knows what the elements refer to. The data type compares elements with the fill value. Each chunk goes
through the codecs by itself (the general path).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.codecs.byte_sources import InMemory, OneChunk
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.pipeline.general import DecodeError, decode_arrays, decode_chunk, decode_chunk_into, encode_arrays, encode_chunk
from zarrant.codecs.protocols import Encoded, EncodedChunks, Fetched, Prepared
from zarrant.errors import ChunkError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.region import ChunkSelections, Values, box_region, slices_of
from zarrant.kernels.program import SLACK
from zarrant.requests import Op
from zarrant.storage import Buffer, Part

Array = npt.NDArray[np.generic]


@dataclass(frozen=True)
class VariableSizePipeline(ChunkPipeline):
    """Encodes and decodes chunks one by one; a row is one chunk after transposition."""

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """See `Prepared.write`; UnknownExtensionError where a codec of the chain is not known."""
        if self.skipped:
            raise self.unknown_codec()
        rows = self._views(selections, lo, hi, values)
        if rows is None:
            rows = yield from self._merged(stored, selections, lo, hi, values)
        sizes, counts = np.full(hi - lo, -1, np.int64), [0] * (hi - lo)
        new_parts: list[Part] = []
        for i, row in enumerate(rows):
            if not self.options.write_empty_chunks and self.spec.fill.equals(row[np.newaxis])[0]:
                continue
            parts = yield from self._encode(row)
            sizes[i], counts[i] = sum(memoryview(part).nbytes for part in parts), len(parts)
            new_parts += parts
        return Encoded(sizes, new_parts, counts)

    def _merged(
        self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values
    ) -> Op[list[Array]]:
        """The chunks of which a part may be old, each with the values laid over it."""
        rows = self._rows(hi - lo)
        each = [rows[i, ...] for i in range(hi - lo)]
        stale = ~selections.full[lo:hi]
        if stored is not None and stale.any():
            yield from self._decode((yield from stored.fetch(lo, hi, stale, self.stored_limit)), each)
        for boxes, array in selections.boxes_by_source(lo, hi, values):
            for inside, outside in slices_of(boxes):
                self._view(rows)[inside] = array[outside]
        return each

    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: Array) -> Op[None]:
        """See `Prepared.read`."""
        fetched = yield from stored.fetch(lo, hi, np.ones(hi - lo, np.bool_), self.stored_limit)
        places = self._views(selections, lo, hi, out)
        if places is not None:
            for i in set(range(hi - lo)).difference(fetched.rows.tolist()):
                places[i][...] = self.spec.fill.element
            yield from self._decode(fetched, places)
            return
        rows = self._rows(hi - lo)
        yield from self._decode(fetched, [rows[i, ...] for i in range(hi - lo)])
        for inside, outside in slices_of(selections.boxes(lo, hi)):
            out[outside] = self._view(rows)[inside]

    def _views(self, selections: ChunkSelections, lo: int, hi: int, values: Values) -> list[Array] | None:
        """Chunks as views of the values, laid out as they are stored; None where one of them is not one box of these alone."""
        if not isinstance(values, np.ndarray) or values.dtype != self.spec.data_type.numpy or not selections.full[lo:hi].all():
            return None
        boxes = selections.boxes(lo, hi)
        if len(boxes.row) != hi - lo or (boxes.shape != np.array(self.shape, np.int64)).any():
            return None
        places: list[tuple[Any, ...]] = [(..., *outside) for _, outside in slices_of(boxes)]
        views = [values[place] for place in places]
        return views if self.order is None else [view.transpose(self.order) for view in views]

    def check(self, fetched: Fetched) -> Op[dict[int, str]]:
        """See `ChunkPipeline.check`."""
        failed: dict[int, str] = {}
        for j in range(fetched.rows.size):
            try:
                yield from self._decoded(fetched.data(j))
            except DecodeError as error:
                failed[int(fetched.rows[j])] = f"{error.codec}: {error.reason}"
        return failed

    def _rows(self, n: int) -> Array:
        """New rows of fill."""
        rows = np.empty((n, *self.spec.shape), self.spec.data_type.numpy)
        rows[...] = self.spec.fill.element
        return rows

    def _decode(self, fetched: Fetched, places: list[Array]) -> Op[None]:
        """Decode fetched rows into their places; ChunkError names the codec that fails."""
        for j, row in enumerate(fetched.rows.tolist()):
            try:
                yield from self._decode_into(fetched.data(j), places[row])
            except DecodeError as error:
                raise ChunkError(error.reason, codec=error.codec, got=f"{int(fetched.size[j])} encoded bytes") from error

    def _encode(self, row: Array) -> Op[list[Buffer]]:
        """The bytes of one row."""
        return [encode_chunk(self.stages, row)]
        yield  # makes this a generator, as every operation is; it has no requests

    def _decoded(self, data: Buffer) -> Op[Array]:
        """One row, of its bytes; DecodeError."""
        return decode_chunk(self.stages, data)
        yield  # makes this a generator, as every operation is; it has no requests

    def _decode_into(self, data: Buffer, place: Array) -> Op[None]:
        """Decode one row into its place; DecodeError."""
        decode_chunk_into(self.stages, data, place)
        return
        yield  # makes this a generator, as every operation is; it has no requests


@dataclass(frozen=True)
class AroundShards(VariableSizePipeline):
    """Array-to-array codecs around a sharding codec: a shard is encoded and decoded as a whole.

    `inner` stores every subchunk. Whether a chunk is all fill is decided here, by its elements.
    """

    inner: Prepared | None = None

    def _encode(self, row: Array) -> Op[list[Buffer]]:
        assert self.inner is not None, "made around a shard"
        encoded = yield from self.inner.write(None, self._whole_chunk, 0, 1, encode_arrays(self.stages, row))
        return [memoryview(part) for part in encoded.only() or ()]  # type: ignore[arg-type]  # a new shard is bytes alone

    def _decoded(self, data: Buffer) -> Op[Array]:
        assert self.inner is not None, "made around a shard"
        spec = self.stages.serialized
        array = np.empty(spec.shape, spec.data_type.numpy)
        try:
            yield from self.inner.read(OneChunk(0, InMemory(data)), self._whole_chunk, 0, 1, array)
        except ChunkError as error:
            where = "" if error.field is None else f" ({error.field})"
            raise DecodeError(error.codec or self.stages.serializer.name, f"{error.message}{where}") from error
        return decode_arrays(self.stages, array)

    def _decode_into(self, data: Buffer, place: Array) -> Op[None]:
        place[...] = yield from self._decoded(data)

    @cached_property
    def _whole_chunk(self) -> ChunkSelections:
        shape = self.stages.serialized.shape
        return box_region(ArraySubset.full(shape)).split(ChunkGrid.regular(shape, shape), shape)

    @cached_property
    def encoded_bound(self) -> int:
        """The bytes that an encoded shard has at most."""
        assert self.inner is not None, "made around a shard"
        return self.inner.encoded_bound

    @property
    def stored_limit(self) -> int:
        """See `ChunkPipeline.stored_limit`; a shard of another writer may have dead bytes."""
        return 2 * self.encoded_bound + SLACK
