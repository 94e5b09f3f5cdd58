"""The pages on plans, recipes and other libraries run: their blocks of Python, in order, in an empty directory."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import zarrant

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES: dict[str, tuple[str, ...]] = {"planning": ()}


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path) -> None:
    missing = [name for name in PAGES[page] if not find_spec(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert len(blocks) >= 2
    (tmp_path / "page.py").write_text("\n".join(blocks), encoding="utf-8")
    environment = {"PYTHONPATH": str(Path(zarrant.__file__).parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    command = [sys.executable, "page.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


def test_the_pages_are_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"{page}.md" in navigation for page in PAGES)
