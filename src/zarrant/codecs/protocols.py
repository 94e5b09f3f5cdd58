"""What a codec is, its three states, and what codecs hand to each other.

1. *metadata*: a codec object (`Zstd(level=3)`), a frozen value that turns into a name and configuration and back.
2. *bound*: a chain whose data type and fill value are known and validated (`chain.bind`).
3. *prepared*: a chain for one chunk shape. It is cached, and encodes and decodes batches of chunks.

A prepared chain has two generator methods, `write` and `read`. Writing whole chunks is a write without old data; reading whole
chunks is a read of every element. So partial and whole forms are one algorithm.

A codec does no I/O. It reads through `EncodedChunks` (where each chunk of a batch is stored) and `Source` (bytes that can be
read in parts), and both yield requests.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from zarrant import kernels
from zarrant.dtypes.base import DataType, Fill
from zarrant.geometry.box import Shape
from zarrant.geometry.region import ChunkSelections, Values
from zarrant.metadata.v3 import Named
from zarrant.requests import Op
from zarrant.storage import Buffer, ByteRange, Hole, Part

Rows = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Step = tuple[int, ...]


VARIABLE_ELEMENT_BYTES = 32
"""Memory counted for one element of variable size. NumPy needs 16 bytes for a text; texts of up to 15 bytes fit in these."""


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """An array that a codec gets, such as a chunk: its shape, its data type and its fill value."""

    shape: tuple[int, ...]
    data_type: DataType
    fill: Fill
    nbytes: int = field(init=False, repr=False, compare=False)
    """Decoded size in bytes; an estimate where elements have no fixed size."""

    def __post_init__(self) -> None:
        itemsize = self.data_type.itemsize or VARIABLE_ELEMENT_BYTES
        object.__setattr__(self, "nbytes", math.prod(self.shape, start=itemsize))


@dataclass(frozen=True, slots=True)
class CodecOptions:
    """Run-time options that codecs honour; `docs/options.md` explains each.

    `batch_bytes`: decoded bytes of one mini-batch. With 1 MiB the chunks, their encoded bytes and the state of the compressor
    fit in an L2 cache of 2 MiB; large shards have larger ones, where a kernel takes few subchunks at a time. `fetch_bytes`:
    decoded bytes of subchunks that are read together where the store is waited for; 0: those of one mini-batch. `strided_parts`:
    the store takes views of arrays that are not contiguous. `reads_into`: it reads into them. `reads_decoded`: it can have chunks
    decoded as they are read.
    """

    write_empty_chunks: bool = False
    validate_checksums: bool = True
    subchunk_order: str = "C"
    shard_updates: str = "append"
    dead_limit: float = 0.5
    batch_bytes: int = 1 << 20
    fetch_bytes: int = 0
    strided_parts: bool = False
    reads_into: bool = False
    reads_decoded: bool = False


class Partial(NamedTuple):
    """Whether parts of a chunk can be read, and written, without the rest of it."""

    read: bool
    write: bool


Kind: TypeAlias = Literal["array_to_array", "array_to_bytes", "bytes_to_bytes"]
KINDS: tuple[Kind, ...] = ("array_to_array", "array_to_bytes", "bytes_to_bytes")
"""What codecs take and give; in a chain the kinds come in this order."""


class BytesSpec(NamedTuple):
    """Encoded bytes: their number (None if it depends on the data), and the size of the elements from which they were made."""

    size: int | None
    itemsize: int = 1


class Codec(Protocol):
    """What every codec has: a frozen value with a name and a configuration.

    A codec may also have `for_spec(spec)`, which returns the codec with the values that follow from the spec (such as a type size),
    and `from_caller(configuration, path)`, which makes a codec where a caller has left such values out.
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

    A codec that only permutes dimensions has a tuple `order`: dimension j of the encoded array is dimension `order[j]` of the
    decoded one. Such a codec costs nothing, since the pipeline uses views.
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
    """A codec that turns an array into bytes.

    A codec that only puts elements one after the other may have `steps(spec)`: the compiled steps from elements in C order and
    native byte order to the stored bytes. A codec for elements of variable size may have `decode_into(data, out)`, which stores the
    elements in an array of any strides, or, where they do not decode, stores nothing and raises as `decode`. A codec that can read
    and write parts of a chunk may have `prepare(spec, around)`, which makes its own pipeline (`Prepared`), and `chunk_shape` and
    `codecs`, which say how it divides a chunk.
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
    """A codec over bytes.

    It may have `step()`: the opcode and parameters that do the same in a kernel, or `kernels.external_step` of three C functions.
    """

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
    """The rest of the chain, for an array-to-bytes codec that makes its own pipeline.

    `order`: the transposition before it. `codecs`: the codecs after it. `skipped`: the names of unknown codecs.
    """

    order: tuple[int, ...] | None
    codecs: tuple[BytesToBytes, ...]
    options: CodecOptions
    nesting: int
    path: str
    skipped: tuple[str, ...]


class Encoded(NamedTuple):
    """A batch of n encoded chunks: `sizes` (n,), -1 for a chunk that is not stored, and the bytes of all chunks, in order.

    `parts_per_chunk[i]` of the `parts` belong to chunk i. Where it is None, one part has the bytes of all chunks.
    """

    sizes: Ints
    parts: list[Part]
    parts_per_chunk: list[int] | None = None

    def rows(self) -> list[list[Part] | None]:
        """The bytes of each chunk, None for one that is not stored."""
        found: list[list[Part] | None] = []
        start = 0
        if self.parts_per_chunk is None:
            (part,) = self.parts
            assert not isinstance(part, ByteRange | Hole), "a batch in one part is bytes"
            view = memoryview(part)
            for size in self.sizes.tolist():
                found.append(None if size < 0 else [view[start : start + size]])
                start += max(0, size)
        else:
            for size, count in zip(self.sizes.tolist(), self.parts_per_chunk, strict=True):
                found.append(None if size < 0 else self.parts[start : start + count])
                start += count
        return found

    def only(self) -> list[Part] | None:
        """The bytes of the chunk of a batch of one, or None if it is not stored."""
        if self.parts_per_chunk is None:
            (parts,) = self.rows()
            return parts
        return None if self.sizes[0] < 0 else self.parts


class Fetched(NamedTuple):
    """Encoded bytes of some chunks: chunk `rows[j]` is `buffers[buffer_index[j]][offset[j] : offset[j] + size[j]]`."""

    rows: Ints
    buffers: Sequence[Buffer]
    buffer_index: Ints
    offset: Ints
    size: Ints

    def data(self, j: int) -> memoryview:
        """The bytes of the j-th chunk that was fetched."""
        start = int(self.offset[j])
        return memoryview(self.buffers[int(self.buffer_index[j])])[start : start + int(self.size[j])]


class Source(Protocol):
    """Bytes that can be read in parts: a stored object, a window of one, or bytes in memory."""

    def read(self, ranges: Sequence[ByteRange]) -> Op[list[memoryview] | None]:
        """The bytes of each range, all of one version; None where there is no object."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes; known after the first read."""
        ...

    @property
    def published(self) -> bool:
        """Whether this is a whole stored object, of which other readers may know the offsets of subchunks."""
        ...

    def part(self, start: int, length: int) -> Part:
        """A reference to bytes of this source for use in a new version of the stored object."""
        ...


