from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, OptionError
from zarrant.stores.wrappers import Recording, WriteOnly
from zarrant.testkit import FaultySyscalls

pytestmark = pytest.mark.usefixtures("nothing_written")
LAYOUT: dict[str, Any] = {"shape": (8, 8), "dtype": "int16", "chunks": (4, 4)}


@pytest.fixture
def syscalls() -> FaultySyscalls:
    return FaultySyscalls()


def test_durable_arrays_sync_before_each_call_returns(tmp_path: Path, syscalls: FaultySyscalls) -> None:
    store = zarrant.FilesystemStore(tmp_path, syscalls=syscalls)
    a = zarrant.create_array(store, config={"durability": "fsync"}, **LAYOUT)
    assert a.store.durability == "fsync"
    assert a.config.durability == "fsync"
    assert syscalls.calls.count("sync") >= 2  # the document, and its directory
    for call, least in (
        (lambda: a.store_chunk((0, 0), np.ones((4, 4), "int16")), 2),
        (
            lambda: a.store_array_subset(np.s_[1:7, 1:7], np.full((6, 6), 2, "int16")),
            5,
        ),  # four chunks, one sync of their directories each
        (lambda: a.erase_chunk((0, 0)), 1),
        (lambda: a.update_attributes({"x": 1}), 2),
    ):
        syscalls.calls.clear()
        call()
        assert syscalls.calls.count("sync") >= least
        assert syscalls.calls.index("sync") < len(syscalls.calls) - 1
    syscalls.calls.clear()
    a.sync()
    assert "sync" not in syscalls.calls
    relaxed = a.with_config(durability="rename")
    relaxed[...] = 4
    assert "sync" not in syscalls.calls
    relaxed.sync()
    assert syscalls.calls.count("sync") >= 5


def test_from_the_environment_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZARRANT_DURABILITY", "fsync")
    assert zarrant.create_array(tmp_path, **LAYOUT).store.durability == "fsync"
    with pytest.raises(CapabilityError):
        zarrant.create_array({}, **LAYOUT)


@pytest.mark.parametrize("coroutines", [False, True], ids=["blocking", "async"])
def test_sync(tmp_path: Path, syscalls: FaultySyscalls, coroutines: bool) -> None:
    a = zarrant.create_array(zarrant.FilesystemStore(tmp_path, syscalls=syscalls), **LAYOUT)
    a[...] = 1
    assert "sync" not in syscalls.calls
    if coroutines:

        async def sync() -> None:
            b = await zarrant.open_array_async(a.store)
            await b.sync()

        asyncio.run(sync())
    else:
        a.sync()
    assert syscalls.calls.count("sync") == 5 + 4  # four chunks and the document; c/0, c/1, c and the root
    syscalls.calls.clear()
    a.sync()
    assert "sync" not in syscalls.calls


@pytest.mark.parametrize("coroutines", [False, True], ids=["blocking", "async"])
def test_groups_sync(tmp_path: Path, syscalls: FaultySyscalls, coroutines: bool) -> None:
    group = zarrant.create_group(zarrant.FilesystemStore(tmp_path, syscalls=syscalls), name="g")
    group.create_array("a", **LAYOUT)[...] = 1
    assert "sync" not in syscalls.calls
    if coroutines:

        async def sync() -> None:
            await (await zarrant.open_group_async(group.store, name="g")).sync()

        asyncio.run(sync())
    else:
        group.sync()
    assert syscalls.calls.count("sync") >= 7  # four chunks and three objects of metadata
    with pytest.raises(CapabilityError):
        zarrant.create_group({}).sync()


def test_handles_for_reading_sync_what_others_wrote(tmp_path: Path, syscalls: FaultySyscalls) -> None:
    store = zarrant.FilesystemStore(tmp_path, syscalls=syscalls)
    a = zarrant.create_array(store, name="a", **LAYOUT)
    for reader in (zarrant.open_array(store, name="a", mode="r"), zarrant.open_group(store, mode="r")):
        a[...] = 1
        syscalls.calls.clear()
        reader.sync()
        assert syscalls.calls.count("sync") >= 4
        with pytest.raises(CapabilityError):
            reader.update_attributes({"x": 1})
    with pytest.raises(CapabilityError):
        zarrant.open_array(zarrant.create_array({}, **LAYOUT).store, mode="r").sync()


def test_views_pass_it_on(tmp_path: Path, syscalls: FaultySyscalls) -> None:
    files = zarrant.FilesystemStore(tmp_path, syscalls=syscalls, durability="fsync")
    for store in (Recording(files), WriteOnly(files)):
        a = zarrant.create_array(store, overwrite=True, config={"durability": "fsync"}, **LAYOUT)
        syscalls.calls.clear()
        a.store_chunk((0, 0), np.ones((4, 4), "int16"))
        assert syscalls.calls.count("sync") >= 2
        a.sync()
    relaxed = zarrant.open_array(zarrant.FilesystemStore(tmp_path, syscalls=syscalls))
    with relaxed.lock(np.s_[:4, :4]) as locked:
        locked[:4, :4] = 3
        syscalls.calls.clear()
        locked.sync()
        assert "sync" in syscalls.calls


def test_stores_that_cannot(tmp_path: Path) -> None:
    data: dict[str, bytes] = {}
    with pytest.raises(CapabilityError) as caught:
        zarrant.create_array(data, config={"durability": "fsync"}, data=np.ones((8, 8)))
    assert "durability" in str(caught.value.expected)
    assert data == {}
    a = zarrant.create_array(data, **LAYOUT)
    with pytest.raises(CapabilityError):
        a.with_config(durability="fsync")[...] = 1
    with pytest.raises(CapabilityError) as caught:
        a.sync()
    assert caught.value.expected == "sync"
    assert list(data) == ["zarr.json"]
    files = zarrant.FilesystemStore(tmp_path)
    with pytest.raises(CapabilityError):  # a view cannot be told to be durable; its store can
        zarrant.create_array(Recording(files), config={"durability": "fsync"}, **LAYOUT)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OptionError):
        zarrant.create_array(tmp_path, config={"durability": "always"}, **LAYOUT)
