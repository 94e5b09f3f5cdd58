"""Programs of others: where they are, and one running for as long as a block.

A program is started through `guardian.py`, which ends it when this process ends, in whatever way: a pipe between the two is
closed by the system then. It has a session of its own, so that Ctrl-C ends the tests first and the program after them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

ROOT = Path(__file__).parents[2]
GUARDIAN = Path(__file__).with_name("guardian.py")
HOST = "127.0.0.1"
START_TIMEOUT_S = 60  # moto imports for 3 s on a machine that does nothing else


def installed(name: str) -> str:
    """The path of a program; the test is skipped where there is none."""
    places = [*filter(None, os.environ.get("ZARRANT_SERVERS", "").split(os.pathsep)), str(ROOT / ".servers")]
    path = os.pathsep.join([*(os.path.join(place, "bin") for place in places), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"{name} is not installed; scripts/servers.sh {name} installs it (see docs/testing-servers.md)")
    return found


def free_port() -> int:
    """A port of this machine that nobody listens on at this moment."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        return int(found.getsockname()[1])


@contextmanager
def running(command: Sequence[object], port: int, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """The program runs, and listens on the port, while the block does."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-I", str(GUARDIAN), *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            _wait_until_it_listens(process, port, output)
            yield
        finally:
            end(process)


def end(process: subprocess.Popen[bytes], within: float = 10.0) -> None:
    """End a guardian, and its program; by force where a process that was forked from this one keeps the pipe open."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(within)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its session began with it
        process.wait()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, output: IO[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection((HOST, port), timeout=1).close()
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                output.seek(0)
                said = output.read().decode(errors="replace")[-2000:]
                raise RuntimeError(f"{process.args} does not listen on port {port}: {said}") from None
            time.sleep(0.05)
