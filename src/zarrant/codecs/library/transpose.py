"""transpose: dimensions in another order.

Transposition costs nothing of its own: a chain folds every transpose into one order and looks at arrays through NumPy views,
so the copy between user memory and the buffer of chunks also does the permutation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, int_list
from zarrant.codecs.protocols import ArraySpec, Kind
from zarrant.errors import MetadataError
from zarrant.metadata.v3 import Named


@dataclass(frozen=True, slots=True)
class Transpose:
    """Permute dimensions: dimension j of the encoded chunk is dimension `order[j]` of the decoded one.

    Source: the `transpose` codec of the Zarr V3 core codecs, https://zarr-specs.readthedocs.io/en/latest/v3/codecs/transpose/

    >>> Transpose(order=(1, 0)).to_json()["configuration"]
    {'order': [1, 0]}
    """

    order: tuple[int, ...]
    name: ClassVar[str] = "transpose"
    kind: ClassVar[Kind] = "array_to_array"

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(int(axis) for axis in self.order))
        if sorted(self.order) != list(range(len(self.order))):
            raise MetadataError(
                "not a permutation",
                codec="transpose",
                field="order",
                expected=f"each of 0..{len(self.order) - 1} once",
                got=list(self.order),
            )

    @classmethod
    def from_json(cls, document: Named, path: str) -> Transpose:
        """Read the codec from its name and configuration."""
        check_members(document, path, required=("order",))
        try:
            return cls(tuple(int_list(document.configuration["order"], f"{path}.configuration.order")))
        except MetadataError as error:
            raise error.annotate(path=f"{path}.configuration.order") from None

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {"order": list(self.order)}}

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """The same array with its dimensions in order; the order must speak of every one."""
        if len(self.order) != len(spec.shape):
            raise MetadataError(
                "transpose order of wrong length",
                path="$.configuration.order",
                expected=f"{len(spec.shape)} dimensions",
                got=list(self.order),
            )
        # "B_shape[i] = A_shape[order[i]] for all dimension indices i" (the encoded B of A)
        return replace(spec, shape=tuple(spec.shape[axis] for axis in self.order))

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """A view."""
        return array.transpose(self.order)

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """A view."""
        return array.transpose(np.argsort(self.order))
