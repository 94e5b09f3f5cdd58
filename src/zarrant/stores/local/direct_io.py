"""Files written and read around the page cache (`O_DIRECT`), for stores with `direct_io=True`.

In: an open temp file and the parts of a whole new object; or an open published file and the spans wanted of it. Out: the same
bytes on the file, or in memory, as without this module. Where a file system refuses `O_DIRECT` all goes through the page cache
instead; that is logged once, and `DirectIO.refused` says so. May not: rename, lock or sync; the caller does that as for every
write.

- The disk takes whole blocks from memory that is aligned. Parts that are so already (`aligned_empty`, and uncompressed chunks,
  which the codecs gather in aligned memory) are handed to the system as they are. All others are copied, piece by piece, through
  one aligned buffer of `PIECE` bytes; these are pooled (`codecs.buffer_pool`).
- A last block that is not full is written full, with zeros, and the file is truncated to the size of the object. This happens on
  a temp file, before its rename: no reader can see the longer file, and the next writer removes one that a killed writer left.
- Reads take the blocks around each span, and hand out views of what was asked for. A whole object of whole pages is read straight
  to where its bytes are needed, where that is whole pages too.
- Only whole new objects of at least `MIN_BYTES` are written in this way. An update of a shard (a splice) copies what stays with
  `copy_file_range`, which moves no bytes on many file systems; what it appends begins at any offset, so it is written buffered.
- Coherence: a temp file is new, no other process has it open, and the page cache has nothing of it; the kernel drops the pages
  under a direct write, and writes dirty pages back before a direct read (open(2), and every file system that sets `direct_IO`). A
  published file is never written. So all readers of this machine, buffered or not, see the same bytes.
- open(2) warns of `fork` during direct I/O from private memory: a page may go to the child while the disk still uses it. The
  pages that are read to hold nothing else, and no thread touches them before the call returns, so neither process can miss a byte.
  Where several blocks share a huge page that is so as well: of such a page Linux copies 4 KiB then (`buffer_pool.lent_to_disk`).
"""

from __future__ import annotations

import errno
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from zarrant.codecs.buffer_pool import PAGE, lent, lent_to_disk
from zarrant.errors import ByteRangeError
from zarrant.storage import Buffer
from zarrant.stores.local.syscalls import Syscalls

BLOCK = 4096
"""Bytes to which offsets, lengths and addresses are aligned, unless the file asks for more: hardly a disk has larger sectors."""
MAX_BLOCK = 1 << 16
"""Bytes of the largest block that a file may ask for: network file systems give megabytes here, and do not insist on them."""
MIN_BYTES = BLOCK
"""Bytes of the smallest object that goes around the page cache: of a smaller one, as metadata, most would be padding."""
PIECE = 1 << 22
"""Bytes that are copied and written at once. 128 MiB on an NVMe disk: 1.9 GB/s with 256 KiB, 2.2 with 1 MiB, 2.5 with 4 MiB."""
MIN_STRAIGHT = 1 << 18
"""Bytes of the smallest aligned part that is written as it is: copying a smaller one costs less than one more write."""

_REFUSED = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS}
_logged_devices: set[int] = set()
"""Devices of which it was logged that they refuse."""

Span = tuple[int, int]


class DirectIO:
    """Direct I/O on the files of one store. `refused`: what the file systems (by device) that refuse it have said."""

    def __init__(self, files: Syscalls, url: str) -> None:
        self.files, self.url = files, url
        self.refused: dict[int, str] = {}

    def write(self, fd: int, parts: Sequence[Buffer]) -> bool:
        """Write a whole object to an empty file; False where it is better written buffered, and nothing was written."""
        views = [memoryview(part).cast("B") for part in parts if memoryview(part).nbytes]
        total = sum(map(len, views))
        if total < MIN_BYTES:
            return False
        state = self.files.fstat(fd)
        if not self._begin(fd, state.st_dev):
            return False
        done = self._write_blocks(fd, views, total, state)
        if done < total:
            self.files.set_direct(fd, False)
            self.files.write_full(fd, _after(views, done), done)  # safety: direct rest
        elif done > total:
            self.files.truncate(fd, total)  # safety: direct tail
        return True

    def read(self, fd: int, state: os.stat_result, spans: Sequence[Span]) -> list[memoryview] | None:
        """The spans of a published file; None where they are better read buffered."""
        if state.st_size < MIN_BYTES or not self._begin(fd, state.st_dev):
            return None
        block = block_of(state)
        windows = windows_of(spans, block)
        lows, places = [low for low, _ in windows], [0]
        for low, stop in windows:
            places.append(places[-1] + _up(stop, block) - low)
        buffer = lent_to_disk(places[-1]).data
        direct = True
        for (low, stop), place, end in zip(windows, places, places[1:], strict=False):
            direct = self._read_window(fd, buffer[place:end], low, stop, state.st_dev, direct)
        views = []
        for start, stop in spans:
            at = bisect_right(lows, start) - 1
            place = places[at] + start - lows[at] if stop > start else 0
            views.append(buffer[place : place + stop - start].toreadonly())
        return views

    def read_into(self, fd: int, state: os.stat_result, into: memoryview) -> bool:
        """Read a published file to an array of as many bytes; False, and nothing was read, where they are not whole pages."""
        size = state.st_size
        if into.nbytes != size or size < MIN_BYTES or size % max(PAGE, block_of(state)) or not into.c_contiguous:
            return False
        view = into.cast("B")
        if _address(view) % PAGE or not self._begin(fd, state.st_dev):
            return False
        self._read_window(fd, view, 0, size, state.st_dev, True)
        return True

    def _begin(self, fd: int, device: int) -> bool:
        """Whether what is read and written now goes around the page cache."""
        if device in self.refused:
            return False
        try:
            self.files.set_direct(fd, True)
        except OSError as error:
            self._refuse(device, error)
            return False
        return True

    def _write_blocks(self, fd: int, views: Sequence[memoryview], total: int, state: os.stat_result) -> int:
        """Write whole blocks until the system refuses them, or takes fewer bytes than given; the bytes that are on the file."""
        block, done = block_of(state), 0
        piece = lent(min(PIECE, _up(total, block)))
        for run in runs_of(views, piece, block):
            try:
                count = self.files.write(fd, run, done)
            except OSError as error:
                self._refuse(state.st_dev, error)
                return done
            done += count
            if count < sum(map(len, run)):
                return done  # hardly ever, and the next offset may be that of no block
        return done

    def _read_window(self, fd: int, view: memoryview, low: int, stop: int, device: int, direct: bool) -> bool:
        """Read blocks from `low` on; buffered where not `direct`, or the system refuses or gives less than up to `stop`.

        Returns whether the file is still read directly.
        """
        wanted, count = stop - low, 0
        if direct:
            try:
                count = self.files.read(fd, view, low)
            except OSError as error:
                self._refuse(device, error)
            if count < wanted:
                self.files.set_direct(fd, False)
                direct = False
        if count < wanted:
            count += self.files.read_full(fd, view[count:wanted], low + count)
        if count < wanted:
            raise ByteRangeError("the object became shorter while it was read", expected=f"{stop} bytes", got=low + count)
        return direct

    def _refuse(self, device: int, error: OSError) -> None:
        """Remember that a file system refuses, and log it once; any other error goes on."""
        if error.errno not in _REFUSED:
            raise error
        self.refused[device] = error.strerror or str(error)
        if device not in _logged_devices:
            import logging  # takes 5 ms, which nobody else needs

            _logged_devices.add(device)
            logging.getLogger("zarrant").warning(
                "direct I/O is refused where %s is (%s): files are written and read buffered", self.url, error.strerror
            )


