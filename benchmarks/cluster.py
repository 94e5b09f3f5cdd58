"""`python -m benchmarks.cluster`: an array is copied to other chunks on a Dask cluster of processes of this machine.

In come the size, the number of workers and how often one of them is killed; out goes a table of libraries, one after the other on
a cluster of its own: `zarrant rechunk`, zarr-python with Dask, and rechunker and cubed where they are installed. Each result is
compared with the source. CPU is that of all workers, memory the most that one of them had.
"""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import zarrant
from benchmarks.arguments import names, positive, program
from zarrant.tools.rechunk import rechunk
from zarrant.tools.spelling import size as bytes_of

EDGE = 512
PLANES, CUBES = (8, EDGE, EDGE), (128, 128, 128)
"""Chunks of the source and of the target: of 4 MiB each, and none of one is in only one of the other."""
MEMORY = 1 << 30
"""Bytes that rechunker and cubed may use in a worker."""


@dataclass(frozen=True)
class Job:
    """What is to be done, and where."""

    source: Path
    target: Path
    address: str
    workers: int


def make(path: Path, nbytes: int) -> None:
    """The source: values that compress as measured ones do, an eighth of them zero."""
    planes = max(1, nbytes // (2 * EDGE * EDGE * 128)) * 128
    array = zarrant.create_array(
        path, shape=(planes, EDGE, EDGE), dtype="uint16", chunks=PLANES, compressors=zarrant.codecs.Zstd(1)
    )
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:EDGE, :EDGE]
    for z in range(0, planes, 128):
        block = (x + y * y // 32)[None] + rng.integers(0, 16, (128, EDGE, EDGE))
        array[z : z + 128] = (block * (z >= planes // 8)).astype("uint16")


def by_zarrant(job: Job) -> None:
    """`zarrant rechunk`."""
    rechunk(str(job.source), str(job.target), chunks=CUBES, scheduler=job.address)


def by_dask(job: Job) -> None:
    """zarr-python, and Dask's own way of rechunking on a cluster."""
    import dask.array as da

    da.store(da.from_zarr(str(job.source)).rechunk(CUBES), _target(job), lock=False)


def by_rechunker(job: Job) -> None:
    """rechunker, with an array between."""
    import rechunker
    import zarr

    old, between = zarr.open_array(str(job.source), mode="r"), f"{job.target}-between"
    rechunker.rechunk(old, CUBES, MEMORY, str(job.target), temp_store=between, executor="dask").execute()


def by_cubed(job: Job) -> None:
    """cubed, in as many processes of its own: it does not find the workers of a cluster of this year's Dask."""
    import cubed
    from cubed.runtime.executors.local import ProcessesExecutor

    executor = ProcessesExecutor(max_workers=job.workers)
    spec = cubed.Spec(work_dir=f"{job.target}-between", allowed_mem=MEMORY, executor=executor)
    cubed.to_zarr(cubed.from_zarr(str(job.source), spec=spec).rechunk(CUBES), str(job.target))


def _target(job: Job) -> Any:
    import zarr

    old = zarr.open_array(str(job.source), mode="r")
    codec = zarr.codecs.ZstdCodec(level=1)
    return zarr.create_array(str(job.target), shape=old.shape, dtype=old.dtype, chunks=CUBES, compressors=codec, fill_value=0)


WAYS: dict[str, tuple[str, Callable[[Job], None]]] = {
    "zarrant": ("zarrant", by_zarrant),
    "zarr-python + dask": ("zarr", by_dask),
    "rechunker": ("rechunker", by_rechunker),
    "cubed": ("cubed", by_cubed),
}


def correct(source: Path, target: Path) -> bool:
    """Whether every element is there."""
    old, new = zarrant.open_array(source, mode="r"), zarrant.open_array(target, mode="r")
    return all(np.array_equal(old[z : z + 128], new[z : z + 128]) for z in range(0, old.shape[0], 128))


@contextmanager
def killing(cluster: Any, every: float) -> Iterator[list[int]]:
    """Kill a worker every so many seconds; none where that is 0."""
    end, killed = threading.Event(), list[int]()

    def run() -> None:
        while every and not end.wait(every):
            alive = [each.process.pid for each in cluster.workers.values() if each.process and each.process.pid]
            if alive:
                killed.append(random.choice(alive))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield killed
    finally:
        end.set()
        thread.join()


def used(whose: int = resource.RUSAGE_SELF) -> float:
    """CPU seconds of this process, or of its children that have ended."""
    found = resource.getrusage(whose)
    return found.ru_utime + found.ru_stime


def most_memory() -> int:
    """The most bytes that this process had; `getrusage` says what its parent had, where that was more."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def measure(name: str, source: Path, folder: Path, workers: int, kill: float) -> str:
    """One line of the table, on a new cluster."""
    from distributed import Client, LocalCluster

    target = folder / "target"
    nbytes = zarrant.open_array(source, mode="r").nbytes
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with LocalCluster(**options) as cluster, Client(cluster) as client, killing(cluster, kill) as killed:
        client.wait_for_workers(workers)
        client.run(import_module, "zarrant.tools.units")
        client.run(import_module, WAYS[name][0])
        before, children = client.run(used), used(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        try:
            WAYS[name][1](Job(source, target, cluster.scheduler_address, workers))
        except Exception as error:  # a library that cannot do it is told, and the others are measured
            return f"{name:20} {type(error).__name__}: {str(error).splitlines()[0][:90] if str(error) else ''}"
        seconds = time.perf_counter() - start
        after, children = client.run(used), used(resource.RUSAGE_CHILDREN) - children
        memory = max(client.run(most_memory).values())
    cpu = children + sum(after[worker] - before.get(worker, 0.0) for worker in after)
    right = "yes" if correct(source, target) else "NO"
    for path in folder.glob("target*"):
        shutil.rmtree(path)
    cpu_text = "-" if kill else f"{cpu:.1f}"
    return f"{name:20} {seconds:8.1f} {nbytes / seconds / 1e6:8.0f} {cpu_text:>8} {memory / 2**20:8.0f} {len(killed):7} {right:>6}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The table."""
    parser = program("benchmarks.cluster", __doc__, Path(tempfile.gettempdir()))
    parser.add_argument("--size", default="2GiB", help="of the values")
    parser.add_argument("--workers", type=positive, default=4)
    parser.add_argument("--kill", type=float, default=0.0, help="kill a worker every so many seconds; 0: none")
    parser.add_argument("--only", type=names(list(WAYS)), default=list(WAYS), help=f"of {', '.join(WAYS)}")
    words = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=words.dir) as folder:
        source = Path(folder) / "source"
        make(source, bytes_of(words.size, "size"))
        print(f"{words.size} as uint16, chunks of {PLANES} to {CUBES}, {words.workers} processes of one thread")
        print(f"{'':20} {'seconds':>8} {'MB/s':>8} {'CPU s':>8} {'MiB':>8} {'killed':>7} {'right':>6}", flush=True)
        lines = []
        for name in words.only:
            if find_spec(WAYS[name][0]) is None:
                lines.append(f"{name:20} is not installed")
            else:
                lines.append(measure(name, source, Path(folder), words.workers, words.kill))
            print(lines[-1], flush=True)
    return int(any(line.endswith(" NO") for line in lines))


if __name__ == "__main__":
    sys.exit(main())
