"""Byte ranges of an object as requests: near ones are read together.

In: ranges, and how many bytes between two of them cost less than a second request. Out: requests, and from their replies the
bytes of each range. Only a plain range, the end of an object and the whole of it can be asked for without knowing its size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from zarrant.storage import ByteRange

HEAD, WHOLE = "head", None
"""Requests other than ranges: the version and the size alone, and the whole object."""

MAX_JOINED_BYTES = 16 << 20
"""Of ranges that are read together: more of them are several requests, side by side, of which each can be begun again by itself,
and whose bytes are not all kept for as long as one of the ranges is. AWS advises 8 to 16 MB."""


class Reply(NamedTuple):
    """Bytes of an object of `size` bytes, from `start` on."""

    start: int
    data: memoryview
    version: Any
    size: int


def needs_size(ranges: Sequence[ByteRange], has_suffixes: bool) -> bool:
    """Whether the size must be known before requests can be made: not for plain ranges, the end, and the whole."""
    for start, length in ranges:
        if start < 0 and (length is not None or not has_suffixes):
            return True
        if start > 0 and length is None:
            return True
    return False


def requests_for(ranges: Sequence[ByteRange], gap: int) -> list[Any]:
    """What to ask for: `(start, stop)`, `{"suffix": n}` or WHOLE; nothing for ranges without bytes."""
    if any(wanted == (0, None) for wanted in ranges):
        return [WHOLE]
    suffix = max((-start for start, _ in ranges if start < 0), default=0)
    spans = sorted((start, start + length) for start, length in ranges if start >= 0 and length)
    merged: list[Any] = [(near[0][0], max(span[1] for span in near)) for near in _near(spans, gap)]
    return [*merged, {"suffix": suffix}] if suffix else merged


def _near(spans: Sequence[Any], gap: int) -> Iterator[list[Any]]:
    """Sorted spans (start, stop, ...), those together that are to be one request."""
    together: list[Any] = []
    first = last = 0
    for span in spans:
        start, stop = span[0], span[1]
        if together and start - last <= gap and (stop <= last or stop - first <= MAX_JOINED_BYTES):
            last = max(last, stop)
        else:
            if together:
                yield together
            together, first, last = [], start, stop
        together.append(span)
    if together:
        yield together


def sharing(reads: Sequence[Sequence[ByteRange]], gap: int) -> list[list[int]]:
    """The numbers of several reads of an object, those together that have a request in common; all in order of their first."""
    firsts = list(range(len(reads)))

    def first(number: int) -> int:
        while firsts[number] != number:
            number = firsts[number]
        return number

    def join(numbers: Sequence[int]) -> None:
        for number in numbers[1:]:
            lower, upper = sorted((first(numbers[0]), first(number)))
            firsts[upper] = lower

    spans, special = list[tuple[int, int, int]](), list[int]()  # special: those that need the end, the whole or the size
    for number, ranges in enumerate(reads):
        for start, length in ranges:
            if start < 0 or length is None:
                special.append(number)
            else:
                spans.append((start, start + length, number))
    spans.sort()
    only_versions = [number for number, ranges in enumerate(reads) if not ranges]  # which every reply tells
    with_bytes = next((number for number, ranges in enumerate(reads) if ranges), 0)
    for numbers in ([number for *_, number in near] for near in _near(spans, gap)):
        join(numbers)
    join(special)
    join([with_bytes, *only_versions])
    groups: dict[int, list[int]] = {}
    for number in range(len(reads)):
        groups.setdefault(first(number), []).append(number)
    return list(groups.values())


def options_of(wanted: Any) -> dict[str, Any]:
    """A request as options of obspec's `get`."""
    if wanted is WHOLE:
        return {}
    return {"head": True} if wanted is HEAD else {"range": wanted}


def is_suffix(wanted: Any) -> bool:
    """Whether a request is for the end of an object."""
    return isinstance(wanted, dict)


def is_answer(wanted: Any, start: int, stop: int, size: int) -> bool:
    """Whether bytes from `start` to `stop` are what was asked for, as far as the object has them."""
    if wanted is WHOLE:
        return (start, stop) == (0, size)
    if is_suffix(wanted):
        return (start, stop) == (max(0, size - wanted["suffix"]), size)
    return (start, stop) == (wanted[0], min(wanted[1], size))


def cut(ranges: Sequence[ByteRange], replies: Sequence[Reply], size: int) -> tuple[memoryview, ...]:
    """The bytes of each range, which all fit into the object."""
    return tuple(_cut(*wanted.resolve(size), replies) for wanted in ranges)


def _cut(start: int, stop: int, replies: Sequence[Reply]) -> memoryview:
    if start == stop:
        return memoryview(b"")
    reply = next(reply for reply in replies if reply.start <= start and stop <= reply.start + len(reply.data))
    return reply.data[start - reply.start : stop - reply.start]
