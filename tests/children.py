"""Processes of a script that begin when they are told to, and never outlive their test."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def waiting(script: Path, *arguments: Any) -> Iterator[Any]:
    """A process of a script, killed in the end; it waits for a line before it does anything."""
    child = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def go(child: Any) -> None:
    """Let it begin."""
    child.stdin.write("\n")
    child.stdin.flush()
