"""Signatures that name every keyword, for `help()`, notebooks and whatever completes by looking at the running program.

A function takes its options as `**options: Unpack[SomeOptions]`, which type checkers and editors read. `inspect.signature` shows
that as one word; `spelled_out` puts the keywords in its place. `...` as a default means that an option is left
out.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

F = TypeVar("F", bound=Callable[..., Any])


class LeftOut:
    """The default of an option that is not given, as signatures show it."""

    def __repr__(self) -> str:
        return "..."


@lru_cache(maxsize=64)
def _parameters(keywords: type) -> tuple[inspect.Parameter, ...]:
    """The keys as parameters; several functions take the same ones, and their hints take 0.3 ms to evaluate."""
    hints = get_type_hints(keywords)
    return tuple(
        [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=LeftOut(), annotation=hints[name]) for name in hints]
    )


def spelled_out(keywords: type) -> Callable[[F], F]:
    """Show the keys of a TypedDict in the signature of a function that takes them as its last argument, `**options`."""
    named = _parameters(keywords)

    def show(function: F) -> F:
        signature = inspect.signature(function)
        *given, options = signature.parameters.values()
        if options.kind is not inspect.Parameter.VAR_KEYWORD:
            raise TypeError(f"{function.__qualname__} takes no options")
        function.__signature__ = signature.replace(parameters=[*given, *named])  # type: ignore[attr-defined]
        return function

    return show
