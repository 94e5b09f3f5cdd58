"""`python -m benchmarks.small_files`: an array of very many small chunks, written, rewritten and read with one call each.

In come how many chunks of how many bytes; out goes a table beside TensorStore. One library's chunks are
read by the other one after each write. Neither syncs files.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import zarrant
from benchmarks.arguments import positive, program
from benchmarks.pairs import Found, Pair, compare, table


def open_tensorstore(path: Path) -> Any:
    """An array, read and written without a cache or a sync."""
    import tensorstore

    context = tensorstore.Context({"file_io_sync": False, "cache_pool": {"total_bytes_limit": 0}})
    return tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}}, open=True, context=context
    ).result()


def make(path: Path, chunks: int, nbytes: int) -> None:
    """An empty array of raw bytes."""
    zarrant.create_array(path, shape=(chunks * nbytes,), chunks=(nbytes,), dtype="uint8", compressors=None, overwrite=True)


def measure(folder: Path, chunks: int, nbytes: int, rounds: int) -> list[Found]:
    """Times of writes into an empty array, of writes over what is there, and of reads."""
    data = np.random.default_rng(0).integers(1, 255, chunks * nbytes, "uint8")
    ours, theirs = folder / "zarrant", folder / "tensorstore"
    handles: dict[str, Any] = {}

    def empty() -> None:
        for path in (ours, theirs):
            shutil.rmtree(path, ignore_errors=True)
            make(path, chunks, nbytes)
        handles.update(ours=zarrant.open_array(ours), theirs=open_tensorstore(theirs))

    def change() -> None:
        data[:: nbytes // 2] ^= 255

    def write() -> None:
        handles["ours"][...] = data

    def write_theirs() -> None:
        handles["theirs"][...].write(data).result()

    def written(_: Any) -> bool:
        return bool(np.array_equal(open_tensorstore(ours)[...].read().result(), data))

    def written_theirs(_: Any) -> bool:
        return bool(np.array_equal(zarrant.open_array(theirs)[...], data))

    def equal(found: Any) -> bool:
        return bool(np.array_equal(found, data))

    name = f"{chunks} chunks of {nbytes} B"
    pairs = [
        Pair(f"{name}: write", write, write_theirs, written, written_theirs, empty),
        Pair(f"{name}: rewrite", write, write_theirs, written, written_theirs, change),
        Pair(f"{name}: read", lambda: handles["ours"][...], lambda: handles["theirs"][...].read().result(), equal, equal),
    ]
    return compare(pairs, rounds, "TensorStore")


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print, and remove what was made."""
    parser = program("benchmarks.small_files", "Very many small chunks.", rounds=5)
    parser.add_argument("--chunks", type=positive, nargs="*", default=[20_000, 100_000], help="(default %(default)s)")
    parser.add_argument("--nbytes", type=positive, nargs="*", default=[1000, 4096], help="of each (default %(default)s)")
    given = parser.parse_args(args)
    found = []
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        for chunks, nbytes in zip(given.chunks, given.nbytes, strict=True):
            found += measure(Path(folder), chunks, nbytes, given.rounds)
    print(table(found, "TensorStore"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
