"""The pages for users run, each from its first block to its last one; see `page_runner`. Every page is in the navigation."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "index": (),
    "tour": (),
    "pictures": (),
    "layout": ("typer",),
    "many-processes": ("typer",),
    "growing": (),
    "planning": ("typer",),
    "recipes": (),
    "asyncio": (),
    "machine-learning": (),
    "errors": (),
    "dask": ("dask", "distributed"),
    "xarray": ("xarray", "dask", "zarr"),
}


def installed(folder: Path) -> str:
    """A PYTHONPATH with the tree under test and its entry points, whatever is installed."""
    about = folder / "zarrant-9.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zarrant\nVersion: 9\n", encoding="utf-8")
    project = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [f"[{group}]\n{name} = {value}\n" for group, found in project["entry-points"].items() for name, value in found.items()]
    (about / "entry_points.txt").write_text("".join(lines), encoding="utf-8")
    return f"{folder}{os.pathsep}{Path(zarrant.__file__).parents[1]}"


@pytest.mark.parametrize("name", PAGES)
def test_the_examples_of_a_page_run(name: str, tmp_path: Path) -> None:
    missing = [package for package in PAGES[name] if not find_spec(package)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    programs, work = tmp_path / "bin", tmp_path / "work"
    programs.mkdir()
    work.mkdir()
    for program, arguments in (("python", ""), ("zarrant", " -m zarrant")):
        (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n', encoding="utf-8")
        (programs / program).chmod(0o755)
    kept = {variable: value for variable, value in os.environ.items() if not variable.startswith(("ZARR", "PYTEST", "SLURM"))}
    environment = kept | {
        "PYTHONPATH": installed(tmp_path / "installed"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "COLUMNS": "120",
    }
    command = [sys.executable, "-W", "error::zarrant.errors.ZarrantWarning", Path(__file__).with_name("page_runner.py")]
    command.append(DOCS / f"{name}.md")
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


def test_the_old_script_of_five_minutes_is_safe_with_the_variable_alone(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    text = (DOCS / "zarr-python.md").read_text(encoding="utf-8")
    source = re.search(r"^```python\n(# old_script.py.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert source is not None and "zarrant" not in source[1].split("\n", 1)[1]
    variable = re.search(r"^\$ export (ZARR_CODEC_PIPELINE__PATH)=(\S+)$", text, re.MULTILINE)
    assert variable is not None
    script = source[1]
    for long, short in (("= 260,", "= 104,"), ("Pool(4)", "Pool(2)"), ('{"chunks": (32, 64, 64)}, {', "{"), ("}):", "},):")):
        assert long in script
        script = script.replace(long, short, 1)
    (tmp_path / "old_script.py").write_text(script, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": installed(tmp_path / "installed"), variable[1]: variable[2]}
    command = [sys.executable, "old_script.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split(": ")[-1].split()[0] for line in done.stdout.splitlines()] == ["0"], done.stdout


def test_the_tiles_of_the_web_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp")
    from aiohttp.test_utils import TestClient, TestServer

    text = (DOCS / "asyncio.md").read_text(encoding="utf-8")
    source = re.search(r"^```python\n(# tiles.py.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert source is not None
    monkeypatch.chdir(tmp_path)
    values = np.arange(130 * 70, dtype="uint16").reshape(130, 70)
    zarrant.create_array("image.zarr", data=values, chunks=(32, 32))
    tiles: dict[str, Any] = {"__name__": "tiles"}
    exec(compile(source[1], "tiles.py", "exec"), tiles)

    async def ask() -> None:
        async with TestClient(TestServer(tiles["application"]())) as client:
            reply = await client.get("/2/1")
            assert (reply.status, reply.headers["X-Shape"]) == (200, "2,6")
            assert await reply.read() == values[128:, 64:].tobytes()
            assert (await client.get("/3/0")).status == 404

    asyncio.run(ask())


def test_every_page_is_in_the_navigation() -> None:
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert len(pages) > 25
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert pages == set(re.findall(r": ([\w/-]+\.md)$", navigation, re.MULTILINE))
