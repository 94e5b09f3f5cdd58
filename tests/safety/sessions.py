"""A process that uses holds of one array, as `python sessions.py WHAT PATH [TIMES]`.

"add": TIMES times, adds 1 to the elements 0 and 12 of different objects in four operations that are one. "encode": holds the
first object open, stores into it until the process is killed, and never publishes. "write": writes one element and prints when
it was over.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import zarrant


def add(a: zarrant.Array, times: int) -> None:
    for _ in range(times):
        with a.lock(np.s_[0:16]) as locked:
            locked[0] = int(locked[0]) + 1
            locked[12] = int(locked[12]) + 1


def encode(a: zarrant.Array) -> None:
    with a.partial_encoder((0,)) as encoder:
        i = 0
        while True:
            i += 1
            encoder.store(np.s_[i % 8 : i % 8 + 1], -i)
            if i == 100:
                print("stored", flush=True)


def main() -> None:
    what, path = sys.argv[1:3]
    a = zarrant.open_array(path, mode="r+")
    print("ready", flush=True)
    sys.stdin.readline()
    if what == "add":
        add(a, int(sys.argv[3]))
    elif what == "encode":
        encode(a)
    else:
        a[7] = 7
        print(time.monotonic(), flush=True)


if __name__ == "__main__":
    main()
