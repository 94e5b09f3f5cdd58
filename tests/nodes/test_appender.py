"""Appenders: the places that slabs get, what readers see meanwhile, several appenders at once; errors and ends."""

from __future__ import annotations

import asyncio
import os
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from children import ended
from nodes.test_buffered import Gated, sharded
from zarrant.errors import BoundsError, OptionError, ShapeError, StoreFullError
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Recording
from zarrant.stores.wrappers.faults import Fault, Faults
from zarrant.testkit import together

S = np.s_
LITTLE: Any = {"name": "bytes", "configuration": {"endian": "little"}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4, 3)},
    "shards": {"chunks": (2, 3), "shards": (4, 6)},
    "nested": {"chunks": (4, 6), "serializer": sharded((2, 6), sharded((1, 3), LITTLE)), "compressors": None},
    "V2": {"chunks": (4, 3), "zarr_format": 2},
    "single rows": {"chunks": (1, 6)},
}


def array(place: Any = None, layout: str = "chunks", length: int = 0, **options: Any) -> Any:
    place = {} if place is None else place
    return zarrant.create_array(place, shape=(length, 6), dtype="int32", **{**LAYOUTS[layout], **options})


def slab(first: int, n: int = 1) -> np.ndarray:
    return np.broadcast_to(np.arange(first, first + n, dtype="int32")[:, None], (n, 6))


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    lengths=st.lists(st.integers(0, 9), max_size=12),
    before=st.integers(0, 5),
    limit=st.sampled_from([1, 300, 1 << 20]),
    flushes=st.sets(st.integers(0, 11)),
)
def test_slabs_lie_one_behind_the_other(layout: str, lengths: list[int], before: int, limit: int, flushes: set[int]) -> None:
    a = array(layout=layout, length=before)
    a[...] = -1
    places, at = [], before
    with a.appender(memory_limit=limit) as w:
        for i, n in enumerate(lengths):
            places.append(w.append(slab(at, n)))
            at += n
            if i in flushes:
                w.flush()
                assert a.shape[0] == at
                assert all(place.slice is not None for place in places)
    assert a[:, 2].tolist() == [-1] * before + list(range(before, at))
    assert [place.slice for place in places] == [
        slice(before + sum(lengths[:i]), before + sum(lengths[: i + 1])) for i in range(len(lengths))
    ]


def test_the_other_axis_and_text() -> None:
    a = zarrant.create_array({}, shape=(2, 0), dtype="string", chunks=(2, 3))
    with a.appender(axis=-1) as w:
        for i in range(7):
            w.append([[f"{i}"], ["ä" * i]])
    assert a[0].tolist() == [str(i) for i in range(7)]
    assert a[1, 6] == "ä" * 6


def test_whole_chunks_are_shown_as_soon_as_they_are_complete_and_written_once(tmp_path: Path) -> None:
    a = array(tmp_path / "a", "shards")
    recording = Recording(a.store)
    b = zarrant.open_array(recording)
    del recording.calls[:]
    with b.appender() as w:
        for i in range(10):
            w.append(slab(i))
        deadline = time.monotonic() + 30
        while a.shape[0] < 8 and time.monotonic() < deadline:
            time.sleep(0.001)
            a.refresh()
        assert a.shape == (8, 6)
        assert a[...].tolist() == slab(0, 8).tolist()
    puts = [call.key for call in recording.calls if call.method.startswith("put") and "c/" in call.key]
    assert sorted(puts) == ["c/0/0", "c/1/0", "c/2/0"]


def test_data_are_copied_at_once_and_a_full_memory_holds_the_camera() -> None:
    store = Gated(MemoryStore())
    a = array(store)
    frame, done = slab(0).copy(), []
    with a.appender(memory_limit=4 * 4 * 6 * 4) as w:

        def camera() -> None:
            for i in range(64):
                frame[...] = i
                w.append(frame)
                frame[...] = -1
                done.append(i)

        thread = threading.Thread(target=camera)
        thread.start()
        assert store.began.acquire(timeout=30)
        time.sleep(0.1)
        assert len(done) <= 16
        assert w.nbytes_pending <= 4 * 4 * 6 * 4
        for _ in range(200):
            store.gate.release()
        thread.join(30)
    assert a[:, 0].tolist() == list(range(64))


def test_appends_keep_their_order_while_one_is_under_way() -> None:
    store = Gated(MemoryStore())
    a = array(store, "single rows")
    with a.appender() as w:
        for i in range(20):
            w.append(slab(i))
        for _ in range(20):
            store.gate.release()
    assert a[:, 0].tolist() == list(range(20))


def test_threads_append_and_each_slab_is_where_it_says() -> None:
    a = array(layout="shards")
    places: list[Any] = []
    with a.appender() as w:
        together(*[lambda k=k: [places.append((10 * k, w.append(slab(10 * k, 3)))) for _ in range(10)] for k in range(4)])  # type: ignore[misc]
    assert a.shape[0] == 120
    assert all(a[place.slice, 0].tolist() == list(range(first, first + 3)) for first, place in places)


