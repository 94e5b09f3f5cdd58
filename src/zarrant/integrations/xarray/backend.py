"""The engine "zarrant" of xarray: reads a group as a Dataset.

In: an address, a store or an open group. Out: a Dataset whose variables are read when they are used, by any kind of index,
blocking or in an event loop. Variables are handed to xarray as they are stored; times, masks, scales, strings and coordinates are
decoded by xarray, as for its own engines. Nothing is written here: see `accessor`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import uuid4

import numpy as np
from xarray import Dataset, DataTree, Variable
from xarray.backends import BackendArray, BackendEntrypoint
from xarray.backends.common import AbstractDataStore
from xarray.backends.store import StoreBackendEntrypoint
from xarray.backends.zarr import FillValueCoder
from xarray.core import indexing

from zarrant.errors import MetadataError
from zarrant.metadata.v3 import DIMENSIONS_V2
from zarrant.nodes.array import Array
from zarrant.nodes.async_array import AsyncArray
from zarrant.nodes.base import context_of
from zarrant.nodes.group import Group
from zarrant.nodes.open import open_group
from zarrant.nodes.unreadable import UnreadableNode


class LazyArray(BackendArray):
    """A stored array as xarray reads it: by integers and slices, by one index for each dimension, by points."""

    def __init__(self, array: Array[Any]) -> None:
        self._array = array
        # Dask names blocks by what this is pickled to: `open_dataset(...).chunk()` has new ones each time.
        self._opened = uuid4().hex
        self.shape, self.dtype = array.shape, array.dtype

    def __getitem__(self, key: Any) -> Any:
        """The elements of one of xarray's indexers."""
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.VECTORIZED, self._read(key))

    def _read(self, key: Any) -> Any:
        source: Any = self._array
        if isinstance(key, indexing.OuterIndexer):
            source = source.oindex
        elif isinstance(key, indexing.VectorizedIndexer):
            source = source.vindex
        return lambda selection: np.asarray(source[selection], self.dtype)

    async def async_getitem(self, key: Any) -> Any:
        """See `__getitem__`."""
        index = "numpy"
        if isinstance(key, indexing.OuterIndexer):
            index = "orthogonal"
        elif isinstance(key, indexing.VectorizedIndexer):
            index = "points"
        array: Any = AsyncArray(context_of(self._array), self._array.metadata)

        async def read(selection: Any) -> Any:
            return np.asarray(await array.getitem(selection, index=index), self.dtype)

        support = indexing.IndexingSupport.VECTORIZED
        return await indexing.async_explicit_indexing_adapter(key, self.shape, support, read)


class GroupStore(AbstractDataStore):
    """A group as xarray takes it: undecoded variables, and attributes."""

    def __init__(self, group: Group[Any], fill_as_mask: bool | None = None, without: Iterable[str] = ()) -> None:
        """`fill_as_mask`: whether the fill value means "missing"; None: as xarray has it, in V2 but not in V3."""
        self.group = group
        self._fill_as_mask = group.metadata.zarr_format == 2 if fill_as_mask is None else fill_as_mask
        self._without = set(without)

    def get_variables(self) -> Mapping[str, Any]:
        """The arrays directly below the group; the error of one that cannot be opened."""
        variables = {}
        for name, member in self.group.members().items():
            if name in self._without:
                continue
            if isinstance(member, UnreadableNode):
                if member.kind == "group":
                    continue
                member.error.add_note(f"To open the dataset without it: drop_variables=[{name!r}]")
                raise member.error
            if isinstance(member, Array):
                variables[name] = variable_of(member, self._fill_as_mask)
        return variables

    def get_attrs(self) -> dict[str, Any]:
        """The attributes of the group, but for those of NCZarr."""
        return {name: value for name, value in dict(self.group.attrs).items() if not name.lower().startswith("_nc")}


def variable_of(array: Array[Any], fill_as_mask: bool) -> Any:
    """A variable that is not decoded, whose elements are read when they are needed."""
    dims, attributes = dimensions_of(array), dict(array.attrs)
    encoding = encoding_of(array, dims)
    if array.metadata.zarr_format == 2:
        hidden = [name for name in attributes if name == DIMENSIONS_V2 or name.lower().startswith("_nc")]
        attributes = {name: value for name, value in attributes.items() if name not in hidden}
    if fill_as_mask:
        stored = array.metadata.fill_value if array.metadata.v2 is None else array.metadata.v2.get("fill_value")
        if stored is not None:  # in V2 it may be null: no element means "missing"
            attributes["_FillValue"] = array.fill_value
    else:
        if array.metadata.zarr_format == 3:
            encoding["fill_value"] = array.fill_value
        if "_FillValue" in attributes:
            attributes["_FillValue"] = FillValueCoder.decode(attributes["_FillValue"], array.dtype)
    return Variable(dims, indexing.LazilyIndexedArray(LazyArray(array)), attributes, encoding)


