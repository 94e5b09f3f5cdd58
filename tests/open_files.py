"""What this process has open below a directory: what other tests and the clients of servers open and close does not count."""

from __future__ import annotations

import os
from pathlib import Path


def open_below(place: Path) -> set[str]:
    """Each descriptor of a file below a directory, or of the directory, with its path; empty where the system does not say.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as made, open(f"{made}/a", "w") as file:
    ...     [found.split()[1] == os.path.realpath(file.name) for found in open_below(Path(made))]
    [True]
    """
    found, begin = set(), os.path.realpath(place)
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the listing itself, or of another thread
        if path == begin or path.startswith(f"{begin}/"):
            found.add(f"{name} {path}")
    return found
