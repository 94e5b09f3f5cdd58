"""Packages that come with an extra of the installation.

In: the name of a module and of its extra. Out: the module, or an error that says what to install.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from zarrant.errors import CallerError


class MissingExtraError(CallerError, ImportError):
    """A package that an extra brings is not installed; `expected` is the extra, `got` the module that is missing."""


def require(module: str, extra: str, purpose: str) -> Any:
    """The module; MissingExtraError where it cannot be imported.

    >>> require("json", "cli", "this example").__name__
    'json'
    """
    try:
        return import_module(module)
    except ImportError as cause:
        raise MissingExtraError(
            f"{purpose} needs the package {module.partition('.')[0]!r}",
            expected=f"the extra {extra!r}",
            got=str(cause),
            hint=f'pip install "zarrant[{extra}]"',
        ) from cause
