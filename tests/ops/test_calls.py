"""How much code a small write runs: calls of functions of this library, and the files that they are in.

The bounds of the calls are what was measured, and a few calls; those of the files are fewer than before codecs, data types and
grids became open to other packages (31 for an index, 28 for a chunk; 47 for an append, which stores by one compiled call). A
change that needs more says why, and moves the bound.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import kernels
from zarrant.codecs import chain

ROOT = str(Path(zarrant.__file__).parent)
INLINED = {"<listcomp>", "<dictcomp>", "<setcomp>"}
"""No calls since Python 3.12."""


def calls_of(act: Callable[[], object]) -> list[tuple[str, str]]:
    """(file, function) of every call inside the library, after two runs that fill caches."""
    act(), act()
    calls: list[tuple[str, str]] = []

    def note(frame: Any, event: str, arg: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(ROOT) and code.co_name not in INLINED:
            calls.append((code.co_filename[len(ROOT) + 1 :], code.co_qualname))

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return calls


@pytest.fixture
def array(tmp_path: Path) -> Any:
    """Chunks of 4 x 4 in a directory; one thread, so that every call is seen."""
    return zarrant.create_array(tmp_path / "a", shape=(8, 8), dtype="int32", chunks=(4, 4), config={"concurrency": 1})


VALUES = np.arange(16, dtype=np.int32).reshape(4, 4)


def test_store_chunk_is_the_cheapest_write(array: Any) -> None:
    def by_index() -> None:
        array[0:4, 0:4] = VALUES

    def by_chunk() -> None:
        array.store_chunk((0, 0), VALUES)

    general, chunk = calls_of(by_index), calls_of(by_chunk)
    assert len(chunk) < len(general)
    assert len({file for file, _ in chunk}) < len({file for file, _ in general}) < 31
    assert len({file for file, _ in chunk}) < 28
    assert len(general) <= 128
    assert len(chunk) <= 110


def test_an_array_is_made_opened_written_and_read_by_few_calls(tmp_path: Path) -> None:
    numbers, again = itertools.count(), itertools.count()
    whole = np.s_[0:4, 0:4]

    def make() -> None:
        zarrant.create_array(tmp_path / str(next(numbers)), shape=(4, 4), dtype="int32", chunks=(4, 4), config={"concurrency": 1})

    def use() -> None:
        array = zarrant.open_array(tmp_path / str(next(again)), mode="r+", config={"concurrency": 1})
        array.store_array_subset(whole, VALUES)
        assert np.array_equal(array.retrieve_array_subset(whole), VALUES)

    assert len(calls_of(make)) <= 180
    assert len(calls_of(use)) <= 340


@pytest.mark.skipif(kernels.update_file is None, reason="the general way calls more")
def test_an_update_looks_only_at_what_it_changes(array: Any) -> None:
    def update() -> None:
        array[1:3, 1:3] = VALUES[:2, :2]

    array[...] = 1
    calls = calls_of(update)
    assert len(calls) <= 97
    assert "BoxUpdate.is_fill" not in [name for _, name in calls]


def test_append_binds_nothing_again(tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path / "a", shape=(0, 4), dtype="int32", chunks=(4, 4), config={"concurrency": 1})
    calls = calls_of(lambda: array.append(VALUES))
    assert len(calls) <= 515
    names = [name for _, name in calls]
    assert chain.parse_chain.__qualname__ not in names
    assert "Chain.bind" not in names


def test_append_passes_few_files(tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path / "a", shape=(0, 4), dtype="int32", chunks=(4, 4), config={"concurrency": 1})
    calls = calls_of(lambda: array.append(VALUES[:3]))  # the rest of one chunk, and a part of the next
    assert len(calls) <= 800
    assert len({file for file, _ in calls}) < 48


def test_a_lock_and_other_options_bind_nothing_again(array: Any) -> None:
    def locked() -> None:
        with array.lock(np.s_[0:4, 0:4]) as held:
            held[0:4, 0:4] = VALUES

    for act in (locked, lambda: array.with_config(write_empty_chunks=True)):
        names = [name for _, name in calls_of(act)]
        assert chain.parse_chain.__qualname__ not in names
        assert "Chain.bind" not in names
