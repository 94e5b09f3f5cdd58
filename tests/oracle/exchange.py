"""One exchange of an array between the library under test and a peer, and tables of what a peer cannot do.

`exchange` ends silently where every element arrived, else with the peer's own exception or `Differs`. `check` holds an
exchange against a table: a case that a row covers must end as the row says, every other one must succeed. So a row that is
too wide fails, and so does one that a new release of the peer has made wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cases import Case

import zarrant
from peers import Peer
from zarrant.metadata.v3 import dump, parse_array

Array = np.ndarray[Any, np.dtype[Any]]


class Differs(AssertionError):
    """Elements that are not those that were written; the message says who read whose."""


class Cannot(NamedTuple):
    """Cases a peer cannot take part in: the reason in words, and how its attempt ends."""

    reason: str
    covers: Callable[[Case], bool]
    error: type[Exception] | tuple[type[Exception], ...]
    message: str
    until: tuple[int, int] | None = None
    """The first release of the peer that can."""


def check(peer: Peer, table: Iterable[Cannot], case: Case, place: Path) -> None:
    """The exchange succeeds, or ends as the first row says that covers the case."""
    row = next((row for row in table if row.covers(case)), None)
    if row is None:
        return exchange(peer, case, place)
    try:
        exchange(peer, case, place)
    except Exception as error:
        if isinstance(error, row.error) and re.search(row.message, f"{error} {error.__cause__}", re.DOTALL):
            return None
        raise
    raise AssertionError(f"{peer.name} can do this now, the row is outdated: {row.reason}")


def exchange(peer: Peer, case: Case, place: Path) -> None:
    """Write here and read there, write there and read here, then update a part of each array from the other side."""
    ours, theirs = place / "ours", place / "theirs"
    ours.mkdir(parents=True)
    (ours / "zarr.json").write_bytes(dump(parse_array(json.dumps(case.document).encode())))
    array = zarrant.open_array(ours, mode="r+")
    array[...] = case.source_values
    expect(case, case.values, array[...], "we read ours")
    expect(case, case.values, peer.read(ours, case.numpy), f"{peer.name} reads ours")
    peer.create(theirs, case.document)
    whole = tuple(slice(0, extent) for extent in case.grid.shape)
    peer.write(theirs, whole, case.source_values)
    array = zarrant.open_array(theirs, mode="r+")
    expect(case, case.values, array[...], f"we read {peer.name}'s")
    if case.update is None:
        return
    region, values = case.update
    updated = case.values.copy()
    updated[region] = values
    array[region or ...] = values
    expect(case, updated, peer.read(theirs, case.numpy), f"{peer.name} reads its array, updated by us")
    peer.write(ours, region, values)
    expect(case, updated, zarrant.open_array(ours, mode="r")[...], f"we read our array, updated by {peer.name}")
    expect(case, updated, peer.read(ours, case.numpy), f"{peer.name} reads our array, updated by itself")


def expect(case: Case, expected: Array, got: Any, who: str) -> None:
    """Equal shape, type and bits."""
    got = np.asarray(got)
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise Differs(f"{who}: {got.dtype}{got.shape}, expected {expected.dtype}{expected.shape} ({case})")
    size = expected.dtype.itemsize
    wrong = _bits(got, size) != _bits(expected, size)
    if wrong.any():
        raise Differs(f"{who}: {np.count_nonzero(wrong)} bytes differ, first at {np.argwhere(wrong)[0].tolist()} ({case})")


def _bits(values: Array, size: int) -> Array:
    content = np.frombuffer(values.tobytes(), np.uint8)
    return content.reshape(*values.shape, size)
