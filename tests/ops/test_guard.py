from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from zarrant.errors import ConflictError, LostUpdateError, VersionChangedError
from zarrant.ops.guard import MAX_TRIES, Guard, update_object
from zarrant.requests import Locked, Pause, Put


def append(source):
    data = yield from source.read_all()
    return [b"" if data is None else data, b"!"]


def erase(source):
    yield from source.read_all()


def blindly(source):
    return [b"new"]
    yield


def test_changes_create_replace_and_erase(objects) -> None:
    objects.perform(update_object("k", append))
    objects.perform(update_object("k", append))
    assert objects == {"k": b"!!"}
    objects.perform(update_object("k", erase))
    assert objects == {}
    objects.perform(update_object("k", erase))
    assert objects == {}
    assert [request.keys for request in objects.log if isinstance(request, Locked)] == [("k",)] * 4


def test_nothing_there_and_nothing_wanted_is_no_write(objects) -> None:
    objects.perform(update_object("k", erase))
    assert "Put" not in objects.kinds()


def test_what_needs_nothing_of_the_old_is_stored_without_a_condition(objects) -> None:
    objects["k"] = b"old"
    objects.perform(update_object("k", blindly))
    assert objects == {"k": b"new"}
    assert "Fetch" not in objects.kinds()


def test_a_lost_race_starts_over_from_what_the_winner_left(objects) -> None:
    objects["k"] = b"0"
    rivals = [b"1", b"2", b"3"]

    def rival(request) -> None:
        if isinstance(request, Put) and rivals:
            objects["k"] = rivals.pop(0)

    objects.before = rival
    objects.perform(update_object("k", append))
    assert objects == {"k": b"3!"}
    assert objects.kinds().count("Pause") == 3


@pytest.mark.parametrize("there", [False, True])
def test_creating_and_erasing_race_too(objects, there) -> None:
    if there:
        objects["k"] = b"x"
    once = [True]

    def rival(request) -> None:
        if isinstance(request, Put) and once:
            once.clear()
            objects["k"] = b"rival"

    objects.before = rival
    objects.perform(update_object("k", erase if there else append))
    assert objects == ({} if there else {"k": b"rival!"})


def test_pauses_grow_and_are_bounded_and_end(objects) -> None:
    def always(request) -> None:
        if isinstance(request, Put):
            objects["k"] = objects.get("k", b"") + b"."

    objects.before = always
    with pytest.raises(ConflictError) as caught:
        objects.perform(update_object("k", append))
    assert caught.value.key == "k"
    assert caught.value.retryable
    pauses = [request.seconds for request in objects.log if isinstance(request, Pause)]
    assert len(pauses) == MAX_TRIES
    assert all(0 <= seconds <= 0.5 for seconds in pauses)
    assert max(pauses[:3]) <= 0.004
    assert b"!" not in objects["k"]


def test_an_unguarded_change_that_would_undo_another_is_refused(objects) -> None:
    objects["k"] = b"0"

    def rival(request) -> None:
        if isinstance(request, Put):
            objects["k"] = b"rival"

    objects.before = rival
    for op in (update_object("k", append, Guard.NONE), update_object("k", append, Guard.NONE)):
        objects["k"] = b"0"
        with pytest.raises(LostUpdateError) as caught:
            objects.perform(op)
        assert (caught.value.key, caught.value.retryable) == ("k", True)
        assert objects == {"k": b"rival"}
    objects.perform(update_object("k", blindly, Guard.NONE))
    objects.before = lambda request: None
    objects.perform(update_object("k", append, Guard.NONE))
    assert objects == {"k": b"new!"}
    assert "Locked" not in objects.kinds()


def test_other_errors_pass(objects) -> None:
    def broken(source):
        yield from source.read_all()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        objects.perform(update_object("k", broken))

    def moved(source):
        raise VersionChangedError("inside")
        yield

    with pytest.raises(ConflictError):
        objects.perform(update_object("k", moved))


def test_compare_and_swap_alone_loses_nothing(objects) -> None:
    objects["k"] = b"0"
    rivals = [b"1", b"2"]

    def rival(request) -> None:
        if isinstance(request, Put) and rivals:
            objects["k"] = rivals.pop(0)

    objects.before = rival
    objects.perform(update_object("k", append, Guard.LOCK))
    assert objects == {"k": b"2!"}


def test_a_lock_inside_a_lock_says_so(objects) -> None:
    for guard, nested in ((Guard.LOCK, False), (Guard.NESTED_LOCK, True)):
        objects.log.clear()
        objects.perform(update_object("k", append, guard))
        (request,) = (request for request in objects.log if isinstance(request, Locked))
        assert (request.keys, request.nested) == (("k",), nested)


class Letters(NamedTuple):
    """Letters to be appended, by whoever leads."""

    letters: bytes
    kind: str = "letters"

    def merged(self, changes: Sequence[Letters]) -> Letters:
        return Letters(b"".join(each.letters for each in changes))

    def __call__(self, source: Any) -> Any:
        data = yield from source.read_all()
        if b"?" in self.letters:
            raise ValueError("not a letter")
        return [b"" if data is None else data, self.letters]


class Three:
    """A group of three callers, of whom one leads."""

    def __init__(self, *items: Any) -> None:
        self.all, self.items, self.ends = list(items), list(items[:1]), {}

    def take(self) -> list[Any]:
        self.items = self.all
        return self.items

    def resolve(self, number: int, error: Exception | None) -> None:
        assert number not in self.ends, "told once"
        self.ends[number] = error


def led(objects: Any, *letters: bytes) -> Three:
    """What one of several callers does for all."""
    items = [Letters(each) for each in letters]
    request = next(update_object("k", items[0], Guard.GROUP_COMMIT))
    assert (request.key, request.kind, request.item) == ("k", "letters", items[0])
    group = Three(*items)
    objects.perform(request.lead(group))
    return group


def test_a_group_is_committed_with_one_write_and_told_when_it_is_durable(objects) -> None:
    assert led(objects, b"a", b"b", b"c").ends == {0: None, 1: None, 2: None}
    assert objects == {"k": b"abc"}
    assert (objects.kinds().count("Put"), objects.kinds().count("Acknowledge")) == (1, 1)


def test_one_caller_alone_is_not_acknowledged_before_its_own_call_ends(objects) -> None:
    assert led(objects, b"a").ends == {0: None}
    assert "Acknowledge" not in objects.kinds()


def test_what_fails_together_is_done_one_by_one(objects) -> None:
    ends = led(objects, b"a", b"?", b"c").ends
    assert objects == {"k": b"ac"}
    assert (ends[0], type(ends[1]), ends[2]) == (None, ValueError, None)
