"""Which objects are object stores of obspec, without importing what reads and writes them.

In: any object. Out: whether `ObjectStore` can use it. What imports this module needs no asyncio.
"""

from __future__ import annotations


def is_object_store(target: object) -> bool:
    """Whether an object has methods of obspec that no other kind of store has.

    Looked at without importing obstore. `get` and `put` are methods of ours and of fsspec too.
    """
    marks = ("list_with_delimiter", "get_range")
    return any(callable(getattr(target, name + ending, None)) for name in marks for ending in ("", "_async"))
