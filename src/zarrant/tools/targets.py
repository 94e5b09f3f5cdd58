"""Where a copy goes: a new Zarr array, or a .npy file; and the reasons not to write there.

In: an address, a shape and a data type. Out: a target, which is written box by box and then either finished or abandoned; an
abandoned target removes what was written. Nothing but an array or a .npy file is ever replaced, and only when that was asked for.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from zarrant.errors import DataTypeError, NodeExistsError, OptionError
from zarrant.geometry.box import ArraySubset
from zarrant.metadata.node import MAIN
from zarrant.nodes.array import Array
from zarrant.nodes.open import open_array
from zarrant.stores.resolve import Resolved, resolve_store
from zarrant.tools.convert import Values
from zarrant.tools.describe import local_path


class Target(Protocol):
    """Something that is written box by box."""

    @property
    def unit(self) -> tuple[int, ...] | None:
        """The shape of its stored objects, None where any box costs the same."""
        ...

    def write(self, box: ArraySubset, values: Values) -> None:
        """Store one box of whole stored objects."""
        ...

    def finish(self) -> None:
        """All boxes are stored."""
        ...

    def abandon(self) -> None:
        """Take away what was stored."""
        ...


@dataclass(frozen=True)
class ArrayTarget:
    """A new Zarr array, filled block by block."""

    array: Array[Any]

    @property
    def unit(self) -> tuple[int, ...]:
        """The shape of a stored object."""
        return self.array.write_unit

    def write(self, box: ArraySubset, values: Values) -> None:
        """The box covers whole chunks: this never reads."""
        self.array.store_array_subset(box, values)

    def finish(self) -> None:
        """Every chunk is in place already."""

    def abandon(self) -> None:
        """The metadata goes first, so that what may remain is no array."""
        self.array.erase_metadata()
        self.array.store.erase_prefix(f"{self.array.path}/" if self.array.path else "")


class NpyFile:
    """A .npy file that is being written: written to a temp file next to it, which is renamed at the end."""

    unit = None

    def __init__(self, path: str | os.PathLike[str], shape: tuple[int, ...], dtype: np.dtype[Any], overwrite: bool) -> None:
        check_npy(path, dtype, overwrite)
        self._path, self._overwrite = Path(path), overwrite
        self._temp = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}.part")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._values = np.lib.format.open_memmap(self._temp, "w+", dtype, shape)

    def write(self, box: ArraySubset, values: Values) -> None:
        """Store one box."""
        self._values[box.slices] = values

    def finish(self) -> None:
        """Give the file its name; NodeExistsError where one has appeared meanwhile."""
        self._values.flush()
        if self._overwrite:
            os.replace(self._temp, self._path)
            return
        try:
            os.link(self._temp, self._path)  # unlike a rename, it fails where something is
        except FileExistsError:
            raise _exists(self._path) from None
        except OSError:  # no hard links here: a look before the rename is the best there is
            check_npy(self._path, self._values.dtype, overwrite=False)
            os.replace(self._temp, self._path)
        finally:
            self._temp.unlink(missing_ok=True)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._temp.unlink(missing_ok=True)


def check_npy(path: str | os.PathLike[str], dtype: np.dtype[Any], overwrite: bool) -> None:
    """NodeExistsError or DataTypeError where a .npy file cannot be written."""
    path = Path(path)
    if path.is_dir() or (path.exists() and not overwrite):
        raise _exists(path)
    if dtype.hasobject or dtype.kind == "T" or np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) != dtype:
        raise DataTypeError("a .npy file cannot hold this data type", path=str(path), got=str(dtype))


def _exists(path: Path) -> NodeExistsError:
    hint = "This is a directory" if path.is_dir() else "--overwrite (overwrite=True) replaces it"
    return NodeExistsError("something is here already", path=str(path), hint=hint)


Options = Mapping[str, Any] | None
"""Options of a store."""


def check_apart(source: str, target: str, source_options: Options = None, storage_options: Options = None) -> None:
    """OptionError where one lies in the other: replacing the target would take the source away."""
    paths = local_path(source), local_path(target)
    here, there = (path and path.resolve() for path in paths)
    if here is None or there is None:
        lie_apart = here is not there or _keys_apart(resolve_store(source, source_options), resolve_store(target, storage_options))
    else:
        inside = there.is_relative_to(here) and any((here / name).exists() for name in MAIN)
        lie_apart = not (here == there or here.is_relative_to(there) or inside)
    if not lie_apart:
        raise OptionError(
            "source and target lie in each other",
            field="target",
            expected=f"a place apart from {here or source}",
            got=str(there or target),
        )


def _keys_apart(source: Resolved, target: Resolved) -> bool:
    """Whether neither prefix of one store lies in the other."""
    (here, left), (there, right) = source, target
    return bool(here != there) or not (left.startswith(right) or right.startswith(left))


def check_replaceable(path: Path, overwrite: bool) -> None:
    """NodeExistsError unless a new array may take this place: nothing is there, or an array that may be replaced."""
    if not path.exists() or (path.is_dir() and next(path.iterdir(), None) is None):
        return
    if not any((path / name).is_file() for name in MAIN):
        raise NodeExistsError(
            "something that is no Zarr array is here",
            path=str(path),
            hint="It is not replaced; choose another name, or remove it",
        )
    if not overwrite:
        raise NodeExistsError(
            "an array or group is here already", path=str(path), hint="--overwrite (overwrite=True) replaces an array"
        )
    open_array(path, mode="r")  # NodeNotFoundError for a group: it may hold much more than one array
