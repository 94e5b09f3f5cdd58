"""Boxes in one chunk are read and written by the short way, which gives what the way for any region gives."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant.errors import ChunkError, ChunkMissingError
from zarrant.geometry import region

SHAPE = (11, 14)
NESTED: dict[str, Any] = {"name": "bytes", "configuration": {"endian": "little"}}
for SUBCHUNK in ((2, 5), (4, 10)):
    NESTED = {"name": "sharding_indexed", "configuration": {"chunk_shape": SUBCHUNK, "codecs": [NESTED]}}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {"chunks": (4, 5)},
    "uncompressed": {"chunks": (4, 5), "compressors": None},
    "float, checksum": {"chunks": (11, 7), "dtype": "float32", "fill_value": np.nan},
    "complex, big-endian": {"chunks": (4, 5), "dtype": "complex64", "serializer": zarrant.codecs.Bytes("big")},
    "bfloat16": {"chunks": (4, 5), "dtype": "bfloat16"},
    "structured": {"chunks": (4, 5), "dtype": [("a", "u1"), ("b", "<i4")], "fill_value": (1, 2)},
    "dates": {"chunks": (4, 5), "dtype": "datetime64[s]"},
    "text": {"chunks": (4, 5), "dtype": "str"},
    "transposed": {"chunks": (4, 5), "order": "F", "fill_value": 3},
    "sharded": {"chunks": (2, 5), "shards": (4, 10)},
    "sharded, transposed": {"chunks": (2, 5), "shards": (4, 10), "order": "F"},
    "shards in shards": {"chunks": (8, 10), "serializer": NESTED},
    "V2": {"chunks": (4, 5), "zarr_format": 2},
    "lengths that differ": {"chunks": [[3, 8], [7, 2, 5]]},
}


def made(kind: str) -> Any:
    """An array of which some chunks are stored."""
    options = {"shape": SHAPE, "dtype": "int16", **KINDS[kind]}
    array = zarrant.create_array({}, **options)
    numbers = np.arange(1, 1 + SHAPE[0] * SHAPE[1]).reshape(SHAPE)
    fields = array.dtype.names
    values: Any = numbers.astype(array.dtype) if fields is None else np.zeros(SHAPE, array.dtype)
    for name in fields or ():
        values[name] = numbers % 100
    array[:9, :12] = values[:9, :12]
    if array.shards is None and kind != "lengths that differ":
        array.erase_chunk((1, 1) if array.nchunks > 2 else (0, 1))
    return array


ARRAYS = {kind: made(kind) for kind in KINDS}


def item(length: int) -> st.SearchStrategy[Any]:
    ends = st.tuples(st.integers(0, length), st.integers(0, length)).map(sorted)
    return st.one_of(
        st.integers(-length, length - 1), ends.map(lambda e: slice(e[0], e[1])), ends.map(lambda e: slice(e[0] - length, None))
    )


def outcome(read: Any) -> Any:
    """What a read gives, or its error."""
    try:
        found = np.asarray(read())
    except Exception as error:
        return type(error), str(error)
    return found.dtype, found.shape, found.tolist() if found.dtype.kind in "OT" else found.tobytes()


def in_general() -> Any:
    return mock.patch.object(region, "_in_few_chunks", lambda *_: None)


@given(st.sampled_from(sorted(KINDS)), st.tuples(*map(item, SHAPE)), st.booleans(), st.sampled_from(["fill", "error"]))
def test_a_box_in_one_chunk_is_read_as_any_region(kind: str, chosen: Any, more: bool, missing: str) -> None:
    array = ARRAYS[kind].with_config(missing_chunks=missing)
    selection = (*chosen[:1], ...) if more else chosen
    with in_general():
        general = outcome(lambda: array[selection])
    assert outcome(lambda: array[selection]) == general


@given(st.sampled_from(sorted(set(KINDS) - {"text"})), st.tuples(*map(item, SHAPE)), st.sampled_from("CFS"))
def test_it_is_read_into_any_array(kind: str, chosen: Any, layout: str) -> None:
    array = ARRAYS[kind]
    box = tuple(
        slice(*each.indices(n)[:2]) if isinstance(each, slice) else slice(each % n, each % n + 1)
        for each, n in zip(chosen, SHAPE, strict=True)
    )
    shape = tuple(each.stop - each.start for each in box)
    if 0 in shape:
        return
    spaced = np.zeros((shape[0], 2 * shape[1]), array.dtype)[:, ::2]
    out = spaced if layout == "S" else np.zeros(shape, array.dtype, order=layout)  # type: ignore[call-overload]
    assert array.retrieve_array_subset(box, out=out) is out
    with in_general():
        assert out.tobytes() == array.retrieve_array_subset(box).tobytes()


@given(
    st.sampled_from(sorted(set(KINDS) - {"text", "lengths that differ"})),
    st.sampled_from([(0, 0), (0, 1), (1, 0)]),
    st.sampled_from("CFS"),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_a_whole_chunk_is_stored_as_any_region(
    kind: str, place: tuple[int, int], layout: str, blank: bool, empty: bool, part: bool
) -> None:
    stored = []
    for way in (nullcontext(), in_general()):
        array = zarrant.create_array({}, **{"shape": SHAPE, "dtype": "int16", **KINDS[kind]}, config={"write_empty_chunks": empty})
        shape = array.shards or array.chunks
        origin = [min(i * n, length - n) // n * n for i, n, length in zip(place, shape, SHAPE, strict=True)]
        box = tuple(slice(at, at + n - part) for at, n in zip(origin, shape, strict=True))
        block = array[box] if blank else made(kind)[box]
        spaced = np.zeros((block.shape[0], 2 * block.shape[1]), block.dtype)[:, ::2]
        values = spaced if layout == "S" else np.zeros(block.shape, block.dtype, order=layout)  # type: ignore[call-overload]
        values[...] = block
        with way:
            array[box] = values
        assert values.flags.writeable
        values[...] = np.zeros((), block.dtype)  # what is stored is not the caller's memory
        stored.append({key: bytes(array.store.get(key).data[0]) for key in array.store.list_prefix("") if key != "zarr.json"})
    assert stored[0] == stored[1]


@pytest.mark.parametrize("kind", ["plain", "sharded", "float, checksum"])
def test_its_errors_say_as_much(kind: str) -> None:
    array = made(kind)
    store, key = array.store, array.chunk_key((0, 0))
    data = bytearray(store.get(key).data[0])
    data[:12] = b"\0" * 12
    store.put(key, [bytes(data)])
    with in_general():
        general = outcome(lambda: array[0, 0])
    assert general[0] is ChunkError
    assert outcome(lambda: array[0, 0]) == general
    store.erase(key)
    strict = array.with_config(missing_chunks="error")
    with in_general():
        general = outcome(lambda: strict[0, 0])
    assert general[0] is ChunkMissingError
    assert outcome(lambda: strict[0, 0]) == general
