"""The demo: real data, written by several processes at the same time, every element verified.

    make demo                                       # or: zarrant demo, .venv/bin/python examples/demo.py
    .venv/bin/python examples/demo.py --size 2GiB --keep --output somewhere

Four processes write slabs of one sharded array that fit no chunk, so that most shards are written by several of them at once. Then
every element is compared with NumPy, and the same job is done through zarr-python, where that is installed. Everything is
measured here and now. Arrays are removed at the end unless they are to be kept; the picture (who wrote which shard) stays.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import demo_job
import zarrant
from demo_job import Checked, Job, Series, Written
from demo_picture import Panel, draw_sheet
from demo_show import Event, show
from zarrant.codecs import Zstd
from zarrant.tools import spelling
from zarrant.tools.describe import stored
from zarrant.tools.extras import require
from zarrant.tools.targets import check_replaceable

LEVEL = 1
SIZE = 512 << 20


@dataclass
class Findings:
    """What the steps found out, for the picture."""

    written: Written
    checked: Checked
    footer: list[str] = field(default_factory=list)
    peer: Checked | None = None


def demo(size: int = SIZE, output: str | None = None, keep: bool = False, processes: int = 4) -> Iterator[Event]:
    """Run the demo, step by step; MissingExtraError before it starts where a package is missing.

    Steps: data, write, verify, read_by_zarr, image, same_job_in_zarr, picture; those with zarr only where zarr-python is.
    """
    for module in ("nibabel", "skimage", "PIL"):
        require(module, "demo", "The demo")
    folder = Path(tempfile.mkdtemp(prefix="zarrant-demo-") if output is None else output).resolve()
    arrays = {name: folder / f"{name}.zarr" for name in ("series", "astronaut", "by-zarr-python")}
    for path in arrays.values():
        check_replaceable(path, overwrite=False)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield from _steps(Job.of_size(size, processes), folder, arrays)
    finally:
        for path in arrays.values() if not keep else ():
            shutil.rmtree(path, ignore_errors=True)


def _steps(job: Job, folder: Path, arrays: dict[str, Path]) -> Iterator[Event]:
    path = str(arrays["series"])
    yield Event("data", _data(job, path))
    yield Event("write")
    zarrant.create_array(path, **job.layout, compressors=Zstd(LEVEL), dimension_names=("t", "z", "y", "x"))
    written = demo_job.run(job, "zarrant", path)
    yield Event("write", _write_facts(job, written), ok=not written.failures)
    yield Event("verify")
    found = Findings(written, demo_job.check(job, "zarrant", path))
    files, nbytes = stored(path)
    facts = {**_check_facts(job, found.checked), "files": files, "stored_bytes": nbytes, "ratio": job.nbytes / nbytes}
    yield Event("verify", facts, ok=found.checked.total == 0)
    with_zarr = find_spec("zarr") is not None
    if with_zarr:
        yield Event("read_by_zarr")
        theirs = demo_job.check(job, "zarr", path)
        yield Event("read_by_zarr", _check_facts(job, theirs), ok=theirs.total == 0)
    yield Event("image")
    image = _image(str(arrays["astronaut"]))
    yield Event("image", image, ok=image["wrong"] == 0)
    if with_zarr:
        yield Event("same_job_in_zarr")
        peer, facts = _same_job_in_zarr(job, str(arrays["by-zarr-python"]))
        found.peer = None if facts["failures"] else peer
        yield Event("same_job_in_zarr", facts)
    yield Event("picture")
    yield Event("picture", {"path": str(_picture(job, folder, found, nbytes))})


def _data(job: Job, path: str) -> dict[str, Any]:
    layout = {key: list(job.layout[key]) for key in ("shape", "shards", "chunks")}
    return {"file": demo_job.EXAMPLE, **layout, "dtype": "int16", "bytes": job.nbytes, "path": path}


def _write_facts(job: Job, written: Written) -> dict[str, Any]:
    sharing = demo_job.sharers(job)
    return {
        "processes": job.processes,
        "slabs": len(job.slabs),
        "stored_objects": int(sharing.size),
        "shared_objects": int((sharing > 1).sum()),
        "seconds": written.seconds,
        "megabytes_per_second": demo_job.megabytes_per_second(job, written.seconds),
        "failures": written.failures,
    }


def _check_facts(job: Job, checked: Checked) -> dict[str, Any]:
    speed = demo_job.megabytes_per_second(job, checked.seconds)
    values = job.nbytes // 2
    return {
        "values": values,
        "wrong": checked.total,
        "seconds": checked.seconds,
        "megabytes_per_second": speed,
        "failures": checked.failures,
    }


def _image(path: str) -> dict[str, Any]:
    """A picture of scikit-image as a small sharded array, written in one go and in uneven bands, and read back."""
    pixels = np.asarray(require("skimage.data", "demo", "The demo").astronaut())
    layout = {"chunks": (64, 64, 3), "shards": (256, 256, 3), "compressors": Zstd(LEVEL)}
    array = zarrant.create_array(path, shape=pixels.shape, dtype=pixels.dtype, **layout)
    for low in range(0, len(pixels), 100):
        array[low : low + 100] = pixels[low : low + 100]
    files, nbytes = stored(path)
    wrong = int((np.asarray(array[...]) != pixels).sum())
    return {
        "name": "astronaut",
        "shape": list(pixels.shape),
        "values": pixels.size,
        "wrong": wrong,
        "files": files,
        "stored_bytes": nbytes,
        "ratio": pixels.nbytes / nbytes,
    }


def _same_job_in_zarr(job: Job, path: str) -> tuple[Checked, dict[str, Any]]:
    """The same slabs, processes and barrier, through zarr-python, on a new array of the same layout."""
    zarr = require("zarr", "zarr", "The comparison")
    zarr.create_array(path, **job.layout, compressors=zarr.codecs.ZstdCodec(level=LEVEL))
    written = demo_job.run(job, "zarr", path)
    checked = demo_job.check(job, "zarr", path)
    facts = _check_facts(job, checked)
    speed = {"seconds": written.seconds, "megabytes_per_second": demo_job.megabytes_per_second(job, written.seconds)}
    return checked, {**facts, **speed, "version": zarr.__version__, "failures": written.failures + checked.failures}


def _picture(job: Job, folder: Path, found: Findings, nbytes: int) -> Path:
    middle = job.n_frames // 2
    frame = Series(job.tiles).frames(middle, middle + 1)[0]
    edges = sorted({slab.rows[1] for slab in job.slabs} - {job.frame[1]})
    panel = Panel(
        frame[job.frame[0] // 2 - 2],
        job.layout["shards"][2:],
        job.layout["chunks"][2:],
        edges,
        f"frame {middle}, one slice (y, x)",
    )
    losses = {"Zarrant": found.checked.wrong} | ({"zarr-python": found.peer.wrong} if found.peer is not None else {})
    facts = [
        f"{job.processes} processes wrote {len(job.slabs)} slabs that fit no chunk, all at the same time",
        f"{job.nbytes / 2**20:.0f} MiB of int16 {job.shape} in {int(np.prod(job.grid))} shards, "
        f"{nbytes / 2**20:.0f} MiB stored, {demo_job.megabytes_per_second(job, found.written.seconds):.0f} MB/s",
    ]
    path = folder / "chunk-map.png"
    draw_sheet(path, panel, found.written.last_writer(job), demo_job.sharers(job), losses, facts)
    return path


def command(
    size: Annotated[str, typer.Option(help="Bytes to write, as in 512MiB or 2GiB.")] = "512MiB",
    output: Annotated[
        Path | None, typer.Option(help="Where arrays and picture go; a new temporary directory if not given.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the arrays; the picture is kept in any case.")] = False,
    processes: Annotated[int, typer.Option(min=2, max=64, help="How many write at the same time.")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")] = False,
) -> None:
    """Write real data from several processes at the same time, and verify every element."""
    steps = demo(spelling.size(size, "size"), None if output is None else str(output), keep, processes)
    if as_json:
        events = [event for event in steps if event.facts is not None]
        correct = all(event.ok for event in events)
        typer.echo(json.dumps({event.step: event.facts for event in events} | {"ok": correct}, indent=2, ensure_ascii=False))
    else:
        correct = show(steps, keep)
    raise typer.Exit(0 if correct else 1)


def main(arguments: Sequence[str], name: str = "demo.py") -> int:
    """Run it by words of a command line; the exit status."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})
    app.command()(command)
    return int(typer.main.get_command(app).main(list(arguments), prog_name=name, standalone_mode=False) or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
