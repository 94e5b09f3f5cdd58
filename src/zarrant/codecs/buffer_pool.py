"""Memory that is used again: for decoded chunks, and memory that begins with a page, for direct I/O.

Memory that a process has not used before is slow: the first use of each page costs more than decoding into it, and the
allocator returns large blocks to the system as soon as they are free. So a block that was `borrowed` here is kept for the next
caller; the process keeps up to `MAX_KEPT_BYTES`. A borrowed block has arbitrary content, and nothing may refer to it after the
`with` block.

`lent` is for memory that has no clear end of use: bytes that were read, or chunks on their way to a store. A lent block is used
again once its reference count shows that nothing refers to it. `lent_to_disk` is the same for what is read from a disk: blocks that
are smaller than a huge page lie in one together.
"""

from __future__ import annotations

import math
import mmap
import operator
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from zarrant.errors import DataTypeError, ShapeError, shown

MIN_KEPT_BLOCK_BYTES = 1 << 18
"""Smaller blocks are not kept: the allocator keeps them itself."""
MAX_KEPT_BYTES = 1 << 27
"""Bytes kept: four chunks of 32 MiB."""

_kept: list[npt.NDArray[np.uint8]] = []


class borrowed:
    """A block of `nbytes`, for the time of a `with` block.

    >>> with borrowed(1 << 20) as block:
    ...     block.nbytes
    1048576
    """

    __slots__ = ("block", "nbytes")

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes

    def __enter__(self) -> npt.NDArray[np.uint8]:
        if self.nbytes < MIN_KEPT_BLOCK_BYTES:
            return np.empty(self.nbytes, np.uint8)
        self.block = _take_block(self.nbytes)
        return self.block[: self.nbytes]

    def __exit__(self, *error: object) -> None:
        if self.nbytes >= MIN_KEPT_BLOCK_BYTES:
            _give_back(self.block)


def _take_block(nbytes: int) -> npt.NDArray[np.uint8]:
    """A kept block that is large enough, and at most twice as large as needed; else a new one. Each step on the list is atomic."""
    for _ in range(len(_kept)):
        try:
            block = _kept.pop()
        except IndexError:  # another thread was faster
            break
        if nbytes <= block.size <= 2 * nbytes:
            return block
        _kept.insert(0, block)
    return np.empty(nbytes, np.uint8)


def _give_back(block: npt.NDArray[np.uint8]) -> None:
    _kept.append(block)
    while sum(each.size for each in list(_kept)) > MAX_KEPT_BYTES:
        try:
            _kept.pop(0)
        except IndexError:
            return


PAGE = max(4096, mmap.PAGESIZE)
"""Alignment of memory for direct I/O. No disk needs more than 4,096 bytes, and no two arrays share a page."""
HUGE_PAGE = 1 << 21
"""Bytes of a huge page. Memory of at least as many consists of such pages, where the system has them (Linux): the disk gets an
address for each page, and a direct read of 4 MiB took 1.1 ms into huge pages, 2.1 where half of them were small, 3.1 into small
ones."""
MAX_LENT_BYTES = 1 << 27
"""Bytes of lent blocks that are kept, in use or not. Blocks beyond that are lent once and then freed."""

MAX_PARTS_BYTES = 1 << 25
"""The same of parts of huge pages: 32 in flight of 1 MiB."""


def _copies_small_pages(system: str, release: str) -> bool:
    """Whether a write to memory that a fork has shared copies 4 KiB of a huge page, and not all of it: Linux does since 5.8.

    Before, a thread that used one part would have moved the others, also one that a disk was writing to (open(2), of `fork`).
    """
    numbers = [int(part) for part in re.findall(r"\d+", release)[:2]]
    return system == "linux" and numbers >= [5, 8]


COPIES_SMALL_PAGES = _copies_small_pages(sys.platform, os.uname().release if hasattr(os, "uname") else "")

_lent: list[npt.NDArray[np.uint8]] = []
_parts: list[npt.NDArray[np.uint8]] = []


