"""`dataset.zarrant.to_zarr(...)`: store a Dataset, or a part of one, from many processes at once.

In: a Dataset in memory or of Dask, and where it goes. Everything is encoded and checked before anything is written. Four ways:

- *new*: a group and its arrays are made. Values in memory are stored before the array can be seen, blocks of Dask afterwards.
  With `if_exists="match"` many workers may do so: the first one stores the values in memory, the others find equal arrays.
- *region*: a part of arrays that are there. It need not fit chunks or shards: partial writes are safe.
- *append*: all variables with one dimension grow as one (`Group.append`): rows of one call have the same indices in all arrays.
- *again* (`mode="a"`): arrays that are there get new values, others are made.

Copies of metadata (consolidated) are made with a new group, and kept in step by every later change.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
from xarray import Dataset, register_dataset_accessor

from zarrant.errors import CapabilityError, NodeNotFoundError, OptionError
from zarrant.geometry.box import as_subset
from zarrant.integrations.xarray import encoding as encode
from zarrant.integrations.xarray.regions import placed, region_of
from zarrant.nodes.array import Array
from zarrant.nodes.group import Group
from zarrant.nodes.open import create_group, open_group

MODES = ("w", "w-", "a", "r+")
Write = tuple[Array[Any], tuple[slice, ...], Any]
"""An array, where in it, and values in memory or of Dask."""


@register_dataset_accessor("zarrant")
class ZarrantAccessor:
    """What Zarrant adds to a Dataset: `dataset.zarrant`."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def to_zarr(
        self,
        store: Any,
        mode: Literal["w", "w-", "a", "r+"] | None = None,
        *,
        group: str | None = None,
        encoding: Mapping[Hashable, Mapping[str, Any]] | None = None,
        compute: bool = True,
        region: Mapping[str, slice | Literal["auto"]] | Literal["auto"] | None = None,
        append_dim: str | None = None,
        if_exists: Literal["error", "match"] = "error",
        consolidated: bool = True,
        zarr_format: Literal[2, 3] | None = None,
        storage_options: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> Any:
        """Store the Dataset, or a part of one.

        Args:
            store: where the group is, as for `zarrant.open_group`.
            mode: "w-" makes a new group (the default), "w" replaces what is there, "a" stores into arrays that are there and makes
                the others, "r+" only stores into arrays that are there (the default for `region` and `append_dim`).
            group: the path of the group in the store.
            encoding: by variable, as for `Dataset.to_zarr`: `chunks`, `shards`, `compressors`, `dtype`, `scale_factor`, `units` …
            compute: False stores values in memory, and returns a Delayed that stores those of Dask.
            region: the part of the stored dimensions that this Dataset is: `{"time": slice(10, 20)}`, or "auto", for one
                dimension or for all, which looks for the coordinates' values. Dimensions that are not named are whole.
            append_dim: the dimension along which the Dataset is put behind what is stored, in all variables as one.
            if_exists: "match": a group with equal arrays will do, so that many workers may all make the same template.
            consolidated: keep copies of all metadata in the root of the store, so that a group is opened with one read.
            zarr_format: of a new group; left out it is 3.
            storage_options: as for `zarrant.open_group`.
            config: runtime options, as for `zarrant.open_group`.

        Returns:
            With `append_dim` the slice of the dimension that the Dataset got, else None. With `compute=False` a Delayed.

        Raises:
            NodeExistsError: something is there already.
            NodeNotFoundError: nothing is there to store into.
            OptionError: options that mean nothing together, or variables that would not fit each other afterwards.
            ShapeError: a variable is of another shape than its region.
            BoundsError: coordinates that are not stored, or not in this order.
            DataTypeError: values that cannot be encoded like those that are stored.
        """
        way = _mode_of(mode, region, append_dim, if_exists)
        where: dict[str, Any] = {"storage_options": storage_options, **({} if config is None else {"config": config})}
        name = (group or "").strip("/") or None
        if way in ("w", "w-"):
            writes = _create(self._dataset, store, name, way, if_exists, zarr_format, encoding or {}, where)
            if consolidated:
                open_group(store, mode="r+", **where).consolidate_metadata()
            return _perform(writes, compute)
        if region is None and append_dim is None:
            writes = _again(
                self._dataset, open_group(store, mode="a" if way == "a" else "r+", name=name, **where), way, encoding or {}
            )
            return _perform(writes, compute)
        if encoding:
            raise OptionError("arrays that are there keep their encoding", field="encoding", expected=None, got=dict(encoding))
        opened = open_group(store, mode="r+", name=name, **where)
        if append_dim is not None:
            return _append(self._dataset, opened, append_dim, compute)
        return _perform(_parts(self._dataset, opened, region), compute)


