"""The pages about other libraries: their Python blocks run, in order, in one namespace, in an empty directory."""

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
NEEDS = {"dask": ("dask", "distributed"), "xarray": ("xarray", "dask", "zarr")}
ENGINE = """
import sys; sys.path.insert(0, {tests!r})
import conftest
"""


@pytest.mark.parametrize("page", sorted(NEEDS))
def test_the_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    missing = [name for name in NEEDS[page] if not find_spec(name)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    blocks = BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert len(blocks) >= 2
    # A script of its own: worker processes import it, and find nothing to do.
    body = "\n".join(blocks).replace("\n", "\n    ")
    start = ENGINE.format(tests=str(Path(__file__).parent))
    (tmp_path / "page.py").write_text(f"{start}\nif __name__ == '__main__':\n    {body}\n", encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "page.py"]
    environment = {"PYTHONPATH": str(Path(zarrant.__file__).parents[1]), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


def test_the_pages_are_in_the_navigation() -> None:
    navigation = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"{page}.md" in navigation for page in NEEDS)