def tried(files: Syscalls, root: str) -> str:
    """What direct I/O would do below a directory, in words: tried by reading one file that is there. Writes nothing."""
    found = _any_file(files, root)
    if found is None:
        return "not known: there is no file to try it on"
    fd = files.open(found, os.O_RDONLY)
    try:
        block = block_of(files.fstat(fd))
        files.set_direct(fd, True)
        files.read(fd, lent(block).data, 0)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        return f"refused by the file system ({error.strerror}): files would be written and read buffered"
    finally:
        files.close(fd)
    return f"possible, in blocks of {block} bytes"


def _any_file(files: Syscalls, root: str) -> str | None:
    directories = [root]
    while directories:
        directory = directories.pop()
        try:
            entries = files.scan(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name, kind in entries:
            if kind == "file":
                return os.path.join(directory, name)
        directories.extend(os.path.join(directory, name) for name, kind in entries if kind == "dir")
    return None


def block_of(state: os.stat_result) -> int:
    """The block of a file: what it prefers, where that can be a block of a disk, else `BLOCK`.

    What a disk demands at least (`statx`, STATX_DIOALIGN) is not in Python; it is never more than this on a local disk.
    """
    size = getattr(state, "st_blksize", None) or BLOCK
    return size if BLOCK < size <= MAX_BLOCK and size & (size - 1) == 0 else BLOCK


def windows_of(spans: Sequence[Span], block: int) -> list[Span]:
    """The blocks around spans, merged where they touch, in order: (first byte of the first block, end of what is wanted).

    >>> windows_of([(9000, 9010), (5, 10), (20, 4097)], 4096)
    [(0, 9010)]
    """
    found: list[Span] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if found and start - start % block <= _up(found[-1][1], block):
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start - start % block, stop))
    return found


def runs_of(views: Sequence[memoryview], piece: npt.NDArray[np.uint8], block: int) -> Iterator[list[memoryview]]:
    """The bytes of `views` as runs of aligned memory, each to be written before the next is asked for.

    The last is filled up with zeros to whole blocks. Aligned parts are in a run as they are; what is copied is in `piece`.
    """
    run: list[memoryview] = []
    filled = 0
    for view in views:
        whole = len(view) - len(view) % block
        if not filled and whole >= MIN_STRAIGHT and _address(view) % BLOCK == 0:
            if run:
                yield run
            # It waits for what comes next: a last block that is not full needs no write of its own then.
            run, view = [view[:whole]], view[whole:]
        while view:
            count = min(len(view), len(piece) - filled)
            piece[filled : filled + count] = np.frombuffer(view[:count], np.uint8)
            filled, view = filled + count, view[count:]
            if filled == len(piece):
                yield [*run, piece.data]
                run, filled = [], 0
    if filled:
        end = _up(filled, block)
        piece[filled:end] = 0
        run.append(piece[:end].data)
    if run:
        yield run


def _address(view: memoryview) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address


def _up(size: int, block: int) -> int:
    """The size of the whole blocks that hold so many bytes."""
    return -(-size // block) * block


def _after(views: Sequence[memoryview], skip: int) -> list[memoryview]:
    """The bytes of views without the first `skip`."""
    left = []
    for view in views:
        if skip < len(view):
            left.append(view[skip:])
        skip = max(0, skip - len(view))
    return left
