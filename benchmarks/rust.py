"""`python -m benchmarks.rust`: the Rust library zarrs, through the programs of `zarrs_tools`, where they are on the PATH.

In comes the size of an array; out goes a table: read whole, and copied from uncompressed chunks into shards of zstd. The programs
say themselves how long they took, without starting, and they have all processors. Zarrant reads into a new array, as they do. The
copy is read by the other side and compared; of what was read only the number of bytes is known. `cargo install zarrs_tools
--features benchmark` makes both programs. Ends with 0 where they are missing, and says so.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

import zarrant
from benchmarks import arrays
from benchmarks.arguments import program, size
from benchmarks.jobs import seconds
from benchmarks.pairs import WrongResult
from benchmarks.peers.base import Values
from zarrant.tools.copy import copy

READ, COPY = "zarrs_benchmark_read_sync", "zarrs_reencode"
ZSTD = '[{"name": "zstd", "configuration": {"level": 1, "checksum": false}}]'
SUBCHUNK = 32


class Row(NamedTuple):
    """Seconds of one thing, the least of all rounds."""

    name: str
    ours: float
    theirs: float


def reported(command: Sequence[str], pattern: str) -> tuple[float, str]:
    """Seconds that a program says it took, and all it said; WrongResult where it failed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    found = re.search(pattern + r"\s*([\d.]+)ms", done.stdout)
    if done.returncode or not found:
        raise WrongResult(f"{Path(command[0]).name} ended with {done.returncode}: {(done.stderr.strip() or done.stdout)[-200:]}")
    return float(found[1]) / 1e3, done.stdout


def reading(name: str, path: Path, data: Values, more: Sequence[str], rounds: int) -> Row:
    """Read the whole array; both make a new one."""
    array = zarrant.open_array(path, mode="r")
    ours, theirs = [], []
    for _ in range(rounds):
        found: list[Values] = []
        ours.append(seconds(lambda found=found: found.append(array[...])))  # type: ignore[misc]
        if not np.array_equal(found.pop(), data):
            raise WrongResult(f"{name}: Zarrant read something else")
        took, text = reported([READ, str(path), *more], f"Decoded {re.escape(str(path))} in")
        if f"({data.nbytes / 1e6:.2f}MB" not in text:
            raise WrongResult(f"{name}: {READ} decoded another number of bytes")
        theirs.append(took)
    return Row(name, min(ours), min(theirs))


def copying(source: Path, data: Values, folder: Path, rounds: int) -> Row:
    """Copy into shards."""
    edge, target = arrays.object_edge(data.shape), folder / "copy"
    shard, chunk = (",".join([str(side)] * 3) for side in (edge, SUBCHUNK))
    command = [COPY, "--shard-shape", shard, "--chunk-shape", chunk, "--bytes-to-bytes-codecs", ZSTD, str(source), str(target)]
    layout = {"chunks": (SUBCHUNK,) * 3, "shards": (edge,) * 3, "compressors": zarrant.codecs.Zstd(level=1)}
    ours, theirs = [], []
    for _ in range(rounds):
        for times in (ours, theirs):
            shutil.rmtree(target, ignore_errors=True)
            if times is ours:
                times.append(seconds(lambda: copy(str(source), str(target), **layout)))
            else:
                times.append(reported(command, "total:")[0])
            if not np.array_equal(zarrant.open_array(target, mode="r")[...], data):
                raise WrongResult(f"{'Zarrant' if times is ours else COPY} copied something else")
    return Row("copy to sharded zstd 1, 32³", min(ours), min(theirs))


def measure(folder: Path, nbytes: int, rounds: int) -> list[Row]:
    """Whatever the programs that are here can do."""
    data = arrays.values(arrays.shape_of(nbytes))
    edge, rows = arrays.object_edge(data.shape), []
    for codec, subchunk in (("raw", None), ("zstd 1", None), ("zstd 1", SUBCHUNK)):
        path = folder / f"{codec} {subchunk}"
        inner = None if subchunk is None else (subchunk,) * 3
        arrays.create(path, arrays.document(data.shape, (edge,) * 3, arrays.CODECS[codec], inner))
        zarrant.open_array(path)[...] = data
        if shutil.which(READ):
            name = f"read {codec}" + (f", {subchunk}³ in shards" if subchunk else "")
            rows.append(reading(f"{name}: one call", path, data, ["--read-all"], rounds))
            rows.append(reading(f"{name}: they chunk by chunk", path, data, [], rounds))
    if shutil.which(COPY):
        rows.append(copying(folder / "raw None", data, folder, rounds))
    return rows


def main(args: Sequence[str] | None = None) -> int:
    """Measure, print, and remove what was made."""
    parser = program("benchmarks.rust", "Beside the programs of zarrs_tools.", rounds=3)
    parser.add_argument("--size", type=size, default=size("256MiB"), help="of the array (default 256MiB)")
    given = parser.parse_args(args)
    missing = [program for program in (READ, COPY) if not shutil.which(program)]
    if missing:
        print(f"not on the PATH: {', '.join(missing)} (cargo install zarrs_tools --features benchmark)")
    if len(missing) == 2:
        return 0
    print(f"{'milliseconds':44} {'Zarrant':>9} {'zarrs':>9} {'ratio':>6}")
    with tempfile.TemporaryDirectory(dir=given.dir) as folder:
        for row in measure(Path(folder), given.size, given.rounds):
            print(f"{row.name:44} {1e3 * row.ours:9.1f} {1e3 * row.theirs:9.1f} {row.theirs / max(1e-9, row.ours):6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
