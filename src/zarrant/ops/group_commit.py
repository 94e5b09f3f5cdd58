"""Group commit: one of several callers who want to change the same object does it for all of them.

In: a key, a kind, an item, and the work that is done with all items of that kind. Out: None, or the error of this caller's item.
Callers wait in the driver (`run/group_commit.py`); the first one leads. What is decided here:

- The leader takes the items as late as possible: when the work asks for them, which is after the key is locked.
- If the work for several items fails it is done again for each item by itself, so that bad data of one caller are no error of
  another.
- The other callers return as soon as the write is durable; they do not wait for the end of the leader's call.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any

from zarrant.requests import CommitGroup, Op, acknowledge, group_commit

Take = Callable[[], Sequence[Any]]
"""The items to work on, in order of arrival; the later it is called, the more there are."""
Work = Callable[[Take], Op[Any]]


def commit_together(key: str, kind: Hashable, item: Any, work: Work) -> Op[None]:
    """Do `work` for `item` and for what others hand in for the key meanwhile; items of one `kind` can be done by one work."""
    return group_commit(key, kind, item, partial(_lead, work))


def _lead(work: Work, group: CommitGroup) -> Op[None]:
    try:
        yield from work(group.take)
        if len(group.items) > 1:
            yield from acknowledge()  # safety: acknowledged
    except Exception as error:
        if len(group.items) == 1:
            group.resolve(0, error)
        else:
            yield from _one_by_one(work, group)
        return
    for number in range(len(group.items)):
        group.resolve(number, None)


def _one_by_one(work: Work, group: CommitGroup) -> Op[None]:
    for number, item in enumerate(group.items):
        error: Exception | None = None
        try:
            yield from work(partial(_only, item))
            yield from acknowledge()
        except Exception as raised:
            error = raised
        group.resolve(number, error)


def _only(item: Any) -> Sequence[Any]:
    return (item,)
