"""Copies: what comes out equals what went in, what must not be replaced is not, and a failure leaves nothing."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarrant
from zarrant import codecs
from zarrant.errors import (
    ChunkError,
    DataTypeError,
    NodeExistsError,
    NodeNotFoundError,
    OptionError,
    PartialFailure,
    ShapeError,
    ZarrantError,
)
from zarrant.geometry.grid import ChunkGrid
from zarrant.progress import Progress
from zarrant.tools import units
from zarrant.tools.copy import copy
from zarrant.tools.units import blocks

VALUES = np.random.default_rng(1).integers(0, 1000, (13, 21, 34)).astype("uint16")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with an array in `a.zarr`."""
    monkeypatch.chdir(tmp_path)
    array = zarrant.create_array(
        "a.zarr",
        shape=VALUES.shape,
        dtype="uint16",
        chunks=(2, 3, 4),
        shards=(4, 6, 8),
        filters=codecs.Transpose((2, 0, 1)),
        compressors=[codecs.Blosc("lz4"), codecs.Crc32c()],
        fill_value=7,
        attributes={"unit": "mm"},
        dimension_names=("z", None, "x"),
    )
    array[...] = VALUES
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunks": (1, 2, 2)},
        {"shards": None},
        {"chunks": (5, 7, 9), "shards": (5, 14, 27), "compressors": [codecs.Zstd(1)]},
        {"shards": (8, 12, 16), "compressors": []},
        {"dtype": "float64"},
        {"dtype": "int32", "shards": None, "compressors": [codecs.Gzip(1)]},
    ],
)
def test_values_survive_every_change_of_layout(here: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    monkeypatch.setattr(units, "BLOCK_BYTES", 700)  # many small blocks
    facts = copy("a.zarr", "b.zarr", **options)
    b = zarrant.open_array("b.zarr", mode="r")
    assert np.array_equal(b[...], VALUES)
    assert b.dtype == options.get("dtype", "uint16")
    assert b.chunks == options.get("chunks", (2, 3, 4))
    assert b.shards == options.get("shards", (4, 6, 8))
    assert (b.fill_value, dict(b.attrs), b.dimension_names) == (7, {"unit": "mm"}, ("z", None, "x"))
    assert facts["target"]["stored_objects"] == b.nchunks
    assert facts["stored_bytes"] == sum(f.stat().st_size for f in (here / "b.zarr").rglob("*") if f.is_file())


def test_what_is_stored_elsewhere_is_not_counted(here: Path) -> None:
    facts = copy("a.zarr", "memory://test_copy/b.zarr")
    assert (facts["stored_files"], facts["stored_bytes"], facts["ratio"]) == (None, None, None)
    assert np.array_equal(zarrant.open_array("memory://test_copy/b.zarr", mode="r")[...], VALUES)


def test_what_is_not_given_is_kept(here: Path) -> None:
    copy("a.zarr", "b.zarr")
    a, b = (zarrant.open_array(name, mode="r") for name in ("a.zarr", "b.zarr"))
    assert a.metadata.codecs == b.metadata.codecs


def test_a_bfloat16_array_and_an_array_without_dimensions(here: Path) -> None:
    zarrant.create_array("s.zarr", shape=(), dtype="bfloat16")[...] = 1.5
    copy("s.zarr", "t.zarr", dtype="float32")
    assert zarrant.open_array("t.zarr", mode="r")[()] == np.float32(1.5)
    with pytest.raises(DataTypeError, match="npy file cannot hold"):
        copy("s.zarr", "t.npy")
    assert not (here / "t.npy").exists()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", ["bytes", "string"])
def test_what_has_no_length_is_no_npy_file(here: Path, dtype: str) -> None:
    zarrant.create_array("s.zarr", shape=(2,), dtype=dtype)
    with pytest.raises(DataTypeError, match="npy file cannot hold"):
        copy("s.zarr", "t.npy")
    assert not (here / "t.npy").exists()


def test_an_empty_array(here: Path) -> None:
    zarrant.create_array("e.zarr", shape=(0, 4), dtype="int8", chunks=(2, 2))
    assert copy("e.zarr", "f.zarr")["target"]["shape"] == [0, 4]
    copy("e.zarr", "f.npy")
    assert np.load("f.npy").shape == (0, 4)


def test_npy_out_and_in(here: Path) -> None:
    copy("a.zarr", "new/a.npy")
    assert np.array_equal(np.load("new/a.npy"), VALUES)
    assert os.listdir("new") == ["a.npy"]
    np.save("f.npy", np.asfortranarray(VALUES.astype(">u2")))
    copy("f.npy", "f.zarr", chunks=(4, 4, 4))
    assert np.array_equal(zarrant.open_array("f.zarr", mode="r")[...], VALUES)


def test_progress_goes_up_to_the_end(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "BLOCK_BYTES", 2000)
    seen: list[Progress] = []
    copy("a.zarr", "b.zarr", report=seen.append)
    assert len(seen) > 5
    assert [p.bytes_done for p in seen] == sorted({p.bytes_done for p in seen})
    last = seen[-1]
    assert (last.bytes_done, last.chunks_done) == (last.bytes_total, last.chunks_total) == (VALUES.nbytes, 4 * 4 * 5)


def test_a_dry_run_writes_nothing_and_says_the_same(here: Path) -> None:
    before = sorted(here.rglob("*"))
    planned = copy("a.zarr", "b.zarr", chunks=(2, 2, 2), dry_run=True)
    assert sorted(here.rglob("*")) == before
    done = copy("a.zarr", "b.zarr", chunks=(2, 2, 2))
    assert planned["dry_run"] and not done["dry_run"]
    assert (planned["source"], planned["target"]) == (done["source"], done["target"])


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize(
    ("source", "target", "options", "error", "words"),
    [
        ("none.zarr", "b.zarr", {}, NodeNotFoundError, "nothing to copy here"),
        ("none.npy", "b.zarr", {}, NodeNotFoundError, "no such file"),
        ("words.txt", "b.zarr", {}, OptionError, "not a kind of file that is read"),
        ("a.zarr", "b.tif", {}, OptionError, "not a kind of file that is written"),
        ("a.zarr", "a.zarr", {"overwrite": True}, OptionError, "lie in each other"),
        ("a.zarr", ".", {"overwrite": True}, OptionError, "lie in each other"),
        ("a.zarr", "a.zarr/b", {"overwrite": True}, OptionError, "lie in each other"),
        ("a.zarr", "there.zarr", {}, NodeExistsError, "--overwrite"),
        ("a.zarr", "there.npy", {}, NodeExistsError, "--overwrite"),
        ("a.zarr", "full", {"overwrite": True}, NodeExistsError, "no Zarr array"),
        ("a.zarr", "words.txt", {"overwrite": True}, NodeExistsError, "no Zarr array"),
        ("a.zarr", "group.zarr", {"overwrite": True}, NodeNotFoundError, "not an array"),
        ("group.zarr", "a.zarr", {}, NodeExistsError, "--overwrite"),
        ("group.zarr", "there.zarr", {"overwrite": True}, NodeExistsError, "--overwrite"),
        ("group.zarr", "b.zarr", {"chunks": (1,)}, OptionError, "for one array"),
        ("group.zarr", "b.npy", {}, OptionError, "cannot hold"),
        ("a.zarr", "b.zarr", {"shards": (3, 3, 3)}, ShapeError, "chunks must divide shards"),
        ("a.zarr", "b.zarr", {"chunks": (3, 3)}, ShapeError, "number of dimensions"),
        ("a.zarr", "b.zarr", {"dtype": "uint8"}, DataTypeError, "keeps every value"),
        ("a.zarr", "b.zarr", {"dtype": "nonsense"}, ZarrantError, "not a data type"),
    ],
)
def test_bad_calls_change_nothing(
    here: Path, source: str, target: str, options: dict[str, Any], error: type[ZarrantError], words: str, dry_run: bool
) -> None:
    (here / "words.txt").write_text("words")
    (here / "full").mkdir()
    (here / "full" / "letter").write_text("dear")
    zarrant.create_array("there.zarr", shape=(3,), dtype="int8")[...] = 1
    np.save("there.npy", np.ones(3))
    zarrant.open_group("group.zarr", mode="w").create_array("x", shape=(2,), dtype="int8")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    with pytest.raises(error, match=words):
        copy(source, target, **options, dry_run=dry_run)
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_overwrite_replaces_all_of_an_array(here: Path) -> None:
    old = zarrant.create_array("b.zarr", shape=(900,), dtype="int8", chunks=(1,))
    old[...] = 1
    copy("a.zarr", "b.zarr", overwrite=True)
    assert np.array_equal(zarrant.open_array("b.zarr", mode="r")[...], VALUES)
    names = {str(path.relative_to("a.zarr")) for path in Path("a.zarr").rglob("*") if path.is_file()}
    assert {str(path.relative_to("b.zarr")) for path in Path("b.zarr").rglob("*") if path.is_file()} == names
    np.save("b.npy", np.ones(3))
    copy("a.zarr", "b.npy", overwrite=True)
    assert np.array_equal(np.load("b.npy"), VALUES)


@pytest.mark.parametrize("target", ["b.zarr", "b.npy"])
def test_a_corrupt_source_leaves_nothing(here: Path, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(units, "BLOCK_BYTES", 2000)
    chunk = max((path for path in Path("a.zarr").rglob("*") if path.is_file()), key=str)
    if chunk.name == "zarr.json":
        chunk = Path("a.zarr/c/3/3/4")
    chunk.write_bytes(b"\0" * 100)
    with pytest.raises((ChunkError, PartialFailure)):
        copy("a.zarr", target, compressors=[])  # encoded chunks that are moved as they are would not be decoded
    assert [path for path in Path().rglob("*") if path.is_file() and path.parts[0] != "a.zarr"] == []


def test_an_interrupt_leaves_nothing(here: Path) -> None:
    def interrupt(_: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        copy("a.zarr", "b.zarr", report=interrupt)
    assert not [path for path in Path("b.zarr").rglob("*") if path.is_file()]


def test_codecs_that_cannot_be_kept_are_named(here: Path) -> None:
    index = {"index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]}
    inner = {"name": "bytes", "configuration": {"endian": "little"}}
    nested = {"name": "sharding_indexed", "configuration": {"chunk_shape": [2], "codecs": [inner], **index}}
    outer = {"name": "sharding_indexed", "configuration": {"chunk_shape": [4], "codecs": [nested], **index}}
    document = json.loads(Path("a.zarr/zarr.json").read_text())
    grid = {"name": "regular", "configuration": {"chunk_shape": [8]}}
    document |= {"shape": [20], "chunk_grid": grid, "codecs": [outer], "dimension_names": ["x"]}
    Path("n.zarr").mkdir()
    Path("n.zarr/zarr.json").write_text(json.dumps(document))
    zarrant.open_array("n.zarr")[...] = np.arange(20, dtype="uint16")
    with pytest.raises(OptionError, match="Name a compressor"):
        copy("n.zarr", "m.zarr")
    copy("n.zarr", "m.zarr", compressors=[codecs.Zstd(1)])
    assert zarrant.open_array("m.zarr", mode="r")[...].tolist() == list(range(20))


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=3),
    st.integers(1, 8),
    st.integers(1, 400),
)
def test_blocks_cover_every_chunk_once_within_the_limit(sides: list[tuple[int, int]], itemsize: int, limit: int) -> None:
    shape, chunk = tuple(side[0] for side in sides), tuple(side[1] for side in sides)
    grid = ChunkGrid.regular(shape, chunk)
    seen, total = np.zeros(shape, int), 0
    for count, box in blocks(grid, itemsize, limit):
        seen[box.slices] += 1
        total += count
        assert all(start % size == 0 for start, size in zip(box.start, chunk, strict=True))
        assert count == 1 or count * math.prod(chunk) * itemsize <= limit
    assert (seen == 1).all()
    assert total == grid.n_chunks


@pytest.mark.parametrize(
    "encoding", [{"name": "v2", "separator": "/"}, {"name": "v2"}, {"name": "default", "separator": "."}, None]
)
def test_the_chunk_key_encoding_stays(tmp_path, encoding) -> None:
    source = zarrant.create_array(tmp_path / "a", data=np.arange(6), chunks=3, chunk_key_encoding=encoding)
    copy(str(tmp_path / "a"), str(tmp_path / "b"))
    target = zarrant.open_array(tmp_path / "b", mode="r")
    assert target.metadata.chunk_key_encoding == source.metadata.chunk_key_encoding
    assert target.chunk_key((1,)) == source.chunk_key((1,))
    assert target[...].tolist() == list(range(6))
