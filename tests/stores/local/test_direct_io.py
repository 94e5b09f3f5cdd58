"""Direct I/O: the same bytes as buffered, whatever their size, whatever memory they lie in, whatever the system says."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import pickle
import random
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant.codecs import Crc32c, buffer_pool
from zarrant.config import Config
from zarrant.errors import ByteRangeError, CapabilityError, DataTypeError, LimitError, OptionError, ShapeError, StoreError
from zarrant.storage import ByteRange
from zarrant.stores.local import direct_io
from zarrant.stores.local.direct_io import BLOCK, block_of, runs_of, tried, windows_of
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.memory import MemoryStore
from zarrant.testkit import FaultySyscalls, StoreSuite, content


def possible() -> bool:
    with tempfile.TemporaryDirectory() as place:
        Path(place, "file").write_bytes(b"")
        return tried(Syscalls(), place).startswith("possible")


pytestmark = pytest.mark.skipif(not possible(), reason="the file system of temporary files has no direct I/O")

SIZES = [0, 1, 4095, 4096, 4097, 3 * 4096, (1 << 18) + 1, (10 << 20) + 3]


def address(view: Any) -> int:
    return int(np.frombuffer(view, np.uint8).ctypes.data)


class Layer(Syscalls):
    """Lists direct reads and writes: (offset, [(address, length)]). May refuse them, or do less than asked for."""

    def __init__(self, refuse: str = "", number: int = errno.EINVAL, most: int = 1 << 40) -> None:
        self.refuse, self.number, self.most = refuse, number, most
        self.direct: set[int] = set()
        self.written: list[tuple[int, list[tuple[int, int]]]] = []
        self.read_at: list[tuple[int, int]] = []
        self.places: list[int] = []
        self.buffered = 0

    def close(self, fd: int) -> None:
        self.direct.discard(fd)
        super().close(fd)

    def set_direct(self, fd: int, on: bool) -> None:
        if on and self.refuse == "set_direct":
            raise OSError(self.number, os.strerror(self.number))
        super().set_direct(fd, on)
        (self.direct.add if on else self.direct.discard)(fd)

    def write(self, fd: int, views: Sequence[memoryview], offset: int) -> int:
        if fd not in self.direct:
            self.buffered += 1
            return super().write(fd, views, offset)
        if self.refuse == "write" or (self.refuse == "later" and offset):
            raise OSError(self.number, os.strerror(self.number))
        self.written.append((offset, [(address(view), len(view)) for view in views]))
        assert all(number % BLOCK == 0 for pair in self.written[-1][1] for number in pair)
        if sum(map(len, views)) <= self.most:
            return super().write(fd, views, offset)
        super().set_direct(fd, False)  # so that it can be any number of bytes
        count = super().write(fd, [memoryview(b"".join(views))[: self.most]], offset)
        super().set_direct(fd, True)
        return count

    def read(self, fd: int, view: memoryview, offset: int) -> int:
        if fd not in self.direct:
            return super().read(fd, view, offset)
        if self.refuse == "read":
            raise OSError(self.number, os.strerror(self.number))
        assert address(view) % BLOCK == len(view) % BLOCK == offset % BLOCK == 0
        self.read_at.append((offset, len(view)))
        self.places.append(address(view))
        count = super().read(fd, view, offset)
        return min(count, self.most)


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """What was logged in other tests counts for nothing here."""
    devices: set[int] = set()
    monkeypatch.setattr(direct_io, "_logged_devices", devices)
    return devices


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects of any size go around the page cache, and aligned parts of one block are not copied."""
    monkeypatch.setattr(direct_io, "MIN_BYTES", 1)
    monkeypatch.setattr(direct_io, "MIN_STRAIGHT", BLOCK)


def unaligned(data: bytes) -> memoryview:
    """The same bytes, one byte after the begin of a page."""
    memory = buffer_pool.aligned_empty(len(data) + 1, np.uint8)
    memory[1:] = np.frombuffer(data, np.uint8)
    return memory[1:].data


def aligned(data: bytes) -> memoryview:
    memory = buffer_pool.aligned_empty(len(data), np.uint8)
    memory[:] = np.frombuffer(data, np.uint8)
    return memory.data


