"""The benchmark harness does the work it times, notices who does it wrong, and says so: at a tiny size, never a time."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import arrays, growth, limits, report
from benchmarks.__main__ import SCRIPTS, defaults, main, parser, run_scripts
from benchmarks.contend import BLOCKS, SHAPE, block
from benchmarks.goals import GOALS
from benchmarks.growth import measure_growth
from benchmarks.jobs import Bench, Bulk, read_back, update_regions
from benchmarks.measure import Cell, Row, measure
from benchmarks.peers import COLUMNS, OURS, PeerMissing, find_peers, make_peer
from benchmarks.peers.base import Peer, Settings
from benchmarks.workloads import BY_NAME, WORKLOADS, Workload

SIZE = 512 * 2**10
SHAPE_TINY = arrays.shape_of(SIZE)
PEERS, MISSING = find_peers(list(COLUMNS), Settings(threads=2))
if "zarr-python" in PEERS:
    PEERS["zarr-python"].subchunk_limit = 400  # all workloads but that of 8³ subchunks: seconds on its own
PHASES = {
    "updates-aligned": ["update"],
    "updates-unaligned": ["update"],
    "append": ["append"],
    "append-plain": ["append"],
    "tiny": ["all"],
    "updates-one-shard": ["update"],
    "subchunks": ["cold", "warm"],
    "crops": ["cold", "warm"],
    "crops-sharded-32": ["cold", "warm"],
    "crops-sharded-8": ["cold", "warm"],
    "selections": ["planes", "steps", "outer", "points", "together", "kept"],
    "selections-sharded-32": ["planes", "steps", "outer", "points", "together", "kept"],
    "assignments": ["steps", "outer", "points"],
    "assignments-sharded-32": ["steps", "outer", "points"],
    "files": ["write", "rewrite", "read"],
    "files-4k": ["write", "rewrite", "read"],
    "start-up": ["import"],
    "contended": ["update"],
    "uncontended": ["update"],
}
STREAMER = "acquire-zarr"
NO_STRINGS = ("tensorstore", "zarrs-python", "zarrista")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    data = arrays.values(SHAPE_TINY)
    able = [peer for name, peer in PEERS.items() if name != STREAMER and peer.subchunk_limit is None]
    referees = sorted(able, key=lambda peer: peer.name == OURS)
    return Bench(tmp_path / "bench", data, np.empty_like(data), 2, referees)


FEW = 12


def with_few(workload: Workload) -> Workload:
    """The same with fewer calls: what a harness does wrong, it does in a dozen. Frames stay as many as fill chunks."""
    job = workload.job
    if not isinstance(job, partial) or "depth" in job.keywords or job.keywords.get("count", 0) <= FEW:
        return workload
    return replace(workload, job=partial(job, count=FEW))


def rows_of(workload: Workload, peers: dict[str, Peer], bench: Bench) -> list[Row]:
    return list(measure([workload], peers, bench, 1, lambda text: None))


# ── every workload ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("peer", list(COLUMNS))
@pytest.mark.parametrize("name", [name for name in BY_NAME if name != "contended"])
def test_every_peer_does_every_workload(name: str, peer: str, bench: Bench) -> None:
    if peer in MISSING:
        pytest.skip(MISSING[peer])
    workload = with_few(BY_NAME[name])
    rows = rows_of(workload, {peer: PEERS[peer]}, bench)
    if name == "strings" and peer in NO_STRINGS:
        assert rows[0].cells[peer].note.startswith("failed: ")
        return
    if name == "assignments-sharded-32" and peer == "zarr-python" and PEERS[peer].version.startswith("3.1."):
        assert rows[1].cells[peer].note.startswith("failed: IndexError"), "zarr 3.1 cannot write lists of indices into shards"
        return
    if peer != STREAMER or workload.streams:
        assert [row.phase for row in rows] == PHASES.get(name, ["write", "read"])
    for row in rows:
        assert set(row.cells) == {peer, *([limits.NAME] if workload.limit else [])}
        if peer == STREAMER and not workload.streams:
            assert row.cells[peer].note == "skipped: it streams frames only"
            continue
        for column, cell in row.cells.items():
            skipped = column in ("zarr-python", STREAMER) and cell.note.startswith("skipped: ")
            assert skipped or (cell.note == "" and len(cell.seconds) == 1 and cell.stored > 0), (column, cell)
    assert not (bench.directory / name).exists(), "the arrays are removed"


@pytest.mark.parametrize("peer", list(COLUMNS))
def test_contended_updates_are_counted_or_the_loss_is_told(peer: str, bench: Bench) -> None:
    if peer in MISSING:
        pytest.skip(MISSING[peer])
    [row] = rows_of(BY_NAME["contended"], {peer: PEERS[peer]}, bench)
    cell = row.cells[peer]
    if peer == STREAMER:
        assert cell.note == "skipped: it streams frames only"
        return
    if peer in (OURS, "tensorstore"):
        assert cell.note == ""
    assert (cell.median is None) == bool(cell.note)
    assert cell.note == "" or cell.note.startswith(("wrong: ", "failed: "))


PIPELINES = {
    "zarrs-python": "ZarrsCodecPipeline",
    "zarr-python": "BatchedCodecPipeline",
    "zarr-python-fused": "FusedCodecPipeline",
}


def test_each_face_of_zarr_python_uses_its_own_pipeline(tmp_path: Path) -> None:
    found, here = {}, [name for name in PIPELINES if name in PEERS]
    if not here:
        pytest.skip("zarr-python is not installed")
    for name in [*here, *here[:1]]:  # the first once more, after the others
        arrays.create(tmp_path / name, arrays.document((4,), (2,), []))
        handle: Any = PEERS[name].open(tmp_path / name)
        found[name] = type(handle.array.async_array.codec_pipeline).__name__
    assert found == {name: PIPELINES[name] for name in here}


def test_zarrista_stores_one_attribute_beside_the_others(tmp_path: Path) -> None:
    """It has no such call of its own, so the adapter has to keep what is there."""
    if "zarrista" in MISSING:
        pytest.skip(MISSING["zarrista"])
    arrays.create(tmp_path, arrays.document((4,), (2,), []))
    handle: Any = PEERS["zarrista"].open(tmp_path)
    handle.set_attribute("a", 1)
    handle.set_attribute("b", 2)
    stored = json.loads((tmp_path / "zarr.json").read_text("utf-8"))["attributes"]
    assert (stored["a"], stored["b"]) == (1, 2)


# ── what is wrong is told, not timed ─────────────────────────────────────────────────────────────────────────────────


class Forgetful:
    """A peer that stores 0 for the first value, or fails."""

    name, version, module = "forgetful", "0", "zarrant"
    subchunk_limit: int | None = None

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def open(self, path: Path) -> Any:
        self.handle = PEERS[OURS].open(path)
        return self

    def write(self, region: Any, values: Any) -> None:
        if self.fails:
            raise OSError("/dev/null/x.y: no more\nroom")
        wrong = values.copy()
        wrong.flat[-1] ^= 1
        self.handle.write(region, wrong)

    def read(self, region: Any, out: Any) -> None:
        self.handle.read(region, out)

    def append(self, frames: Any, depth: int) -> None:
        self.handle.append(frames, depth)


def test_a_wrong_peer_is_noted_and_the_others_go_on(bench: Bench) -> None:
    rows = rows_of(BY_NAME["raw"], {"forgetful": Forgetful(), OURS: PEERS[OURS]}, bench)
    write, read = (row.cells["forgetful"] for row in rows)
    assert write.note.startswith("wrong: 1 of 262144 values are wrong, as read by ")
    assert write.median is None and read.median is None
    assert all(row.cells[OURS].median is not None for row in rows)
    assert "wrong: " in report.markdown(rows, ["forgetful", OURS], {})


def test_a_failing_peer_is_noted_with_its_error(bench: Bench) -> None:
    rows = rows_of(BY_NAME["updates-aligned"], {"forgetful": Forgetful(fails=True)}, bench)
    assert [row.cells["forgetful"].note for row in rows] == ["failed: OSError: …: no more"]


def test_a_peer_with_a_limit_is_skipped_visibly(bench: Bench) -> None:
    limited = Forgetful()
    limited.subchunk_limit = 1
    rows = rows_of(BY_NAME["sharded-zstd-8"], {"forgetful": limited, OURS: PEERS[OURS]}, bench)
    assert {row.cells["forgetful"].note for row in rows} == {"skipped: 512 subchunks would take minutes"}
    assert "forgetful: skipped: 512 subchunks would take minutes" in report.markdown(rows, ["forgetful", OURS], {})


def test_a_library_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COLUMNS, "absent", "no_such_module_anywhere:Peer")
    with pytest.raises(PeerMissing, match="absent is not installed: No module named 'no_such_module_anywhere'"):
        make_peer("absent", Settings(1))
    found, missing = find_peers([OURS, "absent"], Settings(1))
    assert list(found) == [OURS] and list(missing) == ["absent"]


def test_reading_nothing_is_not_taken_for_reading_right(tmp_path: Path, bench: Bench) -> None:
    class Idle(Forgetful):
        def read(self, region: Any, out: Any) -> None: ...

    job = Bulk(bench, PEERS[OURS], "raw", None)
    job.run("write")
    bench.out[...] = bench.data
    assert read_back(PEERS[OURS], job.path, bench.data, bench.out) is None
    assert read_back(Idle(), job.path, bench.data, bench.out) is not None


class Tiring(Forgetful):
    """A peer that is right until it is told to be wrong; then it stores and reads one value wrongly."""

    tired = False

    def write(self, region: Any, values: Any) -> None:
        self.handle.write(region, self._changed(values.copy()))

    def read(self, region: Any, out: Any) -> None:
        self.handle.read(region, out)
        self._changed(out, 0)

    def append(self, frames: Any, depth: int) -> None:
        self.handle.append(self._changed(frames.copy()), depth)

    def _changed(self, values: Any, index: int = -1) -> Any:
        place = (index,) * values.ndim
        if self.tired:
            values[place] = "?" if values.dtype.kind == "T" else values[place] ^ 1
        return values


class TiringJob:
    """Its peer is wrong in every run but the first of each phase, which is not timed; and never where the result is checked."""

    def __init__(self, bench: Bench, peer: Any, make: Any) -> None:
        self.job, self.peer, self.seen = make(bench, peer), peer, set[str]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.job, name)

    def run(self, phase: str) -> float:
        self.peer.tired = phase in self.seen
        self.seen.add(phase)
        try:
            return float(self.job.run(phase))
        finally:
            self.peer.tired = False


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in ("start-up", "contended")])
def test_every_timed_run_is_checked(name: str, bench: Bench) -> None:
    real = with_few(BY_NAME[name])
    workload = replace(real, job=lambda bench, peer: TiringJob(bench, peer, real.job), limit=None)
    for row in rows_of(workload, {"forgetful": Tiring()}, bench):
        assert row.cells["forgetful"].note.startswith("wrong: "), row


@pytest.mark.parametrize("name", ["chunk-whole", "chunk-part", "fortran", "files", "updates-one-shard", "append"])
def test_a_peer_that_stores_something_else_is_noted_in_every_kind_of_job(name: str, bench: Bench) -> None:
    rows = rows_of(BY_NAME[name], {"forgetful": Forgetful()}, bench)
    assert any(row.cells["forgetful"].note.startswith("wrong: ") for row in rows) == (name != "append")


def test_goals_are_of_rows_that_there_are() -> None:
    assert {name for name, _ in GOALS} <= set(BY_NAME)
    assert all(phase in PHASES.get(name, ["write", "read"]) for name, phase in GOALS)


def test_growth_has_a_line_for_each_library_and_phase_and_none_for_who_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(growth, "PROCESSES", (1, 2))
    curves = measure_growth({OURS: PEERS[OURS], "forgetful": Forgetful()}, tmp_path, 32, 1, lambda text: None)
    assert [curve.name for curve in curves] == ["subchunks", "chunks", "size", "processes"]
    for curve in curves[:3]:
        assert set(curve.lines) == {"zarrant write", "zarrant read"}
    assert [x for x, _ in curves[3].lines["zarrant"]] == [1, 2]
    for curve in curves:
        assert all(x > 0 and y > 0 for line in curve.lines.values() for x, y in line)
    report.write_docs(tmp_path / "docs", "table [1]\n", [row(zarrant=2.0, tensorstore=1.0)], [OURS, "tensorstore"], curves)
    page = (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "table \\[1\\]\n" in page
    for name in ("speed", "growth-subchunks", "growth-chunks", "growth-size", "growth-processes"):
        assert f"(performance/{name}.svg)" in page
        ElementTree.parse(tmp_path / "docs" / "performance" / f"{name}.svg")
    report.write_docs(tmp_path / "docs", "table [1]\n", [row(zarrant=2.0, tensorstore=1.0)], [OURS, "tensorstore"], curves)
    assert (tmp_path / "docs" / "performance.md").read_text(encoding="utf-8") == page, "what was measured before is replaced"


def test_other_benchmarks_come_under_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCRIPTS, "crops", ["--help"])
    monkeypatch.setitem(SCRIPTS, "direct", ["--rounds", "none"])
    options = parser().parse_args(["--quick", "--scripts", "crops,direct"])
    found = run_scripts(options)
    assert found["crops"].startswith("usage: python -m benchmarks.crops")
    assert "ended with 2: " in found["direct"] and "expected a number" in found["direct"]


# ── same work for all ────────────────────────────────────────────────────────────────────────────────────────────────


def test_values_follow_the_formula() -> None:
    x, y, z = np.ogrid[:5, :70, :90]
    assert np.array_equal(arrays.values((5, 70, 90)), ((x + y * y // 32 + z**3) % 65536).astype("uint16"))


@pytest.mark.parametrize(
    ("size", "shape", "edge"),
    [(2**30, (512, 1024, 1024), 256), (2**28, (512, 512, 512), 256), (2**25, (256, 256, 256), 128), (1, (64, 64, 64), 64)],
)
def test_shapes_scale_down(size: int, shape: tuple[int, ...], edge: int) -> None:
    assert arrays.shape_of(size) == shape
    assert arrays.object_edge(shape) == edge
    assert all(extent % edge == 0 for extent in shape)


@pytest.mark.parametrize("aligned", [True, False])
def test_updates_stay_inside_and_are_as_aligned_as_they_say(aligned: bool) -> None:
    regions = update_regions(256, 32, 48, aligned)
    assert len({tuple(part.start for part in region) for region in regions}) == 48
    assert all(part.start >= 0 and part.stop <= 256 and part.stop - part.start == 32 for region in regions for part in region)
    assert {part.start % 32 == 0 for region in regions for part in region} == {aligned}


def test_contending_processes_share_every_shard_and_no_element() -> None:
    touched = np.zeros(SHAPE, int)
    for index in range(BLOCKS):
        touched[block(index)] += 1
    assert (touched == 1).all()


def test_the_limits_end_with_the_data(bench: Bench) -> None:
    for name in ("raw", "zstd", "gzip", "blosc", "sharded-zstd-32"):
        make = BY_NAME[name].limit
        assert make is not None
        job = make(replace(bench, directory=bench.directory / name))
        for phase in job.phases:
            bench.out[...] = 0
            job.reset(phase)
            job.run(phase)
            assert job.problem(phase) is None
        bench.out[0, 0, 0] ^= 1
        assert job.problem("read") is not None


# ── the report ───────────────────────────────────────────────────────────────────────────────────────────────────────


def row(**seconds: float) -> Row:
    cells = {name.replace("_", "-"): Cell([value, value * 2, value / 2]) for name, value in seconds.items()}
    return Row("raw", "raw", "write", 2**20, 1, cells)


def test_ratios_compare_medians_with_the_fastest_other() -> None:
    measured = row(zarrant=2.0, tensorstore=1.0, zarrs_python=4.0, limit=0.1)
    peers = ["zarrant", "tensorstore", "zarrs-python"]
    assert report.fastest(measured, peers) == "tensorstore"
    assert report.speed(measured, "tensorstore") == pytest.approx(0.5)
    assert report.slower([measured, row(zarrant=1.0, tensorstore=1.0)], peers) == ["raw, write: 0.50 × tensorstore"]
    table = report.markdown([measured], peers, {"rounds": 3})
    assert "| raw: write | 2.000 | **1.000** | 4.000 | 0.100 | 0.50× |" in table
    assert table.endswith("- rounds: 3\n")


def test_a_row_without_our_time_has_no_ratio() -> None:
    measured = row(tensorstore=1.0)
    assert report.speed(measured, "tensorstore") is None
    assert "| raw: write | [1] | **1.000** | – |" in report.markdown([measured], ["zarrant", "tensorstore"], {})
    assert report.slower([measured], ["zarrant", "tensorstore"]) == []


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def run_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[int, str, Path]]:
    peers = [OURS, *(["tensorstore"] if "tensorstore" in PEERS else [])]
    arguments = ["--size", str(SIZE), "--workloads", "raw,tiny", "--peers", ",".join(peers), "--repeats", "3"]
    status = main([*arguments, "--dir", str(tmp_path), "--results", str(tmp_path / "results"), "--json", str(tmp_path / "x.json")])
    yield status, capsys.readouterr().out, tmp_path


def test_the_command_prints_and_keeps_a_table(run_once: tuple[int, str, Path]) -> None:
    status, printed, path = run_once
    assert status == 0
    assert (path / "results" / "table.md").read_text(encoding="utf-8").strip() == printed.strip()
    stored = json.loads((path / "x.json").read_text(encoding="utf-8"))
    assert [(entry["workload"], entry["phase"]) for entry in stored["rows"]] == [("raw", "write"), ("raw", "read"), ("tiny", "all")]
    assert all(len(entry["cells"][OURS]["seconds"]) == 3 for entry in stored["rows"])
    assert all(len(entry["cells"][OURS]["cpu"]) == 3 for entry in stored["rows"])
    assert all((entry["cells"][OURS]["peak"] is None) == (sys.platform != "linux") for entry in stored["rows"])
    assert math.prod(SHAPE_TINY) * 2 == stored["rows"][0]["nbytes"]
    assert not list(path.glob("zarrant-bench-*")), "the arrays are removed"
    assert [key for key, value in stored["facts"].items() if str(path) in str(value)] == []


def test_the_plot_is_an_image(tmp_path: Path) -> None:
    plot = tmp_path / "a" / "plot.svg"
    assert report.write_plot(plot, [row(zarrant=2.0, tensorstore=1.0)], ["zarrant", "tensorstore"]) is None
    root = ElementTree.parse(plot).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")] == ["tensorstore: 2.00×"]
    assert (
        report.write_plot(tmp_path / "none.svg", [row(tensorstore=1.0)], ["zarrant", "tensorstore"])
        == "no plot: zarrant has no times"
    )


@pytest.mark.parametrize("wrong", [["--size", "big"], ["--workloads", "raw,row"], ["--peers", "h5py"], ["--repeats", "0"]])
def test_arguments_that_mean_nothing_end_with_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(wrong)
    assert end.value.code == 2
    assert wrong[1].split(",")[-1] in capsys.readouterr().err


def test_defaults_and_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    options = defaults(parser().parse_args([]))
    assert options.scripts == list(SCRIPTS) and options.growth and defaults(parser().parse_args(["--quick"])).size == 2**25
    assert options.size == 2**28 and options.repeats == 3 and options.workloads == list(BY_NAME) and options.peers == list(COLUMNS)
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [workload.name for workload in WORKLOADS]
