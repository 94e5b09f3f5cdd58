"""The guides of docs/extending: their examples, taken from the page as they stand, pass the suites that they instance."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "extending").glob("*.md"))
FILE = re.compile(r"`((?:src|tests|docs|scripts|examples|benchmarks)/[\w./]+|CMakeLists\.txt)`")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"^```c\n// ([\w.]+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_the_examples_of_a_guide_pass_their_suites(guide: Path, tmp_path: Path) -> None:
    module = tmp_path / f"test_{guide.stem}.py"
    module.write_text("\n\n".join(BLOCK.findall(guide.read_text())))
    for name, text in NAMED.findall(guide.read_text()):  # files that the example needs
        (tmp_path / name).write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", tmp_path, "--basetemp", tmp_path / "t"]
    here = {"cwd": tmp_path, "env": os.environ | {"TMPDIR": str(tmp_path)}}
    done = subprocess.run([*command, module], capture_output=True, text=True, timeout=150, check=False, **here)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) >= 10, done.stdout
    if guide.stem == "codec" and shutil.which("cc"):  # with a compiler its C functions are tested too
        assert "skipped" not in done.stdout, done.stdout


def test_there_is_a_guide_for_each_kind_of_extension() -> None:
    assert [guide.stem for guide in GUIDES] == ["codec", "data_type", "grid", "store"]
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(f"extending/{guide.name}" in navigation for guide in GUIDES)


def test_the_files_that_a_guide_names_are_there() -> None:
    for guide in (*GUIDES, ROOT / "CONTRIBUTING.md"):
        for name in set(
            re.findall(r"`((?:src|tests|docs|scripts|examples|benchmarks)/[\w./]+|CMakeLists\.txt)`", guide.read_text())
        ):
            assert (ROOT / name).exists(), (guide.name, name)
