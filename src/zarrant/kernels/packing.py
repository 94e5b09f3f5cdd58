"""EncodedRows of buffers, in NumPy and plain Python: check them, and pack them.

In come buffers and int64 columns that name a run of bytes of one of them a row; out go views and plain numbers, or one new
array. EncodedRows are checked before any byte is touched; a span outside of its buffer is the caller's mistake and ends in
`ValueError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Ints = NDArray[np.int64]


def check_spans(
    buffers: Sequence[Any], which: Ints, offset: Ints, size: Ints, count: int
) -> tuple[list[memoryview], list[tuple[int, int, int]]]:
    """Return the bytes of each buffer and `count` spans `(which, offset, size)`, all known to lie inside."""
    try:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
    except (TypeError, BufferError) as error:
        raise ValueError(f"expected contiguous buffers: {error}") from error
    for name, column in (("which", which), ("offset", offset), ("size", size)):
        if column.dtype != np.int64 or column.shape != (count,):
            raise ValueError(f"{name}: expected int64 of shape ({count},), got {column.dtype} {column.shape}")
    spans = list(zip(which.tolist(), offset.tolist(), size.tolist(), strict=True))
    for row, (buffer, first, length) in enumerate(spans):
        if not (0 <= buffer < len(views) and first >= 0 and length >= 0 and first + length <= len(views[buffer])):
            raise ValueError(f"row {row}: span ({buffer}, {first}, {length}) is outside of the buffers")
    return views, spans


def pack(buffers: Sequence[Any], which: Ints, offset: Ints, size: Ints) -> Bytes:
    """Copy `buffers[which[i]][offset[i] : offset[i] + size[i]]` for each i, back to back, into one new array.

    EncodedRows may overlap, repeat and be empty. Raises ValueError for spans outside of their buffers and for columns of the
    wrong form, before anything is copied.
    """
    views, spans = check_spans(buffers, which, offset, size, len(which))
    packed = bytearray().join(views[buffer][first : first + length] for buffer, first, length in spans)
    return np.frombuffer(packed, np.uint8)
