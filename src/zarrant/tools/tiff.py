"""TIFF files as sources of a copy: boxes are read by the strips and tiles that they touch, and metadata are kept.

In: the path of a file. Out: one of its series, at full resolution, as parts of a `Source`. Nothing is unpacked to disk: a strip or
tile is decoded when a box touches it, and the last ones are kept for the next box. So memory is that of the box, of what is kept
(`KEPT_BYTES`) and of one strip: a page of one single strip is decoded whole. What the file says of itself becomes attributes:
`ome_xml` (as it is), `imagej`, `description`, `resolution` (pixels per unit, along x and y), `spacing` (of each axis, with unit).
"""

from __future__ import annotations

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from zarrant.errors import OptionError
from zarrant.geometry.box import ArraySubset

KEPT_BYTES = 64 << 20
"""Bytes of decoded strips and tiles that are kept: those of one block of a copy, which begins in what the last one ended in."""
KEPT_TEXT = 1 << 20
"""Characters of a text that is kept: metadata are read whenever an array is opened."""
SHOWN_SERIES = 8
"""Series that an error lists: plates have hundreds."""
JPEG = (6, 7, 33007, 34892)
"""Compressions whose tables stand once for all strips."""

Values = npt.NDArray[Any]
Slices = tuple[slice, ...]


