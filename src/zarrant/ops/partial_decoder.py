"""Read one chunk many times: the first read is kept, and its version is checked before it is used again.

Of a shard the index is kept, of any other chunk its decoded elements. Before each read the version of the stored object is
compared; where it was replaced everything is read anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from zarrant.codecs.byte_sources import InMemory, OneChunk, Stored
from zarrant.errors import VersionChangedError, ZarrantError
from zarrant.geometry.box import ArraySubset, as_subset, check_chunk_indices
from zarrant.geometry.grid import chunk_alone
from zarrant.geometry.region import ChunkSelections, box_region
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.ops.casting import output
from zarrant.ops.read import retrieve_chunk_subset, while_replaced
from zarrant.requests import Op, fetch_one
from zarrant.storage import ByteRange


class CachedChunk(Stored):
    """A stored chunk of which the first part read (the index of a shard) and the decoded elements (of others) are kept."""

    def __init__(self, key: str, required: bool = False) -> None:
        super().__init__(key, required)
        self.first: tuple[tuple[ByteRange, ...], list[memoryview] | None] | None = None
        self.decoded: Array | None = None
        self.whole: memoryview | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that are kept."""
        first = 0 if self.first is None else sum(part.nbytes for part in self.first[1] or ())
        return first + sum(0 if kept is None else kept.nbytes for kept in (self.decoded, self.whole))

    def read(self, ranges: Sequence[ByteRange]) -> Op[list[memoryview] | None]:
        """As `Stored.read`; the ranges that were read first are kept."""
        if self.whole is not None:
            return (yield from InMemory(self.whole).read(ranges))
        wanted = tuple(ranges)
        if self.first is not None and self.first[0] == wanted:
            return self.first[1]
        found = yield from super().read(wanted)
        if self.first is None:
            self.first = (wanted, found)
        return found

    def read_all(self, limit: int | None = None) -> Op[memoryview | None]:
        """As `Stored.read_all`; what is not compressed and was read whole is kept, and read in parts from then on."""
        if self.whole is None:
            self.whole = yield from super().read_all(limit)
        return self.whole

    def validate(self) -> Op[None]:
        """VersionChangedError where the object is no longer the one that was read."""
        if self.seen:
            blob = yield from fetch_one(self.key, (ByteRange(0, 0),), self.version)
            if self.version is None and blob is not None:
                raise VersionChangedError("the object was stored meanwhile", key=self.key)


class Decoder:
    """One chunk, to be read many times."""

    def __init__(self, array: BoundArray, chunk: Sequence[int]) -> None:
        self.array = array
        self.chunk = check_chunk_indices(chunk, array.grid.grid_shape)
        self.shape = array.chunk_shape(self.chunk)
        self.prepared = array.prepared_for(self.shape)
        self.cached = self._forget()

    def retrieve(self, subset: Any, out: Array | None = None) -> Op[Array]:
        """A part of the chunk, in coordinates of the chunk; `subset` may reach into the padding of an edge chunk."""
        local = as_subset(subset, self.shape, "chunk")
        result = output(self.array, out, local.shape)
        if result.size:
            at_last = partial(retrieve_chunk_subset, self.array, self.chunk, local, result)
            yield from while_replaced(partial(self._read_validated, local, result), at_last)
        return result

    def _forget(self) -> CachedChunk:
        return CachedChunk(self.array.chunk_key(self.chunk), self.array.options.missing_chunks == "error")

    def _read_validated(self, local: ArraySubset, result: Array) -> Op[Array]:
        try:
            yield from self.cached.validate()
            yield from self._read(local, result)
        except VersionChangedError:
            self.cached = self._forget()
            raise
        except ZarrantError as error:
            raise error.annotate(chunk=self.chunk, key=self.cached.key) from error.__cause__
        return result

    def _read(self, local: ArraySubset, result: Array) -> Op[None]:
        if self.prepared.partial.read:
            yield from self.prepared.read(OneChunk(0, self.cached), self._selections(local), 0, 1, result)
            return
        if self.cached.decoded is None:
            whole = self.array.empty(self.shape)
            selections = self._selections(ArraySubset.full(self.shape))
            yield from self.prepared.read(OneChunk(0, self.cached), selections, 0, 1, whole)
            self.cached.decoded, self.cached.whole = whole, None
        result[...] = self.cached.decoded[local.slices]

    def _selections(self, local: ArraySubset) -> ChunkSelections:
        return box_region(local).split(chunk_alone(self.shape), self.shape)
