"""`zarrant bench` tries layouts where an array is, proposes one, and leaves nothing behind; no time is looked at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.cli import main, show
from zarrant.errors import NodeNotFoundError, OptionError
from zarrant.tools import bench as tool
from zarrant.tools.bench import ACCESS, CODECS, OPTIONS, STORED, BenchReport, Candidate, bench


@pytest.fixture
def place(tmp_path: Path) -> Path:
    data = np.arange(40 * 50 * 60, dtype="uint16").reshape(40, 50, 60)
    zarrant.create_array(tmp_path / "a", data=data, chunks=(20, 25, 30))
    return tmp_path / "a"


def tree(path: Path) -> set[str]:
    return {str(each) for each in path.rglob("*")}


@pytest.mark.parametrize("access", ACCESS)
def test_candidates_are_measured_and_one_is_proposed(place: Path, access: str) -> None:
    before = tree(place.parent)
    report = bench(place, access=access)
    assert tree(place.parent) == before
    assert report.sample == (40, 50, 60) and report.left_out == 0
    assert report.proposal in report.candidates
    assert {each.compressors for each in report.candidates} == {*CODECS, STORED}
    assert [each.options for each in report.candidates if each.options] == list(OPTIONS) and not report.proposal.options
    has = report.candidates[0]
    assert (has.compressors, has.chunks, has.shards) == (STORED, (20, 25, 30), None)
    for each in report.candidates:
        assert min(each.stored_ratio, each.write_mb_per_s, each.read_mb_per_s, each.access_ms) > 0
        assert len(each.chunks) == 3
        made = zarrant.create_array({}, shape=(40, 50, 60), dtype="u2", chunks=each.chunks, shards=each.shards)
        assert made.chunks == each.chunks
    if access == "planes":
        assert all(each.chunks[0] == 1 for each in report.candidates[1:])
    assert json.loads(json.dumps(report.to_json()))["proposal"]["chunks"] == list(report.proposal.chunks)


def test_what_an_array_has_may_be_the_best(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    layouts = {"shards": (4, 8), "compressors": None, "filters": (), "zarr_format": 3}
    zarrant.create_array(place.parent / "b", data=np.ones((8, 16)), chunks=(2, 2), **layouts)
    has = bench(place.parent / "b", seconds=0.01).candidates[0]
    assert (has.chunks, has.shards, has.compressors) == ((2, 2), (4, 8), STORED) and has.stored_ratio > 1
    best = Candidate((2, 2), None, STORED, 0.1, 1e9, 1e9, 1e-9)
    show.benched(BenchReport("b", "crops", (8, 16), "float64", (best,), 0))
    assert "For crops: the layout that the array has" in capsys.readouterr().out


@pytest.mark.parametrize("chunks", [([3, 5], 16), (1, 1)])
def test_chunks_of_several_shapes_or_very_many_are_not_tried(tmp_path: Path, chunks: Any) -> None:
    zarrant.create_array(tmp_path / "a", data=np.ones((8, 16 if chunks[1] == 16 else 1024), "u1"), chunks=chunks)
    assert STORED not in {each.compressors for each in bench(tmp_path / "a", seconds=0.01).candidates}


def test_time_and_bytes_are_bounded(place: Path) -> None:
    report = bench(place, seconds=1e-6, max_bytes=20_000)
    assert len(report.candidates) == 2 and report.left_out > 0
    assert 2 * np.prod(report.sample) <= 20_000


@pytest.mark.parametrize("shape", [(7,), (3, 100_000), (2, 3, 4, 5, 6), (1, 1, 1)])
def test_a_new_array_of_any_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    for access in ACCESS:
        assert bench(tmp_path / "new", shape=shape, dtype="float32", access=access, seconds=0.01).candidates
    assert os.listdir(tmp_path) == []


def test_stores_of_other_kinds(place: Path) -> None:
    store = zarrant.MemoryStore()
    zarrant.create_array(store, name="g/a", data=np.arange(1000, dtype="i4"))
    before = sorted(store.list_prefix(""))
    found = bench(store, shape=(30, 30)).candidates
    assert STORED not in {each.compressors for each in found} and {each.options for each in found} == {"", "concurrency=1"}
    assert sorted(store.list_prefix("")) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_after_an_interrupt(place: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    before, seen = tree(place.parent), []

    def stop(*given: Any) -> Any:
        seen.append(tree(place.parent) - before)
        raise error

    monkeypatch.setattr(tool, "_accesses", stop)
    with pytest.raises(error):
        bench(place)
    assert seen[0] and tree(place.parent) == before


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"access": "rows"}, "access"), ({"seconds": 0}, "seconds"), ({"seconds": float("nan")}, "seconds"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"shape": (3,), "dtype": "S3"}, "dtype"), ({"shape": (-1,)}, "dtype"), ({"shape": (0, 4)}, "address"),
    ],
)  # fmt: skip
def test_bad_input(place: Path, wrong: dict[str, Any], field: str) -> None:
    with pytest.raises(OptionError) as caught:
        bench(place, **wrong)
    assert caught.value.field == field
    with pytest.raises(NodeNotFoundError):
        bench(place.parent / "absent")


def test_the_command_line(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as end:
            main(["bench", str(place), *arguments])
        return int(end.value.code or 0), capsys.readouterr().out

    status, text = run("--json", "--seconds", "0.01", "--access", "planes")
    assert (status, json.loads(text)["access"]) == (0, "planes")
    status, text = run("--seconds", "0.01")
    assert status == 0 and "For crops: " in text and "were left out" in text
    assert run("--access", "rows")[0] == 1
    assert run("--max-size", "much")[0] == 1
    assert isinstance(bench(place, seconds=0.01), BenchReport)
