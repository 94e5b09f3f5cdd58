"""The safety limits: one table, for what is read and for what is written alike.

A limit bounds what a stranger's bytes can make this library do, and so what may be written at all: whatever is acknowledged can
be opened again. Each is far beyond what anyone stores, and each violation is a `LimitError` with field, value and limit.
Limits of a library that is called stand next to the code that calls it (`dtypes.fixed`, `kernels.program`).
"""

from __future__ import annotations

from dataclasses import dataclass

from zarrant.errors import LimitError


@dataclass(frozen=True)
class Limits:
    """What a metadata document may ask for at most."""

    document: int = 16 << 20
    """Bytes of one `zarr.json`. Consolidated metadata take about 1 KiB a node."""
    containers: int = 1 << 20
    """Lists and objects in one document: one costs 20 times as much memory as the two bytes that it takes in JSON."""
    depth: int = 64
    """Lists and objects inside of each other."""
    digits: int = 4300
    """Digits of an integer: CPython's own limit; the cost of conversion grows with their square."""
    rank: int = 62
    """Dimensions of an array. NumPy has 64 (NPY_MAXDIMS); a batch of chunks takes one more, the index of a shard another."""
    chain: int = 16
    """Codecs in one chain."""
    nesting: int = 4
    """Shards inside of each other."""
    subchunks: int = 2**24
    """Subchunks of one shard. Its index has 16 bytes for each, and is read and written whole: 256 MiB."""
    element: int = 2**24
    """Bytes of one element: its fill value is made where an array is opened, however short the document that asks for it."""
    decoded: int = 2**31
    """Bytes of one decoded chunk, or of one decoded shard where a codec is applied to the whole of it."""


LIMITS = Limits()


def require(got: int, limit: int, message: str, field: str, path: str, hint: str | None = None) -> None:
    """LimitError where `got` is beyond `limit`."""
    if got > limit:
        raise LimitError(message, path=path, field=field, got=got, limit=limit, hint=hint)


def human(nbytes: float) -> str:
    """Bytes in the unit that reads best.

    >>> human(1536)
    '1.5 KiB'
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if nbytes < 1024:
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1024
    return f"{nbytes:.1f} TiB"
