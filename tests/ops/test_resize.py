"""Resizing and appending: what is asked for in which order, and what a crash between any two requests leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zarrant import requests
from zarrant.errors import BoundsError, ConflictError, NodeNotFoundError, ShapeError
from zarrant.metadata.v3 import GroupMetadata, dump
from zarrant.ops import node as node_ops
from zarrant.ops import read, stored_chunks, update
from zarrant.ops import resize as resize_ops
from zarrant.ops.bound_array import BoundArray

LAYOUTS: dict[str, dict[str, Any]] = {"chunks": {"chunks": (4, 3)}, "shards": {"chunks": (2, 3), "shards": (4, 6)}}
layouts = pytest.mark.parametrize("layout", LAYOUTS)


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def created(objects: Any, state: Any) -> Callable[..., BoundArray]:
    """Makes an array of these values."""

    def create(values: np.ndarray, objects: Any = objects, **layout: Any) -> BoundArray:
        made: BoundArray = state(shape=values.shape, dtype=values.dtype, fill_value=7, **layout)
        objects.perform(node_ops.create_node("a", made.metadata))
        objects.perform(update.store_array_subset(made, tuple(slice(0, n) for n in values.shape), values))
        objects.log.clear()
        return made

    return create


def stored(objects: Any, state: BoundArray) -> np.ndarray:
    """The array as one finds it who opens it now."""
    now = BoundArray.from_metadata("a", objects.perform(node_ops.read_metadata("a")), state.options)
    return objects.perform(read.retrieve_array_subset(now, tuple(slice(0, n) for n in now.shape)))


def resized(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    new = np.full(shape, 7, values.dtype)
    kept = tuple(slice(0, min(a, b)) for a, b in zip(shape, values.shape, strict=True))
    new[kept] = values[kept]
    return new


def writes(objects: Any) -> list[str]:
    """The keys that were written or erased, in order."""
    return [item.key for request in objects.log if isinstance(request, requests.Put) for item in request.items]


def reads(objects: Any) -> set[str]:
    return {want.key for request in objects.log if isinstance(request, requests.Fetch) for want in request.items}


def litter(objects: Any, state: BoundArray, shape: tuple[int, int] = (40, 40)) -> None:
    """Fill all that lies outside of the shape with what should never be seen."""
    shown = stored(objects, state)
    large = BoundArray.from_metadata("a", state.metadata.with_shape(shape), state.options)
    objects.perform(update.store_array_subset(large, tuple(slice(0, n) for n in shape), np.full(shape, 666, "int32")))
    objects.perform(update.store_array_subset(large, tuple(slice(0, n) for n in state.shape), shown))
    assert np.array_equal(stored(objects, state), shown)


# ── append ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@layouts
def test_append_says_where(objects: Any, created: Any, numbers: Any, layout: str) -> None:
    state = created(numbers, **LAYOUTS[layout])
    assert objects.perform(resize_ops.append(state, numbers[:3])) == slice(10, 13)
    assert objects.perform(resize_ops.append(state, numbers[:0])) == slice(13, 13)
    assert objects.perform(resize_ops.append(state, np.full((13, 2), 9), -1)) == slice(9, 11)
    expected = np.hstack([np.vstack([numbers, numbers[:3]]), np.full((13, 2), 9)])
    assert np.array_equal(stored(objects, state), expected)


def test_one_frame_reads_the_document_and_the_edge_chunks_only(objects: Any, created: Any) -> None:
    state = created(np.ones((33, 8), "int32"), chunks=(32, 4))
    objects.perform(resize_ops.append(state, np.full((1, 8), 5)))
    assert reads(objects) == {"a/zarr.json", "a/c/1/0", "a/c/1/1"}
    assert sorted(writes(objects)) == ["a/c/1/0", "a/c/1/1", "a/zarr.json"]


@layouts
def test_whole_chunks_are_appended_without_a_read(objects: Any, created: Any, layout: str) -> None:
    state = created(np.ones((8, 9), "int32"), **LAYOUTS[layout])
    objects.perform(resize_ops.append(state, np.full((5, 9), 5)))
    assert reads(objects) == {"a/zarr.json"}
    assert writes(objects)[-1] == "a/zarr.json"


def test_it_is_done_under_the_document(objects: Any, created: Any, numbers: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    objects.perform(resize_ops.append(state, numbers))
    assert [request.keys for request in objects.log if isinstance(request, requests.Locked)][:1] == [("a/zarr.json",)]
    assert isinstance(objects.log[0], requests.Locked)
    chunks = [request for request in objects.log if isinstance(request, requests.Locked)][1:]
    assert all(request.nested and len(request.keys) == 1 for request in chunks), "one chunk at a time, while the document is held"


@layouts
def test_what_a_crashed_appender_left_is_never_shown(objects: Any, created: Any, numbers: Any, layout: str) -> None:
    state = created(numbers, **LAYOUTS[layout])
    litter(objects, state)
    objects.perform(resize_ops.append(state, numbers[:1] * 0 + 1))
    expected = np.vstack([numbers, np.ones((1, 9), "int32")])
    assert np.array_equal(stored(objects, state), expected)
    objects.perform(resize_ops.append(state, np.full((11, 4), 7), 1))
    expected = np.hstack([expected, np.full((11, 4), 7)])
    assert np.array_equal(stored(objects, state), expected)


def test_a_stale_state_appends_at_the_real_end(objects: Any, created: Any, numbers: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    assert [objects.perform(resize_ops.append(state, numbers[:2])) for _ in range(3)] == [
        slice(10, 12),
        slice(12, 14),
        slice(14, 16),
    ]


def test_attributes_that_changed_meanwhile_stay(objects: Any, created: Any, numbers: Any) -> None:
    state = created(numbers, chunks=(4, 3))

    def change(request: Any) -> None:
        if isinstance(request, requests.Put) and request.items[0].key == "a/zarr.json":
            objects.before = lambda request: None
            objects["a/zarr.json"] = dump(state.metadata.with_attributes({"x": 1}))

    objects.before = change
    assert objects.perform(resize_ops.append(state, numbers[:2])) == slice(10, 12)
    document = objects.perform(node_ops.read_metadata("a"))
    assert (document.attributes, document.shape) == ({"x": 1}, (12, 9))


@pytest.mark.parametrize("document", [lambda state: state.metadata.with_shape((11, 9)), lambda state: GroupMetadata(), None])
def test_a_writer_that_takes_no_lock_is_noticed(objects: Any, created: Any, numbers: Any, document: Any) -> None:
    state = created(numbers, chunks=(4, 3))

    def change(request: Any) -> None:
        if isinstance(request, requests.Put) and request.items[0].key == "a/zarr.json":
            if document is None:
                del objects["a/zarr.json"]
            else:
                objects["a/zarr.json"] = dump(document(state))

    objects.before = change
    with pytest.raises(ConflictError if document is not None and len(dump(document(state))) > 200 else NodeNotFoundError):
        objects.perform(resize_ops.append(state, numbers[:2]))


@pytest.mark.parametrize(
    ("shape", "axis", "error"),
    [((9,), 0, ShapeError), ((2, 8), 0, ShapeError), ((1, 2, 9), 0, ShapeError), ((10, 2), 0, ShapeError),
     ((2, 9), 2, BoundsError), ((2, 9), -3, BoundsError), ((2, 9), 0.0, BoundsError), ((2, 9), True, BoundsError)],
)  # fmt: skip
def test_wrong_data_write_nothing(objects: Any, created: Any, numbers: Any, shape: Any, axis: Any, error: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    with pytest.raises(error):
        objects.perform(resize_ops.append(state, np.ones(shape, "int32"), axis))
    assert writes(objects) == []


def test_data_are_checked_against_the_array_that_is_there(objects: Any, created: Any, numbers: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    objects.perform(resize_ops.resize(state, (10, 5)))
    objects.log.clear()
    with pytest.raises(ShapeError, match=r"\(any, 5\)"):
        objects.perform(resize_ops.append(state, numbers[:2]))
    assert writes(objects) == []


# ── resize ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@layouts
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shapes=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13)), min_size=1, max_size=5), dirty=st.booleans())
def test_resize_is_that_of_an_array_in_memory(
    objects: Any, created: Any, layout: str, shapes: list[tuple[int, int]], dirty: bool
) -> None:
    objects, expected = type(objects)(), np.arange(63, dtype="int32").reshape(9, 7)
    state = created(expected, objects, **LAYOUTS[layout])
    for shape in shapes:
        if dirty:
            now = BoundArray.from_metadata("a", objects.perform(node_ops.read_metadata("a")), state.options)
            litter(objects, now, (16, 16))
        objects.perform(resize_ops.resize(state, shape, shrink=True))
        expected = resized(expected, shape)
        assert np.array_equal(stored(objects, state), expected)
        expected = np.arange(expected.size, dtype="int32").reshape(shape) + 100
        now = BoundArray.from_metadata("a", objects.perform(node_ops.read_metadata("a")), state.options)
        objects.perform(update.store_array_subset(now, tuple(slice(0, n) for n in shape), expected))


@layouts
def test_shrinking_leaves_nothing_for_others_to_find(objects: Any, created: Any, numbers: Any, layout: str) -> None:
    state = created(numbers, **LAYOUTS[layout])
    objects.perform(resize_ops.resize(state, (5, 4)))
    assert writes(objects)[0] == "a/zarr.json"
    objects.perform(node_ops.store_metadata("a", state.metadata))  # another library grows the array without a look
    assert np.array_equal(stored(objects, state), resized(numbers[:5, :4], (10, 9)))
    assert all(state.key_encoding.parse(key[2:]) < (2, 2) for key in objects if "/c/" in key)


@pytest.mark.parametrize("listing", [False, True])
def test_many_absent_chunks_are_not_asked_for_one_by_one(
    objects: Any, created: Any, numbers: Any, listing: bool, monkeypatch: Any
) -> None:
    monkeypatch.setattr(resize_ops, "LIST_FROM", 10)
    state = created(numbers, chunks=(4, 3))
    litter(objects, state)
    objects.log.clear()
    objects.perform(resize_ops.resize(state, (30, 38), listing))
    assert ("ListPrefix" in objects.kinds()) == listing
    assert np.array_equal(stored(objects, state), resized(numbers, (30, 38)))
    objects.log.clear()
    objects.perform(resize_ops.resize(state, (3, 2), listing, shrink=True))
    objects.perform(resize_ops.resize(state, (40, 40), listing))
    assert np.array_equal(stored(objects, state), resized(numbers[:3, :2], (40, 40)))


@layouts
def test_what_is_stored_is_found_by_one_listing(objects: Any, created: Any, numbers: Any, layout: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(stored_chunks, "LIST_FROM", 0)
    state = created(numbers, **LAYOUTS[layout])
    litter(objects, state)
    objects.log.clear()
    objects.perform(resize_ops.resize(state, (30, 38), True))
    assert "ListStored" in objects.kinds()
    assert "ListPrefix" not in objects.kinds()
    assert np.array_equal(stored(objects, state), resized(numbers, (30, 38)))
    objects.perform(resize_ops.resize(state, (3, 2), True, shrink=True))
    objects.perform(resize_ops.resize(state, (40, 40), True))
    assert np.array_equal(stored(objects, state), resized(numbers[:3, :2], (40, 40)))


def test_clean_padding_is_not_written(objects: Any, created: Any, numbers: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    objects.perform(resize_ops.resize(state, (11, 9)))
    assert writes(objects) == ["a/zarr.json"]
    assert reads(objects) == {"a/zarr.json", "a/c/2/0", "a/c/2/1", "a/c/2/2"}


def test_the_same_shape_writes_nothing(objects: Any, created: Any, numbers: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    objects.perform(resize_ops.resize(state, np.array([10, 9])))
    assert writes(objects) == []


@pytest.mark.parametrize("shape", [(1,), 5, (1, 2, 3), (-1, 2), (1.0, 2), ("1", 2), (True, 1), (2**63, 1)])
def test_wrong_shapes_ask_for_nothing(objects: Any, created: Any, numbers: Any, shape: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    with pytest.raises(ShapeError):
        objects.perform(resize_ops.resize(state, shape))
    assert objects.log == []


def test_extents_beyond_the_coordinates(objects: Any, created: Any, numbers: Any) -> None:
    state = created(numbers, chunks=(4, 3))
    with pytest.raises(ShapeError):
        objects.perform(resize_ops.resize(state, (2**63 - 1, 9), listing=True))
    assert writes(objects) == []
    objects.perform(resize_ops.resize(state, (2**62, 9), listing=True))
    now = BoundArray.from_metadata("a", objects.perform(node_ops.read_metadata("a")), state.options)
    assert (objects.perform(read.retrieve_array_subset(now, np.s_[2**61 : 2**61 + 2, 0:9])) == 7).all()


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def operations() -> dict[str, Callable[[BoundArray, np.ndarray], Any]]:
    return {
        "append": lambda state, values: resize_ops.append(state, values[:7] + 1000),
        "append columns": lambda state, values: resize_ops.append(state, values[:, :5] + 1000, 1),
        "grow": lambda state, values: resize_ops.resize(state, (15, 17)),
        "shrink": lambda state, values: resize_ops.resize(state, (5, 4)),
        "both": lambda state, values: resize_ops.resize(state, (13, 4)),
    }


@layouts
@pytest.mark.parametrize("name", operations())
def test_killed_at_any_request(objects: Any, created: Any, numbers: Any, layout: str, name: str) -> None:
    """The array is the old or the new one, wholly; and what follows is as if there had been no crash."""
    cases, seen = 0, set()
    while True:
        objects = type(objects)()
        state = created(numbers, objects, **LAYOUTS[layout])
        litter(objects, state, (20, 20))
        objects.log.clear()

        def kill(request: Any, objects: Any = objects, at: int = cases) -> None:
            if len(objects.log) > at:
                raise Killed

        objects.before = kill
        try:
            objects.perform(operations()[name](state, numbers))
        except Killed:
            ended = False
        else:
            ended = True
        objects.before = lambda request: None
        found = stored(objects, state)
        new = {
            "append": np.vstack([numbers, numbers[:7] + 1000]),
            "append columns": np.hstack([numbers, numbers[:, :5] + 1000]),
            "grow": resized(numbers, (15, 17)),
            "shrink": numbers[:5, :4],
            "both": resized(numbers[:, :4], (13, 4)),
        }[name]
        assert np.array_equal(found, new) if ended or found.shape == new.shape else np.array_equal(found, numbers)
        seen.add(found.shape)
        objects.perform(resize_ops.resize(state, (19, 18)))
        assert np.array_equal(stored(objects, state), resized(found, (19, 18)))
        if ended:
            break
        cases += 1
    assert len(seen) == 2
    assert cases >= 4
