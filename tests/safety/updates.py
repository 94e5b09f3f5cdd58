"""Processes that update one array at once, as `python updates.py JOB`, where JOB is a JSON object (see `Job`).

One process is forked for each worker. Each opens the array; when all have, they begin at one moment. "elements": worker w, of W
threads in all processes, writes i + 1 to the run i of `width` elements, for i = w, w + W, ..., one update each. "subchunks":
each process replaces, for `seconds`, one after the other of the subchunks that are its own. A list with the result of each
process is printed as JSON: when it began and ended to write (seconds of the clock that all processes share), and, of
"subchunks", of each update its seconds and how many updates of others ended meanwhile, and what each subchunk holds by now.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypedDict

import numpy as np

import zarrant  # before the forks: once for all


class Job(TypedDict):
    """Who does what. `workers`: (library, threads), one for each process."""

    path: str
    kind: str
    workers: list[tuple[str, int]]
    updates: int
    width: int
    seconds: float


Write = Callable[[int, int, Any], None]


def text(number: int) -> str:
    """Text that says which update wrote it, of 2 to 42 characters."""
    return f"{number} " + "ñ" * (number % 37)


def ours(path: str) -> Write:
    array = zarrant.open_array(path, mode="r+")
    if array.dtype.kind == "T":
        return lambda start, stop, values: array.__setitem__(slice(start, stop), text(values))
    return lambda start, stop, values: array.__setitem__(slice(start, stop), values)


def tensorstore(path: str) -> Write:
    import tensorstore as ts

    # As ours: what was written is on disk after a sync, and safe from a kill before.
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path, "file_io_sync": False}}
    array = ts.open(spec, open=True, write=True, read=True).result()
    return lambda start, stop, values: array[start:stop].write(np.asarray(values, "uint32")).result()


OPEN = {"ours": ours, "tensorstore": tensorstore}


def elements(job: Job, process: int, go: Callable[[], None]) -> dict[str, Any]:
    library, threads = job["workers"][process]
    writes = [OPEN[library](job["path"]) for _ in range(threads)]
    first = sum(count for _, count in job["workers"][:process])
    workers, width = sum(count for _, count in job["workers"]), job["width"]
    troubles: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for update in range(job["updates"]):
                i = update * workers + first + thread
                writes[thread](i * width, (i + 1) * width, i + 1)
        except BaseException as error:
            troubles.append(error)

    go()
    begin = time.monotonic()
    started = [threading.Thread(target=work, args=(thread,)) for thread in range(1, threads)]
    for thread in started:
        thread.start()
    work(0)
    for thread in started:
        thread.join()
    if troubles:
        raise troubles[0]
    return {"begin": begin, "end": time.monotonic()}


def subchunks(job: Job, process: int, go: Callable[[], None], done: Any) -> dict[str, Any]:
    library, _ = job["workers"][process]
    write, workers, width = OPEN[library](job["path"]), len(job["workers"]), job["width"]
    mine = range(process, job["updates"], workers)
    holds: dict[int, int] = {}
    took, overtaken = [], []
    go()
    begin = now = time.monotonic()
    while now < begin + job["seconds"]:
        subchunk = mine[len(took) % len(mine)]
        value = len(took) * workers + process + 1
        before = done.sum()
        write(subchunk * width, (subchunk + 1) * width, np.full(width, value, "uint32"))
        overtaken.append(int(done.sum() - before))
        done[process] += 1
        holds[subchunk] = value
        last, now = now, time.monotonic()
        took.append(now - last)
    return {"begin": begin, "end": now, "took": took, "overtaken": overtaken, "holds": holds}


def forked(job: Job, process: int, done: Any, ready: int, start: int, answer: int) -> None:
    """What a forked process does; it does not return."""
    status = 1
    try:

        def go() -> None:
            os.write(ready, b".")
            os.close(ready)  # the end of the last tells that no more will be ready
            os.read(start, 1)  # until its other end is closed

        result = elements(job, process, go) if job["kind"] == "elements" else subchunks(job, process, go, done)
        with os.fdopen(answer, "w") as file:
            json.dump(result, file)
        status = 0
    finally:
        if status:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        os._exit(status)


def main() -> None:
    job: Job = json.loads(sys.argv[1])
    workers = len(job["workers"])
    done = np.frombuffer(mmap.mmap(-1, 8 * workers), "int64")
    (is_ready, ready), (start, begin) = os.pipe(), os.pipe()
    answers, children = [], []
    for process in range(workers):
        reading, answer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(begin)
            forked(job, process, done, ready, start, answer)
        os.close(answer)
        answers.append(reading)
        children.append(child)
    os.close(ready)
    for _ in range(workers):
        assert os.read(is_ready, 1), "a process ended early"
    os.close(begin)
    results = []
    for reading in answers:
        with os.fdopen(reading) as file:
            results.append(file.read())
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(statuses), statuses
    print(f"[{','.join(results)}]", flush=True)


if __name__ == "__main__":
    main()
