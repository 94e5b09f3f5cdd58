"""`a[...]`, `a.oindex[...]`, `a.vindex[...]` and `a.blocks[...]`: square brackets of each kind on one array."""

from __future__ import annotations

from typing import Any

from zarrant.nodes.base import READ, UPDATE, NodeContext
from zarrant.ops.current import ArrayHandle
from zarrant.ops.indexing import Index, retrieve, store


class Indexer:
    """`[...]` of one kind on one array."""

    __slots__ = ("_context", "_handle", "_index")

    def __init__(self, context: NodeContext, handle: ArrayHandle, index: Index) -> None:
        self._context, self._handle, self._index = context, handle, index

    def __getitem__(self, selection: Any) -> Any:
        """The elements; a scalar where only integers are given."""
        return self._context.run(retrieve(self._handle, selection, self._index), READ)

    def __setitem__(self, selection: Any, values: Any) -> None:
        """Store values, broadcast by NumPy's rules."""
        self._context.run(store(self._handle, selection, values, self._index), UPDATE)
