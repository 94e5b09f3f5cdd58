"""Plans of a call that are written once and followed in both kinds: by blocking calls, and as coroutines.

In: a generator that yields what it needs and is sent the answer, or thrown the error; and the function that answers. Out: its
result.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

N = TypeVar("N")
T = TypeVar("T")


def follow(steps: Generator[N, Any, T], answer: Callable[[N], Any]) -> T:
    """Take all steps by blocking calls."""
    reply: Any = None
    error: Exception | None = None
    try:
        while True:
            try:
                need = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            try:
                reply, error = answer(need), None
            except Exception as raised:
                reply, error = None, raised
    finally:
        steps.close()


async def follow_async(steps: Generator[N, Any, T], answer: Callable[[N], Awaitable[Any]]) -> T:
    """Take all steps by coroutines."""
    reply: Any = None
    error: Exception | None = None
    try:
        while True:
            try:
                need = steps.send(reply) if error is None else steps.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]
            try:
                reply, error = await answer(need), None
            except Exception as raised:
                reply, error = None, raised
    finally:
        steps.close()
