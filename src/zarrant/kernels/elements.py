"""Elements of variable size, each after its length: the twins of `native/elements.cpp`.

In comes an array of texts (NumPy's StringDType, or objects of `str`) or of runs of bytes (objects of `bytes`), of any shape and
strides; out go bytes, and back. The layout is the one of numcodecs: the number of elements, then for each in C order its length in
bytes and its bytes; numbers are unsigned integers of 32 bits, little-endian. Nothing that is read is believed: the count must be
that of the array, no length may reach over the end, nothing may follow, and text must be UTF-8. So no more memory is asked for
than the bytes that are there explain, and nothing is stored in an array unless all elements can be.

Sources: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/vlen-utf8 and .../vlen-bytes
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = struct.Struct("<I")
Kind = type[str] | type[bytes]


def encode_elements(array: NDArray[Any], kind: Kind) -> bytes:
    """Return the elements of an array in the layout above.

    TypeError for one that is not of the kind, ValueError for one that is too large, or that has no UTF-8 (half a character).
    """
    elements = array.reshape(-1).tolist()
    parts: list[bytes] = [LENGTH.pack(len(elements))]
    for i, element in enumerate(elements):
        if not isinstance(element, kind):
            raise TypeError(f"element {i} is {'missing' if array.dtype.kind == 'T' else type(element).__name__}")
        run = element.encode() if isinstance(element, str) else element
        if len(run) >= 2**32:
            raise ValueError(f"element {i} is too large: {len(run)} bytes")
        parts += (LENGTH.pack(len(run)), run)
    return b"".join(parts)


def decode_elements(data: Any, out: NDArray[Any], kind: Kind) -> None:
    """Store the elements of bytes in the layout above in an array; ValueError where the bytes are not exactly these."""
    elements = split_elements(bytes(data), out.size)
    found = np.empty(out.size, np.object_)
    found[:] = elements if kind is bytes else [_text(i, element) for i, element in enumerate(elements)]
    out[...] = found.reshape(out.shape)


def _text(i: int, element: bytes) -> str:
    try:
        return element.decode()
    except UnicodeDecodeError as error:
        error.reason = f"{error.reason} (element {i})"
        raise


def split_elements(whole: bytes, n: int) -> list[bytes]:
    """Return the `n` elements of bytes in the layout above; ValueError where the bytes are not exactly these."""
    if len(whole) < LENGTH.size + n * LENGTH.size:
        raise ValueError(f"{len(whole)} bytes are too few for the lengths of {n} elements")
    # "each chunk is prefixed with a 32-bit little-endian unsigned integer (u32le) that specifies the number of elements"
    (count,) = LENGTH.unpack_from(whole)
    if count != n:
        raise ValueError(f"holds {count} elements, expected {n}")
    at, elements = LENGTH.size, []
    for i in range(n):
        if at + LENGTH.size > len(whole):
            raise ValueError(f"ends before the length of element {i}")
        (length,) = LENGTH.unpack_from(whole, at)
        at += LENGTH.size
        if length > len(whole) - at:
            raise ValueError(f"element {i} of {length} bytes reaches over the end, {len(whole) - at} bytes on")
        elements.append(whole[at : at + length])
        at += length
    if at != len(whole):
        raise ValueError(f"{len(whole) - at} bytes follow after the last element")
    return elements
