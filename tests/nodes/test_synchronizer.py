from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, LostUpdateError, OptionError, PartialFailure, ZarrantWarning
from zarrant.locking.local import KeyQueues
from zarrant.stores.memory import MemoryStore
from zarrant.testkit import CasStore, FaultySyscalls, together

LAYOUT: dict[str, Any] = {"shape": (64,), "dtype": "uint32", "chunks": (8,), "shards": (64,)}


class Service:
    """A lock service."""

    def __init__(self) -> None:
        self.queues = KeyQueues()
        self.log: list[tuple[str, ...]] = []

    @contextmanager
    def lock(self, keys: Sequence[str], timeout: float) -> Iterator[None]:
        with self.queues.lock(keys, time.monotonic() + timeout):
            self.log.append(tuple(keys))
            yield

    def __repr__(self) -> str:
        return "Service()"


class Plain:
    """A store without locks and without compare-and-swap."""

    url = "test://plain"

    def __init__(self) -> None:
        self.inner = MemoryStore()
        for name in ("get", "get_ranges", "put", "erase", "erase_prefix", "list_prefix", "list_dir"):
            setattr(self, name, getattr(self.inner, name))


def test_arrays_on_files_are_replaced_and_deleted_under_a_synchronizer(tmp_path: Path) -> None:
    service = Service()
    group = zarrant.create_group(tmp_path, synchronizer=service, config={"lock_timeout": 1.0})
    for dtype in ("uint8", "float64"):
        a = group.create_array("a", shape=(8,), dtype=dtype, chunks=(2,), overwrite=True)
        a[...] = 3
        assert zarrant.open_array(tmp_path, name="a", mode="r")[...].tolist() == [3] * 8
    del group["a"]
    assert list(group) == []


def test_nothing_is_lost_in_a_plain_store_under_a_synchronizer() -> None:
    store, service = Plain(), Service()
    a = zarrant.create_array(store, synchronizer=service, **LAYOUT)
    assert "Service()" in repr(a)

    def work(worker: int) -> None:
        mine = zarrant.open_array(store, synchronizer=service)
        for i in range(worker, 64, 4):
            mine[i : i + 1] = i + 1
            mine.update_attributes({str(i): i})

    together(*(lambda worker=worker: work(worker) for worker in range(4)))
    assert a[...].tolist() == list(range(1, 65))
    a.refresh()
    assert len(a.attrs) == 64
    assert {("c/0",), ("zarr.json",)} <= set(service.log)


def test_whole_writes_and_erasing_take_it_and_groups_hand_it_down() -> None:
    service = Service()
    group = zarrant.create_group({}, synchronizer=service)
    a = group.create_array("a", **LAYOUT)
    service.log.clear()
    a.store_chunk((0,), np.arange(64, dtype="uint32"))
    a.erase_chunk((0,))
    a[...]
    assert service.log == [("a/c/0",)] * 2


def test_coroutines_too(tmp_path: Path) -> None:
    service = Service()

    async def work() -> None:
        a = await zarrant.create_array_async(tmp_path, synchronizer=service, **LAYOUT)
        await asyncio.gather(*(a.setitem(slice(i, i + 1), i) for i in range(64)))
        assert (await a.getitem(...)).tolist() == list(range(64))
        assert "synchronizer Service(), and os locks" in a.guard

    asyncio.run(work())
    assert 1 <= service.log.count(("c/0",)) <= 64, "those that wait share a write"


def test_lock_holds_it() -> None:
    service = Service()
    a = zarrant.create_array(Plain(), synchronizer=service, **LAYOUT)
    service.log.clear()
    with a.lock(np.s_[:]) as locked:
        locked[3:5] = 7
        locked[4:6] = 8
    assert service.log == [("c/0",)]
    assert a[2:7].tolist() == [0, 7, 8, 8, 0]


def test_a_store_that_can_only_compare_and_swap_is_not_locked(tmp_path: Path) -> None:
    """Between two operations nothing would keep the other processes out."""
    store = CasStore(tmp_path)
    group = zarrant.create_group(store)
    a = group.create_array("a", **LAYOUT)

    async def awaited() -> None:
        b = await zarrant.open_array_async(store, name="a")
        async with b.lock(np.s_[0:8]):
            pass

    for refused in (lambda: a.lock(np.s_[0:8]).__enter__(), lambda: group.lock({"a": np.s_[0:8]}).__enter__()):
        with pytest.raises(CapabilityError, match="synchronizer="):
            refused()
    with pytest.raises(CapabilityError, match="synchronizer="):
        asyncio.run(awaited())
    with zarrant.open_array(store, name="a", synchronizer=Service()).lock(np.s_[0:8]) as locked:
        locked[0:2] = 1
    with a.partial_encoder((0,)) as encoder:
        encoder.store(np.s_[2:4], 2)
    assert a[:5].tolist() == [1, 1, 2, 2, 0]


def test_what_is_none_is_refused() -> None:
    data: dict[str, bytes] = {}
    for wrong in (True, "lock", 3):
        with pytest.raises(OptionError) as caught:
            zarrant.create_array(data, synchronizer=wrong, **LAYOUT)
        assert caught.value.field == "synchronizer"
    assert data == {}


