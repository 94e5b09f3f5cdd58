"""A box of one chunk, or of some subchunks of a shard, replaced by one compiled call; or lists of indices, steps, points.

In: a prepared chain, what of one chunk is replaced, and values. Out: a `BoxUpdate`, for a store that makes it
(`storage.UpdateBox`); or None where the compiled call has no form of it. What it stores is what `Prepared.write` makes of the old
object, of which a test makes sure: what is not stored begins as fill, and what becomes fill is erased, unless the options say
otherwise. The call leaves to that what is not usual when it sees the object: one that is damaged, or a shard that is to be
packed anew.
"""

from __future__ import annotations

import numpy as np

from zarrant.codecs.protocols import BoxUpdate, Prepared
from zarrant.geometry.region import BoxInChunks, ChunkSelections, Values


def box_update(prepared: Prepared, selections: ChunkSelections, row: int, values: Values) -> BoxUpdate | None:
    """The update of what lies within the bounds of chunk `row`."""
    if not isinstance(values, np.ndarray) or not values.ndim:
        return None
    if isinstance(selections, BoxInChunks):
        selections, row = selections.part(row), 0
    return prepared.box_update(selections, row, values)
