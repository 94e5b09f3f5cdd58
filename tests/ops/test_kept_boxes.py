"""Boxes of which all is kept are looked at and copied by one compiled call: the same as the general way."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant import kernels
from zarrant.codecs import Crc32c, Transpose, Zstd
from zarrant.errors import ZarrantError
from zarrant.stores.local import syscalls
from zarrant.stores.local.store import FilesystemStore

pytestmark = pytest.mark.skipif(kernels.KeptCopier is None, reason="compiled kernels absent or not chosen")
SHAPE = (11, 14)
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (3, 4), "compressors": Zstd(1)},
    "one chunk": {"chunks": (11, 14), "compressors": Zstd(1)},
    "transposed chunks": {"chunks": (3, 4), "filters": Transpose((1, 0)), "compressors": Zstd(1)},
    "structured": {"chunks": (3, 4), "dtype": [("a", "u1"), ("b", ">i4")], "fill_value": (1, 2)},
    "dates": {"chunks": (3, 4), "dtype": "M8[s]", "compressors": Zstd(1)},
    "shards": {"chunks": (2, 2), "shards": (4, 6), "fill_value": 7},
    "big-endian shards": {"chunks": (2, 3), "shards": (4, 6), "dtype": ">f8", "fill_value": np.nan},
    "transposed shards": {"chunks": (2, 3), "shards": (4, 6), "filters": Transpose((1, 0))},
    "checked shards": {"chunks": (2, 7), "shards": (6, 7), "dtype": "bool", "compressors": [Zstd(1), Crc32c()]},
    "one shard": {"chunks": (4, 5), "shards": (12, 15), "dtype": "bfloat16"},
}


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many objects each compiled call has copied from."""
    counts: list[int] = []
    get_decoded = FilesystemStore.get_decoded

    def counting(store: Any, keys: Any, limit: Any, decoder: Any, share: Any) -> Any:
        found = get_decoded(store, keys, limit, decoder, share)
        if isinstance(decoder, kernels.KeptCopier):
            counts.append(sum(each is not None for each in found))
        return found

    monkeypatch.setattr(FilesystemStore, "get_decoded", counting)
    yield counts


def made(path: Path, layout: str) -> Any:
    """An array of which some chunks, and some subchunks, are not stored."""
    array = zarrant.create_array(path, shape=SHAPE, **{"dtype": "int16", **LAYOUTS[layout]})
    array[:9, :10] = values_of(array, 1)[:9, :10]
    array[:2, 4:6] = array.fill_value
    return array


def values_of(array: Any, seed: int) -> Any:
    bits = np.random.default_rng(seed).integers(0, 2, (SHAPE[0], SHAPE[1] * array.dtype.itemsize), "u1")
    return bits.view(array.dtype).reshape(SHAPE)


def box(draw: Any) -> tuple[slice, ...]:
    sides = [sorted(draw(st.tuples(st.integers(0, length - 1), st.integers(0, length - 1)))) for length in SHAPE]
    return tuple(slice(low, high + 1) for low, high in sides)


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_equals_the_general_way(
    layout: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory, copied: list[int]
) -> None:
    """Between reads boxes are stored, chunks erased, files damaged: the same elements, or the same error."""
    path = tmp_path_factory.mktemp("a")
    array = made(path, layout)
    missing = data.draw(st.sampled_from(["fill", "fill", "error"]))
    plain, kept = (zarrant.open_array(path, mode="r", config={"cache": n, "missing_chunks": missing}) for n in (0, 1 << 20))
    for step in range(data.draw(st.integers(2, 6))):
        for _ in range(2):
            boxes = [box(data.draw) for _ in range(data.draw(st.integers(1, 3)))]
            axes = data.draw(st.sampled_from(["thirds", "backwards", "turned"]))
            for found, expected in zip(_read(kept, boxes, axes), _read(plain, boxes, "turned"), strict=True):
                assert found == expected
        match data.draw(st.sampled_from(["store", "store", "erase", "damage", "nothing"])):
            case "store":
                where = box(data.draw)
                with suppress(ZarrantError):  # a part of a chunk that is damaged
                    array[where] = values_of(array, step)[where]
            case "erase":
                array.erase_chunk(tuple(data.draw(st.integers(0, n - 1)) for n in array.chunk_grid_shape))
            case "damage":
                files = sorted(each for each in (path / "c").rglob("*") if each.is_file())
                if files:
                    file = data.draw(st.sampled_from(files))
                    file.write_bytes(file.read_bytes()[:-1] + b"?")