class TestDirect(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path, small: None) -> Iterator[FilesystemStore]:
        yield FilesystemStore(tmp_path / "a" / "b", direct_io=True)
        assert [path for path in tmp_path.rglob("*") if ".__" in path.name] == []


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("place", [bytes, aligned, unaligned])
def test_every_size_from_any_memory(tmp_path: Path, small: None, size: int, place: Callable[[bytes], Any]) -> None:
    data = random.Random(size).randbytes(size)
    syscalls = Layer()
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=syscalls)
    version = store.put("a", [place(data)])
    assert (tmp_path / "a").read_bytes() == data
    assert version[3] == size
    assert content(store.get("a")) == data
    if size:
        assert (syscalls.written != [], syscalls.buffered, store.access) == (True, 0, "direct")
    assert store.put("a", [b"short"]) and content(store.get("a")) == b"short"


@pytest.mark.parametrize("seed", range(20))
def test_any_parts_in_any_memory(tmp_path: Path, small: None, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_io, "PIECE", 4 * BLOCK)
    dice = random.Random(seed)
    parts = []
    for _ in range(dice.randrange(1, 12)):
        data = dice.randbytes(dice.choice([0, 1, 100, BLOCK, BLOCK + 1, 3 * BLOCK, 9 * BLOCK - 5]))
        parts.append(dice.choice([bytes, aligned, unaligned])(data))
    whole = b"".join(parts)
    for most in (1 << 40, BLOCK, 5000):
        store = FilesystemStore(tmp_path, direct_io=True, syscalls=Layer(most=most))
        store.put("a", parts)
        assert (tmp_path / "a").read_bytes() == whole
        assert content(store.get("a")) == whole
        cuts = sorted(dice.randrange(len(whole) + 1) for _ in range(8))
        ranges = [ByteRange(low, high - low) for low, high in itertools.pairwise(cuts)]
        dice.shuffle(ranges)
        found = store.get_ranges("a", ranges)
        assert found is not None
        assert [bytes(view) for view in found.data] == [whole[r.start : r.start + r.length] for r in ranges if r.length is not None]
        assert all(view.readonly for view in found.data)


def test_an_aligned_buffer_goes_to_the_disk_untouched(tmp_path: Path) -> None:
    """The system is given the caller's own memory, in one call; of a last block that is not full, a copy, in the same call."""
    syscalls = Layer()
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=syscalls)
    a = zarrant.create_array(store, shape=(4, 1000, 1024), dtype="uint32", chunks=(2, 1000, 1024), compressors=None)
    chunk = zarrant.aligned_empty((2, 1000, 1024), "uint32")
    chunk[...] = np.arange(chunk.size).reshape(chunk.shape)
    a.store_encoded_chunk((1, 0, 0), chunk)
    assert syscalls.written == [(0, [(chunk.ctypes.data, chunk.nbytes)])]
    assert np.array_equal(a[2:], chunk)
    syscalls.written.clear()
    a.store_chunk((0, 0, 0), chunk)
    a[2:] = chunk
    assert syscalls.written == [(0, [(chunk.ctypes.data, chunk.nbytes)])] * 2

    syscalls.written.clear()
    store.put("other", [chunk.reshape(-1).view("uint8")[:-3].data])
    whole = (chunk.nbytes - 3) // BLOCK * BLOCK
    ((offset, pieces),) = syscalls.written
    assert (offset, pieces[0], pieces[1][1]) == (0, (chunk.ctypes.data, whole), BLOCK)
    assert (tmp_path / "other").read_bytes() == chunk.tobytes()[:-3]


@pytest.mark.parametrize("wait", [False, True], ids=["sync", "async"])
def test_whole_uncompressed_chunks_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: bool) -> None:
    """Chunks of a larger array are gathered in aligned memory, from which the disk takes them; a chunk that is aligned, never."""
    copied: list[int] = []
    real = direct_io.runs_of

    def runs(views: Any, piece: Any, block: int) -> Any:
        for run in real(views, piece, block):
            copied.extend(len(view) for view in run if address(view) == piece.ctypes.data)
            yield run

    monkeypatch.setattr(direct_io, "runs_of", runs)
    values = np.arange(512 * 1024, dtype="uint32").reshape(512, 1024)
    options: dict[str, Any] = {"shape": values.shape, "dtype": "uint32", "chunks": (256, 512), "compressors": None}
    syscalls = Layer()
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=syscalls)
    if wait:

        async def write() -> Any:
            a = await zarrant.create_array_async(store, **options)
            await a.store_array_subset(np.s_[:, :], values)
            return await a.retrieve_array_subset(np.s_[:, :])

        found = asyncio.run(write())
    else:
        a = zarrant.create_array(store, **options)
        a[...] = values
        found = a[...]
    assert np.array_equal(found, values)
    assert len(syscalls.written) == 4
    assert copied == []
    assert sorted(length for _, pieces in syscalls.written for _, length in pieces) == [1 << 19] * 4


