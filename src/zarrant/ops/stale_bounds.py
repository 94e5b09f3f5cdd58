"""Arrays that others have grown: an index or a shape beyond the bounds that a handle knows.

Before such an index is refused, or a slice is clipped, the stored shape is looked at once. Where it is another one the handle
takes it over, and the operation starts again; NodeReplacedError where another array is stored there by now. What lies within
the known bounds costs nothing more.

Operations check their arguments before they store anything, so that one that ends with BoundsError or ShapeError can be
started again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from zarrant.errors import BoundsError, ShapeError
from zarrant.ops.bound_array import BoundArray
from zarrant.ops.current import same_array
from zarrant.ops.node import find_metadata
from zarrant.requests import Op

T = TypeVar("T")


class ArrayHandle(Protocol):
    """What an operation sees of a handle: the array as the handle knows it, and how it takes over newer metadata."""

    _array: BoundArray

    def _moved(self, metadata: Any) -> None: ...


def fresh(handle: ArrayHandle, op: Callable[..., Op[T]], *args: Any) -> Op[T]:
    """`op(array, *args)`, again with the stored shape where its arguments lie beyond the bounds that the handle knows."""
    try:
        return (yield from op(handle._array, *args))
    except (BoundsError, ShapeError):
        if not (yield from look(handle)):
            raise
    return (yield from op(handle._array, *args))


def look(handle: ArrayHandle) -> Op[bool]:
    """Read the stored shape; True where it is another one, which the handle has now taken over. None stored: False."""
    known = handle._array
    if not known.options.readable:
        return False
    found = yield from find_metadata(known.prefix)
    if found is None:
        return False
    metadata = same_array(known, found)
    if metadata.shape == known.shape:
        return False
    if handle._array is known:  # else another thread has already taken over newer metadata
        handle._moved(metadata)
    return True


def checked(handle: ArrayHandle, check: Callable[[BoundArray, Any], T], argument: Any) -> Op[T]:
    """`check(array, argument)` as an operation that asks for nothing unless the argument lies beyond the known bounds."""
    return fresh(handle, _as_op, check, argument)


def checked_once(
    handle: ArrayHandle, check: Callable[[BoundArray, Any], T], argument: Any, op: Callable[..., Op[None]], *args: Any
) -> Op[None]:
    """`op(array, checked argument, *args)`. Only the check is done again with the stored shape: what `op` raises ends it."""
    found = yield from checked(handle, check, argument)
    yield from op(handle._array, found, *args)


def known(handle: ArrayHandle, check: Callable[[BoundArray, Any], T], argument: Any) -> T:
    """`check(array, argument)` by what the handle knows, where the store cannot be asked: in a method that is no coroutine."""
    try:
        return check(handle._array, argument)
    except BoundsError as error:
        raise error.annotate(hint="Where others grow the array, `await a.refresh()` comes first") from None


def _as_op(array: BoundArray, check: Callable[[BoundArray, Any], T], argument: Any) -> Op[T]:
    return check(array, argument)
    yield  # makes this a generator, as every operation is; it has no requests
