"""What every program here may be given: one parser for all of them, and the kinds of values.

In comes the name of a program; out goes a parser that knows `--dir` and, where something is repeated, `--rounds`.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MEMORY = Path("/dev/shm")
UNITS = {"": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def fast_directory() -> Path:
    """In memory where the system has such a file system: what is measured is then no disk."""
    return MEMORY if MEMORY.is_dir() else Path(tempfile.gettempdir())


def program(name: str, about: str, directory: Path | None = None, rounds: int | None = None) -> argparse.ArgumentParser:
    """A parser of the program `python -m name`. Without a directory its files go to `fast_directory()`."""
    given = argparse.ArgumentParser(prog=f"python -m {name}", description=about)
    where = directory or fast_directory()
    given.add_argument("--dir", type=Path, default=where, help="where files go, and are removed (default %(default)s)")
    if rounds is not None:
        given.add_argument("--rounds", type=positive, default=rounds, help="(default %(default)s)")
    return given


def size(text: str) -> int:
    match = re.fullmatch(r"\s*(\d+)\s*([a-zA-Z]*)\s*", text)
    if match is None or match[2].lower() not in UNITS:
        raise argparse.ArgumentTypeError(f"{text!r}: expected bytes, as in 256MiB")
    return int(match[1]) * UNITS[match[2].lower()]


def names(known: Sequence[str]) -> Any:
    def parse(text: str) -> list[str]:
        chosen = [name.strip() for name in text.split(",") if name.strip()]
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return chosen

    return parse


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1")
    return int(text)