def test_small_objects_stay_buffered(tmp_path: Path) -> None:
    syscalls = Layer()
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=syscalls)
    store.put("a", [bytes(BLOCK - 1)])
    assert content(store.get("a")) == bytes(BLOCK - 1)
    assert (syscalls.written, syscalls.read_at) == ([], [])


def test_an_updated_shard_is_copied_in_the_kernel(tmp_path: Path) -> None:
    """What stays is copied as ever, what is appended begins anywhere: neither is written directly. It is read directly."""
    syscalls = FaultySyscalls()
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=syscalls)
    a = zarrant.create_array(store, shape=(256, 256), dtype="uint32", chunks=(32, 32), shards=(256, 256), compressors=[Crc32c()])
    values = np.random.default_rng(0).integers(0, 2**32, (256, 256), "uint32")
    syscalls.calls.clear()
    a[...] = values
    assert "set_direct" in syscalls.calls
    syscalls.calls.clear()
    a[40:50, 40:50] = values[40:50, 40:50] = 7
    write = syscalls.calls[syscalls.calls.index("copy") - 1 :]
    assert "set_direct" not in write
    syscalls.calls.clear()
    assert np.array_equal(a[...], values)
    assert "set_direct" in syscalls.calls


def test_a_range_of_an_object_that_is_not_there(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path, direct_io=True)
    with pytest.raises(ByteRangeError):
        store.splice("a", [bytes(10_000), ByteRange(0, 5)], None)
    assert os.listdir(tmp_path) == []


def test_many_at_once(tmp_path: Path) -> None:
    for durability in ("rename", "fsync"):
        syscalls = Layer()
        store = FilesystemStore(tmp_path, direct_io=True, durability=durability, syscalls=syscalls)
        items = [(f"c/{i}", [random.Random(i).randbytes(9000 + i)]) for i in range(7)]
        assert not [outcome for outcome in store.put_all(items) if isinstance(outcome, Exception)]
        assert [content(store.get(key)) for key, _ in items] == [parts[0] for _, parts in items]
        assert len(syscalls.written) == 7


def test_the_disk_has_what_returned(tmp_path: Path) -> None:
    """The file has its size and its time before it is synced, and takes the object's place after that."""
    syscalls = FaultySyscalls()
    store = FilesystemStore(tmp_path, direct_io=True, durability="fsync", syscalls=syscalls)
    store.put("a", [bytes(10_000)])
    syscalls.calls.clear()
    store.put("a", [bytes(10_001)])
    order = [name for name in syscalls.calls if name in ("set_direct", "write", "truncate", "set_mtime", "sync", "rename")]
    assert order == ["set_direct", "write", "truncate", "set_mtime", "sync", "rename", "sync"]


# ── refusals and failures ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS])
@pytest.mark.parametrize("refuse", ["set_direct", "write", "later", "read"])
def test_a_file_system_that_refuses(
    tmp_path: Path, refuse: str, number: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct_io, "PIECE", 2 * BLOCK)
    data = random.Random(0).randbytes(5 * BLOCK + 77)
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=Layer(refuse, number))
    with caplog.at_level(logging.WARNING, "zarrant"):
        for key in ("a", "b"):
            store.put(key, [data])
            assert (tmp_path / key).read_bytes() == data
            assert content(store.get(key)) == data
            found = store.get_ranges(key, [ByteRange(5, 10), ByteRange(9000, 8000)])
            assert found is not None
            assert [bytes(view) for view in found.data] == [data[5:15], data[9000:17000]]
        again = FilesystemStore(tmp_path, direct_io=True, syscalls=Layer(refuse, number))
        again.put("c", [data])
        assert content(again.get("c")) == data
    (record,) = caplog.records
    assert record.name == "zarrant"
    assert store.url in record.message and os.strerror(number) in record.message
    assert store.access == f"buffered: the file system refuses direct I/O ({os.strerror(number)})"
    assert os.strerror(number) in repr(store)
    assert store.direct_io is True


