"""Short ways to make, save and load arrays, by the names that NumPy and zarr-python have for them.

Each is one call of `create_array`, `open_array` or `open`: nothing can be done here that these cannot do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Unpack

import numpy as np
import numpy.typing as npt

from zarrant.errors import OptionError
from zarrant.nodes.array import Array
from zarrant.nodes.array_properties import ArrayProperties
from zarrant.nodes.create import LayoutOptions
from zarrant.nodes.group import Group
from zarrant.nodes.layout_of import chain_of, codec_options, layout_of, retyped
from zarrant.nodes.open import Where, create_array, create_group
from zarrant.nodes.open import open as open_node
from zarrant.nodes.signatures import spelled_out
from zarrant.storage import ReadableWritable
from zarrant.stores.memory import MemoryStore


class ShortOptions(Where, LayoutOptions, total=False):
    """Keywords of `create_array` but for shape, type, data and fill value."""


NewArray = Array[ReadableWritable]


@spelled_out(ShortOptions)
def full(shape: Any, fill_value: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> NewArray:
    """A new array that reads as one value everywhere. The value is kept in the metadata: nothing else is stored.

    Args:
        shape: the length, an integer for each dimension.
        fill_value: the value.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type; None: that of the value.
        options: the others of `create_array`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        ShapeError: a shape that cannot be.
        DataTypeError: an unknown data type, or one that cannot hold the value.
        OptionError: an unknown option, or a value that it cannot have.

    >>> zarrant.full((2, 3), 1.5)[...].tolist()
    [[1.5, 1.5, 1.5], [1.5, 1.5, 1.5]]
    """
    return _new(store, **filled(shape, fill_value, dtype), **options)


@spelled_out(ShortOptions)
def zeros(shape: Any, *, store: Any = None, dtype: Any = "float64", **options: Unpack[ShortOptions]) -> NewArray:
    """A new array of zeros; nothing but its metadata is stored.

    Args:
        shape: the length, an integer for each dimension.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type.
        options: the others of `create_array`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        ShapeError: a shape that cannot be.
        DataTypeError: an unknown data type.
        OptionError: an unknown option, or a value that it cannot have.

    >>> z = zarrant.zeros((1000, 1000), dtype="int32", chunks=(100, 100))
    >>> int(z[...].sum()), z.nchunks_initialized
    (0, 0)
    """
    return _new(store, shape=shape, dtype=dtype, **options)


@spelled_out(ShortOptions)
def empty(shape: Any, *, store: Any = None, dtype: Any = "float64", **options: Unpack[ShortOptions]) -> NewArray:
    """A new array whose values do not matter; they are zeros. See `zeros`.

    Args:
        shape: the length, an integer for each dimension.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type.
        options: the others of `create_array`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        ShapeError: a shape that cannot be.
        DataTypeError: an unknown data type.
        OptionError: an unknown option, or a value that it cannot have.

    >>> zarrant.empty(5, dtype="int8").shape
    (5,)
    """
    return _new(store, shape=shape, dtype=dtype, **options)


@spelled_out(ShortOptions)
def ones(shape: Any, *, store: Any = None, dtype: Any = "float64", **options: Unpack[ShortOptions]) -> NewArray:
    """A new array of ones; nothing but its metadata is stored.

    Args:
        shape: the length, an integer for each dimension.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type.
        options: the others of `create_array`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        ShapeError: a shape that cannot be.
        DataTypeError: an unknown data type, or one that has no one.
        OptionError: an unknown option, or a value that it cannot have.

    >>> float(zarrant.ones((10, 10), chunks=(5, 5))[...].sum())
    100.0
    """
    return _new(store, shape=shape, dtype=dtype, fill_value=1, **options)


@spelled_out(ShortOptions)
def array(data: Any, *, store: Any = None, dtype: Any = None, fill_value: Any = None, **options: Unpack[ShortOptions]) -> NewArray:
    """A new array of data: `create_array(store, data=data)`.

    Args:
        data: what NumPy can view as an array, or what is read block by block: a dataset of h5py, an array of Dask, Zarr or xarray.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type; None: that of the data.
        fill_value: what elements are that were never written. None is zero.
        options: the others of `create_array`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        DataTypeError: an unknown data type, or one that cannot hold the data.
        OptionError: an unknown option, or a value that it cannot have.

    >>> zarrant.array([[1, 2], [3, 4]], chunks=(1, 2))[1].tolist()
    [3, 4]
    """
    return _new(store, data=required(data), dtype=dtype, fill_value=fill_value, **options)


@spelled_out(ShortOptions)
def full_like(a: Any, fill_value: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> NewArray:
    """A new array like another one, that reads as one value everywhere; nothing but its metadata is stored.

    Args:
        a: an array of Zarrant, of which chunks, shards, codecs, names of dimensions and the version of the format are taken too, or
            anything with a shape and a data type. Of others `chunks` and `shards` are taken, where they have them.
        fill_value: the value.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type; None: that of `a`.
        options: the others of `create_array`, in place of those of `a`.

    Returns:
        The array. Attributes are not taken.

    Raises:
        NodeExistsError: something is there already.
        DataTypeError: an unknown data type, or one that cannot hold the value.
        OptionError: an unknown option, or a value that it cannot have.

    >>> a = zarrant.full_like(np.ones((2, 3), "int8"), 7, chunks=(1, 3))
    >>> a[...].tolist(), a.dtype.name, a.chunks
    ([[7, 7, 7], [7, 7, 7]], 'int8', (1, 3))
    """
    return _new(store, **like(a, dtype, fill_value=fill_value, **options))


@spelled_out(ShortOptions)
def zeros_like(a: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> NewArray:
    """A new array of zeros, like another one. See `full_like`.

    Args:
        a: an array of Zarrant, or anything with a shape and a data type.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type; None: that of `a`.
        options: the others of `create_array`, in place of those of `a`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        DataTypeError: an unknown data type.
        OptionError: an unknown option, or a value that it cannot have.

    >>> a = zarrant.full(6, 9, chunks=2)
    >>> zarrant.zeros_like(a)[...].tolist(), zarrant.zeros_like(a).chunks
    ([0, 0, 0, 0, 0, 0], (2,))
    """
    return _new(store, **like(a, dtype, fill_value=None, **options))


@spelled_out(ShortOptions)
def ones_like(a: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> NewArray:
    """A new array of ones, like another one. See `full_like`.

    Args:
        a: an array of Zarrant, or anything with a shape and a data type.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type; None: that of `a`.
        options: the others of `create_array`, in place of those of `a`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        DataTypeError: an unknown data type, or one that has no one.
        OptionError: an unknown option, or a value that it cannot have.

    >>> zarrant.ones_like(np.zeros(3))[...].tolist()
    [1.0, 1.0, 1.0]
    """
    return _new(store, **like(a, dtype, fill_value=1, **options))


@spelled_out(ShortOptions)
def empty_like(a: Any, *, store: Any = None, dtype: Any = None, **options: Unpack[ShortOptions]) -> NewArray:
    """A new array like another one, whose values do not matter: they are the fill value of `a`, or zeros. See `full_like`.

    Args:
        a: an array of Zarrant, or anything with a shape and a data type.
        store: where the array is to be, as in `create_array`; None: in memory.
        dtype: its data type; None: that of `a`.
        options: the others of `create_array`, in place of those of `a`.

    Returns:
        The array.

    Raises:
        NodeExistsError: something is there already.
        DataTypeError: an unknown data type, or one that cannot hold the fill value.
        OptionError: an unknown option, or a value that it cannot have.

    >>> zarrant.empty_like(zarrant.full(2, 9))[...].tolist()
    [9, 9]
    """
    return _new(store, **like(a, dtype, **options))


def _new(store: Any, **options: Any) -> NewArray:
    return create_array(MemoryStore() if store is None else store, **given(options))


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `create_array`, without those for which None means that they are left out."""
    return {name: value for name, value in options.items() if name not in ("dtype", "fill_value") or value is not None}


