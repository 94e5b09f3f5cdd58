"""`a[...]`, `a.oindex[...]`, `a.vindex[...]` and `a.blocks[...]`: square brackets of each kind on one array."""

from __future__ import annotations

from typing import Any

from zarrant.nodes.base import READ, UPDATE
from zarrant.ops.indexing import Index, retrieve, store


class Indexer:
    """`[...]` of one kind on one array."""

    __slots__ = ("_array", "_index")

    def __init__(self, array: Any, index: Index) -> None:
        self._array, self._index = array, index

    def __getitem__(self, selection: Any) -> Any:
        """The elements; a scalar where only integers are given."""
        return self._array._context.run(retrieve(self._array, selection, self._index), READ)

    def __setitem__(self, selection: Any, values: Any) -> None:
        """Store values, broadcast by NumPy's rules."""
        self._array._context.run(store(self._array, selection, values, self._index), UPDATE)
