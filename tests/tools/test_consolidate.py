"""Consolidated metadata on request, by a function and on the command line: what zarr-python reads, for both versions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zarrant
from zarrant.cli import main
from zarrant.errors import MetadataError, NodeNotFoundError
from zarrant.tools.check import check
from zarrant.tools.consolidate import consolidate


def tree(path: Path, zarr_format: int) -> zarrant.Group:
    root = zarrant.create_group(path, zarr_format=zarr_format)
    root.create_array("g/a", data=[1, 2, 3])
    root.create_array("b", data=[4.0])
    return root


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_other_libraries_find_all_with_one_read(tmp_path: Path, zarr_format: int) -> None:
    zarr = pytest.importorskip("zarr")
    root = tree(tmp_path / "x", zarr_format)
    with pytest.raises(ValueError, match=r"onsolidated|\.zmetadata"):
        zarr.open_group(tmp_path / "x", mode="r", use_consolidated=True)
    facts = consolidate(tmp_path / "x")
    assert (facts["zarr_format"], facts["nodes"]) == (zarr_format, 3)
    root["g/a"].append([4])
    for name in ("b", "g/a"):
        (tmp_path / "x" / name / ("zarr.json" if zarr_format == 3 else ".zarray")).rename(tmp_path / name.replace("/", "-"))
    there = zarr.open_group(tmp_path / "x", mode="r", use_consolidated=True)
    assert there["g/a"].shape == (4,)
    assert sorted(there) == ["b", "g"]


def test_what_is_not_a_group_is_refused(tmp_path: Path) -> None:
    tree(tmp_path / "x", 3)
    for address in (tmp_path / "none", tmp_path / "x" / "b"):
        with pytest.raises(NodeNotFoundError):
            consolidate(address)
    assert not (tmp_path / "none").exists()
    (tmp_path / "x" / "b" / "zarr.json").write_bytes(b"{")
    with pytest.raises(MetadataError):
        consolidate(tmp_path / "x")


def test_copies_that_others_left_wrong_are_made_anew(tmp_path: Path) -> None:
    tree(tmp_path, 2)
    consolidate(tmp_path)
    wrong = json.loads((tmp_path / ".zmetadata").read_bytes())
    del wrong["metadata"]["b/.zarray"]
    (tmp_path / ".zmetadata").write_text(json.dumps(wrong))
    assert not check(tmp_path).clean
    consolidate(tmp_path)
    assert check(tmp_path).clean


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("typer")
    tree(tmp_path, 3)
    with pytest.raises(SystemExit) as end:
        main(("consolidate", str(tmp_path), "--json"))
    assert not end.value.code
    assert json.loads(capsys.readouterr().out)["nodes"] == 3
    with pytest.raises(SystemExit):
        main(("consolidate", str(tmp_path)))
    assert "3 nodes" in capsys.readouterr().out
