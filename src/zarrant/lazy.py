"""Names of a package that are imported when they are first asked for.

In: the name of a package, and in which module below it each public name is. Out: the `__getattr__` and `__dir__` of the package.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazy_names(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__`, as in `__getattr__, __dir__ = lazy_names(__name__, {"Zstd": "library.zstd"})`."""
    names = vars(sys.modules[package])

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names[name] = found = getattr(import_module(f"{package}.{modules[name]}"), name)
        return found

    def known() -> list[str]:
        return sorted({*names, *modules})

    return find, known
