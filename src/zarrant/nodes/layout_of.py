"""How a new array would be created like another one: the keywords of `create_array`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from zarrant.codecs import Blosc
from zarrant.codecs.chain import Chain, parse_chain
from zarrant.nodes.array_properties import ArrayProperties


def layout_of(array: ArrayProperties[Any]) -> dict[str, Any]:
    """Keywords for an array like this one, but for its shape and attributes; codecs that are not of the plain form are left out."""
    options: dict[str, Any] = {
        "dtype": array.metadata.data_type.to_json(),
        "chunks": array.chunks,
        "shards": array.shards,
        "fill_value": array.fill_value,
        "chunk_key_encoding": array.metadata.chunk_key_encoding.to_json(),
        "dimension_names": array.dimension_names,
    }
    chain = chain_of(array)
    if chain.subchunk_codecs is not None and not (chain.array_to_array or chain.bytes_to_bytes):
        chain = chain.subchunk_codecs
    return options if chain.subchunk_codecs is not None else options | codec_options(chain)


def chain_of(array: ArrayProperties[Any]) -> Chain:
    """The codecs as the metadata have them: not bound to the data type, so that they serve another one as well."""
    return parse_chain([codec.to_json() for codec in array.metadata.codecs], "$.codecs")


def codec_options(chain: Chain) -> dict[str, Any]:
    """The keywords for the codecs of a chain."""
    return {
        "filters": list(chain.array_to_array),
        "serializer": chain.array_to_bytes,
        "compressors": list(chain.bytes_to_bytes),
    }


def retyped(options: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """The keywords for an array of another data type: codecs may be bound to the width of elements, as shuffles are."""
    changed = {name: value for name, value in options.items() if name != "serializer"}
    if isinstance(changed.get("compressors"), list):
        changed["compressors"] = [replace(c, typesize=None) if isinstance(c, Blosc) else c for c in changed["compressors"]]
    if isinstance(dtype, np.dtype) and "fill_value" in changed:
        changed["fill_value"] = np.asarray(changed["fill_value"]).astype(dtype)[()]
    return {**changed, "dtype": dtype}
