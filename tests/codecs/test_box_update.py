"""A box of a chunk, replaced by one compiled call: what it stores is what the general way stores, byte for byte."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from zarrant import kernels
from zarrant.codecs.box_update import box_update
from zarrant.codecs.protocols import BoxUpdate
from zarrant.codecs.sharding import dead_bytes
from zarrant.errors import ZarrantError
from zarrant.geometry.box import ArraySubset
from zarrant.geometry.region import Product, box_region
from zarrant.geometry.segments import Axis
from zarrant.stores.local.store import FilesystemStore

pytestmark = pytest.mark.skipif(kernels.update_file is None, reason="without the compiled call there is one way only")

numbers = itertools.count()


class General(FilesystemStore):
    """A store that has no such call."""

    updates_boxes = False


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each call did it."""
    done: list[bool] = []
    real = kernels.update_file
    assert real is not None

    def update_file(*args: Any) -> Any:
        found = real(*args)
        done.append(isinstance(found, tuple))
        return found

    monkeypatch.setattr(kernels, "update_file", update_file)
    return done


SHAPE, CHUNK = (12, 10), (6, 10)
KINDS: dict[str, dict[str, Any]] = {
    "raw chunks": {"compressors": None},
    "zstd chunks": {"compressors": zarrant.codecs.Zstd()},
    "checksum, Fortran order": {"compressors": zarrant.codecs.Crc32c(), "order": "F"},
    "filled": {"compressors": None, "fill_value": 7},
    "shards": {"chunks": (3, 5), "shards": CHUNK},
    "raw subchunks": {"chunks": (3, 5), "shards": CHUNK, "compressors": None, "fill_value": 3},
    "index at the start": {"chunks": (2, 2), "shards": {"shape": CHUNK, "index_location": "start"}},
    "big-endian": {
        "chunks": (3, 5),
        "shards": CHUNK,
        "dtype": ">f8",
        "serializer": zarrant.codecs.Bytes("big"),
        "fill_value": np.nan,
    },
    "transposed subchunks": {"chunks": (3, 2), "shards": CHUNK, "order": "F"},
    "one subchunk": {"chunks": CHUNK, "shards": CHUNK},
    "edge chunks": {"chunks": (5, 4)},
    "edge shards": {"chunks": (4, 4), "shards": (8, 8)},
}
CONFIGS: list[dict[str, Any]] = [{}, {"write_empty_chunks": True}, {"dead_limit": 1.0}, {"shard_updates": "repack"}]


def pair(root: Path, kind: str, config: dict[str, Any]) -> tuple[Any, Any]:
    """The same array twice; the second one has no compiled update."""
    made = []
    for name, store in (("fast", FilesystemStore), ("general", General)):
        path = root / f"{next(numbers)}-{name}"
        options = {"shape": SHAPE, "dtype": "int16", "chunks": CHUNK, **KINDS[kind]}
        zarrant.create_array(path, **options)
        made.append(zarrant.open_array(store(path), config=config))
    return made[0], made[1]


def stored(array: Any) -> dict[str, bytes]:
    root = Path(array.store.root)
    return {str(path.relative_to(root)): path.read_bytes() for path in (root / "c").rglob("*") if path.is_file()}


