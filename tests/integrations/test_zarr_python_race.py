"""Processes of plain zarr-python that write slabs which do not end where chunks do: with the variable alone none loses a value."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from children import go, waiting
from servers import Server

zarr = pytest.importorskip("zarr", minversion="3.1")

from integrations.zarr_writers import SHAPE, layouts, store_of, values  # noqa: E402

WRITERS = 4
SCRIPT = Path(__file__).with_name("zarr_writers.py")
OURS = "zarrant.integrations.zarr_python.CodecPipeline"


@pytest.fixture
def variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variable alone: no line of the program names Zarrant."""
    monkeypatch.setenv("ZARR_CODEC_PIPELINE__PATH", OURS)
    found = importlib.metadata.entry_points(group="zarr.codec_pipeline")
    if not any(each.value.startswith("zarrant.") for each in found):  # run from the sources: what an installation says
        about = tmp_path / "installed" / "zarrant_of_tests-0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zarrant_of_tests\nVersion: 0\n")
        value = OURS.rpartition(".")[0]
        (about / "entry_points.txt").write_text(f"[zarr.codec_pipeline]\nzarrant = {value}:CodecPipeline\n")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(about.parent), os.environ.get("PYTHONPATH", "")]))


def race(places: Sequence[Any], rounds: int) -> tuple[dict[str, int], set[str]]:
    """Elements that were lost, by place and layout, and the modules of the pipelines that wrote."""
    for place in places:
        for name, layout in layouts().items():
            zarr.create_array(store_of(place), name=name, shape=SHAPE, dtype="uint16", **layout)
    with ExitStack() as stack:
        arguments = [(number, WRITERS, rounds, json.dumps(places)) for number in range(WRITERS)]
        children = [stack.enter_context(waiting(SCRIPT, *each)) for each in arguments]
        for child in children:
            go(child)
        said = {json.loads(child.stdout.readline() or '"failed"') for child in children}
    lost = {}
    for number, place in enumerate(places):
        for name in layouts():
            found = zarr.open_array(store_of(place), path=name, mode="r")[...]
            lost[f"{number} {name}"] = int((found != values()).sum())
    return lost, said


def s3(server: Server, prefix: str) -> dict[str, Any]:
    return {**server.storage_options, "bucket": server.url.rpartition("/")[2], "prefix": prefix}


@pytest.mark.usefixtures("variable")
def test_four_processes_lose_nothing_with_the_variable_alone(tmp_path: Path, gofakes3: Server) -> None:
    places = [str(tmp_path / "local"), s3(gofakes3, "race")]
    lost, said = race(places, rounds=1)
    assert said == {OURS.rpartition(".")[0]}
    assert not any(lost.values()), lost
    left = [path for path in (tmp_path / "local").rglob("*") if "__" in path.name]
    assert not left, "locks and temp files are gone"


@pytest.mark.soak
@pytest.mark.usefixtures("variable")
@pytest.mark.timeout(1800)
def test_four_processes_lose_nothing_for_long(tmp_path: Path, gofakes3: Server) -> None:
    for number in range(20):
        lost, _ = race([str(tmp_path / "local"), s3(gofakes3, f"long-{number}")], rounds=10)
        assert not any(lost.values()), lost
        shutil.rmtree(tmp_path / "local")


@pytest.mark.soak
def test_without_it_values_are_lost(tmp_path: Path) -> None:
    """The control: what the race would find."""
    total = np.zeros(len(layouts()), np.int64)
    for number in range(10):
        lost, said = race([str(tmp_path / str(number))], rounds=3)
        assert said == {"zarr.core.codec_pipeline"}
        total += np.array(list(lost.values()))
    assert total.sum() > 0
