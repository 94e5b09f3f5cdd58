"""The report: rows as a Markdown table, as JSON, and as a plot where matplotlib is installed.

Pure but for the functions named `write_…`. The table shows medians in seconds (a rate, where a run is many operations), the
fastest library in bold, and how Zarrant compares with the fastest of the others: above 1 it is faster. A library left out shows
a number that leads to the reason below the table.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import limits, svg
from benchmarks.goals import GOALS
from benchmarks.growth import Curve
from benchmarks.measure import Cell, Row
from benchmarks.peers import OURS


def fastest(row: Row, among: Sequence[str]) -> str | None:
    """The peer with the least median; the limit is no peer."""
    times = {name: cell.median for name, cell in row.cells.items() if name in among and cell.median is not None}
    return min(times, key=lambda name: times[name] or 0.0) if times else None


def speed(row: Row, other: str | None) -> float | None:
    """How many times faster than another Zarrant was; None where one of them has no time."""
    ours, theirs = (row.cells[name].median if name in row.cells else None for name in (OURS, other or ""))
    return theirs / ours if ours and theirs else None


def slower(rows: Sequence[Row], peers: Sequence[str]) -> list[str]:
    """Where Zarrant was slower than the fastest of the others, worst first; a tie within 2 % is none."""
    others = [name for name in peers if name != OURS]
    found = []
    for row in rows:
        best = fastest(row, others)
        ratio = speed(row, best)
        if ratio is not None and ratio < 0.98:
            found.append((ratio, f"{row.title}, {row.phase}: {ratio:.2f} × {best}"))
    return [text for _, text in sorted(found)]


def markdown(rows: Sequence[Row], peers: Sequence[str], facts: Mapping[str, Any]) -> str:
    """The table, the notes and what it was measured with."""
    others = [name for name in peers if name != OURS]
    has_limit = any(limits.NAME in row.cells for row in rows)
    heads = ["workload", *peers, *(["limit"] if has_limit else []), "zarrant vs fastest other", *MORE]
    lines = [line(heads), line(["---", *["---:"] * (len(heads) - 1)])]
    notes: list[str] = []
    for row in rows:
        best = fastest(row, peers)
        cells = [_cell(row, name, notes, name == best) for name in peers]
        limit = [_cell(row, limits.NAME, notes, False) if limits.NAME in row.cells else ""] if has_limit else []
        ratio = speed(row, fastest(row, others))
        lines.append(line([f"{row.title}: {row.phase}", *cells, *limit, f"{ratio:.2f}×" if ratio else "–", *_more(row, others)]))
    lines += ["", "Median seconds, or operations per second where a run is many; above 1× is faster.", ""]
    lines += [f"[{number}] {note}" for number, note in enumerate(notes, 1)]
    lines += [""] if notes else []
    lines += ["Slower than the fastest other:", *(f"- {text}" for text in slower(rows, peers)), ""] if slower(rows, peers) else []
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(lines) + "\n"


MORE = ("goal", "CPU s", "CPU s, fastest other", "peak MiB", "peak MiB, fastest other")
"""Columns after the ratio."""


def _more(row: Row, others: Sequence[str]) -> list[str]:
    """What is to be reached, and CPU time and memory beside those of the fastest other library."""
    goal = GOALS.get((row.workload, row.phase))
    cells = [row.cells.get(OURS, Cell()), row.cells.get(fastest(row, others) or "", Cell())]
    cpu = [f"{median(cell.cpu):.3f}" if cell.cpu else "–" for cell in cells]
    peak = ["–" if cell.peak is None or cell.note else f"{cell.peak / 2**20:,.0f}" for cell in cells]
    return [f"{goal:.2f}×" if goal else "", *cpu, *peak]


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(row: Row, name: str, notes: list[str], best: bool) -> str:
    cell = row.cells.get(name, Cell(note="not installed"))
    if cell.median is None:
        return noted(f"{name}: {cell.note or 'left out in an earlier phase'}", notes)
    text = f"{row.count / cell.median:,.0f}/s" if row.count > 1 else f"{cell.median:.3f}"
    return f"**{text}**" if best else text


def noted(note: str, notes: list[str]) -> str:
    """The mark of a note; the same note keeps its number."""
    if note not in notes:
        notes.append(note)
    return f"[{notes.index(note) + 1}]"


def section(name: str, text: str) -> str:
    """What another benchmark printed, as a part of the page: Markdown as it is, and text as text."""
    body = text.strip()
    if "|--" not in body and "| --" not in body:
        body = f"```text\n{body}\n```"
    return f"\n### benchmarks.{name}\n\n{body}\n"


def write_json(path: Path, rows: Sequence[Row], facts: Mapping[str, Any], curves: Sequence[Curve] = ()) -> None:
    """Every repeat of every cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"facts": dict(facts), "rows": [row.as_json() for row in rows], "growth": [asdict(curve) for curve in curves]}
    path.write_text(json.dumps(kept, indent=2), encoding="utf-8")


def write_plot(path: Path, rows: Sequence[Row], peers: Sequence[str]) -> str | None:
    """Bars of speed relative to Zarrant's, as SVG; what hinders it, or None."""
    shown = [row for row in rows if OURS in row.cells and row.cells[OURS].median]
    if not shown:
        return "no plot: zarrant has no times"
    others = [name for name in peers if name != OURS]
    found = [(f"{row.title}: {row.phase}", {name: 1 / ratio for name in others if (ratio := speed(row, name))}) for row in shown]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(svg.bars("Speed relative to Zarrant (right of 1×: faster)", found, others), encoding="utf-8")
    return None


def write_curves(directory: Path, curves: Sequence[Curve]) -> None:
    """A plot for each growth curve."""
    directory.mkdir(parents=True, exist_ok=True)
    for curve in curves:
        text = svg.curves(curve.title, curve.x_label, curve.y_label, curve.lines)
        (directory / f"growth-{curve.name}.svg").write_text(text, encoding="utf-8")


def write_docs(docs: Path, table: str, rows: Sequence[Row], peers: Sequence[str], curves: Sequence[Curve]) -> None:
    """The page of the documentation and its plots."""
    write_plot(docs / "performance" / "speed.svg", rows, peers)
    write_curves(docs / "performance", curves)
    pictures = [f"![{curve.title}](performance/growth-{curve.name}.svg)\n" for curve in curves]
    table = re.sub(r"\[(\d+)\]", r"\\[\1\\]", table)  # a note, no link
    text = "\n".join([table.rstrip("\n") + "\n", "![Speed beside other libraries](performance/speed.svg)\n", *pictures])
    write_below_marker(docs / "performance.md", text)


def write_below_marker(page: Path, text: str) -> None:
    """Replace what follows the marker of a page, which is what was measured before."""
    marker = "<!-- measured -->\n"
    head = page.read_text(encoding="utf-8").partition(marker)[0] if page.exists() else f"# {page.stem.capitalize()}\n\n"
    page.write_text(head + marker + "\n" + text, encoding="utf-8")
