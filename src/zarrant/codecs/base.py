"""What a codec is, in its three states, and what passes between codecs.

*document*: a codec object (`Zstd(level=3)`), a frozen value that turns into a `Named` document and back. *bound*: a chain
whose data type and fill value are known and validated (`chain.bind`). *prepared*: a chain for one chunk shape, cached, which
encodes and decodes batches of chunks. A prepared chain has two generator methods, `write` and `read`: whole writes are
writes without old data, whole reads are reads of every element, so that partial and whole forms are one algorithm.

A codec does no I/O: it reads through *spans* (where each row of a batch is stored) and *sources* (a run of bytes somewhere),
both of which yield requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from zarrant.dtypes.base import Fill
from zarrant.dtypes.fixed import FixedType
from zarrant.geometry.layers import Values
from zarrant.geometry.region import Cells
from zarrant.metadata.v3 import Named
from zarrant.requests import Op
from zarrant.storage import Buffer, ByteRange, Hole, Part

Rows = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Step = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """A chunk before encoding: its shape, its data type and its fill value."""

    shape: tuple[int, ...]
    data_type: FixedType
    fill: Fill

    @property
    def nbytes(self) -> int:
        """Decoded size in bytes."""
        size = self.data_type.itemsize
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """Run-time options that codecs honour; the meaning of each is in API.md §3.

    `batch_bytes`: decoded bytes of one mini-batch; 1 MiB keeps rows, encoded bytes and compressor state in a 2 MiB L2 cache.
    `aligned`: bytes that are stored as they are lie in memory that begins with a page, as a store with direct I/O wants them.
    """

    write_empty_chunks: bool = False
    validate_checksums: bool = True
    subchunk_order: str = "C"
    shard_updates: str = "append"
    dead_limit: float = 0.5
    batch_bytes: int = 1 << 20
    aligned: bool = False


class Partial(NamedTuple):
    """Which parts of a chunk can be read or written without touching the rest."""

    read: bool
    write: bool


class ArrayToArray(Protocol):
    """A codec that permutes dimensions. Other array-to-array codecs will widen this protocol."""

    @property
    def order(self) -> tuple[int, ...]:
        """Dimension j of the encoded array is dimension `order[j]` of the decoded one."""
        ...

    def validate(self, spec: ChunkSpec, path: str) -> None:
        """Raise MetadataError where the codec does not fit the chunk."""
        ...

    def to_document(self) -> Named: ...


class BytesToBytes(Protocol):
    """A codec over bytes; `step` is its compiled form, None where it has none."""

    @property
    def name(self) -> str: ...

    @property
    def fixed_size(self) -> bool:
        """True where the encoded size follows from the decoded size alone."""
        ...

    def step(self, spec: ChunkSpec) -> Step | None:
        """The opcode and parameters that do the same in a kernel."""
        ...

    def encode(self, data: Buffer) -> Buffer: ...

    def decode(self, data: Buffer, limit: int) -> Buffer:
        """Decode to at most `limit` bytes; ValueError (or RuntimeError of a library) for bytes that do not decode."""
        ...

    def to_document(self) -> Named: ...


class Encoded(NamedTuple):
    """A batch of encoded rows: `sizes` (n,) with -1 for "not stored", and their bytes back to back in row order.

    `pieces` are in row order; `counts[i]` of them belong to row i. `counts` None: one piece holds every row.
    """

    sizes: Ints
    pieces: list[Part]
    counts: list[int] | None = None

    def row(self, i: int) -> list[Part] | None:
        """The bytes of one row, or None where it is not stored."""
        if self.sizes[i] < 0:
            return None
        if self.counts is None:
            start = int(np.maximum(self.sizes[:i], 0).sum())
            piece = self.pieces[0]
            assert not isinstance(piece, ByteRange | Hole), "a batch in one piece is bytes"
            return [memoryview(piece)[start : start + int(self.sizes[i])]]
        first = sum(self.counts[:i])
        return self.pieces[first : first + self.counts[i]]


class Fetched(NamedTuple):
    """Encoded bytes of some rows: row `rows[j]` is `buffers[which[j]][offset[j] : offset[j] + size[j]]`."""

    rows: Ints
    buffers: Sequence[Buffer]
    which: Ints
    offset: Ints
    size: Ints


class Source(Protocol):
    """A run of bytes that can be read in parts: a stored object, a window of one, or bytes in memory."""

    def read(self, ranges: Sequence[ByteRange]) -> Op[list[memoryview] | None]:
        """The bytes of each range, all of one version; None where there is no object."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes; known after the first read."""
        ...

    @property
    def published(self) -> bool:
        """Whether this is a whole stored object, in which readers of other libraries may find bytes by offset."""
        ...

    def part(self, start: int, length: int) -> Part:
        """A reference to bytes of this source for use in a new version of the stored object."""
        ...


class Spans(Protocol):
    """Where the rows of a batch of chunks are stored."""

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """The encoded bytes of the wanted rows of lo..hi that are stored; rows are counted from lo.

        ChunkError for a row of more than `limit` bytes, which is not read.
        """
        ...

    def source(self, i: int) -> Source | None:
        """Row i as a byte source; None where it is known to be absent."""
        ...


class Prepared(Protocol):
    """A chain prepared for one chunk shape."""

    @property
    def spec(self) -> ChunkSpec: ...

    @property
    def partial(self) -> Partial: ...

    @property
    def encoded_bound(self) -> int:
        """The bytes that an encoded chunk (of a shard: without dead ones) has at most."""
        ...

    def write(self, spans: Spans | None, cells: Cells, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """Encode rows lo..hi: `values` where the cells' boxes say, old data (or fill) elsewhere.

        With `spans` None nothing is read and what `values` does not cover becomes fill. Old data are read only for rows that
        are not fully covered.
        """
        ...

    def read(self, spans: Spans, cells: Cells, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """Decode what the boxes of rows lo..hi ask for into `out`; fill where nothing is stored."""
        ...
