"""Writers that can be killed, as `python object_writers.py`: a process is forked for each line of standard input, a JSON object.

It opens the array of `url`, says its process id on standard output, and makes one change: an append of a row of `value`s, an
update of its own element of the one shard, or an attribute. Then "done" or "failed: …" follows, or what the signal was that ended
it. `seconds` is how long a turn lasts.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import zarrant  # before the forks: once for all. Nothing has connected by then
from zarrant.ops import turns


def change(job: dict[str, Any]) -> None:
    turns.TAKE_OVER_S = job["seconds"]
    array = zarrant.open_array(job["url"], mode="r+", storage_options=job["storage_options"])
    print(os.getpid(), flush=True)
    value, row = job["value"], job["row"]
    match job["kind"]:
        case "append":
            array.append([[value] * array.shape[1]])
        case "shard":
            array[row % 8, value % 8 : value % 8 + 1] = value
        case "attributes":
            array.update_attributes({f"x{value}": value})


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                change(job)
            except BaseException as error:
                print(f"failed: {error!r}", flush=True)
                os._exit(1)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status != 1:
            print(f"ended: {status}", flush=True)


if __name__ == "__main__":
    main()
