"""Copy an array to other chunks, shards and codecs, in parts that can be done anywhere and go on after a kill.

This is `copy` with a ledger: see there.
"""

from __future__ import annotations

from typing import Any

from zarrant.progress import Report
from zarrant.tools.copy import KEEP, copy
from zarrant.tools.targets import Options


def rechunk(
    source: str,
    target: str,
    *,
    chunks: Any = KEEP,
    shards: Any = KEEP,
    compressors: Any = KEEP,
    scheduler: str = "none",
    workers: int | None = None,
    block_bytes: int | None = None,
    report: Report | None = None,
    source_options: Options = None,
    storage_options: Options = None,
) -> dict[str, Any]:
    """Copy the array at `source` to `target`, or go on with a copy that was broken off.

    Args:
        source: an array. It must not change meanwhile.
        target: where the new array is to be; or is, where the job was started before.
        chunks: their shape; "keep" takes the source's. shards: likewise; None for none.
        compressors: codecs as in `create_array`; "keep" takes the source's.
        scheduler: "none" for threads of this process, "local" for a Dask cluster of processes of this machine, or the address of
            the scheduler of one (extra `dask`). Its workers must reach both addresses.
        workers: units at a time; left out, as many as CPUs, or as the cluster has threads.
        block_bytes: of values in a unit, which is in memory of a worker: 64 MiB if left out. It is one stored object at least.
        report: is called with a `Progress` after each unit.
        source_options: options of the store of the source. storage_options: those of the target.

    Returns:
        What `copy` returns, with `units`, `resumed` (those that were done before), `fill_units` (those of nothing but the fill
        value) and `moved` (whether encoded chunks were moved as they are).

    Raises:
        NodeNotFoundError: nothing is at `source`.
        NodeExistsError: an array is at `target` that is no unfinished copy of this layout.
        ConflictError: the ledger is of another job: another source, or one that was changed since.
    """
    layout: dict[str, Any] = {"chunks": chunks, "shards": shards, "compressors": compressors}
    stores: dict[str, Any] = {"source_options": source_options, "storage_options": storage_options}
    work: dict[str, Any] = {"scheduler": scheduler, "workers": workers, "block_bytes": block_bytes, "report": report}
    return copy(source, target, **layout, **stores, **work)
