"""Memory for decoded rows, used again and again; and memory that begins with a page, for direct I/O.

Pages that a process has not used yet cost more than what is decoded into them, and the allocator gives large blocks back to
the system as soon as they are free. So blocks that were borrowed here are kept for whoever borrows next, up to `MOST` bytes
of the whole process. What is in a block when it is borrowed means nothing, and nothing may refer to it afterwards.

`lent` is for what cannot be given back at a known place: bytes that were read, or rows on their way to a store. Its blocks are
used again as soon as nothing refers to them any more, which their reference count tells.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.errors import DataTypeError

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


PAGE = max(4096, mmap.PAGESIZE)
"""Bytes to which memory for direct I/O is aligned: no disk wants more than 4,096, and whole pages belong to one array alone."""
LENT_MOST = 1 << 27
"""Bytes of lent blocks that are kept, in use or not; more are lent, but not used again."""

_lent: list[npt.NDArray[np.uint8]] = []


def aligned_empty(shape: int | Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A new array whose memory begins with a page, and whose last page holds nothing else. Its values mean nothing yet.

    With `direct_io` a store writes such an array (or whole blocks of it) to the disk without a copy: fill one with the bytes of
    a chunk, pass it to `Array.store_encoded_chunk`, and use it again for the next chunk when the call has returned.

    Args:
        shape: as of `numpy.empty`.
        dtype: any data type of NumPy but those that hold Python objects.

    Raises:
        DataTypeError: the data type holds Python objects.

    >>> a = aligned_empty((3, 5), "uint16")
    >>> a.shape, a.ctypes.data % 4096
    ((3, 5), 0)
    """
    sides, kind = (shape,) if isinstance(shape, int) else tuple(shape), np.dtype(dtype)
    if kind.hasobject:
        raise DataTypeError("Python objects cannot be written to a disk", expected="a data type of plain bytes", got=str(kind))
    return np.ndarray(sides, kind, _page_of(_new(math.prod(sides) * kind.itemsize)))


def lent(nbytes: int) -> npt.NDArray[np.uint8]:
    """A block of `nbytes` that begins with a page, for as long as anything refers to it or to a view of it.

    >>> lent(1 << 20).ctypes.data % 4096
    0
    """
    if nbytes < LEAST:
        return _page_of(_new(nbytes))[:nbytes]
    owner = _unused(nbytes)
    if owner is None:
        owner = _new(nbytes)
    _lent.append(owner)
    while sum(each.size for each in list(_lent)) > LENT_MOST:
        try:
            _lent.pop(0)  # its memory is freed when nothing refers to it any more
        except IndexError:  # another thread was faster
            break
    return _page_of(owner)[:nbytes]


def _new(nbytes: int) -> npt.NDArray[np.uint8]:
    """Memory that has room for whole pages of `nbytes`, wherever the allocator puts it."""
    return np.empty(-(-nbytes // PAGE) * PAGE + PAGE, np.uint8)


def _page_of(owner: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The memory from its first page on."""
    view: npt.NDArray[np.uint8] = owner[-owner.ctypes.data % PAGE :]
    return view


def _unused(nbytes: int) -> npt.NDArray[np.uint8] | None:
    """Take a block out of the list that nothing refers to, and that is large enough and not much too large.

    A view keeps the array that owns its memory, whatever is between them: so the count is exact. A block is out of the list
    while it is looked at, and who takes one out is the only one who could lend it.
    """
    for _ in range(len(_lent) if _ALONE else 0):
        try:
            owner = _lent.pop(0)
        except IndexError:  # another thread was faster
            break
        free = _references(owner) <= _ALONE  # safety: lent
        if free and nbytes + PAGE <= owner.size <= 2 * (nbytes + PAGE):
            return owner
        _lent.append(owner)
    return None


def _references(owner: npt.NDArray[np.uint8]) -> int:
    return sys.getrefcount(owner)


def _alone() -> int:
    """The references to a block that was taken out of a list and is nobody else's: how many are our own differs by version."""
    blocks = [np.empty(1, np.uint8)]
    owner = blocks.pop(0)
    return _references(owner)


_ALONE = _alone() if hasattr(sys, "getrefcount") else 0
"""0 where references are not counted, as on PyPy: then no block is lent twice."""
