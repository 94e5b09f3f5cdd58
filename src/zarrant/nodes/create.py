"""Creating nodes: one operation for each kind, run by whichever façade asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from zarrant.effects import Op
from zarrant.errors import OptionError
from zarrant.metadata.v3 import Document, GroupDocument, attributes_of
from zarrant.nodes.base import UPDATE, WRITE, Place, Start
from zarrant.nodes.layout import Layout
from zarrant.ops import hierarchy, update
from zarrant.ops.state import ArrayState
from zarrant.storage import capabilities


class ArrayOptions(TypedDict, total=False):
    """Keywords of `create_array`, with zarr-python's meanings (API.md §1)."""

    shape: int | Sequence[int]
    dtype: Any
    data: Any
    chunks: int | Sequence[int] | str
    shards: int | Sequence[int] | None
    filters: Any
    serializer: Any
    compressors: Any
    fill_value: Any
    order: str
    attributes: Mapping[str, Any] | None
    chunk_key_encoding: Any
    dimension_names: Sequence[str | None] | None
    zarr_format: int
    overwrite: bool
    if_exists: str


def array_creation(place: Place, options: Mapping[str, Any]) -> Start:
    """A new array; every wrong option is refused before anything is stored."""
    options = dict(options)
    overwrite, match = _existing(options.pop("overwrite", False), options.pop("if_exists", "error"))
    _check_format(options.pop("zarr_format", 3))
    data = options.pop("data", None)
    if data is not None:
        data = data if hasattr(data, "shape") else np.asarray(data)
        options.setdefault("shape", tuple(data.shape))
        options.setdefault("dtype", data.dtype)
    for name in ("shape", "dtype"):
        if options.get(name) is None:
            raise OptionError("a new array needs it", field=name, expected=f"{name}=, or data=", got=None)
    unknown = set(options) - set(Layout.__dataclass_fields__)
    if unknown:
        raise OptionError("unknown option", field=min(unknown), expected=sorted(ArrayOptions.__annotations__), got=sorted(unknown))
    document = Layout(**options).document()
    op = _create_array(place, document, data, overwrite, match, _exclusive(place))
    return Start(place, op, WRITE if data is None else UPDATE)


class GroupLayout(TypedDict, total=False):
    """Keywords of `create_group`."""

    attributes: Mapping[str, Any] | None
    overwrite: bool
    if_exists: str


def group_creation(place: Place, options: Mapping[str, Any]) -> Start:
    """A new group; with `if_exists="match"` any group that is there will do."""
    overwrite, match = _existing(options.get("overwrite", False), options.get("if_exists", "error"))
    unknown = set(options) - set(GroupLayout.__annotations__)
    if unknown:
        raise OptionError("unknown option", field=min(unknown), expected=sorted(GroupLayout.__annotations__), got=sorted(unknown))
    attributes = options.get("attributes")
    document = GroupDocument({} if attributes is None else attributes_of(attributes))
    op = hierarchy.create_node(place.path, document, overwrite=overwrite, match=match, exclusive=_exclusive(place))
    return Start(place, op, WRITE)


def _exclusive(place: Place) -> bool:
    able = capabilities(place.store)
    return able.put_if and able.get


def _create_array(place: Place, document: Any, data: Any, overwrite: bool, match: bool, exclusive: bool) -> Op[Document]:
    state = ArrayState.from_document(place.path, document, place.options)
    if data is not None:  # wrong data are refused before there is an array
        data = update.broadcast(state.values(data), state.shape)
    return (
        yield from hierarchy.create_node(
            place.path,
            document,
            overwrite=overwrite,
            match=match,
            exclusive=exclusive,
            is_chunk=lambda key: state.key_encoding.parse(key, len(state.shape)) is not None,
            fill=None if data is None else lambda: update.store_new_array(state, data),
        )
    )


def _existing(overwrite: Any, if_exists: Any) -> tuple[bool, bool]:
    if not isinstance(overwrite, bool):
        raise OptionError("impossible value of an option", field="overwrite", expected="True | False", got=repr(overwrite))
    if if_exists not in ("error", "match", "overwrite"):
        raise OptionError(
            "impossible value of an option", field="if_exists", expected="error | match | overwrite", got=repr(if_exists)
        )
    return overwrite or if_exists == "overwrite", if_exists == "match"


def _check_format(version: Any) -> None:
    if version != 3:
        raise OptionError("only Zarr V3 is written so far", field="zarr_format", expected=3, got=version)
