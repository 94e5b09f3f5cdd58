"""A read of files as one compiled call: the same file calls as the general way, and the same outcome, also where one fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarrant
from open_files import open_below
from zarrant import kernels
from zarrant.codecs.buffer_pool import MIN_KEPT_BLOCK_BYTES, lent
from zarrant.errors import LimitError, StoreError, VersionChangedError, ZarrantError
from zarrant.storage import Blob, ByteRange
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.testkit.faulty_files import FaultySyscalls

pytestmark = pytest.mark.skipif(kernels.read_files is None, reason="without the compiled call there is one way only")

OLD = 1_600_000_000


def both(root: Path) -> Iterator[tuple[FilesystemStore, FaultySyscalls]]:
    """A store that reads at once, and one that goes the general way."""
    syscalls = FaultySyscalls()
    yield FilesystemStore(root), syscalls
    yield FilesystemStore(root, syscalls=syscalls), syscalls


def outcome(blob: Any) -> Any:
    """All that is told of a read, in a form that can be compared."""
    if isinstance(blob, Blob):
        return (
            [bytes(view) for view in blob.data],
            [view.readonly for view in blob.data],
            blob.version,
            type(blob.version),
            blob.size,
        )
    return (type(blob), str(blob)) if isinstance(blob, Exception) else blob


def tried(act: Any) -> Any:
    try:
        return outcome(act())
    except Exception as error:
        return outcome(error)


def read_trial(paths: list[str], limit: int = -1, fail: int = -1) -> tuple[list[Any], list[str]]:
    trial: list[Any] = [fail]
    assert kernels.read_files is not None
    return kernels.read_files(paths, limit, True, lent, trial), trial[1:]


def range_trial(path: str, ranges: list[ByteRange], version: Any = None, fail: int = -1) -> tuple[Any, list[str]]:
    trial: list[Any] = [fail]
    assert kernels.read_ranges is not None
    return kernels.read_ranges(path, ranges, version, True, lent, trial), trial[1:]


def calls_of(root: Path, act: Any) -> list[str]:
    """The file calls of a store that goes the general way."""
    syscalls = FaultySyscalls()
    slow = FilesystemStore(root, syscalls=syscalls)
    syscalls.calls.clear()
    act(slow)
    return [call for call in syscalls.calls if call not in ("stat", "stat_target")]  # of directories: once a second, by the caller


RANGES = [
    [ByteRange(0, 3)],
    [ByteRange(2, 3), ByteRange(5, 2), ByteRange(0, 1)],
    [ByteRange(-4, None)],
    [ByteRange(3, None), ByteRange(0, 0)],
]


@pytest.mark.parametrize("data", [b"0123456789", b""], ids=["bytes", "nothing in it"])
def test_the_calls_of_a_whole_read_are_those_of_the_general_way(tmp_path: Path, data: bytes) -> None:
    version = FilesystemStore(tmp_path).put("k", [data])
    ((view, found),), calls = read_trial([f"{tmp_path}/k"])
    assert (bytes(view), found) == (data, version)
    assert calls == calls_of(tmp_path, lambda store: store.get("k"))
    assert calls_of(tmp_path, lambda store: store.get("none")) == read_trial([f"{tmp_path}/none"])[1]


@pytest.mark.parametrize("ranges", RANGES)
def test_the_calls_of_ranges_are_those_of_the_general_way(tmp_path: Path, ranges: list[ByteRange]) -> None:
    version = FilesystemStore(tmp_path).put("k", [b"0123456789"])
    (views, found), calls = range_trial(f"{tmp_path}/k", ranges, version)
    assert [len(view) for view in views] and found == version
    assert calls == calls_of(tmp_path, lambda store: store.get_ranges("k", ranges, version))


def test_a_call_that_fails_is_left_to_the_general_way(tmp_path: Path) -> None:
    FilesystemStore(tmp_path).put("k", [b"0123456789"])
    path, calls = f"{tmp_path}/k", 3
    for number in range(calls):
        assert read_trial([path], fail=number)[0] == [None]
        assert range_trial(path, [ByteRange(0, 3)], fail=number)[0] is None
    assert open_below(tmp_path) == set()


def test_many_files_are_read_with_few_open_at_once(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    keys = [f"c/{i}" for i in range(200)]
    for i, key in enumerate(keys):
        if i % 7:
            store.put(key, [bytes([i]) * i])
    found, calls = read_trial([f"{tmp_path}/{key}" for key in keys])
    assert [each and bytes(each[0]) for each in found] == [bytes([i]) * i if i % 7 else False for i in range(200)]
    opened = most = 0
    for call in calls:
        opened += (call == "fstat") - (call == "close")
        most = max(most, opened)
    assert opened == 0 and most <= 64
    assert [outcome(blob) for blob in store.get_all(keys, 200)] == [
        tried(lambda key=key: store.get_within(key, 200)) for key in keys
    ]


SIZES = {"empty": 0, "tiny": 5, "small": 1 << 16, "over": (1 << 16) + 1, "large": 1 << 19}


@pytest.fixture(scope="module")
def sized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the sizes, in two directories."""
    root = tmp_path_factory.mktemp("sized")
    store = FilesystemStore(root)
    for directory in ("c", "d/e"):
        for number, (name, size) in enumerate(SIZES.items()):
            store.put(f"{directory}/{name}", [bytes([number]) * size])
            os.utime(root / directory / name, (OLD, OLD)) if number % 2 else None
        os.symlink("tiny", root / directory / "link")
    return root


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.lists(
        st.tuples(st.sampled_from(["c", "d/e", "none", "c/tiny"]), st.sampled_from([*SIZES, "link", "none"])),
        min_size=1,
        max_size=90,
    ),
    in_memory=st.booleans(),
    limit=st.sampled_from([None, 5, 1 << 18]),
    often=st.sampled_from([1, 3]),
)
def test_many_files_are_equal_to_one_by_one(sized: Path, keys: Any, in_memory: bool, limit: int | None, often: int) -> None:
    """Small files are read and closed as they come, large ones stay open, whatever comes after what."""
    store = FilesystemStore(sized)
    store.in_memory = in_memory
    names = [f"{directory}/{name}" for directory, name in keys] * often
    expected = {name: tried(lambda name=name: FilesystemStore(sized)._get(name, limit)) for name in set(names)}
    found = store.get_all(names, limit)
    assert [outcome(blob) for blob in found] == [expected[name] for name in names]
    assert open_below(sized) == set()


