"""Processes that change one array on an object store at once, as `python object_updates.py JOB`, where JOB is a JSON object.

One process is forked for each number below `processes`. Each opens the array of `url` and, once all have, makes `each` changes
of `kind`: "shard" (element i of one shard becomes i + 1, i being its own), "attributes" (each an attribute of its own) or "append"
(each a row of its own). The first error ends it with status 1.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import zarrant  # before the forks: once for all. Nothing has connected by then


def change(array: Any, kind: str, process: int, number: int, processes: int) -> None:
    index = number * processes + process
    if kind == "shard":
        array[index : index + 1] = index + 1
    elif kind == "attributes":
        array.update_attributes({f"attribute {index}": index})
    else:
        array.append([index + 1])


def work(job: dict[str, Any], process: int, go: Callable[[], None]) -> None:
    array = zarrant.open_array(job["url"], mode="r+", storage_options=job["storage_options"])
    go()
    for number in range(job["each"]):
        change(array, job["kind"], process, number, job["processes"])


def main() -> None:
    job = json.loads(sys.argv[1])
    (is_ready, ready), (start, begin) = os.pipe(), os.pipe()
    children = []
    for process in range(job["processes"]):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(begin)

                def go() -> None:
                    os.write(ready, b".")
                    os.read(start, 1)  # until its other end is closed

                work(job, process, go)
                status = 0
            finally:
                if status:
                    sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
                os._exit(status)
        children.append(child)
    os.close(ready)
    for _ in children:
        assert os.read(is_ready, 1), "a process ended early"
    os.close(begin)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert not any(statuses), statuses


if __name__ == "__main__":
    main()
