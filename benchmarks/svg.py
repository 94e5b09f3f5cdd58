"""Plots as SVG text: bars of ratios, and curves over a doubling axis. Pure; needs no library.

Colours and fonts are those of any browser; the text can be selected and searched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2")
STYLE = '<style>text{font:12px sans-serif;fill:#222}line{stroke:#999}</style><rect width="100%" height="100%" fill="white"/>'


def bars(title: str, rows: Sequence[tuple[str, Mapping[str, float]]], series: Sequence[str]) -> str:
    """Horizontal bars on a logarithmic axis, whose middle is 1: `rows` are (name, {series: ratio})."""
    left, width, bar = 300, 560, 8
    height = 18 + bar * len(series)
    span = max((abs(math.log2(value)) for _, found in rows for value in found.values() if value > 0), default=1.0)
    span = max(1.0, math.ceil(span))

    def at(value: float) -> float:
        return left + width * (0.5 + 0.5 * math.log2(value) / span)

    parts = _legend(series, left, 34)
    top = 50
    for name, found in rows:
        parts.append(f'<text x="{left - 8}" y="{top + height / 2}" text-anchor="end">{escape(name)}</text>')
        for index, one in enumerate(series):
            if found.get(one, 0) > 0:
                low, high = sorted((at(1), at(found[one])))
                place = f'x="{low:.1f}" y="{top + 4 + index * bar}" width="{max(1.0, high - low):.1f}" height="{bar - 1}"'
                parts.append(f'<rect {place} fill="{_colour(index)}"><title>{escape(one)}: {found[one]:.2f}×</title></rect>')
        top += height
    for power in range(-int(span), int(span) + 1):
        x = at(2.0**power)
        parts.append(f'<line x1="{x:.1f}" y1="48" x2="{x:.1f}" y2="{top}" stroke-width="{1.5 if power == 0 else 0.3}"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + 16}" text-anchor="middle">{2.0**power:g}×</text>')
    return _page(title, left + width + 20, top + 30, parts)


def curves(title: str, x_label: str, y_label: str, lines: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Curves with both axes logarithmic: {series: points}."""
    left, top, width, height = 80, 60, 560, 300
    points = [point for line in lines.values() for point in line if min(point) > 0]
    xs, ys = [math.log2(x) for x, _ in points] or [0.0], [math.log2(y) for _, y in points] or [0.0]
    low_x, low_y = math.floor(min(xs)), math.floor(min(ys))
    span_x, span_y = max(1, math.ceil(max(xs)) - low_x), max(1, math.ceil(max(ys)) - low_y)

    def at(x: float, y: float) -> tuple[float, float]:
        return left + width * (math.log2(x) - low_x) / span_x, top + height * (1 - (math.log2(y) - low_y) / span_y)

    parts = _legend(list(lines), left, 34)
    for index, line in enumerate(lines.values()):
        path = " ".join("{:.1f},{:.1f}".format(*at(x, y)) for x, y in line if min(x, y) > 0)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{_colour(index)}" stroke-width="2"/>')
    for power in range(low_x, low_x + span_x + 1):
        x, _ = at(2.0**power, 2.0**low_y)
        parts.append(f'<text x="{x:.1f}" y="{top + height + 16}" text-anchor="middle">{2.0**power:g}</text>')
    for power in range(low_y, low_y + span_y + 1):
        _, y = at(2.0**low_x, 2.0**power)
        parts.append(f'<line x1="{left}" y1="{y:.1f}" x2="{left + width}" y2="{y:.1f}" stroke-width="0.3"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{2.0**power:g}</text>')
    parts.append(f'<text x="{left + width / 2}" y="{top + height + 36}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(f'<text x="8" y="{top - 8}">{escape(y_label)}</text>')
    return _page(title, left + width + 20, top + height + 50, parts)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _legend(series: Sequence[str], left: float, y: float) -> list[str]:
    parts, x = [], left
    for index, name in enumerate(series):
        parts.append(f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{_colour(index)}"/>')
        parts.append(f'<text x="{x + 14}" y="{y}">{escape(name)}</text>')
        x += 24 + 7 * len(name)
    return parts


def _page(title: str, width: float, height: float, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}">'
    )
    return "\n".join([head, STYLE, f'<text x="8" y="18" font-weight="bold">{escape(title)}</text>', *parts, "</svg>", ""])
