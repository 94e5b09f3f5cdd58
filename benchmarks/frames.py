"""`python -m benchmarks.frames`: frames that come one by one, as from a camera, into chunks many frames deep.

In come a number of frames, their size and the depth of chunks; out goes a table: seconds of each library, and MB/s. Zarrant appends
through `appender()` and writes through `buffered()`; TensorStore has a transaction for each row of chunks; acquire-zarr streams;
zarr-python stores block by block what the loop has collected, as it would encode each chunk again for every frame. All of them
write one format and sync nothing. The libraries take turns. What each run stored is read by another library, and compared. Ends
with 0 whatever the times, with 1 where something was wrong.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import zarrant
from benchmarks import arrays
from benchmarks.arguments import positive, program
from benchmarks.peers.base import Values
from zarrant.codecs import Zstd

CODECS = {"raw": None, "zstd 1": 1}


def values(count: int, side: int) -> Values:
    """Frames of a camera: a level with noise of about 6 bits, which zstd 1 stores in half the bytes."""
    noise = np.random.default_rng(1).normal(200, 20, (count, side, side))
    return noise.astype(np.uint16)


class Writer:
    """A library: `write` stores frames one by one into a new directory."""

    name: str
    needs: tuple[str, ...] = ()

    def __init__(self, level: int | None, threads: int) -> None:
        self.level, self.threads = level, threads

    def write(self, path: Path, frames: Values, depth: int) -> float:
        """Store frames; returns the seconds from the first one until all are stored."""
        raise NotImplementedError

    def document(self, path: Path, shape: tuple[int, ...], depth: int) -> None:
        """Make an array of a shape."""
        codecs = arrays.CODECS["raw"] if self.level is None else arrays.CODECS["zstd 1"]
        arrays.create(path, arrays.document(shape, (depth, *shape[1:]), codecs))


class Appended(Writer):
    """Zarrant, of which the length is not known before."""

    name = "zarrant appender"

    def write(self, path: Path, frames: Values, depth: int) -> float:
        a = zarrant.create_array(
            path,
            shape=(0, *frames.shape[1:]),
            dtype=frames.dtype,
            chunks=(depth, *frames.shape[1:]),
            compressors=None if self.level is None else Zstd(level=self.level),
            config={"concurrency": self.threads},
        )
        start = time.perf_counter()
        with a.appender() as w:
            for i in range(len(frames)):
                w.append(frames[i : i + 1])
        return time.perf_counter() - start


class Buffered(Writer):
    """Zarrant, into an array of the final length."""

    name = "zarrant buffered"

    def write(self, path: Path, frames: Values, depth: int) -> float:
        self.document(path, frames.shape, depth)
        a = zarrant.open_array(path, config={"concurrency": self.threads})
        start = time.perf_counter()
        with a.buffered() as w:
            for i in range(len(frames)):
                w[i] = frames[i]
        return time.perf_counter() - start


class TensorStore(Writer):
    """A transaction for each row of chunks."""

    name = "tensorstore, transactions"
    needs = ("tensorstore",)

    def write(self, path: Path, frames: Values, depth: int) -> float:
        from benchmarks.peers.base import Settings
        from benchmarks.peers.tensorstore import TensorStore as Peer

        self.document(path, frames.shape, depth)
        handle = Peer(Settings(self.threads)).open(path)
        start = time.perf_counter()
        handle.append(frames, depth)
        return time.perf_counter() - start


class AcquireZarr(Writer):
    """A stream; what it stores is a shard of one chunk."""

    name = "acquire-zarr"
    needs = ("acquire_zarr",)

    def write(self, path: Path, frames: Values, depth: int) -> float:
        import acquire_zarr as aqz

        def dimension(name: str, kind: Any, size: int, chunk: int) -> Any:
            return aqz.Dimension(name=name, kind=kind, array_size_px=size, chunk_size_px=chunk, shard_size_chunks=1)

        side, kinds = frames.shape[1], aqz.DimensionType
        dimensions = [
            dimension("t", kinds.TIME, 0, depth),
            dimension("y", kinds.SPACE, side, side),
            dimension("x", kinds.SPACE, side, side),
        ]
        settings = aqz.ArraySettings(dimensions=dimensions, data_type=aqz.DataType.UINT16)
        if self.level is not None:
            zstd, codec = aqz.Compressor.ZSTD, aqz.CompressionCodec.ZSTD
            settings.compression = aqz.CompressionSettings(compressor=zstd, codec=codec, level=self.level, shuffle=0)
        stream = aqz.ZarrStream(
            aqz.StreamSettings(arrays=[settings], store_path=str(path), version=aqz.ZarrVersion.V3, max_threads=self.threads)
        )
        start = time.perf_counter()
        for frame in frames:
            stream.append(frame)
        stream.close()
        return time.perf_counter() - start


class ZarrPython(Writer):
    """A write for each row of chunks, of frames that the loop has copied."""

    name = "zarr-python, by hand"
    needs = ("zarr",)

    def write(self, path: Path, frames: Values, depth: int) -> float:
        import zarr

        self.document(path, frames.shape, depth)
        with zarr.config.set({"threading.max_workers": self.threads}):
            a: Any = zarr.open_array(path, mode="r+")
            block = np.empty((depth, *frames.shape[1:]), frames.dtype)
            start = time.perf_counter()
            for i, frame in enumerate(frames):
                block[i % depth] = frame
                if i % depth == depth - 1 or i == len(frames) - 1:
                    a[i - i % depth : i + 1] = block[: i % depth + 1]
            return time.perf_counter() - start


WRITERS: tuple[type[Writer], ...] = (Appended, Buffered, TensorStore, AcquireZarr, ZarrPython)


def problem(writer: Writer, path: Path, frames: Values) -> str | None:
    """What is wrong with what a library has stored, as read by another one; None where nothing is."""
    if writer.name.startswith("zarrant") and importlib.util.find_spec("zarr"):
        import zarr

        found: Any = np.asarray(zarr.open_array(path, mode="r")[...])  # type: ignore[arg-type]
    else:
        found = zarrant.open_array(path, mode="r")[...]
    if found.shape != frames.shape:
        return f"{writer.name}: the shape is {found.shape}, not {frames.shape}"
    wrong = int(np.count_nonzero(found != frames))
    return f"{writer.name}: {wrong} of {frames.size} values are wrong" if wrong else None


def measure(
    writers: Sequence[Writer], directory: Path, frames: Values, depth: int, rounds: int
) -> tuple[list[list[float]], list[str]]:
    """Seconds of each library in each round, and what was wrong; one round more comes first, which is not counted."""
    times: list[list[float]] = [[] for _ in writers]
    wrong: list[str] = []
    for turn in range(-1, rounds):
        for writer, seconds in zip(writers, times, strict=True):
            path = directory / "frames.zarr"
            took = writer.write(path, frames, depth)
            if found := problem(writer, path, frames):
                wrong.append(found)
            if turn >= 0:
                seconds.append(took)
            shutil.rmtree(path)
    return times, wrong


def main(arguments: Sequence[str] | None = None) -> int:
    given = program("benchmarks.frames", (__doc__ or "").split("\n")[0], rounds=7)
    given.add_argument("--frames", type=positive, default=128, help="(default %(default)s)")
    given.add_argument("--side", type=positive, default=512, help="of a frame (default %(default)s)")
    given.add_argument("--depth", type=positive, default=32, help="of chunks (default %(default)s)")
    given.add_argument("--threads", type=positive, default=2, help="(default %(default)s)")
    options = given.parse_args(arguments)
    frames = values(options.frames, options.side)
    problems: list[str] = []
    kinds = [kind for kind in WRITERS if all(map(importlib.util.find_spec, kind.needs))]
    print("| codec | library | seconds (median) | fastest | MB/s | Zarrant's appender is faster by |\n|---|---|--:|--:|--:|--:|")
    with tempfile.TemporaryDirectory(prefix="zarrant-frames-", dir=options.dir) as directory:
        for codec, level in CODECS.items():
            writers = [kind(level, options.threads) for kind in kinds]
            times, wrong = measure(writers, Path(directory), frames, options.depth, options.rounds)
            for writer, seconds in zip(writers, times, strict=True):
                middle, ours = median(seconds), median(times[0])
                rate = frames.nbytes / middle / 1e6
                print(
                    f"| {codec} | {writer.name} | {middle:.4f} | {min(seconds):.4f} | {rate:,.0f} | {middle / ours:.2f} |",
                    flush=True,
                )
            problems += wrong
    print("\n".join(problems), end="")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
