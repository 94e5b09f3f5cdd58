"""One way to declare a command: what all of them have, and how a result is shown.

In: a function of `app` that gets its words as values and returns a `Result`. Out: the command. A parameter `storage_options` or
`source_options` becomes an option that may be given several times, as NAME=VALUE; a parameter `report` gets what shows progress,
and the command `--quiet`. Every command has `--json`. The first line of the docstring stands in the list of commands, whole: it
has at most `SHORT_HELP` characters, which is a line of a terminal of 80.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import Annotated, Any, TypeAlias

import typer

from zarrant.cli import show
from zarrant.progress import Report
from zarrant.tools import spelling

SHORT_HELP = 62
EXIT_STATUSES = (
    "Exit status: 0 done; 1 an error, or something is wrong with the data; 2 words that are not understood, "
    "or a package that is missing; 130 interrupted."
)

Options: TypeAlias = Mapping[str, Any] | None
"""Options of a store, as values."""

_JSON = Annotated[bool, typer.Option("--json", help="Print one JSON value and nothing else.")]
_QUIET = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress. It is shown in terminals only.")]
_OPTIONS: Mapping[str, Any] = {
    "storage_options": Annotated[
        list[str] | None,
        typer.Option(
            "--option",
            "-o",
            metavar="NAME=VALUE",
            help="Of the store, as in region=eu-central-1; may be given several times.",
        ),
    ],
    "source_options": Annotated[
        list[str] | None,
        typer.Option("--source-option", metavar="NAME=VALUE", help="As --option, of the store of the source."),
    ],
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a command found: for programs, and how to print it for people; `status`: 0, or 1 where something is wrong."""

    facts: Any
    show: Callable[[], None]
    status: int = 0


Shared: TypeAlias = Mapping[str, tuple[Any, Any]]
"""Parameters that several commands have: by name, the annotation and the default."""


def command(app: typer.Typer, shared: Shared | None = None) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Make a function a command of an application. What is `shared` it gets as keywords."""

    def register(function: Callable[..., Result]) -> Callable[..., Result]:
        help_text = inspect.cleandoc(function.__doc__ or "")
        app.command(short_help=help_text.splitlines()[0], help=help_text, epilog=EXIT_STATUSES)(_entered(function, shared or {}))
        return function

    return register


def _entered(function: Callable[..., Result], shared: Shared) -> Callable[..., None]:
    """The function as typer calls it, with words; its signature says what the words are."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    given = inspect.signature(function, eval_str=True).parameters
    parameters = {name: each.replace(kind=keyword) for name, each in given.items() if each.kind != inspect.Parameter.VAR_KEYWORD}
    for name, (annotation, default) in shared.items():
        parameters[name] = inspect.Parameter(name, keyword, annotation=annotation, default=default)
    stores = [name for name in _OPTIONS if name in parameters]
    long = parameters.pop("report", None) is not None

    @wraps(function)
    def entered(**words: Any) -> None:
        as_json, quiet = words.pop("as_json"), words.pop("quiet", False)
        for name in stores:
            words[name] = spelling.named_values(words[name])
        with show.progress_bar(function.__name__) if long and not (as_json or quiet) else nullcontext() as report:
            result = function(**words, **({"report": report} if long else {}))
        typer.echo(json.dumps(result.facts, indent=2, ensure_ascii=False)) if as_json else result.show()
        raise typer.Exit(result.status)

    for name in stores:
        parameters[name] = parameters.pop(name).replace(annotation=_OPTIONS[name], default=None)
    common = {**({"quiet": _QUIET} if long else {}), "as_json": _JSON}
    own = [*parameters.values()]
    own += [inspect.Parameter(name, keyword, annotation=annotation, default=False) for name, annotation in common.items()]
    entered.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    entered.__annotations__ = {each.name: each.annotation for each in own}
    return entered


ReportTo: TypeAlias = Report | None
"""What a long command reports its progress to."""
