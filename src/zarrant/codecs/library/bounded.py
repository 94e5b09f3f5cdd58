"""Decoding what numcodecs encoded, within bounded memory and work.

In: an identifier of numcodecs, its configuration, encoded bytes, a limit. Out: at most `limit` bytes, or ValueError. numcodecs
decodes whole and believes sizes in headers. Here compressed streams are decoded piece by piece, and a header that promises too
much is refused before anything is allocated. The work is linear in the encoded bytes, also where they are many empty streams.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from zarrant import kernels
from zarrant.kernels.streams import decode_streams
from zarrant.storage import Buffer

SIZES = {"lz4": 0, "blosc": 4}
"""Where the header has the decoded size, 4 bytes little-endian."""
MAX_LZMA_BYTES = 128 << 20
"""Memory that an lzma stream may ask for before it is read: twice what the highest preset (`xz -9`, 65 MiB) needs."""


def decode_bounded(
    identifier: str, configuration: Mapping[str, Any], decode: Callable[[bytes], Any], data: Buffer, limit: int
) -> bytes:
    """Decode to at most `limit` bytes; `decode` is the codec's own, for what cannot grow beyond what its header says."""
    encoded = bytes(data)
    if identifier == "zstd":
        return bytes(kernels.decode_step((kernels.ZSTD, 0, 0), encoded, limit))
    streams: dict[str, Callable[[], Any]] = {
        "bz2": bz2.BZ2Decompressor,
        "zlib": zlib.decompressobj,
        "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
        "lzma": lambda: _lzma(configuration),
    }
    if identifier in streams:
        return decode_streams(streams[identifier], encoded, limit)
    if identifier in SIZES:
        at = SIZES[identifier]
        (size,) = struct.unpack("<I", encoded[at : at + 4].ljust(4, b"\0"))
        _check(size, limit)
    decoded = bytes(decode(encoded))
    _check(len(decoded), limit)
    return decoded


def _lzma(configuration: Mapping[str, Any]) -> lzma.LZMADecompressor:
    """Only a raw stream needs its filters; the others have them, and the memory that they ask for is bounded here."""
    if configuration.get("format") == lzma.FORMAT_RAW:
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=configuration.get("filters"))
    return lzma.LZMADecompressor(configuration.get("format", lzma.FORMAT_XZ), memlimit=MAX_LZMA_BYTES)


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"decodes to {size} bytes or more, beyond {limit}")
