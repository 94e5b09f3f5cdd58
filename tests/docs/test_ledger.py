"""The ledger has a row for each kind of case that the safety tests count, with the figure that a soak run must reach."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROW = re.compile(r"^\| ([\w/ -]+) \| [^|\n]+ \| ([\d,]+) \| ([\d,]+) \|$", re.MULTILINE)


def test_the_rows_are_those_that_are_counted() -> None:
    loaded = (module for name, module in list(sys.modules.items()) if name.endswith("conftest"))
    figures = next(module.FIGURES for module in loaded if hasattr(module, "FIGURES"))
    page = (ROOT / "docs" / "correctness.md").read_text(encoding="utf-8")
    assert {name: int(least.replace(",", "")) for name, _, least in ROW.findall(page)} == figures
