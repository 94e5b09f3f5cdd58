"""From variables of a Dataset to what is stored: values as they are in chunks, and the options of the array that takes them.

All conventions are xarray's own (`xarray.conventions`, `xarray.backends.zarr`): times, masks, scales, strings, attributes. So what
is written here is read by every other engine, and the other way round. A variable that is there already is encoded exactly as
the stored one is; where xarray cannot do so, as times that fall between the units, that is an error, not another unit.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import partial
from inspect import signature
from typing import Any

import numcodecs
import numpy as np
import pandas as pd
from xarray import Dataset, conventions
from xarray.backends.zarr import (
    FillValueCoder,
    encode_zarr_attr_value,
    encode_zarr_variable,
    extract_zarr_variable_encoding,
)
from xarray.coding.strings import check_vlen_dtype

from zarrant.errors import DataTypeError, OptionError
from zarrant.integrations.xarray.backend import variable_of
from zarrant.metadata.v3 import DIMENSIONS_V2
from zarrant.nodes.array import Array

DECODED_BY = ("units", "calendar", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned", "dtype")
"""Attributes that say what stored values mean."""

TAKES_FORMAT = "zarr_format" in signature(encode_zarr_variable).parameters
"""Of xarray 2026.9 and later: text of NumPy's own type is stored as it is."""

NOT_OF_ARRAYS = ("cache_metadata", "write_empty_chunks")
"""Encodings of zarr-python that are no property of what is stored."""

Encoding = Mapping[Hashable, Mapping[str, Any]]


def variables_of(dataset: Dataset, encoding: Encoding) -> tuple[dict[str, Any], dict[str, Any]]:
    """The variables by name, with the encoding that the caller asks for, and the attributes of the group."""
    for name in dataset.variables:
        if not isinstance(name, str) or not name or "/" in name:
            raise OptionError("a variable that cannot be an array by its name", field="name", expected="text without /", got=name)
    unknown = [name for name in encoding if name not in dataset.variables]
    if unknown:
        raise OptionError("an encoding for no variable", field="encoding", expected=sorted(dataset.variables), got=unknown)
    variables, attributes = conventions.encode_dataset_coordinates(dataset)
    for name, asked in encoding.items():
        variables[name].encoding = dict(asked)
    return dict(variables), {name: encode_zarr_attr_value(value) for name, value in attributes.items()}


def encoded(variable: Any, name: str, zarr_format: int) -> Any:
    """The variable as it is stored."""
    version = {"zarr_format": zarr_format} if TAKES_FORMAT else {}
    return encode_zarr_variable(variable, name=name, **version)


def encoded_like(variable: Any, array: Array[Any]) -> Any:
    """The variable as it is stored in an array that is there; DataTypeError where its values cannot be encoded like that."""
    zarr_format = array.metadata.zarr_format
    stored = variable_of(array, zarr_format == 2)
    decoded = conventions.decode_cf_variable(array.name, stored)
    same = variable.copy(deep=False)
    same.encoding = _without_cast(decoded.encoding, array.dtype)
    try:
        result = encoded(same, array.name, zarr_format)
    except OverflowError as error:
        raise DataTypeError("values that the stored encoding cannot hold", path=array.path, got=str(error)) from error
    for attribute in DECODED_BY:
        wanted, got = stored.attrs.get(attribute), result.attrs.get(attribute)
        if attribute in decoded.encoding and wanted is not None and not _equal(wanted, got):
            raise DataTypeError(
                "values that cannot be encoded like those that are stored",
                path=array.path,
                field=attribute,
                expected=wanted,
                got=got,
                hint=f"Store {array.name!r} with an encoding that holds all values, as finer units",
            )
    if array.dtype.kind in "iu" and result.dtype.kind == "f":
        rounds = "scale_factor" in decoded.encoding or "add_offset" in decoded.encoding
        cast = partial(_as_integers, dtype=array.dtype, rounds=rounds, path=array.path)
        result.data = cast(result.values) if result.chunks is None else result.data.map_blocks(cast, dtype=array.dtype)
    return result


def _without_cast(encoding: Mapping[str, Any], dtype: np.dtype[Any]) -> dict[str, Any]:
    """An encoding with which xarray does not cast to the stored type, as it does not look whether that has the values."""
    found = dict(encoding)
    if "units" in found or "_Unsigned" in found:
        return found  # times are looked at by xarray; unsigned integers are meant to wrap
    if dtype.kind in "iuUS":
        found.pop("dtype", None)
    elif dtype.kind in "fc":
        found["dtype"] = np.result_type(dtype, np.float64)
    return found


