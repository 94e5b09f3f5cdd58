"""What the suites check with: comparisons that say in words what was expected of whom.

In: values, and a sentence about them. Out: nothing, or an AssertionError that says what was expected and what was found.
Nothing here imports pytest: a suite is a class of `test_*` methods whose arguments are fixtures.
"""

from __future__ import annotations

import threading
import time
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, NoReturn, TypeVar

from zarrant.storage import Blob, capabilities

E = TypeVar("E", bound=BaseException)


def skip(reason: str) -> NoReturn:
    """End a test of what is not there; pytest and unittest count it as skipped."""
    raise unittest.SkipTest(reason)


def needs(store: object, *names: str) -> None:
    """Skip a test of what the store cannot do."""
    for name in names:
        if not getattr(capabilities(store), name):
            skip(f"the store has no {name}")


def check(true: object, message: str) -> None:
    """AssertionError with a message, where something is not so."""
    if not true:
        raise AssertionError(message)


def check_equal(found: Any, expected: Any, what: str) -> None:
    """AssertionError that shows both values, where they differ."""
    if not found == expected:
        raise AssertionError(f"{what}:\n  expected {shown(expected)}\n  found    {shown(found)}")


def shown(value: object) -> str:
    """A value in one line that is not too long."""
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-60:]} ({len(text)} characters)"


class Caught(Generic[E]):
    """The error that a block raised."""

    value: E


@contextmanager
def raises(kind: type[E] | tuple[type[E], ...], what: str) -> Iterator[Caught[E]]:
    """The block must raise this error; AssertionError where it raises none or another one."""
    caught: Caught[E] = Caught()
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(each.__name__ for each in kinds)
    try:
        yield caught
    except kinds as error:
        caught.value = error
    except Exception as error:
        raise AssertionError(f"{what}: expected {names}, got {type(error).__name__}: {error}") from error
    else:
        raise AssertionError(f"{what}: expected {names}, no error was raised")


def content(blob: Blob | None) -> bytes | None:
    """The bytes of a whole object."""
    return None if blob is None else b"".join(blob.data)


def together(*actions: Callable[[], object], seconds: float = 120) -> None:
    """Run actions in threads at the same time; the first error is raised. None takes longer than `seconds`."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], object]) -> None:
        try:
            start.wait(60)
            action()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(action,), daemon=True) for action in actions]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(until - time.monotonic(), 0))
    if any(thread.is_alive() for thread in threads):
        raise AssertionError("a thread did not end")
    if errors:
        raise errors[0]
