"""Square brackets: index expressions of each kind, read and stored through an array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zarrant.errors import OptionError
from zarrant.geometry import selection as select
from zarrant.geometry.selection import Selection
from zarrant.nodes.base import READ, UPDATE
from zarrant.ops import read, update
from zarrant.ops.state import ArrayState

Understand = Callable[[Any, tuple[int, ...]], Selection]


class Indexer:
    """`[...]` of one kind on one array."""

    def __init__(self, array: Any, understand: Understand) -> None:
        self._array, self._understand = array, understand

    def __getitem__(self, selection: Any) -> Any:
        """The elements; a scalar where only integers are given."""
        chosen = self._understand(selection, self._array.shape)
        result = self._array._place.run(read.retrieve_selection(self._array._state, chosen), READ)
        return result[()] if chosen.out_shape == () else result

    def __setitem__(self, selection: Any, values: Any) -> None:
        """Store values, broadcast by NumPy's rules."""
        chosen = self._understand(selection, self._array.shape)
        self._array._place.run(update.store_selection(self._array._state, chosen, values), UPDATE)


def selected(state: ArrayState, selection: Any, index: str) -> Selection:
    """An index expression of the kind that `index` names."""
    if index == "blocks":
        return select.block(selection, state.grid)
    kinds: dict[str, Understand] = {"numpy": select.numpy_like, "orthogonal": select.orthogonal, "points": select.points}
    if index not in kinds:
        raise OptionError("unknown kind of index", field="index", expected=[*kinds, "blocks"], got=index)
    return kinds[index](selection, state.shape)
