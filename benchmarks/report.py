"""The report: rows as a Markdown table, as JSON, and as a plot where matplotlib is installed.

Pure but for the functions named `write_…`. The table shows medians in seconds (a rate, where a run is many operations), the
fastest library in bold, and how Zarrant compares with the fastest of the others: above 1 it is faster. A library left out shows
a number that leads to the reason below the table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import limits
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
    heads = ["workload", *peers, *(["limit"] if has_limit else []), "zarrant vs fastest other"]
    lines = [line(heads), line(["---", *["---:"] * (len(heads) - 1)])]
    notes: list[str] = []
    for row in rows:
        best = fastest(row, peers)
        cells = [_cell(row, name, notes, name == best) for name in peers]
        limit = [_cell(row, limits.NAME, notes, False) if limits.NAME in row.cells else ""] if has_limit else []
        ratio = speed(row, fastest(row, others))
        lines.append(line([f"{row.title}: {row.phase}", *cells, *limit, f"{ratio:.2f}×" if ratio else "–"]))
    lines += ["", "Median seconds, or operations per second where a run is many; above 1× is faster.", ""]
    lines += [f"[{number}] {note}" for number, note in enumerate(notes, 1)]
    lines += [""] if notes else []
    lines += ["Slower than the fastest other:", *(f"- {text}" for text in slower(rows, peers)), ""] if slower(rows, peers) else []
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(lines) + "\n"


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


def write_json(path: Path, rows: Sequence[Row], facts: Mapping[str, Any]) -> None:
    """Every repeat of every cell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"facts": dict(facts), "rows": [row.as_json() for row in rows]}, indent=2), encoding="utf-8")


def write_plot(path: Path, rows: Sequence[Row], peers: Sequence[str]) -> str | None:
    """Bars of speed relative to Zarrant's; what hinders it, or None."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        return f"no plot: {error}"
    shown = [row for row in rows if OURS in row.cells and row.cells[OURS].median]
    if not shown:
        return "no plot: zarrant has no times"
    figure = Figure(figsize=(9, 1 + 0.16 * len(shown) * (len(peers) + 1)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(peers)
    for column, name in enumerate(peers):
        # Speed of a peer over ours: Zarrant's bar ends at 1.
        points = [(index, 1 / ratio) for index, row in enumerate(shown) if (ratio := speed(row, name))]
        positions = [index + (column - (len(peers) - 1) / 2) * height for index, _ in points]
        axes.barh(positions, [value for _, value in points], height, label=name)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yticks(range(len(shown)), [f"{row.title}: {row.phase}" for row in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("speed relative to zarrant (longer is faster)")
    figure.legend(loc="outside upper center", ncols=len(peers), fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return None
