"""Benchmarks with tables of their own do what they time, and notice what is wrong; no time is looked at."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from benchmarks import arrays, report, rust, sparse
from benchmarks.pairs import WrongResult

pytest.importorskip("tensorstore")


def test_sparse_arrays_are_erased_and_resized_by_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sparse.main(["--chunks", "1600", "--alone", "10000", "--rounds", "1", "--dir", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert [line.split(":")[1].split("  ")[0].strip() for line in text.splitlines()[1:4]] == [
        "erase all",
        "resize to a quarter",
        "resize back",
    ]
    assert "10,000 chunks resized" in text and list(tmp_path.iterdir()) == []


def test_a_chunk_that_is_left_or_wrong_is_noticed(tmp_path: Path) -> None:
    array = sparse.Sparse(tmp_path / "a", 1600, sparse.open_tensorstore)
    array.fill()
    assert array.left() == sparse.STORED
    (tmp_path / "a" / "c" / "2" / "2").write_bytes(b"x" * sparse.EDGE**2)
    with pytest.raises(WrongResult, match="chunk 2 holds something else"):
        array.left()


def test_programs_that_are_not_there_are_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert rust.main([]) == 0
    assert capsys.readouterr().out.startswith("not on the PATH: zarrs_benchmark_read_sync, zarrs_reencode")


@pytest.mark.skipif(os.name == "nt", reason="needs echo and false")
def test_what_a_program_says_is_its_time() -> None:
    assert rust.reported(["echo", "x total: 12.50ms, 3"], "total:")[0] == 0.0125
    for command in (["false"], ["echo", "nothing"]):
        with pytest.raises(WrongResult, match=f"{command[0]} ended with"):
            rust.reported(command, "total:")


def test_the_programs_do_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = [program for program in (rust.READ, rust.COPY) if shutil.which(program)]
    if not here:
        pytest.skip("zarrs_tools is not on the PATH")
    assert rust.main(["--size", "512KiB", "--rounds", "1", "--dir", str(tmp_path)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 6 * (rust.READ in here) + (rust.COPY in here) + (len(here) < 2)


def test_text_and_tables_become_parts_of_a_page() -> None:
    assert report.section("x", "a\n") == "\n### benchmarks.x\n\n```text\na\n```\n"
    assert report.section("x", "| a |\n|---|\n") == "\n### benchmarks.x\n\n| a |\n|---|\n"
    assert arrays.object_edge(arrays.shape_of(2**28)) == 256
