from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant import extensions
from zarrant.errors import (
    CapabilityError,
    FrozenAttributeError,
    MetadataError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    StoreError,
    StorePermissionError,
)
from zarrant.testkit import CasStore

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
    for wrong in (3, None, object(), "s3://", "nope://x", ""):
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


@pytest.mark.parametrize("mode", ["r", "r+", "a", "w", "w-"])
@pytest.mark.parametrize("there", [True, False])
def test_an_unknown_option_is_refused_in_every_mode(api: Any, mode: str, there: bool) -> None:
    objects: dict[str, bytes] = {}
    store = zarrant.MemoryStore(objects)
    if there:
        zarrant.create_array(store, name="a", data=np.arange(4))
        zarrant.create_group(store, name="g")
    before = dict(objects)
    with pytest.raises(OptionError, match="Did you mean 'chunks'"):
        api.open_array(store, name="a", mode=mode, **KINDS, chunk=(2,))
    with pytest.raises(OptionError, match="Did you mean 'storage_options'"):
        api.open_array(store, name="a", mode=mode, storage_option={})
    with pytest.raises(OptionError, match="Did you mean 'attributes'"):
        api.open_group(store, name="g", mode=mode, atributes={})
    with pytest.raises(OptionError, match="shape"):
        api.open_group(store, name="g", mode=mode, shape=(4,))
    with pytest.raises(OptionError, match="Did you mean 'config'"):
        api.open(store, name="a", mode=mode, confg={})
    assert objects == before


def test_unknown_names_are_refused_wherever_options_are_given(api: Any, tmp_path: Path) -> None:
    a = zarrant.create_array({}, **KINDS)
    g = zarrant.create_group({})
    for use, hint in [
        (lambda: api.create_array({}, **KINDS, shard=(4,)), "Did you mean 'shards'"),
        (lambda: api.create_group({}, overwritten=True), "Did you mean 'overwrite'"),
        (lambda: g.create_array("a", **KINDS, fillvalue=1), "Did you mean 'fill_value'"),
        (lambda: g.create_group("h", if_exist="match"), "Did you mean 'if_exists'"),
        (lambda: a.with_config(missing_chunk="error"), "Did you mean 'missing_chunks'"),
        (lambda: api.open_array({}, config={"direct": 1}, **KINDS), "unknown option"),
        (lambda: api.open_array({}, config=3, **KINDS), "not a mapping.*config"),
        (lambda: api.open_array(tmp_path, storage_options=3, **KINDS), "not a mapping.*storage_options"),
        (lambda: api.open_array({}, name=3, **KINDS), "not a name"),
        (lambda: api.open_array(tmp_path, storage_options={"durabilty": "fsync"}, **KINDS), "Did you mean 'durability'"),
        (lambda: api.create_array({}, **KINDS, if_exists="matches"), "Did you mean 'match'"),
    ]:
        with pytest.raises(OptionError, match=hint):
            use()


def test_a_node_opened_for_reading_says_so_and_what_to_do(tmp_path: Path) -> None:
    zarrant.create_array(tmp_path, name="a", data=np.arange(4))
    zarrant.create_group(tmp_path, name="g")
    a = zarrant.open_array(tmp_path, name="a", mode="r")
    g = zarrant.open_group(tmp_path, name="g", mode="r")
    either = zarrant.open(tmp_path, name="a", mode="r")
    writes: list[Any] = [
        lambda: a.__setitem__(0, 1),
        lambda: either.__setitem__(0, 1),
        lambda: a.store_chunk((0,), 1),
        lambda: a.erase_chunk((0,)),
        lambda: a.update(np.s_[0:2], lambda x: x),
        lambda: a.append([1]),
        lambda: a.resize((5,)),
        lambda: a.attrs.__setitem__("x", 1),
        lambda: a.update_attributes({"x": 1}),
        lambda: a.lock(np.s_[0:2]).__enter__(),
        a.compact,
        lambda: g.create_array("b", **KINDS),
        lambda: g.attrs.__setitem__("x", 1),
        g.delete,
    ]
    for write in writes:
        with pytest.raises(CapabilityError, match=r'opened for reading only.*mode="r\+"'):
            write()

    async def main() -> None:
        b = await zarrant.open_array_async(tmp_path, name="a", mode="r")
        with pytest.raises(CapabilityError, match="opened for reading only"):
            await b.setitem(0, 1)

    asyncio.run(main())


