"""Text and bytes of any length, as users write, index and change them: in chunks, in shards, and in shards of shards."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import DataTypeError, ZarrantError
from zarrant.tools.check import check
from zarrant.tools.copy import copy

TEXT = np.dtypes.StringDType()
N = 23
WORDS = np.array(["", "a", "ñandú", "🎈" * 9, "a longer one, of more than fifteen bytes", "x\0y\0"], TEXT)[np.arange(N) * 5 % 6]
BYTES = np.array([word.encode() + b"\0\xff"[: i % 3] for i, word in enumerate(WORDS.tolist())], object)
KINDS = {"string": WORDS, "bytes": BYTES}
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (4,)},
    "shards": {"chunks": (2,), "shards": (8,)},
    "nested": {
        "chunks": (8,),
        "serializer": {
            "name": "sharding_indexed",
            "configuration": {
                "chunk_shape": [4],
                "codecs": [
                    {
                        "name": "sharding_indexed",
                        "configuration": {
                            "chunk_shape": [2],
                            "codecs": [{"name": "SERIALIZER"}, {"name": "zstd", "configuration": {"level": 1}}],
                            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
                        },
                    }
                ],
                "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
            },
        },
        "compressors": None,
    },
    "V2": {"chunks": (4,), "zarr_format": 2},
}


def options(kind: str, layout: str) -> dict[str, Any]:
    """Keywords of `create_array`."""
    serializer = {"string": "vlen-utf8", "bytes": "vlen-bytes"}[kind]
    found: dict[str, Any] = json.loads(json.dumps(LAYOUTS[layout]).replace("SERIALIZER", serializer))
    return found


def same(got: Any, expected: Any) -> None:
    """The same elements, of the same types."""
    got = np.asarray(got)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert got.tolist() == expected.tolist()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def values(kind: str) -> Any:
    return KINDS[kind]


@pytest.fixture(params=LAYOUTS)
def array(request: pytest.FixtureRequest, kind: str, values: Any, tmp_path: Path) -> Any:
    """An array of `values`."""
    made: Any = zarrant.create_array(tmp_path / "a", shape=(N,), dtype=kind, **options(kind, request.param))
    made[...] = values
    return made


def test_every_selection_reads_what_numpy_reads(array: Any, values: Any) -> None:
    mask = np.arange(N) % 3 == 1
    picked = np.array([5, 2, 21, 5])
    for selection in (np.s_[:], np.s_[3:17], np.s_[2:19:3], np.s_[19:2:-4], np.s_[-3:], np.s_[7:7], ..., mask, picked):
        same(array[selection], values[selection])
    same(array.oindex[[1, 9, 3]], values[[1, 9, 3]])
    same(array.vindex[[1, 9, 3, 3]], values[[1, 9, 3, 3]])
    same(array.blocks[1], values[array.chunks[0] if array.shards is None else array.shards[0] :][: len(array.blocks[1])])
    same(np.asarray(array), values)
    assert array[4] == values[4]
    assert type(array[4]) in (str, bytes)


@pytest.mark.parametrize("selection", [3, np.s_[3:17], np.s_[2:19:3], np.s_[19:2:-4], np.arange(N) % 3 == 1, [5, 2, 21]])
def test_writes_of_parts_keep_the_rest(array: Any, values: Any, selection: Any) -> None:
    new = values[::-1].copy()
    expected = values.copy()
    array[selection] = new[selection]
    expected[selection] = new[selection]
    same(array[...], expected)
    same(zarrant.open_array(array.url)[...], expected)


def test_data_of_every_spelling(array: Any, kind: str, values: Any) -> None:
    expected = values.copy()
    for start, data in enumerate((values[:3].tolist(), tuple(values[3:6].tolist()), values[6:9].astype(object), values[5])):
        array[start : start + 3] = data
        expected[start : start + 3] = data
    if kind == "string":
        array[9:12] = np.array(["x", "yz", "ñ"])
        expected[9:12] = np.array(["x", "yz", "ñ"])
    same(array[...], expected)


def test_the_array_grows_and_shrinks(array: Any, values: Any) -> None:
    array.append(values[:7])
    same(array[...], np.concatenate([values, values[:7]]))
    array.resize((9,))
    same(array[...], values[:9])
    array.resize((N,))
    same(array[9:], np.full(N - 9, array.fill_value, values.dtype))


def test_chunks_as_units(array: Any, values: Any) -> None:
    size = (array.shards or array.chunks)[0]
    array.store_chunk((1,), values[:size])
    same(array.retrieve_chunk((1,)), values[:size])
    array.store_chunk_subset((0,), np.s_[1:3], values[10:12])
    same(array.retrieve_chunk_subset((0,), np.s_[0:3]), np.array([values[0], *values[10:12]], values.dtype))
    array.update(np.s_[2:4], lambda current: current + current)
    same(array[1:4], np.array([values[10], 2 * values[11], 2 * values[3]], values.dtype))
    array.erase_chunk((0,))
    same(array[:size], np.full(size, array.fill_value, values.dtype))


def test_an_encoder_of_parts(array: Any, values: Any) -> None:
    expected = values.copy()
    with array.partial_encoder((1,)) as encoder:
        encoder.store(np.s_[0:2], values[20:22])
        encoder.store(np.s_[3:4], values[3:4])
    start = (array.shards or array.chunks)[0]
    expected[start : start + 2], expected[start + 3] = values[20:22], values[3]
    same(array[...], expected)


def test_what_is_said_of_it(array: Any, kind: str) -> None:
    assert ("StringDType" if kind == "string" else "object") in repr(array)
    assert kind in str(array.info)
    assert array.nbytes == array.size * array.dtype.itemsize
    same(pickle.loads(pickle.dumps(array))[...], array[...])


def test_elements_of_another_kind_are_refused(array: Any, kind: str, values: Any) -> None:
    other = b"x" if kind == "string" else "x"
    for data in (other, [other], np.array([values[0], None], object), np.array([1.5]), 3, [None], np.array([other, other])):
        with pytest.raises(DataTypeError):
            array[:2] = data
    same(array[...], values)


def test_it_is_checked_and_copied(kind: str, values: Any, tmp_path: Path) -> None:
    for layout in ("chunks", "shards", "V2"):
        place, copied = tmp_path / layout / "a", tmp_path / layout / "b"
        zarrant.create_array(place, shape=(N,), dtype=kind, **options(kind, layout))[...] = values
        copy(str(place), str(copied), chunks=(3,), shards=None)
        same(zarrant.open_array(copied)[...], values)
        assert zarrant.open_array(copied).metadata.data_type.name in (kind, f"variable_length_{kind}")
        assert check(copied, deep=True).clean


def test_text_is_read_as_objects_on_request(array: Any, kind: str, values: Any) -> None:
    array.erase_chunk((0,))
    expected = array[2:19]
    out = np.empty(17, object)
    assert array.retrieve_array_subset(np.s_[2:19], out=out) is out
    assert out.tolist() == expected.tolist()
    assert set(map(type, out.tolist())) == {str if kind == "string" else bytes}
    with pytest.raises(DataTypeError):
        array.retrieve_array_subset(np.s_[2:19], out=np.empty(17, "U40"))


def test_masked_elements_become_fill(array: Any, values: Any) -> None:
    array[:2] = np.ma.masked_array(values[2:4], [True, False])
    assert array[:2].tolist() == [array.fill_value, values[3]]


def test_fill_values(kind: str, tmp_path: Path) -> None:
    fill: Any = "no text" if kind == "string" else b"none\0"
    made: Any = zarrant.create_array(tmp_path, shape=(9,), dtype=kind, chunks=(2,), shards=(4,), fill_value=fill)
    assert made[:].tolist() == [fill] * 9
    made[3] = fill + fill
    made[...] = [fill] * 9
    assert made.nchunks_initialized == 0
    assert zarrant.open_array(tmp_path).fill_value == fill


def test_data_decides_the_type(kind: str, values: Any) -> None:
    for data in (values, values.astype(object), values.tolist(), values.reshape(1, N).tolist()):
        made: Any = zarrant.create_array({}, data=data)
        assert made.metadata.data_type.name == kind
        assert made[...].reshape(-1).tolist() == values.tolist()
    for mixed in (["a", b"b"], ["a", None], [b"a", 1]):
        with pytest.raises(ZarrantError):
            zarrant.create_array({}, data=np.array(mixed, object))


def test_threads_that_write_elements_of_one_chunk_lose_nothing(array: Any, values: Any) -> None:
    def write(i: int) -> None:
        array[i] = values[N - 1 - i]

    threads = [threading.Thread(target=write, args=(i,)) for i in range(N)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    same(array[...], values[::-1])


@pytest.mark.parametrize("shards", [None, (4, 6)])
@pytest.mark.parametrize("filters", [None, [{"name": "transpose", "configuration": {"order": [1, 0]}}]])
def test_values_of_any_strides(kind: str, shards: Any, filters: Any) -> None:
    """Whole chunks are encoded from where they lie, and decoded to there; a chunk of fill is not stored."""
    made: Any = zarrant.create_array({}, shape=(6, 9), dtype=kind, chunks=(2, 3), shards=shards, filters=filters)
    wide = np.resize(KINDS[kind], (12, 18))
    wide[4:, 6:] = made.fill_value
    source = wide[::-2, 1::2]
    made[...] = source
    assert made.nchunks_initialized < made.nchunks
    for out in (np.full((12, 9), WORDS[2], made.dtype)[::-2], np.full((9, 6), WORDS[2], made.dtype).T):
        made.retrieve_array_subset(np.s_[...], out=out)
        same(out, source)


def test_a_chunk_that_does_not_decode_stores_nothing(kind: str) -> None:
    place: dict[str, bytes] = {}
    made: Any = zarrant.create_array(place, shape=(4,), dtype=kind, chunks=(4,), compressors=None)
    made[...] = KINDS[kind][1:5]
    place["c/0"] = place["c/0"][:-1]
    out = KINDS[kind][5:9].copy()
    with pytest.raises(ZarrantError, match="element 3 of"):
        made.retrieve_array_subset(np.s_[...], out=out)
    same(out, KINDS[kind][5:9])
