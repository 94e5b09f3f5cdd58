"""Compressed streams one after the other, decoded within bounded memory and linear work.

In come encoded bytes, a factory of decompressors (of `zlib`, `bz2` or `lzma`) and the most bytes they may decode to; out goes
the content of all streams, or `ValueError`. A decompressor copies whatever follows its stream (`unused_data`), so that many
small streams given whole would cost the square of their number: it is given a window, which grows only while one stream
lasts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_FIRST = 512
"""Bytes of the first window of a stream: the smallest streams have 8 (zlib) to 32 (lzma) bytes."""
_LARGEST = 1 << 20


def decode_streams(make: Callable[[], Any], data: bytes, limit: int, padding: bytes = b"") -> bytes:
    """Decode one stream after the other, as files of several members are; bytes of `padding` may stand between them."""
    pieces: list[bytes] = []
    at, left = 0, limit
    view = memoryview(data)
    while at < len(data):
        at, decoded = _one_stream(make(), view, at, left)
        left -= len(decoded)
        pieces.append(decoded)
        while padding and at < len(data) and data[at] in padding:
            at += 1
    return b"".join(pieces)


def _one_stream(stream: Any, data: memoryview, at: int, left: int) -> tuple[int, bytes]:
    """Where the stream at `at` ends, and its content; ValueError beyond `left` bytes and for a stream that is cut off."""
    pieces: list[bytes] = []
    window, total = _FIRST, 0
    while not stream.eof:
        piece = stream.decompress(data[at : at + window], left - total + 1)
        total += len(piece)
        if total > left:
            raise ValueError(f"too large: decodes to more than {left} bytes")
        if at == len(data) and not piece and not stream.eof:
            raise ValueError("truncated")
        pieces.append(piece)
        at = min(at + window, len(data))  # all of it was taken in: what is given out is less than was allowed
        window = min(2 * window, _LARGEST)
    return at - len(stream.unused_data), b"".join(pieces)
