"""Puts the pictures of arrays into docs/pictures.md, as a notebook would show them. mkdocs calls it for every page (`hooks`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))

MARK = "<!-- picture -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with a picture where the mark stands."""
    if MARK not in markdown:
        return markdown
    import zarrant

    a = zarrant.create_array(
        {}, shape=(64, 256, 256), dtype="uint16", chunks=(8, 32, 32), shards=(32, 128, 128), dimension_names=("z", "y", "x")
    )
    return markdown.replace(MARK, a._repr_html_())
