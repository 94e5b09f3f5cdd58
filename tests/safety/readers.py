"""Processes that write or read arrays while others do: `python readers.py writer|appender PATH COUNTERS NUMBER`.

A "writer" makes update after update of WRITES[NUMBER] through Zarrant until its input ends: the k-th sets every element of each
region to k; in the last region, which is one subchunk, each third one sets fill instead, so that the subchunk dies and is born
again. It notes k in COUNTERS (two int64 a region) when it begins and when it is done. An "appender" appends rows to an array of
rows that say which they are. The array is SHAPE, or a multiple of it.

`python readers.py LIBRARY`: for each line `["read" or "appended", PATH, COUNTERS, COUNT]` of its input, opens the array, says that
it is ready, waits for another line, and reads COUNT times or more often. "read": the whole array and parts of it by turns, and
compares each subchunk: every region shows one update, not older than the last that was done before the read, not newer than the
last begun after it; the rest is BASE. "appended": opens the array anew for each read, and reads its last rows. It prints how many
reads were made, how many were wrong, how many failed, how many different updates were seen, and the first trouble.

`python readers.py serve`: for each line `["read" or "write", LIBRARY, PATH, FILE]` of its input, reads a whole array into the
.npy FILE, or writes from it, opened anew; and prints a line that says how it went.
"""

from __future__ import annotations

import json
import mmap
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

SHAPE, SHARD, CHUNK = (48, 48), (48, 48), (16, 16)
REGIONS = (np.s_[4:30, 4:30], np.s_[32:44, 10:48], np.s_[0:16, 32:48])
"""The first two cover some subchunks wholly and some partly; each has subchunks of its own."""
WRITES = ((0, 2), (1,))
"""The regions of each writer."""
BASE = 2**32 - 1
UPDATES, SEEN = 25, 3
"""So many are made while others read, and so many differ, however few processors there are."""
PARTS = (np.s_[0:48, 0:48], np.s_[0:16, 0:16], np.s_[8:24, 8:40], np.s_[30:48, 0:48], np.s_[16:32, 16:32])


