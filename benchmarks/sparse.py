"""`python -m benchmarks.sparse`: arrays of very many chunks, of which few are stored: erased, made smaller, made larger.

In come numbers of chunks; out goes a table beside TensorStore, which has no call that erases chunks and is given the fill value to
write, and below it what Zarrant needs for an array that the other one would need minutes for. After each run the files are
counted and the elements that stay are read.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import zarrant
from benchmarks.arguments import positive, program
from benchmarks.pairs import Found, Pair, WrongResult, compare, table
from benchmarks.small_files import open_tensorstore

EDGE, STORED = 16, 20
"""Elements of a chunk along each axis; chunks that are stored, on the diagonal."""


class Sparse:
    """A square array at a path, opened by one of the libraries."""

    def __init__(self, path: Path, chunks: int, opened: Callable[[Path], Any]) -> None:
        self.path, self.side = path, max(2 * STORED, int(chunks**0.5))
        self.extent = self.side * EDGE
        zarrant.create_array(path, shape=(self.extent,) * 2, chunks=(EDGE, EDGE), dtype="uint8", compressors=None)
        self.array = opened(path)

    def fill(self) -> None:
        """Store chunks on the diagonal, half of them in the half that stays."""
        whole = zarrant.open_array(self.path)
        for number in range(STORED):
            at = number * (self.side // STORED)
            whole.store_chunk((at, at), np.full((EDGE, EDGE), 1 + number, np.uint8))

    def left(self) -> int:
        """How many chunks are stored; WrongResult where one of them does not hold what it should."""
        files = [file for file in (self.path / "c").rglob("*") if file.is_file()]
        for file in files:
            if file.read_bytes() != bytes([1 + int(file.name) // (self.side // STORED)]) * EDGE**2:
                raise WrongResult(f"chunk {file.name} holds something else")
        return len(files)


def measure(folder: Path, chunks: int, rounds: int) -> list[Found]:
    """Both libraries."""
    ours, theirs = Sparse(folder / "zarrant", chunks, zarrant.open_array), Sparse(folder / "tensorstore", chunks, open_tensorstore)
    small, full, name = (ours.extent // 2,) * 2, (ours.extent,) * 2, f"{ours.side**2:,} chunks"

    def fill() -> None:
        ours.fill()
        theirs.fill()

    def resized(shape: tuple[int, int]) -> None:
        theirs.array = theirs.array.resize(exclusive_max=shape).result()

    def are(array: Sparse, number: int) -> Callable[[Any], bool]:
        return lambda _: array.left() == number

    half = STORED // 2
    pairs = [
        Pair(
            f"{name}: erase all",
            lambda: ours.array.erase_chunks(np.s_[:, :]),
            lambda: theirs.array[...].write(0).result(),
            are(ours, 0),
            are(theirs, 0),
            fill,
        ),
        Pair(
            f"{name}: resize to a quarter",
            lambda: ours.array.resize(small),
            lambda: resized(small),
            are(ours, half),
            are(theirs, half),
            fill,
        ),
        Pair(f"{name}: resize back", lambda: ours.array.resize(full), lambda: resized(full), are(ours, half), are(theirs, half)),
    ]
    return compare(pairs, rounds, "TensorStore")


def alone(folder: Path, chunks: int) -> str:
    """Zarrant with an array of millions of chunks."""
    array = Sparse(folder / "large", chunks, zarrant.open_array)
    array.fill()
    begun = time.process_time()
    array.array.resize((array.extent // 2,) * 2)
    resized, begun = time.process_time() - begun, time.process_time()
    array.array.erase_chunks(np.s_[:, :])
    erased = time.process_time() - begun
    if array.left():
        raise WrongResult("chunks are left")
    return (
        f"Zarrant alone, milliseconds of CPU: {array.side**2:,} chunks resized to a quarter: {1e3 * resized:.1f}, "
        f"the rest erased: {1e3 * erased:.1f}"
    )


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print, and remove what was made."""
    parser = program("benchmarks.sparse", "Very many chunks that are not there.", rounds=3)
    parser.add_argument("--chunks", type=positive, default=40_000, help="beside TensorStore (default %(default)s)")
    parser.add_argument("--alone", type=positive, default=4_000_000, help="of Zarrant alone (default %(default)s)")
    given = parser.parse_args(args)
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        print(table(measure(Path(folder), given.chunks, given.rounds), "TensorStore"))
        print(alone(Path(folder), given.alone))
    return 0


if __name__ == "__main__":
    sys.exit(main())
