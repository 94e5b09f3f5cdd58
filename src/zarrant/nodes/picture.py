"""A drawing of an array and its chunks, as SVG for notebooks.

In: the length of each dimension, how it is cut into stored objects and chunks, and its name. Out: one `<svg>`: a line, a
rectangle or a box in three dimensions, with the borders of chunks (thin) and of shards (thick, another colour), a length on each
axis, and a legend. Of more than three dimensions the last three are drawn.

Colours are those of the text around (`currentColor`) or half transparent, so that it is readable on a light and on a dark page.
Nothing is loaded from elsewhere, and no style reaches beyond the drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

Point: TypeAlias = tuple[float, float]

LONGEST, SHORTEST = 170.0, 26.0
"""Pixels of the longest side, and of one that would be too short to see its label."""
DEPTH: Point = (0.52, -0.38)
"""Pixels to the right and down for one pixel of the first of three dimensions."""
RIGHT, LETTER = 70.0, 6.6
"""Pixels to the right of a box, for what is written there; and of a letter, rather too many than too few."""
GAPS = {"chunks": 3.4, "shards": 6.0}
"""Pixels between two lines; with less they would be a grey box."""
MAX_NAME = 12
"""Letters of the name of a dimension."""
HIDDEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Categories of Unicode that are not shown as they are: control signs, directions, halves of pairs."""

FACE, SHARD = "#3b82f6", "#e07b00"
THIN = "stroke='currentColor' stroke-opacity='.5' stroke-width='.7'"
THICK = f"stroke='{SHARD}' stroke-width='1.6'"
EDGE = "stroke='currentColor' stroke-width='1.2' stroke-linejoin='round'"
KINDS = ("chunks", THIN), ("shards", THICK)
TEXT = "fill='currentColor' font-size='11' font-family='sans-serif'"


class Cut(NamedTuple):
    """How a dimension is cut: into how many pieces, and where piece i starts."""

    pieces: int
    start: Callable[[int], int]


class Axis(NamedTuple):
    """One dimension: its length, how it is cut into chunks and into stored objects, and its name."""

    length: int
    chunks: Cut
    shards: Cut
    name: str


class Size(NamedTuple):
    """The front of the drawing in pixels, and the way to its back."""

    width: float
    height: float
    depth: Point


class Side(NamedTuple):
    """An axis as it is drawn: in pixels, along a direction."""

    axis: Axis
    pixels: float
    along: Point

    def at(self, coordinate: float) -> Point:
        """Where a coordinate is, from the corner of the drawing."""
        part = self.pixels * coordinate / self.axis.length
        return part * self.along[0], part * self.along[1]

    def step(self, kind: str) -> int:
        """Of so many borders one is drawn, where lines would be too near to each other."""
        pieces: int = getattr(self.axis, kind).pieces
        return max(1, math.ceil(pieces * GAPS[kind] / (self.pixels * math.hypot(*self.along))))


def draw(axes: Sequence[Axis], chunk: str, shard: str | None, label: str) -> str:
    """The drawing of an array with these axes, none of which is empty. `chunk` and `shard` are what the legend says of them."""
    sides, to_scale = _sides(axes[-3:])
    front = [side.pixels for side in reversed(sides)] + [SHORTEST, SHORTEST]
    size = Size(front[0], front[1], _depth(sides))
    left = 12.0 + max((LETTER * len(_label(side.axis)) for side in sides[-2:-1]), default=0.0)
    top = 10.0 - size.depth[1]
    inside = _faces(size) + _lines(sides, size, shard is not None) + _labels(sides, size)
    legend = [(THICK, shard), (THIN, chunk)] if shard is not None else [(THIN, chunk)]
    legend += [("", note) for note in _notes(axes, sides, shard is not None, to_scale)]
    below = top + size.height + 28.0
    rows = "".join(_row(below + 17 * number, *entry) for number, entry in enumerate(legend))
    words = max(54 + LETTER * len(text) for _, text in legend)
    width, height = max(left + size.width + size.depth[0] + RIGHT, words), below + 17 * len(legend)
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' "
    head += f"height='{height:.0f}' role='img' fill='none' style='flex:none;max-width:100%'>"
    return f"{head}<title>{escaped(label)}</title><g transform='translate({left:.1f} {top:.1f})'>{inside}</g>{rows}</svg>"


def _sides(axes: Sequence[Axis]) -> tuple[list[Side], bool]:
    """The axes in pixels, and whether all are to one scale."""
    longest = max((axis.length for axis in axes), default=1)
    exact = [LONGEST * axis.length / longest for axis in axes]
    directions = (DEPTH, (0.0, 1.0), (1.0, 0.0))[3 - len(axes) :]
    sides = [Side(axis, max(SHORTEST, size), along) for axis, size, along in zip(axes, exact, directions, strict=True)]
    return sides, all(size >= SHORTEST for size in exact)


