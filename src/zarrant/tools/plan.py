"""What a read or a write of a part of an array would do: see `Array.explain`.

In: an address and a selection in words. Out: a `Plan`. Nothing is stored, and no chunk is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zarrant.nodes.open import open_array
from zarrant.ops.explain import Plan
from zarrant.tools import spelling
from zarrant.tools.describe import check_there


def plan(
    address: Any, selection: str = "...", *, write: bool = False, workers: int = 1, storage_options: Mapping[str, Any] | None = None
) -> Plan:
    """The plan of reading, or writing, a part of the array at an address.

    Args:
        address: of an array.
        selection: as in brackets, "0:100, :, 5"; all of the array if left out.
        write: plan a write.
        workers: also divide it into boxes for so many workers.
        storage_options: options of the store.

    Raises OptionError for a selection that is not understood, BoundsError beyond the array, NodeNotFoundError where there is none.

    >>> import zarrant
    >>> store = zarrant.MemoryStore()
    >>> _ = zarrant.create_array(store, shape=(40, 40), dtype="int8", chunks=(10, 10))
    >>> plan(store, "5:20", write=True).merged
    4
    """
    check_there(address)
    array = open_array(address, mode="r+", storage_options=storage_options)  # its guard is that of writes
    return array.explain(spelling.selection(selection), write=write, workers=workers)
