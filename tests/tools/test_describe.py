"""What is said of arrays, groups and the installation is what they are."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

import zarrant
from zarrant import kernels
from zarrant.errors import NodeNotFoundError, OptionError, StorePermissionError
from zarrant.stores.local.syscalls import Syscalls
from zarrant.tools import describe, doctor


def test_an_array(tmp_path: Path) -> None:
    a = zarrant.create_array(
        tmp_path / "a", shape=(5, 7), dtype="float32", chunks=(1, 2), shards=(2, 4), fill_value=float("nan"), attributes={"k": [1]}
    )
    facts = describe.info(str(tmp_path / "a"))
    assert facts == describe.info((tmp_path / "a").as_uri()) == describe.array_facts(a)
    assert (facts["shape"], facts["chunks"], facts["shards"], facts["grid"]) == ([5, 7], [1, 2], [2, 4], [3, 2])
    assert (facts["bytes"], facts["stored_objects"], facts["fill_value"]) == (140, 6, "NaN")
    assert facts["attributes"] == {"k": [1]}
    assert "locks" in facts["guard"]
    json.dumps(facts)


def test_a_tree(tmp_path: Path) -> None:
    group = zarrant.open_group(tmp_path / "g", mode="w", attributes={"a": 1})
    group.create_array("x/y", shape=(2,), dtype="int8")
    group.create_group("z")
    nodes = describe.tree(tmp_path / "g")
    assert nodes["name"] == "g"
    x, z = nodes["children"]
    assert (x["children"][0]["name"], x["children"][0]["shape"], z["children"]) == ("y", [2], [])
    assert describe.info(tmp_path / "g")["members"] == {"x": "group", "z": "group"}


def test_a_member_that_cannot_be_opened_is_shown_with_its_reason(tmp_path: Path) -> None:
    group = zarrant.open_group(tmp_path / "g", mode="w")
    group.create_array("x", shape=(2,), dtype="int8")
    (tmp_path / "g" / "torn").mkdir()
    (tmp_path / "g" / "torn" / "zarr.json").write_text("{")
    torn, x = describe.tree(tmp_path / "g")["children"]
    assert (torn["name"], torn["kind"], x["shape"]) == ("torn", "node", [2])
    assert "MetadataError" in torn["reason"]
    facts = describe.info(tmp_path / "g")
    assert (facts["members"], facts["unreadable"]) == ({"torn": "node", "x": "array"}, {"torn": torn["reason"]})


def test_looking_creates_nothing(tmp_path: Path) -> None:
    for look in (describe.info, describe.tree):
        with pytest.raises(NodeNotFoundError, match="no such directory"):
            look(str(tmp_path / "none"))
    with pytest.raises(OptionError, match="unknown kind of store"):
        describe.info("nowhere://bucket/a")
    assert list(tmp_path.iterdir()) == []


def test_stored_counts_files(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x").write_bytes(b"12345")
    (tmp_path / "y").write_bytes(b"1")
    assert describe.stored(tmp_path) == (2, 6)


def test_the_doctor_says_what_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZARRANT_CONCURRENCY", "3")
    facts = doctor.examine(str(tmp_path))
    assert facts["version"] == zarrant.__version__
    assert facts["kernels"] == {"active": kernels.active(), "missing": kernels.missing(), "libraries": kernels.libraries()}
    assert facts["config"]["concurrency"] == {"value": 3, "source": "ZARRANT_CONCURRENCY"}
    assert "locks" in facts["path"]["guard"]
    assert facts["path"]["direct_io"] == "not known: there is no file to try it on"
    assert doctor.examine()["path"] is None
    with pytest.raises(OptionError, match="not a path"):
        doctor.examine("memory://x")
    json.dumps(facts)


def test_the_doctor_tries_direct_io_on_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = zarrant.create_array(tmp_path / "b" / "a", shape=(4,), dtype="int8")
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    assert describe.direct_io(tmp_path).startswith(("possible, in blocks of ", "refused by the file system"))
    assert describe.direct_io(tmp_path / "absent") == "not known: there is no file to try it on"

    def refused(self: Syscalls, fd: int, on: bool) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(Syscalls, "set_direct", refused)
    expected = "refused by the file system (Invalid argument): files would be written and read buffered"
    assert doctor.examine(a.store.root)["path"]["direct_io"] == expected
    monkeypatch.setattr(Syscalls, "scan", lambda self, path: (_ for _ in ()).throw(PermissionError(errno.EACCES, "denied")))
    with pytest.raises(StorePermissionError, match="cannot try direct I/O: denied"):
        describe.direct_io(tmp_path)
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before