@st.composite
def updates(draw: st.DrawFn) -> tuple[tuple[slice, ...], int]:
    starts = [draw(st.integers(0, length - 1)) for length in SHAPE]
    box = tuple(slice(a, a + draw(st.integers(1, min(4, length - a)))) for a, length in zip(starts, SHAPE, strict=True))
    return box, draw(st.sampled_from([-1, 0, 0, 5, 9]))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=st.sampled_from(CONFIGS),
    begin=st.sampled_from(["stored", "nothing", "one", "erased"]),
    steps=st.lists(updates(), min_size=1, max_size=10),
    grown=st.integers(0, 9),
    order=st.sampled_from("CF"),
)
def test_it_stores_what_the_general_way_stores(
    tmp_path: Path, kind: str, config: Any, begin: str, steps: list[Any], grown: int, order: Any
) -> None:
    arrays = pair(tmp_path, kind, config)
    whole = np.arange(1, 121).reshape(SHAPE).astype(arrays[0].dtype)
    whole[:3, :5] = arrays[0].fill_value
    for array in arrays if begin != "nothing" else ():
        array[6 if begin == "one" else 0 :] = whole[6 if begin == "one" else 0 :]
        if begin == "erased":
            array.erase_chunk((0, 0))
    for number, (box, value) in enumerate(steps):
        for array in arrays if number == grown else ():  # by others
            zarrant.open_array(array.store.root).append(np.arange(30).reshape(3, 10).astype(array.dtype))
        shape = tuple(each.stop - each.start for each in box)
        values = np.arange(np.prod(shape)).reshape(shape, order=order).astype(arrays[0].dtype)
        if value >= 0:
            values[...] = arrays[0].fill_value if value == 0 else value
        if value == 9:  # all that may be stored there becomes fill
            box, values = (slice(0, 6), box[1]), np.full((6, shape[1]), arrays[0].fill_value, arrays[0].dtype)
        for array in arrays:
            array[box] = values
        assert stored(arrays[0]) == stored(arrays[1])
    assert arrays[0][...].tobytes() == arrays[1][...].tobytes()
    roots = [Path(array.store.root) for array in arrays]
    places = [{str(path.relative_to(root)) for path in root.rglob("*")} for root in roots]
    assert places[0] == places[1]
    assert not [path for path in places[0] if "__" in path]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_used(tmp_path: Path, counted: list[bool], kind: str) -> None:
    array, _ = pair(tmp_path, kind, {})
    array[...] = np.arange(1, 121).reshape(SHAPE)
    for value in range(4):
        array[1, 1] = value + 100
    assert counted == [True] * 4
    counted.clear()
    array, _ = pair(tmp_path, kind, {})
    for value, files in ((array.fill_value, []), (5, ["c/0/0"]), (6, ["c/0/0"]), (array.fill_value, [])):
        array[1, 1] = value
        assert list(stored(array)) == files
    assert counted == [True] * 3  # there was no directory, and nothing to be stored in it


@pytest.mark.parametrize("options", [{"shards": (8,), "chunks": (4,)}, {"chunks": (8,)}])
@pytest.mark.parametrize("box", [slice(8, 9), slice(8, 10)])
def test_at_the_end_of_the_array_what_others_appended_stays(tmp_path: Path, counted: list[bool], options: Any, box: slice) -> None:
    data = np.arange(1, 11)
    array = zarrant.create_array(tmp_path / "a", data=data, **options)
    other = zarrant.open_array(tmp_path / "a")
    values = data[box] * 0
    for number in range(3):  # the first one finds that the metadata changed
        other.append(np.array([50, 60])) if number == 0 else None
        array[box] = values + number
        assert other[...].tolist() == [*range(1, 9), *values + number, *data[box.stop :], 50, 60]
    assert counted.count(True) == (0 if box.stop == 10 else 2)


@pytest.mark.parametrize("location", ["start", "end"])
def test_what_is_damaged_is_an_error_as_ever(tmp_path: Path, counted: list[bool], location: str) -> None:
    entries = {
        "half": (2**64 - 1, 4),
        "outside": (10**6, 4),
        "overlaps": None,
        "too large": (0, 10**6),
        "bytes": b"\xff" * 4,
    }
    for name, table in entries.items():
        outcomes = []
        for store in (FilesystemStore, General):
            path = tmp_path / f"{name}-{store.__name__}"
            shards = {"shape": (32,), "index_location": location}
            zarrant.create_array(path, data=np.arange(1, 33), chunks=(8,), shards=shards)
            array, file = zarrant.open_array(store(path)), path / "c/0"
            data = bytearray(file.read_bytes())
            at = 0 if location == "start" else len(data) - 68
            index = np.frombuffer(data[at : at + 64], "<u8").reshape(4, 2).copy()
            if isinstance(table, bytes):
                data[int(index[1, 0]) : int(index[1, 0]) + 4] = table
            else:
                index[1] = index[0] if table is None else table
                data[at : at + 64] = index.tobytes()
                data[at + 64 : at + 68] = struct.pack("<I", kernels.crc32c(index.tobytes()))
            file.write_bytes(data)
            try:
                array[9] = 5
                outcomes.append(None)
            except ZarrantError as error:
                outcomes.append(f"{type(error).__name__} {error.field} {error.got}")
            assert file.read_bytes() == data or outcomes[-1] is None
        assert outcomes[0] == outcomes[1] is not None, name
    assert not any(counted)


