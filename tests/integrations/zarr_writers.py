"""A writer of the race: plain zarr-python, which nothing here tells of Zarrant.

Arguments: the number of the writer, and how many there are. Then jobs, a line of JSON each: the places (paths, or options of an
object store), the layouts, the rounds, and the codec pipeline; null is what the environment says. It opens the arrays, says so,
waits for a line, and writes its slabs over and over, with other values in each round. Before it writes a slab anew it looks
whether its last values still are there: nobody else writes to these elements, so others are values that were lost.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import numpy as np
import zarr

SHAPE = (28, 32, 8)
"""Slabs of 7 rows meet in chunks of 20 and more rows: every one of them is written by all."""
STEP, HEIGHT = 7, 16


LZMA = [{"name": "numcodecs.lzma", "configuration": {"preset": 1}}]
"""A codec that Zarrant does not know in Zarr V3."""


def has_lzma() -> bool:
    """Whether zarr-python has it: from 3.1.2 on, or with an older numcodecs."""
    try:
        return bool(zarr.registry.get_codec_class("numcodecs.lzma"))
    except (KeyError, ImportError):
        return False


def layouts() -> dict[str, dict[str, Any]]:
    chunk = (20, 32, 8)
    shards = {"chunks": (8, 16, 8), "shards": (16, 32, 8)}
    found = {
        "chunks": {"chunks": chunk},
        "shards": shards,
        "v2": {"chunks": chunk, "zarr_format": 2},
        "transposed": {"chunks": chunk, "filters": [{"name": "transpose", "configuration": {"order": [2, 0, 1]}}]},
        "unknown codec": {"chunks": chunk, "compressors": LZMA},
        "unknown codec in shards": {**shards, "compressors": LZMA},
        "strings": {"chunks": chunk, "dtype": str},
        "strings in shards": {**shards, "dtype": str},
        "records": {"chunks": chunk, "dtype": [("a", "u2"), ("b", "f4")]},
        "dates": {"chunks": chunk, "dtype": "M8[s]"},
    }
    return {name: each for name, each in found.items() if each.get("compressors") is None or has_lzma()}


def store_of(place: Any) -> Any:
    """A path; a path in the file systems of fsspec; a bucket through obstore."""
    if isinstance(place, str):
        return place
    if "fsspec" in place:
        from zarr.storage import FsspecStore

        return FsspecStore.from_url(f"file://{place['fsspec']}", storage_options={"auto_mkdir": True})
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    return ObjectStore(S3Store(**place))


def values(layout: str, round_number: int = 0) -> Any:
    """The values of all of the array; those of two rounds differ in every element."""
    dtype: Any = layouts()[layout].get("dtype", "uint16")
    numbers = np.arange(1, 1 + np.prod(SHAPE), dtype="i8").reshape(SHAPE) + 7 * round_number
    if dtype is str:
        return numbers.astype("U").astype(np.dtypes.StringDType())
    if isinstance(dtype, list):
        records = np.empty(SHAPE, dtype)
        records["a"], records["b"] = numbers, numbers / 2
        return records
    return numbers.astype(dtype)


def slabs(number: int, of: int) -> list[tuple[slice, slice]]:
    """What a writer writes."""
    rows = [slice(low, low + STEP) for low in range(number * STEP, SHAPE[0], of * STEP)]
    return [(each, slice(at, at + HEIGHT)) for each in rows for at in range(0, SHAPE[1], HEIGHT)]


def differing(found: Any, wanted: Any) -> int:
    return int((np.asarray(found).astype(wanted.dtype) != wanted).sum())


class Writer:
    """Its slabs of one array, and how many values it has found lost; -1 for what could not be read or written."""

    def __init__(self, array: Any, layout: str, mine: list[tuple[slice, slice]]) -> None:
        self.array, self.layout, self.mine = array, layout, mine
        self.lost = self.errors = 0

    def write(self, number: int) -> None:
        before, after = values(self.layout, number - 1), values(self.layout, number)
        for slab in self.mine:
            try:
                if number:
                    self.lost += differing(self.array[slab], before[slab])
                self.array[slab] = after[slab]
            except Exception as error:
                self.errors += 1
                print(f"{self.layout}: {type(error).__name__}: {error}", file=sys.stderr)


def perform(number: int, of: int, job: dict[str, Any]) -> dict[str, Any]:
    if job["pipeline"] is not None:
        zarr.config.set({"codec_pipeline.path": job["pipeline"]})
    mine, writers = slabs(number, of), {}
    for at, place in enumerate(job["places"]):
        for layout in job["layouts"]:
            array = zarr.open_array(store_of(place), mode="r+", path=layout)
            array[:0]
            writers[f"{at} {layout}"] = Writer(array, layout, mine)
    print("opened", flush=True)
    sys.stdin.readline()
    for each in range(job["rounds"]):
        for writer in writers.values():
            writer.write(each)
    modules = Counter(type(writer.array._async_array.codec_pipeline).__module__ for writer in writers.values())
    return {"found": {name: [each.lost, each.errors] for name, each in writers.items()}, "modules": list(modules)}


def main() -> None:
    number, of = int(sys.argv[1]), int(sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(perform(number, of, json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