def test_an_attribute_that_changes_nothing_cannot_be_set(tmp_path: Path) -> None:
    a, g = zarrant.create_array({}, **KINDS), zarrant.create_group({})
    b = asyncio.run(zarrant.create_array_async({}, **KINDS))
    for node, name, words in [
        (a, "shape", "resize"),
        (a, "shap", "Did you mean 'shape'"),
        (a, "attrs", "update_attributes"),
        (a, "concurrency", "with_config"),
        (a, "config", "with_config"),
        (a, "fill_value", "belongs to what is stored"),
        (b, "missing_chunks", "with_config"),
        (b, "dtype", "stored"),
        (g, "attrs", "update_attributes"),
        (g, "xyzzy", "cannot be set"),
    ]:
        with pytest.raises(FrozenAttributeError, match=words) as caught:
            setattr(node, name, 3)
        assert isinstance(caught.value, AttributeError)
    for opened in (a.partial_encoder((0,)), a.partial_decoder((0,)), b.partial_encoder((0,)), b.partial_decoder((0,))):
        with pytest.raises(FrozenAttributeError, match="stored"):
            opened.chunk = (1,)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        a.config.concurrency = 3  # type: ignore[misc]
    with pytest.raises(AttributeError):
        a.oindex.index = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        ("r", {"data": np.arange(4)}),
        ("r+", {"data": np.arange(4)}),
        ("r+", {"overwrite": True}),
        ("r", {"if_exists": "match"}),
        ("a", {"overwrite": True, **KINDS}),
        ("a", {"if_exists": "overwrite", **KINDS}),
        ("w", {"overwrite": False, **KINDS}),
        ("w", {"if_exists": "error", **KINDS}),
        ("w-", {"overwrite": True, **KINDS}),
        ("w-", {"if_exists": "match", **KINDS}),
        ("r", {"zarr_format": 4}),
        ("a", {"zarr_format": 4, **KINDS}),
    ],
)
def test_an_option_that_the_mode_would_ignore_is_refused(api: Any, mode: str, options: Any) -> None:
    objects: dict[str, bytes] = {}
    store = zarrant.MemoryStore(objects)
    zarrant.create_array(store, data=np.arange(1, 5))
    before = dict(objects)
    with pytest.raises(OptionError):
        api.open_array(store, mode=mode, **options)
    if "overwrite" in options or "if_exists" in options:
        with pytest.raises(OptionError):
            api.open_group(store, mode=mode, **{k: v for k, v in options.items() if k not in KINDS})
    assert objects == before


def test_options_that_say_what_the_mode_says_are_taken(api: Any) -> None:
    store = zarrant.MemoryStore()
    api.open_array(store, mode="w", overwrite=True, **KINDS)
    api.open_array(store, mode="w", if_exists="overwrite", **KINDS)
    api.open_array(store, mode="a", overwrite=False, if_exists="match", zarr_format=3, **KINDS)
    api.open_array(store, mode="r", overwrite=False, data=None, **KINDS)
    api.open_array({}, mode="w-", overwrite=False, if_exists="error", **KINDS)


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


def other(kind: str) -> str:
    return {"array": "group", "group": "array"}[kind]


@pytest.mark.parametrize("mode", ["r", "r+", "a"])
def test_a_v2_node_is_opened_as_it_is(old, mode) -> None:
    path, kind = old
    before = files(path)
    opened = {"array": lambda: zarrant.open_array(path, mode=mode), "group": lambda: zarrant.open_group(path, mode=mode)}
    for node in (opened[kind](), zarrant.open(path, mode=mode)):
        assert node.metadata.zarr_format == 2
    if kind == "group":
        assert (dict(node.attrs), list(node)) == ({"title": "mine"}, ["air"])
    array = node["air"] if kind == "group" else node
    assert array[:].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(NodeNotFoundError, match=f"the node here is not an? {other(kind)}"):
        opened[other(kind)]()
    assert files(path) == before


