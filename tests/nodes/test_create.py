from __future__ import annotations

import asyncio
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import DataTypeError, MetadataError, NodeExistsError, OptionError, ShapeError, ZarrantError
from zarrant.stores.wrappers import WriteOnly
from zarrant.testkit import CasStore


def test_data_gives_shape_and_type() -> None:
    a = zarrant.create_array({}, data=np.arange(12, dtype=">u2").reshape(3, 4))
    assert (a.shape, a.dtype, a[...].tolist()) == ((3, 4), np.dtype("uint16"), np.arange(12).reshape(3, 4).tolist())
    b = zarrant.create_array({}, data=[[1, 2], [3, 4]], dtype="float32", chunks=(1, 2))
    assert (b.shape, b.dtype, b[...].tolist()) == ((2, 2), np.dtype("float32"), [[1, 2], [3, 4]])
    assert zarrant.create_array({}, data=7, shape=(3,), dtype="int8")[...].tolist() == [7, 7, 7]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"shape": None}, OptionError),
        ({"dtype": None}, OptionError),
        ({"shape": (-1,)}, ShapeError),
        ({"shape": (2.5,)}, ShapeError),
        ({"shape": "ab"}, ShapeError),
        ({"shape": (True,)}, ShapeError),
        ({"shape": (2**63,)}, ShapeError),
        ({"dtype": "int7"}, ZarrantError),
        ({"dtype": object}, ZarrantError),
        ({"chunks": (0,)}, ShapeError),
        ({"chunks": (2, 2)}, ShapeError),
        ({"chunks": "large"}, OptionError),
        ({"chunks": (3,), "shards": (4,)}, ShapeError),
        ({"shards": (0,)}, ShapeError),
        ({"fill_value": 300}, DataTypeError),
        ({"fill_value": "x"}, DataTypeError),
        ({"order": "K"}, OptionError),
        ({"compressors": "zip"}, MetadataError),
        ({"compressors": 3}, OptionError),
        ({"filters": zarrant.codecs.Transpose((1, 0))}, MetadataError),
        ({"filters": zarrant.codecs.Zstd()}, MetadataError),
        ({"serializer": zarrant.codecs.Zstd()}, MetadataError),
        ({"dtype": "int16", "serializer": zarrant.codecs.Bytes(None)}, MetadataError),
        ({"chunk_key_encoding": "v9"}, ZarrantError),
        ({"chunk_key_encoding": 3}, OptionError),
        ({"chunk_key_encoding": {}}, OptionError),
        ({"chunk_key_encoding": {"name": 3}}, OptionError),
        ({"chunk_key_encoding": {"name": "default", "x": 1}}, OptionError),
        ({"chunk_key_encoding": {"name": "v2", "seperator": "/"}}, OptionError),
        ({"chunk_key_encoding": {"name": "default", "configuration": 5}}, OptionError),
        ({"chunk_key_encoding": {"name": "default", "configuration": None}}, OptionError),
        ({"chunk_key_encoding": {"name": "default", "configuration": ["separator"]}}, OptionError),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"x": 1}}}, ZarrantError),
        ({"chunk_key_encoding": {"name": "default", "separator": 7}}, ZarrantError),
        ({"dimension_names": ("a", "b")}, ShapeError),
        ({"dimension_names": "a"}, ShapeError),
        ({"dimension_names": (3,)}, DataTypeError),
        ({"zarr_format": 4}, OptionError),
        ({"if_exists": "maybe"}, OptionError),
        ({"overwrite": "yes"}, OptionError),
        ({"chonks": (2,)}, OptionError),
        ({"attributes": {"a": object()}}, ZarrantError),
        ({"attributes": {1: 2}}, ZarrantError),
        ({"data": [1, 2, 3]}, ShapeError),
        ({"data": [1.5, 2, 3, 4]}, DataTypeError),
    ],
)
def test_what_cannot_be_stores_nothing(options: dict[str, Any], error: type[Exception]) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(error):
        zarrant.create_array(store, **{"shape": (4,), "dtype": "int8", **options})
    assert store == {}


def test_a_refused_overwrite_keeps_what_was_there() -> None:
    store: dict[str, bytes] = {}
    zarrant.create_array(store, data=np.arange(5))
    before = dict(store)
    with pytest.raises(ZarrantError):
        zarrant.create_array(store, shape=(4,), dtype="int8", chunks=(3,), shards=(4,), overwrite=True)
    with pytest.raises(ZarrantError):
        zarrant.create_array(store, shape=(4,), dtype="int8", data=[1.5] * 4, overwrite=True)
    with pytest.raises(NodeExistsError):
        zarrant.create_array(store, shape=(4,), dtype="int8")
    assert store == before


