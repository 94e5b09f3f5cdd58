"""What `explain` says is what a recording store sees: keys, bytes and requests of reads and writes, and locks."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.codecs import Zstd
from zarrant.codecs.pipeline import uncompressed
from zarrant.errors import BoundsError, ChunkError, OptionError, SelectionError
from zarrant.ops import explain as explaining
from zarrant.ops.explain import Plan
from zarrant.storage import capabilities
from zarrant.stores.local import temp_files
from zarrant.stores.wrappers import Recording
from zarrant.testkit import CasStore

S = np.s_
CODECS: dict[str, dict[str, Any]] = {
    "zstd": {},
    "none": {"compressors": None},
    "checksum": {"compressors": [{"name": "crc32c"}]},
    "general path": {"filters": [{"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}], "compressors": [Zstd(1)]},
    "transposed": {"order": "F"},
}


def seen(store: Recording) -> dict[str, Counter[str]]:
    """By key: bytes and requests of reads, new and kept bytes of writes, locks."""
    found: dict[str, Counter[str]] = {}
    for call in store.calls:
        if call.key == "zarr.json":
            continue
        count = found.setdefault(call.key, Counter())
        if call.method in ("get", "get_within"):
            count["requests"] += 1
            count["read"] += SIZES.get(call.key, 0)
        elif call.method == "get_ranges":
            count["requests"] += 1
            size = SIZES.get(call.key, 0)
            for each in (call.ranges or ()) if size else ():
                start, stop = each.resolve(size)
                count["read"] += stop - start
        elif call.method == "lock":
            count["locked"] += 1
        elif call.method in ("put", "put_if", "splice"):
            count["requests"] += 1
            count["written"] += call.nbytes
            count["kept"] += sum(each.length or 0 for each in call.ranges or ())
    return found


SIZES: dict[str, int] = {}


def fresh(a: Any, store: Any) -> Any:
    """A handle that knows nothing of what was read before."""
    return zarrant.open_array(store, mode="r+", config=a.config)


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Arrays of two dimensions, with and without shards, in all kinds of codecs."""
    chunks = draw(st.tuples(*[st.sampled_from([1, 2, 3, 4])] * 2))
    shards = draw(st.one_of(st.none(), st.tuples(*[st.sampled_from([1, 2, 3])] * 2)))
    layout: dict[str, Any] = {"shape": draw(st.tuples(*[st.integers(1, 14)] * 2)), "dtype": "int32", "chunks": chunks}
    if shards is not None:
        layout["shards"] = tuple(side * n for side, n in zip(chunks, shards, strict=True))
    return layout | CODECS[draw(st.sampled_from(sorted(CODECS)))]


