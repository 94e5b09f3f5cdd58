"""Operations on a store that is waited for: their steps take turns, and wait for each other a moment at most."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.stores.object_store import ObjectStore

obstore = pytest.importorskip("obstore")


def waited_for() -> ObjectStore:
    store = ObjectStore(obstore.store.MemoryStore())
    store.__dict__["capabilities"] = store.capabilities.__class__(
        store.capabilities.sync_calls, one_process=True, version=True, requests_in_flight=8
    )
    return store


def test_functions_that_read_and_wait_for_others_that_read() -> None:
    """Each holds its turn until all have read: more of them than there are turns."""
    array = zarrant.create_array(waited_for(), data=np.arange(64), chunks=8)
    together = threading.Barrier(8)

    def change(old: Any) -> Any:
        together.wait(30)
        return old + int(array[0:64].sum()) * 0 + 100

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda i: array.update(np.s_[8 * i : 8 * i + 8], change), range(8)))
    assert array[...].tolist() == list(range(100, 164))


def test_many_chunks_side_by_side() -> None:
    array = zarrant.create_array(waited_for(), shape=(4096,), dtype="int32", chunks=8)
    array[...] = np.arange(4096)
    assert (array[...] == np.arange(4096)).all()
