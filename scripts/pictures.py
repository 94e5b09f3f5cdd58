"""Puts the picture of an array into docs/pictures.md, as a notebook would show it. mkdocs calls it for every page (`hooks`).

The array is that of the first example of the page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

MARK = "<!-- picture -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with a picture where the mark stands."""
    if MARK not in markdown:
        return markdown
    example = re.search(r"^```python\n(.*?)^```$", markdown, re.MULTILINE | re.DOTALL)
    assert example is not None
    names: dict[str, Any] = {}
    exec(example[1], names)
    return markdown.replace(MARK, names["html"])
