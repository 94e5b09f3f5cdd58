"""TensorStore, told to use as many threads as the others, no cache, and by default no fsync.

It reads into the caller's memory by copying into a view of it, which is faster than `read()`, and its writes may refer to the
source, as nobody changes it meanwhile. Appending uses a transaction for each chunk, which is how it is meant to be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tensorstore as ts

from benchmarks.peers.base import Region, Settings, Values


class TensorStore:
    """TensorStore's zarr3 driver on files."""

    name = "tensorstore"
    version = version("tensorstore")
    module = "tensorstore"
    subchunk_limit = None

    def __init__(self, settings: Settings) -> None:
        self.context = ts.Context(
            {
                "data_copy_concurrency": {"limit": settings.threads},
                "file_io_concurrency": {"limit": settings.threads},
                "file_io_sync": settings.sync,
                "cache_pool": {"total_bytes_limit": 0},
            }
        )

    def open(self, path: Path) -> TensorStoreHandle:
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        return TensorStoreHandle(ts.open(spec, open=True, context=self.context).result(), self.context)

    def open_kept(self, path: Path, nbytes: int) -> TensorStoreHandle:
        context = ts.Context({**self.context.spec.to_json(), "cache_pool": {"total_bytes_limit": nbytes}})
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/"}}
        return TensorStoreHandle(ts.open(spec, open=True, context=context).result(), context)


class TensorStoreHandle:
    """An array of TensorStore."""

    def __init__(self, array: Any, context: Any) -> None:
        self.array = array
        self.context = context

    def write(self, region: Region, values: Values) -> None:
        self.array[region].write(values, can_reference_source_data_indefinitely=True).result()

    def read(self, region: Region, out: Values) -> None:
        view = ts.array(out, context=self.context, copy=False, write=True)
        # A region's domain starts where the region does, that of the view at 0.
        view.write(self.array[region].translate_to[[0] * out.ndim]).result()

    def select(self, kind: str, key: Any) -> Any:
        return {"basic": self.array, "outer": self.array.oindex, "points": self.array.vindex}[kind][key].read().result()

    def assign(self, kind: str, key: Any, values: Any) -> None:
        {"basic": self.array, "outer": self.array.oindex, "points": self.array.vindex}[kind][key].write(values).result()

    def read_many(self, regions: Sequence[Region]) -> Sequence[Any]:
        return [each.result() for each in [self.array[region].read() for region in regions]]

    def append(self, frames: Values, depth: int) -> None:
        for start in range(0, len(frames), depth):
            with ts.Transaction() as transaction:
                staged = self.array.with_transaction(transaction)
                for index in range(start, min(start + depth, len(frames))):
                    staged[index].write(frames[index]).result()
