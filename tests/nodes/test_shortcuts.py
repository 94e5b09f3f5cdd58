"""The short names of NumPy and zarr-python: `zeros`, `ones`, `full`, `empty`, `array`, `save`, `load`, `require_*`; and `~`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs.chain import parse_chain
from zarrant.errors import DataTypeError, NodeExistsError, NodeNotFoundError, OptionError, ShapeError
from zarrant.tools.describe import local_path


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float16", "complex64", "bfloat16"])
def test_they_are_what_numpy_makes(dtype: str) -> None:
    kind = zarrant.zeros(1, dtype=dtype).dtype
    for make, numpy_makes in ((zarrant.zeros, np.zeros), (zarrant.ones, np.ones)):
        a = make((3, 4), dtype=dtype, chunks=(2, 2), shards=(2, 4))
        assert a.dtype == kind
        assert np.array_equal(a[...], numpy_makes((3, 4), kind))
        assert a.nchunks_initialized == 0
        a[1, 1] = 1
        assert a[1, 1] == 1
    assert zarrant.empty((3, 4), dtype=dtype).shape == (3, 4)


def test_without_a_type_they_are_those_of_numpy() -> None:
    assert zarrant.zeros(3).dtype == zarrant.ones(3).dtype == zarrant.empty(3).dtype == np.float64
    for value in (7, 1.5, True, 1j, np.int16(3), np.datetime64("2020-01-01", "s")):
        a = zarrant.full(2, value)
        assert (a.dtype, a[...].tolist()) == (np.asarray(value).dtype, np.full(2, value).tolist())
    assert zarrant.full((2,), "été")[...].tolist() == ["été", "été"]
    assert zarrant.array([1, 2]).dtype == np.asarray([1, 2]).dtype
    assert zarrant.array(["a", "bc"])[...].tolist() == ["a", "bc"]
    assert zarrant.array([1, 2], dtype="uint8", fill_value=9).fill_value == 9


def test_each_goes_where_it_is_told_and_replaces_nothing_unasked(tmp_path: Path) -> None:
    calls: list[Any] = [
        lambda **how: zarrant.zeros(3, **how),
        lambda **how: zarrant.ones(3, **how),
        lambda **how: zarrant.empty(3, **how),
        lambda **how: zarrant.full(3, 2, **how),
        lambda **how: zarrant.array([1, 2, 3], **how),
    ]
    for number, call in enumerate(calls):
        path = tmp_path / f"{number}.zarr"
        a = call(store=path, attributes={"number": number}, dimension_names=["x"])
        assert zarrant.open_array(path, mode="r+") == a
        assert dict(a.attrs) == {"number": number}
        with pytest.raises(NodeExistsError):
            call(store=path)
        call(store=path, overwrite=True)
        assert call(store=tmp_path, name=f"below/{number}").path == f"below/{number}"


def test_bad_input_is_named() -> None:
    for call, error in [
        (lambda: zarrant.zeros(-1), ShapeError),
        (lambda: zarrant.zeros(3, dtype="int7x"), DataTypeError),
        (lambda: zarrant.full(3, 300, dtype="uint8"), DataTypeError),
        (lambda: zarrant.ones(3, chunk=2), OptionError),
        (lambda: zarrant.ones(3, fill_value=2), TypeError),
        (lambda: zarrant.array(None), OptionError),
        (lambda: zarrant.save({}), OptionError),
        (lambda: zarrant.load({}), NodeNotFoundError),
        (lambda: zarrant.load({}, mode="w"), TypeError),
    ]:
        with pytest.raises(error):
            call()


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    x, y = np.arange(12).reshape(3, 4), np.linspace(0, 1, 5)
    zarrant.save(tmp_path / "one", x, chunks=(2, 2))
    assert np.array_equal(zarrant.load(tmp_path / "one"), x)
    assert zarrant.open_array(tmp_path / "one", mode="r").chunks == (2, 2)
    zarrant.save(tmp_path / "two", x, y)
    zarrant.save(tmp_path / "names", y, named={"x": x})
    two, names = zarrant.load(tmp_path / "two"), zarrant.load(tmp_path / "names")
    assert isinstance(two, dict)
    assert isinstance(names, dict)
    assert {name: each.tolist() for name, each in two.items()} == {"arr_0": x.tolist(), "arr_1": y.tolist()}
    assert {name: each.tolist() for name, each in names.items()} == {"arr_0": y.tolist(), "x": x.tolist()}
    zarrant.save(tmp_path / "two", x, name="deep/er")
    assert list(zarrant.load(tmp_path / "two")) == ["arr_0", "arr_1", "deep/er"]
    for arrays in ((x,), (x, y)):
        with pytest.raises(NodeExistsError):
            zarrant.save(tmp_path / "two", *arrays)
    assert np.array_equal(zarrant.load(tmp_path / "two", name="arr_0"), x)
    zarrant.save(tmp_path / "two", y, overwrite=True)
    assert np.array_equal(zarrant.load(tmp_path / "two"), y)


def test_what_is_required_is_there_afterwards(tmp_path: Path) -> None:
    a = zarrant.require_array(tmp_path / "a", shape=(4,), dtype="int32", chunks=(2,))
    a[...] = 7
    assert zarrant.require_array(tmp_path / "a", shape=(4,), dtype="int32", chunks=(3,)) == a
    assert zarrant.require_array(tmp_path / "a", shape=4, dtype="int32")[...].tolist() == [7] * 4
    for wrong in ({"shape": (5,), "dtype": "int32"}, {"shape": (4,), "dtype": "int64"}):
        with pytest.raises(NodeExistsError):
            zarrant.require_array(tmp_path / "a", **wrong)
    g = zarrant.require_group(tmp_path / "g", attributes={"x": 1})
    assert zarrant.require_group(tmp_path / "g") == g
    assert zarrant.require_array(tmp_path / "g", name="deep/a", shape=(4,), dtype="int8").path == "deep/a"
    assert list(g) == ["deep"]
    with pytest.raises(NodeNotFoundError):
        zarrant.require_group(tmp_path / "a")
    with pytest.raises(NodeNotFoundError):
        zarrant.require_array(tmp_path / "g", shape=(4,), dtype="int32")
    for call in (zarrant.require_group, lambda path, **options: g.require_group("sub", **options)):
        call(tmp_path / "g")
        with pytest.raises(OptionError):
            call(tmp_path / "g", shape=3)
    for call in (zarrant.require_array, lambda path, **options: g.require_array("deep/a", **options)):
        with pytest.raises(OptionError):
            call(tmp_path / "a", chunk=3)


def test_a_tilde_is_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for path in ("~/a.zarr", Path("~/b.zarr")):
        a = zarrant.ones(3, store=path)
        assert a.url == f"file://{tmp_path / Path(path).name}"
        assert np.array_equal(zarrant.load(path), np.ones(3))
        assert local_path(path) == tmp_path / Path(path).name
    assert not (tmp_path / "~").exists()
    zarrant.ones(3, store="./~")
    assert (tmp_path / "~" / "zarr.json").is_file()
    assert zarrant.open_array("file://" + str(tmp_path / "~"), mode="r").shape == (3,)


# ── like another array ───────────────────────────────────────────────────────────────────────────────────────────────────

LIKES = {"zeros_like": 0, "ones_like": 1, "empty_like": 9}


@pytest.fixture(params=["plain", "sharded", "filters", "V2", "around shards"])
def model(request: pytest.FixtureRequest) -> Any:
    codecs = zarrant.codecs
    options: dict[str, Any] = {
        "plain": {"chunks": (2, 3), "compressors": [codecs.Gzip(2), codecs.Crc32c()], "dimension_names": ["y", "x"]},
        "sharded": {"chunks": (2, 3), "shards": (4, 6), "compressors": [codecs.Blosc()]},
        "filters": {"chunks": (2, 3), "filters": [codecs.Transpose((1, 0))], "chunk_key_encoding": {"name": "v2"}},
        "V2": {"chunks": (2, 3), "zarr_format": 2, "compressors": [codecs.Zstd(1)]},
        "around shards": {"chunks": (2, 3), "shards": (4, 6)},
    }[request.param]
    a = zarrant.create_array({}, shape=(9, 10), dtype="int16", fill_value=9, attributes={"unit": "mm"}, **options)
    if request.param != "around shards":
        return a
    sharding = parse_chain([codec.to_json() for codec in a.metadata.codecs], "$").array_to_bytes
    options = {"chunks": (4, 6), "serializer": sharding, "compressors": [codecs.Gzip()]}
    return zarrant.create_array({}, shape=(9, 10), dtype="int16", fill_value=9, **options)


@pytest.mark.parametrize("name", [*LIKES, "full_like"])
def test_an_array_like_another_one_has_its_layout(model: Any, name: str) -> None:
    make: Any = getattr(zarrant, name)
    value = LIKES.get(name, 5)
    made = make(model) if name in LIKES else make(model, 5)
    again = asyncio.run(coroutine(name, model))
    for a in (made, again):
        assert (a.shape, a.dtype, a.dimension_names, dict(a.metadata.attributes)) == (
            model.shape,
            model.dtype,
            model.dimension_names,
            {},
        )
        names = ("codecs", "chunk_grid", "chunk_key_encoding", "zarr_format")
        assert [getattr(a.metadata, each) for each in names] == [getattr(model.metadata, each) for each in names]
        assert a.fill_value == value
    assert (made[...] == value).all() and made.nchunks_initialized == 0
    made[3:5, 2:8] = 1
    assert made[3:5, 2:8].all() and not model.nchunks_initialized


async def coroutine(name: str, model: Any) -> Any:
    make: Any = getattr(zarrant.asynchronous, name)
    return await (make(model) if name in LIKES else make(model, 5))


def test_what_is_given_takes_the_place_of_what_the_other_has(tmp_path: Path) -> None:
    model = zarrant.create_array(
        {}, shape=(9, 10), dtype="int16", chunks=(2, 3), shards=(4, 6), compressors=[zarrant.codecs.Blosc()]
    )
    a = zarrant.zeros_like(model, store=tmp_path / "a", dtype="float64", chunks=(3, 5), shards=None, attributes={"a": 1})
    assert (a.dtype, a.chunks, a.shards, dict(a.attrs)) == (np.float64, (3, 5), None, {"a": 1})
    assert a.compressors[0].to_json()["configuration"]["typesize"] == 8
    with pytest.raises(NodeExistsError):
        zarrant.zeros_like(model, store=tmp_path / "a")
    with pytest.raises(OptionError):
        zarrant.zeros_like(model, chunkz=3)  # type: ignore[call-arg]


def test_anything_with_a_shape_will_do() -> None:
    assert zarrant.ones_like([[1.5, 2]])[...].tolist() == [[1, 1]]
    assert zarrant.empty_like(np.ones(3, "int8")).dtype == np.int8
    assert zarrant.zeros_like(np.array(["a", "b"]))[...].tolist() == ["", ""]
    assert zarrant.full_like(np.zeros((4, 4)), 2, chunks=(2, 2)).chunks == (2, 2)


def test_the_short_names_for_coroutines(tmp_path: Path) -> None:
    async def main() -> None:
        short = zarrant.asynchronous
        for name in short.__all__:
            assert getattr(zarrant, name)
        made = [await short.zeros((2, 3)), await short.ones(3, dtype="int8"), await short.full(2, "é"), await short.empty(0)]
        assert [each.shape for each in made] == [(2, 3), (3,), (2,), (0,)]
        assert (await made[1].getitem(...)).tolist() == [1, 1, 1] and (await made[2].getitem(...)).tolist() == ["é", "é"]
        a = await short.array([[1, 2], [3, 4]], store=tmp_path / "g", name="below/a")
        assert (await a.getitem(1)).tolist() == [3, 4]
        assert (await short.load(tmp_path / "g" / "below" / "a")).tolist() == [[1, 2], [3, 4]]
        assert {name: each.tolist() for name, each in (await short.load(tmp_path / "g")).items()} == {"below/a": [[1, 2], [3, 4]]}
        with pytest.raises(OptionError):
            await short.array(None)
        with pytest.raises(NodeExistsError):
            await short.zeros(3, store=tmp_path / "g", name="below/a")

    asyncio.run(main())
