"""What codecs share that change each element on its own."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import import_module
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from zarrant.codecs.protocols import ArraySpec, ArrayToArray
from zarrant.dtypes.base import DataType, Fill, FixedFill
from zarrant.dtypes.fill import SMALL
from zarrant.dtypes.fixed import FixedType
from zarrant.errors import MetadataError, UnknownExtensionError, ZarrantError, shown


def encoded_fill(codec: ArrayToArray, spec: ArraySpec, data_type: DataType) -> Fill:
    """The fill value of what `codec` makes of `spec`: an array of `data_type`. MetadataError where it cannot be encoded."""
    one = replace(spec, shape=(1,))
    try:
        encoded = codec.encode(one.fill.full(one.shape), one)
    except (ValueError, ZarrantError) as error:
        message = f"the fill value cannot be encoded by {codec.name}: {error}"
        raise MetadataError(message, path="$.fill_value", codec=codec.name, got=spec.fill.to_json()) from error
    return FixedFill(cast(FixedType, data_type), encoded.tobytes())


def refuse_data_type(codec: Any, spec: ArraySpec, expected: str) -> MetadataError:
    """The error for a data type that a codec does not take."""
    return MetadataError(f"{codec.name} does not take this data type", codec=codec.name, expected=expected, got=spec.data_type.name)


def json_scalar(value: Any, path: str) -> Any:
    """A number, or a text that is one in metadata ("NaN", "0x7fc0"), in its JSON form; NumPy's numbers are taken too."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise MetadataError("wrong value", path=path, expected="a number", got=shown(value))
    return value


def native(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers in a type that NumPy calculates with: the same, or a wider one that has every value of a small type."""
    if array.dtype not in SMALL and array.dtype.kind in "iufb":
        return array
    if array.dtype.name.startswith("int"):
        return array.astype(np.int8)
    return array.astype(np.uint8 if array.dtype.name.startswith("uint") else np.float32)


def extra_module(module: str, codec: str, extra: str | None = None) -> Any:
    """A module that a codec needs and that need not be there; UnknownExtensionError with the extra that has it."""
    try:
        return import_module(module)
    except ImportError as error:
        hint = f"pip install 'zarrant[{extra or module}]'"
        raise UnknownExtensionError(f"{codec} needs the package {module!r}", field="codecs", got=codec, hint=hint) from error
