"""The tour of the README runs: its Python blocks, in order, in one namespace, in an empty directory; those with S3 apart."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import zarrant
from servers import Server

README = Path(__file__).parents[1] / "README.md"
CLOUD = '"s3://zarrant/'


def python_blocks(text: str) -> list[tuple[int, str]]:
    """(first line, source) of every Python block."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match.group(1)) for match in found]


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(README.read_text(encoding="utf-8"))
    assert len(blocks) >= 8
    namespace: dict[str, object] = {"__name__": "tour"}
    for line, source in blocks:
        if CLOUD not in source:
            run(line, source, namespace)
    assert (tmp_path / "volume.zarr" / "zarr.json").is_file()


def run(line: int, source: str, namespace: dict[str, object]) -> None:
    # The blank lines make a traceback name the line in the README.
    exec(compile("\n" * line + source, str(README), "exec"), namespace)


def test_the_tour_runs_in_the_cloud(gofakes3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = ("AWS_ENDPOINT_URL", "endpoint"), ("AWS_ACCESS_KEY_ID", "access_key_id")
    for variable, option in (*variables, ("AWS_SECRET_ACCESS_KEY", "secret_access_key"), ("AWS_REGION", "region")):
        monkeypatch.setenv(variable, gofakes3.storage_options[option])
    blocks = [block for block in python_blocks(README.read_text(encoding="utf-8")) if CLOUD in block[1]]
    assert blocks
    for line, source in blocks:
        run(line, source, {"__name__": "tour", "np": np, "zarrant": zarrant})
