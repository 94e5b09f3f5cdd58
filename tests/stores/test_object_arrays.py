"""A working life of arrays and groups on each object server: blocking, awaited, and in other processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Server, start_proxy
from zarrant.errors import NodeExistsError, NodeNotFoundError
from zarrant.stores.resolve import resolve_store

pytest.importorskip("obstore")

S = np.s_
TEXT = np.array(["", "naïve", "x" * 300, "日本"], dtype=object)
IMAGE = np.arange(32 * 24, dtype="uint16").reshape(32, 24)


def expected_image() -> Any:
    image = np.zeros((40, 24), "uint16")
    image[:32] = IMAGE
    image[3:21, 5:19] = 7
    image[30:31, :] += 1
    image[8:16, 8:16] = 0
    return image


def keys(server: Server, url: str) -> list[str]:
    store, prefix = resolve_store(url, server.storage_options)
    return [key[len(prefix) :] for key in store.list_prefix(prefix)]


@pytest.fixture(autouse=True)
def clean_root(request: pytest.FixtureRequest) -> None:
    """Other tests may have made a group of the whole bucket, which is the server's for all tests of this process."""
    if "object_server" in request.fixturenames:
        server = request.getfixturevalue("object_server")
        resolve_store(server.url, server.storage_options).store.erase("zarr.json")


def bucket_root(server: Server) -> list[str]:
    """The metadata at the root of the bucket."""
    objects, _ = resolve_store(server.url, server.storage_options).store.list_dir("")
    return [name for name in objects if name in ("zarr.json", ".zgroup")]


def look(server: Server, url: str) -> None:
    """What must be there in the end, by whatever calls it was made, read by blocking calls and by coroutines."""
    options: Any = {"mode": "r", "storage_options": server.storage_options}
    group = zarrant.open_group(url, **options)
    image = group["images/raw"]
    assert image.shape == (42, 24) and dict(image.attrs) == {"unit": "nm", "n": 2}
    assert np.array_equal(image[:40], expected_image()) and (image[40:] == 9).all()
    assert group["text"][...].tolist() == [*TEXT.tolist(), "more"]
    assert group["old"][...].tolist() == [0, 0, 5, 5, 5, 0, 0, 0]
    assert bucket_root(server) == [], "a bucket is no group because an array is in it"
    assert sorted(group) == ["images", "old", "text"] and dict(group.attrs) == {"study": 1}
    assert "images/raw/c/1/1" in keys(server, url) and not [key for key in keys(server, url) if "probe" in key]

    async def awaited() -> None:
        array = await zarrant.open_array_async(f"{url}/images/raw", **options)
        found = await asyncio.gather(*(array.getitem(S[i : i + 7]) for i in range(0, 42, 7)))
        assert np.array_equal(np.concatenate(found)[:40], expected_image())
        members = await (await zarrant.open_group_async(url, **options)).members()
        assert sorted(members) == ["images", "old", "text"]

    asyncio.run(awaited())


def test_blocking(object_server: Server) -> None:
    url, options = object_server.fresh_url(), {"storage_options": dict(object_server.storage_options)}
    with pytest.raises(NodeNotFoundError):
        zarrant.open_group(url, mode="r", **options)
    group = zarrant.create_group(url, attributes={"study": 1}, **options)
    with pytest.raises(NodeExistsError):
        zarrant.create_group(url, **options)
    image = group.create_array("images/raw", shape=(32, 24), dtype="uint16", chunks=(4, 4), shards=(16, 16))
    image[...] = IMAGE
    image[3:21, 5:19] = 7
    image.update(S[30:31, :], lambda found: found + 1)
    image[8:16, 8:16] = 0
    image.resize((40, 24))
    image.attrs["unit"] = "nm"
    image.update_attributes(lambda stored: {**stored, "n": 2})
    assert image.append(np.full((2, 24), 9)) == slice(40, 42)
    text = group.create_array("text", shape=(4,), dtype="string", chunks=(2,))
    text[...] = TEXT
    text.append(np.array(["more"], dtype=object))
    old = group.create_array("old", shape=(8,), dtype="int32", chunks=(4,))
    old[2:5] = 5
    group.consolidate_metadata()
    group.create_array("scratch", shape=(8,), dtype="int8", chunks=(2,))[...] = 1
    del group["scratch"]
    look(object_server, url)
    group.delete()
    assert keys(object_server, url) == []


