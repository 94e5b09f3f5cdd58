"""Buffered writers: what is stored, when, and in which order; errors, limits, ends; threads and event loops."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from children import ended
from zarrant.errors import (
    BoundsError,
    CapabilityError,
    DataTypeError,
    OptionError,
    ReentrantLockError,
    ShapeError,
    StoreError,
    StoreFullError,
    ZarrantError,
    ZarrantWarning,
)
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Recording
from zarrant.stores.wrappers.each_call import Call, EachCall
from zarrant.stores.wrappers.faults import Fault, Faults
from zarrant.testkit import together

S = np.s_


class Gated(EachCall):
    """A store whose writes of chunks wait for a gate, which can be opened for so many of them."""

    lacks = ("put_all",)

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.gate, self.began = threading.Semaphore(0), threading.Semaphore(0)

    @property
    def _settings(self) -> tuple[Any, ...]:
        return ()

    def _perform(self, call: Call, act: Callable[[], Any]) -> Any:
        if call.method.startswith("put") and "c/" in call.key:
            self.began.release()
            assert self.gate.acquire(timeout=30)
        return act()

    async def _perform_async(self, call: Call, act: Callable[[], Awaitable[Any]]) -> Any:
        return await act()


LITTLE: Any = {"name": "bytes", "configuration": {"endian": "little"}}


def sharded(shape: tuple[int, ...], inner: Any) -> Any:
    configuration = {"chunk_shape": list(shape), "codecs": [inner], "index_codecs": [LITTLE]}
    return {"name": "sharding_indexed", "configuration": configuration}


LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (3, 4)},
    "shards": {"chunks": (2, 2), "shards": (4, 6)},
    "nested": {"chunks": (4, 6), "serializer": sharded((2, 6), sharded((2, 2), LITTLE)), "compressors": None},
    "V2": {"chunks": (3, 4), "zarr_format": 2},
    "rectilinear": {"chunks": ((2, 5, 3), (4, 7))},
}


def array(place: Any = None, layout: str = "chunks", dtype: str = "int32", **options: Any) -> Any:
    return zarrant.create_array({} if place is None else place, shape=(10, 11), dtype=dtype, **{**LAYOUTS[layout], **options})


SLICES = st.builds(lambda a, n, step: slice(a, a + n, step), st.integers(0, 9), st.integers(0, 6), st.sampled_from([1, 1, 1, 2]))
ITEMS = st.one_of(SLICES, st.integers(0, 9), st.lists(st.integers(0, 9), min_size=1, max_size=3))


@pytest.mark.parametrize("layout", LAYOUTS)
@given(
    writes=st.lists(st.tuples(SLICES, ITEMS, st.sampled_from([False, False, False, True])), max_size=12),
    limit=st.sampled_from([1, 200, 1 << 20]),
    before=st.booleans(),
)
def test_any_writes_give_what_an_array_gives(layout: str, writes: list[Any], limit: int, before: bool) -> None:
    a, model = array(layout=layout), np.zeros((10, 11), "int32")
    if before:
        model[...] = a[...] = -np.arange(110).reshape(10, 11)
    with a.buffered(memory_limit=limit) as w:
        for number, (rows, columns, flush) in enumerate(writes):
            values = number * 200 + np.arange(110).reshape(10, 11)[rows, columns]
            model[rows, columns] = values
            w[rows, columns] = values
            if flush:
                w.flush()
                assert (a[...] == model).all()
                assert w.nbytes_pending == 0
    assert (a[...] == model).all()


@pytest.mark.parametrize(("dtype", "values"), [("string", "ä long text, longer than fits"), ("float64", 0.5), ("complex64", 1j)])
def test_data_types(dtype: str, values: Any) -> None:
    a = array(dtype=dtype)
    with a.buffered() as w:
        w[...] = values
        w[3, 4] = a.dtype.type() if dtype != "string" else "b"
    assert a[2, 2] == values
    assert a[3, 4] == ("b" if dtype == "string" else 0)


def test_text_is_counted_by_its_length() -> None:
    a = array(dtype="string")
    with a.buffered() as w:
        before = w.nbytes_pending
        w[0, 0] = "x" * 100_000
        assert w.nbytes_pending - before >= 100_000


def test_no_dimensions_and_no_elements() -> None:
    point = zarrant.create_array({}, shape=(), dtype="int8")
    with point.buffered() as w:
        w[()] = 3
        w[...] = 4
    assert point[()] == 4
    empty = zarrant.create_array({}, shape=(0, 3), dtype="int8", chunks=(2, 2))
    with empty.buffered() as w:
        w[...] = 1
        w[0:0] = np.zeros((0, 3), "int8")
    assert empty.nchunks_initialized == 0


@pytest.mark.parametrize("write_empty_chunks", [False, True])
def test_fill_is_stored_as_the_option_says(write_empty_chunks: bool) -> None:
    a = array(config={"write_empty_chunks": write_empty_chunks})
    with a.buffered() as w:
        w[...] = 0
    assert a.nchunks_initialized == (a.nchunks if write_empty_chunks else 0)


@pytest.mark.parametrize("layout", ["chunks", "shards", "V2"])
def test_each_object_is_written_once_and_not_read(tmp_path: Path, layout: str) -> None:
    a = array(tmp_path / "a", layout)
    recording = Recording(a.store)
    b = zarrant.open_array(recording)
    del recording.calls[:]
    with b.buffered() as w:
        for i in range(10):
            w[i] = i + 1
    data = [call for call in recording.calls if not call.key.endswith((".json", ".zarray", ".zattrs"))]
    assert {call.method for call in data} <= {"put", "put_all", "lock"}, data
    puts = [call.key for call in data if call.method.startswith("put")]
    assert len(puts) == len(set(puts))
    assert a[:, 5].tolist() == list(range(1, 11))


def test_data_are_copied_at_once() -> None:
    store = Gated(MemoryStore())
    a = array(store)
    frame = np.arange(11)
    with a.buffered() as w:
        for i in range(10):
            frame[:] = i + 1
            w[i] = frame
            frame[:] = -1
        for _ in range(100):
            store.gate.release()
    assert a[:, 3].tolist() == list(range(1, 11))


def test_a_complete_chunk_is_stored_before_the_end() -> None:
    a = array()
    with a.buffered() as w:
        w[0:3, 0:4] = 5
        deadline = time.monotonic() + 30
        while w.nbytes_pending and time.monotonic() < deadline:
            time.sleep(0.001)
        assert a[0, 0] == 5
        w[3, 0] = 6
        assert a[3, 0] == 0, "a part waits"
    assert a[3, 0] == 6


def test_the_later_write_stays_also_across_a_flush_that_is_under_way() -> None:
    store = Gated(MemoryStore())
    a = array(store)
    with a.buffered() as w:
        w[0:3, 0:4] = 1
        assert store.began.acquire(timeout=30), "the first state is being stored"
        w[0:3, 0:4] = 2
        w[0, 0] = 3
        time.sleep(0.05)
        assert not store.began.acquire(blocking=False), "the second one waits for it"
        for _ in range(3):
            store.gate.release()
    assert a[0:3, 0:4].tolist() == [[3, 2, 2, 2], [2, 2, 2, 2], [2, 2, 2, 2]]


@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_elements_that_nobody_wrote_stay(layout: str) -> None:
    a = array(layout=layout)
    with a.buffered() as w:
        w[0, 0:4] = 1
        w[0:10:2, 5] = 1  # not one box
        a[1, 0:4] = 2  # another writer of the same chunk
        a[1:10:2, 5] = 2
    assert a[:2, :4].tolist() == [[1] * 4, [2] * 4]
    assert a[:, 5].tolist() == [1, 2] * 5


def test_threads_write_the_planes_of_one_shard(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path / "a", shape=(64, 32, 32), dtype="int64", chunks=(8, 16, 16), shards=(32, 32, 32))
    with a.buffered() as w:

        def work(first: int) -> None:
            for i in range(first, 64, 4):
                w[i] = np.full((32, 32), i)

        together(*[lambda k=k: work(k) for k in range(4)])  # type: ignore[misc]
    assert (a[...] == np.arange(64)[:, None, None]).all()


def test_threads_share_one_region() -> None:
    """Each chunk has the values of one of the writes, whole."""
    a = array()
    with a.buffered(memory_limit=500) as w:
        together(*[lambda k=k: [w.__setitem__(S[...], 10 * k + i) for i in range(10)] for k in range(1, 5)])  # type: ignore[misc]
    for chunk in a.iter_chunks():
        assert len(np.unique(a.retrieve_chunk_subset(chunk, S[0:1, 0:1]))) == 1
        assert len(np.unique(a[a.chunk_subset(chunk).slices])) == 1


# limits


def test_what_is_in_memory_never_exceeds_the_limit() -> None:
    store = Gated(MemoryStore())
    a = zarrant.create_array(store, shape=(4096,), dtype="uint8", chunks=(64,))
    seen: list[int] = []
    with a.buffered(memory_limit=512) as w:

        def camera() -> None:
            for i in range(0, 4096, 32):
                w[i : i + 32] = i // 32
                seen.append(w.nbytes_pending)

        thread = threading.Thread(target=camera)
        thread.start()
        time.sleep(0.1)
        assert thread.is_alive(), "the camera waits"
        assert len(seen) <= 512 // 32
        for _ in range(4096):
            store.gate.release()
        thread.join(30)
        assert max(seen) <= 512
    assert (a[...] == (np.arange(4096) // 32).astype("uint8")).all()


MEMORY = """
import resource, sys, threading
import numpy as np, zarrant
from zarrant.stores.wrappers import Latency

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << (0 if sys.platform == "darwin" else 10)

