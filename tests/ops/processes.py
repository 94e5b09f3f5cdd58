"""Operations of several processes on one dict, whose steps are interleaved as a random generator chooses.

A write has two steps, the look at the metadata and the storing, between which others may come. Versions are the bytes themselves,
so equal bytes have equal versions. A process may be stopped for longer than its turn lasts, or be killed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from tests.ops.conftest import Alone, Dict

from zarrant import requests
from zarrant.errors import MetadataChangedError, ZarrantError
from zarrant.ops import turns


class Disk(Dict):
    """Objects that several processes share; the clock stands still unless they wait."""

    now = 0.0


class Process:
    """An operation on its way."""

    def __init__(self, disk: Disk, op: requests.Op[Any]) -> None:
        self.disk, self.wake, self.done, self.result = disk, 0.0, False, None
        self.storing = False
        self.asleep = 0.0  # seconds that its clock does not count, as where a machine is suspended
        self.steps = self._perform(op)

    def step(self) -> None:
        """Do what can be done in one moment."""
        try:
            next(self.steps)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
        except ZarrantError as error:
            self.done, self.result = True, error

    def _perform(self, op: requests.Op[Any]) -> Iterator[None]:
        reply, error = None, None
        while True:
            try:
                request = op.throw(error) if error is not None else op.send(reply)
            except StopIteration as stop:
                return stop.value
            try:
                reply, error = (yield from self._answer(request)), None
            except Exception as raised:
                reply, error = None, raised

    def _answer(self, request: Any) -> Iterator[None]:
        match request:
            case requests.All(ops, _):
                outcomes: list[Any] = []
                for op in ops:
                    try:
                        outcomes.append((yield from self._perform(op)))
                    except Exception as error:
                        outcomes.append(error)
                return outcomes
            case requests.Locked(_, op) | requests.BeforeChange(_, op):
                return (yield from self._perform(op))
            case requests.GroupCommit(_, _, item, lead):
                return (yield from self._perform(lead(Alone(item))))
            case requests.Share(_, op):
                return (yield from self._perform(op())), True
            case requests.Clock():
                return self.disk.now - self.asleep
            case requests.Pause(seconds):
                self.wake = self.disk.now + seconds
                yield
                return None
            case requests.Put(items, condition):
                return (yield from self._put(items, condition))
        yield
        return self.disk.answer(request)

    def _put(self, items: Any, condition: Any) -> Iterator[None]:
        self.storing = condition is None and any(map(_is_new_chunk, items))  # the take was the look at the metadata
        yield
        self.storing = False
        if condition is not None:
            try:
                condition.check(self.disk.get(condition.key))
            except MetadataChangedError as error:
                return [error] * len(items)
        outcomes = []
        for item in items:
            self.storing = condition is not None or _is_new_chunk(item)
            yield  # what was seen may be no longer so
            self.storing = False
            try:
                self.disk.store(item)
                outcomes.append(self.disk.get(item.key))
            except ZarrantError as error:
                outcomes.append(error)
        return outcomes


def _is_new_chunk(item: Any) -> bool:
    return item.if_version is None and "/c/" in item.key


def run(dice: random.Random, disk: Disk, processes: list[Process], stop_s: float = -1, kills: bool = False) -> set[int]:
    """Perform the steps of processes in some order; the numbers of those that were killed."""
    killed: set[int] = set()
    for _ in range(20_000):
        waiting = [i for i, each in enumerate(processes) if not each.done and i not in killed]
        if not waiting:
            return killed
        ready = [i for i in waiting if processes[i].wake <= disk.now]
        if not ready:
            disk.now = min(processes[i].wake for i in waiting)
            continue
        i = dice.choice(ready)
        chance = dice.random()
        if kills and chance < 0.02 and len(killed) < len(processes) - 1:
            killed.add(i)
        elif chance < 0.06 and stop_s >= 0:  # stopped, or very slow
            longest = stop_s if processes[i].storing else 3 * turns.TAKE_OVER_S
            processes[i].wake = disk.now + dice.uniform(0, longest)
        else:
            processes[i].step()
    raise AssertionError("the operations do not come to an end")
