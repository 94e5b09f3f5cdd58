from __future__ import annotations

import pytest

from zarrant.errors import ConflictError, LostUpdateError, VersionChangedError
from zarrant.ops.exclusive import TRIES, exclusively
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
    objects.perform(exclusively("k", append))
    objects.perform(exclusively("k", append))
    assert objects == {"k": b"!!"}
    objects.perform(exclusively("k", erase))
    assert objects == {}
    objects.perform(exclusively("k", erase))
    assert objects == {}
    assert [request.keys for request in objects.log if isinstance(request, Locked)] == [("k",)] * 4


def test_nothing_there_and_nothing_wanted_is_no_write(objects) -> None:
    objects.perform(exclusively("k", erase))
    assert "Put" not in objects.kinds()


def test_what_needs_nothing_of_the_old_is_stored_without_a_condition(objects) -> None:
    objects["k"] = b"old"
    objects.perform(exclusively("k", blindly))
    assert objects == {"k": b"new"}
    assert "Fetch" not in objects.kinds()


def test_a_lost_race_starts_over_from_what_the_winner_left(objects) -> None:
    objects["k"] = b"0"
    rivals = [b"1", b"2", b"3"]

    def rival(request) -> None:
        if isinstance(request, Put) and rivals:
            objects["k"] = rivals.pop(0)

    objects.before = rival
    objects.perform(exclusively("k", append))
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
    objects.perform(exclusively("k", erase if there else append))
    assert objects == ({} if there else {"k": b"rival!"})


def test_pauses_grow_and_are_bounded_and_end(objects) -> None:
    def always(request) -> None:
        if isinstance(request, Put):
            objects["k"] = objects.get("k", b"") + b"."

    objects.before = always
    with pytest.raises(ConflictError) as caught:
        objects.perform(exclusively("k", append))
    assert caught.value.key == "k"
    assert caught.value.retryable
    pauses = [request.seconds for request in objects.log if isinstance(request, Pause)]
    assert len(pauses) == TRIES
    assert all(0 <= seconds <= 0.5 for seconds in pauses)
    assert max(pauses[:3]) <= 0.004
    assert b"!" not in objects["k"]


def test_an_unguarded_change_that_would_undo_another_is_refused(objects) -> None:
    objects["k"] = b"0"

    def rival(request) -> None:
        if isinstance(request, Put):
            objects["k"] = b"rival"

    objects.before = rival
    for op in (exclusively("k", append, guarded=False), exclusively("k", append, guarded=False, beside=True)):
        objects["k"] = b"0"
        with pytest.raises(LostUpdateError) as caught:
            objects.perform(op)
        assert (caught.value.key, caught.value.retryable) == ("k", True)
        assert objects == {"k": b"rival"}
    objects.perform(exclusively("k", blindly, guarded=False))
    objects.before = lambda request: None
    objects.perform(exclusively("k", append, guarded=False))
    assert objects == {"k": b"new!"}
    assert "Locked" not in objects.kinds()


def test_other_errors_pass(objects) -> None:
    def broken(source):
        yield from source.read_all()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        objects.perform(exclusively("k", broken))

    def moved(source):
        raise VersionChangedError("inside")
        yield

    with pytest.raises(ConflictError):
        objects.perform(exclusively("k", moved))
