"""A disk that refuses: no permission, read-only, full. The error says which file; what was stored stays; nothing is left over."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import PartialFailure, StoreError, StoreFullError, StorePermissionError
from zarrant.stores.local.store import FilesystemStore

S = np.s_
SHAPE = (16, 16)
OTHER = np.random.default_rng(5).integers(0, 2**31, SHAPE).astype("int32")
CALLS: dict[str, Callable[[Any], object]] = {
    "store_chunk": lambda a: a.store_chunk((0, 0), 5),
    "store_encoded_chunk": lambda a: a.store_encoded_chunk((0, 0), b"bytes"),
    "store_chunk_subset": lambda a: a.store_chunk_subset((0, 0), S[1:3, 1:3], 5),
    "store_array_subset": lambda a: a.store_array_subset(S[1:3, 1:7], 5),
}
ERASING: dict[str, Callable[[Any], object]] = {
    "erase_chunk": lambda a: a.erase_chunk((0, 0)),
    "store_chunk of fill": lambda a: a.store_chunk((0, 0), 0),
}


def make(path: Path, syscalls: Any, shards: Any) -> Any:
    store = FilesystemStore(path, syscalls=syscalls)
    a = zarrant.create_array(store, shape=SHAPE, dtype="int32", chunks=(4, 4) if shards else (8, 8), shards=shards, fill_value=0)
    a[...] = np.arange(256).reshape(SHAPE) + 1
    return a


FULL = ((errno.ENOSPC, StoreFullError), (errno.EDQUOT, StoreFullError))
DENIED = ((errno.EACCES, StorePermissionError), (errno.EROFS, StorePermissionError), (errno.EPERM, StorePermissionError))


@pytest.mark.parametrize("shards", [None, (8, 8)])
@pytest.mark.parametrize("name", [*CALLS, *ERASING])
@pytest.mark.parametrize(("number", "kind"), DENIED)
def test_read_only(tmp_path: Path, refused: Any, refusing: Any, number: int, kind: Any, name: str, shards: Any) -> None:
    syscalls = refusing(number, ("create", "mkdir", "rename", "unlink"))
    a = make(tmp_path / "a", syscalls, shards)
    before = a[...]
    syscalls.armed = True
    with refused(tmp_path, kind, "c/0/0", os.strerror(number), "a", key="c/0/0") as caught:
        {**CALLS, **ERASING}[name](a)
    assert caught[0].errno == number
    assert isinstance(caught[0], PermissionError)
    assert np.array_equal(a[...], before)
    syscalls.armed = False
    a[...] = 7
    assert (a[...] == 7).all()


@pytest.mark.parametrize("shards", [None, (8, 8)])
@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("step", ["create", "write", "rename", "copy"])
@pytest.mark.parametrize(("number", "kind"), FULL)
def test_full(tmp_path: Path, refused: Any, refusing: Any, number: int, kind: Any, step: str, name: str, shards: Any) -> None:
    if step == "copy" and (shards is None or not name.endswith("subset")):
        pytest.skip("nothing is copied")
    syscalls = refusing(number, (step,))
    a = make(tmp_path / "a", syscalls, shards)
    before = a[...]
    syscalls.armed = True
    for _ in range(3):
        with refused(tmp_path, kind, "c/0/0", os.strerror(number), key="c/0/0") as caught:
            CALLS[name](a)
        assert caught[0].errno == number
        assert isinstance(caught[0], OSError)
    assert np.array_equal(a[...], before)
    syscalls.armed = False
    a[...] = OTHER
    assert np.array_equal(a[...], OTHER)


@pytest.mark.parametrize("step", ["truncate", "set_mtime", "write", "rename"])
def test_an_input_output_error(tmp_path: Path, refused: Any, refusing: Any, step: str) -> None:
    syscalls = refusing(errno.EIO, (step,))
    a = make(tmp_path / "a", syscalls, None)
    if step == "truncate":
        (tmp_path / "a" / "c" / "0" / "0.__lock").write_bytes(b"left by a killed writer")
        syscalls.armed = True
        with pytest.raises(StoreError, match="c/0/0") as caught:
            a.store_chunk((0, 0), 5)
        assert caught.value.errno == errno.EIO
        syscalls.armed = False
        a.store_chunk((0, 0), 5)
        assert sorted(os.listdir(tmp_path / "a" / "c" / "0")) == ["0", "1"]
        return
    syscalls.armed = True
    with refused(tmp_path, StoreError, "c/0/0", os.strerror(errno.EIO), key="c/0/0"):
        a.store_chunk((0, 0), 5)


@pytest.mark.parametrize("shards", [None, (8, 8)])
@pytest.mark.parametrize("region", [S[:, :], S[1:15, 1:15]])
def test_one_chunk_of_four(tmp_path: Path, refusing: Any, holds: Any, shards: Any, region: Any) -> None:
    """The others are stored and listed; the one that failed is as it was."""
    syscalls = refusing(errno.ENOSPC, ("write",), part="c/1/0")
    a = make(tmp_path / "a", syscalls, shards)
    before, stored = holds(tmp_path), a[...]
    syscalls.armed = True
    with pytest.raises(PartialFailure, match=r"1 chunk\(s\) failed, 3 stored.*c/1/0") as caught:
        a[region] = OTHER[region]
    error = caught.value
    assert list(error.failed) == [(1, 0)]
    assert type(error.failed[(1, 0)]) is StoreFullError
    assert error.failed[(1, 0)].key == "c/1/0"
    assert error.failed[(1, 0)].chunk == (1, 0)
    assert sorted(error.stored) == [(0, 0), (0, 1), (1, 1)]
    assert (error.__cause__, error.blame, error.store) == (error.failed[(1, 0)], "store", a.url)
    after = holds(tmp_path)
    assert set(after) == set(before)
    assert {name for name in after if after[name] != before[name]} == {"a/c/0/0", "a/c/0/1", "a/c/1/1"}
    expected = stored.copy()
    expected[region] = OTHER[region]
    expected[8:, :8] = stored[8:, :8]
    assert np.array_equal(a[...], expected)


def test_creating_where_nothing_may_be_written(tmp_path: Path, refused: Any, refusing: Any) -> None:
    for number, kind in (*DENIED, *FULL):
        syscalls = refusing(number, ("create", "mkdir"))
        syscalls.armed = True
        with refused(tmp_path, kind, "zarr.json", os.strerror(number), "new", key="zarr.json"):
            zarrant.create_array(FilesystemStore(tmp_path / "new", syscalls=syscalls), shape=(3,), dtype="int8")


def test_attributes_on_a_full_disk(tmp_path: Path, refused: Any, refusing: Any) -> None:
    syscalls = refusing(errno.ENOSPC, ("write",))
    a = make(tmp_path / "a", syscalls, None)
    syscalls.armed = True
    with refused(tmp_path, StoreFullError, "zarr.json", key="zarr.json"):
        a.attrs["x"] = 1
    assert "x" not in a.attrs


def test_reading_what_may_not_be_read(tmp_path: Path, refused: Any, refusing: Any) -> None:
    syscalls = refusing(errno.EACCES, ("open",), part="c/0/1")
    a = make(tmp_path / "a", syscalls, None)
    syscalls.armed = True
    with refused(tmp_path, StorePermissionError, "c/0/1", os.strerror(errno.EACCES), key="c/0/1", chunk=(0, 1)):
        a[...]
    assert a[0, 0] == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission(tmp_path: Path, refused: Any) -> None:
    a = make(tmp_path / "a", None, None)
    (tmp_path / "a" / "c" / "0").chmod(0o555)
    try:
        with refused(tmp_path, StorePermissionError, "c/0/0", key="c/0/0"):
            a.store_chunk((0, 0), 5)
    finally:
        (tmp_path / "a" / "c" / "0").chmod(0o755)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"no small disk: {error}")
    if mounted.returncode:
        pytest.skip(f"no small disk: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("shards", [None, (128, 128)])
def test_a_disk_that_is_really_full(small_disk: Path, refused: Any, holds: Any, shards: Any) -> None:
    a = zarrant.create_array(small_disk / "a", shape=(512, 128), dtype="int32", chunks=(32, 128) if shards else (128, 128),
                             shards=shards, compressors=None)  # fmt: skip
    noise = np.random.default_rng(0).integers(1, 2**30, (512, 128)).astype("int32")
    a[0:128] = noise[0:128]
    with pytest.raises(PartialFailure, match="No space left") as caught:
        a.with_config(concurrency=1).store_chunks(S[0:4, 0:1], noise)  # two that fail together may fit alone
    failed = caught.value.failed
    assert failed
    assert {type(error) for error in failed.values()} == {StoreFullError}
    assert sorted([*failed, *caught.value.stored]) == [(i, 0) for i in range(4)]
    assert not [name for name in holds(small_disk) if name.endswith("__lock")]
    expected = np.zeros_like(noise)
    for i, _ in [*caught.value.stored, (0, 0)]:
        expected[128 * i : 128 * (i + 1)] = noise[128 * i : 128 * (i + 1)]
    assert np.array_equal(a[...], expected)
    for _ in range(5):
        for i, _ in failed:
            with refused(small_disk, StoreFullError, f"c/{i}/0", "No space left", key=f"c/{i}/0"):
                a.store_chunk((i, 0), noise[128 * i : 128 * (i + 1)])
    for chunk in caught.value.stored[1:]:
        a.erase_chunk(chunk)
    first = next(iter(failed))[0]
    a.store_chunk((first, 0), noise[128 * first : 128 * (first + 1)])
    assert np.array_equal(a.retrieve_chunk((first, 0)), noise[128 * first : 128 * (first + 1)])