def required(data: Any) -> Any:
    """The data of a new array; OptionError where there are none."""
    if data is None:
        raise OptionError("there are no data", field="data", expected="what NumPy can view as an array", got="None")
    return data


def filled(shape: Any, fill_value: Any, dtype: Any) -> dict[str, Any]:
    """The options of an array that reads as one value; its data type is that of the value, where none is given."""
    kind = np.asarray(fill_value).dtype if dtype is None else dtype
    if dtype is None and isinstance(fill_value, str):
        kind = "string"
    return {"shape": shape, "dtype": kind, "fill_value": fill_value}


def like(a: Any, dtype: Any, **options: Any) -> dict[str, Any]:
    """The options of an array like `a`, in which `options` take the place of its own."""
    if isinstance(a, ArrayProperties):
        own = layout_of(a)
        if "serializer" not in own:  # nested shards, or codecs around shards: the outer codecs as they are
            own |= codec_options(chain_of(a))
            own |= {"chunks": a.write_unit, "shards": None}
        own |= {"shape": a.shape, "zarr_format": a.metadata.zarr_format}
        if a.metadata.zarr_format == 2 or options.get("zarr_format") == 2:
            del own["chunk_key_encoding"]  # V2 has names of its own
    else:
        seen = a if hasattr(a, "shape") and hasattr(a, "dtype") else np.asarray(a)
        own = {"shape": seen.shape, "dtype": seen.dtype}
        for name in ("chunks", "shards"):
            lengths = getattr(seen, name, None)
            if isinstance(lengths, tuple) and all(isinstance(length, int) for length in lengths):
                own[name] = lengths
    if dtype is not None:
        own = retyped(own, dtype)
    return {**own, **options}


