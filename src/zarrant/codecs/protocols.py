"""What a codec is, in its three states, and what passes between codecs.

*metadata*: a codec object (`Zstd(level=3)`), a frozen value that turns into a name and configuration and back. *bound*: a
chain whose data type and fill value are known and validated (`chain.bind`). *prepared*: a chain for one chunk shape, cached, which
encodes and decodes batches of chunks. A prepared chain has two generator methods, `write` and `read`: whole writes are
writes without old data, whole reads are reads of every element, so that partial and whole forms are one algorithm.

A codec does no I/O: it reads through *spans* (where each row of a batch is stored) and *sources* (a run of bytes somewhere),
both of which yield requests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.dtypes.base import DataType, Fill
from zarrant.geometry.region import ChunkSelections, Values
from zarrant.metadata.v3 import Named
from zarrant.requests import Op
from zarrant.storage import Buffer, ByteRange, Hole, Part

Rows = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Step = tuple[int, ...]


VARIABLE_ELEMENT_BYTES = 32
"""Memory that one element of variable size is taken for: NumPy keeps 16 bytes for a text, and texts of up to 15 bytes in them."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """An array that a codec gets, such as a chunk: its shape, its data type and its fill value."""

    shape: tuple[int, ...]
    data_type: DataType
    fill: Fill

    @property
    def nbytes(self) -> int:
        """Decoded size in bytes; about that much where elements differ in size."""
        size = self.data_type.itemsize or VARIABLE_ELEMENT_BYTES
        for extent in self.shape:
            size *= extent
        return size


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """Run-time options that codecs honour; `docs/options.md` explains each.

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


Kind: TypeAlias = Literal["array_to_array", "array_to_bytes", "bytes_to_bytes"]
KINDS: tuple[Kind, ...] = ("array_to_array", "array_to_bytes", "bytes_to_bytes")
"""What a codec maps to what, in the order in which kinds stand in a chain."""


class BytesSpec(NamedTuple):
    """Encoded bytes: how many, None where it depends on the data; and the size of the elements of which they were made."""

    size: int | None
    itemsize: int = 1


class Codec(Protocol):
    """What every codec has: a frozen value with a name and a configuration.

    A codec may also have `for_spec(spec)`: the same codec with what the spec decides filled in (a type size, say). And
    `from_caller(configuration, path)`: a codec of which a caller leaves some of that open.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> Kind: ...

    @classmethod
    def from_json(cls, document: Named, path: str) -> Codec:
        """Read the codec from its name and configuration; MetadataError with the JSON path for what is wrong."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The JSON object of this codec: its name, and its configuration where it has one."""
        ...


class ArrayToArray(Codec, Protocol):
    """A codec that changes an array: its values, and perhaps its shape, data type and fill value.

    One that only permutes dimensions says so: its `order` is a tuple, and dimension j of the encoded array is dimension
    `order[j]` of the decoded one. It costs nothing then: the pipeline looks at arrays through views.
    """

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """What is handed on for arrays of `spec`; MetadataError where the codec does not fit them."""
        ...

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """Encode an array of `spec`."""
        ...

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """Decode to an array of `spec`."""
        ...


class ArrayToBytes(Codec, Protocol):
    """A codec that makes bytes of an array.

    Where it only puts the elements one after the other it may have `steps(spec)`: the compiled steps from elements in C order
    and native byte order to what is stored. One that can read and write parts of what is stored may have `prepare(spec,
    around)`, which makes a pipeline of its own (`Prepared`), and says how chunks are divided (`chunk_shape`, `codecs`).
    """

    def resolve(self, spec: ArraySpec) -> BytesSpec:
        """What is handed on for arrays of `spec`; MetadataError where the codec does not fit them."""
        ...

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> Buffer:
        """Encode an array of `spec`."""
        ...

    def decode(self, data: Buffer, spec: ArraySpec) -> npt.NDArray[np.generic]:
        """Decode to an array of `spec`; ValueError (or RuntimeError of a library) for bytes that do not decode."""
        ...


class BytesToBytes(Codec, Protocol):
    """A codec over bytes. It may have `step()`: the opcode and parameters that do the same in a kernel."""

    def resolve(self, spec: BytesSpec) -> BytesSpec:
        """What is handed on for bytes of `spec`."""
        ...

    def encode(self, data: Buffer) -> Buffer: ...

    def decode(self, data: Buffer, limit: int) -> Buffer:
        """Decode to at most `limit` bytes; ValueError (or RuntimeError of a library) for bytes that do not decode."""
        ...


def step_of(codec: BytesToBytes) -> Step | None:
    """The compiled step of a codec, None where it has none."""
    compiled: Callable[[], Step | None] | None = getattr(codec, "step", None)
    return None if compiled is None else compiled()


class Around(NamedTuple):
    """What is around an array-to-bytes codec that prepares itself: the rest of its chain.

    `order`: the transposition before it. `codecs`: those after it. `skipped`: codecs that are not known.
    """

    order: tuple[int, ...] | None
    codecs: tuple[BytesToBytes, ...]
    options: CodecOptions
    nesting: int
    path: str
    skipped: tuple[str, ...]


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

    def data(self, j: int) -> memoryview:
        """The bytes of the j-th row that was fetched."""
        start = int(self.offset[j])
        return memoryview(self.buffers[int(self.which[j])])[start : start + int(self.size[j])]


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
    def spec(self) -> ArraySpec: ...

    @property
    def partial(self) -> Partial: ...

    @property
    def piece_shape(self) -> tuple[int, ...]:
        """The smallest part of a chunk that is encoded by itself, as the array sees it. Such parts divide what is around them."""
        ...

    @property
    def encoded_bound(self) -> int:
        """The bytes that an encoded chunk (of a shard: without dead ones) has at most."""
        ...

    def write(self, spans: Spans | None, cells: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """Encode rows lo..hi: `values` where the cells' boxes say, old data (or fill) elsewhere.

        With `spans` None nothing is read and what `values` does not cover becomes fill. Old data are read only for rows that
        are not fully covered.
        """
        ...

    def read(self, spans: Spans, cells: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """Decode what the boxes of rows lo..hi ask for into `out`; fill where nothing is stored."""
        ...
