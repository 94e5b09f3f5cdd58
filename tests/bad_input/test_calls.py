"""Calls that are wrong: the exact class, what and where in the message, and nothing stored changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import (
    BoundsError,
    CapabilityError,
    ChunkError,
    DataTypeError,
    OptionError,
    SelectionError,
    ShapeError,
    SliceStepError,
)
from zarrant.stores.wrappers import ReadOnly, WriteOnly

Call = Callable[[Any], object]
S = np.s_


def assign(selection: Any, values: Any, how: str = "") -> Call:
    """`a[selection] = values`, or of another kind of index."""

    def call(a: Any) -> None:
        (getattr(a, how) if how else a)[selection] = values

    return call


def ones(*shape: int, dtype: str = "int32") -> np.ndarray:
    return np.ones(shape, dtype)


WRONG_SHAPES: list[tuple[str, Call, tuple[str, ...]]] = [
    ("store_chunk", lambda a: a.store_chunk((0, 0), ones(3, 5)), ("(3, 5)", "shape of the chunks")),
    ("store_chunk, a dimension more", lambda a: a.store_chunk((0, 0), ones(1, *a.write_unit)), ("shape of the chunks",)),
    ("store_chunk at the edge", lambda a: a.store_chunk(last(a), ones(7, 7)), ("(7, 7)", "shape of the chunks")),
    ("store_chunks", lambda a: a.store_chunks(S[0:2, 0:1], ones(5, 3)), ("(5, 3)",)),
    ("store_chunks of none", lambda a: a.store_chunks(S[1:1, 0:1], ones(7, 7)), ("(7, 7)",)),
    ("store_chunk_subset", lambda a: a.store_chunk_subset((0, 0), S[0:1, 0:2], ones(2, 2)), ("(1, 2)", "(2, 2)")),
    ("store_array_subset", lambda a: a.store_array_subset(S[1:5, 2:9], ones(7, 4)), ("(4, 7)", "(7, 4)")),
    ("chunk of one index", lambda a: a.store_chunk((0,), ones(1)), ("number of chunk indices", "expected 2", "got 1")),
    ("chunk of three indices", lambda a: a.erase_chunk((0, 0, 0)), ("number of chunk indices", "got 3")),
    ("values of another shape for one row", lambda a: a.store_array_subset(S[0], ones(3, 3)), ("expected (1, 12)", "got (3, 3)")),
    ("chunks of three dimensions", lambda a: a.erase_chunks(S[0:1, 0:1, 0:1]), ("chunk grid", "got 3")),
    ("out=", lambda a: a.retrieve_array_subset(S[0:2, 0:2], out=ones(2, 3)), ("out=", "(2, 2)", "(2, 3)")),
    ("buffers for chunks", lambda a: a.store_encoded_chunks([(0, 0), (0, 1)], [b"x"]), ("expected 2", "got 1")),
    ("ragged lists", assign(S[0:2, 0:2], [[1], [2, 3]]), ("ragged", "list")),
    ("encoded, not contiguous", lambda a: a.store_encoded_chunk((0, 0), memoryview(bytes(8))[::2]), ("contiguous",)),
    ("encoded, not bytes", lambda a: a.store_encoded_chunk((0, 0), "text"), ("bytes", "str")),
]  # fmt: skip


def last(a: Any) -> tuple[int, ...]:
    """The chunk at the far corner."""
    return tuple(n - 1 for n in a.chunk_grid_shape)


@pytest.mark.parametrize(("call", "words"), [case[1:] for case in WRONG_SHAPES], ids=[case[0] for case in WRONG_SHAPES])
def test_wrong_shape(array: Any, place: Any, refused: Any, call: Call, words: tuple[str, ...]) -> None:
    with refused(place, ShapeError, *words):
        call(array)


@pytest.mark.parametrize("how", ["", "oindex", "vindex", "blocks"])
def test_wrong_shape_of_a_selection(array: Any, place: Any, refused: Any, how: str) -> None:
    selection: Any = S[0:1, 0:1] if how == "blocks" else ([1, 2, 3], [0, 5, 7])
    for values in (ones(5), ones(2, 2, 2)):
        with refused(place, ShapeError, str(values.shape)):
            assign(selection, values, how)(array)


WRONG_TYPES: list[tuple[str, Call, tuple[str, ...]]] = [
    ("float", lambda a: a.store_chunk((0, 0), np.full(a.write_unit, 1.5)), ("int32", "float64")),
    ("float to a region", lambda a: a.store_array_subset(S[0:1, 0:1], np.ones((1, 1))), ("int32", "float64")),
    ("float by index", assign(S[0, 0], 2.5), ("int32", "float64")),
    ("complex", assign(S[0:2], 1j), ("int32", "complex128")),
    ("a number too large", assign(S[0, 0], 2**40), ("int32", str(2**40))),
    ("an integer beyond the type", assign(S[0:2], np.array([[2**31]])), ("int32", str(2**31))),
    ("an unsigned integer beyond the type", lambda a: a.store_chunk((0, 0), np.uint64(2**63)), ("int32", str(2**63))),
    ("an integer beyond the type in an update", lambda a: a.update(S[0:1, 0:1], lambda x: x.astype("i8") - 2**40), ("int32",)),
    ("a region of integers beyond the type", lambda a: a.store_array_subset(S[0], -(2**31) - 1), ("int32", str(-(2**31) - 1))),
    ("one of many regions", lambda a: a.store_array_subsets([(S[0], 1), (S[1], 2**31)]), ("int32", str(2**31))),
    ("integers beyond the type appended", lambda a: a.append(np.full((1, a.shape[1]), 2**40)), ("int32", str(2**40))),
    ("a list with masked elements", assign(S[0, 0:2], [1, np.ma.masked]), ("masked",)),
    ("a value too large next to a mask", assign(S[0, 0:2], np.ma.masked_array([2**40, 1], mask=[0, 1])), ("int32", str(2**40))),
    ("objects", assign(S[0, 0:2], [None, object()]), ("int32", "list")),
    ("text", assign(S[0, 0], "seven"), ("int32",)),
    ("out= of another type", lambda a: a.retrieve_chunk((0, 0), out=np.empty(a.write_unit, "int64")), ("out=", "int32", "int64")),
    ("out= that is a list", lambda a: a.retrieve_chunk((0, 0), out=[0]), ("out=", "list")),
    ("out= that is read-only", lambda a: a.retrieve_chunk((0, 0), out=frozen(a.write_unit)), ("out=", "read-only")),
]  # fmt: skip


def frozen(shape: tuple[int, ...]) -> np.ndarray:
    array = ones(*shape)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(("call", "words"), [case[1:] for case in WRONG_TYPES], ids=[case[0] for case in WRONG_TYPES])
def test_wrong_type(array: Any, place: Any, refused: Any, call: Call, words: tuple[str, ...]) -> None:
    with refused(place, DataTypeError, *words):
        call(array)


BY_CHUNK: list[Callable[[Any, Any], object]] = [
    lambda a, c: a.store_chunk(c, 1),
    lambda a, c: a.store_chunk_subset(c, S[0:1, 0:1], 1),
    lambda a, c: a.store_encoded_chunk(c, b"x"),
    lambda a, c: a.store_encoded_chunks([(0, 0), c], [b"x", b"y"]),
    lambda a, c: a.erase_chunk(c),
    lambda a, c: a.retrieve_chunk(c),
    lambda a, c: a.retrieve_chunk_if_exists(c),
    lambda a, c: a.retrieve_chunk_subset(c, S[0:1, 0:1]),
    lambda a, c: a.retrieve_encoded_chunk(c),
    lambda a, c: a.chunk_key(c),
    lambda a, c: a.chunk_subset(c),
]


@pytest.mark.parametrize("call", BY_CHUNK)
def test_chunks_outside_of_the_grid(array: Any, place: Any, refused: Any, call: Callable[[Any, Any], object]) -> None:
    rows, columns = array.chunk_grid_shape
    for chunk, dimension in (((rows, 0), 0), ((0, columns), 1), ((-1, 0), 0), ((0, -1), 1), ((2**63, 0), 0)):
        with refused(place, BoundsError, "grid", f"dimension {dimension}", str(chunk[dimension]), chunk=chunk):
            call(array, chunk)
    for chunk in (("a", 0), (0.5, 0), (None, 0), (True, 0)):
        with refused(place, SelectionError, repr(chunk[0])):
            call(array, chunk)


@pytest.mark.parametrize("subset", [S[0:11, 0:1], S[-1:1, 0:1], S[0:1, -3:-1], S[0:1, 5:13], S[3:2, 0:1], S[11:11, 0:1]])
def test_regions_outside_of_the_array(array: Any, place: Any, refused: Any, subset: Any) -> None:
    calls: list[Call] = [
        lambda a: a.store_array_subset(subset, 1),
        lambda a: a.retrieve_array_subset(subset),
        lambda a: a.chunks_in_subset(subset),
    ]
    for call in calls:
        with refused(place, BoundsError, "subset outside of the array", "dimension", "within 0:"):
            call(array)


def test_blocks_of_chunks_outside_of_the_grid(array: Any, place: Any, refused: Any) -> None:
    beyond = S[0 : array.chunk_grid_shape[0] + 1, 0:1]
    calls: list[Call] = [
        lambda a: a.store_chunks(beyond, 1),
        lambda a: a.erase_chunks(beyond),
        lambda a: a.retrieve_chunks(beyond),
        lambda a: a.retrieve_encoded_chunks(beyond),
        lambda a: a.erase_chunks(S[-1:1, 0:1]),
    ]
    for call in calls:
        with refused(place, BoundsError, "chunk grid", "dimension 0"):
            call(array)


def test_subsets_of_a_chunk_outside_of_it(array: Any, place: Any, refused: Any) -> None:
    for subset in (S[0:5, 0:1], S[0:1, 0:7], S[-1:1, 0:1]):
        with refused(place, BoundsError, "subset outside of the chunk", "dimension"):
            array.store_chunk_subset((0, 0), subset, 1)
        with refused(place, BoundsError, "subset outside of the chunk", "dimension"):
            array.retrieve_chunk_subset((0, 0), subset)


OUTSIDE: list[tuple[str, Any]] = [
    ("", S[10, 0]), ("", S[0, -13]), ("", S[[0, 10]]), ("oindex", ([0, 99], slice(None))), ("vindex", ([0, 10], [0, 0])),
    ("blocks", S[99, 0]),
]  # fmt: skip
ODD: list[tuple[str, Any]] = [
    ("", S[np.newaxis, 0]), ("", S[0, 0, 0]), ("", S[..., ...]), ("", S["a"]), ("", S[0.5]),
    ("oindex", S[..., ...]), ("vindex", ([0.5], [1])), ("blocks", S[::2, 0]), ("oindex", ("x", 0)), ("", S[object(), 0]),
]  # fmt: skip


@pytest.mark.parametrize(("how", "selection"), OUTSIDE)
def test_indices_outside_of_the_array(array: Any, place: Any, refused: Any, how: str, selection: Any) -> None:
    with refused(place, BoundsError, "dimension"):
        assign(selection, 1, how)(array)
    with refused(place, BoundsError, "dimension"):
        (getattr(array, how) if how else array)[selection]


@pytest.mark.parametrize(("how", "selection"), ODD)
def test_indices_not_understood(array: Any, place: Any, refused: Any, how: str, selection: Any) -> None:
    with refused(place, SelectionError):
        assign(selection, 1, how)(array)
    with refused(place, SelectionError):
        (getattr(array, how) if how else array)[selection]


@pytest.mark.parametrize("how", ["", "oindex", "blocks"])
def test_slices_that_step_by_zero(array: Any, place: Any, refused: Any, how: str) -> None:
    with refused(place, SliceStepError, "zero"):
        assign(S[::0], 1, how)(array)


def test_masks_of_another_shape(array: Any, place: Any, refused: Any) -> None:
    for how in ("", "vindex"):
        for mask in (np.ones((10, 11), bool), np.ones((10, 12, 1), bool)):
            with refused(place, SelectionError, "mask", "(10, 12)", str(mask.shape)):
                assign(mask, 1, how)(array)


def test_empty_subsets_do_nothing(array: Any, place: Any, holds: Any) -> None:
    before = holds(place)
    array.store_array_subset(S[3:3, 0:5], ones(0, 5))
    array.store_array_subset(S[10:10, 12:12], 1)
    array.store_chunk_subset((0, 0), S[1:1, 0:2], ones(0, 2))
    array.store_chunks(S[1:1, 0:2], 1)
    array.erase_chunks(S[0:0, 0:1])
    array.store_encoded_chunks([], [])
    array[2:2] = 5
    array[5:2, ::3] = 5
    array.oindex[[], :] = 5
    array.vindex[[], []] = 5
    array[np.zeros(array.shape, bool)] = 5
    assert array.retrieve_array_subset(S[3:3, 0:5]).shape == (0, 5)
    assert array.retrieve_chunk_subset((0, 0), S[1:1, 0:2]).shape == (0, 2)
    assert array.retrieve_encoded_chunks(S[0:0, 0:1]) == []
    assert array[4:2, 0:3].shape == (0, 3)
    assert holds(place) == before


@pytest.mark.parametrize("shards", [None, (4, 6)])
def test_zero_length_dimensions(place: Any, refused: Any, holds: Any, shards: Any) -> None:
    a = zarrant.create_array(place, shape=(0, 6), dtype="int32", chunks=(2, 3), shards=shards)
    before = holds(place)
    assert (a.size, a.nchunks, a.chunk_grid_shape[0]) == (0, 0, 0)
    assert a[...].shape == a.retrieve_array_subset(S[0:0, 0:6]).shape == (0, 6)
    a[...] = 5
    a.store_array_subset(S[0:0, 2:4], ones(0, 2))
    a.store_chunks(S[0:0, 0:1], 1)
    a.erase_chunks(S[0:0, :])
    assert a.retrieve_chunks(S[0:0, 0:1]).shape[0] == 0
    assert holds(place) == before
    with refused(place, BoundsError, "grid", "dimension 0", "0 <= index < 0"):
        a.store_chunk((0, 0), 1)
    with refused(place, BoundsError, "dimension 0"):
        a[0, 0] = 1
    with refused(place, BoundsError, "subset outside of the array", "dimension 0", "0:1"):
        a.store_array_subset(S[0:1, 0:1], 1)
    with refused(place, ShapeError, "(3, 6)"):
        a[...] = ones(3, 6)


UPDATES: list[Call] = [
    lambda a: a.store_array_subset(S[0:1, 0:1], 5),
    lambda a: a.store_chunk_subset((0, 0), S[0:1, 0:1], 5),
    assign(S[0:5, 0:5], 5),
    assign(([0, 1], [0, 1]), 5, "oindex"),
    lambda a: a.update_attributes({"x": 1}),
]
WRITES: list[Call] = [
    lambda a: a.store_chunk((0, 0), 5),
    lambda a: a.store_chunks(S[0:2, 0:2], 5),
    lambda a: a.store_encoded_chunk((0, 0), b"bytes"),
    lambda a: a.erase_chunk((0, 0)),
    lambda a: a.erase_chunks(S[:, :]),
    lambda a: a.store_metadata(),
    lambda a: a.erase_metadata(),
]
READS: list[Call] = [
    lambda a: a[...], lambda a: a.retrieve_chunk((0, 0)), lambda a: a.retrieve_encoded_chunk((0, 0)), lambda a: a.refresh()
]  # fmt: skip


def over(view: type[Any], a: Any) -> Any:
    """The same array over a view of its store."""
    place = a._context
    return type(a)(type(place)(view(a.store), place.path, place.config, place.guarded), a.metadata)


def test_read_only_stores_refuse_writes_first(array: Any, place: Any, refused: Any) -> None:
    view = over(ReadOnly, array)
    assert np.array_equal(view[...], array[...])
    for call in UPDATES + WRITES:
        with refused(place, CapabilityError, "ReadOnly", "put", "erase") as caught:
            call(view)
        assert caught[0].expected[:2] == ["put", "erase"]
    opened = zarrant.open_array(place, mode="r")
    for call in UPDATES + WRITES:
        with refused(place, CapabilityError, "ReadOnly", "put"):
            call(opened)


def test_write_only_stores_refuse_reads_first(array: Any, place: Any, refused: Any) -> None:
    view = over(WriteOnly, array)
    for call in UPDATES + READS:
        with refused(place, CapabilityError, "WriteOnly", "get") as caught:
            call(view)
        assert "get" in caught[0].expected
    view.store_chunk((0, 0), 77)
    assert (array.retrieve_chunk((0, 0)) == 77).all()


def test_updates_need_a_guard(array: Any, place: Any, refused: Any) -> None:
    class Bare:
        """A store without locks or compare-and-swap."""

        def __init__(self, store: Any) -> None:
            self.get, self.get_ranges, self.put = store.get, store.get_ranges, store.put
            self.erase, self.erase_prefix = store.erase, store.erase_prefix

        def __repr__(self) -> str:
            return "Bare()"

    for call in UPDATES:
        with refused(place, CapabilityError, "Bare()", "lock or put_if"):
            call(over(Bare, array))


def test_encoded_chunks_that_do_not_decode(array: Any, place: Any, refused: Any) -> None:
    for data in (b"", b"garbage", bytes(500)):
        with refused(place, ChunkError, array.chunk_key((1, 1)), key=array.chunk_key((1, 1)), chunk=(1, 1)):
            array.store_encoded_chunk((1, 1), data, check=True)


def test_bad_options(array: Any, place: Any, refused: Any) -> None:
    for options, words in (({"concurrency": -1}, "concurrency"), ({"nonsense": 1}, "nonsense"), ({"locking": "hope"}, "locking")):
        with refused(place, OptionError, words):
            array.with_config(**options)
    for keyword in ({"mode": "rw"}, {"synchronizer": "redis"}, {"storage_options": {"anonymous": True}}):
        with refused(place, OptionError):
            zarrant.open_array(place, **keyword)
