"""Zstandard frames, decoded within a limit (RFC 8878, section 3.1).

In come stored bytes and the most bytes they may decode to; out goes the content of all frames, or `ValueError`. The
library behind numcodecs takes a frame's word for its size, or grows without end where the frame gives none; so frames are
found here, their claims are checked first, and a frame of unknown size is decoded a few blocks at a time.
"""

from __future__ import annotations

from typing import NamedTuple

_MAGIC = 0xFD2FB528
_SKIPPABLE = 0x184D2A50
# Block_Maximum_Size: no block decodes to more.
_BLOCK = 128 << 10
# What may be decoded beyond the limit before it is noticed.
_MORE_BYTES = 8 << 20
# A last raw block of no bytes, and the checksum (XXH64, low half) of no content.
_NOTHING = b"\x01\x00\x00"
_CHECKSUM_OF_NOTHING = b"\x99\xe9\xd8\x51"


class Frame(NamedTuple):
    """One frame: where it ends, what it claims to decode to (None: unknown), and where each block begins."""

    end: int
    content: int | None
    blocks: list[int]


def decompress(data: bytes, limit: int) -> bytes:
    """Decode all frames of `data`; ValueError where they are broken or decode to more than `limit` bytes."""
    pieces: list[bytes] = []
    start, left = 0, limit
    while start < len(data):
        magic = int.from_bytes(data[start : start + 4], "little")
        if magic & 0xFFFFFFF0 == _SKIPPABLE:
            start = _within(start + 8 + int.from_bytes(data[start + 4 : start + 8], "little"), data)
            continue
        frame = parse(data, start)
        pieces.append(_content(data[start : frame.end], frame, start, left))
        left -= len(pieces[-1])
        start = frame.end
    return b"".join(pieces)


def parse(data: bytes, start: int) -> Frame:
    """Read the header and the block headers of the frame at `start`."""
    _within(start + 5, data)
    if int.from_bytes(data[start : start + 4], "little") != _MAGIC:
        raise ValueError("not a frame")
    descriptor = data[start + 4]
    single = descriptor >> 5 & 1
    field = start + 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3]
    width = (single, 2, 4, 8)[descriptor >> 6]
    end = _within(field + width, data)
    content = int.from_bytes(data[field:end], "little") + (256 if width == 2 else 0) if width else None
    blocks = []
    last = False
    while not last:
        header = int.from_bytes(data[end : _within(end + 3, data)], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if kind == 3:
            raise ValueError("reserved block type")
        blocks.append(end)
        end = _within(end + 3 + (1 if kind == 1 else size), data)
    return Frame(_within(end + 4 * (descriptor >> 2 & 1), data), content, blocks)


def _within(end: int, data: bytes) -> int:
    if end > len(data):
        raise ValueError("truncated")
    return end


def _content(data: bytes, frame: Frame, start: int, limit: int) -> bytes:
    from numcodecs import zstd

    if data[frame.blocks[0] - start :] in (_NOTHING, _NOTHING + _CHECKSUM_OF_NOTHING):
        return b""  # the library takes an empty frame for a broken one
    if frame.content is not None:
        if frame.content > limit:
            raise ValueError(f"too large: frame of {frame.content} bytes, limit {limit}")
        return bytes(zstd.decompress(data))
    decoded = b""
    taken = 0
    while taken < len(frame.blocks):
        taken = _take(data, frame, start, taken, limit - len(decoded))
        decoded = bytes(zstd.decompress(_first_blocks(data, frame, start, taken)))
        if len(decoded) > limit:
            raise ValueError(f"too large: more than {limit} bytes")
    return decoded


def _take(data: bytes, frame: Frame, start: int, taken: int, left: int) -> int:
    """How many blocks to decode next: those that are sure to fit in `left` bytes and `_MORE_BYTES` more.

    Each call decodes all blocks from the first on, so there must be few calls: blocks of no bytes are free, others make
    `_MORE_BYTES` together.
    """
    allowed = left + _MORE_BYTES
    while taken < len(frame.blocks):
        allowed -= _most(data, frame.blocks[taken] - start)
        if allowed < 0:
            break
        taken += 1
    return taken


def _most(data: bytes, at: int) -> int:
    """The most bytes that the block at `at` decodes to: exact but for blocks with sequences."""
    header = int.from_bytes(data[at : at + 3], "little")
    kind, size = header >> 1 & 3, header >> 3
    if kind != 2:  # raw, or one byte repeated: the size is that of the content
        return min(size, _BLOCK)
    # Literals_Section_Header (3.1.1.3.1.1): a block of literals alone holds nothing else. Only the shortest form matters.
    plain = data[at + 3] & 0b111
    if plain in (0b000, 0b100) and size == 2 + (data[at + 3] >> 3) and data[at + 2 + size] == 0:
        return data[at + 3] >> 3
    return _BLOCK


def _first_blocks(data: bytes, frame: Frame, start: int, count: int) -> bytes:
    """The frame as if it ended after `count` blocks; whole, with its checksum, once they are all taken."""
    if count == len(frame.blocks):
        return data
    short = bytearray(data[: frame.blocks[count] - start])
    short[4] &= ~4  # no checksum
    short[frame.blocks[count - 1] - start] |= 1  # last block
    return bytes(short)
