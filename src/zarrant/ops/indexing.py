"""Reading and storing by index expressions of each kind: NumPy's, orthogonal, by points, by blocks.

An expression is understood by the shape that the handle knows. Where it reaches beyond, the stored shape is looked at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from zarrant.errors import BoundsError, OptionError, SelectionError, ShapeError, did_you_mean
from zarrant.geometry import selection as select
from zarrant.geometry.selection import Selection
from zarrant.ops import read, update
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import ArrayHandle, look
from zarrant.requests import Op

Understand = Callable[[Any, tuple[int, ...]], Selection]
Index = Literal["numpy", "orthogonal", "points", "blocks"]


def retrieve(handle: ArrayHandle, selection: Any, index: str = "numpy") -> Op[Any]:
    """The elements of an index expression; a scalar where only integers are given."""
    array, chosen = yield from understood(handle, selection, index)
    result = yield from read.retrieve_selection(array, chosen)
    return result[()] if chosen.out_shape == () else result


def store(handle: ArrayHandle, selection: Any, values: Any, index: str = "numpy") -> Op[None]:
    """Store values, broadcast by NumPy's rules."""
    array, chosen = yield from understood(handle, selection, index)
    try:
        yield from update.store_selection(array, chosen, values)
    except ShapeError:  # maybe values for an array that others have grown; nothing was stored
        if not (yield from look(handle)):
            raise
    else:
        return
    yield from update.store_selection(handle.array, selected(handle.array, selection, index), values)


def understood(handle: ArrayHandle, selection: Any, index: str) -> Op[tuple[BoundArray, Selection]]:
    """A selection and the array that it speaks of: the stored one where it reaches beyond the bounds that the handle knows."""
    array = handle.array
    try:
        chosen = selected(array, selection, index)
    except (BoundsError, SelectionError):  # a mask of another shape is a SelectionError
        if not (yield from look(handle)):
            raise
    else:
        if not chosen.clipped or not (yield from look(handle)):
            return array, chosen
    array = handle.array
    return array, selected(array, selection, index)


def selected(array: BoundArray, selection: Any, index: str) -> Selection:
    """An index expression of the kind that `index` names."""
    if index == "blocks":
        return select.block(selection, array.grid)
    kinds: dict[str, Understand] = {"numpy": select.numpy_like, "orthogonal": select.orthogonal, "points": select.points}
    if index not in kinds:
        known = [*kinds, "blocks"]
        raise OptionError("unknown kind of index", field="index", expected=known, got=index, hint=did_you_mean(index, known))
    return kinds[index](selection, array.shape)
