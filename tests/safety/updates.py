"""A process that makes disjoint updates of one array, as `python updates.py LIBRARY PATH WORKER WORKERS UPDATES`.

It opens the array, says "ready", waits for a line, writes `i + 1` to each element `i` of WORKER, WORKER + WORKERS, ..., one
update each, and prints when the first began and the last was over (seconds of the clock that all processes share).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np


def ours(path: str) -> Callable[[int], None]:
    import zarrant

    array = zarrant.open_array(path, mode="r+")

    def write(i: int) -> None:
        array[i : i + 1] = i + 1

    return write


def tensorstore(path: str) -> Callable[[int], None]:
    import tensorstore as ts

    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    array = ts.open(spec, open=True, write=True, read=True).result()

    def write(i: int) -> None:
        array[i : i + 1].write(np.array([i + 1], "uint32")).result()

    return write


def main() -> None:
    library, path, worker, workers, updates = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    write = {"ours": ours, "tensorstore": tensorstore}[library](path)
    print("ready", flush=True)
    sys.stdin.readline()
    begin = time.monotonic()
    for update in range(updates):
        write(update * workers + worker)
    print(begin, time.monotonic(), flush=True)


if __name__ == "__main__":
    main()
