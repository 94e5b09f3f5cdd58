"""What was made of a value, kept for the next one that is equal in every part.

In: values of dicts, lists, tuples and scalars. Out: their place, bytes that no other value has. Python's `==` will not do: to it
`1`, `1.0` and `True` are one, and so are `0.0` and `-0.0`.
"""

from __future__ import annotations

import marshal
from typing import Any, TypeVar

T = TypeVar("T")

MAX_REMEMBERED = 256

_WITHOUT_REFERENCES = 2
"""The version of `marshal`'s form that is the same for equal values, whether or not they share parts."""
_CONTAINERS, _SCALARS = {dict, list, tuple}, {str, int, float, bool, type(None)}


def place_of(value: Any) -> bytes | None:
    """The place of a value (0.5 µs); None for one that has an object of another kind in it."""
    try:
        return marshal.dumps(value, _WITHOUT_REFERENCES)
    except ValueError:
        return None


class Remembered(dict[bytes, T]):
    """By the place of a value: what was made of it. What changes besides the value must be part of it.

    >>> known = Remembered()
    >>> known.keep(place_of([1]), [1], "one")
    >>> known.get(place_of([1])), known.get(place_of([True]))
    ('one', None)
    """

    def keep(self, place: bytes | None, value: Any, made: T) -> None:
        """Remember what was made, unless the value has other parts than dicts, lists, tuples and scalars of Python.

        `marshal` takes whatever has a buffer, as scalars of NumPy do, for bytes. As none of those is remembered, none is found.
        """
        if place is None or not is_plain(value):  # safety: remembered by value
            return
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        self[place] = made


def is_plain(value: Any) -> bool:
    """Whether all parts are dicts, lists, tuples and scalars of Python, and of no class made of them."""
    stack = [value]
    while stack:
        each = stack.pop()
        kind = type(each)
        if kind in _CONTAINERS:
            if kind is dict:
                stack += each
                stack += each.values()
            else:
                stack += each
        elif kind not in _SCALARS:
            return False
    return True
