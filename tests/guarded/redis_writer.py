"""A process that writes under Redis, as `python redis_writer.py WHAT KIND PATH URL LEASE NUMBER TIMES`.

"update": so many updates of elements of its own in one shard. "keep": locks the shard, and is killed then. "pause": stops under the
lock between a read and a write. "pause at the write": stops right before the store writes. "append": so many appends of a row.
"pause in an append": stops right before the store writes the first of four chunks.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np

import zarrant

sys.path.insert(0, str(Path(__file__).parents[1]))

from guarded.stores import stopping, store_of
from zarrant.locking.remote import RedisSynchronizer

PAUSES = {"pause at the write": "c/0", "pause in an append": "c/1"}


def main() -> None:
    what, kind, path, url, lease, number, times = sys.argv[1:]
    store = store_of(kind, path)
    if what in PAUSES:
        store = stopping(store, PAUSES[what])
    guard = RedisSynchronizer(url, prefix=path, lease=float(lease))
    a = zarrant.open_array(store, mode="r+", synchronizer=guard, config={"lock_timeout": 60.0, "concurrency": 1})
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        if what == "update":
            for i in range(int(times)):
                a[int(number) + 8 * i] = i + 1
        elif what == "append":
            for _ in range(int(times)):
                a.append(np.full(3, int(number) + 1, a.dtype))
        elif what == "pause in an append":
            a.append(np.full(32, 9, a.dtype))
        elif what == "keep":
            with a.lock(np.s_[:]) as locked:
                locked[0] = 1
                print("locked", flush=True)
                time.sleep(600)
        elif what == "pause":
            with a.lock(np.s_[:]) as locked:
                value = locked[0]
                print("stopped", flush=True)
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)
                locked[0] = value + 1
        else:
            a.update(np.s_[0:1], lambda part: part + 1)
    except zarrant.errors.ZarrantError as error:
        print("LockLostError" if isinstance(error, zarrant.errors.LockLostError) else repr(error), flush=True)
    else:
        print("done", flush=True)


main()
