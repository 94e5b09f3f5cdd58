from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.errors import CapabilityError, NodeExistsError, NodeNotFoundError, OptionError
from zarrant.stores.memory import MemoryStore
from zarrant.stores.wrappers import WriteOnly
from zarrant.stores.zip_store import ZipStore
from zarrant.tools.archive import archive
from zarrant.tools.copy import copy

VALUES = np.arange(60, dtype="<i4").reshape(6, 10)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_directory(tmp_path: Path, zarr_format: int) -> None:
    group = zarrant.create_group(tmp_path / "a.zarr", zarr_format=zarr_format, attributes={"ome": {"version": "0.5"}})
    group.create_array("images/0", data=VALUES, chunks=(3, 5))
    name = "a.ozx" if zarr_format == 3 else "a.zip"
    facts = archive(tmp_path / "a.zarr", tmp_path / name)
    assert facts["bytes"] == os.path.getsize(tmp_path / name)
    assert np.array_equal(zarrant.open_array(tmp_path / name, name="images/0", mode="r")[...], VALUES)
    with zipfile.ZipFile(tmp_path / name) as made:
        files = {
            path.relative_to(tmp_path / "a.zarr").as_posix(): path for path in (tmp_path / "a.zarr").rglob("*") if path.is_file()
        }
        assert {name: made.read(name) for name in made.namelist()} == {name: path.read_bytes() for name, path in files.items()}
        assert facts["objects"] == len(files) and (b"jsonFirst" in made.comment) == (zarr_format == 3)


def test_a_node_of_a_store(tmp_path: Path) -> None:
    store = MemoryStore.named("test_archive")
    zarrant.create_array(store, name="deep/inside", data=VALUES)
    archive("memory://test_archive/deep/inside", tmp_path / "a.zip")
    assert np.array_equal(zarrant.open_array(tmp_path / "a.zip", mode="r")[...], VALUES)
    archive(ZipStore(tmp_path / "a.zip"), tmp_path / "b.ozx")
    copy(str(tmp_path / "b.ozx"), str(tmp_path / "b.zarr"), chunks=(2, 2))
    assert np.array_equal(zarrant.open_array(tmp_path / "b.zarr", mode="r")[...], VALUES)


@pytest.mark.parametrize(
    ("source", "target", "kind", "text"),
    [
        ("a.zarr", "a.tar", OptionError, "not a name of an archive"),
        ("a.zarr", "there.zip", NodeExistsError, "overwrite"),
        ("a.zarr", "folder.zip", NodeExistsError, "a directory"),
        ("none.zarr", "a.zip", NodeNotFoundError, "no array or group"),
        ("v2.zarr", "a.ozx", OptionError, "holds Zarr V3"),
        (WriteOnly(MemoryStore()), "a.zip", CapabilityError, "cannot be listed"),
    ],
)
def test_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Any, target: str, kind: type[Exception], text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    zarrant.create_array("a.zarr", data=VALUES)
    zarrant.create_array("v2.zarr", data=VALUES, zarr_format=2)
    Path("there.zip").write_bytes(b"precious")
    Path("folder.zip").mkdir()
    before = sorted(os.listdir())
    with pytest.raises(kind, match=text):
        archive(source, target)
    assert sorted(os.listdir()) == before and Path("there.zip").read_bytes() == b"precious"
    archive("a.zarr", "there.zip", overwrite=True)
    assert np.array_equal(zarrant.open_array("there.zip", mode="r")[...], VALUES)
