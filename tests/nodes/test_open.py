from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import (
    CapabilityError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    StoreError,
    UnknownExtensionError,
)

KINDS = {"shape": (4,), "dtype": "int8"}


def both(blocking: Any, coroutine: Any) -> list[Any]:
    return [blocking, lambda *args, **options: asyncio.run(coroutine(*args, **options))]


@pytest.fixture(params=[0, 1], ids=["blocking", "async"])
def api(request: pytest.FixtureRequest) -> Any:
    class Api:
        create_array = staticmethod(both(zarrant.create_array, zarrant.create_array_async)[request.param])
        create_group = staticmethod(both(zarrant.create_group, zarrant.create_group_async)[request.param])
        open_array = staticmethod(both(zarrant.open_array, zarrant.open_array_async)[request.param])
        open_group = staticmethod(both(zarrant.open_group, zarrant.open_group_async)[request.param])
        open = staticmethod(both(zarrant.open, zarrant.open_async)[request.param])

    return Api


def test_addresses(api: Any, tmp_path: Path) -> None:
    for store in (tmp_path, str(tmp_path), tmp_path.as_uri(), zarrant.FilesystemStore(tmp_path)):
        assert api.open_array(store, name="a", **KINDS).shape == (4,)
    assert (tmp_path / "a" / "zarr.json").exists()
    name = f"memory://{tmp_path.name}/deep"
    api.create_array(name, name="er", **KINDS)
    assert api.open_array(f"{name}/er", mode="r").path == "deep/er"
    data: dict[str, bytes] = {}
    api.create_group(data)
    assert list(data) == ["zarr.json"]
    for wrong in (3, None, object(), "s3://bucket/x", "ftp://x", ""):
        with pytest.raises(OptionError):
            api.open(wrong)


def test_reading_modes(api: Any) -> None:
    store = zarrant.MemoryStore()
    for mode in ("r", "r+"):
        with pytest.raises(NodeNotFoundError):
            api.open_array(store, mode=mode, **KINDS)
        with pytest.raises(NodeNotFoundError):
            api.open_group(store, mode=mode)
    zarrant.create_array(store, name="a", **KINDS)
    zarrant.create_group(store, name="g")
    zarrant.open_array(store, name="a", mode="r+")[...] = 3
    reader = zarrant.open_array(store, name="a", mode="r")
    assert reader[0] == 3
    with pytest.raises(CapabilityError):
        reader[0] = 4
    assert type(api.open(store, name="a")).__name__.endswith("Array")
    assert type(api.open(store, name="g")).__name__.endswith("Group")
    with pytest.raises(NodeNotFoundError, match="not an array"):
        api.open_array(store, name="g")
    with pytest.raises(NodeNotFoundError, match="not a group"):
        api.open_group(store, name="a")
    with pytest.raises(NodeNotFoundError):
        api.open(store, name="nothing")


def test_creating_modes(api: Any) -> None:
    store = zarrant.MemoryStore()
    api.open_array(store, mode="a", **KINDS)
    zarrant.open_array(store)[...] = 3
    assert zarrant.open_array(store, mode="a", **KINDS)[0] == 3
    with pytest.raises(NodeExistsError):
        api.open_array(store, mode="w-", **KINDS)
    assert zarrant.open_array(store)[0] == 3
    api.open_array(store, mode="w", **KINDS)
    assert zarrant.open_array(store)[0] == 0
    assert list(store.list_prefix("")) == ["zarr.json"]
    api.open_group(store, mode="w", attributes={"a": 1})
    with pytest.raises(NodeExistsError):
        api.open_group(store, mode="w-")
    assert api.open_group(store, mode="a", attributes={"b": 1}).attrs == {"a": 1}
    with pytest.raises(NodeNotFoundError):
        api.open_array(store, name="new", mode="a")
    for mode in ("w", "w-"):
        with pytest.raises(OptionError):
            api.open(store, mode=mode)
    for mode in ("x", "rw", None):
        with pytest.raises(OptionError):
            api.open_array(store, mode=mode)