def _read(array: Any, boxes: list[Any], axes: str) -> Iterator[Any]:
    """The bytes of boxes, or the errors: one by one, into arrays of any strides, and together."""
    for each in boxes:
        rows, columns = (part.stop - part.start for part in each)
        thirds, turned = np.empty((3 * rows, columns), array.dtype), np.empty((columns, rows), array.dtype)
        out = {"thirds": thirds[::3], "backwards": thirds[rows - 1 :: -1], "turned": turned.T}[axes]
        try:
            yield array.retrieve_array_subset(each, out=out).tobytes()
            yield array[each].tobytes()
        except ZarrantError as error:
            yield type(error)
    try:
        yield [part.tobytes() for part in array.retrieve_array_subsets(boxes)]
    except ZarrantError as error:
        yield type(error)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "transposed shards"])
def test_it_is_used_where_all_is_kept(layout: str, tmp_path: Path, copied: list[int]) -> None:
    """From the second read on, each object is looked at once a call; of a sparse array for what is stored."""
    array = made(tmp_path, layout)
    array[...] = values_of(array, 2)
    kept = zarrant.open_array(tmp_path, mode="r", config={"cache": 1 << 20})
    assert kept[...].tobytes() == array[...].tobytes()
    assert copied == []
    objects = sum(each.is_file() for each in (tmp_path / "c").rglob("*"))
    assert kept[1:, :13].tobytes() == array[1:, :13].tobytes()
    assert copied == [objects]
    found = kept.retrieve_array_subsets([np.s_[:, :2], np.s_[:, 12:], np.s_[3:7], np.s_[4:8]])
    assert [part.tobytes() for part in found] == [
        array[:, :2].tobytes(),
        array[:, 12:].tobytes(),
        array[3:7].tobytes(),
        array[4:8].tobytes(),
    ]
    assert len(copied) == 3 and max(copied) <= objects


@pytest.mark.parametrize("layout", ["chunks", "shards"])
def test_what_was_replaced_is_read_anew(layout: str, tmp_path: Path, copied: list[int]) -> None:
    """One object of several: what is kept of the others is used."""
    array = made(tmp_path, layout)
    kept = zarrant.open_array(tmp_path, mode="r", config={"cache": 1 << 20})
    for step in range(3):
        array[...] = values_of(array, step)
        assert kept[...].tobytes() == array[...].tobytes()
        array[1:2, 1:2] = values_of(array, step + 1)[5:6, 5:6]
        assert kept[...].tobytes() == array[...].tobytes() == kept[...].tobytes()
        assert copied[-1] == copied[-2] + 1
        array[3, 3] = array.fill_value
        assert kept.retrieve_array_subsets([np.s_[:5], np.s_[2:7]])[1].tobytes() == array[2:7].tobytes()


@pytest.mark.parametrize("kind", ["", "disk"])
def test_files_of_another_machine_are_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of a name may be old there until the file is opened."""
    from zarrant.kernels import compiled

    asked: list[bool] = []
    native = compiled._native.ReadKept
    monkeypatch.setattr(compiled._native, "ReadKept", lambda *given: asked.append(given[-1]) or native(*given))
    monkeypatch.setattr(syscalls, "_mount", lambda device: syscalls._Mount("tmpfs", kind, "", 0.0))
    array = made(tmp_path, "chunks")
    kept = zarrant.open_array(tmp_path, mode="r", config={"cache": 1 << 20})
    for value in (1, 2):
        array[:6, :8] = value
        for _ in range(2):
            assert (kept[:6, :8] == value).all()
    assert asked and set(asked) == {bool(kind)}


def test_an_absent_shard_is_left_to_the_general_way(tmp_path: Path, copied: list[int]) -> None:
    array = zarrant.create_array(tmp_path, shape=(8, 8), dtype="i4", chunks=(2, 2), shards=(4, 4), fill_value=3)
    array[:4, :6] = 1
    array[2:4, :2] = 3
    kept = zarrant.open_array(tmp_path, mode="r", config={"cache": 1 << 20})
    for _ in range(3):
        assert np.array_equal(kept[1:7, 1:7], array[1:7, 1:7])
    assert copied == [2, 2]
    array[...] = 5
    assert (kept[1:7, 1:7] == 5).all()


def test_what_cannot_be_copied_so_is_read_as_before(tmp_path: Path, copied: list[int]) -> None:
    """Strings, chunks of several shapes, elements that lie apart, a store in memory."""
    words = np.array(["a", "long enough to be elsewhere"] * 8, np.dtypes.StringDType()).reshape(4, 4)
    for name, options in (
        ("words", {"data": words, "chunks": (2, 2)}),
        ("grid", {"data": np.ones((4, 4)), "chunks": [[1, 3], [4]]}),
    ):
        zarrant.create_array(tmp_path / name, compressors=Zstd(1), **options)
        kept = zarrant.open_array(tmp_path / name, mode="r", config={"cache": 1 << 20})
        for _ in range(3):
            assert np.array_equal(kept[1:4, 1:3], options["data"][1:4, 1:3])  # type: ignore[index]
    memory = zarrant.create_array({}, data=np.arange(16), chunks=4, compressors=Zstd(1), config={"cache": 1 << 20})
    for _ in range(3):
        assert memory[2:11].tolist() == list(range(2, 11))
    assert copied == []
