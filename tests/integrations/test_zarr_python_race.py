"""Processes of plain zarr-python that write slabs which do not end where chunks do: with the variable alone none loses a value.

Each race has a control: the same job with zarr-python's own pipelines, where values must be lost. So the race would find it.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from children import go, waiting
from servers import Server

zarr = pytest.importorskip("zarr", minversion="3.1")

from integrations.zarr_writers import SHAPE, Writer, differing, layouts, slabs, store_of, values  # noqa: E402

WRITERS = 4
SCRIPT = Path(__file__).with_name("zarr_writers.py")
OURS = "zarrant.integrations.zarr_python.CodecPipeline"
DEFAULT = "zarr.core.codec_pipeline.BatchedCodecPipeline"
FUSED = "zarr.core.codec_pipeline.FusedCodecPipeline"
ZARRS = "zarrs.ZarrsCodecPipeline"
QUICK = [name for name in layouts() if name not in ("unknown codec in shards", "strings", "dates")]


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def writers() -> Iterator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(waiting(SCRIPT, number, WRITERS)) for number in range(WRITERS)]


class Result:
    """What a race has lost: values by place and layout, and calls that failed."""

    def __init__(self, replies: Sequence[dict[str, Any]], job: dict[str, Any]) -> None:
        self.modules = {module for reply in replies for module in reply["modules"]}
        self.lost: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        for reply in replies:
            for name, (lost, errors) in reply["found"].items():
                self.lost[name] += lost
                self.errors[name] += errors
        for at, place in enumerate(job["places"]):
            for layout in job["layouts"]:
                try:
                    found = zarr.open_array(store_of(place), path=layout, mode="r")[...]
                    self.lost[f"{at} {layout}"] += differing(found, values(layout, job["rounds"] - 1))
                except Exception:  # a checksum that is wrong, which a control may leave
                    self.errors[f"{at} {layout}"] += 1

    def __add__(self, other: Result) -> Result:
        self.lost.update(other.lost)
        self.errors.update(other.errors)
        return self

    @property
    def nothing(self) -> bool:
        return not any(self.lost.values()) and not any(self.errors.values())


def race(children: Sequence[Any], places: Sequence[Any], names: Sequence[str], rounds: int, pipeline: str | None = None) -> Result:
    """All children write to all layouts at all places."""
    for place in places:
        for name in names:
            zarr.create_array(store_of(place), name=name, shape=SHAPE, overwrite=True, **{"dtype": "uint16", **layouts()[name]})
    job = {"places": list(places), "layouts": list(names), "rounds": rounds, "pipeline": pipeline}
    for child in children:
        child.stdin.write(json.dumps(job) + "\n")
        child.stdin.flush()
    for child in children:
        assert child.stdout.readline() == "opened\n"
    for child in children:
        go(child)
    return Result([json.loads(child.stdout.readline()) for child in children], job)


def s3(server: Server, prefix: str) -> dict[str, Any]:
    return {**server.storage_options, "bucket": server.url.rpartition("/")[2], "prefix": prefix}


@pytest.mark.usefixtures("variable")
def test_four_processes_lose_nothing_with_the_variable_alone(tmp_path: Path, gofakes3: Server) -> None:
    with writers() as children:
        places = [str(tmp_path / "local"), s3(gofakes3, "race"), {"fsspec": str(tmp_path / "fsspec")}]
        found = race(children, places[:2], QUICK, rounds=2) + race(children, places[2:], ["shards", "strings"], rounds=1)
        assert found.modules == {OURS.rpartition(".")[0]}
        assert found.nothing, (found.lost, found.errors)
        left = [path for path in tmp_path.rglob("*") if "__" in path.name and "installed" not in path.parts]
        assert not left, "locks and temp files are gone"
        control = race(children, [str(tmp_path / "control")], QUICK, 3, DEFAULT)
        assert control.modules == {"zarr.core.codec_pipeline"}
        assert not control.nothing, "the same job loses values with zarr-python's own pipeline"


# ── threads, in memory ───────────────────────────────────────────────────────────────────────────────────────────────────


def in_threads(pipeline: str, names: Sequence[str], rounds: int) -> int:
    """Values lost by threads that write to arrays in memory."""
    store = zarr.storage.MemoryStore()
    with zarr.config.set({"codec_pipeline.path": pipeline}):
        for name in names:
            zarr.create_array(store, name=name, shape=SHAPE, **{"dtype": "uint16", **layouts()[name]})
        all_writers = [
            [Writer(zarr.open_array(store, path=name, mode="r+"), name, slabs(number, WRITERS)) for name in names]
            for number in range(WRITERS)
        ]
    together = threading.Barrier(WRITERS)

    def work(mine: list[Writer]) -> None:
        for number in range(rounds):
            for writer in mine:
                together.wait()
                writer.write(number)

    threads = [threading.Thread(target=work, args=[each]) for each in all_writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pipeline != OURS or not any(writer.errors for each in all_writers for writer in each)
    last = {name: differing(zarr.open_array(store, path=name)[...], values(name, rounds - 1)) for name in names}
    return sum(last.values()) + sum(writer.lost for each in all_writers for writer in each)


@pytest.mark.usefixtures("variable")
def test_threads_lose_nothing_in_memory() -> None:
    import zarrant.integrations.zarr_python  # noqa: F401 - the pipeline has its name

    assert in_threads(OURS, QUICK, rounds=2) == 0
    assert in_threads(DEFAULT, ["chunks", "shards", "strings"], rounds=6) > 0, "the control"


# ── for long ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def controls() -> list[str]:
    """Other pipelines that are here, by what they lose."""
    fused = [FUSED] if hasattr(sys.modules["zarr.core.codec_pipeline"], "FusedCodecPipeline") else []
    return [DEFAULT, *fused, *([ZARRS] if find_spec("zarrs") else [])]


def shown(name: str, found: Result, rounds: int) -> None:
    """The table of docs/zarr-python.md: with `-s`."""
    total = rounds * int(SHAPE[0] * SHAPE[1] * SHAPE[2])
    for layout, lost in found.lost.items():
        print(f"{name} | {layout} | {100 * lost / total:.2f} % | {found.errors[layout]} errors")


@pytest.mark.soak
@pytest.mark.usefixtures("variable")
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("server", ["gofakes3", "moto", "versitygw"])
def test_four_processes_lose_nothing_for_long(tmp_path: Path, request: pytest.FixtureRequest, server: str) -> None:
    names, rounds = list(layouts()), 20
    service: Server = request.getfixturevalue(server)
    with writers() as children:
        for number in range(4):
            places = [str(tmp_path / "local"), s3(service, f"long-{number}"), {"fsspec": str(tmp_path / "fsspec")}]
            found = race(children, places, names, rounds)
            shown(f"zarrant, {server}", found, rounds)
            assert found.nothing, (found.lost, found.errors)
        for pipeline in controls():
            here = [str(tmp_path / "control")] if pipeline == ZARRS else [str(tmp_path / "control"), s3(service, "control")]
            lost = race(children, here, [name for name in names if name != "unknown codec in shards"], rounds, pipeline)
            shown(f"{pipeline.rpartition('.')[2]}, {server}", lost, rounds)
            assert not lost.nothing, pipeline
