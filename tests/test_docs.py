"""The rendered documentation is complete."""

from __future__ import annotations

import html
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zarrant

ROOT = Path(__file__).parents[1]
pytest.importorskip("mkdocstrings")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_reference_has_every_public_member(site: Path) -> None:
    page = (site / "reference" / "index.html").read_text(encoding="utf-8")
    found = set(re.findall(r'id="(zarrant[\w.]*)"', page))
    classes = [name for name in zarrant.__all__ if inspect.isclass(getattr(zarrant, name))]
    functions = [name for name in zarrant.__all__ if inspect.isfunction(getattr(zarrant, name))]
    members = [
        f"{name}.{member}"
        for name in classes
        for member, value in inspect.getmembers(getattr(zarrant, name))
        if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)) and value.__doc__
    ]
    assert len(members) > 150
    assert [name for name in (*classes, *functions, *members) if f"zarrant.{name}" not in found] == []


def test_no_page_sends_its_reader_to_what_is_not_public(site: Path) -> None:
    pages = [page for page in site.rglob("*.html") if page.parent.name != "site"]
    assert len(pages) > 5
    words = re.compile(r"See <code>(ops|nodes|run)\.|API\.md|SAFETY\.md|DESIGN\.md")
    found = {page.parent.name: words.findall(html.unescape(page.read_text(encoding="utf-8"))) for page in pages}
    assert {name: hits for name, hits in found.items() if hits} == {}


def test_examples_are_code(site: Path) -> None:
    """Markdown takes a line that begins with `>>>` for a quotation in a quotation in a quotation."""
    pages = {page.parent.name: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert sum(page.count("&gt;&gt;&gt; ") for page in pages.values()) > 200
    assert [name for name, page in pages.items() if "<blockquote>" in page] == []


def test_the_picture_of_an_array_is_in_its_page(site: Path) -> None:
    page = (site / "pictures" / "index.html").read_text(encoding="utf-8")
    assert "<svg" in page and "<path class='shards'" in page and "4 of 8 objects" in page


def test_every_block_of_code_is_shown_as_code(site: Path) -> None:
    """A fence that Markdown does not understand is shown as it stands."""
    pages = {str(page.relative_to(site)): page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    assert [name for name, page in pages.items() if "```" in page] == []


def test_the_repository_refers_to_its_own_pages_only() -> None:
    """A page that a clone does not have cannot be read."""
    words = re.compile("|".join(f"{name}[.]md" for name in ("API", "SAFETY", "DESIGN", "STYLE", "PERFORMANCE")))
    files = [file for top in ("src", "docs", "benchmarks") for kind in ("*.py", "*.md") for file in (ROOT / top).rglob(kind)]
    assert len(files) > 100
    assert [str(file.relative_to(ROOT)) for file in files if words.search(file.read_text(encoding="utf-8"))] == []
