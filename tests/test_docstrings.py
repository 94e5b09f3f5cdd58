"""Docstrings stand where users look, say what is needed, and their examples run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarrant
from zarrant.nodes.partial_decoder import PartialDecoder
from zarrant.nodes.partial_encoder import PartialEncoder
from zarrant.nodes.signatures import LeftOut

# The others live behind extras, or start a program when run.
OTHERS = ("zarrant.cli", "zarrant.__main__", "zarrant.integrations", "zarrant.tools", "zarrant.kernels._native")
BEHIND_EXTRAS = {"zarrant.stores.zarr_store": "zarr", "zarrant.stores.fsspec_store": "fsspec"}
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(zarrant.__path__, "zarrant.")
    if not module.name.startswith(OTHERS) and find_spec(BEHIND_EXTRAS.get(module.name, "zarrant"))
)


@pytest.mark.parametrize("name", ["zarrant", *MODULES])
def test_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.testmod(importlib.import_module(name), optionflags=flags, extraglobs={"np": np, "zarrant": zarrant})
    assert result.failed == 0


def test_examples_are_found() -> None:
    finder = doctest.DocTestFinder(exclude_empty=True)
    modules = map(importlib.import_module, MODULES)
    assert sum(bool(test.examples) for module in modules for test in finder.find(module)) > 0


# ── what users look up ───────────────────────────────────────────────────────────────────────────────────────────────


def documented(cls: type) -> dict[str, Any]:
    """The public methods of a class, by name, those of its bases of ours included."""
    functions = inspect.getmembers(cls, inspect.isfunction)
    return {name: function for name, function in functions if not name.startswith("_")}


def undocumented(function: Any) -> list[str]:
    """What the docstring of a function lacks: each argument by name, what it raises, an example."""
    doc = inspect.getdoc(function) or ""
    arguments = [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]
    if not arguments:
        return [] if doc else ["text"]
    section = doc.partition("Args:\n")[2].partition("\n\n")[0]
    named = set(re.findall(r"^    (\w+): \S", section, re.MULTILINE))
    # "options" stands for the keywords of another function, which has their documentation.
    parameters = inspect.signature(function).parameters
    optional = {name for name, parameter in parameters.items() if isinstance(parameter.default, LeftOut)}
    lacking = [name for name in arguments if name not in named | (optional if "options" in named else set())]
    return [*lacking, *(part for part in ("Raises:\n", ">>> ") if part not in doc)]


@pytest.mark.parametrize("cls", [zarrant.Array, zarrant.Group, PartialEncoder, PartialDecoder], ids=lambda cls: cls.__name__)
def test_every_method_with_arguments_says_what_they_are_what_it_raises_and_shows_it(cls: type) -> None:
    lacking = {name: undocumented(function) for name, function in documented(cls).items()}
    assert {name: parts for name, parts in lacking.items() if parts} == {}


@pytest.mark.parametrize("cls", [zarrant.AsyncArray, zarrant.AsyncGroup], ids=lambda cls: cls.__name__)
def test_every_coroutine_points_to_its_twin(cls: type) -> None:
    twin = cls.__name__.removeprefix("Async")
    blocking = documented(getattr(zarrant, twin))
    wrong = {}
    for name, function in documented(cls).items():
        if name in blocking and function is not blocking[name]:
            wrong[name] = [] if (function.__doc__ or "").startswith(f"See `{twin}.{name}`") else ["See"]
        else:
            wrong[name] = undocumented(function)
    assert {name: parts for name, parts in wrong.items() if parts} == {}


def test_no_docstring_sends_its_reader_to_what_is_not_public() -> None:
    names = [name for name in zarrant.__all__ if inspect.isclass(getattr(zarrant, name))]
    docs = {
        f"{name}.{member}": inspect.getdoc(value) or ""
        for name in names
        for member, value in inspect.getmembers(getattr(zarrant, name))
        if not member.startswith("_")
    }
    assert len(docs) > 100
    assert [name for name, doc in docs.items() if re.search(r"See `(ops|nodes|run)\.|API\.md|SAFETY\.md", doc)] == []


FUNCTIONS = [name for name in zarrant.__all__ if inspect.isfunction(getattr(zarrant, name))]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_its_arguments_are_what_it_raises_and_shows_it(name: str) -> None:
    function = getattr(zarrant, name)
    if name.endswith("_async"):
        assert function.__doc__.startswith(f"See `{name.removesuffix('_async')}`")
    else:
        assert undocumented(function) == []


def arguments_of(function: Any) -> dict[str, str]:
    """The text on each argument in a docstring."""
    section = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
    return {name: " ".join(text.split()) for name, text in re.findall(r"^    (\w+): ((?:.|\n {5,})*)", section, re.MULTILINE)}


SHARED = {"store", "name", "config", "synchronizer", "storage_options", "mode", "attributes"}


@pytest.mark.parametrize(
    ("names", "same", "differ"),
    [
        # `options` and `if_exists` are those of an array, or of a group.
        ("create_array create_group open_array open_group open", SHARED, {"if_exists", "options"}),
        # The data type is that of the value, if nobody says another one.
        ("zeros ones empty full", {"store", "shape", "options"}, {"dtype"}),
        # The others point to `full_like`, which says what is taken of `a`.
        ("zeros_like ones_like empty_like full_like", {"store", "dtype", "options"}, {"a"}),
    ],
)
def test_an_argument_of_several_functions_has_one_text(names: str, same: set[str], differ: set[str]) -> None:
    """Each function says all by itself, as `help()` and the reference show it; here it is seen that they say the same."""
    texts: dict[str, set[str]] = {}
    for name in names.split():
        for argument, text in arguments_of(getattr(zarrant, name)).items():
            texts.setdefault(argument, set()).add(text)
    assert same | differ <= texts.keys()
    assert {argument for argument, found in texts.items() if len(found) > 1} == differ
