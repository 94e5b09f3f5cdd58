"""The examples of the repository, which are not part of the installed package.

In: the name of one. Out: its module, from the checkout that this package, or its virtual environment, lies in.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from zarrant.errors import NodeNotFoundError

FOLDER = "examples"


def checkouts() -> list[Path]:
    """Directories that may be a checkout: above `src/zarrant`, and above `.venv`."""
    return [Path(__file__).resolve().parents[3], Path(sys.prefix).resolve().parent]


def load(name: str) -> ModuleType:
    """The module of an example; NodeNotFoundError outside of a checkout."""
    for checkout in checkouts():
        folder = checkout / FOLDER
        if (folder / f"{name}.py").is_file() and (checkout / "pyproject.toml").is_file():
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))  # processes that are spawned take it over
            return import_module(name)
    raise NodeNotFoundError(
        f"the example {name!r} is in the repository, not in the installed package",
        expected=f"{FOLDER}/{name}.py in a checkout",
        hint="Clone the repository, and run `make demo` there",
    )
