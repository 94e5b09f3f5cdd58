"""Creating nodes: one operation for each kind, run by whichever façade asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import numpy as np

from zarrant.effects import Op
from zarrant.errors import OptionError
from zarrant.metadata.v3 import Document, GroupDocument
from zarrant.nodes.base import UPDATE, WRITE, Place
from zarrant.nodes.layout import Layout
from zarrant.ops import hierarchy, update
from zarrant.ops.state import ArrayState
from zarrant.storage import capabilities

H = TypeVar("H")


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


@dataclass(frozen=True)
class Creation:
    """A node about to be made: the operation that makes it and what that needs of the store."""

    place: Place
    op: Op[Document]
    needs: tuple[str, ...]

    def run(self, handle: type[H]) -> H:
        """Make the node and open it."""
        return handle(self.place, self.place.run(self.op, self.needs))  # type: ignore[call-arg]

    async def run_async(self, handle: type[H]) -> H:
        """Make the node and open it."""
        return handle(self.place, await self.place.run_async(self.op, self.needs))  # type: ignore[call-arg]


def array_creation(place: Place, options: Mapping[str, Any]) -> Creation:
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
        raise OptionError(
            "unknown option", field=min(unknown), expected=sorted(ArrayOptions.__annotations__), got=sorted(unknown)
        )
    document = Layout(**options).document()
    exclusive = capabilities(place.store).put_if and capabilities(place.store).get
    op = _create_array(place, document, data, overwrite, match, exclusive)
    return Creation(place, op, WRITE if data is None else UPDATE)


def group_creation(
    place: Place, attributes: Mapping[str, Any] | None, overwrite: bool = False, match: bool = False
) -> Creation:
    """A new group."""
    exclusive = capabilities(place.store).put_if and capabilities(place.store).get
    document = GroupDocument(dict(attributes or {}))
    op = hierarchy.create_node(place.path, document, overwrite=overwrite, match=match, exclusive=exclusive)
    return Creation(place, op, WRITE)


def _create_array(place: Place, document: Any, data: Any, overwrite: bool, match: bool, exclusive: bool) -> Op[Document]:
    state = ArrayState.from_document(place.path, document, place.options)
    if data is not None:  # wrong data are refused before there is an array
        data = update.broadcast(state.values(data), state.shape)
    standing = yield from hierarchy.create_node(place.path, document, overwrite=overwrite, match=match, exclusive=exclusive)
    if data is not None:
        yield from update.store_array_subset(state, tuple(slice(0, n) for n in state.shape), data)
    return standing


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
