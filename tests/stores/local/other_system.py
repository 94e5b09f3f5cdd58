"""Run as a program: a store of files as on another system, as far as what Python has there can tell.

`python other_system.py SYSTEM DIRECTORY`. What the system lacks is taken away before Zarrant is imported: calls, flags, modules.
What it does differently (a rename over an open file, say) is not simulated.
"""

from __future__ import annotations

# What else is imported is imported as it is here.
import asyncio  # noqa: F401
import concurrent.futures  # noqa: F401
import ctypes.util  # noqa: F401
import logging  # noqa: F401
import multiprocessing  # noqa: F401
import os
import platform  # noqa: F401
import shutil  # noqa: F401
import socket  # noqa: F401
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
import threading
from pathlib import Path
from typing import Any

import numpy as np

LINUX = (
    "copy_file_range posix_fallocate posix_fadvise splice sched_getaffinity memfd_create "
    "O_DIRECT O_TMPFILE O_PATH setxattr getxattr"
)
OLD = "preadv pwritev"
POSIX = (
    "pread pwrite readv writev O_NOFOLLOW O_CLOEXEC O_DIRECTORY O_NONBLOCK O_SYNC O_DSYNC fdatasync statvfs fstatvfs fchmod "
    "waitid geteuid getuid register_at_fork fork mkfifo sync chown uname fchdir lchown major minor"
)
SYSTEMS = {"darwin": LINUX, "old darwin": f"{LINUX} {OLD}", "win32": f"{LINUX} {OLD} {POSIX}"}


def become(system: str) -> None:
    for name in SYSTEMS[system].split():
        if hasattr(os, name):
            delattr(os, name)
    sys.platform = system.rsplit(maxsplit=1)[-1]
    if system == "win32":
        for module in ("fcntl", "resource", "pwd", "grp", "termios"):
            sys.modules[module] = None  # type: ignore[assignment]
        os.O_BINARY = 0  # type: ignore[attr-defined]
    os.environ["ZARRANT_KERNELS"] = "reference"


def work(directory: Path, locking: str) -> None:
    import zarrant
    from zarrant.tools.check import check

    config: Any = {"locking": locking}
    place = directory / "a"
    a = zarrant.create_array(place, shape=(40, 40), dtype="i4", chunks=(5, 5), shards=(20, 20), config=config)
    handles = [zarrant.open_array(place, mode="r+", config=config) for _ in range(13)]
    threads = [
        threading.Thread(target=handle.__setitem__, args=(slice(i * 3, i * 3 + 3), i + 1)) for i, handle in enumerate(handles)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = np.zeros((40, 40), "i4")
    expected[:39] = (np.arange(39) // 3 + 1)[:, None]
    assert np.array_equal(a[...], expected), "a writer's values are lost"
    assert a.append(np.ones((3, 40), "i4")) == slice(40, 43)
    a.attrs["unit"] = "mm"
    a.resize((20, 40), shrink=True)
    a.compact()
    assert np.array_equal(zarrant.open_array(place, mode="r", config=config)[...], expected[:20])
    durable = a.with_config(durability="fsync")
    durable[...] = 13  # "\r" and "\n" are bytes as any other
    durable[:3, :7] = 0x0A0D0A0D
    durable.sync()
    assert zarrant.open_array(place, mode="r")[:3, :7].tobytes() == b"\r\n" * (3 * 7 * 2)
    group = zarrant.create_group(directory / "g", config=config)
    group.create_array("x", data=np.arange(9))
    assert list(group) == ["x"] and group["x"][4] == 4
    assert check(str(place), deep=True).clean
    assert [path.name for path in directory.rglob("*lock*")] == []


def refused(directory: Path) -> None:
    """Where the system has no locks of files, nothing is written without one, and the way out is named."""
    import zarrant
    from zarrant.errors import CapabilityError

    try:
        zarrant.create_array(directory / "b", shape=(4, 4), dtype="i4", chunks=(2, 2))[0, 0] = 1
    except CapabilityError as error:
        assert 'locking="lockfile"' in str(error.hint), error
    else:
        raise AssertionError("a part was written without a lock")


if __name__ == "__main__":
    system, directory = sys.argv[1], Path(sys.argv[2])
    become(system)
    work(directory, "lockfile" if system == "win32" else "auto")
    if system == "win32":
        refused(directory)
