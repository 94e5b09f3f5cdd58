"""A box of one chunk, or of some subchunks of a shard, replaced by one compiled call.

In: a prepared chain, a box within one chunk, and values. Out: a `BoxUpdate`, for a store that makes it (`storage.UpdateBox`); or
None where the compiled call has no form of it. What it stores is what `Prepared.write` makes of the old object, of which a test
makes sure: what is not stored begins as fill, and what becomes fill is erased, unless the options say otherwise. The call leaves to
that what is not usual when it sees the object: one that is damaged, or a shard whose dead bytes are to be laid out anew.
"""

from __future__ import annotations

import numpy as np

from zarrant.codecs.protocols import BoxUpdate, Prepared
from zarrant.geometry.region import BoxInChunk, BoxInChunks, ChunkSelections, Values


def box_update(prepared: Prepared, selections: ChunkSelections, row: int, values: Values) -> BoxUpdate | None:
    """The update of a box that lies within the bounds of one chunk."""
    box = selections.part(row) if isinstance(selections, BoxInChunks) else selections
    if not isinstance(box, BoxInChunk) or not isinstance(values, np.ndarray) or not box.count:
        return None
    return prepared.box_update(box, values)
