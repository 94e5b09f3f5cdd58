"""How each library opens an array of an S3 server, writes and reads it. Caches of data are off; all else is as it comes.

A peer opens a `Handle` at an endpoint. A handle that lacks a call of the protocol cannot do that, and is noted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

import numpy as np

from benchmarks.peers.base import Region, Values

BUCKET = "zarrant"
KEY, SECRET, REGION_NAME = "zarrant", "zarrant-secret", "us-east-1"
IN_FLIGHT = 32
"""Requests at once, for libraries whose default is less: TensorStore's default, and more than zarr-python's 10."""


class Unable(Exception):
    """The library cannot do this on an object store."""


class Handle(Protocol):
    """An open array."""

    def write(self, region: Region, values: Values) -> None:
        """Store values."""

    def read(self, region: Region) -> Any:
        """Read a region."""

    def read_many(self, regions: Sequence[Region]) -> list[Any]:
        """Read regions, as many at once as the library likes."""

    def subsets(self, regions: Sequence[Region]) -> list[Any]:
        """Read regions with one call."""

    def points(self, index: tuple[Any, ...]) -> Any:
        """Single elements, in one call."""

    def append(self, values: Values) -> None:
        """Make the array longer along its first dimension."""


Open = Callable[[str, str], Any]


def obstore_store(endpoint: str, prefix: str) -> Any:
    from obstore.store import S3Store

    keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region": REGION_NAME}
    return S3Store(BUCKET, prefix=prefix, endpoint=endpoint, client_options={"allow_http": True}, **keys)


class Ours:
    """Zarrant, called as blocking code does."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        import zarrant

        self.array = zarrant.open_array(*self.place(endpoint, prefix), mode="r+", storage_options=self.options(endpoint))

    @staticmethod
    def place(endpoint: str, prefix: str) -> tuple[str]:
        return (f"s3://{BUCKET}/{prefix}",)

    @staticmethod
    def options(endpoint: str) -> dict[str, Any]:
        keys = {"access_key_id": KEY, "secret_access_key": SECRET, "region": REGION_NAME}
        return {"endpoint": endpoint, "client_options": {"allow_http": True}, **keys}

    def write(self, region: Region, values: Values) -> None:
        self.array[region] = values

    def read(self, region: Region) -> Any:
        return self.array[region]

    def subsets(self, regions: Sequence[Region]) -> list[Any]:
        found: list[Any] = self.array.retrieve_array_subsets(regions)
        return found

    def points(self, index: tuple[Any, ...]) -> Any:
        return self.array.vindex[index]

    def read_many(self, regions: Sequence[Region]) -> list[Any]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(IN_FLIGHT) as threads:
            return list(threads.map(self.read, regions))

    def append(self, values: Values) -> None:
        self.array.append(values)


class Awaited:
    """A handle whose calls are coroutines, run one after another on a loop; `read_many` gathers."""

    array: Any

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def get(self, region: Region) -> Any:
        raise NotImplementedError

    def read(self, region: Region) -> Any:
        return self.run(self.get(region))

    def read_many(self, regions: Sequence[Region]) -> list[Any]:
        async def all_of_them() -> list[Any]:
            return list(await asyncio.gather(*(self.get(region) for region in regions)))

        found: list[Any] = self.run(all_of_them())
        return found

    def close(self) -> None:
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()


