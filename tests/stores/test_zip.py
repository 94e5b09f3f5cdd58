"""Archives: what every store promises, the layout of what is written, kills, and other libraries' archives."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from open_files import open_below
from zarrant.errors import CapabilityError, LockTimeout, NodeNotFoundError, OptionError, StoreError, ZarrantWarning
from zarrant.storage import ByteRange, capabilities
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import Recording
from zarrant.stores.zip_store import ZipStore
from zarrant.testkit import StoreSuite, content

VALUES = np.arange(60, dtype="<i4").reshape(6, 10)


class TestArchiveThatIsWritten(StoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ZipStore]:
        store = ZipStore(tmp_path / "a.zip", "w")
        yield store
        store.close()
        with zipfile.ZipFile(tmp_path / "a.zip") as archive:
            assert archive.testzip() is None
            assert sorted(archive.namelist()) == list(store.list_prefix(""))


class TestArchiveThatIsAddedTo(TestArchiveThatIsWritten):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[ZipStore]:
        ZipStore(tmp_path / "a.zip", "w").close()
        with ZipStore(tmp_path / "a.zip", "a") as store:
            yield store


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An archive with a group and two arrays, one of them in shards."""
    path = tmp_path / "image.ozx"
    with ZipStore(path, "w") as store:
        group = zarrant.create_group(store, attributes={"ome": {"version": "0.5"}})
        group.create_array("labels/1", data=VALUES, chunks=(2, 4), shards=(4, 8))
        group.create_array("0", data=VALUES, chunks=(3, 5))
    return path


def test_layout_of_rfc_9(image: Path) -> None:
    with zipfile.ZipFile(image) as archive:
        names = archive.namelist()
        infos = archive.infolist()
        assert json.loads(archive.comment) == {"ome": {"version": "0.5", "zipFile": {"centralDirectory": {"jsonFirst": True}}}}
        assert archive.testzip() is None
    documents = ["zarr.json", "0/zarr.json", "labels/zarr.json", "labels/1/zarr.json"]
    assert names[:4] == documents
    assert [info.filename for info in sorted(infos, key=lambda info: info.header_offset)][:4] == documents
    assert {(info.compress_type, info.date_time, info.external_attr >> 16) for info in infos} == {
        (0, (1980, 1, 1, 0, 0, 0), 0o100644)
    }
    data = image.read_bytes()
    assert data.startswith(b"PK\3\4") and b"PK\6\6" in data and b"PK\6\7" in data
    assert sorted(os.listdir(image.parent)) == ["image.ozx"]


def test_equal_contents_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.zip", "b.zip"):
        with ZipStore(tmp_path / name, "w") as store:
            zarrant.create_array(store, data=VALUES, chunks=(3, 5), config={"concurrency": 1})
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def test_by_path_url_and_store(image: Path) -> None:
    data = {"some/image.zip": image.read_bytes()}
    stores = (
        str(image),
        image,
        image.as_uri(),
        f"zip://{image}",
        ZipStore(image),
        ZipStore(MemoryStore(data), key="some/image.zip"),
    )
    for store in stores:
        group = zarrant.open(store, mode="r")
        assert sorted(group) == ["0", "labels"]
        assert np.array_equal(group["0"][...], VALUES)
        assert np.array_equal(group["labels/1"][1:5, 3:9], VALUES[1:5, 3:9])
    assert np.array_equal(zarrant.open_array(f"zip://labels/1::{image}", mode="r")[...], VALUES)
    MemoryStore.named("zips").put("some/image.zip", [image.read_bytes()])
    for url in ("memory://zips/some/image.zip", "zip://::memory://zips/some/image.zip"):
        assert np.array_equal(zarrant.open_array(url, name="0", mode="r")[...], VALUES)


def test_a_directory_of_that_name_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()
    zarrant.create_array(tmp_path / "a.zip", data=VALUES)
    assert (tmp_path / "a.zip" / "zarr.json").is_file()


def test_a_path_is_for_reading(image: Path, tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="ZipStore"):
        zarrant.create_array(tmp_path / "new.ozx", data=VALUES)
    with pytest.raises(CapabilityError, match="ZipStore"):
        zarrant.open_array(image, name="0")[0] = 1
    with pytest.raises(NodeNotFoundError):
        zarrant.open(tmp_path / "none.zip")
    assert sorted(os.listdir(tmp_path)) == ["image.ozx"]


def test_each_read_is_one_call(image: Path) -> None:
    recording = Recording(MemoryStore({"z": image.read_bytes()}))
    array = zarrant.open_array(ZipStore(recording, key="z"), name="0", mode="r")
    keys = list(ZipStore(image).list_prefix("0/c/"))
    recording.calls.clear()
    assert np.array_equal(array[...], VALUES)
    assert [call.method for call in recording.calls] == ["get_ranges"] * len(keys)