def test_awaited(object_server: Server) -> None:
    url, options = object_server.fresh_url(), {"storage_options": dict(object_server.storage_options)}

    async def work() -> Any:
        group = await zarrant.create_group_async(url, attributes={"study": 1}, **options)
        image = await group.create_array("images/raw", shape=(32, 24), dtype="uint16", chunks=(4, 4), shards=(16, 16))
        await image.setitem(..., IMAGE)
        await image.setitem(S[3:21, 5:19], 7)
        await image.update(S[30:31, :], lambda found: found + 1)
        await image.setitem(S[8:16, 8:16], 0)
        await image.resize((40, 24))
        await asyncio.gather(image.update_attributes({"unit": "nm"}), image.update_attributes({"n": 2}))
        await asyncio.gather(*(image.append(np.full((1, 24), 9)) for _ in range(2)))
        text = await group.create_array("text", shape=(4,), dtype="string", chunks=(2,))
        await text.setitem(..., TEXT)
        await text.append(np.array(["more"], dtype=object))
        old = await group.create_array("old", shape=(8,), dtype="int32", chunks=(4,))
        await asyncio.gather(*(old.setitem(i, 5) for i in (2, 3, 4)))
        await group.consolidate_metadata()
        await group.create_array("scratch", shape=(8,), dtype="int8", chunks=(2,))
        await group.delitem("scratch")
        return group

    group = asyncio.run(work())
    look(object_server, url)
    asyncio.run(group.delete())
    assert keys(object_server, url) == []


def test_version_2_in_both_kinds_of_calls(object_server: Server) -> None:
    url, options = object_server.fresh_url(), {"storage_options": dict(object_server.storage_options)}
    group = zarrant.create_group(url, zarr_format=2, **options)
    a = group.create_array("a", shape=(6, 6), dtype="float32", chunks=(4, 4), attributes={"x": 1}, zarr_format=2)
    a[1:5, 1:5] = 2
    group.consolidate_metadata()
    assert {".zgroup", ".zmetadata", "a/.zarray", "a/.zattrs", "a/0.0"} <= set(keys(object_server, url))
    assert zarrant.open_group(url, mode="r", **options)["a"].shape == (6, 6)

    async def awaited() -> None:
        b = await zarrant.open_array_async(f"{url}/a", mode="r+", **options)
        await b.append(np.ones((2, 6), "float32"))
        await b.update_attributes({"y": 2})
        assert (await b.getitem(S[1:5, 1:5])).min() == 2

    asyncio.run(awaited())
    b = zarrant.open_group(url, mode="r", **options)["a"]
    assert b.shape == (8, 6) and dict(b.attrs) == {"x": 1, "y": 2} and b[6:].min() == 1
    assert ".zmetadata" not in keys(object_server, url), "without locks, copies are dropped by the first change"


def add(handle: bytes, row: int) -> int:
    """In another process: a handle is opened from its pickle and written to."""
    array = pickle.loads(handle)
    array[row] = row
    array.append(np.full((1, 6), row))
    return int(array[row, 0])


def test_a_pickled_handle_in_processes(object_server: Server) -> None:
    options = {**object_server.storage_options, "pickle_secrets": True}
    url = object_server.fresh_url()
    array = zarrant.create_array(url, shape=(4, 6), dtype="int32", chunks=(2, 3), shards=(4, 6), storage_options=options)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        found = pool.map(add, [pickle.dumps(array)] * 4, range(4))
        assert list(found) == [0, 1, 2, 3]
    array.refresh()
    assert array[:4, 5].tolist() == [0, 1, 2, 3] and sorted(array[4:, 0].tolist()) == [0, 1, 2, 3]


