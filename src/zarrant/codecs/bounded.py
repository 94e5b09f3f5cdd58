"""Decoding what numcodecs encoded, into bounded memory.

In: an identifier of numcodecs, its configuration, encoded bytes, a limit. Out: at most `limit` bytes, or ValueError. numcodecs
decodes whole and believes sizes in headers; here compressed streams are decoded step by step, and a header that promises too
much is refused before anything is allocated.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from zarrant import kernels
from zarrant.kernels import reference
from zarrant.storage import Buffer

SIZES = {"lz4": 0, "blosc": 4}
"""Where the header has the decoded size, 4 bytes little-endian."""


def decode_bounded(
    identifier: str, configuration: Mapping[str, Any], decode: Callable[[bytes], Any], data: Buffer, limit: int
) -> bytes:
    """Decode to at most `limit` bytes; `decode` is the codec's own, for what cannot grow beyond what its header says."""
    encoded = bytes(data)
    if identifier == "zstd":
        return bytes(reference.decode_step((kernels.ZSTD, 0, 0), encoded, limit))
    streams: dict[str, Callable[[], Any]] = {
        "bz2": bz2.BZ2Decompressor,
        "zlib": zlib.decompressobj,
        "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
        "lzma": lambda: lzma.LZMADecompressor(configuration.get("format", 1), filters=_raw_filters(configuration)),
    }
    if identifier in streams:
        return _decode_streams(streams[identifier], encoded, limit)
    if identifier in SIZES:
        at = SIZES[identifier]
        (size,) = struct.unpack("<I", encoded[at : at + 4].ljust(4, b"\0"))
        _check(size, limit)
    decoded = bytes(decode(encoded))
    _check(len(decoded), limit)
    return decoded


def _decode_streams(make: Callable[[], Any], data: bytes, limit: int) -> bytes:
    """One stream after the other, as files of several members are."""
    pieces, total = [], 0
    while data:
        stream = make()
        pieces.append(stream.decompress(data, limit - total + 1))
        total += len(pieces[-1])
        _check(total, limit)
        if not stream.eof:
            raise ValueError("the stream is cut off")
        data = stream.unused_data
    return b"".join(pieces)


def _raw_filters(configuration: Mapping[str, Any]) -> Any:
    """Only a raw stream is told its filters; the others carry them."""
    return configuration.get("filters") if configuration.get("format") == lzma.FORMAT_RAW else None


def _check(size: int, limit: int) -> None:
    if size > limit:
        raise ValueError(f"decodes to {size} bytes or more, beyond {limit}")