@pytest.mark.parametrize("refuse", ["set_direct", "write", "later"])
def test_other_errors_leave_the_old_object(tmp_path: Path, refuse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct_io, "PIECE", 2 * BLOCK)
    FilesystemStore(tmp_path).put("a", [b"old"])
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=Layer(refuse, errno.ENOSPC))
    with pytest.raises(StoreError) as caught:
        store.put("a", [bytes(5 * BLOCK)])
    assert (caught.value.key, caught.value.errno) == ("a", errno.ENOSPC)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert store.access == "direct"


def test_a_read_that_fails(tmp_path: Path) -> None:
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=Layer("read", errno.EIO))
    store.put("a", [bytes(5 * BLOCK)])
    with pytest.raises(StoreError) as caught:
        store.get("a")
    assert (caught.value.key, caught.value.errno) == ("a", errno.EIO)


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    class Shorter(Layer):
        def read(self, fd: int, view: memoryview, offset: int) -> int:
            os.truncate(tmp_path / "a", 5000)
            return super().read(fd, view, offset)

    store = FilesystemStore(tmp_path, direct_io=True, syscalls=Shorter())
    store.put("a", [bytes(5 * BLOCK)])
    with pytest.raises(ByteRangeError):
        store.get("a")


@given(
    size=st.sampled_from([0, 1, 4095, 4096, 4097, 3 * 4096, 16 * 4096 - 1, 16 * 4096]),
    wanted=st.sampled_from([0, 0, 0, -1, 1, 4096]),
    shift=st.sampled_from([0, 0, 1, 2048, 4096]),
    strided=st.booleans(),
    refuse=st.sampled_from(["", "", "set_direct", "read"]),
    most=st.sampled_from([1 << 40, 1 << 40, 4096, 1000]),
)
def test_an_object_read_to_its_place_is_the_object(
    size: int, wanted: int, shift: int, strided: bool, refuse: str, most: int
) -> None:
    """`get_into` gives what `get` gives, in the array or in memory of its own, and touches nothing beside the array."""
    with tempfile.TemporaryDirectory() as place:
        layer = Layer(refuse, most=most)
        data = random.Random(size).randbytes(size)
        Path(place, "a").write_bytes(data)
        memory = buffer_pool.aligned_empty(3 * (1 << 16), np.uint8)
        memory[...] = 7
        end, step = shift + max(0, size + wanted), 1 + strided
        blob = FilesystemStore(place, direct_io=True, syscalls=layer).get_into(
            "a", memory[shift : shift + step * (end - shift) : step].data, None
        )
        assert blob is not None and blob.size == size
        straight = not blob.data
        assert straight == (size > 0 and size % 4096 == wanted == shift % 4096 == strided == 0 and refuse != "set_direct")
        assert (memory[shift:end].tobytes() if straight else content(blob)) == data
        memory[shift : end if straight else shift] = 7
        assert (memory == 7).all()


def test_an_object_is_read_to_its_place_within_a_limit_only(tmp_path: Path) -> None:
    store, into = FilesystemStore(tmp_path, direct_io=True), buffer_pool.aligned_empty(2 * BLOCK, np.uint8)
    store.put("a", [bytes(2 * BLOCK)])
    with pytest.raises(LimitError):
        store.get_into("a", into.data, 2 * BLOCK - 1)
    assert store.get_into("none", into.data, None) is None