class EncodedChunks(Protocol):
    """Where the chunks of a batch are stored."""

    def fetch(self, lo: int, hi: int, wanted: npt.NDArray[np.bool_], limit: int | None = None) -> Op[Fetched]:
        """The encoded bytes of the wanted chunks of lo..hi that are stored; `rows` count from lo.

        ChunkError for a chunk of more than `limit` bytes, which is not read.
        """
        ...

    def fetch_one(self, i: int, limit: int | None = None) -> Op[Buffer | None]:
        """The encoded bytes of chunk i alone, None where it is not stored; see `fetch`."""
        ...

    def source(self, i: int) -> Source | None:
        """Chunk i as a byte source; None if it is known not to be stored."""
        ...


Piece: TypeAlias = tuple[int, Shape, Shape, Shape]
"""What of a box lies in one subchunk (or in the chunk): its number, where it begins there, where in the values, and its shape."""


class BoxUpdate(NamedTuple):
    """What the compiled call that replaces a box, or other elements of a chunk, is asked for."""

    layout: Any
    """A `kernels.ChunkLayout`."""
    pieces: tuple[Piece, ...] | tuple[int, ...]
    plan: kernels.RowBoxes | kernels.OuterBoxes | None
    """Of what is no box, with a row for each of `pieces`, which are the numbers alone then."""
    values: npt.NDArray[np.generic]
    nbytes: int
    """Of what is decoded and encoded."""
    not_stored: Fill | None
    """A chunk of which every element is this one is not stored."""

    @classmethod
    def of(
        cls,
        layout: Any,
        spec: ArraySpec,
        options: CodecOptions,
        pieces: tuple[Piece, ...] | tuple[int, ...],
        values: npt.NDArray[np.generic],
        plan: kernels.RowBoxes | kernels.OuterBoxes | None = None,
    ) -> Self | None:
        """That of pieces of a chunk, or of subchunks, of `spec`; None where the values are not of its data type."""
        if values.dtype != spec.data_type.numpy:
            return None
        return cls(layout, pieces, plan, values, len(pieces) * spec.nbytes, None if options.write_empty_chunks else spec.fill)

    @property
    def is_fill(self) -> bool:
        """Whether a chunk that is not stored stays so, or may: of what is no box it is not known."""
        fill = self.not_stored
        pieces = cast("tuple[Piece, ...]", self.pieces if self.plan is None else ())
        boxes = (tuple(map(slice, start, map(add, start, count))) for _, _, start, count in pieces)
        return fill is not None and all(fill.equals(self.values[box][np.newaxis])[0] for box in boxes)


class Prepared(Protocol):
    """A chain prepared for one chunk shape."""

    @property
    def spec(self) -> ArraySpec: ...

    @property
    def partial(self) -> Partial: ...

    @property
    def write_granularity(self) -> tuple[int, ...]:
        """The shape of the smallest part of a chunk that can be written alone, before transposition. It divides the chunk."""
        ...

    @property
    def encoded_bound(self) -> int:
        """The most bytes that an encoded chunk can have, without the dead bytes of a shard."""
        ...

    def write(self, stored: EncodedChunks | None, selections: ChunkSelections, lo: int, hi: int, values: Values) -> Op[Encoded]:
        """Encode chunks lo..hi: the selected elements come from `values`, the others from the stored chunks (or are fill).

        With `stored` None nothing is read, and elements that are not selected become fill. Stored data are read only for chunks
        that are not fully selected.
        """
        ...

    def read(self, stored: EncodedChunks, selections: ChunkSelections, lo: int, hi: int, out: npt.NDArray[np.generic]) -> Op[None]:
        """Decode the selected elements of chunks lo..hi into `out`; fill where nothing is stored."""
        ...

    def filled(self) -> Op[list[Part]]:
        """The parts of a stored chunk whose every element is the fill value; of a shard, an index in which all are missing."""
        ...

    def box_update(self, selections: ChunkSelections, row: int, values: npt.NDArray[np.generic]) -> BoxUpdate | None:
        """What the compiled update of a box is asked for: see `codecs.box_update`. None where it has no form of such chunks."""
        ...
