"""A box of one stored chunk, or of one subchunk of a shard, replaced by one compiled call.

In: a prepared chain, a box within one chunk, and values. Out: a `BoxUpdate`, for a store that makes it (`storage.UpdateBox`); or
None where the compiled call has no form of it. What it stores is what `Prepared.write` makes of the old object, of which a test
makes sure. The call leaves to that what is not usual when it sees the object: one that is not stored, that is damaged, that
becomes fill, or a shard whose dead bytes are to be laid out anew.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.codecs.protocols import Prepared
from zarrant.codecs.sharding.prepared import Shard
from zarrant.geometry.box import Shape
from zarrant.geometry.region import BoxInChunk, ChunkSelections, Values


class BoxUpdate(NamedTuple):
    """What the compiled call is asked for."""

    layout: Any
    """A `kernels.ChunkLayout`."""
    number: int
    """Of the subchunk, in a shard."""
    box: tuple[Shape, Shape, Shape]
    """Where it begins in the chunk (or subchunk), where in the values, and its shape."""
    values: npt.NDArray[np.generic]


def box_update(prepared: Prepared, box: ChunkSelections, values: Values) -> BoxUpdate | None:
    """The update of a box that lies within the bounds of one chunk."""
    if not isinstance(box, BoxInChunk) or not isinstance(values, np.ndarray) or not box.count:
        return None
    number, given = 0, cast("npt.NDArray[np.generic]", values)
    if isinstance(prepared, Shard):
        layout, inner = prepared.box_layout, prepared.subchunk_pipeline
        if layout is None:
            return None
        within, given = prepared.split_box(box.region(0), box.bounds, given)
        if not isinstance(within, BoxInChunk):
            return None
        box, number = within, prepared.number_of(within.chunk)
    elif isinstance(prepared, FixedSizePipeline):
        layout, inner = prepared.box_layout, prepared
    else:
        return None
    if layout is None or given.dtype != inner.spec.data_type.numpy:
        return None
    return BoxUpdate(layout, number, (box.start, box.value, box.count), given)