def dimensions_of(array: Array[Any]) -> tuple[str, ...]:
    """The names of the dimensions; MetadataError where there are none."""
    names = array.dimension_names or ()
    if len(names) == array.ndim and all(isinstance(name, str) for name in names):
        return tuple(str(name) for name in names)
    raise MetadataError(
        "xarray needs the names of all dimensions",
        path=array.path,
        field="dimension_names",
        expected=f"{array.ndim} names",
        got=array.dimension_names,
        hint=f"Open the dataset without it: drop_variables=[{array.name!r}]",
    )


def encoding_of(array: Array[Any], dims: tuple[str, ...]) -> dict[str, Any]:
    """How the array is stored, so that a copy of the Dataset is stored likewise; what both Zarrant and zarr-python take."""
    chunks = compact(array.read_chunk_sizes)
    encoding: dict[str, Any] = {"chunks": chunks, "preferred_chunks": dict(zip(dims, chunks, strict=True))}
    encoding["shards"] = None if array.shards is None else compact(array.write_chunk_sizes)
    v2 = array.metadata.v2
    if v2 is None:
        encoding["filters"] = tuple(codec.to_json() for codec in array.filters)
        encoding["serializer"] = array.serializer.to_json()
        encoding["compressors"] = tuple(codec.to_json() for codec in array.compressors)
    else:
        compressor, filters = v2.get("compressor"), v2.get("filters")
        encoding["filters"] = tuple(filters) if isinstance(filters, list | tuple) else ()
        encoding["compressors"] = () if compressor is None else (compressor,)
    if array.dtype.kind == "T":
        encoding["dtype"] = array.dtype
    return encoding


def compact(sizes: tuple[tuple[int, ...], ...]) -> tuple[int | tuple[int, ...], ...]:
    """Lengths of chunks along each dimension: one number where all are equal, but for a shorter last one.

    >>> compact(((4, 4, 2), (3, 5), ()))
    (4, (3, 5), (0,))
    """
    return tuple(
        (0,) if not each else each[0] if len(set(each[:-1])) <= 1 and each[-1] <= each[0] else tuple(each) for each in sizes
    )


class ZarrantBackend(BackendEntrypoint):
    """The engine "zarrant": `xarray.open_dataset(address, engine="zarrant")`."""

    description = "Open Zarr groups (V2 and V3) with Zarrant"
    supports_groups = True

    def guess_can_open(self, filename_or_obj: Any) -> bool:
        """Whether it looks like an address of a group; where zarr-python is installed its engine is asked first."""
        if isinstance(filename_or_obj, str | os.PathLike):
            return os.fspath(filename_or_obj).rstrip("/").endswith(".zarr")
        return isinstance(filename_or_obj, Group)

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        mask_and_scale: bool = True,
        decode_times: bool = True,
        concat_characters: bool = True,
        decode_coords: bool = True,
        drop_variables: str | Iterable[str] | None = None,
        use_cftime: bool | None = None,
        decode_timedelta: bool | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        use_zarr_fill_value_as_mask: bool | None = None,
    ) -> Any:
        """A Dataset of the arrays in one group; xarray says what its options mean."""
        opened = _opened(filename_or_obj, group, storage_options, config)
        decoding = {
            "mask_and_scale": mask_and_scale,
            "decode_times": decode_times,
            "concat_characters": concat_characters,
            "decode_coords": decode_coords,
            "use_cftime": use_cftime,
            "decode_timedelta": decode_timedelta,
        }
        return _dataset(opened, use_zarr_fill_value_as_mask, drop_variables, decoding)

    def open_groups_as_dict(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        group: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        use_zarr_fill_value_as_mask: bool | None = None,
        **decoding: Any,
    ) -> dict[str, Any]:
        """A Dataset for the group and for each one below it, by paths that begin with "/"."""
        opened = _opened(filename_or_obj, group, storage_options, config)
        return {path: _dataset(each, use_zarr_fill_value_as_mask, drop_variables, decoding) for path, each in _groups("/", opened)}

    def open_datatree(self, filename_or_obj: Any, **options: Any) -> Any:
        """A DataTree of the group and all groups below it; options as in `open_groups_as_dict`."""
        return DataTree.from_dict(self.open_groups_as_dict(filename_or_obj, **options))


def _opened(
    address: Any, group: str | None, storage_options: Mapping[str, Any] | None, config: Mapping[str, Any] | None
) -> Group[Any]:
    name = (group or "").strip("/") or None
    if isinstance(address, Group):
        found = address if name is None else address[name]
        if isinstance(found, Group):
            return found
        raise MetadataError("an array, where a group is needed", path=found.path)
    options: dict[str, Any] = {} if config is None else {"config": config}
    return open_group(address, mode="r", name=name, storage_options=storage_options, **options)


def _groups(path: str, group: Group[Any]) -> Iterator[tuple[str, Group[Any]]]:
    """(path, group) for a group and all below it."""
    yield path, group
    for name, member in group.members().items():
        if isinstance(member, Group):
            yield from _groups(f"{path.rstrip('/')}/{name}", member)


def _dataset(group: Group[Any], fill_as_mask: bool | None, drop: str | Iterable[str] | None, decoding: Mapping[str, Any]) -> Any:
    without = [drop] if isinstance(drop, str) else list(drop or ())
    dataset: Dataset = StoreBackendEntrypoint().open_dataset(GroupStore(group, fill_as_mask, without), **decoding)
    return dataset
