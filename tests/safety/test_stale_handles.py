"""Handles that never refresh, beside processes that append, resize, create, replace and remove: nothing acknowledged is lost."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import NodeExistsError, NodeNotFoundError, ZarrantError

from .test_appends import finish, start

pytestmark = [pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")]
SOAK = int(os.environ.get("ZARRANT_SOAK") or 0)
SECONDS = 20.0 * SOAK or 2.0
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (64,)},
    "raw chunks": {"chunks": (64,), "compressors": None},
    "shards": {"chunks": (4,), "shards": (64,)},
    "raw shards": {"chunks": (4,), "shards": (64,), "compressors": None},
}
Tally = Callable[[str, int], None]


def encoder(a: Any, last: int) -> None:
    chunk, local = divmod(last, 64)
    with a.partial_encoder((chunk,)) as opened:
        opened.store(np.s_[local : local + 1], 9)


def locked(a: Any, last: int) -> None:
    with a.lock(np.s_[last : last + 1]) as inside:
        inside[last] = 9


TAIL: list[Callable[[Any, int], Any]] = [
    lambda a, last: a.__setitem__(last, 9),
    lambda a, last: a.__setitem__(slice(0, last + 1), 9),
    lambda a, last: a.update(np.s_[last : last + 1], lambda part: part),
    lambda a, last: a.store_array_subsets([(np.s_[0:1], 9), (np.s_[last : last + 1], 9)]),
    lambda a, last: a.store_chunk((last // 64,), 9),
    lambda a, last: a.store_chunk_subset((last // 64,), np.s_[0 : last % 64 + 1], 9),
    lambda a, last: a.vindex.__setitem__([last], [9]),
    encoder,
    locked,
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_writers_of_the_tail_beside_appenders(tmp_path: Path, layout: str, tally: Tally) -> None:
    """Every element is 9, always: one that is 0 was appended and lost."""
    path = tmp_path / "a"
    zarrant.create_array(path, shape=(5,), dtype="i4", fill_value=0, **LAYOUTS[layout])[...] = 9
    until = time.monotonic() + SECONDS

    def append() -> int:
        a, count = zarrant.open_array(path, mode="r+"), 0
        while time.monotonic() < until:
            a.append(np.full(random.choice([1, 3, 7]), 9, "i4"))
            count += 1
        return count

    def write(number: int, refresh: bool) -> int:
        dice, a, count = random.Random(number), zarrant.open_array(path, mode="r+"), 0
        while time.monotonic() < until:
            if refresh or count % 20 == 19:
                a.refresh()
            dice.choice(TAIL)(a, a.shape[0] - 1)
            count += 1
        return count

    works = [append, append, lambda: write(1, True), lambda: write(2, False), lambda: write(3, False)]
    counts = [finish(*each) for each in [start(work) for work in works]]
    found = zarrant.open_array(path, mode="r")[...]
    assert (found == 9).all(), f"{int((found != 9).sum())} of {found.size} lost"
    tally("stale handles", sum(counts))


@pytest.mark.timeout(600)
def test_creators_with_data(tmp_path: Path, tally: Tally) -> None:
    """Six processes create one array with data; each then writes its own element."""
    processes, rounds = 6, 150 * SOAK or 20

    def work(number: int) -> None:
        for round_ in range(rounds):
            while not (tmp_path / f"go-{round_}").exists():
                time.sleep(0.0005)
            path = tmp_path / str(round_)
            if number % 2:
                a = zarrant.open_array(path, mode="a", data=np.zeros(96, "i4"), chunks=(8,), shards=(96,))
            else:
                a = zarrant.create_array(path, data=np.zeros(96, "i4"), chunks=(8,), shards=(96,), if_exists="match")
            a[number] = number + 1
            (tmp_path / f"done-{round_}-{number}").touch()

    children = [start(lambda number=number: work(number)) for number in range(processes)]  # type: ignore[misc]
    for round_ in range(rounds):
        (tmp_path / f"go-{round_}").touch()
        until = time.monotonic() + 60
        while not all((tmp_path / f"done-{round_}-{number}").exists() for number in range(processes)):
            assert time.monotonic() < until
            time.sleep(0.0005)
    for child in children:
        finish(*child)
    for round_ in range(rounds):
        found = zarrant.open_array(tmp_path / str(round_), mode="r")[:processes].tolist()
        assert found == list(range(1, processes + 1)), round_
    tally("stale handles", rounds * processes)


OTHERS: list[dict[str, Any]] = [
    {"dtype": "i4", "compressors": None},
    {"dtype": "f8"},
    {"dtype": "i4", "chunks": (4,)},
    {"dtype": "i4", "chunks": (4,), "shards": (8,)},
]


@pytest.mark.timeout(600)
def test_writers_beside_one_who_replaces_the_array(tmp_path: Path, tally: Tally) -> None:
    """What a new array holds is only what was written through handles of it: each array is written with its own number.

    And is filled with its own: an array of the same format takes the writes of an older handle, and a writer may sleep for long.
    """
    path = tmp_path / "a"

    def make(number: int) -> Any:
        format = {"shape": (64,), "chunks": (8,), "fill_value": -number, **OTHERS[number % len(OTHERS)]}
        return zarrant.create_array(path, **format, attributes={"n": number}, overwrite=True)

    make(0)
    until = time.monotonic() + 2 * SECONDS

    def write(seed: int) -> tuple[int, int]:
        dice, count, heard = random.Random(seed), 0, 0
        while time.monotonic() < until:
            try:
                a = zarrant.open_array(path, mode="r+")
                number = a.attrs["n"]
                while time.monotonic() < until:
                    low = dice.randrange(60)
                    a[low : dice.randrange(low + 1, 65)] = number
                    count += 1
            except (NodeNotFoundError, NodeExistsError):
                heard += 1
        return count, heard

    def replace() -> int:
        count = 0
        while time.monotonic() < until:
            a = make(count := count + 1)
            a[::2] = count
            time.sleep(0.02)
            found = set(a[...].tolist())
            assert found <= {-count, count}, f"array {count} holds {found}"
        return count

    writers = [start(lambda seed=seed: write(seed)) for seed in range(3)]  # type: ignore[misc]
    replaced = finish(*start(replace))
    counts = [finish(*writer) for writer in writers]
    assert replaced > 3
    assert sum(heard for _, heard in counts) > 0
    left = [name for _, _, names in os.walk(path) for name in names if name.endswith("__lock")]
    assert left == []
    tally("stale handles", replaced + sum(count for count, _ in counts))


@pytest.mark.timeout(600)
def test_nothing_comes_back_of_an_array_that_is_deleted(tmp_path: Path, tally: Tally) -> None:
    """Writers go on while the array is deleted: in the end there is no file and no directory of it."""
    rounds, total = 20 * SOAK or 6, 0
    group = zarrant.create_group(tmp_path / "g")
    for _ in range(rounds):
        a = group.create_array("a", shape=(64, 64), chunks=(4, 4), dtype="i4", fill_value=0)
        a[...] = 1

        def work(seed: int, a: Any = a) -> int:
            dice, count = random.Random(seed), 0
            while True:
                try:
                    a[dice.randrange(60) :, dice.randrange(60) :] = 2
                except ZarrantError as error:
                    assert isinstance(error, NodeNotFoundError), repr(error)
                    return count
                count += 1

        writers = [start(lambda seed=seed: work(seed)) for seed in range(3)]  # type: ignore[misc]
        time.sleep(0.15)
        del group["a"]
        total += sum(finish(*writer) for writer in writers)
        assert not (tmp_path / "g" / "a").exists()
    tally("stale handles", total)