def strange(root: Path) -> list[str]:
    """Keys of what is no usual file."""
    store = FilesystemStore(root, follow_symlinks="files")
    store.put("d/k", [b"0123456789"])
    store.put("d/empty", [b""])
    store.put("d/old", [b"old"])
    os.utime(root / "d/old", (OLD, OLD))
    os.symlink(root / "d/k", root / "d/link")
    os.symlink(root / "nowhere", root / "d/dangling")
    os.symlink(root.parent, root / "out")
    os.mkdir(root / "d/dir")
    os.mkfifo(root / "d/fifo")
    return ["d/k", "d/empty", "d/old", "d/link", "d/dangling", "out/x", "d/dir", "d/fifo", "d/none", "d/k/none", "none/k", "d/__x"]


def test_whole_files_are_equal_to_the_general_way(tmp_path: Path) -> None:
    keys = strange(tmp_path / "s")
    for limit in (None, 0, 9, 10):
        for key in keys:
            fast, slow = (tried(lambda store=store, key=key: store._get(key, limit)) for store, _ in both(tmp_path / "s"))  # noqa: B023
            assert fast == slow, (key, limit)
        fast, slow = ([outcome(blob) for blob in store.get_all(keys, limit)] for store, _ in both(tmp_path / "s"))
        assert fast == slow


