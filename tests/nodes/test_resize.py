"""Arrays that grow, shrink, are created by many and are replaced by themselves: in memory and on files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import (
    BoundsError,
    CapabilityError,
    DataTypeError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    ShapeError,
    ZarrantWarning,
)
from zarrant.stores.wrappers import ReadOnly, Recording
from zarrant.testkit import together
from zarrant.tools.copy import copy

LAYOUTS: dict[str, dict[str, Any]] = {"chunks": {"chunks": (4, 3)}, "shards": {"chunks": (2, 3), "shards": (4, 6)}}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


@pytest.fixture(params=["memory", "files"])
def store(request: Any, tmp_path: Path) -> Any:
    return zarrant.MemoryStore() if request.param == "memory" else zarrant.FilesystemStore(tmp_path)


@pytest.fixture
def numbers() -> Any:
    return np.arange(90, dtype="int32").reshape(10, 9) + 1


# ── append and resize ────────────────────────────────────────────────────────────────────────────────────────────────


@layouts
def test_the_handle_moves(store: Any, numbers: Any, layout: str) -> None:
    a = zarrant.create_array(store, data=numbers, fill_value=7, **LAYOUTS[layout])
    got = a.append(numbers[:3] * 2)
    assert (got, a.shape, a.metadata.shape) == (slice(10, 13), (13, 9), (13, 9))
    assert np.array_equal(a[got], numbers[:3] * 2)
    a.resize((4, 10))
    assert (a.shape, a[3, 9]) == ((4, 10), 7)
    assert np.array_equal(zarrant.open_array(store)[:, :9], numbers[:4])


def test_other_handles_see_it_when_they_refresh(store: Any, numbers: Any) -> None:
    a = zarrant.create_array(store, data=numbers, chunks=(4, 3))
    b = zarrant.open_array(store)
    a.append(numbers)
    assert (b.shape, b.append(numbers[:1]), b.shape) == ((10, 9), slice(20, 21), (21, 9))
    a.refresh()
    assert a.shape == (21, 9)


def test_resize_of_a_stale_handle_is_of_the_array_that_is_there(store: Any, numbers: Any) -> None:
    a = zarrant.create_array(store, data=numbers, chunks=(4, 3))
    b = zarrant.open_array(store)
    a.append(numbers)
    b.resize((12, 9), shrink=True)
    assert np.array_equal(b[10:], numbers[:2])
    a.resize((10, 9), shrink=True)
    b.resize((12, 9))
    assert not b[10:].any()


def test_a_resize_cuts_nothing_that_its_handle_has_not_seen(store: Any, numbers: Any) -> None:
    a = zarrant.create_array(store, data=numbers, chunks=(4, 3))
    b = zarrant.open_array(store)
    a.append(numbers)
    for shape in [(12, 9), (10, 9), (3, 9), (12, 20)]:
        with pytest.raises(ShapeError, match="others have appended"):
            b.resize(shape)
    assert zarrant.open_array(store).shape == (20, 9)
    b.refresh()
    b.resize((12, 9))
    with pytest.raises(ShapeError, match="smaller"):
        b.resize((11, 9), shrink=False)
    b.resize((13, 9), shrink=False)
    assert np.array_equal(zarrant.open_array(store)[:12], np.concatenate([numbers, numbers[:2]]))


@layouts
@pytest.mark.parametrize("handles", ["one handle", "a handle each"])
def test_threads_append_side_by_side(store: Any, layout: str, handles: str) -> None:
    a = zarrant.create_array(store, shape=(0, 9), dtype="int32", fill_value=0, **LAYOUTS[layout])
    got: dict[int, slice] = {}

    def work(worker: int) -> None:
        mine = a if handles == "one handle" else zarrant.open_array(store)
        for turn in range(5):
            k = worker * 5 + turn + 1
            got[k] = mine.append(np.full((1 + k % 3, 9), k, "int32"))
            assert (mine[got[k]] == k).all()

    together(*(lambda worker=worker: work(worker) for worker in range(6)))
    a.refresh()
    assert a.shape[0] == sum(1 + k % 3 for k in range(1, 31))
    assert sorted(i for place in got.values() for i in range(place.start, place.stop)) == list(range(a.shape[0]))
    assert all((a[place] == k).all() for k, place in got.items())


def test_coroutines_append_side_by_side(store: Any) -> None:
    async def run() -> None:
        a = await zarrant.create_array_async(store, shape=(0,), dtype="int32", chunks=(4,))
        got = await asyncio.gather(*(a.append(np.full(3, k, "int32")) for k in range(8)))
        assert sorted(place.start for place in got) == list(range(0, 24, 3))
        assert [(await a.getitem(place)).tolist() for place in got] == [[k] * 3 for k in range(8)]
        await a.resize(5)
        assert a.shape == (5,)

    asyncio.run(run())


def test_partial_writes_go_on_meanwhile(store: Any) -> None:
    """The chunk at the edge is written by appenders and by writers of what it holds already."""
    a = zarrant.create_array(store, shape=(2,), dtype="int32", chunks=(64,), fill_value=0)

    def grow() -> None:
        for _ in range(30):
            zarrant.open_array(store).append(np.array([5], "int32"))

    def write(i: int) -> None:
        mine = zarrant.open_array(store)
        for k in range(30):
            mine[i : i + 1] = k

    together(grow, lambda: write(0), lambda: write(1))
    a.refresh()
    assert a[...].tolist() == [29, 29, *[5] * 30]


def test_wrong_calls(store: Any, numbers: Any) -> None:
    a = zarrant.create_array(store, data=numbers, chunks=(4, 3))
    with pytest.raises(ShapeError, match=r"np\.newaxis"):
        a.append(numbers[0])
    with pytest.raises(DataTypeError):
        a.append(numbers * 1.5)
    with pytest.raises(BoundsError):
        a.append(numbers, axis=2)
    with pytest.raises(ShapeError):
        a.resize((1, 2, 3))
    scalar = zarrant.create_array({}, shape=(), dtype="int8")
    scalar.resize(())
    with pytest.raises(BoundsError):
        scalar.append(1)
    assert np.array_equal(zarrant.open_array(store)[...], numbers)


def test_an_array_that_is_gone(store: Any, numbers: Any) -> None:
    a = zarrant.create_array(store, data=numbers, chunks=(4, 3))
    a.erase_metadata()
    for change in (lambda: a.append(numbers), lambda: a.resize((1, 1))):
        with pytest.raises(NodeNotFoundError):
            change()


class Shared:
    """A store with compare-and-swap only, as an object store is: other processes may write to it."""

    def __init__(self) -> None:
        inside = zarrant.MemoryStore()
        for name in ("get", "get_ranges", "put", "put_if", "erase_if", "erase", "erase_prefix", "list_prefix", "list_dir"):
            setattr(self, name, getattr(inside, name))


def test_a_store_that_can_only_compare_and_swap(numbers: Any) -> None:
    shared = Shared()
    a = zarrant.create_array(shared, data=numbers, chunks=(4, 3))
    assert a.append(numbers) == slice(10, 20)
    a.resize((10, 9))
    assert np.array_equal(a[...], numbers)
    with pytest.warns(ZarrantWarning):
        alone = zarrant.open_array(shared, synchronizer=None)
    assert alone.append(numbers) == slice(10, 20)
    alone.resize((15, 9))
    assert np.array_equal(alone[10:], numbers[:5])


def test_a_reader_cannot_grow(store: Any, numbers: Any) -> None:
    zarrant.create_array(store, data=numbers, chunks=(4, 3))
    with pytest.raises(CapabilityError):
        zarrant.open_array(ReadOnly(store)).append(numbers)  # type: ignore[misc]


def test_one_frame_reads_the_edge_chunks_only(store: Any) -> None:
    recording = Recording(store)
    a = zarrant.create_array(recording, data=np.ones((40, 8), "int32"), chunks=(32, 4))
    recording.calls.clear()
    a.append(np.full((1, 8), 5))
    assert sorted(call.key for call in recording.calls if call.method.startswith("get")) == ["c/1/0", "c/1/1", "zarr.json"]


# ── creating ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_create_one_array(store: Any) -> None:
    def create(i: int) -> None:
        a = zarrant.create_array(store, name="g/a", shape=(8,), dtype="int32", chunks=(1,), if_exists="match")
        a[i] = i + 1

    together(*(lambda i=i: create(i) for i in range(8)))
    assert zarrant.open_array(store, name="g/a")[...].tolist() == list(range(1, 9))
    with pytest.raises(NodeExistsError):
        zarrant.create_array(store, name="g/a", shape=(9,), dtype="int32", chunks=(1,), if_exists="match")


def test_of_many_overwriters_one_stands(store: Any) -> None:
    """Each in another layout: a chunk of another would be of the wrong size, or in a place where there is none."""
    zarrant.create_array(store, data=np.full((20, 20), 99), chunks=(3, 3))

    def overwrite(k: int) -> None:
        values = np.full((10 + k, 12), k)
        zarrant.create_array(store, data=values, chunks=(1 + k, 5 - k % 3), overwrite=True, fill_value=77)

    for _ in range(4):
        together(*(lambda k=k: overwrite(k) for k in range(6)))
        a = zarrant.open_array(store)
        k = a.chunks[0] - 1
        assert np.array_equal(a[...], np.full((10 + k, 12), k))
        keys = {key for key in store.list_prefix("") if not key.endswith("zarr.json")}
        assert keys == {a.chunk_key(chunk) for chunk in a.iter_chunks()}


# ── an array and itself ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("other", [{"chunks": (2, 9)}, {"chunks": (4, 3)}, {"chunks": (5, 3), "shards": (10, 9)}])
def test_an_array_replaced_by_itself(store: Any, numbers: Any, other: Any) -> None:
    zarrant.create_array(store, data=numbers, **LAYOUTS["shards"])
    a = zarrant.create_array(store, data=zarrant.open_array(store), overwrite=True, **other)
    assert np.array_equal(a[...], numbers)
    assert a.chunks == other["chunks"]


def test_a_group_replaced_by_an_array_of_it(store: Any, numbers: Any) -> None:
    zarrant.create_array(store, name="g/a", data=numbers, chunks=(4, 3))
    a = zarrant.create_array(store, name="g", data=zarrant.open_array(store, name="g/a"), chunks=(3, 3), overwrite=True)
    assert np.array_equal(a[...], numbers)


@layouts
def test_assigning_an_array_to_itself(store: Any, numbers: Any, layout: str) -> None:
    a = zarrant.create_array(store, data=numbers, **LAYOUTS[layout])
    a[...] = a
    assert np.array_equal(a[...], numbers)
    a[::-1] = a
    a[:, 1:] = a[:, :-1]
    expected = numbers[::-1].copy()
    expected[:, 1:] = expected[:, :-1].copy()
    assert np.array_equal(a[...], expected)
    assert a.append(a) == slice(10, 20)
    assert np.array_equal(a[...], np.vstack([expected, expected]))


def test_a_copy_onto_itself_is_refused(tmp_path: Path, numbers: Any) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    for source in (str(tmp_path / "a"), "memory://growth/a"):
        zarrant.create_array(source, data=numbers, chunks=(4, 3))
        for target in (source, f"{source}/b", str(tmp_path / "link") if source[0] == "/" else "MEMORY://growth/a/"):
            with pytest.raises(OptionError, match="lie in each other"):
                copy(source, target, overwrite=True)
        assert np.array_equal(zarrant.open_array(source)[...], numbers)
    copy("memory://growth/a", "memory://growth/b")
    copy("memory://growth/b", str(tmp_path / "c"))
    assert np.array_equal(zarrant.open_array(tmp_path / "c")[...], numbers)
