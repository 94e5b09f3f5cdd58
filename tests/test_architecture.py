"""What docs/architecture.md says of layers, guards and dependencies is what there is."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from zarrant.ops.guard import Guard

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def rows(title: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_layers_are_those_that_are_checked() -> None:
    (contract,) = [each for each in PROJECT["tool"]["importlinter"]["contracts"] if each["type"] == "layers"]
    checked = [sorted(re.findall(r"\w+", layer)) for layer in contract["layers"] if "__main__" not in layer]
    assert [sorted(re.findall(r"`(\w+)`", row[0])) for row in rows("Layers")] == checked


def test_every_guard_is_explained() -> None:
    assert [row[0] for row in rows("What keeps other writers out")][: len(Guard)] == [guard.label for guard in Guard]


@pytest.mark.parametrize("requirement", PROJECT["project"]["dependencies"])
def test_every_dependency_has_a_reason(requirement: str) -> None:
    name = re.split(r"[^\w-]", requirement)[0]
    assert f"`{name}`" in "".join(row[0] for row in rows("Dependencies"))


def test_files_that_are_named_exist() -> None:
    named = re.findall(r"`((?:ops|run|locking|codecs|stores)/\w+\.py)`", PAGE)
    assert named
    assert [path for path in named if not (ROOT / "src" / "zarrant" / path).is_file()] == []
