"""What every test of bad input asks: the exact class, what the message names, and that nothing stored has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import ZarrantError
from zarrant.stores.local.syscalls import Syscalls

Check = Callable[..., AbstractContextManager[list[Any]]]
SHAPE, CHUNKS, SHARDS = (10, 12), (2, 3), (4, 6)
VALUES = np.arange(120, dtype="int32").reshape(SHAPE) + 1


def contents(place: Any) -> dict[str, bytes | str]:
    """Everything below a directory, or in a dict: names and bytes; lock files and temp files are seen too."""
    if isinstance(place, dict):
        return dict(place)
    found: dict[str, bytes | str] = {}
    for path in sorted(Path(place).rglob("*")):
        found[str(path.relative_to(place))] = path.read_bytes() if path.is_file() and not path.is_symlink() else "other"
    return found


def descriptors() -> set[str]:
    """The open files of this process, by what they lead to."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}")
        except OSError:  # the descriptor of the listing itself
            continue
    return found


@contextmanager
def _refused(place: Any, kind: type[ZarrantError], *words: str, **fields: Any) -> Iterator[list[Any]]:
    before, open_before = contents(place), descriptors()
    caught: list[Any] = []
    with pytest.raises(ZarrantError) as info:
        yield caught
    error = info.value
    caught.append(error)
    # A PartialFailure has a class of its own for each kind of causes.
    assert isinstance(error, kind) and type(error).__name__ == kind.__name__, repr(error)
    missing = [word for word in words if word not in str(error)]
    assert not missing, f"{missing} not in {error}"
    assert {name: getattr(error, name) for name in fields} == fields
    assert contents(place) == before
    assert not descriptors() - open_before


@pytest.fixture
def refused() -> Check:
    """A block that must raise: `refused(place, exact class, words of the message..., fields...)`; the list gets the error."""
    return _refused


@pytest.fixture
def holds() -> Callable[[Any], dict[str, bytes | str]]:
    """`holds(place)`: everything that a directory or dict holds."""
    return contents


@pytest.fixture(params=["memory", "directory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Where an array is kept."""
    return {} if request.param == "memory" else tmp_path / "a.zarr"


@pytest.fixture(params=["chunks", "shards"])
def array(request: pytest.FixtureRequest, place: Any) -> Any:
    """An array full of values whose last row of chunks or shards reaches beyond its edge."""
    shards = SHARDS if request.param == "shards" else None
    made = zarrant.create_array(place, shape=SHAPE, dtype="int32", chunks=CHUNKS, shards=shards, fill_value=0)
    made[...] = VALUES
    return made


class RefusingSyscalls(Syscalls):
    """Raises `number` at the named steps, once `armed`; for steps on paths, only where `part` is in the path."""

    def __init__(self, number: int, steps: tuple[str, ...], part: str = "") -> None:
        self.number, self.steps, self.part = number, steps, part
        self.armed = False

    def _refuse(self, step: str, path: object = None) -> None:
        if self.armed and step in self.steps and (not isinstance(path, str) or self.part in path):
            raise OSError(self.number, os.strerror(self.number), path if isinstance(path, str) else None)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        writing = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        self._refuse("create" if writing else "open", path)
        return super().open(path, flags, mode)

    def write(self, fd: int, views: Any, offset: int) -> int:
        self._refuse("write", os.readlink(f"/proc/self/fd/{fd}"))
        return super().write(fd, views, offset)

    def copy(self, source: int, target: int, length: int, source_offset: int, target_offset: int) -> int:
        self._refuse("copy", os.readlink(f"/proc/self/fd/{target}"))
        return super().copy(source, target, length, source_offset, target_offset)

    def truncate(self, fd: int, size: int) -> None:
        self._refuse("truncate", os.readlink(f"/proc/self/fd/{fd}"))
        super().truncate(fd, size)

    def rename(self, source: str, target: str) -> None:
        self._refuse("rename", target)
        super().rename(source, target)

    def unlink(self, path: str) -> None:
        self._refuse("unlink", path)
        super().unlink(path)

    def mkdir(self, path: str) -> None:
        self._refuse("mkdir", path)
        super().mkdir(path)

    def set_mtime(self, fd: int, nanoseconds: int) -> None:
        self._refuse("set_mtime", os.readlink(f"/proc/self/fd/{fd}"))
        super().set_mtime(fd, nanoseconds)


@pytest.fixture
def refusing() -> type[RefusingSyscalls]:
    """The file calls that refuse."""
    return RefusingSyscalls


DECODE = """
import json, os, resource, sys, zarrant

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def decode(place, chunk, first):
    a = zarrant.open_array(place, mode="r")
    try:
        a.retrieve_chunk(tuple(first))
    except zarrant.errors.ChunkError:
        pass
    before, told = megabytes(), {}
    try:
        a.retrieve_chunk(tuple(chunk))
    except zarrant.errors.ChunkError as error:
        told = {"key": error.key, "chunk": error.chunk, "codec": error.codec, "text": str(error)}
    print(json.dumps({**told, "MiB": megabytes() - before}), flush=True)

for line in sys.stdin:
    child = os.fork()
    if child == 0:
        decode(*json.loads(line))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.fixture(scope="session")
def decode_elsewhere() -> Iterator[Callable[..., dict[str, Any]]]:
    """Lets a process that has decoded nothing decode a chunk: what its error says, and by how many MiB its memory grew.

    Another chunk is decoded first, so that what decoding needs anyway is there. Each call forks one process, which has imported
    the library.
    """
    process = subprocess.Popen([sys.executable, "-c", DECODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    asked, told = process.stdin, process.stdout

    def decode(place: Path, chunk: tuple[int, ...], first: tuple[int, ...]) -> dict[str, Any]:
        print(json.dumps([str(place), chunk, first]), file=asked, flush=True)
        found: dict[str, Any] = json.loads(told.readline())
        return found

    yield decode
    process.communicate(timeout=100)
    assert process.returncode == 0
