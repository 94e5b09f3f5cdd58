"""Examples in docstrings as blocks of code in the reference: Markdown takes a line that begins with `>>>` for a quotation.

An extension of griffe, which mkdocs.yml names. In: docstrings with doctests. Out: the same with a fence around each.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1(?! *$).*)*", re.MULTILINE)


def fenced(text: str) -> str:
    """The text with a fence around each block of lines that begins with `>>>`, up to the next empty line."""
    return EXAMPLE.sub(lambda found: f"{found[1]}```pycon\n{found[0]}\n{found[1]}```", text)


class FencedExamples(griffe.Extension):
    """Puts a fence around each example of a docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute below the package."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Called for the package."""
        self.on_object(obj=pkg)
