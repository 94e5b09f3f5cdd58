"""The tables of docs/errors.md are those of `zarrant.errors`: every class once, in the table of its blame, with what it also is."""

from __future__ import annotations

import builtins
import inspect
import re
from pathlib import Path

import pytest

from zarrant import errors

PAGE = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## [^\n]*`(\w+)`\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
GROUPS = ("CallerError", "DataError", "StoreError")
CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.ZarrantError) and kind is not errors.ZarrantError
}


def rows(section: str) -> list[list[str]]:
    lines = re.findall(r"^\| `.*", SECTIONS[section], re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("group", GROUPS)
def test_every_error_has_its_row(group: str) -> None:
    expected = {name for name, kind in CLASSES.items() if issubclass(kind, getattr(errors, group)) and name not in GROUPS}
    expected |= {"StoreError"} if group == "StoreError" else set()
    assert sorted(row[0].strip("`") for row in rows(group)) == sorted(expected)


@pytest.mark.parametrize("group", GROUPS)
def test_the_built_in_classes_and_whether_to_try_again(group: str) -> None:
    for name, also, *rest in rows(group):
        kind = CLASSES[name.strip("`")]
        named = [getattr(builtins, each) for each in re.findall(r"`(\w+)`", also)]
        assert all(issubclass(kind, each) for each in named), name
        builtin = [each for each in kind.__mro__ if each.__module__ == "builtins"][:-3]  # not Exception and above
        special = [each for each in builtin if not any(each in other.__mro__[1:] for other in builtin)]
        assert set(named) == set(special), name
        if group == "StoreError":
            assert rest[0] == ("yes" if kind.retryable else "no"), name
        else:
            assert not kind.retryable, name
        assert len(rest) == (3 if group == "StoreError" else 2) and all(rest), name


def test_what_is_in_no_table_is_told() -> None:
    for name in ("ZarrantError", "PartialFailure", "ZarrantWarning", *GROUPS):
        assert f"`{name}`" in PAGE
    told = {name for group in GROUPS for name, *_ in ([row[0].strip("`")] for row in rows(group))}
    assert set(CLASSES) - told == {"CallerError", "DataError", "PartialFailure"}


def test_the_fields_are_named() -> None:
    assert all(f"`{name}`" in PAGE for name in errors.FIELDS)