@pytest.mark.parametrize("wait", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("selected", [slice(None), slice(2, 4), slice(3, 4)], ids=str)
def test_whole_uncompressed_chunks_are_read_to_where_they_belong(tmp_path: Path, selected: Any, wait: bool) -> None:
    layer = Layer()
    store = FilesystemStore(tmp_path, direct_io=True, syscalls=layer)
    options: dict[str, Any] = {"shape": (6, 512, 600), "chunks": (1, 512, 600), "compressors": None}
    a = zarrant.create_array(store, dtype="uint16", fill_value=9, config={"concurrency": 2}, **options)
    values = np.random.default_rng(0).integers(0, 1 << 16, (6, 512, 600), "uint16")
    values[5] = 9
    a[:5] = values[:5]  # the last chunk is not stored: it is fill
    out = buffer_pool.aligned_empty(values[selected].shape, "uint16")
    if wait:

        async def read() -> None:
            await (await zarrant.open_array_async(store, mode="r")).retrieve_array_subset(selected, out=out)

        asyncio.run(read())
    else:
        a.retrieve_array_subset(selected, out=out)
    assert np.array_equal(out, values[selected])
    begin, stored, nbytes = address(out), len(values[:5][selected]), values[0].nbytes
    assert sorted(layer.places) == [begin + i * nbytes for i in range(stored)]
    assert np.array_equal(a[selected], values[selected])  # into memory that is not aligned


def test_readers_of_all_kinds_see_the_same(tmp_path: Path) -> None:
    """Buffered readers of direct writes and direct readers of buffered writes, one after the other, on one file."""
    direct, buffered = FilesystemStore(tmp_path, direct_io=True), FilesystemStore(tmp_path)
    dice = random.Random(0)
    for turn in range(20):
        data = dice.randbytes(dice.randrange(BLOCK, 20 * BLOCK))
        (direct if turn % 2 else buffered).put("a", [data])
        assert content(buffered.get("a")) == data == content(direct.get("a")) == (tmp_path / "a").read_bytes()


# ── the option ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_option_in_all_its_places(tmp_path: Path) -> None:
    options: dict[str, Any] = {"shape": (4,), "dtype": "int8"}
    a = zarrant.create_array(tmp_path / "a", config={"direct_io": True}, **options)
    assert a.store == FilesystemStore(tmp_path / "a", direct_io=True) != FilesystemStore(tmp_path / "a")
    assert repr(a.store) == f"FilesystemStore({str(tmp_path / 'a')!r}, locking='auto', direct_io=True)"
    assert pickle.loads(pickle.dumps(a.store)).direct_io
    assert pickle.loads(pickle.dumps(a)).store.direct_io
    assert not a.with_config(direct_io=False).store.direct_io
    assert a.with_config(direct_io=False).with_config(direct_io=True).store.direct_io
    assert a.with_config(concurrency=1).store.direct_io
    assert zarrant.open_array(FilesystemStore(tmp_path / "a"), config=Config(direct_io=True)).store.direct_io
    assert zarrant.open_array(tmp_path / "a", storage_options={"direct_io": True}).store.direct_io
    assert zarrant.open_array(tmp_path / "a", mode="r", config={"direct_io": True}).store.direct_io
    assert zarrant.open_array(tmp_path / "a", mode="r").with_config(direct_io=True).store.direct_io
    assert zarrant.open_array(FilesystemStore(tmp_path / "a", direct_io=True)).store.direct_io
    group = zarrant.create_group(tmp_path / "g", config={"direct_io": True})
    assert group.create_array("b", **options).store.direct_io
    with a.store.lock(["c/0"]) as locked:
        assert locked.direct_io
        locked.put("c/0", [bytes(10_000)])
    assert content(a.store.get("c/0")) == bytes(10_000)
    assert not FilesystemStore(tmp_path).direct_io
    assert FilesystemStore(tmp_path).access == "buffered"


@pytest.mark.parametrize(("cpus", "threads"), [(1, 4), (2, 4), (6, 6)])
def test_a_disk_is_given_more_than_there_are_cpus(tmp_path: Path, cpus: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarrant.nodes.base.available_cpus", lambda: cpus)
    seen: set[int] = set()
    all_in = threading.Barrier(threads)

    class Together(Layer):
        def read(self, fd: int, view: memoryview, offset: int) -> int:
            all_in.wait(20)
            seen.add(threading.get_ident())
            return super().read(fd, view, offset)

    store = FilesystemStore(tmp_path, direct_io=True, syscalls=Together())
    a = zarrant.create_array(store, shape=(2 * threads, 1 << 20), chunks=(1, 1 << 20), dtype="uint8", compressors=None)
    a[...] = 3
    assert (a[...] == 3).all()
    assert len(seen) == threads


def test_an_option_that_means_nothing(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as caught:
        FilesystemStore(tmp_path, direct_io=1)  # type: ignore[arg-type]
    assert caught.value.field == "direct_io"
    for store in ({}, MemoryStore(), "memory://direct"):
        with pytest.raises(CapabilityError, match="direct_io=True"):
            zarrant.create_array(store, shape=(4,), dtype="int8", config={"direct_io": True})
    store = MemoryStore()
    a = zarrant.create_array(store, shape=(4,), dtype="int8")
    with pytest.raises(CapabilityError, match="direct_io=True"):
        a.with_config(direct_io=True)[...]
    with pytest.raises(CapabilityError, match="direct_io=True"):
        zarrant.open_array(store, mode="r", config={"direct_io": True})


# ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("prefers", "block"),
    [(None, 4096), (0, 4096), (512, 4096), (4096, 4096), (16384, 16384), (65536, 65536), (1 << 20, 4096), (5000, 4096)],
)
def test_the_block_of_a_file(prefers: int | None, block: int) -> None:
    assert block_of(SimpleNamespace(st_blksize=prefers)) == block  # type: ignore[arg-type]


def test_the_block_where_the_system_tells_none() -> None:
    assert block_of(os.stat_result((stat.S_IFREG, *[0] * 9))) == BLOCK


@pytest.mark.parametrize("seed", range(30))
def test_windows_are_whole_blocks_around_every_span(seed: int) -> None:
    dice = random.Random(seed)
    spans = [(low, low + dice.choice([0, 1, 50, 5000])) for low in (dice.randrange(60_000) for _ in range(dice.randrange(9)))]
    windows = windows_of(spans, BLOCK)
    touched = {n for low, high in spans if low < high for n in range(low // BLOCK, (high - 1) // BLOCK + 1)}
    covered = [n for low, high in windows for n in range(low // BLOCK, -(-high // BLOCK))]
    assert sorted(touched) == covered
    assert all(low % BLOCK == 0 for low, _ in windows)
    assert all(b[0] > -(-a[1] // BLOCK) * BLOCK for a, b in itertools.pairwise(windows))


def test_padding_is_zeros() -> None:
    piece = buffer_pool.aligned_empty(2 * BLOCK, np.uint8)
    piece[:] = 255
    (run,) = runs_of([memoryview(b"abc")], piece, BLOCK)
    assert bytes(run[0]) == b"abc" + bytes(BLOCK - 3)


@pytest.mark.parametrize("dtype", ["uint8", "float64", "complex128", "datetime64[s]", "U5", [("a", "i2"), ("b", "f8")]])
@pytest.mark.parametrize("shape", [(), 0, 7, (3, 5), (0, 4), (1000, 1001)])
def test_aligned_arrays(shape: Any, dtype: Any) -> None:
    a = zarrant.aligned_empty(shape, dtype)
    model = np.empty(shape, dtype)
    assert (a.shape, a.dtype, a.flags.c_contiguous) == (model.shape, model.dtype, True)
    assert a.strides == model.strides or a.size == 0
    assert a.flags.writeable
    assert a.ctypes.data % BLOCK == 0 or a.size == 0
    b = zarrant.aligned_empty(shape, dtype)
    assert a.size == 0 or abs(a.ctypes.data - b.ctypes.data) >= -(-a.nbytes // BLOCK) * BLOCK


@pytest.mark.parametrize("shape", [-1, (2, -3), (2.5,), 2.5, "ab", None, (None,), (2**60,), (2**40, 2**40)], ids=str)
def test_what_is_no_shape_is_refused(shape: Any) -> None:
    with pytest.raises(ShapeError):
        zarrant.aligned_empty(shape, "float64")
    with pytest.raises(DataTypeError, match="not a data type"):
        zarrant.aligned_empty(4, "float65")
    assert zarrant.aligned_empty(np.int64(5), "float64").shape == (5,)
    assert zarrant.aligned_empty([np.int64(5), 2], "float64").shape == (5, 2)
    assert zarrant.aligned_empty(np.array([5, 2]), "float64").shape == (5, 2)  # type: ignore[arg-type]


def test_arrays_of_python_objects_are_refused() -> None:
    with pytest.raises(DataTypeError, match="Python objects"):
        zarrant.aligned_empty((3,), object)
