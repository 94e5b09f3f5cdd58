"""Rules of the code: import layers, sizes, the public names, one copy of every algorithm, no path of a machine in any text."""

from __future__ import annotations

import ast
import importlib.metadata
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import zarrant

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "zarrant"
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {file.relative_to(SOURCE).as_posix(): ast.parse(file.read_text(encoding="utf-8"), str(file)) for file in FILES}
LONGEST_FILE, LONGEST_FUNCTION = 800, 40
"""A long file is a hint to look for two things in one, never a reason to cut one thing in two."""

EXTRAS = {
    *("typer", "rich", "nibabel", "tifffile", "imageio", "skimage", "PIL", "matplotlib", "zarr", "tensorstore", "zarrs"),
    *("fsspec", "obstore", "dask", "xarray"),
}

# Exact, with the length: an entry that is no longer needed fails, so the lists only shrink.
LONG_FILES: dict[str, int] = {}
LONG_FUNCTIONS: dict[str, int] = {}

PUBLIC_FACES = {"nodes/array.py"}
"""All of a class that users see, with its documentation, stays in one file, whatever its length."""

# Modules on top of everything: they may use the public names.
OUTSIDE = ("__init__.py", "__main__.py", "cli/", "testkit/", "tools/", "integrations/")

# Where something may be asynchronous: the twins, and the stores whose calls are coroutines themselves.
TWINS = {
    "run/asynchronous.py",
    "run/buffered_async.py",
    "run/sharing.py",
    "run/group_commit.py",
    "nodes/base.py",
    "nodes/buffered.py",
    "nodes/async_array.py",
    "nodes/async_group.py",
    "nodes/async_shortcuts.py",
    "nodes/locks.py",
    "nodes/open.py",
    "nodes/partial_decoder.py",
    "nodes/partial_encoder.py",
}
NATIVE_ASYNC = ("stores/", "storage/", "testkit/", "integrations/")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines from `def` to the end, without the docstring: what documents a function does not make it longer to follow."""
    first = function.body[0]
    documented = ast.get_docstring(function, clean=False) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


# ── layers ───────────────────────────────────────────────────────────────────────────────────────────────────────────


FOREIGN_PRIVATE = {
    *("_replace", "_asdict", "_fields"),  # public, of named tuples
    *("_restype_", "_argtypes_"),  # ctypes
    *("_strip_protocol",),  # fsspec: what its own implementations call
    *("_decompress",),  # zfpy: the only call that takes the parameters of a stream without header
}
"""Names with a leading underscore that belong to other libraries."""


def own_names(tree: ast.AST) -> Iterator[str]:
    """What a module defines: functions, classes, variables, and the attributes that it gives to `self`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and names_itself(node):
            yield node.attr


