"""A box of one stored chunk, or of some subchunks of a shard, replaced by one compiled call.

In: a prepared chain, a box within one chunk, and values. Out: a `BoxUpdate`, for a store that makes it (`storage.UpdateBox`); or
None where the compiled call has no form of it. What it stores is what `Prepared.write` makes of the old object, of which a test
makes sure. The call leaves to that what is not usual when it sees the object: one that is not stored, that is damaged, that
becomes fill, or a shard whose dead bytes are to be laid out anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.codecs.pipeline.fixed_size import MAX_UPDATED_BYTES, FixedSizePipeline
from zarrant.codecs.protocols import Prepared
from zarrant.codecs.sharding.prepared import Shard
from zarrant.geometry.box import Shape
from zarrant.geometry.region import BoxInChunk, BoxInChunks, ChunkSelections, Values

Piece: TypeAlias = tuple[int, Shape, Shape, Shape]
"""What of a box lies in one subchunk (or in the chunk): its number, where it begins there, where in the values, and its shape."""


class BoxUpdate(NamedTuple):
    """What the compiled call is asked for."""

    layout: Any
    """A `kernels.ChunkLayout`."""
    pieces: tuple[Piece, ...]
    values: npt.NDArray[np.generic]
    nbytes: int
    """Of what is decoded and encoded."""


def box_update(prepared: Prepared, selections: ChunkSelections, row: int, values: Values) -> BoxUpdate | None:
    """The update of a box that lies within the bounds of one chunk."""
    box = selections.part(row) if isinstance(selections, BoxInChunks) else selections
    if not isinstance(box, BoxInChunk) or not isinstance(values, np.ndarray) or not box.count:
        return None
    if isinstance(prepared, Shard):
        return _of_shard(prepared, box, values)
    if isinstance(prepared, FixedSizePipeline) and prepared.box_layout is not None:
        return _update(prepared.box_layout, prepared, ((0, box.start, box.value, box.count),), values)
    return None


def _of_shard(shard: Shard, box: BoxInChunk, values: npt.NDArray[np.generic]) -> BoxUpdate | None:
    layout, inner = shard.box_layout, shard.subchunk_pipeline
    if layout is None:
        return None
    parts, values = shard.split_box(box.region(0), box.bounds, values)
    if isinstance(parts, BoxInChunk):
        return _update(layout, inner, ((shard.number_of(parts.chunk), parts.start, parts.value, parts.count),), values)
    if not isinstance(parts, BoxInChunks) or parts.n * inner.spec.nbytes > MAX_UPDATED_BYTES or shard.options.subchunk_order != "C":
        return None
    pieces = tuple([(shard.number_of(chunk), start, value, count) for chunk, start, value, count, _ in parts.chunks])
    return _update(layout, inner, pieces, values)


def _update(layout: Any, pipeline: Prepared, pieces: tuple[Piece, ...], values: npt.NDArray[np.generic]) -> BoxUpdate | None:
    spec = pipeline.spec
    return BoxUpdate(layout, pieces, values, len(pieces) * spec.nbytes) if values.dtype == spec.data_type.numpy else None
