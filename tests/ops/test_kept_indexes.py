"""Indexes of shards that a handle keeps: a read is one request, and never of an index that is out of date."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from servers import Proxy, Server, start_proxy
from zarrant.errors import ChunkMissingError
from zarrant.stores.local.store import FilesystemStore
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.local.temp_files import LASTING_AFTER_NS
from zarrant.stores.objects.versions import ObjectVersion

DATA = np.arange(1, 257, dtype="int32").reshape(16, 16)


@pytest.fixture
def proxy(moto: Server) -> Iterator[Proxy]:
    with start_proxy(moto) as proxy:
        yield proxy


@pytest.fixture
def array(proxy: Proxy) -> Any:
    url = proxy.server.fresh_url()
    zarrant.create_array(url, data=DATA, chunks=(4, 4), shards=(16, 16), storage_options=proxy.server.storage_options)
    return zarrant.open_array(url, mode="r+", storage_options=proxy.server.storage_options)


@pytest.fixture
def asked(proxy: Proxy) -> Callable[[], list[str]]:
    def take() -> list[str]:
        methods = [request.method for request in proxy.requests]
        proxy.requests.clear()
        return methods

    return take


def test_the_index_is_read_once(array: Any, asked: Callable[[], list[str]]) -> None:
    asked()
    assert (array[0:4, 0:4] == DATA[0:4, 0:4]).all()
    assert asked() == ["GET", "GET"]
    assert (array[4:8, 4:8] == DATA[4:8, 4:8]).all()
    assert asked() == ["GET"]
    assert (array[5, 5], array[0:4, 4:12].shape) == (DATA[5, 5], (4, 8))
    assert asked() == ["GET", "GET"]


def test_a_replaced_shard_is_read_with_its_own_index(array: Any, asked: Callable[[], list[str]]) -> None:
    other = zarrant.open_array(array.url, mode="r+", storage_options=array.store._options)
    assert array[0, 0] == 1
    for value in (7, 8, 9):
        other[0:16, 0:16] = np.random.default_rng(value).integers(0, 1 << 20, (16, 16))  # of other sizes
        other[0:4, 0:4] = value
        asked()
        assert (array[0:4, 0:4] == value).all()
        assert asked() == ["GET", "GET", "GET"]  # the data of the old one is refused
        assert (array[0:4, 0:4] == value).all()
        assert asked() == ["GET"]


def test_what_is_not_stored_in_a_shard_is_asked_for(array: Any, asked: Callable[[], list[str]]) -> None:
    other = zarrant.open_array(array.url, mode="r+", storage_options=array.store._options)
    other[0:4, 0:4] = 0
    assert array[0, 0] == 0
    asked()
    assert array[1, 1] == 0
    assert asked() == ["HEAD"]
    other[0:4, 0:4] = 5
    assert array[1, 1] == 5


def test_a_shard_that_was_erased(array: Any) -> None:
    other = zarrant.open_array(array.url, mode="r+", storage_options=array.store._options)
    strict = array.with_config(missing_chunks="error")
    assert array[0, 0] == strict[0, 0] == 1
    other.erase_chunk((0, 0))
    assert array[0, 0] == 0
    with pytest.raises(ChunkMissingError):
        strict[4, 4]


def test_a_whole_shard_is_one_request(array: Any, asked: Callable[[], list[str]]) -> None:
    asked()
    assert (array[...] == DATA).all()
    assert asked() == ["GET"]


def test_only_what_has_the_same_bytes_for_good_is_kept() -> None:
    tagged, weak, dated = ObjectVersion("a"), ObjectVersion('W/"a"'), ObjectVersion.of({"last_modified": 1, "size": 2})
    assert (tagged.lasting, weak.lasting, dated.lasting) == (True, False, False)


class Files(Syscalls):
    """Files of a file system of this machine, by a clock that is set."""

    def __init__(self) -> None:
        self.ahead = 0

    def kind(self, device: int) -> str:
        return "disk"

    def now(self) -> int:
        return super().now() + self.ahead


def test_the_index_of_a_file_is_kept_once_a_write_in_place_would_show(tmp_path: Path) -> None:
    files = Files()
    array = zarrant.create_array(FilesystemStore(tmp_path, syscalls=files), data=DATA, chunks=(4, 4), shards=(16, 16))
    assert array[0, 0] == 1
    assert array._array.indexes._kept == {}  # just written: the same inode, size and mtime may get other bytes
    files.ahead = 2 * LASTING_AFTER_NS
    assert array[0, 0] == 1
    assert list(array._array.indexes._kept) == ["c/0/0"]
    assert (array[4:8, 4:12] == DATA[4:8, 4:12]).all()
    array[...] = DATA[::-1]
    assert (array[0:4, 0:4] == DATA[::-1][0:4, 0:4]).all()
    path, shard = tmp_path / "c/0/0", (tmp_path / "c/0/0").read_bytes()
    zarrant.create_array(tmp_path / "other", data=DATA + 7, chunks=(4, 4), shards=(16, 16))
    assert (array[0:4, 0:4] == DATA[::-1][0:4, 0:4]).all()
    with path.open("r+b") as file:  # another program writes into the file
        file.write((tmp_path / "other/c/0/0").read_bytes())
        file.truncate()
    assert array[0, 0] == 8
    path.write_bytes(shard)
    assert (array[...] == DATA[::-1]).all()


def test_the_index_of_a_file_of_another_machine_is_not_kept(tmp_path: Path) -> None:
    files = Syscalls()
    files.kind = lambda device: ""  # type: ignore[method-assign]
    array = zarrant.create_array(FilesystemStore(tmp_path, syscalls=files), data=DATA, chunks=(4, 4), shards=(16, 16))
    os.utime(tmp_path / "c/0/0", ns=(1, 1))
    assert array[0, 0] == 1
    assert array._array.indexes._kept == {}
