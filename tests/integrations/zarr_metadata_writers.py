"""A writer of zarr-python that changes metadata through our `Store`. Arguments: its number, rounds, and the place."""

from __future__ import annotations

import sys

import numpy as np
import zarr

from zarrant.integrations import zarr_python


def main() -> None:
    number, rounds, place = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    array = zarr.open_array(zarr_python.Store(place), path="a", mode="r+")
    print("ready", flush=True)
    sys.stdin.readline()
    for i in range(rounds):
        array.attrs[f"{number}.{i}"] = i
        zarr_python.append(array, np.full(3, 100 * number + i, "i4"))
    print("done", flush=True)


if __name__ == "__main__":
    main()
