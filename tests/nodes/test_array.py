from __future__ import annotations

import asyncio
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import BoundsError, CapabilityError, OptionError, PartialFailure
from zarrant.stores.wrappers import ReadOnly, WriteOnly

LAYOUTS = [{"chunks": (4, 3)}, {"chunks": (2, 3), "shards": (4, 6)}, {"chunks": (4, 3), "order": "F"}]


@pytest.fixture
def numbers() -> Any:
    return np.arange(90, dtype="int32").reshape(10, 9) + 1


def test_facts() -> None:
    a = zarrant.create_array(
        {}, name="x/y", shape=(10, 9), dtype="int32", chunks=(2, 3), shards=(4, 6), fill_value=7, dimension_names=("a", None)
    )
    assert (a.path, a.name, a.shape, a.ndim, a.size, a.nbytes, len(a)) == ("x/y", "y", (10, 9), 2, 90, 360, 10)
    assert (a.chunks, a.shards, a.write_unit, a.chunk_grid_shape, a.subchunk_grid_shape, a.nchunks) == (
        (2, 3), (4, 6), (4, 6), (3, 2), (5, 3), 6,
    )  # fmt: skip
    assert (a.dtype, a.fill_value, type(a.fill_value)) == (np.dtype("int32"), 7, np.int32)
    assert a.dimension_names == ("a", None)
    assert a.chunk_key((2, 1)) == "x/y/c/2/1"
    assert a.chunk_subset((2, 1)) == zarrant.ArraySubset((8, 6), (2, 3))
    assert a.chunks_in_subset(np.s_[3:5, 0:7]) == zarrant.ArraySubset((0, 0), (2, 2))
    assert list(a.iter_chunks()) == [(i, j) for i in range(3) for j in range(2)]
    for wrong in ((3, 0), (-1, 0), (0, 2)):
        with pytest.raises(BoundsError):
            a.chunk_key(wrong)
    with pytest.raises(CapabilityError):
        zarrant.create_array({}, shape=(4,), dtype="int8").subchunk_grid_shape  # noqa: B018
    with pytest.raises(TypeError):
        len(zarrant.create_array({}, shape=(), dtype="int8"))


def test_a_created_array_equals_the_opened_one(tmp_path: Any) -> None:
    for i, layout in enumerate(LAYOUTS):
        a = zarrant.create_array(tmp_path, name=str(i), shape=(10, 9), dtype="int32", **layout)
        b = zarrant.open_array(tmp_path, name=str(i))
        assert a == b
        assert a != zarrant.create_array(tmp_path, name=f"other{i}", shape=(10, 9), dtype="int32", **layout)
        assert (a == 3) is False
        with pytest.raises(TypeError):
            hash(a)


def test_like_an_array(numbers: Any) -> None:
    a = zarrant.create_array({}, data=numbers, chunks=(4, 3))
    assert np.array_equal(np.asarray(a), numbers)
    assert np.asarray(a, "float64").dtype == np.float64
    assert np.sum(a) == numbers.sum()
    assert isinstance(a[3, 4], np.int32)
    assert a[3, 4] == numbers[3, 4]
    assert a[3].shape == (9,)
    scalar = zarrant.create_array({}, shape=(), dtype="float32", fill_value=2.5)
    assert scalar[()] == scalar[...] == 2.5
    scalar[()] = 3
    assert float(np.asarray(scalar)) == 3


def test_configured_handles() -> None:
    store = zarrant.MemoryStore()
    a = zarrant.create_array(store, shape=(4,), chunks=(4,), dtype="int8")
    b = a.with_config(write_empty_chunks=True)
    b[...] = 0
    assert list(store.list_prefix("c/")) == ["c/0"]
    a[...] = 0
    assert list(store.list_prefix("c/")) == []
    assert (a.config.write_empty_chunks, b.config.write_empty_chunks) == (False, True)
    for wrong in ({"concurency": 1}, {"dead_limit": 2}, {"locking": "maybe"}):
        with pytest.raises(OptionError):
            a.with_config(**wrong)


def test_views_that_can_do_less(numbers: Any) -> None:
    store = zarrant.MemoryStore()
    a = zarrant.create_array(store, data=numbers, chunks=(4, 3))
    reader = zarrant.open_array(ReadOnly(store), mode="r")
    assert np.array_equal(reader[...], numbers)
    for call in (
        lambda: reader.store_chunk((0, 0), 1),
        lambda: reader.__setitem__((0, 0), 1),
        lambda: reader.erase_chunks(np.s_[0:1, 0:1]),
        reader.store_metadata,
        lambda: reader.attrs.update(a=1),
    ):
        with pytest.raises(CapabilityError) as caught:
            call()
        assert "put" in caught.value.expected
    writer = zarrant.create_array(WriteOnly(zarrant.MemoryStore()), shape=(10, 9), dtype="int32", chunks=(4, 3))
    writer.store_chunk((0, 0), 1)
    for call in (
        lambda: writer.store_array_subset(np.s_[0:1, 0:1], 1),
        lambda: writer.__setitem__((0, 0), 1),
        lambda: writer[...],
        writer.refresh,
    ):
        with pytest.raises(CapabilityError) as caught:
            call()
        assert "get" in caught.value.expected
    assert np.array_equal(a[...], numbers)


