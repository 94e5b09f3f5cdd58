"""Which chunks of a block are stored, where asking for each of very many would take long.

In: an array and a block of its chunk grid. Out: the indices of chunks, as columns. A chunk that is not among them was absent at
one moment of the operation. So to erase it is done with that: it is as if it had been erased in this moment, and who stores it
afterwards stores it after it was erased. An ordinary listing does not show that. A writer that replaces a chunk, and puts into
the new object what it has read of the old one, may hide it from a scan of the directory; erasing it would have waited for the
lock of this writer. Therefore the store is asked for a listing that misses no such chunk (`requests.ListStored`), and where it
is not sure of that, each chunk is tried.
"""

from __future__ import annotations

import numpy as np

from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import IntArray, block_indices
from zarrant.geometry.keys import KeyEncoding
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import Current
from zarrant.requests import Op, list_stored, unchanged

LIST_FROM = 1_000
"""With fewer chunks each of them is tried, which takes 20 to 40 µs; listing takes 2 µs for each chunk that is stored."""
LISTED_PER_CHUNK = 8
"""So many stored objects are listed at most, for each chunk of the block: with more, trying each chunk is faster."""


def stored_chunks(array: BoundArray, block: ArraySubset) -> Op[IntArray]:
    """The indices (n, d) of a block of chunks without those that are surely absent; an error where the array is gone."""
    found = yield from listed_chunks(array, block)
    if found is None:
        return block_indices(block)
    if not len(found):
        yield from require_array(array)
    return found


def listed_chunks(array: BoundArray, block: ArraySubset) -> Op[IntArray | None]:
    """Those of a block of many chunks that a listing shows; None where they are few, too many are listed, or it is not certain."""
    if block.size <= LIST_FROM:
        return None
    keys = yield from list_stored(_prefix(array, block), LISTED_PER_CHUNK * block.size)
    return None if keys is None else chunks_of(array, keys, block)


def require_array(array: BoundArray) -> Op[None]:
    """An error where the array of a handle is gone: nothing is written that would find that out."""
    node = Current(array)
    condition = node.condition
    if condition is not None and not (yield from unchanged(condition.key, condition.version)):
        yield from node.look_again()


def chunks_of(array: BoundArray, keys: list[str], block: ArraySubset) -> IntArray:
    """The chunks (n, d) of a block that have these keys; other keys are passed over."""
    skip, parse, ndim = len(array.key_of("")), array.key_encoding.parse, block.ndim
    chunks = [chunk for key in keys if (chunk := parse(key[skip:], ndim)) is not None]
    found = np.array(chunks, np.int64).reshape(len(chunks), ndim)
    inside = (found >= np.array(block.start, np.int64)) & (found < np.array(block.stop, np.int64))
    return found[inside.all(axis=1)]


def _prefix(array: BoundArray, block: ArraySubset) -> str:
    """What the keys of all chunks of a block begin with, up to a "/"."""
    encoding = array.key_encoding
    if not isinstance(encoding, KeyEncoding) or encoding.separator != "/":
        return array.key_of("")
    equal = 0
    while equal < block.ndim - 1 and block.shape[equal] == 1:
        equal += 1
    parts = encoding.key(block.start).split("/")[: equal + (encoding.name == "default")]
    return array.key_of("".join([f"{part}/" for part in parts]))