def _depth(sides: Sequence[Side]) -> Point:
    """From the front of a box to its back; nothing where there are less than three dimensions."""
    return sides[0].at(sides[0].axis.length) if len(sides) == 3 else (0.0, 0.0)


def _faces(size: Size) -> str:
    """What is seen of the array: its front, and of a box the top and the right side."""
    (width, height), (x, y) = size[:2], size.depth
    found = [_polygon([(0, 0), (width, 0), (width, height), (0, height)], 0.14)]
    if x:
        found.append(_polygon([(0, 0), (x, y), (x + width, y), (width, 0)], 0.26))
        found.append(_polygon([(width, 0), (width + x, y), (width + x, y + height), (width, height)], 0.38))
    return "".join(found)


def _polygon(points: Sequence[Point], shade: float) -> str:
    where = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f"<polygon points='{where}' fill='{FACE}' fill-opacity='{shade}' {EDGE}/>"


def _lines(sides: Sequence[Side], size: Size, sharded: bool) -> str:
    """The borders between chunks, then those between shards: one path for all of a kind."""
    found = []
    for kind, style in KINDS[: 1 + sharded]:
        tracks = []
        for number, side in enumerate(sides):
            cut = getattr(side.axis, kind)
            starts = map(cut.start, range(side.step(kind), cut.pieces, side.step(kind)))
            tracks += [_track(side.at(start), number + 3 - len(sides), size) for start in starts]
        if tracks:
            path = "".join("M" + " ".join(f"{x:.1f},{y:.1f}" for x, y in track) for track in tracks)
            found.append(f"<path class='{kind}' d='{path}' {style}/>")
    return "".join(found)


def _track(at: Point, direction: int, size: Size) -> list[Point]:
    """The line over the visible faces at a place of one axis: bent where it goes on to another face."""
    (x, y), (width, height), (back, up) = at, size[:2], size.depth
    if direction == 0:  # across the top, and down the right side
        return [(x, y), (x + width, y), (x + width, y + height)]
    if direction == 1:  # across the front, and along the right side
        return [(0.0, y), (width, y), (width + back, y + up)]
    return [(x + back, up), (x, 0.0), (x, height)]  # along the top, and down the front


def _labels(sides: Sequence[Side], size: Size) -> str:
    """The name and the length of each axis, beside its middle."""
    found = []
    for number, side in enumerate(sides):
        (x, y), (width, height) = side.at(side.axis.length / 2), size[:2]
        spots = (
            (x + width + 7, y + height + 10, "start"),  # below the right side
            (-8.0, y + 4, "end"),
            (x, height + 16, "middle"),
        )
        left, top, anchor = spots[number + 3 - len(sides)]
        found.append(f"<text x='{left:.1f}' y='{top:.1f}' text-anchor='{anchor}' {TEXT}>{escaped(_label(side.axis))}</text>")
    return "".join(found)


def _label(axis: Axis) -> str:
    return f"{_name(axis)} {axis.length:,}".strip()


def _name(axis: Axis) -> str:
    return axis.name if len(axis.name) <= MAX_NAME else f"{axis.name[: MAX_NAME - 1]}…"


def _row(top: float, style: str, text: str) -> str:
    """A line of the legend: a piece of the line that it explains, and words."""
    mark = f"<path class='legend' d='M12,{top:.1f} 34,{top:.1f}' {style} style='stroke-width:1.6'/>" if style else ""
    return f"{mark}<text x='{42 if style else 12}' y='{top + 4:.1f}' {TEXT}>{escaped(text)}</text>"


def _notes(axes: Sequence[Axis], sides: Sequence[Side], sharded: bool, to_scale: bool) -> list[str]:
    """What the drawing does not show."""
    notes = [f"the last three of {len(axes)} dimensions"] if len(axes) > 3 else []
    notes += [] if to_scale else ["not to scale"]
    for number, side in enumerate(sides):
        steps = [(side.step(kind), kind) for kind, _ in KINDS[: 1 + sharded]]
        thinned = ", ".join(f"every {step:,} {kind}" for step, kind in steps if step > 1)
        if thinned:
            notes.append(f"along {_name(side.axis) or f'dimension {len(axes) - len(sides) + number}'}: one line for {thinned}")
    return notes


def escaped(text: str) -> str:
    """Text for HTML and XML: nothing in it is markup, and signs that cannot be seen or turn the text around are replaced."""
    import unicodedata  # both take a while, and are for notebooks only
    from html import escape

    return escape("".join("\ufffd" if unicodedata.category(sign) in HIDDEN and sign != "\n" else sign for sign in text))