def counters(path: str) -> Any:
    with open(path, "r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0), "int64")


def until_told() -> threading.Event:
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    return over


def times(part: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    return slice(part[0].start * scale, part[0].stop * scale), slice(part[1].start * scale, part[1].stop * scale)


def value(number: int, k: int) -> int:
    return 0 if number == 2 and k % 3 == 0 else k


def write(path: str, told: Any, writer: int) -> None:
    import zarrant

    array = zarrant.open_array(path, mode="r+")
    over, k = until_told(), 0
    while not over.is_set():
        k += 1
        for number in WRITES[writer]:
            told[2 * number] = k
            array[times(REGIONS[number], array.shape[0] // SHAPE[0])] = value(number, k)
            told[2 * number + 1] = k


def append(path: str, told: Any) -> None:
    import zarrant

    array = zarrant.open_array(path, mode="r+")
    over = until_told()
    while not over.is_set() and array.shape[0] < 2**20:
        rows = np.arange(array.shape[0], array.shape[0] + 5, dtype="uint32")
        array.append(np.repeat(rows[:, np.newaxis], array.shape[1], 1))
        told[0] = told[1] = array.shape[0]


def read_appended(library: str, path: str, told: Any, count: int) -> None:
    OPEN[library](path)
    wrong, failed, seen, first = 0, 0, set[int](), ""
    for _ in turns(told, count, seen):
        time.sleep(0.001)
        try:
            found = np.asarray(OPEN[library](path)(None))
        except Exception as error:
            failed += 1
            first = first or f"{type(error).__name__}: {error}"
            continue
        rows = found[:, 0]
        seen.add(int(rows[-1]))
        if (found != rows[:, np.newaxis]).any() or (np.diff(rows.astype("int64")) != 1).any():
            wrong += 1
            first = first or f"rows {rows.tolist()}"
    print(wrong, failed, len(seen), first.replace("\n", " "), flush=True)


PIPELINES = {"zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline", "zarrs": "zarrs.ZarrsCodecPipeline"}


def open_zarr(path: str, library: str) -> Any:
    import zarr

    zarr.config.set({"codec_pipeline.path": PIPELINES[library]})
    return zarr.open_array(path, mode="r+")


def last_rows(array: Any) -> tuple[slice, slice]:
    return slice(max(0, array.shape[0] - 100), array.shape[0]), slice(0, array.shape[1])


def zarr_python(path: str) -> Callable[[Any], Any]:
    array = open_zarr(path, "zarr")
    return lambda part: array[part or last_rows(array)]


def zarrs(path: str) -> Callable[[Any], Any]:
    array = open_zarr(path, "zarrs")
    return lambda part: array[part or last_rows(array)]


def open_tensorstore(path: str) -> Any:
    import tensorstore as ts

    return ts.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}, open=True).result()


def tensorstore(path: str) -> Callable[[Any], Any]:
    array = open_tensorstore(path)
    return lambda part: array[part or last_rows(array)].read().result()


def ours(path: str) -> Callable[[Any], Any]:
    import zarrant

    array = zarrant.open_array(path, mode="r")
    return lambda part: array[part or last_rows(array)]


OPEN = {"zarr": zarr_python, "zarrs": zarrs, "tensorstore": tensorstore, "ours": ours}


def serve() -> None:
    """Read or write whole arrays with whatever library, until the input ends."""
    print("ready", flush=True)
    for line in sys.stdin:
        what, library, path, file = json.loads(line)
        try:
            if what == "read":
                np.save(file, np.asarray(OPEN[library](path)(...)))
            elif library == "tensorstore":
                open_tensorstore(path).write(np.load(file)).result()
            else:
                open_zarr(path, library)[...] = np.load(file)
            print("done", flush=True)
        except Exception as error:
            print(f"{type(error).__name__}: {error}".replace("\n", " "), flush=True)


def subchunks(part: tuple[slice, slice]) -> list[tuple[slice, slice]]:
    """The pieces of a part, one a subchunk, in coordinates of the array."""
    pieces = []
    for row in range(0, SHAPE[0], CHUNK[0]):
        for column in range(0, SHAPE[1], CHUNK[1]):
            piece = tuple(
                slice(max(low, wanted.start), min(low + 16, wanted.stop)) for low, wanted in zip((row, column), part, strict=True)
            )
            if all(side.start < side.stop for side in piece):
                pieces.append((piece[0], piece[1]))
    return pieces


OWNER = np.full(SHAPE, -1)
for _number, _region in enumerate(REGIONS):
    OWNER[_region] = _number


def trouble(found: Any, part: tuple[slice, slice], done: Any, begun: Any, seen: set[int]) -> str | None:
    """What is wrong with values that were read; None where nothing is."""
    for piece in subchunks(part):
        values = found[tuple(slice(s.start - p.start, s.stop - p.start) for s, p in zip(piece, part, strict=True))]
        owners = OWNER[piece]
        if (values[owners == -1] != BASE).any():
            return f"{piece}: what nobody writes has changed"
        for number in set(owners[owners >= 0].tolist()):
            shown = np.unique(values[owners == number])
            seen.update(shown.tolist())
            if len(shown) != 1:
                return f"{piece}: several updates in one subchunk: {shown}"
            if shown[0] not in {value(number, k) for k in range(done[number], begun[number] + 1)}:
                return f"{piece}: update {shown[0]} is not of {done[number]}..{begun[number]}"
    return None


def thinned(found: Any, scale: int) -> Any:
    """One element for each that SHAPE has, where all that belong to it are equal; else what none should be."""
    if scale == 1:
        return found
    blocks = found.reshape(found.shape[0] // scale, scale, found.shape[1] // scale, scale)
    same = (blocks == blocks[:, :1, :, :1]).all(axis=(1, 3))
    return np.where(same, blocks[:, 0, :, 0], BASE - 1)


def read(library: str, path: str, told: Any, count: int) -> None:
    get = OPEN[library](path)
    with open(f"{path}/zarr.json", encoding="utf-8") as file:
        scale = json.load(file)["shape"][0] // SHAPE[0]
    dice, wrong, failed, seen, first = random.Random(library), 0, 0, set[int](), ""
    for _ in turns(told, count, seen):
        part = dice.choice(PARTS)
        time.sleep(0.001)  # where there are few processors, the writers must get one in between
        done = told[1::2].copy()
        try:
            found = np.asarray(get(times(part, scale)))
        except Exception as error:
            failed += 1
            first = first or f"{type(error).__name__}: {error}"
            continue
        problem = trouble(thinned(found, scale), part, done, told[0::2].copy(), seen)
        if problem:
            wrong += 1
            first = first or problem
    print(wrong, failed, len(seen), first.replace("\n", " "), flush=True)


def turns(told: Any, count: int, seen: set[int]) -> Iterator[None]:
    """`count` turns, once another process says so; and more, until some updates were made and a few of them seen."""
    print("ready", flush=True)  # nobody writes while a library is imported: that would only take time
    sys.stdin.readline()
    before, end, made = told[1::2].sum(), time.monotonic() + 60, 0
    while made < count or ((told[1::2].sum() < before + UPDATES or len(seen) < SEEN) and time.monotonic() < end):
        made += 1
        yield
    print(made, end=" ")


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve()
    elif what == "writer":
        write(rest[0], counters(rest[1]), int(rest[2]))
    elif what == "appender":
        append(rest[0], counters(rest[1]))
    else:
        for line in sys.stdin:
            kind, path, place, count = json.loads(line)
            {"read": read, "appended": read_appended}[kind](what, path, counters(place), count)


if __name__ == "__main__":
    main()
