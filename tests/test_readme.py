"""The tour of the README runs: its Python blocks, in order, in one namespace, in an empty directory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


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
        # The blank lines make a traceback name the line in the README.
        exec(compile("\n" * line + source, str(README), "exec"), namespace)
    assert (tmp_path / "volume.zarr" / "zarr.json").is_file()
