"""Limits: what no library can pass here, taken in turn with them.

`CopyLimit` moves the same bytes through the file system in files of the same sizes: no codec, no array. `CodecLimit` calls the
codec on the same chunks or subchunks, already cut out: no file, no array. Both use as many threads as the libraries. `FileLimit`
makes the system calls of small chunks only: open, write, rename; open, read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks import arrays
from benchmarks.jobs import Bench, differing, seconds
from zarrant import kernels

NAME = "limit"
PROGRAMS: dict[str, kernels.Program] = {
    "zstd 1": ((kernels.ZSTD, 1, 0),),
    "gzip 5": ((kernels.GZIP, 5),),
    "blosc": ((kernels.BLOSC, 0, 9, 2, 2, 0),),
}
"""The codecs of `arrays.CODECS` as the kernels take them."""
BATCH = 2**20
"""Bytes of subchunks in one call: as many as stay in a core's cache, too many for the call itself to count."""


class CopyLimit:
    """Write the bytes to files of the size of an object, and read them."""

    phases: tuple[str, ...] = ("write", "read")
    count = 1
    operations = 0

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.path = bench.directory / NAME
        size = 2 * arrays.object_edge(bench.shape) ** 3
        flat, out = bench.data.reshape(-1).view(np.uint8), bench.out.reshape(-1).view(np.uint8)
        self.files = [(str(index), slice(start, start + size)) for index, start in enumerate(range(0, len(flat), size))]
        self.flat, self.out = flat.data, out.data
        self.pool = ThreadPoolExecutor(bench.threads)

    def reset(self, phase: str) -> None:
        if phase == "write":
            shutil.rmtree(self.path, ignore_errors=True)
            self.path.mkdir(parents=True)

    def run(self, phase: str) -> float:
        return seconds(lambda: _all(self.pool, self._write if phase == "write" else self._read, self.files))

    def _write(self, file: tuple[str, slice]) -> None:
        with open(self.path / file[0], "wb", buffering=0) as target:
            part = self.flat[file[1]]
            while part:
                part = part[target.write(part) :]

    def _read(self, file: tuple[str, slice]) -> None:
        with open(self.path / file[0], "rb", buffering=0) as source:
            part = self.out[file[1]]
            while part:
                part = part[source.readinto(part) or len(part) :]

    def problem(self, phase: str) -> str | None:
        if phase == "write":
            return None
        return differing(self.bench.out, self.bench.data)

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class CodecLimit:
    """Encode what is encoded at once, and decode it."""

    phases: tuple[str, ...] = ("write", "read")
    count = 1
    operations = 0

    def __init__(self, bench: Bench, codec: str, subchunk: int | None) -> None:
        self.bench = bench
        self.program = PROGRAMS[codec]
        subchunk = subchunk or arrays.object_edge(bench.shape)
        a, b, c = (extent // subchunk for extent in bench.shape)
        cut = bench.data.reshape(a, subchunk, b, subchunk, c, subchunk).transpose(0, 2, 4, 1, 3, 5)
        self.rows = np.ascontiguousarray(cut).reshape(a * b * c, subchunk**3).view(np.uint8)
        self.decoded = bench.out.reshape(a * b * c, subchunk**3).view(np.uint8)
        step = max(1, BATCH // self.rows.shape[1])
        self.batches = [slice(start, start + step) for start in range(0, len(self.rows), step)]
        self.encoded: dict[int, tuple[Any, Any]] = {}
        self.pool = ThreadPoolExecutor(bench.threads)

    def reset(self, phase: str) -> None:
        if phase == "write":
            self.encoded.clear()

    def run(self, phase: str) -> float:
        return seconds(lambda: _all(self.pool, self._encode if phase == "write" else self._decode, self.batches))

    def _encode(self, batch: slice) -> None:
        self.encoded[batch.start] = kernels.encode(self.program, self.rows[batch])

    def _decode(self, batch: slice) -> None:
        arena, sizes = self.encoded[batch.start]
        rows = self.decoded[batch]
        which = np.zeros(len(rows), np.int64)
        kernels.decode(self.program, [arena], which, np.cumsum(sizes) - sizes, sizes, rows)

    def problem(self, phase: str) -> str | None:
        if phase == "write":
            return None
        wrong = int(np.count_nonzero(self.decoded != self.rows))
        return f"{wrong} bytes are wrong" if wrong else None

    def stored(self) -> int:
        return sum(int(sizes.sum()) for _, sizes in self.encoded.values())


class FileLimit:
    """A file of 20 kB for each chunk: made under another name, written and renamed; opened and read. One thread, no lock."""

    phases: tuple[str, ...] = ("write", "read")
    operations = 0

    def __init__(self, bench: Bench, count: int = 200, nbytes: int = 20_000) -> None:
        self.path, self.count = bench.directory / NAME, count
        self.path.mkdir(parents=True)
        self.data = np.random.default_rng(0).integers(0, 255, nbytes, np.uint8).tobytes()
        self.names = [str(self.path / str(number)) for number in range(count)]
        self.out = bytearray(nbytes)

    def reset(self, phase: str) -> None:
        self.out[:] = bytes(len(self.out))

    def run(self, phase: str) -> float:
        return seconds(self._write if phase == "write" else self._read)

    def _write(self) -> None:
        for name in self.names:
            file = os.open(draft := f"{name}.draft", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            os.write(file, self.data)
            os.close(file)
            os.rename(draft, name)

    def _read(self) -> None:
        for name in self.names:
            file = os.open(name, os.O_RDONLY)
            os.preadv(file, [self.out], 0)
            os.close(file)

    def problem(self, phase: str) -> str | None:
        if phase == "write":
            self._read()
        return None if self.out == self.data else "a file is wrong"

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


def _all(pool: ThreadPoolExecutor, work: Callable[[Any], None], items: Iterable[Any]) -> None:
    for _ in pool.map(work, items):
        pass


def warm(bench: Bench, copies: int) -> None:
    """Touch what the run will need: the memory of the file system, and `out`. Fresh pages can cost a multiple of a copy."""
    bench.out.fill(0)
    path = bench.directory / "warm"
    path.mkdir(parents=True, exist_ok=True)
    room = shutil.disk_usage(path).free // 2
    for index in range(min(copies, room // bench.data.nbytes)):
        bench.data.tofile(path / str(index))
    shutil.rmtree(path)