def _mode_of(mode: Any, region: Any, append_dim: Any, if_exists: Any) -> str:
    there = region is not None or append_dim is not None
    if region is not None and append_dim is not None:
        raise OptionError("a part is put somewhere or behind the end", field="append_dim", expected=None, got=append_dim)
    if if_exists not in ("error", "match"):
        raise OptionError("impossible value of an option", field="if_exists", expected="error | match", got=if_exists)
    mode = mode or ("r+" if there else "w-")
    known = ("r+", "a") if there else ("w-",) if if_exists == "match" else MODES
    if mode not in known:
        raise OptionError("impossible value of an option", field="mode", expected=" | ".join(known), got=mode)
    return str(mode)


# ── a new group ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _create(
    dataset: Dataset,
    store: Any,
    name: str | None,
    mode: str,
    if_exists: Any,
    zarr_format: Any,
    encoding: encode.Encoding,
    where: Mapping[str, Any],
) -> list[Write]:
    version: Any = 3 if zarr_format is None else zarr_format
    variables, attributes = encode.variables_of(dataset, encoding)
    stored = {key: encode.encoded(variable, key, version) for key, variable in variables.items()}
    options = {key: encode.array_options(each, key, version, key in encoding) for key, each in stored.items()}
    data = {key: each.data if _is_lazy(each) else each.values for key, each in stored.items()}  # may be read from what is replaced
    group = create_group(
        store, name=name, attributes=attributes, zarr_format=version, overwrite=mode == "w", if_exists=if_exists, **where
    )
    return [write for key in stored for write in _new_array(group, key, data[key], options[key], if_exists)]


def _new_array(group: Group[Any], name: str, data: Any, options: Mapping[str, Any], if_exists: Any) -> list[Write]:
    """Make an array, with its values where they are in memory; what is left to store."""
    if not isinstance(data, np.ndarray):
        array = group.create_array(name, if_exists=if_exists, **options)
        return [(array, (slice(None),) * array.ndim, data)]
    group.create_array(name, if_exists=if_exists, data=data, **options)
    return []


def _is_lazy(variable: Any) -> bool:
    return variable.chunks is not None


# ── into arrays that are there ───────────────────────────────────────────────────────────────────────────────────────


def _stored(group: Group[Any]) -> dict[str, Array[Any]]:
    return group.arrays()


def _again(dataset: Dataset, group: Group[Any], mode: str, encoding: encode.Encoding) -> list[Write]:
    """Whole arrays get new values; with `mode="a"` those that are missing are made."""
    arrays = _stored(group)
    variables, attributes = encode.variables_of(dataset, encoding)
    new = [name for name in variables if name not in arrays]
    if new and mode == "r+":
        raise _not_stored(new)
    there = [name for name in encoding if name in arrays]
    if there:
        raise OptionError("arrays that are there keep their encoding", field="encoding", expected=new, got=there)
    writes = [_write(variables[name], arrays[name], {}) for name in variables if name in arrays]
    version = group.metadata.zarr_format
    stored = {name: encode.encoded(variables[name], name, version) for name in new}
    options = {name: encode.array_options(each, name, version, name in encoding) for name, each in stored.items()}
    data = {name: each.data if _is_lazy(each) else each.values for name, each in stored.items()}
    if attributes:
        group.update_attributes(attributes)
    return writes + [write for name in new for write in _new_array(group, name, data[name], options[name], "error")]


def _write(variable: Any, array: Array[Any], region: Mapping[str, slice]) -> Write:
    values, selection = placed(encode.encoded_like(variable, array), array, region)
    return array, selection, values.data if _is_lazy(values) else values.values