def test_ranges_read_no_more_than_they_must(image: Path) -> None:
    recording = Recording(MemoryStore({"z": image.read_bytes()}))
    store = ZipStore(recording, key="z")
    whole = content(store.get("0/c/0/0"))
    assert whole is not None
    recording.calls.clear()
    assert content(store.get_ranges("0/c/0/0", [ByteRange(3, 4), ByteRange.suffix(2)])) == whole[3:7] + whole[-2:]
    ((method, _, ranges, _),) = recording.calls
    assert method == "get_ranges" and [wanted.length for wanted in ranges or ()] == [4, 2]


def test_objects_can_be_replaced_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path, "w") as store:
        array = zarrant.create_array(store, shape=(6, 10), dtype="<i4", chunks=(4, 4))
        for row in range(6):
            array[row] = VALUES[row]
        array.append(VALUES)
        array.update_attributes({"a": 1})
        assert np.array_equal(array[...], np.concatenate([VALUES, VALUES]))
        once = 12 * 12 * 4
    assert np.array_equal(array[...], np.concatenate([VALUES, VALUES])), "the handle reads on after the archive was published"
    again = zarrant.open_array(path, mode="r")
    assert (again.shape, dict(again.attrs)) == ((12, 10), {"a": 1})
    assert np.array_equal(again[...], np.concatenate([VALUES, VALUES]))
    assert path.stat().st_size < once + 6000, "what was replaced takes no space"


def test_more_metadata_than_room(tmp_path: Path) -> None:
    with ZipStore(tmp_path / "a.zip", "w") as store:
        group = zarrant.create_group(store, attributes={"much": "x" * 100_000})
        group.create_array("a", data=VALUES)
    assert np.array_equal(zarrant.open_array(tmp_path / "a.zip", name="a", mode="r")[...], VALUES)
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None and archive.infolist()[0].header_offset == 0


@pytest.mark.parametrize("spare", [0, 1, 5, 6, 7])
def test_metadata_that_fill_the_reserved_bytes(tmp_path: Path, spare: int) -> None:
    from zarrant.stores.zip_format import local_size
    from zarrant.stores.zip_writer import RESERVED_BYTES

    with ZipStore(tmp_path / "a.zip", "w") as store:
        store.put("zarr.json", [bytes(RESERVED_BYTES - local_size("zarr.json") - spare)])
        store.put("c", [b"chunk"])
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None and archive.read("c") == b"chunk"
    assert content(ZipStore(tmp_path / "a.zip").get("c")) == b"chunk"


def test_adding(image: Path) -> None:
    with ZipStore(image, "a") as store:
        group = zarrant.open_group(store)
        group.create_array("labels/2", data=VALUES + 1, chunks=(3, 5))
        with pytest.raises(CapabilityError, match="cannot be replaced") as caught:
            group["0"][0, 0] = 5
        assert "0/c/0/0" in str(caught.value) and 'mode="w"' in str(caught.value)
        with pytest.raises(CapabilityError, match="cannot be replaced"):
            group["0"].update_attributes({"a": 1})
        with pytest.raises(CapabilityError, match="cannot be replaced"):
            store.erase_prefix("")
        assert list(zarrant.open(image, mode="r")["labels"]) == ["1"], "nothing is seen before the end"
    with zipfile.ZipFile(image) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[:5] == [
            "zarr.json",
            "0/zarr.json",
            "labels/zarr.json",
            "labels/1/zarr.json",
            "labels/2/zarr.json",
        ]
        assert b"jsonFirst" in archive.comment
    group = zarrant.open(image, mode="r")
    for name, values in {"0": VALUES, "labels/1": VALUES, "labels/2": VALUES + 1}.items():
        assert np.array_equal(group[name][...], values)


