"""The codec pipeline that zarr-python writes and reads through.

In: what zarr-python asks of a pipeline: chunks of one array, each with a selection in it and its place in the values. Out: the
same effect as of zarr-python's own pipeline, and no value is lost where several write. What is done depends on the array:

| way | where | how |
|---|---|---|
| native | Zarrant knows the store, the codecs and the data type | the operations of `zarrant.Array` |
| merged | Zarrant knows the store | zarr-python's codecs, each object changed under a lock or by compare-and-swap |
| queued | any other store | zarr-python's pipeline; writers of this process take turns at each object |
| handed on | values that are not in the memory of the CPU | zarr-python's pipeline |

Reads that are not native are zarr-python's own; parts of a shard are of one version then, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Self

import numpy as np
from zarr.abc import codec as protocols
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import cpu, default_buffer_prototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.registry import register_pipeline
from zarr.storage import MemoryStore, StorePath

from zarrant.config import config as defaults
from zarrant.integrations.zarr_python import native
from zarrant.integrations.zarr_python.arrays import OurArray, depth_of, find_array, our_store, path_of
from zarrant.integrations.zarr_python.codecs import read_shards, store_merged
from zarrant.integrations.zarr_python.turns import in_turn, warn_unguarded
from zarrant.nodes.base import READ, UPDATE, NodeContext
from zarrant.storage import as_store

ways: Counter[str] = Counter()
"""Calls of this process by the way that they went."""

_PRESENT: tuple[Any, ...] = ({"status": "present"},)


class CodecPipeline(protocols.CodecPipeline):
    """zarr-python's codec pipeline on Zarrant: `ZARR_CODEC_PIPELINE__PATH=zarrant.integrations.zarr_python.CodecPipeline`.

    zarr-python makes one for each array that it opens, and users none. Two are equal where the codecs are.
    """

    def __init__(self, metadata: Any, store: Any, plain: Any) -> None:
        self.metadata, self.store = metadata, store
        self.plain = plain
        """zarr-python's own pipeline of the same codecs."""
        self._depth = depth_of(metadata)
        self._ours: Any = None
        self._known = False
        self._arrays: dict[str, OurArray] = {}

    @classmethod
    def from_codecs(cls, codecs: Iterable[protocols.Codec]) -> Any:
        """zarr-python's own pipeline: what has no store is inside of one object."""
        return BatchedCodecPipeline.from_codecs(codecs)

    @classmethod
    def from_array_metadata_and_store(cls, array_metadata: Any, store: Any) -> Self:
        """The pipeline of an array."""
        return cls(array_metadata, store, _plain(array_metadata))

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """The same: it was made for the array."""
        return self

    @property
    def supports_partial_decode(self) -> bool:
        """Whether parts of an object can be read."""
        return bool(self.plain.supports_partial_decode)

    @property
    def supports_partial_encode(self) -> bool:
        """Whether parts of an object can be written by the codecs alone."""
        return bool(self.plain.supports_partial_encode)

    def __iter__(self) -> Iterator[protocols.Codec]:
        return iter(self.plain)

    def validate(self, **what: Any) -> None:
        """See zarr-python."""
        self.plain.validate(**what)

    def compute_encoded_size(self, byte_length: int, array_spec: ArraySpec) -> int:
        """See zarr-python."""
        return int(self.plain.compute_encoded_size(byte_length, array_spec))

    async def decode(self, chunk_bytes_and_specs: Any) -> Any:
        """See zarr-python."""
        return await self.plain.decode(chunk_bytes_and_specs)

    async def encode(self, chunk_arrays_and_specs: Any) -> Any:
        """See zarr-python."""
        return await self.plain.encode(chunk_arrays_and_specs)

    async def read(self, batch_info: Iterable[Any], out: Any, drop_axes: tuple[int, ...] = ()) -> Any:
        """Read parts of chunks into `out`; says of each whether it was there."""
        batch = list(batch_info)
        ours = await self._find(batch)
        values = _in_memory(out, batch)
        if ours is not None and ours.bound is not None and values is not None and await native.read(ours, batch, values, drop_axes):
            ways["native reads"] += 1
            return _PRESENT * len(batch)
        ways["other reads"] += 1
        if values is None or not self.supports_partial_decode:  # a chunk is one object that is read at once
            return await self.plain.read(batch, out, drop_axes)
        if ours is not None:
            return await read_shards(ours.context, self.plain, batch, out, drop_axes)  # safety: parts of one version
        async with in_turn(self.store, [item[0].path for item in batch]):
            return await self.plain.read(batch, out, drop_axes)

    async def write(self, batch_info: Iterable[Any], value: Any, drop_axes: tuple[int, ...] = ()) -> None:
        """Store parts of chunks: each object is one atomic step."""
        batch = list(batch_info)
        if not batch:
            return
        values = _in_memory(value, batch)
        if values is None:
            warn_unguarded(self.store, "Values outside of the CPU's memory are written by zarr-python itself")
            ways["handed on"] += 1
            await self.plain.write(batch, value, drop_axes)
            return
        ours = await self._find(batch)
        if ours is None:
            await self._queued(batch, value, drop_axes)
        elif ours.bound is not None and await native.write(ours, batch, values, drop_axes):
            ways["native writes"] += 1
        else:
            await self._merged(ours, batch, value, drop_axes)

    async def _merged(self, ours: OurArray, batch: Sequence[Any], value: Any, drop_axes: tuple[int, ...]) -> None:
        ways["merged writes"] += 1
        op = store_merged(self.plain, batch, value, drop_axes, ours.node, ours.context.able.erase_if)
        await ours.context.run_async(op, UPDATE)

    async def _queued(self, batch: Sequence[Any], value: Any, drop_axes: tuple[int, ...]) -> None:
        ways["queued writes"] += 1
        if not isinstance(self.store, MemoryStore):
            warn_unguarded(self.store, "Zarrant cannot keep writers of this store apart")
        async with in_turn(self.store, [item[0].path for item in batch]):
            await self.plain.write(batch, value, drop_axes)

    async def _find(self, batch: Sequence[Any]) -> OurArray | None:
        """What the array of a batch is to us; None where its store is not known."""
        if not batch or not isinstance(batch[0][0], StorePath):
            return None
        if not self._known:
            self._ours, self._known = our_store(self.store), True
        if self._ours is None:
            return None
        path = path_of(batch[0][0].path, self._depth)
        found = self._arrays.get(path)
        if found is None:
            context = NodeContext(as_store(self._ours), path, defaults.config)
            found = self._arrays[path] = await context.run_async(find_array(self._ours, path, self.metadata), READ)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CodecPipeline) and bool(self.plain == other.plain)

    def __hash__(self) -> int:
        return hash(self.plain)

    def __repr__(self) -> str:
        return f"CodecPipeline({', '.join(type(codec).__name__ for codec in self)})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.metadata, self.store)


CodecPipeline.__module__ = __name__.rpartition(".")[0]  # by this name zarr-python finds it
register_pipeline(CodecPipeline)


def _restored(metadata: Any, store: Any) -> CodecPipeline:
    return CodecPipeline.from_array_metadata_and_store(metadata, store)


def _plain(metadata: Any) -> Any:
    """zarr-python's own pipeline of an array: what it makes where no store is given (`CodecPipeline.from_codecs`)."""
    from zarr.core.array import create_codec_pipeline  # which imports pipelines

    return create_codec_pipeline(metadata)


def _in_memory(values: Any, batch: Sequence[Any]) -> Any:
    """The NumPy array of a buffer of zarr-python; None for one that is elsewhere."""
    prototype = batch[0][1].prototype if batch else default_buffer_prototype()
    found = values.as_ndarray_like()
    on_cpu = issubclass(prototype.buffer, cpu.Buffer) and isinstance(found, np.ndarray)
    return found.view(np.ndarray) if on_cpu else None
