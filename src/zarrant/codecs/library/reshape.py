"""reshape: the same elements, in the same order, with other dimensions.

A size of the encoded array is a number, -1 (whatever is left, once), or a list of dimensions of the decoded array whose product it
is. Lists keep their meaning where chunks differ in shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from zarrant.codecs.configuration import check_members, int_list, integer
from zarrant.codecs.protocols import ArraySpec, Kind
from zarrant.errors import MetadataError, shown
from zarrant.limits import LIMITS, require
from zarrant.metadata.v3 import Named

Size = int | tuple[int, ...]
MAX_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Reshape:
    """Arrays of another shape, with the elements in the same C order.

    Source: https://github.com/zarr-developers/zarr-extensions/tree/main/codecs/reshape

    >>> Reshape(([0, 1], -1)).to_json()["configuration"]
    {'shape': [[0, 1], -1]}
    """

    shape: tuple[Size, ...]
    name: ClassVar[str] = "reshape"
    kind: ClassVar[Kind] = "array_to_array"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _sizes(self.shape, "shape"))

    @classmethod
    def from_json(cls, document: Named, path: str) -> Reshape:
        """Read the codec from its name and configuration."""
        check_members(document, path, required=("shape",))
        return cls(_sizes(document.configuration["shape"], f"{path}.configuration.shape"))

    def to_json(self) -> dict[str, Any]:
        """The name and configuration of this codec."""
        return {"name": self.name, "configuration": {"shape": [_plain(size) for size in self.shape]}}

    def resolve(self, spec: ArraySpec) -> ArraySpec:
        """The same elements in the other shape; both must have as many."""
        return replace(spec, shape=self._shape_of(spec.shape))

    def _shape_of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that arrays of `shape` become."""
        for size in self.shape:
            if isinstance(size, tuple) and size and size[-1] >= len(shape):
                raise _misfit(f"dimensions below {len(shape)}", self.shape)
        sizes = [math.prod(shape[axis] for axis in size) if isinstance(size, tuple) else size for size in self.shape]
        if -1 in sizes:
            rest = math.prod(size for size in sizes if size != -1)
            sizes[sizes.index(-1)] = math.prod(shape) // rest if rest else 0
        if math.prod(sizes) != math.prod(
            shape
        ):  # "MUST return an error if the invariant prod(B_shape) == prod(A_shape) cannot be satisfied"
            raise _misfit(f"{math.prod(shape)} elements, as a chunk of {list(shape)} has", self.shape)
        for i, size in enumerate(self.shape):
            # Elements keep their order, so a list of dimensions means them only where as many elements are before and after.
            if isinstance(size, tuple) and size and math.prod(sizes[:i]) != math.prod(shape[: size[0]]):
                raise _misfit(f"before {list(size)} as many elements as in the chunk of {list(shape)}", self.shape)
            if isinstance(size, tuple) and size and math.prod(sizes[i + 1 :]) != math.prod(shape[size[-1] + 1 :]):
                raise _misfit(f"after {list(size)} as many elements as in the chunk of {list(shape)}", self.shape)
        return tuple(sizes)

    def encode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """A view where the elements lie in C order."""
        return array.reshape(self._shape_of(spec.shape))

    def decode(self, array: npt.NDArray[np.generic], spec: ArraySpec) -> npt.NDArray[np.generic]:
        """A view where the elements lie in C order."""
        return array.reshape(spec.shape)


def _plain(size: Size) -> Any:
    return list(size) if isinstance(size, tuple) else size


def _sizes(value: object, path: str) -> tuple[Size, ...]:
    """The sizes of a configuration; MetadataError where they are wrong whatever the chunk."""
    if not isinstance(value, list | tuple):
        raise MetadataError("wrong value", path=path, expected="a list of sizes and lists of dimensions", got=shown(value))
    require(len(value), LIMITS.rank, "too many dimensions", "rank", path)
    sizes = tuple(_size(item, f"{path}[{i}]") for i, item in enumerate(value))
    if sizes.count(-1) > 1:
        raise MetadataError("wrong value", path=path, expected="-1 once at most", got=shown(value))
    axes = [axis for size in sizes if isinstance(size, tuple) for axis in size]
    # "the flattened list of input dimensions [...] must be in strictly monotonically increasing order"
    if axes != sorted(set(axes)):
        raise MetadataError("dimensions out of order", path=path, expected="each once, in increasing order", got=shown(value))
    return sizes


def _size(item: object, path: str) -> Size:
    if isinstance(item, list | tuple):
        return tuple(int_list(item, path))
    if item == 0:
        raise MetadataError("wrong value", path=path, expected="an integer above 0, -1 or a list of dimensions", got=shown(item))
    return integer(item, path, -1, MAX_SIZE)


def _misfit(expected: str, sizes: Sequence[Size]) -> MetadataError:
    got = [_plain(size) for size in sizes]
    return MetadataError("a shape that does not fit the chunk", path="$.configuration.shape", expected=expected, got=got)