def test_adding_to_an_archive_of_zipfile(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.comment = b"a comment"
        archive.writestr("a/", b"")
        archive.writestr("a/big", b"0123456789" * 1000)
        archive.writestr("a/plain", b"abc", zipfile.ZIP_STORED)
        archive.writestr("a/zarr.json", b"{}")
    with ZipStore(path, "a") as store:
        assert content(store.get_ranges("a/big", [ByteRange(5, 10)])) == b"5678901234"
        store.put("b", [b"new"])
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None and archive.comment == b"a comment"
        assert {name: archive.read(name) for name in archive.namelist()} == {
            "a/zarr.json": b"{}", "a/big": b"0123456789" * 1000, "a/plain": b"abc", "b": b"new"
        }  # fmt: skip
        assert archive.getinfo("a/big").compress_type == zipfile.ZIP_DEFLATED


def test_an_error_in_the_block_publishes_nothing(image: Path, tmp_path: Path) -> None:
    before = image.read_bytes()
    for mode, path in (("w", tmp_path / "new.zip"), ("w", image), ("a", image)):
        with pytest.raises(KeyError), ZipStore(path, mode) as store:
            store.put("x", [b"y"])
            raise KeyError("mine")
        with pytest.raises(CapabilityError):
            store.put("x", [b"y"])
    assert image.read_bytes() == before
    assert os.listdir(tmp_path) == ["image.ozx"]


def test_a_writer_that_is_forgotten_says_so(tmp_path: Path) -> None:
    store: Any = ZipStore(tmp_path / "a.zip", "w")
    with pytest.warns(ZarrantWarning, match="never closed"):
        del store
    assert os.listdir(tmp_path) == []


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with ZipStore(path, "w") as store:
        with pytest.raises(LockTimeout) as caught:
            ZipStore(path, "a")
        assert caught.value.store == path.as_uri()
        store.put("a", [b"1"])
    with ZipStore(path, "a") as store:
        store.put("b", [b"2"])
    assert list(ZipStore(path).list_prefix("")) == ["a", "b"]


WRITERS = """
import os, signal, sys
import numpy as np, zarrant
from zarrant.stores.local.syscalls import Syscalls
from zarrant.stores.zip_store import ZipStore
mode, *paths = sys.argv[1:]
calls = kill_at = 0
def counted(name):
    method = getattr(Syscalls, name)
    def call(self, *args):
        global calls
        calls += 1
        if calls == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *args)
    return call
for name in ("write", "copy", "truncate", "sync", "rename", "unlink", "close"):
    setattr(Syscalls, name, counted(name))
def write(path):
    with ZipStore(path, mode) as store:
        array = zarrant.create_array(store, name="new", data=np.arange(100), chunks=30, config={"concurrency": 1})
        array[:10] = 7
for path in paths:
    pid, kill_at = os.fork(), int(os.path.basename(os.path.dirname(path)))
    if not pid:
        write(path)
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
"""


def test_an_archive_is_on_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("write", "truncate", "sync", "rename"):
        real = getattr(Syscalls, name)

        def call(self: Syscalls, *args: Any, name: str = name, real: Any = real) -> Any:
            calls.append(name)
            return real(self, *args)

        monkeypatch.setattr(Syscalls, name, call)
    with ZipStore(tmp_path / "a.zip", "w") as store:
        zarrant.create_array(store, name="a", data=VALUES)
    assert calls[-4:] == ["truncate", "sync", "rename", "sync"]


@pytest.mark.parametrize("mode", ["w", "a"])
def test_a_killed_writer_leaves_the_old_archive(tmp_path: Path, mode: str) -> None:
    """Writers that are killed right before one of their calls of the system."""
    first = tmp_path / "old.zip"
    with ZipStore(first, "w") as store:
        zarrant.create_array(store, name="old", data=VALUES)
    paths = [tmp_path / str(kill_at) / "a.zip" for kill_at in (1, 4, 8, *range(11, 17), 19, 22, *range(25, 31), 60)]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(first.read_bytes())
    done = subprocess.run([sys.executable, "-c", WRITERS, mode, *map(str, paths)], capture_output=True, text=True, check=True)
    seen = set()
    for path, status in zip(paths, done.stdout.split(), strict=True):
        published, killed = path.read_bytes() != first.read_bytes(), int(status) == signal.SIGKILL
        assert published or killed
        group = zarrant.open_group(path, mode="r")
        assert set(group) == ({"old"} if not published else {"new"} if mode == "w" else {"old", "new"})
        for name in group:
            assert np.array_equal(group[name][...], VALUES if name == "old" else np.r_[[7] * 10, 10:100])
        assert {name[len("a.zip") :] for name in os.listdir(path.parent)} <= ({"", ".__writing", ".__copy"} if killed else {""})
        with ZipStore(path, "a") as store:
            store.put("more", [b"1"])
            store.put("more", [b"2"])
        assert os.listdir(path.parent) == ["a.zip"]
        seen.add((published, killed))
    assert {(False, True), (True, False)} <= seen


FAILING = ("open", "write", "copy", "truncate", "sync", "rename", "lock", "fstat")


@pytest.mark.parametrize("mode", ["w", "a"])
def test_failing_calls_of_the_system(image: Path, monkeypatch: pytest.MonkeyPatch, mode: Any) -> None:
    """Each call fails once: the old archive or the new one is there, no other file, and no descriptor stays open."""
    before, failures = image.read_bytes(), 0
    for name in FAILING:
        original = getattr(Syscalls, name)
        for number in (1, 2, 3, 5, 8, 13):
            count = 0

            def fails(self: Any, *args: Any, original: Any = original, number: int = number) -> Any:
                nonlocal count
                count += 1
                if count == number:
                    raise OSError(errno.ENOSPC, "no space left on device")
                return original(self, *args)

            image.write_bytes(before)
            before_it = open_below(image.parent)
            with monkeypatch.context() as patch:
                patch.setattr(Syscalls, name, fails)
                try:
                    with ZipStore(image, mode) as store:
                        store.put("new/zarr.json", [b"{}"])
                        store.put("new/c/0", [b"chunk"])
                        store.put("new/c/0", [b"other chunk"])
                except StoreError as error:
                    failures += 1
                    assert error.store is not None
            found = content(ZipStore(image).get("new/c/0"))
            assert found == b"other chunk" or (found is None and image.read_bytes() == before)
            assert set(os.listdir(image.parent)) <= {"image.ozx", "image.ozx.__writing"}, "one temp file, which the next takes over"
            assert open_below(image.parent) == before_it
    with ZipStore(image, mode) as store:
        store.put("x", [b"y"])
    assert os.listdir(image.parent) == ["image.ozx"]
    assert failures > 10


def test_other_processes_cannot_write(tmp_path: Path) -> None:
    store = ZipStore(tmp_path / "a.zip", "w")
    with pytest.raises(CapabilityError, match="one process"):
        pickle.dumps(store)
    pid = os.fork()
    if not pid:
        try:
            store.put("a", [b"1"])
        except StoreError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    store.close()


def test_a_reader_can_be_pickled(image: Path) -> None:
    store = pickle.loads(pickle.dumps(ZipStore(image)))
    assert store == ZipStore(image) and hash(store) == hash(ZipStore(image))
    assert np.array_equal(zarrant.open_array(store, name="0", mode="r")[...], VALUES)


def test_a_reader_goes_over_to_the_new_archive(image: Path) -> None:
    array = zarrant.open_array(ZipStore(image), name="0", mode="r")
    assert array[0, 0] == 0
    with ZipStore(image, "w") as store:
        zarrant.create_array(store, name="0", data=VALUES + 5, chunks=(3, 5))
    assert array[0, 0] == 5


def test_async(image: Path) -> None:
    async def read() -> None:
        array = await zarrant.open_array_async(image, name="labels/1", mode="r")
        assert np.array_equal(await array.retrieve_array_subset((slice(1, 4), slice(None))), VALUES[1:4])

    asyncio.run(read())


def test_what_it_can_do(image: Path, tmp_path: Path) -> None:
    able = capabilities(ZipStore(image))
    assert able.names == ("get", "get_within", "list", "version")
    assert ZipStore(image).guard == "read only"
    with ZipStore(tmp_path / "b.zip", "w") as store:
        assert "put_if" in capabilities(store).names and not capabilities(store).async_calls.get
        assert "closed" in store.guard


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("a.zip", "x"), "unknown mode"),
        (("a.zip", "r", {"duplicates": "first"}), "unknown duplicates"),
        (("a.zip", "r", {"key": "k"}), "a path has no keys"),
        ((MemoryStore(),), "the key of an archive"),
        ((5,), "not an archive"),
        (("s3://bucket/a.ozx", "w"), "a URL is not the path of an archive"),
        ((MemoryStore(), "w", {"key": "k"}), "written to a path"),
        ((MemoryStore(), "r", {"key": "../k"}), "not a key"),
    ],
)
def test_bad_calls(args: tuple[Any, ...], text: str) -> None:
    options = args[2] if len(args) == 3 else {}
    with pytest.raises(OptionError, match=text):
        ZipStore(*args[:2], **options)


def test_zarr_python_reads_what_we_write(image: Path) -> None:
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(zarr.storage.ZipStore(image, mode="r"), mode="r")
    assert group.attrs["ome"] == {"version": "0.5"}
    for name in ("0", "labels/1"):
        assert np.array_equal(group[name][...], VALUES)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_we_read_what_zarr_python_writes(tmp_path: Path, zarr_format: int) -> None:
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "theirs.zip"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = zarr.storage.ZipStore(path, mode="w")
        group = zarr.create_group(store, zarr_format=zarr_format)
        array = group.create_array("a", shape=VALUES.shape, dtype="<i4", chunks=(3, 5))
        array[...] = VALUES
        store.close()
    group = zarrant.open_group(path, mode="r", storage_options={"duplicates": "last"})
    assert np.array_equal(group["a"][...], VALUES)
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            assert content(ZipStore(path, duplicates="last").get(name)) == archive.read(name)