def _as_integers(values: Any, dtype: np.dtype[Any], rounds: bool, path: str) -> Any:
    """Floating-point values as integers; DataTypeError where they have no such value, or (without `rounds`) not exactly."""
    whole, limits = np.around(values), np.iinfo(dtype)
    fits = (whole >= limits.min) & (whole < float(limits.max) + 1) & (rounds | (whole == values))
    if not fits.all():
        expected = f"{dtype}: {limits.min}..{limits.max}"
        raise DataTypeError("a value that the stored encoding cannot hold", path=path, expected=expected, got=values[~fits][0])
    return whole.astype(dtype)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, str) and isinstance(b, str):
        return _same_units(a) == _same_units(b)
    return bool(np.array_equal(a, b, equal_nan=isinstance(a, float | np.floating)))


def _same_units(text: str) -> tuple[Any, ...]:
    """Units of a time that is written in several ways: "days since 2020-01-30" is also "days since 2020-01-30 00:00:00".

    >>> _same_units("days since 2020-01-30") == _same_units("days since 2020-01-30 00:00:00.000")
    True
    """
    unit, _, reference = text.partition(" since ")
    try:
        return (unit, pd.Timestamp(reference)) if reference else (unit,)
    except ValueError:  # years that pandas does not know
        return (unit, reference)


def array_options(variable: Any, name: str, zarr_format: int, asked: bool) -> dict[str, Any]:
    """The keywords of `create_array` for a new, encoded variable. `asked`: the caller gave its encoding, which must be known."""
    variable = _with_uniform_chunks(variable)
    found = extract_zarr_variable_encoding(variable, raise_on_invalid=asked, name=name, zarr_format=zarr_format)
    options = {key: value for key, value in found.items() if key not in (*NOT_OF_ARRAYS, "fill_value")}
    for key in ("compressors", "filters"):
        if isinstance(options.get(key), list | tuple):
            options[key] = [_plain(codec) for codec in options[key] if not _is_of_text(codec)]
        elif options.get(key) is not None:
            options[key] = _plain(options[key])
    serializer = options.pop("serializer", None)
    if serializer is not None and not _is_of_text(serializer):
        options["serializer"] = _plain(serializer)
    fill, attributes = _fill(variable, found.get("fill_value"), zarr_format)
    return options | {
        "shape": variable.shape,
        "dtype": "string" if check_vlen_dtype(variable.dtype) is str else variable.dtype,
        "fill_value": fill,
        "attributes": {key: encode_zarr_attr_value(value) for key, value in attributes.items()},
        "dimension_names": variable.dims,
        "zarr_format": zarr_format,
    }


def _with_uniform_chunks(variable: Any) -> Any:
    """Where only Dask's blocks say how to cut the array, and these are of several lengths, the largest do."""
    blocks = variable.chunks
    if not blocks or variable.encoding.get("chunks") or all(len(set(each[:-1])) <= 1 and each[-1] <= each[0] for each in blocks):
        return variable
    same = variable.copy(deep=False)
    same.encoding = {**variable.encoding, "chunks": tuple(max(each) for each in blocks)}
    return same


def _fill(variable: Any, given: Any, zarr_format: int) -> tuple[Any, dict[str, Any]]:
    """The fill value of the array, and the attributes: V2 has `_FillValue` in the place of the fill value, V3 beside it."""
    attributes = dict(variable.attrs)
    missing = attributes.pop("_FillValue", None)
    if zarr_format == 2:
        return missing, {**attributes, DIMENSIONS_V2: list(variable.dims)}  # also where there are none
    if missing is not None:
        attributes["_FillValue"] = FillValueCoder.encode(missing, variable.dtype)
    if given is None and variable.dtype.kind == "f":
        given = np.nan  # as xarray has it: what was never written is missing
    return given, attributes


def _plain(codec: Any) -> Any:
    """A codec as `create_array` takes it, where it is an object of zarr-python, or the JSON of one of Zarr V2."""
    value = codec.to_dict() if hasattr(codec, "to_dict") else codec
    return numcodecs.get_codec(dict(value)) if isinstance(value, Mapping) and "id" in value else value


def _is_of_text(codec: Any) -> bool:
    """Whether it stores elements of variable length: the data type decides whether it is needed, which may be another one."""
    value = codec.to_dict() if hasattr(codec, "to_dict") else codec.get_config() if hasattr(codec, "get_config") else codec
    return isinstance(value, Mapping) and str(value.get("name", value.get("id"))).startswith("vlen-")
