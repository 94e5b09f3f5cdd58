"""Reads of boxes of which every chunk, or subchunk, is kept as it was decoded: looked at, and copied, by one compiled call.

In: boxes in chunks, as plain integers, and the array for their values. Out: the chunks of which nothing was copied; these are left
to the general way (`ops.read`), which reads what is not kept, or was replaced. What is kept is used only if the object has its
version at that moment, which the compiled call finds out before it copies (`kernels.compiled.KeptCopier`). So only files are read
this way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

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
_Found: TypeAlias = tuple[Version, list[kernels.KeptBox]]


def boxes_by_chunk(parts: Sequence[ChunkSelections]) -> BoxesByChunk | None:
    """What is read of each chunk; None for what are no boxes in few chunks."""
    boxes: dict[Shape, list[Box]] = {}
    for part in parts:
        if isinstance(part, BoxInChunk):
            boxes.setdefault(part.chunk, []).append(Box(part.start, part.count, part.value))
        elif isinstance(part, BoxInChunks):
            for chunk, start, value, count, _ in part.chunks:
                boxes.setdefault(chunk, []).append(Box(start, count, value))
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
    requests = [ReadRequest(array.chunk_key(chunk), NO_BYTES, version) for chunk, (version, _) in found.items()]
    edge = array.subchunk_shapes[0] if array.sharded else shape
    copier = kernels.KeptCopier(list(found.values()), edge, out, array.fill.element.tobytes())
    outcomes = yield from fetch(requests, decoder=copier)
    done = {chunk for chunk, blob in zip(found, outcomes, strict=True) if isinstance(blob, Blob) and not blob.data}
    return boxes.keys() - done if done else None


def _kept_boxes(array: BoundArray, cache: DecodedCache, shape: Shape, boxes: BoxesByChunk) -> dict[Shape, _Found]:
    """Of those chunks of which all is kept what is kept, and its version."""
    prepared = array.prepared_for(shape)
    if isinstance(prepared, Shard):
        return {} if prepared.kept_pieces is None else _boxes_of_shards(array, cache, prepared, boxes)
    if not isinstance(prepared, ChunkPipeline) or prepared.partial.read:
        return {}
    kept = cache.find_all([(array.decoding, array.chunk_key(chunk), shape) for chunk in boxes])
    if None in kept:  # the general way decodes all of those together
        return {}
    return {
        chunk: (each.version, [kernels.KeptBox(box.start, box.value, box.shape, [each.value]) for box in parts])
        for (chunk, parts), each in zip(boxes.items(), kept, strict=True)
        if each is not None
    }


def _boxes_of_shards(array: BoundArray, cache: DecodedCache, shard: Shard, boxes: BoxesByChunk) -> dict[Shape, _Found]:
    found: dict[Shape, _Found] = {}
    for chunk, parts in boxes.items():
        place = (array.decoding, array.chunk_key(chunk))
        known: Any = array.indexes.find(place[1]) or cache.find((*place, *INDEX_PLACE))
        if known is not None:
            version, index = known
            kept = shard.kept_boxes(Keeper(cache, place, version), index, parts)
            if kept is not None:
                found[chunk] = (version, kept)
    return found
