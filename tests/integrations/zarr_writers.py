"""A writer of the race: plain zarr-python, which nothing here tells of Zarrant. Layouts are told apart by their directories.

Arguments: the number of the writer, how many there are, rounds, and a JSON list of places: paths, or options of an S3 store.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import zarr

SHAPE = (28, 32, 32)
"""Slabs of 7 rows meet in chunks of 32 rows: every one of them is written by all."""
STEP, HEIGHT = 7, 16


def layouts() -> dict[str, dict[str, Any]]:
    codec = [{"name": "numcodecs.lzma", "configuration": {"preset": 1}}]
    return {
        "chunks": {"chunks": (20, 32, 32)},
        "shards": {"chunks": (8, 16, 32), "shards": (16, 32, 32)},
        "v2": {"chunks": (20, 32, 32), "zarr_format": 2},
        "unknown": {"chunks": (20, 32, 32), "compressors": codec},
    }


def store_of(place: Any) -> Any:
    if isinstance(place, str):
        return place
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    return ObjectStore(S3Store(**place))


def values() -> Any:
    return np.arange(np.prod(SHAPE), dtype="uint16").reshape(SHAPE) + 1


def main() -> None:
    number, of, rounds, places = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
    arrays = [zarr.open_array(store_of(place), mode="r+", path=name) for place in places for name in layouts()]
    wanted = values()
    for array in arrays:
        array[:0]
    print("ready", flush=True)
    sys.stdin.readline()
    for _ in range(rounds):
        for array in arrays:
            for low in range(number * STEP, SHAPE[0], of * STEP):
                for at in range(0, SHAPE[1], HEIGHT):
                    rows, columns = slice(low, low + STEP), slice(at, at + HEIGHT)
                    array[rows, columns, :] = wanted[rows, columns, :]
    print(json.dumps(type(array._async_array.codec_pipeline).__module__), flush=True)


if __name__ == "__main__":
    main()
