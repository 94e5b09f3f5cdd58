"""Stored text and bytes that are wrong: counts and lengths that lie, offsets past the end, what is no text, huge claims."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import ChunkError, PartialFailure
from zarrant.kernels.checksum import crc32c

S = np.s_
N = 4
WORDS = ["a", "ñandú", "", "🎈"]
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunk": {"chunks": (N,)},
    "V2 chunk": {"chunks": (N,), "zarr_format": 2},
    "shard": {"chunks": (N,), "shards": (N,)},
}


def vlen(*elements: bytes, count: int | None = None, lengths: tuple[int, ...] = ()) -> bytes:
    """The layout of vlen-utf8 and vlen-bytes, with a count and lengths that may lie."""
    parts = [struct.pack("<I", len(elements) if count is None else count)]
    for element, length in zip(elements, lengths or map(len, elements), strict=True):
        parts += [struct.pack("<I", length), element]
    return b"".join(parts)


FOUR = (b"a", b"bc", b"", b"d")
BAD: dict[str, tuple[bytes, str]] = {  # stored bytes, and what the error says
    "nothing": (b"", "too few"),
    "half a count": (b"\4\0", "too few"),
    "a count alone": (vlen(count=N), "too few"),
    "one element less": (vlen(*FOUR[:2], b"xxxxxxxxx"), "holds 3 elements, expected 4"),
    "one element more": (vlen(*FOUR, b""), "holds 5 elements, expected 4"),
    "a count of zero": (vlen(*FOUR, count=0), "holds 0 elements, expected 4"),
    "the largest count": (vlen(*FOUR, count=2**32 - 1), "holds 4294967295 elements, expected 4"),
    "a count in the other byte order": (struct.pack(">I", N) + vlen(*FOUR)[4:], "holds 67108864 elements"),
    "a length past the end": (vlen(*FOUR, lengths=(1, 2, 0, 2)), "element 3 of 2 bytes reaches over the end, 1 bytes on"),
    "the largest length": (vlen(*FOUR, lengths=(2**32 - 1, 2, 0, 1)), "element 0 of 4294967295 bytes reaches over the end"),
    "a length that hides the next": (vlen(*FOUR, lengths=(1, 9, 0, 1)), "ends before the length of element 2"),
    "bytes that follow": (vlen(*FOUR) + b"\0", "1 bytes follow"),
    "cut in an element": (vlen(*FOUR)[:-1], "reaches over the end"),
}
NO_TEXT: dict[str, bytes] = {
    "a byte that is in no text": b"\xff",
    "half a character": "ñ".encode()[:1],
    "a surrogate": b"\xed\xa0\x80",
    "a longer form than needed": b"\xc0\x80",
    "beyond the last character": b"\xf4\x90\x80\x80",
}


def stored(kind: str, layout: str, data: bytes) -> tuple[dict[str, bytes], Any]:
    """An array of two chunks, of which the first is stored as `data`."""
    place: dict[str, bytes] = {}
    array = zarrant.create_array(place, shape=(2 * N,), dtype=kind, compressors=None, **LAYOUTS[layout])
    words: Any = WORDS if kind == "string" else [word.encode() for word in WORDS]
    array[N:] = words
    if layout == "shard":
        index = struct.pack("<QQ", 0, len(data))
        data += index + struct.pack("<I", crc32c(index))
    place["0" if layout == "V2 chunk" else "c/0"] = data
    return place, array


def refused(array: Any, message: str, kind: str) -> None:
    """Reading and changing the chunk is a ChunkError that names it and the codec; the other chunk stays readable."""
    for attempt in (
        lambda: array[:N],
        lambda: array[1],
        lambda: array.retrieve_chunk((0,)),
        lambda: array.__setitem__(1, array[N]),
    ):
        with pytest.raises(ChunkError, match=message) as caught:
            attempt()
        error: Any = caught.value
        if isinstance(error, PartialFailure):
            (error,) = error.errors.values()
        assert error.codec == {"string": "vlen-utf8", "bytes": "vlen-bytes"}[kind]
        assert error.key in ("c/0", "0")
    assert len(array[N:]) == N
    array[:N] = array[N:]  # a whole chunk is written with no look at what is there
    assert array[:N].tolist() == array[N:].tolist()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["string", "bytes"])
@pytest.mark.parametrize("name", BAD)
def test_payloads_that_lie(name: str, kind: str, layout: str) -> None:
    data, message = BAD[name]
    if layout == "shard" and not data:
        pytest.skip("a subchunk of no bytes is for the index, not for the codec")
    refused(stored(kind, layout, data)[1], message, kind)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NO_TEXT)
def test_what_is_no_text(name: str, layout: str) -> None:
    data = vlen(b"a", NO_TEXT[name], b"", b"")
    refused(stored("string", layout, data)[1], "decode|UTF-8|utf-8", "string")
    assert stored("bytes", layout, data)[1][1] == NO_TEXT[name]


def test_claims_take_no_memory() -> None:
    """A chunk of many elements and a payload of a few bytes: no more is allocated than the bytes explain."""
    place: dict[str, bytes] = {}
    n = 1 << 20
    array: Any = zarrant.create_array(place, shape=(n,), dtype="string", chunks=(n,), compressors=None)
    place["c/0"] = vlen(b"a", count=n, lengths=(2**32 - 1,))
    out = np.empty(n, array.dtype)
    tracemalloc.start()
    with pytest.raises(ChunkError, match="too few"):
        array.retrieve_array_subset(S[:], out=out)
    assert tracemalloc.get_traced_memory()[1] < 2 * out.nbytes + (1 << 20)
    tracemalloc.stop()
