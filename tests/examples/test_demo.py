"""The demo: it is right, it says so only when it is, and what it is made of is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import zarrant
from zarrant.errors import NodeExistsError

pytest.importorskip("nibabel")
pytest.importorskip("skimage")
pil_image = pytest.importorskip("PIL.Image")
pytest.importorskip("typer")
pytest.importorskip("rich")

import demo_job  # noqa: E402
from demo import demo, main  # noqa: E402
from demo_job import Job, Series  # noqa: E402
from demo_picture import AXIS, PAPER, Panel, Sheet, Tiles, draw_sheet  # noqa: E402
from demo_show import Event  # noqa: E402

SMALL = Job.of_size(6 << 20, 2)


@pytest.mark.parametrize(("size", "processes"), [(1, 2), (6 << 20, 2), (64 << 20, 4), (512 << 20, 5)])
def test_slabs_cover_everything_once_and_fit_no_chunk(size: int, processes: int) -> None:
    job = Job.of_size(size, processes)
    seen = np.zeros((job.n_frames, job.frame[1]), int)
    for slab in job.slabs:
        seen[slice(*slab.frames), slice(*slab.rows)] += 1
    assert (seen == 1).all()
    chunks = job.layout["chunks"]
    assert any(slab.frames[0] % chunks[0] for slab in job.slabs)
    assert all(slab.rows[0] == 0 or slab.rows[0] % chunks[2] for slab in job.slabs)
    assert {slab.process for slab in job.slabs} == set(range(processes))
    assert (demo_job.sharers(job) > 1).any()


def test_no_two_frames_are_equal_and_all_are_the_files() -> None:
    frames = Series((1, 1, 1)).frames(0, 6)
    assert len({frame.tobytes() for frame in frames}) == 6
    assert np.array_equal(np.sort(frames[4], axis=None), np.sort(frames[0], axis=None))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, demo_job.Written]:
    path = str(tmp_path_factory.mktemp("demo") / "series.zarr")
    zarrant.create_array(path, **SMALL.layout)
    return path, demo_job.run(SMALL, "zarrant", path)


def test_two_processes_lose_nothing(written: tuple[str, demo_job.Written]) -> None:
    path, result = written
    assert result.failures == []
    assert len(result.finished) == len(SMALL.slabs)
    assert set(result.last_writer(SMALL).ravel().tolist()) <= {0, 1}
    assert demo_job.check(SMALL, "zarrant", path).total == 0


def test_the_check_finds_what_is_wrong_and_where(written: tuple[str, demo_job.Written], tmp_path: Path) -> None:
    array = zarrant.open_array(written[0])
    place = np.s_[5, 20, 70:71, 100]
    right = array[place]
    try:
        array[place] = right + 1
        checked = demo_job.check(SMALL, "zarrant", written[0])
        assert (checked.total, checked.wrong[1, 1, 1, 1]) == (1, 1)
    finally:
        array[place] = right


def test_a_process_that_fails_is_told(tmp_path: Path) -> None:
    result = demo_job.run(Job.of_size(1, 2), "zarrant", str(tmp_path / "nothing.zarr"))
    assert len(result.failures) == 2
    assert any("NodeNotFoundError" in failure for failure in result.failures)
    assert result.finished == []


def test_all_of_it(tmp_path: Path) -> None:
    events = [event for event in demo(6 << 20, str(tmp_path), keep=True, processes=2) if event.facts is not None]
    facts = {event.step: event.facts for event in events}
    assert all(event.ok for event in events)
    assert list(facts)[:3] == ["data", "write", "verify"] and list(facts)[-1] == "picture"
    assert facts["verify"]["wrong"] == facts["image"]["wrong"] == 0
    assert facts["verify"]["values"] * 2 == facts["data"]["bytes"]
    assert facts["verify"]["files"] == facts["write"]["stored_objects"] + 1
    with pil_image.open(facts["picture"]["path"]) as picture:
        assert picture.width > 1000
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 50
    with pytest.raises(NodeExistsError, match=r"series\.zarr"):
        next(demo(6 << 20, str(tmp_path)))


def test_a_lost_value_shows_in_the_picture(tmp_path: Path) -> None:
    grid = (5, 2, 2)
    panel = Panel(np.arange(600).reshape(20, 30), (10, 10), (5, 5), [7], "x")
    last, sharers = np.zeros(grid, np.int64), np.ones(grid, np.int64)
    red = []
    for lost in (np.zeros(grid, np.int64), np.eye(5, 4, dtype=np.int64).reshape(grid)):
        draw_sheet(tmp_path / "map.png", panel, last, sharers, {"peer": lost}, ["one", "two"])
        with pil_image.open(tmp_path / "map.png") as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        red.append(int(((pixels[..., 0] > 180) & (pixels[..., 1] < 40)).sum()))
    assert red[0] == 0 and red[1] > 1000


@pytest.mark.parametrize("grid", [(5, 2, 2), (1,), (3,), (200, 3, 40)])
def test_a_map_has_numbers_at_both_axes(tmp_path: Path, grid: tuple[int, ...]) -> None:
    sheet, tiles = Sheet(600), Tiles(grid, (100, 50), 600)
    tiles.draw(sheet, [PAPER] * int(np.prod(grid)))  # nothing but the numbers is to be seen
    pixels = np.asarray(sheet.image.convert("L"))
    rows = pixels[50 : tiles.end - 22, 100 - AXIS : 98]
    columns = pixels[tiles.end - 20 : tiles.end, 100:700]
    assert (rows < 200).any() and (columns < 200).any()


def test_the_status_tells_of_a_wrong_value(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"values": 10, "wrong": 1, "seconds": 1.0, "megabytes_per_second": 5.0, "failures": []}
    wrong = Event("read_by_zarr", facts, ok=False)
    monkeypatch.setattr("demo.demo", lambda *_: iter([Event("read_by_zarr"), wrong]))
    assert main([]) == 1
    out = capsys.readouterr().out
    assert "1 wrong" in out and "Some elements are wrong" in out
    assert main(["--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {"read_by_zarr": facts, "ok": False}


def test_it_runs_as_a_script_and_as_a_command(tmp_path: Path) -> None:
    script = Path(demo_job.__file__).with_name("demo.py")
    ways = {"script": [sys.executable, script], "command": [sys.executable, "-m", "zarrant", "demo"]}
    for name, way in ways.items():
        output = tmp_path / name
        words = ["--size", "1MiB", "--processes", "2", "--output", output]
        done = subprocess.run([*way, *words], capture_output=True, text=True, timeout=120, check=False)
        assert (done.returncode, "every element is right" in done.stdout) == (0, True), done.stdout + done.stderr
        assert [path.name for path in output.iterdir()] == ["chunk-map.png"]