def _not_stored(names: list[str]) -> NodeNotFoundError:
    hint = f'Leave them out: dataset.drop_vars({names!r}); or make them first, with mode="a"'
    return NodeNotFoundError("variables that are not stored", field="variables", got=names, hint=hint)


def _parts(dataset: Dataset, group: Group[Any], asked: Any) -> list[Write]:
    """A region of arrays that are there."""
    arrays = _stored(group)
    region = region_of(dataset, asked, arrays)
    outside = [str(name) for name, variable in dataset.variables.items() if not set(region) & set(variable.dims)]
    if outside:
        hint = f"Leave them out: dataset.drop_vars({outside!r})"
        raise OptionError("variables without a dimension of the region", field="region", got=outside, hint=hint)
    variables, _ = encode.variables_of(dataset, {})
    missing = [name for name in variables if name not in arrays]
    if missing:
        raise _not_stored(missing)
    return [_write(variable, arrays[name], region) for name, variable in variables.items()]


# ── behind the end ───────────────────────────────────────────────────────────────────────────────────────────────────


def _append(dataset: Dataset, group: Group[Any], dim: str, compute: bool) -> Any:
    """All arrays with the dimension grow as one."""
    arrays = {name: array for name, array in _stored(group).items() if dim in (array.dimension_names or ())}
    growing = {str(name) for name, variable in dataset.variables.items() if dim in variable.dims}
    if not arrays:
        raise OptionError("no array has this dimension", field="append_dim", expected=_dimensions(group), got=dim)
    if growing - arrays.keys():
        raise _not_stored(sorted(growing - arrays.keys()))
    if arrays.keys() - growing:
        raise OptionError(
            "arrays that would stay shorter than the others",
            field="append_dim",
            expected=sorted(arrays),
            got=sorted(growing),
            hint="The dataset needs every variable and coordinate with this dimension",
        )
    axes = {name: (array.dimension_names or ()).index(dim) for name, array in arrays.items()}
    if len(set(axes.values())) > 1:
        raise OptionError("the dimension is in another place of each array", field="append_dim", expected="one place", got=axes)
    variables, _ = encode.variables_of(dataset, {})
    values = {}
    for name, array in arrays.items():
        size = array.shape[axes[name]]
        fitting = encode.encoded_like(variables[name], array)
        placed(fitting.isel({dim: slice(0, 0)}), array, {dim: slice(size, size)})  # the other dimensions fit
        fitting = fitting.transpose(*(array.dimension_names or ()))
        values[name] = fitting.data if _is_lazy(fitting) else fitting.values
    return _appended(group, values, next(iter(axes.values())), compute)


def _dimensions(group: Group[Any]) -> list[str]:
    return sorted({str(name) for array in _stored(group).values() for name in array.dimension_names or ()})


def _appended(group: Group[Any], values: dict[str, Any], axis: int, compute: bool) -> Any:
    lazy = [name for name, each in values.items() if hasattr(each, "__dask_graph__")]
    if not lazy and compute:
        return group.append(values, axis)
    import dask

    later = dask.delayed(Group.append, pure=False)(group, values, axis)
    return later.compute() if compute else later


# ── storing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _perform(writes: list[Write], compute: bool) -> Any:
    """Store values in memory; those of Dask together, now or later."""
    lazy = []
    for array, selection, values in writes:
        if hasattr(values, "__dask_graph__"):
            lazy.append((array, selection, values))
        elif hasattr(values, "__array__"):
            array.store_array_subset(selection, values)
        else:
            what = "arrays of this kind are not stored block by block"
            raise CapabilityError(what, expected="arrays of NumPy or Dask", got=type(values).__name__, hint="Call .compute() first")
    if not lazy and compute:
        return None
    import dask

    from zarrant.integrations.dask.arrays import ended, stored_blocks

    blocks = [stored_blocks(values, array, as_subset(selection, array.shape)) for array, selection, values in lazy]
    if compute:
        dask.compute(*blocks)
        return None
    return dask.delayed(ended, pure=False)(blocks)
