"""The program: a chain of byte steps as plain numbers.

In comes a tuple of steps, each a tuple of ints `(opcode, parameters...)`, applied in order to encode and in reverse to
decode. Out goes the same program, checked once and remembered, or `OptionError`. Both implementations share this module,
so that they agree on which programs exist; it touches no data.

| opcode | parameters | meaning |
|---|---|---|
| SWAP | word | swap the bytes of every `word` bytes |
| BLOSC | compressor, level, shuffle, typesize, blocksize | one Blosc 1 frame |
| ZSTD | level, checksum | one Zstandard frame with its content size |
| GZIP | level | one gzip member |
| CRC32C | | append the CRC-32C, 4 bytes little-endian |
| EXTERNAL | encode, decode, bound, parameter | C functions of another package (`zarrant.kernels.external`) |
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zarrant.errors import OptionError, ShapeError

SWAP, BLOSC, ZSTD, GZIP, CRC32C, EXTERNAL = 1, 2, 3, 4, 5, 6

STEP_NAMES = {SWAP: "swap", BLOSC: "blosc", ZSTD: "zstd", GZIP: "gzip", CRC32C: "crc32c", EXTERNAL: "external"}
COMPRESSING = (BLOSC, ZSTD, GZIP, EXTERNAL)
BLOSC_COMPRESSORS = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")

Step = tuple[int, ...]
Program = tuple[Step, ...]
Failure = tuple[int, int, str]


class EncodedRows(NamedTuple):
    """Encoded rows: row `number[j]` is `buffers[which[j]][offset[j] : offset[j] + size[j]]`."""

    number: NDArray[np.int64]
    """(m,), ascending: the number of each row in its batch."""
    buffers: Sequence[Any]
    which: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]


class RowMemory(NamedTuple):
    """Memory for some rows of a batch, which all go through it in groups: two views of it. What it holds before and after is
    not defined.
    """

    flat: NDArray[np.uint8]
    """(rows, bytes of a row), C-contiguous."""
    seen: NDArray[Any]
    """(rows, *shape): the same rows in the dimensions of the array. The elements of a row may lie in any order of dimensions."""


class RowBoxes(NamedTuple):
    """Boxes of an array ↔ boxes of the rows of a batch, as `copy_boxes` takes them; both have an axis 0.

    In the rows that axis counts rows: it has length 1 in each box, and its starts do not decrease.
    """

    start: NDArray[np.int64]
    step: NDArray[np.int64]
    row_start: NDArray[np.int64]
    row_step: NDArray[np.int64]
    shape: NDArray[np.int64]


class OuterBoxes(NamedTuple):
    """The same where each row has every combination of a segment of each axis, in C order: no box of them is made.

    `start`, `row_start` and `shape` are columns of segments, each of one axis. Of several values for one element the last counts.
    """

    start: NDArray[np.int64]
    step: NDArray[np.int64]
    """(axes + 1,), as of `RowBoxes`; so is `row_step`."""
    row_start: NDArray[np.int64]
    row_step: NDArray[np.int64]
    shape: NDArray[np.int64]
    """How many elements each has, at least 1."""
    spans: NDArray[np.int64]
    """(rows, axes, 2): the segments of each axis of a row, from the first up to the second number."""


Shape = tuple[int, ...]


KeptBox: TypeAlias = tuple[tuple[Shape, Shape, Shape], list[NDArray[Any] | None]]
"""A box of a chunk, or of a shard (its start there, its shape, its start in the values), and all pieces that it touches: arrays of
one shape, in C order of their places; None stands for fill."""


class BoxPlan(NamedTuple):
    """How to read the subchunks of a box of a shard, as the rows of a batch."""

    runs: list[tuple[int, int]]
    """(start, length) of the byte ranges of the shard to read, in the order of their starts; adjacent subchunks are one."""
    spans: NDArray[np.int64]
    """(4, stored rows): number of the row, ascending; its run; where it begins in that; its bytes."""
    boxes: NDArray[np.int64]
    """(3, rows, axes + 1): starts in the values, starts in the rows, shapes, each with an axis 0 as of `RowBoxes`."""


# BLOSC_MAX_BUFFERSIZE of c-blosc 1: the frame, header included, has to fit in an int.
BLOSC_MAX = 2**31 - 1 - 16
# An intermediate of decode may be twice what our own encoder could make, and a little: other writers frame less tightly.
SLACK = 1 << 16

_PARAMETERS: dict[int, tuple[tuple[str, int, int], ...]] = {
    SWAP: (("word", 1, 1 << 30),),
    BLOSC: (
        ("compressor", 0, len(BLOSC_COMPRESSORS) - 1),
        ("level", 0, 9),
        ("shuffle", 0, 2),
        ("typesize", 1, 2**31 - 1),
        ("blocksize", 0, 2**31 - 1),
    ),
    ZSTD: (("level", -131072, 22), ("checksum", 0, 1)),
    GZIP: (("level", 0, 9),),
    CRC32C: (),
    EXTERNAL: (
        ("encode", 1, 2**63 - 1),
        ("decode", 1, 2**63 - 1),
        ("bound", 1, 2**63 - 1),
        ("parameter", -(2**63), 2**63 - 1),
    ),
}


@lru_cache(maxsize=1024)
def check_program(program: Program) -> None:
    """Raise `OptionError` for an unknown step, a parameter out of range, or a byte swap after a step that changes sizes."""
    resized = False
    for step in program:
        if not step or step[0] not in _PARAMETERS:
            raise OptionError("unknown step in a kernel program", expected=sorted(_PARAMETERS), got=step)
        parameters = _PARAMETERS[step[0]]
        if len(step) - 1 != len(parameters):
            raise OptionError(f"{STEP_NAMES[step[0]]} step", expected=f"{len(parameters)} parameters", got=step)
        for (name, low, high), value in zip(parameters, step[1:], strict=True):
            if not low <= value <= high:
                raise OptionError(f"{STEP_NAMES[step[0]]} {name}", expected=f"{low}..{high}", got=value)
        if step[0] == SWAP and resized:
            raise OptionError("a byte swap cannot follow a step that changes the length", got=program)
        resized = resized or step[0] != SWAP


@lru_cache(maxsize=1024)
def check_sizes(program: Program, nbytes: int) -> None:
    """Raise `ShapeError` where rows of `nbytes` bytes cannot pass: a split word, or more than Blosc can hold."""
    check_program(program)
    if nbytes < 0:
        raise ShapeError("row length", expected=">= 0", got=nbytes)
    for step in program:
        if step[0] == SWAP and nbytes % step[1]:
            raise ShapeError("row length is not a multiple of the word to swap", expected=step[1], got=nbytes)
        if step[0] == BLOSC and nbytes > BLOSC_MAX:
            raise ShapeError("row too long for Blosc", expected=f"<= {BLOSC_MAX} bytes", got=nbytes)


def fixed_size(program: Program, nbytes: int) -> int | None:
    """Encoded length of a row of `nbytes` where the program fixes it, else None."""
    if any(step[0] not in (SWAP, CRC32C) for step in program):
        return None
    return nbytes + 4 * sum(step[0] == CRC32C for step in program)
