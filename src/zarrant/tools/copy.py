"""Copy an array: to other chunks, shards and codecs, from and to files that are not Zarr.

In: two addresses and the properties of the new array. Out: a dict that says what was written or, with `dry_run`, what would be.
The work goes block by block along the stored objects of the target, each written once and never read, while the next block is
read ahead: at most two blocks of `BLOCK_BYTES` (or of one stored object, where that is larger) are in memory. A copy that fails
or is interrupted removes what it wrote; what it may replace is decided in `targets`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from zarrant.codecs import Blosc
from zarrant.codecs.chain import parse_chain
from zarrant.dtypes.fixed import from_numpy
from zarrant.errors import DataTypeError, NodeNotFoundError, OptionError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.grid import ChunkGrid
from zarrant.geometry.layouts import auto_chunks
from zarrant.nodes.array import Array
from zarrant.nodes.open import create_array, open_array
from zarrant.progress import Meter, Report
from zarrant.run.threads import Threads
from zarrant.stores.resolve import ARCHIVES
from zarrant.tools.convert import Source, Values, is_foreign, open_foreign, suffix_of
from zarrant.tools.describe import array_facts, local_path, stored
from zarrant.tools.targets import ArrayTarget, NpyFile, Options, Target, check_apart, check_npy, check_replaceable

BLOCK_BYTES = 64 << 20
"""Bytes of values in one block: two shards of 256³ at 16 bits."""

KEEP = "keep"
"""Stands for what the source has."""


def copy(
    source: str,
    target: str,
    *,
    chunks: Any = KEEP,
    shards: Any = KEEP,
    compressors: Any = KEEP,
    dtype: Any = None,
    overwrite: bool = False,
    dry_run: bool = False,
    report: Report | None = None,
    source_options: Options = None,
    storage_options: Options = None,
) -> dict[str, Any]:
    """Copy `source` to `target` and say what was written.

    Args:
        source: an array, or a file ending with .npy, .nii, .nii.gz, .tif, .tiff, .png, .jpg, .jpeg or .bmp.
        target: where an array is to be, or a file ending with .npy.
        chunks: their shape; "keep" takes the source's, or 1 MiB where it has none. shards: likewise; None for none.
        compressors: codecs as in `create_array`; "keep" takes the source's filters, serializer and compressors.
        dtype: another data type, to which every value of the source's can be cast without loss.
        overwrite: replace the array, or the file, that is there.
        report: is called with a `Progress` after each block.
        source_options: options of the store of the source. storage_options: those of the target.

    Raises NodeNotFoundError, NodeExistsError, OptionError, ShapeError, DataTypeError before anything is written.
    """
    check_apart(source, target, source_options, storage_options)
    with open_source(source, source_options) as opened:
        wanted = from_numpy(dtype).numpy if dtype is not None else opened.dtype
        if not np.can_cast(opened.dtype, wanted, "safe"):
            raise DataTypeError(
                "a copy keeps every value",
                field="dtype",
                expected=f"a type that holds all of {opened.dtype}",
                got=str(wanted),
            )
        options = array_options(opened, wanted, chunks, shards, compressors)
        _check_target(target, wanted, options, overwrite)
        facts = _plan(opened, source, target, wanted, options, dry_run)
        if not dry_run:
            facts |= _perform(
                opened, target, wanted, options | {"overwrite": overwrite, "storage_options": storage_options}, report
            )
    return facts


@contextmanager
def open_source(address: str, storage_options: Options = None) -> Iterator[Source]:
    """The source at an address, while the context lasts."""
    path = local_path(address)
    if path is not None and is_foreign(path) and not path.is_dir():
        with open_foreign(path) as opened:
            yield opened
        return
    if path is not None and path.is_file() and path.suffix.lower() not in ARCHIVES:
        raise OptionError(
            "not a kind of file that is read",
            field="source",
            expected="an array, .zip, .ozx, .npy, .nii, .nii.gz, .tif, .png or .jpg",
            got=str(path),
        )
    if path is not None and not path.exists():
        raise NodeNotFoundError("nothing to copy here", path=str(path))
    array = open_array(address, mode="r", storage_options=storage_options)
    yield Source("array", array.shape, array.dtype, array.retrieve_array_subset, array.write_unit, _kept_options(array))


def _kept_options(array: Array[Any]) -> dict[str, Any]:
    """How a new array would be created like this one; codecs that are not of the plain form are left out."""
    options: dict[str, Any] = {
        "dtype": array.metadata.data_type.to_json(),
        "chunks": array.chunks,
        "shards": array.shards,
        "fill_value": array.fill_value,
        "attributes": array.metadata.attributes,
        "chunk_key_encoding": array.metadata.chunk_key_encoding.to_json(),
        "dimension_names": array.dimension_names,
    }
    chain = parse_chain([codec.to_json() for codec in array.metadata.codecs], "$.codecs")
    if chain.subchunk_codecs is not None and not (chain.array_to_array or chain.bytes_to_bytes):
        chain = chain.subchunk_codecs
    if chain.subchunk_codecs is not None:
        return options
    codecs = {
        "filters": list(chain.array_to_array),
        "serializer": chain.array_to_bytes,
        "compressors": list(chain.bytes_to_bytes),
    }
    return options | codecs


def array_options(source: Source, dtype: np.dtype[Any], chunks: Any, shards: Any, compressors: Any) -> dict[str, Any]:
    """The keywords of `create_array`: the layout of the source, changed as the caller asks."""
    options = dict(source.options)
    given = {"chunks": chunks, "shards": shards, "compressors": compressors}
    options |= {name: value for name, value in given.items() if not (isinstance(value, str) and value == KEEP)}
    if source.kind == "array" and "compressors" not in options:
        raise OptionError(
            "the source's codecs cannot be kept: nested shards, or codecs around shards",
            field="compressors",
            got=KEEP,
            hint="Name a compressor",
        )
    if dtype != source.dtype:
        options.pop("dtype", None)
        options.pop("serializer", None)  # it may be bound to the width of elements, as shuffles are
        if "fill_value" in options:
            options["fill_value"] = np.asarray(options["fill_value"]).astype(dtype)[()]
        if isinstance(options.get("compressors"), list):
            options["compressors"] = [replace(c, typesize=None) if isinstance(c, Blosc) else c for c in options["compressors"]]
    return {"dtype": dtype, **options, "shape": source.shape}


def _check_target(target: str, dtype: np.dtype[Any], options: Mapping[str, Any], overwrite: bool) -> None:
    """Every reason not to write, found before anything is written."""
    path = local_path(target)
    if path is None:
        create_array({}, **options)
        return
    if suffix_of(path) == ".npy":
        check_npy(path, dtype, overwrite)
        return
    if is_foreign(path):
        raise OptionError(
            "not a kind of file that is written",
            field="target",
            expected="an array, or a name ending with .npy",
            got=str(path),
        )
    create_array({}, **options)
    check_replaceable(path, overwrite)


def _plan(
    source: Source, address: str, target: str, dtype: np.dtype[Any], options: Mapping[str, Any], dry_run: bool
) -> dict[str, Any]:
    facts = array_facts(create_array({}, **options))
    kept = {
        key: facts[key]
        for key in ("data_type", "shape", "bytes", "chunks", "shards", "stored_objects", "codecs", "dimension_names")
    }
    if _is_npy(target):
        kept = {
            "data_type": str(dtype),
            "shape": list(source.shape),
            "bytes": math.prod(source.shape) * dtype.itemsize,
            "stored_objects": 1,
        }
    about = {
        "address": str(address),
        "kind": source.kind,
        "data_type": str(source.dtype),
        "shape": list(source.shape),
        "bytes": source.nbytes,
    }
    kind = "npy" if _is_npy(target) else "array"
    return {"dry_run": dry_run, "source": about, "target": {"address": str(target), "kind": kind, **kept}}


def _is_npy(target: str) -> bool:
    path = local_path(target)
    return path is not None and suffix_of(path) == ".npy"


def _perform(
    source: Source, target: str, dtype: np.dtype[Any], options: Mapping[str, Any], report: Report | None
) -> dict[str, Any]:
    path = local_path(target)
    writer: Target
    if path is not None and _is_npy(target):
        unit = source.unit or auto_chunks(source.shape, dtype.itemsize)
        writer = NpyFile(path, source.shape, dtype, options["overwrite"])
    else:
        array: Array[Any] = create_array(target, **options)
        unit, writer = array.write_unit, ArrayTarget(array)
    grid = ChunkGrid.regular(source.shape, unit)
    meter = Meter(math.prod(source.shape) * dtype.itemsize, grid.n_chunks, report)
    try:
        _fill(source, writer, dtype, grid, meter)
        writer.finish()
    except BaseException:  # Ctrl-C too
        writer.abandon()
        raise
    done = meter.progress
    files: int | None
    nbytes: int | None
    if path is None:
        files, nbytes = None, None  # to count them would be a listing with a size of each object
    else:
        files, nbytes = (1, path.stat().st_size) if path.is_file() else stored(path)
    speed = {"seconds": round(done.seconds, 3), "megabytes_per_second": round(done.megabytes_per_second, 1)}
    return {
        **speed,
        "stored_files": files,
        "stored_bytes": nbytes,
        "ratio": round(done.bytes_total / nbytes, 2) if nbytes else None,
    }


def _fill(source: Source, writer: Target, dtype: np.dtype[Any], grid: ChunkGrid, meter: Meter) -> None:
    """Every block from source to target; one thread reads ahead by one block."""
    todo = blocks(grid, dtype.itemsize)
    with Threads(1, "zarrant-copy") as ahead:

        def start() -> tuple[int, ArraySubset, Future[Values]] | None:
            block = next(todo, None)
            return None if block is None else (*block, ahead.submit(source.read, block[1]))

        current = start()
        while current is not None:
            chunks, box, reading = current
            values = reading.result()
            current = start()
            writer.write(box, values.astype(dtype, copy=False))
            meter.add(box.size * dtype.itemsize, chunks)


def blocks(grid: ChunkGrid, itemsize: int, limit: int = BLOCK_BYTES) -> Iterator[tuple[int, ArraySubset]]:
    """(number of chunks, their elements) for blocks of whole chunks that cover the grid, in C order.

    A block has at most `limit` bytes, or it is one chunk.

    >>> [box.slices[0] for _, box in blocks(ChunkGrid.regular((10,), (2,)), itemsize=1, limit=4)]
    [slice(0, 4, None), slice(4, 8, None), slice(8, 10, None)]
    """
    nbytes = itemsize * math.prod(dimension.uniform or 1 for dimension in grid.dimensions)
    counts = [1] * grid.ndim
    for axis in reversed(range(grid.ndim)):
        counts[axis] = max(1, min(grid.grid_shape[axis], limit // (nbytes * math.prod(counts))))
        if counts[axis] < grid.grid_shape[axis]:
            break
    for first in product(*(range(0, n, count) for n, count in zip(grid.grid_shape, counts, strict=True))):
        last = [min(start + count, n) - 1 for start, count, n in zip(first, counts, grid.grid_shape, strict=True)]
        low, high = grid.in_bounds(first).start, grid.in_bounds(last).stop
        box = ArraySubset(low, tuple(stop - start for start, stop in zip(low, high, strict=True)))
        yield math.prod(b - a + 1 for a, b in zip(first, last, strict=True)), box