def test_two_appenders_of_one_array(tmp_path: Path) -> None:
    array(tmp_path / "a", "shards")

    def work(k: int) -> None:
        a = zarrant.open_array(tmp_path / "a")
        with a.appender() as w:
            places = [w.append(slab(100 * k + i, 3)) for i in range(20)]
        a.refresh()
        for i, place in enumerate(places):
            assert a[place.slice, 0].tolist() == [100 * k + i + j for j in range(3)]

    together(*[lambda k=k: work(k) for k in range(3)])  # type: ignore[misc]
    assert zarrant.open_array(tmp_path / "a").shape == (180, 6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_processes_append_at_once(tmp_path: Path) -> None:
    array(tmp_path / "a", "shards")
    children = []
    for k in range(3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            status = 1
            try:
                a = zarrant.open_array(tmp_path / "a")
                with a.appender() as w:
                    places = [w.append(slab(100 * k + i)) for i in range(30)]
                a.refresh()
                status = int(any(a[place.slice, 0].tolist() != [100 * k + i] for i, place in enumerate(places)))
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(ended(child)) for child in children] == [0, 0, 0]
    found = zarrant.open_array(tmp_path / "a")[:, 0].tolist()
    assert sorted(found) == [100 * k + i for k in range(3) for i in range(30)]


def test_readers_never_see_a_length_without_its_data(tmp_path: Path) -> None:
    a = array(tmp_path / "a", "shards")
    stop = threading.Event()

    def read() -> None:
        b = zarrant.open_array(tmp_path / "a", mode="r")
        while not stop.is_set():
            b.refresh()
            n = b.shape[0]
            assert b[:n, 0].tolist() == list(range(1, n + 1))

    def write() -> None:
        try:
            with a.appender() as w:
                for i in range(100):
                    w.append(slab(i + 1))
        finally:
            stop.set()

    together(read, write)


def test_errors_lose_nothing_that_was_acknowledged_and_leave_no_hole() -> None:
    place = MemoryStore()
    array(place)
    fault = Fault("error", at=4, forever=True, methods=("put", "put_if"), key=r"c/.*", error=StoreFullError)
    a = zarrant.open_array(Faults(place, fault))
    with pytest.raises(StoreFullError) as raised, a.appender() as w:
        first = w.append(slab(0, 4))
        w.flush()
        assert first.slice == slice(0, 4)
        for i in range(4, 40):
            last = w.append(slab(i))
        w.flush()
    assert "c/" in str(raised.value)
    assert last.slice is None
    assert "memory" in repr(last)
    kept = zarrant.open_array(place)
    assert kept[:, 0].tolist() == list(range(kept.shape[0]))
    assert kept.shape[0] >= 4


def test_bad_calls() -> None:
    a = array()
    with pytest.raises(BoundsError, match="dimension"):
        a.appender(axis=2)
    with a.appender() as w:
        with pytest.raises(ShapeError, match="newaxis"):
            w.append(np.zeros(6, "int32"))
        with pytest.raises(ShapeError):
            w.append(np.zeros((1, 5), "int32"))
        w.append(slab(0))
    assert a.shape == (1, 6)
    with pytest.raises(OptionError, match="closed"):
        w.append(slab(0))
    with pytest.raises(OptionError, match="closed"), w:
        pass
    w.close()


def test_what_was_appended_before_an_exception_is_stored() -> None:
    a = array()
    with pytest.raises(KeyboardInterrupt), a.appender() as w:
        w.append(slab(7))
        raise KeyboardInterrupt
    assert a[...].tolist() == slab(7).tolist()


@pytest.mark.parametrize("server", ["gofakes3", "moto"])
def test_object_stores(request: pytest.FixtureRequest, server: str) -> None:
    service = request.getfixturevalue(server)
    a = array(service.fresh_url(), "shards", storage_options=service.storage_options)
    with a.appender() as w:
        for i in range(11):
            w.append(slab(i))
    with a.buffered() as b:
        for i in range(0, 11, 2):
            b[i] = 100
    assert a[:, 0].tolist() == [i if i % 2 else 100 for i in range(11)]


def test_event_loop(tmp_path: Path) -> None:
    async def main() -> None:
        a = await zarrant.create_array_async(tmp_path / "a", shape=(0, 6), dtype="int32", chunks=(4, 6))
        async with a.appender(memory_limit=300) as w:
            places = [await w.append(slab(i)) for i in range(30)]
            await w.flush()
            assert places[-1].slice == slice(29, 30)
            await asyncio.gather(*[w.append(slab(i)) for i in range(30, 40)])
        assert (await a.getitem(S[:, 1])).tolist() == list(range(40))
        with pytest.raises(OptionError, match="closed"):
            await w.append(slab(0))

    asyncio.run(main())


def test_event_loop_of_an_object_store(gofakes3: Any) -> None:
    async def main() -> None:
        url, options = gofakes3.fresh_url(), gofakes3.storage_options
        a = await zarrant.create_array_async(url, shape=(0, 6), dtype="int32", chunks=(4, 6), storage_options=options)
        async with a.appender() as w:
            for i in range(10):
                await w.append(slab(i))
        async with a.buffered() as b:
            for i in range(0, 10, 2):
                await b.write(S[i], 100)
        assert (await a.getitem(S[:, 1])).tolist() == [i if i % 2 else 100 for i in range(10)]

    asyncio.run(main())
