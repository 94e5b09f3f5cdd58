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
from zarrant.ops.stale_bounds import ArrayHandle, look
from zarrant.requests import Op

Understand = Callable[[Any, tuple[int, ...]], Selection]
Index = Literal["numpy", "orthogonal", "points", "blocks"]


def retrieve(array: ArrayHandle, selection: Any, index: str = "numpy") -> Op[Any]:
    """The elements of an index expression; a scalar where only integers are given."""
    state, chosen = yield from _understood(array, selection, index)
    result = yield from read.retrieve_selection(state, chosen)
    return result[()] if chosen.out_shape == () else result


def store(array: ArrayHandle, selection: Any, values: Any, index: str = "numpy") -> Op[None]:
    """Store values, broadcast by NumPy's rules."""
    state, chosen = yield from _understood(array, selection, index)
    try:
        yield from update.store_selection(state, chosen, values)
    except ShapeError:  # maybe values for an array that others have grown; nothing was stored
        if not (yield from look(array)):
            raise
    else:
        return
    yield from update.store_selection(array._state, selected(array._state, selection, index), values)


def _understood(array: ArrayHandle, selection: Any, index: str) -> Op[tuple[BoundArray, Selection]]:
    """A selection and the state that it speaks of: the stored one where it reaches beyond the bounds that the handle knows."""
    state = array._state
    try:
        chosen = selected(state, selection, index)
    except (BoundsError, SelectionError):  # a mask of another shape is a SelectionError
        if not (yield from look(array)):
            raise
    else:
        if not chosen.clipped or not (yield from look(array)):
            return state, chosen
    state = array._state
    return state, selected(state, selection, index)


def selected(state: BoundArray, selection: Any, index: str) -> Selection:
    """An index expression of the kind that `index` names."""
    if index == "blocks":
        return select.block(selection, state.grid)
    kinds: dict[str, Understand] = {"numpy": select.numpy_like, "orthogonal": select.orthogonal, "points": select.points}
    if index not in kinds:
        known = [*kinds, "blocks"]
        raise OptionError("unknown kind of index", field="index", expected=known, got=index, hint=did_you_mean(index, known))
    return kinds[index](selection, state.shape)
