"""Show and change the attributes of a node (`zarrant attrs`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zarrant.errors import OptionError, did_you_mean
from zarrant.metadata.json_text import plain
from zarrant.nodes.open import open as open_node
from zarrant.tools.describe import check_there


def attributes(
    address: Any,
    names: Sequence[str] = (),
    *,
    put: Mapping[str, Any] | None = None,
    delete: Sequence[str] = (),
    storage_options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The attributes of an array or a group, after a change if there is one.

    Args:
        address: the node.
        names: of those that are wanted; none: all.
        put: new values. They are stored, and others are deleted, in one step that loses no change of another writer.
        delete: names of attributes that go.
        storage_options: options of the store, as `open` takes them.

    Raises:
        NodeNotFoundError: nothing is there.
        OptionError: an attribute that is wanted, or is to be deleted, is not there. Nothing is changed.

    >>> import zarrant
    >>> objects = {}
    >>> _ = zarrant.create_array(objects, shape=(2,), dtype="int8", attributes={"unit": "mm"})
    >>> attributes(objects, put={"views": 1})
    {'unit': 'mm', 'views': 1}
    >>> attributes(objects, ["views"], delete=["unit"])
    {'views': 1}
    """
    check_there(address)
    changes = bool(put) or bool(delete)
    node = open_node(address, mode="r+" if changes else "r", storage_options=storage_options)

    def changed(stored: dict[str, Any]) -> dict[str, Any]:
        _check(stored, delete)
        return {name: value for name, value in {**stored, **(put or {})}.items() if name not in delete}

    if changes:
        node.update_attributes(changed)
    found = plain(node.metadata.attributes)
    _check(found, names)
    return {name: found[name] for name in names or found}


def _check(stored: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name not in stored:
            raise OptionError(
                "no such attribute", field=name, expected=sorted(stored), got=name, hint=did_you_mean(name, list(stored))
            )
