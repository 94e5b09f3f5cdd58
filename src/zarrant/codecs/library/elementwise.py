"""What codecs share that change each element on its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from zarrant.codecs.protocols import ArraySpec, ArrayToArray
from zarrant.dtypes.base import DataType, Fill, FixedFill
from zarrant.dtypes.fixed import FixedType
from zarrant.errors import MetadataError, ZarrantError


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