class Segments:
    """The strips or tiles of a series. Pages are looked at as tifffile does: (planes, depth, rows, columns, samples)."""

    def __init__(self, series: Any) -> None:
        """ValueError where pages do not make up the series."""
        self._page, self._pages, self._shape = series.keyframe, series.pages, tuple(series.shape)
        self._dtype = np.dtype(series.dtype).newbyteorder("=")
        self._inner = _page_dimensions(self._shape, tuple(self._page.shaped), len(series.pages))
        self._sizes = _segment_shape(self._page)
        self._counts = tuple(-(-n // size) for n, size in zip(self._page.shaped, self._sizes, strict=True))
        self._file_lock, self._lock = threading.Lock(), threading.Lock()
        self._kept: OrderedDict[tuple[int, int], Values | None] = OrderedDict()
        self._bytes = 0

    def read(self, box: ArraySubset) -> Values:
        """The elements of a box."""
        values = np.zeros(box.shape, self._dtype)
        if not values.size:
            return values
        split = len(self._shape) - self._inner
        outer, inner = box.slices[:split], _spread(box.slices[split:], self._shape[split:], self._page.shaped)
        shape = tuple(each.stop - each.start for each in inner)
        for index in product(*(range(each.start, each.stop) for each in outer)):
            number = int(np.ravel_multi_index(index, self._shape[:split])) if index else 0
            if self._pages[number] is not None:  # one that is left out is zeros
                out = values[tuple(i - each.start for i, each in zip(index, outer, strict=True))]
                self._fill(out.reshape(shape), number, inner)
        return values

    def _fill(self, out: Values, number: int, box: Slices) -> None:
        """What a box has of one page."""
        for chunk in product(*(range(a.start // n, -(-a.stop // n)) for a, n in zip(box, self._sizes, strict=True))):
            segment = self._segment(number, int(np.ravel_multi_index(chunk, self._counts)))
            if segment is not None:
                starts = [i * n for i, n in zip(chunk, self._sizes, strict=True)]
                here, there = zip(*_overlaps(box, starts, segment.shape), strict=True)
                out[there] = segment[here]

    def _segment(self, number: int, index: int) -> Values | None:
        """A strip or tile, decoded; None where the file has none."""
        with self._lock:
            if (number, index) in self._kept:
                self._kept.move_to_end((number, index))
                return self._kept[number, index]
        segment = self._decoded(self._pages[number], index)
        with self._lock:
            if (number, index) not in self._kept:
                self._kept[number, index] = segment
                self._bytes += 0 if segment is None else segment.nbytes
            while self._bytes > KEPT_BYTES and len(self._kept) > 1:
                old = self._kept.popitem(last=False)[1]
                self._bytes -= 0 if old is None else old.nbytes
        return segment

    def _decoded(self, page: Any, index: int) -> Values | None:
        offset, nbytes = page.dataoffsets[index], page.databytecounts[index]
        if not nbytes:
            return None
        file = page.parent.filehandle  # pages of one series may be in several files
        with self._file_lock:
            if file.closed:
                file.open()
            file.seek(offset)
            data = file.read(nbytes)
        tables = {"jpegtables": page.jpegtables, "jpegheader": self._page.jpegheader} if self._page.compression in JPEG else {}
        segment, _, _ = self._page.decode(data, index, _fullsize=False, **tables)
        return None if segment is None else np.asarray(segment)[np.newaxis]


def _page_dimensions(shape: tuple[int, ...], page: tuple[int, ...], pages: int) -> int:
    """How many of the last dimensions of a series are those of its pages."""
    sides = [n for n in page if n != 1]
    for split in range(len(shape) + 1):
        if math.prod(shape[:split]) == pages and [n for n in shape[split:] if n != 1] == sides:
            return len(shape) - split
    raise ValueError(f"{pages} pages of {page} do not make up {shape}")


def _segment_shape(page: Any) -> tuple[int, ...]:
    """The shape of a strip or tile, in five dimensions."""
    rows, columns, samples = page.shaped[2:]
    if page.is_tiled:
        return 1, max(1, page.tiledepth), page.tilelength, page.tilewidth, samples
    return 1, 1, min(page.rowsperstrip or rows, rows), columns, samples


def _spread(box: Slices, shape: tuple[int, ...], page: tuple[int, ...]) -> Slices:
    """A box of the dimensions of a series as one of the five of a page, which has more of length 1, or fewer."""
    sides = iter(each for each, n in zip(box, shape, strict=True) if n != 1)
    return tuple(slice(0, 1) if n == 1 else next(sides) for n in page)


def _overlaps(box: Slices, starts: list[int], shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """For each dimension where a box and a piece meet: in the piece, and in the box."""
    for side, start, length in zip(box, starts, shape, strict=True):
        low, high = max(side.start, start), min(side.stop, start + length)
        yield slice(low - start, high - start), slice(low - side.start, high - side.start)


def chosen(tiff: Any, path: Path, number: int | None) -> int:
    """Which series is meant; OptionError where there are several and none was chosen, or none of that number."""
    n = len(tiff.series)
    if (number is None and n == 1) or (number is not None and 0 <= number < n):
        return number or 0
    listed = [f"{i}: {each.name} {each.shape} {each.dtype}" for i, each in enumerate(tiff.series[:SHOWN_SERIES])]
    raise OptionError(
        f"the file has {n} series",
        path=str(path),
        field="series",
        expected=f"one of 0 to {n - 1} ({'; '.join([*listed, *(['...'] if n > SHOWN_SERIES else [])])})",
        got="none" if number is None else number,
        hint="--series 0 (series=0) copies the first one",
    )


# ── what a file says of itself ───────────────────────────────────────────────────────────────────────────────────────


def attributes_of(tiff: Any, number: int) -> dict[str, Any]:
    """What is worth keeping of a series, as attributes."""
    found: dict[str, Any] = {}
    series = tiff.series[number]
    page, ome = series.keyframe, tiff.ome_metadata
    if ome and len(ome) <= KEPT_TEXT:
        found["ome_xml"] = ome
    elif not tiff.is_imagej and not tiff.is_shaped and page.description and len(page.description) <= KEPT_TEXT:
        found["description"] = page.description
    imagej = {name: value for name, value in (tiff.imagej_metadata or {}).items() if _is_json(value)}
    if imagej:
        found["imagej"] = imagej
    if {"XResolution", "YResolution"} <= {tag.name for tag in page.tags} and page.resolution != (1, 1):
        found["resolution"] = {"pixels_per_unit": [float(n) for n in page.resolution], "unit": page.resolutionunit.name.lower()}
    spacing = _ome_spacing(found["ome_xml"], number) if "ome_xml" in found else _imagej_spacing(imagej)
    return found | ({"spacing": spacing} if spacing else {})


def _is_json(value: Any) -> bool:
    try:
        return len(json.dumps(value, allow_nan=False)) <= KEPT_TEXT
    except (TypeError, ValueError):
        return False


def _ome_spacing(text: str, number: int) -> dict[str, Any]:
    """The sizes of a pixel of one image."""
    try:
        pixels = [each for each in ElementTree.fromstring(text).iter() if each.tag.endswith("}Pixels")]
    except ElementTree.ParseError:
        return {}
    names = dict(pixels[number].attrib) if number < len(pixels) else {}
    return {
        axis.lower(): {"value": float(names[f"PhysicalSize{axis}"]), "unit": names.get(f"PhysicalSize{axis}Unit", "µm")}
        for axis in "ZYX"
        if f"PhysicalSize{axis}" in names
    }


def _imagej_spacing(imagej: Mapping[str, Any]) -> dict[str, Any]:
    """ImageJ has the distance of slices only; along x and y there is the resolution."""
    return {"z": {"value": imagej["spacing"], "unit": imagej.get("unit", "pixel")}} if "spacing" in imagej else {}