def test_write_only_stores_take_new_arrays() -> None:
    store = zarrant.MemoryStore()
    zarrant.create_array(WriteOnly(store), name="a", shape=(4,), dtype="int8").store_chunk((0,), [1, 2, 3, 4])
    assert zarrant.open_array(store, name="a")[...].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ["memory", "files"])
def test_of_many_creators_one_wins(kind: str, tmp_path: Any) -> None:
    store: Any = {} if kind == "memory" else tmp_path
    won: list[int] = []
    start = threading.Barrier(8)

    def create(i: int) -> None:
        start.wait()
        try:
            zarrant.create_array(store, name="g/a", shape=(4,), dtype="int8", attributes={"i": i})
            won.append(i)
        except NodeExistsError:
            pass

    threads = [threading.Thread(target=create, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert zarrant.open_array(store, name="g/a").attrs["i"] == won[0]


def join(root: str, i: int) -> None:
    a = zarrant.create_array(root, name="g/a", shape=(64,), dtype="int32", chunks=(64,), if_exists="match")
    a[i::4] = i + 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_many_processes_may_all_create_the_same(tmp_path: Any) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=join, args=(str(tmp_path), i)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert zarrant.open_array(tmp_path, name="g/a")[...].tolist() == [1, 2, 3, 4] * 16


@pytest.mark.parametrize(
    ("options", "names", "expected", "got"),
    [
        ({"shape": (5, 4)}, "shape", {"shape": [5, 4]}, {"shape": [4, 4]}),
        ({"dtype": "uint8"}, "data_type", {"data_type": "uint8"}, {"data_type": "int8"}),
        ({"attributes": {"a": 1}}, "attributes", {"attributes": {"a": 1}}, {"attributes": {}}),
        ({"dimension_names": ("y", "x")}, "dimension_names", {"dimension_names": ["y", "x"]}, {"dimension_names": None}),
    ],
)
@pytest.mark.parametrize("create", [zarrant.create_array, lambda *a, **o: asyncio.run(zarrant.create_array_async(*a, **o))])
def test_what_differs_from_the_array_that_is_there_is_named(
    create: Any, options: Any, names: str, expected: Any, got: Any, tmp_path: Path
) -> None:
    same = {"shape": (4, 4), "dtype": "int8", "chunks": (2, 2)}
    create(tmp_path, name="a", **same, if_exists="match")
    create(tmp_path, name="a", **same, if_exists="match")
    with pytest.raises(NodeExistsError, match=f"differs in {names} is here already") as caught:
        create(tmp_path, name="a", **{**same, **options}, if_exists="match")
    assert (caught.value.expected, caught.value.got) == (expected, got)
    zarrant.create_group(tmp_path, name="g")
    with pytest.raises(NodeExistsError):
        create(tmp_path, name="g", **same, if_exists="match")
    with pytest.raises(NodeExistsError, match="array cannot hold"):
        create(tmp_path, name="a/b", **same, if_exists="match")


CAST: dict[str, Any] = {"name": "cast_value", "configuration": {"data_type": "int8"}}
OVERWRITES: dict[str, Any] = {
    "create": lambda place, **given: zarrant.create_array(place, overwrite=True, **given),
    "if exists": lambda place, **given: zarrant.create_array(place, if_exists="overwrite", **given),
    "open": lambda place, **given: zarrant.open_array(place, mode="w", **given),
    "save": lambda place, data, **given: zarrant.save(place, data, overwrite=True, **given),
    "async": lambda place, **given: asyncio.run(zarrant.create_array_async(place, overwrite=True, **given)),
}


@pytest.mark.parametrize("how", OVERWRITES)
@pytest.mark.parametrize("shards", [None, 4])
@pytest.mark.parametrize("place", ["files", "memory", "compare-and-swap"])
def test_what_a_codec_refuses_replaces_nothing(tmp_path: Path, place: str, shards: int | None, how: str) -> None:
    makers: dict[str, Any] = {
        "files": lambda: tmp_path / "a",
        "memory": zarrant.MemoryStore,
        "compare-and-swap": lambda: CasStore(tmp_path),
    }
    store = makers[place]()
    zarrant.save(store, np.arange(5))
    values = np.zeros(9)
    values[7] = 1e9
    with pytest.raises(ZarrantError, match="1000000000"):
        OVERWRITES[how](store, data=values, chunks=2, shards=shards, filters=[CAST])
    assert zarrant.load(store).tolist() == [0, 1, 2, 3, 4]
    values[7] = 7
    OVERWRITES[how](store, data=values, chunks=2, shards=shards, filters=[CAST])
    assert zarrant.load(store).tolist() == values.tolist()