@pytest.mark.parametrize("options", [{}, {"if_exists": "match"}], ids=repr)
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
        with pytest.raises(NodeExistsError, match=r"V2|array"):
            create()
    assert files(path) == before


def test_an_overwrite_replaces_a_v2_node(old) -> None:
    path, _ = old
    zarrant.create_array(path, data=np.ones(3, "i8"), overwrite=True)
    assert sorted(files(path)) == ["c/0", "zarr.json"]


@pytest.fixture(params=["locks", "compare-and-swap"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """The store at `bucket://`, of which a URL has the path that comes after."""

    class Bucket:
        store: Any = zarrant.MemoryStore() if request.param == "locks" else CasStore(tmp_path / "bucket")

        @staticmethod
        def from_url(url: str, options: Any) -> Any:
            return Bucket.store, url.removeprefix("bucket://") + "/"

    extensions.stores.register("bucket", Bucket)
    yield Bucket
    extensions.stores.unregister("bucket")


CREATIONS: dict[str, Any] = {
    "empty": {},
    "data": {"data": np.ones(4, "int8")},
    "overwrite": {"overwrite": True},
    "match": {"if_exists": "match"},
    "0-d": {"shape": ()},
}


@pytest.mark.parametrize("how", CREATIONS)
def test_no_group_is_made_above_an_address(api: Any, bucket: Any, how: str) -> None:
    """What is above the path of a URL belongs to others; a name below it is ours."""
    api.create_array("bucket://others/mine", name="a/b", **{**KINDS, **CREATIONS[how]})
    api.create_array("bucket://alone", **{**KINDS, **CREATIONS[how]})
    made = ["alone", "others/mine", "others/mine/a", "others/mine/a/b"]
    keys = sorted(bucket.store.list_prefix(""))
    assert [key for key in keys if key.endswith("zarr.json")] == sorted(f"{name}/zarr.json" for name in made)
    api.create_group("bucket://others/old", zarr_format=2)
    api.create_group("bucket://others")
    with pytest.raises(NodeExistsError, match="V3 group"):  # it would not be found in there
        api.create_group("bucket://others/older", zarr_format=2)


class OnlyMine:
    """Credentials for what is below `mine/` only."""

    def get(self, key: str) -> Any:
        self.check(key)
        return super().get(key)  # type: ignore[misc]

    def get_ranges(self, key: str, *arguments: Any) -> Any:
        self.check(key)
        return super().get_ranges(key, *arguments)  # type: ignore[misc]

    def check(self, key: str) -> None:
        if not key.startswith("mine/"):
            raise StorePermissionError("403", key=key)


class Private(OnlyMine, zarrant.MemoryStore):
    pass


class PrivateCas(OnlyMine, CasStore):
    pass


@pytest.mark.parametrize("how", ["empty", "data"])
@pytest.mark.parametrize("version", [2, 3])
def test_who_may_not_look_above_an_address_creates_below_it(api: Any, bucket: Any, version: Any, how: str, tmp_path: Path) -> None:
    bucket.store = store = Private() if isinstance(bucket.store, zarrant.MemoryStore) else PrivateCas(tmp_path / "private")
    for name in (None, "g/a"):
        api.create_array("bucket://mine/x", name=name, zarr_format=version, overwrite=name is None, **{**KINDS, **CREATIONS[how]})
        a = zarrant.open_array("bucket://mine/x", name=name)
        a[...] = 1
        a.attrs["x"] = 1
        assert zarrant.open_array("bucket://mine/x", name=name, mode="r").attrs["x"] == 1
        a.resize((8,))
        a.append(np.ones(3, "int8"))
        if name is None:
            zarrant.create_group("bucket://mine/x", overwrite=True, zarr_format=version)
    with pytest.raises(StorePermissionError):
        api.create_array(store, name="mine/b", **KINDS)
