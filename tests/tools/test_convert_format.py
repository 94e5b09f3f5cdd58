"""Conversion between Zarr V2 and V3 in place: the same values, the same chunks, or nothing changed and a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.cli import main
from zarrant.errors import NodeNotFoundError, OptionError
from zarrant.tools.check import check
from zarrant.tools.convert_format import convert_format

DATA = np.arange(30, dtype="int32").reshape(5, 6)
METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")


def chunks(objects: dict[str, bytes]) -> dict[str, bytes]:
    return {key: data for key, data in objects.items() if key.rpartition("/")[2] not in METADATA}


def names(objects: dict[str, bytes]) -> list[str]:
    return sorted(key for key in objects if key.rpartition("/")[2] in METADATA)


def tree(zarr_format: int, **options: Any) -> dict[str, bytes]:
    objects: dict[str, bytes] = {}
    root = zarrant.create_group(objects, zarr_format=zarr_format, attributes={"title": "t"})
    options = {"chunks": (2, 4), "order": "F", "dimension_names": ["y", "x"], "chunk_key_encoding": "v2", **options}
    root.create_array("g/a", data=DATA, attributes={"unit": "mm"}, **options)
    root.create_array("b", data=DATA.astype(">f8"), chunk_key_encoding="v2")
    return objects


def test_there_and_back() -> None:
    objects = tree(2)
    before = dict(objects)
    facts = convert_format(objects)
    assert (facts["converted"], facts["unchanged"], facts["cannot"]) == (["g/a", "g", "b", "/"], [], {})
    assert names(objects) == ["b/zarr.json", "g/a/zarr.json", "g/zarr.json", "zarr.json"]
    assert chunks(objects) == chunks(before)
    a = zarrant.open(objects)["g/a"]
    assert (a.metadata.zarr_format, a.dimension_names, dict(a.attrs)) == (3, ("y", "x"), {"unit": "mm"})
    assert (a[:] == DATA).all()
    assert check(objects, deep=True).clean
    assert convert_format(objects)["converted"] == []
    convert_format(objects, 2)
    assert objects == before


def test_v3_becomes_v2_where_it_can() -> None:
    objects = tree(3, compressors=zarrant.codecs.Zstd(3))
    del objects["b/zarr.json"]
    before = chunks(objects)
    zarrant.open(objects)["g/a"].attrs["more"] = 1
    assert convert_format(objects, 2)["cannot"] == {}
    a = zarrant.open(objects)["g/a"]
    assert (a.metadata.zarr_format, a.attrs["_ARRAY_DIMENSIONS"], a.attrs["more"]) == (2, ["y", "x"], 1)
    assert (a[:] == DATA).all()
    assert chunks(objects) == before


V3_ONLY: dict[str, tuple[dict[str, Any], str]] = {
    "shards": ({"shards": (4, 8)}, "such codec"),
    "keys": ({"chunk_key_encoding": "default"}, "such names of chunks"),
    "names": ({"dimension_names": ["y", None]}, "names for some dimensions"),
    "an order": ({"shape": (2, 3, 4), "chunks": (1, 3, 4), "filters": zarrant.codecs.Transpose((1, 2, 0))}, "orders of dimensions"),
}


@pytest.mark.parametrize("what", V3_ONLY)
def test_what_cannot_be_converted_is_named_and_nothing_is_changed(what: str) -> None:
    options, words = V3_ONLY[what]
    objects: dict[str, bytes] = {}
    root = zarrant.create_group(objects)
    root.create_array("fine", data=DATA, chunk_key_encoding="v2")
    root.create_array("bad", **{"shape": (5, 6), "dtype": "i4", "chunk_key_encoding": "v2", "chunks": (2, 4), **options})
    before = dict(objects)
    facts = convert_format(objects, 2)
    assert list(facts["cannot"]) == ["bad"]
    assert words in facts["cannot"]["bad"]
    assert (facts["converted"], objects) == ([], before)


def test_members_that_have_no_place_are_named() -> None:
    objects = tree(2)
    objects["b/.zarray"] = json.dumps(json.loads(objects["b/.zarray"]) | {"_nczarr_array": {}}).encode()
    before = dict(objects)
    assert "_nczarr_array" in convert_format(objects)["cannot"]["b"]
    objects["b/.zarray"] = b"{"
    assert "not JSON" in convert_format(objects)["cannot"]["b"]
    assert objects.keys() == before.keys()


def test_a_fill_value_that_was_not_defined_is_noted() -> None:
    objects = tree(2)
    objects["b/.zarray"] = json.dumps(json.loads(objects["b/.zarray"]) | {"fill_value": None}).encode()
    before = dict(objects)
    facts = convert_format(objects, dry_run=True)
    assert list(facts["notes"]) == ["b"]
    assert objects == before


def test_copies_are_made_anew() -> None:
    objects = tree(2)
    zarrant.open(objects).consolidate_metadata()
    convert_format(objects)
    assert ".zmetadata" not in objects
    assert sorted(zarrant.open(objects).metadata.consolidated) == ["b", "g", "g/a"]
    convert_format(objects, 2)
    assert len(json.loads(objects[".zmetadata"])["metadata"]) == 6


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("to", [2, 3])
def test_who_is_killed_leaves_what_reads_the_same_and_is_ended_by_the_next(to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    step, ended = 0, False
    while not ended:
        objects = tree(5 - to, **({} if to == 3 else {"compressors": None}))
        if to == 2:
            zarrant.open(objects).create_array("b", data=DATA, chunk_key_encoding="v2", compressors=None, overwrite=True)
        left = [step]
        with monkeypatch.context() as patch:
            for name in ("put", "put_if", "erase"):
                patch.setattr(zarrant.MemoryStore, name, counting(getattr(zarrant.MemoryStore, name), left))
            try:
                convert_format(objects, to)
                ended = True
            except Killed:
                step += 1
        root = zarrant.open(objects)
        assert ((root["g/a"][:] == DATA).all(), root["g/a"].attrs["unit"], root.attrs["title"]) == (True, "mm", "t")
        assert convert_format(objects, to)["cannot"] == {}
        kept = [key for key in names(objects) if ("zarr.json" in key) != (to == 3)]
        assert kept == []
    assert step > 5


def counting(method: Any, left: list[int]) -> Any:
    def call(*args: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return method(*args, **options)

    return call


def test_what_is_asked_for_must_be_there() -> None:
    with pytest.raises(NodeNotFoundError):
        convert_format({})
    with pytest.raises(OptionError, match="version"):
        convert_format(tree(2), 4)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zarrant.create_array(tmp_path / "a", data=DATA, zarr_format=2)
    for words, status in (("--dry-run",), 0), ((), 0), (("--to", "2", "--json"), 0):
        with pytest.raises(SystemExit) as end:
            main(["convert", str(tmp_path / "a"), *words])
        assert int(end.value.code or 0) == status
    out = capsys.readouterr().out
    assert "1 node(s) would be converted to Zarr V3" in out
    zarrant.create_array(tmp_path / "s", data=DATA, chunks=(1, 1), shards=(5, 6))
    with pytest.raises(SystemExit) as end:
        main(["convert", str(tmp_path / "s"), "--to", "2"])
    assert end.value.code == 1
    assert "Nothing was changed" in capsys.readouterr().out