def names_itself(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def private_names_of_others(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Uses of a private name that this module does not define, but on `self`; the line and the name."""
    own = {*own_names(tree), *FOREIGN_PRIVATE}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module != "zarrant.kernels":  # the compiled module is `kernels._native`
            yield from ((node.lineno, alias.name) for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and node.attr not in own and not names_itself(node):
            yield node.lineno, node.attr


def test_no_module_uses_private_names_of_another() -> None:
    found = [f"{path}:{line} {name}" for path, tree in TREES.items() for line, name in private_names_of_others(tree)]
    assert found == []


def test_private_names_of_others_are_noticed() -> None:
    code = "from zarrant.ops.read import _piece\narray._handle.array\nself._own = 1\nother._own\nself._any\nitem._replace(a=1)"
    assert list(private_names_of_others(ast.parse(code))) == [(1, "_piece"), (2, "_handle")]


def test_the_import_rules_are_kept() -> None:
    """In a process of its own: import-linter configures logging, and disables every logger that exists by then."""
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_module_imports_a_public_name_from_the_package() -> None:
    """`from zarrant import module` is fine. To import a public name from inside is a cycle that the layers do not show."""
    modules = {entry.stem for entry in SOURCE.iterdir()}
    wrong = [
        f"{path}:{node.lineno} {alias.name}"
        for path, tree in TREES.items()
        if not path.startswith(OUTSIDE) and not path.startswith(("tools/", "integrations/"))
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
        if (isinstance(node, ast.ImportFrom) and node.module == "zarrant" and alias.name not in modules)
        or (isinstance(node, ast.Import) and alias.name == "zarrant")
    ]
    assert not wrong


def test_importing_brings_no_extra() -> None:
    code = f"import sys, zarrant; print(*sorted({EXTRAS} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


# ── sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_files_are_short() -> None:
    lengths = {path: len((SOURCE / path).read_text(encoding="utf-8").splitlines()) for path in TREES}
    assert {path: lines for path, lines in lengths.items() if lines > LONGEST_FILE and path not in PUBLIC_FACES} == LONG_FILES
    assert lengths.keys() >= PUBLIC_FACES


def test_functions_are_short() -> None:
    lengths = {f"{path}:{function.name}": length(function) for path, tree in TREES.items() for function in functions(tree)}
    assert {name: lines for name, lines in lengths.items() if lines > LONGEST_FUNCTION} == LONG_FUNCTIONS


def test_every_file_says_what_it_is_for() -> None:
    assert [path for path, tree in TREES.items() if not ast.get_docstring(tree)] == []


# ── one copy of every algorithm ──────────────────────────────────────────────────────────────────────────────────────


def test_async_lives_with_the_twins_and_the_stores_only() -> None:
    found = {path for path, tree in TREES.items() if any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(tree))}
    assert {path for path in found - TWINS if not path.startswith(NATIVE_ASYNC)} == set()


@pytest.mark.parametrize("path", ["nodes/async_array.py", "nodes/async_group.py", "nodes/open.py"])
def test_nodes_hold_no_algorithm(path: str) -> None:
    """A coroutine of a node starts an operation and awaits it: what loops or catches belongs into an operation."""
    loops = (ast.For, ast.AsyncFor, ast.While, ast.Try)
    coroutines = [function for function in functions(TREES[path]) if isinstance(function, ast.AsyncFunctionDef)]
    assert coroutines
    assert [function.name for function in coroutines if any(isinstance(node, loops) for node in ast.walk(function))] == []


def public_methods(cls: type) -> dict[str, list[str]]:
    members = inspect.getmembers(cls, inspect.isroutine)
    return {name: list(inspect.signature(member).parameters) for name, member in members if not name.startswith("_")}


@pytest.mark.parametrize("name", ["Array", "Group"])
def test_the_async_twin_has_the_same_methods(name: str) -> None:
    blocking, coroutine = public_methods(getattr(zarrant, name)), public_methods(getattr(zarrant, f"Async{name}"))
    assert blocking
    assert {method: coroutine.get(method) for method in blocking} == blocking


# ── retired words ───────────────────────────────────────────────────────────────────────────────────────────────────

RETIRED_WORDS = {
    **dict.fromkeys(["cell", "cells"], "chunk"),
    **dict.fromkeys(["draft", "drafts"], "temp file"),
    **dict.fromkeys(["hold", "holds", "holder", "holders"], "lock, owner"),
    **dict.fromkeys(["spare", "spares", "tidier"], "previous file"),
    **dict.fromkeys(["settle", "settled"], "commit, resolve"),
    **dict.fromkeys(["leaf", "leaves"], "pipeline"),
    **dict.fromkeys(["told", "tell"], "say what it is: an error, a text, a reply"),
    **dict.fromkeys(["beside", "whoever", "nobody", "somebody", "him", "his"], "name what is meant"),
    **dict.fromkeys(["room", "floor", "house"], "say what it is: a module, a size, a layer"),
    **dict.fromkeys(["exclusively", "steady", "patience", "drawn"], "say what is done"),
}
"""Words that names once had, which a reader had to look up, and what stands for them now."""
RETIRED_NAMES = {
    *("Want", "New", "Steady", "Joined", "Cells", "Boxes", "Leaf", "Plain", "ArrayState", "Spans", "Objects", "Single"),
    *("Place", "World", "Start", "Hold", "Tell", "Grouped", "MOST", "LEAST", "PATIENCE"),
}
RETIRED_MODULES = {
    *("growth", "session", "examine", "exclusive", "holding", "joining", "items", "gathering", "drafts", "tree", "held"),
    *("together", "spares", "durable", "layer", "effects", "survey", "leaf", "plain", "utils"),
}


def words_of(name: str) -> list[str]:
    """
    >>> words_of("_FirstWord_of")
    ['first', 'word', 'of']
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def given_names(tree: ast.AST) -> Iterator[str]:
    """The names that a module gives: functions, classes, variables, attributes of `self`, arguments."""
    yield from own_names(tree)
    yield from (node.arg for node in ast.walk(tree) if isinstance(node, ast.arg))


def test_no_retired_word_comes_back_as_a_name() -> None:
    found = {
        f"{path}: {name} ({', '.join(RETIRED_WORDS[word] for word in words_of(name) if word in RETIRED_WORDS) or 'a retired name'})"
        for path, tree in TREES.items()
        for name in given_names(tree)
        if name.strip("_") in RETIRED_NAMES or not RETIRED_WORDS.keys().isdisjoint(words_of(name))
    }
    assert found == set()
    assert not {path for path in TREES if Path(path).stem in RETIRED_MODULES}


def test_retired_words_are_noticed() -> None:
    assert list(given_names(ast.parse("class CellPlan: ...\ndef f(told): _draft = 1"))) == ["CellPlan", "f", "_draft", "told"]
    assert words_of("CellPlan") == ["cell", "plan"]


# ── the surface ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_public_names_grow_on_purpose_only() -> None:
    golden = (ROOT / "tests" / "golden" / "public_names.txt").read_text(encoding="utf-8").split()
    assert sorted(zarrant.__all__) == sorted(golden)
    assert len(golden) <= 38
    assert [name for name in golden if not hasattr(zarrant, name)] == []


def test_the_installed_package_is_complete_and_has_no_sources_of_kernels() -> None:
    try:
        installed = importlib.metadata.files("zarrant") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("runs from the source tree")
    here = [file for file in installed if file.as_posix() == "zarrant/__init__.py"]
    if here and not Path(str(here[0].locate())).samefile(zarrant.__file__):
        pytest.skip("another copy is installed than the one under test")
    names = {file.as_posix() for file in installed}
    assert not {name for name in names if name.endswith((".cpp", ".h", ".hpp"))}
    assert {"zarrant/py.typed", *(f"zarrant/{path}" for path in TREES)} <= names


# ── words ────────────────────────────────────────────────────────────────────────────────────────────────────────────

# Written in pieces, so that this file does not find itself.
FORBIDDEN = re.compile(
    "|".join(["/ho" + r"me/\w", "/Us" + r"ers/\w", "/ro" + r"ot/", "index" + "-url", r"https?://(local" + r"host|127\.0\.0\.1)"])
)
TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".sh", ".txt", ".cpp", ".h", ".hpp", ".json", ".cfg", ""}


def texts() -> Iterator[Path]:
    for top in ("src", "tests", "docs", "scripts", "benchmarks", ".ci"):
        yield from (path for path in (ROOT / top).rglob("*") if path.is_file() and path.suffix in TEXT)
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT)


def test_no_text_names_a_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in texts()
        if "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert found == []
