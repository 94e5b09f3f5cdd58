"""Entries and leaders, step by step; with threads and tasks: tests/run/test_joining.py."""

from __future__ import annotations

from zarrant.locking.gathering import MOST, Entry, Gatherings


def entries(*names: str) -> tuple[Gatherings, list[Entry], list[int]]:
    """One entry for each name, joined in order; the numbers of those that are woken."""
    gatherings, woken = Gatherings(), list[int]()
    made = [Entry(name, number, lambda number=number: woken.append(number)) for number, name in enumerate(names)]  # type: ignore[misc]
    for entry in made:
        gatherings.join(entry)
    return gatherings, made, woken


def test_the_first_of_a_name_leads() -> None:
    _, made, woken = entries("a", "b", "a", "b", "a")
    assert [entry.leads for entry in made] == [True, True, False, False, False]
    assert woken == []


def test_take_gives_more_the_later_it_is_called() -> None:
    gatherings, made, _ = entries("a", "b", "a")
    assert gatherings.take(made[0]) == [made[0], made[2]]
    late = Entry("a", 9, lambda: None)
    gatherings.join(late)
    assert gatherings.take(made[0]) == [made[0], made[2], late]


def test_take_is_bounded() -> None:
    gatherings, made, _ = entries(*["a"] * (MOST + 5))
    assert len(gatherings.take(made[0])) == MOST


def test_the_settled_are_woken_and_the_next_leads() -> None:
    gatherings, made, woken = entries("a", "a", "a")
    taken = gatherings.take(made[0])
    late = Entry("a", 3, lambda: woken.append(3))
    gatherings.join(late)
    error = ValueError("no")
    for entry, outcome in zip(taken, (None, error, None), strict=True):
        gatherings.settle(entry, outcome)
    assert [entry.error for entry in taken] == [None, error, None]
    assert woken == [1, 2]
    assert not late.leads
    assert gatherings.leave(made[0])
    assert woken == [1, 2, 3]
    assert late.leads
    assert gatherings.leave(late)
    again = Entry("a", 0, lambda: None)
    assert gatherings.join(again), "nothing is kept of a name that nobody waits for"


def test_whoever_was_not_taken_can_go() -> None:
    gatherings, made, woken = entries("a", "a", "a")
    assert gatherings.leave(made[1])
    assert gatherings.take(made[0]) == [made[0], made[2]]
    assert not gatherings.leave(made[2]), "somebody acts for it"
    assert not made[1].settled
    assert woken == []


def test_what_an_interrupted_leader_leaves_waits_again() -> None:
    gatherings, made, woken = entries("a", "a", "a")
    gatherings.take(made[0])
    gatherings.settle(made[1], None)
    assert gatherings.leave(made[0])
    assert woken == [1, 2]
    assert made[2].leads
    assert not made[2].settled
    assert gatherings.take(made[2]) == [made[2]]


def test_a_child_starts_with_nothing() -> None:
    gatherings, made, woken = entries("a", "a")
    gatherings.remake()
    assert gatherings.leave(made[0])
    assert woken == []
    assert gatherings.join(Entry("a", 0, lambda: None))
