"""Documents of version 3 for the tests of metadata, and what is said of those that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from zarrant.errors import MetadataError
from zarrant.metadata.v3 import parse

ARRAY: dict[str, Any] = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [10, 20],
    "data_type": "float32",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 5]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": "NaN",
    "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, "crc32c"],
    "attributes": {"ünits": "µm"},
    "dimension_names": ["y", None],
}
GROUP: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {"a": [1, 2.5, None]}}


def encode(value: Any) -> bytes:
    return json.dumps(value).encode()


def changed(**members: Any) -> bytes:
    return encode(ARRAY | members)


def refused(data: bytes, path: str) -> MetadataError:
    with pytest.raises(MetadataError) as caught:
        parse(data)
    assert caught.value.path == path
    assert path in str(caught.value)
    return caught.value