def test_creation(api: Any) -> None:
    store = zarrant.MemoryStore()
    api.create_array(store, attributes={"a": 1}, **KINDS)
    with pytest.raises(NodeExistsError):
        api.create_array(store, **KINDS)
    with pytest.raises(NodeExistsError):
        api.create_array(store, if_exists="match", **KINDS)
    api.create_array(store, if_exists="match", attributes={"a": 1}, **KINDS)
    api.create_array(store, if_exists="overwrite", **KINDS)
    api.create_array(store, overwrite=True, data=np.arange(6))
    assert zarrant.open_array(store)[...].tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("synchronizer", [True, "lock", 3])
def test_wrong_options_store_nothing(api: Any, synchronizer: Any) -> None:
    store: dict[str, bytes] = {}
    for options in (
        {"synchronizer": synchronizer},
        {"config": {"concurency": 3}},
        {"config": {"lock_timeout": "soon"}},
        {"storage_options": {"region": "x"}},
        {"name": "../x"},
    ):
        with pytest.raises(OptionError):
            api.create_array(store, **KINDS, **options)
    assert store == {}


def test_what_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError):
        zarrant.open(tmp_path / "file")
    with pytest.raises(NodeNotFoundError):
        zarrant.open(tmp_path / "nothing", mode="r")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "zarr.json").write_text(json.dumps({"zarr_format": 3, "node_type": "array"}))
    with pytest.raises(MetadataError) as caught:
        zarrant.open(tmp_path)
    assert caught.value.key == "zarr.json"
    assert str(tmp_path.name) in str(caught.value)


def test_peers_open_what_is_created(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    zarrant.create_array(tmp_path, name="g/a", data=np.arange(12).reshape(3, 4), chunks=(2, 2), attributes={"unit": "mm"})
    g = zarr.open_group(str(tmp_path), mode="r")
    assert np.array_equal(g["g/a"][...], np.arange(12).reshape(3, 4))
    assert dict(g["g/a"].attrs) == {"unit": "mm"}


@pytest.fixture(params=["group", "array"])
def old(request, tmp_path):
    """A directory of Zarr V2, as zarr-python writes it, and what kind of node it is."""
    zarr = pytest.importorskip("zarr")
    if request.param == "group":
        group = zarr.open_group(tmp_path / "old", mode="w", zarr_format=2)
        group.attrs["title"] = "mine"
        group.create_array("air", data=np.arange(6))
    else:
        zarr.create_array(tmp_path / "old", data=np.arange(6), zarr_format=2)
    return tmp_path / "old", request.param


def files(path) -> dict:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}


@pytest.mark.parametrize("mode", ["r", "r+", "a", "w", "w-"])
@pytest.mark.parametrize("kind", ["array", "group", "node"])
def test_no_mode_of_opening_hides_a_v2_node(old, mode, kind) -> None:
    path, is_kind = old
    before = files(path)
    call = {
        "array": lambda: zarrant.open_array(
            path, mode=mode, **({"shape": (6,), "dtype": "i8"} if mode in ("a", "w", "w-") else {})
        ),
        "group": lambda: zarrant.open_group(path, mode=mode),
        "node": lambda: zarrant.open(path, mode=mode),
    }[kind]
    with pytest.raises((UnknownExtensionError, NodeExistsError, OptionError)) as caught:
        call()
    if not isinstance(caught.value, OptionError):
        assert f"Zarr V2 {is_kind} is here" in str(caught.value)
        assert caught.value.hint
    else:
        assert (kind, mode) in {("node", "w"), ("node", "w-")}
    assert files(path) == before


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"if_exists": "match"}, {"if_exists": "overwrite"}], ids=repr)
@pytest.mark.parametrize("name", [None, "new", "new/deep", "air"])
def test_no_creation_hides_a_v2_node(old, options, name) -> None:
    path, _ = old
    before = files(path)
    for create in (
        lambda: zarrant.create_array(path, name=name, shape=(6,), dtype="i8", data=np.ones(6, "i8"), **options),
        lambda: zarrant.create_group(path, name=name, **options),
        lambda: asyncio.run(zarrant.create_group_async(path, name=name, **options)),
        lambda: asyncio.run(zarrant.create_array_async(path, name=name, shape=(6,), dtype="i8", **options)),
    ):
        with pytest.raises(NodeExistsError, match="V2"):
            create()
    assert files(path) == before
