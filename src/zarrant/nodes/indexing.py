"""Square brackets: index expressions of each kind, read and stored through an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zarrant.effects import Op
from zarrant.errors import OptionError
from zarrant.geometry import selection as select
from zarrant.geometry.selection import Selection
from zarrant.nodes.base import READ, UPDATE
from zarrant.ops import read, update
from zarrant.ops.state import ArrayState

Understand = Callable[[Any, tuple[int, ...]], Selection]


def retrieve(state: ArrayState, selection: Any, index: str = "numpy") -> Op[Any]:
    """The elements of an index expression; a scalar where only integers are given."""
    chosen = selected(state, selection, index)
    result = yield from read.retrieve_selection(state, chosen)
    return result[()] if chosen.out_shape == () else result


def store(state: ArrayState, selection: Any, values: Any, index: str = "numpy") -> Op[None]:
    """Store values, broadcast by NumPy's rules."""
    yield from update.store_selection(state, selected(state, selection, index), values)


class Indexer:
    """`[...]` of one kind on one array."""

    def __init__(self, array: Any, index: str) -> None:
        self._array, self._index = array, index

    def __getitem__(self, selection: Any) -> Any:
        """The elements; a scalar where only integers are given."""
        return self._array._place.run(retrieve(self._array._state, selection, self._index), READ)

    def __setitem__(self, selection: Any, values: Any) -> None:
        """Store values, broadcast by NumPy's rules."""
        self._array._place.run(store(self._array._state, selection, values, self._index), UPDATE)


def selected(state: ArrayState, selection: Any, index: str) -> Selection:
    """An index expression of the kind that `index` names."""
    if index == "blocks":
        return select.block(selection, state.grid)
    kinds: dict[str, Understand] = {"numpy": select.numpy_like, "orthogonal": select.orthogonal, "points": select.points}
    if index not in kinds:
        raise OptionError("unknown kind of index", field="index", expected=[*kinds, "blocks"], got=index)
    return kinds[index](selection, state.shape)