@spelled_out(ShortOptions)
def save(store: Any, *arrays: Any, named: Mapping[str, Any] | None = None, **options: Unpack[ShortOptions]) -> None:
    """Save one array as an array, or several as a group. What is there already stays, unless `overwrite` says otherwise.

    Args:
        store: where to, as in `create_array`.
        arrays: what NumPy can view as an array, or what is read block by block. Several become `arr_0`, `arr_1`, ... of a group,
            as with `numpy.savez`.
        named: arrays of the group by name.
        options: those of `create_array`, for every array: `chunks`, `compressors`, `overwrite`...

    Raises:
        NodeExistsError: something is there already.
        OptionError: nothing to save, an unknown option, or a value that it cannot have.
        DataTypeError: an array of a type that is not known.

    >>> zarrant.save("pair.zarr", named={"x": np.arange(3), "y": np.ones(3)}, overwrite=True)
    >>> sorted(zarrant.load("pair.zarr"))
    ['x', 'y']
    """
    several = {**{f"arr_{i}": each for i, each in enumerate(arrays)}, **(named or {})}
    if not several:
        raise OptionError("nothing to save", field="arrays", expected="at least one array", got="none")
    if len(arrays) == 1 and not named:
        create_array(store, data=arrays[0], **options)
        return
    given: dict[str, Any] = dict(options)
    where = {name: given.pop(name) for name in Where.__annotations__ if name in given}
    group = create_group(store, **where, overwrite=given.pop("overwrite", False))
    for name, data in several.items():
        group.create_array(name, data=data, **given)


@spelled_out(Where)
def load(store: Any, **where: Unpack[Where]) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """Read an array into memory, or all arrays of a group.

    Args:
        store: where it is, as in `open`.
        options: `name`, `config`, `synchronizer` and `storage_options`, as in `open`.

    Returns:
        A NumPy array; of a group a dict of them, by their paths below it.

    Raises:
        NodeNotFoundError: there is neither.
        ChunkError: what is stored cannot be decoded.
        OptionError: an unknown option.

    >>> zarrant.save("line.zarr", np.arange(4), overwrite=True)
    >>> zarrant.load("line.zarr").tolist()
    [0, 1, 2, 3]
    """
    node = open_node(store, mode="r", **where)
    return np.asarray(node) if isinstance(node, Array) else dict(_arrays(node, ""))


def _arrays(group: Group[Any], prefix: str) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for name, member in group.members().items():
        if isinstance(member, Group):
            yield from _arrays(member, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(group[name])  # again by name: one that cannot be opened says why
