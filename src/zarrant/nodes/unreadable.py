"""What stands for a member of a group that cannot be opened, so that one such member hides none of the others."""

from __future__ import annotations

from typing import Any

from zarrant.errors import ZarrantError
from zarrant.nodes.base import Located, NodeContext, S


class UnreadableNode(Located[S]):
    """A member of a group that is there and cannot be opened: its name, its path, and why.

    `error` is what opening it raises: an UnknownExtensionError for a data type or codec that is not supported, a MetadataError for
    metadata that are broken, a StoreError for what the store refuses to read. `kind` is "array", "group", or "node" where even
    that is not known. It is deleted like any other member: `del group[name]`.

    >>> import zarrant
    >>> objects = {}
    >>> g = zarrant.create_group(objects)
    >>> objects["torn/zarr.json"] = b"{"
    >>> list(g), g.members()["torn"].kind, type(g.members()["torn"].error).__name__
    (['torn'], 'node', 'MetadataError')
    """

    def __init__(self, context: NodeContext, error: ZarrantError, kind: str = "node") -> None:
        super().__init__(context)
        self._error, self._kind = error, kind

    @property
    def error(self) -> ZarrantError:
        """What opening the member raises."""
        return self._error

    @property
    def kind(self) -> str:
        """What it is: "array", "group", or "node" where that is not known."""
        return self._kind

    @property
    def reason(self) -> str:
        """Why it cannot be opened, in one sentence."""
        hint = f". {self.error.hint}" if self.error.hint else ""
        return f"{type(self.error).__name__}: {self.error.message}{hint}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._context, self.error, self.kind)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url} ({self.reason})>"