store = Latency(zarrant.stores.FilesystemStore(sys.argv[2]), 0.02)
a = zarrant.create_array(store, shape=(0 if sys.argv[1] == "append" else 512, 512, 512), dtype="uint8", chunks=(16, 512, 512))
frame = np.random.default_rng(1).integers(0, 256, (1, 512, 512), "uint8")  # encoded it is as large
a.append(np.repeat(frame, 16, 0)) if sys.argv[1] == "append" else a.__setitem__(slice(0, 16), 1)  # what is loaded once
before = peak()
if sys.argv[1] == "append":
    with a.appender(memory_limit="32 MiB") as w:
        for i in range(512):
            w.append(frame)
else:
    with a.buffered(memory_limit="32 MiB") as w:
        for i in range(512):
            w[i] = frame[0]
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
@pytest.mark.parametrize("how", ["append", "write"])
def test_the_peak_of_resident_memory_is_the_limit_with_a_slow_store(how: str, tmp_path: Path) -> None:
    """128 MiB of frames, faster than the store takes them; 8 MiB more for threads, and what the allocator keeps."""
    command = [sys.executable, "-c", MEMORY, how, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    assert int(done.stdout) <= 40 << 20


def test_parts_are_stored_where_memory_is_needed() -> None:
    a = zarrant.create_array({}, shape=(64, 64), dtype="uint8", chunks=(8, 64))
    with a.buffered(memory_limit=2048) as w:
        for column in range(64):
            w[:, column] = column
    assert (a[...] == np.arange(64)).all()


@pytest.mark.parametrize("limit", ["1 GiB", 1 << 20])
def test_the_limit_is_bytes_or_words(limit: Any) -> None:
    with array().buffered(memory_limit=limit) as w:
        assert w.memory_limit == (1 << 30 if limit == "1 GiB" else limit)


def test_a_wrong_limit_is_refused() -> None:
    with pytest.raises(OptionError, match="memory_limit"):
        array().buffered(memory_limit="much")


# errors


def test_bad_calls_are_refused_and_the_others_stored() -> None:
    a = array()
    with a.buffered() as w:
        w[0] = 1
        with pytest.raises(BoundsError):
            w[10] = 1
        with pytest.raises(ShapeError):
            w[1] = np.zeros(3, "int32")
        with pytest.raises(DataTypeError):
            w[1] = 1 << 40
        w[2] = 3
    assert a[:3, 0].tolist() == [1, 0, 3]


def test_a_write_beyond_a_stale_shape_looks_once(tmp_path: Path) -> None:
    a = array(tmp_path / "a")
    with a.buffered() as w:
        zarrant.open_array(tmp_path / "a").resize((20, 11))
        w[15] = 4
        w[:, 0] = np.arange(20)
    assert a[15].tolist() == [15, *[4] * 10]


def failing(at: int = 0) -> Any:
    place = MemoryStore()
    array(place)
    return zarrant.open_array(Faults(place, Fault("error", at=at, forever=True, methods=("put", "put_if"), error=StoreFullError)))


def test_the_first_error_names_its_chunk_stops_writes_and_comes_at_the_end() -> None:
    a = failing(at=1)
    with pytest.raises(StoreFullError) as raised, a.buffered() as w:
        w[0:3, 0:4] = 1
        w.flush()
        w[3:6, 4:8] = 1
        with pytest.raises(StoreFullError) as first:
            w.flush()
        assert first.value.chunk == (1, 1)
        with pytest.raises(StoreFullError):
            w[0] = 1
    assert raised.value.chunk == (1, 1)
    assert a[0, 0] == 1, "what flush acknowledged"
    with pytest.raises(StoreFullError):
        w[0] = 1


def test_an_error_in_the_background_ends_a_wait_for_memory() -> None:
    a = failing()
    with pytest.raises(StoreFullError), a.buffered(memory_limit=100) as w:
        for i in range(10):
            w[i] = 1
    assert not a[...].any()


def test_a_body_that_learns_the_error_raises_it_as_it_is() -> None:
    a = failing()
    with pytest.raises(StoreFullError) as raised, a.buffered() as w:
        w[0] = 1
        w.flush()
    assert raised.value.__context__ is None


def test_what_was_written_before_an_exception_is_stored() -> None:
    a = array()
    with pytest.raises(KeyboardInterrupt), a.buffered() as w:
        w[0] = 1
        raise KeyboardInterrupt
    assert a[0, 0] == 1


def test_a_writer_that_waits_for_its_own_lock_is_told() -> None:
    a = array()
    with a.lock(S[0:3, 0:4]), pytest.raises(ReentrantLockError), a.buffered() as w:
        w[0, 0] = 1
    with a.lock(S[...]) as locked:
        with locked.buffered() as w:
            w[0] = 2
            w[0:3, 0:4] = 3
        assert a[0].tolist() == [3] * 4 + [2] * 7
    with a.lock(S[0:3]) as locked, pytest.raises(ZarrantError), locked.buffered() as w:
        w[9] = 1


# ends


def test_use_after_close_and_closing_twice() -> None:
    a = array()
    w = a.buffered()
    w[0] = 1
    w.close()
    w.close()
    assert w.closed
    assert a[0, 0] == 1
    for use in (lambda: w.__setitem__(0, 1), w.flush, w.__enter__):
        with pytest.raises(OptionError, match="closed"):
            use()


def test_two_buffers_of_one_array_inside_each_other() -> None:
    a = array()
    with a.buffered() as outer:
        outer[0] = 1
        with a.buffered() as inner:
            inner[1] = 2
            inner[0, 0] = 7
        assert a[1, 0] == 2
    assert a[:2, 0].tolist() == [1, 2], "what was stored last"


def test_it_is_not_pickled() -> None:
    with array().buffered() as w:
        for way in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(CapabilityError, match="pickled"):
                way(w)
        with pytest.raises(ZarrantError, match="memory_limit"):
            w.memory_limit = 3
        assert "BufferedWriter" in repr(w)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_cannot_use_it_and_stores_nothing(tmp_path: Path) -> None:
    a = array(tmp_path / "a")
    with a.buffered() as w:
        w[0] = 1
        child = os.fork()
        if child == 0:
            status = 0
            for use in (lambda: w.__setitem__(0, 2), w.flush):
                try:
                    use()
                except OptionError as error:
                    status += "belongs to the process" in str(error)
            w.close()
            os._exit(status + 10 * int(a[0, 0]))
        assert os.waitstatus_to_exitcode(ended(child)) == 2
    assert a[0, 0] == 1


def test_a_buffer_that_is_left_open_warns() -> None:
    a = array()
    w = a.buffered()
    w[0] = 1
    with pytest.warns(ZarrantWarning, match="132 bytes|bytes written to it were not stored"):
        del w
        gc.collect()


def test_a_buffer_open_at_the_end_of_the_interpreter_warns(tmp_path: Path) -> None:
    script = (
        "import zarrant, sys\n"
        "a = zarrant.create_array(sys.argv[1], shape=(10,), dtype='int8', chunks=(5,))\n"
        "w = a.buffered()\n"
        "w[0:5] = 1\n"
        "w[5] = 2\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a")], capture_output=True, text=True, check=True, timeout=60
    )
    assert "5 bytes written to it were not stored" in done.stderr
    assert zarrant.open_array(tmp_path / "a")[...].tolist() == [1] * 5 + [0] * 5


