"""The safety tests for every library: they find nothing in ours, and everything in a library that is careless on purpose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.crew import one_line
from benchmarks.hands import BEGUN, DONE, Plan
from benchmarks.peers import ADAPTERS, OURS, find_peers
from benchmarks.peers.base import Settings
from benchmarks.races import _lost_cells
from benchmarks.safety import duration, libraries, main, parser, table
from benchmarks.scenes import Scene, Wrong, shown

ROOT = Path(__file__).parents[1]
PEERS, MISSING = find_peers(list(ADAPTERS), Settings(threads=1))
CARELESS, STILL = "benchmarks.peers.careless:Careless", "benchmarks.peers.ours:ZarrantWithoutRepack"
TINY = ("--processes", "3", "--kills", "2", "--cell", "512", "--timeout", "60")
RACES = [f"{who}-{what}" for who in ("processes", "threads") for what in ("chunk", "shard")]

BAD = """
import os, time

class Bad:
    name, version, subchunk_limit = "bad", "0", None
    def __init__(self, settings): self.writes = 0
    def open(self, path): return self

class Raising(Bad):
    def write(self, region, values): raise OSError("no more\\nroom")

class Crashing(Bad):
    def write(self, region, values):
        self.writes += 1
        if self.writes > 2:
            os.write(2, b"it is over\\n")
            os.abort()

class Hanging(Bad):
    def write(self, region, values): time.sleep(600)
"""


def run(directory: Path, *arguments: str) -> tuple[int, str, Any]:
    """Status, table, and findings by test and library."""
    command = [sys.executable, "-m", "benchmarks.safety", "--dir", str(directory), "--results", str(directory / "results")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(directory), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*command, *arguments], check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150
    )
    assert done.returncode in (0, 1), done.stderr
    stored = json.loads((directory / "results" / "safety.json").read_text("utf-8"))
    assert (directory / "results" / "safety.md").read_text("utf-8").strip() == done.stdout.strip()
    assert not list(directory.glob("zarrant-safety-*")), "the arrays are removed"
    assert str(directory) not in done.stdout
    return done.returncode, done.stdout, stored["tests"]


# ── the whole of it ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_ours_loses_and_tears_nothing_and_every_library_gets_through(tmp_path: Path) -> None:
    _, printed, found = run(tmp_path, *TINY, "--processes", "2", "--seconds", "0.04", "--peers", ",".join(ADAPTERS))
    assert printed.startswith(f"| test | {' | '.join(PEERS)} |")
    assert all(list(of) == list(PEERS) for of in found.values())
    for test, of in found.items():
        # What other libraries read of a shard while it is repacked is theirs, and a matter of luck.
        assert test == "read-shard" or of[OURS]["harm"] == 0, (test, of[OURS])
        assert all(finding["counts"] or finding["note"] == "not offered" for finding in of.values()), (test, of)
    for test in (*RACES, "attributes", "appends", "waits"):
        counts = found[test][OURS]["counts"]
        assert counts["done"] >= 2 and counts["lost"] == counts["wrong"] == 0
        assert counts["rate"] > 0 and counts["max"] >= counts["p50"] > 0 and counts["fastest/slowest"] >= 1
    for test in ("kill-chunk", "kill-shard"):
        counts = found[test][OURS]["counts"]
        assert counts["old"] + counts["new"] == counts["kills"] == 2
        assert (counts["exact"], counts["files"]) == (3, 0)
    for test in ("read-chunk", "read-shard"):
        for reader in set(PEERS) & {OURS, "tensorstore"}:
            counts = found[test][OURS]["counts"][reader]
            assert counts["reads"] > 0 and counts["wrong"] == counts["raised"] == 0


def test_a_careless_library_is_seen_to_lose_and_tear(tmp_path: Path) -> None:
    """Each of its writes undoes all others: of each half of the object the last writer's update remains."""
    some = "processes,threads-shard,attributes,appends,kill-chunk,read"
    enough = ("--seconds", "0.12", "--kills", "8")  # on a busy machine some kills come before a write has begun
    status, printed, found = run(tmp_path, *TINY, *enough, "--tests", some, "--peers", CARELESS)
    assert status == 0, "the status speaks of ours"
    assert "| test | Careless |" in printed
    counts = {test: of[CARELESS]["counts"] for test, of in found.items()}
    races = ("processes-chunk", "processes-shard", "threads-shard")
    for test in races:
        assert counts[test]["done"] >= 3
        assert counts[test].get("unreadable") or counts[test]["lost"] + counts[test]["wrong"] >= counts[test]["done"] - 2
    assert counts["attributes"].get("unreadable") or counts["attributes"]["lost"] >= counts["attributes"]["done"] - 1
    assert found["appends"][CARELESS]["note"] == "not offered"
    assert "Careless, 3 processes, append: not offered" in printed
    assert counts["kill-chunk"]["torn"] > 0
    for test in ("read-chunk", "read-shard"):
        assert sum(counts[test][reader]["wrong"] + counts[test][reader]["raised"] for reader in PEERS) > 0
    assert all(found[test][CARELESS]["harm"] for test in (*races, "kill-chunk", "read-chunk", "read-shard"))


