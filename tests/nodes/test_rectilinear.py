"""Arrays over a rectilinear chunk grid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import MetadataError, OptionError, ShapeError, UnknownExtensionError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.rectilinear import RectilinearGrid

CHUNKS = [[3, 3, 5, 1], [[2, 2], 6]]
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": CHUNKS},
    "one dimension regular": {"chunks": [[3, 3, 5, 1], 4]},
    "uncompressed": {"chunks": CHUNKS, "compressors": None},
    "shards": {"shards": [[3, 3, 6], [4, 6]], "chunks": (3, 2)},
    "shards, chunks left open": {"shards": [[3, 3, 6], [4, 6]]},
}


@pytest.fixture(params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> dict[str, Any]:
    return LAYOUTS[request.param]


def make(store: Any, **layout: Any) -> Any:
    return zarrant.create_array(store, shape=(12, 10), dtype="int32", fill_value=-1, **layout)


def document(a: Any) -> dict[str, Any]:
    return json.loads(bytes(a.store.get("zarr.json").data[0]))


def test_facts() -> None:
    a = make({}, chunks=CHUNKS)
    assert document(a)["chunk_grid"] == {
        "name": "rectilinear",
        "configuration": {"kind": "inline", "chunk_shapes": [[[3, 2], 5, 1], [[2, 2], 6]]},
    }
    assert (a.chunk_grid_shape, a.nchunks) == ((4, 3), 12)
    assert a.chunks == (((3, 2), 5, 1), ((2, 2), 6))
    assert a.shards is None
    assert a.write_unit == (5, 6)
    assert a.read_chunk_sizes == a.write_chunk_sizes == ((3, 3, 5, 1), (2, 2, 6))
    assert a.chunk_subset((2, 1)) == ArraySubset((6, 2), (5, 2))
    assert a.chunks_in_subset(np.s_[2:7, 3:4]) == ArraySubset((0, 1), (3, 1))
    assert "chunks=(((3, 2), 5, 1), ((2, 2), 6))" in repr(a)
    assert zarrant.create_array({}, shape=a.shape, dtype=a.dtype, chunks=a.chunks).chunks == a.chunks
    assert "<path class='chunks'" in a._repr_html_()
    s = make({}, shards=[[3, 3, 6], [4, 6]], chunks=(3, 2))
    assert (s.chunks, s.shards, s.chunk_grid_shape, s.subchunk_grid_shape) == ((3, 2), (((3, 2), 6), (4, 6)), (3, 2), (4, 5))
    assert s.read_chunk_sizes == ((3,) * 4, (2,) * 5)


def test_like_numpy(layout: dict[str, Any], tmp_path: Path) -> None:
    a, model, dice = make(tmp_path / "a", **layout), np.full((12, 10), -1, np.int32), np.random.default_rng(1)
    for number in range(60):
        low = [int(dice.integers(0, n)) for n in a.shape]
        box = tuple(slice(i, int(dice.integers(i + 1, n + 1))) for i, n in zip(low, a.shape, strict=True))
        values = np.full(model[box].shape, number, np.int32) + np.arange(model[box].shape[1], dtype=np.int32)
        a[box] = model[box] = values
        assert np.array_equal(a[box], model[box])
    assert np.array_equal(a[...], model)
    assert np.array_equal(zarrant.open_array(tmp_path / "a")[::2, ::-1], model[::2, ::-1])
    rows = dice.integers(0, 12, 7)
    a.oindex[rows, 3:8] = model[rows, 3:8] = 7
    assert np.array_equal(a[rows], model[rows])
    assert np.array_equal(a.vindex[rows, rows % 10], model[rows, rows % 10])


def test_whole_chunks(layout: dict[str, Any]) -> None:
    a, model = make({}, **layout), np.full((12, 10), -1, np.int32)
    for number, chunk in enumerate(a.iter_chunks()):
        box = a.chunk_subset(chunk)
        a.store_chunk(chunk, np.full(box.shape, number, np.int32))
        model[box.slices] = number
        inside = tuple(map(slice, box.shape))
        assert (a.retrieve_chunk(chunk)[inside] == number).all()
        assert (a.partial_decoder(chunk).retrieve((slice(0, 1), slice(0, 1))) == number).all()
    assert np.array_equal(a[...], model)
    block = ArraySubset((1, 0), (2, 2))
    first, last = a.chunk_subset((1, 0)), a.chunk_subset((2, 1))
    assert np.array_equal(a.retrieve_chunks(block), model[first.start[0] : last.stop[0], : last.stop[1]])
    a.erase_chunk((1, 1))
    assert (a[a.chunk_subset((1, 1)).slices] == -1).all()
    with pytest.raises(ShapeError):
        a.store_chunk((0, 0), np.zeros((12, 10), np.int32))


def test_changes_of_one_object(layout: dict[str, Any]) -> None:
    a = make({}, **layout)
    a[...] = 1
    a.update(np.s_[2:9, 1:7], lambda old: old + 1)
    assert (a[2:9, 1:7] == 2).all()
    assert int(a[...].sum()) == 120 + 42
    with a.partial_encoder((1, 1)) as encoder:
        encoder.store(np.s_[0:1, 0:1], 9)
        encoder.store(np.s_[2:3, 0:2], 8)
    start = a.chunk_subset((1, 1)).start
    assert a[start] == 9
    assert a[start[0] + 2, start[1] + 1] == 8


def test_several_regions_at_once() -> None:
    a = make({}, chunks=CHUNKS)
    a.store_array_subsets([(np.s_[0:7, 0:5], 1), (np.s_[5:12, 3:10], 2)])
    assert (a[5:12, 3:10] == 2).all()
    assert (a[0:5, 0:5] == 1).all()
    assert a[0, 9] == -1


@pytest.mark.parametrize("store", ["memory", "directory"])
def test_append_and_resize(store: str, tmp_path: Path) -> None:
    a = make({} if store == "memory" else tmp_path / "a", chunks=CHUNKS)
    a[...] = 1
    other = zarrant.open_array(a.store)
    assert a.append(np.full((2, 10), 2, np.int32)) == slice(12, 14)
    assert a.write_chunk_sizes[0] == (3, 3, 5, 1, 2)
    assert document(a)["chunk_grid"]["configuration"]["chunk_shapes"] == [[[3, 2], 5, 1, 2], [[2, 2], 6]]
    other[11, 0] = 5  # a handle that knows fewer chunks
    assert a[11, 0] == 5
    assert other.shape == (12, 10)
    other.refresh()
    assert (other[12:] == 2).all()
    a.resize((9, 10))  # the chunks stay as they are, as in zarr-python
    assert (a.chunk_grid_shape, a.write_chunk_sizes[0]) == ((3, 3), (3, 3, 3))
    assert a.chunk_subset((2, 0)).shape == (3, 2)
    assert a.retrieve_chunk((2, 0)).tolist()[3:] == [[-1, -1]] * 2
    a.resize((14, 10))
    assert (a[9:] == -1).all()
    assert (a[:9] == 1).all()
    a.resize((14, 12))
    assert a.write_chunk_sizes[1] == (2, 2, 6, 2)
    assert (a[:, 10:] == -1).all()


def test_append_into_the_last_chunk() -> None:
    a = zarrant.create_array({}, shape=(6,), dtype="int8", chunks=[[2, 4]])
    a[...] = 1
    a.resize((3,))
    a.append(np.array([2, 3], np.int8))
    assert a[...].tolist() == [1, 1, 1, 2, 3]
    assert document(a)["chunk_grid"]["configuration"]["chunk_shapes"] == [[2, 4]]


@pytest.mark.parametrize(
    ("chunks", "named"),
    [
        ([[3, 3], [10]], "end before"),
        ([[6, 7], [10]], "add up"),
        ([[12], [0, 10]], "not a length"),
        ([[12], []], "no chunk lengths"),
        ([[12]], "one entry"),
        ([[12], [[5, 2, 1]]], "not a run"),
        ([[12], [2.5, 7.5]], "not a length"),
        ([[12], True], "not a length"),
    ],
)
def test_chunks_that_cannot_be(chunks: Any, named: str) -> None:
    with pytest.raises(ShapeError, match=named):
        make({}, chunks=chunks)


def test_combinations_that_cannot_be() -> None:
    with pytest.raises(ShapeError, match="divide"):
        make({}, shards=[[3, 9], [10]], chunks=(2, 2))
    with pytest.raises(ShapeError):
        make({}, shards=(12, 10), chunks=[[6, 6], [10]])
    with pytest.raises(OptionError, match="rectilinear"):
        make({}, chunks=CHUNKS, zarr_format=2)


@pytest.mark.parametrize(
    ("configuration", "path"),
    [
        ({"chunk_shapes": [[12], [10]]}, ".kind"),
        ({"kind": "file", "chunk_shapes": [[12], [10]]}, ".kind"),
        ({"kind": "inline"}, ".chunk_shapes"),
        ({"kind": "inline", "chunk_shapes": 3}, ".chunk_shapes"),
        ({"kind": "inline", "chunk_shapes": [[12]]}, ".chunk_shapes"),
        ({"kind": "inline", "chunk_shapes": [[12], []]}, ".chunk_shapes[1]"),
        ({"kind": "inline", "chunk_shapes": [[11], [10]]}, ".chunk_shapes[0]"),
        ({"kind": "inline", "chunk_shapes": [[12], [[3, 3]]]}, ".chunk_shapes[1]"),
        ({"kind": "inline", "chunk_shapes": [[12], [[5, 0]]]}, ".chunk_shapes[1][0][1]"),
        ({"kind": "inline", "chunk_shapes": [[12], [[-5, 2]]]}, ".chunk_shapes[1][0][0]"),
        ({"kind": "inline", "chunk_shapes": [[12], [5, [5]]]}, ".chunk_shapes[1][1]"),
        ({"kind": "inline", "chunk_shapes": [[12], ["10"]]}, ".chunk_shapes[1][0]"),
        ({"kind": "inline", "chunk_shapes": [[12], [10.0]]}, ".chunk_shapes[1][0]"),
        ({"kind": "inline", "chunk_shapes": [[12], 0]}, ".chunk_shapes[1]"),
        ({"kind": "inline", "chunk_shapes": [[12], True]}, ".chunk_shapes[1]"),
        ({"kind": "inline", "chunk_shapes": [[12], [[2**62, 4]]]}, ".chunk_shapes[1]"),
        ({"kind": "inline", "chunk_shapes": [[12], [10]], "more": 1}, ".more"),
    ],
)
def test_metadata_that_cannot_be(configuration: Any, path: str) -> None:
    a = make({}, chunks=CHUNKS)
    stored = document(a)
    stored["chunk_grid"]["configuration"] = configuration
    a.store.put("zarr.json", [json.dumps(stored).encode()])
    with pytest.raises(MetadataError) as caught:
        zarrant.open_array(a.store)
    assert caught.value.path == f"$.chunk_grid.configuration{path}"


def test_shards_of_which_one_cannot_be_divided() -> None:
    a = make({}, shards=[[3, 3, 6], [4, 6]], chunks=(3, 2))
    stored = document(a)
    stored["chunk_grid"]["configuration"]["chunk_shapes"][0] = [3, 9 - 2, 2]
    a.store.put("zarr.json", [json.dumps(stored).encode()])
    with pytest.raises(MetadataError, match="divide") as caught:
        zarrant.open_array(a.store)
    assert caught.value.path == "$.codecs[0].configuration.chunk_shape"


def test_a_billion_chunks_in_one_run() -> None:
    a = zarrant.create_array({}, shape=(10**12,), dtype="int8", chunks=[[[1000, 10**9 - 1], 999, 1]])
    a[10**12 - 3 :] = 4
    assert a[10**12 - 4 :].tolist() == [0, 4, 4, 4]
    assert a.chunk_grid_shape == (10**9 + 1,)
    assert a.chunk_subset((10**9,)).shape == (1,)


GRID = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [[3, 9], [10]]}}


@pytest.mark.parametrize("chunks", [GRID, RectilinearGrid.from_json(GRID["configuration"], (12, 10))], ids=["metadata", "object"])
def test_a_grid_is_given_by_its_metadata(chunks: Any) -> None:
    array = make({}, chunks=chunks)
    array[...] = 1
    assert array.chunks == ((3, 9), (10,)) and array[11, 9] == 1
    shards = make({}, shards={"shape": chunks, "index_location": "start"}, chunks=(3, 5))
    shards[2:] = 2
    assert shards.shards == ((3, 9), (10,)) and shards.chunks == (3, 5) and shards[11, 9] == 2


@pytest.mark.parametrize(
    ("chunks", "error", "place"),
    [
        ({"name": "spiral"}, UnknownExtensionError, "$.chunk_grid.name"),
        ({"name": "regular", "configuration": {"chunk_shape": [3]}}, MetadataError, "$.chunk_grid.configuration.chunk_shape"),
        ({**GRID, "shape": 3}, MetadataError, "$.chunk_grid.shape"),
        ({"configuration": {}}, MetadataError, "$.chunk_grid"),
        (RectilinearGrid.from_json(GRID["configuration"], (11, 10)), ShapeError, None),
    ],
)
def test_a_grid_that_cannot_be(chunks: Any, error: type[Exception], place: str | None) -> None:
    with pytest.raises(error) as caught:
        make({}, chunks=chunks)
    assert getattr(caught.value, "path", None) == place
