from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, OptionError
from zarrant.stores.wrappers import Recording, WriteOnly
from zarrant.testkit import FaultyLayer

pytestmark = pytest.mark.usefixtures("nothing_written")
LAYOUT: dict[str, Any] = {"shape": (8, 8), "dtype": "int16", "chunks": (4, 4)}


@pytest.fixture
def layer() -> FaultyLayer:
    return FaultyLayer()


def test_durable_arrays_sync_before_each_call_returns(tmp_path: Path, layer: FaultyLayer) -> None:
    store = zarrant.FilesystemStore(tmp_path, layer=layer)
    a = zarrant.create_array(store, config={"durability": "fsync"}, **LAYOUT)
    assert a.store.durability == "fsync"
    assert a.config.durability == "fsync"
    assert layer.calls.count("sync") >= 2  # the document, and its directory
    for call, least in (
        (lambda: a.store_chunk((0, 0), np.ones((4, 4), "int16")), 2),
        (
            lambda: a.store_array_subset(np.s_[1:7, 1:7], np.full((6, 6), 2, "int16")),
            5,
        ),  # four chunks, one sync of their directories each
        (lambda: a.erase_chunk((0, 0)), 1),
        (lambda: a.update_attributes({"x": 1}), 2),
    ):
        layer.calls.clear()
        call()
        assert layer.calls.count("sync") >= least
        assert layer.calls.index("sync") < len(layer.calls) - 1
    layer.calls.clear()
    a.sync()
    assert "sync" not in layer.calls
    relaxed = a.with_config(durability="rename")
    relaxed[...] = 4
    assert "sync" not in layer.calls
    relaxed.sync()
    assert layer.calls.count("sync") >= 5


def test_from_the_environment_and_by_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZARRANT_DURABILITY", "fsync")
    assert zarrant.create_array(tmp_path, **LAYOUT).store.durability == "fsync"
    with pytest.raises(CapabilityError):
        zarrant.create_array({}, **LAYOUT)


@pytest.mark.parametrize("coroutines", [False, True], ids=["blocking", "async"])
def test_sync(tmp_path: Path, layer: FaultyLayer, coroutines: bool) -> None:
    a = zarrant.create_array(zarrant.FilesystemStore(tmp_path, layer=layer), **LAYOUT)
    a[...] = 1
    assert "sync" not in layer.calls
    if coroutines:

        async def sync() -> None:
            b = await zarrant.open_array_async(a.store)
            await b.sync()

        asyncio.run(sync())
    else:
        a.sync()
    assert layer.calls.count("sync") == 5 + 4  # four chunks and the document; c/0, c/1, c and the root
    layer.calls.clear()
    a.sync()
    assert "sync" not in layer.calls


@pytest.mark.parametrize("coroutines", [False, True], ids=["blocking", "async"])
def test_groups_sync(tmp_path: Path, layer: FaultyLayer, coroutines: bool) -> None:
    group = zarrant.create_group(zarrant.FilesystemStore(tmp_path, layer=layer), name="g")
    group.create_array("a", **LAYOUT)[...] = 1
    assert "sync" not in layer.calls
    if coroutines:

        async def sync() -> None:
            await (await zarrant.open_group_async(group.store, name="g")).sync()

        asyncio.run(sync())
    else:
        group.sync()
    assert layer.calls.count("sync") >= 7  # four chunks and three objects of metadata
    with pytest.raises(CapabilityError):
        zarrant.create_group({}).sync()


def test_handles_for_reading_sync_what_others_wrote(tmp_path: Path, layer: FaultyLayer) -> None:
    store = zarrant.FilesystemStore(tmp_path, layer=layer)
    a = zarrant.create_array(store, name="a", **LAYOUT)
    for reader in (zarrant.open_array(store, name="a", mode="r"), zarrant.open_group(store, mode="r")):
        a[...] = 1
        layer.calls.clear()
        reader.sync()
        assert layer.calls.count("sync") >= 4
        with pytest.raises(CapabilityError):
            reader.update_attributes({"x": 1})
    with pytest.raises(CapabilityError):
        zarrant.open_array(zarrant.create_array({}, **LAYOUT).store, mode="r").sync()


def test_views_pass_it_on(tmp_path: Path, layer: FaultyLayer) -> None:
    files = zarrant.FilesystemStore(tmp_path, layer=layer, durability="fsync")
    for store in (Recording(files), WriteOnly(files)):
        a = zarrant.create_array(store, overwrite=True, config={"durability": "fsync"}, **LAYOUT)
        layer.calls.clear()
        a.store_chunk((0, 0), np.ones((4, 4), "int16"))
        assert layer.calls.count("sync") >= 2
        a.sync()
    relaxed = zarrant.open_array(zarrant.FilesystemStore(tmp_path, layer=layer))
    with relaxed.lock(np.s_[:4, :4]) as held:
        held[:4, :4] = 3
        layer.calls.clear()
        held.sync()
        assert "sync" in layer.calls


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