class OursAwaited(Awaited):
    """Zarrant from an event loop."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        import zarrant

        super().__init__()
        place, options = Ours.place(endpoint, prefix), Ours.options(endpoint)
        self.array = self.run(zarrant.open_array_async(*place, mode="r+", storage_options=options))

    async def get(self, region: Region) -> Any:
        return await self.array.getitem(region)

    def write(self, region: Region, values: Values) -> None:
        self.run(self.array.setitem(region, values))

    def subsets(self, regions: Sequence[Region]) -> list[Any]:
        found: list[Any] = self.run(self.array.retrieve_array_subsets(regions))
        return found

    def points(self, index: tuple[Any, ...]) -> Any:
        return self.run(self.array.getitem(index, index="points"))

    def append(self, values: Values) -> None:
        self.run(self.array.append(values))


class TensorStore:
    """TensorStore without a cache: every read asks for the index of its shard."""

    cache = 0

    def __init__(self, endpoint: str, prefix: str) -> None:
        import tensorstore as ts

        os.environ.update(AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
        self.ts = ts
        context = ts.Context({"cache_pool": {"total_bytes_limit": self.cache}, "s3_request_concurrency": {"limit": IN_FLIGHT}})
        place = {"driver": "s3", "bucket": BUCKET, "path": f"{prefix}/", "endpoint": endpoint, "aws_region": REGION_NAME}
        place["aws_credentials"] = {"type": "environment"}
        self.array = ts.open({"driver": "zarr3", "kvstore": place}, open=True, context=context).result()

    def write(self, region: Region, values: Values) -> None:
        self.array[region].write(values, can_reference_source_data_indefinitely=True).result()

    def read(self, region: Region) -> Any:
        return self.array[region].read().result()

    def subsets(self, regions: Sequence[Region]) -> list[Any]:
        with self.ts.Batch() as batch:
            futures = [self.array[region].read(batch=batch) for region in regions]
        return [future.result() for future in futures]

    def points(self, index: tuple[Any, ...]) -> Any:
        return self.array.vindex[index].read().result()

    def read_many(self, regions: Sequence[Region]) -> list[Any]:
        return [future.result() for future in [self.array[region].read() for region in regions]]

    def append(self, values: Values) -> None:
        size = self.array.shape[0]
        self.array = self.array.resize(exclusive_max=[size + len(values), *self.array.shape[1:]]).result()
        self.array[size:].write(values).result()


class TensorStoreCached(TensorStore):
    """TensorStore with a cache of 256 MiB, which asks the server each time whether what it has is still right."""

    cache = 256 << 20


class Zarr:
    """zarr-python over obstore."""

    pipeline = "zarr.core.codec_pipeline.BatchedCodecPipeline"

    def __init__(self, endpoint: str, prefix: str) -> None:
        import zarr

        zarr.config.set({"async.concurrency": IN_FLIGHT})
        self.zarr = zarr
        with zarr.config.set({"codec_pipeline.path": self.pipeline, "codec_pipeline.strict": True}):
            self.array = zarr.open_array(self.store(endpoint, prefix), mode="r+", zarr_format=3)

    def store(self, endpoint: str, prefix: str) -> Any:
        return self.zarr.storage.ObjectStore(obstore_store(endpoint, prefix))

    def write(self, region: Region, values: Values) -> None:
        self.array[region] = values

    def read(self, region: Region) -> Any:
        return self.array[region]

    def subsets(self, regions: Sequence[Region]) -> list[Any]:
        raise Unable("it has no call that reads several regions")

    def points(self, index: tuple[Any, ...]) -> Any:
        return self.array.vindex[index]

    def read_many(self, regions: Sequence[Region]) -> list[Any]:
        from zarr.core.sync import sync

        async def all_of_them() -> list[Any]:
            return list(await asyncio.gather(*(self.array.async_array.getitem(region) for region in regions)))

        found: list[Any] = sync(all_of_them())
        return found

    def append(self, values: Values) -> None:
        self.array.append(values)


class ZarrFsspec(Zarr):
    """zarr-python over s3fs."""

    def store(self, endpoint: str, prefix: str) -> Any:
        options = {"key": KEY, "secret": SECRET, "endpoint_url": endpoint, "use_listings_cache": False}
        options |= {"skip_instance_cache": True, "client_kwargs": {"region_name": REGION_NAME}}
        return self.zarr.storage.FsspecStore.from_url(f"s3://{BUCKET}/{prefix}", storage_options=options)


class Zarrs(Zarr):
    """zarr-python over obstore, with the codec pipeline of zarrs; strict, so that nothing falls back silently."""

    pipeline = "zarrs.ZarrsCodecPipeline"

    def __init__(self, endpoint: str, prefix: str) -> None:
        import zarrs  # noqa: F401 - registers its pipeline

        super().__init__(endpoint, prefix)

    def points(self, index: tuple[Any, ...]) -> Any:
        raise Unable("its pipeline reads boxes only")


class Zarrista(Awaited):
    """zarrista over obstore: coroutines only. It keeps the indexes of shards where it is given a cache, and never looks again."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        import zarrista

        super().__init__()

        async def open_array() -> Any:  # its functions are no coroutines, and ask for the loop when they are called
            return await zarrista.AsyncArray.open(obstore_store(endpoint, prefix))

        self.array = self.run(open_array())

    async def get(self, region: Region) -> Any:
        return np.asarray(await self.array.retrieve_array_subset(region))

    def write(self, region: Region, values: Values) -> None:
        async def store() -> None:
            await self.array.store_array_subset(region, np.ascontiguousarray(values))

        self.run(store())

    def subsets(self, regions: Sequence[Region]) -> list[Any]:
        raise Unable("it has no call that reads several regions")

    def points(self, index: tuple[Any, ...]) -> Any:
        raise Unable("it reads boxes only")

    def append(self, values: Values) -> None:
        raise Unable("it has no call that appends")


class ZarristaCached(Zarrista):
    """zarrista with its cache of shard indexes, for reads of whole subchunks."""

    def __init__(self, endpoint: str, prefix: str) -> None:
        super().__init__(endpoint, prefix)
        self.cache = self.array.shard_cache()
        self.sizes = [int(n) for n in self.array.subchunk_shape or self.array.effective_subchunk_shape]

    async def get(self, region: Region) -> Any:
        index = [part.start // n for part, n in zip(region, self.sizes, strict=True)]
        if [part.stop - part.start for part in region] != self.sizes:
            raise Unable("its cache serves whole subchunks only")
        return np.asarray(await self.array.retrieve_subchunk(index, shard_cache=self.cache))

    def write(self, region: Region, values: Values) -> None:
        raise Unable("writes as zarrista does")


PEERS: dict[str, tuple[Open, str]] = {
    "zarrant": (Ours, "zarrant"),
    "zarrant async": (OursAwaited, "zarrant"),
    "tensorstore": (TensorStore, "tensorstore"),
    "tensorstore, cache": (TensorStoreCached, "tensorstore"),
    "zarrs-python": (Zarrs, "zarrs"),
    "zarrista": (Zarrista, "zarrista"),
    "zarrista, cache": (ZarristaCached, "zarrista"),
    "zarr, obstore": (Zarr, "zarr"),
    "zarr, s3fs": (ZarrFsspec, "s3fs"),
}
"""How each is opened, and its distribution; in the order of columns."""
OURS = ("zarrant", "zarrant async")


def installed(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """The peers that are there, and those that are not."""
    found, missing = [], []
    for name in names:
        try:
            version(PEERS[name][1])
        except PackageNotFoundError:
            missing.append(name)
        else:
            found.append(name)
    return found, missing


def versions(names: Sequence[str]) -> str:
    """The versions of what is compared, and of what stands between them and the server."""
    found = dict.fromkeys([*(PEERS[name][1] for name in names), "zarr", "obstore", "numpy"])
    return ", ".join(f"{name} {version(name)}" for name in found)
