"""The Python of the page about stores runs."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from zarrant.errors import ZarrantWarning

PAGE = Path(__file__).parents[2] / "docs" / "other-stores.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fsspec", "obstore", "zarr"):
        pytest.importorskip(name)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    text = PAGE.read_text(encoding="utf-8")
    with pytest.warns(ZarrantWarning):
        for found in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            lines = "\n" * text.count("\n", 0, found.start(1))
            exec(compile(lines + found[1], str(PAGE), "exec"), namespace)
    assert np.asarray(namespace["array"]).tolist() == [0, 0, 0, *range(3, 12)]
