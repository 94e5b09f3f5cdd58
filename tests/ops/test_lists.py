"""Lists of indices, masks, steps and points are written as NumPy assigns them; a shorter way stores what the general way stores."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant.codecs.pipeline.fixed_size import FixedSizePipeline
from zarrant.geometry import region
from zarrant.stores.local.store import FilesystemStore

SHAPE, CHUNK = (13, 11), (6, 5)
LAYOUTS: dict[str, dict[str, Any]] = {
    "zstd": {"compressors": zarrant.codecs.Zstd()},
    "raw": {"compressors": None},
    "checksum, Fortran order": {"compressors": zarrant.codecs.Crc32c(), "order": "F", "fill_value": 7},
    "big-endian": {"dtype": ">f8", "serializer": zarrant.codecs.Bytes("big"), "fill_value": np.nan},
    "structured": {"dtype": [("a", "u1"), ("b", "<i4")], "fill_value": (1, 2)},
    "without a compiled step": {"compressors": [{"name": "numcodecs.bz2", "configuration": {"level": 1}}]},
    "shards": {"chunks": (3, 5), "shards": CHUNK},
    "shards, index at the start": {"chunks": (2, 2), "shards": {"shape": (6, 6), "index_location": "start"}, "dtype": "c16"},
    "transposed subchunks": {"chunks": (3, 2), "shards": (6, 4), "order": "F", "dtype": "u1"},
    "one shard": {"chunks": (4, 4), "shards": (16, 12), "dtype": "f4"},
}
numbers = itertools.count()


class General(FilesystemStore):
    """A store without the compiled update."""

    updates_boxes = False


def made(root: Path, layout: str, config: dict[str, Any]) -> list[Any]:
    """The same array twice; some chunks, and some subchunks, are not stored."""
    arrays = []
    for store in (FilesystemStore, General):
        options = {"shape": SHAPE, "dtype": "int16", "chunks": CHUNK, **LAYOUTS[layout]}
        array = zarrant.create_array(store(root / str(next(numbers))), config=config, **options)
        values = of_type(array.dtype, np.arange(1, 1 + SHAPE[0] * SHAPE[1]).reshape(SHAPE))
        array[:9, :7] = values[:9, :7]
        array[12:, 4:6] = values[12:, 4:6]
        arrays.append(array)
    return arrays


def of_type(dtype: Any, values: Any) -> Any:
    if dtype.names is None:
        return values.astype(dtype)
    found = np.zeros(values.shape, dtype)
    for name in dtype.names:
        found[name] = values % 100
    return found


def stored(array: Any) -> dict[str, bytes]:
    return {key: bytes(array.store.get(key).data[0]) for key in array.store.list_prefix("") if key.startswith("c")}


def indices(length: int) -> st.SearchStrategy[Any]:
    """What one dimension takes: a list in any order, with repeats and negative ones; a mask; a slice with a step; an index."""
    return st.one_of(
        st.lists(st.integers(-length, length - 1), min_size=1, max_size=14),
        st.lists(st.booleans(), min_size=length, max_size=length).map(lambda mask: np.array(mask, np.bool_)),
        st.builds(slice, st.integers(0, length - 1), st.just(length), st.integers(1, 3)),
        st.integers(-length, length - 1),
    )


def places_of(keys: tuple[Any, ...], kind: str) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
    """The elements in the order of the values, and the shape of these."""
    numbered = [np.arange(n)[[key] if isinstance(key, int) else key] for key, n in zip(keys, SHAPE, strict=True)]
    if kind == "points":
        return list(zip(*[each.tolist() for each in numbered], strict=True)), (len(numbered[0]),)
    shape = tuple(len(each) for each, key in zip(numbered, keys, strict=True) if not isinstance(key, int))
    return list(itertools.product(*[each.tolist() for each in numbered])), shape


CONFIGS: list[dict[str, Any]] = [{}, {"write_empty_chunks": True}, {"shard_updates": "repack"}]


@pytest.mark.parametrize("layout", LAYOUTS)
@given(st.sampled_from(CONFIGS), st.integers(0, 5), st.data())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written(tmp_path: Path, layout: str, config: dict[str, Any], seed: int, data: st.DataObject) -> None:
    fast, general = made(tmp_path, layout, config)
    expected = fast[...]
    for _ in range(2):
        kind = data.draw(st.sampled_from(["lists", "lists", "points", "steps"]))
        if kind == "points":
            n = data.draw(st.integers(1, 30))
            keys = tuple(data.draw(st.lists(st.integers(-m, m - 1), min_size=n, max_size=n)) for m in SHAPE)
        elif kind == "steps":
            keys = tuple(slice(data.draw(st.integers(0, n - 1)), n, data.draw(st.integers(1, 4))) for n in SHAPE)
        else:
            keys = tuple(data.draw(indices(n)) for n in SHAPE)
        places, shape = places_of(keys, kind)
        drawn = np.random.default_rng(seed).integers(0, 3, shape)
        values = np.where(drawn == 2, np.array(fast.fill_value, fast.dtype), of_type(fast.dtype, drawn))
        if data.draw(st.booleans()):
            values = values.astype(values.dtype.newbyteorder())
        if data.draw(st.sampled_from([False, False, True])):
            values = of_type(fast.dtype, np.array([5]))[0]  # one for all
        for place, value in zip(places, np.broadcast_to(values, shape).reshape(-1), strict=True):
            expected[place] = value  # one after the other: the last one counts
        into = {"lists": "oindex", "points": "vindex", "steps": "oindex"}[kind]
        with mock.patch.object(region, "MANY_BOXES", 0):
            getattr(fast, into)[keys] = values
        never = mock.patch.object(FixedSizePipeline, "_is_merged", lambda *args: False)
        with mock.patch.object(region, "MANY_BOXES", 1 << 40), never:
            getattr(general, into)[keys] = values
        assert fast[...].tobytes() == expected.tobytes()
    assert stored(fast) == stored(general)
