"""Redis, for locks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from servers.processes import HOST, free_port, installed, running


@contextmanager
def start_redis() -> Iterator[str]:
    """A Redis that stores nothing on disk; its URL."""
    program, port = installed("redis-server"), free_port()
    with tempfile.TemporaryDirectory() as place:
        options = ["--bind", HOST, "--save", "", "--appendonly", "no", "--dir", place]
        with running([program, "--port", port, *options], port):
            yield f"redis://{HOST}:{port}/0"
