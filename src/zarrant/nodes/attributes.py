"""Attributes as a mapping (`a.attrs`).

Reading looks at the handle's copy. Every change is a guarded read-modify-write of the stored metadata, so that changes of
other writers are kept.

Attributes are values: what is read is the caller's own copy, and what is set is copied. Changing a list or dict that was
read changes nothing that is stored and nothing that a handle shows; it is set again (`attrs["x"] = changed`) to store it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, NoReturn

from zarrant.errors import FrozenAttributeError
from zarrant.metadata.json_text import plain


class FrozenAttributes(dict[str, Any]):
    """All attributes of a node whose changes are awaited, as the caller's own copy: setting one here would store nothing."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        hint = "Await `update_attributes({name: value})`; a copy that can be changed is `dict(node.attrs)`"
        raise FrozenAttributeError("attributes that are not set here: storing them is awaited", field="attrs", hint=hint)

    __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


def frozen(attributes: Mapping[str, Any]) -> FrozenAttributes:
    """All attributes, as the caller's own copy."""
    return FrozenAttributes({name: plain(value) for name, value in attributes.items()})


Change = Callable[[dict[str, Any]], Mapping[str, Any]]
"""From the stored attributes to those that replace them."""


class Attributes(MutableMapping[str, Any]):
    """The attributes of a node.

    >>> import zarrant
    >>> a = zarrant.create_array({}, shape=(4,), dtype="int8", attributes={"unit": "mm"})
    >>> a.attrs["scanner"] = 3
    >>> dict(a.attrs)
    {'unit': 'mm', 'scanner': 3}
    """

    def __init__(self, known: Callable[[], Mapping[str, Any]], update: Callable[[Change], None]) -> None:
        """`known`: the attributes that the node knows. `update`: a guarded read-modify-write of the stored ones."""
        self._known, self._update = known, update

    def __getitem__(self, name: str) -> Any:
        return plain(self._known()[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return len(self._known())

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __delitem__(self, name: str) -> None:
        self._update(lambda stored: _without(stored, name))

    def update(self, *args: Any, **named: Any) -> None:
        """Set several attributes in one change."""
        changes = plain(dict(*args, **named))
        self._update(lambda stored: {**stored, **changes})

    def put(self, attributes: Mapping[str, Any]) -> None:
        """Replace all attributes."""
        replacement = plain(attributes)
        self._update(lambda stored: replacement)

    def __repr__(self) -> str:
        return f"Attributes({dict(self)!r})"


def _without(stored: dict[str, Any], name: str) -> dict[str, Any]:
    del stored[name]  # KeyError for the caller where it is not there
    return stored
