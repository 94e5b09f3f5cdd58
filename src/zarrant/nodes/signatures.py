"""Signatures that name every keyword, for `help()`, notebooks and whatever completes by looking at the running program.

A function takes its options as `**options: Unpack[SomeOptions]`, which type checkers and editors read. `inspect.signature` shows
that as one word; `spelled_out` puts the keywords in its place. `...` as a default means that an option is left
out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


class LeftOut:
    """The default of an option that is not given, as signatures show it."""

    def __repr__(self) -> str:
        return "..."


def spelled_out(keywords: type) -> Callable[[F], F]:
    """Show the keys of a TypedDict in the signature of a function that takes them as its last argument, `**options`."""
    hints = get_type_hints(keywords)

    def show(function: F) -> F:
        signature = inspect.signature(function)
        *given, options = signature.parameters.values()
        if options.kind is not inspect.Parameter.VAR_KEYWORD:
            raise TypeError(f"{function.__qualname__} takes no options")
        named = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=LeftOut(), annotation=hint)
            for name, hint in hints.items()
        ]
        function.__signature__ = signature.replace(parameters=[*given, *named])  # type: ignore[attr-defined]
        return function

    return show
