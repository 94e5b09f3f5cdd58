"""A picture of an array and of who wrote its stored objects, as PNG.

In come a slice of the data and columns of facts over the chunk grid; out goes one file. The grid is laid flat: the first
dimension runs to the right, all others run down; indices stand beside it. Colours are those of Okabe and Ito, which everyone
can tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zarrant.tools.extras import require

WRITERS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D31", "#666666")
SHARD_LINE, CHUNK_LINE, SLAB_LINE = "#9FD3FF", "#55708A", "#FFB000"
INK, SOFT, PALE, PAPER, LOST = "#1F2933", "#6B7785", "#E7ECF0", "#FFFFFF", "#C21807"
WIDTH, MARGIN, SIDE, TALLEST = 1440, 40, 516, 2000
AXIS = 48
"""Pixels left of what has an axis, for its numbers."""

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Panel:
    """A slice of the data, the shapes of shards and chunks in it, and the rows where slabs meet."""

    values: npt.NDArray[Any]
    shard: Sequence[int]
    chunk: Sequence[int]
    edges: Sequence[int]
    caption: str
    axes: tuple[str, str] = ("y", "x")


def draw_sheet(path: Path, panel: Panel, last: Ints, sharers: Ints, losses: Mapping[str, Ints], facts: Sequence[str]) -> None:
    """Draw the slice, the map of last writers, and a map of lost values for each library, with axes, scales and legends."""
    sheet = Sheet(TALLEST)
    sheet.text((MARGIN, 28), facts[0], 28)
    sheet.text((MARGIN, 68), facts[1], 17, SOFT)
    top, right = 120, MARGIN + AXIS + SIDE + 56
    room = WIDTH - MARGIN - right
    left_end = _draw_panel(sheet, panel, (MARGIN, top))
    end = _draw_writers(sheet, last, sharers, (right, top), room)
    for name, lost in losses.items():
        end = _draw_losses(sheet, name, lost, (right, end + 30), room)
    sheet.save(path, max(left_end, end) + MARGIN)


class Sheet:
    """A white page and the few marks it takes."""

    def __init__(self, height: int) -> None:
        self._image_module = require("PIL.Image", "demo", "Drawing")
        self._fonts = require("PIL.ImageFont", "demo", "Drawing")
        self.image = self._image_module.new("RGB", (WIDTH, height), PAPER)
        self.draw = require("PIL.ImageDraw", "demo", "Drawing").Draw(self.image)

    def text(self, at: tuple[float, float], words: str, size: int, colour: str = INK, anchor: str = "la") -> None:
        """One line of words."""
        self.draw.text(at, words, fill=colour, font=self._fonts.load_default(size), anchor=anchor)

    def line(self, start: tuple[float, float, float], colour: str, width: int) -> None:
        """A level line from (x, y), of a length."""
        x, y, length = start
        self.draw.line((x, y, x + length, y), colour, width)

    def paste(self, pixels: npt.NDArray[np.uint8], at: tuple[int, int], size: tuple[int, int]) -> None:
        """A grey image, scaled."""
        image = self._image_module.fromarray(pixels).resize(size, self._image_module.Resampling.BICUBIC)
        self.image.paste(image.convert("RGB"), at)

    def save(self, path: Path, height: int) -> None:
        """Cut to what was used, and store."""
        self.image.crop((0, 0, WIDTH, height)).save(path, optimize=True)


def _draw_panel(sheet: Sheet, panel: Panel, at: tuple[int, int]) -> int:
    """The slice with its grids; returns where it ends."""
    left, top = at[0] + AXIS, at[1] + 30
    rows, columns = panel.values.shape
    scale = SIDE / columns
    height = min(round(rows * scale), TALLEST - 300)
    sheet.text(at, f"The data: {panel.caption}", 17)
    # Rows of the file run from the neck up: the first one is drawn at the bottom.
    sheet.paste(_grey(panel.values)[::-1], (left, top), (SIDE, height))
    for step, colour, width in ((panel.chunk, CHUNK_LINE, 1), (panel.shard, SHARD_LINE, 3)):
        for y in range(step[0], rows, step[0]):
            sheet.line((left, top + height - y * height / rows, SIDE), colour, width)
        for x in range(step[1], columns, step[1]):
            sheet.draw.line((left + x * scale, top, left + x * scale, top + height), colour, width)
    for edge in panel.edges:
        for x in range(0, SIDE, 16):
            sheet.line((left + x, top + height - edge * height / rows, min(9, SIDE - x)), SLAB_LINE, 3)
    _draw_scale(sheet, panel, (left, top, height))
    keys = ((SHARD_LINE, "shards: the stored objects"), (CHUNK_LINE, "chunks"), (SLAB_LINE, "where slabs of two processes meet"))
    for i, (colour, words) in enumerate(keys):
        sheet.line((left, top + height + 73 + 24 * i, 26), colour, 5)
        sheet.text((left + 38, top + height + 65 + 24 * i), words, 15, SOFT)
    return int(top + height + 48 + 24 * (len(keys) + 1))


def _draw_scale(sheet: Sheet, panel: Panel, at: tuple[int, int, int]) -> None:
    """The elements at the borders of shards, along both sides; below them what the axes are, and a bar of a round length."""
    (left, top, height), (rows, columns) = at, panel.values.shape
    scale = SIDE / columns
    for y in range(0, rows + 1, panel.shard[0]):
        sheet.text((left - 8, top + height - y * height / rows), str(y), 13, SOFT, "rm")
    for x in range(0, columns + 1, panel.shard[1]):
        sheet.text((left + x * scale, top + height + 6), str(x), 13, SOFT, "ma")
    sheet.text((left, top + height + 30), f"{panel.axes[1]} to the right, {panel.axes[0]} upwards, in elements", 15, SOFT)
    length = 10 ** math.floor(math.log10(max(columns / 3, 1)))
    length *= max(times for times in (1, 2, 5) if times * length <= max(columns / 3, 1))
    sheet.line((left + SIDE - length * scale, top + height + 38, length * scale), INK, 4)
    sheet.text((left + SIDE - length * scale - 8, top + height + 38), f"{length} elements", 13, INK, "rm")


def _grey(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    low, high = np.percentile(values, (1, 99.5))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-9), 0, 1) * 255, np.uint8)


@dataclass(frozen=True)
class Tiles:
    """A chunk grid laid flat: where the rectangle of each stored object is."""

    grid: tuple[int, ...]
    at: tuple[int, int]
    room: int

    @property
    def rows(self) -> int:
        """Objects above each other: all dimensions but the first."""
        return math.prod(self.grid[1:])

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of one rectangle, its gap included."""
        width = self.room / max(self.grid[0], 1)
        return width, min(24.0, max(width, 8.0), 220 / max(self.rows, 1))

    @property
    def end(self) -> int:
        """The row of pixels below the last one, and below its numbers."""
        return round(self.at[1] + self.rows * self.size[1]) + 20

    def axes(self, sheet: Sheet) -> None:
        """Indices in the chunk grid: of the first dimension below, of the others to the left; where there is room."""
        width, height = self.size
        for column in range(0, self.grid[0], math.ceil(34 / width)):
            sheet.text((self.at[0] + (column + 0.5) * width, self.end - 17), str(column), 13, SOFT, "ma")
        for row in range(0, self.rows, math.ceil(14 / height)):
            others = ", ".join(str(int(i)) for i in np.unravel_index(row, self.grid[1:])) if self.grid[1:] else "0"
            sheet.text((self.at[0] - 8, self.at[1] + (row + 0.5) * height), others, 13, SOFT, "rm")

    def box(self, i: int) -> tuple[int, int, int, int]:
        """The rectangle of object i, in C order."""
        width, height = self.size
        gap = 3 if min(width, height) > 6 else 1
        x, y = self.at[0] + (i // self.rows) * width, self.at[1] + (i % self.rows) * height
        return round(x), round(y), max(round(x), round(x + width) - gap), max(round(y), round(y + height) - gap)

    def draw(self, sheet: Sheet, colours: Sequence[str], words: Sequence[str] = ()) -> None:
        """Every rectangle, with a word in it where there is room."""
        self.axes(sheet)
        roomy = min(self.size) >= 14
        for i, colour in enumerate(colours):
            x0, y0, x1, y1 = self.box(i)
            sheet.draw.rectangle((x0, y0, x1, y1), colour)
            if words and roomy:
                sheet.text(((x0 + x1 + 1) / 2, (y0 + y1 + 1) / 2), words[i], 13, PAPER if _dark(colour) else INK, "mm")


def _draw_writers(sheet: Sheet, last: Ints, sharers: Ints, at: tuple[int, int], room: int) -> int:
    sheet.text(at, "Every stored object: the last process to finish a slab in it, and how many wrote to it", 17)
    tiles, flat = Tiles(last.shape, (at[0] + AXIS, at[1] + 30), room - AXIS), last.reshape(-1).tolist()
    colours = [WRITERS[i % len(WRITERS)] if i >= 0 else PALE for i in flat]
    tiles.draw(sheet, colours, [str(n) for n in sharers.reshape(-1).tolist()])
    x, y = at[0], tiles.end + 12
    for process in sorted(set(flat) - {-1})[: room // 120 - 2]:
        sheet.draw.rectangle((x, y + 2, x + 13, y + 15), WRITERS[process % len(WRITERS)])
        sheet.text((x + 20, y), f"process {process}", 15, SOFT)
        x += 110
    shared = int((sharers > 1).sum())
    sheet.text((at[0] + room, y), f"{shared} of {sharers.size} written by two or more", 15, SOFT, "ra")
    sheet.text((at[0], y + 24), "Numbers: index in the chunk grid; first dimension to the right, the others downwards.", 15, SOFT)
    return y + 42


def _draw_losses(sheet: Sheet, name: str, lost: Ints, at: tuple[int, int], room: int) -> int:
    total = int(lost.sum())
    words = f"{name}: {total:,} values lost" if total else f"{name}: no value lost"
    sheet.text(at, words, 17, LOST if total else INK)
    worst = max(int(lost.max()), 1)
    colours = [_blend(PALE, LOST, 0.25 + 0.75 * count / worst) if count else PALE for count in lost.reshape(-1).tolist()]
    tiles = Tiles(lost.shape, (at[0] + AXIS, at[1] + 30), room - AXIS)
    tiles.draw(sheet, colours)
    if not total:
        return tiles.end
    x, y = at[0], tiles.end + 6
    for i in range(60):
        sheet.draw.rectangle((x + 2 * i, y, x + 2 * i + 1, y + 12), _blend(PALE, LOST, 0.25 + 0.75 * i / 59))
    sheet.text((x + 130, y + 7), f"1 to {worst:,} values of one object; grey: none", 13, SOFT, "lm")
    return y + 16


def _dark(colour: str) -> bool:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140


def _blend(start: str, end: str, part: float) -> str:
    pairs = [(int(start[i : i + 2], 16), int(end[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a + (b - a) * part):02X}" for a, b in pairs)
