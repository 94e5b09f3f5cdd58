"""Several arrays that grow as one: what is asked for in which order, and what a kill or a failure between two requests leaves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from zarrant import requests
from zarrant.errors import BoundsError, ConflictError, DataTypeError, NodeNotFoundError, OptionError, ShapeError, StoreFullError
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.ops import group_changes, read
from zarrant.ops import node as node_ops
from zarrant.ops import resize as resize_ops
from zarrant.ops.bound_array import BoundArray, OpOptions
from zarrant.ops.group_changes import RECORD

NAMES = ("tas", "time")
RECORD_KEY = f"g/{RECORD}"
Append = Callable[..., Any]


class Killed(BaseException):
    """The process ends here."""


@pytest.fixture
def objects(objects: Any) -> Any:
    store = objects.store
    objects.store = lambda item: (store(item), objects.get(item.key))[1]
    return objects


@pytest.fixture
def append(objects: Any, state: Any) -> Append:
    """Appends rows of these numbers to both arrays of group g, which it made."""
    for name, shape, chunks in (("tas", (0, 3), (4, 3)), ("time", (0,), (5,))):
        objects.perform(node_ops.create_node(f"g/{name}", state(shape=shape, chunks=chunks, fill_value=-1).metadata))

    def call(*numbers: int, **others: Any) -> slice:
        rows = np.array(numbers, "int32")
        data = {"tas": np.repeat(rows[:, None], 3, 1), "time": rows} | others
        got: slice = objects.perform(group_changes.append("g", data, 0, OpOptions()))
        return got

    return call


def rows(objects: Any, name: str) -> list[int]:
    """The number in each row; all elements of a row must have it."""
    document = objects.perform(node_ops.read_metadata(f"g/{name}"))
    state = BoundArray.from_metadata(f"g/{name}", document, OpOptions())
    found = objects.perform(read.retrieve_array_subset(state, tuple(slice(0, n) for n in state.shape)))
    found = found.reshape(len(found), 3 if name == "tas" else 1)
    assert (found == found[:, :1]).all()
    return [int(n) for n in found[:, 0]]


def test_rows_lie_at_the_same_place_in_all_arrays(objects: Any, append: Append) -> None:
    assert append(1, 2, 3) == slice(0, 3)
    assert append() == slice(3, 3)
    assert append(4, 5, 6, 7, 8) == slice(3, 8)
    assert rows(objects, "tas") == rows(objects, "time") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert RECORD_KEY not in objects


def test_all_locks_are_taken_at_once_and_shapes_are_stored_last(objects: Any, append: Append) -> None:
    objects.log.clear()
    append(1, 2)
    first = next(request for request in objects.log if isinstance(request, requests.Locked))
    assert set(first.keys) == {RECORD_KEY, "g/tas/zarr.json", "g/time/zarr.json"}
    puts = [request.items[0] for request in objects.log if isinstance(request, requests.Put)]
    assert [item.key for item in puts] == [
        "g/tas/c/0/0",
        "g/time/c/0",
        RECORD_KEY,
        "g/tas/zarr.json",
        "g/time/zarr.json",
        RECORD_KEY,
    ]
    assert puts[-1].parts is None


@pytest.mark.parametrize("order", [("tas", "time"), ("time", "tas")])
@pytest.mark.parametrize("before", [0, 3])
def test_what_a_kill_leaves_is_completed_by_the_next_append(objects: Any, append: Append, order: Any, before: int) -> None:
    if before:
        append(1, 2, 3)
    start, steps, seen = dict(objects), 0, set()
    ended = False
    while not ended:
        objects.clear()
        objects.update(start)
        data = {"tas": np.full((4, 3), 9, "int32"), "time": np.full(4, 9, "int32")}
        op = group_changes.append("g", {name: data[name] for name in order}, 0, OpOptions())

        def kill(request: Any, last: int = len(objects.log) + steps) -> None:
            if len(objects.log) > last:
                raise Killed

        objects.before = kill
        try:
            objects.perform(op)
            ended = True
        except Killed:
            steps += 1
        objects.before = lambda request: None
        lengths = tuple(len(rows(objects, name)) for name in NAMES)
        seen.add(lengths)
        recorded = RECORD_KEY in objects
        old = [1, 2, 3][:before]
        assert append(5) == slice(before + 4 if recorded or ended else before, before + (5 if recorded or ended else 1))
        assert rows(objects, "tas") == rows(objects, "time") == [*old, *([9] * 4 if recorded or ended else []), 5]
        assert RECORD_KEY not in objects
    between = (before + 4, before) if order[0] == "tas" else (before, before + 4)
    assert seen == {(before, before), between, (before + 4, before + 4)}
    assert steps > 8


def test_who_is_killed_while_completing_leaves_it_to_the_next(objects: Any, append: Append) -> None:
    append(1)
    start = dict(objects)
    interrupted = None
    for kills in range(40):
        objects.clear()
        objects.update(interrupted or start)

        def kill(request: Any, last: int = len(objects.log) + kills, first: bool = interrupted is None) -> None:
            recorded = RECORD_KEY in objects and isinstance(request, requests.Put)
            if (first and recorded) or (not first and len(objects.log) > last):
                raise Killed

        objects.before = kill
        try:
            append(2)
        except Killed:
            pass
        objects.before = lambda request: None
        interrupted = interrupted or dict(objects)
        assert RECORD_KEY in interrupted
        append(3)
        assert rows(objects, "tas") == rows(objects, "time")
        assert rows(objects, "tas")[:2] == [1, 2]
        assert rows(objects, "tas")[-1] == 3


@pytest.mark.parametrize("key", ["g/tas/c/0/0", "g/time/c/0", RECORD_KEY, "g/tas/zarr.json", "g/time/zarr.json"])
def test_what_fails_is_undone(objects: Any, append: Append, key: str) -> None:
    append(1, 2)
    real, failures = objects.store, [1]

    def fail(item: Any) -> Any:
        if item.key == key and item.parts is not None and failures:
            failures.clear()
            raise StoreFullError("full")
        return real(item)

    objects.store = fail
    with pytest.raises(StoreFullError):
        append(8, 9)
    assert rows(objects, "tas") == rows(objects, "time") == [1, 2]
    assert RECORD_KEY not in objects
    assert append(3) == slice(2, 3)
    assert rows(objects, "tas") == rows(objects, "time") == [1, 2, 3]


def test_what_cannot_be_undone_says_that_it_will_be_completed(objects: Any, append: Append) -> None:
    append(1, 2)
    real = objects.store

    def fail(item: Any) -> Any:
        if item.key == "g/time/zarr.json" or (item.key == RECORD_KEY and item.parts is None):
            raise StoreFullError("full")
        return real(item)

    objects.store = fail
    with pytest.raises(ConflictError, match="Do not repeat it"):
        append(3, 4)
    objects.store = real
    append(5)
    assert rows(objects, "tas") == rows(objects, "time")


def test_a_record_that_cannot_be_erased_does_no_harm(objects: Any, append: Append, state: Any) -> None:
    real = objects.store

    def fail(item: Any) -> Any:
        if item.key == RECORD_KEY and item.parts is None:
            raise StoreFullError("full")
        return real(item)

    objects.store = fail
    assert append(1, 2) == slice(0, 2)
    objects.store = real
    assert RECORD_KEY in objects
    for name in NAMES:  # taken away on purpose: the record must not bring it back
        document = objects.perform(node_ops.read_metadata(f"g/{name}"))
        array = BoundArray.from_metadata(f"g/{name}", document, OpOptions())
        objects.perform(resize_ops.resize(array, (0, *array.shape[1:])))
        objects.perform(node_ops.update_attributes(f"g/{name}", {"cut": True}))
    assert append(7) == slice(0, 1)
    assert rows(objects, "tas") == rows(objects, "time") == [7]


def test_a_record_of_arrays_that_others_changed_is_dropped(objects: Any, append: Append) -> None:
    append(1)

    def kill(request: Any) -> None:
        if isinstance(request, requests.Put) and request.items[0].key == "g/time/zarr.json":
            raise Killed

    objects.before = kill
    with pytest.raises(Killed):
        append(2)
    objects.before = lambda request: None
    objects.perform(node_ops.update_attributes("g/time", {"x": 1}))
    with pytest.raises(ShapeError, match="not of one length") as caught:
        append(3)
    assert caught.value.got == {"g/tas": 2, "g/time": 1}
    assert "resize" in str(caught.value.hint)
    assert RECORD_KEY not in objects


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"arrays": 3}', b'{"arrays": {"g/tas": {}}}', b'{"arrays": {"../x": {}}}'])
def test_a_record_that_is_none_is_removed(objects: Any, append: Append, content: bytes) -> None:
    objects[RECORD_KEY] = content
    append(1)
    assert rows(objects, "tas") == rows(objects, "time") == [1]
    assert RECORD_KEY not in objects


WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "data of other lengths": ({"time": np.zeros(3, "int32")}, ShapeError, "the data"),
    "other extents": ({"tas": np.zeros((2, 4), "int32")}, ShapeError, "g/tas"),
    "too few dimensions": ({"tas": np.zeros(2, "int32")}, ShapeError, "g/tas"),
    "another type": ({"time": np.zeros(2, "complex64")}, DataTypeError, "cast|hold"),
    "no such array": ({"other": np.zeros(2, "int32")}, NodeNotFoundError, "other"),
    "the group itself": ({"": np.zeros(2, "int32")}, NodeNotFoundError, "no array"),
    "twice the same": ({"/time/": np.zeros(2, "int32")}, OptionError, "two names"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused_before_anything_is_stored(objects: Any, append: Append, case: str) -> None:
    append(1, 2)
    before = dict(objects)
    others, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        append(3, 4, **others)
    assert objects == before
    with pytest.raises(OptionError):
        objects.perform(group_changes.append("g", {}, 0, OpOptions()))
    with pytest.raises(BoundsError):
        objects.perform(group_changes.append("g", {"time": np.zeros(1, "int32")}, 1, OpOptions()))


def test_arrays_of_different_lengths_say_which(objects: Any, append: Append, state: Any) -> None:
    append(1, 2)
    document = objects.perform(node_ops.read_metadata("g/time"))
    assert isinstance(document, ArrayMetadata)
    objects.perform(resize_ops.append(BoundArray.from_metadata("g/time", document, OpOptions()), np.zeros(1, "int32")))
    before = dict(objects)
    with pytest.raises(ShapeError, match="the arrays are not of one length") as caught:
        append(3)
    assert caught.value.got == {"g/tas": 2, "g/time": 3}
    assert objects == before


def test_one_array_needs_no_record(objects: Any, append: Append) -> None:
    objects.log.clear()
    objects.perform(group_changes.append("g", {"time": np.arange(3, dtype="int32")}, -1, OpOptions()))
    assert rows(objects, "time") == [0, 1, 2]
    assert not any(isinstance(r, requests.Put) and r.items[0].key == RECORD_KEY for r in objects.log)


def test_the_record_says_what_is_about_to_be_stored(objects: Any, append: Append) -> None:
    def kill(request: Any) -> None:
        if isinstance(request, requests.Put) and request.items[0].key == "g/tas/zarr.json":
            raise Killed

    objects.before = kill
    with pytest.raises(Killed):
        append(1, 2)
    record = json.loads(objects[RECORD_KEY])["arrays"]
    assert {name: entry["shape"] for name, entry in record.items()} == {"g/tas": [2, 3], "g/time": [2]}
