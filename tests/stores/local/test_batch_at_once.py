"""Many small objects in memory, each by a compiled call: the same outcomes as one by one, file call by file call."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant import kernels
from zarrant.errors import ZarrantError
from zarrant.storage import OnlyWhile
from zarrant.stores.local import batch_put, put_at_once
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit import content

IN_MEMORY = Path("/dev/shm")
pytestmark = pytest.mark.skipif(
    kernels.put_file is None or not IN_MEMORY.is_dir(), reason="needs the compiled call and a file system in memory"
)


class Plain(Syscalls):
    """The file calls of the system, but not the class itself: each is made by itself."""


@pytest.fixture
def root() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as folder:
        yield Path(folder)


def outcome(found: Any) -> Any:
    """What must be equal: the size of a new object, or the error and what it names."""
    if isinstance(found, ZarrantError):
        return type(found), found.key
    return type(found) if isinstance(found, Exception) else found[3]


def state(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


keys = st.sampled_from(["a", "b", "c/0", "c/1", "c/2/3", "d/link", "taken", "", "../x", "a.__lock", "file/below"])
parts = st.lists(st.binary(max_size=20) | st.just(np.zeros(3, "i4")), max_size=3)
conditions = st.sampled_from([None, "right", "wrong", "gone"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(st.tuples(keys, parts), max_size=8),
    condition=st.sampled_from([None, "right", "wrong", "gone"]),
    tiny=st.booleans(),
)
def test_it_is_equal_to_one_by_one(items: Any, condition: str | None, tiny: bool, root: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(put_at_once, "MAX_HELD_BYTES", 10 if tiny else 1 << 17)
    found = []
    for files in (Syscalls(), Plain()):
        with tempfile.TemporaryDirectory(dir=root) as folder:
            store = FilesystemStore(folder, syscalls=files, lock_timeout=0)
            for key in ("a", "file", "c/1", "taken"):
                store.put(key, [b"old value"])
            version = store.put("zarr.json", [b"{}"])
            (Path(folder) / "d").mkdir()
            (Path(folder) / "d/link").symlink_to(Path(folder) / "a")
            with ExitStack() as stack:
                stack.enter_context(FilesystemStore(folder).lock(["taken"]))
                view: Any = store
                if condition is not None:
                    wanted = (*version[:2], version[2] + (condition == "wrong"), version[3])  # type: ignore[index]
                    view = store.only_while(OnlyWhile("nothing" if condition == "gone" else "zarr.json", wanted))
                outcomes = view.put_all(items)
            found.append(([outcome(each) for each in outcomes], state(Path(folder))))
    assert found[0] == found[1]


def test_it_is_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(root)
    store.put("c/probed", [b""])
    singly: list[int] = []
    monkeypatch.setattr(batch_put._Batch, "take_write_lease", lambda self, number: singly.append(number))
    outcomes = store.put_all([(f"c/{i}", [bytes([i]) * 5]) for i in range(100)])
    assert singly == []
    assert [store.version(f"c/{i}") for i in range(100)] == outcomes
    assert [content(store.get(f"c/{i}")) for i in range(100)] == [bytes([i]) * 5 for i in range(100)]


def test_one_that_is_no_bytes_harms_no_other(root: Path) -> None:
    store = FilesystemStore(root)
    store.put("c/probed", [b""])
    outcomes = store.put_all([("c/0", [b"a"]), ("c/1", ["text"]), ("c/2", [b"c"])])  # type: ignore[list-item]
    assert [isinstance(each, Exception) for each in outcomes] == [False, True, False]
    assert state(root) == {"c/probed": b"", "c/0": b"a", "c/2": b"c"}


def test_what_was_stored_before_an_interrupt_is_known(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FilesystemStore(root)
    store.put("c/probed", [b""])
    store.sync()
    calls, real = [0], put_at_once._call

    def interrupted(*args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(put_at_once, "_call", interrupted)
    added: list[str] = []
    monkeypatch.setattr(type(store.unsynced_paths), "add", lambda self, files, paths, *mark: added.extend(paths))
    with pytest.raises(KeyboardInterrupt):
        store.put_all([(f"c/{i}", [b"new"]) for i in range(5)])
    assert added == [f"{root}/c/0", f"{root}/c/1"]
    assert set(state(root)) == {"c/probed", "c/0", "c/1"}


def test_whole_arrays_of_small_chunks(root: Path) -> None:
    data = np.arange(3000, dtype="u2")
    array = zarrant.create_array(root / "a", shape=data.shape, chunks=(3,), dtype="u2", compressors=None)
    for turn in range(2):
        array[...] = data + turn
        assert np.array_equal(zarrant.open_array(root / "a")[...], data + turn)
    assert not [name for name in state(root) if "__" in name]