# ── none ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("opening", ["create_array", "open_array", "create_group", "open"])
def test_none_warns_the_caller(tmp_path: Path, opening: str) -> None:
    if opening == "open":
        zarrant.create_array(tmp_path, **LAYOUT)
    options = LAYOUT if opening.endswith("array") else {}
    with pytest.warns(ZarrantWarning, match="can be lost") as caught:
        node = getattr(zarrant, opening)(tmp_path, synchronizer=None, **options)
    assert caught[0].filename == __file__
    if opening != "create_group":
        assert "none (synchronizer=None)" in repr(node)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zarrant.open(tmp_path, synchronizer="auto")


class Racing:
    """Lets a rival write when an update has read and not yet written."""

    def __init__(self, store: Any, key: str) -> None:
        self.store, self.key, self.rival = store, key, lambda: None
        self.url = "test://racing"
        for name in ("get", "put", "put_if", "splice", "erase", "erase_if", "erase_prefix", "list_prefix", "list_dir", "lock"):
            if hasattr(store, name):
                setattr(self, name, getattr(store, name))
        for name in ("get", "get_ranges"):
            setattr(self, name, self._reading(getattr(store, name)))

    def _reading(self, real: Any) -> Any:
        def read(key: str, *args: Any) -> Any:
            blob = real(key, *args)
            if key == self.key:
                rival, self.rival = self.rival, lambda: None
                rival()
            return blob

        return read


@pytest.mark.filterwarnings("ignore::zarrant.errors.ZarrantWarning")
@pytest.mark.parametrize("kind", ["memory", "plain", "locks", "no locks"])
@pytest.mark.parametrize("layout", [{}, {"shards": None}], ids=["shard", "chunk"])
def test_an_update_that_would_undo_another_is_refused(tmp_path: Path, kind: str, layout: dict[str, Any]) -> None:
    locking = "none" if kind == "no locks" else "auto"
    inner = {"memory": MemoryStore, "plain": Plain}.get(kind, lambda: zarrant.FilesystemStore(tmp_path, locking=locking))()
    a = zarrant.create_array(inner, **{**LAYOUT, **layout}) if kind != "plain" else None
    if a is None:
        a = zarrant.create_array(inner, synchronizer=Service(), **{**LAYOUT, **layout})
    a[...] = 1
    racing = Racing(inner, "c/0")
    ours = zarrant.open_array(racing, synchronizer=None)

    def rival() -> None:
        a[0:2] = 5

    racing.rival = rival
    with pytest.raises(LostUpdateError) as caught:
        ours[2:4] = 9
    assert (caught.value.key, caught.value.chunk) == ("c/0", (0,))
    assert caught.value.retryable
    assert a[0:5].tolist() == [5, 5, 1, 1, 1]
    ours[2:4] = 9
    assert a[0:5].tolist() == [5, 5, 9, 9, 1]
    racing.key = "zarr.json"
    racing.rival = lambda: a.update_attributes({"theirs": 1})
    with pytest.raises(LostUpdateError) as caught:
        ours.update_attributes({"ours": 1})
    assert caught.value.key == "zarr.json"
    ours.update_attributes({"ours": 1})
    assert dict(ours.attrs) == {"theirs": 1, "ours": 1}


@pytest.mark.filterwarnings("ignore::zarrant.errors.ZarrantWarning")
def test_the_last_look_is_right_before_the_rename(tmp_path: Path) -> None:
    """Without locks: what comes while the new object is being written is seen too."""
    a = zarrant.create_array(tmp_path, config={"locking": "none"}, **LAYOUT)
    a[...] = 1
    path = tmp_path / "c" / "0"
    value, rivals = path.read_bytes(), [1]

    def fault(index: int, name: str) -> None:
        if name == "set_mtime" and rivals:
            rivals.clear()
            path.write_bytes(value)  # another program, that waits for nobody

    store = zarrant.FilesystemStore(tmp_path, locking="none", syscalls=FaultySyscalls(fault))
    ours = zarrant.open_array(store, synchronizer=None)
    with pytest.raises(LostUpdateError):
        ours[2:4] = 9
    assert not rivals
    assert a[0:5].tolist() == [1] * 5
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["0"]


@pytest.mark.filterwarnings("ignore::zarrant.errors.ZarrantWarning")
def test_many_chunks_name_those_that_were_not_stored() -> None:
    store = MemoryStore()
    a = zarrant.create_array(store, **{**LAYOUT, "shards": None})
    a[...] = 1
    racing = Racing(store, "c/1")
    ours = zarrant.open_array(racing, synchronizer=None)
    racing.rival = lambda: a.store_chunk((1,), np.full(8, 5, "uint32"))
    with pytest.raises((PartialFailure, LostUpdateError)) as caught:
        ours[4:12] = 9
    assert isinstance(caught.value, PartialFailure)
    assert {chunk: type(error) for chunk, error in caught.value.failed.items()} == {(1,): LostUpdateError}
    assert caught.value.retryable
    assert a[...].tolist()[:16] == [1] * 4 + [9] * 4 + [5] * 8
