"""Reads of boxes of which every chunk, or subchunk, is kept as it was decoded: looked at, and copied, by one compiled call.

In: boxes in chunks, as plain integers, and the array for their values. Out: the chunks of which nothing was copied; these are left
to the general way (`ops.read`), which reads what is not kept, or was replaced. What is kept is used only if the object has its
version at that moment, which the compiled call finds out before it copies (`kernels.compiled.KeptCopier`). So only files are read
this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from zarrant import kernels
from zarrant.codecs.kept import DecodedCache, Keeper
from zarrant.codecs.pipeline.chunk import ChunkPipeline
from zarrant.codecs.sharding.prepared import INDEX_PLACE, NO_BYTES, Shard
from zarrant.geometry.box import Shape
from zarrant.geometry.region import Box, BoxInChunk, BoxInChunks, ChunkSelections
from zarrant.ops.bound_array import Array, BoundArray
from zarrant.requests import Op, ReadRequest, fetch
from zarrant.storage import Blob, Version

BoxesByChunk: TypeAlias = Mapping[Shape, Sequence[Box]]
"""Boxes in coordinates of their chunks."""


class _Found(NamedTuple):
    """A chunk of which all that is wanted is kept."""

    chunk: Shape
    key: str
    version: Version
    boxes: list[kernels.KeptBox]


def boxes_by_chunk(parts: Sequence[ChunkSelections]) -> BoxesByChunk | None:
    """What is read of each chunk; None for what are no boxes in few chunks."""
    boxes: dict[Shape, list[Box]] = {}
    for part in parts:
        if isinstance(part, BoxInChunks):
            for chunk, start, value, count, _ in part.chunks:
                boxes.setdefault(chunk, []).append(Box(start, count, value))
        elif isinstance(part, BoxInChunk):
            boxes.setdefault(part.chunk, []).append(part.region(0))
        else:
            return None
    return boxes


def copy_kept(array: BoundArray, parts: Sequence[ChunkSelections], out: Array) -> Op[set[Shape] | None]:
    """Copy what is kept of boxes to their places; the chunks that are left, None where those are all."""
    cache, shape = array.options.cache, array.grid.uniform_shape
    able = array.options.codec.reads_decoded and kernels.KeptCopier is not None
    if cache is None or shape is None or not able or out.dtype != array.data_type.numpy or out.dtype.hasobject:
        return None
    boxes = boxes_by_chunk(parts)
    if boxes is None:
        return None
    found = _kept_boxes(array, cache, shape, boxes)
    if not found:
        return None
    edge = array.subchunk_shapes[0] if array.sharded else shape
    copier = kernels.KeptCopier([each[2:] for each in found], edge, out, array.fill.element.tobytes())
    requests = [ReadRequest(key, NO_BYTES, version) for _, key, version, _ in found]
    outcomes = yield from fetch(requests, decoder=copier)
    done = {each.chunk for each, blob in zip(found, outcomes, strict=True) if isinstance(blob, Blob) and not blob.data}
    return boxes.keys() - done if done else None


def _kept_boxes(array: BoundArray, cache: DecodedCache, shape: Shape, boxes: BoxesByChunk) -> list[_Found]:
    """Those chunks of which all is kept."""
    prepared, decoding = array.prepared_for(shape), array.decoding
    keys = [array.chunk_key(chunk) for chunk in boxes]
    if isinstance(prepared, Shard):
        return [] if prepared.kept_pieces is None else _boxes_of_shards(array, cache, prepared, boxes, keys)
    if not isinstance(prepared, ChunkPipeline) or prepared.partial.read:
        return []
    kept = cache.find_all([(decoding, key, shape) for key in keys])
    found = [
        _Found(chunk, key, each.version, [(box, [each.value]) for box in parts])
        for (chunk, parts), key, each in zip(boxes.items(), keys, kept, strict=True)
        if each is not None
    ]
    return found if len(found) == len(keys) else []  # the general way decodes all of those together that are not kept


def _boxes_of_shards(
    array: BoundArray, cache: DecodedCache, shard: Shard, boxes: BoxesByChunk, keys: Sequence[str]
) -> list[_Found]:
    found: list[_Found] = []
    for (chunk, parts), key in zip(boxes.items(), keys, strict=True):
        place = (array.decoding, key)
        known: Any = array.indexes.find(key) or cache.find((*place, *INDEX_PLACE))
        if known is not None:
            version, index = known
            kept = shard.kept_boxes(Keeper(cache, place, version), index, parts)
            if kept is not None:
                found.append(_Found(chunk, key, version, kept))
    return found
