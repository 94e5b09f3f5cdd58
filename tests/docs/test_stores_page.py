"""The examples of docs/stores.md run: each section (`## ...`) in one namespace and an empty directory of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "stores.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections() -> dict[str, list[tuple[int, str]]]:
    """(first line, source) of the Python blocks of each section that has any."""
    text = PAGE.read_text(encoding="utf-8")
    heads = [*re.finditer(r"^## (.*)$", text, re.MULTILINE)]
    ends = [*(head.start() for head in heads[1:]), len(text)]
    found = {}
    for head, end in zip(heads, ends, strict=True):
        blocks = [(text.count("\n", 0, match.start(1)), match[1]) for match in BLOCK.finditer(text, head.start(), end)]
        if blocks:
            found[head[1]] = blocks
    return found


@pytest.mark.parametrize("section", sections())
def test_the_examples_of_a_section_run(section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for line, source in sections()[section]:
        # The blank lines make a traceback name the line in the page.
        exec(compile("\n" * line + source, str(PAGE), "exec"), namespace)


def test_the_adapters_are_shown() -> None:
    assert len(sections()["Adapters"]) >= 6
