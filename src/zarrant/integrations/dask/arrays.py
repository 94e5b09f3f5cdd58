"""Arrays of Dask from Zarrant's, and back.

In: an open array, or its address. Out of `from_zarrant`: a lazy array, whose blocks are whole stored objects. Out of `store`:
nothing, or a Delayed; blocks are stored as they are computed, each by itself, without a lock of Dask: Zarrant keeps writers of
one stored object apart, on threads, processes and machines.

`store` first joins and cuts blocks at the borders of stored objects, where a block stays small: then each object is encoded and
written once, and nothing is read. A task that runs twice (a worker was killed) stores the same values again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import dask
import dask.array as da
import numpy as np

from zarrant.errors import OptionError, ShapeError
from zarrant.geometry.box import ArraySubset, as_subset
from zarrant.nodes.array import Array
from zarrant.nodes.open import Mode, open_array

MAX_BLOCK_BYTES = 512 << 20
"""A block that is joined to fill stored objects has at most as many bytes: several of them are in memory of a worker, which has
a few GiB for each thread. Dask itself makes blocks of 128 MiB."""


def from_zarrant(
    a: Any,
    chunks: Any = "shards",
    *,
    name: Any = None,
    inline_array: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Any:
    """A lazy array of Dask that reads a stored array.

    Args:
        a: an array, or its address (then it is opened for reading).
        chunks: the blocks. "shards" makes one of each stored object: of a shard, or of a chunk where there are no shards.
            "chunks" makes one of what can be read alone; "auto" several stored objects, as many as Dask likes (128 MiB): the
            best choice for many small ones. Else what Dask takes as chunks: a shape, or lengths for each dimension.
        name: of the blocks, as in `dask.array.from_array`. A cluster that has a result under a name does not compute it again.
            So by default each call makes new names, and reads what is stored then; but of an array that was opened with
            `mode="r"`, which says that its elements stay, names tell what is stored where: they are the same in every call and
            process.
        inline_array: as in `dask.array.from_array`.
        storage_options: options of the store at an address, as `zarrant.open_array` takes them.

    Returns:
        A `dask.array.Array`.

    Raises:
        OptionError: `chunks` is another word; a storage option is unknown, or given with an open array.
        NodeNotFoundError: there is no array at the address.

    >>> import zarrant
    >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 8))
    >>> from_zarrant(a).chunks
    ((4, 4), (8,))
    """
    given, array = isinstance(a, Array), _opened(a, "r", storage_options)
    if name is None and not given:
        name = False  # nobody said that the elements stay: a new name, as of an array that may be written to
    blocks = _blocks_of(array, chunks)
    meta = np.empty((0,) * array.ndim, array.dtype)
    return da.from_array(array, chunks=blocks, name=name, asarray=False, meta=meta, inline_array=inline_array)


def _opened(a: Any, mode: Mode, storage_options: Mapping[str, Any] | None) -> Array[Any]:
    if not isinstance(a, Array):
        return open_array(a, mode=mode, storage_options=storage_options)
    if storage_options is not None:
        raise OptionError("the array is open already", field="storage_options", expected="an address", got=a)
    return a


def _blocks_of(array: Array[Any], chunks: Any) -> Any:
    if not isinstance(chunks, str):
        return chunks
    if chunks == "shards":
        return _lengths(array.write_chunk_sizes)
    if chunks == "chunks":
        return _lengths(array.read_chunk_sizes)
    if chunks == "auto":
        previous = _lengths(array.write_chunk_sizes)
        return da.core.normalize_chunks("auto", array.shape, dtype=array.dtype, previous_chunks=previous)
    raise OptionError("not a way to make blocks", field="chunks", expected="shards | chunks | auto | lengths", got=chunks)


def _lengths(sizes: Iterable[tuple[int, ...]]) -> tuple[tuple[int, ...], ...]:
    """Lengths of blocks as Dask takes them, which has one of length 0 where a dimension has no elements."""
    return tuple(each or (0,) for each in sizes)


def store(
    x: Any,
    a: Any,
    region: Any = None,
    compute: bool = True,
    *,
    align: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Any:
    """Store an array of Dask in a stored array, in parallel and without a lock.

    Args:
        x: a `dask.array.Array`.
        a: an array, or its address (then it is opened for reading and writing).
        region: where `x` goes: `np.s_[0:2, 3:]`, or an `ArraySubset`; None: all of `a`.
        compute: False returns a Delayed, which stores when it is computed.
        align: join and cut blocks at the borders of stored objects, so that each is written once, where blocks stay small.
            False stores the blocks as they are: right too, but an object that lies in several blocks is written as often.
        storage_options: options of the store at an address, as `zarrant.open_array` takes them.
        kwargs: passed to `dask.compute`, as `scheduler="processes"`.

    Returns:
        None, or a Delayed, whose value is None.

    Raises:
        OptionError: a storage option is unknown, or given with an open array.
        ShapeError: `x` has another shape than the region, or lengths that Dask does not know.
        BoundsError: the region reaches beyond the array.
        PartialFailure: a block could not be stored. Those that were stored stay.

    >>> import zarrant
    >>> a = zarrant.create_array({}, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(4, 8))
    >>> store(da.ones((8, 8), dtype="int32", chunks=3), a)
    >>> int(a[...].sum())
    64
    """
    array = _opened(a, "r+", storage_options)
    subset = as_subset(... if region is None else region, array.shape)
    if tuple(x.shape) != subset.shape:
        raise ShapeError("values of another shape than their region", path=array.path, expected=subset.shape, got=x.shape)
    stored = stored_blocks(x, array, subset, align)
    if compute:
        dask.compute(stored, **kwargs)
        return None
    return dask.delayed(ended, pure=False)(stored)


def stored_blocks(x: Any, array: Array[Any], subset: ArraySubset, align: bool = True) -> Any:
    """An array of Dask that stores `x` when it is computed: the bytes of each block."""
    if align:
        x = _aligned(x, array, subset.start)
    ones = tuple((1,) * n for n in x.numblocks)
    meta = np.empty((0,) * x.ndim, "int64")
    return x.map_blocks(_store_block, array, subset.start, dtype="int64", chunks=ones, meta=meta)


def _store_block(
    block: Any, array: Array[Any], start: Sequence[int], block_info: Any = None
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Store one block; what goes back through the cluster is the number of its bytes."""
    spans = block_info[0]["array-location"]
    selection = tuple(slice(first + low, first + high) for first, (low, high) in zip(start, spans, strict=True))
    array.store_array_subset(selection, block)
    return np.full((1,) * array.ndim, block.nbytes, "int64")