def test_what_is_too_large_is_not_read(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("k", [b"0123456789"])
    with pytest.raises(LimitError, match="too large"):
        store.get_within("k", 9)
    assert isinstance(store.get_all(["k", "k"], 9)[0], LimitError)
    assert read_trial([f"{tmp_path}/k"], 9) == ([None], ["open", "fstat", "close"])


class Decoder:
    """Notes of which files it was told, and decodes none of them."""

    whole = True

    def __init__(self, versions: list[Any]) -> None:
        self.found, self.limit, self.worked = versions, 0, 0

    def reader(self, paths: list[str], limit: int, kind: Any) -> Any:
        self.limit = limit
        return self

    def threads(self, rows: int) -> int:
        return rows

    def work(self) -> None:
        self.worked += 1

    def versions(self) -> list[Any]:
        return self.found


def test_what_is_too_large_is_not_decoded(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(bytes(10))
    decoder = Decoder([None])
    for store in both(tmp_path):
        found = store[0].get_decoded(["k"], 9, decoder, lambda work, threads: work())
        assert isinstance(found[0], LimitError)
    assert (decoder.limit, decoder.worked) == (9, 1)


def test_what_a_decoder_did_not_do_is_read(tmp_path: Path) -> None:
    for key in "ab":
        (tmp_path / key).write_bytes(key.encode())
    store, asked = FilesystemStore(tmp_path), list[int]()
    state = os.stat(tmp_path / "a")
    version = (state.st_dev, state.st_ino, state.st_mtime_ns, state.st_size)
    decoder = Decoder([version, None, False])
    found = store.get_decoded(["a", "b", "c"], None, decoder, lambda work, threads: asked.append(threads))
    assert outcome(found[0]) == ([], [], version, type(found[0].version), 1)
    assert (outcome(found[1]), found[2], asked) == (outcome(store.get("b")), None, [3])


SHAPE = (40, 90, 70)
CODECS: dict[str, list[Any]] = {
    "zstd": [zarrant.codecs.Zstd(1)],
    "blosc, crc32c": [zarrant.codecs.Blosc("lz4", clevel=5, shuffle="shuffle"), zarrant.codecs.Crc32c()],
}


@pytest.fixture(scope="module", params=CODECS)
def chunks(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """An array in 18 chunks of 42 kB, of which one is absent, one damaged, and one a link; and what is right."""
    path = tmp_path_factory.mktemp("chunks") / "a"
    values = np.random.default_rng(5).integers(1, 99, SHAPE, dtype="u2")
    zarrant.create_array(path, data=values, chunks=(20, 30, 35), compressors=CODECS[request.param], fill_value=7)
    files = path / "c"
    os.unlink(files / "0/2/0")
    values[:20, 60:, :35] = 7
    os.truncate(files / "1/2/1", os.stat(files / "1/2/1").st_size - 9)
    os.rename(files / "1/0/1", path / "elsewhere")
    os.symlink(path / "elsewhere", files / "1/0/1")
    return path, values


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), missing=st.sampled_from(["fill", "fill", "error"]))
def test_a_box_is_equal_to_the_general_way(chunks: tuple[Path, Any], data: st.DataObject, missing: Any) -> None:
    """Also where a chunk is absent or damaged: the same elements, or the same error."""
    path, values = chunks
    low = [data.draw(st.integers(0, side - 1)) for side in SHAPE]
    box = tuple(slice(a, data.draw(st.integers(a + 1, side))) for a, side in zip(low, SHAPE, strict=True))
    found = []
    for store, _ in both(path):
        array = zarrant.open_array(store, mode=data.draw(st.sampled_from(["r", "r+"])), config={"missing_chunks": missing})
        try:
            found.append(array[box].tolist())
        except ZarrantError as error:
            found.append((type(error), str(error).replace(repr(store), "the store")))
    assert found[0] == found[1]
    assert isinstance(found[0], tuple) or np.array_equal(found[0], values[box])


def test_a_box_is_decoded_as_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a handle that reads only, too; what is small or kept is read as before."""
    values = np.random.default_rng(5).integers(1, 99, SHAPE, dtype="u2")
    zarrant.create_array(tmp_path, data=values, chunks=(20, 30, 35), compressors=zarrant.codecs.Zstd(1))
    used = []
    get_decoded = FilesystemStore.get_decoded
    monkeypatch.setattr(
        FilesystemStore, "get_decoded", lambda store, keys, *rest: used.append(keys) or get_decoded(store, keys, *rest)
    )
    for mode in ("r", "r+"):
        array = zarrant.open_array(tmp_path, mode=mode)
        assert np.array_equal(array[5:35, 10:80, 5:60], values[5:35, 10:80, 5:60])
        assert np.array_equal(array[5:25, 10:20, 5:60], values[5:25, 10:20, 5:60])
    assert [len(keys) for keys in used] == [12, 12]
    assert np.array_equal(zarrant.open_array(tmp_path, config={"cache": "8MiB"})[5:35, 10:80], values[5:35, 10:80])
    assert len(used) == 2


def test_a_range_of_another_version_is_not_read(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    old = store.put("k", [b"0123456789"])
    store.put("k", [b"9876543210"])
    with pytest.raises(VersionChangedError):
        store.get_ranges("k", [ByteRange(0, 3)], old)
    with pytest.raises(ZarrantError):
        store.get_ranges("k", [ByteRange(0, 3)], "a version of another store")
    with pytest.raises(VersionChangedError):
        store.get_ranges("none", [ByteRange(0, 3)], old)


def test_a_version_is_lasting_only_after_a_while(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("k", [b"1"])
    if not store.files.kind(tmp_path.stat().st_dev):
        pytest.skip("not a file system of this machine alone")
    for age, lasting in ((-100, False), (200, True)):
        os.utime(tmp_path / "k", (os.stat(tmp_path / "k").st_mtime - age,) * 2)
        for blob in (store.get("k"), store.get_ranges("k", [ByteRange(0, 1)]), store.get_all(["k", "k"], None)[1]):
            assert isinstance(blob, Blob)
            assert getattr(blob.version, "lasting", False) is lasting


PARTS = st.lists(st.builds(ByteRange, st.integers(-12, 12), st.none() | st.integers(0, 12)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=PARTS, size=st.sampled_from([0, 1, 10]), version=st.sampled_from(["any", "right", "wrong"]), key=st.sampled_from("kn"))
def test_ranges_are_equal_to_the_general_way(tmp_path: Path, parts: list[ByteRange], size: int, version: str, key: str) -> None:
    right: Any = FilesystemStore(tmp_path).put("k", [bytes(range(size))])
    wanted = {"any": None, "right": right, "wrong": (*right[:3], right[3] + 1)}[version]
    fast, slow = (tried(lambda store=store: store.get_ranges(key, parts, wanted)) for store, _ in both(tmp_path))
    assert fast == slow


def test_it_is_used_where_it_may_be(tmp_path: Path) -> None:
    class Other(Syscalls):
        pass

    assert FilesystemStore(tmp_path)._reads_at_once
    assert not FilesystemStore(tmp_path, direct_io=True)._reads_at_once
    assert not FilesystemStore(tmp_path, syscalls=Other())._reads_at_once


def test_an_item_that_fails_does_not_fail_the_others(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("a", [b"1"])
    os.mkdir(tmp_path / "dir")
    first, second, third = store.get_all(["a", "dir", "none"], 5)
    assert isinstance(first, Blob) and isinstance(second, StoreError) and third is None
    assert second.key == "dir"


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_what_is_large_is_read_into_memory_that_was_used_before(tmp_path: Path, more: int) -> None:
    size = MIN_KEPT_BLOCK_BYTES + more
    data = os.urandom(size + 7)
    FilesystemStore(tmp_path).put("k", [data])
    os.utime(tmp_path / "k", (OLD, OLD))
    ranges = [ByteRange(7, size - 3), ByteRange(0, 3)]
    at_once, general = ([outcome(store.get("k")), outcome(store.get_ranges("k", ranges, None))] for store, _ in both(tmp_path))
    assert at_once == general and at_once[0][0] == [data] and b"".join(at_once[1][0]) == data[7 : size + 4] + data[:3]
    asked: list[int] = []
    assert kernels.read_ranges is not None
    views, _ = kernels.read_ranges(f"{tmp_path}/k", ranges, None, True, lambda n: asked.append(n) or lent(n), None)
    assert [bytes(view) for view in views] == at_once[1][0] and asked == [size] * (more >= 0)


def test_memory_of_another_length_is_refused(tmp_path: Path) -> None:
    FilesystemStore(tmp_path).put("k", [bytes(MIN_KEPT_BLOCK_BYTES)])
    assert kernels.read_files is not None
    with pytest.raises(ValueError, match="of the length asked for"):
        kernels.read_files([f"{tmp_path}/k"], -1, True, lambda n: bytearray(n - 1), None)
    with pytest.raises(ValueError, match="writable"):
        kernels.read_files([f"{tmp_path}/k"], -1, True, bytes, None)


@pytest.mark.parametrize(
    "view",
    [np.s_[:, :, 1:], np.s_[::-1, :, ::3], np.s_[:, ::2], np.s_[:], np.s_[1:2, 3:4, 5:6]],
    ids=["inner", "backwards", "second", "all", "one"],
)
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 0, 2)], ids=str)
def test_a_file_is_read_into_an_array_piece_by_piece(tmp_path: Path, view: Any, axes: tuple[int, ...]) -> None:
    store = FilesystemStore(tmp_path)
    around = np.zeros((3, 300, 401), np.uint16)
    place = around[view].transpose(axes)
    values = np.random.default_rng(0).integers(1, 2**16, place.shape, np.uint16)
    version = store.put("k", [values.tobytes()])
    blob = store.get_into("k", place.data, None)
    assert blob is not None and (blob.data, blob.version, blob.size) == ((), version, values.nbytes)
    assert np.array_equal(place, values) and np.count_nonzero(around) == values.size


def test_what_cannot_be_read_into_an_array_is_read_as_any_other(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path)
    store.put("k", [b"0123456789"])
    os.symlink("k", tmp_path / "link")
    place = np.zeros((5, 4), np.uint8)[:, ::2]
    for key, array in (("k", place[1:]), ("link", place)):
        found = store.get_into(key, array.data, 10)
        assert found is not None and bytes(found.data[0]) == b"0123456789" and not place.any()
    assert store.get_into("none", place.data, None) is None
    with pytest.raises(LimitError):
        store.get_into("k", place[1:].data, 9)
    assert kernels.read_into is not None
    calls: list[Any] = [-1]
    assert kernels.read_into(f"{tmp_path}/k", place, calls) == store.version("k")
    assert place.tobytes() == b"0123456789" and calls[1:] == read_trial([f"{tmp_path}/k"])[1]
    for number in range(len(calls) - 2):
        assert kernels.read_into(f"{tmp_path}/k", place, [number]) is None
    with pytest.raises(ValueError, match="writable"):
        kernels.read_into(f"{tmp_path}/k", b"0123456789", None)


def test_looks_at_several_files_are_those_at_each(tmp_path: Path) -> None:
    """Versions without a byte read; what is no plain file, or not there, is left to the general way."""
    for fast, _ in [*both(tmp_path / "s")][:1]:
        for key in ("a", "b/c/d", "b/e"):
            fast.put(key, [b"x" * 70])
    os.utime(tmp_path / "s" / "a", ns=(OLD * 10**9, OLD * 10**9))
    (tmp_path / "s" / "dir").mkdir()
    (tmp_path / "s" / "link").symlink_to("a")
    os.mkfifo(tmp_path / "s" / "fifo")
    keys = ["a", "none", "b/c/d", "dir", "b/e", "fifo", "link", "none/none"]
    looked, general = (
        [outcome(each) for each in store.get_decoded(keys, None, kernels.file_looks, lambda work, threads: work())]
        for store, _ in both(tmp_path / "s")
    )
    assert general == [None] * len(keys)
    for key, found in zip(keys, looked, strict=True):
        if key in ("a", "b/c/d", "b/e"):
            assert [found, found] == [outcome(store.get_ranges(key, ())) for store, _ in both(tmp_path / "s")]
        else:
            assert found is None