def test_a_store_that_cannot_be_read_is_refused() -> None:
    store = MemoryStore()
    array(store)
    with pytest.raises(CapabilityError):
        zarrant.open_array(store, mode="r").buffered()


# event loops


@pytest.mark.parametrize("place", ["memory", "files"])
def test_event_loop(tmp_path: Path, place: str) -> None:
    async def main() -> None:
        a = await zarrant.create_array_async(
            {} if place == "memory" else tmp_path / "a", shape=(10, 11), dtype="int32", chunks=(3, 4)
        )
        frame = np.zeros(11, "int32")
        async with a.buffered(memory_limit=1000) as w:
            for i in range(10):
                frame[:] = i
                await w.write(S[i], frame)
            await w.store_array_subset(S[0, 0], 9)
            await w.flush()
            assert (await a.getitem(S[0, 0])) == 9
            await asyncio.gather(*[w.write(S[i], i + 20) for i in range(10)])
            with pytest.raises(BoundsError):
                await w.write(S[10], 1)
        assert (await a.getitem(S[:, 3])).tolist() == list(range(20, 30))
        with pytest.raises(OptionError, match="closed"):
            await w.write(S[0], 1)
        await w.close()
        with pytest.raises(CapabilityError):
            pickle.dumps(w)

    asyncio.run(main())


def test_event_loop_error() -> None:
    async def main() -> None:
        place = MemoryStore()
        await zarrant.create_array_async(place, shape=(10,), dtype="int8", chunks=(5,))
        fault = Fault("error", at=0, forever=True, methods=("put", "put_if"), error=StoreError)
        a = await zarrant.open_array_async(Faults(place, fault), mode="r+")
        with pytest.raises(StoreError) as raised:
            async with a.buffered() as w:
                await w.write(S[5:10], 1)
                await w.flush()
        assert raised.value.chunk == (1,)

    asyncio.run(main())