def with_long_name(data: bytes, size: int) -> bytes:
    """A gzip member of more than `size` bytes, that decodes."""
    body = zlib.compress(data, wbits=-15)
    return b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * size + b"\0" + body + struct.pack("<II", zlib.crc32(data), len(data))


def test_a_subchunk_with_more_bytes_than_its_codecs_make_is_not_read(tmp_path: Path, counted: list[bool]) -> None:
    array = zarrant.create_array(tmp_path / "a", data=np.ones(8, "u1"), chunks=(4,), shards=(8,), compressors=zarrant.codecs.Gzip())
    encoded = with_long_name(b"\x01" * 4, array._handle.array.prepared_for((8,)).subchunk_pipeline.stored_limit)
    index = np.array([[0, len(encoded)], [2**64 - 1, 2**64 - 1]], "<u8").tobytes()
    stored = encoded + index + struct.pack("<I", kernels.crc32c(index))
    (tmp_path / "a/c/0").write_bytes(stored)
    with pytest.raises(ZarrantError, match="too large"):
        array[1] = 5
    assert counted == [False]
    assert (tmp_path / "a/c/0").read_bytes() == stored


def test_a_chunk_with_more_bytes_than_its_codecs_make_is_not_read(tmp_path: Path, counted: list[bool]) -> None:
    array = zarrant.create_array(tmp_path / "a", data=np.ones(8, "u1"), chunks=(8,), compressors=zarrant.codecs.Gzip())
    (tmp_path / "a/c/0").write_bytes(with_long_name(b"\x01" * 8, 100))
    array[0] = 2
    assert counted == [True]
    (tmp_path / "a/c/0").write_bytes(with_long_name(b"\x01" * 8, array._handle.array.prepared_for((8,)).stored_limit))
    with pytest.raises(ZarrantError, match="too large"):
        array[1] = 5
    assert counted == [True, False]


@pytest.mark.parametrize("kind", ["raw subchunks", "index at the start"])
def test_dead_bytes_are_laid_out_anew_when_there_are_many(
    tmp_path: Path, keep_dead_bytes: Callable[[int], None], counted: list[bool], kind: str
) -> None:
    """There is a record of them then, in which each update finds what is free."""
    keep_dead_bytes(2000)
    arrays = pair(tmp_path, kind, {})
    for array in arrays:
        array[...] = np.arange(1, 121).reshape(SHAPE)
    sizes = set()
    for step in range(200):
        for array in arrays:
            array[step % 6, step % 10] = step
        assert stored(arrays[0]) == stored(arrays[1]), step
        sizes.add(len(stored(arrays[0])["c/0/0"]))
    assert len(sizes) > 20
    assert max(sizes) < 6000
    assert all(counted)


SIDE = 192


