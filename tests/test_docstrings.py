"""The examples in docstrings run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import zarrant

# The others live behind extras, or start a program when run.
OTHERS = ("zarrant.cli", "zarrant.__main__", "zarrant.integrations", "zarrant.tools", "zarrant.kernels._native")
MODULES = sorted(
    module.name for module in pkgutil.walk_packages(zarrant.__path__, "zarrant.") if not module.name.startswith(OTHERS)
)


@pytest.mark.parametrize("name", ["zarrant", *MODULES])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = map(importlib.import_module, MODULES)
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) > 0