ENVIRONMENT = {
    "s3": {"access_key_id": "AWS_ACCESS_KEY_ID", "secret_access_key": "AWS_SECRET_ACCESS_KEY"},
    "az": {"account_key": "AZURE_STORAGE_ACCOUNT_KEY"},
    "gs": {"service_account_key": "GOOGLE_SERVICE_ACCOUNT_KEY"},
}


def test_a_pickled_handle_without_secrets_finds_them_in_the_environment(
    object_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = object_server.fresh_url()
    array = zarrant.create_array(url, shape=(4, 6), dtype="int32", storage_options=object_server.storage_options)
    pickled = pickle.dumps(array)
    for option, variable in ENVIRONMENT[url.split(":")[0]].items():
        value = object_server.storage_options[option]
        assert value == "zarrant" or value.encode() not in pickled
        monkeypatch.setenv(variable, value)
    again = pickle.loads(pickled)
    again[1] = 5
    assert array[1].tolist() == [5] * 6


def test_what_a_service_cannot_do(azurite: Server) -> None:
    """Azure does not serve the end of an object: its size is asked for, once for all later reads of the store."""
    url = azurite.fresh_url()
    zarrant.create_array(url, shape=(8, 8), dtype="int32", chunks=(2, 2), shards=(8, 8), storage_options=azurite.storage_options)[
        ...
    ] = 3
    with start_proxy(azurite) as proxy:
        array = zarrant.open_array(url, mode="r", storage_options=proxy.server.storage_options)
        for _ in range(2):
            assert array[2:3, 2:3].tolist() == [[3]]
        of_shard = [request for request in proxy.requests if request.path.split("?")[0].endswith("/c/0/0")]
        assert all(request.headers.get("x-ms-range", request.headers.get("range", "bytes=0-")) != "" for request in of_shard)
        assert not [request for request in of_shard if "=-" in str(request.headers)]


def test_an_append_is_three_writes_and_a_look_at_each_group_above(moto: Server) -> None:
    """The turn is taken, the chunk stored while the groups are looked at, the shape stored. Nothing is read twice."""
    url = moto.fresh_url()
    array = zarrant.create_array(url, shape=(0, 6), dtype="int32", chunks=(1, 6), storage_options=moto.storage_options)
    array.append(np.ones((1, 6), "int32"))
    above = url.removeprefix("s3://").count("/")
    with start_proxy(moto) as proxy:
        array = zarrant.open_array(url, mode="r+", storage_options=proxy.server.storage_options)
        array.append(np.ones((1, 6), "int32"))  # the first write of a process tries the server out
        proxy.requests.clear()
        for _ in range(3):
            array.append(np.ones((1, 6), "int32"))
        methods = [request.method for request in proxy.requests]
    assert (methods.count("PUT"), len(methods)) == (9, 9 + 3 * above)


def test_absent_deletes(object_server: Server) -> None:
    url = object_server.fresh_url()
    store, prefix = resolve_store(url, object_server.storage_options)
    for _ in range(2):
        store.erase(f"{prefix}no/such/key")
        store.erase_prefix(f"{prefix}no/")
    array = zarrant.create_array(url, shape=(8,), dtype="int32", chunks=(4,), storage_options=object_server.storage_options)
    array[...] = 1
    for _ in range(2):
        array.erase_chunk((0,))

    async def awaited() -> None:
        b = await zarrant.open_array_async(url, mode="r+", storage_options=object_server.storage_options)
        for _ in range(2):
            await b.erase_chunk((1,))

    asyncio.run(awaited())
    assert array[...].tolist() == [0] * 8 and keys(object_server, url) == ["zarr.json"]


def test_versions_are_those_of_the_service(object_server: Server) -> None:
    """Equal bytes are the same version where tags are made of the bytes (S3), and others where writes are counted."""
    store, prefix = resolve_store(object_server.fresh_url(), object_server.storage_options)
    first = store.put(f"{prefix}a", [b"same"])
    second = store.put(f"{prefix}a", [b"same"])
    assert (first == second) is object_server.url.startswith("s3")
    assert store.get(f"{prefix}a").version == second == store.version(f"{prefix}a")
    if object_server.url.startswith("gs"):
        assert str(second).isdigit() and first.e_tag == second.e_tag
