"""Anything in the place of a lock file, a temp file or an object: each operation is exact, or a typed error that changes nothing.

What is left over: an empty file, a shorter, a longer one, a valid old shard, a directory, a symbolic link (to a file, to nothing),
a FIFO, a file with a second name. Nothing hangs, nothing outside of the store is touched, no other object suffers.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from open_files import open_below
from zarrant.errors import DataError, PartialFailure, StoreError, ZarrantError
from zarrant.stores.local.store import FilesystemStore

S = np.s_
SHAPE = (8, 16)
OLD = np.random.default_rng(9).integers(1, 2**16, SHAPE, "uint16")
OUTSIDE = b"what is not ours" * 300


def old_shard() -> bytes:
    a = zarrant.create_array({}, shape=SHAPE, dtype="uint16", chunks=(4, 4), shards=(8, 8))
    a[...] = OLD
    return bytes(a.retrieve_encoded_chunk((0, 0)))


def link_outside(path: Path, outside: Path) -> None:
    outside.write_bytes(OUTSIDE)
    path.symlink_to(outside)


def second_name(path: Path, outside: Path) -> None:
    outside.write_bytes(OUTSIDE)
    os.link(outside, path)


LEFT: dict[str, Callable[[Path, Path], object]] = {
    "empty": lambda path, outside: path.write_bytes(b""),
    "shorter": lambda path, outside: path.write_bytes(b"s"),
    "longer": lambda path, outside: path.write_bytes(b"long" * 5000),
    "an old shard": lambda path, outside: path.write_bytes(old_shard()),
    "a directory": lambda path, outside: path.mkdir(),
    "a directory with a file": lambda path, outside: (path.mkdir(), (path / "x").write_bytes(b"x")),
    "a link to a file": link_outside,
    "a link to nothing": lambda path, outside: path.symlink_to("nowhere"),
    "a FIFO": lambda path, outside: os.mkfifo(path),
    "a second name": second_name,
}
PLACES = {
    "lock": ".__lock",
    "temp file": ".__new.__lock",
    "temp file of a writer without locks": ".__new0123456789abcdef.__lock",
    "object": "",
}


def change(a: Any, selection: Any, value: int) -> Callable[[Any], None]:
    a[selection] = value
    return lambda model: model.__setitem__(selection, value)


def subsets(a: Any) -> Callable[[Any], None]:
    a.store_array_subsets([(S[0:3, 0:3], 5), (S[2:6, 2:6], 6)])

    def expect(model: Any) -> None:
        model[0:3, 0:3] = 5
        model[2:6, 2:6] = 6

    return expect


def stored(a: Any) -> Callable[[Any], None]:
    a.store_chunk((0, 0), 3)
    return lambda model: model.__setitem__(S[:, :8], 3)


def encoded(a: Any) -> Callable[[Any], None]:
    a.store_encoded_chunk((0, 0), a.retrieve_encoded_chunk((0, 1)))
    return lambda model: model.__setitem__(S[:, :8], model[:, 8:])


def erased(a: Any) -> Callable[[Any], None]:
    a.erase_chunk((0, 0))
    return lambda model: model.__setitem__(S[:, :8], 0)


def attributes(a: Any) -> Callable[[Any], None]:
    a.attrs["n"] = 5
    return lambda model: None


OPERATIONS: dict[str, Callable[[Any], Callable[[Any], None]]] = {
    "a whole object": stored,
    "bytes": encoded,
    "a part": lambda a: change(a, S[1:7, 1:5], 4),
    "parts": subsets,
    "all fill": lambda a: change(a, S[:, :8], 0),
    "erase": erased,
    "read": lambda a: (a[...], lambda model: None)[1],
    "attributes": attributes,
}


def make(root: Path, shards: Any) -> tuple[Any, Any]:
    group = zarrant.create_group(root)
    a = group.create_array("a", shape=SHAPE, dtype="uint16", chunks=(4, 4) if shards else (8, 8), shards=shards)
    a[...] = model = np.arange(128, dtype="uint16").reshape(SHAPE) + 1
    store = FilesystemStore(root, lock_timeout=0.3)
    return zarrant.open_array(store, name="a", mode="r+"), model.copy()


@pytest.mark.parametrize("shards", [None, (8, 8)], ids=["chunk", "shard"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("left", LEFT)
def test_left_over(tmp_path: Path, left: str, place: str, shards: Any, tally: Callable[[str, int], None]) -> None:
    done = 0
    for number, (name, operation) in enumerate(OPERATIONS.items()):
        root = tmp_path / str(number) / "b"
        root.mkdir(parents=True)
        a, model = make(root, shards)
        # Attributes are an object too: the leftover lies beside the document then.
        key = "a/zarr.json" if name == "attributes" else "a/c/0/0"
        path = root / (key + PLACES[place])
        if place == "object":
            path.unlink()
        outside = root.parent / "outside"
        LEFT[left](path, outside)
        if (place, left, shards) == ("object", "an old shard", (8, 8)) and name != "attributes":
            model[:, :8] = OLD[:, :8]  # nobody can know that it is an old one
        before, open_before = model.copy(), open_below(tmp_path)
        try:
            expect = operation(a)
        except PartialFailure as failure:
            assert place in ("object", "lock", "temp file")
            assert {error.key for error in failure.failed.values() if isinstance(error, ZarrantError)} == {"a/c/0/0"}
            worked = False
        except (StoreError, DataError) as error:
            assert place in ("object", "lock", "temp file"), error
            assert error.key is not None
            assert key.endswith(error.key)
            worked = False
        else:
            expect(model)
            worked = True
        assert open_below(tmp_path) == open_before
        assert not outside.exists() or outside.read_bytes() == OUTSIDE
        check_objects(a, model if worked else before, key, place, worked)
        done += worked
    print(f"{len(OPERATIONS)} operations, {done} done in spite of what is left over, the others typed errors")
    tally("leftovers", len(OPERATIONS))


def check_objects(a: Any, model: Any, key: str, place: str, worked: bool) -> None:
    """The other object is right; so is this one, where its place is not taken by something else."""
    assert np.array_equal(a[:, 8:], model[:, 8:])
    if place != "object" or (worked and key == "a/c/0/0"):
        assert np.array_equal(a[:, :8], model[:, :8])


@pytest.mark.parametrize("left", LEFT)
def test_a_lock_file_that_cannot_be_one(tmp_path: Path, left: str) -> None:
    """What is a file is taken over; what is none is an error at once, not a wait."""
    root = tmp_path / "x" / "b"
    root.mkdir(parents=True)
    a, _ = make(root, None)
    path = root / "a/c/0/0.__lock"
    LEFT[left](path, root.parent / "outside")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if left in ("a directory", "a directory with a file", "a link to a file", "a link to nothing", "a FIFO"):
            with pytest.raises(StoreError, match="a/c/0/0"):
                a.store_chunk((0, 0), 2)
            assert os.path.lexists(path)
        else:
            a.store_chunk((0, 0), 2)
            assert not os.path.lexists(path)
