"""The benchmarks of small files, tasks and listings run, check what they measure, and leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import listings, small_files, tasks
from benchmarks.pairs import Found, Pair, WrongResult, compare, table


@pytest.mark.parametrize(
    ("main", "args", "peer", "rows"),
    [
        (small_files.main, ["--chunks", "40", "--nbytes", "10"], "tensorstore", 3),
        (
            tasks.main,
            ["--count", "8", "--tasks", "1", "3", "--crops", "5", "--crop-tasks", "2", "--extent=512"],
            "tensorstore",
            5,
        ),
        (listings.main, ["--arrays", "5", "--attributes", "20"], "zarr", 5),
    ],
    ids=["small files", "tasks", "listings"],
)
def test_each_measures_both_libraries(
    main: Callable[[list[str]], int], args: list[str], peer: str, rows: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip(peer)
    assert main([*args, "--rounds", "2", "--dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == rows + 1
    assert all(float(number) >= 0 for line in lines[1:] for number in line.split()[-6:])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", ["ours", "theirs"])
def test_a_wrong_result_ends_the_run(wrong: str) -> None:
    pair = Pair("sum", lambda: 3, lambda: 3, lambda found: wrong != "ours", lambda found: wrong != "theirs")
    with pytest.raises(WrongResult, match=f"sum: {'Zarrant' if wrong == 'ours' else 'Other'}"):
        compare([pair], 1, "Other")


def test_the_least_of_all_rounds_counts() -> None:
    made: list[int] = []
    pair = Pair("nothing", lambda: 3, lambda: 4, lambda found: found == 3, lambda found: found == 4, lambda: made.append(1))
    (found,) = compare([pair], 3, "Other")
    assert len(made) == 3
    assert found.name == "nothing" and min(*found.wall, *found.cpu) >= 0
    row = Found("work", (0.5, 1.0), (0.25, 1.0))
    assert (row.ratio, row.cpu_ratio) == (2, 4)
    assert table([row], "Other").splitlines()[1].split() == ["work", "500.0", "1000.0", "2.00", "250.0", "1000.0", "4.00"]
