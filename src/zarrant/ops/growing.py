"""Arrays that grow together: what is known of each on its way, and whether they, and the data, fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from zarrant.errors import NodeNotFoundError, ShapeError
from zarrant.metadata.v3 import ArrayMetadata
from zarrant.ops.bound_array import Array, BoundArray, OpOptions
from zarrant.ops.node import find_metadata, metadata_key
from zarrant.ops.resize import grown_shape
from zarrant.requests import Op
from zarrant.storage import Version

HINT = "Arrays that grow as one grow by the append of their group only; resize() makes them equal again"


class Growing(NamedTuple):
    """One array on its way: as it is, its version, and the data to put behind its end."""

    now: BoundArray
    version: Version
    values: Array
    axis: int

    @property
    def length(self) -> int:
        """Its length now."""
        return self.now.shape[self.axis]

    @property
    def added(self) -> int:
        """By how much it grows."""
        return self.values.shape[self.axis] if self.values.ndim == len(self.now.shape) else 0


def check(arrays: Sequence[Growing]) -> None:
    """ShapeError for everything that does not fit, before anything is stored."""
    for array in arrays:
        try:
            grown_shape(array.now.shape, array.values, array.axis)
        except ShapeError as error:
            raise error.annotate(path=array.now.prefix) from error.__cause__
    for what, lengths, hint in (
        ("the arrays", {array.now.prefix: array.length for array in arrays}, HINT),
        ("the data", {array.now.prefix: array.added for array in arrays}, None),
    ):
        if len(set(lengths.values())) > 1:
            raise ShapeError(f"{what} are not of one length", field="axis", expected="one length", got=lengths, hint=hint)


def read_array(path: str, options: OpOptions) -> Op[tuple[BoundArray, Version]]:
    """An array as it is stored now, and the version of its metadata."""
    metadata = yield from find_metadata(path)
    if not isinstance(metadata, ArrayMetadata):
        raise NodeNotFoundError("the array is gone", key=metadata_key(path), path=path or "/")
    return BoundArray.from_metadata(path, metadata, options), metadata.version
