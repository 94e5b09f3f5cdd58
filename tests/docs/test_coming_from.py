"""Every line of Zarrant in the tables for users of other libraries runs, in the order of the page."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "coming-from.md"
SKIPPED = {"locking", "durability", "zarrant copy", "zarrant rechunk", "ZARRANT_CONCURRENCY=4", "zarrant"}
"""Words in the right column that are no Python: options, commands, a variable."""


def lines() -> list[str]:
    """The code of the right column of all tables."""
    rows = re.findall(r"^\|(.+)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    right = [re.split(r"(?<!\\)\|", row)[-1] for row in rows]
    return [code for cell in right for code in re.findall(r"`([^`]+)`", cell) if code not in SKIPPED]


def test_every_line_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    block = re.search(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert block is not None
    namespace: dict[str, Any] = {}
    exec(compile(block[1], str(PAGE), "exec"), namespace)
    found = lines()
    assert len(found) > 60
    for code in found:
        if code.startswith("await "):
            source = (
                f"async def main():\n    a = await zarrant.open_array_async('data.zarr')\n    selection = np.s_[0:2]\n    {code}\n"
            )
            exec(source, namespace)
            asyncio.run(namespace["main"]())
        else:
            exec(compile(code, f"{PAGE}: {code}", "exec"), namespace)