def test_pickles(tmp_path: Any, numbers: Any) -> None:
    a = zarrant.create_array(tmp_path, name="x", data=numbers, chunks=(4, 3), config={"concurrency": 2, "lock_timeout": 3})
    b = pickle.loads(pickle.dumps(a))
    assert b == a
    assert (b.config, b.guard, b.url) == (a.config, a.guard, a.url)
    b[0, 0] = -1
    assert a[0, 0] == -1
    c = pickle.loads(pickle.dumps(asyncio.run(zarrant.open_array_async(tmp_path, name="x"))))
    assert isinstance(c, zarrant.AsyncArray)
    g = zarrant.open_group(tmp_path)
    assert pickle.loads(pickle.dumps(g)) == g
    with pytest.raises(CapabilityError, match="pickled"):
        pickle.dumps(zarrant.create_array({}, data=numbers))


def test_metadata_is_stored_erased_and_read_again() -> None:
    store = zarrant.MemoryStore()
    a = zarrant.create_array(store, shape=(4,), dtype="int8")
    b = zarrant.open_array(store)
    a.attrs["unit"] = "mm"
    assert dict(b.attrs) == {}
    b.refresh()
    assert dict(b.attrs) == {"unit": "mm"}
    a.erase_metadata()
    with pytest.raises(FileNotFoundError):
        b.refresh()
    b.store_metadata()
    assert zarrant.open_array(store) == b


# ── the twin ─────────────────────────────────────────────────────────────────────────────────────────────────────────

FACES = {
    "__getitem__": "getitem", "__setitem__": "setitem", "__delitem__": "delitem", "__contains__": "contains",
    "oindex": "getitem", "vindex": "getitem", "blocks": "getitem", "__array__": "getitem",
    "__iter__": "members", "__len__": "members",
}  # fmt: skip


@pytest.mark.parametrize(("blocking", "coroutines"), [(zarrant.Array, zarrant.AsyncArray), (zarrant.Group, zarrant.AsyncGroup)])
def test_the_twins_have_the_same_names(blocking: type, coroutines: type) -> None:
    def names(cls: type) -> set[str]:
        of_groups = ("members", "contains")  # arrays in an event loop have no such face: it would read all of them
        faces = {name: face for name, face in FACES.items() if face not in of_groups or "Group" in cls.__name__}
        return {faces.get(name, name) for name in dir(cls) if not name.startswith("_") or name in faces}

    assert names(blocking) - names(coroutines) == set()
    assert names(coroutines) - names(blocking) - {"getitem", "setitem"} == set()
    for name in dir(blocking):
        method = vars(blocking).get(name)
        if inspect.isfunction(method) and not name.startswith("_"):
            twin = getattr(coroutines, name)
            if name in (
                "with_config",
                "partial_decoder",
                "partial_encoder",
                "buffered",
                "appender",
                "lock",
            ):  # they ask the store for nothing, or are a context
                continue
            assert inspect.iscoroutinefunction(twin), name
            assert list(inspect.signature(method).parameters) == list(inspect.signature(twin).parameters), name


CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("store_chunk", ((1, 1), 5)),
    ("store_chunks", (np.s_[0:1, 0:2], 6)),
    ("store_array_subset", (np.s_[1:7, 2:8], 7)),
    ("store_chunk_subset", ((0, 0), np.s_[1:2, 0:2], 8)),
    ("erase_chunk", ((1, 0),)),
    ("erase_chunks", (np.s_[0:1, 0:1],)),
    ("update_attributes", ({"a": 1},)),
    ("store_metadata", ()),
    ("refresh", ()),
    ("retrieve_chunk", ((2, 1),)),
    ("retrieve_chunk_if_exists", ((0, 0),)),
    ("retrieve_chunks", (np.s_[0:2, 0:2],)),
    ("retrieve_chunk_subset", ((1, 1), np.s_[0:2, 1:3])),
    ("retrieve_array_subset", (np.s_[0:10, 3:9],)),
    ("retrieve_encoded_chunk", ((1, 1),)),
    ("retrieve_encoded_chunks", (np.s_[0:2, 0:1],)),
    ("retrieve_subchunk", ((1, 1),)),
    ("retrieve_subchunks", (np.s_[1:3, 1:2],)),
    ("store_encoded_chunk", ((0, 0), b"bytes")),
    ("store_encoded_chunks", ([(0, 0), (0, 1)], [b"1", b"2"])),
    ("retrieve_chunk", ((0, 0),)),
    ("retrieve_chunk", ((9, 9),)),
    ("store_chunk", ((0, 0), "text")),
    ("store_array_subset", (np.s_[0:99, 0:9], 1)),
    ("erase_metadata", ()),
    ("refresh", ()),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_twins_do_the_same(layout: dict[str, Any], numbers: Any) -> None:
    one: dict[str, bytes] = {}
    two: dict[str, bytes] = {}
    a = zarrant.create_array(one, data=numbers, **layout)

    def outcome(call: Any) -> Any:
        try:
            result = call()
        except Exception as error:
            return type(error), getattr(error, "message", str(error)), getattr(error, "chunk", None)
        plain = [None if item is None else bytes(item) for item in result] if isinstance(result, list) else result
        return plain.tolist() if isinstance(plain, np.ndarray) else plain

    async def main() -> None:
        b = await zarrant.create_array_async(two, data=numbers, **layout)
        loop = asyncio.get_running_loop()
        for name, args in CALLS:
            expected = outcome(lambda name=name, args=args: getattr(a, name)(*args))
            task = asyncio.ensure_future(getattr(b, name)(*args))
            await asyncio.wait([task])
            assert outcome(task.result) == expected, name
            assert one == two, name
        assert loop.is_running()

    asyncio.run(main())


def test_indexing_of_the_async_twin(numbers: Any) -> None:
    async def main() -> None:
        a = await zarrant.create_array_async({}, data=numbers, chunks=(4, 3))
        assert np.array_equal(await a.getitem(np.s_[::-2, 1:]), numbers[::-2, 1:])
        assert await a.getitem((3, 4)) == numbers[3, 4]
        assert np.array_equal(await a.getitem(([1, 5], [0, 2]), index="orthogonal"), numbers[np.ix_([1, 5], [0, 2])])
        assert np.array_equal(await a.getitem(([1, 5], [0, 2]), index="points"), numbers[[1, 5], [0, 2]])
        assert np.array_equal(await a.getitem((1, slice(0, 2)), index="blocks"), numbers[4:8, 0:6])
        await a.setitem(([1, 5], [0, 2]), -1, index="points")
        numbers[[1, 5], [0, 2]] = -1
        assert np.array_equal(await a.getitem(...), numbers)
        with pytest.raises(OptionError):
            await a.getitem(0, index="fancy")

    asyncio.run(main())


SCALARS = {"float64": 2.5, "string": "ab", "bytes": b"ab", "int2": 1, "datetime64[s]": np.datetime64(7, "s"), "U3": "abc"}


@pytest.mark.parametrize("name", SCALARS)
def test_the_function_of_an_update_gets_an_array_also_without_dimensions(name: str) -> None:
    array = zarrant.create_array({}, shape=(), dtype=name)
    value = SCALARS[name]

    def set_in_place(part: Any) -> Any:
        assert isinstance(part, np.ndarray) and part.shape == ()
        part[...] = value
        return part

    array.update(..., set_in_place)
    assert array[()] == value
    array.update((), lambda part: part)
    assert array[()] == value

    async def awaited() -> Any:
        there = zarrant.AsyncArray(array._context, array.metadata)
        await there.update(..., set_in_place)
        return await there.getitem(())

    assert asyncio.run(awaited()) == value


REFUSING: dict[str, Any] = {
    "cast": {"name": "cast_value", "configuration": {"data_type": "int8"}},
    "offset": {"name": "scale_offset", "configuration": {"offset": 0, "scale": 1e300}},
}


@pytest.mark.parametrize("concurrency", [1, 3])
@pytest.mark.parametrize("shards", [None, 4])
@pytest.mark.parametrize("filters", REFUSING)
def test_a_value_that_a_codec_refuses_costs_its_chunk_alone(filters: str, shards: int | None, concurrency: int) -> None:
    array: Any = zarrant.create_array(
        {}, data=np.zeros(200), chunks=2, shards=shards, filters=[REFUSING[filters]], config={"concurrency": concurrency}
    )
    values = np.full(200, 1.0 if filters == "cast" else 1e-3)
    values[6] = 1e9
    size = shards or 2
    for write in (lambda: array.__setitem__(..., values), lambda: array.store_chunks(np.s_[0 : 200 // size], values)):
        array[...] = np.zeros(200)
        with pytest.raises(PartialFailure) as caught:
            write()
        assert set(caught.value.failed) == {(6 // size,)}
        assert len(caught.value.stored) == 200 // size - 1
        assert "1000000000" in str(caught.value)
        expected = values.copy()
        expected[6 // size * size :][:size] = 0
        np.testing.assert_allclose(array[...], expected)