def aligned_empty(shape: SupportsIndex | Sequence[SupportsIndex], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A new array whose memory begins with a page, and whose last page holds nothing else. Its values mean nothing yet.

    With `direct_io` a store writes such an array (or whole blocks of it) to the disk without a copy: fill one with the bytes of
    a chunk, pass it to `Array.store_encoded_chunk`, and use it again for the next chunk when the call has returned.

    Args:
        shape: as of `numpy.empty`.
        dtype: any data type of NumPy but those that hold Python objects.

    Raises:
        DataTypeError: the data type holds Python objects, or is none.
        ShapeError: the shape has negative lengths, or what is no integer, or more bytes than an address can be.

    >>> a = aligned_empty((3, 5), "uint16")
    >>> a.shape, a.ctypes.data % 4096
    ((3, 5), 0)
    """
    try:
        kind = np.dtype(dtype)
    except (TypeError, ValueError) as error:
        raise DataTypeError("not a data type of NumPy", expected="a data type of plain bytes", got=shown(dtype)) from error
    if kind.hasobject:
        raise DataTypeError("Python objects cannot be written to a disk", expected="a data type of plain bytes", got=str(kind))
    try:
        sides = tuple(map(operator.index, np.atleast_1d(np.asarray(shape, object)).tolist()))
    except TypeError as error:
        raise ShapeError("not a shape", expected="integers", got=shown(shape)) from error
    if min(sides, default=0) < 0 or (nbytes := math.prod(sides) * kind.itemsize) > sys.maxsize:
        raise ShapeError("not a shape that an array can have", expected="lengths of at least 0, that fit in memory", got=sides)
    return np.ndarray(sides, kind, _page_of(_new(nbytes)))


def lent(nbytes: int) -> npt.NDArray[np.uint8]:
    """A block of `nbytes` that begins with a page. It stays valid as long as anything refers to it or to a view of it.

    >>> lent(1 << 20).ctypes.data % 4096
    0
    """
    if nbytes < MIN_KEPT_BLOCK_BYTES:
        return _page_of(_new(nbytes))[:nbytes]
    size = _size_of(nbytes)
    owner = _unused(_lent, size, 2 * size)
    if owner is None:
        owner = _new(nbytes)
    _keep(_lent, owner, MAX_LENT_BYTES)
    return _page_of(owner)[:nbytes]


def lent_to_disk(nbytes: int) -> npt.NDArray[np.uint8]:
    """`lent`, in huge pages where it is kept at all: a block smaller than one is a half, a quarter or an eighth of it.

    >>> lent_to_disk(300_000).ctypes.data % 4096
    0
    """
    if nbytes < MIN_KEPT_BLOCK_BYTES or not COPIES_SMALL_PAGES:  # safety: parts of huge pages
        return lent(nbytes)
    if nbytes > HUGE_PAGE // 2:
        return lent(max(nbytes, HUGE_PAGE))[:nbytes]
    size = 1 << max(nbytes - 1, MIN_KEPT_BLOCK_BYTES - 1).bit_length()
    part = _unused(_parts, size, size)
    if part is None:
        page = _page_of(_new(HUGE_PAGE)).data  # not an array: views of a part refer to the part then
        part, *others = (np.frombuffer(page, np.uint8, size, at) for at in range(0, HUGE_PAGE, size))
        _parts.extend(others)
    _keep(_parts, part, MAX_PARTS_BYTES)
    return part[:nbytes]


def _keep(blocks: list[npt.NDArray[np.uint8]], owner: npt.NDArray[np.uint8], most: int) -> None:
    """Add a block to a list of those that are lent, and drop the oldest beyond so many bytes."""
    blocks.append(owner)
    while sum(each.size for each in list(blocks)) > most:
        try:
            blocks.pop(0)  # its memory is freed when nothing refers to it any more
        except IndexError:  # another thread was faster
            break


def _new(nbytes: int) -> npt.NDArray[np.uint8]:
    """Memory in which `nbytes` fit in whole pages, wherever the allocator puts it."""
    size = _size_of(nbytes)
    if sys.platform == "linux" and nbytes >= HUGE_PAGE:
        # Not from the allocator: what it had in use before stays in small pages.
        try:
            memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            memory.madvise(mmap.MADV_HUGEPAGE)
            return np.frombuffer(memory, np.uint8)
        except (OSError, AttributeError):  # a system without huge pages, or no memory
            pass
    return np.empty(size, np.uint8)


def _size_of(nbytes: int) -> int:
    """Bytes of memory in which `nbytes` fit from its first page on, with nothing else on their last page."""
    page = HUGE_PAGE if nbytes >= HUGE_PAGE else PAGE
    return -(-nbytes // page) * page + page


def _page_of(owner: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The memory from its first page on: a huge one, where it was made for as many bytes (`_size_of`)."""
    page = HUGE_PAGE if owner.size >= 2 * HUGE_PAGE else PAGE
    view: npt.NDArray[np.uint8] = owner[-owner.ctypes.data % page :]
    return view


def _unused(blocks: list[npt.NDArray[np.uint8]], size: int, most: int) -> npt.NDArray[np.uint8] | None:
    """Take an unused block of `size` to `most` bytes out of a list.

    Every view refers to the array that owns its memory, so the reference count is exact. A block is out of the list while its
    count is read, so no other thread can lend it meanwhile.
    """
    for _ in range(len(blocks) if _ALONE else 0):
        try:
            owner = blocks.pop(0)
        except IndexError:  # another thread was faster
            break
        free = _references(owner) <= _ALONE  # safety: lent
        if free and size <= owner.size <= most:
            return owner
        blocks.append(owner)
    return None


def _references(owner: npt.NDArray[np.uint8]) -> int:
    return sys.getrefcount(owner)


def _alone() -> int:
    """The reference count of an unused block that was taken out of a list; it depends on the version of Python."""
    blocks = [np.empty(1, np.uint8)]
    owner = blocks.pop(0)
    return _references(owner)


_ALONE = _alone() if hasattr(sys, "getrefcount") else 0
"""0 without reference counts, as on PyPy; then no block is lent twice."""