def ended(stored: Any) -> None:
    """The value of what stores."""


def _aligned(x: Any, array: Array[Any], start: Sequence[int]) -> Any:
    """The same values in blocks that begin and end at borders of stored objects; as they are where these would be too large."""
    lengths = [
        aligned_lengths(blocks, sizes, first) for blocks, sizes, first in zip(x.chunks, array.write_chunk_sizes, start, strict=True)
    ]
    largest = math.prod(max(each, default=0) for each in lengths) * x.dtype.itemsize
    if largest > max(MAX_BLOCK_BYTES, math.prod(max(each, default=0) for each in x.chunks) * x.dtype.itemsize):
        return x
    # Peer-to-peer shuffling, the other method, begins anew when a worker is lost.
    return x.rechunk(tuple(lengths), method="tasks")


def aligned_lengths(blocks: Sequence[int], sizes: Sequence[int], start: int) -> tuple[int, ...]:
    """Lengths of blocks like `blocks`, along one dimension, but with borders only where stored objects have some.

    `sizes` are the lengths of the stored objects of all of the array; the first block begins at `start`. Each border goes to the
    nearest one of an object; blocks in between are joined. Two blocks stay two only where an object's border is between.

    >>> aligned_lengths((3, 3, 3, 3), (4, 4, 4), 0)
    (4, 4, 4)
    >>> aligned_lengths((250, 250, 100), (100,) * 6, 0)
    (200, 300, 100)
    >>> aligned_lengths((10, 10), (8, 8, 8), 2)
    (6, 14)
    """
    stop = start + sum(blocks)
    borders = np.fromiter(accumulate(sizes, initial=0), "int64")
    inside = borders[(borders > start) & (borders < stop)]
    if not len(inside):
        return (stop - start,)
    wanted = np.fromiter(accumulate(blocks, initial=start), "int64")[1:-1]
    right = np.searchsorted(inside, wanted).clip(0, len(inside) - 1)
    left = (right - 1).clip(0)
    nearest = np.where(wanted - inside[left] <= inside[right] - wanted, inside[left], inside[right])
    return tuple(int(length) for length in np.diff([start, *sorted({int(each) for each in nearest}), stop]))
