"""`check` and `repair`: what is torn is named, what is whole is kept, and zarr-python reads the result."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.codecs import Bytes, Crc32c, Gzip, ShardingIndexed, Transpose
from zarrant.codecs.chain import chain_of
from zarrant.errors import ChunkError, ConflictError, NodeNotFoundError, OptionError, PartialFailure, StoreError
from zarrant.locking.file_locks import CREATED_HEADER
from zarrant.stores.local.syscalls import Syscalls
from zarrant.tools.check import check
from zarrant.tools.repair import repair

INDEX = chain_of([Bytes(), Crc32c()])
VALUES = np.arange(16 * 16, dtype="int32").reshape(16, 16) + 1


def sharding(shape: tuple[int, ...], *inner: Any, at: str = "end") -> ShardingIndexed:
    return ShardingIndexed(shape, chain_of(list(inner) or [Bytes(), Crc32c()]), INDEX, at)


LAYOUTS: dict[str, Any] = {
    "flat": sharding((2, 2)),
    "index first": sharding((2, 2), at="start"),
    "compressed": sharding((2, 2), Bytes(), Gzip(), Crc32c()),
    "transposed": sharding((2, 2), Transpose((1, 0)), Bytes(), Crc32c()),
    "nested": sharding((4, 4), sharding((2, 2))),
    "nested, index first": sharding((4, 4), sharding((2, 2), at="start"), at="start"),
}


def make(path: Path, layout: str = "flat", **options: Any) -> Any:
    a = zarrant.create_array(path, data=VALUES, chunks=(8, 8), serializer=LAYOUTS[layout], compressors=None, **options)
    assert check(path, deep=True).clean
    return a


def kinds(report: Any) -> list[str]:
    return [finding.kind for finding in report.findings]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


def files_of(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def entries(a: Any, chunk: tuple[int, ...]) -> np.ndarray:
    """The index of a shard, as its file has it."""
    shard = a._array.prepared_for(a.write_unit)
    data = memoryview(Path(a.store.root, a.chunk_key(chunk)).read_bytes())
    return shard.decode_index(data[: shard.index_size] if shard.at_start else data[-shard.index_size :])


def write_entries(a: Any, chunk: tuple[int, ...], table: np.ndarray) -> None:
    """Forge the index of a shard, checksum and all."""
    from zarrant.codecs.sharding.format import Index

    shard, path = a._array.prepared_for(a.write_unit), Path(a.store.root, a.chunk_key(chunk))
    index = Index(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64))
    encoded, data = bytes(shard.encode_index(index)), path.read_bytes()
    path.write_bytes(encoded + data[len(encoded) :] if shard.at_start else data[: -len(encoded)] + encoded)


# ── what is found ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_sound_array_is_clean(layout: str, tmp_path: Path) -> None:
    a = make(tmp_path / "a", layout)
    before = files_of(tmp_path)
    report = check(tmp_path / "a", deep=True)
    assert (report.arrays, report.objects, report.findings, report.dead_bytes) == (1, 4, (), 0)
    assert report.stored_bytes == sum(a.chunk_stats(chunk).stored for chunk in a.iter_chunks())
    assert files_of(tmp_path) == before


@pytest.mark.parametrize("cut", [1, 3, 4, 30, 60, 200, 10_000])
@pytest.mark.parametrize("layout", ["flat", "nested"])
def test_a_torn_tail_leaves_nothing_to_find(layout: str, cut: int, tmp_path: Path) -> None:
    make(tmp_path / "a", layout)
    path = tmp_path / "a/c/0/1"
    data = path.read_bytes()
    path.write_bytes(data[: max(0, len(data) - cut)])
    (finding,) = check(tmp_path / "a").findings
    assert (finding.kind, finding.key, finding.chunk, finding.severity, finding.repairable) == (
        "index",
        "c/0/1",
        (0, 1),
        "error",
        False,
    )
    before = files_of(tmp_path / "a")
    report = repair(tmp_path / "a", apply=True, deep=True)
    assert report.actions == ()
    assert report.backup is None
    assert not report.clean
    assert files_of(tmp_path / "a") == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_flipped_bit_is_found_by_a_deep_check(layout: str, tmp_path: Path) -> None:
    make(tmp_path / "a", layout)
    path = tmp_path / "a/c/1/0"
    size = path.stat().st_size
    for at in range(0, size, 37):
        flip(path, at)
        report = check(tmp_path / "a", deep=True)
        assert not report.clean, at
        assert {(finding.key, finding.chunk) for finding in report.findings} == {("c/1/0", (1, 0))}
        flip(path, at)
    assert check(tmp_path / "a", deep=True).clean


def test_whole_chunks_are_looked_at_too(tmp_path: Path) -> None:
    a = zarrant.create_array(tmp_path / "a", data=VALUES, chunks=(8, 8), compressors=None)
    path = tmp_path / "a/c/0/0"
    whole = path.read_bytes()
    for data in (whole[:-1], whole + b"tail", b""):
        path.write_bytes(data)
        for deep in (False, True):
            (finding,) = check(tmp_path / "a", deep=deep).findings
            assert (finding.kind, finding.repairable) == ("chunk" if deep else "size", False)
    path.unlink()
    path.mkdir()
    assert check(tmp_path / "a").clean  # a directory is no object
    b = zarrant.create_array(tmp_path / "b", data=VALUES, chunks=(8, 8), compressors=[Gzip(), Crc32c()])
    assert b.nchunks == a.nchunks
    flip(tmp_path / "b/c/1/1", 20)
    assert check(tmp_path / "b").clean
    assert kinds(check(tmp_path / "b", deep=True)) == ["chunk"]


def test_keys_that_are_no_chunks_or_outside(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    (tmp_path / "a/c/7").mkdir()
    (tmp_path / "a/c/7/0").write_bytes(b"old")
    (tmp_path / "a/notes.txt").write_text("mine")
    report = check(tmp_path / "a")
    assert [(finding.kind, finding.key, finding.severity) for finding in report.findings] == [
        ("orphan", "c/7/0", "warning"),
        ("stranger", "notes.txt", "warning"),
    ]
    assert repair(tmp_path / "a", apply=True).actions == ()
    done = repair(tmp_path / "a", apply=True, orphans=True)
    assert [(action.what, action.key, action.outcome) for action in done.actions] == [("erase", "c/7/0", "done")]
    assert not (tmp_path / "a/c/7/0").exists()
    assert (Path(done.backup) / "c/7/0").read_bytes() == b"old"
    assert (tmp_path / "a/notes.txt").exists()
    assert np.array_equal(a[...], VALUES)


def test_an_orphan_that_an_appender_is_about_to_show_stays(tmp_path: Path) -> None:
    """The array grows between the check and the repair."""
    from zarrant.ops.verify import erase_orphan, object_version

    a = make(tmp_path / "a")
    (tmp_path / "a/c/2").mkdir()
    (tmp_path / "a/c/2/0").write_bytes((tmp_path / "a/c/0/0").read_bytes())
    state, place = a._array, a._context
    version, _ = place.run(object_version("c/2/0"), ("get",))
    with pytest.raises(ConflictError):  # not the object that was copied
        place.run(erase_orphan(state, (2, 0), (0, 0, 0, 0)), ("get", "put", "erase"))
    document = json.loads((tmp_path / "a/zarr.json").read_text())
    (tmp_path / "a/zarr.json").write_text(json.dumps({**document, "shape": [24, 16]}))
    assert place.run(erase_orphan(state, (2, 0), version), ("get", "put", "erase")) is False
    assert (tmp_path / "a/c/2/0").exists()


def test_broken_documents_and_groups(tmp_path: Path) -> None:
    g = zarrant.create_group(tmp_path / "g")
    for name in ("a", "b", "deep/c"):
        g.create_array(name, data=VALUES, chunks=(4, 4), shards=(8, 8))
    assert check(tmp_path / "g").arrays == 3
    text = (tmp_path / "g/b/zarr.json").read_text()
    (tmp_path / "g/b/zarr.json").write_text(text[:100])
    (tmp_path / "g/deep/c/zarr.json").write_text(text.replace('"bytes"', '"no such codec"'))
    (tmp_path / "g/a/c/0/0").write_bytes(b"x")
    report = check(tmp_path / "g")
    assert [(finding.kind, finding.key) for finding in report.findings] == [
        ("index", "a/c/0/0"),
        ("metadata", "b/zarr.json"),
        ("unsupported", "deep/c/zarr.json"),
    ]
    with pytest.raises(NodeNotFoundError):
        check(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_dead_bytes_are_summed_and_much_of_them_noted(tmp_path: Path) -> None:
    a = make(tmp_path / "a", config={"dead_limit": 1.0})
    for _ in range(40):
        a[:2, :2] = np.random.default_rng(1).integers(1, 9, (2, 2))
    report = check(tmp_path / "a")
    assert report.clean
    assert report.dead_bytes == a.chunk_stats((0, 0)).dead == 40 * 20
    assert kinds(report) == ["dead bytes"]


# ── salvage ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def readable(path: Path, expected: np.ndarray) -> None:
    zarr = pytest.importorskip("zarr")
    assert np.array_equal(zarrant.open_array(path, mode="r")[...], expected)
    assert np.array_equal(zarr.open_array(path, mode="r")[...], expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_subchunks_that_do_not_decode_are_dropped_and_all_others_stay(layout: str, tmp_path: Path) -> None:
    a = make(tmp_path / "a", layout)
    shard = a._array.prepared_for(a.write_unit)
    first = shard.index_size if shard.at_start else 0
    if layout.startswith("nested"):
        first += shard.subchunk_pipeline.index_size if shard.subchunk_pipeline.at_start else 0
    flip(tmp_path / "a/c/0/1", first + 3)  # the first subchunk of that shard
    torn = (tmp_path / "a/c/0/1").read_bytes()
    with pytest.raises(ChunkError):
        a[...]
    planned = repair(tmp_path / "a", deep=True)
    assert [(action.what, action.outcome) for action in planned.actions] == [("salvage", "planned")]
    assert (tmp_path / "a/c/0/1").read_bytes() == torn
    done = repair(tmp_path / "a", deep=True, apply=True)
    assert [(action.what, action.key, action.outcome) for action in done.actions] == [("salvage", "c/0/1", "done")]
    assert done.clean
    expected = VALUES.copy()
    expected[0:2, 8:10] = 0
    readable(tmp_path / "a", expected)
    assert (Path(done.backup) / "c/0/1").read_bytes() == torn
    assert Path(done.backup).parent == tmp_path
    assert len((tmp_path / "a/c/0/1").read_bytes()) == len(torn) or layout.startswith("nested")
    again = repair(tmp_path / "a", deep=True, apply=True)
    assert (again.actions, again.backup, again.clean) == ((), None, True)


@pytest.mark.parametrize("layout", ["flat", "index first"])
@pytest.mark.parametrize(
    ("forge", "lost"),
    [
        (lambda table: table.__setitem__((2, 0), 2**40), [2]),
        (lambda table: table.__setitem__((5, 1), 2**62), [5]),
        (lambda table: table.__setitem__((1, 0), 2**64 - 1), [1]),
        (lambda table: table.__setitem__((3, 1), 7), [3]),
        (lambda table: table.__setitem__((slice(4), 0), 2**63 - 1), [0, 1, 2, 3]),
    ],
)
def test_entries_that_cannot_be_are_dropped(layout: str, forge: Callable[[Any], None], lost: list[int], tmp_path: Path) -> None:
    a = make(tmp_path / "a", layout)
    table = entries(a, (1, 1))
    forge(table)
    write_entries(a, (1, 1), table)
    report = check(tmp_path / "a")
    assert kinds(report) == ["entry"] * len(lost)
    assert all(finding.repairable for finding in report.findings)
    done = repair(tmp_path / "a", apply=True)
    assert done.clean
    expected = VALUES.copy()
    for row in lost:
        r, c = 8 + 2 * (row // 4), 8 + 2 * (row % 4)
        expected[r : r + 2, c : c + 2] = 0
    readable(tmp_path / "a", expected)


def test_a_cut_shard_whose_index_comes_first_keeps_what_is_left(tmp_path: Path) -> None:
    make(tmp_path / "a", "index first")
    path = tmp_path / "a/c/0/0"
    path.write_bytes(path.read_bytes()[:-30])  # the last subchunk, and half of the one before
    assert kinds(check(tmp_path / "a")) == ["entry", "entry"]
    assert repair(tmp_path / "a", apply=True).clean
    expected = VALUES.copy()
    expected[6:8, 4:8] = 0
    readable(tmp_path / "a", expected)


def test_overlaps_are_settled_only_where_decoding_tells(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    table = entries(a, (0, 0))
    table[1, 0] = table[0, 0] + 4  # shares 16 bytes with subchunk 0 and is none itself
    write_entries(a, (0, 0), table)
    (finding,) = check(tmp_path / "a").findings
    assert (finding.kind, finding.repairable) == ("overlap", False)
    before = files_of(tmp_path / "a")
    assert repair(tmp_path / "a", apply=True).actions == ()
    assert files_of(tmp_path / "a") == before
    assert repair(tmp_path / "a", apply=True, deep=True).clean
    expected = VALUES.copy()
    expected[0:2, 2:4] = 0
    readable(tmp_path / "a", expected)


def test_an_entry_that_reaches_over_many_is_dropped_alone(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    table = entries(a, (0, 0))
    table[0, 1] = table[3].sum() - table[0, 0]
    write_entries(a, (0, 0), table)
    (finding,) = check(tmp_path / "a").findings
    assert (finding.kind, finding.repairable) == ("entry", True)
    assert "(0, 0) reaches over several other subchunks" in finding.detail
    assert repair(tmp_path / "a", apply=True).clean
    expected = VALUES.copy()
    expected[0:2, 0:2] = 0
    readable(tmp_path / "a", expected)


def test_two_subchunks_of_the_same_bytes_are_not_judged(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    table = entries(a, (0, 0))
    table[1] = table[0]
    write_entries(a, (0, 0), table)
    report = repair(tmp_path / "a", apply=True, deep=True)
    assert (report.actions, report.clean) == ((), False)


def test_a_shard_of_which_nothing_is_left_is_not_turned_into_fill(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    table = entries(a, (0, 0))
    table[:, 0] = 2**40
    write_entries(a, (0, 0), table)
    before = files_of(tmp_path / "a")
    report = repair(tmp_path / "a", apply=True, deep=True)
    assert not any(finding.repairable for finding in report.before.findings)
    assert report.actions == ()
    assert files_of(tmp_path / "a") == before
    with pytest.raises((ChunkError, PartialFailure)):
        a[:8, :8]


def test_a_thousand_faults_are_told_briefly_and_all_mended(tmp_path: Path) -> None:
    values = np.arange(1, 4097, dtype="int16")
    a = zarrant.create_array(tmp_path / "a", data=values, chunks=(2,), shards=(4096,), compressors=None)
    table = entries(a, (0,))
    table[100:2000, 0] = 2**50
    write_entries(a, (0,), table)
    report = repair(tmp_path / "a", apply=True)
    assert len(report.before.findings) == 101
    assert report.before.findings[-1].detail == "and 1800 more subchunks"
    values[200:4000] = 0
    readable(tmp_path / "a", values)


def test_an_object_that_was_replaced_meanwhile_is_left_alone(tmp_path: Path) -> None:
    from zarrant.ops.verify import drop_corrupt_subchunks, verify

    a = make(tmp_path / "a")
    flip(tmp_path / "a/c/0/0", 3)
    seen = a._context.run(verify(a._array, (0, 0), True), ("get",))
    (tmp_path / "a/c/0/0").write_bytes((tmp_path / "a/c/0/0").read_bytes())
    os.utime(tmp_path / "a/c/0/0", ns=(1, 1))
    before = files_of(tmp_path / "a")
    with pytest.raises(ConflictError):
        a._context.run(drop_corrupt_subchunks(a._array, (0, 0), seen.version, True), ("get", "put", "erase"))
    assert files_of(tmp_path / "a") == before


def test_nothing_is_replaced_without_a_copy(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    flip(tmp_path / "a/c/0/0", 3)
    before = files_of(tmp_path / "a")
    (tmp_path / "file").write_text("in the way")
    report = repair(tmp_path / "a", apply=True, deep=True, backup=tmp_path / "file")
    assert [action.outcome for action in report.actions] == ["failed"]
    assert files_of(tmp_path / "a") == before
    objects = {key: (tmp_path / "a" / key).read_bytes() for key in before}
    torn = dict(objects)
    with pytest.raises(OptionError) as caught:
        repair(objects, apply=True, deep=True)
    assert (caught.value.field, objects) == ("backup", torn)
    done = repair(objects, apply=True, deep=True, backup=tmp_path / "copies")
    assert done.clean
    assert (tmp_path / "copies/c/0/0").read_bytes() == torn["c/0/0"]
    assert a.shape == (16, 16)


# ── leftovers ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_leftovers_of_killed_writers_are_found_and_removed(tmp_path: Path) -> None:
    make(tmp_path / "a")
    whole = files_of(tmp_path / "a")
    (tmp_path / "a/c/0/0.__lock").touch()
    (tmp_path / "a/c/0/1.__lock").write_bytes(b"half a value of TensorStore")
    (tmp_path / "a/c/0/1.__new.__lock").write_bytes(b"half a value of ours")
    (tmp_path / "a/zarr.json.__lock").touch()
    report = check(tmp_path / "a")
    assert [(finding.kind, finding.key, finding.repairable) for finding in report.findings] == [
        ("lock", "c/0/0.__lock", True),
        ("lock", "c/0/1.__lock", True),
        ("temp file", "c/0/1.__new.__lock", True),
        ("lock", "zarr.json.__lock", True),
    ]
    assert [action.outcome for action in repair(tmp_path / "a").actions] == ["planned"] * 4
    assert len(files_of(tmp_path / "a")) == len(whole) + 4
    done = repair(tmp_path / "a", apply=True)
    assert [action.outcome for action in done.actions] == ["done"] * 4
    assert (done.clean, done.backup) == (True, None)
    assert files_of(tmp_path / "a") == whole


def test_leftovers_of_groups_and_of_what_is_broken_are_found_and_removed(tmp_path: Path) -> None:
    group = zarrant.create_group(tmp_path)
    array = group.create_group("sub").create_array("a", data=np.ones(4, "int8"), chunks=2)
    broken = group.create_array("broken", data=np.ones(4, "int8"), chunks=2)
    (tmp_path / "broken" / "zarr.json").write_bytes(b"torn")
    names = [
        *("zarr.json.__lock", "zarr.json.__new.__lock", "sub/zarr.json.__lock", "sub/zarr.json.__new.__lock"),
        *("sub/a/zarr.json.__lock", "sub/a/c/0.__new.__lock", "broken/c/1.__lock"),
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"junk")
    found = [finding for finding in check(tmp_path).findings if finding.kind in ("lock", "temp file")]
    assert sorted(finding.key for finding in found) == sorted(names)
    assert [finding.key for finding in check(tmp_path / "sub").findings] == sorted(
        name.removeprefix("sub/") for name in names if name.startswith("sub/")
    )
    planned = repair(tmp_path).actions
    assert sorted(action.key for action in planned) == sorted(names)
    assert {action.outcome for action in repair(tmp_path, apply=True).actions} == {"done"}
    assert list(tmp_path.rglob("*__*")) == []
    assert [finding.kind for finding in check(tmp_path).findings] == ["metadata"]
    assert (array[...] == 1).all()
    assert broken.path == "broken"


def test_locks_in_use_are_no_leftovers(tmp_path: Path) -> None:
    a = make(tmp_path / "a")
    with a.store.lock(["c/0/0"]):
        (tmp_path / "a/c/0/0.__new.__lock").write_bytes(b"on its way")
        assert (tmp_path / "a/c/0/0.__lock").exists()
        assert check(tmp_path / "a").findings == ()
        assert Syscalls().stat(str(tmp_path / "a/c/0/0.__lock")).st_size == 0
    (tmp_path / "a/c/0/0.__new.__lock").unlink()


def test_what_may_belong_to_a_writer_without_locks_stays(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a/c/0/0.__new0123abcd.__lock").touch()
    (tmp_path / "a/c/0/1.__lock").write_bytes(CREATED_HEADER + b"host somewhere, process 1, since 2026-01-01T00:00:00Z")
    report = repair(tmp_path / "a", apply=True)
    assert kinds(report.before) == ["temp file", "lock"]
    assert report.actions == ()
    assert kinds(report.after) == ["temp file", "lock"]


def test_without_locks_nothing_is_removed(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a/c/0/0.__lock").touch()
    for locking in ("none", "lockfile"):
        report = repair(zarrant.FilesystemStore(tmp_path / "a", locking=locking, lock_timeout=0), apply=True)
        assert [action.outcome for action in report.actions] == ["refused"]
        assert (tmp_path / "a/c/0/0.__lock").exists()


def test_a_writer_that_comes_or_goes_while_we_look_is_no_leftover(tmp_path: Path) -> None:
    make(tmp_path / "a")
    lock, temp_file = tmp_path / "a/c/0/0.__lock", tmp_path / "a/c/0/0.__new.__lock"

    class Going(Syscalls):
        """A writer that ends between our looks at its temp file and at its lock."""

        def open(self, path: str, flags: int, mode: int = 0o666) -> int:
            if path == str(lock):
                temp_file.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
            return super().open(path, flags, mode)

    class Coming(Syscalls):
        """A writer that takes the place of the lock file while we take the lock of the old one."""

        def lock(self, fd: int) -> bool:
            granted = super().lock(fd)
            lock.unlink()
            lock.touch()
            return granted

    for syscalls in (Going(), Coming()):
        lock.touch()
        temp_file.touch()
        assert check(zarrant.FilesystemStore(tmp_path / "a", syscalls=syscalls)).findings == ()


def test_progress_is_told(tmp_path: Path) -> None:
    make(tmp_path / "a")
    seen: list[Any] = []
    check(tmp_path / "a", report=seen.append)
    assert (seen[-1].chunks_done, seen[-1].chunks_total, seen[-1].fraction) == (4, 4, 1.0)


def test_what_the_store_cannot_read_is_a_finding(tmp_path: Path) -> None:
    class Failing(zarrant.MemoryStore):
        def get_ranges(self, key: str, *args: Any) -> Any:
            if key == "c/1/0":
                raise OSError(5, "Input/output error")
            return super().get_ranges(key, *args)

    store = Failing()
    zarrant.create_array(store, data=VALUES, chunks=(8, 8), serializer=LAYOUTS["flat"], compressors=None)
    (finding,) = check(store).findings
    assert (finding.kind, finding.key, finding.chunk, finding.severity) == ("unreadable", "c/1/0", (1, 0), "error")
    assert "Input/output error" in finding.detail


V2_OF_PICKLES = {
    "zarr_format": 2,
    "shape": [2],
    "chunks": [2],
    "dtype": "|O",
    "compressor": None,
    "fill_value": None,
    "order": "C",
    "filters": [{"id": "pickle", "protocol": 5}],
}


def test_what_is_not_supported_is_a_note_and_no_error(tmp_path) -> None:
    group = zarrant.create_group(tmp_path / "g")
    group.create_array("x", shape=(3,), dtype="int8", data=[1, 2, 3])
    for name, key, text in (
        ("names", "zarr.json", json.dumps(group["x"].metadata.to_json() | {"data_type": "optional"})),
        ("codec", "zarr.json", json.dumps(group["x"].metadata.to_json() | {"codecs": [{"name": "bytes"}, {"name": "jpeg"}]})),
        ("old", ".zarray", json.dumps(V2_OF_PICKLES)),
    ):
        (tmp_path / "g" / name).mkdir()
        (tmp_path / "g" / name / key).write_text(text)
    report = check(tmp_path / "g")
    assert report.clean
    assert report.arrays == 1
    assert [(finding.severity, finding.kind, finding.key) for finding in report.findings] == [
        ("note", "unsupported", "codec/zarr.json"),
        ("note", "unsupported", "names/zarr.json"),
        ("note", "unsupported", "old/.zarray"),
    ]
    assert all("not supported" in finding.detail for finding in report.findings)
    (finding,) = check(tmp_path / "g" / "old").findings
    assert (finding.severity, finding.kind, finding.key) == ("note", "unsupported", ".zarray")


def test_groups_may_be_nested_very_deep() -> None:
    objects, path = {}, ""
    for _ in range(1200):
        objects[f"{path}zarr.json"] = b'{"zarr_format": 3, "node_type": "group"}'
        path += "a/"
    assert check(objects).clean


def test_consolidated_metadata_that_others_let_go_stale_are_found(tmp_path) -> None:
    zarr = pytest.importorskip("zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        group = zarr.open_group(tmp_path / "g", mode="w")
        group.create_array("t", shape=(3,), dtype="int8")
        group.create_group("sub").create_array("u", shape=(3,), dtype="float32", attributes={"x": 1})
        group["t"].attrs["words"] = "no ASCII: \u00e9"
        zarr.consolidate_metadata(tmp_path / "g")
        assert check(tmp_path / "g").clean
        zarr.open_group(tmp_path / "g", use_consolidated=False)["t"].resize((5,))
    (finding,) = check(tmp_path / "g").findings
    assert (finding.kind, finding.key, finding.severity) == ("consolidated", "zarr.json", "error")
    assert "those of t:" in finding.detail
    zarrant.open_group(tmp_path / "g").consolidate_metadata()
    assert check(tmp_path / "g").clean


def test_groups_deeper_than_python_recurses() -> None:
    depth = sys.getrecursionlimit() + 100
    objects = {"/".join(["a"] * level + ["zarr.json"]): b'{"zarr_format":3,"node_type":"group"}' for level in range(depth)}
    group = zarrant.open_group(objects, mode="r+")
    deepest = group.create_array("/".join("a" * (depth - 1)) + "/array", data=np.ones(4, "int8"), chunks=2)
    assert check(objects).arrays == 1
    assert group.tree().splitlines()[-1].strip() == "└── array (4,) int8"
    objects[f"{deepest.path}/zarr.json"] = b"torn"
    assert [finding.kind for finding in check(objects).findings] == ["metadata"]
    del group["a"]
    assert list(objects) == ["zarr.json"]


def test_a_tree_on_disk_deeper_than_paths_are_long_is_told(tmp_path: Path) -> None:
    group = zarrant.create_group(tmp_path)
    with pytest.raises(StoreError) as caught:
        group.create_group("/".join("a" * 2500))
    assert caught.value.errno == errno.ENAMETOOLONG
    assert zarrant.open_group(tmp_path, mode="r+").tree() == "/"
