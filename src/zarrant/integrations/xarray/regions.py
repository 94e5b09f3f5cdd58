"""Where a Dataset goes in stored arrays: a slice for each dimension, given or found by coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from xarray import Dataset, conventions

from zarrant.errors import BoundsError, OptionError, ShapeError
from zarrant.integrations.xarray.backend import variable_of
from zarrant.nodes.array import Array

Region = Mapping[str, slice]


def region_of(dataset: Dataset, asked: Any, arrays: Mapping[str, Array[Any]]) -> dict[str, slice]:
    """The slice of each dimension that is named; "auto" ones are found by the stored coordinate.

    OptionError for what is no region; BoundsError for coordinates that are not stored, or not in this order.
    """
    if asked == "auto":
        asked = dict.fromkeys(dataset.sizes, "auto")
    if not isinstance(asked, Mapping):
        raise OptionError("not a region", field="region", expected='"auto" | {dimension: slice}', got=repr(asked))
    region = {}
    for dim, part in asked.items():
        if dim not in dataset.sizes:
            raise OptionError("no such dimension", field="region", expected=sorted(map(str, dataset.sizes)), got=dim)
        if isinstance(part, str) and part == "auto":
            region[str(dim)] = _found(dataset, str(dim), arrays)
        elif isinstance(part, slice) and part.step in (None, 1):
            region[str(dim)] = part
        else:
            raise OptionError("not a part of a dimension", field=f"region[{dim!r}]", expected='a slice | "auto"', got=repr(part))
    return region


def _found(dataset: Dataset, dim: str, arrays: Mapping[str, Array[Any]]) -> slice:
    """Where the values of a coordinate are stored."""
    if dim not in dataset.variables or dim not in arrays:
        return slice(0, dataset.sizes[dim]) if _fits(dataset, dim, arrays) else _unknown(dim)
    stored = conventions.decode_cf_variable(dim, variable_of(arrays[dim], arrays[dim].metadata.zarr_format == 2))
    places = pd.Index(np.asarray(stored.values)).get_indexer(pd.Index(dataset[dim].values))
    field = f"region[{dim!r}]"
    if (places < 0).any():
        missing = dataset[dim].values[places < 0][:3].tolist()
        raise BoundsError("values of a coordinate that are not stored", field=field, expected="stored values", got=missing)
    if (np.diff(places) != 1).any():
        raise BoundsError("values that are stored in another order", field=field, expected="neighbours", got=places[:10].tolist())
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _fits(dataset: Dataset, dim: str, arrays: Mapping[str, Array[Any]]) -> bool:
    """Whether the dimension is as long in all arrays as in the dataset: then there is only one place for it."""
    lengths = {
        n for array in arrays.values() for name, n in zip(array.dimension_names or (), array.shape, strict=False) if name == dim
    }
    return lengths == {dataset.sizes[dim]}


def _unknown(dim: str) -> slice:
    what, field = "a dimension without a coordinate: its place cannot be found", f"region[{dim!r}]"
    raise OptionError(what, field=field, expected="a slice", got="auto")


def placed(variable: Any, array: Array[Any], region: Region) -> tuple[Any, tuple[slice, ...]]:
    """The variable in the order of the array's dimensions, and where it goes; ShapeError where it does not fit."""
    names = tuple(map(str, array.dimension_names or ()))
    if set(names) != set(variable.dims) or len(names) != array.ndim:
        raise ShapeError("other dimensions than those that are stored", path=array.path, expected=names, got=variable.dims)
    variable = variable.transpose(*names)
    selection = tuple(slice(*region.get(name, slice(None)).indices(n)[:2]) for name, n in zip(names, array.shape, strict=True))
    shape = tuple(max(0, part.stop - part.start) for part in selection)
    if shape != variable.shape:
        raise ShapeError(
            "values of another shape than their region",
            path=array.path,
            expected=dict(zip(names, shape, strict=True)),
            got=dict(zip(names, variable.shape, strict=True)),
            hint="region={dimension: slice} says where they go; append_dim= lets arrays grow",
        )
    return variable, selection
