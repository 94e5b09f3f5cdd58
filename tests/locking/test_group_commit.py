"""Entries and leaders, step by step; with threads and tasks: tests/run/test_group_commit.py."""

from __future__ import annotations

from zarrant.locking.group_commit import MAX_ITEMS, CommitQueues, Entry


def entries(*names: str) -> tuple[CommitQueues, list[Entry], list[int]]:
    """One entry for each name, joined in order; the numbers of those that are woken."""
    groups, woken = CommitQueues(), list[int]()
    made = [Entry(name, number, lambda number=number: woken.append(number), object()) for number, name in enumerate(names)]  # type: ignore[misc]
    for entry in made:
        groups.join(entry)
    return groups, made, woken


def test_the_first_of_a_name_leads() -> None:
    _, made, woken = entries("a", "b", "a", "b", "a")
    assert [entry.leads for entry in made] == [True, True, False, False, False]
    assert woken == []


def test_take_gives_more_the_later_it_is_called() -> None:
    groups, made, _ = entries("a", "b", "a")
    assert groups.take(made[0]) == [made[0], made[2]]
    late = Entry("a", 9, lambda: None, object())
    groups.join(late)
    assert groups.take(made[0]) == [made[0], made[2], late]


def test_take_is_bounded() -> None:
    groups, made, _ = entries(*["a"] * (MAX_ITEMS + 5))
    assert len(groups.take(made[0])) == MAX_ITEMS


def test_the_settled_are_woken_and_the_next_leads() -> None:
    groups, made, woken = entries("a", "a", "a")
    taken = groups.take(made[0])
    late = Entry("a", 3, lambda: woken.append(3), object())
    groups.join(late)
    error = ValueError("no")
    for entry, outcome in zip(taken, (None, error, None), strict=True):
        groups.resolve(entry, outcome)
    assert [entry.error for entry in taken] == [None, error, None]
    assert woken == [1, 2]
    assert not late.leads
    assert groups.leave(made[0])
    assert woken == [1, 2, 3]
    assert late.leads
    assert groups.leave(late)
    again = Entry("a", 0, lambda: None)
    assert groups.join(again), "nothing is kept of a name that nobody waits for"


def test_whoever_was_not_taken_can_go() -> None:
    groups, made, woken = entries("a", "a", "a")
    assert groups.leave(made[1])
    assert groups.take(made[0]) == [made[0], made[2]]
    assert not groups.leave(made[2]), "somebody acts for it"
    assert not made[1].resolved
    assert woken == []


def test_what_an_interrupted_leader_leaves_waits_again() -> None:
    groups, made, woken = entries("a", "a", "a")
    groups.take(made[0])
    groups.resolve(made[1], None)
    assert groups.leave(made[0])
    assert woken == [1, 2]
    assert made[2].leads
    assert not made[2].resolved
    assert groups.take(made[2]) == [made[2]]


def test_a_child_starts_with_nothing() -> None:
    groups, made, woken = entries("a", "a")
    groups.remake()
    assert groups.leave(made[0])
    assert woken == []
    assert groups.join(Entry("a", 0, lambda: None))