def test_raising_crashing_and_hanging_are_results(tmp_path: Path) -> None:
    (tmp_path / "bad_adapters.py").write_text(BAD)
    names = [f"bad_adapters:{name}" for name in ("Raising", "Crashing", "Hanging")]
    options = ("--processes", "2", "--seconds", "0.1", "--timeout", "1.5", "--kills", "1")
    status, printed, found = run(tmp_path, *options, "--tests", "processes-chunk,kill-chunk", "--peers", ",".join(names))
    assert status == 0
    raising, crashing, hanging = (found["processes-chunk"][name] for name in names)
    assert raising["counts"]["raised"] == raising["counts"]["begun"] > 0
    assert set(raising["troubles"]) == {"OSError: no more room"}
    assert (crashing["counts"]["crashed"], crashing["counts"]["done"], crashing["counts"]["lost"]) == (2, 4, 4)
    assert crashing["troubles"] == {"crashed: SIGABRT it is over": 2}
    assert (hanging["counts"]["hung"], hanging["counts"]["begun"], hanging["counts"]["done"]) == (2, 2, 0)
    assert [found["kill-chunk"][name]["note"] for name in names[::2]] == [
        "raised: OSError: no more room",
        "hung: no answer in time",
    ]
    assert found["kill-chunk"][names[1]]["counts"]["inexact"] > 0
    assert "| raised / crashed / hung |" in printed and " / 2 / 0 |" in printed


def test_without_repacks_every_reader_reads_right(tmp_path: Path) -> None:
    _, _, found = run(tmp_path, *TINY, "--seconds", "0.2", "--tests", "read-shard", "--peers", STILL)
    assert found["read-shard"][STILL]["harm"] == 0, found
    assert found["read-shard"][STILL]["counts"]["updates"] > 0


# ── judging ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("sharded", [False, True])
def test_every_update_is_told_from_every_other_and_from_none(sharded: bool) -> None:
    scene = Scene(8, sharded)
    for k in (1, 2):
        for part in scene.parts:
            after = scene.after(k)[part]
            assert set(shown(scene, after, part, k, k)) <= {k}
            with pytest.raises(Wrong, match="the fill value"):
                shown(scene, np.zeros_like(after), part, k, k)
            for place in np.ndindex(after.shape):
                torn = after.copy()
                torn[place] ^= np.uint64(1)
                with pytest.raises(Wrong, match="not of one update"):
                    shown(scene, torn, part, k, k)
    with pytest.raises(Wrong, match="an older update"):
        shown(scene, scene.after(1), scene.whole, 2, 3)
    with pytest.raises(Wrong, match="no update"):
        shown(scene, scene.after(4), scene.whole, 2, 3)


def test_an_update_seen_in_part_is_torn_in_a_chunk_and_mixed_in_a_shard() -> None:
    for sharded in (False, True):
        scene = Scene(8, sharded)
        half = scene.after(3)
        half[8:] = scene.after(2)[8:]
        if sharded:
            assert set(shown(scene, half, scene.whole, 2, 3)) == {2, 3}
        else:
            with pytest.raises(Wrong, match="not of one update"):
                shown(scene, half, scene.whole, 2, 3)


def test_a_cell_shows_its_last_update_or_a_later_unfinished_one(tmp_path: Path) -> None:
    plan = Plan("cell", writers=1, each=4, seconds=1, cells=2, cell=2)
    told = np.array([DONE, DONE, DONE, BEGUN], np.uint8)

    class Reader:
        def __init__(self, *values: int) -> None:
            self.values = np.array(values, np.uint64)

        def read(self, peer: str, path: Path) -> Any:
            return self.values

    def lost(*values: int) -> tuple[int, int]:
        found = _lost_cells(Reader(*values), "", tmp_path, plan, told)  # type: ignore[arg-type]
        return found["lost"], found["wrong"]

    assert lost(3, 3, 2, 2) == lost(3, 3, 4, 4) == (0, 0)
    assert lost(1, 1, 2, 2) == lost(0, 0, 2, 2) == (1, 0)
    assert lost(3, 3, 0, 0) == (1, 0)
    assert lost(3, 1, 2, 2) == lost(2, 2, 2, 2) == lost(3, 3, 6, 6) == lost(5, 5, 2, 2) == (0, 1)


def test_errors_are_told_without_the_directory_of_a_run() -> None:
    assert one_line('open "/x/zarrant-safety-ab_c1/12-array/c/0" failed:\n no') == 'open "array/c/0" failed: no'
    assert one_line(KeyError("k")) == "KeyError: 'k'"


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong", [["--peers", "h5py"], ["--seconds", "0"], ["--seconds", "long"], ["--kills", "none"]])
def test_arguments_that_mean_nothing_end_with_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(wrong)
    assert end.value.code == 2
    assert wrong[1] in capsys.readouterr().err


def test_defaults_the_list_and_an_empty_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert parser().parse_args([]).peers == list(ADAPTERS)
    assert (libraries("zarrant, a.b:C"), duration("2.5")) == (["zarrant", "a.b:C"], 2.5)
    assert main(["--list"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [*RACES, "attributes", "appends", "waits", "kill-chunk", "kill-shard", "read-chunk", "read-shard"]
    assert table([], {}, [OURS], {"when": "now"}) == "| test | zarrant |\n| --- | ---: |\n\n- when: now\n"