@pytest.mark.parametrize("kept", [3000, 20_000, 100_000])
@pytest.mark.parametrize("location", ["start", "end"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 99), steps=st.integers(1, 40), limit=st.sampled_from([0.0, 0.3, 1.0]), stranger=st.integers(0, 50))
def test_records_of_large_shards(
    tmp_path: Path,
    keep_dead_bytes: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    kept: int,
    location: str,
    seed: int,
    steps: int,
    limit: float,
    stranger: int,
) -> None:
    """Boxes of one and of many subchunks, some of which become fill; at some time a record is damaged."""
    keep_dead_bytes(kept)
    monkeypatch.setattr(dead_bytes, "MIN_HOLE_BYTES", 1500)
    random = np.random.default_rng(seed)
    data = random.integers(1, 2**16, (SIDE, SIDE), np.uint16)
    arrays = []
    for store in (FilesystemStore, General):
        path = tmp_path / f"{next(numbers)}"
        shards = {"shape": data.shape, "index_location": location}
        zarrant.create_array(path, data=data, chunks=(24, 24), shards=shards, compressors=zarrant.codecs.Zstd(1))
        arrays.append(zarrant.open_array(store(path), config={"dead_limit": limit}))
    for step in range(steps):
        shape, edge = random.integers(1, 60, 2), 24 * random.integers(0, 2)
        start = [int(random.integers(0, SIDE - length + 1)) // max(1, edge) * max(1, edge) for length in shape]
        box = tuple(slice(first, first + int(length)) for first, length in zip(start, shape, strict=True))
        values = data[box] + np.uint16(step) if random.integers(5) else np.uint16(0)
        for array in arrays:
            array[box] = values
        whole = stored(arrays[0])["c/0/0"]
        assert whole == stored(arrays[1])["c/0/0"], step
        if step == stranger:
            tail = len(whole) - (0 if location == "start" else 16 * 64 + 4)
            broken = whole[: tail - 25] + bytes([whole[tail - 25] ^ 1]) + whole[tail - 24 :]
            if whole[tail - 8 : tail] == b"\x89zdead\r\n":
                for array in arrays:
                    Path(array.store.root, "c/0/0").write_bytes(broken)
    assert np.array_equal(arrays[0][...], arrays[1][...])


def test_large_objects_are_changed_too(tmp_path: Path, counted: list[bool]) -> None:
    data = np.random.default_rng(1).integers(0, 2**16, (64, 64, 64), np.uint16)
    arrays = []
    for name, store in (("fast", FilesystemStore), ("general", General)):
        zarrant.create_array(
            tmp_path / name, data=data, chunks=(32, 32, 32), shards=(64, 64, 64), compressors=zarrant.codecs.Zstd(1)
        )
        arrays.append(zarrant.open_array(store(tmp_path / name)))
    for value in (3, 4):
        for array in arrays:
            array[3:9, 4:10, 5:11] = value
    assert stored(arrays[0]) == stored(arrays[1])
    assert counted.count(True) == 2


def box_of(array: Any, box: tuple[slice, ...], values: Any) -> BoxUpdate | None:
    bound = array._handle.array
    region = ArraySubset(tuple(each.start for each in box), tuple(each.stop - each.start for each in box))
    selections = box_region(region).split(bound.grid, array.shape)
    return box_update(bound.prepared_for(bound.chunk_shape((0,) * array.ndim)), selections, 0, values)


def test_what_has_no_such_form(tmp_path: Path) -> None:
    here = (slice(1, 3),)
    values = np.zeros(2, "int16")

    def has(dtype: Any = "int16", values: Any = values, box: Any = here, **options: Any) -> bool:
        array = zarrant.create_array(tmp_path / f"{next(numbers)}", shape=(64,), dtype=dtype, **options)
        return box_of(array, box, values) is not None

    shards: dict[str, Any] = {"chunks": (4,), "shards": (16,)}
    assert has(chunks=(16,))
    assert has(**shards)
    assert not has(values=np.zeros(2, "int32"), chunks=(16,))
    assert has(box=(slice(15, 17),), chunks=(16,))  # the part of it in one of the chunks
    assert has(box=(slice(3, 5),), **shards)
    assert has(box=(slice(0, 16),), **shards)
    assert not has(box=(slice(3, 5),), values=np.zeros(2, "int32"), **shards)
    assert not has(dtype="string", values=np.zeros(2, "T"), **shards)
    assert not has(dtype="M8[s]", values=np.zeros(2, "M8[s]"), **shards)


def test_wrong_boxes_are_refused(tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path / "a", data=np.ones(16, "int16"), chunks=(4,), shards=(16,))
    good = box_of(array, (slice(1, 3),), np.zeros(2, "int16"))
    assert good is not None
    path, device = str(tmp_path / "a/c/0"), tmp_path.stat().st_dev
    wrong: list[Any] = [
        [(4, (1,), (0,), (2,))],
        [(-1, (1,), (0,), (2,))],
        [(0, (3,), (0,), (2,))],
        [(0, (-1,), (0,), (2,))],
        [(0, (1,), (1,), (2,))],
        [(0, (1,), (-1,), (2,))],
        [(0, (1,), (0,), (0,))],
        [(0, (1, 1), (0, 0), (2, 2))],
        [(1, (1,), (0,), (1,)), (0, (1,), (1,), (1,))],
        [(1, (1,), (0,), (1,)), (1, (1,), (1,), (1,))],
        [],
    ]
    asked = [(tuple(pieces), good.values) for pieces in wrong]
    asked += [(good.pieces, np.zeros((2, 2), "int16")), (good.pieces, np.zeros(2, "int8"))]
    assert kernels.update_file is not None
    for pieces, values in asked:
        with pytest.raises(ValueError, match="expected"):
            kernels.update_file(path, good.layout, pieces, None, values, None, device, 0, 0, False, -1, False, None)
    assert array[:4].tolist() == [1] * 4


@pytest.mark.parametrize("kind", ["zstd chunks", "checksum, Fortran order", "shards", "transposed subchunks"])
def test_lists_steps_and_points_are_written_by_it(tmp_path: Path, counted: list[bool], kind: str) -> None:
    array, _ = pair(tmp_path, kind, {})
    array[...] = expected = np.arange(1, 121, dtype="int16").reshape(SHAPE)
    counted.clear()
    ways = {"oindex": ([9, 2, 2, -1], [0, 7, 3]), "vindex": ([9, 2, 2, -1], [0, 7, 7, 3])}
    for number, (way, key) in enumerate(ways.items(), 1):
        getattr(array, way)[key] = -number
        expected[np.ix_(*key) if way == "oindex" else key] = -number
    array[1::3, ::2] = 0
    expected[1::3, ::2] = 0
    assert counted == [True] * 6
    assert np.array_equal(array[...], expected)


def test_wrong_plans_are_refused(tmp_path: Path) -> None:
    array = zarrant.create_array(tmp_path / "a", data=np.ones(16, "int16"), chunks=(4,), shards=(16,))
    bound = array._handle.array
    selections = Product((Axis(np.array([1, 6]), np.array([0, 1]), np.ones(2, np.int64)),)).split(bound.grid, array.shape)
    good = box_update(bound.prepared_for((16,)), selections, 0, np.zeros(2, "int16"))
    assert good is not None and isinstance(good.plan, kernels.RowBoxes)
    path, device, ones = str(tmp_path / "a/c/0"), tmp_path.stat().st_dev, np.ones(2, np.int64)
    lists = kernels.OuterBoxes(np.arange(2), ones, np.arange(2), ones, ones, np.array([[[0, 1]], [[1, 2]]]))
    wrong: list[Any] = [
        (good.pieces, good.plan._replace(row_start=np.array([[1, 1], [0, 2]]))),
        (good.pieces, good.plan._replace(row_start=np.array([[0, 1], [2, 2]]))),
        (good.pieces, good.plan._replace(row_start=np.array([[0, 1], [1, 4]]))),
        (good.pieces, good.plan._replace(start=np.array([[0, 0], [0, 2]]))),
        (good.pieces, good.plan._replace(start=np.array([[0, -1], [0, 1]]))),
        (good.pieces, good.plan._replace(shape=np.array([[1, 1], [1, 3]]))),
        ((1, 0), good.plan),
        ((0, 4), good.plan),
        ((0,), good.plan),
        (good.pieces, lists._replace(row_start=np.array([0, 4]))),
        (good.pieces, lists._replace(start=np.array([0, 2]))),
        (good.pieces, lists._replace(spans=np.array([[[0, 1]], [[1, 3]]]))),
        (good.pieces, lists._replace(spans=np.array([[[0, 1]]]))),
    ]
    assert kernels.update_file is not None
    for pieces, plan in wrong:
        with pytest.raises(ValueError):
            kernels.update_file(path, good.layout, pieces, plan, good.values, None, device, 0, 0, False, -1, False, None)
    assert array[:].tolist() == [1] * 16