@st.composite
def selections(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Boxes, boxes with steps, and orthogonal selections."""
    items: list[Any] = []
    for length in shape:
        low, high = sorted(draw(st.tuples(st.integers(0, length), st.integers(0, length))))
        items.append(slice(low, high, draw(st.sampled_from([None, None, None, 2]))))
    if draw(st.integers(0, 3)) == 0:
        items[0] = draw(st.lists(st.integers(0, shape[0] - 1), min_size=1, max_size=3, unique=True))
    return tuple(items)


def compare(a: Any, store: Any, selection: Any, write: bool, exact: bool) -> Plan:
    """Hold a plan of an access equal to what a store sees of it."""
    SIZES.clear()
    SIZES.update({key: store.get(key).size for key in store.list_prefix("")})
    before = {key: bytes(store.get(key).data[0]) for key in SIZES}
    plan: Plan = fresh(a, store).explain(selection, write=write)
    assert {key: bytes(store.get(key).data[0]) for key in store.list_prefix("")} == before
    recording = Recording(store)
    handle = fresh(a, recording)
    recording.calls.clear()
    if write:
        handle[selection] = 77
    else:
        handle[selection]
    found = seen(recording)
    assert {each.key for each in plan.details} == set(found)
    locks = capabilities(store).sync_calls.lock
    for each in plan.details:
        count = found[each.key]
        assert (each.read, each.requests) == (count["read"], count["requests"]), (each, count)
        if write:
            if capabilities(store).splice:
                assert each.kept == count["kept"]
            assert each.written >= count["written"]
            if exact:
                assert each.written == count["written"]
            if locks:
                assert each.locked == bool(count["locked"])
    assert plan.bytes_read == sum(count["read"] for count in found.values())
    assert plan.requests == sum(count["requests"] for count in found.values())
    assert plan.objects == len(found)
    assert plan.whole + plan.merged + plan.absent == plan.objects
    return plan


@settings(max_examples=40, deadline=None)
@given(st.data(), layouts(), st.booleans(), st.sampled_from(["memory", "directory", "swapping"]), st.booleans())
def test_a_plan_is_what_happens(data: Any, layout: dict[str, Any], write: bool, kind: str, few: bool) -> None:
    with TemporaryDirectory() as folder:
        stores = {
            "memory": zarrant.MemoryStore,
            "directory": lambda: zarrant.FilesystemStore(folder),
            "swapping": lambda: CasStore(folder),
        }
        store: Any = stores[kind]()
        a = zarrant.create_array(store, **layout)
        values = np.random.default_rng(1).integers(1, 2**31, layout["shape"]).astype("int32")
        filled = data.draw(selections(layout["shape"])) if few else S[...]
        a[filled] = values[filled]
        exact = layout.get("compressors", "auto") is None or layout.get("compressors") == CODECS["checksum"]["compressors"]
        compare(a, store, data.draw(selections(layout["shape"])), write, exact)


LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}


def sharded(chunk_shape: list[int], codecs: list[Any], after: list[Any] | None = None) -> dict[str, Any]:
    """Keywords for shards that `shards=` does not make."""
    index = [LITTLE, {"name": "crc32c"}]
    configuration = {"chunk_shape": chunk_shape, "codecs": codecs, "index_codecs": index, "index_location": "start"}
    return {"serializer": {"name": "sharding_indexed", "configuration": configuration}, "compressors": after}


INNER = sharded([2, 2], [LITTLE, {"name": "crc32c"}])["serializer"]
UNUSUAL: dict[str, dict[str, Any]] = {
    "shards in shards": {"chunks": (8, 8), **sharded([4, 4], [INNER])},
    "shards behind a codec": {"chunks": (8, 8), **sharded([4, 4], [LITTLE], [Zstd(1)])},
    "arrays behind a filter around shards": {
        "chunks": (8, 8),
        "filters": [{"name": "scale_offset", "configuration": {"scale": 2, "offset": 0}}],
        **sharded([4, 4], [LITTLE]),
    },
    "chunks of several shapes": {"chunks": [[3, 5, 8], [7, 9]]},
    "text": {"chunks": (4, 4), "dtype": "string"},
    "V2": {"chunks": (4, 4), "zarr_format": 2},
    "a large chunk": {"chunks": (16, 16), "compressors": None},
}


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("name", UNUSUAL)
def test_plans_of_unusual_layouts_are_what_happens(
    name: str, write: bool, monkeypatch: pytest.MonkeyPatch, prepared_anew: None
) -> None:
    monkeypatch.setattr(uncompressed, "MIN_RANGED_CHUNK_BYTES", 1 << 10)
    monkeypatch.setattr(uncompressed, "RANGE_COST_BYTES", 8)
    for filled in (S[...], S[0:0], S[0:3, 0:3]):
        for selection in (S[...], S[0:8, 3:12], S[5, :], S[2:3, 2:3], S[::3, 1:2]):
            store = zarrant.MemoryStore()
            a = zarrant.create_array(store, **{"shape": (16, 16), "dtype": "int32", **UNUSUAL[name]})
            a[filled] = "five" if name == "text" else 5
            if name == "V2":
                plan = a.explain(selection, write=write)
                assert plan.whole + plan.merged + plan.absent == plan.objects > 0
            elif name != "text":
                compare(a, store, selection, write, exact=False)


def test_a_plan_knows_what_a_store_that_is_waited_for_reads_at_once() -> None:
    """There a shard that is updated, or read as a whole, is one request; nothing of it is read for the plan."""

    class Waited(zarrant.MemoryStore):
        requests_in_flight = 8

    for write in (False, True):
        for selection in (S[...], S[1:7, 0:4], S[0:8, 0:8]):
            store = Waited()
            a = zarrant.create_array(store, shape=(16, 16), dtype="int32", chunks=(4, 4), shards=(8, 8))
            a[...] = np.random.default_rng(1).integers(1, 2**31, (16, 16))
            compare(a, store, selection, write, exact=False)


def test_nothing_is_read_or_stored_for_a_plan(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path, data=np.ones((64, 64)), chunks=(8, 8), shards=(32, 32))
    store = Recording(a.store)
    b = zarrant.open_array(store, mode="r+")
    store.calls.clear()
    assert b.explain(S[3:40], write=True).merged == 4
    assert {call.method for call in store.calls} == {"get_ranges"}
    assert zarrant.open_array(tmp_path, mode="r").explain(S[3:40], write=True).merged == 4
    small = zarrant.create_array({}, data=np.ones((64, 64)), chunks=(8, 8))
    recording = Recording(small.store)
    zarrant.open_array(recording, mode="r").explain()
    assert sum(call.nbytes for call in recording.calls) == 0
    assert all(not call.ranges for call in recording.calls if call.method == "get_ranges")


def test_a_plan_is_the_same_from_an_event_loop(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path, data=np.ones((64, 64)), chunks=(8, 8), shards=(32, 32))

    async def main() -> Plan:
        b = await zarrant.open_array_async(tmp_path, mode="r+")
        assert b.conflict_free([S[0:1], S[1:2]]) == [[0], [1]]
        return await b.explain(S[3:40], write=True, workers=2)

    assert asyncio.run(main()) == a.explain(S[3:40], write=True, workers=2)


def test_a_plan_says_what_is_usual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that files which others stored a moment ago are locked while they are changed, which no plan could know for later."""
    a = zarrant.create_array(tmp_path, data=np.ones((64, 64)), chunks=(8, 8), shards=(32, 32))
    known = a.explain(S[3:40], write=True, workers=2)
    monkeypatch.setattr(temp_files, "_made", {})
    assert a.explain(S[3:40], write=True, workers=2) == known
    assert known.locked == 0


def test_a_plan_of_very_many_objects_is_reckoned_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    store = zarrant.MemoryStore()
    a = zarrant.create_array(store, shape=(400, 400), dtype="int32", chunks=(10, 10), compressors=None)
    a[...] = 7
    plans = [a.explain(S[5:, 0:399], write=write) for write in (False, True)]
    monkeypatch.setattr(explaining, "MAX_LOOKED_AT", 100)
    monkeypatch.setattr(explaining, "SAMPLE", 7)
    for exact in plans:
        some = a.explain(S[5:, 0:399], write=exact.kind == "write")
        assert some.estimated
        assert not exact.estimated
        for name in ("objects", "whole", "merged", "bytes_read", "bytes_written", "requests", "locked", "decoded"):
            assert getattr(some, name) == getattr(exact, name), name
        assert "about" in str(some)


@given(
    st.tuples(*[st.integers(1, 30)] * 2), st.tuples(*[st.integers(1, 7)] * 2), st.integers(1, 9), st.data()
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_batches_are_a_partition_and_share_no_object(shape: Any, chunks: Any, workers: int, data: Any) -> None:
    a = zarrant.create_array({}, shape=shape, dtype="int8", chunks=chunks)
    start = [data.draw(st.integers(0, side - 1)) for side in shape]
    box = tuple(slice(low, data.draw(st.integers(low + 1, side))) for low, side in zip(start, shape, strict=True))
    batches = a.explain(box, write=True, workers=workers).batches
    if workers == 1:
        assert batches == ()
        return
    covered = np.zeros(shape, np.int64)
    keys: list[Any] = []
    for batch in batches:
        covered[batch.slices] += 1
        block = a.chunks_in_subset(batch)
        keys += [tuple(chunk) for chunk in np.ndindex(*block.shape) for chunk in [np.add(chunk, block.start).tolist()]]
    expected = np.zeros(shape, np.int64)
    expected[box] = 1
    assert np.array_equal(covered, expected)
    assert len(keys) == len(set(keys)) == a.explain(box).objects
    assert len(batches) == min(workers, len(keys)) or len(batches) <= workers


@given(st.lists(st.tuples(st.integers(0, 29), st.integers(1, 9)), max_size=12))
def test_rounds_share_no_object_and_come_as_early_as_can_be(spans: list[tuple[int, int]]) -> None:
    a = zarrant.create_array({}, shape=(40,), dtype="int8", chunks=(6,))
    rounds = a.conflict_free([slice(low, low + n) for low, n in spans])
    touched = [set(range(low // 6, (low + n - 1) // 6 + 1)) for low, n in spans]
    assert sorted(number for each in rounds for number in each) == list(range(len(spans)))
    for at, each in enumerate(rounds):
        assert sum(len(touched[number]) for number in each) == len(set().union(*(touched[number] for number in each)))
        for number in each:
            for earlier in rounds[:at]:
                assert any(touched[number] & touched[other] for other in earlier if other < number)


def topics(a: Any, *args: Any, **options: Any) -> list[str]:
    return [each.topic for each in a.explain(*args, **options).advice]


def test_poor_layouts_are_named_with_better_ones() -> None:
    def array(shape: Any, chunks: Any, shards: Any = None, dtype: str = "uint16") -> Any:
        return zarrant.create_array({}, shape=shape, dtype=dtype, chunks=chunks, shards=shards)

    assert topics(array((100_000,), (1,), (1000,)), S[0:10]) == ["one element"]
    assert topics(array((20_000, 100), (10, 10)), S[0:10, 0:10]) == ["tiny chunks"]
    assert topics(array((20_000, 20_000), (20_000, 20_000)), S[0:1, 0:1]) == ["huge chunks"]
    assert topics(array((2**20, 64), (8, 64), (2**20, 64)), S[0:8]) == ["tiny chunks", "too many subchunks"]
    planes = array((64, 512, 512), (64, 64, 64))
    assert topics(planes, S[3]) == ["reads too much"]
    assert topics(planes, S[3], write=True) == ["unaligned"]
    assert topics(planes, S[...]) == topics(planes, S[...], write=True) == []
    for write in (False, True):
        (advice,) = planes.explain(S[3], write=write).advice
        assert advice.layout is not None
        better = zarrant.create_array({}, shape=(64, 512, 512), dtype="uint16", **advice.layout._asdict())
        assert topics(better, S[3], write=write) == []
        assert str(advice.layout) in str(planes.explain(S[3], write=write))


def test_what_is_no_plan_is_refused() -> None:
    a = zarrant.create_array({}, shape=(8, 8), dtype="int8", chunks=(4, 4), shards=(8, 8))
    for workers in (0, -1, 1.5, True, "2"):
        with pytest.raises(OptionError) as caught:
            a.explain(workers=workers)
        assert caught.value.field == "workers"
    with pytest.raises(BoundsError):
        a.explain(9)
    with pytest.raises(SelectionError):
        a.explain("all")
    with pytest.raises(BoundsError):
        a.conflict_free([S[0:9]])
    a[...] = 1
    a.store.put("c/0/0", [b"broken"])
    with pytest.raises(ChunkError):
        a.explain(S[0:3], write=True)
    assert a.explain(write=True).whole == 1


def test_plans_of_nothing_and_of_arrays_without_dimensions() -> None:
    a = zarrant.create_array({}, shape=(0, 4), dtype="int8")
    for write in (False, True):
        plan = a.explain(write=write, workers=3)
        assert (plan.objects, plan.requests, plan.batches, plan.amplification) == (0, 0, (), None)
        assert str(plan)
    b = zarrant.create_array({}, data=np.int16(3))
    assert b.explain().bytes_read == b.chunk_stats(()).stored
    assert b.explain(write=True, workers=2).batches == (zarrant.ArraySubset((), ()),)
    assert b.conflict_free([..., ...]) == [[0], [1]]


def test_a_plan_prints_as_text_html_and_json() -> None:
    import json

    a = zarrant.create_array({}, data=np.ones((40, 40)), chunks=(8, 8))
    plan = a.explain(S[3:20], write=True, workers=2)
    text, page = str(plan), plan._repr_html_()
    for word in ("write 17 × 40", "10 merged", "guard", "batches", "advice"):
        assert word in text
        assert word in page
    facts = json.loads(json.dumps(plan.to_json()))
    assert facts["objects"] == 15
    assert facts["batches"][0] == [[3, 0], [13, 24]] or facts["batches"]
    assert facts["details"][0]["key"] == "c/0/0"
    with pytest.raises(AttributeError):
        plan.objects = 3  # type: ignore[misc]


@pytest.mark.parametrize("layout", [{"chunks": (64, 512)}, {"chunks": (16, 128), "shards": (128, 512)}, {"chunks": (512, 512)}])
@pytest.mark.parametrize("write", [False, True])
def test_no_more_memory_is_taken_than_is_planned(layout: Any, write: bool, tmp_path: Path) -> None:
    import tracemalloc

    a = zarrant.create_array(tmp_path, shape=(512, 2048), dtype="uint16", config={"concurrency": 2}, **layout)
    values = np.random.default_rng(1).integers(0, 4096, a.shape).astype("uint16")
    for selection in (S[...], S[10:500, 5:2000]):
        part, out = values[selection], np.empty(values[selection].shape, a.dtype)
        a[selection] = part
        planned = a.explain(selection, write=write).peak_memory
        tracemalloc.start()
        try:
            if write:
                a[selection] = part
            else:
                a.retrieve_array_subset(selection, out=out)
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert taken <= 2 * planned + (1 << 20)
        assert planned <= 4 * values.nbytes
