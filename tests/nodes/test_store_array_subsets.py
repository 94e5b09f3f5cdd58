"""`store_array_subsets`: like one assignment after the other, but each stored object is read at most once and written once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Transpose
from zarrant.errors import BoundsError, ShapeError
from zarrant.stores.wrappers import Recording

LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (7, 5)},
    "shards": {"chunks": (4, 4), "shards": (16, 16)},
    "transposed shards": {"chunks": (4, 4), "shards": (16, 16), "filters": Transpose((1, 0))},
}
WRITES = ("put", "put_if", "splice", "erase", "erase_if")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_later_pairs_win_and_objects_are_written_once(layout: str) -> None:
    rng = np.random.default_rng(1)
    store = Recording(zarrant.MemoryStore())
    a = zarrant.create_array(store, shape=(61, 53), dtype="int32", **LAYOUTS[layout])
    expected = np.full((61, 53), 5, "int32")
    a[...] = 5
    for _ in range(20):
        pairs = []
        for _ in range(rng.integers(1, 12)):
            (x0, x1), (y0, y1) = sorted(rng.integers(0, 62, 2)), sorted(rng.integers(0, 54, 2))
            values = rng.integers(0, 9, (x1 - x0, y1 - y0))
            pairs.append((np.s_[x0:x1, y0:y1], values.astype("int32")))
            expected[x0:x1, y0:y1] = values
        store.calls.clear()
        a.store_array_subsets(pairs)
        written = Counter(call.key for call in store.calls if call.method in WRITES)
        assert max(written.values(), default=1) == 1
        assert np.array_equal(a[...], expected)


def test_a_wrong_pair_stops_all() -> None:
    a = zarrant.create_array({}, shape=(10,), dtype="int16", chunks=(5,))
    with pytest.raises(BoundsError):
        a.store_array_subsets([(np.s_[0:2], 1), (np.s_[8:11], 1)])
    with pytest.raises(ShapeError):
        a.store_array_subsets([(np.s_[0:2], 1), (np.s_[0:3], np.zeros(2, "int16"))])
    a.store_array_subsets([])
    a.store_array_subsets([(np.s_[4:4], np.zeros(0, "int16"))])
    assert not a[...].any()
