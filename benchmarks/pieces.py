"""Jobs on pieces of arrays: small chunks, random regions, sources of other layouts, many small files, one shard in one go.

Each is a `Job` (see `jobs`): what was written is read by another library, and every piece that was read is compared.
"""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks import arrays
from benchmarks.jobs import Bench, Updates, differing, erase_chunks, read_back, seconds, spoil
from benchmarks.peers import find_peers
from benchmarks.peers.base import Handle, Peer, Region, Settings, Values


class SmallChunks:
    """Chunks of 20 kB, one call for each: whole ones, or the inner quarter of each; then the same elements read."""

    phases: tuple[str, ...] = ("write", "read")
    operations = 0
    EDGE = 100
    BEFORE = 2
    """What the chunks are filled with before: no fill value, of which nothing is stored."""

    def __init__(self, bench: Bench, peer: Peer, count: int, part: bool) -> None:
        self.bench, self.peer, self.count = bench, peer, count
        edge, margin = self.EDGE, self.EDGE // 4 if part else 0
        self.path = bench.directory / peer.name
        self.data: Values = arrays.values((1, edge, edge * count))[0] | np.uint16(1)
        arrays.create(self.path, arrays.document(self.data.shape, (edge, edge), arrays.CODECS["raw"]))
        whole = slice(margin, edge - margin)
        self.regions: list[Region] = [(whole, slice(n * edge + margin, (n + 1) * edge - margin)) for n in range(count)]
        self.blocks = [np.ascontiguousarray(self.data[region]) for region in self.regions]
        self.expected = np.full_like(self.data, self.BEFORE)
        for region, block in zip(self.regions, self.blocks, strict=True):
            self.expected[region] = block
        self.outs = [np.empty_like(block) for block in self.blocks]
        self.handle = peer.open(self.path)

    def reset(self, phase: str) -> None:
        for out in self.outs:
            out.fill(0)
        if phase == "write":  # the chunks are there: a part of one is an update
            self.handle.write((slice(0, self.EDGE), slice(0, self.data.shape[1])), np.full_like(self.data, self.BEFORE))
        else:
            self._write()

    def run(self, phase: str) -> float:
        return seconds(self._write if phase == "write" else self._read)

    def _write(self) -> None:
        for region, block in zip(self.regions, self.blocks, strict=True):
            self.handle.write(region, block)

    def _read(self) -> None:
        for region, out in zip(self.regions, self.outs, strict=True):
            self.handle.read(region, out)

    def problem(self, phase: str) -> str | None:
        if phase == "read":
            return next((found for a, b in zip(self.outs, self.blocks, strict=True) if (found := differing(a, b))), None)
        return read_back(self.bench.referee(self.peer), self.path, self.expected, np.empty_like(self.expected))

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class Regions:
    """Random regions of an array that is there, one call for each; `cold` opens it first, `warm` has read the regions before."""

    phases: tuple[str, ...] = ("cold", "warm")

    def __init__(self, bench: Bench, peer: Peer, count: int, edge: int, subchunk: int | None, aligned: bool = False) -> None:
        self.bench, self.peer, self.count = bench, peer, count
        side = arrays.object_edge(bench.shape)
        edge = min(edge, side // 2)
        self.path = bench.directory / peer.name
        inner = None if subchunk is None else (subchunk,) * 3
        chunk = (side if subchunk else min(64, side),) * 3
        arrays.create(self.path, arrays.document(bench.shape, chunk, arrays.CODECS["zstd 1"], inner))
        self.operations = bench.data.size // subchunk**3 if subchunk else 0
        step = edge if aligned else 1
        dice = np.random.default_rng(3)
        corners = dice.integers(0, [(extent - edge) // step + 1 for extent in bench.shape], (count, 3)) * step
        self.regions: list[Region] = [tuple(slice(c, c + edge) for c in corner) for corner in corners.tolist()]
        self.outs = np.empty((count, edge, edge, edge), np.uint16)
        self.handle: Handle = peer.open(self.path)

    def reset(self, phase: str) -> None:
        if not (self.path / "c").exists():
            self.handle.write(self.bench.whole, self.bench.data)
        self.outs.fill(0)
        if phase == "warm":
            self._read()
            self.outs.fill(0)

    def run(self, phase: str) -> float:
        if phase == "cold":
            self.handle = self.peer.open(self.path)
        return seconds(self._read)

    def _read(self) -> None:
        for region, out in zip(self.regions, self.outs, strict=True):
            self.handle.read(region, out)

    def problem(self, phase: str) -> str | None:
        pairs = zip(self.outs, self.regions, strict=True)
        return next((found for out, region in pairs if (found := differing(out, self.bench.data[region]))), None)

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class Layout:
    """The whole array from and into memory of another layout or byte order, or stored in another one."""

    phases: tuple[str, ...] = ("write", "read")
    count = 1

    def __init__(self, bench: Bench, peer: Peer, order: str, subchunk: int | None = None) -> None:
        self.bench, self.peer = bench, peer
        self.path = bench.directory / peer.name
        edge = arrays.object_edge(bench.shape)
        inner = None if subchunk is None else (subchunk,) * 3
        document = arrays.document(bench.shape, (edge,) * 3, arrays.CODECS["zstd 1"], inner)
        self.operations = bench.data.size // subchunk**3 if subchunk else 0
        codecs: Any = document["codecs"] if inner is None else document["codecs"][0]["configuration"]["codecs"]
        if order == "big":
            codecs[0] = {"name": "bytes", "configuration": {"endian": "big"}}
        if order == "transposed":
            codecs.insert(0, {"name": "transpose", "configuration": {"order": [2, 1, 0]}})
        arrays.create(self.path, document)
        self.source = self._memory(order)
        self.out = np.zeros_like(self.source) if order == "fortran" else bench.out
        self.handle = peer.open(self.path)

    def _memory(self, order: str) -> Values:
        data = self.bench.data
        if order == "fortran":
            return np.asfortranarray(data)
        if order == "big-source":
            return data.astype(data.dtype.newbyteorder())
        if order == "strided":
            wide = np.zeros((*data.shape[:-1], 2 * data.shape[-1]), data.dtype)
            wide[..., ::2] = data
            return wide[..., ::2]
        return data

    def reset(self, phase: str) -> None:
        if phase == "write":
            erase_chunks(self.path)
        else:
            spoil(self.out, self.bench.data)

    def run(self, phase: str) -> float:
        if phase == "write":
            return seconds(lambda: self.handle.write(self.bench.whole, self.source))
        return seconds(lambda: self.handle.read(self.bench.whole, self.out))

    def problem(self, phase: str) -> str | None:
        if phase == "read":
            return differing(self.out, self.bench.data)
        return read_back(self.bench.referee(self.peer), self.path, self.bench.data, self.bench.out)

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class ManyFiles:
    """Small chunks, all in one call: written, written again with other values, read."""

    phases: tuple[str, ...] = ("write", "rewrite", "read")

    def __init__(self, bench: Bench, peer: Peer, chunks: int, chunk: tuple[int, int, int] = (8, 8, 8)) -> None:
        self.bench, self.peer = bench, peer
        self.path = bench.directory / peer.name
        self.count = min(chunks, bench.data.nbytes // math.prod(chunk))
        self.operations = self.count  # a library that needs long for a subchunk needs as long for a file
        self.data: Values = arrays.values((*chunk[:2], chunk[2] * self.count)) | np.uint16(1)
        self.whole: Region = tuple(slice(0, extent) for extent in self.data.shape)
        self.out = np.empty_like(self.data)
        arrays.create(self.path, arrays.document(self.data.shape, chunk, arrays.CODECS["raw"]))
        self.handle = peer.open(self.path)

    def reset(self, phase: str) -> None:
        if phase == "write":
            erase_chunks(self.path)
        elif phase == "rewrite":
            self.data ^= np.uint16(256)
        else:
            spoil(self.out, self.data)

    def run(self, phase: str) -> float:
        if phase == "read":
            return seconds(lambda: self.handle.read(self.whole, self.out))
        return seconds(lambda: self.handle.write(self.whole, self.data))

    def problem(self, phase: str) -> str | None:
        if phase == "read":
            return differing(self.out, self.data)
        return read_back(self.bench.referee(self.peer), self.path, self.data, self.out)

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class Strings:
    """Strings of 0 to 40 characters, some of them not ASCII, in chunks of 20,000: all written, and all read.

    Few libraries store them, so what one wrote is read by another of those that do.
    """

    phases: tuple[str, ...] = ("write", "read")
    operations = 0
    CHUNK, READERS = 20_000, ("zarr-python", "zarrant")

    def __init__(self, bench: Bench, peer: Peer, count: int) -> None:
        self.bench, self.peer = bench, peer
        self.count = min(count, bench.data.nbytes // 32)
        self.path = bench.directory / peer.name
        words = [f"{'wörter'[: n % 7]} {n**3 % 1000003} {'x' * (n % 23)}" for n in range(self.count)]
        self.data: Any = np.array(words, np.dtypes.StringDType())
        self.out: Any = np.full_like(self.data, "?")
        document = arrays.document((self.count,), (self.CHUNK,), arrays.CODECS["zstd 1"])
        document |= {"data_type": "string", "fill_value": ""}
        document["codecs"][0] = {"name": "vlen-utf8"}
        arrays.create(self.path, document)
        self.handle = peer.open(self.path)

    def reset(self, phase: str) -> None:
        self.out.fill("?")
        if phase == "write":
            erase_chunks(self.path)

    def run(self, phase: str) -> float:
        act = self.handle.read if phase == "read" else self.handle.write
        return seconds(lambda: act((slice(0, self.count),), self.out if phase == "read" else self.data))

    def problem(self, phase: str) -> str | None:
        if phase == "write":
            readers, _ = find_peers([name for name in self.READERS if name != self.peer.name], Settings(self.bench.threads))
            next(iter(readers.values()), self.peer).open(self.path).read((slice(0, self.count),), self.out)
        wrong = int(np.count_nonzero(self.out != self.data))
        return f"{wrong} of {self.count} strings are wrong" if wrong else None

    def stored(self) -> int:
        return arrays.stored_bytes(self.path)


class OneShard(Updates):
    """The updates of one shard through what a library has for that (`partial_encoder`), or one by one."""

    def _update(self) -> None:
        together = getattr(self.handle, "update_object", None)
        if together is None:
            super()._update()
        else:
            together(self.regions, self.values)


class StartUp:
    """A new process that imports the library, beside one that imports NumPy only, whose time is taken off."""

    phases: tuple[str, ...] = ("import",)
    count = 1
    operations = 0

    def __init__(self, bench: Bench, peer: Peer) -> None:
        self.module = peer.module

    def reset(self, phase: str) -> None: ...

    def run(self, phase: str) -> float:
        return max(1e-4, self._import(f"numpy, {self.module}") - self._import("numpy"))

    def _import(self, modules: str) -> float:
        command = [sys.executable, "-c", f"import time; t = time.perf_counter(); import {modules}; print(time.perf_counter() - t)"]
        return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)

    def problem(self, phase: str) -> str | None:
        return None

    def stored(self) -> int:
        return 1
