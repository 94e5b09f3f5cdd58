"""The table of workloads: what each does, by name, in the order in which they run.

A row names a job (what is done, see `jobs` and `contend`), its parameters and the limit to show beside it. Adding a workload
is adding a row. Out goes, for a size, the list of `Workload`s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.contend import Alone, Contended
from benchmarks.jobs import Bench, Bulk, Frames, Job, Tiny, Updates
from benchmarks.limits import CodecLimit, CopyLimit, FileLimit
from benchmarks.peers.base import Peer
from benchmarks.pieces import Layout, ManyFiles, OneShard, Regions, SmallChunks, StartUp, Strings
from benchmarks.selections import Assignments, Selections

MakeJob = Callable[[Bench, Peer], Job]
MIB = 2**20


@dataclass(frozen=True)
class Workload:
    """One row of the table: a job for each peer, and the limit that no library can pass, where there is one."""

    name: str
    title: str
    job: MakeJob
    limit: Callable[[Bench], Job] | None = None
    at_most: int = 2**62
    """Bytes of the array, however large the others are."""
    streams: bool = False
    """Whether it is frames that arrive one by one, which a library may do that does nothing else."""


def _bulk(name: str, title: str, codec: str, subchunk: int | None = None, **more: Any) -> Workload:
    limit = CopyLimit if codec == "raw" else partial(CodecLimit, codec=codec, subchunk=subchunk)
    return Workload(name, title, partial(Bulk, codec=codec, subchunk=subchunk), limit=limit, **more)


_SMALL = 32 * MIB
"""zarr-python needs about a millisecond for each subchunk: 1024 of them keep it to a second, and everyone else at the same size."""

_PIECES: dict[str, Any] = {"at_most": 128 * MIB}

WORKLOADS: tuple[Workload, ...] = (
    _bulk("raw", "raw", "raw"),
    _bulk("zstd", "zstd 1", "zstd 1"),
    _bulk("gzip", "gzip 5", "gzip 5"),
    _bulk("blosc", "blosclz 9 + bitshuffle", "blosc"),
    _bulk("sharded-raw-32", "sharded raw, 32³", "raw", 32),
    _bulk("sharded-blosc-32", "sharded blosc, 32³", "blosc", 32),
    _bulk("sharded-zstd-32", "sharded zstd 1, 32³", "zstd 1", 32),
    _bulk("sharded-zstd-16", "sharded zstd 1, 16³", "zstd 1", 16),
    _bulk("sharded-zstd-8", "sharded zstd 1, 8³", "zstd 1", 8),
    _bulk("small-raw-32", "≤ 32 MiB: sharded raw, 32³", "raw", 32, at_most=_SMALL),
    _bulk("small-blosc-32", "≤ 32 MiB: sharded blosc, 32³", "blosc", 32, at_most=_SMALL),
    _bulk("small-zstd-32", "≤ 32 MiB: sharded zstd 1, 32³", "zstd 1", 32, at_most=_SMALL),
    Workload("updates-aligned", "48 updates of a 32³ subchunk, aligned", partial(Updates, count=48, aligned=True)),
    Workload("updates-unaligned", "48 updates of 32³, unaligned", partial(Updates, count=48, aligned=False)),
    Workload("append", "128 frames one by one, chunks 32 deep", partial(Frames, count=128, depth=32), streams=True),
    Workload("append-plain", "the same, a plain write for each", partial(Frames, count=128, depth=32, plain=True)),
    Workload("tiny", "50 × open + write + read 2 kB", partial(Tiny, count=50)),
    Workload("updates-one-shard", "48 updates of one shard, in one go", partial(OneShard, count=48, aligned=True)),
    Workload("chunk-whole", "200 whole chunks of 20 kB", partial(SmallChunks, count=200, part=False), limit=FileLimit),
    Workload("chunk-part", "200 parts of chunks of 20 kB", partial(SmallChunks, count=200, part=True)),
    Workload(
        "subchunks", "100 single subchunks of 32³", partial(Regions, count=100, edge=32, subchunk=32, aligned=True), **_PIECES
    ),
    Workload("crops", "100 crops of 64³, chunks of 64³", partial(Regions, count=100, edge=64, subchunk=None), **_PIECES),
    Workload("crops-sharded-32", "100 crops of 64³, 32³ in shards", partial(Regions, count=100, edge=64, subchunk=32), **_PIECES),
    Workload("crops-sharded-8", "100 crops of 64³, 8³ in shards", partial(Regions, count=100, edge=64, subchunk=8), **_PIECES),
    Workload("selections", "10 selections, chunks of 64³", partial(Selections, count=10), **_PIECES),
    Workload("selections-sharded-32", "10 selections, 32³ in shards", partial(Selections, count=10, subchunk=32), **_PIECES),
    Workload("assignments", "4 selections written, chunks of 64³", partial(Assignments, count=4), **_PIECES),
    Workload(
        "assignments-sharded-32", "4 selections written, 32³ in shards", partial(Assignments, count=4, subchunk=32), **_PIECES
    ),
    Workload("fortran", "zstd 1 from Fortran order", partial(Layout, order="fortran"), **_PIECES),
    Workload("fortran-sharded", "sharded zstd 1 from Fortran order", partial(Layout, order="fortran", subchunk=32), **_PIECES),
    Workload("transposed", "zstd 1, stored transposed", partial(Layout, order="transposed"), **_PIECES),
    Workload("strided", "zstd 1 from every second element", partial(Layout, order="strided"), **_PIECES),
    Workload("big-endian", "zstd 1, stored big-endian", partial(Layout, order="big"), **_PIECES),
    Workload("big-endian-source", "zstd 1 from big-endian memory", partial(Layout, order="big-source"), **_PIECES),
    Workload("big-endian-sharded", "sharded zstd 1, big-endian", partial(Layout, order="big", subchunk=32), **_PIECES),
    Workload("files", "20,000 chunks of 1 kB, one call", partial(ManyFiles, chunks=20_000)),
    Workload("files-4k", "100,000 chunks of 4 KiB, one call", partial(ManyFiles, chunks=100_000, chunk=(8, 16, 16))),
    Workload("strings", "1,000,000 strings in chunks of 20,000", partial(Strings, count=1_000_000)),
    Workload("start-up", "import, less that of NumPy", StartUp, streams=True),
    Workload("uncontended", "1 process updates the same shards", Alone),
    Workload("contended", "4 processes update shared shards", partial(Contended, processes=4)),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
