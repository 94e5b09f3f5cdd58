"""Files that are not Zarr, as sources of a copy: .npy, NIfTI, TIFF, PNG and other images.

In: the path of a file. Out: a `Source`, which reads any box in bounded memory. What is compressed as one stream (.nii.gz) is
unpacked once into a temporary file, because reading boxes of it would unpack it from the start each time; of compressed TIFFs
`tiff` reads the strips and tiles of a box. A file that is missing is a NodeNotFoundError, one that cannot be understood a
DataError; nothing is written next to a source.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from zarrant.errors import DataError, NodeNotFoundError, OptionError, ZarrantError
from zarrant.geometry.box import ArraySubset
from zarrant.tools import tiff
from zarrant.tools.extras import require

Values: TypeAlias = npt.NDArray[Any]

IMAGES = (".png", ".jpg", ".jpeg", ".bmp")


@dataclass(frozen=True)
class Source:
    """What can be copied: boxes of values, and what is known about them.

    `unit` is the shape of the pieces it is stored in, None where any box costs the same. `path` is that of a file.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[ArraySubset], Values]
    unit: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    path: str | None = None
    series: int | None = None

    def share(self) -> Source:
        """The same for other processes, without what it is created like. A file is opened by each of them."""
        read = self.read if self.path is None else _ReadFile(self.path, self.series)
        return Source(self.kind, self.shape, self.dtype, read)

    @property
    def nbytes(self) -> int:
        """Bytes of all values."""
        return math.prod(self.shape) * self.dtype.itemsize


def _of_memory(kind: str, values: Values, **options: Any) -> Source:
    """A source over an array, or over anything that is sliced like one."""
    dtype = np.dtype(values.dtype).newbyteorder("=")
    return Source(kind, tuple(values.shape), dtype, lambda box: np.asarray(values[box.slices]), None, options)


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The end of a name that says what a file holds, lower case; .nii.gz counts as one."""
    name = Path(path).name.lower()
    return ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix


def is_foreign(path: str | os.PathLike[str]) -> bool:
    """Whether a name is that of a file that can be read here."""
    return suffix_of(path) in _OPENERS


@contextmanager
def open_foreign(path: str | os.PathLike[str], series: int | None = None) -> Iterator[Source]:
    """The source that a file is, while the context lasts; `series`: which of those of a TIFF."""
    path = Path(path)
    if not path.is_file():
        raise NodeNotFoundError("no such file", path=str(path))
    opener = _OPENERS[suffix_of(path)]
    if series is not None and opener is not _open_tiff:
        raise no_series(path, series)
    with ExitStack() as stack:
        with _understood(path):
            source = _open_tiff(path, stack, series) if opener is _open_tiff else opener(path, stack)

        def read(box: ArraySubset) -> Values:
            with _understood(path):
                return source.read(box)

        yield replace(source, path=str(path), series=series, read=read)


def no_series(address: str | os.PathLike[str], series: int) -> OptionError:
    """The error for a series of what has none."""
    return OptionError("only TIFFs have series", path=str(address), field="series", expected="a .tif file", got=series)


@contextmanager
def _understood(path: Path) -> Iterator[None]:
    """What a reader raises about the content of a file is a DataError."""
    try:
        yield
    except (ZarrantError, MemoryError):
        raise
    except Exception as cause:  # readers of foreign formats raise whatever they like
        if isinstance(cause, OSError) and cause.errno is not None:
            raise  # the system's, about the file; without a number it is a reader's, about what the file holds
        raise DataError(f"cannot be read: {cause}", path=str(path), expected=f"a {suffix_of(path)} file") from cause


@dataclass(frozen=True)
class _ReadFile:
    """Reads boxes of a file in whatever process it is called."""

    path: str
    series: int | None

    def __call__(self, box: ArraySubset) -> Values:
        return _opened(self.path, self.series)[1].read(box)


@lru_cache(maxsize=1)
def _opened(path: str, series: int | None) -> tuple[ExitStack, Source]:
    """A file that stays open in this process until another one is asked for."""
    stack = ExitStack()
    return stack, stack.enter_context(open_foreign(path, series))


def _open_npy(path: Path, stack: ExitStack) -> Source:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    return _of_memory("npy", values)


def _open_nifti(path: Path, stack: ExitStack) -> Source:
    nibabel = require("nibabel", "nifti", "Reading NIfTI")
    kind = "NIfTI"
    if suffix_of(path) == ".nii.gz":
        path, kind = _unpacked(nibabel, path, stack), "NIfTI, unpacked"
    # One open file and no memory map: a slice reads what it covers and no more.
    image = nibabel.load(path, mmap=False, keep_file_open=True)
    proxy = image.dataobj
    raw = (proxy.slope, proxy.inter) == (1, 0)
    dtype = proxy.dtype if raw else np.asarray(proxy[(slice(0, 1),) * len(proxy.shape)]).dtype
    options = {
        "attributes": {"affine": image.affine.tolist(), "zooms": [float(zoom) for zoom in image.header.get_zooms()]},
        "dimension_names": ("x", "y", "z", "t")[: len(proxy.shape)] if len(proxy.shape) <= 4 else None,
    }
    shape, native = tuple(proxy.shape), np.dtype(dtype).newbyteorder("=")
    return Source(kind, shape, native, lambda box: np.asarray(proxy[box.slices]), None, options)


def _unpacked(nibabel: Any, path: Path, stack: ExitStack) -> Path:
    """The content of a compressed file in a temporary one."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="zarrant-")))
    target = folder / "unpacked.nii"
    with nibabel.openers.Opener(path) as packed, target.open("wb") as file:
        shutil.copyfileobj(packed, file, 1 << 20)
    return target


def _open_tiff(path: Path, stack: ExitStack, number: int | None = None) -> Source:
    tifffile = require("tifffile", "images", "Reading TIFF")
    file = stack.enter_context(tifffile.TiffFile(path))
    number = tiff.chosen(file, path, number)
    series = file.series[number]
    options: dict[str, Any] = {"attributes": tiff.attributes_of(file, number)}
    # Q and I stand for dimensions of which the file says nothing.
    axes = tuple(None if axis in "QI" else axis.lower() for axis in series.axes)
    if len(axes) == len(series.shape):
        options["dimension_names"] = axes
    if series.dataoffset is not None:
        return _of_memory("TIFF", tifffile.memmap(path, series=number, mode="r"), **options)
    shape, dtype = tuple(series.shape), np.dtype(series.dtype).newbyteorder("=")
    return Source("TIFF, by strips", shape, dtype, tiff.Segments(series).read, None, options)


def _open_image(path: Path, stack: ExitStack) -> Source:
    """An image is decoded whole: these formats have no parts."""
    values = np.asarray(require("imageio.v3", "images", "Reading images").imread(path, plugin="pillow"))
    names = (*("t", "z", "y", "x")[-2:], "c") if values.ndim == 3 and values.shape[-1] in (1, 2, 3, 4) else None
    return _of_memory("image", values, dimension_names=names or (("y", "x") if values.ndim == 2 else None))


_OPENERS: dict[str, Callable[[Path, ExitStack], Source]] = {
    ".npy": _open_npy,
    ".nii": _open_nifti,
    ".nii.gz": _open_nifti,
    ".tif": _open_tiff,
    ".tiff": _open_tiff,
    **dict.fromkeys(IMAGES, _open_image),
}
