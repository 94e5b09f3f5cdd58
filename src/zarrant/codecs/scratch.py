"""Memory for decoded rows, used again and again.

Pages that a process has not used yet cost more than what is decoded into them, and the allocator gives large blocks back to
the system as soon as they are free. So blocks that were borrowed here are kept for whoever borrows next, up to `MOST` bytes
of the whole process. What is in a block when it is borrowed means nothing, and nothing may refer to it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

LEAST = 1 << 18
"""Bytes of the smallest block that is kept: the allocator keeps smaller ones by itself."""
MOST = 1 << 27
"""Bytes kept: four chunks of 32 MiB."""

_kept: list[npt.NDArray[np.uint8]] = []


@contextmanager
def borrowed(nbytes: int) -> Iterator[npt.NDArray[np.uint8]]:
    """A block of `nbytes`, for the time of a `with` block.

    >>> with borrowed(1 << 20) as block:
    ...     block.nbytes
    1048576
    """
    if nbytes < LEAST:
        yield np.empty(nbytes, np.uint8)
        return
    block = _take(nbytes)
    try:
        yield block[:nbytes]
    finally:
        _give(block)


def _take(nbytes: int) -> npt.NDArray[np.uint8]:
    """A kept block that is large enough and not much too large, else a new one. Each step on the list is atomic."""
    for _ in range(len(_kept)):
        try:
            block = _kept.pop()
        except IndexError:  # another thread was faster
            break
        if nbytes <= block.size <= 2 * nbytes:
            return block
        _kept.insert(0, block)
    return np.empty(nbytes, np.uint8)


def _give(block: npt.NDArray[np.uint8]) -> None:
    _kept.append(block)
    while sum(each.size for each in list(_kept)) > MOST:
        try:
            _kept.pop(0)
        except IndexError:
            return
